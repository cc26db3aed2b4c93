"""Scores of a trained model on cases that it never saw, for its card: organs, lesions by type, attributes against majority guessing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import numpy as np
from scipy import ndimage

from PASTALib import taxonomy
from PASTALib.attributes import LEARNED, StructuredReport
from PASTALib.cases import LESION_VALUE, Case, read_case, training_labels
from PASTALib.errors import InputError
from PASTALib.inference.attributes import predict_attributes
from PASTALib.inference.segmentation import segment
from PASTALib.networks.card import PASTA_LABELS
from PASTALib.networks.load import PastaModel
from PASTALib.progress import Progress, silent

FOUND_SHARE = 0.1  # of a lesion's voxels that must be predicted as one for it to count as found
_EVERYWHERE = np.ones((3, 3, 3), bool)


def evaluate(
    model: PastaModel, cases: Sequence[Path], *, device: str = "auto", progress: Progress = silent
) -> dict[str, dict]:
    """Segment every case and compare; JSON-ready.

    ``organs``: key -> Dice, mean over the cases that show the organ; a lesion belongs to its organ, in truth and prediction.
    ``lesions``: key -> cases, lesions, ``dice`` (mean over the cases with such a lesion, of all its voxels), ``sensitivity`` (share of lesions
    of which at least a tenth is predicted as this type), ``sensitivity_any_type`` and ``false_positives`` (predicted pieces that touch no
    lesion of the type, per case, over all cases). ``mean`` of each over the keys. InputError for a model of other classes and no case.
    """
    model.expect(len(PASTA_LABELS) + 1)
    if not cases:
        raise InputError("no case to evaluate on; give a folder with <Organ>/<Type>/<case>")
    organs: dict[str, list[float]] = defaultdict(list)
    lesions: dict[str, dict[str, list]] = {key: defaultdict(list) for key in taxonomy.LESION_KEYS}
    for number, folder in enumerate(cases):
        progress(number, len(cases), f"segmenting {folder.name}")
        case = read_case(folder)
        found = segment(case.ct, model, device=device).labels.array
        truth = training_labels(case).array
        for organ in taxonomy.ORGANS:
            values = [organ.value, *(lesion.value for lesion in taxonomy.lesions_of(organ.key))]
            score = dice(np.isin(found, values), np.isin(truth, values))
            if np.isin(organ.value, truth):
                organs[organ.key].append(score)
        _score_lesions(lesions, case, found, truth)
    progress(len(cases), len(cases), "segmented")
    by_type = {key: _summary(values) for key, values in lesions.items() if values["dice"]}
    by_organ = {key: round(mean(organs[key]), 4) for key in taxonomy.ORGAN_KEYS if organs[key]}
    overall = {name: round(mean(entry[name] for entry in by_type.values()), 4) for name in _SCORES} if by_type else {}
    return {
        "cases": len(cases),
        "organs": by_organ,
        "lesions": by_type,
        "mean": ({"organ_dice": round(mean(by_organ.values()), 4)} if by_organ else {}) | overall,
    }


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Of two boolean arrays; 1 when both are empty."""
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return 1.0 if not total else 2 * np.count_nonzero(a & b) / total


_SCORES = ("dice", "sensitivity", "sensitivity_any_type", "false_positives")


def _score_lesions(scores: dict, case: Case, found: np.ndarray, truth: np.ndarray) -> None:
    first = min(lesion.value for lesion in taxonomy.LESIONS)
    present = {taxonomy.lesion(report.lesion).value for report in case.reports}
    for lesion in taxonomy.LESIONS:
        mine, there = found == lesion.value, truth == lesion.value
        pieces, count = ndimage.label(mine, _EVERYWHERE)
        touching = np.unique(pieces[there])
        scores[lesion.key]["false_positives"].append(count - np.count_nonzero(touching))
        if lesion.value in present:
            scores[lesion.key]["dice"].append(dice(mine, there))
    for key, mask in _instances(case, truth):
        predicted, value = found[mask], taxonomy.lesion(key).value
        least = max(1, FOUND_SHARE * predicted.size)
        scores[key]["sensitivity"].append(np.count_nonzero(predicted == value) >= least)
        scores[key]["sensitivity_any_type"].append(np.count_nonzero(predicted >= first) >= least)


