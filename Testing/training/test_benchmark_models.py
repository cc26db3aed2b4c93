"""The compared systems' networks: published sizes and names, forward passes, and the details in which copies of them differ."""

import itertools
import pickle

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("dynamic_network_architectures")

from torch.nn import functional as F  # noqa: E402

from PASTALib.errors import InputError  # noqa: E402
from PASTALib.networks.unet import parameter_count  # noqa: E402
from training.benchmark.models.ctfm import CtFm  # noqa: E402
from training.benchmark.models.genesis_unet import GenesisUNet  # noqa: E402
from training.benchmark.models.interface import CLASSIFICATION, KINDS, SEGMENTATION, find_rival, rivals  # noqa: E402
from training.benchmark.models.legacy_swin import OldPatchMerging, OldSwinUNETR  # noqa: E402
from training.benchmark.models.universal_head import PerClassLoss, UniversalNet, WithBackground  # noqa: E402

EVERY = list(dict.fromkeys([*rivals(), "ct-fm"]))
SIDE = 32


def rival(name):
    return CtFm() if name == "ct-fm" else find_rival(name)


def meta(build, *args, **keywords):
    """Shapes alone, no values."""
    with torch.device("meta"):
        return build(*args, **keywords)


# -- sizes --------------------------------------------------------------------------------------------------------

PUBLISHED = [  # published or counted in the published code, tensors in the file
    ("pasta", SEGMENTATION, 240_313_664, 98),
    ("pasta", CLASSIFICATION, 240_947_341, 104),
    ("scratch", SEGMENTATION, 240_313_664, 98),
    ("genesis", CLASSIFICATION, 19_073_665, 106),
    ("suprem", SEGMENTATION, 19_073_600, 104),
    ("suprem:backbone=segresnet", SEGMENTATION, 4_701_322, 83),
    ("fmcib", CLASSIFICATION, 184_477_824, None),
    ("universal", SEGMENTATION, 19_073_600 + 342_817, None),
    ("ct-fm", SEGMENTATION, 77_760_992, None),
]


@pytest.mark.parametrize(("name", "kind", "values", "tensors"), PUBLISHED)
def test_published_sizes(name, kind, values, tensors):
    network = meta(rival(name).published, kind)
    assert parameter_count(network) == values
    assert tensors is None or len(network.state_dict()) == tensors
    if ":" not in name:
        assert rival(name).parameters[kind] == values


def test_nnunet_and_its_descendant_have_the_published_sizes():
    # 31,194,784 is nnU-Net version 1's network of two classes; version 2 has biases on upward (800) and last (5 x 2) convolutions besides
    cubic = meta(find_rival("genesis:last_pool=cubic").network, SEGMENTATION, 1, 2)
    assert parameter_count(cubic) == 31_194_784
    flat = meta(rival("genesis").network, SEGMENTATION, 1, 2)
    assert parameter_count(flat) == 31_194_784 - 320 * 320 * 4 == rival("genesis").parameters[SEGMENTATION]
    assert parameter_count(meta(rival("nnunet").network, SEGMENTATION, 1, 2)) == 31_194_784 + 800 + 10
    assert 31.1e6 < parameter_count(meta(rival("nnunet").network, SEGMENTATION, 1, 3)) < 31.3e6
    residual = parameter_count(meta(find_rival("nnunet:encoder=resenc").published, SEGMENTATION))
    assert 102e6 < residual < 103e6


@pytest.fixture(scope="module")
def swin():
    return OldSwinUNETR(1, 14)  # MONAI reads a number while it builds, which the meta device has not


def test_swin_unetr_has_the_published_size(swin):
    assert parameter_count(swin) == 62_187_296
    assert parameter_count(meta(UniversalNet, _Widths(48, 768), 32, torch.zeros(32, 512))) == 408_705
    assert parameter_count(meta(UniversalNet, _Widths(64, 512), 32, torch.zeros(32, 512))) == 342_817


class _Widths(torch.nn.Module):
    def __init__(self, *widths):
        super().__init__()
        self.widths = widths


@pytest.mark.parametrize("name", EVERY)
def test_small_networks_are_small(name):
    for kind in rival(name).kinds:
        network = meta(rival(name).network, kind, 2, 4, small=True)
        assert parameter_count(network) < 300_000


# -- forward passes -----------------------------------------------------------------------------------------------

SEGMENTING = [name for name in EVERY if SEGMENTATION in rival(name).kinds]
CLASSIFYING = [name for name in EVERY if CLASSIFICATION in rival(name).kinds]
SEGMENTING += ["nnunet:encoder=resenc", "genesis:paper", "suprem:backbone=segresnet"]
CLASSIFYING += ["suprem:paper", "suprem:backbone=segresnet"]


