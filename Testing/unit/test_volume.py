"""Volumes: reading every format, refusing bad input in one line, writing, canonical space and the way back."""

from __future__ import annotations

import gzip
import itertools
import os
import subprocess
import sys
import textwrap

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy.spatial.transform import Rotation

from PASTALib.errors import InputError
from PASTALib.volume import Volume, crop, from_canonical, read_volume, same_grid, to_canonical, write_volume

SHAPE = (7, 12, 10)
CODES = ((-1, -1, 1), (1, 1, 1), (-1, 1, 1), (1, -1, -1))  # signs of the i, j, k axes in RAS; some are left-handed
FORMATS = (".nii.gz", ".nii", ".nrrd", ".mha")


def ct_array(shape=SHAPE, seed=0):
    """HU of a small body part: air, fat and soft tissue."""
    return np.random.default_rng(seed).choice(np.array([-1000, -950, -90, 20, 45, 60, 300], np.int16), shape)


def affine_of(
    spacing=(0.7, 0.8, 2.5), origin=(-120.5, 33.25, 410.0), signs=(-1, -1, 1), order=(0, 1, 2), rotvec_deg=(0, 0, 0)
):
    """RAS affine with spacing along i, j, k; the axes permuted, flipped and turned."""
    axes = np.eye(3)[:, list(order)] * np.asarray(signs)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec(rotvec_deg, degrees=True).as_matrix() @ axes * np.asarray(spacing)
    affine[:3, 3] = origin
    return affine


def save_nifti(path, array, affine=None, **header):
    """NIfTI by another library; ``header`` fields are patched in afterwards, so that contradictory headers can be written."""
    image = nib.Nifti1Image(np.transpose(array), affine_of() if affine is None else affine)
    image.set_qform(image.affine, 1, strip_shears=True)
    data = bytearray(image.to_bytes())
    fields = np.frombuffer(data, nib.Nifti1Header.template_dtype, count=1)
    for name, value in header.items():
        fields[name][0] = value
    del fields
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def save_dicom(folder, array=None, positions=None, name="s", **tags):
    """A series of CT slices; ``positions``: ImagePositionPatient (LPS) of each. Extra tags override the usual ones."""
    array = ct_array() if array is None else array
    folder.mkdir(exist_ok=True)
    positions = [(-50.0, -40.0, 100.0 + 2.5 * k) for k in range(len(array))] if positions is None else positions
    uid = generate_uid()
    for k, (pixels, position) in enumerate(zip(array, positions)):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
        ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.Modality, ds.SeriesDescription = (
            uid,
            "1.2.3",
            "CT",
            f"series {name}",
        )
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.Rows, ds.Columns, ds.PixelSpacing = *pixels.shape, [0.8, 0.7]
        ds.ImagePositionPatient = [f"{p:.6g}" for p in position]
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
        ds.RescaleSlope, ds.RescaleIntercept = 2, -1024
        ds.PixelData = np.rint((pixels.astype(float) + 1024) / 2).astype("<u2").tobytes()
        for tag, value in tags.items():
            setattr(ds, tag, value)
        pydicom.dcmwrite(
            folder / f"{name}{(k * 5) % 97:03d}.dcm", ds, enforce_file_format=True
        )  # file order is not slice order
    return folder


# ---- reading ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("dtype", [np.int16, np.uint8])
@pytest.mark.parametrize("signs", CODES)
@pytest.mark.parametrize("rotvec", [(0, 0, 0), (12, -7, 20)])
def test_what_is_written_is_read(tmp_path, suffix, dtype, signs, rotvec):
    array = ct_array() if dtype == np.int16 else (ct_array() > 0).astype(np.uint8) * 3
    volume = Volume(array, affine_of(signs=signs, rotvec_deg=rotvec, origin=(-120.123456789, 33.3, 210.7)))
    path = tmp_path / f"v{suffix}"
    write_volume(volume, path)
    back = read_volume(path, "ct" if dtype == np.int16 else "labels")
    assert back.array.dtype == dtype and np.array_equal(back.array, array)
    np.testing.assert_allclose(back.affine, volume.affine, atol=1e-5)
    assert back.meta["notes"] == [] and back.meta["source"] == str(path)
    itk = sitk.ReadImage(str(path))  # and as other libraries read it
    np.testing.assert_allclose(
        itk.TransformIndexToPhysicalPoint((9, 11, 6)), volume.to_ras([6, 11, 9]) * [-1, -1, 1], atol=1e-3
    )
    if suffix.startswith(".nii"):
        image = nib.load(path)
        np.testing.assert_allclose(image.affine, volume.affine, atol=1e-5)
        np.testing.assert_allclose(image.header.get_qform(), volume.affine, atol=1e-3)
        assert np.array_equal(np.asarray(image.dataobj).T, array)


