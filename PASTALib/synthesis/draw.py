"""Turns a request and the priors into one concrete lesion: every open choice is drawn here, and only here."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from .. import attributes, taxonomy
from ..errors import InputError
from .measure_shape import shape_figures
from .priors import IRREGULAR, PUNCTATE, ROUND, WALL, DensityPart, TypePriors, draw, load_priors
from .shape import ShapeSpec, distance, fit_to_size, natural_size, random_directions, random_rotation

HYPO, ISO, HYPER = "Hypodense", "Isodense", "Hyperdense"
HOMOGENEOUS, HETEROGENEOUS = "Homogeneous", "Heterogeneous"
WELL, ILL = "Well-defined margin", "Ill-defined margin"
APART, CLOSE = attributes.options("invasion")
DEAD_ZONE_HU = (
    8.0,
    18.0,
)  # differences between these would be neither isodense nor clearly not: they are drawn to the nearer end
ISO_LIMIT_HU = 10.0
OUTWARD_SHARE = {
    "colorectal_cancer": (0.25, 0.45),
    "esophageal_cancer": (0.2, 0.4),
}  # of a thickened wall beyond the old outer surface
NOISE_SHARE = 0.68  # of an irregular outline's roughness that surface noise gives; lobes give the rest
STONES = ("gallstone", "kidney_stone")
CYSTS = ("liver_cyst", "pancreas_cyst", "kidney_cyst")


@dataclass(frozen=True)
class WallSpec:
    """A wall thickening: thickness across, length along the organ, share of the circumference (1 = annular), growth outwards; mm."""

    thickness_mm: float
    length_mm: float
    arc: float
    outward: float
    shoulder: float


@dataclass(frozen=True)
class LesionDraw:
    """One concrete lesion, before it has a place. Lengths in mm, HU as stated; ``options`` are the attribute options aimed at."""

    lesion: str
    kind: str  # "solid", "wall", "polyp", "gallstone", "kidney_stone"
    outline: ShapeSpec
    size_zyx_mm: tuple[float, float, float]
    wall: WallSpec | None
    reference: str
    density_kind: str  # "delta" or "absolute"
    density_hu: float
    density_name: str
    components: tuple[str, ...]
    texture_sd_hu: float
    ill: bool
    edge_factor: float
    close: bool
    exophytic: float | None
    site: str
    hu_limits: tuple[float, float]
    seed: int
    options: dict[str, str] = field(default_factory=dict)
    extra_clearance_mm: float = 0.0

    @property
    def radius_mm(self) -> float:
        """Half the geometric mean of the extents."""
        return float(np.prod(self.size_zyx_mm) ** (1 / 3)) / 2


def allowed_options(lesion_key: str, phase: str | None = None) -> dict[str, tuple[str, ...]]:
    """Which option strings a lesion type may be asked for, per attribute key (shape, density, heterogeneity, surface, invasion)."""
    priors = load_priors()[lesion_key]
    malignant = taxonomy.lesion(lesion_key).malignant
    if lesion_key in CYSTS:  # on plain CT fluid and parenchyma may look the same
        density: tuple[str, ...] = (HYPO,) if phase == taxonomy.ENHANCED else (HYPO, ISO)
    elif lesion_key in ("kidney_stone", "lung_tumor"):
        density = (HYPER,)
    elif lesion_key == "bone_metastasis":
        density = (HYPO, HYPER)
    else:
        density = (HYPO, ISO, HYPER)
    return {
        "shape": tuple(option for option in attributes.options("shape") if priors.shape.get(option, 0) > 0),
        "density": density,
        "heterogeneity": attributes.options("heterogeneity"),
        "surface": attributes.options("surface"),
        "invasion": attributes.options("invasion") if malignant else (APART,),
    }


def check_request(request, phase: str | None = None) -> dict[str, str]:
    """The request's attributes with canonical option strings; InputError for anything that the type (in this phase) cannot be."""
    allowed = allowed_options(request.lesion, phase)
    result = {}
    for key, text in request.attributes.items():
        if key not in allowed:
            raise InputError(
                f"attribute {key!r} cannot be set; choose from {', '.join(allowed)} (size and place have their own options)"
            )
        option = attributes.parse(key, text)
        if option not in allowed[key]:
            name = taxonomy.lesion(request.lesion).name.lower()
            raise InputError(
                f"a {name} cannot have {key} {option!r}; possible: {', '.join(repr(o) for o in allowed[key])}"
            )
        result[key] = option
    if request.density_delta_hu is not None and "density" in result:
        raise InputError("give either a density option or a difference in HU, not both")
    if request.density_delta_hu is not None and density_label(request.density_delta_hu) not in allowed["density"]:
        name = taxonomy.lesion(request.lesion).name.lower()
        raise InputError(
            f"a {name} cannot differ by {request.density_delta_hu:+g} HU from its surroundings ({density_label(request.density_delta_hu)}); possible: {', '.join(allowed['density'])}"
        )
    if request.size_mm is not None:
        if len(request.size_mm) != 3 or not all(np.isfinite(s) and 1.0 <= s <= 250.0 for s in request.size_mm):
            raise InputError(f"size {request.size_mm} is not usable; give three extents Z×X×Y between 1 and 250 mm")
        if result.get("shape") == PUNCTATE and max(request.size_mm) > 10:
            raise InputError(
                f"{PUNCTATE!r} means at most 10 mm, but the size asked for is {max(request.size_mm):g} mm; choose another shape or size"
            )
    return result


