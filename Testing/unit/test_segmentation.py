"""Segmenting whole scans: geometry back and forth, regions, orientation of the network, memory fall-backs, messages."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PASTALib.errors import InputError  # noqa: E402
from PASTALib.inference import segmentation  # noqa: E402
from PASTALib.inference.intensity import Intensity  # noqa: E402
from PASTALib.inference.segmentation import flip_axes, segment  # noqa: E402
from PASTALib.networks.card import ModelCard  # noqa: E402
from PASTALib.networks.unet import NetworkShape, PastaNet, initialise  # noqa: E402
from PASTALib.progress import Cancelled  # noqa: E402
from PASTALib.volume import Volume  # noqa: E402

PATCH = (48, 48, 48)
RAW = Intensity((-2000.0, 2000.0), (-2.0, 2.0))


class Threshold:
    """An engine that calls everything above 50 HU class 1."""

    name, device, channels, classes, head = "threshold", torch.device("cpu"), 3, 3, None

    def __init__(self):
        self.windows = []

    def run(self, window, check):
        check()
        self.windows.append(window)
        out = torch.zeros(*window.shape, 3)
        out[..., 1] = 100 * (window - 0.05)
        return out


def model(**card):
    net = initialise(PastaNet(NetworkShape.of_width(4, 4, classes=3)), 0).eval()
    card = ModelCard("little", {1: "liver", 2: "liver_tumor"}, patch=PATCH, intensity=RAW, **card)
    return SimpleNamespace(
        card=card, networks=[net], segments=True, predicts_attributes=False, digest="", mirror_axes=(0, 1, 2)
    )


@pytest.fixture
def threshold(monkeypatch):
    engine = Threshold()
    monkeypatch.setattr(segmentation, "choose_engines", lambda networks, *_, **__: [engine])
    return engine


def ball(affine, shape=(60, 64, 70), radius_mm=26.0):
    """A ball of 100 HU in fat, sampled on any grid; world coordinates relative to the volume's middle."""
    volume = Volume(np.zeros(shape, np.int16), np.asarray(affine, float))
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    middle = volume.to_ras((np.array(shape) - 1) / 2)
    distance = np.linalg.norm(volume.to_ras(index) - middle, axis=-1)
    inside = distance <= radius_mm
    volume.array[...] = np.where(inside, 200, -100)
    return volume, inside


def rotation(degrees, axis):
    a = np.radians(degrees)
    c, s = np.cos(a), np.sin(a)
    turn = np.eye(3)
    i, j = [k for k in range(3) if k != axis]
    turn[i, i], turn[i, j], turn[j, i], turn[j, j] = c, -s, s, c
    return turn


def affine_of(spacing, turn=None, flips=(1, 1, 1), origin=(-40, 12, 300)):
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if turn is None else turn) @ np.diag(np.array(spacing) * np.array(flips))
    affine[:3, 3] = origin
    return affine


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


@pytest.mark.parametrize(
    "affine,shape",
    [
        (affine_of((1, 1, 1)), (70, 70, 70)),
        (affine_of((0.7, 0.7, 5.0)), (18, 110, 110)),
        (affine_of((0.8, 0.8, 2.5), rotation(20, 0) @ rotation(-12, 2)), (36, 100, 100)),
        (affine_of((1.2, 0.9, 2.0), rotation(15, 1), (-1, 1, -1)), (44, 90, 70)),
    ],
    ids=["isotropic", "0.7x0.7x5", "oblique anisotropic", "oblique flipped left-handed"],
)
def test_labels_come_back_onto_the_scans_own_grid(threshold, affine, shape):
    scan, inside = ball(affine, shape)
    found = segment(scan, model())
    assert found.labels.array.shape == shape and found.labels.array.dtype == np.uint8
    assert np.allclose(found.labels.affine, affine)
    assert dice(found.labels.array == 1, inside) >= 0.99


