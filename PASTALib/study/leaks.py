"""The leak check: can real and synthetic cases be told apart by anything but the lesion itself?

The lead runs it before the study goes out. It looks at what a reader's computer holds: files, headers, names, times, orders, the voxels away
from the lesion, the pointer, the rating store before a judgement is made.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..progress import Progress, silent
from .chain import final_ratings
from .create import grid_of
from .export import ExportGrid
from .leak_features import voxel_features
from .merge import current_chains
from .package import CASES, REALISM, StudyPackage
from .seal import StudyKey

LIMIT = 0.08  # distance of an AUC from 0.5 that counts as a leak
FOLDS, ROUNDS, PERMUTATIONS = 5, 4, 2000
SUSPECT_P = 0.002  # after correction for the number of features
_Z = 2.33  # a small study: only what chance gives in 1 of 50 studies (both sides) is called a leak


@dataclass(frozen=True)
class Single:
    """How well one feature alone tells real from synthetic: AUC over all cases and p corrected for the number of features."""

    name: str
    auc: float
    p: float


@dataclass
class LeakReport:
    """What the check found.

    ``differences``: things that should be equal in all cases and are not. ``best_single``, ``boosted``: cross-validated AUC of the best
    single feature (chosen on the training part) and of gradient boosting over all. ``limit``: allowed distance from 0.5 for this number of
    cases. ``suspects``: features that separate by themselves (p < 0.002 after correction), strongest first.
    """

    cases: int
    features: int
    differences: list[str]
    best_single: float
    boosted: float
    limit: float
    suspects: list[Single] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def leaks(self) -> bool:
        """Whether anything was found."""
        return bool(self.differences or self.suspects or max(self.best_single, self.boosted) - 0.5 > self.limit)

    def to_json(self) -> dict:
        return asdict(self) | {"leaks": self.leaks}


def check_leaks(study: StudyPackage, key: StudyKey, seed: int = 0, progress: Progress = silent) -> LeakReport:
    """Try to tell real from synthetic cases of the realism part (and practice) without looking at the lesions.

    With 200 cases about one clean study in 25 exceeds the limit by chance; its suspects are then empty. More cases make that rarer.

    Needs scikit-learn. InputError without it, with fewer than 10 cases of either kind, or with files that are missing.
    """
    _sklearn()
    names = sorted(name for name, about in key.cases.items() if about["role"] != "description")
    truth = np.array([key.cases[name]["truth"] == "synthetic" for name in names])
    if min(truth.sum(), (~truth).sum()) < 10:
        raise InputError(
            f"{study.folder}: {(~truth).sum()} real and {truth.sum()} synthetic cases are too few for a leak check; it needs 10 of each"
        )
    table, differences = collect(study, key, names, progress)
    columns = [name for name, values in table.items() if np.ptp(values) > 0]
    values = np.column_stack([table[name] for name in columns]) if columns else np.zeros((len(names), 1))
    progress(len(names), len(names), "Telling real from synthetic")
    limit = max(LIMIT, _Z * float(np.sqrt((len(truth) + 1) / (12 * truth.sum() * (~truth).sum()))))
    report = LeakReport(len(names), len(columns), differences, *separability(values, truth, seed), limit)
    report.suspects = [one for one in single_features(values, truth, columns, seed) if one.p < SUSPECT_P]
    if limit > LIMIT:
        report.notes.append(
            f"{len(names)} cases: chance alone reaches an AUC of {0.5 + limit:.2f}; 200 cases make the check sharper"
        )
    return report


def collect(
    study: StudyPackage, key: StudyKey, names: Sequence[str], progress: Progress = silent
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The features of cases by name, one number per case each, and what should be equal in all files and is not."""
    grid = grid_of(study)
    boxes = common_boxes(key, names, grid)
    rows, facts = [], []
    listing = {entry.name: place for place, entry in enumerate(os.scandir(study.folder / CASES))}
    for step, name in enumerate(names):
        progress(step, len(names), f"Looking at case {step + 1} of {len(names)}")
        path = study.image_path(name)
        if not path.is_file():
            raise InputError(f"{path} is missing; copy it from your backup")
        content = path.read_bytes()
        array, header = _parts(path, content, grid)
        row, fact = _file_features(path, header, listing[path.name])
        facts.append(fact)
        row |= voxel_features(array, boxes[key.cases[name]["lesion_type"]], key.cases[name]["lesion_box_zyx"], grid)
        rows.append(row | _public_features(study, name))
    table = {feature: np.array([row[feature] for row in rows], float) for feature in rows[0]}
    table |= _order_features(study, names) | _store_features(study, names)
    return table, _differences(facts)


