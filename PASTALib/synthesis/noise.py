"""The scan's own CT noise: measured in homogeneous soft tissue, and made again with the same spectrum where it is needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

HIGH_PASS_MM = 1.5  # noise = image - Gaussian of this sigma
SMOOTH_MM = 2.0  # the scale on which heterogeneity is judged
_PATCH_MM = 22.0
_SOFT_TISSUE_HU = (-10.0, 250.0)
_POWER_SIGMA = (1.0, 2.0, 2.0)  # bins


@dataclass(frozen=True)
class NoiseModel:
    """Noise of one scan.

    ``sd_hu`` total SD in homogeneous soft tissue, ``high_pass_sd_hu`` after removing a 1.5 mm Gaussian, ``smoothed_sd_hu`` after a 2 mm
    Gaussian; ``tile`` a periodic block of unit-SD noise (z, y, x) on the scan's grid with the measured spectrum; ``patches`` how many
    patches it comes from; ``soft_tissue_hu`` their median HU; ``slope_hu`` the mean in-plane slope (HU per voxel) that noise alone gives
    after a 2 mm Gaussian, by which calm tissue is told from edges; ``low_pass_sd_hu`` the SD that is left after a 1.5 mm Gaussian in three dimensions.
    """

    sd_hu: float
    high_pass_sd_hu: float
    smoothed_sd_hu: float
    tile: np.ndarray
    patches: int
    soft_tissue_hu: float
    slope_hu: float
    low_pass_sd_hu: float

    @cached_property
    def power(self) -> np.ndarray:
        """Power of the tile at every frequency (z, y, x), smoothed, 1 on average; float32 of the tile's shape."""
        found = np.abs(np.fft.fftn(self.tile)) ** 2
        found = ndimage.gaussian_filter(found, _POWER_SIGMA, mode="wrap")
        return (found / found.mean()).astype(np.float32)

    def sample(self, rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
        """Unit-SD noise of ``shape`` cut from the tile at a random place and orientation, float32."""
        offset = [int(rng.integers(n)) for n in self.tile.shape]
        tile = self.tile
        if rng.random() < 0.5:
            tile = tile[:, :, ::-1]
        if rng.random() < 0.5:
            tile = tile[:, ::-1, :]
        index = [np.arange(o, o + n) % t for o, n, t in zip(offset, shape, tile.shape)]
        return tile[np.ix_(*index)]


def measure_noise(
    ct: np.ndarray, spacing_zyx: np.ndarray, body: tuple[slice, slice, slice], seed: int = 0
) -> NoiseModel:
    """Measure the noise of a CT ``(z, y, x)`` in HU from its quietest soft-tissue patches inside the box ``body``.

    Patches of 22 mm in plane are drawn over the body; those of soft tissue with the lowest variation are taken as homogeneous.
    """
    rng = np.random.default_rng(seed)
    side = max(6, int(round(_PATCH_MM / spacing_zyx[1])))
    sigma = HIGH_PASS_MM / spacing_zyx[1:]
    low = np.array([s.start for s in body])
    high = np.array([s.stop for s in body]) - np.array([2, side, side])
    found = []
    if (high > low).all():
        corners = np.stack([rng.integers(lo, hi, 6000) for lo, hi in zip(low, high)], axis=1)
        centre = np.array([0, side // 2, side // 2])
        hu = ct[tuple((corners + centre).T)]
        corners = corners[(hu > _SOFT_TISSUE_HU[0]) & (hu < _SOFT_TISSUE_HU[1])][:1500]
        for z, y, x in corners:
            patch = ct[z : z + 2, y : y + side, x : x + side].astype(np.float32)
            median = float(np.median(patch[0]))
            if not _SOFT_TISSUE_HU[0] < median < _SOFT_TISSUE_HU[1]:
                continue
            # variation between quarters of the patch shows edges; SD alone also shows structure
            quarters = patch[0][: side // 2 * 2, : side // 2 * 2].reshape(2, side // 2, 2, side // 2).mean((1, 3))
            found.append((float(patch[0].std()) + 2.0 * float(np.ptp(quarters)), median, patch))
    if len(found) < 8:
        return _default_noise(spacing_zyx)
    found.sort(key=lambda item: item[0])
    if found[len(found) // 4][0] < 0.3:
        return _default_noise(spacing_zyx, sd_hu=0.5)  # a noise-free image, such as a simulated one
    # the quietest few percent are quiet by chance: start above them, stop before structure begins
    best = found[len(found) // 50 : max(len(found) // 8, 12)]
    patches = np.stack([p for _, _, p in best])
    patches -= _planes(patches)
    window = np.hanning(side + 2)[1:-1]  # or strong frequencies would leak into faint ones
    spectrum = (np.abs(np.fft.fft2(patches[:, 0] * np.outer(window, window))) ** 2).mean(0)
    high_pass = np.stack([p - ndimage.gaussian_filter(p, sigma) for p in patches[:, 0]])
    inner = tuple(slice(min(3, side // 4), -min(3, side // 4)) for _ in range(2))
    high_sd = _robust_sd(high_pass[(slice(None), *inner)])
    lag = float(
        (patches[:, 0] * patches[:, 1]).mean()
        / max(np.sqrt((patches[:, 0] ** 2).mean() * (patches[:, 1] ** 2).mean()), 1e-6)
    )
    tile = _tile(spectrum, side, spacing_zyx, lag, rng)
    return _finish(tile, high_sd, spacing_zyx, len(best), float(np.median([m for _, m, _ in best])))


def _robust_sd(values: np.ndarray) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def _planes(patches: np.ndarray) -> np.ndarray:
    """Least-squares plane of every patch (..., y, x)."""
    n, m = patches.shape[-2:]
    y = (np.arange(n) - (n - 1) / 2)[:, None] / n
    x = (np.arange(m) - (m - 1) / 2)[None, :] / m
    mean = patches.mean((-2, -1), keepdims=True)
    slope_y = (patches * y).sum((-2, -1), keepdims=True) / ((y**2).sum() * m)
    slope_x = (patches * x).sum((-2, -1), keepdims=True) / ((x**2).sum() * n)
    return mean + slope_y * y + slope_x * x


def _tile(spectrum: np.ndarray, side: int, spacing_zyx: np.ndarray, lag: float, rng: np.random.Generator) -> np.ndarray:
    """Periodic noise with the power ``spectrum`` (side, side) in plane, streaks and all, and lag-one correlation ``lag`` between slices."""
    shape = (32, 128, 128)
    # the mean was taken out of every patch: what is missing at zero frequency comes from around it
    spectrum = np.fft.fftshift(spectrum)
    middle = side // 2
    ring = [spectrum[middle + i, middle + j] for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
    spectrum[middle, middle] = float(np.mean(ring))
    spectrum = np.exp(ndimage.gaussian_filter(np.log(np.maximum(spectrum, 1e-6 * spectrum.max())), 0.6, mode="wrap"))
    wanted = [np.fft.fftfreq(shape[1])[:, None] * side + middle, np.fft.rfftfreq(shape[2])[None, :] * side + middle]
    at = np.stack(np.broadcast_arrays(*wanted))
    amplitude = np.sqrt(np.maximum(ndimage.map_coordinates(spectrum, at, order=1, mode="grid-wrap"), 0)).astype(
        np.float32
    )
    white = rng.standard_normal(shape, dtype=np.float32)
    noise = np.fft.irfft2(np.fft.rfft2(white) * amplitude, s=shape[1:]).astype(np.float32)
    rho = float(np.clip(lag, 0.0, 0.95))
    if rho > 0.02:  # a short symmetric kernel along z with this lag-one correlation
        frequency_z = np.fft.fftfreq(shape[0])
        power_z = (1 - rho**2) / (1 - 2 * rho * np.cos(2 * np.pi * frequency_z) + rho**2)
        noise = np.fft.ifft(np.fft.fft(noise, axis=0) * np.sqrt(power_z)[:, None, None], axis=0).real.astype(np.float32)
    return noise - noise.mean()


def _finish(tile: np.ndarray, high_sd: float, spacing_zyx: np.ndarray, patches: int, median: float) -> NoiseModel:
    """Scale the tile to unit SD and derive the scan's figures from it, so that tile and figures agree."""
    tile = (tile / tile.std()).astype(np.float32)
    block = tile[:8]
    high = block - ndimage.gaussian_filter(block, (0, *(HIGH_PASS_MM / spacing_zyx[1:])), mode="wrap")
    sd = high_sd / float(high.std())
    smooth = ndimage.gaussian_filter(tile, SMOOTH_MM / spacing_zyx, mode="wrap")
    slope = float(in_plane_slope(tile[:8], spacing_zyx).mean())
    low_pass = sd * float(ndimage.gaussian_filter(tile, HIGH_PASS_MM / spacing_zyx, mode="wrap").std())
    return NoiseModel(sd, high_sd, sd * float(smooth.std()), tile, patches, median, sd * slope, low_pass)


def in_plane_slope(image: np.ndarray, spacing_zyx: np.ndarray) -> np.ndarray:
    """Gradient magnitude (HU per voxel) within every slice after a 2 mm Gaussian in plane."""
    image = np.asarray(image, np.float32)
    sigma = (0, *(SMOOTH_MM / np.asarray(spacing_zyx, float)[1:]))
    rows = ndimage.gaussian_filter(image, sigma, order=(0, 1, 0), mode="nearest", truncate=3.0)
    columns = ndimage.gaussian_filter(image, sigma, order=(0, 0, 1), mode="nearest", truncate=3.0)
    return np.hypot(rows, columns)


def relative_noise(host: np.ndarray, spacing_zyx: np.ndarray, model: NoiseModel) -> float:
    """Noise of a part of the scan (HU; z, y, x) relative to the whole, from its calm soft tissue; 0.6 to 1.8, 1 when it cannot be told."""
    host = np.asarray(host, np.float32)
    in_plane = np.asarray(spacing_zyx, float)[1:]
    low = ndimage.gaussian_filter(host, (0, *(HIGH_PASS_MM / in_plane)), truncate=3.0)
    # calm: no steeper than noise makes it, and away from anything that is steeper
    steep = (in_plane_slope(host, spacing_zyx) > 3.0 * model.slope_hu) | (low < -20) | (low > 260)
    near = np.maximum(np.rint(2.5 / in_plane), 1).astype(int)
    calm = ~ndimage.maximum_filter(steep, (1, *(2 * near + 1)))
    if np.count_nonzero(calm) < 250:
        return 1.0
    return float(np.clip(_robust_sd((host - low)[calm]) / model.high_pass_sd_hu, 0.6, 1.8))


def _default_noise(spacing_zyx: np.ndarray, sd_hu: float = 9.0) -> NoiseModel:
    """For scans whose noise cannot be measured (small crops, simulated images): a typical standard-kernel spectrum."""
    side = max(8, int(round(_PATCH_MM / spacing_zyx[1])))
    frequency = np.hypot(np.fft.fftfreq(side, spacing_zyx[1])[:, None], np.fft.fftfreq(side, spacing_zyx[2])[None, :])
    spectrum = (0.05 + frequency) * np.exp(-((frequency / 0.35) ** 2))
    tile = _tile(spectrum, side, spacing_zyx, 0.4, np.random.default_rng(0))
    return _finish(tile, sd_hu, spacing_zyx, 0, 45.0)
