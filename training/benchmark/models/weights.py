"""Published weights of any system into its network here: wrapper and prefix found, tensors matched by name and shape, and a record kept."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from PASTALib.errors import InputError
from PASTALib.networks.checkpoint import read_weights
from PASTALib.networks.matching import Entry

STEMS = ("repeat", "mean")


@dataclass
class Coverage:
    """What became of a file's tensors; names are the file's own, prefixes removed.

    ``matched`` went into the network; ``mismatched`` are in both with another shape, ``missing`` in the network only, ``unused`` in the file
    only. ``reason`` of an entry says why. ``wrapper``: the entry of the file that they were under; ``prefix``: what was taken off.
    """

    source: str
    wrapper: str = ""
    prefix: str = ""
    matched: list[Entry] = field(default_factory=list)
    mismatched: list[Entry] = field(default_factory=list)
    missing: list[Entry] = field(default_factory=list)
    unused: list[Entry] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Part of the network's tensors that the file filled, 0 to 1."""
        wanted = len(self.matched) + len(self.mismatched) + len(self.missing)
        return len(self.matched) / wanted if wanted else 1.0

    def summary(self) -> str:
        """One line for a person."""
        under = f" under {self.wrapper!r}" if self.wrapper else ""
        text = f"{self.source}: {len(self.matched)} tensors matched{under}"
        text += f", prefix {self.prefix!r} removed" if self.prefix else ""
        for word in ("mismatched", "missing", "unused"):
            entries = getattr(self, word)
            if entries:
                more = f" and {len(entries) - 1} more" if len(entries) > 1 else ""
                text += f"; {word}: {entries[0].key}{more}"
        return text + "."

    def to_json(self) -> dict:
        """JSON-ready dictionary."""
        return asdict(self) | {"share": self.share}


def fill(
    network: nn.Module,
    path: str | Path,
    parts: Sequence[Mapping[str, str]],
    *,
    title: str,
    wanted: str,
    fresh: tuple[str, ...] = (),
    optional: tuple[str, ...] = (),
    stem: str = "repeat",
) -> Coverage:
    """Copy the file's tensors into ``network`` and say what became of them.

    ``parts``: maps from the network's own names to those of the file; the names of a part share one prefix in the file, whatever it is,
    which is found by the longest ends of names that agree. ``title`` and ``wanted`` (the published file, in words) go into messages.
    ``fresh``: beginnings of the network's own names that are never taken over (outputs); ``optional``: of those that a file may lack, or
    have in another shape. Buffers that count batches are optional always.

    InputError, with nothing changed, when a required tensor is missing, of another shape or not finite; and as ``read_weights``.
    """
    if stem not in STEMS:
        raise InputError(f"stem {stem!r}; wanted {' or '.join(STEMS)}")
    weights = read_weights(path)
    tensors, report = weights.tensors, Coverage(Path(path).name, weights.wrapper, weights.prefix)
    own = {**dict(network.named_parameters()), **_kept_buffers(network)}
    found: dict[str, Tensor] = {}
    used, there, prefixes, lacking = set(), set(), [], []
    for part in parts:
        prefix = _prefix(tensors, part.values())
        prefixes += [prefix] if prefix and prefix not in prefixes else []
        for key, name in part.items():
            value, target = tensors.get(prefix + name), own[key]
            reason = ""
            if key.startswith(fresh):
                report.missing.append(Entry(name, tuple(target.shape), "outputs are new"))
            elif value is None:
                report.missing.append(Entry(name, tuple(target.shape), "keeps its new values"))
                reason = "is missing"
            else:
                used.add(prefix + name)
                there.add(key)
                fitting = _fitting(value, target, stem)
                if fitting is None:
                    reason = f"has shape {tuple(value.shape)}, wanted {tuple(target.shape)}"
                    report.mismatched.append(Entry(name, tuple(value.shape), f"the network has {tuple(target.shape)}"))
                else:
                    found[key] = fitting
                    widened = "" if fitting.shape == value.shape else f"widened by {stem!r}"
                    report.matched.append(Entry(name, tuple(target.shape), widened))
            if reason and not key.startswith(optional) and not name.endswith("num_batches_tracked"):
                lacking.append(f"{name} {reason}")
    report.prefix += "+".join(prefixes)
    for key, value in tensors.items():
        if key not in used:
            prefix = next((prefix for prefix in prefixes if key.startswith(prefix)), "")
            report.unused.append(Entry(key.removeprefix(prefix), tuple(value.shape), "not part of this network"))
    needed = [key for part in parts for key in part if not key.startswith((*fresh, *optional))]
    related = 2 * sum(key in there for key in needed) >= len(needed)
    _check(path, found, tensors, lacking, related, title, wanted)
    with torch.no_grad():
        for key, value in found.items():
            own[key].copy_(value)
    return report


def names_under(network: nn.Module, start: str, without: str = "") -> dict[str, str]:
    """Own name -> name in a file, for all tensors whose own name begins with ``start``, which a file does not have; ``without``: a pattern."""
    own = [*(key for key, _ in network.named_parameters()), *_kept_buffers(network)]
    skip = re.compile(without) if without else None
    return {key: key.removeprefix(start) for key in own if key.startswith(start) and not (skip and skip.search(key))}


# ---------------------------------------------------------------------------------------------------------------


def _kept_buffers(network: nn.Module) -> dict[str, Tensor]:
    state = network.state_dict(keep_vars=True)
    return {key: value for key, value in network.named_buffers() if key in state}


def _prefix(tensors: Mapping[str, Tensor], names) -> str:
    """What stands before most of ``names`` in the file; the shortest of equals."""
    names, counts = set(names), Counter()
    for key in tensors:
        pieces = key.split(".")
        for at in range(len(pieces)):
            if ".".join(pieces[at:]) in names:
                counts[".".join(pieces[:at]) + "." if at else ""] += 1
    return min(counts, key=lambda prefix: (-counts[prefix], len(prefix)), default="")


def _fitting(value: Tensor, target: Tensor, stem: str) -> Tensor | None:
    """``value`` in the target's shape, a kernel of one input repeated for several; None when it does not fit."""
    if value.shape == target.shape:
        return value.detach()
    single = value.ndim == target.ndim == 5 and value.shape[1] == 1
    if not single or value.shape[0] != target.shape[0] or value.shape[2:] != target.shape[2:]:
        return None
    wider = value.detach().repeat(1, target.shape[1], 1, 1, 1)
    return wider / target.shape[1] if stem == "mean" else wider


def _check(path, found: Mapping[str, Tensor], tensors, lacking: Sequence[str], related: bool, title: str, wanted: str):
    """``related``: whether the file has half of the names that are needed."""
    if lacking and not related:
        some = ", ".join(list(tensors)[:3])
        raise InputError(f"{path}: not weights of {title}: {len(tensors)} tensors named {some} …; wanted {wanted}")
    if lacking:
        more = f", and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise InputError(f"{path}: not the weights of {title}: {lacking[0]}{more}; wanted {wanted}")
    for key, value in found.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise InputError(f"{path}: {key} holds values that are not finite; the file is damaged, wanted {wanted}")
