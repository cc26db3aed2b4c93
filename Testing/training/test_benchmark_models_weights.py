"""Reading the systems' published weights: files with each release's wrapper, prefix and names, and files that are something else."""

import json
import re

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("dynamic_network_architectures")

from PASTALib.errors import InputError  # noqa: E402
from training.benchmark.models.ctfm import CtFm  # noqa: E402
from training.benchmark.models.genesis_unet import GenesisUNet  # noqa: E402
from training.benchmark.models.interface import CLASSIFICATION, SEGMENTATION, find_rival, rivals  # noqa: E402
from training.benchmark.models.pasta import Pasta  # noqa: E402
from training.benchmark.models.universal import LEARNED, read_embedding  # noqa: E402

# -- names and shapes of the releases, written out by hand where no library has the network ------------------------


def unit(channels_in, channels_out, start):
    """One unit of the Genesis U-Net: convolution with bias, batch normalisation."""
    return {
        f"{start}.conv1.weight": (channels_out, channels_in, 3, 3, 3),
        f"{start}.conv1.bias": (channels_out,),
        **{f"{start}.bn1.{name}": (channels_out,) for name in ("weight", "bias", "running_mean", "running_var")},
        f"{start}.bn1.num_batches_tracked": (),
    }


def genesis_names(out=True):
    names = {}
    for level, channels_in, middle, channels_out in ((64, 1, 32, 64), (128, 64, 64, 128), (256, 128, 128, 256)):
        names |= unit(channels_in, middle, f"down_tr{level}.ops.0") | unit(
            middle, channels_out, f"down_tr{level}.ops.1"
        )
    names |= unit(256, 256, "down_tr512.ops.0") | unit(256, 512, "down_tr512.ops.1")
    for level, below in ((256, 512), (128, 256), (64, 128)):
        names |= {f"up_tr{level}.up_conv.weight": (below, below, 2, 2, 2), f"up_tr{level}.up_conv.bias": (below,)}
        names |= unit(below + level, level, f"up_tr{level}.ops.0") | unit(level, level, f"up_tr{level}.ops.1")
    if out:
        names |= {"out_tr.final_conv.weight": (1, 64, 1, 1, 1), "out_tr.final_conv.bias": (1,)}
    return names


def nnunet_v1_names():
    """``Generic_UNet`` of base 32, at most 320, two classes, the last level halved along y and x only."""
    channels = (32, 64, 128, 256, 320, 320)
    names = {}

    def layer(start, inputs, outputs):
        names[f"{start}.conv.weight"] = (outputs, inputs, 3, 3, 3)
        names.update({f"{start}.{name}": (outputs,) for name in ("conv.bias", "instnorm.weight", "instnorm.bias")})

    for n in range(5):
        layer(f"conv_blocks_context.{n}.blocks.0", channels[n - 1] if n else 1, channels[n])
        layer(f"conv_blocks_context.{n}.blocks.1", channels[n], channels[n])
    layer("conv_blocks_context.5.0.blocks.0", 320, 320)
    layer("conv_blocks_context.5.1.blocks.0", 320, 320)
    for n, (below, here) in enumerate(zip(channels[:0:-1], channels[-2::-1])):
        names[f"tu.{n}.weight"] = (below, here, 1 if n == 0 else 2, 2, 2)
        layer(f"conv_blocks_localization.{n}.0.blocks.0", 2 * here, here)
        layer(f"conv_blocks_localization.{n}.1.blocks.0", here, here)
        names[f"seg_outputs.{n}.weight"] = (2, here, 1, 1, 1)
    return names