def draw_lesion(
    rng: np.random.Generator,
    request,
    scan,
    capacity_mm: float,
    size_rng: np.random.Generator | None = None,
    crowded: bool = False,
) -> LesionDraw:
    """Draw everything that ``request`` leaves open.

    ``capacity_mm``: largest mean diameter that the organ can hold. ``size_rng`` draws size and shape (default ``rng``): further tries of a
    request keep them, or else large lesions, which are harder to place, would become too rare. ``crowded``: the last try found no room
    that keeps off the neighbours, so a malignant lesion may now touch them.
    """
    priors = load_priors()[request.lesion]
    wanted = check_request(request, scan.phase)
    size, shape = _size_and_shape(size_rng or rng, priors, request, wanted, capacity_mm)
    kind = _kind(request.lesion, shape)
    major = float(size[0])
    components, part, heterogeneity = _appearance(rng, priors, request, wanted, scan, shape, major)
    density_kind, density_hu, density_option = _density(rng, priors, request, wanted, scan, part, shape)
    ill_width = 2.9 * scan.edge_width_mm
    ill = (
        wanted["surface"] == ILL
        if "surface" in wanted
        else bool(rng.random() < priors.ill_defined.at(major) and float(min(size)) > 1.15 * ill_width)
    )
    roomy = float(min(size)) > 5 * float(scan.spacing.max())  # invasion of a few voxels could not be told
    close = (
        wanted["invasion"] == CLOSE
        if "invasion" in wanted
        else bool(
            (rng.random() < priors.close.at(major) or (crowded and taxonomy.lesion(request.lesion).malignant)) and roomy
        )
    )
    exophytic = None
    if priors.exophytic is not None:
        exophytic = priors.exophytic.sample(rng)
    if shape == IRREGULAR and "shape" not in wanted and float(size[0]) < 6 * float(scan.spacing.max()):
        shape = ROUND  # too few voxels to show an irregular outline
        size = np.array([size[0], max(size[1], 0.82 * size[0]), max(size[2], 0.74 * size[0])])
    outline = _outline(
        rng,
        priors,
        request.lesion,
        shape,
        size,
        scan.spacing,
        spiculated=bool(rng.random() < priors.spiculation.at(major)),
        satellites=bool(rng.random() < priors.satellites),
    )
    if request.size_mm is not None:
        along = np.empty(3)
        along[list(scan.patient_axes)] = request.size_mm
        extents = tuple(along)
        outline = fit_to_size(outline, extents)
    else:
        extents = natural_size(outline)[0]
    wall = _wall(rng, priors, request, major) if kind == "wall" else None
    options = {
        "shape": shape,
        "density": density_option,
        "heterogeneity": heterogeneity,
        "surface": ILL if ill else WELL,
        "invasion": CLOSE if close else APART,
    }
    return LesionDraw(
        lesion=request.lesion,
        kind=kind,
        outline=outline,
        size_zyx_mm=tuple(float(e) for e in extents),
        wall=wall,
        reference=priors.reference_for(shape),
        density_kind=density_kind,
        density_hu=density_hu,
        density_name=part.name,
        components=components,
        texture_sd_hu=float(rng.uniform(16.0, 27.0) * (1 + 2.0 / max(major / 2, 4.0))),
        ill=ill,
        edge_factor=float(rng.uniform(2.8, 3.4) if ill else rng.uniform(0.92, 1.08)),
        close=close,
        exophytic=exophytic,
        site=draw(priors.sites, rng) if priors.sites else "",
        hu_limits=priors.hu_limits,
        seed=int(rng.integers(2**63)),
        options=options,
    )


