"""The generated torso: same bytes for the same arguments, plausible organs, tissues, edges and noise."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from PASTALib import taxonomy
from PASTALib.phantom import make_phantom, phantom_variation
from PASTALib.phantom.build import REGIONS
from PASTALib.phantom.noise import noise_filter, noise_slices
from PASTALib.phantom.tissues import CLASS, hu_table


@pytest.fixture(scope="module")
def coarse():
    return make_phantom(4.0, noise_hu=0)


@pytest.fixture(scope="module")
def torso():
    return make_phantom(2.0, noise_hu=0)


@pytest.fixture(scope="module")
def plain():
    return make_phantom(4.0, taxonomy.PLAIN, noise_hu=0)


def structure(phantom, name: str) -> np.ndarray:
    return phantom.organs.structures.array == CLASS[name]


def core(phantom, name: str, depth: int = 1) -> float:
    """Median HU of a structure without its rim."""
    mask = ndimage.binary_erosion(structure(phantom, name), iterations=depth)
    assert mask.any(), f"{name} is too thin"
    return float(np.median(phantom.ct.array[mask]))


def digest(phantom) -> str:
    parts = (phantom.ct.array, phantom.organs.labels.array, phantom.organs.structures.array, phantom.ct.affine)
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


SMALL = {"spacing_mm": 4.0, "region": "abdomen", "seed": 3}


def test_same_arguments_give_same_bytes():
    assert digest(make_phantom(**SMALL)) == digest(make_phantom(**SMALL, workers=1))


def test_another_process_gives_the_same_bytes():
    code = (
        "import hashlib, numpy as np\nfrom PASTALib.phantom import make_phantom\n"
        f"p = make_phantom(**{SMALL!r})\n"
        "parts = (p.ct.array, p.organs.labels.array, p.organs.structures.array, p.ct.affine)\n"
        "print(hashlib.sha256(b''.join(np.ascontiguousarray(x).tobytes() for x in parts)).hexdigest())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == digest(make_phantom(**SMALL))


def test_types_grid_and_orientation(coarse):
    ct, labels = coarse.ct, coarse.organs.labels
    assert ct.array.dtype == np.int16 and labels.array.dtype == np.uint8
    assert coarse.organs.structures.array.dtype == np.uint8 and coarse.organs.scheme == "totalseg-v2"
    assert ct.array.shape == labels.array.shape == (155, 71, 100)
    np.testing.assert_allclose(np.diag(ct.affine)[:3], [-4.0, -4.0, 4.0])
    np.testing.assert_allclose(ct.to_ras((np.array(ct.array.shape) - 1) / 2), 0, atol=1e-9)
    centre = {
        name: ct.to_ras(np.argwhere(structure(coarse, name)).mean(0))
        for name in ("liver", "spleen", "urinary_bladder", "heart")
    }
    assert centre["liver"][0] > 40 and centre["spleen"][0] < -60
    assert centre["heart"][2] > centre["liver"][2] > centre["urinary_bladder"][2]
    assert ct.to_ras(np.argwhere(structure(coarse, "sternum")).mean(0))[1] > 50


def test_ten_organs_are_there(torso):
    for organ in taxonomy.ORGANS:
        assert torso.organs.mask(organ.key).sum() * 8.0 > 4000, organ.key


@pytest.mark.parametrize(
    "name, low, high",
    [
        ("liver", 1250, 1850), ("spleen", 140, 300), ("kidney_left", 130, 200), ("kidney_right", 130, 200),
        ("gallbladder", 25, 50), ("pancreas", 60, 110), ("urinary_bladder", 180, 320), ("stomach", 280, 450),
        ("esophagus", 30, 70), ("colon", 500, 1200), ("heart", 450, 850), ("small_bowel", 500, 1400),
        ("duodenum", 50, 130),
        ("vertebrae_L3", 35, 90), ("vertebrae_T6", 15, 45), ("hip_left", 200, 420), ("sacrum", 100, 280),
        ("prostate", 18, 50),
    ],
)  # fmt: skip
def test_volume_in_ml_is_that_of_an_adult(torso, name, low, high):
    assert low < structure(torso, name).sum() * 0.008 < high


def test_labels_are_pieced_together_from_structures(coarse):
    names = coarse.organs.structure_names
    expected = {f"rib_{side}_{i}" for side in ("left", "right") for i in range(1, 13)}
    expected |= {f"vertebrae_{level}" for level in ("L5", "L1", "T12", "T1")}
    expected |= {"aorta", "inferior_vena_cava", "trachea"}
    expected |= {"portal_vein_and_splenic_vein", "lung_middle_lobe_right", "femur_left", "sternum", "duodenum"}
    assert expected <= set(names.values())
    for organ in taxonomy.ORGANS:
        values = [value for value, name in names.items() if name in organ.classes]
        np.testing.assert_array_equal(np.isin(coarse.organs.structures.array, values), coarse.organs.mask(organ.key))


TISSUES = {
    "liver": ("liver", 8), "spleen": ("spleen", 8), "aorta": ("aorta", 10), "inferior_vena_cava": ("vein", 10),
    "kidney_left": ("renal_cortex", 18), "pancreas": ("pancreas", 18), "autochthon_left": ("muscle", 8),
    "urinary_bladder": ("urine", 10),
    "lung_upper_lobe_left": ("lung", 45), "vertebrae_L3": ("cancellous", 60),
}  # fmt: skip


@pytest.mark.parametrize(
    "name, phase",
    [(name, taxonomy.ENHANCED) for name in TISSUES]
    + [(name, taxonomy.PLAIN) for name in TISSUES if name not in ("pancreas", "vertebrae_L3")],
)
def test_tissue_is_near_its_nominal_hu(torso, plain, name, phase):
    tissue, tolerance = TISSUES[name]
    phantom = torso if phase == taxonomy.ENHANCED else plain
    depth = 1 if name != "urinary_bladder" else 3 if phase == taxonomy.ENHANCED else 2
    assert core(phantom, name, depth) == pytest.approx(hu_table(phase)[tissue], abs=tolerance)


def test_great_vessels_tell_the_phase(coarse, plain):
    for name in ("aorta", "inferior_vena_cava"):
        assert core(coarse, name) > 120 and core(plain, name) < 60
    assert core(coarse, "aorta") - core(coarse, "autochthon_left") > 60
    assert abs(core(plain, "aorta") - core(plain, "autochthon_left")) < 30


def test_fat_under_the_skin(coarse):
    body = ndimage.binary_fill_holes(coarse.ct.array[60] > -300)
    rim = ndimage.binary_erosion(body, iterations=2) & ~ndimage.binary_erosion(body, iterations=3)
    assert np.median(coarse.ct.array[60][rim]) == pytest.approx(-100, abs=20)


def test_no_label_outside_the_body(torso):
    ct, structures = torso.ct.array, torso.organs.structures.array
    for k in range(0, ct.shape[0], 10):
        body = ndimage.binary_fill_holes(ct[k] > -500)
        assert not np.any(structures[k][~body]), k


def test_hollow_organs_hold_wall_and_lumen(torso):
    ct = torso.ct.array
    for key, lumen in (
        ("stomach", (-1024, -900)),
        ("colorectum", (-1024, -800)),
        ("gallbladder", (-5, 25)),
        ("bladder", (-10, 20)),
        ("esophagus", (-1024, -250)),
    ):
        mask = torso.organs.mask(key)
        inner = ndimage.binary_erosion(mask, iterations=2)
        values = ct[inner]
        assert np.mean((values > lumen[0] - 1) & (values < lumen[1])) > 0.03, key
        rim = ct[mask & ~ndimage.binary_erosion(mask)]
        assert np.mean((rim > 20) & (rim < 130)) > 0.25, key


def test_stomach_gas_lies_in_front_of_its_fluid(torso):
    mask = ndimage.binary_erosion(torso.organs.mask("stomach"), iterations=3)
    gas, fluid = (np.argwhere(mask & part)[:, 1] for part in (torso.ct.array < -900, abs(torso.ct.array - 12) < 20))
    assert len(gas) > 100 and len(fluid) > 100 and np.median(gas) < np.median(fluid)


def test_kidney_label_leaves_out_the_sinus(torso):
    kidney = structure(torso, "kidney_left")
    assert np.percentile(torso.ct.array[kidney], 2) > 0
    closed = ndimage.binary_closing(kidney, iterations=8)
    assert np.sum(closed & ~kidney & (torso.ct.array < 20)) * 0.008 > 3.0


def test_edge_is_as_soft_as_a_scanner_makes_it():
    fine = make_phantom((2.0, 0.5, 0.5), noise_hu=0, region="abdomen", shape=(1, 160, 160))
    ct = fine.ct.array[0].astype(float)
    centre = np.argwhere(structure(fine, "aorta")[0]).mean(0)
    distance = np.arange(6.0, 18.0, 0.1)
    widths = []
    for angle in np.linspace(0, 2 * np.pi, 72, endpoint=False):
        ray = centre[:, None] + distance / 0.5 * np.array([[np.sin(angle)], [np.cos(angle)]])
        profile = ndimage.map_coordinates(ct, ray, order=1)
        low = profile[: int(np.argmin(profile)) + 1]
        if low[0] > 160 and low[-1] < -90 and np.all(np.diff(low) < 0.5):
            share = (low - low[-1]) / (low[0] - low[-1])
            widths.append(0.1 * (np.argmax(share < 0.1) - np.argmax(share < 0.9)))
    assert len(widths) > 8
    assert 1.8 < np.median(widths) < 2.7


def test_organ_volumes_do_not_depend_on_the_spacing(coarse, torso):
    thick = make_phantom((5.0, 2.4, 1.6), noise_hu=0, region="abdomen")
    thin = make_phantom(2.0, noise_hu=0, region="abdomen")
    for key in ("liver", "kidney", "gallbladder", "pancreas", "stomach"):
        reference = thin.organs.mask(key).sum() * 8.0
        assert thick.organs.mask(key).sum() * 5.0 * 2.4 * 1.6 == pytest.approx(reference, rel=0.05), key
    for key in ("lung", "liver", "bladder", "colorectum", "kidney"):
        assert coarse.organs.mask(key).sum() * 64.0 == pytest.approx(torso.organs.mask(key).sum() * 8.0, rel=0.05), key


def test_a_smaller_region_samples_the_same_anatomy():
    low, high = REGIONS["abdomen"]
    part = make_phantom(4.0, noise_hu=0, region="abdomen")
    whole = make_phantom(4.0, noise_hu=0, region="abdomen", shape=(40, 71, 100))
    at = np.rint(part.ct.to_index(whole.ct.to_ras([0, 0, 0]))).astype(int)
    assert part.ct.array.shape[0] == round((high - low) / 4)
    assert abs(part.ct.to_index(whole.ct.to_ras([0, 0, 0])) - at).max() < 1e-9
    np.testing.assert_array_equal(part.ct.array[at[0] : at[0] + 40], whole.ct.array)


def test_noise_has_the_wanted_sd_and_changes_nothing_else(coarse):
    noisy = make_phantom(4.0, noise_hu=15.0)
    np.testing.assert_array_equal(noisy.organs.structures.array, coarse.organs.structures.array)
    inside = coarse.ct.array > -200
    difference = noisy.ct.array[inside].astype(float) - coarse.ct.array[inside]
    assert difference.std() == pytest.approx(15.0, rel=0.05) and abs(difference.mean()) < 0.3


def test_noise_power_is_that_of_ct():
    noise = noise_slices(0, 24, (192, 192), (1.0, 0.7, 0.7), seed=5)
    assert noise.std() == pytest.approx(1.0, rel=0.02)
    power = np.mean(np.abs(np.fft.fft2(noise)) ** 2, axis=0)
    f = np.hypot(np.fft.fftfreq(192, 0.7)[:, None], np.fft.fftfreq(192, 0.7)[None])
    bands = [power[(f >= low) & (f < high)].mean() for low, high in ((0.0, 0.04), (0.2, 0.3), (0.6, 0.7))]
    assert bands[1] > 3 * bands[0] and bands[1] > 5 * bands[2]
    neighbours = np.mean(noise[1:] * noise[:-1])
    assert 0.3 < neighbours < 0.9
    assert np.mean(noise[3:] * noise[:-3]) == pytest.approx(0, abs=0.05)
    assert (
        abs(
            np.mean(
                noise_slices(0, 8, (192, 192), (5.0, 0.7, 0.7), 5)[1:]
                * noise_slices(0, 8, (192, 192), (5.0, 0.7, 0.7), 5)[:-1]
            )
        )
        < 0.05
    )


def test_noise_power_is_defined_per_mm():
    fine, coarse = noise_filter((256, 256), (0.5, 0.5)), noise_filter((128, 128), (1.0, 1.0))
    ratio = fine[1:40, 1:40] / coarse[1:40, 1:40]
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)


def test_slices_of_noise_do_not_depend_on_how_they_are_asked_for():
    together = noise_slices(4, 6, (32, 40), (1.0, 1.0, 1.0), 2)
    np.testing.assert_array_equal(together[3:], noise_slices(7, 3, (32, 40), (1.0, 1.0, 1.0), 2))


def test_seed_varies_anatomy_mildly(coarse):
    assert phantom_variation(0).scale_xyz == (1.0, 1.0, 1.0)
    other = make_phantom(4.0, noise_hu=0, seed=11)
    for organ in taxonomy.ORGANS:
        volumes = [p.organs.mask(organ.key).sum() for p in (coarse, other)]
        assert 0.6 < volumes[1] / volumes[0] < 1.6, organ.key
    assert np.mean(coarse.organs.labels.array != other.organs.labels.array) > 0.005
    for seed in range(1, 40):
        assert all(0.95 <= scale <= 1.05 for scale in phantom_variation(seed).scale_xyz)


@pytest.mark.parametrize(
    "bad",
    [
        {"phase": "arterial"},
        {"spacing_mm": 0.0},
        {"region": "head"},
        {"noise_hu": -1.0},
        {"shape": (0, 5, 5)},
        {"shape": (5, 5)},
    ],
)
def test_wrong_arguments_are_named(bad):
    with pytest.raises(ValueError, match=str(next(iter(bad)))):
        make_phantom(**{"spacing_mm": 4.0, **bad})
