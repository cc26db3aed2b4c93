"""All engines compute the same network; the choice between them is measured, kept, and can be overruled."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PASTALib.errors import InputError  # noqa: E402
from PASTALib.inference import engine_choice  # noqa: E402
from PASTALib.inference.engine_choice import choose_engines  # noqa: E402
from PASTALib.inference.engines import EXACT, available, features_suffice, make_engine  # noqa: E402
from PASTALib.networks.unet import NetworkShape, PastaNet, initialise  # noqa: E402
from PASTALib.progress import Cancelled  # noqa: E402

PATCH = (32, 48, 32)
CPU = torch.device("cpu")
HERE = available(CPU)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PASTA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def net():
    return initialise(PastaNet(NetworkShape.of_width(8, 4, classes=12)), 3).eval()


@pytest.fixture(scope="module")
def window():
    return torch.rand(PATCH, generator=torch.Generator().manual_seed(0))


def nothing():
    pass


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("sum_features", [False, True])
def test_every_engine_computes_the_network(name, sum_features, net, window):
    engine = make_engine(name, net, PATCH, CPU, sum_features=sum_features)
    found = engine.run(window, nothing).float()
    with torch.no_grad():
        logits = net(window[None, None])[0].permute(1, 2, 3, 0)
    if sum_features:
        assert engine.channels == 8 and engine.head.shape == (8, 12)
        found = found @ engine.head
    assert found.shape == (*PATCH, 12)
    spread = logits.std()
    worst, mean = (found - logits).abs().max() / spread, (found - logits).abs().mean() / spread
    if name in EXACT:
        assert worst < 0.005
    else:
        assert 0 < mean < 0.05  # bf16 has three digits; and a difference shows that it was used


@pytest.mark.parametrize("name", [n for n in HERE if not n.startswith("torch")])
def test_a_converted_model_is_kept_and_read_again(name, net, window, tmp_path, monkeypatch):
    stem = tmp_path / "kept" / "model"
    first = make_engine(name, net, PATCH, CPU, cache=stem).run(window, nothing).clone()
    files = sorted(f.name for f in stem.parent.iterdir())
    assert files and all(f.startswith("model.") for f in files)
    broken = PastaNet(net.shape).eval()  # other weights: whoever converts again would get other numbers
    again = make_engine(name, broken, PATCH, CPU, cache=stem).run(window, nothing)
    assert torch.equal(first, again)
    for file in stem.parent.iterdir():
        file.write_bytes(b"damaged")
    if name.startswith("openvino"):
        repaired = make_engine(name, net, PATCH, CPU, cache=stem).run(window, nothing)
        assert torch.equal(first, repaired)


def test_a_cache_that_cannot_be_written_is_no_obstacle(net, window, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for name in HERE:
        engine = make_engine(name, net, PATCH, CPU, cache=tmp_path / "file" / "model")
        assert engine.run(window, nothing).shape[:3] == PATCH


@pytest.mark.parametrize("name", HERE)
def test_every_engine_can_be_cancelled_inside_a_window(name, net):
    big = (96, 96, 96)
    engine = make_engine(name, net, big, CPU)
    calls = []

    def check():
        calls.append(1)
        raise Cancelled

    with pytest.raises(Cancelled):
        for _ in range(50):  # an engine that looks only every tenth of a second may finish a window first
            engine.run(torch.rand(big), check)
    assert engine.run(torch.rand(big), nothing).shape[:3] == big  # and works afterwards


def test_features_are_summed_where_that_is_less_work():
    assert features_suffice(PastaNet(NetworkShape.of_width(4, 3, classes=26)))
    assert not features_suffice(PastaNet(NetworkShape.of_width(4, 3, classes=3)))
    assert not features_suffice(PastaNet(NetworkShape.of_width(4, 3, classes=26, biases=True)))


def test_the_quickest_engine_is_measured_once_and_remembered(net, own_cache, monkeypatch):
    speeds = {name: 1.0 + number for number, name in enumerate(reversed(HERE))}
    asked = []
    monkeypatch.setattr(
        engine_choice, "measure", lambda engine, patch, runs: asked.append(engine.name) or speeds[engine.name]
    )
    (best,) = choose_engines([net], PATCH, CPU)
    assert best.name == HERE[-1] and sorted(asked) == sorted(HERE)
    kept = json.loads((own_cache / "engines.json").read_text())
    assert HERE[-1] in kept.values()
    asked.clear()
    (again,) = choose_engines([net], PATCH, CPU)
    assert again.name == HERE[-1] and not asked


def test_fp32_keeps_to_full_precision(net, monkeypatch):
    asked = []
    monkeypatch.setattr(engine_choice, "measure", lambda engine, patch, runs: asked.append(engine.name) or 1.0)
    (engine,) = choose_engines([net], PATCH, CPU, "fp32")
    assert engine.name in EXACT and set(asked) <= set(EXACT)


def test_few_windows_are_not_worth_converting_a_model(net, monkeypatch):
    monkeypatch.setattr(engine_choice, "measure", lambda engine, patch, runs: 0.0 if "vino" in engine.name else 1.0)
    (engine,) = choose_engines([net], PATCH, CPU, windows=2)
    assert engine.name.startswith("torch")


def test_an_engine_that_fails_here_is_passed_over(net, monkeypatch):
    def measure(engine, patch, runs):
        if engine.name != "torch-fp32":
            raise RuntimeError("illegal instruction")
        return 9.0

    told = []
    monkeypatch.setattr(engine_choice, "measure", measure)
    (engine,) = choose_engines([net], PATCH, CPU, tell=told.append)
    assert engine.name == "torch-fp32"
    if len(HERE) > 1:
        assert any("does not run here" in line for line in told)


def test_a_damaged_memory_of_measurements_is_ignored(net, own_cache):
    own_cache.mkdir()
    (own_cache / "engines.json").write_text("[1, 2")
    (engine,) = choose_engines([net], PATCH, CPU, "fp32", windows=1)
    assert engine.name == "torch-fp32"


@pytest.mark.parametrize("wanted", ["openvino-fp16", "fast", "torch-half"])
def test_unknown_and_unavailable_engines_are_named(net, wanted):
    with pytest.raises(InputError, match=wanted) as error:
        choose_engines([net], PATCH, CPU, wanted)
    assert "torch-fp32" in str(error.value) and "\n" not in str(error.value)


def test_real_measuring_gives_a_time(net):
    assert 0 < engine_choice.measure(make_engine("torch-fp32", net, PATCH, CPU), PATCH) < 60


def test_engines_of_an_ensemble_return_logits(net):
    both = choose_engines([net, net], PATCH, CPU, "torch-fp32")
    assert len(both) == 2 and all(engine.head is None and engine.channels == 12 for engine in both)
    assert np.isfinite(both[1].run(torch.rand(PATCH), nothing).numpy()).all()