@pytest.mark.parametrize("suffix", [".nhdr", ".mhd", ".nrrd", ".mha", ".nii"])
def test_files_of_simpleitk(tmp_path, suffix):
    image = sitk.GetImageFromArray(ct_array())
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((10, 20, 30))
    sitk.WriteImage(image, str(tmp_path / f"v{suffix}"))
    volume = read_volume(tmp_path / f"v{suffix}")
    assert np.array_equal(volume.array, ct_array())
    np.testing.assert_allclose(volume.affine, affine_of(origin=(-10, -20, 30)), atol=1e-6)


def test_float_ct_is_rounded_and_clipped_with_a_note(tmp_path):
    array = ct_array().astype(np.float32) + 0.4
    array[0, 0, :3] = 40000, -50000, 1e9
    volume = read_volume(save_nifti(tmp_path / "f.nii.gz", array))
    assert volume.array.dtype == np.int16 and volume.array[0, 0, :3].tolist() == [32767, -32768, 32767]
    assert np.array_equal(volume.array[1:], ct_array()[1:])
    assert volume.meta["notes"] == ["3 voxels outside -32768..32767 HU were clipped"]


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "int64", "float64", ">i2", ">f4"])
def test_label_types_and_byte_orders(tmp_path, dtype):
    array = np.random.default_rng(1).integers(0, 100, SHAPE).astype(dtype)
    image = nib.Nifti1Image(
        array.T, affine_of(), nib.Nifti1Header(endianness=">" if dtype[0] == ">" else "<"), dtype=array.dtype
    )
    nib.save(image, tmp_path / "l.nii")
    volume = read_volume(tmp_path / "l.nii", "labels")
    assert volume.array.dtype == np.uint8 and np.array_equal(volume.array, array)


def test_labels_above_255_are_uint16(tmp_path):
    array = np.arange(np.prod(SHAPE), dtype=np.int32).reshape(SHAPE)
    assert read_volume(save_nifti(tmp_path / "l.nii.gz", array), "labels").array.dtype == np.uint16


def test_nifti2_and_scale_factor(tmp_path):
    nib.save(nib.Nifti2Image(ct_array().T, affine_of()), tmp_path / "two.nii.gz")
    assert np.array_equal(read_volume(tmp_path / "two.nii.gz").array, ct_array())
    image = nib.Nifti1Image(((ct_array() + 1024) // 2).astype(np.int16).T, affine_of())
    image.header.set_slope_inter(2, -1024)
    nib.save(image, tmp_path / "scaled.nii.gz")
    # nibabel divides by the slope when it writes; what it reads back is the truth
    assert np.array_equal(
        read_volume(tmp_path / "scaled.nii.gz").array, np.rint(nib.load(tmp_path / "scaled.nii.gz").get_fdata()).T
    )


def test_a_fourth_dimension_of_one_is_dropped(tmp_path):
    nib.save(nib.Nifti1Image(ct_array().T[..., None], affine_of()), tmp_path / "4d.nii.gz")
    assert read_volume(tmp_path / "4d.nii.gz").array.shape == SHAPE
    sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(ct_array())]), str(tmp_path / "4d.nrrd"))
    assert read_volume(tmp_path / "4d.nrrd").array.shape == SHAPE


def test_nifti_without_orientation_is_read_as_itk_does_with_a_note(tmp_path):
    path = save_nifti(tmp_path / "bare.nii", ct_array(), qform_code=0, sform_code=0)
    volume = read_volume(path)
    assert "neither qform nor sform" in volume.meta["notes"][0]
    itk = sitk.ReadImage(str(path))
    np.testing.assert_allclose(
        volume.to_ras([3, 4, 5]) * [-1, -1, 1], itk.TransformIndexToPhysicalPoint((5, 4, 3)), atol=1e-5
    )


