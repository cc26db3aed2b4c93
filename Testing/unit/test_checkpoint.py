"""Checkpoints: every wrapping, what is matched, dropped and missing, and one clear line for whatever is no checkpoint of the network."""

from __future__ import annotations

import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from PASTALib.errors import InputError
from PASTALib.networks import checkpoint
from PASTALib.networks.card import PASTA_LABELS, ModelCard
from PASTALib.networks.checkpoint import read_weights
from PASTALib.networks.load import load_model, save_model
from PASTALib.networks.matching import adapt_stem, match, starting_weights
from PASTALib.networks.unet import NetworkShape, PastaNet, initialise

WIDTH = 4


def shape_of(classes=26, outputs=0, **other) -> NetworkShape:
    return NetworkShape.of_width(WIDTH, classes=classes, attribute_outputs=outputs, **other)


def state_of(classes=26, outputs=0, seed=1, **other) -> dict[str, torch.Tensor]:
    return dict(initialise(PastaNet(shape_of(classes, outputs, **other)), seed).state_dict())


@pytest.fixture
def save(tmp_path):
    """Function: anything -> path of a file written by torch.save."""

    def write(data, name="weights.pth", **options):
        torch.save(data, tmp_path / name, **options)
        return tmp_path / name

    return write


def loaded(path):
    return match(read_weights(path))


def refusal(path) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(InputError) as caught:
        loaded(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ") and "\n" not in line and len(line) < 400 + len(str(path))
    return line


# ---------------------------------------------------------------------------------------------------------------
# Wrappers and prefixes

WRAPPINGS = {
    "": lambda state: state,
    "network_weights": lambda state: {
        "network_weights": state,
        "current_epoch": 7,
        "optimizer_state": {"state": [torch.zeros(2)]},
    },
    "state_dict": lambda state: {"train_step": 3, "state_dict": state, "best_acc": 0.5},
    "model_state_dict": lambda state: {"model_state_dict": state},
    "trunk_state_dict": lambda state: {"trunk_state_dict": state},
    "net": lambda state: {"net": state},
    "model": lambda state: {"model": state, "epoch": 1},
    "model.state_dict": lambda state: {"model": {"state_dict": state}},
}
PREFIXES = (
    "",
    "module.",
    "_orig_mod.",
    "module._orig_mod.module.",
    "_orig_mod.module.module.",
    "trainer.student.",
    "module.net.",
)


@pytest.mark.parametrize("wrapper", WRAPPINGS)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_wrapper_and_prefix(save, wrapper, prefix):
    state = state_of(3)
    path = save(WRAPPINGS[wrapper]({prefix + key: value for key, value in state.items()}))
    weights = read_weights(path)
    shape, found, report = match(weights)
    assert (weights.wrapper, weights.prefix) == (wrapper, prefix)
    assert shape == shape_of(3)
    assert found.keys() == state.keys() and all(torch.equal(found[key], state[key]) for key in state)
    assert len(report.matched) == 98 and not report.dropped and not report.missing
    assert "98 tensors matched, none dropped, none missing" in report.summary()


def test_extras_are_plain(save):
    state = state_of(3)
    data = {
        "network_weights": state,
        "optimizer_state": {"state": {0: {"momentum_buffer": torch.zeros(3)}}},
        "trainer_name": "TotalLesionTrainer_ft",
        "init_args": {"fold": 0, "device": torch.device("cuda:0"), "plans": {"a": [1, 2.5]}},
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    assert read_weights(save(data)).extras == {
        "trainer_name": "TotalLesionTrainer_ft",
        "init_args": {"fold": 0, "device": "cuda:0", "plans": {"a": [1, 2.5]}},
        "inference_allowed_mirroring_axes": [0, 1, 2],
    }


@pytest.mark.parametrize("old_format", [False, True])
def test_numpy_numbers_as_nnunet_writes_them(save, old_format):
    data = {
        "network_weights": state_of(3),
        "_best_ema": np.float64(0.75),
        "logging": {"mean_fg_dice": [np.float32(0.5), np.float64(0.25)], "epochs": [np.int64(3)], "ok": np.bool_(True)},
        "array": np.arange(6, dtype=np.float32).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)),
    }
    extras = read_weights(save(data, _use_new_zipfile_serialization=not old_format)).extras
    assert extras == {
        "_best_ema": 0.75,
        "logging": {"mean_fg_dice": [0.5, 0.25], "epochs": [3], "ok": True},
        "array": [[0, 1, 2], [3, 4, 5]],
        "columns": [[0, 1, 2], [3, 4, 5]],
    }
    assert type(extras["_best_ema"]) is float and type(extras["logging"]["ok"]) is bool