def _kind(lesion: str, shape: str) -> str:
    if lesion in STONES:
        return lesion
    if shape == WALL:
        return "wall"
    return "polyp" if taxonomy.organ(taxonomy.lesion(lesion).organ).hollow else "solid"


def _size_and_shape(rng, priors: TypePriors, request, wanted, capacity_mm):
    """Extents along the lesion's own axes (mm, descending) and the shape option."""
    ratios = priors.mid_ratio.sample(rng), priors.minor_ratio.sample(rng)
    if request.size_mm is not None:
        size = np.sort(np.asarray(request.size_mm, float))[::-1]
        shape = wanted.get("shape") or _shape_for(rng, priors, float(size[0]))
        return size, shape
    fixed = wanted.get("shape")
    mean = (ratios[0] * ratios[1]) ** (1 / 3)
    for _ in range(200):
        shape, major = priors.sample_shape_and_size(rng, fixed)
        if fixed == PUNCTATE and major > 9.7:
            continue
        if fixed in (ROUND, IRREGULAR) and PUNCTATE in priors.shape and major < 11.0:
            continue
        if shape == WALL or major * mean <= capacity_mm:
            break
    else:
        major = min(major, 0.9 * capacity_mm / mean)
    if fixed == PUNCTATE:
        major = min(major, 9.7)
    if shape == ROUND:
        ratios = max(ratios[0], 0.76), max(ratios[1], 0.66)
    return np.array([major, major * max(ratios), major * min(ratios)]), shape


def _shape_for(rng, priors: TypePriors, major: float) -> str:
    """A shape for a given size. Up to 10 mm, types that know "Punctate, nodular" are exactly that."""
    if PUNCTATE in priors.shape and major <= 10.0:
        return PUNCTATE
    rest = {k: v for k, v in priors.shape.items() if k not in (PUNCTATE, WALL) and v > 0}
    total = sum(rest.values())
    return draw({k: v / total for k, v in rest.items()}, rng) if total > 0 else ROUND


