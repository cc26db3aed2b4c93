"""Names and numbers as the report writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..registry import TRIVIAL, Task
from .analysis import Row

TITLES = {
    "pasta": "PASTA",
    "scratch": "U-Net, no pretraining",
    "genesis": "Models Genesis",
    "suprem": "SuPreM",
    "nnunet": "nnU-Net",
    "universal": "Universal",
    "fmcib": "FMCIB",
    "ctfm": "CT-FM",
}
METRICS = {"dice": "Dice", "auc": "AUC", "accuracy": "ACC", "macro_f1": "macro-F1"}
TESTS = {
    "wilcoxon-cases": "one-sided Wilcoxon signed-rank test over cases",
    "wilcoxon-folds": "one-sided Wilcoxon signed-rank test over folds",
    "permutation": "one-sided paired permutation test over cases",
}
CORRECTIONS = {"none": "uncorrected", "holm": "Holm", "bh": "Benjamini–Hochberg"}
# What stands beside the paper's figures: key -> (title, digits, whether more is better).
BESIDE = {
    "balanced_accuracy": ("balanced accuracy", 3, True),
    "average_precision": ("PR-AUC", 3, True),
    "accuracy": ("ACC", 3, True),
    "concordance": ("concordance index", 3, True),
    "nsd": ("surface Dice at 2 mm", 3, True),
    "hd95": ("HD95, mm", 1, False),
    "lesions_found": ("lesions found", 3, True),
    "false_positives": ("false lesions per scan", 2, False),
}


def base(model: str) -> str:
    """A model's key without its options: suprem of "suprem:backbone=swinunetr"."""
    return model.partition(":")[0]


def title(model: str, rivals: Mapping[str, Any] | None = None, task: Task | None = None) -> str:
    """A model's name, its options in brackets."""
    name, _, options = model.partition(":")
    if name == TRIVIAL:
        found = "Majority / empty mask" if task is None else ("Empty mask" if task.labels else "Majority class")
    else:
        rival = (rivals or {}).get(model) or (rivals or {}).get(name)
        found = TITLES.get(name) or (rival.title if rival is not None else name)
    return f"{found} ({options})" if options else found


def columns(rows: Sequence[Row]) -> list[str]:
    """Models of a table: the paper's in its order, then others that were run, guessing last."""
    keys = [name for name in rows[0].task.models if name != TRIVIAL]
    keys += sorted({name for row in rows for name in row.cells} - {*keys, TRIVIAL})
    return [*keys, TRIVIAL]


def entry(row: Row, model: str):
    """The published entry beside a model's cell, or None."""
    return row.entries.get(model) or row.entries.get(base(model))


def p_words(p: float | None) -> str:
    """p as the paper prints it."""
    if p is None:
        return "–"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def budget(k: int) -> str:
    """The few-shot number, or that all scans were learned from."""
    return f"{k} scan{'' if k == 1 else 's'}" if k else "all"


def spread(low: float, high: float) -> str:
    """An interval."""
    return f"({low:.3f}–{high:.3f})"