def test_old_numpy_names_are_read(save, tmp_path):
    """A file written under numpy 1 names numpy.core, one under numpy 2 numpy._core."""
    path = save({"network_weights": state_of(3), "_best_ema": np.float64(0.5)})
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    (key,) = [name for name in parts if name.endswith("/data.pkl")]
    assert parts[key].count(b"numpy._core.multiarray") + parts[key].count(b"numpy.core.multiarray") >= 1
    for here, there in (
        (b"numpy._core.multiarray", b"numpy.core.multiarray"),
        (b"numpy.core.multiarray", b"numpy._core.multiarray"),
    ):
        other = tmp_path / f"{len(there)}.pth"
        with zipfile.ZipFile(other, "w", zipfile.ZIP_STORED) as archive:
            for name, content in parts.items():
                archive.writestr(name, content.replace(here, there) if name == key else content)
        assert torch.load(other, weights_only=False)["_best_ema"] == 0.5  # the rewritten file is sound
        assert checkpoint._load(other)["_best_ema"] == 0.5


def test_old_format_of_torch(save):
    shape, _, report = loaded(save(state_of(3, 13), _use_new_zipfile_serialization=False))
    assert shape == shape_of(3, 13) and len(report.matched) == 104


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_single(save, kind):
    state = state_of(3)
    _, found, report = loaded(save({key: value.to(kind) for key, value in state.items()}))
    assert report.kind == str(kind).removeprefix("torch.")
    assert all(value.dtype == torch.float32 for value in found.values())
    assert all(torch.equal(found[key], state[key].to(kind).float()) for key in state)


# ---------------------------------------------------------------------------------------------------------------
# What the file holds, and what it gets credit for


@pytest.mark.parametrize(("classes", "outputs"), [(26, 0), (26, 13), (26, 14), (3, 0), (2, 0), (3, 2)])
def test_classes_and_heads_are_read_off(save, classes, outputs):
    shape, state, report = loaded(save(state_of(classes, outputs)))
    assert shape == shape_of(classes, outputs)
    assert not report.dropped and not report.missing
    PastaNet(shape).load_state_dict(state)


@pytest.mark.parametrize("outputs", [14, 13, 2, 1])
def test_outputs_of_the_attribute_network_are_no_segmentation(save, outputs):
    path = save(state_of(outputs, outputs))
    shape, state, report = loaded(path)
    assert shape == shape_of(0, outputs)
    dropped = {entry.key: entry for entry in report.dropped}
    assert set(dropped) == {key for key in state_of(outputs, outputs) if key not in state}
    assert "by-product of the attribute network" in dropped["seg_outputs.4.weight"].reason
    assert dropped["seg_outputs.4.weight"].shape == (outputs, WIDTH, 1, 1, 1)
    assert "nothing to decode" in dropped["tu.0.weight"].reason and "by-product" in report.summary()
    model = load_model(path)
    assert not model.segments and model.card.labels == {}
    assert model.predicts_attributes == (outputs in (13, 14))
    assert any("does not segment" in note for note in model.card.notes)
    assert any("predicts no attributes" in note for note in model.card.notes) == (outputs < 13)
    with pytest.raises(InputError, match="does not segment; wanted one of 26 classes"):
        model.expect(26)


