"""The eight lesion attributes of the paper's Extended Data Table 1: options, accepted wordings, and the structured report."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from . import taxonomy
from .errors import InputError

if TYPE_CHECKING:
    from .synthesis.spec import Measurement

# ---------------------------------------------------------------------------------------------------------------
# The table


@dataclass(frozen=True)
class Attribute:
    """One row of Extended Data Table 1. ``options`` is empty for ``size``, whose value reads ``"Z×X×Y mm"``."""

    key: str
    title: str
    definition: str
    options: tuple[str, ...]


TABLE: dict[str, Attribute] = {
    row.key: row
    for row in (
        Attribute(
            "enhancement",
            "Enhancement status",
            "Intravenous contrast agent usage",
            (taxonomy.ENHANCED, taxonomy.PLAIN),
        ),
        Attribute(
            "location",
            "Location",
            "Organ-specific anatomical regions",
            tuple(organ.location for organ in taxonomy.ORGANS),
        ),
        Attribute("size", "Size", "Dimensions across axial, sagittal, and coronal planes", ()),
        Attribute(
            "shape",
            "Shape",
            "Morphological characteristics of the lesion",
            ("Round-like", "Irregular", "Wall thickening", "Punctate, nodular"),
        ),
        Attribute(
            "density",
            "Density",
            "Radiographic attenuation properties of the lesion",
            ("Hypodense", "Isodense", "Hyperdense"),
        ),
        Attribute(
            "heterogeneity",
            "Heterogeneity",
            "Uniformity of attenuation within the lesion",
            ("Homogeneous", "Heterogeneous"),
        ),
        Attribute(
            "surface",
            "Surface",
            "Features of the lesion's border and surface texture",
            ("Well-defined margin", "Ill-defined margin"),
        ),
        Attribute(
            "invasion",
            "Invasion",
            "Invasion of or proximity to adjacent structures",
            ("No close relationship with surrounding structures", "Close relationship with adjacent structures"),
        ),
    )
}

ATTRIBUTES: tuple[str, ...] = tuple(TABLE)

# The five attributes that the network predicts, in the order of its output groups (4 + 3 + 2 + 2 + 2 = 13 classes).
LEARNED = ("shape", "density", "heterogeneity", "surface", "invasion")

# The published code and data set word one option differently from the paper's table; type.json is written with theirs.
PUBLISHED_NO_INVASION = "No close relationship with adjacent structures"

# Beginnings of the names of the measured figures that stand behind each learned attribute.
FIGURE_NAMES: dict[str, tuple[str, ...]] = {
    "shape": ("shape_", "sphericity", "solidity", "axis_ratio", "thickness_", "wall_"),
    "density": ("density_", "lesion_hu", "reference_hu"),
    "heterogeneity": ("heterogeneity_", "part_"),
    "surface": ("surface_", "edge_", "roughness_"),
    "invasion": ("invasion_", "gap_", "contact_area_", "outside_", "overlap_fraction"),
}

BASES = ("requested", "measured", "predicted", "edited")

# Further wordings that are read, by option, separated by semicolons; compared without case, spaces and punctuation.
# The richer vocabulary of LesionDiffusion's report template is mapped to the nearest of the paper's options: "mixed"
# density is neither lower nor higher overall, hence Isodense; ring enhancement surrounds a hypodense centre; soft-tissue
# masses and ground-glass are described against lung or lumen, hence Hyperdense.
ALIASES: dict[str, dict[str, str]] = {
    "enhancement": {
        taxonomy.ENHANCED: (
            "enhanced; enhancement; contrast; contrast CT; contrast-enhanced; contrast-enhanced CT; CECT; CE-CT; "
            "with contrast; arterial phase; venous phase; portal phase; portal venous phase; delayed phase"
        ),
        taxonomy.PLAIN: (
            "plain; unenhanced; unenhanced CT; non-enhanced; non-enhanced CT; non-contrast; non-contrast CT; "
            "NCCT; without contrast; native; native CT; no"
        ),
    },
    "location": {o.location: "; ".join((o.key, o.name, o.folder, *o.keywords)) for o in taxonomy.ORGANS},
    "shape": {
        "Round-like": (
            "round; rounded; oval; ovoid; spherical; ellipsoid; cystic; round-like cystic; protrusion into the "
            "lumen; protruding into the lumen; polypoid"
        ),
        "Irregular": "irregularly shaped; irregular shape; lobulated; fungating; ulcerated",
        "Wall thickening": (
            "wall-thickening; thickened wall; thickening of the wall; mural thickening; circumferential "
            "thickening; luminal narrowing; narrowing of the lumen"
        ),
        "Punctate, nodular": "punctate; nodular; punctate or nodular; nodule; punctate/nodular",
    },
    "density": {
        "Hypodense": (
            "hypo; hypo-dense; hypodensity; hypoattenuating; hypoattenuation; low density; low attenuation; lower "
            "density; decreased density; decreased density areas; fluid; fluid-like; fluid density; fluid-like "
            "density; water density; cystic; ring enhancement; rim enhancement; ring-enhancing"
        ),
        "Isodense": (
            "iso; isodensity; isoattenuating; isoattenuation; equal density; similar density; mixed; mixed density"
        ),
        "Hyperdense": (
            "hyper; hyperdensity; hyperattenuating; hyperattenuation; high density; high attenuation; higher "
            "density; increased density; increased density areas; calcified; calcification; stone; soft-tissue "
            "mass; soft tissue density; ground-glass; peripheral ground-glass; peripheral ground-glass opacity"
        ),
    },
    "heterogeneity": {
        "Homogeneous": "homogenous; uniform; uniform density; even; homogeneous density",
        "Heterogeneous": (
            "heterogenous; inhomogeneous; non-homogeneous; non-uniform; uneven; uneven density; mixed; mixed "
            "density; heterogeneous density; decreased density areas; increased density areas; ring enhancement; "
            "rim enhancement; necrotic"
        ),
    },
    "surface": {
        "Well-defined margin": (
            "well-defined; well-defined margins; well-defined border; well circumscribed; circumscribed; clear; "
            "clear boundary; clear margin; smooth; smooth margin; sharp margin; clear serosal surface; smooth "
            "serosal surface; clear boundary with the renal parenchyma"
        ),
        "Ill-defined margin": (
            "ill-defined; ill-defined margins; ill-defined border; poorly defined; poorly defined margin; "
            "unclear; unclear boundary; unclear margin; blurred; indistinct; indistinct margin; irregular margin; "
            "spiculated; spiculated margin; spiculated margins; serosal irregularity; irregular serosal surface; "
            "unclear boundary with the renal parenchyma"
        ),
    },
    "invasion": {
        "No close relationship with surrounding structures": (
            "No close relationship with adjacent structures; no close relationship; no close relation with "
            "adjacent structures; no close relation with surrounding structures; no invasion; not invasive; none; "
            "no; absent"
        ),
        "Close relationship with adjacent structures": (
            "Close relationship with surrounding structures; close relationship; close relation with adjacent "
            "structures; close relation with surrounding structures; invasion; invasive; invades adjacent "
            "structures; invasion of adjacent structures; close; yes; present"
        ),
    },
}


def _normal(text: str) -> str:
    """``text`` without case, spaces and punctuation: ``"Ill-defined  Margin."`` -> ``"illdefinedmargin"``."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).casefold())