def _instances(case: Case, truth: np.ndarray):
    """(type, mask) of every lesion; its pieces where the case does not number its lesions."""
    if case.instances is not None:
        for number, report in enumerate(case.reports, 1):
            mask = case.instances.array == number
            if mask.any():
                yield report.lesion, mask
        return
    if len(case.reports) == 1:
        yield case.reports[0].lesion, case.label.array == LESION_VALUE
        return
    for report in {report.lesion: report for report in case.reports}.values():
        pieces, count = ndimage.label(truth == taxonomy.lesion(report.lesion).value, _EVERYWHERE)
        for number in range(1, count + 1):
            yield report.lesion, pieces == number


def _summary(values: dict[str, list]) -> dict:
    figures = {name: round(float(np.mean(values[name])), 4) for name in _SCORES}
    return {"cases": len(values["dice"]), "lesions": len(values["sensitivity"]), **figures}


# ---------------------------------------------------------------------------------------------------------------
# Attributes


def lesion_points(case: Case) -> list[tuple[StructuredReport, np.ndarray]]:
    """Report and centre (RAS mm, middle of its voxels) of every lesion of a case that has voxels of its own."""
    if case.instances is None:
        masks = [case.label.array == LESION_VALUE] if len(case.reports) == 1 else []
        if not masks:
            pieces, count = ndimage.label(case.label.array == LESION_VALUE, _EVERYWHERE)
            masks = [pieces == n + 1 for n in range(count)] if count == len(case.reports) else []
    else:
        masks = [case.instances.array == number for number in range(1, len(case.reports) + 1)]
    return [
        (report, case.ct.to_ras(np.argwhere(mask).mean(axis=0)))
        for report, mask in zip(case.reports, masks)
        if mask.any()
    ]


def evaluate_attributes(
    model: PastaModel, cases: Sequence[Path], *, device: str = "auto", progress: Progress = silent
) -> dict[str, dict]:
    """Accuracy of every attribute on the lesions of ``cases``, beside what always answering the commonest option would score; JSON-ready.

    Per key: lesions, accuracy, majority, ``balanced`` (mean of the accuracies within each option). InputError for a model without the
    head, and no case.
    """
    truth: dict[str, list[str]] = {key: [] for key in LEARNED}
    answers: dict[str, list[str]] = {key: [] for key in LEARNED}
    for number, folder in enumerate(cases):
        progress(number, len(cases), f"reading the lesions of {folder.name}")
        case = read_case(folder)
        points = lesion_points(case)
        predicted = predict_attributes(case.ct, [point for _, point in points], model, device=device)
        for (report, _), prediction in zip(points, predicted):
            for key in LEARNED:
                if report.value(key):
                    options = prediction.probabilities[key]
                    truth[key].append(report.value(key))
                    answers[key].append(max(options, key=options.get))
    if not any(truth.values()):
        raise InputError("no lesion with known attributes to evaluate on; give a folder with <Organ>/<Type>/<case>")
    return {key: accuracy(truth[key], answers[key]) for key in LEARNED if truth[key]}


def accuracy(truth: Sequence, answers: Sequence) -> dict:
    """Accuracy, that of always answering the commonest value, and the mean accuracy within each value."""
    right = [a == b for a, b in zip(truth, answers)]
    within = [mean(hit for hit, value in zip(right, truth) if value == kind) for kind in sorted(set(truth))]
    majority = Counter(truth).most_common(1)[0][1] / len(truth)
    figures = {"accuracy": mean(right), "majority": majority, "balanced": mean(within)}
    return {"lesions": len(right), **{name: round(float(value), 4) for name, value in figures.items()}}