def test_a_card_decides_that_outputs_are_classes(tmp_path):
    labels = {number: f"thing {number}" for number in range(1, 13)}
    save_model(tmp_path / "ours.pth", initialise(PastaNet(shape_of(13, 13)), 1), ModelCard("ours", labels=labels))
    model = load_model(tmp_path / "ours.pth")
    assert model.segments and model.predicts_attributes and model.card.labels == labels


def test_encoder_alone(save):
    state = {
        key: value
        for key, value in state_of(3, 13).items()
        if not key.startswith(("conv_blocks_localization", "tu", "seg_outputs"))
    }
    shape, found, report = loaded(save(state))
    assert shape == shape_of(0, 13)
    assert len(report.dropped) == 8 and all(entry.key.startswith("conv_blocks_context.5.") for entry in report.dropped)
    assert all("no decoder" in entry.reason for entry in report.dropped)
    for key in list(state):
        if key.startswith("conv_blocks_context.5"):
            del state[key]
    shape, again, report = loaded(save(state))
    assert not report.dropped and again.keys() == found.keys()
    assert shape.channels == shape_of().channels


def test_full_resolution_output_suffices(save):
    state = {key: value for key, value in state_of(3).items() if not key.startswith("seg_outputs.") or ".4." in key}
    shape, found, report = loaded(save(state))
    assert shape == shape_of(3)
    assert [entry.key for entry in report.missing] == [f"seg_outputs.{level}.weight" for level in range(4)]
    assert "filled with zeros" in report.missing[0].reason and found["seg_outputs.0.weight"].abs().max() == 0
    json.dumps(report.to_json())


def test_several_inputs(save):
    shape, _, _ = loaded(save(state_of(3, in_channels=2)))
    assert shape.in_channels == 2


def test_other_heads_are_dropped_with_the_reason(save):
    state = state_of(3, 13)
    state["head.0.weight"] = torch.zeros(5, 7)
    shape, _, report = loaded(save(state))
    assert shape == shape_of(3)
    assert {entry.key for entry in report.dropped} == {
        f"head.{n}.{part}" for n in (0, 2, 4) for part in ("weight", "bias")
    }
    assert "head.0.weight is (5, 7), wanted (32, 64)" in report.dropped[0].reason
    del state["head.0.weight"]
    assert "head.0.weight is absent" in loaded(save(state))[2].dropped[0].reason


def test_foreign_entries_beside_the_network_are_dropped(save):
    _, _, report = loaded(save({**state_of(3), "projector.weight": torch.zeros(4, 4)}))
    assert [(entry.key, entry.reason) for entry in report.dropped] == [("projector.weight", "not part of the network")]


# ---------------------------------------------------------------------------------------------------------------
# Refusals


def test_missing_and_odd_tensors_are_named(save):
    state = state_of(3)
    key = "conv_blocks_context.2.blocks.1.conv.weight"
    line = refusal(save({name: value for name, value in state.items() if name != key}))
    assert f"{key} is missing, wanted (16, 16, 3, 3, 3)" in line
    wider = dict(initialise(PastaNet(NetworkShape.of_width(2 * WIDTH, classes=3)), 0).state_dict())
    for odd in (
        key,
        "conv_blocks_context.0.blocks.0.conv.weight",
        "conv_blocks_localization.3.0.blocks.0.instnorm.bias",
        "tu.2.weight",
    ):
        line = refusal(save({**state, odd: wider[odd]}))
        assert f"{odd} has shape {tuple(wider[odd].shape)}, wanted {tuple(state[odd].shape)}" in line
        assert "different width" in line
    line = refusal(save({**state, "seg_outputs.4.weight": torch.zeros(5, WIDTH, 1, 1, 1)}))
    assert "seg_outputs.4.weight has shape (5, 4, 1, 1, 1), wanted (3, 4, 1, 1, 1)" in line
    half = {key: wider[key] if key.startswith("conv_blocks_localization") else value for key, value in state.items()}
    assert "conv_blocks_localization.0.0.blocks.0.conv.weight" in refusal(save(half))