def _lookup_table() -> dict[str, dict[str, str]]:
    table: dict[str, dict[str, str]] = {}
    for key, by_option in ALIASES.items():
        words = table[key] = {}
        for option, aliases in by_option.items():
            for word in (option, *aliases.split(";")):
                if words.setdefault(_normal(word), option) != option:
                    raise ValueError(f"{key}: {word!r} is an alias of two options")
    return table


_LOOKUP = _lookup_table()


def attribute(key: str) -> Attribute:
    """The row called ``key`` (``"enhancement"`` … ``"invasion"``); InputError with the list of keys otherwise."""
    try:
        return TABLE[key]
    except (KeyError, TypeError):
        raise InputError(f"unknown attribute {key!r}; use one of: {', '.join(ATTRIBUTES)}") from None


def options(key: str) -> tuple[str, ...]:
    """The option strings of one attribute, in the paper's order; empty for ``size``."""
    return attribute(key).options


def parse(key: str, text: str) -> str:
    """The option of attribute ``key`` that ``text`` means, in the paper's spelling.

    Case, spaces and punctuation do not matter and the synonyms in ``ALIASES`` are read. For ``size`` the result is
    ``"Z×X×Y mm"``, rounded to 0.1 mm. Raises InputError that lists the options.
    """
    row = attribute(key)
    if key == "size":
        return format_size(parse_size(text))
    option = _LOOKUP[key].get(_normal(text)) if isinstance(text, str) else None
    if option is None:
        wanted = ", ".join(f'"{item}"' for item in row.options)
        raise InputError(f"{row.title} {text!r} is not known; use one of: {wanted}")
    return option


