"""Attributes by the network, and the encoder's pass over lesion crops: what goes in, what comes out, devices, memory, cancelling."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from PASTALib.attributes import LEARNED, TABLE
from PASTALib.errors import InputError
from PASTALib.inference import devices, encoder
from PASTALib.inference.attributes import (
    GROUPS,
    MIRRORED,
    attribute_probabilities,
    group_softmax,
    predict_attributes,
)
from PASTALib.inference.crops import lesion_crop
from PASTALib.inference.devices import cpu_has_bf16, out_of_memory, pick_device
from PASTALib.inference.intensity import Intensity
from PASTALib.networks.card import ModelCard
from PASTALib.networks.unet import NetworkShape, PastaNet, initialise
from PASTALib.progress import Cancelled
from PASTALib.volume import Volume

SIDE = 32
AFFINE = np.array([[-0.9, 0, 0, 40.0], [0, -0.9, 0, 30.0], [0, 0, 1.5, -20.0], [0, 0, 0, 1]])
CENTRES = [(15.0, 5.0, 10.0), (22.5, 12.25, 3.0), (39.0, 29.0, -19.0)]


@dataclass(frozen=True)
class Model:
    """What attribute prediction asks of a model."""

    card: ModelCard
    networks: list = field(default_factory=list)

    @property
    def predicts_attributes(self) -> bool:
        return all(network.shape.attribute_outputs for network in self.networks)

    @property
    def segments(self) -> bool:
        return all(network.shape.classes for network in self.networks)


def network(seed=0, outputs=13, classes=0, **other) -> PastaNet:
    shape = NetworkShape.of_width(4, levels=5, classes=classes, attribute_outputs=outputs, **other)
    net = initialise(PastaNet(shape), seed)
    if outputs:  # small crops of noise say little; answers must differ for the tests to see anything
        net.head[-1].weight.data *= 20
    return net.eval()


def model(*networks, **card) -> Model:
    return Model(ModelCard("test", attribute_crop=SIDE, **card), list(networks or [network()]))


@pytest.fixture(autouse=True)
def one_thread():
    """So small networks lose more to threads that wait for each other than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def scan() -> Volume:
    values = np.random.default_rng(3).normal(0, 300, (30, 50, 52))
    values[10:20, 20:30, 15:30] += 400
    return Volume(np.clip(values, -1000, 2000).astype(np.int16), AFFINE)


@pytest.fixture
def exact(monkeypatch):
    """No half precision, whatever the processor can do."""
    monkeypatch.setattr(encoder, "cpu_has_bf16", lambda: False)


def by_hand(scan, centre, net, card) -> dict[str, np.ndarray]:
    """The same from the network's own method, one crop, single precision."""
    hu = lesion_crop(scan, centre, side=SIDE, orientation=card.attribute_orientation)
    with torch.inference_mode():
        logits = net.attributes(torch.from_numpy(card.attribute_intensity(hu))[None, None])[0]
    return {key: part.softmax(0).numpy() for key, part in zip(LEARNED, logits.split(GROUPS))}


def table(predictions) -> np.ndarray:
    """All probabilities of all lesions, (n, 13)."""
    return np.array([[p for key in LEARNED for p in item.probabilities[key].values()] for item in predictions])


# ---------------------------------------------------------------------------------------------------------------
# What comes out


def test_options_are_those_of_the_paper_and_add_up(scan):
    found = predict_attributes(scan, CENTRES, model())
    assert GROUPS == (4, 3, 2, 2, 2)
    assert len(found) == 3
    for item in found:
        assert tuple(item.probabilities) == LEARNED
        for key in LEARNED:
            assert tuple(item.probabilities[key]) == TABLE[key].options
            assert sum(item.probabilities[key].values()) == pytest.approx(1, abs=1e-5)
        assert item.model == "test" and item.trained is True
    assert np.ptp(table(found), axis=0).max() > 0.02  # lesions differ


def test_same_as_the_network_by_hand(scan, exact):
    whole = model()
    for item, centre in zip(predict_attributes(scan, CENTRES, whole), CENTRES):
        for key, wanted in by_hand(scan, centre, whole.networks[0], whole.card).items():
            np.testing.assert_allclose(list(item.probabilities[key].values()), wanted, atol=1e-5)


