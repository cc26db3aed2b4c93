"""Segmentation in cross-validation, with all training scans or a few: every unit trained, tested out of fold, and scored by Dice."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

import numpy as np

from PASTALib.errors import InputError
from PASTALib.inference.segmentation import segment
from PASTALib.networks.load import load_model
from PASTALib.progress import Progress, silent
from PASTALib.volume import Volume, from_canonical

from ..runs import CONFIG, Run, write_json
from ..segmentation.plans import CONFIGURATION
from .finetuning import PastaFoldTrainer, Trained, tidy, train_on, write_model
from .labelled import ScanSet, canonical_images, read_images, read_mask
from .recipes import SUMMARY
from .splits import Splits, draw_order, inner_split
from .start import Source

DICE, DRAWS = "dice.csv", "draws.json"
POLICY = (
    "dice: mean over the scans that show the label, as the authors' script counts (a label predicted where there is none goes unpunished); "
    "dice_all: mean over all scans, 1 where neither mask nor prediction has the label, 0 where only one of them has"
)
_HEAD = (
    "id",
    "patient",
    "fold",
    "k",
    "run",
    "label",
    "voxels",
    "predicted_voxels",
    "common_voxels",
    "dice",
    "dice_all",
)


@dataclass(frozen=True)
class Unit:
    """One training: a fold, and for few-shot learning how many scans (``k``) and which draw (``run``)."""

    fold: int
    k: int = 0
    run: int = 0

    @property
    def folder(self) -> Path:
        """Below the study's folder."""
        return Path(f"fold_{self.fold}") / (f"k{self.k:02d}_run{self.run}" if self.k else "")

    def to_json(self) -> dict:
        """JSON-ready."""
        return {"fold": self.fold} | ({"k": self.k, "run": self.run} if self.k else {})


@dataclass(frozen=True)
class Study:
    """What all units share. ``scans``: the files as given; ``canonical``: the same in canonical space, which is trained on."""

    command: str
    scans: ScanSet
    canonical: ScanSet
    settings: Mapping[str, Any]
    start: Source
    splits: Splits
    seed: int
    draws: Mapping[str, Mapping[str, Sequence[str]]]  # fold -> run -> ids in the order of drawing

    def learning(self, unit: Unit) -> tuple[list[str], list[str]]:
        """Ids to learn from and ids to choose weights by (none where nothing is chosen), all of the training folds."""
        if unit.k:
            names, share = self.draws[str(unit.fold)][str(unit.run)][: unit.k], 0.0
        else:
            names, share = self.splits.training(unit.fold), self.settings["validation_share"]
        return inner_split(self.scans.of(names), share, self.seed_of(unit))

    def seed_of(self, unit: Unit) -> int:
        """Of new weights and patches."""
        return int(np.random.default_rng([self.seed, unit.fold, unit.k, unit.run]).integers(2**31))


def kept_draws(
    path: Path, scans: ScanSet, splits: Splits, settings: Mapping[str, Any], seed: int
) -> dict[str, dict[str, list[str]]]:
    """The few-shot draws of every fold and run, kept in ``path``: made there, or compared with what was made before."""
    unknown = [name for name in settings["draw_labels"] if name not in scans.labels]
    if unknown:
        raise InputError(f"draw_labels {unknown[0]!r} is not a label; there are {', '.join(scans.labels)}")
    if not settings["k"] or min(settings["k"]) < 1 or settings["runs"] < 1:
        raise InputError(f"k {settings['k']}, runs {settings['runs']}; wanted numbers of scans, and 1 or more runs")
    wanted = [scans.labels[name] for name in settings["draw_labels"] or scans.labels]
    holds = {scan.id: scan.holds for scan in scans.scans}
    draws: dict[str, dict[str, list[str]]] = {}
    for fold in range(len(splits.folds)):
        training = scans.of(splits.training(fold))
        try:
            draws[str(fold)] = {
                str(run): draw_order(training, max(settings["k"]), [seed, fold, run], settings["draw"], holds, wanted)
                for run in range(settings["runs"])
            }
        except InputError as error:
            raise InputError(f"fold {fold}: {error}") from None
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != draws:
        raise InputError(f"{path}: holds other draws; the scans have changed: begin anew in another folder")
    write_json(path, draws)
    return draws