def test_qform_alone_and_contradicting_forms(tmp_path):
    turned = affine_of(rotvec_deg=(5, 10, -15), signs=(1, -1, 1))
    path = save_nifti(tmp_path / "q.nii", ct_array(), turned, sform_code=0)
    image = nib.load(path)
    np.testing.assert_allclose(read_volume(path).affine, image.affine, atol=1e-4)
    both = save_nifti(tmp_path / "both.nii", ct_array(), turned, qoffset_x=17)
    volume = read_volume(both)
    np.testing.assert_allclose(volume.affine, turned, atol=1e-4)
    assert "disagree" in volume.meta["notes"][0]


def test_sform_off_by_rounding_is_accepted(tmp_path):
    affine = affine_of(rotvec_deg=(3, 0, 0))
    affine[0, 1] += 2e-4
    assert read_volume(save_nifti(tmp_path / "r.nii", ct_array(), affine, qform_code=0)).array.shape == SHAPE


def test_dicom_series(tmp_path):
    folder = save_dicom(tmp_path / "d", ct_array() // 2 * 2)
    (folder / "notes.txt").write_text("not an image")
    volume = read_volume(folder)
    assert volume.array.dtype == np.int16 and np.array_equal(
        volume.array, ct_array() // 2 * 2
    )  # slope 2, intercept -1024
    np.testing.assert_allclose(volume.affine, affine_of(origin=(50, 40, 100)), atol=1e-9)
    assert len(volume.meta["dicom"]["files"]) == 7 and volume.meta["dicom"]["files"][1].endswith("s005.dcm")


def test_dicom_stacked_the_other_way(tmp_path):
    """Slices that run to the feet against their normal give the same image as sorted ones."""
    positions = [(-50.0, -40.0, 100.0 - 2.5 * k) for k in range(7)]
    volume = read_volume(save_dicom(tmp_path / "d", ct_array() // 2 * 2, positions))
    assert np.array_equal(volume.array, (ct_array() // 2 * 2)[::-1])
    np.testing.assert_allclose(volume.to_ras([6, 0, 0]), [50, 40, 100], atol=1e-9)


def test_dicom_oblique(tmp_path):
    turn = Rotation.from_rotvec((15, 5, 0), degrees=True).as_matrix()
    positions = [np.array([-50, -40, 100]) + turn[:, 2] * 3 * k for k in range(7)]
    tags = {"ImageOrientationPatient": [f"{v:.10f}" for v in (*turn[:, 0], *turn[:, 1])]}
    volume = read_volume(save_dicom(tmp_path / "d", positions=positions, **tags))
    np.testing.assert_allclose(volume.spacing_zyx_mm, (3, 0.8, 0.7), atol=1e-3)


def test_the_clearly_largest_series_is_taken_with_a_note(tmp_path):
    folder = save_dicom(tmp_path / "d", ct_array((13, 12, 10)), name="big")
    save_dicom(folder, ct_array((6, 12, 10)), name="small")
    save_dicom(folder, ct_array((1, 12, 10)), name="scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    volume = read_volume(folder)
    assert len(volume.array) == 13 and "'series small' (6 slices)" in volume.meta["notes"][0]
    other = next(f for f in folder.iterdir() if f.name.startswith("small"))
    assert len(read_volume(folder, series_uid=pydicom.dcmread(other).SeriesInstanceUID).array) == 6


# ---- bad input ----------------------------------------------------------------------------------------------------------------------


def nifti_case(array=None, affine=None, kind="ct", **header):
    def make(folder):
        return save_nifti(folder / "bad.nii.gz", ct_array() if array is None else array, affine, **header), kind

    return make


def bytes_case(content, name="bad.nii.gz", kind="ct"):
    def make(folder):
        (folder / name).write_bytes(content(folder) if callable(content) else content)
        return folder / name, kind

    return make


def dicom_case(array=None, positions=None, **tags):
    return lambda folder: (save_dicom(folder / "bad", array, positions, **tags), "ct")


def itk_case(make_image, name, kind="ct"):
    def make(folder):
        sitk.WriteImage(make_image(), str(folder / name))
        return folder / name, kind

    return make


def cut(suffix, keep):
    """The first ``keep`` part of a good file."""

    def content(folder):
        write_volume(Volume(ct_array((40, 40, 40)), affine_of()), folder / f"good{suffix}")
        data = (folder / f"good{suffix}").read_bytes()
        return data[: int(len(data) * keep)]

    return content


def flipped_bit(folder):
    data = bytearray(gzip.compress(save_nifti(folder / "good.nii", ct_array((40, 40, 40))).read_bytes()))
    data[-6] ^= 255
    return bytes(data)


def two_series(folder):
    save_dicom(folder / "bad", name="a")
    return save_dicom(folder / "bad", name="b"), "ct"


def cut_dicom(folder):
    save_dicom(folder / "bad", ct_array((7, 64, 64)))
    file = folder / "bad" / "s010.dcm"
    file.write_bytes(file.read_bytes()[:4000])
    return folder / "bad", "ct"


def single_dicom(folder):
    return save_dicom(folder / "bad") / "s000.dcm", "ct"


def empty_folder(folder):
    (folder / "bad").mkdir()
    return folder / "bad", "ct"


def with_value(value, dtype=np.float32):
    array = ct_array().astype(dtype)
    array[3, 3, 3] = value
    return array


def sheared(amount=0.2):
    affine = affine_of()
    affine[0, 2] += amount
    return affine


def sheared_nrrd(folder):
    text = "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 10 12 7\nspace directions: (1,0,0) (0,1,0) (0.5,0,2)\n"
    text += "kinds: domain domain domain\nendian: little\nencoding: raw\nspace origin: (0,0,0)\n\n"
    return text.encode() + ct_array().tobytes()


Z = [100.0 + 2.5 * k for k in range(7)]
mr = np.random.default_rng(0).gamma(2, 200, SHAPE).astype(np.int16)
BAD = {
    "missing file": (lambda folder: (folder / "bad.nii.gz", "ct"), "no such file"),
    "empty file": (bytes_case(b""), "ends too early"),
    "text": (bytes_case(b"hello " * 200), "not a NIfTI"),
    "git lfs pointer": (bytes_case(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "git lfs pull"),
    "unknown extension": (bytes_case(b"x", "bad.xyz"), "unknown image extension"),
    "truncated nii.gz": (bytes_case(cut(".nii.gz", 0.6)), "too early"),
    "truncated nii": (bytes_case(cut(".nii", 0.6), "bad.nii"), "too early"),
    "truncated mha": (bytes_case(cut(".mha", 0.6), "bad.mha"), "bad.mha: "),
    "truncated nrrd": (bytes_case(cut(".nrrd", 0.6), "bad.nrrd"), "bad.nrrd: "),
    "checksum": (bytes_case(flipped_bit), "damaged"),
    "not a nrrd": (bytes_case(b"hello", "bad.nrrd"), "not an image"),
    "2D": (nifti_case(ct_array()[0]), "2D image"),
    "one slice": (nifti_case(ct_array()[:1]), "slice"),
    "three slices": (nifti_case(ct_array()[:3]), "at least 4"),
    "2D mha": (itk_case(lambda: sitk.GetImageFromArray(ct_array()[0]), "bad.mha"), "2D image"),
    "4D": (nifti_case(np.stack([ct_array()] * 2)), "4D image"),
    "vector nifti": (nifti_case(np.stack([ct_array()] * 3)[:, None]), "3 values per voxel"),
    "vector nrrd": (
        itk_case(lambda: sitk.GetImageFromArray(np.stack([ct_array()] * 3, -1), isVector=True), "bad.nrrd"),
        "3 values per",
    ),
    "complex": (nifti_case(ct_array().astype(np.complex64)), "complex"),
    "NaN": (nifti_case(with_value(np.nan)), "NaN"),
    "infinite": (nifti_case(with_value(np.inf)), "infinite"),
    "NaN in labels": (nifti_case(with_value(np.nan) * 0, kind="labels"), "NaN"),
    "MR": (nifti_case(mr), "raw unsigned values or MR"),
    "MR with ringing": (nifti_case(np.where(mr < 20, -9, mr).astype(np.int16)), "raw unsigned values or MR"),
    "unsigned": (nifti_case((ct_array() + 1024).astype(np.uint16)), "raw unsigned values or MR"),
    "unsigned, padded": (
        nifti_case(np.where(ct_array() < -990, -2000, ct_array() + 1024).astype(np.int16)),
        "raw unsigned values or MR",
    ),
    "8-bit": (nifti_case((ct_array() // 8 + 128).astype(np.uint8)), "8-bit"),
    "normalised": (nifti_case(ct_array() / np.float32(1000)), "normalised"),
    "constant": (nifti_case(np.full(SHAPE, -1000, np.int16)), "normalised or empty"),
    "sheared sform": (nifti_case(affine=sheared()), "sheared"),
    "sheared nrrd": (bytes_case(sheared_nrrd, "bad.nrrd"), "sheared"),
    "singular": (
        nifti_case(affine=np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), qform_code=0),
        "span",
    ),
    "zero spacing": (nifti_case(pixdim=[1, 0, 1, 1, 1, 1, 1, 1], sform_code=0, qform_code=0), "voxels of 0 x"),
    "metres": (nifti_case(affine=affine_of(spacing=(0.0007, 0.0007, 0.002))), "0.1 to 10 mm"),
    "thick": (nifti_case(affine=affine_of(spacing=(0.7, 0.7, 15))), "0.1 to 10 mm"),
    "NaN affine": (nifti_case(srow_x=[np.nan, 0, 0, 0], sform_code=1), "voxels of"),
    "negative labels": (nifti_case(with_value(-1, np.int16) * 0 - 1, kind="labels"), "negative"),
    "fractional labels": (nifti_case(np.full(SHAPE, 0.25, np.float32), kind="labels"), "0.25 is no whole number"),
    "huge labels": (nifti_case(np.full(SHAPE, 70000, np.int32), kind="labels"), "above 65535"),
    "empty folder": (empty_folder, "no DICOM images"),
    "one DICOM file": (single_dicom, "give the folder"),
    "two series": (two_series, "'series a' (7 slices), 'series b' (7 slices)"),
    "gantry tilt": (dicom_case(positions=[(-50, -40 + 0.5 * k, z) for k, z in enumerate(Z)]), "gantry tilt"),
    "missing slice": (
        dicom_case(positions=[(-50, -40, z + 2.5 * (k > 3)) for k, z in enumerate(Z)]),
        "1 slice(s) missing",
    ),
    "varying spacing": (
        dicom_case(positions=[(-50, -40, z + 1.2 * (k > 3)) for k, z in enumerate(Z)]),
        "slice distance varies",
    ),
    "two phases": (dicom_case(positions=[(-50, -40, 100 + 2.5 * (k // 2)) for k in range(7)]), "several slices lie at"),
    "three DICOM slices": (dicom_case(ct_array()[:3]), "at least 4"),
    "MR modality": (dicom_case(Modality="MR"), "modality MR"),
    "MONOCHROME1": (dicom_case(PhotometricInterpretation="MONOCHROME1"), "MONOCHROME1"),
    "only scouts": (dicom_case(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "localizers"),
    "no position": (dicom_case(ImagePositionPatient=None), "lacks its position"),
    "no rescale": (dicom_case(RescaleSlope=1, RescaleIntercept=0), "raw unsigned values"),
    "truncated DICOM slice": (cut_dicom, "s010.dcm"),
    "folder as labels": (lambda folder: (save_dicom(folder / "bad"), "labels"), "cannot be a label map"),
}


@pytest.mark.parametrize("row", BAD)
def test_bad_input_is_refused_in_one_line(tmp_path, row, capfd):
    make, expected = BAD[row]
    path, kind = make(tmp_path)
    capfd.readouterr()
    with pytest.raises(InputError) as caught:
        read_volume(path, kind)
    message = str(caught.value)
    assert expected in message and path.name in message
    assert "\n" not in message and len(message) < 420 + 2 * len(str(path))
    if row != "truncated mha":  # MetaIO writes to stderr by itself
        assert capfd.readouterr() == ("", "")  # nothing of the libraries below leaks to the terminal


def test_header_that_promises_too_much_is_refused_before_allocating(tmp_path):
    path = save_nifti(tmp_path / "bomb.nii.gz", ct_array(), dim=[3, 30000, 30000, 30000, 1, 1, 1, 1])
    with pytest.raises(InputError, match="promises"):
        read_volume(path)


def test_soft_tissue_crops_are_ct():
    """A tight abdominal crop with a little fat passes; the check needs no air."""
    from PASTALib.imageio.files import check_hu

    rng = np.random.default_rng(0)
    array = rng.normal(60, 12, (20, 40, 40)).astype(np.int16)
    array[:, :4] = rng.normal(-100, 15, (20, 4, 40))
    check_hu(array, "crop")
    check_hu(np.clip(array * 3, -160, 240), "windowed")


# ---- writing ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", FORMATS)
def test_same_volume_same_bytes_and_nothing_else_in_the_folder(tmp_path, suffix):
    volume = Volume(ct_array(), affine_of())
    for name in "ab":
        write_volume(volume, tmp_path / f"{name}{suffix}")
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2
    if suffix == ".nii.gz":
        head = (tmp_path / "a.nii.gz").read_bytes()[:10]
        assert head[3] == 0 and head[4:8] == bytes(4)  # no file name, no time stamp


def test_views_and_bool_are_written(tmp_path):
    array = ct_array()[::-1].transpose(2, 1, 0) > 0
    write_volume(Volume(array, affine_of()), tmp_path / "m.nii.gz")
    assert np.array_equal(read_volume(tmp_path / "m.nii.gz", "labels").array, array)


@pytest.mark.parametrize(
    ("volume", "name", "expected"),
    [
        (Volume(ct_array(), affine_of()), "v.dcm", ".nii.gz, .nii, .nrrd, .mha"),
        (Volume(ct_array(), affine_of()), "none/v.nii.gz", "does not exist"),
        (Volume(ct_array(), sheared()), "v.nii.gz", "sheared"),
        (Volume(ct_array().astype(float), affine_of()), "v.nii.gz", "float64"),
        (Volume(ct_array()[0], affine_of()), "v.nii.gz", "2D array"),
    ],
)
def test_refused_on_writing(tmp_path, volume, name, expected):
    with pytest.raises(InputError, match=expected):
        write_volume(volume, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="uses a POSIX file size limit as a full disk")
@pytest.mark.parametrize("suffix", FORMATS)
def test_full_disk(tmp_path, suffix):
    target = tmp_path / f"v{suffix}"
    target.write_bytes(b"the earlier file")
    code = f"""
        import resource
        import numpy as np
        from PASTALib.errors import InputError
        from PASTALib.volume import Volume, write_volume
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        array = np.random.default_rng(0).integers(-1000, 1000, (60, 60, 60)).astype(np.int16)
        try:
            write_volume(Volume(array, np.eye(4)), {str(target)!r})
        except InputError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
    assert "cannot be written" in done.stdout and target.name in done.stdout and done.stdout.count("\n") == 1, done
    assert [f.name for f in tmp_path.iterdir()] == [target.name] and target.read_bytes() == b"the earlier file"


# ---- grids and crops ----------------------------------------------------------------------------------------------------------------


def test_same_grid():
    a = Volume(ct_array(), affine_of())
    assert same_grid(a, Volume(a.array * 0, a.affine + 1e-4)) is None
    assert "shape" in same_grid(a, Volume(ct_array((8, 12, 10)), a.affine))
    assert "apart" in same_grid(a, Volume(a.array, affine_of(origin=(-120.5, 33.25, 410.02))))
    assert "spacing" in same_grid(a, Volume(a.array, affine_of(spacing=(0.7, 0.8, 2.51))))
    assert same_grid(a, Volume(a.array, affine_of(signs=(1, -1, 1)))).count("\n") == 0


def test_crop_keeps_world_positions_and_copies():
    volume = Volume(ct_array(), affine_of(rotvec_deg=(10, 20, 30)))
    box = crop(volume, (slice(2, 6), slice(None, -3), slice(1, None)))
    assert box.array.shape == (4, 9, 9)
    np.testing.assert_allclose(box.to_ras([0, 0, 0]), volume.to_ras([2, 0, 1]))
    assert np.array_equal(box.array, volume.array[2:6, :-3, 1:])
    box.array[:] = 0
    assert volume.array.any()
    with pytest.raises(ValueError, match="empty"):
        crop(volume, (slice(5, 2), slice(None), slice(None)))
    with pytest.raises(ValueError, match="step"):
        crop(volume, (slice(None, None, 2), slice(None), slice(None)))


# ---- canonical space ----------------------------------------------------------------------------------------------------------------

AFFINES = st.builds(
    affine_of,
    spacing=st.tuples(*[st.floats(0.4, 5.0)] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    signs=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    order=st.sampled_from(list(itertools.permutations(range(3)))),
    rotvec_deg=st.tuples(*[st.floats(-20, 20)] * 3),
)


@settings(deadline=None, max_examples=60)
@given(affine=AFFINES, spacing_mm=st.sampled_from([1.0, 1.5, 0.8]))
def test_canonical_keeps_every_point_in_its_place(affine, spacing_mm):
    """An image of a world coordinate shows that coordinate after resampling, to 0.01 mm; axes run left, posterior, superior."""
    shape = (6, 9, 7)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    for axis in range(3):
        source = Volume(np.zeros(shape, np.float32), affine)
        source.array[:] = source.to_ras(grid)[..., axis]
        canonical = to_canonical(source, spacing_mm)
        out = canonical.volume
        inside = out.array[
            tuple(slice(0, n - 1) for n in out.array.shape)
        ]  # the last sample may lie beyond the last voxel
        places = out.to_ras(np.stack(np.meshgrid(*map(np.arange, inside.shape), indexing="ij"), -1))[..., axis]
        np.testing.assert_allclose(inside, places, atol=0.01)
        back = from_canonical(out.array, canonical, source)
        assert same_grid(back, source) is None and back.array.dtype == np.float32
        interior = tuple(slice(1, -1) for _ in shape)
        if (source.spacing_zyx_mm >= spacing_mm).all():  # finer than the source along every axis: a ramp survives
            np.testing.assert_allclose(back.array[interior], source.array[interior], atol=0.01)
    np.testing.assert_allclose(out.spacing_zyx_mm, spacing_mm, atol=1e-9)
    directions = out.affine[:3, :3] / spacing_mm
    assert directions[0, 0] < -0.5 and directions[1, 1] < -0.5 and directions[2, 2] > 0.5
    points = np.array([[0, 0, 0], [5, 8, 6], [2.5, 3, 1.25]])
    np.testing.assert_allclose(
        source.to_ras(source.to_index(out.to_ras(out.to_index(source.to_ras(points))))),
        source.to_ras(points),
        atol=1e-6,
    )
    reach = out.to_index(source.to_ras(list(itertools.product(*((0, n - 1) for n in shape)))))
    assert reach.min() > -1e-5 and (reach <= np.array(out.array.shape) - 1 + 1e-5).all()


@settings(deadline=None, max_examples=25)
@given(affine=AFFINES)
def test_array_layout_does_not_matter(affine):
    """The same scan stored with other axis order and direction gives the same canonical image."""
    array = ct_array((6, 9, 7))
    expected = to_canonical(Volume(array, affine))
    flip = np.eye(4)
    flip[0, 0], flip[0, 3] = -1, array.shape[2] - 1
    swap = np.eye(4)[:, [0, 2, 1, 3]]
    other = to_canonical(Volume(array[:, :, ::-1].transpose(1, 0, 2), affine @ flip @ swap))
    np.testing.assert_allclose(
        other.volume.array, expected.volume.array, atol=1
    )  # 1 HU: float sums in another order, then rounded
    np.testing.assert_allclose(other.volume.affine, expected.volume.affine, atol=1e-9)


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / max(1, np.count_nonzero(a) + np.count_nonzero(b))


@pytest.mark.parametrize(
    "spacing", [(0.7, 0.7, 5.0), (0.78, 0.78, 2.5), (0.9, 0.9, 1.25), (3.0, 3.0, 3.0), (1.0, 1.0, 1.0)]
)
@pytest.mark.parametrize("rotvec", [(0, 0, 0), (12, -8, 15)])
def test_masks_come_back(spacing, rotvec):
    """Organ-sized ellipsoids on anisotropic, oblique scans: Dice at least 0.99 there and back through 1 mm."""
    shape = tuple(int(np.ceil(n / s)) for n, s in zip((130, 150, 160), spacing[::-1]))
    source = Volume(np.zeros(shape, np.uint8), affine_of(spacing=spacing, rotvec_deg=rotvec, signs=(1, -1, 1)))
    mm = np.stack(np.meshgrid(*[(np.arange(n) * s) for n, s in zip(shape, spacing[::-1])], indexing="ij"), -1)
    source.array[(((mm - [60, 70, 70]) / [45, 35, 55]) ** 2).sum(-1) < 1] = 2
    source.array[(((mm - [90, 80, 100]) / [30, 38, 30]) ** 2).sum(-1) < 1] = 5
    canonical = to_canonical(source, kind="labels")
    assert canonical.volume.array.dtype == np.uint8 and set(np.unique(canonical.volume.array)) == {0, 2, 5}
    back = from_canonical(canonical.volume, canonical, source)
    assert same_grid(back, source) is None
    for label in (2, 5):
        assert dice(back.array == label, source.array == label) >= 0.99


def test_whole_millimetre_scans_come_back_exactly():
    rng = np.random.default_rng(0)
    source = Volume(
        rng.integers(0, 4, (9, 11, 10)).astype(np.uint8),
        affine_of(spacing=(2, 1, 5), order=(2, 0, 1), signs=(1, -1, 1)),
    )
    canonical = to_canonical(source, kind="labels")
    assert np.array_equal(from_canonical(canonical.volume.array, canonical, source).array, source.array)
    ct = Volume(ct_array((9, 11, 10)), source.affine)
    there = to_canonical(ct)
    assert there.volume.array.dtype == np.int16
    assert np.array_equal(from_canonical(there.volume, there, ct).array, ct.array)


def test_from_canonical_refuses_what_does_not_belong():
    source = Volume(ct_array(), affine_of())
    canonical = to_canonical(source)
    with pytest.raises(InputError, match="wanted"):
        from_canonical(source.array, canonical, source)
    with pytest.raises(InputError, match="apart"):
        from_canonical(canonical.volume.array, canonical, Volume(source.array, affine_of(origin=(0, 0, 0))))
    with pytest.raises(ValueError, match="kind"):
        to_canonical(source, kind="mask")


# ---- memory and real scans ----------------------------------------------------------------------------------------------------------

PEAK = """
    import re, sys
    from pathlib import Path
    from PASTALib.volume import read_volume

    def peak_bytes():  # of this program alone; getrusage would count the test runner it was started from
        return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

    if not sys.argv[1].endswith(".nii.gz"):
        import SimpleITK
    before = peak_bytes()
    volume = read_volume(sys.argv[1])
    print((peak_bytes() - before) / volume.array.nbytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory from /proc")
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_peak_memory_of_reading(tmp_path, suffix):
    """At most 2.2 times the int16 image (this one: 79 MB; NIfTI is read in slabs)."""
    one = np.random.default_rng(0).choice(np.array([-1000, -90, 20, 45, 300], np.int16), (5, 512, 512))
    path = tmp_path / f"big{suffix}"
    write_volume(Volume(np.tile(one, (30, 1, 1)), affine_of()), path)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PEAK), str(path)], capture_output=True, text=True, check=True
    )
    assert 0.9 < float(done.stdout) < (1.6 if suffix == ".nii.gz" else 2.2)


def test_starting_up_is_cheap():
    code = "import sys, PASTALib.volume; print('SimpleITK' in sys.modules, 'nibabel' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=os.getcwd())
    assert done.stdout.split() == ["False", "False"]


def test_every_real_ct_is_accepted(real_data):
    files = sorted((real_data / "cases").glob("**/ct.nii.gz"))
    assert files
    for file in files:
        volume = read_volume(file)
        assert volume.array.dtype == np.int16 and volume.meta["notes"] == []
        np.testing.assert_allclose(volume.affine, nib.load(file).affine, atol=1e-6)
        for mask in file.parent.glob("*.nii.gz"):
            if mask != file:
                labels = read_volume(mask, "labels")
                assert labels.array.dtype == np.uint8 and same_grid(volume, labels) is None


def test_real_masks_come_back(real_data):
    """Through 1 mm and back: Dice 0.99 for structures above 30 ml; smaller ones keep what a 1 mm grid can hold of them."""
    masks = sorted((real_data / "cases").glob("*/organs.nii.gz")) + sorted(
        (real_data / "cases").glob("*/lesion.nii.gz")
    )
    for file in masks:
        source = read_volume(file, "labels")
        canonical = to_canonical(source, kind="labels")
        back = from_canonical(canonical.volume, canonical, source)
        millilitres = np.prod(source.spacing_zyx_mm) / 1000
        for label in np.unique(source.array)[1:]:
            mask = source.array == label
            wanted = 0.99 if mask.sum() * millilitres > 30 else 0.98
            assert dice(back.array == label, mask) >= wanted, (file, label)


def test_real_dicom_series(real_data):
    volume = read_volume(real_data / "dicom_fixture" / "ts_ct_20slices")
    assert volume.array.shape == (20, 512, 512) and volume.array.dtype == np.int16
    np.testing.assert_allclose(volume.spacing_zyx_mm, (2.0, 0.9765625, 0.9765625))
    assert volume.array.min() == -1024 and 20 < np.median(volume.array[volume.array > -200]) < 80
    first = sitk.ReadImage(volume.meta["dicom"]["files"][7])
    assert np.array_equal(sitk.GetArrayViewFromImage(first)[0], volume.array[7])
    np.testing.assert_allclose(volume.to_ras([7, 0, 0]), np.array(first.GetOrigin()) * [-1, -1, 1])