def universal_head_names(full, deepest):
    return {
        "organ_embedding": (32, 512),
        "precls_conv.0.weight": (full,),
        "precls_conv.0.bias": (full,),
        "precls_conv.2.weight": (8, full, 1, 1, 1),
        "precls_conv.2.bias": (8,),
        "GAP.0.weight": (deepest,),
        "GAP.0.bias": (deepest,),
        "GAP.3.weight": (256, deepest, 1, 1, 1),
        "GAP.3.bias": (256,),
        "controller.weight": (153, 512, 1, 1, 1),
        "controller.bias": (153,),
        "text_to_vision.weight": (256, 512),
        "text_to_vision.bias": (256,),
    }


def swin_names():
    from monai.networks.nets import SwinUNETR

    return shapes(SwinUNETR(1, 14, feature_size=48))


def library_names(build, **sizes):
    with torch.device("meta"):
        return shapes(build(**sizes))


def shapes(network):
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


def fmcib_names():
    from monai.networks.nets import resnet50

    sizes = dict(n_input_channels=1, widen_factor=2, conv1_t_stride=2, feed_forward=False, bias_downsample=True)
    return library_names(resnet50, **sizes)


def segresnet_names():
    from monai.networks.nets import SegResNet

    sizes = dict(init_filters=16, in_channels=1, out_channels=26, blocks_down=(1, 2, 2, 4), blocks_up=(1, 1, 1))
    return library_names(SegResNet, **sizes)


def ctfm_names():
    from monai.networks.nets.segresnet_ds import SegResEncoder

    return library_names(SegResEncoder, init_filters=32, in_channels=1, blocks_down=(1, 2, 2, 4, 4))


def write(path, names, prefix="", wrap=lambda state: state):
    """A file of these names and shapes that takes next to no room: every tensor is one number, repeated."""
    tensors = {
        prefix + name: torch.tensor(5) if name.endswith("num_batches_tracked") else torch.tensor(0.5).expand(size)
        for name, size in names.items()
    }
    torch.save(wrap(tensors), path)
    return path


def under(name, **others):
    return lambda state: {name: state, **others}