@pytest.mark.parametrize("spacing,least", [((1.0, 1.0, 2.0), 1.0), ((1.5, 1.5, 2.2), 0.99)])
def test_a_flipped_copy_of_a_scan_gives_the_flipped_segmentation(spacing, least):
    """The same voxels stored the other way round, with the affine to match, through a real network.

    Exactly, where resampling rounds no weight; otherwise HU differ by one here and there, which random weights amplify.
    """
    rng = np.random.default_rng(0)
    scan, _ = ball(affine_of(spacing), (40, 44, 52), 25)
    scan.array += rng.normal(0, 80, scan.array.shape).astype(np.int16)
    real = model()
    first = segment(scan, real, engine="torch-fp32").labels.array
    assert len(np.unique(first)) == 3
    for axes in ((0,), (1,), (2,), (0, 2)):
        affine = scan.affine.copy()
        for axis in axes:
            affine[:3, 3] += affine[:3, 2 - axis] * (scan.array.shape[axis] - 1)
            affine[:3, 2 - axis] *= -1
        turned = Volume(np.ascontiguousarray(np.flip(scan.array, axes)), affine)
        second = segment(turned, real, engine="torch-fp32").labels.array
        assert (np.flip(second, axes) == first).mean() >= least


def test_a_permuted_copy_gives_the_permuted_segmentation():
    scan, _ = ball(affine_of((1.5, 1.5, 2.0)), (40, 44, 52), 25)
    real = model()
    first = segment(scan, real, engine="torch-fp32").labels.array
    affine = scan.affine[:, [2, 0, 1, 3]]  # i, j, k of the copy are k, i, j of the scan
    turned = Volume(np.ascontiguousarray(scan.array.transpose(1, 2, 0)), affine)
    assert np.array_equal(segment(turned, real, engine="torch-fp32").labels.array.transpose(2, 0, 1), first)


def test_orientations_are_mirror_images_of_the_canonical_one():
    assert flip_axes("LPS") == ()
    assert flip_axes("LAS") == (1,)
    assert flip_axes("RAS") == (2, 1)
    assert flip_axes("RPS") == (2,)


@pytest.mark.parametrize("orientation", ["LPS", "LAS", "RAS", "RPS"])
def test_the_network_sees_its_own_orientation_and_the_labels_come_back(threshold, orientation):
    """A bright block at the right, anterior, upper end lies at the end of an axis that runs there, at the start of others."""
    scan = Volume(np.full(PATCH, -100, np.int16), affine_of((1, 1, 1)))  # array axes run to S, A, R here
    scan.array[38:46, 36:44, 35:47] = 300
    found = segment(scan, model(orientation=orientation))
    assert np.array_equal(found.labels.array == 1, scan.array == 300)
    (image,) = threshold.windows
    at_the_end = (image > 0.2).nonzero().float().mean(0) > 24
    assert at_the_end.tolist() == [letter in "RAS" for letter in reversed(orientation)]


def test_a_region_is_all_that_is_computed(threshold):
    scan, inside = ball(affine_of((1, 1, 1)), (200, 60, 60), 20)
    scan.array[5:30, 20:40, 20:40] = 300  # another bright thing far from the region
    region = np.zeros(scan.array.shape, bool)
    region[95:105, 25:35, 25:35] = True
    everything = segment(scan, model())
    part = segment(scan, model(), region=region)
    assert part.windows < everything.windows
    assert not part.labels.array[:40].any() and everything.labels.array[:40].any()
    assert np.array_equal(part.labels.array[85:115], everything.labels.array[85:115])


def test_what_it_did_is_told(threshold):
    scan, _ = ball(affine_of((1, 1, 1)), (50, 50, 50), 20)
    seen = []
    found = segment(scan, model(trained=False, notes=("nothing learnt",)), progress=lambda *a: seen.append(a))
    assert found.names == {1: "liver", 2: "liver_tumor"} and found.model == "little" and not found.trained
    assert found.engine == "threshold" and found.device == "cpu" and found.step == segmentation.CPU_STEP
    assert found.notes == ["nothing learnt"] and found.windows == 8 and set(found.seconds) >= {"resample", "windows"}
    counted = [step for step, of, _ in seen if of]
    assert counted == sorted(counted) and counted[-1] == 8