def test_layers_that_cannot_be_left_out(save):
    state = state_of(3)
    extra = {"conv_blocks_context.1.blocks.2.conv.weight": torch.zeros(8, 8, 3, 3, 3)}
    assert "conv_blocks_context.1.blocks.2.conv.weight (8, 8, 3, 3, 3), a layer" in refusal(save(state | extra))
    assert "seg_outputs.4.bias" in refusal(save(state | {"seg_outputs.4.bias": torch.zeros(3)}))


def test_values_that_are_not_finite(save):
    state = state_of(3)
    state["tu.1.weight"] = torch.full_like(state["tu.1.weight"], float("nan"))
    assert "tu.1.weight holds values that are not finite" in refusal(save(state))


def test_network_held_twice(save):
    state = state_of(3)
    twice = {f"{prefix}.{key}": value for key, value in state.items() for prefix in ("student", "teacher")}
    assert "'student.' and 'teacher.'" in refusal(save(twice))
    assert "twice" in refusal(save(state | {f"module.{key}": value for key, value in state.items()}))


def resnet() -> dict[str, torch.Tensor]:
    return {
        "conv1.weight": torch.zeros(8, 3, 7, 7),
        "bn1.running_mean": torch.zeros(8),
        "layer1.0.conv1.weight": torch.zeros(8, 8, 3, 3),
    }


