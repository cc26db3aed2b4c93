"""Section starter: how well the starter weights segment and describe what they never saw. Nothing here was used to train or to choose them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from PASTALib import taxonomy
from PASTALib.cases import find_cases
from PASTALib.errors import InputError
from PASTALib.inference.segmentation import segment
from PASTALib.networks.load import PastaModel, load_model
from PASTALib.volume import read_volume

from .hosts import ROOT, data_folder
from .options import Options
from .tables import Check, Section, number, percent, table

PHANTOM_SEED = 900_001  # of torsos that no training used
PHANTOMS, PER_TYPE, PER_TYPE_REAL = 3, 4, 20
# real scans with real lesions: folder, what the lesion is; the last three are of a type that the network does not know
LESIONS = {
    "S03": ("S03_cmbcrc01068", "lung nodule, 23 mm, 2.5 mm slices"),
    "S04": ("S04_lungpat1", "lung cancer, 88 mm, 3 mm slices"),
    "S05": ("S05_lungpat2", "lung cancer, 23 mm, 3 mm slices"),
    "S06": ("S06_sts002", "soft tissue sarcoma, gluteal, 47 mm"),
    "S07": ("S07_sts005", "soft tissue sarcoma, shoulder, 104 mm"),
    "S08": ("S08_sts036", "soft tissue sarcoma, thigh, 87 mm"),
}


def run(options: Options) -> Section:
    """Synthetic lesions in unseen phantoms and in a CT left out of training, then real lesions; without weights nothing is measured."""
    from training.segmentation.evaluate import evaluate, evaluate_attributes

    section = Section("starter weights")
    try:
        model = load_model("starter")
    except InputError as error:
        section.text.append(f"not measured: {error}")
        return section
    section.title = f"starter weights ({model.card.source})"
    scores = {}
    for name, cases in _sets(options, section).items():
        found = evaluate(model, cases)
        found["attributes"] = evaluate_attributes(model, cases)
        scores[name] = found
        section.text += [f"### {name}: {found['cases']} cases", _organ_table(found), _lesion_table(found)]
        section.text.append(_attribute_table(found["attributes"]))
    section.text += ["### real lesions", _real_table(real := real_lesions(model))]
    if not real:
        section.text[-1] = "none: no real scans at PASTA_TEST_DATA"
    agreement = steps_agree(model)
    if agreement is not None:
        section.checks.append(Check("S01: same label at window step 0.6 as at 0.5", 100 * agreement, 98, 100, "%", 1))
    for name, found in scores.items():
        count = found["cases"]
        section.checks.append(Check(f"{name}: organ Dice, mean", found["mean"]["organ_dice"], 0.7, 1, "", count))
        section.checks.append(
            Check(
                f"{name}: lesions found as some lesion",
                100 * found["mean"]["sensitivity_any_type"],
                50,
                100,
                "%",
                count,
            )
        )
        better = [entry["accuracy"] > entry["majority"] for entry in found["attributes"].values()]
        section.checks.append(
            Check(f"{name}: attributes told better than by majority", percent(better), 50, 100, "%", len(better))
        )
    section.data = {"scores": scores, "real": real, "step_agreement": agreement}
    return section


def _sets(options: Options, section: Section) -> dict[str, list[Path]]:
    """Generated cases by what they lie in; made once and kept."""
    count = PER_TYPE if options.cases is None else options.cases
    made = {
        "unseen phantoms": _generate(
            options, "starter-phantoms", options.lesions, count, "--phantom", "2", "--set", f"phantoms={PHANTOMS}"
        )
    }
    case = data_folder() / "cases" / LESIONS["S03"][0]
    if not (case / "ct.nii.gz").is_file():
        section.text.append("S03 left out: it is not in the folder of real scans (PASTA_TEST_DATA)")
        return made
    count = PER_TYPE_REAL if options.real_cases is None else options.real_cases
    folder = options.out / f"starter-s03-{count}"
    cases = []
    for seed in range(count):
        if not (folder / str(seed)).is_dir():
            given = ["--ct", case / "ct.nii.gz", "--organs", case / "organs.nii.gz", "--seed", seed]
            _run([*_SYNTH, *given, "--out", folder / str(seed)])
        cases += find_cases(folder / str(seed))
    made["synthetic lung tumors in S03, a CT left out of training"] = cases
    return made


_SYNTH = (sys.executable, "-m", "PASTALib", "synth", "--lesion", "lung_tumor", "--organ-scheme", "pasta", "--json")


def _run(command: Sequence) -> None:
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"{command[2]} {command[3]} failed: {done.stderr.strip() or done.stdout.strip()[-300:]}")


def _generate(options: Options, name: str, types: Sequence[str], per_type: int, *arguments: str) -> list[Path]:
    folder = options.out / f"{name}-{len(types)}x{per_type}"
    command = [sys.executable, "-m", "training", "generate", "--out", str(folder), "--per-type", str(per_type)]
    command += [
        "--seed",
        str(PHANTOM_SEED),
        "--workers",
        str(options.workers),
        "--types",
        ",".join(types),
        "--json",
        *arguments,
    ]
    command += ["--resume"] if folder.is_dir() else []
    _run(command)
    return list(find_cases(folder))


def real_lesions(model: PastaModel) -> list[dict]:
    """What the network makes of each real lesion: share found as any lesion, Dice with all predicted lesion voxels, and the type it names."""
    from training.segmentation.evaluate import dice

    rows = []
    organs = len(taxonomy.ORGANS)
    for name, (folder, what) in LESIONS.items():
        case = data_folder() / "cases" / folder
        if not (case / "lesion.nii.gz").is_file():
            continue
        ct, truth = read_volume(case / "ct.nii.gz", "ct"), read_volume(case / "lesion.nii.gz", "labels").array > 0
        labels = segment(ct, model).labels.array
        found = labels > organs
        values, counts = np.unique(labels[truth & found], return_counts=True)
        kind = taxonomy.LESIONS[int(values[counts.argmax()]) - organs - 1].name if len(values) else "–"
        rows.append(
            {
                "case": name,
                "what": what,
                "covered": np.count_nonzero(found & truth) / np.count_nonzero(truth),
                "dice": dice(found, truth),
                "called": kind,
                "lung_dice": _lung_dice(case, labels),
            }
        )
    return rows


def _lung_dice(case: Path, labels: np.ndarray) -> float | None:
    from training.segmentation.evaluate import dice

    file = case / "organs.nii.gz"
    if not file.is_file():
        return None
    lung = taxonomy.organ("lung").value
    there = read_volume(file, "labels").array == lung
    if not there.any():
        return None
    found = np.isin(labels, [lung, *(lesion.value for lesion in taxonomy.lesions_of("lung"))])
    return dice(found, there)


def steps_agree(model: PastaModel) -> float | None:
    """Share of body voxels of S01 with the same label at window steps 0.5 and 0.6; None without S01."""
    file = data_folder() / "cases" / "S01_ts_torso" / "ct.nii.gz"
    if not file.is_file():
        return None
    ct = read_volume(file, "ct")
    a, b = (segment(ct, model, step=step).labels.array for step in (0.5, 0.6))
    body = ct.array > -300
    return float((a == b)[body].mean())


def _organ_table(found: dict) -> str:
    rows = [(taxonomy.organ(key).name, number(value)) for key, value in found["organs"].items()]
    return table(("organ", "Dice"), [*rows, ("mean", number(found["mean"].get("organ_dice", float("nan"))))])


def _lesion_table(found: dict) -> str:
    columns = ("lesions", "dice", "sensitivity", "sensitivity_any_type", "false_positives")
    rows = [
        (taxonomy.lesion(key).name, *(number(entry[name]) for name in columns))
        for key, entry in found["lesions"].items()
    ]
    return table(("lesion type", "lesions", "Dice", "found as this type", "found as any", "false ones per case"), rows)


def _attribute_table(scores: dict) -> str:
    rows = [
        (key, entry["lesions"], number(entry["accuracy"]), number(entry["majority"]), number(entry["balanced"]))
        for key, entry in scores.items()
    ]
    return table(("attribute", "lesions", "accuracy", "majority guessing", "balanced accuracy"), rows)


def _real_table(rows: list[dict]) -> str:
    cells = [
        (row["case"], row["what"], number(row["covered"]), number(row["dice"]), row["called"], number(row["lung_dice"]))
        for row in rows
    ]
    return table(("case", "lesion", "share found", "Dice", "called", "lung Dice"), cells)
