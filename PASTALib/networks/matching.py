"""Which network a checkpoint's tensors are: shapes read off, the trunk verified tensor by tensor, and a record of what was left out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from .checkpoint import Weights
from .names import FIRST, from_nnunet, is_nnunet
from .unet import NetworkShape, PastaNet

ATTRIBUTE_HEADS = (13, 14)  # 14: published scripts allot a fifth shape class, which no label uses
STEM = FIRST
_OUTPUTS = ("seg_outputs.", "head.")
_CONTEXT, _UPWARD = "conv_blocks_context.", ("conv_blocks_localization.", "tu.")
_GROUPS = {
    _CONTEXT: "encoder",
    "conv_blocks_localization.": "decoder",
    "tu.": "decoder",
    "seg_outputs.": "segmentation output",
    "head.": "head",
}


@dataclass(frozen=True)
class Entry:
    """One tensor: its name, shape, and why it was dropped or is missing ("" when it was matched)."""

    key: str
    shape: tuple[int, ...]
    reason: str = ""


@dataclass
class LoadReport:
    """What became of a checkpoint's tensors.

    ``matched`` are in the network, ``dropped`` are in the file only, ``missing`` in the network only. ``naming``: "PASTA" or "nnU-Net";
    ``kind``: the floating-point type in the file; ``wrapper`` and ``prefix`` as in ``Weights``.
    """

    source: str
    wrapper: str = ""
    prefix: str = ""
    naming: str = "PASTA"
    kind: str = "float32"
    matched: list[Entry] = field(default_factory=list)
    dropped: list[Entry] = field(default_factory=list)
    missing: list[Entry] = field(default_factory=list)

    def summary(self) -> str:
        """One paragraph for a person."""
        under = f"under {self.wrapper!r}" if self.wrapper else "a bare state dict"
        prefix = f", prefix {self.prefix!r} removed" if self.prefix else ""
        text = f"{self.source}: {under}{prefix}, {self.naming} names, {self.kind}; {len(self.matched)} tensors matched"
        for word, entries in (("dropped", self.dropped), ("missing", self.missing)):
            reasons = Counter((_group(entry.key), entry.reason) for entry in entries)
            listed = "; ".join(f"{count} of the {group} ({reason})" for (group, reason), count in reasons.items())
            text += f", none {word}" if not entries else f"; {word}: {listed}"
        return text + "."

    def to_json(self) -> dict:
        """JSON-ready dictionary."""
        return asdict(self)


def _group(key: str) -> str:
    return next((name for start, name in _GROUPS.items() if key.startswith(start)), "rest of the file")


def match(
    weights: Weights, labels: Mapping[int, str] | None = None
) -> tuple[NetworkShape, dict[str, Tensor], LoadReport]:
    """The network that ``weights`` are: its shape, a complete fp32 state dict for ``PastaNet`` of that shape, and the record.

    Segmentation outputs count only where they are some: a by-product of the attribute network, which allots as many as its head has
    outputs and never trains them, is dropped together with the decoder, unless ``labels`` (of a card in the file) name as many classes.
    InputError that names the tensor, the shape found and the shape wanted when one of the trunk is missing, of another shape or not finite.
    """
    path, tensors = weights.path, weights.tensors
    report = LoadReport(path.name, weights.wrapper, weights.prefix)
    if is_nnunet(tensors):
        tensors, report.naming = from_nnunet(tensors, path), "nnU-Net"
    if not any(name.startswith(_CONTEXT) for name in tensors):
        some = ", ".join(list(tensors)[:3])
        raise InputError(
            f"{path}: not weights of this network: {len(tensors)} tensors named {some} …; wanted names such as {FIRST}"
        )
    whole = _shape_of(tensors, path)
    _require(tensors, {key: size for key, size in _wanted(whole).items() if not key.startswith(_OUTPUTS)}, path)
    reasons: dict[str, str] = {}  # start of a name -> why tensors with it are dropped
    outputs, head = _outputs(tensors, whole, labels, reasons, path), _head(tensors, whole, reasons)

    shape = replace(whole, classes=outputs, attribute_outputs=head)
    wanted = _wanted(shape)
    state, kinds = {}, Counter()
    for key, value in tensors.items():
        if key not in wanted:
            reason = next((why for start, why in reasons.items() if key.startswith(start)), "")
            if not reason and key.startswith((_CONTEXT, *_UPWARD, _OUTPUTS[0])):
                raise InputError(
                    f"{path}: holds {key} {tuple(value.shape)}, a layer that this network does not have; it cannot be left out"
                )
            report.dropped.append(Entry(key, tuple(value.shape), reason or "not part of the network"))
            continue
        if not value.is_floating_point() or value.layout != torch.strided or value.device.type != "cpu":
            raise InputError(
                f"{path}: {key} is {value.dtype}, {value.layout}, on {value.device}; wanted plain floating-point values"
            )
        state[key] = value.detach().to(torch.float32)
        if not torch.isfinite(state[key]).all():
            raise InputError(
                f"{path}: {key} holds values that are not finite; the training diverged or the file is damaged"
            )
        kinds[str(value.dtype).removeprefix("torch.")] += value.numel()
        report.matched.append(Entry(key, tuple(value.shape)))
    for key in wanted.keys() - state.keys():  # only lower-resolution outputs may be absent, see _outputs
        state[key] = torch.zeros(wanted[key])
        report.missing.append(
            Entry(key, wanted[key], "only needed for training with deep supervision; filled with zeros")
        )
    report.missing.sort(key=lambda entry: entry.key)
    report.kind = kinds.most_common(1)[0][0]
    return shape, state, report


def adapt_stem(state: Mapping[str, Tensor], channels: int, mode: str = "repeat") -> dict[str, Tensor]:
    """A copy of ``state`` whose first convolution takes ``channels`` inputs, for training on several images at once.

    ``mode`` "repeat": the kernel repeated along the inputs, as the authors do; "mean": that divided by ``channels``, which keeps the scale
    of what follows (before the first normalisation, so that only the bias changes its weight). The stem must have a single input.
    """
    stem = state[STEM]
    if stem.shape[1] != 1 or channels < 1 or mode not in ("repeat", "mean"):
        raise InputError(
            f"stem with {stem.shape[1]} inputs cannot be adapted to {channels} by {mode!r}; wanted one input, repeat or mean"
        )
    wider = stem.repeat(1, channels, 1, 1, 1)
    return {**state, STEM: wider / channels if mode == "mean" else wider}


def starting_weights(
    weights: Weights, shape: NetworkShape, stem: str = "repeat"
) -> tuple[dict[str, Tensor], LoadReport]:
    """What a new network of ``shape`` can take over from ``weights`` to be trained on: a partial state dict, and the record.

    All of the trunk that the network has, decoder included whatever the file's outputs are; the stem adapted to the inputs. Segmentation
    outputs and head only where their shapes agree; the rest is listed as missing and stays as initialised. InputError as ``match``.
    """
    path = weights.path
    tensors = from_nnunet(weights.tensors, path) if is_nnunet(weights.tensors) else dict(weights.tensors)
    if STEM in tensors and tensors[STEM].shape[1] == 1 != shape.in_channels:
        tensors = adapt_stem(tensors, shape.in_channels, stem)
    wanted = _wanted(shape)
    trunk = {key: size for key, size in wanted.items() if not key.startswith(_OUTPUTS)}
    _require(
        tensors,
        {key: size for key, size in trunk.items() if not (key.startswith("tu.") and key.endswith("bias"))},
        path,
    )
    report = LoadReport(
        path.name, weights.wrapper, weights.prefix, "nnU-Net" if is_nnunet(weights.tensors) else "PASTA"
    )
    state = {}
    for key, value in tensors.items():
        size = tuple(value.shape)
        if wanted.get(key) == size:
            state[key] = value.detach().to(torch.float32)
            report.matched.append(Entry(key, size))
        else:
            why = f"the new network has {wanted[key]} here" if key in wanted else "not part of the new network"
            report.dropped.append(Entry(key, size, why))
    report.missing = [Entry(key, size, "starts from new values") for key, size in wanted.items() if key not in state]
    return state, report


# ---------------------------------------------------------------------------------------------------------------


def _wanted(shape: NetworkShape) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in PastaNet(shape).state_dict().items()}


def _shape_of(tensors: Mapping[str, Tensor], path: Path) -> NetworkShape:
    """Levels, channels and inputs of the trunk, with one class where there is a decoder.

    The channels of a level are what most of its tensors say, so that a single odd tensor is found out rather than believed.
    """
    levels: dict[int, Counter] = {}
    bottleneck = False
    for name, value in tensors.items():
        found = re.match(r"conv_blocks_context\.(\d+)\.(blocks|\d)\.", name)
        if found and value.ndim:
            levels.setdefault(int(found[1]), Counter())[value.shape[0]] += 1
            bottleneck |= found[2] != "blocks"
    if sorted(levels) != list(range(len(levels))) or len(levels) < 2 + bottleneck:
        raise InputError(
            f"{path}: encoder levels {sorted(levels)}; wanted consecutive ones from 0, at least two and a bottleneck"
        )
    channels = [levels[level].most_common(1)[0][0] for level in sorted(levels)]
    if not bottleneck:
        channels.append(channels[-1])
    stem = tensors.get(STEM)
    inputs = stem.shape[1] if stem is not None and stem.ndim == 5 else 1
    decoder = any(name.startswith(_UPWARD) for name in tensors)
    return NetworkShape(tuple(channels), inputs, int(decoder), 0, "tu.0.bias" in tensors)


def _outputs(
    tensors: Mapping[str, Tensor], whole: NetworkShape, labels: Mapping | None, reasons: dict[str, str], path: Path
) -> int:
    """Classes that the file segments, with background; 0 with the reasons where it does not."""
    rows = _rows(tensors, "seg_outputs.")
    head = _rows(tensors, "head.4.weight")
    if not whole.classes:
        why = "the file has no decoder"
    elif not rows:
        why = "the file has a decoder but no segmentation output"
    elif rows == head and not (labels and len(labels) == rows - 1):
        why = f"its {rows} rows are the {head} outputs of the head, a by-product of the attribute network and no segmentation"
    elif rows < 2:
        why = "a single output is no segmentation"
    else:
        full = {
            key: size for key, size in _wanted(replace(whole, classes=rows)).items() if key.startswith("seg_outputs.")
        }
        last = f"seg_outputs.{whole.levels - 2}."
        _require(tensors, {key: size for key, size in full.items() if key in tensors or key.startswith(last)}, path)
        return rows
    reasons["seg_outputs."] = why
    reasons[f"{_CONTEXT}{whole.levels - 1}."] = reasons["conv_blocks_localization."] = reasons["tu."] = (
        "there is nothing to decode for" if whole.classes else why
    )
    return 0


def _head(tensors: Mapping[str, Tensor], whole: NetworkShape, reasons: dict[str, str]) -> int:
    """Outputs of the head; 0 with the reason where it is absent or another kind of head."""
    found = {key: tuple(value.shape) for key, value in tensors.items() if key.startswith("head.")}
    outputs = _rows(tensors, "head.4.weight")
    if not outputs:
        reasons["head."] = "not the head of this network"
        return 0
    wanted = _wanted(replace(whole, classes=0, attribute_outputs=outputs))
    wanted = {key: size for key, size in wanted.items() if key.startswith("head.")}
    if found != wanted:
        key = next(key for key in sorted(wanted.keys() | found.keys()) if wanted.get(key) != found.get(key))
        reasons["head."] = (
            f"not the head of this network: {key} is {found.get(key, 'absent')}, wanted {wanted.get(key, 'no such tensor')}"
        )
        return 0
    return outputs


def _rows(tensors: Mapping[str, Tensor], start: str) -> int:
    rows = Counter(value.shape[0] for name, value in tensors.items() if name.startswith(start) and value.ndim)
    return rows.most_common(1)[0][0] if rows else 0


def _require(tensors: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """InputError naming the first tensor that is missing or of another shape; segmentation outputs only where they are listed."""
    wrong = [key for key, size in wanted.items() if key not in tensors or tuple(tensors[key].shape) != size]
    if not wrong:
        return
    key = wrong[0]
    found = f"has shape {tuple(tensors[key].shape)}" if key in tensors else "is missing"
    more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    raise InputError(
        f"{path}: {key} {found}, wanted {wanted[key]} to fit the others{more}; the file is incomplete or mixes networks of different width"
    )