TRAINING = {"epoch": 620, "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]}}
NNUNET_V1 = {  # what version 1 keeps besides; losses are numpy numbers
    "epoch": 1000,
    "optimizer_state_dict": {"state": {}, "param_groups": []},
    "lr_scheduler_state_dict": None,
    "plot_stuff": ([np.float64(-0.5)], [np.float64(-0.4)], [], []),
    "best_stuff": (None, -0.5, None),
}
HEADS = {"heads.prototypes0.weight": (8, 16)}
ORGANS = universal_head_names(64, 512)
OUTPUTS = ("out_tr.", "coarse_outputs.", "seg_outputs.", "conv_final.2.", "up_layers.")  # of CT-FM the whole decoder
RELEASES = [  # model, kind, file's names, prefix, wrapper, tensors that the network lacks
    ("genesis", CLASSIFICATION, genesis_names, "module.", under("state_dict", **TRAINING), "up_tr|out_tr"),
    ("genesis", CLASSIFICATION, genesis_names, "", lambda state: state, "up_tr|out_tr"),  # saved again, flat
    ("genesis", SEGMENTATION, nnunet_v1_names, "", under("state_dict", **NNUNET_V1), "seg_outputs"),
    ("suprem", SEGMENTATION, lambda: genesis_names(False), "module.backbone.", under("net", **TRAINING), ""),
    ("suprem", CLASSIFICATION, lambda: genesis_names(False), "module.backbone.", under("net"), "up_tr"),
    (
        "suprem:paper",
        CLASSIFICATION,
        lambda: genesis_names(False),
        "module.backbone.",
        under("net"),
        "up_tr|down_tr512",
    ),
    ("suprem:backbone=segresnet", SEGMENTATION, segresnet_names, "module.backbone.", under("net"), "conv_final.2."),
    ("suprem:backbone=segresnet", CLASSIFICATION, segresnet_names, "backbone.", under("net"), "up_|conv_final"),
    ("fmcib", CLASSIFICATION, fmcib_names, "", under("trunk_state_dict", train_loss=1.0), ""),
    ("fmcib", CLASSIFICATION, lambda: fmcib_names(), "model.trunk.", under("state_dict"), ""),
    ("ct-fm", CLASSIFICATION, ctfm_names, "encoder.", lambda state: state, ""),
    ("ct-fm", SEGMENTATION, ctfm_names, "encoder.", under("state_dict"), ""),
]


def rival(name):
    return CtFm() if name == "ct-fm" else find_rival(name)


def full_size(name, kind, channels=1, classes=4):
    with torch.device("meta"):
        return rival(name).network(kind, channels, classes)


@pytest.mark.parametrize(("name", "kind", "names", "prefix", "wrap", "unused"), RELEASES)
def test_releases_load(tmp_path, name, kind, names, prefix, wrap, unused):
    names = names()
    path = write(tmp_path / "weights.pt", names, prefix, wrap)
    report = rival(name).load(full_size(name, kind), path)
    left = {key for key in names if unused and re.match(unused, key)}
    assert {entry.key for entry in report.matched} == names.keys() - left
    assert {entry.key for entry in report.unused} == left and not report.mismatched
    assert report.prefix == prefix
    new = [entry.key for entry in report.missing]
    assert all(key.startswith(OUTPUTS) for key in new) and (kind == CLASSIFICATION) == (not new)
    assert json.loads(json.dumps(report.to_json()))["share"] == pytest.approx(report.share)


def test_the_published_names_are_the_networks(tmp_path):
    """Strictly: the very names and shapes, in both directions."""
    wanted = [
        ("genesis", CLASSIFICATION, genesis_names()),
        ("genesis", SEGMENTATION, nnunet_v1_names()),
        ("suprem", SEGMENTATION, genesis_names(False)),
        ("suprem:backbone=segresnet", SEGMENTATION, segresnet_names()),
        ("fmcib", CLASSIFICATION, fmcib_names()),
        ("ct-fm", SEGMENTATION, ctfm_names()),
        (
            "universal",
            SEGMENTATION,
            {f"backbone.{key}": size for key, size in genesis_names(False).items()} | universal_head_names(64, 512),
        ),
    ]
    for name, kind, names in wanted:
        with torch.device("meta"):
            network = rival(name).published(kind)
            assert shapes(network) == names, name
            network.load_state_dict({key: torch.empty(size) for key, size in names.items()}, strict=True)


@pytest.mark.parametrize("prefix", ["module.backbone.", "backbone.", "module.features."])
def test_universal_is_found_under_any_prefix(tmp_path, prefix):
    backbone = {prefix + key: size for key, size in genesis_names(False).items()}
    head = "module." if prefix.startswith("module.") else ""
    names = backbone | {head + key: size for key, size in universal_head_names(64, 512).items()}
    path = write(
        tmp_path / "universal.pth", names, "", under("net", epoch=1, scheduler={"last_epoch": 1}, optimizer={})
    )
    report = rival("universal").load(full_size("universal", SEGMENTATION), path)
    matched = {entry.key for entry in report.matched}
    assert matched >= genesis_names(False).keys() and {"GAP.3.weight", "controller.bias"} <= matched
    assert {entry.key for entry in report.missing} == {"organ_embedding.weight"}  # its classes are others
    assert {entry.key.rpartition("module.")[2] for entry in report.unused} == {
        "organ_embedding",
        "text_to_vision.weight",
        "text_to_vision.bias",
    }


def test_swin_backbones_load_and_keep_the_old_order(tmp_path):
    from training.benchmark.models.legacy_swin import OldPatchMerging

    names = swin_names()
    path = write(tmp_path / "swin.pth", names, "module.backbone.", under("net"))
    network = rival("suprem:backbone=swinunetr").network(SEGMENTATION, 2, 3)
    report = rival("suprem:backbone=swinunetr").load(network, path, stem="mean")
    outputs = {"out.conv.conv.weight", "out.conv.conv.bias"}
    assert {entry.key for entry in report.unused} == {entry.key for entry in report.missing} == outputs
    assert len(report.matched) == len(names) - 2 and not report.mismatched
    assert {entry.key for entry in report.matched if entry.reason} == {
        "swinViT.patch_embed.proj.weight",
        "encoder1.layer.conv1.conv.weight",
        "encoder1.layer.conv3.conv.weight",
    }
    assert float(network.body.swinViT.patch_embed.proj.weight.detach().mean()) == pytest.approx(0.25)
    merging = [part for part in network.modules() if type(part).__name__.endswith("PatchMerging")]
    assert len(merging) == 4 and all(isinstance(part, OldPatchMerging) for part in merging)


def test_the_paper_drops_what_does_not_fit_its_cubic_level(tmp_path):
    path = write(tmp_path / "genesis.model", nnunet_v1_names(), "", under("state_dict", **NNUNET_V1))
    report = find_rival("genesis:paper").load(full_size("genesis:paper", SEGMENTATION), path)
    assert [entry.key for entry in report.mismatched] == ["tu.0.weight"]
    with pytest.raises(
        InputError, match=r"tu\.0\.weight has shape \(320, 320, 1, 2, 2\), wanted \(320, 320, 2, 2, 2\)"
    ):
        find_rival("genesis:last_pool=published").load(full_size("genesis:paper", SEGMENTATION), path)


# -- values --------------------------------------------------------------------------------------------------------

TRAINED = [name for name in dict.fromkeys([*rivals(), "ct-fm"]) if name not in ("trivial", "scratch")]


NEW = (*OUTPUTS, "out.", "decoder.seg_layers.", "head.")


@pytest.mark.parametrize("name", TRAINED)
def test_values_arrive(tmp_path, name):
    """A small network's weights, wrapped and prefixed, give another one its outputs back."""
    for kind in sorted(rival(name).kinds):
        torch.manual_seed(1)
        source = rival(name).network(kind, 1, 3, small=True).eval()
        torch.manual_seed(2)
        target = rival(name).network(kind, 1, 3, small=True).eval()
        start = "" if kind == CLASSIFICATION and name == "pasta" else "body."
        inner = "network." if name == "universal" else "encoder." if name == "ct-fm" and kind == SEGMENTATION else ""
        state = {
            f"module.{key.removeprefix(start).removeprefix(inner)}": value
            for key, value in source.state_dict().items()
            if key.startswith(start + inner)
        }
        torch.save({"state_dict": state, "epoch": 3}, tmp_path / "weights.pt")
        x = torch.randn(1, 1, 32, 32, 32)
        with torch.no_grad():
            assert not torch.allclose(source(x), target(x))
            report = rival(name).load(target, tmp_path / "weights.pt")
            assert report.wrapper == "state_dict" and report.prefix.startswith("module.")
            if kind == CLASSIFICATION:
                assert torch.allclose(source.features(x), target.features(x), atol=1e-6)
            old, new = source.state_dict(), target.state_dict()
            differing = {key.removeprefix("body.") for key in old if not torch.equal(old[key], new[key])}
            assert all(key.startswith(NEW) for key in differing), differing
            assert len(report.matched) > 10 and not report.mismatched


def test_stems_are_widened(tmp_path):
    source = find_rival("suprem").network(SEGMENTATION, 1, 2, small=True)
    torch.save({"net": {f"module.backbone.{k[5:]}": v for k, v in source.state_dict().items()}}, tmp_path / "a.pth")
    kernel = source.body.down_tr64.ops[0].conv1.weight
    for stem, factor in (("repeat", 1), ("mean", 3)):
        network = find_rival("suprem").network(SEGMENTATION, 3, 2, small=True)
        report = find_rival("suprem").load(network, tmp_path / "a.pth", stem)
        found = network.body.down_tr64.ops[0].conv1.weight
        assert all(torch.allclose(found[:, n] * factor, kernel[:, 0]) for n in range(3))
        assert [entry.key for entry in report.matched if entry.reason] == ["down_tr64.ops.0.conv1.weight"]
    for name in ("suprem", "pasta"):
        with pytest.raises(InputError, match="stem 'sum'; wanted repeat or mean"):
            find_rival(name).load(find_rival(name).network(SEGMENTATION, 3, 2, small=True), tmp_path / "a.pth", "sum")


def test_pasta_of_another_width_and_head(tmp_path):
    from PASTALib.networks.unet import NetworkShape, PastaNet, initialise

    source = initialise(PastaNet(NetworkShape.of_width(2, classes=3, attribute_outputs=5)), 0)
    torch.save({"network_weights": source.state_dict()}, tmp_path / "pasta.pth")
    model = find_rival("pasta:width=2")
    assert isinstance(model, Pasta)
    network = model.network(CLASSIFICATION, 1, 2)
    report = model.load(network, tmp_path / "pasta.pth")
    assert torch.equal(network.head[0].weight, source.head[0].weight)
    assert {entry.key for entry in report.mismatched} == {"head.4.weight", "head.4.bias"}
    assert "seg_outputs.0.weight" in {entry.key for entry in report.unused} and not report.missing
    masks = model.network(SEGMENTATION, 1, 3)
    fresh = masks.body.seg_outputs[0].weight.clone()
    report = model.load(masks, tmp_path / "pasta.pth")
    assert torch.equal(masks.body.seg_outputs[0].weight, fresh)  # outputs are new, also where their shapes agree
    assert {entry.key for entry in report.missing} == {f"seg_outputs.{n}.weight" for n in range(5)}
    report = model.load(model.network(SEGMENTATION, 1, 4), tmp_path / "pasta.pth")
    assert {entry.key for entry in report.missing} == {f"seg_outputs.{n}.weight" for n in range(5)}
    assert not report.mismatched and {"seg_outputs.0.weight", "head.0.weight"} <= {entry.key for entry in report.unused}
    with pytest.raises(InputError, match="not weights of this network|wanted"):
        find_rival("pasta:width=4").load(
            find_rival("pasta:width=4").network(SEGMENTATION, 1, 3), tmp_path / "pasta.pth"
        )


# -- what is refused -------------------------------------------------------------------------------------------------


def refused(name, kind, path, small=True):
    network = rival(name).network(kind, 1, 2, small=small)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(InputError) as raised:
        rival(name).load(network, path)
    text = str(raised.value)
    assert "\n" not in text and str(path) in text
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    return text


def test_another_systems_file_is_refused(tmp_path):
    genesis = write(tmp_path / "genesis.pt", genesis_names(), "module.", under("state_dict"))
    fmcib = tmp_path / "fmcib.torch"
    torch.save({"trunk_state_dict": rival("fmcib").network(CLASSIFICATION, 1, 2, small=True).body.state_dict()}, fmcib)
    text = refused("fmcib", CLASSIFICATION, genesis)
    assert "not weights of FMCIB: 106 tensors named down_tr64" in text and "model_weights.torch" in text
    assert "not weights of SuPreM (unet)" in refused("suprem", SEGMENTATION, fmcib)
    assert "the authors' genesis_nnunet_luna16_006.model" in refused("genesis", SEGMENTATION, genesis)
    assert "not weights of PASTA: 106 tensors" in refused("pasta", SEGMENTATION, genesis)
    assert "not weights of Universal (unet)" in refused("universal", SEGMENTATION, fmcib)
    assert "not weights of nnU-Net (plain encoder)" in refused("nnunet", SEGMENTATION, fmcib)
    assert "not weights of CT-FM" in refused("ct-fm", CLASSIFICATION, genesis)
    assert "starts from new values; give no weights, or choose pasta" in refused("scratch", SEGMENTATION, genesis)
    assert "has no weights; give none" in refused("trivial", CLASSIFICATION, genesis)


def test_incomplete_and_damaged_files_are_refused(tmp_path):
    network = find_rival("suprem").network(SEGMENTATION, 1, 2, small=True)
    state = {key.removeprefix("body."): value.clone() for key, value in network.state_dict().items()}
    path = tmp_path / "suprem.pth"

    def saved(changed):
        torch.save({"net": {key: value for key, value in (state | changed).items() if value is not None}}, path)
        return refused("suprem", SEGMENTATION, path)

    key = "down_tr128.ops.1.conv1.weight"
    text = saved({key: None})
    assert (
        f"not the weights of SuPreM (unet): {key} is missing; wanted the authors' supervised_suprem_unet_2100.pth"
        in text
    )
    assert f"{key} has shape (3, 8, 3, 3, 3), wanted (16, 8, 3, 3, 3)" in saved({key: torch.zeros(3, 8, 3, 3, 3)})
    assert "is missing, and 1 more" in saved({key: None, "down_tr64.ops.0.bn1.weight": None})
    assert f"{key} holds values that are not finite" in saved({key: torch.full((16, 8, 3, 3, 3), torch.nan)})
    torch.save({"net": state | {"down_tr64.ops.0.bn1.num_batches_tracked": torch.tensor(9)}}, path)
    report = find_rival("suprem").load(network, path)
    assert int(network.body.down_tr64.ops[0].bn1.num_batches_tracked) == 9
    assert "tensors matched under 'net'" in report.summary() and "\n" not in report.summary()
    assert "no such file" in refused("suprem", SEGMENTATION, tmp_path / "none.pth")
    (tmp_path / "page.html").write_text("<html>please log in</html>")
    assert "it looks like a web page" in refused("fmcib", CLASSIFICATION, tmp_path / "page.html")


def test_nothing_in_a_file_is_run(tmp_path):
    import pickle

    class Bomb:
        def __reduce__(self):
            return exec, ("raise SystemExit('ran')",)

    path = tmp_path / "bomb.model"
    path.write_bytes(pickle.dumps({"state_dict": Bomb()}, protocol=2))
    refused("genesis", SEGMENTATION, path)
    text = refused("fmcib", CLASSIFICATION, path)
    assert "refused" in text or "not a checkpoint" in text
    torch.save(Bomb(), tmp_path / "words.pth")
    with pytest.raises(InputError, match="cannot be read"):
        read_embedding(tmp_path / "words.pth", 2)


def test_embeddings_of_classes(tmp_path):
    torch.save(torch.ones(2, 512, dtype=torch.float16), tmp_path / "words.pth")
    model = find_rival(f"universal:embedding={tmp_path / 'words.pth'}")
    network = model.network(SEGMENTATION, 1, 3, small=True)
    assert torch.equal(network.body.network.organ_embedding, torch.ones(2, 512))
    assert tuple(network.eval()(torch.zeros(1, 1, 16, 16, 16)).shape) == (1, 3, 16, 16, 16)
    with pytest.raises(
        InputError, match=r"holds a tensor of \(2, 512\); wanted a tensor of 3 x 512 .* one row per class"
    ):
        model.network(SEGMENTATION, 1, 4, small=True)
    with pytest.raises(InputError, match=f"no such file; .*embedding={LEARNED}"):
        read_embedding(tmp_path / "none.pth", 2)
    torch.save({"a": 1}, tmp_path / "dict.pth")
    with pytest.raises(InputError, match="holds a dict"):
        read_embedding(tmp_path / "dict.pth", 2)


def test_flat_files_of_a_network_alone_are_read(tmp_path):
    network = GenesisUNet(base=4, levels=3)
    torch.save(network.state_dict(), tmp_path / "flat.pth")
    report = rival("suprem").load(rival("suprem").network(SEGMENTATION, 1, 2, small=True), tmp_path / "flat.pth")
    assert report.wrapper == "" and report.prefix == "" and not report.unused