FOREIGN = {
    "resnet": (resnet, "not weights of this network: 3 tensors named conv1.weight"),
    "empty": (dict, "no tensors (entries: nothing)"),
    "no tensors": (lambda: {"epoch": 3, "model": {}}, "no tensors"),
    "a tensor": (lambda: torch.zeros(3), "holds a Tensor; wanted a dictionary"),
    "a list": (lambda: [torch.zeros(3)], "holds a list; wanted a dictionary"),
    "scalars": (lambda: {"conv_blocks_context.0.blocks.0.conv.weight": torch.tensor(1.0)}, "encoder levels"),
    "one level": (
        lambda: {"conv_blocks_context.0.blocks.0.conv.weight": torch.zeros(4, 1, 3, 3, 3)},
        "encoder levels [0]",
    ),
    "integers": (
        lambda: {key: value.to(torch.int32) for key, value in state_of(3).items()},
        "wanted plain floating-point",
    ),
    "meta": (lambda: {key: value.to("meta") for key, value in state_of(3).items()}, "on meta"),
    "2-D": (
        lambda: {key: value[..., 0] if value.ndim == 5 else value for key, value in state_of(3).items()},
        "has shape (4, 1, 3, 3)",
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_contents(save, name):
    make, wanted = FOREIGN[name]
    assert wanted in refusal(save(make()))


def a_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


FILES = {
    "text": (lambda path: path.write_text("weights, honestly\n" * 9), "it looks like text"),
    "page": (lambda path: path.write_text("<!doctype html><html>Virus scan warning"), "a web page"),
    "jpeg": (lambda path: path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(100)), "a JPEG image"),
    "gzip": (lambda path: path.write_bytes(b"\x1f\x8b" + bytes(100)), "gzip"),
    "nothing": (lambda path: path.write_bytes(b""), "an empty file"),
    "noise": (lambda path: path.write_bytes(bytes(range(128, 256)) * 4), "something else"),
    "zip": (a_zip, "not one written by torch.save"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps({"a": 1}, 2)), "not a checkpoint"),
    "script": (lambda path: torch.jit.script(torch.nn.Linear(2, 2)).save(str(path)), "TorchScript"),
    "half a pickle": (lambda path: path.write_bytes(b"\x80\x02}q"), "truncated"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", FILES)
def test_files_of_other_kinds(tmp_path, name):
    make, wanted = FILES[name]
    path = tmp_path / "pasta.pth"
    make(path)
    assert wanted in refusal(path)


def test_missing_file_and_folder(tmp_path):
    assert "no such file" in refusal(tmp_path / "nothing.pth")
    assert "no such file" in refusal(tmp_path)


@pytest.mark.parametrize("new_format", [True, False])
def test_truncated_anywhere(save, new_format):
    path = save(state_of(3), _use_new_zipfile_serialization=new_format)
    whole = path.read_bytes()
    for share in (0.001, 0.1, 0.5, 0.9, 0.999):
        path.write_bytes(whole[: int(len(whole) * share)])
        assert "damaged" in refusal(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damaged_bytes_never_escape_the_reader(save):
    """Any flipped byte of the pickled part either changes nothing that matters or is refused in one line."""
    path = save(
        {"conv_blocks_context.0.blocks.0.conv.weight": torch.zeros(2), "note": np.float64(1)},
        _use_new_zipfile_serialization=False,
    )
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.choice(len(whole), 150, replace=False):
        broken = bytearray(whole)
        broken[place] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(broken))
        refusal(path)


# ---------------------------------------------------------------------------------------------------------------
# Hostile files


class Payload:
    def __init__(self, call, *arguments):
        self.how = (call, arguments)

    def __reduce__(self):
        return self.how


def touch(path):
    open(path, "w").close()


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("call", [os.system, eval, os.mkdir, touch])
def test_hostile_pickles_do_not_run(save, tmp_path, call, new_format):
    trace = tmp_path / "ran"
    argument = {os.system: f"touch {trace}", eval: f"open({str(trace)!r}, 'w')"}.get(call, str(trace))
    path = save({**state_of(3), "extra": Payload(call, argument)}, _use_new_zipfile_serialization=new_format)
    line = refusal(path)
    assert "refused" in line and call.__name__ in line and "trust" in line
    assert not trace.exists()
    with pytest.raises(InputError, match="refused"):
        load_model(path)
    assert not trace.exists()
    if new_format:  # the payload is a real one: the plain reader runs it
        torch.load(path, weights_only=False)
        assert trace.exists()


@pytest.mark.parametrize(
    "payload",
    [
        Payload(np.dtype, "O"),
        Payload(np.dtype, "V8"),
        Payload(np.dtype, "f8,i4"),
        Payload(np.memmap, "nowhere", "float32", "w+"),
        Payload(np.fromfile, "nowhere"),
        Payload(getattr, "a", "upper"),
    ],
)
def test_only_numbers_of_numpy(save, tmp_path, monkeypatch, payload):
    monkeypatch.chdir(tmp_path)
    path = save({**state_of(3), "extra": payload})
    refusal(path)
    assert not (tmp_path / "nowhere").exists()


def test_numbers_stay_allowed_only_while_reading(save):
    before = set(map(id, torch.serialization.get_safe_globals()))
    read_weights(save({**state_of(3), "extra": np.float64(2)}))
    assert set(map(id, torch.serialization.get_safe_globals())) == before


def test_file_that_contains_itself(save):
    loop: dict = {"network_weights": state_of(3)}
    loop["again"] = loop
    weights = read_weights(save(loop))
    assert weights.extras == {} and len(weights.tensors) == 98


# ---------------------------------------------------------------------------------------------------------------
# Our own files, and what training takes over


@pytest.mark.parametrize("kind", [torch.float16, torch.float32])
def test_save_and_load(tmp_path, kind):
    network = initialise(PastaNet(shape_of(26, 13)), 5)
    card = ModelCard("ours", labels=PASTA_LABELS, notes=("a note",), source="a test", orientation="RAS")
    path = tmp_path / "ours.pth"
    save_model(path, network, card, kind)
    assert [item.name for item in tmp_path.iterdir()] == ["ours.pth"]
    model = load_model(path)
    assert model.card == card and model.shape == network.shape and model.segments and model.predicts_attributes
    assert not model.networks[0].training and not any(p.requires_grad for p in model.networks[0].parameters())
    for key, value in network.state_dict().items():
        assert torch.equal(model.networks[0].state_dict()[key], value.to(kind).float())
    assert len(model.digest) == 16 and load_model(path).digest == model.digest
    save_model(path, initialise(PastaNet(shape_of(26, 13)), 6), card, kind)
    assert load_model(path).digest != model.digest
    model.expect(26)
    json.dumps(model.to_json())


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "ours.pth"
    path.write_bytes(b"old")
    network = PastaNet(shape_of(3))

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(KeyboardInterrupt):
        save_model(path, network, ModelCard("x", labels={1: "a", 2: "b"}))
    network.tu[0].weight.data[0] = 1e6
    with pytest.raises(ValueError, match=r"tu\.0\.weight"):
        save_model(path, network, ModelCard("x", labels={1: "a", 2: "b"}))
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_card_and_weights_must_agree(tmp_path):
    save_model(tmp_path / "ours.pth", PastaNet(shape_of(3)), ModelCard("ours", labels=PASTA_LABELS))
    with pytest.raises(InputError, match="card names 25 classes .* segment 2 beside background"):
        load_model(tmp_path / "ours.pth")


def test_adapt_stem():
    state = state_of(3)
    stem = "conv_blocks_context.0.blocks.0.conv.weight"
    x = torch.randn(1, 1, 8, 8, 8)
    for mode, factor in (("repeat", 3), ("mean", 1)):
        wide = adapt_stem(state, 3, mode)
        assert wide[stem].shape == (WIDTH, 3, 3, 3, 3) and state[stem].shape[1] == 1
        found = torch.nn.functional.conv3d(x.expand(-1, 3, -1, -1, -1), wide[stem])
        torch.testing.assert_close(found, factor * torch.nn.functional.conv3d(x, state[stem]), atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match="3 inputs"):
        adapt_stem(wide, 2)
    with pytest.raises(InputError, match="repeat or mean"):
        adapt_stem(state, 2, "sum")


def test_starting_weights_for_another_task(save):
    state = state_of(14, 14)  # the published file, as it probably is
    weights = read_weights(save(state))
    taken, report = starting_weights(weights, shape_of(3, in_channels=2), stem="mean")
    network = PastaNet(shape_of(3, in_channels=2))
    left = network.load_state_dict(taken, strict=False)
    assert (
        sorted(left.missing_keys)
        == [f"seg_outputs.{n}.weight" for n in range(5)]
        == [entry.key for entry in report.missing]
    )
    assert not left.unexpected_keys and len(report.matched) == 93
    dropped = {entry.key: entry.reason for entry in report.dropped}
    assert "(3, 4, 1, 1, 1)" in dropped["seg_outputs.4.weight"] and "head.0.weight" in dropped
    assert torch.equal(network.tu[2].weight, state["tu.2.weight"])
    stem = network.conv_blocks_context[0].blocks[0].conv.weight
    torch.testing.assert_close(stem.sum(1, keepdim=True), state["conv_blocks_context.0.blocks.0.conv.weight"])
    with pytest.raises(InputError, match="different width"):
        starting_weights(weights, NetworkShape.of_width(8, classes=3))
    encoder, _ = starting_weights(weights, shape_of(0, 14))
    assert PastaNet(shape_of(0, 14)).load_state_dict(encoder)


# ---------------------------------------------------------------------------------------------------------------
# Cards of files that say nothing of themselves


def test_published_layout_with_26_rows(save):
    model = load_model(save(state_of(26, 14), "PASTA_final.pth"))
    assert model.card.name == "PASTA_final" and model.card.labels == PASTA_LABELS and model.card.trained
    assert model.card.attribute_orientation == "LAS" and model.card.orientation == "LPS"
    assert any("not published" in note for note in model.card.notes)
    assert model.predicts_attributes and model.mirror_axes == (0, 1, 2)


def test_three_classes_are_explained(save):
    model = load_model(save({"network_weights": state_of(3), "trainer_name": "TotalLesionTrainer_ft"}, "MSD_Lung.pth"))
    assert model.card.labels == {1: "organ", 2: "lesion"} and "TotalLesionTrainer_ft" in model.card.source
    with pytest.raises(
        InputError, match=r"MSD_Lung: this model segments 3 classes \(background, organ, lesion\); wanted one of 26"
    ):
        model.expect(26)
    model.expect(3)


def test_unknown_classes_are_numbered(save):
    model = load_model(save(state_of(5)))
    assert model.card.labels == {n: f"class {n}" for n in range(1, 5)}
    assert any("does not say what its classes are" in note for note in model.card.notes)


def test_random_models():
    model = load_model("random:4")
    assert model.card.name == "random:4" and not model.card.trained and model.card.labels == PASTA_LABELS
    assert model.shape == shape_of(26, 13) and "mean nothing" in model.card.notes[0]
    again = load_model("random:4")
    assert again.digest == model.digest
    for one, two in zip(model.networks[0].parameters(), again.networks[0].parameters()):
        assert torch.equal(one, two)
    assert load_model("random:5").digest != model.digest
    for text in ("random:0", "random:many", "random:65", "random:"):
        with pytest.raises(InputError, match=r"random:WIDTH with 1 to 64"):
            load_model(text)


def test_published_size_loads_and_counts(tmp_path):
    """A file as large as the published one, in half precision: it loads, counts and is not claimed to segment."""
    with torch.device("meta"):
        network = PastaNet(NetworkShape(classes=14, attribute_outputs=14))
    tiny = torch.zeros(1, dtype=torch.float16)
    state = {key: tiny.expand(value.shape) for key, value in network.state_dict().items()}
    path = tmp_path / "PASTA_final.pth"
    torch.save(state, path)
    model = load_model(path)
    assert model.parameters == 56_526_144 + 659_726 and model.predicts_attributes and not model.segments
    assert len(model.report.dropped) == 104 - 40 - 6


@pytest.mark.parametrize(
    "entry",
    [
        {"patch": [64, 64]}, {"patch": [64, 64, "64"]}, {"patch": [64, 0, 64]}, {"spacing_mm": "1"}, {"spacing_mm": -1.0},
        {"attribute_crop": 0}, {"lesion": "wart"}, {"trained": "no"}, {"notes": "one line"}, {"name": 3}, {"orientation": "XYZ"},
        {"labels": {"one": "organ"}}, {"labels": [1]}, {"intensity": {"hu": [5, 1], "values": [0, 1]}}, {"card": 99}, {"colour": "red"},
    ],
)  # fmt: skip
def test_odd_cards_are_refused(save, entry):
    card = ModelCard("x", labels={1: "organ", 2: "lesion"}).to_json()
    path = save({"network_weights": state_of(3), "card": card})
    assert load_model(path).card.name == "x"
    with pytest.raises(InputError, match="card|intensity"):
        load_model(save({"network_weights": state_of(3), "card": card | entry}))


def test_windows_fit_the_network(tmp_path):
    for patch, used in [((100, 64, 96), (128, 64, 96)), ((32, 32, 32), (32, 32, 64)), ((64, 64, 64), (64, 64, 64))]:
        save_model(
            tmp_path / "a.pth", PastaNet(shape_of(3)), ModelCard("a", labels={1: "organ", 2: "lesion"}, patch=patch)
        )
        card = load_model(tmp_path / "a.pth").card
        assert card.patch == used and bool(card.notes) == (patch != used)
