"""Units of a benchmark: trained, tested out of fold, scored, taken up again, and refused where data or predictions are wrong."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("nnunetv2")

from PASTALib.errors import InputError  # noqa: E402
from PASTALib.progress import Cancelled  # noqa: E402
from PASTALib.volume import Volume, read_volume, write_volume  # noqa: E402
from training.benchmark.metrics import score_masks  # noqa: E402
from training.benchmark.models.interface import FIXED, Preparation  # noqa: E402
from training.benchmark.plan import Conditions, make_plan  # noqa: E402
from training.benchmark.results import read_results  # noqa: E402
from training.benchmark.runner import Workplace, done_units, open_workplace, prepare, run_unit, run_units  # noqa: E402
from training.benchmark.runner.grids import to_grid  # noqa: E402
from training.benchmark.runner.parallel import part_of, run_parallel, write_slurm  # noqa: E402
from training.benchmark.runner.segmentation import in_framework  # noqa: E402
from training.cli import app  # noqa: E402

CPU = torch.device("cpu")
SMALL = {"folds": 2, "small": True, "k": (1,), "draws": 1}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def replicas(tmp_path_factory):
    """Data of two tasks."""
    out = tmp_path_factory.mktemp("replicas")
    ready(out, ["full-liver_tumor", "survival-gastric"], ["trivial"])
    return out / "replicas"


def ready(out: Path, tasks, models, data: Path | None = None, weights=None, **changes):
    plan = make_plan(Conditions(**{**SMALL, **changes}), tasks, models, weights)
    place = Workplace(out, plan, data or out / "replicas", partial=True)
    open_workplace(place, resume=(out / "benchmark.json").is_file())
    material = place.material()
    prepare(place, material)
    return place, material


def unit_of(place, model, fold=0):
    return next(unit for unit in place.plan.units if unit.model == model and unit.fold == fold)


def folder_of(place, unit):
    return place.units / unit.folder(place.plan.entrants[unit.model])


@pytest.mark.parametrize("model", ["pasta", "universal", "trivial"])
def test_masks_are_predicted_out_of_fold_and_scored(model, replicas, tmp_path):
    place, material = ready(tmp_path, ["full-liver_tumor"], [model], replicas)
    unit = unit_of(place, model)
    note = run_unit(place, material, unit, device=CPU)
    (task,) = place.plan.tasks_of(unit.run)
    test = material.splits(task).test(0)
    assert not set(note.get("trained_on", ())) & set(test)
    found = read_results(place.units, [task]).figures_of(task.key)
    assert {line.case for line in found} == set(test) and {line.label for line in found} == {"liver_tumor"}
    for scan in material.scans(task).of(test):  # the scores are those of the masks that were kept
        mask = read_volume(folder_of(place, unit) / "masks" / f"{scan.id}.nii.gz", "labels")
        truth = read_volume(scan.mask, "labels")
        assert mask.array.shape == truth.array.shape and np.allclose(mask.affine, truth.affine, atol=1e-4)
        wanted = score_masks(mask.array, truth.array, truth.spacing_zyx_mm, {"liver_tumor": 2})
        kept = {(line.label, line.metric): line.value for line in found if line.case == scan.id}
        assert kept == pytest.approx({(label, metric): value for label, metric, value in wanted})
        if model == "trivial":
            assert not mask.array.any()
    assert not (folder_of(place, unit) / "work").exists()


@pytest.mark.parametrize("task", ["full-liver_tumor", "mri-liver", "stage-rectal"])
def test_models_run_in_their_authors_preprocessing(task, tmp_path):
    place, material = ready(tmp_path, [task], ["all"], mode="native")
    assert not run_units(place, material, place.plan.units, device="cpu")
    assert set(read_results(place.units).models) == {unit.model for unit in place.plan.units}
    if task == "full-liver_tumor":  # on its own grid each, back on the scan's
        shapes = {path.name.split("-")[0]: set() for path in (tmp_path / "arrays").rglob("*.npy")}
        for path in (tmp_path / "arrays").rglob("*_labels.npy"):
            shapes[path.name.split("-")[0]].add(np.load(path).shape)
        assert all(len(found) == 2 for found in shapes.values())  # 4 mm, and the scan's own voxels for Models Genesis


def test_survival_keeps_times_and_the_patients_lost_early(replicas, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(replicas, data)
    table = data / "private" / "gastric_cancer" / "survival.csv"
    rows = list(csv.DictReader(table.open(newline="")))
    lost = {**rows[-1], "id": "lost", "patient": "lost", "os_days": "90", "event": "0", "ct": "images/lost.nii.gz"}
    ct = read_volume(table.parent / rows[-1]["ct"])
    write_volume(Volume(ct.array + np.int16(1), ct.affine), table.parent / lost["ct"])
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows([*rows, lost])
    place, material = ready(tmp_path / "out", ["survival-gastric"], ["scratch"], data)
    assert not run_units(place, material, place.plan.units, device="cpu")
    (task,) = place.plan.tasks
    lines = read_results(place.units, [task]).predictions_of(task.key)
    by_case = {line.case: line for line in lines if line.model == "scratch"}
    assert by_case["lost"].truth == -1 and (by_case["lost"].time, by_case["lost"].event) == (90.0, False)
    for row in rows:
        line = by_case[row["id"]]
        assert line.time == float(row["os_days"]) and line.event == (row["event"] == "1")
        assert line.truth == int(line.time >= 730.5)
    notes = [
        json.loads((folder_of(place, unit) / "unit.json").read_text())
        for unit in place.plan.units
        if unit.model == "scratch"
    ]
    assert sum(note["trained_on"] for note in notes) == len(
        rows
    )  # nobody learns from the patient whose survival is unknown


def test_guessing_is_the_majority_of_the_training_folds(replicas, tmp_path):
    place, material = ready(tmp_path, ["survival-gastric"], ["trivial"], replicas)
    assert not run_units(place, material, place.plan.units, device="cpu")
    (task,) = place.plan.tasks
    lines = read_results(place.units, [task]).predictions_of(task.key)
    for fold in (0, 1):
        labels = [case.labels["survival"] for case in material.cases(task).of(material.splits(task).training(fold))]
        share = labels.count(1) / len(labels)
        for line in lines:
            if line.fold == fold:
                assert line.p[1] == pytest.approx(share, abs=1e-3)


@pytest.mark.parametrize("model", ["nnunet", "universal"])
def test_a_killed_unit_goes_on_to_the_same_masks(model, replicas, tmp_path):
    wanted = {"budget": "4x2"}
    whole, material = ready(tmp_path / "whole", ["full-liver_tumor"], [model], replicas, **wanted)
    unit = unit_of(whole, model)
    run_unit(whole, material, unit, device=CPU)
    place, material = ready(tmp_path / "killed", ["full-liver_tumor"], [model], replicas, **wanted)

    def stop(step, of, text=""):
        if text.startswith("loss") and step >= of / 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        run_unit(place, material, unit, device=CPU, progress=stop)
    assert not done_units(place, [unit]) and (folder_of(place, unit) / "work").is_dir()
    run_unit(place, material, unit, device=CPU)
    for mask in (folder_of(whole, unit) / "masks").iterdir():
        assert (
            read_volume(folder_of(place, unit) / "masks" / mask.name, "labels").array
            == read_volume(mask, "labels").array
        ).all()
    assert read_results(place.units).figures == read_results(whole.units).figures


@pytest.mark.slow
@pytest.mark.parametrize(("model", "steps"), [("scratch", "7x40"), ("universal", "6x20")])
def test_networks_learn(model, steps, replicas, tmp_path):
    """In nnU-Net's framework and in the loop outside it."""
    place, material = ready(tmp_path, ["full-liver_tumor"], [model], replicas, budget=steps)
    unit = unit_of(place, model)
    place.plan.settings(unit).update(learning_rate=1e-2, optimiser="adamw")  # nnU-Net's SGD takes longer to begin
    run_unit(place, material, unit, device=CPU)
    (task,) = place.plan.tasks
    for scan in material.scans(task).of(material.splits(task).test(0)):
        mask = read_volume(folder_of(place, unit) / "masks" / f"{scan.id}.nii.gz", "labels").array
        truth = read_volume(scan.mask, "labels").array
        both = 2 * ((mask > 0) & (truth > 0)).sum() / ((mask > 0).sum() + (truth > 0).sum())
        assert both > 0.6, f"{scan.id}: {both}"


