"""Noise in CT regions of any outline: smoothing that does not leak over edges, noise ratio, noise power spectrum."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

# Noise is what a Gaussian of this scale (mm) takes away; texture is what a Gaussian of TEXTURE_SIGMA_MM leaves.
NOISE_SIGMA_MM = 1.5
TEXTURE_SIGMA_MM = 2.0
_TRUNCATE = 3.0


def smooth_within(image: np.ndarray, mask: np.ndarray, spacing_zyx, sigma_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian smoothing (``sigma_mm``) of ``image`` that uses voxels of ``mask`` only (normalised convolution).

    Returns the smoothed image (0 outside the mask) and the share of the kernel that fell inside the mask.
    """
    sigma = float(sigma_mm) / np.asarray(spacing_zyx, float)
    weight = ndimage.gaussian_filter(mask.astype(np.float32), sigma, mode="constant", truncate=_TRUNCATE)
    level = float(image[mask].mean()) if mask.any() else 0.0
    values = np.where(mask, image - np.float32(level), np.float32(0.0))
    smooth = ndimage.gaussian_filter(values, sigma, mode="constant", truncate=_TRUNCATE)
    return np.where(mask, smooth / np.maximum(weight, 1e-3) + np.float32(level), np.float32(0.0)), weight


def noise_inflation(mask: np.ndarray, weight: np.ndarray, spacing_zyx, sigma_mm: float) -> float:
    """Mean factor by which one-sided kernels at the rim of ``mask`` raise the variance of smoothed white noise."""
    sigma = float(sigma_mm) / np.asarray(spacing_zyx, float) / np.sqrt(2.0)
    squared = ndimage.gaussian_filter(mask.astype(np.float32), sigma, mode="constant", truncate=_TRUNCATE)
    return float(np.mean(squared[mask] / np.maximum(weight[mask], 1e-3) ** 2))


def robust_sd(values: np.ndarray) -> float:
    """Half the distance between the 16th and 84th percentiles: the SD of a normal sample, indifferent to outliers."""
    if values.size < 2:
        return float("nan")
    low, high = np.percentile(values, (15.866, 84.134))
    return float(high - low) / 2.0


def noise_sd(image: np.ndarray, mask: np.ndarray, spacing_zyx) -> float:
    """Robust SD (HU) of ``image`` minus its smoothed self (σ 1.5 mm) within ``mask``; NaN below 30 voxels."""
    if np.count_nonzero(mask) < 30:
        return float("nan")
    smooth, weight = smooth_within(image, mask, spacing_zyx, NOISE_SIGMA_MM)
    return _high_pass_sd(image, smooth, weight, mask)


def noise_levels(image: np.ndarray, mask: np.ndarray, spacing_zyx) -> tuple[float, float]:
    """(``noise_sd_hu``, ``smoothed_sd_hu``) of homogeneous tissue ``mask``: SD above σ 1.5 mm and SD left after σ 2 mm.

    Slow trends of the tissue (beyond σ 6 mm) are taken off before the second figure. NaN below 30 voxels.
    """
    if np.count_nonzero(mask) < 30:
        return float("nan"), float("nan")
    fine, weight = smooth_within(image, mask, spacing_zyx, NOISE_SIGMA_MM)
    high = _high_pass_sd(image, fine, weight, mask)
    texture, weight = smooth_within(image, mask, spacing_zyx, TEXTURE_SIGMA_MM)
    trend, _ = smooth_within(image, mask, spacing_zyx, 6.0)
    keep = mask & (weight > 0.9)
    keep = keep if np.count_nonzero(keep) >= 100 else mask
    return high, robust_sd((texture - trend)[keep])


def _high_pass_sd(image, smooth, weight, mask) -> float:
    """Robust SD of image − smooth where most of the kernel lay inside the mask."""
    keep = mask & (weight > 0.6)
    keep = keep if np.count_nonzero(keep) >= 30 else mask
    return robust_sd(image[keep] - smooth[keep])


def noise_ratio(image: np.ndarray, core: np.ndarray, shell: np.ndarray, spacing_zyx) -> float:
    """Noise SD of ``core`` over that of ``shell`` (bool masks); NaN where either has fewer than 30 voxels."""
    below = noise_sd(image, shell, spacing_zyx)
    return noise_sd(image, core, spacing_zyx) / below if below > 0 else float("nan")


def noise_power(image: np.ndarray, mask: np.ndarray, spacing_zyx, bins: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Radial in-plane noise power spectrum of ``image`` (HU, z y x) within ``mask`` (bool), corrected for its outline.

    Slow trends (σ 6 mm) are removed, the 2-D autocovariance of each slice is divided by that of the mask, pooled over
    slices, tapered and transformed. Returns (frequencies in cycles/mm, power in HU² mm²), ``bins`` values between 0.1
    and 0.5 cycles/mm or the Nyquist frequency, whichever is lower. NaN where the mask is too small (under 200 voxels).
    """
    hy, hx = float(spacing_zyx[1]), float(spacing_zyx[2])
    edges = np.linspace(0.1, min(0.5, 0.5 / max(hy, hx)), bins + 1)
    centres = 0.5 * (edges[1:] + edges[:-1])
    if np.count_nonzero(mask) < 200:
        return centres, np.full(bins, np.nan)
    flat = (1e-3, hy, hx)  # smooth within slices only
    trend = np.zeros(image.shape, np.float32)
    for k in np.flatnonzero(mask.any(axis=(1, 2))):
        trend[k], _ = (a[0] for a in smooth_within(image[k : k + 1], mask[k : k + 1], (1e6, *flat[1:]), 6.0))
    residual = np.where(mask, image - trend, 0.0).astype(np.float32)
    ny, nx = (2 * n for n in mask.shape[1:])
    spectrum = np.fft.rfft2(residual, s=(ny, nx))
    window = np.fft.rfft2(mask.astype(np.float32), s=(ny, nx))
    covariance = np.fft.irfft2((np.abs(spectrum) ** 2).sum(0), s=(ny, nx))
    overlap = np.fft.irfft2((np.abs(window) ** 2).sum(0), s=(ny, nx))
    valid = overlap > 0.1 * overlap.max()
    covariance = np.where(valid, covariance / np.maximum(overlap, 1.0), 0.0)
    ly = np.fft.fftfreq(ny, 1.0 / ny) * hy
    lx = np.fft.fftfreq(nx, 1.0 / nx) * hx
    lag = np.hypot(ly[:, None], lx[None, :])
    reach = min(10.0, 0.9 * float(lag[valid].max()))
    taper = np.where(lag < reach, 0.5 + 0.5 * np.cos(np.pi * lag / reach), 0.0)
    power = np.fft.fft2(covariance * taper).real * hy * hx
    fy, fx = np.fft.fftfreq(ny, hy), np.fft.fftfreq(nx, hx)
    radius = np.hypot(fy[:, None], fx[None, :])
    place = np.digitize(radius.ravel(), edges) - 1
    inside = (place >= 0) & (place < bins)
    total = np.bincount(place[inside], power.ravel()[inside], minlength=bins)
    number = np.bincount(place[inside], minlength=bins)
    return centres, np.maximum(total / np.maximum(number, 1), 1e-6)
