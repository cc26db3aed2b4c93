"""The frame of the phantom's anatomy: levels of the spine, body outline, fat, cavity and diaphragm; per-seed variation.

Anatomy coordinates are RAS mm (x to the right, y anterior, z superior); z = 0 lies at the first lumbar vertebra.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .geometry import F, Profile, smax, smin

# Height of the centre of each vertebral body and half its height, mm.
LEVELS: dict[str, tuple[float, float]] = {
    "L5": (-134.0, 14.0), "L4": (-98.0, 14.0), "L3": (-62.5, 14.0), "L2": (-27.0, 14.0), "L1": (8.0, 13.5),
    "T12": (41.0, 12.5), "T11": (71.0, 12.0), "T10": (99.0, 11.3), "T9": (126.0, 11.0), "T8": (152.0, 10.6),
    "T7": (177.0, 10.2), "T6": (201.0, 9.8), "T5": (224.0, 9.4), "T4": (246.5, 9.2), "T3": (268.0, 8.8),
    "T2": (288.5, 8.5), "T1": (308.0, 8.2),
}  # fmt: skip

SPINE_Y = Profile(
    [-152, -134, -98, -62, -27, 8, 41, 99, 152, 201, 246, 288, 320],
    [-50, -43, -37, -35, -37, -42, -49, -60, -67, -69, -64, -54, -46],
)

_Z = [-310, -260, -210, -150, -90, -30, 30, 90, 150, 210, 260, 290, 310]
BODY_A = Profile(_Z, [176, 180, 178, 169, 159, 156, 160, 165, 169, 174, 183, 189, 188])
BODY_FRONT = Profile(_Z, [92, 104, 112, 115, 117, 117, 117, 116, 113, 106, 92, 78, 66])
BODY_BACK = Profile(_Z, [-116, -124, -124, -117, -115, -116, -119, -124, -128, -128, -122, -114, -105])
FAT_FRONT = Profile(_Z, [26, 25, 22, 21, 19, 17, 13, 9, 8, 8, 8, 8, 8])
FAT_SIDE = Profile(_Z, [30, 31, 26, 22, 17, 14, 12, 11, 12, 14, 16, 15, 14])
FAT_BACK = Profile(_Z, [26, 29, 26, 21, 17, 14, 11, 10, 10, 11, 13, 13, 13])

_C = [-310, -285, -260, -210, -180, -150, -120, -90, -30, 30, 90, 150, 210, 250, 280, 300, 312]
CAVITY_A = Profile(_C, [18, 30, 44, 58, 72, 92, 116, 128, 132, 134, 135, 131, 119, 95, 66, 40, 12])
CAVITY_FRONT = Profile(_C, [20, 38, 52, 76, 86, 91, 95, 96, 98, 99, 98, 93, 80, 63, 42, 16, -10])
CAVITY_BACK = Profile(_C, [-62, -68, -76, -84, -80, -76, -76, -78, -82, -92, -101, -105, -104, -97, -84, -68, -56])
CAVITY_N = 2.3


@dataclass(frozen=True)
class Variation:
    """How one phantom differs from the reference: scales of the body (x, y, z) and factors of single organs."""

    scale_xyz: tuple[float, float, float] = (1.0, 1.0, 1.0)
    fat: float = 1.0
    gallbladder: float = 1.0
    stomach: float = 1.0
    bladder: float = 1.0
    kidney: float = 1.0
    spleen: float = 1.0
    liver_mm: float = 0.0
    warp_mm: float = 2.0


def phantom_variation(seed: int) -> Variation:
    """The anatomy of ``seed``; seed 0 is the reference. Scales stay within 5 %; shifts come from the warp field."""
    if seed == 0:
        return Variation()
    rng = np.random.default_rng([seed, 7])
    scale = rng.uniform(0.95, 1.05, 3)
    fat, gallbladder, stomach, bladder = rng.uniform([0.7, 0.88, 0.92, 0.9], [1.3, 1.12, 1.08, 1.1])
    kidney, spleen = rng.uniform(0.97, 1.03, 2)
    liver = rng.uniform(-4.0, 4.0)
    return Variation(
        tuple(map(float, scale)), *map(float, (fat, gallbladder, stomach, bladder, kidney, spleen, liver)), 2.3
    )


def _oval(x, y, a, front, back, n: float):
    """Signed distance to a superellipse about (0, 0) with its own front and back depth."""
    b = np.where(y > 0, front, -back)
    u, v = np.abs(x) / a, np.abs(y) / b
    un, vn = u ** F(n), v ** F(n)
    total = un + vn + F(1e-6)
    f = total ** F(1.0 / n)
    u1, v1 = un / np.maximum(u, F(1e-3)) / a, vn / np.maximum(v, F(1e-3)) / b
    gradient = f / total * np.sqrt(u1 * u1 + v1 * v1)
    return (f - F(1)) / np.maximum(gradient, F(1.0 / 200))


def body_distance(x, y, zs):
    """Signed distance to the skin; the furrow of the back and the gluteal cleft included."""
    d = _oval(x, y, BODY_A(zs), BODY_FRONT(zs), BODY_BACK(zs), 2.45)
    depth = np.interp(zs, [-310, -265, -215, -190, -120, -40, 220, 310], [55, 40, 6, 0, 4, 7, 4, 2]).astype(F)
    width = np.interp(zs, [-310, -230, -190, 310], [9, 12, 26, 26]).astype(F)
    back = np.where(y < 0, F(1), F(0))
    return d + back * depth * np.exp(-((x / width) ** 2)) * np.exp(-np.maximum(-d, F(0)) / np.maximum(depth, F(1)))


def fat_thickness(x, y, zs):
    """Thickness in mm of skin and subcutaneous fat, by direction."""
    r2 = x * x + y * y * F(1.7) + F(1)
    side = x * x / r2
    return side * FAT_SIDE(zs) + (F(1) - side) * np.where(y > 0, FAT_FRONT(zs), FAT_BACK(zs))


def cavity_distance(x, y, zs):
    """Signed distance to the inner wall of chest, abdomen and pelvis, without the spine."""
    d = _oval(x, y, CAVITY_A(zs), np.maximum(CAVITY_FRONT(zs), 4), np.minimum(CAVITY_BACK(zs), -4), CAVITY_N)
    half = np.interp(zs, [-310, -160, -60, 40, 310], [2, 24, 29, 24, 19]).astype(F)
    front = SPINE_Y(zs) + np.interp(zs, [-310, -200, -150, 0, 100, 310], [-60, -25, 20, 17, 15, 10]).astype(F)
    column = smax(np.abs(x) - half, y - front, 16.0)
    return smax(d, -column, 22.0)


def diaphragm_height(x, y):
    """Height in mm of the diaphragm over (x, y): two domes with the lower central tendon between them."""
    heights = []
    for cx, top, side in ((72.0, 119.0, 1.0), (-74.0, 106.0, -1.0)):
        lateral = (x - F(cx)) * F(side)
        u = lateral / np.where(lateral > 0, F(66.0), F(130.0))
        dy = y - F(2.0)
        v = dy / np.where(dy > 0, F(118.0), F(94.0))
        w = u * u + v * v
        heights.append(F(top) - F(94.0) * w * np.sqrt(w))
    return smax(heights[0], heights[1], 30.0)


def diaphragm_distance(x, y, z):
    """Signed distance to the diaphragm, negative below it (first order)."""
    step = F(2.0)
    h = diaphragm_height(x, y)
    gx = (diaphragm_height(x + step, y) - h) / step
    gy = (diaphragm_height(x, y + step) - h) / step
    return (z - h) / np.sqrt(F(1) + gx * gx + gy * gy)


def union(*distances, blend_mm: float = 4.0):
    """Smooth union of several distances."""
    out = distances[0]
    for d in distances[1:]:
        out = smin(out, d, blend_mm)
    return out
