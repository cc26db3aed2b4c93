"""Lesion attributes by the network: probabilities of the options of the five learned attributes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..attributes import LEARNED, TABLE
from ..errors import InputError
from ..findings.model import AttributePrediction
from ..progress import Progress, silent
from ..volume import Volume
from .encoder import UNMIRRORED, encode

GROUPS: tuple[int, ...] = tuple(len(TABLE[key].options) for key in LEARNED)  # 4, 3, 2, 2, 2
MIRRORED = tuple(axes for count in range(4) for axes in itertools.combinations(range(3), count))


@dataclass(frozen=True)
class AttributeProbabilities:
    """``named``: attribute key -> float (n, options), rows adding up to 1, in the order of ``attributes.TABLE[key].options``.

    ``unassigned`` (n,): share that the shape group gives to a fifth class that published scripts with 14 outputs allot and the paper's table
    does not have; 0 for models of 13 outputs. It is taken out of ``named["shape"]``, whose four options are scaled up to add up to 1: a
    report must name one of the four, and how far to trust it is told by this figure.
    """

    named: dict[str, np.ndarray]
    unassigned: np.ndarray


def predict_attributes(
    ct: Volume,
    centres_ras: Sequence[Sequence[float]],
    model,
    *,
    device: str = "auto",
    test_time_flips: bool = False,
    progress: Progress = silent,
) -> list[AttributePrediction]:
    """What a ``PastaModel`` says of the lesion at each point (RAS mm); option strings are those of ``attributes.TABLE``.

    For arguments and errors see ``attribute_probabilities``, which also gives the share of the unassigned shape class.
    """
    found = attribute_probabilities(
        ct, centres_ras, model, device=device, test_time_flips=test_time_flips, progress=progress
    )
    return [
        AttributePrediction(
            {key: dict(zip(TABLE[key].options, map(float, rows[number]))) for key, rows in found.named.items()},
            model.card.name,
            model.card.trained,
            model.card.weak_attributes,
        )
        for number in range(len(centres_ras))
    ]


def attribute_probabilities(
    ct: Volume,
    centres_ras: Sequence[Sequence[float]],
    model,
    *,
    device: str = "auto",
    test_time_flips: bool = False,
    progress: Progress = silent,
) -> AttributeProbabilities:
    """Probabilities of every option for the lesions at n points (RAS mm) of ``ct`` (HU), averaged over the model's networks.

    ``test_time_flips`` averages over all eight mirror images too, at eight times the cost. ``progress`` counts crops. The encoder runs in
    bfloat16 or float16 where the hardware has it, the head in float32.

    InputError for a model without an attribute head or with one of other groups, and as in ``encode``.
    """
    _check_head(model)
    flips = MIRRORED if test_time_flips else UNMIRRORED
    vectors = encode(ct, centres_ras, model, device=device, flips=flips, progress=progress)
    total = np.zeros((len(centres_ras), sum(GROUPS) + 1))
    for network, of_network in zip(model.networks, vectors):
        where = next(network.head.parameters()).device
        with torch.inference_mode():
            logits = network.head(torch.from_numpy(of_network).to(where)).cpu().double().numpy()
        total += group_softmax(logits).mean(axis=0)
    return _named(total / len(model.networks))


def group_softmax(logits: np.ndarray) -> np.ndarray:
    """``(…, 14)`` probabilities of ``(…, 13 or 14)`` logits, softmax within each group: five of shape (the fifth unassigned, 0 where there
    are 13), then three, two, two and two."""
    groups = (GROUPS[0] + logits.shape[-1] - sum(GROUPS), *GROUPS[1:])
    parts = []
    for part in np.split(np.asarray(logits, float), np.cumsum(groups)[:-1], axis=-1):
        power = np.exp(part - part.max(axis=-1, keepdims=True))
        parts.append(power / power.sum(axis=-1, keepdims=True))
    if groups[0] == GROUPS[0]:
        parts.insert(1, np.zeros((*logits.shape[:-1], 1)))
    return np.concatenate(parts, axis=-1)


def _named(probabilities: np.ndarray) -> AttributeProbabilities:
    """``(n, 14)`` by name."""
    shape, unassigned, *others = np.split(probabilities, np.cumsum([GROUPS[0], 1, *GROUPS[1:-1]]), axis=-1)
    named = dict(zip(LEARNED, [shape / shape.sum(axis=-1, keepdims=True), *others]))
    return AttributeProbabilities(named, unassigned[:, 0])


def _check_head(model) -> None:
    name, outputs = model.card.name, model.networks[0].shape.attribute_outputs
    if outputs and not (model.predicts_attributes and outputs in (sum(GROUPS), sum(GROUPS) + 1)):
        raise InputError(
            f"{name}: its head has {outputs} outputs; the five attributes need 13, or 14 with an unassigned shape class"
        )
    if not outputs:
        ability = "it segments" if model.segments else "it holds an encoder"
        raise InputError(
            f"{name}: this model has no attribute head ({ability}, and gives features); choose one that predicts attributes"
        )
