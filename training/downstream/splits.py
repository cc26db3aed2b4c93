"""Who is trained on and who is tested: folds by patient, a part for choosing weights, few-shot draws. Fixed once, kept as JSON, verified."""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from PASTALib.errors import InputError

from ..runs import write_json

SPLITS = "splits.json"
_INNER, _DRAW = 1, 2  # keep the random numbers of the parts apart
ANY, EACH, TOGETHER = DRAWS = ("any", "each", "together")


class Member(Protocol):
    """What a split needs to know of a case."""

    id: str
    patient: str
    stratum: str


@dataclass(frozen=True)
class Splits:
    """``folds``: the ids tested in each fold. Every case is tested once, every patient in one fold alone."""

    folds: tuple[tuple[str, ...], ...]
    seed: int

    def test(self, fold: int) -> list[str]:
        """Ids whose results are reported for ``fold``."""
        return list(self.folds[fold])

    def training(self, fold: int) -> list[str]:
        """All other ids, sorted."""
        return sorted(name for number, part in enumerate(self.folds) if number != fold for name in part)


def make_splits(cases: Sequence[Member], folds: int = 5, seed: int = 0) -> Splits:
    """Folds by patient, with the strata spread as evenly as patients allow; the same for the same cases in any order.

    With one case per patient every stratum is spread to within one case. InputError for fewer patients than folds.
    """
    ordered = sorted(cases, key=lambda case: case.id)
    patients = {case.patient for case in ordered}
    if not 2 <= folds <= len(patients):
        raise InputError(
            f"{folds} folds of {len(patients)} patients; wanted 2 or more folds and a patient for each; set folds"
        )
    parts = _parts(ordered, folds, np.random.default_rng([seed]))
    return Splits(tuple(tuple(sorted(ordered[n].id for n in part)) for part in parts), seed)


def inner_split(cases: Sequence[Member], share: float, seed: int) -> tuple[list[str], list[str]]:
    """``(training, validation)`` ids: about ``share`` of the patients, by strata, set aside to choose weights by.

    Only the cases of the training folds may be handed in. With ``share`` 0 nobody is set aside. InputError when too few are left.
    """
    ordered = sorted(cases, key=lambda case: case.id)
    if share == 0:
        return [case.id for case in ordered], []
    patients = {case.patient for case in ordered}
    if not 0 < share <= 0.5 or len(patients) < 2:
        raise InputError(
            f"validation_share {share} of {len(patients)} patients; wanted 0 to 0.5, and two patients or more"
        )
    count = min(len(patients), max(2, round(1 / share)))
    aside = set(_parts(ordered, count, np.random.default_rng([seed, _INNER]))[0])
    both = ([], [])
    for number, case in enumerate(ordered):
        both[number in aside].append(case.id)
    return both


def draw_order(
    cases: Sequence[Member], largest: int, seed: Sequence[int], rule: str, holds: Mapping[str, Collection[int]], wanted
) -> list[str]:
    """Ids of ``largest`` cases drawn at random; the first K of them are the draw of K cases, so that larger draws add to smaller ones.

    ``holds``: id -> label values in its mask; ``wanted``: values that matter. ``rule``: "any" case may be drawn; "each" drawn case holds all
    of ``wanted`` (the paper's KiTS draws: tumour and cyst in every scan); "together" the cases of every draw hold all of them: the first
    holds as many as possible, and the next complete them. InputError when there are too few.
    """
    if rule not in DRAWS:
        raise InputError(f"draw {rule!r}; wanted one of {', '.join(DRAWS)}")
    wanted = set(wanted)
    names = sorted(case.id for case in cases)
    if rule == EACH:
        names = [name for name in names if wanted <= set(holds[name])]
    if len(names) < largest:
        why = f" hold all of the labels {', '.join(map(str, sorted(wanted)))}" if rule == EACH else " are to be had"
        raise InputError(
            f"{len(names)} training cases{why}, {largest} are to be drawn; set a smaller k, or another draw rule"
        )
    rng = np.random.default_rng([*seed, _DRAW])
    order = [names[n] for n in rng.permutation(len(names))]
    if rule == TOGETHER:
        order = _completed(order, holds, wanted)
    return order[:largest]