# ---------------------------------------------------------------------------------------------------------------
# Size

_NUMBER = r"\d+(?:\.\d*)?|\.\d+"
_SIZE = re.compile(rf"\s*({_NUMBER})\s*[x×*]\s*({_NUMBER})\s*[x×*]\s*({_NUMBER})\s*(mm|cm)?\s*\.?\s*", re.IGNORECASE)


def parse_size(text: str) -> tuple[float, float, float]:
    """Extent along (z, x, y) in mm from ``"25×25×37 mm"``; ``x``, ``X`` and ``*`` are read as ``×``, and cm as well.

    Raises InputError for anything else and for extents that are not positive.
    """
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise InputError(f"Size {text!r} is not readable; write it as Z×X×Y in mm, for example 25x25x37 mm")
    scale = 10.0 if (match[4] or "").lower() == "cm" else 1.0
    size = tuple(round(float(match[i]) * scale, 6) for i in (1, 2, 3))
    return _checked_size(size)


def format_size(size_mm: Sequence[float]) -> str:
    """``"25×25×37 mm"`` from extents along (z, x, y) in mm, rounded to 0.1 mm (never below 0.1)."""
    return "×".join(f"{max(round(value, 1), 0.1):.1f}".removesuffix(".0") for value in _checked_size(size_mm)) + " mm"


def _checked_size(size_mm: Sequence[float]) -> tuple[float, float, float]:
    try:
        z, x, y = (float(value) for value in size_mm)
    except (TypeError, ValueError):
        raise InputError(f"Size {size_mm!r} is not three numbers (z, x, y) in mm") from None
    if not all(math.isfinite(value) and value > 0 for value in (z, x, y)):
        raise InputError(f"Size {size_mm!r} must be positive in z, x and y (mm)")
    return z, x, y


# ---------------------------------------------------------------------------------------------------------------
# Class numbers for training and prediction


def class_index(key: str, text: str) -> int:
    """Class number of an option of one of the five learned attributes, in the network's order."""
    return _learned_options(key).index(parse(key, text))


def class_option(key: str, index: int) -> str:
    """Option of class ``index`` of one of the five learned attributes; InputError when out of range."""
    names = _learned_options(key)
    if not 0 <= index < len(names):
        raise InputError(f"{TABLE[key].title} has classes 0-{len(names) - 1}, not {index}")
    return names[index]


def _learned_options(key: str) -> tuple[str, ...]:
    if key not in LEARNED:
        raise InputError(f"attribute {key!r} has no classes; use one of: {', '.join(LEARNED)}")
    return TABLE[key].options


def class_indices(values: Mapping[str, str]) -> np.ndarray:
    """``(5,)`` int64 class numbers in the order of ``LEARNED`` from option strings by key; -1 where a key is missing."""
    return np.array([class_index(key, values[key]) if key in values else -1 for key in LEARNED], dtype=np.int64)


def one_hot(values: Mapping[str, str]) -> np.ndarray:
    """``(13,)`` float32: one-hot groups of 4, 3, 2, 2, 2 in the order of ``LEARNED``; zeros where a key is missing."""
    groups = []
    for key, index in zip(LEARNED, class_indices(values)):
        group = np.zeros(len(TABLE[key].options), np.float32)
        if index >= 0:
            group[index] = 1.0
        groups.append(group)
    return np.concatenate(groups)