def test_half_precision_stays_close(scan, exact, monkeypatch):
    single = table(predict_attributes(scan, CENTRES, model()))
    monkeypatch.setattr(encoder, "cpu_has_bf16", lambda: True)
    half = table(predict_attributes(scan, CENTRES, model()))
    assert 0 < np.abs(half - single).max() < 0.03


def test_orientation_and_intensity_are_the_cards(scan, exact):
    first = table(predict_attributes(scan, CENTRES, model()))
    for change in (
        {"attribute_orientation": "LAS"},
        {"attribute_intensity": Intensity.standardised(-200, 300, 40, 90)},
    ):
        other = model(**change)
        found = predict_attributes(scan, CENTRES, other)
        assert np.abs(table(found) - first).max() > 1e-3
        for key, wanted in by_hand(scan, CENTRES[0], other.networks[0], other.card).items():
            np.testing.assert_allclose(list(found[0].probabilities[key].values()), wanted, atol=1e-5)


def test_segmentation_settings_of_the_card_do_not_matter(scan, exact):
    first = table(predict_attributes(scan, CENTRES, model()))
    other = model(orientation="LAS", intensity=Intensity.standardised(-200, 300, 40, 90), patch=(64, 64, 64))
    np.testing.assert_array_equal(table(predict_attributes(scan, CENTRES, other)), first)


def test_a_decoder_beside_the_head_changes_nothing(scan, exact):
    alone, both = network(), network(5, classes=3)
    both.load_state_dict(alone.state_dict(), strict=False)
    first = table(predict_attributes(scan, CENTRES, model(alone)))
    np.testing.assert_allclose(table(predict_attributes(scan, CENTRES, model(both))), first, atol=1e-6)


def test_an_ensemble_is_the_mean_of_its_members(scan, exact):
    members = [network(seed) for seed in (0, 1, 2)]
    single = [table(predict_attributes(scan, CENTRES, model(member))) for member in members]
    np.testing.assert_allclose(table(predict_attributes(scan, CENTRES, model(*members))), np.mean(single, 0), atol=2e-6)


def test_a_flipped_copy_of_the_scan_gives_the_same(scan, exact):
    flipped = Volume(scan.array[::-1, :, ::-1].copy(), scan.affine.copy())
    flipped.affine[:3, 3] = scan.to_ras([29, 0, 51])
    flipped.affine[:3, [0, 2]] *= -1
    first = table(predict_attributes(scan, CENTRES, model()))
    np.testing.assert_allclose(table(predict_attributes(flipped, CENTRES, model())), first, atol=1e-5)


def test_flips_at_test_time_make_mirror_images_equal(scan, exact):
    centre = scan.to_ras(np.array([14.5, 24.5, 25.5]))  # the middle of the scan: mirroring it mirrors the crop
    mirrored = replace(scan, array=scan.array[:, ::-1].copy())
    plain = [table(predict_attributes(s, [centre], model())) for s in (scan, mirrored)]
    assert np.abs(plain[0] - plain[1]).max() > 1e-3
    flips = [table(predict_attributes(s, [centre], model(), test_time_flips=True)) for s in (scan, mirrored)]
    np.testing.assert_allclose(flips[0], flips[1], atol=1e-5)
    assert len(MIRRORED) == len(set(MIRRORED)) == 8


def test_random_weights_are_called_so(scan):
    (found,) = predict_attributes(scan, CENTRES[:1], model(trained=False))
    assert found.trained is False


def test_no_lesions(scan):
    assert predict_attributes(scan, [], model()) == []


# ---------------------------------------------------------------------------------------------------------------
# Groups; fourteen outputs


