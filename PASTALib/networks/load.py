"""Models ready to run: from a checkpoint, an nnU-Net folder, the model store, or random weights for a first look."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from .. import models
from ..errors import InputError
from . import nnunet_folder
from .card import PASTA_LABELS, ModelCard
from .checkpoint import Weights, read_weights
from .matching import ATTRIBUTE_HEADS, Entry, LoadReport, match
from .unet import ATTRIBUTE_OUTPUTS, NetworkShape, PastaNet, initialise, parameter_count

STARTER = "starter"
RANDOM_WIDTH, MAX_RANDOM_WIDTH = 8, 64
NO_STATISTICS = "the intensity statistics of its training are not published; the authors' piecewise map is assumed"
NO_LABELS = "the file does not say what its classes are"


@dataclass
class PastaModel:
    """A loaded model: ``networks`` in evaluation mode on the CPU, several for the folds of one training, all of one ``shape``.

    ``report``: what was taken from the (first) file. ``digest``: 16 hexadecimal digits over the weight files, the key of caches.
    ``mirror_axes``: spatial axes (z, y, x = 0, 1, 2) along which predictions may be mirrored and averaged.
    """

    card: ModelCard
    shape: NetworkShape
    networks: list[PastaNet]
    report: LoadReport
    digest: str
    mirror_axes: tuple[int, ...] = (0, 1, 2)

    @property
    def segments(self) -> bool:
        """Whether it segments anything."""
        return self.shape.classes > 1

    @property
    def predicts_attributes(self) -> bool:
        """Whether its head is that of the five attributes."""
        return self.shape.attribute_outputs in ATTRIBUTE_HEADS

    @property
    def parameters(self) -> int:
        """Trainable values of one network."""
        return parameter_count(self.networks[0])

    def expect(self, classes: int) -> None:
        """InputError that lists what the model segments when it has not ``classes`` outputs, background included."""
        found = self.shape.classes
        if found == classes:
            return
        names = ", ".join(["background", *self.card.labels.values()])
        what = f"segments {found} classes ({names})" if found else "does not segment"
        raise InputError(f"{self.card.name}: this model {what}; wanted one of {classes} classes, see pasta models list")

    def to_json(self) -> dict:
        """JSON-ready description."""
        shape = self.shape
        return {
            "name": self.card.name,
            "digest": self.digest,
            "networks": len(self.networks),
            "parameters": self.parameters,
            "channels": list(shape.channels),
            "in_channels": shape.in_channels,
            "classes": shape.classes,
            "attribute_outputs": shape.attribute_outputs,
            "segments": self.segments,
            "predicts_attributes": self.predicts_attributes,
            "mirror_axes": list(self.mirror_axes),
            "card": self.card.to_json(),
            "load": self.report.to_json(),
        }


def load_model(source: str | Path) -> PastaModel:
    """The model that ``source`` names.

    A checkpoint file, an nnU-Net model folder (or a fold in it), a name in the model store, or "random" / "random:WIDTH": untrained
    weights, always the same, that segment 25 classes and predict attributes, for trying things out. InputError, one line, when the file
    is not usable or the name is unknown.
    """
    text = str(source)
    if text == "random" or text.startswith("random:"):
        return _random(text)
    stored = models.find_model(text)
    if stored is not None:
        return _load(stored.path, None if stored.card is None else ModelCard.from_json(stored.card), stored.name)
    path = Path(source).expanduser()
    if not path.exists():
        if text == STARTER:
            raise InputError(
                "no starter weights come with this version; give --model FILE (a checkpoint or an nnU-Net model folder), or --model random to try things out"
            )
        known = ", ".join(item.name for item in models.list_models()) or "none yet"
        raise InputError(
            f"{source}: neither a file, nor a folder, nor a model in the store (there: {known}); see pasta models list"
        )
    return _load(path)


def save_model(path: str | Path, network: PastaNet, card: ModelCard, dtype: torch.dtype = torch.float16) -> None:
    """Write ``network`` and its card as one checkpoint that ``load_model`` reads; the file appears complete or not at all.

    ValueError when a weight is not finite in ``dtype``.
    """
    path = Path(path)
    state = {key: value.detach().to("cpu", dtype).contiguous() for key, value in network.state_dict().items()}
    odd = [key for key, value in state.items() if not torch.isfinite(value).all()]
    if odd:
        raise ValueError(f"{odd[0]} holds values that are not finite as {dtype}")
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    try:
        torch.save({"network_weights": state, "card": card.to_json()}, temporary)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


# ---------------------------------------------------------------------------------------------------------------


def _load(path: Path, card: ModelCard | None = None, name: str | None = None) -> PastaModel:
    folder = nnunet_folder.read_folder(path) if nnunet_folder.is_model_folder(path) else None
    files = folder.checkpoints if folder else [path]
    networks, shape, report, first = [], None, None, None
    for file in files:
        weights = read_weights(file)
        if first is None:
            first = weights
            given = card or _own_card(weights)
            shape, state, report = match(weights, given.labels if given else None)
        else:
            found, state, _ = match(weights, given.labels if given else None)
            if found != shape:
                raise InputError(
                    f"{file}: network {found} differs from {shape} of {files[0].parent.name}; give one fold alone"
                )
        networks.append(_network(shape, state))
    if card is None:
        card = _card(first, shape, report, folder, path)
        card = card.with_notes(*(folder.notes if folder else ()))
    if name:
        card = replace(card, name=name)
    card = _with_fitting_patch(card, shape)
    _require_labels(card, shape, path)
    return PastaModel(card, shape, networks, report, _digest(files), _mirror_axes(first, card))


def _network(shape: NetworkShape, state: Mapping[str, torch.Tensor]) -> PastaNet:
    with torch.device("meta"):  # 240 million values need no random numbers first
        network = PastaNet(shape)
    network.to_empty(device="cpu")
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def _own_card(weights: Weights) -> ModelCard | None:
    return ModelCard.from_json(weights.extras["card"]) if "card" in weights.extras else None


def _card(weights: Weights, shape: NetworkShape, report: LoadReport, folder, path: Path) -> ModelCard:
    """The best card for a file: its own, that of its plans, or what is known of the authors' files."""
    own = _own_card(weights)
    if own is not None:
        return own
    arguments = weights.extras.get("init_args")
    arguments = arguments if isinstance(arguments, dict) else {}
    trainer = str(weights.extras.get("trainer_name", ""))
    plans = folder.plans if folder else arguments.get("plans")
    dataset = folder.dataset if folder else arguments.get("dataset_json")
    if not isinstance(plans, dict) or not isinstance(dataset, dict):
        return _published_card(shape, report, path, trainer)
    place = folder.path if folder else path
    try:
        planned = (folder.configuration if folder else None, arguments.get("configuration"))
        name = next((item for item in planned if item in plans["configurations"]), None)
        card = nnunet_folder.card_of(plans, dataset, name, place, trainer)
        if report.naming == "nnU-Net":
            nnunet_folder.require_our_layers(plans, name, place)
    except (TypeError, KeyError, AttributeError, IndexError) as error:  # JSON of another layout than nnU-Net writes
        raise InputError(
            f"{place}: plans or dataset.json are not as nnU-Net version 2 writes them ({error}); copy them again"
        ) from None
    return card if shape.classes else replace(card, labels={}, lesion=None)