# ---------------------------------------------------------------------------------------------------------------
# The report


@dataclass(frozen=True)
class AttributeValue:
    """One reported value and where it comes from.

    ``basis``: "requested" (asked of the generator), "measured" (in image and mask), "predicted" (by a network) or
    "edited" (by a person). ``confidence``: 0-1 or None. ``figure``: the numbers behind the value, units in their names
    (``density_delta_hu``). Numbers are kept to 6 significant digits; figures that are not finite are left out.
    """

    value: str
    basis: str
    confidence: float | None = None
    figure: dict[str, float] | None = None

    def __post_init__(self) -> None:
        if self.basis not in BASES:
            raise InputError(f"basis {self.basis!r} is not known; use one of: {', '.join(BASES)}")
        if self.confidence is not None:
            confidence = _number(self.confidence, "confidence")
            if not 0 <= confidence <= 1:
                raise InputError(f"confidence {self.confidence!r} must lie between 0 and 1")
            object.__setattr__(self, "confidence", confidence)
        if self.figure is not None:
            if not isinstance(self.figure, Mapping):
                raise InputError(f"figure {self.figure!r} must be a dictionary of numbers")
            figure = {str(name): _number(number, f"figure {name}") for name, number in self.figure.items()}
            figure = {name: number for name, number in figure.items() if math.isfinite(number)}
            object.__setattr__(self, "figure", figure or None)

    def to_json(self) -> dict:
        """JSON-ready dictionary; keys that hold nothing are left out."""
        entry: dict[str, Any] = {"value": self.value, "basis": self.basis}
        if self.confidence is not None:
            entry["confidence"] = self.confidence
        if self.figure:
            entry["figure"] = dict(self.figure)
        return entry


