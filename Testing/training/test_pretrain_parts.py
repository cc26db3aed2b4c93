"""Tests of what both stages of pretraining are made of: augmentation, loss, precision on CPUs, samples made on the fly."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from PASTALib.errors import InputError
from PASTALib.networks.unet import NetworkShape, PastaNet, initialise
from training.presets import preset
from training.segmentation.augment import MARGIN, _resample, augment, centre_crop, margin_sides
from training.segmentation.recipe import (
    IGNORED,
    DiceCounter,
    DiceCrossEntropy,
    autocast,
    careful_step,
    guard_thin_layers,
    learning_rate,
    make_loss,
    make_optimiser,
    scale_weights,
    targets,
)
from training.segmentation.sources import SynthesisSamples

# ---------------------------------------------------------------------------------------------------------------
# Augmentation


def ball(side: int, radius: float, centre) -> tuple[torch.Tensor, torch.Tensor]:
    """An image that is smooth round ``centre`` and its label."""
    grid = np.stack(np.meshgrid(*(np.arange(side),) * 3, indexing="ij"), -1)
    away = np.linalg.norm(grid - np.array(centre), axis=-1)
    return torch.from_numpy(np.exp(-((away / radius) ** 2)).astype(np.float32)), torch.from_numpy(
        (away < radius).astype(np.uint8) * 7
    )


def test_augmented_samples_depend_on_the_generator_alone():
    image, labels = ball(40, 8, (20, 18, 22))
    first, second, other = (augment(image, labels, (32, 32, 32), np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert not torch.equal(first[0], other[0])
    assert first[0].shape == first[1].shape == (32, 32, 32) and first[1].dtype == torch.uint8


def test_image_and_labels_move_together():
    image, labels = ball(40, 7, (17, 22, 24))
    moved = 0
    for seed in range(40):
        new_image, new_labels = augment(image, labels, (32, 32, 32), np.random.default_rng(seed))
        assert torch.isfinite(new_image).all() and set(new_labels.unique().tolist()) <= {0, 7}
        inside, outside = new_image[new_labels == 7].mean(), new_image[new_labels == 0].mean()
        assert inside > outside + 0.2, seed
        moved += not torch.equal(new_labels, centre_crop(labels, (32, 32, 32)))
    assert moved > 30  # mirrored at least, mostly


def test_turning_and_zooming_are_what_they_say():
    image, labels = ball(48, 6, (24, 24, 34))  # 10 voxels along the last axis from the middle (23.5)
    turned, _ = _resample(image, labels, (40, 40, 40), np.array([np.pi / 2, 0, 0]), 1.0)
    peak = np.array(np.unravel_index(int(turned.argmax()), turned.shape)) - 19.5
    np.testing.assert_allclose(np.abs(peak), [0.5, 10.5, 0.5], atol=1.01)
    zoomed, small = _resample(image, labels, (40, 40, 40), np.zeros(3), 2.0)
    peak = np.array(np.unravel_index(int(zoomed.argmax()), zoomed.shape)) - 19.5
    np.testing.assert_allclose(peak, [0.25, 0.25, 5.25], atol=1.01)
    assert 0.06 < float((small == 7).sum() / (labels == 7).sum()) < 0.2  # an eighth
    same, _ = _resample(image, labels, (40, 40, 40), np.zeros(3), 1.0)
    torch.testing.assert_close(same, centre_crop(image, (40, 40, 40)), atol=1e-4, rtol=1e-4)


def test_margins_are_even_and_large_enough():
    assert margin_sides((64, 64, 96)) == (80, 80, 120)
    assert all(
        side >= patch * MARGIN and side % 2 == 0 for patch in (32, 50, 128) for side in margin_sides((patch,) * 3)
    )


# ---------------------------------------------------------------------------------------------------------------
# Loss, schedule, step


def test_weights_of_the_outputs_are_nnunet_s():
    np.testing.assert_allclose(scale_weights(6), [8 / 15, 4 / 15, 2 / 15, 1 / 15, 0], atol=1e-9)
    assert scale_weights(6, 1e-6)[-1] > 0


def test_loss_falls_when_the_prediction_is_right_and_ignores_what_it_should():
    labels = torch.randint(0, 3, (2, 16, 16, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    loss = make_loss(3, False)
    right = [torch.nn.functional.one_hot(part[:, 0].long(), 3).movedim(-1, 1) * 20.0 for part in targets(labels, 3)]
    wrong = [-part for part in right]
    good, bad = float(loss(right, targets(labels, 3))), float(loss(wrong, targets(labels, 3)))
    assert good < -0.99 and bad > 5
    partly = labels.clone()
    partly[:, :8] = IGNORED
    mixed = [torch.where(part == IGNORED, w, r) for part, w, r in zip(targets(partly, 3), wrong, right)]
    assert float(loss(mixed, targets(partly, 3))) < -0.99


@pytest.mark.slow
@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("ignoring", [False, True])
def test_loss_is_nnunet_s_value_for_value(batch_dice, ignoring):
    losses = pytest.importorskip("nnunetv2.training.loss.compound_losses")
    from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 6, 8, 9, 10, generator=generator, requires_grad=True)
    labels = torch.randint(0, 5, (2, 1, 8, 9, 10), generator=generator).to(torch.uint8)  # class 5 is absent
    if ignoring:
        labels[:, :, :3] = IGNORED
    options = {"batch_dice": batch_dice, "smooth": 1e-5, "do_bg": False, "ddp": False}
    theirs = losses.DC_and_CE_loss(options, {}, 1, 1, IGNORED if ignoring else None, MemoryEfficientSoftDiceLoss)
    found, wanted = DiceCrossEntropy(batch_dice, ignoring=ignoring)(logits, labels), theirs(logits, labels)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    ours = torch.autograd.grad(found, logits)[0]
    torch.testing.assert_close(ours, torch.autograd.grad(wanted, logits)[0], atol=1e-7, rtol=1e-3)


def test_class_weights_are_those_of_a_weighted_mean():
    logits, labels = torch.randn(2, 4, 6, 6, 6), torch.randint(0, 4, (2, 1, 6, 6, 6))
    labels[0, :, :2] = IGNORED
    weights = torch.tensor([1.0, 1.0, 2.0, 10.0])
    found = DiceCrossEntropy(False, class_weights=weights.tolist())(logits, labels) - DiceCrossEntropy(False)(
        logits, labels
    )
    entropy = [
        torch.nn.functional.cross_entropy(logits, labels[:, 0], w, ignore_index=IGNORED) for w in (weights, None)
    ]
    torch.testing.assert_close(found, entropy[0] - entropy[1], atol=1e-5, rtol=1e-5)


def test_targets_are_every_other_voxel():
    labels = torch.arange(8**3).reshape(1, 8, 8, 8)
    parts = targets(labels, 4)
    assert [part.shape[-1] for part in parts] == [8, 4, 2]
    assert torch.equal(parts[2][0, 0], labels[0, ::4, ::4, ::4])


def test_schedule_is_nnunet_s():
    assert learning_rate(0.01, 0, 2000) == 0.01
    assert learning_rate(0.01, 1000, 2000) == pytest.approx(0.01 * 0.5**0.9)


def test_steps_with_gradients_that_are_not_finite_are_left_out():
    layer = torch.nn.Linear(2, 1)
    before = layer.weight.detach().clone()
    optimiser = make_optimiser(layer.parameters(), {"optimiser": "sgd", "learning_rate": 1.0, "weight_decay": 0.0})
    assert not careful_step(layer(torch.tensor([[float("inf"), 1.0]])).sum() * 0, layer, optimiser)
    assert torch.equal(layer.weight, before)
    assert careful_step(layer(torch.ones(1, 2)).sum(), layer, optimiser)
    assert not torch.equal(layer.weight, before)


def test_bf16_gradients_of_thin_layers_are_those_of_float32():
    """Without the guard torch leaves memory unwritten in windows of 64 voxels, which have two planes in the bottleneck."""
    network = initialise(PastaNet(NetworkShape.of_width(4)), 0)
    names = list(network.state_dict())
    guard_thin_layers(network)
    assert list(network.state_dict()) == names
    bottleneck = network.conv_blocks_context[5]
    weight = bottleneck[1].blocks[0].conv.weight
    x = torch.randn(2, 64, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    gradients = []
    for precision in (None, *[torch.bfloat16] * 12):
        network.zero_grad()
        spoilt = [torch.full((weight.numel(),), float("nan")) for _ in range(4)]  # what unwritten memory will hold
        del spoilt
        with autocast(torch.device("cpu"), precision):
            output = bottleneck(x)
        (output.float() ** 3).mean().backward()
        gradients.append(weight.grad.clone())
    for found in gradients[1:]:
        assert torch.isfinite(found).all()
        assert (found - gradients[0]).norm() < 0.1 * gradients[0].norm()


def test_dice_counter_counts():
    counter = DiceCounter(4)
    labels = torch.tensor([[[[1, 1, 2, IGNORED]]]], dtype=torch.uint8)
    logits = torch.nn.functional.one_hot(torch.tensor([[[[1, 2, 2, 3]]]]), 4).movedim(-1, 1).float()
    counter.add(logits, labels)
    scores = counter.scores({1: "a", 2: "b", 3: "c"})
    assert scores == {"a": pytest.approx(2 / 3), "b": pytest.approx(2 / 3)}


# ---------------------------------------------------------------------------------------------------------------
# Samples made on the fly


@pytest.fixture(scope="module")
def settings():
    return preset("pretrain-segmentation", "smoke")


def test_samples_depend_on_their_number_alone(settings):
    first, second = SynthesisSamples(settings), SynthesisSamples(settings)
    assert first.digest() == second.digest() != SynthesisSamples(settings, seed=1).digest()
    one = [first.training(number, (40, 40, 80)) for number in (0, 1, 2)]
    two = [pickle.loads(pickle.dumps(second)).training(number, (40, 40, 80)) for number in (2, 1, 0)][::-1]
    for (hu, labels), (same, also) in zip(one, two):
        assert np.array_equal(hu, same) and np.array_equal(labels, also)
        assert hu.dtype == np.int16 and labels.dtype == np.uint8 and labels.max() <= 25
    assert any((labels > 10).any() for _, labels in one)
    aside, _ = first.held_out(0, (40, 40, 80))
    assert not np.array_equal(aside, one[0][0])


@pytest.fixture
def table(tmp_path):
    """A CT with an organ map, listed twice: once to train on with things to ignore, once held out."""
    from PASTALib.phantom import make_phantom
    from PASTALib.volume import write_volume

    made = make_phantom(6.0, region="abdomen", workers=1)
    write_volume(made.ct, tmp_path / "ct.nii.gz")
    write_volume(made.organs.labels, tmp_path / "organs.nii.gz")
    rows = ["ct.nii.gz,organs.nii.gz,pasta,train,background; liver", "ct.nii.gz,organs.nii.gz,pasta,held-out,"]
    (tmp_path / "scans.csv").write_text("ct,organs,scheme,use,ignore\n" + "\n".join(rows) + "\n")
    return tmp_path / "scans.csv"


def test_listed_scans_train_are_held_out_and_ignore(settings, table):
    samples = SynthesisSamples(settings | {"phantoms": 0, "held_out_phantoms": 0, "lesion_share": 0.0}, table)
    assert samples.ignores and "1 CT (100%" in samples.describe()
    _, labels = samples.training(0, (32, 32, 64))
    assert not np.isin(labels, (0, 2)).any() and IGNORED in labels
    _, labels = samples.held_out(0, (32, 32, 64))
    assert IGNORED not in labels and 0 in labels


@pytest.mark.parametrize(
    "row,expected",
    [
        ("ct.nii.gz,organs.nii.gz,pasta,perhaps,", "use 'perhaps'"),
        ("ct.nii.gz,organs.nii.gz,pasta,train,spleen", "ignore 'spleen'"),
        ("ct.nii.gz,organs.nii.gz,mine,train,", "scheme 'mine'"),
    ],
)
def test_a_table_that_is_wrong_is_refused_by_line(settings, table, row, expected):
    table.write_text(f"ct,organs,scheme,use,ignore\n{row}\n")
    with pytest.raises(InputError, match="line 2") as caught:
        SynthesisSamples(settings, table)
    assert expected in str(caught.value)


def test_nothing_to_train_on_is_refused(settings):
    with pytest.raises(InputError, match="0 phantoms and 0 CTs"):
        SynthesisSamples(settings | {"phantoms": 0})


def test_lesions_begin_as_their_organs():
    """Where a network that knows organs saw a liver, it now sees liver tumours nearly as likely, and nothing else changes."""
    from PASTALib import taxonomy
    from training.segmentation.stage import lesions_as_organs

    network = initialise(PastaNet(NetworkShape.of_width(4, classes=26)), 0).eval()
    image = torch.rand(1, 1, 32, 32, 64)
    with torch.no_grad():
        before = network(image)
        lesions_as_organs(network)
        after = network(image)
    assert torch.equal(before[:, :11], after[:, :11])
    for lesion in taxonomy.LESIONS:
        organ = taxonomy.organ(lesion.organ).value
        torch.testing.assert_close(after[:, lesion.value], 0.8 * before[:, organ], atol=1e-4, rtol=1e-4)


def test_offsets_make_the_most_of_shy_lesion_outputs():
    """Lesion voxels that the network rates 3 logits below the organ, others 6 below: an offset between is found, for that type alone."""
    from training.segmentation.calibrate import calibrate, with_offsets

    labels = np.zeros((8, 8, 8), np.uint8)
    labels[2:, 2:, 2:], labels[4:, 4:, 4:] = 2, 12  # liver, and a liver tumour in it
    logits = np.full((26, 8, 8, 8), -20.0, np.float32)
    logits[0][labels == 0] = logits[2][labels > 0] = 5.0
    logits[12][labels == 2], logits[12][labels == 12] = -1.0, 2.0

    import training.segmentation.calibrate as module

    network = initialise(PastaNet(NetworkShape.of_width(4, classes=26)), 0).eval()
    pool = module._Pool(26)
    pool.add(logits.reshape(26, -1).T, labels.ravel())
    offsets = pool.best()
    assert 3 < offsets[12] < 6 and np.count_nonzero(offsets) == 1
    image = torch.rand(1, 1, 32, 32, 64)
    with torch.no_grad():
        difference = with_offsets(network, offsets)(image) - network(image)
    torch.testing.assert_close(
        difference, torch.from_numpy(offsets).view(1, 26, 1, 1, 1).expand_as(difference), atol=1e-4, rtol=0
    )
    made, told = calibrate(network, [(image, np.zeros(image.shape[2:], np.uint8), 1.0)], 1)
    assert set(told.values()) == {0.0} and made.shape.biases  # no lesion there: nothing to fit
