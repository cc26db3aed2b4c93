"""Which lesions a detectability study makes: one attribute at a time around a centre point, and a full grid where asked for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from PASTALib import taxonomy
from PASTALib.errors import InputError
from PASTALib.synthesis.draw import HYPO, allowed_options
from PASTALib.synthesis.priors import load_priors

SIZE, DENSITY, SURFACE, LOCATION = ATTRIBUTES = ("size", "density", "surface", "location")
CENTRE, GRID = "centre", "grid"
# mm (diameter); HU by which the lesion differs from its surroundings, its sign by type; width of the margin as a multiple of sharp edges'
DEFAULT_LEVELS: dict[str, tuple[float, ...]] = {
    SIZE: (6, 8, 11, 15, 20, 28),
    DENSITY: (6, 10, 16, 25, 36, 50),
    SURFACE: (1, 1.5, 2, 3, 4),
}
DEFAULT_REPEATS = 8
CENTRE_SIZE_MM, CENTRE_DELTA_HU, CENTRE_EDGE = 15.0, 25.0, 1.0
_RANGES = {SIZE: (2, 120, "mm"), DENSITY: (1, 1000, "HU"), SURFACE: (0.5, 12, "times the scan's sharp edges")}
# types that the location sweep adds to those asked for: the other solid organs
_ELSEWHERE = ("liver_tumor", "kidney_tumor", "pancreas_tumor", "lung_tumor", "bone_metastasis")


@dataclass(frozen=True)
class Setting:
    """One kind of lesion. ``delta_hu`` None: the density that the type usually has; ``edge``: width of the margin, 1 is as sharp as the
    scan shows; ``site``: sub-site of the organ, "" any.
    """

    lesion: str
    size_mm: float
    delta_hu: float | None
    edge: float
    site: str = ""

    @property
    def key(self) -> str:
        """What tells it from other settings, for tables."""
        delta = "own" if self.delta_hu is None else f"{self.delta_hu:+g}HU"
        return f"{self.lesion}|{self.size_mm:g}mm|{delta}|{self.edge:g}x|{self.site}"

    @property
    def place_key(self) -> str:
        """Settings of one key share their places, so that levels are compared at the same spots."""
        return f"{self.lesion}|{self.site}"


@dataclass(frozen=True)
class Cell:
    """``setting`` stands at ``level`` (mm, HU without sign, multiple, or a place's name) of the curve of ``factor`` for ``lesion``."""

    factor: str
    lesion: str
    level: float | str
    setting: Setting


def read_levels(given: Mapping[str, Sequence] | None, attributes: Sequence[str]) -> dict[str, tuple]:
    """Levels per attribute, sorted, defaults where none are given; InputError for unknown attributes and numbers out of range."""
    unknown = [name for name in (*attributes, *(given or {})) if name not in ATTRIBUTES]
    if unknown or not attributes:
        what = f"stress attribute {unknown[0]!r}" if unknown else "no stress attribute"
        raise InputError(f"{what}; choose from {', '.join(ATTRIBUTES)}")
    levels: dict[str, tuple] = {}
    for name in dict.fromkeys(attributes):
        chosen = tuple((given or {}).get(name) or DEFAULT_LEVELS.get(name, ()))
        levels[name] = chosen if name == LOCATION else _numbers(name, chosen)
    return levels


def _numbers(name: str, values: Sequence) -> tuple[float, ...]:
    low, high, unit = _RANGES[name]
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        raise InputError(f"stress levels of {name} {values!r}; wanted numbers, {low} to {high} {unit}") from None
    wrong = [value for value in numbers if not (math.isfinite(value) and low <= abs(value) <= high)]
    wrong += [value for value in numbers if value < 0 and name != DENSITY]
    if wrong or len({abs(value) for value in numbers}) < 2:
        found = f"{wrong[0]:g}" if wrong else f"{len(set(numbers))} different"
        raise InputError(f"stress levels of {name}: {found}; wanted two or more from {low} to {high} {unit}")
    if len({value < 0 for value in numbers}) > 1:
        raise InputError("stress levels of density have both signs; make one study darker and one brighter")
    return tuple(sorted(numbers, key=abs))


def delta_sign(lesion: str, phase: str | None) -> int:
    """Whether lesions of this type are made darker (-1) or brighter (+1) than their surroundings."""
    return -1 if HYPO in allowed_options(lesion, phase)["density"] else 1


def plan(
    lesions: Sequence[str], levels: Mapping[str, tuple], phase: str, present: Sequence[str], grid: bool = False
) -> list[Cell]:
    """All cells for a scan of ``phase`` whose organ map shows the organs ``present``. Several cells may share a setting, which is made once.

    Every curve holds its centre point: 15 mm, 25 HU, as sharp as the scan.
    """
    cells: list[Cell] = []
    for lesion in lesions:
        centre = centre_of(lesion, levels, phase)
        for factor in (SIZE, DENSITY, SURFACE):
            if factor in levels:
                cells += [Cell(factor, lesion, abs(value), _at(centre, factor, value)) for value in levels[factor]]
        if grid:
            axes = [[(name, value) for value in levels[name]] for name in (SIZE, DENSITY, SURFACE) if name in levels]
            for chosen in itertools.product(*axes):
                setting = centre
                for name, value in chosen:
                    setting = _at(setting, name, value)
                cells.append(Cell(GRID, lesion, " ".join(f"{abs(value):g}" for _, value in chosen), setting))
    if LOCATION in levels:
        cells += _places(lesions, levels, phase, present)
    return cells


def centre_of(lesion: str, levels: Mapping[str, tuple], phase: str | None) -> Setting:
    """The centre point: of each attribute that is swept the level nearest to the default's centre."""
    size = _nearest(levels.get(SIZE, ()), CENTRE_SIZE_MM)
    delta = _nearest(levels.get(DENSITY, ()), CENTRE_DELTA_HU)
    edge = _nearest(levels.get(SURFACE, ()), CENTRE_EDGE)
    return Setting(lesion, size, delta if delta < 0 else delta * delta_sign(lesion, phase), edge)


def _at(setting: Setting, factor: str, value: float) -> Setting:
    if factor == DENSITY:
        value = value if value < 0 else math.copysign(value, setting.delta_hu)
    return replace(setting, **{{SIZE: "size_mm", DENSITY: "delta_hu", SURFACE: "edge"}[factor]: float(value)})


def _nearest(values: Sequence[float], wanted: float) -> float:
    return float(min(values, key=lambda value: abs(math.log(abs(value) / wanted)))) if values else wanted


def _places(lesions: Sequence[str], levels: Mapping[str, tuple], phase: str, present: Sequence[str]) -> list[Cell]:
    """Sub-sites of the types asked for and other organs, or the places that the levels name (TYPE or TYPE/SITE)."""
    names = levels[LOCATION]
    if not names:
        names = [f"{lesion}/{site}" for lesion in lesions for site in sites_of(lesion)]
        names += [lesion for lesion in lesions if not sites_of(lesion)]
        names += [
            lesion
            for lesion in _ELSEWHERE
            if lesion not in lesions and taxonomy.lesion(lesion).organ in present
        ]  # fmt: skip
    cells = []
    for name in names:
        lesion, _, site = str(name).partition("/")
        _check_place(name, lesion, site)
        if taxonomy.lesion(lesion).organ in present:
            cells.append(Cell(LOCATION, lesions[0], name, replace(centre_of(lesion, levels, phase), site=site)))
    return cells


def sites_of(lesion: str) -> tuple[str, ...]:
    """Sub-sites of the type's organ that the priors know, the likeliest first."""
    sites = load_priors()[lesion].sites
    return tuple(sorted(sites, key=lambda site: (-sites[site], site))) if len(sites) > 1 else ()


def _check_place(name: str, lesion: str, site: str) -> None:
    if lesion not in taxonomy.LESION_KEYS:
        raise InputError(
            f"stress location {name!r}; wanted TYPE or TYPE/SITE, TYPE one of {', '.join(taxonomy.LESION_KEYS)}"
        )
    if site and site not in sites_of(lesion):
        raise InputError(
            f"stress location {name!r}: known sites of {lesion} are {', '.join(sites_of(lesion)) or 'none'}"
        )