SCHEMA = "pasta-structured-report"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class StructuredReport:
    """The structured report of one lesion.

    ``lesion``: type key (``"kidney_cyst"``). ``values``: one AttributeValue per attribute key; a missing key means
    "not known". ``location_detail``: where in the organ (``"Right kidney"``), may be empty. ``requested``: option
    strings that were asked for, by key, kept beside what is reported. Every option string is read with ``parse`` and kept
    in the paper's spelling; a missing location is filled in from the lesion type. Raises InputError for unknown lesion
    types, attributes or options and for a location that is not the lesion's organ.
    """

    lesion: str
    values: dict[str, AttributeValue] = field(default_factory=dict)
    location_detail: str = ""
    requested: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.lesion not in taxonomy.LESION_KEYS:
            raise InputError(f"unknown lesion type {self.lesion!r}; use one of: {', '.join(taxonomy.LESION_KEYS)}")
        if not isinstance(self.location_detail, str):
            raise InputError(f"location detail {self.location_detail!r} must be text")
        values = {}
        for key, entry in _in_order(self.values):
            if not isinstance(entry, AttributeValue):
                raise InputError(f"{key}: {entry!r} must be an AttributeValue")
            values[key] = replace(entry, value=parse(key, entry.value))
        requested = {key: parse(key, text) for key, text in _in_order(self.requested)}
        here = self.organ.location
        for found in (values.get("location"), requested.get("location")):
            text = getattr(found, "value", found)
            if text not in (None, here):
                raise InputError(f"location {text!r} does not fit lesion type {self.lesion}, which lies in {here!r}")
        if values and "location" not in values:
            first = next(iter(values.values()))
            values = dict(_in_order({**values, "location": AttributeValue(here, first.basis)}))
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "requested", requested)

    # -- reading ---------------------------------------------------------------------------------------------

    @property
    def organ(self) -> taxonomy.Organ:
        """The parent organ."""
        return taxonomy.organ(taxonomy.lesion(self.lesion).organ)

    @property
    def location(self) -> str:
        """Organ option string, for example ``"Kidney"``."""
        return self.organ.location

    @property
    def size_mm(self) -> tuple[float, float, float] | None:
        """Extent along (z, x, y) in mm, or None when not known."""
        return parse_size(self.values["size"].value) if "size" in self.values else None

    def value(self, key: str) -> str | None:
        """Reported option string of one attribute, or None when not known."""
        attribute(key)
        return self.values[key].value if key in self.values else None

    @property
    def options(self) -> dict[str, str]:
        """Reported option strings by key."""
        return {key: entry.value for key, entry in self.values.items()}

    @property
    def class_indices(self) -> np.ndarray:
        """``(5,)`` int64 class numbers of the learned attributes; -1 where not known."""
        return class_indices(self.options)

    @property
    def one_hot(self) -> np.ndarray:
        """``(13,)`` float32 one-hot groups of the learned attributes."""
        return one_hot(self.options)

    @property
    def deviations(self) -> dict[str, tuple[str, str]]:
        """(requested, reported) of every attribute but size whose report differs from what was asked for."""
        return {
            key: (wanted, self.values[key].value)
            for key, wanted in self.requested.items()
            if key != "size" and key in self.values and self.values[key].value != wanted
        }

    # -- changing --------------------------------------------------------------------------------------------

    def with_value(
        self,
        key: str,
        text: str,
        basis: str = "edited",
        confidence: float | None = None,
        figure: dict[str, float] | None = None,
    ) -> StructuredReport:
        """A copy in which one value is replaced, by default marked as edited by a person."""
        entry = AttributeValue(parse(key, text), basis, confidence, figure)
        return replace(self, values={**self.values, key: entry})

    @classmethod
    def from_options(
        cls,
        lesion: str,
        values: Mapping[str, str],
        basis: str,
        *,
        confidence: Mapping[str, float] | None = None,
        location_detail: str = "",
        requested: Mapping[str, str] | None = None,
    ) -> StructuredReport:
        """A report whose values all have one basis, from option strings by key (and confidences by key)."""
        confidence = confidence or {}
        entries = {key: AttributeValue(text, basis, confidence.get(key)) for key, text in values.items()}
        return cls(lesion, entries, location_detail, dict(requested or {}))

    @classmethod
    def from_measurement(
        cls,
        lesion: str,
        measurement: Measurement,
        *,
        enhancement: str,
        requested: Mapping[str, Any] | None = None,
        location_detail: str = "",
    ) -> StructuredReport:
        """A report of what was measured; what could not be measured is reported as requested, and marked so.

        ``requested`` may hold sizes as (z, x, y) mm and keys that are no attributes; the latter are left out. Each
        attribute gets the figures behind it: those whose names begin as FIGURE_NAMES says.
        """
        wanted = requested_options(requested or {})
        entries = {
            "enhancement": AttributeValue(enhancement, "measured"),
            "location": AttributeValue(taxonomy.organ(taxonomy.lesion(lesion).organ).location, "measured"),
            "size": AttributeValue(format_size(measurement.size_zxy_mm), "measured"),
        }
        for key in LEARNED:
            if key in measurement.values:
                figure = {name: x for name, x in measurement.figures.items() if name.startswith(FIGURE_NAMES[key])}
                entries[key] = AttributeValue(measurement.values[key], "measured", figure=figure or None)
            elif key in wanted:
                entries[key] = AttributeValue(wanted[key], "requested")
        return cls(lesion, entries, location_detail, wanted)

    # -- JSON ------------------------------------------------------------------------------------------------

    def to_json(self) -> dict:
        """JSON-ready dictionary; ``from_json`` gives back an equal report."""
        return {
            "schema": SCHEMA,
            "version": SCHEMA_VERSION,
            "lesion": self.lesion,
            "location_detail": self.location_detail,
            "attributes": {key: entry.to_json() for key, entry in self.values.items()},
            "requested": dict(self.requested),
        }

    @classmethod
    def from_json(cls, data: Mapping | str) -> StructuredReport:
        """The report from ``to_json``'s dictionary or its text. InputError that says what is wrong otherwise."""
        data = _mapping(data, "structured report")
        if data.get("schema") != SCHEMA:
            raise InputError(f'not a structured report: "schema" is {data.get("schema")!r}, wanted "{SCHEMA}"')
        if data.get("version") != SCHEMA_VERSION:
            raise InputError(
                f"structured report of version {data.get('version')!r}; this program reads version {SCHEMA_VERSION}"
            )
        if "lesion" not in data:
            raise InputError('structured report without "lesion"')
        attributes = _mapping(data.get("attributes", {}), 'structured report, "attributes"')
        requested = _mapping(data.get("requested", {}), 'structured report, "requested"')
        values = {}
        for key, entry in attributes.items():
            entry = _mapping(entry, f'structured report, "{key}"')
            missing = [name for name in ("value", "basis") if name not in entry]
            if missing:
                raise InputError(f'structured report, "{key}": {" and ".join(missing)} missing')
            values[key] = AttributeValue(
                entry["value"], entry["basis"], entry.get("confidence"), entry.get("figure") or None
            )
        return cls(data["lesion"], values, data.get("location_detail", ""), dict(requested))

    def to_type_json(self) -> dict:
        """The published data set's ``type.json`` of this one lesion; see ``type_json``."""
        return type_json([self])

    @classmethod
    def from_type_json(cls, data: Mapping | str, lesion: str | None = None) -> StructuredReport:
        """The report of a published (or our) ``type.json``: the entry of its first organ id, basis "requested".

        ``lesion``: type key, which the file does not hold; may be left out for organs with a single lesion type.
        Raises InputError for unknown organ ids, unknown options, and a ``lesion`` of another organ.
        """
        data = _mapping(data, "type.json")
        if not data:
            raise InputError("type.json is empty; wanted a TotalSegmentator organ id with its attributes")
        organ_id, entry = next(iter(data.items()))
        organ = organ_of_id(organ_id)
        entry = _mapping(entry, f'type.json, organ id "{organ_id}"')
        named = {_normal(str(name)): text for name, text in entry.items()}
        values = {key: named[key] for key in ("enhancement", "size", *LEARNED) if key in named}
        if not any(key in values for key in LEARNED):
            wanted = ", ".join(TABLE[key].title for key in LEARNED)
            raise InputError(f'type.json, organ id "{organ_id}": holds none of {wanted}')
        if lesion is None:
            known = taxonomy.lesions_of(organ.key)
            if len(known) > 1:
                raise InputError(
                    f"type.json names the {organ.key} only; say which of: {', '.join(x.key for x in known)}"
                )
            lesion = known[0].key
        values["location"] = organ.location
        return cls.from_options(lesion, values, "requested", location_detail=_detail_of_id(int(organ_id)))

    # -- text ------------------------------------------------------------------------------------------------

    def to_sentence(self) -> str:
        """One or two readable sentences: the lesion, then where the values come from."""
        return f"{self._description()} {self._basis_remark()}".strip()

    def to_text(self) -> str:
        """A small table: attribute, value, basis, confidence, and what was requested where that is known."""
        rows = [("Attribute", "Value", "Basis", "Confidence", "Requested")]
        for key in ATTRIBUTES:
            entry = self.values.get(key)
            value = entry.value if entry else "not known"
            if key == "location" and self.location_detail not in ("", value):
                value = f"{value} ({self.location_detail})"
            confidence = "" if entry is None or entry.confidence is None else f"{entry.confidence:.2f}"
            rows.append(
                (TABLE[key].title, value, entry.basis if entry else "", confidence, self.requested.get(key, ""))
            )
        columns = [index for index in range(5) if index < 3 or any(row[index] for row in rows[1:])]
        widths = [max(len(row[index]) for row in rows) for index in columns]
        lines = ["  ".join(row[i].ljust(width) for i, width in zip(columns, widths)).rstrip() for row in rows]
        return "\n".join([taxonomy.lesion(self.lesion).name, *lines])

    def _description(self) -> str:
        words = [
            (self.value("shape") or "").lower().replace(", ", "/").replace("wall thickening", "wall-thickening"),
            (self.value("density") or "").lower(),
            (self.value("heterogeneity") or "").lower(),
        ]
        size = f"{self.value('size')} (Z×X×Y)" if "size" in self.values else ""
        phrase = " ".join(part for part in (size, ", ".join(word for word in words if word), "lesion") if part)
        phrase = f"{_article(phrase)} {phrase} ({taxonomy.lesion(self.lesion).name.lower()})"
        if "surface" in self.values:
            phrase += f" with {self.value('surface').lower()}"
        if "invasion" in self.values:
            phrase += f"; {self.value('invasion').lower()}"
        return f"{self.value('enhancement') or 'CT'}: in {_place(self)} {phrase}."

    def _basis_remark(self) -> str:
        by_basis: dict[str, list[str]] = {}
        for key in ATTRIBUTES:
            if key in self.values:
                entry = self.values[key]
                confidence = "" if entry.confidence is None else f" ({entry.confidence:.0%})"
                by_basis.setdefault(entry.basis, []).append(key + confidence)
        if len(by_basis) == 1 and not any(entry.confidence is not None for entry in self.values.values()):
            parts = [f"All values {next(iter(by_basis))}"]
        else:
            parts = [f"{basis}: {', '.join(by_basis[basis])}" for basis in BASES if basis in by_basis]
            parts[:1] = [parts[0][0].upper() + parts[0][1:]] if parts else []
        parts += [f"requested {key} was {wanted.lower()}" for key, (wanted, _) in self.deviations.items()]
        return "; ".join(parts) + "." if parts else ""