def test_what_is_done_stays_and_other_weights_are_refused(replicas, tmp_path):
    place, material = ready(tmp_path / "out", ["full-liver_tumor"], ["scratch"], replicas)
    unit = unit_of(place, "scratch")
    first = run_unit(place, material, unit, device=CPU)
    stamp = (folder_of(place, unit) / "metrics.csv").stat().st_mtime_ns
    assert run_unit(place, material, unit, device=CPU) == first
    assert (folder_of(place, unit) / "metrics.csv").stat().st_mtime_ns == stamp
    entrants = dict(place.plan.entrants)
    path = tmp_path / "weights.pth"
    torch.save({"x": torch.zeros(1)}, path)
    entrants["scratch"] = replace(entrants["scratch"], weights=path)
    with pytest.raises(InputError, match="done with weights new, now"):
        run_unit(replace(place, plan=replace(place.plan, entrants=entrants)), material, unit, device=CPU)
    with pytest.raises(InputError, match="seed was 0 .* and is 1 now"):
        ready(tmp_path / "out", ["full-liver_tumor"], ["scratch"], replicas, seed=1)


def test_preprocessed_scans_go_when_no_unit_needs_them(replicas, tmp_path):
    place, material = ready(tmp_path, ["full-liver_tumor"], ["scratch", "universal"], replicas)
    first, other = (unit_of(place, model) for model in ("scratch", "universal"))
    trivial = unit_of(place, "trivial")
    assert not run_units(place, material, [first, trivial], device="cpu")
    assert len(list((tmp_path / "prepared").iterdir())) == 1  # universal is still to come
    assert not run_units(place, material, [other], device="cpu")
    assert not list((tmp_path / "prepared").iterdir())


