"""Names of tensors: what wrappers put in front of them, and nnU-Net version 2's own names for the same network."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ..errors import InputError

FIRST = "conv_blocks_context.0.blocks.0.conv.weight"
_NNUNET_FIRST = "encoder.stages.0.0.convs.0.conv.weight"
_COMMON = re.compile(r"(^|.*\.)(conv_blocks_context\.\d|encoder\.stages\.\d)")
_REPEATED = ("decoder.encoder.", ".all_modules.")  # nnU-Net registers these modules twice
PREDICT = "nnUNetv2_predict of nnU-Net reads it"


def strip_prefixes(tensors: Mapping[str, Tensor], path: Path) -> tuple[dict[str, Tensor], str]:
    """Tensors under their bare names, and what was taken off.

    ``module.`` and ``_orig_mod.`` (data parallel, torch.compile) go wherever they lead, then whatever stands before the network's own
    names. InputError when the network is there twice, under two prefixes.
    """
    bare: dict[str, Tensor] = {}
    stripped = ""
    for key, value in tensors.items():
        name = re.sub(r"^(module\.)+", "", key.replace("_orig_mod.", ""))
        if name in bare:
            raise InputError(f"{path}: holds {name} twice, with and without a prefix; save one of the networks alone")
        stripped = stripped or key.removesuffix(name)
        bare[name] = value
    names = [name for name in bare if not any(part in name for part in _REPEATED)]
    found = Counter(match[1] for match in map(_COMMON.match, names) if match)
    if len(found) > 1:
        listed = " and ".join(repr(prefix) for prefix in sorted(found))
        raise InputError(f"{path}: holds the network {len(found)} times, under {listed}; save one of them alone")
    prefix = next(iter(found), "")
    return {name.removeprefix(prefix): value for name, value in bare.items()}, stripped + prefix


def is_nnunet(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of a network of nnU-Net version 2."""
    return FIRST not in tensors and any(name.startswith(("encoder.stages.", "encoder.stem.")) for name in tensors)


def from_nnunet(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """nnU-Net version 2's ``PlainConvUNet`` under PASTA's names; tensors that it lists twice are left out.

    Only the topology that PASTA shares: 3-D, 3x3x3 kernels, two convolutions with bias and instance normalisation per stage, halved in all
    directions between stages. InputError, which says what the network is, for all others.
    """
    tensors = {name: value for name, value in tensors.items() if not any(part in name for part in _REPEATED)}
    _require_plain(tensors, path)
    last = max(int(name.split(".")[2]) for name in tensors if name.startswith("encoder.stages."))
    renamed = {}
    for name, value in tensors.items():
        parts = name.split(".")
        tail = ".".join(parts[-2:]).replace("norm.", "instnorm.")
        if name.startswith("encoder.stages."):
            stage, conv = int(parts[2]), parts[5]
            inner = f"{conv}.blocks.0" if stage == last else f"blocks.{conv}"
            renamed[f"conv_blocks_context.{stage}.{inner}.{tail}"] = value
        elif name.startswith("decoder.stages."):
            renamed[f"conv_blocks_localization.{parts[2]}.{parts[4]}.blocks.0.{tail}"] = value
        elif name.startswith("decoder.transpconvs."):
            renamed[f"tu.{parts[2]}.{parts[3]}"] = value
        elif name.startswith("decoder.seg_layers."):
            renamed[f"seg_outputs.{parts[2]}.{parts[3]}"] = value
        else:
            renamed[name] = value
    return renamed


_STAGE = re.compile(r"(?:encoder\.stages\.\d+\.0|decoder\.stages\.\d+)\.convs\.(\d+)\.(?:conv|norm)\.(?:weight|bias)$")
_UP = re.compile(r"decoder\.(?:transpconvs|seg_layers)\.\d+\.(?:weight|bias)$")


def _require_plain(tensors: Mapping[str, Tensor], path: Path) -> None:
    def refuse(what: str) -> None:
        raise InputError(f"{path}: nnU-Net network with {what}, which this program does not run; {PREDICT}")

    if any(name.startswith("encoder.stem.") or ".blocks." in name for name in tensors):
        refuse("a residual encoder")
    ours = {name: value for name, value in tensors.items() if name.startswith(("encoder.", "decoder."))}
    odd = [name for name in ours if not _STAGE.match(name) and not _UP.match(name)]
    if any("running_" in name for name in ours):
        refuse("batch normalisation")
    if any(re.match(r"encoder\.stages\.\d+\.1\.", name) for name in ours):
        refuse("pooling layers")
    if odd:
        refuse(f"further layers ({odd[0]})")
    convs = Counter(name.split(".convs.")[0] for name in ours if name.endswith(".conv.weight"))
    uneven = [count for count in convs.values() if count != 2]
    if uneven:
        refuse(f"{uneven[0]} convolutions in a stage")
    for name, value in ours.items():
        sides = tuple(value.shape[2:])
        if name.endswith(".conv.weight") and sides != (3, 3, 3):
            refuse("2-D layers" if len(sides) == 2 else f"kernels of {'x'.join(map(str, sides))}")
        if "transpconvs" in name and name.endswith("weight") and sides != (2, 2, 2):
            refuse(f"strides of {'x'.join(map(str, sides))}")
        if name.endswith(".conv.weight") and name.removesuffix("weight") + "bias" not in ours:
            refuse("convolutions without bias")
    if _NNUNET_FIRST not in ours:
        raise InputError(f"{path}: damaged: {_NNUNET_FIRST} is missing; copy or download it again")