def requested_options(requested: Mapping[str, Any]) -> dict[str, str]:
    """Option strings by attribute key from a request's dictionary; other keys and None are left out, sizes formatted."""
    wanted = {}
    for key, value in requested.items():
        if key in TABLE and value is not None:
            wanted[key] = parse(key, value) if isinstance(value, str) else format_size(value)
    return wanted


# ---------------------------------------------------------------------------------------------------------------
# The published type.json


def _organ_ids() -> dict[int, str]:
    vertebrae = [f"{part}{n}" for part, count in (("L", 5), ("T", 12), ("C", 7)) for n in range(count, 0, -1)]
    ids = {2: "kidney_right", 3: "kidney_left", 4: "gallbladder", 5: "liver", 6: "stomach", 10: "pancreas"}
    ids.update(enumerate(taxonomy.organ("lung").classes, 13))
    ids.update(enumerate((f"vertebrae_{level}" for level in vertebrae), 18))
    ids.update({42: "esophagus", 57: "colon"})
    ids.update(enumerate((f"rib_{side}_{n}" for side in ("left", "right") for n in range(1, 13)), 58))
    limbs = ("humerus", "scapula", "clavicula", "femur", "hip")
    ids.update(enumerate((f"{bone}_{side}" for bone in limbs for side in ("left", "right")), 82))
    ids.update({92: "sacrum", 104: "urinary_bladder"})
    return ids


