"""A segmentation network under test: its labels and its probabilities on a part of a scan."""

from __future__ import annotations

import re

import numpy as np
import torch

from PASTALib import taxonomy
from PASTALib.errors import InputError
from PASTALib.inference.devices import pick_device
from PASTALib.inference.engine_choice import choose_engines
from PASTALib.inference.segmentation import CPU_STEP, GPU_STEP, flip_axes, segment
from PASTALib.inference.windows import importance, window_starts
from PASTALib.networks.load import PastaModel
from PASTALib.synthesis.scan import PreparedScan
from PASTALib.volume import Volume, from_canonical, to_canonical

from .models import UNNAMED, Seen

# names of lesions in label lists that are not ours (nnU-Net's data sets)
_LESION_NAME = re.compile(
    r"tumou?r|lesion|cyst|stone|calcul|cancer|carcinoma|metasta|nodule|mass|neoplas", re.IGNORECASE
)
_MANY_WINDOWS = 1000


class NetworkModel:
    """Any model that ``load_model`` reads; see ``models.Tested``. InputError for one that has no lesion among its classes."""

    def __init__(self, model: PastaModel, device: str = "auto", engine: str = "auto"):
        if not model.segments or model.networks[0].shape.in_channels != 1:
            raise InputError(f"{model.card.name}: wanted a model that segments a single CT; see pasta models list")
        self._model, self._device, self._engine = model, pick_device(device), engine
        self._engines = None
        self.name, self.digest = model.card.name, model.digest
        self._values = lesion_values(model.card.labels, model.card.lesion)
        if not self._values:
            raise InputError(f"{self.name}: none of its classes ({', '.join(model.card.labels.values())}) is a lesion")
        self.types = frozenset(self._values.values()) - {UNNAMED}
        self.window_mm = (max(model.card.patch) - 1) * model.card.spacing_mm
        self.notes = [] if model.card.trained else ["random weights: the curves mean nothing"]

    def look(self, scan: PreparedScan, part: Volume, box: tuple[slice, slice, slice]) -> Seen:
        """``Tested.look``. The class of a voxel is that of ``segment`` on the same part; evidence is the sum of the lesions' probabilities."""
        card = self._model.card
        canonical = to_canonical(part, card.spacing_mm)
        flips = flip_axes(card.orientation)
        hu = np.flip(canonical.volume.array, flips) if flips else canonical.volume.array
        classes, evidence = self._classes(np.ascontiguousarray(hu))
        if flips:
            classes, evidence = (np.ascontiguousarray(np.flip(item, flips)) for item in (classes, evidence))
        labels = from_canonical(classes, canonical, part, "labels").array
        return Seen(self._found(labels), from_canonical(evidence, canonical, part, "ct").array.astype(np.float32))

    def look_at_all(self, scan: PreparedScan, progress) -> np.ndarray:
        """``Tested.look_at_all``."""
        result = segment(scan.ct, self._model, device=self._device.type, engine=self._engine, progress=progress)
        return self._found(result.labels.array)

    def _found(self, labels: np.ndarray) -> np.ndarray:
        table = np.zeros(256, np.uint8)
        for value, ours in self._values.items():
            table[value] = ours
        return table[labels]

    def _classes(self, hu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Most likely class, uint8, and probability of any lesion, float32, of an image on the network's grid (z, y, x)."""
        patch = self._model.card.patch
        if self._engines is None:
            self._engines = choose_engines(
                self._model.networks,
                patch,
                self._device,
                self._engine,
                digest=self._model.digest,
                windows=_MANY_WINDOWS,
            )
        padded = [max(size, side) for size, side in zip(hu.shape, patch)]
        before = [(a - b) // 2 for a, b in zip(padded, hu.shape)]
        source = torch.zeros(padded)
        inner = tuple(slice(b, b + n) for b, n in zip(before, hu.shape))
        source[inner] = torch.from_numpy(self._model.card.intensity(hu))
        first = self._engines[0]
        sums = torch.zeros((*padded, first.channels))
        weight = torch.from_numpy(importance(patch))[..., None]
        total = torch.zeros((*padded, 1))
        for start in window_starts(padded, patch, CPU_STEP if self._device.type == "cpu" else GPU_STEP):
            here = tuple(slice(s, s + p) for s, p in zip(start, patch))
            window = source[here].contiguous()
            for engine in self._engines:
                sums[here] += engine.run(window, lambda: None).to("cpu", torch.float32) * weight
                total[here] += weight
        logits = (sums / total)[inner]
        if first.head is not None:
            logits = logits @ first.head.to("cpu", torch.float32)
        probability = torch.softmax(logits, -1)
        lesions = torch.tensor(sorted(self._values))
        return logits.argmax(-1).to(torch.uint8).numpy(), probability[..., lesions].sum(-1).numpy()


def lesion_values(labels: dict[int, str], lesion: str | None = None) -> dict[int, int]:
    """A model's class values that are lesions -> taxonomy values, ``UNNAMED`` for lesions that the taxonomy does not know.

    ``lesion``: the type that a model of one lesion is for.
    """
    found = {}
    for value, name in labels.items():
        if name in taxonomy.LESION_KEYS:
            found[value] = taxonomy.lesion(name).value
        elif name not in taxonomy.ORGAN_KEYS and _LESION_NAME.search(name):
            found[value] = taxonomy.lesion(lesion).value if lesion else UNNAMED
    return found