@pytest.mark.parametrize("outputs", [13, 14])
def test_softmax_within_each_group(outputs):
    logits = np.random.default_rng(0).normal(0, 3, (2, 5, outputs)) + 1000
    groups = (4 if outputs == 13 else 5, 3, 2, 2, 2)
    wanted = torch.cat([part.softmax(-1) for part in torch.from_numpy(logits).split(groups, -1)], -1).numpy()
    found = group_softmax(logits)
    assert found.shape == (2, 5, 14)
    if outputs == 13:
        np.testing.assert_array_equal(found[..., 4], 0)
        found = np.delete(found, 4, -1)
    np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_fourteen_outputs_report_the_unassigned_share_apart(scan, exact):
    fourteen = network(outputs=14)
    found = attribute_probabilities(scan, CENTRES, model(fourteen))
    for number, centre in enumerate(CENTRES):
        crop = torch.from_numpy(model().card.attribute_intensity(lesion_crop(scan, centre, side=SIDE)))
        with torch.inference_mode():
            shape = fourteen.attributes(crop[None, None])[0, :5].softmax(0).numpy()
        assert found.unassigned[number] == pytest.approx(shape[4], abs=1e-5)
        np.testing.assert_allclose(found.named["shape"][number], shape[:4] / shape[:4].sum(), atol=1e-5)
    assert found.unassigned.max() > 0.01
    (first, *_) = predict_attributes(scan, CENTRES, model(fourteen))
    assert tuple(first.probabilities["shape"]) == TABLE["shape"].options
    thirteen = attribute_probabilities(scan, CENTRES, model())
    np.testing.assert_array_equal(thirteen.unassigned, 0)


# ---------------------------------------------------------------------------------------------------------------
# Bad input: one line


@pytest.mark.parametrize(
    "networks,card,centres,device,wanted",
    [
        ([network(outputs=0, classes=3)], {}, CENTRES, "cpu", "no attribute head .it segments"),
        ([network(outputs=0)], {}, CENTRES, "cpu", "it holds an encoder"),
        ([network(outputs=2)], {}, CENTRES, "cpu", "2 outputs.*13"),
        ([network(in_channels=2)], {}, CENTRES, "cpu", "2 images at a time"),
        ([network()], {"attribute_crop": 8}, CENTRES, "cpu", "too small for 5 levels"),
        ([network()], {}, [(15, 5, 10), (500, 0, 0)], "cpu", "500,0,0 lies outside the scan, which covers R"),
        ([network()], {}, [(1, 2)], "cpu", "three numbers"),
        ([network()], {}, CENTRES, "abacus", "'abacus' is not known; use auto"),
    ],
)
def test_bad_input_is_one_clear_line(scan, networks, card, centres, device, wanted):
    whole = Model(replace(ModelCard("test", attribute_crop=SIDE), **card), networks)
    calls = []
    with pytest.raises(InputError, match=wanted) as error:
        predict_attributes(scan, centres, whole, device=device, progress=lambda *a: calls.append(a))
    assert "\n" not in str(error.value)
    assert not calls  # before any work


# ---------------------------------------------------------------------------------------------------------------
# Progress, cancelling, memory


def test_progress_counts_crops(scan):
    calls = []
    predict_attributes(scan, CENTRES, model(), test_time_flips=True, progress=lambda *a: calls.append(a))
    steps = [step for step, _, _ in calls]
    assert steps == sorted(steps) and steps[0] == 0 and steps[-1] == 24
    assert {of for _, of, _ in calls} == {24}
    assert all(isinstance(text, str) and text for _, _, text in calls)


def test_it_can_be_cancelled_within_one_crop(scan):
    calls = []

    def progress(step, of, text):
        calls.append(step)
        if len(calls) == 4:
            raise Cancelled

    with pytest.raises(Cancelled):
        predict_attributes(scan, CENTRES, model(), progress=progress)
    assert calls == [0] * 4


class Crowded:
    """Makes the encoder run out of memory when ``full(device type, crops)`` says so, and notes what was tried."""

    def __init__(self, monkeypatch, full, batch=1, message="CUDA error: out of memory"):
        self.tried = []
        run, to = encoder._Encoder._run, encoder._Encoder._to

        def limited(coder, units, x, check):
            self.tried.append((coder._device.type, len(x)))
            if full(coder._device.type, len(x)):
                raise RuntimeError(message)
            return run(coder, units, x, check)

        def placed(coder, device):
            to(coder, device)
            coder.batch = batch if not self.tried else coder.batch

        monkeypatch.setattr(encoder._Encoder, "_run", limited)
        monkeypatch.setattr(encoder._Encoder, "_to", placed)