# TotalSegmentator version 1 ids of the structures that carry lesions, as used by PASTA-Gen-30K's type.json.
ORGAN_IDS: dict[int, str] = _organ_ids()
_ORGAN_OF_CLASS = {name: organ for organ in taxonomy.ORGANS for name in organ.classes}
_SIDES = {"left", "right"}
_GENERIC_WORDS = {"kidney", "lung", "lobe", "vertebrae"}


def organ_of_id(organ_id: int | str) -> taxonomy.Organ:
    """The organ of a TotalSegmentator version 1 id, for example 2 or "2" for the kidney; InputError when none of ours."""
    text = str(organ_id).strip()
    name = ORGAN_IDS.get(int(text)) if text.isascii() and text.isdigit() else None
    if name is None:
        raise InputError(
            f"organ id {organ_id!r} is not a TotalSegmentator (version 1) id of one of the ten organs; "
            "known: 2-6, 10, 13-42, 57-92, 104"
        )
    return _ORGAN_OF_CLASS[name]


def organ_id_of(organ_key: str, location_detail: str = "") -> int:
    """The TotalSegmentator version 1 id to write for an organ, chosen by ``location_detail`` where it has several.

    ``("kidney", "Left kidney")`` gives 3, ``("lung", "Right upper lobe")`` 15, ``("bone", "L3 vertebra")`` 20. When the
    detail names no single structure it is the lowest id of the organ, on the side that it names if any.
    """
    organ = taxonomy.organ(organ_key)
    text = re.sub(r"(\d)(st|nd|rd|th)\b", r"\1", location_detail.casefold()).replace("clavicle", "clavicula")
    words = set(re.findall(r"[a-z]+\d*|\d+", text))

    def agreement(number: int) -> tuple[int, bool]:
        """How many words name this structure (0 unless all that it needs are there), and whether the side is right."""
        needed = set(ORGAN_IDS[number].split("_")) - _GENERIC_WORDS
        needed = {word.casefold() for word in needed}
        return (len(needed) if needed <= words else 0), bool(needed & words & _SIDES)

    return max((number for number, name in ORGAN_IDS.items() if _ORGAN_OF_CLASS[name] is organ), key=agreement)