@pytest.mark.parametrize("name", SEGMENTING)
def test_segmenting_networks_run(name):
    for channels, classes in ((1, 2), (2, 4)):
        torch.manual_seed(0)
        network = rival(name).network(SEGMENTATION, channels, classes, small=True)
        x = torch.randn(1, channels, SIDE, SIDE, SIDE)
        assert all(SIDE % step == 0 for step in network.multiple)
        outputs = network.train()(x)
        sides = [tuple(SIDE // step for step in strides) for strides in network.output_strides]
        assert [tuple(output.shape) for output in outputs] == [(1, classes, *side) for side in sides]
        assert sides[0] == (SIDE, SIDE, SIDE)
        with torch.no_grad():
            logits = network.eval()(x)
            assert tuple(logits.shape) == (1, classes, SIDE, SIDE, SIDE) and bool(torch.isfinite(logits).all())
            network.deep_supervision = True  # nnU-Net's trainer validates with the list
            assert len(network(x)) == len(outputs)
    if rival(name).trained:
        sum(output.square().mean() for output in outputs).backward()
        lacking = [key for key, value in network.named_parameters() if value.grad is None]
        assert not lacking


@pytest.mark.parametrize("name", CLASSIFYING)
def test_classifying_networks_run(name):
    for channels, classes in ((1, 2), (2, 4)):
        torch.manual_seed(0)
        network = rival(name).network(CLASSIFICATION, channels, classes, small=True)
        x = torch.randn(2, channels, SIDE, SIDE, SIDE)
        network.train()
        logits = network(x)
        assert tuple(logits.shape) == (2, classes)
        if rival(name).trained:
            logits.square().mean().backward()
            assert all(value.grad is not None for value in network.parameters())
        with torch.no_grad():
            network.eval()
            features = network.features(x)
            assert features.ndim == 2 and len(features) == 2
            assert torch.equal(network(x), network.attributes(x))
            if rival(name).trained:
                assert torch.allclose(network.head(features), network(x))


@pytest.mark.slow
def test_the_swin_variants_run():
    for name in ("suprem:backbone=swinunetr", "universal:backbone=swin_unetr"):
        network = find_rival(name).network(SEGMENTATION, 2, 3, small=True).eval()
        with torch.no_grad():
            assert tuple(network(torch.randn(1, 2, 64, 64, 64)).shape) == (1, 3, 64, 64, 64)
    network = find_rival("suprem:backbone=swinunetr").network(CLASSIFICATION, 1, 3, small=True).eval()
    with torch.no_grad():
        assert tuple(network.features(torch.randn(2, 1, 64, 64, 64)).shape) == (2, 192)


def test_full_size_networks_have_the_published_features():
    x = torch.empty(2, 1, 64, 64, 64, device="meta")
    wanted = {
        "pasta": 1024,
        "genesis": 512,
        "suprem": 512,
        "suprem:paper": 256,
        "suprem:backbone=segresnet": 128,
        "fmcib": 4096,
        "ct-fm": 512,
    }
    for name, width in wanted.items():
        network = meta(rival(name).network, CLASSIFICATION, 1, 2)
        assert tuple(network.features(x).shape) == (2, width), name
        heads = [layer.out_features for layer in network.head if isinstance(layer, torch.nn.Linear)]
        assert heads == [512, 256, 2], name


def test_rivals_do_only_what_they_can():
    assert [name for name in EVERY if rival(name).kinds == frozenset(KINDS)] == [
        "pasta",
        "genesis",
        "suprem",
        "scratch",
        "trivial",
        "ct-fm",
    ]
    with pytest.raises(InputError, match="FMCIB has no network for segmentation; it does classification"):
        rival("fmcib").network(SEGMENTATION, 1, 2)
    with pytest.raises(InputError, match="kind 'detection'; wanted segmentation or classification"):
        rival("pasta").network("detection", 1, 2)


def test_rivals_pass_between_processes():
    for name in EVERY:
        assert pickle.loads(pickle.dumps(rival(name))) == rival(name)
        assert rival(name).licence and rival(name).title and rival(name).weights_note


# -- details ------------------------------------------------------------------------------------------------------


def test_old_patch_merging_is_the_old_order():
    """Against a reference that picks the eight voxels of every block one by one."""
    merging = OldPatchMerging(1)
    merging.norm = merging.reduction = torch.nn.Identity()
    x = torch.arange(4 * 6 * 2, dtype=torch.float32).reshape(1, 4, 6, 2, 1)
    found = merging(x)
    order = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1)]
    for i, j, k in itertools.product(range(2), range(3), range(1)):
        block = [float(x[0, 2 * i + a, 2 * j + b, 2 * k + c, 0]) for a, b, c in order]
        assert found[0, i, j, k].tolist() == block
    assert tuple(merging(torch.zeros(1, 3, 5, 1, 1)).shape) == (1, 2, 3, 1, 8)  # odd sides are padded