def _published_card(shape: NetworkShape, report: LoadReport, path: Path, trainer: str) -> ModelCard:
    """The card of a file that says nothing of itself, read as the authors' files are."""
    notes = []
    if shape.classes == len(PASTA_LABELS) + 1:
        labels = dict(PASTA_LABELS)
    elif shape.classes == 3:
        labels = {1: "organ", 2: "lesion"}
        notes.append(
            "its three classes are taken for background, organ and lesion, as in the authors' fine-tuned models"
        )
    else:
        labels = {number: f"class {number}" for number in range(1, shape.classes)}
        notes += [f"{NO_LABELS}; they are numbered"] if labels else []
    notes += [NO_STATISTICS] if labels else []
    notes += [
        f"it does not segment: {entry.reason}" for entry in report.dropped if entry.key.startswith("seg_outputs.")
    ][:1]
    if shape.attribute_outputs and shape.attribute_outputs not in ATTRIBUTE_HEADS:
        notes.append(f"its head has {shape.attribute_outputs} outputs, a classifier; it predicts no attributes")
    return ModelCard(
        name=re.sub(r"\.(pth|pt|tar|bin)$", "", path.name),
        labels=labels,
        attribute_orientation="LAS",  # what the authors' loader of attribute and classification data makes of a scan
        source=f"checkpoint of trainer {trainer}" if trainer else "checkpoint without a card",
        notes=tuple(notes),
    )


