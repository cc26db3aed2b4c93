"""The figures of a reader study: the paper's Fig. 2 b and c, differences with the margin, ROC curves, how the scale was used."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .results import ALL, PartResults, StudyResults
from .table import DESCRIPTION, LEVELS, REAL, REALISM, SYNTHETIC, kind_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Look:
    """Colours of a figure; ``wide`` is False for a telephone."""

    ground: str
    text: str
    quiet: str
    line: str
    real: str
    synthetic: str
    attributes: tuple[str, ...]
    scale: tuple[str, ...]
    wide: bool = True


DARK = Look(
    "#1a1d21", "#e6e8eb", "#9aa3ad", "#2b3036", "#62c7ff", "#ffb454",
    ("#8fd18f", "#62c7ff", "#ffb454", "#d9a0ff", "#ff8fa3"), ("#8a3b4a", "#b5654f", "#8a8f96", "#5f9fc4", "#62c7ff"),
)  # fmt: skip
LIGHT = Look(
    "#ffffff", "#1b1e22", "#5d666f", "#dfe3e7", "#1f77b4", "#d97706",
    ("#2f8f46", "#1f77b4", "#d97706", "#8a4fbf", "#c8385a"), ("#a33a4f", "#d08770", "#b8bec5", "#7fb3d5", "#1f77b4"),
)  # fmt: skip


def narrow(look: Look) -> Look:
    """The same colours for a telephone."""
    from dataclasses import replace

    return replace(look, wide=False)


def available(results: StudyResults) -> dict[str, tuple[str, Callable[[Look], Figure]]]:
    """The figures that these results allow: file name -> (caption, function that draws it)."""
    level = f"{100 * results.settings.level:g} %"
    found: dict[str, tuple[str, Callable[[Look], Figure]]] = {}
    realism, description = (results.parts.get(name) for name in (REALISM, DESCRIPTION))
    if realism is not None and realism.realism is not None and realism.realism.means:
        found["realism_by_type"] = (
            f"Mean realism of real and synthetic cases by lesion type, with {level} intervals; small marks: single readers.",
            lambda look: by_type(realism, look),
        )
        if realism.realism.differences:
            found["difference_by_type"] = (
                f"Synthetic less real, with {level} intervals; shaded: within the margin of {results.settings.margin:g} points.",
                lambda look: differences(realism, results.settings.margin, look),
            )
            found["roc"] = (
                "Readers telling real from synthetic cases by their realism scores.",
                lambda look: roc(realism, look),
            )
        found["use_of_scale"] = ("Share of each score, by reader.", lambda look: use_of_scale(realism, look))
    if description is not None and description.means:
        found["description_by_type"] = (
            f"Mean accuracy of the description by lesion type, with {level} intervals; small marks: single attributes.",
            lambda look: descriptions(description, look),
        )
    return found


def svg(figure: Figure) -> str:
    """The figure as SVG text, without a date, so that the same results give the same bytes."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "pasta", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, facecolor=figure.get_facecolor())
    return buffer.getvalue().decode()


def _figure(look: Look, width: float, height: float, narrow_height: float | None = None):
    from matplotlib.figure import Figure

    size = (width, height) if look.wide else (4.0, narrow_height or height)
    figure = Figure(figsize=size, dpi=200, facecolor=look.ground, layout="constrained")
    return figure


def _axes(figure: Figure, look: Look, place=111):
    axes = figure.add_subplot(place)
    axes.set_facecolor(look.ground)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("bottom",))
        spine.set_color(look.quiet)
    axes.tick_params(colors=look.text, labelsize=9, length=0, pad=4)
    axes.xaxis.label.set_color(look.quiet)
    axes.xaxis.label.set_size(9)
    axes.yaxis.label.set_color(look.quiet)
    axes.yaxis.label.set_size(9)
    axes.grid(axis="x", color=look.line, linewidth=0.8)
    axes.set_axisbelow(True)
    return axes


def _rows(axes, kinds, look: Look) -> dict[str, float]:
    """One line per lesion type, all types together on top and set apart; returns the height of each."""
    names = [ALL, *kinds]
    heights = {name: -float(n) - (0.5 if n else 0.0) for n, name in enumerate(names)}
    axes.set_yticks(list(heights.values()), ["All types" if n == ALL else kind_name(n) for n in names])
    axes.set_ylim(min(heights.values()) - 0.6, 0.6)
    axes.axhline(-0.75, color=look.line, linewidth=0.8)
    axes.get_yticklabels()[0].set_fontweight("bold")
    return heights