def run_unit(
    out: Path, study: Study, unit: Unit, *, device, workers: int = 0, resume: bool = False, progress: Progress = silent
) -> dict[str, Any]:
    """Train one unit, segment its fold's test scans, and write model, Dice and summary; a finished one is read."""
    folder = out / unit.folder
    if resume and (folder / SUMMARY).is_file():
        tidy(folder, keep=not study.scans.plain_ct)  # where an earlier call was stopped in between
        return json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    again = resume and (folder / CONFIG).is_file()
    settings = {**study.settings, **unit.to_json()}
    learn, choose = study.learning(unit)
    with Run.open(folder, study.command, settings, seed=study.seed, resume=again, overwrite=not again) as run:
        trained = train_on(
            run,
            study.canonical,
            learn,
            choose,
            study.settings,
            study.start,
            seed=study.seed_of(unit),
            device=device,
            workers=workers,
            resume=again,
            progress=progress,
        )
        rows = _score(run, study, unit, trained, device, progress)
        _write_rows(folder / DICE, rows)
        summary = {
            **unit.to_json(),
            "trained_on": learn,
            "chosen_by": choose,
            "start": trained.start,
            **figures(rows, study.scans.labels),
        }
        write_json(folder / SUMMARY, summary)
    tidy(folder, keep=not study.scans.plain_ct)
    return summary


def summarise(out: Path, study: Study, units: Sequence[Unit]) -> dict[str, Any]:
    """Figures over all finished units, written to ``out``: out-of-fold Dice pooled over scans, and over folds and runs."""
    done = [unit for unit in units if (out / unit.folder / SUMMARY).is_file()]
    rows, by_unit = [], []
    for unit in done:
        with (out / unit.folder / DICE).open(newline="", encoding="utf-8") as stream:
            rows += list(csv.DictReader(stream))
        by_unit.append(json.loads((out / unit.folder / SUMMARY).read_text(encoding="utf-8")))
    _write_rows(out / DICE, rows)
    summary: dict[str, Any] = {
        "command": study.command,
        "units_done": len(done),
        "units": len(units),
        "policy": POLICY,
        "weights_chosen": _how_chosen(study.settings),
        "labels": dict(study.scans.labels),
    }
    if study.command == "fewshot":
        by_k = defaultdict(list)
        for row in rows:
            by_k[int(row["k"])].append(row)
        summary["by_k"] = {str(k): _of_k(by_k[k], by_unit, k, study.scans.labels) for k in sorted(by_k)}
    else:
        summary["pooled"] = figures(rows, study.scans.labels)
    summary["by_unit"] = by_unit
    write_json(out / SUMMARY, summary)
    return summary


def figures(rows: Sequence[Mapping[str, Any]], labels: Mapping[str, int]) -> dict[str, Any]:
    """Dice by label and their mean, under both rules of ``POLICY``; ``false_positives``: scans without the label where it was predicted."""
    by_label = {}
    for name in labels:
        mine = [row for row in rows if row["label"] == name]
        shown = [float(row["dice"]) for row in mine if row["dice"] != ""]
        by_label[name] = {
            "scans": len(mine),
            "scans_with": len(shown),
            "dice": mean(shown) if shown else None,
            "dice_all": mean(float(row["dice_all"]) for row in mine) if mine else None,
            "false_positives": sum(int(row["voxels"]) == 0 < int(row["predicted_voxels"]) for row in mine),
        }
    found = {key: [entry[key] for entry in by_label.values() if entry[key] is not None] for key in ("dice", "dice_all")}
    return {"by_label": by_label, "mean": {key: mean(values) if values else None for key, values in found.items()}}


