"""The card of a model: what it segments or predicts, and how scans must be prepared for it. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace

from .. import taxonomy
from ..errors import InputError
from ..inference.intensity import PASTA_PIECEWISE, Intensity

ORIENTATIONS = ("LPS", "LAS", "RAS", "RPS")
CARD_VERSION = 1

# Output 0 is background; 1-25 are the paper's Supplementary Table 7.
PASTA_LABELS: dict[int, str] = {item.value: item.key for item in (*taxonomy.ORGANS, *taxonomy.LESIONS)}


@dataclass(frozen=True)
class ModelCard:
    """What must be known about weights besides the weights.

    ``labels``: network output (1, 2, …) -> taxonomy key, or any other name for models of other structures; empty when the model does
    not segment. ``lesion``: the type that a background / organ / lesion model is for, when known. ``spacing_mm`` isotropic,
    ``patch`` (z, y, x) voxels of one window. ``orientation``: where image axes x, y, z run to (DICOM letters), ``intensity`` the map of HU,
    both for segmentation; ``attribute_orientation`` and ``attribute_intensity`` the same for attributes and features, whose crop has
    ``attribute_crop`` voxels per side. ``mirror_axes``: array axes (z, y, x = 0, 1, 2) along which training mirrored its patches. ``weak_attributes``: its attribute
    head is hardly better than guessing the commonest option. ``trained``: False for random weights, which must never pass for a result.
    """

    name: str
    labels: dict[int, str] = field(default_factory=dict)
    lesion: str | None = None
    spacing_mm: float = 1.0
    patch: tuple[int, int, int] = (128, 128, 128)
    orientation: str = "LPS"
    intensity: Intensity = PASTA_PIECEWISE
    attribute_orientation: str = "LPS"
    attribute_intensity: Intensity = PASTA_PIECEWISE
    attribute_crop: int = 96
    mirror_axes: tuple[int, ...] = (0, 1, 2)
    weak_attributes: bool = False
    trained: bool = True
    source: str = ""
    licence: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        def require(fine: bool, key: str, wanted: str) -> None:
            if not fine:
                raise InputError(f"model card: {key} {getattr(self, key)!r}; wanted {wanted}")

        def is_number(value, kind=(int, float)) -> bool:
            return isinstance(value, kind) and not isinstance(value, bool)

        sides = (
            isinstance(self.patch, tuple)
            and len(self.patch) == 3
            and all(is_number(n, int) and n > 0 for n in self.patch)
        )
        require(sides, "patch", "three whole numbers of voxels")
        require(is_number(self.spacing_mm) and 0 < self.spacing_mm < 100, "spacing_mm", "the millimetres of a voxel")
        require(is_number(self.attribute_crop, int) and self.attribute_crop > 0, "attribute_crop", "a number of voxels")
        require(
            self.lesion is None or self.lesion in taxonomy.LESION_KEYS,
            "lesion",
            f"one of {', '.join(taxonomy.LESION_KEYS)}",
        )
        mirrors = isinstance(self.mirror_axes, tuple) and all(is_number(axis, int) for axis in self.mirror_axes)
        require(mirrors and set(self.mirror_axes) <= {0, 1, 2}, "mirror_axes", "some of the array axes 0, 1, 2")
        for key in ("trained", "weak_attributes"):
            require(isinstance(getattr(self, key), bool), key, "true or false")
        for key in ("name", "source", "licence"):
            require(isinstance(getattr(self, key), str), key, "text")
        require(
            isinstance(self.notes, tuple) and all(isinstance(line, str) for line in self.notes),
            "notes",
            "a list of lines",
        )
        for key in ("orientation", "attribute_orientation"):
            if getattr(self, key) not in ORIENTATIONS:
                raise InputError(f"model card: {key} {getattr(self, key)!r}; wanted one of {', '.join(ORIENTATIONS)}")

    def with_notes(self, *notes: str) -> ModelCard:
        """A copy with further one-line remarks for the user."""
        return replace(self, notes=(*self.notes, *notes))

    def to_json(self) -> dict:
        """JSON-ready dictionary; ``from_json`` gives back an equal card."""
        data = asdict(self) | {
            "intensity": self.intensity.to_json(),
            "attribute_intensity": self.attribute_intensity.to_json(),
            "labels": {str(number): name for number, name in self.labels.items()},
            "card": CARD_VERSION,
        }
        return {key: list(value) if isinstance(value, tuple) else value for key, value in data.items()}

    @classmethod
    def from_json(cls, data: Mapping) -> ModelCard:
        """The card of ``to_json``. InputError for another version, unknown keys or values of the wrong kind."""
        if not isinstance(data, Mapping) or data.get("card") != CARD_VERSION:
            found = data.get("card") if isinstance(data, Mapping) else type(data).__name__
            raise InputError(f"model card of version {found!r}; this program reads version {CARD_VERSION}")
        known = {item.name for item in fields(cls)}
        unknown = sorted(set(data) - known - {"card"})
        if unknown or "name" not in data:
            raise InputError(
                f"model card with unknown {', '.join(unknown)}" if unknown else "model card without a name"
            )
        values = {
            key: tuple(value) if isinstance(value, list) else value for key, value in data.items() if key in known
        }
        try:
            values["labels"] = {int(number): str(name) for number, name in dict(values.get("labels", {})).items()}
            for key in ("intensity", "attribute_intensity"):
                if key in values:
                    values[key] = Intensity.from_json(values[key])
            return cls(**values)
        except (TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"model card of {data['name']!r} is malformed: {error}") from None
