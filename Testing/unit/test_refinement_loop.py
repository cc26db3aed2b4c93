"""The closed loop of refinement: measured again, blended back or dropped, recorded; and through worker and command line."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from PASTALib import taxonomy
from PASTALib.errors import InputError
from PASTALib.progress import Cancelled
from PASTALib.refinement.closed_loop import MOST_MEAN_HU, contradiction, refine_lesion, refinement_note
from PASTALib.refinement.plan import RefinePlan
from PASTALib.synthesis.spec import Measurement
from PASTALib.volume import Volume


class Stand:
    """Stands in for the network: adds ``change(hu, label)``; remembers how it was called."""

    name = "stand-in"

    def __init__(self, change):
        self.change, self.calls = change, []

    def __call__(self, hu, label, organ, changed, plan, *, noise_hu, noise_power, order, seed, progress, on_step):
        self.calls.append({"plan": plan, "noise_hu": noise_hu, "order": order, "seed": seed, "shape": hu.shape})
        self.organ = organ
        progress(0, plan.steps, "refining")
        out = np.where(changed, hu + self.change(hu, label), hu).astype(np.float32)
        if on_step is not None:
            on_step(1, 1, out)
        return out


def noise(sd):
    return lambda hu, label: sd * np.random.default_rng(0).standard_normal(hu.shape)


@pytest.mark.parametrize("lesion", ["liver_tumor", "kidney_cyst", "esophageal_cancer", "pancreas_tumor", "lung_tumor"])
def test_remeasuring_an_unchanged_lesion_finds_its_labels(case, lesion):
    """The loop judges by the same measure as the generator, or it would see contradictions that are none."""
    from PASTALib.refinement.closed_loop import _measuring

    scan, result = case(lesion)
    found = _measuring(scan, result, scan.local_noise(scan.ct.to_index(np.array(result.center_ras))))(result.after)
    assert found.values == result.measurement.values and found.ambiguous == result.measurement.ambiguous
    for key in ("density_delta_hu", "edge_width_mm"):
        assert found.figures[key] == pytest.approx(result.measurement.figures[key], nan_ok=True, abs=0.5)


def test_as_much_is_kept_as_fits_the_scans_noise(case):
    """A network that leaves too much noise: a part of its change, with which the lesion looks more like the scan than with all of it."""
    from PASTALib.refinement.closed_loop import _fitting_share
    from PASTALib.synthesis.measure_noise import noise_sd

    scan, result = case("liver_cyst", size_mm=(40.0, 40.0, 40.0))
    change = np.where(result.changed, noise(3 * scan.noise.sd_hu)(result.after, None), 0).astype(np.float32)
    local = scan.local_noise(scan.ct.to_index(np.array(result.center_ras)))
    share = _fitting_share(scan, result, change, local)
    assert share == 0.4  # the least that is tried
    core = result.label & (ndimage.distance_transform_edt(result.label, sampling=scan.spacing) > 8)
    sds = [noise_sd(result.after + part * change, core, scan.spacing) for part in (0.0, share, 1.0)]
    assert abs(sds[1] - sds[0]) < 0.5 * abs(sds[2] - sds[0])
    assert _fitting_share(scan, result, 0.005 * change, local) == 1.0  # hardly a change: all of it
    assert (
        _fitting_share(scan, replace(result, label=np.zeros_like(result.label)), change, local) == 1.0
    )  # nothing to judge by


def test_a_harmless_change_is_kept_whole(case):
    scan, result = case("liver_tumor", size_mm=(40.0, 40.0, 40.0))
    shown = []
    stand = Stand(noise(1.0))
    refined = refine_lesion(scan, result, stand, on_step=lambda step, of, hu: shown.append((step, of, hu)))
    record = refined.parameters["refinement"]
    assert record["applied"] and record["strength"] == 1.0 and record["model"] == "stand-in" and not record["faults"]
    assert (record["mode"], record["start"], record["steps"]) == ("sdedit", 5, 5)
    assert np.array_equal(refined.after[~result.changed], result.after[~result.changed])
    assert (refined.after != result.after).any() and np.array_equal(refined.after, np.rint(refined.after))
    assert refined.report is result.report and refined.measurement.values == result.measurement.values
    assert refined.measurement.figures != result.measurement.figures
    assert shown[0][2].shape == result.after.shape and refinement_note(refined) == ""
    call = stand.calls[0]
    assert call["seed"] == result.request.seed and call["order"] == (0, 1, 2)
    assert call["noise_hu"] == pytest.approx(scan.noise.sd_hu, rel=0.5)
    assert all(a >= b for a, b in zip(call["shape"], result.after.shape)) and stand.organ.any()
    json.dumps(record)  # fit for case.json


def test_a_change_of_the_mean_is_blended_back(case):
    """+7 HU would be too much; at 60 % it is 4.2 HU."""
    scan, result = case("liver_tumor", size_mm=(40.0, 40.0, 40.0))
    refined = refine_lesion(scan, result, Stand(lambda hu, label: 7.0 * label))
    record = refined.parameters["refinement"]
    assert record["applied"] and record["strength"] == 0.6 and "mean" in record["faults"][0]
    shift = refined.after[result.label].mean() - result.after[result.label].mean()
    assert 0 < shift <= MOST_MEAN_HU and record["mean_change_hu"] == pytest.approx(shift, abs=1e-3)
    assert "60 %" in refinement_note(refined)


def test_a_change_of_a_label_is_dropped(case):
    """Homogeneous would become heterogeneous, whatever the strength."""
    scan, result = case("kidney_cyst")
    assert result.report.value("heterogeneity") == "Homogeneous"
    stripes = lambda hu, label: 90.0 * np.sign(np.sin(np.arange(hu.shape[2]) / 1.5))  # noqa: E731
    refined = refine_lesion(scan, result, Stand(stripes))
    record = refined.parameters["refinement"]
    assert not record["applied"] and len(record["faults"]) >= 2
    np.testing.assert_array_equal(refined.after, result.after)
    assert refined.measurement is result.measurement and refinement_note(refined).startswith("not refined: ")


@pytest.mark.parametrize("lesion", ["gallstone", "kidney_stone"])
def test_stones_are_left_alone(case, lesion):
    scan, result = case(lesion)
    stand = Stand(noise(5.0))
    refined = refine_lesion(scan, result, stand)
    assert not stand.calls and refined.after is result.after
    assert "stones" in refinement_note(refined)


def test_lung_is_refined_less(case):
    scan, result = case("lung_tumor")
    stand = Stand(noise(1.0))
    record = refine_lesion(scan, result, stand).parameters["refinement"]
    assert stand.calls[0]["plan"] == RefinePlan(start=2, steps=2) and "lung" in record["limited"]


def test_without_weights_everything_stays_and_it_is_said(case):
    scan, result = case("liver_tumor")
    refined = refine_lesion(scan, result, None)
    assert refined.after is result.after and refined.report is result.report
    assert "no denoising network" in refinement_note(refined)


def test_no_noise_no_change(case):
    scan, result = case("liver_tumor")
    refined = refine_lesion(scan, result, Stand(lambda hu, label: 0.0))
    assert "noise" in refinement_note(refined) and refined.after is result.after


def test_cancel_passes_through(case):
    scan, result = case("liver_tumor")

    def stop(*_):
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        refine_lesion(scan, result, Stand(noise(1.0)), progress=stop)


def test_contradictions():
    def measured(values, ambiguous=(), **figures):
        return Measurement((1, 1, 1), values, ambiguous, figures)

    hypo = measured({"density": "Hypodense"}, edge_width_mm=3.0)
    assert contradiction(hypo, hypo, 4.9) == ""
    assert "mean" in contradiction(hypo, hypo, -5.1)
    assert "density would be Isodense, not Hypodense" in contradiction(hypo, measured({"density": "Isodense"}), 0)
    assert "between two options" in contradiction(hypo, measured({}, ("density",)), 0)
    assert "not None" in contradiction(measured({}), hypo, 0)
    assert "3.5 mm wide, not 3.0 mm" in contradiction(hypo, measured(hypo.values, edge_width_mm=3.5), 0)
    assert contradiction(hypo, measured(hypo.values, edge_width_mm=3.4), 0) == ""
    assert contradiction(hypo, measured(hypo.values, edge_width_mm=float("nan")), 0) == ""


# ---------------------------------------------------------------------------------------------------------------
# With a network


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    pytest.importorskip("torch")
    from PASTALib.refinement.checkpoint import random_denoiser, save_denoiser
    from PASTALib.refinement.network import DenoiserShape

    model = random_denoiser(DenoiserShape((8, 16)))
    return save_denoiser(model, tmp_path_factory.mktemp("weights") / "ddpm.pth", half=False)


def _oblique(ct, organs, degrees=20.0):
    """The same voxels, lying askew in the world, with the axes stored as (x, z, y)."""
    turn = np.eye(4)
    angle = np.radians(degrees)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    order = (2, 0, 1)

    def move(volume):
        affine = turn @ volume.affine
        affine[:3, :3] = affine[:3, [2 - axis for axis in order[::-1]]]
        return Volume(np.ascontiguousarray(volume.array.transpose(order)), affine, dict(volume.meta))

    return move(ct), replace(organs, labels=move(organs.labels), structures=move(organs.structures))


@pytest.mark.parametrize("kind", ["anisotropic", "oblique"])
def test_scans_of_any_grid(weights, kind, phantom_enhanced):
    from PASTALib.phantom import make_phantom
    from PASTALib.refinement.refine import Refiner
    from PASTALib.synthesis.generator import insert, synthesise
    from PASTALib.synthesis.scan import prepare_scan
    from PASTALib.synthesis.spec import LesionRequest

    if kind == "anisotropic":
        made = make_phantom((5.0, 0.7, 0.7), shape=(22, 180, 240), region="abdomen")
        ct, organs = made.ct, made.organs
    else:
        ct, organs = _oblique(phantom_enhanced.ct, phantom_enhanced.organs)
    scan = prepare_scan(ct, organs)
    result = synthesise(scan, LesionRequest("liver_tumor", seed=3))
    original = scan.ct.array.copy()
    refined = refine_lesion(scan, result, Refiner(weights, "cpu", "fp32"), RefinePlan(largest_change=0.3))
    np.testing.assert_array_equal(scan.ct.array, original)
    assert refined.parameters["refinement"]["applied"], refined.parameters["refinement"]
    assert (refined.after != result.after).any()
    insert(scan, refined)
    untouched = np.ones(original.shape, bool)
    untouched[result.region] = ~result.changed
    np.testing.assert_array_equal(scan.ct.array[untouched], original[untouched])


def test_through_the_worker_it_is_the_same(case, weights):
    from PASTALib.refinement.refine import Refiner
    from PASTALib.refinement.remote import WorkerRefiner
    from PASTALib.worker import Worker

    scan, result = case("liver_tumor")
    here, there = [], []
    settings = {"device": "cpu", "engine": "fp32"}
    direct = refine_lesion(scan, result, Refiner(weights, **settings), on_step=lambda *step: here.append(step))
    with Worker() as worker:
        refiner = WorkerRefiner(worker, weights, settings)
        refiner.load()
        remote = refine_lesion(scan, result, refiner, on_step=lambda *step: there.append(step))
        with pytest.raises(InputError, match="unknown setting"):
            WorkerRefiner(worker, weights, {"colour": "red"}).load()
    np.testing.assert_allclose(remote.after, direct.after, atol=1)  # other numbers of threads round otherwise
    assert refiner.told == {"model": "random", "trained": False, "engine": "fp32", "device": "cpu"}
    assert there[-1][:2] == (5, 5) and [step for step, *_ in there] == sorted({step for step, *_ in there})
    by_step = {step: hu for step, _, hu in here}
    for step, _, hu in there:
        np.testing.assert_allclose(hu, by_step[step], atol=0.5)


def test_synth_refines_and_writes_it_down(weights, phantom_enhanced, tmp_path):
    from typer.testing import CliRunner

    from PASTALib.cases import read_case
    from PASTALib.cli import app
    from PASTALib.volume import write_volume

    write_volume(phantom_enhanced.ct, tmp_path / "ct.nii.gz")
    write_volume(phantom_enhanced.organs.labels, tmp_path / "organs.nii.gz")
    arguments = [
        "synth",
        "--ct",
        tmp_path / "ct.nii.gz",
        "--organs",
        tmp_path / "organs.nii.gz",
        "--lesion",
        "liver_tumor",
    ]
    runs = {}
    for name, choice in (("refined", weights), ("plain", "none")):
        arguments += ["--json"]
        done = CliRunner().invoke(app, [*map(str, arguments), "--refine", str(choice), "--out", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
        runs[name] = read_case(json.loads(done.stdout)["case"])
    record = runs["refined"].record["lesions"][0]["parameters"]["refinement"]
    assert record["applied"] and record["model"] == "ddpm"
    assert runs["refined"].record["options"]["refinement"] == "ddpm.pth"
    assert runs["plain"].record["options"]["refinement"] == "none"
    differ = runs["refined"].ct.array != runs["plain"].ct.array
    region = tuple(slice(*pair) for pair in runs["plain"].record["lesions"][0]["region_zyx"])
    assert differ[region].any() and differ.sum() == differ[region].sum()
    assert taxonomy.lesion("liver_tumor").value and np.array_equal(
        runs["refined"].label.array, runs["plain"].label.array
    )