def test_todays_monai_merges_in_another_order():
    """So that the old order is not dropped as superfluous: the same weights give other features."""
    from monai.networks.nets.swin_unetr import PatchMerging

    torch.manual_seed(0)
    old, new = OldPatchMerging(2), PatchMerging(2)
    new.load_state_dict(old.state_dict())
    x = torch.randn(1, 4, 4, 4, 2)
    assert float((old(x) - new(x)).detach().abs().mean()) > 0.1


@pytest.mark.slow
def test_old_swin_is_monais_but_for_the_merging():
    from monai.networks.nets import SwinUNETR

    torch.manual_seed(0)
    small = OldSwinUNETR(1, 2, features=12).eval()
    theirs = SwinUNETR(1, 2, feature_size=12, downsample=OldPatchMerging).eval()
    theirs.load_state_dict(small.state_dict())
    x = torch.randn(1, 1, 64, 64, 64)
    with torch.no_grad():
        assert torch.allclose(small(x), theirs(x), atol=1e-6)


def test_ct_fm_is_monais():
    from monai.networks.nets import SegResNetDS

    torch.manual_seed(0)
    ours = CtFm().network(SEGMENTATION, 1, 3, small=True).train()
    theirs = SegResNetDS(in_channels=1, out_channels=3, init_filters=4, blocks_down=(1, 1, 1), dsdepth=2).train()
    theirs.load_state_dict(ours.body.state_dict())
    x = torch.randn(2, 1, 8, 8, 8)
    assert all(torch.equal(a, b) for a, b in zip(ours(x), theirs(x), strict=True))


def test_genesis_normalises_by_the_batch_in_evaluation_too():
    torch.manual_seed(0)
    published, usual = (GenesisUNet(1, 2, base=4, levels=3, norm=norm) for norm in ("batch", "running"))
    usual.load_state_dict(published.state_dict())
    x = torch.randn(2, 1, 16, 16, 16)
    before = {key: value.clone() for key, value in published.state_dict().items()}
    with torch.no_grad():
        alone, both = published.eval()(x[:1])[0], published(x)[0]
        assert float((alone - both[:1]).abs().max()) > 1e-3  # what else is in the batch matters
        assert torch.allclose(published.train()(x)[0], both, atol=1e-6)
        published.load_state_dict(before)
        published.eval()(x)
        assert all(torch.equal(value, before[key]) for key, value in published.state_dict().items())
        alone, both = usual.eval()(x[:1])[0], usual(x)[0]
        assert torch.allclose(alone, both[:1], atol=1e-6)


def test_genesis_is_what_its_names_say():
    """Against the published architecture written out in functions, on the network's own values."""
    torch.manual_seed(0)
    network = GenesisUNet(2, 1, base=4, levels=3).eval()
    state = network.state_dict()

    def units(x, start):
        for n in range(2):
            name = f"{start}.ops.{n}"
            x = F.conv3d(x, state[f"{name}.conv1.weight"], state[f"{name}.conv1.bias"], padding=1)
            scale, shift = state[f"{name}.bn1.weight"], state[f"{name}.bn1.bias"]
            mean, spread = x.mean((0, 2, 3, 4), keepdim=True), x.var((0, 2, 3, 4), unbiased=False, keepdim=True)
            x = (x - mean) / torch.sqrt(spread + 1e-5) * scale.view(1, -1, 1, 1, 1) + shift.view(1, -1, 1, 1, 1)
            x = x.clamp_min(0)
        return x

    def upward(x, skip, start):
        x = F.conv_transpose3d(x, state[f"{start}.up_conv.weight"], state[f"{start}.up_conv.bias"], stride=2)
        return units(torch.cat((x, skip), 1), start)  # the up-sampled half first

    x = torch.randn(2, 2, 8, 8, 8)
    with torch.no_grad():
        a = units(x, "down_tr64")
        b = units(F.max_pool3d(a, 2), "down_tr128")
        c = units(F.max_pool3d(b, 2), "down_tr256")
        full = upward(upward(c, b, "up_tr128"), a, "up_tr64")
        wanted = F.conv3d(full, state["out_tr.final_conv.weight"], state["out_tr.final_conv.bias"])
        assert torch.allclose(network(x)[0], wanted, atol=1e-5)


