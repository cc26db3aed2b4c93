"""Lesions of exactly known size, density and margin at one place: PASTA-Gen's parts without its choice of what to accept.

The generator draws again until the words of its report fit the image. Here figures matter, not words, and levels must differ in nothing else: all
levels of a curve have the same place, outline and noise, so one lesion is built once and measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from PASTALib import taxonomy
from PASTALib.attributes import StructuredReport
from PASTALib.errors import InputError
from PASTALib.organs import location_detail
from PASTALib.synthesis.builder import Built, Canvas, build, make_canvas
from PASTALib.synthesis.draw import (
    APART,
    HOMOGENEOUS,
    ILL,
    WELL,
    LesionDraw,
    allowed_options,
    draw_lesion,
    reference_level,
)
from PASTALib.synthesis.generator import measure_built, random_streams
from PASTALib.synthesis.placement import NoPlace, capacity_mm, find_site
from PASTALib.synthesis.priors import PUNCTATE, ROUND, load_priors
from PASTALib.synthesis.scan import PreparedScan
from PASTALib.synthesis.spec import LesionRequest, SynthesisResult

from .design import Setting

Improve = Callable[[PreparedScan, SynthesisResult], SynthesisResult]
LEAST_SURVIVING = 0.9  # share of the outline's volume that organ borders must leave, or the lesion is not of its size
ILL_FROM = 2.0  # times the scan's own sharpness: from here on a margin is built as ill-defined
SPARE_HU = 5.0  # a lesion may aim this far beyond its type's limits
FITTING, WHOLE = 0.95, 0.99  # the same share where a place is chosen: least, and enough to look no further
_TRIES = 8
_PUNCTATE_MM = 9.7


@dataclass(frozen=True)
class Lesion:
    """One lesion as a patch of the scan: ``region`` slices (z, y, x); ``hu`` int16 and ``label`` bool on it; ``location`` in words.

    ``measured`` figures: size_mm (diameter of a ball of the mask's volume), delta_hu, edge_mm (10-90 % width), depth_mm (of its centre below
    the organ's surface), NaN where a figure could not be measured.
    """

    region: tuple[slice, slice, slice]
    hu: np.ndarray
    label: np.ndarray
    centre_ras: tuple[float, float, float]
    location: str
    measured: dict[str, float]


def possible(scan: PreparedScan, setting: Setting) -> str:
    """Why this scan cannot have such a lesion, in a few words; "" when it can."""
    organ = taxonomy.lesion(setting.lesion).organ
    if organ not in scan.geometry:
        return f"the organ map has no {taxonomy.organ(organ).name.lower()}"
    room = capacity_mm(scan, setting.lesion)
    if setting.size_mm > room:
        return f"the {taxonomy.organ(organ).name.lower()} has room for {room:.0f} mm"
    if setting.delta_hu is None:
        return ""
    priors = load_priors()[setting.lesion]
    level = reference_level(scan, priors, _shape(setting)) + setting.delta_hu
    low, high = priors.hu_limits
    if not low - SPARE_HU <= level <= high + SPARE_HU:
        return f"{level:.0f} HU are outside the {low:.0f} to {high:.0f} HU of a {taxonomy.lesion(setting.lesion).name.lower()}"
    try:
        _draw(scan, setting, 0, 1)
    except InputError as error:
        return str(error)
    return ""


def find_place(scan: PreparedScan, settings: Sequence[Setting], seed: int) -> tuple[float, float, float] | None:
    """A point (RAS mm) where the largest of ``settings`` that fits anywhere can be; None when none can. They share lesion type and site."""
    for setting in sorted(settings, key=lambda item: -item.size_mm):
        best: tuple[float, tuple[float, float, float] | None] = (FITTING, None)
        for number in range(1, _TRIES + 1):
            try:
                site, canvas, draw = _site(scan, setting, seed, number, None)
            except NoPlace:
                continue
            survived = build(canvas, draw).survived
            if survived > best[0]:
                best = survived, tuple(float(c) for c in scan.ct.to_ras(site.centre))
            if survived > WHOLE:
                break
        if best[1] is not None:
            return best[1]
    return None


def make_lesion(
    scan: PreparedScan, setting: Setting, at_ras: Sequence[float], seed: int, improve: Improve | None = None
) -> Lesion | None:
    """The lesion at ``at_ras`` (RAS mm); the scan is not touched. None when organ borders leave less than 90 % of it.

    The same ``seed`` gives the same outline and noise at every size, density and margin. ``improve`` refines it.
    """
    try:
        _, canvas, draw = _site(scan, setting, seed, 1, at_ras)
    except NoPlace:
        return None
    built = build(canvas, draw)
    if not built.label.any() or built.survived < LEAST_SURVIVING:
        return None
    measured = measure_built(canvas, draw, built)
    centre = np.argwhere(built.label).mean(0) + [part.start for part in canvas.region]
    ras = tuple(float(c) for c in scan.ct.to_ras(centre))
    organ = taxonomy.lesion(setting.lesion).organ
    hu = np.rint(built.after)
    if improve is not None:
        hu = improve(scan, _as_result(canvas, draw, built, measured, setting, seed, ras)).after
    volume = float(np.count_nonzero(built.label) * np.prod(scan.spacing))
    figures = {
        "size_mm": (6 * volume / np.pi) ** (1 / 3),
        "delta_hu": measured.figures.get("density_delta_hu", np.nan),
        "edge_mm": measured.figures.get("edge_width_mm", np.nan),
        "depth_mm": _depth(scan, organ, centre),
    }
    place = location_detail(scan.organs, organ, ras)
    changed = ndimage.find_objects(((built.weight > 0) | built.label).astype(np.uint8))[0]
    whole = np.where(built.weight > 0, np.clip(hu, -32768, 32767), canvas.host).astype(np.int16)
    region = tuple(slice(a.start + b.start, a.start + b.stop) for a, b in zip(canvas.region, changed))
    return Lesion(region, whole[changed], built.label[changed], ras, place, figures)


def _site(scan: PreparedScan, setting: Setting, seed: int, number: int, at_ras):
    """Site, canvas and draw of try ``number``. NoPlace when it fits nowhere."""
    draw, rng = _draw(scan, setting, seed, number)
    site = find_site(scan, rng, draw, at_ras, False, number)
    return site, make_canvas(scan, draw, site), draw


def _draw(scan: PreparedScan, setting: Setting, seed: int, number: int) -> tuple[LesionDraw, np.random.Generator]:
    """Round, homogeneous, off its neighbours; nothing but the setting's figures differs between settings of one seed."""
    request = _request(setting, seed, scan.phase)
    rng, size_rng = random_streams(request, number)
    draw = draw_lesion(rng, request, scan, capacity_mm(scan, setting.lesion), size_rng)
    ill = setting.edge >= ILL_FROM
    options = {**draw.options, "surface": ILL if ill else WELL}
    return replace(draw, ill=ill, edge_factor=setting.edge, site=setting.site or draw.site, options=options), rng


def _request(setting: Setting, seed: int, phase: str) -> LesionRequest:
    wanted = {"shape": _shape(setting), "heterogeneity": HOMOGENEOUS, "surface": WELL, "invasion": APART}
    allowed = allowed_options(setting.lesion, phase)
    wanted = {key: value for key, value in wanted.items() if value in allowed[key]}
    return LesionRequest(setting.lesion, seed, None, (setting.size_mm,) * 3, wanted, setting.delta_hu)


def _shape(setting: Setting) -> str:
    """Round, or what the type calls its smallest ones."""
    shapes = allowed_options(setting.lesion)["shape"]
    return PUNCTATE if PUNCTATE in shapes and setting.size_mm <= _PUNCTATE_MM else ROUND


def _depth(scan: PreparedScan, organ: str, centre: np.ndarray) -> float:
    geometry = scan.organ_geometry(organ)
    index = np.rint(centre / scan.stride).astype(int) - geometry.offset
    inside = (index >= 0).all() and (index < geometry.depth_mm.shape).all()
    return float(geometry.depth_mm[tuple(index)]) if inside else 0.0


def _as_result(
    canvas: Canvas, draw: LesionDraw, built: Built, measured, setting: Setting, seed: int, ras
) -> SynthesisResult:
    """What refinement takes."""
    scan = canvas.scan
    report = StructuredReport.from_measurement(
        draw.lesion, measured, enhancement=scan.phase, requested=dict(draw.options), location_detail=""
    )
    return SynthesisResult(
        request=_request(setting, seed, scan.phase),
        region=canvas.region,
        before=canvas.host,
        after=np.rint(built.after),
        label=built.label,
        organ=canvas.parent & ~built.label,
        changed=built.weight > 0,
        center_ras=ras,
        requested=dict(draw.options),
        measurement=measured,
        report=report,
        tries=1,
        parameters={
            "edge_sigma_mm": built.edge_sigma_mm,
            "bulges": built.allowed_outside is not None,
            "reference_tissue": draw.reference,
        },
    )
