"""The travelling buffer gives the labels of plain sliding-window inference, written out here the long way, and those of nnU-Net."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PASTALib.inference.engines import TORCH_FP32, make_engine  # noqa: E402
from PASTALib.inference.intensity import PASTA_PIECEWISE, Intensity  # noqa: E402
from PASTALib.inference.sliding import label_image  # noqa: E402
from PASTALib.inference.windows import importance, window_starts  # noqa: E402
from PASTALib.networks.unet import NetworkShape, PastaNet, initialise  # noqa: E402
from PASTALib.progress import Cancelled  # noqa: E402

PATCH = (32, 32, 48)
CPU = torch.device("cpu")


def network(classes=5, width=4, seed=0, **other):
    return initialise(PastaNet(NetworkShape.of_width(width, 4, classes=classes, **other)), seed).eval()


def engine(net, **options):
    return make_engine(TORCH_FP32, net, PATCH, CPU, **options)


@pytest.fixture(scope="module")
def scan():
    """(z, y, x) int16 HU with structures of a few voxels, so that neighbouring labels differ."""
    rng = np.random.default_rng(1)
    field = rng.normal(0, 1, (71, 50, 60))
    for axis in range(3):
        field = field + np.roll(field, 1, axis) + np.roll(field, 2, axis)
    return (field * 60).astype(np.int16)


def plain_logits(hu, nets, step, flips=((),)):
    """Sums of weighted logits over the sum of weights: the textbook way, with the whole volume of all classes in memory."""
    shape = tuple(max(a, b) for a, b in zip(hu.shape, PATCH))
    before = [(a - b) // 2 for a, b in zip(shape, hu.shape)]
    inside = tuple(slice(b, b + n) for b, n in zip(before, hu.shape))
    image = np.zeros(shape, np.float32)
    image[inside] = PASTA_PIECEWISE(hu)
    total, weight = 0.0, np.zeros(shape)
    weights = importance(PATCH).astype(float)
    total = np.zeros((nets[0].shape.classes, *shape))
    for start in window_starts(shape, PATCH, step):
        box = tuple(slice(s, s + p) for s, p in zip(start, PATCH))
        x = torch.from_numpy(image[box])[None, None]
        for net in nets:
            for axes in flips:
                dims = [a + 2 for a in axes]
                with torch.no_grad():
                    y = torch.flip(net(torch.flip(x, dims)), dims)[0]
                total[(slice(None), *box)] += y.double().numpy() * weights
                weight[box] += weights
    return (total / weight)[(slice(None), *inside)]


def assert_same_labels(labels, logits):
    """Equal wherever the best class leads by more than rounding; and nearly everywhere it does."""
    ordered = np.sort(logits, axis=0)
    clear = ordered[-1] - ordered[-2] > 1e-3
    assert clear.mean() > 0.95
    assert np.array_equal(labels[clear], logits.argmax(0)[clear])
    assert len(np.unique(labels)) >= 3


@pytest.mark.parametrize("step", [0.5, 0.8])
@pytest.mark.parametrize("classes", [3, 9])  # logits are summed for 3 (fewer than 4 features), features for 9
def test_labels_are_those_of_the_textbook(scan, step, classes):
    net = network(classes)
    found = label_image(scan, [engine(net)], PASTA_PIECEWISE, PATCH, step=step)
    assert (engine(net).head is None) == (classes == 3)
    assert_same_labels(found.labels, plain_logits(scan, [net], step))
    assert found.windows == len(window_starts(scan.shape, PATCH, step)) and found.skipped == 0


def test_images_smaller_than_a_window_are_padded(scan):
    small = scan[:20, :50, :33]
    net = network()
    assert_same_labels(
        label_image(small, [engine(net)], PASTA_PIECEWISE, PATCH).labels, plain_logits(small, [net], 0.5)
    )


def test_outputs_with_a_bias_are_summed_as_logits(scan):
    net = network(9, biases=True)
    with torch.no_grad():
        net.seg_outputs[-1].bias.copy_(torch.linspace(-0.5, 0.5, 9))
    assert engine(net).head is None
    assert_same_labels(label_image(scan, [engine(net)], PASTA_PIECEWISE, PATCH).labels, plain_logits(scan, [net], 0.5))


def test_an_ensemble_is_averaged(scan):
    nets = [network(seed=1), network(seed=2)]
    found = label_image(scan, [engine(net, sum_features=False) for net in nets], PASTA_PIECEWISE, PATCH)
    assert_same_labels(found.labels, plain_logits(scan, nets, 0.5))
    alone = label_image(scan, [engine(nets[0])], PASTA_PIECEWISE, PATCH)
    assert (found.labels != alone.labels).any()


def test_mirror_images_are_averaged(scan):
    net = network()
    found = label_image(scan[:40], [engine(net)], PASTA_PIECEWISE, PATCH, mirror_axes=(0, 2))
    assert_same_labels(found.labels, plain_logits(scan[:40], [net], 0.5, ((), (0,), (2,), (0, 2))))
    plain = label_image(scan[:40], [engine(net)], PASTA_PIECEWISE, PATCH)
    assert (found.labels != plain.labels).any()


def test_with_all_mirror_images_a_flipped_scan_gives_flipped_labels(scan):
    """The window grid, too, must be symmetric: 64 voxels and windows of 32 at 0.5 are."""
    cube = scan[:64, :48, :48]
    net = network()
    for axis in range(3):
        turned = np.ascontiguousarray(np.flip(cube, axis))
        a = label_image(cube, [engine(net)], PASTA_PIECEWISE, PATCH, mirror_axes=(0, 1, 2)).labels
        b = label_image(turned, [engine(net)], PASTA_PIECEWISE, PATCH, mirror_axes=(0, 1, 2)).labels
        assert (np.flip(b, axis) == a).mean() > 0.98  # weights are half a voxel off the middle, as nnU-Net's are


def test_air_is_skipped_and_stays_background(scan):
    tall = np.full((140, 50, 60), -1000, np.int16)
    tall[:71] = scan
    net = network()
    found = label_image(tall, [engine(net)], PASTA_PIECEWISE, PATCH)
    assert found.skipped > 0
    assert not found.labels[110:].any()
    everything = label_image(tall, [engine(net)], PASTA_PIECEWISE, PATCH, skip_air=False)
    assert everything.skipped == 0 and everything.windows == found.windows + found.skipped
    assert np.array_equal(everything.labels[:60], found.labels[:60])
    nothing = label_image(np.full((40, 40, 50), -1000, np.int16), [engine(net)], PASTA_PIECEWISE, PATCH)
    assert nothing.windows == 0 and not nothing.labels.any()


def test_any_number_type_gives_the_same(scan):
    part, net = scan[:40], network()
    whole = label_image(part, [engine(net)], PASTA_PIECEWISE, PATCH).labels
    assert np.array_equal(whole, label_image(part.astype(np.float32), [engine(net)], PASTA_PIECEWISE, PATCH).labels)
    turned = np.flip(np.ascontiguousarray(np.flip(part, 2)), 2)  # a view with negative strides
    assert np.array_equal(whole, label_image(turned, [engine(net)], PASTA_PIECEWISE, PATCH).labels)


def test_progress_counts_windows_and_cancels(scan):
    seen = []

    def progress(step, of, text):
        seen.append((step, of))
        if step == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        label_image(scan, [engine(network())], PASTA_PIECEWISE, PATCH, progress=progress)
    assert seen[0][0] == 0 and seen[-1][0] == 2 and len({of for _, of in seen}) == 1
    assert len(seen) > 20  # asked between the layers, too, not only between windows


@pytest.mark.parametrize("classes", [3, 9])
def test_agrees_with_nnunet(scan, classes):
    """nnU-Net 2's own sliding window on the same network and input."""
    nnunet = pytest.importorskip("nnunetv2.inference.predict_from_raw_data")
    from types import SimpleNamespace

    net = network(classes, width=8)
    predictor = nnunet.nnUNetPredictor(
        tile_step_size=0.5, use_mirroring=False, perform_everything_on_device=False, device=CPU, allow_tqdm=False
    )
    predictor.network = net
    predictor.configuration_manager = SimpleNamespace(patch_size=PATCH)
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=classes)
    intensity = Intensity.standardised(-900, 900, 30, 300)
    theirs = predictor.predict_sliding_window_return_logits(torch.from_numpy(intensity(scan))[None]).float().numpy()
    ours = label_image(scan, [engine(net)], intensity, PATCH, skip_air=False).labels
    ordered = np.sort(theirs, axis=0)
    clear = ordered[-1] - ordered[-2] > 0.05  # they sum in fp16
    assert clear.mean() > 0.8
    assert (ours == theirs.argmax(0))[clear].mean() > 0.9999