def _with_fitting_patch(card: ModelCard, shape: NetworkShape) -> ModelCard:
    """``card`` with windows that the network can take: sides that are its multiples, and more than one voxel in the bottleneck."""
    sides = [-(-side // shape.multiple) * shape.multiple for side in card.patch]
    if shape.classes and set(sides) == {shape.multiple}:
        sides[-1] *= 2
    if not shape.classes or tuple(sides) == card.patch:
        return card
    found, used = ("x".join(map(str, patch)) for patch in (card.patch, sides))
    return replace(card, patch=tuple(sides)).with_notes(f"windows of {found} do not fit this network; {used} are used")


def _require_labels(card: ModelCard, shape: NetworkShape, path: Path) -> None:
    wanted = list(range(1, shape.classes))
    if sorted(card.labels) != wanted:
        names = ", ".join(card.labels.values()) or "none"
        raise InputError(
            f"{path}: its card names {len(card.labels)} classes ({names}), its weights segment {len(wanted)} beside background; "
            "card and weights do not belong together"
        )


def _mirror_axes(weights: Weights, card: ModelCard) -> tuple[int, ...]:
    if "inference_allowed_mirroring_axes" not in weights.extras:
        return card.mirror_axes
    axes = weights.extras["inference_allowed_mirroring_axes"]
    return (
        tuple(sorted({axis for axis in axes or () if axis in (0, 1, 2)}))
        if isinstance(axes, (list, tuple, type(None)))
        else ()
    )


def _digest(files: Sequence[Path]) -> str:
    total = hashlib.sha256()
    for file in files:
        with open(file, "rb") as stream:
            while block := stream.read(1 << 22):
                total.update(block)
    return total.hexdigest()[:16]


def _random(text: str) -> PastaModel:
    _, _, given = text.partition(":")
    width = int(given) if given.isascii() and given.isdigit() else RANDOM_WIDTH if text == "random" else 0
    if not 1 <= width <= MAX_RANDOM_WIDTH:
        raise InputError(
            f"model {text!r}: wanted random or random:WIDTH with 1 to {MAX_RANDOM_WIDTH} channels, such as random:{RANDOM_WIDTH}"
        )
    shape = NetworkShape.of_width(width, classes=len(PASTA_LABELS) + 1, attribute_outputs=ATTRIBUTE_OUTPUTS)
    network = initialise(PastaNet(shape), seed=0).eval().requires_grad_(False)
    total = hashlib.sha256()
    for value in network.state_dict().values():
        total.update(value.numpy().tobytes())
    card = ModelCard(
        name=f"random:{width}",
        labels=dict(PASTA_LABELS),
        trained=False,
        source="random numbers",
        notes=(
            "the weights are random, so its results mean nothing; it shows how things work until a trained model is added",
        ),
    )
    report = LoadReport(text, matched=[Entry(key, tuple(value.shape)) for key, value in network.state_dict().items()])
    return PastaModel(card, shape, [network], report, total.hexdigest()[:16])
