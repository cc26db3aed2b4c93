"""A trained network as one checkpoint of ours, with the card that `pasta segment` reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PASTALib.inference.intensity import Intensity
from PASTALib.networks.card import PASTA_LABELS, ModelCard
from PASTALib.networks.load import save_model
from PASTALib.networks.unet import PastaNet

MODEL = "model.pth"
CROP_MM = 96  # of the lesion-centred crops for attributes [paper, Methods 3]
NOTE = "trained on synthetic lesions; research use only, not for diagnosis"


def attribute_crop(spacing_mm: float) -> int:
    """Voxels per side of a 96 mm crop, a multiple of 16."""
    return max(32, round(CROP_MM / spacing_mm / 16) * 16)


def make_card(settings: Mapping[str, Any], intensity: Intensity, name: str, data: str, steps: int) -> ModelCard:
    """The card of a network of 25 classes, trained for ``steps`` steps on ``data`` (one line) by this package."""
    batch, patch = settings["batch"], "x".join(map(str, settings["patch"]))
    return ModelCard(
        name=name,
        labels=dict(PASTA_LABELS),
        spacing_mm=float(settings["spacing_mm"]),
        patch=tuple(settings["patch"]),
        intensity=intensity,
        attribute_intensity=intensity,  # its encoder has seen nothing else
        attribute_crop=attribute_crop(settings["spacing_mm"]),
        mirror_axes=tuple(settings["mirror_axes"]),
        source=f"python -m training pretrain-segmentation: {steps} steps of {batch} x {patch} voxels on {data}",
        licence="MIT",
        notes=(NOTE,),
    )


def export_model(path: Path, network: PastaNet, card: ModelCard) -> Path:
    """Write the checkpoint in half precision; it appears complete or not at all."""
    save_model(path, network, card)
    return path