def test_trained_values_can_be_kept(replicas, tmp_path):
    place, material = ready(tmp_path, ["full-liver_tumor", "survival-gastric"], ["scratch"], replicas)
    place = replace(place, keep_weights=True)
    for run, first in (("full-liver_tumor", "body.seg_outputs.0.weight"), ("survival-gastric", "head.0.weight")):
        unit = next(unit for unit in place.plan.units if unit.run == run and unit.model == "scratch")
        run_unit(place, material, unit, device=CPU)
        kept = torch.load(folder_of(place, unit) / "network.pth", weights_only=True)
        assert first in kept and all(isinstance(value, torch.Tensor) for value in kept.values())


def test_a_leak_in_the_kept_folds_is_refused(replicas, tmp_path):
    place, material = ready(tmp_path, ["full-liver_tumor"], ["trivial"], replicas)
    (path,) = (tmp_path / "splits").glob("*.json")
    folds = json.loads(path.read_text())
    folds["folds"][0].append(folds["folds"][1][0])
    path.write_text(json.dumps(folds))
    case = folds["folds"][1][0]
    with pytest.raises(InputError, match=f"case '{case}' is tested in the folds 0 and 1"):
        place.material().splits(place.plan.tasks[0])


def test_wrong_cases_are_named_before_anything_is_trained(replicas, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(replicas, data)
    (mask,) = data.glob("msd_liver/*/labelsTr/liver_2.nii.gz")
    volume = read_volume(mask, "labels")
    array = volume.array.copy()
    array[0, 0, 0] = 7
    write_volume(Volume(array, volume.affine), mask)
    plan = make_plan(Conditions(**SMALL), ["full-liver_tumor"], ["trivial"])
    place = Workplace(tmp_path / "out", plan, data)
    open_workplace(place)
    with pytest.raises(InputError, match="published are 131"):  # the count, as for any incomplete set
        prepare(replace(place, partial=False), place.material())
    found = replace(place, partial=True)
    assert prepare(found, found.material())["full-liver_tumor"]["cases"] == 3
    mask.unlink()
    with pytest.raises(InputError, match="case liver_2.*missing"):
        prepare(place, place.material())
    shutil.rmtree(data / "msd_liver")
    with pytest.raises(InputError, match="no folder msd_liver or Task03_Liver"):
        prepare(place, place.material())


@pytest.mark.parametrize("task", ["full-liver_tumor", "survival-gastric"])
def test_predictions_that_are_not_finite_are_refused_by_case(task, replicas, tmp_path, monkeypatch):
    place, material = ready(tmp_path, [task], ["scratch"], replicas)
    unit = unit_of(place, "scratch")
    found = material.splits(place.plan.tasks[0]).test(0)[0]

    def spoil(module, where):
        spoilt = getattr(module, where)

        def training(*arguments, **how):
            result = spoilt(*arguments, **how)
            network = result.network if hasattr(result, "network") else result[0]
            with torch.no_grad():
                for value in network.parameters():
                    value.fill_(float("nan"))
            return result

        monkeypatch.setattr(module, where, training)

    from training.benchmark.runner import segmentation
    from training.downstream import recipes

    spoil(*((segmentation, "train_on") if task.startswith("full") else (recipes, "train_part")))
    with pytest.raises(InputError, match=f"case {found}: the prediction is NaN"):
        run_unit(place, material, unit, device=CPU)
    assert not done_units(place, [unit])
    failed = run_units(place, material, [unit, unit_of(place, "trivial")], device="cpu")  # the others go on
    assert len(failed) == 1 and len(done_units(place, place.plan.units)) == 1


# ---------------------------------------------------------------------------------------------------------------
# Grids


@pytest.mark.parametrize("spacing", [None, (2.0, 2.0, 2.0)])
@pytest.mark.parametrize("orientation", ["LPS", "RAS", "PIR"])
def test_label_maps_come_back_from_any_grid(spacing, orientation):
    rng = np.random.default_rng(0)
    affine = np.array([[0, 0, 2.0, 5], [-2.0, 0, 0, 7], [0, 2.0, 0, -3], [0, 0, 0, 1]])
    array = rng.integers(-500, 500, (12, 15, 18)).astype(np.int16)
    mask = np.zeros(array.shape, np.uint8)
    mask[2:7, 3:9, 5:16] = 1
    mask[8:11, 10:14, 2:6] = 2
    preparation = Preparation(spacing, orientation, FIXED, lambda hu: np.asarray(hu, np.float32), (8, 8, 8))
    grid = to_grid([Volume(array, affine)], preparation)
    labels = grid.labels(mask)
    assert labels.shape == grid.images.shape[1:]
    assert (grid.back(labels) == mask).all()
    # a voxel that is marked shows the same brightness there as here
    assert np.isin(grid.images[0][labels == 2], array[mask == 2]).all() and (labels == 2).sum() == (mask == 2).sum()
    # the orientation is what was asked for: the first axis of (x, y, z) rises to its letter
    ramp = np.broadcast_to(
        np.arange(12, dtype=np.int16)[:, None, None], array.shape
    )  # rises along the world axis of column z: +R
    turned = to_grid([Volume(np.ascontiguousarray(ramp), affine)], preparation).images[0]
    along = next(n for n, letter in enumerate(orientation) if letter in "LR")
    rises = np.moveaxis(turned, 2 - along, 0)[:, 0, 0].astype(float)
    assert (np.diff(rises) > 0).all() == (orientation[along] == "R")


def test_which_systems_nnunets_framework_trains():
    plan = make_plan(Conditions(**SMALL), ["full-lung_tumor"], ["all"])
    for mode, wanted in (("paper", {"universal"}), ("native", {"universal", "suprem", "genesis"})):
        own = {
            e.rival.key
            for e in plan.entrants.values()
            if e.rival.trained and not in_framework(e.rival, e.rival.prepare(mode, "segmentation", "ct"))
        }
        assert own & {"pasta", "scratch", "nnunet", "universal", "suprem", "genesis"} == wanted


def test_a_system_from_elsewhere_runs_like_the_others(replicas, tmp_path, monkeypatch):
    from training.benchmark.models import interface

    monkeypatch.setitem(interface._BUILT_IN, "ct-fm", "ctfm:CtFm")
    place, material = ready(tmp_path, ["full-liver_tumor", "survival-gastric"], ["ct-fm"], replicas)
    assert not run_units(place, material, place.plan.units, device="cpu")
    assert read_results(place.units).models == ["ct-fm", "trivial"]


# ---------------------------------------------------------------------------------------------------------------
# Several processes


def test_parts_are_the_whole_and_the_array_runs_them(replicas, tmp_path):
    place, _ = ready(tmp_path / "out", ["full-liver_tumor", "survival-gastric"], ["scratch"], replicas)
    parts = [part_of(place.plan.units, f"{n}/3") for n in range(3)]
    assert sorted((unit for part in parts for unit in part), key=str) == sorted(place.plan.units, key=str)
    for text in ("3/3", "1", "-1/3", "a/b"):
        with pytest.raises(InputError, match="wanted I/N"):
            part_of(place.plan.units, text)
    script, elements = write_slurm(place, place.plan, ["--task", "a b"], "--partition=gpu --time=1-0")
    text = script.read_text()
    assert elements == len(place.plan.units) and f"#SBATCH --array=0-{elements - 1}\n" in text
    assert "#SBATCH --partition=gpu\n#SBATCH --time=1-0\n" in text and "--task 'a b'" in text
    assert text.rstrip().endswith(f'--resume --part "$SLURM_ARRAY_TASK_ID/{elements}"')
    with pytest.raises(InputError, match="'gpu' is no option"):
        write_slurm(place, place.plan, [], "--partition gpu")


@pytest.mark.slow
def test_two_processes_share_the_units(replicas, tmp_path):
    place, _ = ready(tmp_path, ["survival-gastric", "full-liver_tumor"], ["scratch"], replicas)
    told = []
    failed = run_parallel(
        place, place.plan.units, ["cpu", "cpu"], tell=lambda unit, state, about: told.append((unit, state))
    )
    assert not failed and sorted(told, key=str) == sorted(((unit, "done") for unit in place.plan.units), key=str)
    assert len(done_units(place, place.plan.units)) == len(place.plan.units)
    alone, material = ready(tmp_path / "alone", ["survival-gastric"], ["scratch"], replicas)
    run_units(alone, material, alone.plan.units, device="cpu")
    one, two = (read_results(p.units).predictions for p in (alone, place))
    assert sorted(one, key=str) == sorted(two, key=str)  # where a unit is run does not matter


def test_the_command_prepares_an_array_and_its_parts_make_the_whole(tmp_path):
    def call(*words):
        done = CliRunner().invoke(app, ["benchmark", "--out", str(tmp_path / "out"), *words])
        return done

    what = ["--suite", "smoke", "--task", "stage-rectal", "--model", "scratch", "--device", "cpu"]
    found = json.loads(call(*what, "--slurm", "--time=1", "--json").stdout)
    assert found["elements"] == 4 and not (tmp_path / "out" / "units").exists()
    assert (tmp_path / "out" / "slurm.sh").stat().st_mode & 0o100
    assert "holds a benchmark; add --resume" in call(*what).stderr
    for part in range(4):
        done = call(*what, "--resume", "--part", f"{part}/4")
        assert done.exit_code == 0, done.output
    assert not (tmp_path / "out" / "report.html").exists()
    shown = call("--report")
    assert shown.exit_code == 0 and "Rectal cancer" in (tmp_path / "out" / "report.html").read_text()
    whole = json.loads(call(*what, "--resume", "--json").stdout)  # nothing is left to do
    assert whole["done"] == whole["trainings"] == 4 and not whole["failed"]
