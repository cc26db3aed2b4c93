"""The 46 tasks of the paper, read from ``tasks.toml``: data, labels, split, metric, test, and the settings of every model. No torch."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from PASTALib import taxonomy
from PASTALib.attributes import LEARNED, TABLE
from PASTALib.errors import InputError

from .. import presets

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = Path(__file__).with_name("tasks.toml")

SEGMENTATION, CLASSIFICATION, REPORT = KINDS = ("segmentation", "classification", "report")
TRIVIAL = "trivial"  # majority class or empty mask: beside every table
FOLDS = 5

# How the paper compares the best model with the second, by metric. "cases": differences of cases; "folds": of the five folds.
TESTS = {
    "dice": "wilcoxon-cases",
    "auc": "wilcoxon-folds",
    "accuracy": "permutation",
    "macro_f1": "permutation",
}


@dataclass(frozen=True)
class Dataset:
    """A source of scans. ``converter``: module of ``training.benchmark.datasets``; ``needs``: what it lacks for the paper's task, in words."""

    key: str
    title: str
    converter: str
    url: str
    public: bool
    labels: tuple[str, ...]
    channels: tuple[str, ...]
    needs: str


@dataclass(frozen=True)
class Task:
    """One of the 46.

    ``kind``: one of ``KINDS``; ``metrics`` of the paper's tables, ``metric`` the first. ``labels``: names of the mask's values 1, 2, …,
    of which ``scored`` are evaluated. ``classes``: what is predicted -> its class names. ``k``: numbers of scans to learn from, () for all;
    ``draws`` per fold and K, by the rule ``draw``. ``run``: tasks that share it are learned by one network. ``models``: rows of the
    paper's tables, and "trivial". ``cases``: how many the paper evaluates; ``listed``: what its Extended Data Table 4 or Methods say, where
    that differs. ``table``, ``row``: where its figures are published; ``figure`` of the paper that shows them; ``note`` on either.
    """

    key: str
    title: str
    group: str
    group_title: str
    kind: str
    metrics: tuple[str, ...]
    dataset: Dataset
    organ: str | None
    lesion: str | None
    labels: tuple[str, ...]
    scored: tuple[str, ...]
    classes: Mapping[str, tuple[str, ...]]
    survival_years: float
    channels: tuple[str, ...]
    k: tuple[int, ...]
    draws: int
    draw: str
    run: str
    models: tuple[str, ...]
    cases: int
    listed: int
    table: int
    row: str
    figure: str
    command: str
    preset: str
    changes: Mapping[str, Mapping[str, Any]]
    note: str = ""
    folds: int = FOLDS
    split: str = "by patient, strata balanced"

    @property
    def metric(self) -> str:
        """The one that leads."""
        return self.metrics[0]

    @property
    def network_kind(self) -> str:
        """What kind of network it takes: a structured report is several classifications."""
        return SEGMENTATION if self.kind == SEGMENTATION else CLASSIFICATION

    @property
    def budgets(self) -> tuple[int, ...]:
        """The values of the results' column k: the few-shot numbers, or 0 for all training scans."""
        return self.k or (0,)

    def test(self, metric: str | None = None) -> str:
        """The paper's test for a metric: "wilcoxon-cases", "wilcoxon-folds" or "permutation"."""
        return TESTS[metric or self.metric]

    def applicable(self, kinds: Iterable[str]) -> bool:
        """Whether a model of these kinds ("segmentation", "classification") can take the task, in the paper's table or not."""
        return self.network_kind in set(kinds)

    def recipe(self, model: str = "pasta") -> dict[str, Any]:
        """The paper's settings for a model, named as in ``training/presets.toml``; a model that the paper has not gets PASTA's."""
        changes = dict(self.changes.get(model, {}))
        return presets.preset(self.command, changes.pop("preset", self.preset), changes)


def read_tasks() -> tuple[Task, ...]:
    """All tasks, in the order of the paper's tables."""
    return _read()


def task(key: str) -> Task:
    """The task of this key; InputError otherwise."""
    return select([key])[0]


