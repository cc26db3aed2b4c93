"""Results on disk: round trip, and everything that cannot be compared refused with one line that names the case."""

from __future__ import annotations

from dataclasses import replace

import pytest

from PASTALib.errors import InputError
from training.benchmark.registry import select
from training.benchmark.results import (
    METRICS,
    PREDICTIONS,
    Figure,
    Prediction,
    read_results,
    write_metrics,
    write_predictions,
)

LUNG, BLADDER = "full-lung_tumor", "detect-bladder"


def figures(model="pasta", **changes):
    found = []
    for n in range(4):
        for metric, value in (("dice", 0.5), ("hd95", None), ("lesions", 1.0)):
            found.append(Figure(LUNG, model, 0, 0, n % 2, f"case_{n}", f"p{n}", "lung_tumor", metric, value))
    return [replace(line, **changes) if line.case == "case_2" else line for line in found]


def predictions(model="pasta", **changes):
    found = [
        Prediction(BLADDER, model, 0, 0, n % 2, f"case_{n}", f"p{n}", "label", n % 2, (0.25, 0.75)) for n in range(4)
    ]
    return [replace(line, **changes) if line.case == "case_2" else line for line in found]


def refused(tmp_path, *, metrics=(), made=()):
    if metrics:
        write_metrics(tmp_path / "a" / METRICS, metrics)
    if made:
        write_predictions(tmp_path / "b" / PREDICTIONS, made)
    with pytest.raises(InputError) as caught:
        read_results(tmp_path)
    text = str(caught.value)
    assert "\n" not in text and "case_2" in text, text
    return text


def test_round_trip(tmp_path):
    write_metrics(tmp_path / "x" / "y" / METRICS, figures())
    write_metrics(tmp_path / "z" / METRICS, figures("suprem"))
    write_predictions(tmp_path / PREDICTIONS, [replace(line, time=9.5, event=True) for line in predictions()])
    found = read_results(tmp_path)
    assert list(found.figures) == [*figures(), *figures("suprem")] and found.models == ["pasta", "suprem"]
    assert found.predictions == tuple(replace(line, time=9.5, event=True) for line in predictions())
    assert found.predictions[0].predicted == 1
    assert not read_results(tmp_path, select([BLADDER])).figures
    assert not list(tmp_path.rglob(".*.part"))


def test_groups_of_different_sizes_share_a_file(tmp_path):
    lines = []
    for group, classes in (("shape", 4), ("density", 3), ("heterogeneity", 2), ("surface", 2), ("invasion", 2)):
        p = (1.0,) + (0.0,) * (classes - 1)
        lines.append(Prediction("report", "pasta", 0, 0, 0, "case_2", "p2", group, -1, p))
    write_predictions(tmp_path / PREDICTIONS, lines)
    assert list(read_results(tmp_path).predictions) == lines
    short = [replace(line, p=(0.5, 0.5)) for line in lines]
    text = refused(tmp_path / "other", made=short)
    assert "2 probabilities of shape" in text and "wanted 4" in text


def test_nan_is_refused_on_writing_and_on_reading(tmp_path):
    for bad in (float("nan"), float("inf"), 1.5, -0.1):
        with pytest.raises(InputError, match="case_2"):
            write_metrics(tmp_path / METRICS, figures(metric="dice", value=bad))
    with pytest.raises(InputError, match="case_2.*NaN"):
        write_predictions(tmp_path / PREDICTIONS, predictions(p=(float("nan"), 0.5)))
    assert not list(tmp_path.iterdir())
    write_metrics(tmp_path / METRICS, figures())
    path = tmp_path / METRICS
    path.write_text(path.read_text().replace("case_2,p2,lung_tumor,dice,0.5", "case_2,p2,lung_tumor,dice,nan"))
    assert "is nan" in refused(tmp_path)


def test_probabilities_must_be_such(tmp_path):
    for bad in ((0.9, 0.9), (1.2, -0.2), (1.0,)):
        with pytest.raises(InputError, match="case_2.*sum to 1"):
            write_predictions(tmp_path / PREDICTIONS, predictions(p=bad))
    with pytest.raises(InputError, match="case_2.*truth 5"):
        write_predictions(tmp_path / PREDICTIONS, predictions(truth=5))
    with pytest.raises(InputError, match="case_2.*wanted both"):
        write_predictions(tmp_path / PREDICTIONS, predictions(time=3.0))


