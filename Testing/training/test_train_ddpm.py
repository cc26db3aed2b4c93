"""Training of the denoising network: averages, sampling of steps, resuming to the same weights, and the command from end to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from typer.testing import CliRunner  # noqa: E402

from PASTALib.errors import InputError  # noqa: E402
from PASTALib.progress import Cancelled  # noqa: E402
from PASTALib.refinement.checkpoint import read_denoiser  # noqa: E402
from PASTALib.refinement.diffusion import REFINEMENT_MAP, HuMap, Schedule  # noqa: E402
from training.ddpm import Average, Healthy, Settings, train  # noqa: E402
from training.ddpm_scans import training_scans  # noqa: E402
from training.patches import PatchSource, PhantomScan  # noqa: E402
from training.presets import names, preset  # noqa: E402
from training.runs import Run  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def values():
    return preset("train-ddpm", "smoke") | {"side": 8, "steps": 6, "save_every": 2, "validate_every": 3, "log_every": 2}


def run_training(folder, values, scans, *, resume=False, progress=None, **more):
    settings = Settings.of(values)
    with Run.open(folder, "train-ddpm", values, seed=4, resume=resume) as run:
        given = {} if progress is None else {"progress": progress}
        return train(run, settings, scans, scans, seed=4, device="cpu", **given, **more)


def weights_of(folder):
    return torch.load(folder / "latest.pth", weights_only=True)


def equal(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def test_every_preset_is_complete_and_the_paper_is_the_paper():
    for name in names("train-ddpm"):
        Settings.of(preset("train-ddpm", name))
    paper = Settings.of(preset("train-ddpm", "paper"))
    assert (paper.channels[0], paper.timesteps, paper.side, paper.batch) == (16, 1000, 128, 8)
    assert (paper.learning_rate, paper.weight_decay, paper.low_share) == (1e-4, 1e-5, 0.0)


def test_resumed_ends_with_the_same_weights(tmp_path, values, prepared_enhanced):
    """Stopped in the middle of step 4: the last checkpoint is that of step 2 or 4, and the end is the same in every tensor."""
    whole = run_training(tmp_path / "whole", values, [prepared_enhanced])

    def stop(step, of, text):
        if step == 5:
            raise Cancelled("killed")

    with pytest.raises(Cancelled):
        run_training(tmp_path / "parts", values, [prepared_enhanced], progress=stop)
    assert weights_of(tmp_path / "parts")["step"] == 4
    resumed = run_training(tmp_path / "parts", values, [prepared_enhanced], resume=True)
    a, b = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    assert a["step"] == 6 and equal(a, b)
    assert whole.validation == resumed.validation and whole.finished and resumed.finished
    lines = [json.loads(line) for line in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [2, 4, 6]


def test_worker_processes_change_nothing(tmp_path, values, prepared_enhanced):
    run_training(tmp_path / "alone", values, [prepared_enhanced])
    made = run_training(tmp_path / "workers", values | {"workers": 2}, [prepared_enhanced])
    assert made.step == 6 and equal(weights_of(tmp_path / "alone"), weights_of(tmp_path / "workers"))


def test_a_run_out_of_time_stops_in_good_order(tmp_path, values, prepared_enhanced):
    made = run_training(tmp_path / "run", values, [prepared_enhanced], minutes=0.0)
    assert made.step == 0 and not made.finished
    again = run_training(tmp_path / "run", values, [prepared_enhanced], minutes=10.0, resume=True)
    assert again.finished and weights_of(tmp_path / "run")["step"] == 6


def test_it_learns(tmp_path, prepared_enhanced):
    """On one scan, at the early steps: better than saying "no noise" (0.80), and than at the start."""
    values = preset("train-ddpm", "smoke") | {
        "steps": 120, "learning_rate": 1e-2, "warmup": 5, "low_share": 1.0, "low_until": 5, "ema": 0.8, "half": False,
        "validate_every": 120, "save_every": 120, "patches_per_scan": 1,
    }  # fmt: skip
    made = run_training(tmp_path / "run", values, [prepared_enhanced])
    assert made.validation["val_low"] < 0.75
    read = read_denoiser(tmp_path / "run" / "ddpm.pth")
    assert read.trained and read.about["steps"] == 120 and read.about["val_low"] == round(made.validation["val_low"], 5)
    assert read.schedule.steps == 1000 and read.hu_map.intensity == REFINEMENT_MAP
    assert (tmp_path / "run" / "best.pth").is_file()
    for mine, theirs in zip(read.network.parameters(), made.model.network.parameters()):
        torch.testing.assert_close(mine, theirs, atol=1e-3, rtol=1e-3)


def test_average_is_the_recursion_written_out():
    network = torch.nn.Linear(2, 1)
    average, decay = Average(network, 0.9), 0.9
    expected = network.weight.detach().clone()
    for number in range(1, 40):
        torch.nn.init.normal_(network.weight)
        average.update(network)
        d = min(decay, (1 + number) / (10 + number))
        expected = d * expected + (1 - d) * network.weight.detach()
    torch.testing.assert_close(average.values["weight"], expected)
    assert average.updates == 39


def test_samples_are_healthy_patches_with_one_organ(prepared_enhanced):
    source = PatchSource([prepared_enhanced], 16, None, seed=1)
    data = Healthy(source, HuMap(REFINEMENT_MAP))
    for index in range(4):
        image, spoilt, mask, level = data[index]
        patch = source[index]
        assert image.shape == mask.shape == (1, 16, 16, 16) and image.dtype == mask.dtype == torch.float32
        assert -1 <= image.min() and image.max() <= 1 and set(mask.unique().tolist()) <= {0.0, 1.0}
        units = HuMap(REFINEMENT_MAP).units(patch.hu)
        mirrored = [np.flip(units, axes) for axes in ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2))]
        assert sum(np.array_equal(image[0].numpy(), m) for m in mirrored) == 1
        assert float(mask.sum()) in {float(np.count_nonzero(patch.organs == v)) for v in range(1, 11)}
        assert torch.equal(image, spoilt) and 0.01 < level < 0.1  # 4 to 40 HU
        assert all(torch.equal(a, b) for a, b in zip(data[index], (image, spoilt, mask, level)))


def test_spoilt_samples_have_foreign_noise_in_a_part(prepared_enhanced):
    source = PatchSource([prepared_enhanced], 24, None, seed=1)
    hu_map = HuMap(REFINEMENT_MAP)
    clean, data = Healthy(source, hu_map), Healthy(source, hu_map, 1.0)
    for index in range(4):
        sample = data[index]
        touched = float((sample.image != sample.spoilt).float().mean())
        assert 0.005 < touched < 0.9
        assert torch.equal(sample.level, clean[index].level)


def test_spoilt_noise_is_to_be_found(values, prepared_enhanced):
    """A network that names all noise, the foreign too, has no loss."""
    from training.ddpm import Sample, _Loop
    from training.processes import Group

    settings, schedule = Settings.of(values), Schedule()
    loop = _Loop(settings, schedule, HuMap(REFINEMENT_MAP), Group("cpu"), 0, None)
    image = torch.rand(2, 1, 8, 8, 8)
    foreign, noise, times = 0.05 * torch.randn_like(image), torch.randn_like(image), torch.tensor([2, 5])
    kept, sd = (
        torch.tensor(t[[2, 5]], dtype=torch.float32).view(-1, 1, 1, 1, 1) for t in (schedule.kept**0.5, schedule.noise)
    )
    answer = noise + kept / sd * foreign
    batch = Sample(image, image + foreign, torch.zeros_like(image), torch.tensor([0.03, 0.03]))
    loss = loop._loss(lambda inputs, steps, levels: answer, batch, noise, times)
    torch.testing.assert_close(loss, torch.zeros(2), atol=1e-4, rtol=0)


def test_a_broken_loss_is_said_in_one_line(tmp_path, values, prepared_enhanced):
    with pytest.raises(InputError, match="not finite.*learning_rate"):
        run_training(tmp_path / "run", values | {"learning_rate": 1e30, "warmup": 0, "clip": 0.0}, [prepared_enhanced])


@pytest.mark.parametrize(
    "change,words",
    [
        ({"side": 9}, "multiple of 2"),
        ({"steps": 0}, "at least 1"),
        ({"low_until": 5000}, "low_until"),
        ({"ema": 1.0}, "ema"),
    ],
)
def test_settings_that_cannot_be(values, change, words):
    with pytest.raises(InputError, match=words):
        Settings.of(values | change)


def test_scans_are_split(tmp_path, phantom_enhanced):
    from PASTALib.volume import write_volume

    for name in "abc":
        write_volume(phantom_enhanced.ct, tmp_path / f"{name}.nii.gz")
    rows = "".join(f"{name}.nii.gz,{name}.nii.gz\n" for name in "abc")
    (tmp_path / "t.csv").write_text("ct,organs\n" + rows)
    paper = preset("train-ddpm", "paper")
    learn, check = training_scans(paper, tmp_path / "t.csv", None, 0)
    assert [s.ct.name for s in learn] == ["a.nii.gz", "b.nii.gz"] and [s.ct.name for s in check] == ["c.nii.gz"]
    learn, check = training_scans(preset("train-ddpm", "smoke"), tmp_path / "t.csv", None, 0)
    seeds = [{s.seed for s in part if isinstance(s, PhantomScan)} for part in (learn, check)]
    assert len(seeds[0]) == 2 and len(seeds[1]) == 2 and not seeds[0] & seeds[1]
    assert training_scans(paper, None, None, 0) == ([], [])
    with pytest.raises(InputError, match="no case there"):
        training_scans(paper, None, tmp_path, 0)


def invoke(*arguments):
    from training.cli import app

    return CliRunner().invoke(app, ["train-ddpm", *map(str, arguments)])


def test_command_smoke(tmp_path):
    out = tmp_path / "run"
    done = invoke("--out", out, "--preset", "smoke", "--set", "steps=4", "--device", "cpu", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["steps"] == 4 and told["finished"] and 0 < told["val_low"] < 1.2
    read = read_denoiser(told["checkpoint"])
    assert "phantoms" in read.about["source"] and "research use only" in read.about["notes"]
    assert Path(told["picture"]).stat().st_size > 5000
    assert {"config.json", "metrics.jsonl", "latest.pth"} <= {path.name for path in out.iterdir()}
    refused = invoke("--out", out, "--preset", "smoke", "--set", "steps=4", "--set", "batch=1", "--resume")
    assert refused.exit_code == 2 and "batch was 2" in refused.stderr


def test_command_refuses_bad_input(tmp_path):
    for arguments, words in (
        (["--preset", "paper"], "no scans to learn from"),
        (["--preset", "papre"], "paper"),
        (["--preset", "smoke", "--set", "stepps=3"], "steps"),
        (["--preset", "smoke", "--table", tmp_path / "none.csv"], "none.csv"),
        (["--preset", "smoke", "--minutes", "-1"], "--minutes"),
        (["--preset", "smoke", "--device", "tpu"], "tpu"),
    ):
        done = invoke("--out", tmp_path / "run", *arguments)
        assert done.exit_code == 2 and words in done.stderr and len(done.stderr.splitlines()) == 1, done.output


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    """torchrun with gloo: both see half of each batch, gradients are averaged, the first writes; the loss is that of one process."""
    code = (
        "import sys, torch; torch.set_num_threads(1); sys.argv[0] = 'training'\nfrom training.cli import main\nmain()"
    )
    (tmp_path / "go.py").write_text(code)
    arguments = ["train-ddpm", "--preset", "smoke", "--set", "steps=4", "--set", "half=false", "--device", "cpu"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    for name, start in (("two", [*launch, sys.executable]), ("one", [sys.executable])):
        command = [*start, tmp_path / "go.py", *arguments, "--out", tmp_path / name]
        done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr[-3000:]
    two, one = (weights_of(tmp_path / name) for name in ("two", "one"))
    assert two["step"] == one["step"] == 4
    lines = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    assert sum("loss" in line for line in lines) == 1 and sum("val_low" in line for line in lines) == 1
    moved = [float((value - one["network"][name]).abs().max()) for name, value in two["network"].items()]
    assert max(moved) < 1e-2  # noise is drawn by process, so the weights are near, not equal