def test_smaller_batches_when_memory_runs_out(scan, exact, monkeypatch):
    centres = [CENTRES[n % 3] for n in range(7)]
    first = table(predict_attributes(scan, centres, model()))
    crowded = Crowded(monkeypatch, lambda kind, crops: crops > 2, batch=6)
    second = predict_attributes(scan, centres, model())
    assert [crops for _, crops in crowded.tried] == [6, 3, 1, 1, 1, 1, 1, 1, 1]
    np.testing.assert_allclose(table(second), first, atol=1e-5)


def test_the_cpu_when_the_gpu_is_too_small(scan, exact, monkeypatch):
    first = table(predict_attributes(scan, CENTRES, model()))
    monkeypatch.setattr(encoder, "pick_device", lambda text: torch.device("meta"))
    crowded = Crowded(monkeypatch, lambda kind, crops: kind == "meta", batch=2)
    texts = []
    second = predict_attributes(scan, CENTRES, model(), progress=lambda step, of, text: texts.append(text))
    assert crowded.tried == [("meta", 2), ("meta", 1), ("cpu", 1), ("cpu", 1), ("cpu", 1)]
    np.testing.assert_array_equal(table(second), first)
    assert "on the CPU" in texts[-1] and "on the CPU" not in texts[0]


def test_no_memory_at_all_is_one_line(scan, monkeypatch):
    Crowded(monkeypatch, lambda kind, crops: True, message="DefaultCPUAllocator: can't allocate memory: tried")
    with pytest.raises(InputError, match="not enough memory for one 32-voxel crop"):
        predict_attributes(scan, CENTRES, model())


def test_other_errors_are_not_taken_for_memory(scan, monkeypatch):
    Crowded(monkeypatch, lambda kind, crops: True, message="shape mismatch")
    with pytest.raises(RuntimeError, match="shape mismatch"):
        predict_attributes(scan, CENTRES, model())


def test_the_models_weights_are_left_as_they_are(scan):
    whole = model()
    before = {key: value.clone() for key, value in whole.networks[0].state_dict().items()}
    predict_attributes(scan, CENTRES[:1], whole)
    after = whole.networks[0].state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(value.dtype == torch.float32 and not value.is_inference() for value in after.values())


# ---------------------------------------------------------------------------------------------------------------
# Devices


def test_auto_is_a_card_or_else_the_cpu():
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_device(" CPU ") == torch.device("cpu")


def test_cards_by_number(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda:0")
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(InputError, match="2 CUDA cards.*use auto, cpu, cuda:0 or cuda:1"):
        pick_device("cuda:2")


@pytest.mark.parametrize("text", ["", "gpu", "cuda:", "cuda:-1", "cpu:0", "tpu", "cuda:x", None])
def test_unknown_devices(text):
    with pytest.raises(InputError, match="is not known; use auto"):
        pick_device(text)


def test_devices_that_are_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for text in ("cuda", "cuda:0", "mps"):
        with pytest.raises(InputError, match="not available here.*use auto or cpu"):
            pick_device(text)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("mps") == torch.device("mps")


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="the system does not list processor flags")
def test_bf16_is_what_the_processor_says(monkeypatch):
    flags = set(next((line for line in Path("/proc/cpuinfo").open() if line.startswith("flags")), "").split())
    wanted = bool({"avx512_bf16", "amx_bf16"} & flags)
    assert cpu_has_bf16() is wanted
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert devices.cpu_has_bf16.__wrapped__() is wanted  # as with older versions of torch


@pytest.mark.parametrize(
    "error,answer",
    [
        (torch.cuda.OutOfMemoryError("x"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("size mismatch"), False),
    ],
)
def test_what_counts_as_out_of_memory(error, answer):
    assert out_of_memory(error) is answer


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA card")
def test_a_card_says_the_same_as_the_cpu(scan, exact):
    on_cpu = table(predict_attributes(scan, CENTRES, model(), device="cpu"))
    on_card = table(predict_attributes(scan, CENTRES, model(), device="cuda"))
    assert np.abs(on_card - on_cpu).max() < 0.03