def _parts(path: Path, content: bytes, grid: ExportGrid) -> tuple[np.ndarray, bytes]:
    """The voxels at the end of a file and whatever is before them: a wrong header is told as a difference, not as an error."""
    size = 2 * int(np.prod(grid.shape_zyx))
    if len(content) < size:
        raise InputError(f"{path}: {len(content)} bytes, wanted {grid.bytes_per_case}; copy it from your backup")
    first = len(content) - size
    return np.frombuffer(content, "<i2", offset=first).reshape(grid.shape_zyx), content[:first]


def _file_features(path: Path, header: bytes, place: int) -> tuple[dict[str, float], dict[str, object]]:
    stat = path.stat()
    digits = path.stem[1:]
    row = {
        "file size": stat.st_size,
        "header length": len(header),
        "header bytes": sum(n * byte for n, byte in enumerate(header, 1)),
        "time of change": stat.st_mtime_ns % 10**15,  # a float holds 15 digits: ten days in ns
        "time of writing": stat.st_ctime_ns % 10**15,
        "inode": stat.st_ino,
        "place in the folder": place,
        "name as a number": int(digits, 16) if _is_hex(digits) else sum(map(ord, path.stem)),
        "length of the name": len(path.stem),
    }
    row |= {f"character {n} of the name": ord(letter) for n, letter in enumerate(path.stem[:12])}
    fact = {
        "size": stat.st_size,
        "header": header,
        "time of change": stat.st_mtime_ns,
        "permissions": stat.st_mode,
        "name's length": len(path.stem),
    }
    return row, fact


def _is_hex(text: str) -> bool:
    return bool(text) and all(letter in "0123456789abcdef" for letter in text)


def _differences(facts: list[dict[str, object]]) -> list[str]:
    found = []
    for what in facts[0]:
        values = {fact[what] for fact in facts}
        if len(values) > 1:
            found.append(f"{what} of the case files: {len(values)} different ones, wanted the same for all")
    return found


def _public_features(study: StudyPackage, name: str) -> dict[str, float]:
    about = study.data["cases"][name]
    row = {f"pointer {axis}": value for axis, value in zip("RAS", about["pointer_ras"])}
    row |= {f"pointer extent {axis}": value for axis, value in zip("RAS", about["extent_mm"])}
    return row | {"bytes in study.json": len(repr(about)), "place in study.json": list(study.data["cases"]).index(name)}


