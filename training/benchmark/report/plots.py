"""The report's plots, as SVG for the page: intervals beside the published figures, few-shot curves, ROC curves, survival curves."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import statistics as st
from ..registry import TRIVIAL, Task
from ..results import Prediction
from .analysis import Row, pooled_binary, survival_groups
from .words import METRICS, base, columns, entry, p_words, title

# The paper's colours of its models, lightened for a dark ground.
_COLOURS = {
    "pasta": "#4c9bff",
    "genesis": "#f5b15c",
    "suprem": "#f59ac3",
    "nnunet": "#a9d86e",
    "universal": "#b39af2",
    "fmcib": "#c3c8ce",
    "scratch": "#79dccb",
    TRIVIAL: "#7d8792",
}
_TALLEST = 8  # rows of one interval plot
_OTHERS = ("#ff8a75", "#e3d35e", "#6fd0f5", "#d98ce0")
_TEXT, _QUIET, _LINE, _CARD = (
    "#e6e8eb",
    "#9aa3ad",
    "#2b3036",
    "#1a1d21",
)  # replaced by the page's own, so that it prints on white
_LEGEND = {"labelcolor": _TEXT, "facecolor": _CARD, "edgecolor": "none", "framealpha": 0.85}
_RC = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": _TEXT,
    "axes.labelcolor": _QUIET,
    "axes.edgecolor": _LINE,
    "axes.titlecolor": _TEXT,
    "axes.titlesize": 10,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _QUIET,
    "ytick.color": _QUIET,
    "grid.color": _LINE,
    "figure.facecolor": "none",
}


def colours(models: Sequence[str]) -> dict[str, str]:
    """A colour for each model; those that the paper has not take the rest in turn."""
    others = [name for name in models if name not in _COLOURS]
    spare = dict(zip(others, [_OTHERS[n % len(_OTHERS)] for n in range(len(others))]))
    return {name: _COLOURS.get(name) or spare[name] for name in models}


def intervals(rows: Sequence[Row]) -> list[str]:
    """A line of dots with intervals for every row, the published value as a ring of the same colour. Fig. 3b, 4b, 4d, 4e, 5c of the paper.

    Many rows are parted into two plots of one scale. Empty masks, whose Dice is 0, are not drawn.
    """
    models = [name for name in shown(rows) if name != TRIVIAL or not rows[0].task.labels]
    half = -(-len(rows) // 2) if len(rows) > _TALLEST else len(rows)
    ends = [
        end
        for row in rows
        for name in models
        for end in ((row.cells[name].low, row.cells[name].high) if name in row.cells else ())
    ] + [item.value for row in rows for item in row.entries.values()]
    reach = (min(ends) - 0.02, max(ends) + 0.02)
    return [_intervals(rows[start : start + half], models, reach) for start in range(0, len(rows), half)]


def _intervals(rows: Sequence[Row], models: Sequence[str], reach: tuple[float, float]) -> str:
    colour, step = colours(models), 0.8 / max(len(models), 1)

    def draw(axes) -> None:
        for place, row in enumerate(rows):
            for number, model in enumerate(models):
                at = place - 0.4 + (number + 0.5) * step
                cell, paper = row.cells.get(model), entry(row, model)
                if paper is not None:
                    axes.plot(paper.value, at, "o", mfc="none", mec=colour[model], ms=4.6, mew=0.9, alpha=0.85)
                if cell is not None:
                    axes.plot([cell.low, cell.high], [at, at], "-", color=colour[model], lw=1.3)
                    axes.plot(cell.value, at, "o", color=colour[model], ms=3.6)
            if place:
                axes.axhline(place - 0.5, color=_LINE, lw=0.6)
        axes.set_yticks(range(len(rows)), [row.name for row in rows], color=_TEXT)
        axes.set(xlim=reach, ylim=(len(rows) - 0.5, -0.5))
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", lw=0.6)
        axes.set_axisbelow(True)
        axes.set_xlabel(METRICS[rows[0].metric])

    return _svg(draw, (4.7, 0.75 + len(rows) * max(0.32, 0.085 * len(models) + 0.06)))


def few_shot(rows: Sequence[Row], whole: Row | None = None) -> str:
    """Dice by number of scans of one task, with bands; published curves dotted; dashed: the best on ``whole`` data. Fig. 3c of the paper."""
    models = [name for name in columns(rows) if name != TRIVIAL]
    colour = colours(models)

    def draw(axes) -> None:
        for model in models:
            mine = [(row.k, row.cells[model]) for row in rows if model in row.cells]
            paper = [(row.k, entry(row, model).value) for row in rows if entry(row, model)]
            if paper:
                axes.plot(*zip(*paper), ":", color=colour[model], lw=1.0, alpha=0.8)
            if mine:
                k = [number for number, _ in mine]
                axes.fill_between(
                    k,
                    [cell.low for _, cell in mine],
                    [cell.high for _, cell in mine],
                    color=colour[model],
                    alpha=0.16,
                    lw=0,
                )
                axes.plot(k, [cell.value for _, cell in mine], "-o", color=colour[model], lw=1.5, ms=3)
        if whole is not None and whole.best:
            axes.axhline(whole.cells[whole.best].value, ls="--", lw=1, color=colours([whole.best])[whole.best])
        axes.set_xscale("log", base=2)
        axes.set_xticks(rows[0].task.k, [str(k) for k in rows[0].task.k])
        axes.minorticks_off()
        axes.set_ylim(0, 1)
        axes.grid(axis="y", lw=0.6)
        axes.set_xlabel("scans to learn from")
        axes.set_ylabel("Dice")
        axes.set_title(rows[0].name, loc="left")

    return _svg(draw, (3.3, 2.5))


def roc(row: Row, lines: Mapping[str, Sequence[Prediction]]) -> str:
    """ROC curves of pooled out-of-fold predictions; the number is the mean over folds, as in the tables. Fig. 4c of the paper."""
    from sklearn.metrics import roc_curve

    colour = colours(columns([row]))

    def draw(axes) -> None:
        axes.plot([0, 1], [0, 1], color=_LINE, lw=0.8)
        for model in columns([row]):
            if model == TRIVIAL or model not in row.cells:
                continue
            truth, p = pooled_binary(lines[model])
            x, y, _ = roc_curve(truth, p)
            axes.plot(x, y, color=colour[model], lw=1.4, label=f"{title(model)}  {row.cells[model].value:.3f}")
        axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="1 − specificity", ylabel="sensitivity", aspect="equal")
        axes.set_title(row.name, loc="left")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower right", fontsize=7.5, handlelength=1.2, **_LEGEND)

    return _svg(draw, (3.3, 3.2))


def survival(task: Task, model: str, lines: Sequence[Prediction], rivals: Mapping[str, Any]) -> str:
    """Kaplan-Meier curves of the patients that a model predicts to live short and long, with intervals and the log-rank p."""
    groups = survival_groups(lines)

    def draw(axes) -> None:
        for name, tone in (("long", "#62c7ff"), ("short", "#ffb454")):
            time, event = groups[name]
            if not len(time):
                continue
            curve = st.kaplan_meier(time, event)
            years = np.r_[0, curve["time"]] / 365.25
            axes.step(
                years, np.r_[1, curve["survival"]], where="post", color=tone, lw=1.5, label=f"{name} ({len(time)})"
            )
            low, high = (np.r_[1, curve[key]] for key in ("low", "high"))
            inside = np.isfinite(low) & np.isfinite(high)
            axes.fill_between(years[inside], low[inside], high[inside], step="post", color=tone, alpha=0.15, lw=0)
        axes.axvline(task.survival_years, color=_QUIET, lw=0.8, ls=":")
        axes.set(ylim=(0, 1.02), xlabel="years", ylabel="survival")
        axes.set_xlim(left=0)
        axes.set_title(f"{task.title}: {title(model, rivals, task)}", loc="left", fontsize=9)
        p = st.log_rank(groups["short"], groups["long"])
        note = "one group only" if p is None else f"log-rank p {p_words(p)}"
        if axes.get_legend_handles_labels()[0]:
            legend = axes.legend(fontsize=7.5, title=note, title_fontsize=7.5, loc="upper right", **_LEGEND)
            legend.get_title().set_color(_QUIET)

    return _svg(draw, (3.3, 2.4))


# ---------------------------------------------------------------------------------------------------------------


def _svg(draw: Callable, inches: tuple[float, float]) -> str:
    """SVG text of what ``draw`` puts on an axes, with the page's fonts and colours."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**_RC, "svg.hashsalt": "slicerpasta"}):
        figure = Figure(inches, layout="constrained")
        draw(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'font: ([^;"]*?)\'DejaVu Sans\'[^;"]*', r"font: \1system-ui,sans-serif", text)
    for colour, replacement in (
        (_TEXT, "var(--text)"),
        (_QUIET, "var(--quiet)"),
        (_LINE, "var(--line)"),
        (_CARD, "var(--card)"),
    ):
        text = text.replace(colour, replacement)
    return re.sub(r"\n\s*", "\n", text)


def legend(models: Sequence[str], rivals: Mapping[str, Any], task: Task) -> list[tuple[str, str]]:
    """(name, colour) of the models for the page's own legend."""
    return [(title(name, rivals, task), colours(models)[name]) for name in models]


def shown(rows: Sequence[Row]) -> list[str]:
    """Models that appear in plots of these rows: run, or published."""
    return [name for name in columns(rows) if any(name in row.cells or base(name) in row.entries for row in rows)]
