"""The denoising network's checkpoint: everything is in it, and whatever is no such file is refused in one line."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PASTALib.errors import InputError  # noqa: E402
from PASTALib.inference.intensity import Intensity  # noqa: E402
from PASTALib.refinement.checkpoint import (  # noqa: E402
    ENTRY,
    DenoisingModel,
    random_denoiser,
    read_denoiser,
    save_denoiser,
    state_of,
)
from PASTALib.refinement.diffusion import HuMap, Schedule  # noqa: E402
from PASTALib.refinement.network import DenoiserShape  # noqa: E402

SHAPE = DenoiserShape((8, 16, 24), 2, 4)
LEVEL = torch.tensor([0.03])


@pytest.fixture(scope="module")
def model():
    made = random_denoiser(SHAPE)
    own = HuMap(Intensity((-900.0, 0.0, 900.0), (-1.0, 0.1, 1.0)))
    return DenoisingModel(made.network, Schedule(200, 1e-3, 1e-1), own, {"name": "mine", "notes": ["a note"]})


def test_schedule_map_shape_and_weights_come_from_the_file(model, tmp_path):
    read = read_denoiser(save_denoiser(model, tmp_path / "a.pth", half=False))
    assert (read.network.shape, read.schedule, read.hu_map.intensity) == (SHAPE, model.schedule, model.hu_map.intensity)
    assert read.name == "mine" and read.trained and read.about["notes"] == ["a note"] and len(read.digest) == 16
    inputs, steps = torch.randn(1, 3, 8, 8, 8), torch.tensor([9])
    torch.testing.assert_close(read.network(inputs, steps, LEVEL), model.network(inputs, steps, LEVEL))
    assert not read.network.training


def test_half_precision_halves_the_file_and_hardly_changes_the_network(model, tmp_path):
    half = save_denoiser(model, tmp_path / "half.pth")
    whole = save_denoiser(model, tmp_path / "whole.pth", half=False)
    assert half.stat().st_size < 0.7 * whole.stat().st_size
    inputs, steps = torch.randn(1, 3, 8, 8, 8), torch.tensor([9])
    torch.testing.assert_close(
        read_denoiser(half).network(inputs, steps, LEVEL), model.network(inputs, steps, LEVEL), atol=2e-2, rtol=1e-2
    )
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def _without(state, *keys):
    state[ENTRY] = {key: value for key, value in state[ENTRY].items() if key not in keys}


def _tensor(state, name, value):
    state["state_dict"][name] = value


BROKEN = {
    "no entry": (lambda s: s.pop(ENTRY), "holds no denoising network"),
    "future version": (lambda s: s[ENTRY].update(version=9), "version 9"),
    "no schedule": (lambda s: _without(s, "schedule"), "without its schedule"),
    "no HU map": (lambda s: _without(s, "hu_map"), "without its hu_map"),
    "HU map without inverse": (lambda s: s[ENTRY].update(hu_map={"hu": [0, 1], "values": [1, 0]}), "no inverse"),
    "absurd network": (lambda s: s[ENTRY]["network"].update(channels=[7]), "multiple of the groups"),
    "tensor missing": (lambda s: s["state_dict"].pop("stem.weight"), "stem.weight is missing"),
    "tensor too much": (lambda s: _tensor(s, "more", torch.ones(2)), "more is too much"),
    "tensor of another shape": (lambda s: _tensor(s, "out.bias", torch.ones(2)), "out.bias is"),
    "tensor not finite": (lambda s: _tensor(s, "out.bias", torch.full((1,), float("nan"))), "not finite"),
}


@pytest.mark.parametrize("change,words", BROKEN.values(), ids=BROKEN.keys())
def test_broken_files_are_refused_in_one_line(model, tmp_path, change, words):
    state = state_of(model)
    change(state)
    torch.save(state, tmp_path / "bad.pth")
    with pytest.raises(InputError, match=words) as refused:
        read_denoiser(tmp_path / "bad.pth")
    assert "bad.pth" in str(refused.value) and "\n" not in str(refused.value)


def test_foreign_and_damaged_files(model, tmp_path):
    torch.save({"conv_blocks_context.0.blocks.0.conv.weight": torch.ones(2)}, tmp_path / "pasta.pth")
    with pytest.raises(InputError, match="no denoising network.*train-ddpm"):
        read_denoiser(tmp_path / "pasta.pth")
    data = save_denoiser(model, tmp_path / "whole.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="truncated or damaged"):
        read_denoiser(tmp_path / "cut.pth")
    with pytest.raises(InputError, match="no such file"):
        read_denoiser(tmp_path / "none.pth")


class _Evil:
    def __reduce__(self):
        import os

        return os.system, ("true",)


def test_nothing_from_a_file_is_run(model, tmp_path):
    torch.save(state_of(model) | {"more": _Evil()}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match="refused"):
        read_denoiser(tmp_path / "evil.pth")


def test_where_it_cannot_be_written(model, tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        save_denoiser(model, tmp_path / "no" / "folder" / "a.pth")


def test_random_weights_say_so_and_do_something():
    model = random_denoiser(SHAPE, seed=3)
    assert not model.trained and model.name == "random"
    out = model.network(torch.randn(1, 3, 8, 8, 8), torch.tensor([5]), LEVEL)
    assert 0.05 < float(out.std()) < 50
    again = random_denoiser(SHAPE, seed=3).network.state_dict()
    assert all(np.array_equal(value, again[name]) for name, value in model.network.state_dict().items())
