"""What a system in the benchmark is: its network, the reading of its published weights, its preprocessing and the recipes it was trained by.

``rivals()`` lists the built-in systems and those that other packages add under the entry point group ``slicerpasta.benchmark_models``
(an entry point names a ``Rival``, or a class or function that returns one when called without arguments).
"""

from __future__ import annotations

import dataclasses
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from PASTALib.errors import InputError
from PASTALib.inference.intensity import Intensity

from .. import registry
from .weights import Coverage

ENTRY_POINTS = "slicerpasta.benchmark_models"
SEGMENTATION, CLASSIFICATION = KINDS = ("segmentation", "classification")
NATIVE, PAPER = MODES = ("native", "paper")
CT, MRI = MODALITIES = ("ct", "mri")
FIXED, TRAINING, IMAGE = NORMALISATIONS = ("fixed", "training", "image")
_MANNERS = {  # [paper, code]
    SEGMENTATION: {
        "framework": "nnU-Net",
        "loss": "Dice + cross-entropy, deep supervision",
        "schedule": "polynomial, 0.9",
    },
    CLASSIFICATION: {"framework": "own", "loss": "cross-entropy", "schedule": "cosine", "optimiser": "adam"},
}
_BUILT_IN = {
    "pasta": "pasta:Pasta",
    "nnunet": "nnunet:NnUNet",
    "universal": "universal:Universal",
    "genesis": "genesis:Genesis",
    "suprem": "suprem:SuPreM",
    "fmcib": "fmcib:Fmcib",
    "scratch": "scratch:Scratch",
    "trivial": "trivial:Trivial",
}


@dataclass(frozen=True)
class Preparation:
    """How a system wants its images.

    ``spacing_mm``: along (z, y, x); None leaves the scan's own. ``orientation``: where image axes x, y and z run to. ``axes``: the order in
    which the network sees them, "zyx" as arrays are stored here, or "xyz". ``normalisation``: "fixed" (``window`` maps HU), "training"
    (nnU-Net's CTNormalization with statistics of the training scans) or "image" (each image's own mean and deviation). ``patch``: the
    sides that it is trained on, in the network's order of axes. ``pad``: network input outside the scan.
    """

    spacing_mm: tuple[float, float, float] | None
    orientation: str
    normalisation: str
    window: Intensity | None
    patch: tuple[int, int, int]
    pad: float = 0.0
    axes: str = "zyx"

    def __call__(self, image: np.ndarray, statistics: tuple[float, float, float, float] | None = None) -> np.ndarray:
        """Network input, float32, of an image of any shape, its axes left as they are.

        ``statistics``: low, high, mean and deviation of the training scans' labelled voxels, needed where ``normalisation`` is "training".
        """
        if self.normalisation == FIXED:
            return self.window(image)
        if self.normalisation == TRAINING:
            if statistics is None:
                raise InputError("no statistics of the training scans; wanted low, high, mean and standard deviation")
            return Intensity.standardised(*statistics)(image)
        image = np.asarray(image, np.float32)
        return (image - image.mean(dtype=np.float64).astype(np.float32)) / max(float(image.std(dtype=np.float64)), 1e-8)

    def arrange(self, array: np.ndarray) -> np.ndarray:
        """``array`` (…, z, y, x) in the network's order of axes; applied to its own result it leads back."""
        return array if self.axes == "zyx" else np.swapaxes(array, -1, -3)