def _order_features(study: StudyPackage, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Place of the first reading in each reader's order, their mean, the session, and how often the case comes."""
    columns = {}
    for reader, order in study.data["readers"].items():
        first, session, count = {}, {}, dict.fromkeys(names, 0)
        for place, (case, part, sitting, _, _) in enumerate(order):
            if part == REALISM and case in count:
                first.setdefault(case, place)
                session.setdefault(case, sitting)
                count[case] += 1
        columns[f"order of {reader}"] = np.array([first.get(name, -1) for name in names], float)
        columns[f"session of {reader}"] = np.array([session.get(name, -1) for name in names], float)
        columns[f"readings of {reader}"] = np.array([count[name] for name in names], float)
    columns["mean order"] = np.mean([values for name, values in columns.items() if name.startswith("order of")], axis=0)
    return columns


def _store_features(study: StudyPackage, names: Sequence[str]) -> dict[str, np.ndarray]:
    """What the stores hold apart from judgements and the time they took: number and time of a case's event."""
    columns = {}
    for chain in current_chains(study):
        first = {}
        for event in reversed(final_ratings(chain.events)):
            first[event.case] = event
        columns[f"event of {chain.reader}"] = np.array([first[n].seq if n in first else -1 for n in names], float)
    return columns


def common_boxes(key: StudyKey, names: Sequence[str], grid: ExportGrid) -> dict[str, tuple[int, ...]]:
    """Half sizes (z, y, x) in voxels of the region left out around the centre, per lesion type: equal for both kinds.

    The largest lesion of the type, at most half of the grid; what is larger still is left out with its own box as well.
    """
    sizes: dict[str, list] = {}
    for name in names:
        box = np.array(key.cases[name]["lesion_box_zyx"])
        sizes.setdefault(key.cases[name]["lesion_type"], []).append(box[:, 1] - box[:, 0])
    most = np.array(grid.shape_zyx) // 4
    return {kind: tuple(np.minimum(np.max(box, axis=0) // 2 + 3, most)) for kind, box in sizes.items()}


# ---------------------------------------------------------------------------------------------------------------
# Telling apart


def separability(values: np.ndarray, truth: np.ndarray, seed: int) -> tuple[float, float]:
    """Cross-validated AUC of the best single feature (chosen where it is trained) and of gradient boosting; means over folds and rounds."""
    HistGradientBoostingClassifier, StratifiedKFold, roc_auc_score = _sklearn()
    single, boosted = [], []
    for number in range(ROUNDS):
        for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=seed + number).split(values, truth):
            aucs = _aucs(values[train], truth[train])
            best = int(np.argmax(np.abs(aucs - 0.5)))
            auc = roc_auc_score(truth[test], values[test, best])
            single.append(auc if aucs[best] >= 0.5 else 1 - auc)
            model = HistGradientBoostingClassifier(max_iter=60, max_depth=3, min_samples_leaf=5, random_state=seed)
            scores = model.fit(values[train], truth[train]).predict_proba(values[test])[:, 1]
            boosted.append(roc_auc_score(truth[test], scores))
    return float(np.mean(single)), float(np.mean(boosted))


def single_features(values: np.ndarray, truth: np.ndarray, names: Sequence[str], seed: int) -> list[Single]:
    """AUC of each feature, strongest first, with p by permutation of the truth, corrected by the largest over all features."""
    if not len(names):
        return []
    from scipy.stats import rankdata

    ranks = rankdata(values, axis=0)
    found = _auc_of_ranks(ranks, truth)
    rng = np.random.default_rng(seed)
    largest = np.array([np.abs(_auc_of_ranks(ranks, rng.permutation(truth)) - 0.5).max() for _ in range(PERMUTATIONS)])
    p = (1 + (largest[:, None] >= np.abs(found - 0.5) - 1e-12).sum(0)) / (PERMUTATIONS + 1)
    order = np.argsort(-np.abs(found - 0.5), kind="stable")
    return [Single(names[place], float(found[place]), float(p[place])) for place in order]


def _aucs(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    return _auc_of_ranks(rankdata(values, axis=0), truth)


def _auc_of_ranks(ranks: np.ndarray, truth: np.ndarray) -> np.ndarray:
    high = int(truth.sum())
    return (ranks[truth].sum(0) - high * (high + 1) / 2) / (high * (len(truth) - high))


def _sklearn():
    try:
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.metrics import roc_auc_score
        from sklearn.model_selection import StratifiedKFold
    except ImportError:
        raise InputError('the leak check needs scikit-learn (pip install "slicerpasta[study]")') from None
    return HistGradientBoostingClassifier, StratifiedKFold, roc_auc_score