def test_mirroring_keeps_to_the_axes_of_the_training(threshold):
    scan, inside = ball(affine_of((1, 1, 1)), (48, 48, 48), 20)
    for axes, passes in (((0, 1, 2), 8), ((2,), 2), ((), 1)):
        given = model()
        given.mirror_axes = axes
        threshold.windows.clear()
        found = segment(scan, given, mirroring=True)
        assert len(threshold.windows) == passes
        assert np.array_equal(found.labels.array == 1, inside)


def test_cancelling_passes_through(threshold):
    scan, _ = ball(affine_of((1, 1, 1)), (60, 60, 60), 20)

    def progress(step, of, text):
        if step == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        segment(scan, model(), progress=progress)


def test_running_out_of_memory_on_a_gpu_falls_back(threshold, monkeypatch):
    """No GPU here: the same path with a device that is one by name only."""
    tried = []

    def choose(networks, patch, device, engine, **_):
        tried.append((device.type, engine))
        if device.type == "cuda":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return [threshold]

    monkeypatch.setattr(segmentation, "choose_engines", choose)
    monkeypatch.setattr(segmentation, "pick_device", lambda text: torch.device("cuda:0"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**12, 10**12))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    scan, inside = ball(affine_of((1, 1, 1)), (60, 60, 60), 20)
    found = segment(scan, model(), engine="torch-half")
    assert tried == [("cuda", "torch-half"), ("cuda", "torch-half"), ("cpu", "auto")]
    assert found.device == "cpu" and any("ran out of memory" in note for note in found.notes)
    assert dice(found.labels.array == 1, inside) > 0.99


def test_running_out_of_memory_on_the_cpu_is_one_line(threshold, monkeypatch):
    def choose(*_, **__):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(segmentation, "choose_engines", choose)
    scan, _ = ball(affine_of((1, 1, 1)), (50, 50, 50), 20)
    with pytest.raises(InputError, match="not enough memory"):
        segment(scan, model())


def test_other_failures_are_not_taken_for_lack_of_memory(threshold, monkeypatch):
    def choose(*_, **__):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(segmentation, "choose_engines", choose)
    scan, _ = ball(affine_of((1, 1, 1)), (50, 50, 50), 20)
    with pytest.raises(RuntimeError, match="shapes"):
        segment(scan, model())


def test_bad_requests_are_one_line():
    scan, _ = ball(affine_of((1, 1, 1)), (50, 50, 50), 20)
    with pytest.raises(InputError, match="does not segment"):
        segment(scan, SimpleNamespace(**{**vars(model()), "segments": False, "predicts_attributes": True}))
    two = model()
    two.networks = [PastaNet(NetworkShape.of_width(4, 4, classes=3, in_channels=2))]
    with pytest.raises(InputError, match="takes 2 images"):
        segment(scan, two)
    with pytest.raises(InputError, match="region is empty"):
        segment(scan, model(), region=np.zeros(scan.array.shape, bool))
    with pytest.raises(InputError, match="region of shape"):
        segment(scan, model(), region=np.ones((3, 3, 3), bool))
    with pytest.raises(InputError, match="step 3"):
        segment(scan, model(), step=3)
    with pytest.raises(InputError, match="unknown engine"):
        segment(scan, model(), engine="warp")


def test_a_card_of_another_spacing_is_honoured(threshold):
    scan, inside = ball(affine_of((1, 1, 1)), (90, 90, 90), 40)
    coarse = model()
    coarse.card = replace(coarse.card, spacing_mm=2.0)
    found = segment(scan, coarse)
    assert found.windows == 1  # 45 voxels of 2 mm
    assert dice(found.labels.array == 1, inside) > 0.97