@dataclass(frozen=True)
class Rival(ABC):
    """One system. Fields of subclasses are its options; ``find_rival("suprem:backbone=swinunetr")`` sets them.

    ``parameters``: kind -> trainable values of the network as it was published. ``weights_note``: where a user gets the file.
    ``needs_weights``: whether the system means nothing without its published weights. ``trained``: False for one that learns no weights; its
    networks have ``fit(counts)``, called with the cases of each class instead.
    """

    key: str
    title: str
    kinds: frozenset[str]
    licence: str
    citation: str
    weights_note: str
    parameters: Mapping[str, int]
    needs_weights: bool
    trained: bool = field(default=True, kw_only=True)

    @property
    def options(self) -> dict[str, tuple[str, ...]]:
        """Option -> the values that it takes; empty where any text goes, a file for instance."""
        return {}

    @property
    def paper_options(self) -> dict[str, str]:
        """Options by which the paper's runs differ from the system as published; ``find_rival("suprem:paper")`` sets them."""
        return {}

    @abstractmethod
    def network(self, kind: str, in_channels: int, classes: int, *, small: bool = False) -> nn.Module:
        """A network with new values for images of ``in_channels``.

        For "segmentation" ``classes`` counts the background. ``forward``: images (B, in_channels, d, h, w) -> logits (B, classes, d, h, w);
        in training mode a list of them, full resolution first, for deep supervision (of one where the system has none).
        For "classification" ``forward``: images -> logits (B, classes), ``features``: images -> (B, F), ``head``: (B, F) -> logits.
        ``small``: the same code, narrow and of few levels, for trying things out: under 0.3 million values for sides of 32 (other backbones
        than a system's first have up to 4 million, and the Swin UNETR needs 64).
        InputError where the system has no network of this kind.
        """

    @abstractmethod
    def published(self, kind: str) -> nn.Module:
        """The network as its authors published it for this kind: its state dict has the names and shapes of their file, prefixes removed."""

    @abstractmethod
    def load(self, network: nn.Module, path: str | Path, stem: str = "repeat") -> Coverage:
        """Put the published weights in the file ``path`` into a ``network`` of this system; outputs and new heads keep their values.

        ``stem``: how a first layer of one input is widened to several, "repeat" or "mean" (repeated, divided by their number). InputError,
        with nothing changed, where the file lacks a tensor that the system needs. Nothing in the file is executed.
        """

    @abstractmethod
    def prepare(self, mode: str = PAPER, kind: str = SEGMENTATION, modality: str = CT) -> Preparation:
        """Its preprocessing: "native" as its authors publish it, "paper" as the paper's runs fed it."""

    def recipe(self, group: str) -> dict[str, Any]:
        """Settings of its training for a task or group of tasks of the registry, the registry's own and ``manner``.

        InputError for a name that the registry does not know, and where the system has no network for it.
        """
        task = registry.select([group])[0]
        self.check_kind(task.network_kind)
        return {**task.recipe(self.key), **self.manner(task.network_kind)}

    def manner(self, kind: str) -> dict[str, Any]:
        """How it is trained beside the numbers of a recipe: framework, loss and schedule (and optimiser where presets have none)."""
        return dict(_MANNERS[kind])

    def loss(self, classes: int) -> nn.Module | None:
        """The system's own segmentation loss, called with logits (B, classes, …) and labels (B, 1, …); None: nnU-Net's Dice + cross-entropy."""
        return None

    # -- for subclasses --------------------------------------------------------------------------------------

    def check_kind(self, kind: str) -> None:
        """InputError unless the system has networks of ``kind``."""
        if kind not in KINDS:
            raise InputError(f"kind {kind!r}; wanted {' or '.join(KINDS)}")
        if kind not in self.kinds:
            raise InputError(f"{self.title} has no network for {kind}; it does {' and '.join(sorted(self.kinds))}")

    def check_preparation(self, mode: str, kind: str, modality: str) -> None:
        """InputError for a mode, kind or modality that there is not."""
        self.check_kind(kind)
        for name, value, known in (("mode", mode, MODES), ("modality", modality, MODALITIES)):
            if value not in known:
                raise InputError(f"{self.key}: {name} {value!r}; wanted {' or '.join(known)}")

    def check_options(self) -> None:
        """InputError for a value that an option does not take."""
        for name, values in self.options.items():
            if values and getattr(self, name) not in values:
                raise InputError(f"{self.key}: {name}={getattr(self, name)}; wanted {' or '.join(values)}")


def rivals() -> dict[str, Rival]:
    """Key -> system: the built-in ones, then those of other packages. One that cannot be read is named in a warning and left out."""
    found = {key: _built_in(key) for key in _BUILT_IN}
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name):
        rival, wrong = _plugged(point)
        if rival is not None and rival.key in found:
            rival, wrong = None, f"its key {rival.key!r} is taken by another"
        if rival is None:
            warnings.warn(f"benchmark model {point.name} ({point.value}) is left out: {wrong}", stacklevel=2)
        else:
            found[rival.key] = rival
    return found


def find_rival(text: str) -> Rival:
    """The system that ``text`` names: ``KEY``, ``KEY:paper`` or ``KEY:option=value,option=value``. InputError, one line, when there is none."""
    key, _, given = text.strip().partition(":")
    known = {name: _built_in(name) for name in _BUILT_IN} if key in _BUILT_IN else rivals()
    if key not in known:
        raise InputError(f"model {key!r}; wanted one of {', '.join(known)}")
    rival, settings = known[key], {}
    for part in filter(None, given.split(",")):
        name, equals, value = part.partition("=")
        if part == PAPER:
            settings |= rival.paper_options
            continue
        if not equals or name not in rival.options:
            options = ", ".join(f"{name}=…" for name in rival.options) or "none"
            raise InputError(f"model {text!r}: {part!r} is not an option of {key}; there are {options}")
        settings[name] = value
    rival = dataclasses.replace(rival, **settings)
    rival.check_options()
    return rival


@cache
def _built_in(key: str) -> Rival:
    module, _, name = _BUILT_IN[key].partition(":")
    return getattr(import_module(f".{module}", __package__), name)()


def _plugged(point) -> tuple[Rival | None, str]:
    try:
        thing = point.load()
        rival = thing if isinstance(thing, Rival) else thing()
    except Exception as error:  # other people's code can fail anyhow; the others go on
        return None, " ".join(f"{type(error).__name__}: {error}".split())[:200]
    if not isinstance(rival, Rival):
        return None, f"it is a {type(rival).__name__}; wanted a training.benchmark.models.interface.Rival"
    return rival, ""


def counts(**values: int) -> Any:
    """The default of ``parameters`` in a subclass."""
    return field(default_factory=lambda: dict(values), hash=False)