def _appearance(rng, priors: TypePriors, request, wanted, scan, shape: str, major: float):
    """Heterogeneity components, the density part and the heterogeneity option aimed at."""
    part = _density_part(rng, priors, request, wanted, scan, shape)
    heterogeneous = (
        wanted.get("heterogeneity") == HETEROGENEOUS
        if "heterogeneity" in wanted
        else bool(rng.random() < priors.heterogeneous.at(major))
    )
    forced = part.component
    if forced and "heterogeneity" not in wanted:
        heterogeneous = True
    chosen: list[str] = []
    if heterogeneous:
        chosen = [name for name, p in priors.components.items() if rng.random() < p]
        if forced and forced not in chosen:
            chosen.append(forced)
        if major < 11:  # too small to show more than a change of texture
            chosen = [name for name in chosen if name not in ("necrosis", "rim", "capsule", "septa")]
        if not set(chosen) & {"mottled", "necrosis", "mixed_lytic_blastic", "ground_glass", "laminated"}:
            chosen.append("laminated" if request.lesion in STONES else "mottled")
        if "ground_glass" in chosen and shape == PUNCTATE:
            chosen.remove("ground_glass")
            chosen.append("mottled")
    return tuple(sorted(set(chosen))), part, HETEROGENEOUS if heterogeneous else HOMOGENEOUS


def reference_level(scan, priors: TypePriors, shape: str) -> float:
    """Expected HU of the tissue that density is relative to, from the whole organ."""
    reference = priors.reference_for(shape)
    organ = taxonomy.lesion(priors.lesion).organ
    return scan.tissue_hu.get({"parenchyma": organ}.get(reference, reference), scan.tissue_hu.get(organ, 40.0))


def density_label(delta_hu: float) -> str:
    """Density option of a difference to the reference tissue (isodense within ±10 HU)."""
    if abs(delta_hu) <= ISO_LIMIT_HU:
        return ISO
    return HYPER if delta_hu > 0 else HYPO


def _delta_of(part: DensityPart, value: float, level: float) -> float:
    return value if part.kind == "delta" else value - level


def _density_part(rng, priors, request, wanted, scan, shape) -> DensityPart:
    """A density part of the scan's phase; with a label asked for, one that can give it where the type has such a part."""
    phase = scan.phase if scan.phase in priors.density else taxonomy.ENHANCED
    level = reference_level(scan, priors, shape)
    part = priors.choose_density(phase, rng)
    if "density" in wanted:
        for _ in range(40):
            if density_label(_delta_of(part, part.value.mean, level)) == wanted["density"]:
                break
            part = priors.choose_density(phase, rng)
    if wanted.get("heterogeneity") == HOMOGENEOUS and part.component:
        plain = [p for p in priors.density[phase] if not p.component]
        part = plain[int(rng.integers(len(plain)))] if plain else part
    return part


def _density(rng, priors, request, wanted, scan, part: DensityPart, shape: str) -> tuple[str, float, str]:
    """Kind, HU value and the label it will give. Differences in the dead zone between labels move to its nearer end."""
    level = reference_level(scan, priors, shape)
    if request.density_delta_hu is not None:
        return "delta", float(request.density_delta_hu), density_label(request.density_delta_hu)
    value = part.value.sample(rng)
    label = wanted.get("density")
    if label is not None:
        for _ in range(60):
            if density_label(_delta_of(part, value, level)) == label:
                break
            value = part.value.sample(rng)
        else:
            delta = {HYPO: -rng.uniform(20, 50), ISO: rng.uniform(-7, 7), HYPER: rng.uniform(20, 50)}[label]
            return "delta", float(delta), label
    if part.kind == "delta":
        value = clear_of_dead_zone(value, label)
        return "delta", float(value), density_label(value)
    return "absolute", float(value), density_label(value - level)


def clear_of_dead_zone(delta: float, label: str | None) -> float:
    """A difference (HU) that is plainly isodense or plainly not: values between 8 and 18 HU move to the end that ``label`` names."""
    low, high = DEAD_ZONE_HU
    size = abs(delta)
    if not low < size < high:
        return delta
    to_iso = label == ISO or (label is None and size < ISO_LIMIT_HU)
    return float(np.copysign(low if to_iso else high, delta))


