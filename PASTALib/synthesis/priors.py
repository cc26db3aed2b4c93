"""Reads the priors of the fifteen lesion types from ``priors.toml`` and draws from them.

Everything medical lives in the TOML file, which explains its own format; here are only its types, its validation and
sampling. Draws take a ``numpy.random.Generator`` (anything with ``random() -> float`` in [0, 1) works) and always use
the same number of random numbers, so one changed prior does not shift the others of a seeded case.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import NormalDist
from types import MappingProxyType
from typing import Any, Protocol

from ..errors import InputError
from ..taxonomy import ENHANCED, LESION_KEYS, PLAIN, lesion

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PRIORS_FILE = Path(__file__).with_name("priors.toml")

ROUND, IRREGULAR, WALL, PUNCTATE = SHAPES = ("Round-like", "Irregular", "Wall thickening", "Punctate, nodular")
PHASES = (ENHANCED, PLAIN)
REFERENCES = ("parenchyma", "wall", "bile", "liver", "bone", "lung")
COMPONENTS = (
    "mottled",
    "necrosis",
    "rim",
    "capsule",
    "septa",
    "calcification",
    "ground_glass",
    "mixed_lytic_blastic",
    "laminated",
)
EVIDENCE = ("paper", "literature", "measured", "derived", "expert")

_STANDARD = NormalDist()
_SUM_TOLERANCE = 1e-6
_LEAST_MASS = 1e-3  # a clip range that leaves less of a distribution than this is a typing error


class Uniform(Protocol):
    """Source of uniform random numbers, such as ``numpy.random.Generator``."""

    def random(self) -> float: ...


@dataclass(frozen=True)
class LogNormal:
    """Log-normal distribution of a length: ``median`` in mm, ``sigma`` of its natural logarithm."""

    median: float
    sigma: float

    def cdf(self, mm: float) -> float:
        return _STANDARD.cdf(math.log(mm / self.median) / self.sigma) if mm > 0 else 0.0

    def quantile(self, p: float) -> float:
        """Length in mm below which a share ``p`` (0 < p < 1) lies."""
        return self.median * math.exp(self.sigma * _STANDARD.inv_cdf(p))


@dataclass(frozen=True)
class SizePrior:
    """Mixture of log-normal lengths in mm, each restricted (not clamped) to ``low`` … ``high`` mm; ``parts`` are
    (weight, LogNormal)."""

    parts: tuple[tuple[float, LogNormal], ...]
    low: float
    high: float

    def sample(self, rng: Uniform) -> float:
        """One length in mm."""
        chosen = _choose(self.parts, rng.random())
        return _clamp(
            chosen.quantile(_between(chosen.cdf(self.low), chosen.cdf(self.high), rng.random())), self.low, self.high
        )

    def cdf(self, mm: float) -> float:
        """Share of draws of at most ``mm``."""
        total = 0.0
        for weight, part in self.parts:
            floor, ceiling = part.cdf(self.low), part.cdf(self.high)
            total += weight * _clamp((part.cdf(mm) - floor) / (ceiling - floor), 0.0, 1.0)
        return total

    def below(self, mm: float) -> SizePrior:
        """This prior restricted to at most ``mm``; unchanged if that leaves nothing."""
        high = min(mm, self.high)
        share = self.cdf(high)
        if high <= self.low or share <= 0:
            return self
        parts = []
        for weight, part in self.parts:
            floor = part.cdf(self.low)
            parts.append((weight * (part.cdf(high) - floor) / (part.cdf(self.high) - floor) / share, part))
        return SizePrior(tuple(parts), self.low, high)


@dataclass(frozen=True)
class TruncNormal:
    """Normal distribution restricted to ``low`` … ``high``; ``sd`` 0 gives ``mean`` always. The unit is that of the
    field it stands in."""

    mean: float
    sd: float
    low: float
    high: float

    def sample(self, rng: Uniform) -> float:
        u = rng.random()
        if self.sd == 0:
            return self.mean
        normal = NormalDist(self.mean, self.sd)
        return _clamp(normal.inv_cdf(_between(normal.cdf(self.low), normal.cdf(self.high), u)), self.low, self.high)


@dataclass(frozen=True)
class SizeCurve:
    """A probability that depends on lesion size: straight lines between ``points`` (mm, probability), constant beyond
    the ends."""

    points: tuple[tuple[float, float], ...]

    def at(self, mm: float) -> float:
        """The probability for a lesion of ``mm``."""
        if mm <= self.points[0][0]:
            return self.points[0][1]
        for (x0, p0), (x1, p1) in zip(self.points, self.points[1:]):
            if mm <= x1:
                return p0 + (p1 - p0) * (mm - x0) / (x1 - x0)
        return self.points[-1][1]


@dataclass(frozen=True)
class DensityPart:
    """One of the densities a type can have.

    ``kind`` "delta": ``value`` is HU minus the reference tissue; "absolute": ``value`` is HU. A part whose ``name`` is
    one of ``COMPONENTS`` always comes with that component, and the lesion is then heterogeneous.
    """

    name: str
    weight: float
    kind: str
    value: TruncNormal

    @property
    def component(self) -> str | None:
        """The heterogeneity component that comes with this density, if any."""
        return self.name if self.name in COMPONENTS else None


@dataclass(frozen=True)
class WallPrior:
    """Wall thickening: ``thickness`` across and ``length`` along the organ (mm); with ``annular_probability`` it goes
    all the way round, otherwise it covers a fraction of the circumference drawn evenly from ``arc_fraction``."""

    thickness: SizePrior
    length: SizePrior
    annular_probability: float
    arc_fraction: tuple[float, float]

    def sample_arc(self, rng: Uniform) -> float:
        """Fraction of the circumference; 1 is annular."""
        annular, u = rng.random() < self.annular_probability, rng.random()
        low, high = self.arc_fraction
        return 1.0 if annular else low + (high - low) * u


@dataclass(frozen=True)
class TypePriors:
    """All priors of one lesion type.

    ``size`` is the full extent in mm along the longest own axis of the finished (rough) lesion, diameter for stones;
    ``size_by_shape`` replaces it for some shapes. ``mid_ratio`` and ``minor_ratio`` are the extents along the other two
    axes as fractions of it. ``roughness`` (Irregular) and ``roughness_round`` (Round-like) are the RMS radial
    displacement as a fraction of the local radius, ``roughness_correlation`` its correlation length in the same unit.
    ``close`` is the probability of a close relationship with adjacent structures, ``exophytic`` the fraction of the
    lesion's volume outside the organ outline (None: inside), ``hu_limits`` bound the lesion's own HU without noise and
    partial volume. ``evidence`` gives (evidence, source) for each table of the file, e.g. ``evidence["size"]``.
    """

    lesion: str
    size: SizePrior
    size_by_shape: Mapping[str, SizePrior]
    mid_ratio: TruncNormal
    minor_ratio: TruncNormal
    roughness: TruncNormal
    roughness_round: TruncNormal
    roughness_correlation: float
    wall: WallPrior | None
    shape: Mapping[str, float]
    punctate_below_mm: float | None
    density: Mapping[str, tuple[DensityPart, ...]]
    reference: Mapping[str, str]
    heterogeneous: SizeCurve
    components: Mapping[str, float]
    ill_defined: SizeCurve
    close: SizeCurve
    spiculation: SizeCurve
    satellites: float
    exophytic: TruncNormal | None
    hu_limits: tuple[float, float]
    count: Mapping[str, float]
    sites: Mapping[str, float]
    evidence: Mapping[str, tuple[str, str]]

    def size_for(self, shape: str) -> SizePrior:
        """Size prior of one shape option; for "Punctate, nodular" it ends at ``punctate_below_mm``."""
        size = self.size_by_shape.get(shape, self.size)
        if shape == PUNCTATE and self.punctate_below_mm is not None:
            return size.below(self.punctate_below_mm)
        return size

    def sample_shape_and_size(self, rng: Uniform, shape: str | None = None) -> tuple[str, float]:
        """A shape option and the size in mm that goes with it; ``shape`` fixes the shape.

        For "Wall thickening" the size is that of a mass of this type; draw thickness and length from ``wall``.
        """
        u = rng.random()
        if shape is None and self.size_by_shape:
            shape = _choose([(weight, option) for option, weight in self.shape.items()], u)
        if shape is not None:
            return shape, self.size_for(shape).sample(rng)
        mm = self.size.sample(rng)
        return _choose([(weight, option) for option, weight in self.shapes_at(mm).items()], u), mm

    def reference_for(self, shape: str) -> str:
        """The healthy tissue that density is relative to (one of ``REFERENCES``)."""
        return self.reference.get(shape, self.reference["*"])

    def shapes_at(self, mm: float) -> dict[str, float]:
        """Probabilities of the shape options for a lesion of ``mm``.

        "Punctate, nodular" belongs to lesions below ``punctate_below_mm`` only: their share of it is raised so that it
        keeps its overall probability, and larger lesions share the rest.
        """
        punctate = self.shape.get(PUNCTATE, 0.0)
        if self.punctate_below_mm is None or punctate == 0:
            return dict(self.shape)
        small = max(self.size.cdf(self.punctate_below_mm), 1e-9)
        share = min(1.0, punctate / small) if mm < self.punctate_below_mm else 0.0
        others = 1.0 - punctate
        if others <= _SUM_TOLERANCE:
            return {PUNCTATE: 1.0}
        scaled = {option: p * (1 - share) / others for option, p in self.shape.items() if option != PUNCTATE}
        return {**scaled, PUNCTATE: share}

    def choose_density(self, phase: str, rng: Uniform) -> DensityPart:
        """One density part of ``phase`` ("Enhanced CT" or "Plain CT") by weight."""
        return _choose([(part.weight, part) for part in self.density[phase]], rng.random())


def draw(probabilities: Mapping[str, float], rng: Uniform) -> str:
    """One key of a table of probabilities, such as ``priors.sites`` or ``priors.shapes_at(mm)``."""
    return _choose([(weight, key) for key, weight in probabilities.items()], rng.random())


def load_priors(path: str | Path | None = None) -> dict[str, TypePriors]:
    """Priors of all fifteen types, by lesion key.

    Parameters
    ----------
    path
        A TOML file in the format of the ``priors.toml`` beside this module (the default). Each file is read once per
        process.

    Raises
    ------
    InputError
        If the file is missing, is not TOML, or says something impossible; the message names file, table and key.
    """
    return dict(_load((Path(path) if path is not None else PRIORS_FILE).resolve()))


@lru_cache(maxsize=8)
def _load(path: Path) -> Mapping[str, TypePriors]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the priors {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a TOML file: {error}") from error
    root = _Table(document, path.name, "")
    priors = {key: _read_type(key, root.table(key)) for key in LESION_KEYS}
    root.finish()
    return MappingProxyType(priors)


def _read_type(key: str, types: _Table) -> TypePriors:
    evidence: dict[str, tuple[str, str]] = {}

    def table(name: str) -> _Table:
        found = types.table(name)
        evidence[name] = found.evidence()
        return found

    size_table = table("size")
    size = size_table.size()
    size_by_shape = {}
    if types.has("size_by_shape"):
        shapes = types.table("size_by_shape")
        for option in shapes.options(SHAPES):
            item = shapes.table(option)
            evidence[f"size_by_shape.{option}"] = item.evidence()
            size_by_shape[option] = item.size()
            item.finish()
        shapes.finish()
    size_table.finish()

    axes = table("axis_ratios")
    mid, minor = axes.normal("mid", 0.0, 1.0), axes.normal("minor", 0.0, 1.0)
    axes.finish()

    rough = table("roughness")
    roughness, roughness_round = rough.normal("irregular", 0.0, 1.0), rough.normal("round", 0.0, 1.0)
    correlation = rough.number("correlation", 0.01, 10.0)
    rough.finish()

    shape_table = table("shape")
    shape = shape_table.probabilities("probability", SHAPES)
    below = shape_table.number("punctate_below_mm", 0.1, 1000.0) if shape_table.has("punctate_below_mm") else None
    if PUNCTATE in shape and below is None:
        raise shape_table.error("punctate_below_mm", f'missing, but needed because "{PUNCTATE}" is a possible shape')
    shape_table.finish()

    wall = None
    if types.has("wall"):
        wall_table = table("wall")
        thickness = wall_table.size("thickness_")
        length = wall_table.size("length_")
        annular = wall_table.number("annular_probability", 0.0, 1.0)
        arc = wall_table.pair("arc_fraction", 0.0, 1.0)
        wall_table.finish()
        wall = WallPrior(thickness, length, annular, arc)
    if WALL in shape and wall is None:
        raise types.error("wall", f'missing, but needed because "{WALL}" is a possible shape')

    density = {}
    phases = types.table("density")
    for phase in PHASES:
        density[phase] = phases.densities(phase, evidence)
    phases.finish()

    reference_table = table("reference")
    reference = reference_table.reference("tissue")
    reference_table.finish()

    heterogeneity = table("heterogeneity")
    heterogeneous = heterogeneity.curve("probability")
    components = heterogeneity.each("components", COMPONENTS)
    heterogeneity.finish()

    curves = {}
    for name in ("ill_defined", "close", "spiculation"):
        item = table(name)
        curves[name] = item.curve("probability")
        item.finish()
    if not lesion(key).malignant and any(p > 0 for _, p in curves["close"].points):
        raise types.error("close", "not 0, but a benign lesion never has a close relationship with adjacent structures")

    satellite_table = table("satellites")
    satellites = satellite_table.number("probability", 0.0, 1.0)
    satellite_table.finish()

    exophytic = None
    if types.has("exophytic"):
        item = table("exophytic")
        exophytic = item.normal("fraction", 0.0, 1.0)
        item.finish()

    limits_table = table("hu_limits")
    hu_limits = limits_table.pair("hu", -1024.0, 3071.0)
    limits_table.finish()

    count_table = table("count")
    count = count_table.probabilities("probability")
    for number in count:
        if not (number.isdecimal() and int(number) >= 1):
            raise count_table.error(f"probability.{number}", "is not a number of lesions (1, 2, …)")
    count_table.finish()

    sites_table = table("sites")
    sites = sites_table.probabilities("probability")
    sites_table.finish()
    types.finish()

    return TypePriors(
        lesion=key,
        size=size,
        size_by_shape=MappingProxyType(size_by_shape),
        mid_ratio=mid,
        minor_ratio=minor,
        roughness=roughness,
        roughness_round=roughness_round,
        roughness_correlation=correlation,
        wall=wall,
        shape=MappingProxyType(shape),
        punctate_below_mm=below,
        density=MappingProxyType(density),
        reference=MappingProxyType(reference),
        heterogeneous=heterogeneous,
        components=MappingProxyType(components),
        ill_defined=curves["ill_defined"],
        close=curves["close"],
        spiculation=curves["spiculation"],
        satellites=satellites,
        exophytic=exophytic,
        hu_limits=hu_limits,
        count=MappingProxyType(count),
        sites=MappingProxyType(sites),
        evidence=MappingProxyType(evidence),
    )


class _Table:
    """One table of the file that remembers which keys were read, so that ``finish`` can refuse the others."""

    def __init__(self, content: Any, file: str, path: str) -> None:
        self.file, self.path = file, path
        if not isinstance(content, dict):
            raise InputError(f"{file}: [{path}] is {content!r}, wanted a table")
        self.content: dict[str, Any] = content
        self.seen: set[str] = set()

    def error(self, key: str, problem: str) -> InputError:
        place = f"[{self.path}] {key}" if self.path else f"[{key}]"
        return InputError(f"{self.file}: {place}: {problem}")

    def has(self, key: str) -> bool:
        return key in self.content

    def get(self, key: str) -> Any:
        if key not in self.content:
            raise self.error(key, "missing")
        self.seen.add(key)
        return self.content[key]

    def table(self, key: str) -> _Table:
        return _Table(self.get(key), self.file, f"{self.path}.{key}" if self.path else key)

    def finish(self) -> None:
        for key in self.content:
            if key not in self.seen:
                known = ", ".join(sorted(self.seen))
                raise self.error(key, f"unknown key; known here: {known}")

    def options(self, allowed: tuple[str, ...]) -> list[str]:
        for key in self.content:
            if key not in allowed:
                raise self.error(key, f"unknown option; wanted one of {', '.join(allowed)}")
        return list(self.content)

    def text(self, key: str) -> str:
        value = self.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self.error(key, f"is {value!r}, wanted text")
        return value

    def evidence(self) -> tuple[str, str]:
        source, tag = self.text("source"), self.text("evidence")
        if tag not in EVIDENCE:
            raise self.error("evidence", f"is {tag!r}, wanted one of {', '.join(EVIDENCE)}")
        return tag, source

    def number(self, key: str, low: float = -math.inf, high: float = math.inf) -> float:
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.error(key, f"is {value!r}, wanted a number")
        if not low <= value <= high:
            raise self.error(key, f"is {value}, wanted {low:g} … {high:g}")
        return float(value)

    def items(self, key: str) -> list[Any]:
        value = self.get(key)
        if not isinstance(value, list) or not value:
            raise self.error(key, f"is {value!r}, wanted a list with at least one entry")
        return value

    def pair(self, key: str, low: float, high: float) -> tuple[float, float]:
        values = self.items(key)
        if len(values) != 2:
            raise self.error(key, f"has {len(values)} entries, wanted [low, high]")
        inner = _Table({"low": values[0], "high": values[1]}, self.file, f"{self.path}.{key}")
        first, second = inner.number("low", low, high), inner.number("high", low, high)
        if first >= second:
            raise self.error(key, f"is [{first:g}, {second:g}], wanted low < high")
        return first, second

    def size(self, prefix: str = "") -> SizePrior:
        low, high = self.pair(f"{prefix}clip_mm", 0.1, 1000.0)
        name = f"{prefix}parts"
        parts = []
        for index, item in enumerate(self.items(name)):
            part = _Table(item, self.file, f"{self.path}.{name}[{index}]")
            weight = part.number("weight", 0.0, 1.0)
            normal = LogNormal(part.number("median_mm", 0.1, 1000.0), part.number("log_sigma", 0.01, 3.0))
            part.finish()
            if normal.cdf(high) - normal.cdf(low) < _LEAST_MASS:
                raise self.error(f"{prefix}clip_mm", f"leaves nothing of the part with median {normal.median:g} mm")
            parts.append((weight, normal))
        self._sum_to_one(name, [weight for weight, _ in parts])
        return SizePrior(tuple(parts), low, high)

    def normal(self, key: str, low: float = -math.inf, high: float = math.inf) -> TruncNormal:
        inner = self.table(key)
        value = inner.trunc_normal("", low, high)
        inner.finish()
        return value

    def trunc_normal(self, suffix: str, low: float = -math.inf, high: float = math.inf) -> TruncNormal:
        mean, sd = self.number(f"mean{suffix}"), self.number(f"sd{suffix}", 0.0)
        first, second = self.number(f"low{suffix}", low, high), self.number(f"high{suffix}", low, high)
        if first > second:
            raise self.error(f"low{suffix}", f"is {first:g}, above high{suffix} {second:g}")
        if sd == 0:
            if not first <= mean <= second:
                raise self.error(f"mean{suffix}", f"is {mean:g}, outside {first:g} … {second:g}, and sd{suffix} is 0")
        elif NormalDist(mean, sd).cdf(second) - NormalDist(mean, sd).cdf(first) < _LEAST_MASS:
            raise self.error(f"low{suffix}", f"{first:g} … {second:g} leaves nothing of {mean:g} ± {sd:g}")
        return TruncNormal(mean, sd, first, second)

    def curve(self, key: str) -> SizeCurve:
        value = self.get(key)
        if not isinstance(value, list):
            return SizeCurve(((0.0, self.number(key, 0.0, 1.0)),))
        points = []
        for index, item in enumerate(self.items(key)):
            if not isinstance(item, list) or len(item) != 2:
                raise self.error(f"{key}[{index}]", f"is {item!r}, wanted [mm, probability]")
            point = _Table({"mm": item[0], "probability": item[1]}, self.file, f"{self.path}.{key}[{index}]")
            points.append((point.number("mm", 0.0), point.number("probability", 0.0, 1.0)))
        if any(a[0] >= b[0] for a, b in zip(points, points[1:])):
            raise self.error(key, "sizes must increase")
        return SizeCurve(tuple(points))

    def each(self, key: str, allowed: tuple[str, ...]) -> dict[str, float]:
        """Independent probabilities (they need not sum to 1)."""
        inner = self.table(key)
        return {name: inner.number(name, 0.0, 1.0) for name in inner.options(allowed)}

    def probabilities(self, key: str, allowed: tuple[str, ...] | None = None) -> dict[str, float]:
        """Probabilities of alternatives, which sum to 1."""
        inner = self.table(key)
        names = inner.options(allowed) if allowed else list(inner.content)
        values = {name: inner.number(name, 0.0, 1.0) for name in names}
        self._sum_to_one(key, list(values.values()))
        return values

    def reference(self, key: str) -> dict[str, str]:
        inner = self.table(key)
        tissues = {option: inner.text(option) for option in inner.options(("*", *SHAPES))}
        for option, tissue in tissues.items():
            if tissue not in REFERENCES:
                raise inner.error(option, f"is {tissue!r}, wanted one of {', '.join(REFERENCES)}")
        if "*" not in tissues:
            raise inner.error('"*"', "missing; it is the tissue for all shapes that are not named")
        return tissues

    def densities(self, phase: str, evidence: dict[str, tuple[str, str]]) -> tuple[DensityPart, ...]:
        parts = []
        for index, item in enumerate(self.items(phase)):
            table = _Table(item, self.file, f"{self.path}.{phase}[{index}]")
            name, kind, weight = table.text("name"), table.text("kind"), table.number("weight", 0.0, 1.0)
            if kind not in ("delta", "absolute"):
                raise table.error("kind", f'is {kind!r}, wanted "delta" or "absolute"')
            if f"density.{phase}.{name}" in evidence:
                raise table.error("name", f"{name!r} is used twice")
            evidence[f"density.{phase}.{name}"] = table.evidence()
            parts.append(DensityPart(name, weight, kind, table.trunc_normal("_hu")))
            table.finish()
        self._sum_to_one(phase, [part.weight for part in parts])
        return tuple(parts)

    def _sum_to_one(self, key: str, values: list[float]) -> None:
        if abs(math.fsum(values) - 1) > _SUM_TOLERANCE:
            raise self.error(key, f"probabilities sum to {math.fsum(values):.4g}, wanted 1")


def _choose(weighted: Any, u: float) -> Any:
    """The item of (weight, item) pairs in which the uniform number ``u`` falls; an item of weight 0 is never chosen."""
    total, last = 0.0, None
    for weight, item in weighted:
        if weight > 0:
            total, last = total + weight, item
            if u < total:
                return item
    return last


def _between(low: float, high: float, u: float) -> float:
    """``u`` in [0, 1) mapped to low … high, kept inside (0, 1) where inverse distribution functions are finite."""
    return _clamp(low + (high - low) * u, 1e-12, 1 - 1e-12)


def _clamp(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
