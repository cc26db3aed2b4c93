"""The scan's noise: measured level and spectrum, and noise made again from them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from PASTALib.synthesis.noise import measure_noise

SPACINGS = [(2.5, 0.8, 0.8), (1.5, 1.5, 1.5)]
SPECTRA = {
    "soft": lambda f: np.exp(-0.5 * (f / 0.2) ** 2),
    "sharp": lambda f: np.sqrt(f) * np.exp(-((f / 0.4) ** 4)),
}


def make_scan(spacing, spectrum, sd, seed=0):
    """A body (50 HU) with a denser organ (110 HU) in air, and its noise alone; int16 and float, (z, y, x)."""
    shape = tuple(int(mm / s) for mm, s in zip((90, 200, 240), spacing))
    f = np.hypot(np.fft.fftfreq(shape[1], spacing[1])[:, None], np.fft.fftfreq(shape[2], spacing[2])[None, :])
    white = np.random.default_rng(seed).standard_normal(shape)
    noise = np.fft.ifft2(np.fft.fft2(white) * SPECTRA[spectrum](f)).real
    noise *= sd / noise.std()
    z, y, x = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j, -1 : 1 : shape[2] * 1j]
    hu = np.where((y**2 + x**2 < 0.9) & (z > -2), 50.0, -1000.0)
    hu = np.where(4 * (x + 0.4) ** 2 + 5 * y**2 + z**2 < 0.8, 110.0, hu)
    return np.rint(hu + noise).astype(np.int16), noise


def whole(ct):
    return tuple(slice(0, n) for n in ct.shape)


def radial_power(slices, spacing, bins=8):
    """In-plane power of (n, y, x) in ``bins`` rings from 0.1 cycles/mm to 0.5 or Nyquist, normalised to mean 1."""
    power = (np.abs(np.fft.fft2(slices)) ** 2).mean(0)
    f = np.hypot(
        np.fft.fftfreq(slices.shape[1], spacing[1])[:, None], np.fft.fftfreq(slices.shape[2], spacing[2])[None, :]
    )
    edges = np.linspace(0.1, min(0.5, 0.5 / spacing[1]), bins + 1)
    ring = np.digitize(f.ravel(), edges) - 1
    values = np.array([power.ravel()[ring == b].mean() for b in range(bins)])
    return values / values.mean()


@pytest.fixture(scope="module")
def measured():
    """Function: (spacing, spectrum, sd) -> (model, true noise), measured once."""
    kept = {}

    def get(spacing, spectrum, sd=12.0):
        if (spacing, spectrum, sd) not in kept:
            ct, noise = make_scan(spacing, spectrum, sd)
            kept[spacing, spectrum, sd] = measure_noise(ct, np.array(spacing), whole(ct)), noise
        return kept[spacing, spectrum, sd]

    return get


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("sd", [6.0, 20.0])
def test_noise_level_within_ten_percent(measured, spacing, spectrum, sd):
    model, noise = measured(spacing, spectrum, sd)
    assert model.patches > 20
    assert model.sd_hu == pytest.approx(sd, rel=0.1)
    high = noise - ndimage.gaussian_filter(noise, (0, *(1.5 / np.array(spacing[1:]))))
    assert model.high_pass_sd_hu == pytest.approx(high.std(), rel=0.1)
    assert model.soft_tissue_hu == pytest.approx(50, abs=5) or model.soft_tissue_hu == pytest.approx(110, abs=5)


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("spacing", SPACINGS)
def test_sampled_noise_has_the_scans_spectrum(measured, spacing, spectrum):
    model, noise = measured(spacing, spectrum)
    sample = model.sample(np.random.default_rng(1), (24, 96, 96))
    assert sample.dtype == np.float32
    assert sample.std() == pytest.approx(1.0, abs=0.06)
    centre = tuple(slice((n - 96) // 2, (n - 96) // 2 + 96) for n in noise.shape[1:])
    truth, made = radial_power(noise[(slice(None), *centre)], spacing), radial_power(sample, spacing)
    visible = truth > 0.1 * truth.max()
    assert visible.sum() >= 4
    assert np.abs(np.log(made / truth))[visible].max() <= 0.35


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_sampled_noise_has_the_scans_spectrum_where_it_is_faint(measured, spectrum):
    model, noise = measured(SPACINGS[0], spectrum)
    sample = model.sample(np.random.default_rng(1), (24, 96, 96))
    truth, made = (radial_power(a[:24, 60:156, 60:156] if a is noise else a, SPACINGS[0]) for a in (noise, sample))
    faint = truth > 0.01 * truth.max()
    assert np.abs(np.log(made / truth))[faint].max() <= 0.35


def test_sampled_noise_keeps_the_correlation_between_slices():
    spacing = (1.0, 0.9, 0.9)
    ct, noise = make_scan(spacing, "soft", 12.0)
    thick = ndimage.gaussian_filter1d(noise, 1.0, axis=0)
    thick *= 12.0 / thick.std()
    model = measure_noise(np.rint(50 + thick).astype(np.int16), np.array(spacing), whole(ct))
    truth = np.corrcoef(thick[:-1].ravel(), thick[1:].ravel())[0, 1]
    sample = model.sample(np.random.default_rng(0), (24, 64, 64))
    made = np.corrcoef(sample[:-1].ravel(), sample[1:].ravel())[0, 1]
    assert made == pytest.approx(truth, abs=0.1)


def test_samples_larger_than_the_tile_and_samples_of_one_seed(measured):
    model, _ = measured(SPACINGS[0], "soft")
    large = model.sample(np.random.default_rng(0), (50, 200, 150))
    assert large.shape == (50, 200, 150)
    assert np.isfinite(large).all()
    np.testing.assert_array_equal(large, model.sample(np.random.default_rng(0), (50, 200, 150)))
    assert not np.array_equal(large[:8], model.sample(np.random.default_rng(1), (8, 200, 150)))


def test_measuring_twice_gives_the_same_model():
    ct, _ = make_scan(SPACINGS[1], "sharp", 10.0)
    first, again = (measure_noise(ct, np.array(SPACINGS[1]), whole(ct)) for _ in range(2))
    assert first.sd_hu == again.sd_hu
    np.testing.assert_array_equal(first.tile, again.tile)


@pytest.mark.parametrize("shape", [(30, 80, 80), (1, 80, 80), (30, 6, 6)])
def test_a_scan_without_soft_tissue_gets_typical_noise(shape):
    ct = np.full(shape, -850, np.int16)
    model = measure_noise(ct, np.array((2.0, 0.8, 0.8)), whole(ct))
    assert model.patches == 0
    assert 4 <= model.sd_hu <= 25
    assert 0 < model.smoothed_sd_hu < model.sd_hu
    assert model.tile.std() == pytest.approx(1.0, abs=0.01)


def test_a_scan_without_noise_gives_finite_figures():
    ct = np.full((30, 120, 120), 50, np.int16)
    model = measure_noise(ct, np.array((2.0, 0.8, 0.8)), whole(ct))
    assert np.isfinite([model.sd_hu, model.high_pass_sd_hu, model.smoothed_sd_hu]).all()
    assert np.isfinite(model.tile).all()
    assert model.sd_hu < 1.0