def select(names: Iterable[str]) -> tuple[Task, ...]:
    """The tasks of these keys, groups ("full", "survival", …) or "all", in the registry's order, each once. InputError for another name."""
    every, wanted = read_tasks(), set()
    known = {"all": {item.key for item in every}}
    for item in every:
        known[item.key] = {item.key}
        known.setdefault(item.group, set()).add(item.key)
    for name in names:
        if name not in known:
            raise InputError(f"task {name!r}: there is none; {_near(name, known)}")
        wanted |= known[name]
    return tuple(item for item in every if item.key in wanted)


# ---------------------------------------------------------------------------------------------------------------


def _near(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, list(known), n=3, cutoff=0.5)
    groups = ", ".join(dict.fromkeys(item.group for item in read_tasks()))
    return f"did you mean {' or '.join(close)}?" if close else f"give a task's key, a group ({groups}), or all"


@lru_cache(maxsize=1)
def _read() -> tuple[Task, ...]:
    with FILE.open("rb") as stream:
        data = tomllib.load(stream)
    sets = {key: _dataset(key, entry) for key, entry in data["datasets"].items()}
    entries = []
    for group in ("full", "fewshot"):
        for lesion in data["lesions"]:
            entries.append(_of_lesion(dict(lesion), group))
    entries += data["tasks"]
    order = list(data["groups"])
    entries.sort(key=lambda entry: order.index(entry["group"]))
    return tuple(_task({**data["groups"][entry["group"]], **entry}, data["groups"], sets) for entry in entries)


def _dataset(key: str, entry: Mapping[str, Any]) -> Dataset:
    return Dataset(
        key=key,
        title=entry["title"],
        converter=entry["converter"],
        url=entry.get("url", ""),
        public=entry.get("public", True),
        labels=tuple(entry.get("labels", ())),
        channels=tuple(entry.get("channels", ("CT",))),
        needs=entry.get("needs", ""),
    )


def _of_lesion(entry: dict[str, Any], group: str) -> dict[str, Any]:
    lesion = taxonomy.lesion(entry.pop("key"))
    preset = entry.pop("fewshot_preset", None)
    if group == "fewshot" and preset:
        entry["preset"] = preset
    if "run" in entry:
        entry["run"] = f"{group}-{entry['run']}"
    return {
        **entry,
        "key": f"{group}-{lesion.key}",
        "group": group,
        "title": lesion.name,
        "organ": lesion.organ,
        "lesion": lesion.key,
        "scored": [lesion.key],
    }


def _task(entry: Mapping[str, Any], groups: Mapping[str, Any], sets: Mapping[str, Dataset]) -> Task:
    dataset, kind = sets[entry["dataset"]], entry["kind"]
    labels: tuple[str, ...] = ()
    if kind == SEGMENTATION:
        labels = dataset.labels or (entry["lesion"],)
    settings = presets.preset(entry["command"], entry["preset"])
    return Task(
        key=entry["key"],
        title=entry["title"],
        group=entry["group"],
        group_title=groups[entry["group"]]["title"],
        kind=kind,
        metrics=tuple(entry["metrics"]),
        dataset=dataset,
        organ=entry.get("organ"),
        lesion=entry.get("lesion"),
        labels=labels,
        scored=tuple(entry.get("scored", labels)),
        classes=_classes(entry),
        survival_years=entry.get("survival_years", 0.0),
        channels=dataset.channels,
        k=tuple(entry.get("k", ())),
        draws=entry.get("draws", 1),
        draw=settings.get("draw", "any"),
        run=entry.get("run", entry["key"]),
        models=(*entry["models"], TRIVIAL),
        cases=entry["cases"],
        listed=entry.get("listed", entry["cases"]),
        table=entry["table"],
        row=entry["row"],
        figure=entry["figure"],
        command=entry["command"],
        preset=entry["preset"],
        changes=entry.get("recipes", {}),
        note=entry.get("note", ""),
    )


def _classes(entry: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """What is predicted, as ``training.downstream.table.read_cases`` names it."""
    if entry["kind"] == REPORT:
        return {key: TABLE[key].options for key in LEARNED}
    if entry.get("survival_years"):
        years = entry["survival_years"]
        return {"survival": (f"below {years:g} years", f"{years:g} years or more")}
    return {"label": tuple(entry["classes"])} if entry["kind"] == CLASSIFICATION else {}