def _outline(
    rng, priors: TypePriors, lesion: str, shape: str, size: np.ndarray, spacing, spiculated: bool, satellites: bool
) -> ShapeSpec:
    """Outline with own-axis extents ``size`` (mm) at a random orientation, rough enough (or smooth enough) to be what it is called."""
    rotation = random_rotation(rng)
    exponent = float(rng.uniform(2.0, 2.4))
    seed = int(rng.integers(2**63))
    irregular = shape in (IRREGULAR, WALL)
    rough = NOISE_SHARE * priors.roughness.sample(rng) if irregular else min(priors.roughness_round.sample(rng), 0.08)
    lobes = tuple(
        (d, float(rng.uniform(0.55, 0.8)), float(rng.uniform(0.45, 0.65)))
        for d in random_directions(rng, int(rng.integers(0, 3)))
    )
    facets = tuple((d, float(rng.uniform(0.72, 0.9))) for d in random_directions(rng, int(rng.integers(3, 7))))
    spec = ShapeSpec(
        tuple(size / 2),
        np.eye(3),
        exponent,
        rough,
        priors.roughness_correlation,
        lobes if irregular else (),
        facets=facets if lesion == "gallstone" and size[0] > 6 else (),
        seed=seed,
    )
    for _ in range(5):
        got = np.array(natural_size(replace(spec, rotation=np.eye(3)))[0])
        axes = np.asarray(spec.semi_axes_mm) * np.clip(size / np.maximum(got, 1e-3), 0.5, 1.6)
        spec = replace(spec, semi_axes_mm=tuple(axes), rotation=rotation)
        if shape not in (ROUND, IRREGULAR):
            break
        sphericity, solidity = _sphericity(spec, spacing)
        if shape == IRREGULAR and sphericity > 0.87 and solidity > 0.885:
            spec = replace(spec, roughness=max(spec.roughness, 0.05) * 1.3)
        elif shape == ROUND and sphericity < 0.93 and spec.roughness > 0.004:
            spec = replace(spec, roughness=spec.roughness * 0.6)
        else:
            break
    radius = spec.mean_radius_mm
    spicules, extra = (), ()
    if spiculated and radius > 4:
        count = int(rng.integers(7, 15))
        spicules = tuple(
            (d, float(rng.uniform(3, 4.5 + 0.2 * radius)), float(rng.uniform(1.1, 1.7)))
            for d in random_directions(rng, count)
        )
    if satellites and shape == IRREGULAR and radius > 5:
        directions = random_directions(rng, int(rng.integers(1, 4)))
        extra = tuple(
            (d * radius * float(rng.uniform(1.5, 1.9)), float(rng.uniform(0.12, 0.25)) * radius) for d in directions
        )
    return replace(spec, spicules=spicules, satellites=extra)


def _sphericity(spec: ShapeSpec, spacing) -> tuple[float, float]:
    """Sphericity and solidity of the outline on voxels like the scan's (coarser for large lesions)."""
    reach = spec.reach_mm + np.asarray(spacing)
    step = np.maximum(np.asarray(spacing, float), 2 * reach.max() / 40)
    axes = tuple(np.arange(-np.ceil(r / s), np.ceil(r / s) + 1) * s for r, s in zip(reach, step))
    mask = distance(spec, axes) < 0
    if np.count_nonzero(mask) < 16:
        return 0.9, 1.0
    figures = shape_figures(mask, step)
    return figures.sphericity, figures.solidity


def _wall(rng, priors: TypePriors, request, major: float) -> WallSpec:
    wall = priors.wall
    thickness, length, arc = wall.thickness.sample(rng), wall.length.sample(rng), wall.sample_arc(rng)
    if request.size_mm is not None:
        length = float(max(request.size_mm))
        thickness = min(thickness, 0.45 * length)
    thickness = min(thickness, 0.6 * length)
    return WallSpec(
        float(thickness),
        float(length),
        float(arc),
        float(rng.uniform(*OUTWARD_SHARE.get(priors.lesion, (0.1, 0.3)))),
        float(rng.uniform(2.0, 5.0)),
    )