def dice_rows(truth: np.ndarray, predicted: np.ndarray, labels: Mapping[str, int]) -> list[dict[str, Any]]:
    """One row of counts and Dice per label; ``dice`` is blank where the mask does not have it."""
    size = max(labels.values()) + 1
    in_truth, in_found = np.bincount(truth.ravel(), minlength=size), np.bincount(predicted.ravel(), minlength=size)
    common = np.bincount(truth[truth == predicted], minlength=size)
    rows = []
    for name, value in labels.items():
        a, b, both = int(in_truth[value]), int(in_found[value]), int(common[value])
        dice = 2 * both / (a + b) if a + b else 1.0
        rows.append(
            {
                "label": name,
                "voxels": a,
                "predicted_voxels": b,
                "common_voxels": both,
                "dice": dice if a else "",
                "dice_all": dice,
            }
        )
    return rows


def by_nnunet(volumes: Sequence[Volume], trained: Trained, settings: Mapping[str, Any], device) -> np.ndarray:
    """The label map (z, y, x), uint8, of a scan's images by nnU-Net's own predictor, in canonical space and back.

    Takes what our own inference does not: several images, ones that are normalised one by one (MRI), and networks that are not PASTA's.
    """
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    moved = canonical_images(volumes, settings["spacing_mm"])
    with contextlib.redirect_stdout(io.StringIO()):
        predictor = nnUNetPredictor(settings["step"], True, settings["mirroring"], device=device, allow_tqdm=False)
        manager = PlansManager(trained.plans)
        configuration = manager.get_configuration(CONFIGURATION)
        network = trained.network.to(device)
        predictor.manual_initialization(
            network,
            manager,
            configuration,
            [network.state_dict()],
            trained.described,
            PastaFoldTrainer.__name__,
            (0, 1, 2),
        )
        stack = np.stack([image.volume.array.astype(np.float32) for image in moved])
        spacing = [float(mm) for mm in moved[0].volume.spacing_zyx_mm]
        found = predictor.predict_single_npy_array(stack, {"spacing": spacing})
    return from_canonical(np.asarray(found, np.uint8), moved[0], volumes[0], "labels").array


# ---------------------------------------------------------------------------------------------------------------


def _score(run: Run, study: Study, unit: Unit, trained: Trained, device, progress: Progress) -> list[dict[str, Any]]:
    name = f"{study.scans.name}-{str(unit.folder).replace('/', '-')}"
    model = None
    if study.scans.plain_ct:
        model = load_model(write_model(run, trained, study.scans, name, study.start, study.settings))
    rows = []
    test = study.scans.of(study.splits.test(unit.fold))
    for number, scan in enumerate(test):
        progress(number, len(test), f"testing {scan.id}")
        volumes = read_images(scan, study.scans.channels)
        truth = read_mask(scan, volumes[0])
        if model is not None:
            found = segment(
                volumes[0],
                model,
                device=str(device),
                step=study.settings["step"],
                mirroring=study.settings["mirroring"],
            ).labels.array
        else:
            found = by_nnunet(volumes, trained, study.settings, device)
        about = {"id": scan.id, "patient": scan.patient, "fold": unit.fold, "k": unit.k, "run": unit.run}
        rows += [about | row for row in dice_rows(truth, found, study.scans.labels)]
    progress(len(test), len(test), "tested")
    return rows


def _of_k(rows, by_unit, k: int, labels: Mapping[str, int]) -> dict[str, Any]:
    """Pooled figures of one K, and mean and standard deviation of a run's mean Dice over its folds."""
    runs = defaultdict(list)
    for unit in by_unit:
        if unit["k"] == k and unit["mean"]["dice"] is not None:
            runs[unit["run"]].append(unit["mean"]["dice"])
    means = [mean(values) for _, values in sorted(runs.items())]
    spread = {"runs": len(means), "mean": mean(means), "sd": pstdev(means)} if means else {"runs": 0}
    return {**figures(rows, labels), "over_runs": spread}


def _how_chosen(settings: Mapping[str, Any]) -> str:
    if settings["choose"] == "last":
        return "those of the last step; nothing was chosen"
    share = settings["validation_share"]
    return f"best running pseudo Dice on {share:.0%} of the training folds' patients, set aside; never on the fold that is reported"


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    part = path.with_name(f".{path.name}.part")
    with part.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, _HEAD)
        writer.writeheader()
        writer.writerows(rows)
    part.replace(path)