def _detail_of_id(organ_id: int) -> str:
    """Readable structure name of an id whose organ has several: 3 -> "Left kidney"; empty for single structures."""
    from .anatomy.organ_classes import place_name

    name = ORGAN_IDS[organ_id]
    return "" if len(_ORGAN_OF_CLASS[name].classes) == 1 else place_name(name)


def type_json(reports: Iterable[StructuredReport]) -> dict:
    """The published data set's ``type.json`` for the lesions of one case, the main lesion first.

    ``{"<TotalSegmentator version 1 id>": {"Shape": …, "Density": …, "Heterogeneity": …, "Surface": …, "Invasion": …,
    "Enhancement": …, "Location": …, "Size": …}}``. The published loader reads the first id and looks up the first five
    keys only. Of several lesions with the same id the first is written. "No invasion" has the published wording.
    Raises InputError when one of the five is not known.
    """
    result: dict[str, dict[str, str]] = {}
    for report in reports:
        missing = [key for key in LEARNED if key not in report.values]
        if missing:
            raise InputError(f"type.json of {report.lesion} needs {', '.join(missing)}, which the report does not hold")
        entry = {TABLE[key].title: report.value(key) for key in LEARNED}
        if entry["Invasion"] == options("invasion")[0]:
            entry["Invasion"] = PUBLISHED_NO_INVASION
        for title, key in (("Enhancement", "enhancement"), ("Location", "location"), ("Size", "size")):
            if key in report.values:
                entry[title] = report.value(key)
        result.setdefault(str(organ_id_of(report.organ.key, report.location_detail)), entry)
    return result


# ---------------------------------------------------------------------------------------------------------------
# Small helpers


def _in_order(entries: Mapping) -> list[tuple[str, Any]]:
    """Items in the order of ATTRIBUTES; InputError for keys that are none."""
    if not isinstance(entries, Mapping):
        raise InputError(f"{entries!r} must be a dictionary by attribute key")
    for key in entries:
        attribute(key)
    return [(key, entries[key]) for key in ATTRIBUTES if key in entries]


def _number(value: Any, what: str) -> float:
    """A float with 6 significant digits; InputError when ``value`` is no number."""
    if isinstance(value, str):
        raise InputError(f"{what} {value!r} must be a number")
    try:
        return float(f"{float(value):.6g}")
    except (TypeError, ValueError):
        raise InputError(f"{what} {value!r} must be a number") from None


def _mapping(data: Any, what: str) -> Mapping:
    """``data`` as a dictionary, parsed first when it is text; InputError otherwise."""
    if isinstance(data, str):
        try:
            data = json.loads(data)
        except json.JSONDecodeError as error:
            raise InputError(f"{what}: not valid JSON (line {error.lineno}: {error.msg})") from None
    if not isinstance(data, Mapping):
        raise InputError(f"{what}: found {type(data).__name__}, wanted a dictionary")
    return data


def _article(phrase: str) -> str:
    """ "a" or "an", as ``phrase`` is read aloud (an 8 mm, an 11 mm, a 25 mm, an irregular)."""
    number = re.match(r"\d+", phrase)
    if number:
        return "an" if number[0][0] == "8" or number[0] in ("11", "18") else "a"
    return "an" if phrase[:1].lower() in "aeiou" else "a"


def _place(report: StructuredReport) -> str:
    """ "the right kidney", "the L3 vertebra", "the liver", "bone"."""
    text = report.location_detail or report.organ.name
    if not re.match(r"[A-Z]\d", text):
        text = text[:1].lower() + text[1:]
    return text if text == "bone" else f"the {text}"