def _legend(axes, look: Look, columns: int, handles=None) -> None:
    options = {"handles": handles} if handles else {}
    legend = axes.legend(
        **options, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, frameon=False, fontsize=9, handletextpad=0.3, columnspacing=1.4,
        borderaxespad=0.2,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_color(look.text)


def _dot(axes, estimate, y: float, colour: str, label: str = "", marker: str = "o", size: float = 6.0) -> None:
    low, high = estimate.shown
    if np.isfinite(low):
        axes.plot((low, high), (y, y), color=colour, linewidth=2.0, solid_capstyle="round", zorder=3)
    axes.plot(estimate.value, y, marker, color=colour, markersize=size, label=label or None, zorder=4, linestyle="none")


def _span(axes, values, look: Look, low: float = 1.0, high: float = float(LEVELS)) -> None:
    """Limits that hold all values, on the half point, and a note where the axis does not start at the scale's start."""
    values = [v for v in values if np.isfinite(v)]
    start = max(low, np.floor(2 * (min(values) - 0.05)) / 2)
    start = min(start, high - 1)
    axes.set_xlim(start, high + 0.03 * (high - start))
    if high - start <= 2:
        axes.set_xticks(np.arange(start, high + 0.01, 0.25 if high - start <= 1 else 0.5))


def by_type(part: PartResults, look: Look) -> Figure:
    """Mean score of real and synthetic cases by lesion type (the paper's Fig. 2 b)."""
    figure = _figure(look, 8.6, 1.6 + 0.38 * len(part.kinds), 1.7 + 0.42 * len(part.kinds))
    axes = _axes(figure, look)
    heights = _rows(axes, part.kinds, look)
    values = []
    for truth, colour, shift, marker in ((REAL, look.real, 0.16, "o"), (SYNTHETIC, look.synthetic, -0.16, "D")):
        for kind, estimate in part.realism.means.get(truth, {}).items():
            y = heights[kind] + shift
            _dot(
                axes,
                estimate,
                y,
                colour,
                truth.capitalize() if kind == ALL else "",
                marker,
                6.5 if marker == "o" else 5.5,
            )
            axes.plot(
                estimate.per_reader,
                [y] * len(estimate.per_reader),
                "|",
                color=look.text,
                alpha=0.8,
                markersize=7,
                zorder=5,
            )
            values += [estimate.value, *estimate.per_reader, *estimate.shown]
    _span(axes, values, look)
    axes.set_xlabel(_scale_label(axes, "Mean realism"))
    _legend(axes, look, 2)
    return figure


def _scale_label(axes, text: str) -> str:
    start = axes.get_xlim()[0]
    return f"{text} (1 to 5" + (f"; axis from {start:g})" if start > 1 else ")")


def descriptions(part: PartResults, look: Look) -> Figure:
    """Mean accuracy of the description by lesion type (the paper's Fig. 2 c), with the attributes as small marks."""
    figure = _figure(look, 8.6, 1.6 + 0.34 * len(part.kinds), 2.0 + 0.4 * len(part.kinds))
    axes = _axes(figure, look)
    heights = _rows(axes, part.kinds, look)
    markers = ("s", "^", "v", "P", "X")
    values = []
    for kind, estimate in part.means[ALL].items():
        _dot(axes, estimate, heights[kind], look.text, "Mean" if kind == ALL else "")
        values += [estimate.value, *estimate.shown]
    for question, colour, marker in zip(part.questions, look.attributes, markers):
        row = part.means.get(question, {})
        label = question.capitalize()
        axes.plot(
            [row[k].value for k in row], [heights[k] - 0.27 for k in row], marker, color=colour, markersize=4.2, linestyle="none", label=label, alpha=0.95
        )  # fmt: skip
        values += [item.value for item in row.values()]
    _span(axes, values, look)
    axes.set_xlabel(_scale_label(axes, "Mean accuracy"))
    _legend(axes, look, 6 if look.wide else 2)
    return figure


def differences(part: PartResults, margin: float, look: Look) -> Figure:
    """Synthetic less real by lesion type, with the margin shaded."""
    figure = _figure(look, 8.6, 1.4 + 0.3 * len(part.kinds), 1.5 + 0.36 * len(part.kinds))
    axes = _axes(figure, look)
    heights = _rows(axes, part.kinds, look)
    axes.axvspan(-margin, margin, color=look.real, alpha=0.1, linewidth=0)
    for edge in (-margin, margin):
        axes.axvline(edge, color=look.real, alpha=0.6, linewidth=1, linestyle=(0, (4, 3)))
    axes.axvline(0, color=look.quiet, linewidth=1)
    ends = [margin]
    for kind, estimate in part.realism.differences.items():
        _dot(
            axes,
            estimate,
            heights[kind],
            look.synthetic,
            marker="D" if kind == ALL else "o",
            size=6.5 if kind == ALL else 5.5,
        )
        ends += [abs(v) for v in (estimate.value, *estimate.shown) if np.isfinite(v)]
    reach = 1.12 * max(ends)
    axes.set_xlim(-reach, reach)
    axes.locator_params(axis="x", nbins=7 if look.wide else 5)
    axes.set_xlabel("Synthetic less real, points of the scale")
    return figure


def roc(part: PartResults, look: Look) -> Figure:
    """Empirical ROC curves of the readers and their vertical average."""
    figure = _figure(look, 5.4, 5.2, 4.2)
    axes = _axes(figure, look)
    axes.grid(axis="both", color=look.line, linewidth=0.8)
    axes.plot((0, 1), (0, 1), color=look.quiet, linewidth=1, linestyle=(0, (4, 3)))
    grid = np.linspace(0, 1, 201)
    curves = []
    for number, (reader, (false, true)) in enumerate(part.realism.roc.items()):
        false, true = np.array(false)[::-1], np.array(true)[::-1]
        if not np.isfinite(false + true).all():
            continue
        axes.plot(
            false, true, ".-", color=look.attributes[number % 5], linewidth=1.2, markersize=5, alpha=0.85, label=reader
        )
        curves.append(np.interp(grid, false, true))
    if len(curves) > 1:
        axes.plot(grid, np.mean(curves, axis=0), color=look.text, linewidth=2.4, label="Mean")
    axes.set_aspect("equal")
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.set_xlabel("Synthetic cases with at least this score")
    axes.set_ylabel("Real cases with at least this score")
    if len(curves) <= 11:
        legend = axes.legend(loc="lower right", frameon=False, fontsize=9, handlelength=1.6)
        for text in legend.get_texts():
            text.set_color(look.text)
    return figure


def use_of_scale(part: PartResults, look: Look) -> Figure:
    """Stacked shares of the scores 1 to 5 that each reader gave to real and to synthetic cases."""
    from matplotlib.patches import Patch

    truths = [truth for truth in (REAL, SYNTHETIC) if truth in part.realism.means]
    figure = _figure(
        look, 8.6, 1.3 + 0.36 * len(part.readers) * len(truths), 1.5 + 0.4 * len(part.readers) * len(truths)
    )
    axes = _axes(figure, look)
    labels, places = [], []
    for r, reader in enumerate(part.readers):
        for t, truth in enumerate(truths):
            counts = np.array(part.realism.spread[reader, truth], float)
            y = -(len(truths) + 0.6) * r - t
            shares = 100 * counts / counts.sum() if counts.sum() else counts
            begin = 0.0
            for score, share in enumerate(shares):
                axes.barh(y, share, 0.78, left=begin, color=look.scale[score], edgecolor=look.ground, linewidth=0.8)
                if share >= (4 if look.wide else 9):
                    axes.text(
                        begin + share / 2, y, f"{share:.0f}", ha="center", va="center", fontsize=8, color="#101214"
                    )
                begin += share
            labels.append(f"{reader}, {truth}" if len(reader) <= 14 else f"{reader[:13]}…, {truth}")
            places.append(y)
    axes.set_yticks(places, labels)
    axes.set_xlim(0, 100)
    axes.set_ylim(min(places) - 0.7, 0.7)
    axes.set_xlabel("% of cases")
    axes.grid(False)
    _legend(axes, look, 5, [Patch(color=colour, label=f"{score}") for score, colour in enumerate(look.scale, 1)])
    return figure