def test_a_missing_case(tmp_path):
    short = [line for line in figures("suprem") if line.case != "case_2"]
    text = refused(tmp_path, metrics=[*figures(), *short])
    assert "model suprem has no case 'case_2'" in text and "pasta has" in text
    short = [line for line in predictions("suprem") if line.case != "case_2"]
    assert "has no case" in refused(tmp_path / "other", made=[*predictions(), *short])


def test_a_fold_that_is_not_finished_is_no_missing_case(tmp_path):
    write_metrics(tmp_path / METRICS, [*figures(), *(line for line in figures("suprem") if line.fold == 1)])
    assert len(read_results(tmp_path).figures) == 18


def test_a_patient_in_two_folds_is_a_leak(tmp_path):
    text = refused(tmp_path, metrics=figures(patient="p1"))
    assert "patient 'p1' is tested in the folds" in text and "'case_1'" in text
    assert "training has seen the test" in text
    other = [replace(line, fold=1 - line.fold) if line.case == "case_2" else line for line in figures("suprem")]
    assert "one splits file" in refused(tmp_path / "other", metrics=[*figures(), *other])


def test_a_case_of_two_patients(tmp_path):
    assert "of the patients 'p2' and 'zz'" in refused(
        tmp_path, made=[*predictions(), *predictions("suprem", patient="zz")]
    )


def test_unequal_label_sets(tmp_path):
    assert "wanted lung_tumor" in refused(tmp_path, metrics=figures(label="liver_tumor"))
    lacking = [line for line in figures() if (line.case, line.metric) != ("case_2", "hd95")]
    assert "lacks lung_tumor, hd95" in refused(tmp_path / "other", metrics=lacking)
    assert "labels grade; wanted label" in refused(tmp_path / "third", made=predictions(group="grade"))


def test_a_case_twice(tmp_path):
    assert "is there twice (lung_tumor, dice)" in refused(tmp_path, metrics=[*figures(), *figures()[6:9]])


def test_truths_that_contradict(tmp_path):
    text = refused(tmp_path, made=[*predictions(), *predictions("suprem", truth=1)])
    assert "label is 0 for model pasta and 1 for suprem" in text


def test_only_surface_figures_may_be_blank(tmp_path):
    with pytest.raises(InputError, match="case_2.*dice of lung_tumor is blank"):
        write_metrics(tmp_path / METRICS, figures(metric="dice", value=None))
    with pytest.raises(InputError, match="no such metric"):
        write_metrics(tmp_path / METRICS, figures(metric="Dice", value=0.5))
    with pytest.raises(InputError, match="whole number"):
        write_metrics(tmp_path / METRICS, figures(metric="lesions", value=1.5))


def test_files_of_the_wrong_kind(tmp_path):
    made = [replace(line, task=LUNG, group="lung_tumor") for line in predictions()]
    write_predictions(tmp_path / "b" / PREDICTIONS, made)
    with pytest.raises(InputError, match="is in a predictions.csv, which segmentation does not have"):
        read_results(tmp_path)


def test_tables_that_do_not_read(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        read_results(tmp_path / "none")
    with pytest.raises(InputError, match="run the benchmark first"):
        read_results(tmp_path)
    (tmp_path / METRICS).write_text("task,model\nx,y\n")
    with pytest.raises(InputError, match="no column k"):
        read_results(tmp_path)
    for old, new, told in (
        ("full-lung_tumor,pasta,0,0,1,case_1", "full-lung_tumors,pasta,0,0,1,case_1", "none of the 46"),
        ("pasta,0,0,1,case_1", "pasta,,0,1,case_1", "whole numbers for k"),
        ("case_1,p1,lung_tumor,dice,0.5", "case_1,p1,lung_tumor,dice,half", "'half'"),
    ):
        write_metrics(tmp_path / METRICS, figures())
        (tmp_path / METRICS).write_text((tmp_path / METRICS).read_text().replace(old, new))
        with pytest.raises(InputError, match=told):
            read_results(tmp_path)
    (tmp_path / METRICS).unlink()
    write_predictions(tmp_path / PREDICTIONS, predictions())
    text = (tmp_path / PREDICTIONS).read_text()
    (tmp_path / PREDICTIONS).write_text(text.replace("case_1,p1,label,1,,,0.25", "case_1,p1,label,1,,maybe,0.25"))
    with pytest.raises(InputError, match="line 3: case 'case_1'.*maybe"):
        read_results(tmp_path)
