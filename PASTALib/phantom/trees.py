"""Vessel trees that fill a region: each target joins the nearest earlier branch; calibre follows Murray's law."""

from __future__ import annotations

import numpy as np


def grow_tree(
    trunk: np.ndarray,
    targets: np.ndarray,
    rng: np.random.Generator,
    tip_mm: float = 0.7,
    trunk_mm: float = 7.0,
    step_mm: float = 9.0,
) -> list[np.ndarray]:
    """Paths (n, 4) of x, y, z, radius in mm; ``trunk`` (n, 3) runs from root to tip, ``targets`` (m, 3) are ends."""
    points: list[np.ndarray] = [np.asarray(p, float) for p in trunk]
    parent = [-1, *range(len(points) - 1)]
    depth = list(np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(trunk, axis=0), axis=1))]))
    branches: list[list[int]] = [list(range(len(points)))]
    order = np.argsort(np.linalg.norm(targets - points[-1], axis=1), kind="stable")
    for target in targets[order]:
        cloud = np.asarray(points)
        gap = np.linalg.norm(cloud - target, axis=1)
        start = int(np.argmin(gap + 0.25 * np.asarray(depth)))
        length = gap[start]
        n = max(2, int(length / step_mm))
        outward = cloud[start] - cloud[parent[start]] if parent[start] >= 0 else target - cloud[start]
        outward = outward / (np.linalg.norm(outward) or 1.0)
        middle = (cloud[start] + target) / 2 + outward * 0.18 * length + rng.normal(0, 0.05 * length, 3)
        branch, last = [start], start
        for t in np.linspace(0, 1, n + 1)[1:]:
            point = (1 - t) ** 2 * cloud[start] + 2 * t * (1 - t) * middle + t * t * target
            parent.append(last)
            depth.append(depth[last] + float(np.linalg.norm(point - points[last])))
            points.append(point)
            last = len(points) - 1
            branch.append(last)
        branches.append(branch)
    load = np.zeros(len(points))
    for branch in branches:
        load[branch[-1]] += 1
    for node in range(len(points) - 1, 0, -1):
        load[parent[node]] += load[node]
    radius = tip_mm * np.power(np.maximum(load, 1), 1 / 2.6)
    radius *= 1 + (trunk_mm / radius[0] - 1) * np.clip(np.log(np.maximum(load, 1)) / np.log(max(load[0], 2)), 0, 1)
    cloud = np.asarray(points)
    paths = []
    for branch in branches:
        r = radius[branch].copy()
        if branch is not branches[0]:
            r[0] = min(r[0], r[1] * 1.15)
        r[-1] *= 0.7
        paths.append(np.column_stack([cloud[branch], r]))
    return paths


def scatter(inside, low, high, count: int, rng: np.random.Generator, gap_mm: float) -> np.ndarray:
    """Up to ``count`` points (n, 3), ``gap_mm`` apart, with ``inside(x, y, z) < 0``, by dart throwing in a box."""
    chosen = np.empty((0, 3))
    for _ in range(12):
        points = rng.uniform(low, high, (count * 3, 3))
        points = points[np.asarray(inside(*points.T.astype(np.float32))) < 0]
        for point in points:
            if len(chosen) >= count:
                return chosen
            if not len(chosen) or np.min(np.sum((chosen - point) ** 2, axis=1)) > gap_mm**2:
                chosen = np.vstack([chosen, point])
    return chosen
