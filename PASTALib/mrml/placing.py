"""Lesions at a clicked point: centred on it where their type may lie there, and quick drafts while a control moves. No slicer here."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .. import taxonomy
from ..errors import InputError
from ..synthesis.builder import build, make_canvas
from ..synthesis.draw import draw_lesion
from ..synthesis.generator import random_streams, synthesise
from ..synthesis.placement import NoPlace, capacity_mm, find_site
from ..synthesis.scan import PreparedScan
from ..synthesis.spec import LesionRequest, SynthesisResult

CENTRED_VOXELS = 0.5  # of the finest axis: how near the lesion's centroid comes to the point asked for
_GOAL_VOXELS = 0.25
_CORRECTIONS = 3  # complete lesions that are made to get there
_DRAFTS = 6
_FREE_SHARE = (
    0.3  # of the mean diameter: a centroid farther off was moved to the nearest allowed site, which no shift will mend
)


@dataclass(frozen=True)
class Draft:
    """A lesion that was built but not measured, for the moment in which a control moves; fields as in ``SynthesisResult``."""

    request: LesionRequest
    region: tuple[slice, slice, slice]
    after: np.ndarray
    label: np.ndarray
    changed: np.ndarray
    center_ras: tuple[float, float, float]


def synthesise_at(scan: PreparedScan, request: LesionRequest, progress=None) -> SynthesisResult:
    """``synthesise``, with the lesion's centroid on ``request.at_ras`` to half a voxel where its type may lie there.

    An outline is not symmetric, so a lesion is placed again with the point shifted against its error. ``result.request.at_ras`` is the
    point that gives exactly this lesion; ``parameters["clicked_ras"]`` the one that was asked for. Where the type is bound to a place
    (walls, gravity, calyces, the rim of an organ) the nearest allowed site stands. Errors as ``synthesise``.
    """
    best = synthesise(scan, request, progress)
    if request.at_ras is None:
        return best
    clicked = np.asarray(request.at_ras, float)
    goal = _GOAL_VOXELS * float(scan.spacing.min())
    for _ in range(_CORRECTIONS):
        error = np.asarray(best.center_ras) - clicked
        if np.linalg.norm(error) <= goal or not _may_be_shifted(best, error):
            break
        aim = _better_aim(scan, best, clicked)
        try:
            again = synthesise(scan, replace(request, at_ras=tuple(float(a) for a in aim)), progress)
        except InputError:
            break
        if again.accepted < best.accepted or np.linalg.norm(np.asarray(again.center_ras) - clicked) >= np.linalg.norm(
            error
        ):
            break
        best = again
    best.parameters["clicked_ras"] = [float(c) for c in clicked]
    return best


def _may_be_shifted(result: SynthesisResult, error: np.ndarray) -> bool:
    mean = float(np.prod(result.measurement.size_zxy_mm) ** (1 / 3))
    return result.parameters["kind"] == "solid" and float(np.linalg.norm(error)) <= _FREE_SHARE * mean


def _better_aim(scan: PreparedScan, result: SynthesisResult, clicked: np.ndarray) -> np.ndarray:
    """The point to ask for: found with drafts of the same try, whose centroid is known after a tenth of the work."""
    aim = np.asarray(result.request.at_ras, float)
    error = np.asarray(result.center_ras) - clicked
    best, least, step = aim - error, np.inf, 1.0
    trial = best
    for _ in range(_DRAFTS):
        draft = _draft(scan, replace(result.request, at_ras=tuple(trial)), result.tries)
        if draft is None:
            break
        error = np.asarray(draft.center_ras) - clicked
        size = float(np.linalg.norm(error))
        if size < least:
            best, least = trial, size
        else:
            step *= 0.5
        if size <= 0.4 * _GOAL_VOXELS * float(scan.spacing.min()):
            break
        trial = trial - step * error
    return best


def draft_at(scan: PreparedScan, request: LesionRequest) -> Draft | None:
    """The lesion of the first try, built and not measured: what ``synthesise`` gives whenever its first try is accepted as drawn.

    None when that try finds no place; ``synthesise_at`` then says more. InputError for an impossible request.
    """
    if request.lesion not in taxonomy.LESION_KEYS:
        raise InputError(f"unknown lesion type {request.lesion!r}; choose from: {', '.join(taxonomy.LESION_KEYS)}")
    return _draft(scan, request, 1)


def _draft(scan: PreparedScan, request: LesionRequest, number: int) -> Draft | None:
    rng, size_rng = random_streams(request, number)
    try:
        draw = draw_lesion(rng, request, scan, capacity_mm(scan, request.lesion), size_rng)
        site = find_site(scan, rng, draw, request.at_ras, request.prone, number)
    except NoPlace:
        return None
    canvas = make_canvas(scan, draw, site)
    built = build(canvas, draw)
    if not built.label.any():
        return None
    centre = np.argwhere(built.label).mean(0) + [part.start for part in canvas.region]
    return Draft(
        request,
        canvas.region,
        np.rint(built.after),
        built.label,
        built.weight > 0,
        tuple(float(c) for c in scan.ct.to_ras(centre)),
    )