def test_genesis_keeps_or_drops_its_flat_last_level():
    flat = rival("genesis").network(SEGMENTATION, 1, 2, small=True)
    cubic = find_rival("genesis:paper").network(SEGMENTATION, 1, 2, small=True)
    assert flat.body.tu[0].weight.shape[2:] == (1, 2, 2) and cubic.body.tu[0].weight.shape[2:] == (2, 2, 2)
    assert flat.multiple == (4, 8, 8) and cubic.multiple == (8, 8, 8)
    assert meta(rival("genesis").network, SEGMENTATION, 1, 2).multiple == (16, 32, 32)
    with torch.no_grad():
        flat.eval()
        assert tuple(flat(torch.randn(1, 1, 12, 16, 16)).shape) == (1, 2, 12, 16, 16)


def test_fmcib_has_the_stem_of_its_weights():
    trunk = meta(rival("fmcib").published, CLASSIFICATION)
    assert trunk.conv1.stride == (2, 2, 2) and trunk.fc is None
    assert trunk.layer1[0].downsample[0].bias is not None


def test_universal_head_convolves_with_its_own_kernels():
    """Against grouped convolutions written out for one sample and class."""
    torch.manual_seed(0)
    network = UniversalNet(GenesisUNet(1, base=4, levels=3), 3, torch.randn(3, 512)).eval()
    x = torch.randn(2, 1, 16, 16, 16)
    with torch.no_grad():
        found = network(x)
        maps = network.backbone.maps(x)
        voxels, image, tasks = network.precls_conv(maps[-1]), network.GAP(maps[0]), network.tasks()
        assert bool((tasks >= 0).all())
        for sample, number in itertools.product(range(2), range(3)):
            both = torch.cat((image[sample].flatten(), tasks[number]))[None, :, None, None, None]
            made = network.controller(both).flatten()
            assert len(made) == 153
            y = voxels[sample : sample + 1]
            y = F.relu(F.conv3d(y, made[:64].view(8, 8, 1, 1, 1), made[136:144]))
            y = F.relu(F.conv3d(y, made[64:128].view(8, 8, 1, 1, 1), made[144:152]))
            y = F.conv3d(y, made[128:136].view(1, 8, 1, 1, 1), made[152:])
            assert torch.allclose(y[0, 0], found[sample, number], atol=1e-5)


def test_universal_background_wins_where_no_class_is_likely():
    class Given(torch.nn.Module):
        def forward(self, x):
            return x

    logits = torch.tensor([[-1.0, -2.0], [0.5, -2.0], [0.5, 0.7]]).reshape(3, 2, 1, 1, 1)
    assert WithBackground(Given())(logits).argmax(1).flatten().tolist() == [0, 1, 2]


def test_universal_loss_by_hand():
    loss = PerClassLoss()
    logits = torch.zeros(1, 3, 4)
    labels = torch.tensor([[[1, 1, 0, 0]]])
    ln2 = 0.693147
    first = ln2 + 1 - (2 * 1 + 1) / (2 + 2 + 1)  # half of everything is predicted: both 1, p 2, truth 2
    second = ln2 + 1 - (0 + 1) / (2 + 0 + 1)
    assert float(loss(logits, labels)) == pytest.approx((first + second) / 2, abs=1e-5)
    marked = torch.tensor([[True, False]])
    assert float(loss(logits, labels, marked)) == pytest.approx(first, abs=1e-5)
    assert float(loss(logits, labels, torch.zeros(1, 2))) == 0
    assert rival("universal").loss(3) is not None and rival("suprem").loss(3) is None


def test_the_floor_guesses_the_majority_and_nothing():
    x = torch.randn(2, 1, 8, 8, 8)
    classes = rival("trivial").network(CLASSIFICATION, 1, 3).fit([3, 6, 1])
    probabilities = classes(x).softmax(1)
    assert torch.allclose(probabilities, torch.tensor([[0.3, 0.6, 0.1]] * 2), atol=1e-4)
    assert classes(x).argmax(1).tolist() == [1, 1]
    assert not rival("trivial").network(SEGMENTATION, 1, 3).eval()(x).argmax(1).any()
    with pytest.raises(InputError, match=r"counts \[1.0, 2.0\]; wanted 3 numbers of cases"):
        classes.fit([1, 2])
    assert not rival("trivial").trained and all(rival(name).trained for name in EVERY if name != "trivial")