def _completed(order: list[str], holds, wanted: set[int]) -> list[str]:
    """``order`` with those first that complete ``wanted``, each time the earliest that adds most."""
    first, missing = [], set(wanted)
    while missing:
        best = max(order, key=lambda name: (len(missing & set(holds[name])), -order.index(name)))
        if not missing & set(holds[best]):
            raise InputError(f"no training case holds the label {min(missing)}; check the masks, or set draw=any")
        first.append(best)
        missing -= set(holds[best])
    return first + [name for name in order if name not in first]


# ---------------------------------------------------------------------------------------------------------------
# Files


def kept_splits(path: Path, cases: Sequence[Member], folds: int, seed: int, given: Path | None = None) -> Splits:
    """The splits kept in ``path``, verified; made, or taken over from the file ``given``, and kept when there are none yet."""
    if path.is_file():
        found = read_splits(path, cases)
        if given is not None and read_splits(given, cases).folds != found.folds:
            raise InputError(f"--splits {given} differs from {path}, which this run began with; leave --splits out")
        return found
    found = make_splits(cases, folds, seed) if given is None else read_splits(given, cases)
    write_json(path, {"seed": found.seed, "folds": [list(part) for part in found.folds]})
    return found


def read_splits(path: str | Path, cases: Sequence[Member]) -> Splits:
    """Splits from our JSON or nnU-Net's ``splits_final.json``.

    InputError, naming case or patient, unless every one of ``cases`` is tested in exactly one fold, nobody else is, and no patient is in two.
    """
    path = Path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(data, list):  # nnU-Net: [{"train": [...], "val": [...]}, ...]
            data = {"folds": [fold["val"] for fold in data]}
        if not all(isinstance(part, list) for part in data["folds"]):
            raise TypeError("folds are no lists")
        folds = tuple(tuple(sorted(map(str, part))) for part in data["folds"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f'{path}: not readable as splits ({type(error).__name__}: {error}); wanted {{"folds": [[ids], …]}}, or nnU-Net\'s splits_final.json'
        ) from None
    if len(folds) < 2 or not all(folds):
        raise InputError(f"{path}: {len(folds)} folds, some may be empty; wanted two or more with cases in each")
    patients = {case.id: case.patient for case in cases}
    where: dict[str, int] = {}
    of_patient: dict[str, int] = {}
    for number, part in enumerate(folds):
        for name in part:
            if name not in patients:
                raise InputError(
                    f"{path}: fold {number} tests {name!r}, which is not among the cases; use matching files"
                )
            if name in where:
                raise InputError(f"{path}: case {name!r} is tested in the folds {where[name]} and {number}; once only")
            where[name] = number
            other = of_patient.setdefault(patients[name], number)
            if other != number:
                raise InputError(
                    f"{path}: patient {patients[name]!r} is in the folds {other} and {number}; keep a patient's cases together"
                )
    missing = sorted(patients.keys() - where.keys())
    if missing:
        raise InputError(f"{path}: case {missing[0]!r} ({len(missing)} in all) is in no fold; use matching files")
    seed = data.get("seed", 0)
    return Splits(folds, seed if isinstance(seed, int) else 0)


# ---------------------------------------------------------------------------------------------------------------


def _parts(ordered: Sequence[Member], count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Indices of ``count`` parts, by patient."""
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold

    strata = np.array([case.stratum for case in ordered])
    patients = np.array([case.patient for case in ordered])
    state = int(rng.integers(2**31))
    splitters = [StratifiedGroupKFold(count, shuffle=True, random_state=state)]
    if len(set(patients)) == len(patients):  # exact, where the greedy one above is not always
        splitters.insert(0, StratifiedKFold(count, shuffle=True, random_state=state))
    for splitter in splitters:
        if np.unique(strata, return_counts=True)[1].max() < count:
            break  # no stratum that could be spread over all parts
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # strata with fewer members than parts: spread as far as they go
            parts = [test for _, test in splitter.split(strata, strata, patients)]
        if all(len(part) for part in parts):
            return parts
    splitter = GroupKFold(count, shuffle=True, random_state=state)
    return [test for _, test in splitter.split(strata, strata, patients)]
