"""Universal's head and loss. Written anew from the sizes and names of the published checkpoint."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

TEXT, TASK = 512, 256  # of a class: CLIP's embedding of its name, and what the head makes of it
DYNAMIC = 8  # channels of the convolutions made for a class
SIZES = (DYNAMIC * DYNAMIC, DYNAMIC * DYNAMIC, DYNAMIC, DYNAMIC, DYNAMIC, 1)  # their kernels, then their biases
GROUPS = 16
SMOOTH = 1.0  # of Dice, as its authors have it


class UniversalNet(nn.Module):
    """``backbone`` and head: images -> logits of every class against all else (B, K, d, h, w).

    For every class three 1x1x1 convolutions (8-8-8-1) are applied to the backbone's map at full resolution, with kernels and biases that
    ``controller`` makes from the bottleneck's mean and the class's embedding. ``words`` (K, 512): embeddings of the classes' names;
    None learns one per class. ``backbone`` has ``maps`` (first the bottleneck, last full resolution) and ``widths`` (first full resolution,
    last the bottleneck). The head has 342,817 values on the published U-Net, 408,705 on the Swin UNETR.
    """

    def __init__(self, backbone: nn.Module, classes: int, words: torch.Tensor | None = None):
        super().__init__()
        full, deepest = backbone.widths[0], backbone.widths[-1]
        self.backbone = backbone
        self.precls_conv = nn.Sequential(_group_norm(full), nn.ReLU(), nn.Conv3d(full, DYNAMIC, 1))
        self.GAP = nn.Sequential(_group_norm(deepest), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Conv3d(deepest, TASK, 1))
        self.controller = nn.Conv3d(2 * TASK, sum(SIZES), 1)
        if words is None:
            self.organ_embedding = nn.Embedding(classes, TASK)
        else:
            self.register_buffer("organ_embedding", words.detach().clone())
            self.text_to_vision = nn.Linear(TEXT, TASK)

    def tasks(self) -> torch.Tensor:
        """(K, 256)."""
        if isinstance(self.organ_embedding, nn.Embedding):
            return self.organ_embedding.weight
        return F.relu(self.text_to_vision(self.organ_embedding))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps, tasks = self.backbone.maps(x), self.tasks()
        image = self.GAP(maps[0]).flatten(1)
        samples, classes = len(image), len(tasks)
        both = torch.cat((image[:, None].expand(-1, classes, -1), tasks[None].expand(samples, -1, -1)), 2)
        made = self.controller(both.flatten(0, 1)[..., None, None, None]).view(samples, classes, -1).split(SIZES, 2)
        voxels = self.precls_conv(maps[-1]).flatten(2)
        found = [_convolve(voxels, [part[:, n] for part in made]) for n in range(classes)]
        return torch.cat(found, 1).view(samples, classes, *x.shape[2:])


class WithBackground(nn.Module):
    """Logits with a background of 0 before those of the classes: the largest is a class just where its own probability is above a half."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.network(x)
        return torch.cat((torch.zeros_like(found[:, :1]), found), 1)


class PerClassLoss(nn.Module):
    """Binary cross-entropy + Dice of every class against all else, in equal parts; classes that a scan's mask does not mark are left out.

    Called with logits (B, 1 + K, …), background first, labels (B, 1, …), and optionally ``annotated`` (B, K), true where a class is marked.
    """

    def forward(
        self, logits: torch.Tensor, target: torch.Tensor, annotated: torch.Tensor | None = None
    ) -> torch.Tensor:
        found = logits[:, 1:].float().flatten(2)
        samples, classes, _ = found.shape
        labels = torch.arange(1, classes + 1, device=target.device)
        wanted = (target.reshape(samples, 1, -1) == labels[None, :, None]).to(found.dtype)
        entropy = F.binary_cross_entropy_with_logits(found, wanted, reduction="none").mean(2)
        p = found.sigmoid()
        dice = 1 - (2 * (p * wanted).sum(2) + SMOOTH) / (p.sum(2) + wanted.sum(2) + SMOOTH)
        counted = torch.ones_like(dice) if annotated is None else annotated.to(dice.dtype)
        return ((entropy + dice) * counted).sum() / counted.sum().clamp_min(1)


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(GROUPS, channels), channels)


def _convolve(voxels: torch.Tensor, made: list[torch.Tensor]) -> torch.Tensor:
    """(B, 8, voxels) -> (B, 1, voxels): three layers with one sample's own kernels, ReLU between them."""
    kernels, biases = made[:3], made[3:]
    for n, (kernel, bias) in enumerate(zip(kernels, biases)):
        weight = kernel.reshape(len(voxels), -1, DYNAMIC)
        voxels = torch.baddbmm(bias[:, :, None], weight, F.relu(voxels) if n else voxels)
    return voxels
