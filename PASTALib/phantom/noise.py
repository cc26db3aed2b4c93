"""CT-like noise: band-pass in plane (ramp with roll-off), lightly correlated along z, defined in cycles per mm."""

from __future__ import annotations

import numpy as np
from scipy import fft

PEAK_PER_MM = 0.26


def noise_filter(shape_yx: tuple[int, int], spacing_yx_mm: tuple[float, float]) -> np.ndarray:
    """Amplitude of the noise over ``rfft2`` frequencies; the power rises like a ramp and rolls off past its peak."""
    fy = np.fft.fftfreq(shape_yx[0], spacing_yx_mm[0])[:, None]
    fx = np.fft.rfftfreq(shape_yx[1], spacing_yx_mm[1])[None, :]
    f = np.hypot(fy, fx)
    power = (f + 0.015) * np.exp(-((f / PEAK_PER_MM) ** 3) / 3.0)
    full = power.copy()
    full[:, 1 : (shape_yx[1] + 1) // 2] *= 2
    return np.sqrt(power * (shape_yx[0] * shape_yx[1] / full.sum())).astype(np.float32)


def noise_slices(first: int, count: int, shape_yx, spacing_zyx_mm, seed: int) -> np.ndarray:
    """``count`` slices of unit-SD noise from slice ``first``; each slice depends on seed and slice number alone."""
    amplitude = noise_filter(shape_yx, tuple(spacing_zyx_mm[1:]))
    neighbour = float(np.exp(-((spacing_zyx_mm[0] / 1.2) ** 2)))
    weight = 1.0 / np.sqrt(1.0 + 2.0 * neighbour**2)

    def white(k: int) -> np.ndarray:
        rng = np.random.default_rng([seed, 11, k + 4])
        return rng.standard_normal(shape_yx, dtype=np.float32)

    if neighbour < 0.02:
        raw = (white(first + k) for k in range(count))
    else:
        ring = [white(first - 1), white(first), None]

        def smoothed():
            for k in range(count):
                ring[2] = white(first + k + 1)
                yield np.float32(weight) * (ring[1] + np.float32(neighbour) * (ring[0] + ring[2]))
                ring[0], ring[1] = ring[1], ring[2]

        raw = smoothed()
    out = np.empty((count, *shape_yx), np.float32)
    for k, plane in enumerate(raw):
        out[k] = fft.irfft2(fft.rfft2(plane) * amplitude, s=shape_yx)
    return out
