"""How sharp an edge is in CT: 10–90 % width and place of a boundary, fitted with error functions in patches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.special import ndtr

from .measure_shape import signed_distance

WIDTH_PER_SIGMA = 2.5631  # 10–90 % width of an error function over its standard deviation
_BIN_MM = 0.4
_SOLID_ORGANS = (2, 3, 4, 8, 9)  # PASTA values of organs that lie in fat: liver, gallbladder, pancreas, kidney, bladder
_REACH_MM = 13.0  # samples farther from the boundary are never used
_SIGMAS = np.exp(np.linspace(np.log(0.2), np.log(7.0), 30))
_MIN_SAMPLES = 24  # per patch
_MIN_EXPLAINED = 0.10  # share of a patch's variance that the edge must explain
_SATURATION = 0.02  # a patch fitted better than this share of its variance counts no more for it
_CELL_MM = (6.0, 18.0)  # size of the patches of the boundary …
_WANTED_STRENGTH = 90.0  # … which are merged until the edge of a typical one is this much above its noise
_NOISE_AREA_MM2 = 8.0  # area within which CT noise is correlated (soft kernels)


@dataclass(frozen=True)
class EdgeFit:
    """One boundary: 10–90 % width, centre relative to the mask surface (mm, outwards positive), contrast (HU, outside −
    inside; median over patches), noise (HU), number of usable patches, their spread (mm), and ``strength``, the edge's
    share of the variance over that of the noise times independent samples (below about 120 the width is a guess).
    ``reason`` says why a width is NaN."""

    width_mm: float
    offset_mm: float
    contrast_hu: float
    noise_hu: float
    patches: int
    spread_mm: float = float("nan")
    strength: float = 0.0
    reason: str = ""


def is_thick(spacing_zyx) -> bool:
    """Whether slices are so thick that edges can be judged only within them."""
    z, y, x = (float(s) for s in spacing_zyx)
    return z > 1.6 * max(y, x)


def fit_edge(
    image: np.ndarray,
    mask: np.ndarray,
    outside: np.ndarray,
    spacing_zyx,
    inside: np.ndarray | None = None,
    in_plane: bool | None = None,
    max_offset_mm: float = 2.0,
    patch_offset_mm: float = 0.2,
    prefer: int = 0,
    distance: np.ndarray | None = None,
) -> EdgeFit:
    """Width of the edge of ``mask`` in ``image`` (HU, z y x).

    ``outside`` (uint8) tells which voxels beyond the mask may be used and what they belong to (0 = unusable; each patch
    takes its most frequent class, or only patches of class ``prefer`` are used where there are at least five);
    ``inside`` (bool) restricts the samples within the mask. Patches of the boundary (6–18 mm, larger against noise) have
    their own two levels, and an offset that strays from the common one (at most ``max_offset_mm``) by about
    ``patch_offset_mm``; the width is the one that explains all patches best, each weighted by how well it is determined.
    Samples are single voxels at their true distance, so that no interpolation blurs the profile. ``distance`` saves
    computing the signed distance of ``mask`` (3-D) again.
    """
    spacing = np.asarray(spacing_zyx, float)
    in_plane = is_thick(spacing) if in_plane is None else in_plane
    samples = _samples(mask, spacing, in_plane, distance)
    if samples is None:
        return _nothing("the lesion has no boundary in this region")
    kind = outside.ravel()[samples.index]
    within = samples.position < 0
    usable = within if inside is None else within & inside.ravel()[samples.index]
    keep = usable | (~within & (kind > 0))
    samples, kind = samples.only(keep), kind[keep]
    value = image.ravel()[samples.index].astype(float)
    offsets = np.linspace(-max_offset_mm, max_offset_mm, 2 * int(round(max_offset_mm / 0.4)) + 1)
    correlated = max(1.0, _NOISE_AREA_MM2 / float(spacing[1] * spacing[2]))
    surface = np.count_nonzero(np.abs(samples.position) < 1.0) * float(np.prod(spacing)) / 2.0
    cell = float(np.clip(np.sqrt(surface / 60.0), *_CELL_MM))
    deep = spacing[0] if in_plane else cell
    window, fit = 6.0, _nothing("the lesion is too small or too closely surrounded for an edge profile")
    for attempt in range(5):
        profiles = _profiles(samples, kind, value, (deep, cell, cell), prefer)
        if profiles is None:
            break
        fit, strength = _fit(*profiles, window, offsets, correlated, patch_offset_mm)
        weak = strength < _WANTED_STRENGTH and len(profiles[0]) > 3
        wanted = float(np.clip(1.9 * fit.width_mm + 1.0, 5.0, _REACH_MM)) if np.isfinite(fit.width_mm) else window
        if attempt >= 1 and not weak and abs(wanted - window) < 1.0:
            break
        if weak:
            growth = float(np.clip(np.sqrt(_WANTED_STRENGTH / max(strength, 1.0)), 1.4, 3.0))
            cell, deep = cell * growth, max(cell, deep) * growth
        elif abs(wanted - window) < 1.0:
            break
        window = wanted
    return fit


def _nothing(reason: str, patches: int = 0, contrast: float = float("nan")) -> EdgeFit:
    nan = float("nan")
    return EdgeFit(nan, nan, contrast, nan, patches, nan, 0.0, reason)


@dataclass
class _Samples:
    """Voxels near the boundary: flat index, distance (mm), foot point on the boundary (3 × n, mm), side of the normal."""

    index: np.ndarray
    position: np.ndarray
    foot: np.ndarray
    side: np.ndarray

    def only(self, keep: np.ndarray) -> _Samples:
        return _Samples(self.index[keep], self.position[keep], self.foot[:, keep], self.side[keep])


def _samples(mask, spacing, in_plane, distance) -> _Samples | None:
    """All voxels whose distance to the boundary is known well enough, or None."""
    if distance is None or in_plane:
        distance = signed_distance(mask, spacing, in_plane)
    inner = np.zeros(mask.shape, bool)
    inner[slice(None) if in_plane else slice(1, -1), 1:-1, 1:-1] = True
    index = np.flatnonzero((np.abs(distance) < _REACH_MM) & inner)
    if index.size == 0:
        return None
    flat = distance.ravel()
    position = flat[index]
    _, ny, nx = mask.shape
    gy = (flat[index + nx] - flat[index - nx]) / np.float32(2 * spacing[1])
    gx = (flat[index + 1] - flat[index - 1]) / np.float32(2 * spacing[2])
    planar = np.hypot(gy, gx)
    if in_plane:
        gz = _tilt(flat, index, ny * nx, mask.size, spacing[0])
        upright = _upright(gz, spacing[0], index // (ny * nx), mask)
        gz = np.where(np.abs(gz) <= 0.75, gz, 0.0)
        keep = upright & (planar > 0.7)
    else:
        gz = (flat[index + ny * nx] - flat[index - ny * nx]) / np.float32(2 * spacing[0])
        keep = np.sqrt(gz**2 + planar**2) > 0.7
    if not keep.any():
        return None
    index, position, gz, gy, gx = index[keep], position[keep], gz[keep], gy[keep], gx[keep]
    length = np.sqrt(gz**2 + gy**2 + gx**2)
    if in_plane:  # walk back within the slice, but count the distance along the tilted normal
        normal = np.stack([np.zeros_like(gy), gy, gx]) / np.hypot(gy, gx)
        step, position = position, position / length
    else:
        normal = np.stack([gz, gy, gx]) / length
        step = position
    z, rest = np.divmod(index, ny * nx)
    y, x = np.divmod(rest, nx)
    foot = np.stack([z * spacing[0], y * spacing[1], x * spacing[2]]).astype(np.float32) - step * normal
    axis = np.abs(normal).argmax(0)
    side = axis * 2 + (normal[axis, np.arange(axis.size)] > 0)
    return _Samples(index, position, foot, side)


def _upright(tilt, spacing_z, number, mask) -> np.ndarray:
    """Samples whose surface stands upright enough on its slice for the slice's thickness not to blur it."""
    for limit in (0.75,) if spacing_z <= 2.5 else (0.4, 0.75):
        steep = np.abs(tilt) <= limit
        if np.count_nonzero(steep) >= (400 if limit < 0.75 else 200):
            return steep
    return number == int(mask.sum(axis=(1, 2)).argmax())  # one or two slices: the largest cross-section


def _profiles(samples, kind, value, cell, prefer):
    """Sums of the samples by patch and distance bin: (number, total, square), or None. Patches are ``cell`` mm large."""
    if samples.position.size == 0:
        return None
    grid = np.floor(samples.foot / np.asarray(cell, np.float32)[:, None]).astype(np.int64)
    grid -= grid.min(1, keepdims=True)
    extent = grid.max(1) + 1
    key = ((grid[0] * extent[1] + grid[1]) * extent[2] + grid[2]) * 6 + samples.side
    names = np.flatnonzero(np.bincount(key)) if extent.prod() < 200_000 else np.unique(key)
    patch = np.searchsorted(names, key)
    count = len(names)
    near = (kind > 0) & (samples.position >= 0) & (samples.position < 4.0)
    kinds = int(kind.max()) + 1
    votes = np.bincount(patch[near] * kinds + kind[near], minlength=count * kinds).reshape(count, kinds)
    chosen = votes.argmax(1)
    usable = (samples.position < 0) | (kind == chosen[patch])
    bins = int(2 * _REACH_MM / _BIN_MM)
    slot = ((samples.position[usable] + _REACH_MM) / _BIN_MM).astype(np.int64).clip(0, bins - 1)
    slot += patch[usable] * bins
    value = value[usable]
    sums = [np.bincount(slot, w, minlength=count * bins).reshape(count, bins) for w in (None, value, value * value)]
    sums[0] = sums[0].astype(float)
    if prefer:
        good = (chosen == prefer) & (votes[:, min(prefer, kinds - 1)] > 0) & _covered(sums[0], 5.0)
        if np.count_nonzero(good) >= 5:
            sums = [a[good] for a in sums]
    return tuple(sums) if len(sums[0]) else None


def _tilt(flat, index, stride, size, spacing_z):
    """Slope of the in-plane distance across slices; infinite where a neighbouring slice does not show the mask."""
    above = np.where(index + stride < size, flat[np.minimum(index + stride, size - 1)], 1e9)
    below = np.where(index - stride >= 0, flat[np.maximum(index - stride, 0)], 1e9)
    valid = (np.abs(above) < 1000) & (np.abs(below) < 1000)
    tilt = np.full(index.shape, np.inf, np.float32)
    tilt[valid] = (above[valid] - below[valid]) / (2 * spacing_z)
    return tilt


def _centres() -> np.ndarray:
    """Distances (mm) of the bins' centres."""
    return (np.arange(int(2 * _REACH_MM / _BIN_MM)) + 0.5) * _BIN_MM - _REACH_MM


def _covered(number: np.ndarray, window: float) -> np.ndarray:
    """Patches with samples enough on both sides of the edge."""
    centres = _centres()
    used = np.abs(centres) <= window
    inner = number[:, used & (centres < 0)].sum(1)
    outer = number[:, used & (centres > 0)].sum(1)
    return (inner >= 6) & (outer >= 8) & (inner + outer >= _MIN_SAMPLES)


def _fit(number, total, square, window, offsets, correlated, patch_offset_mm) -> tuple[EdgeFit, float]:
    """Error-function fit of all patches with a common width; returns it with the strength of a typical patch's edge."""
    rows = _covered(number, window)
    if np.count_nonzero(rows) < 2:
        return _nothing("the lesion is too small or too closely surrounded for an edge profile"), 0.0
    centres = _centres()
    use = np.abs(centres) <= window
    n, s, x = number[rows][:, use], total[rows][:, use], centres[use]
    weight = n.sum(1)
    mean = s.sum(1) / weight
    spread = np.maximum(square[rows][:, use].sum(1) - weight * mean**2, 1e-6)
    basis = ndtr((x[None, None, :] - offsets[None, :, None]) / _SIGMAS[:, None, None]).reshape(-1, x.size)
    variance = np.maximum(n @ (basis**2).T - (n @ basis.T) ** 2 / weight[:, None], 1e-3)
    amplitude = ((s - n * mean[:, None]) @ basis.T) / variance
    explained = (amplitude**2 * variance / spread[:, None]).reshape(len(n), _SIGMAS.size, offsets.size)
    amplitude = amplitude.reshape(explained.shape)
    quality = explained.reshape(len(n), -1).max(1)
    independent = weight / correlated
    strength = float(np.median(independent * quality / np.maximum(1 - quality, 1e-3)))
    if np.count_nonzero(rows) < 0.5 * np.count_nonzero(number.sum(1) > 4):
        strength = min(strength, 0.3 * _WANTED_STRENGTH)
    good = np.flatnonzero(quality >= _MIN_EXPLAINED)
    if good.size < max(2, 0.15 * len(n)):
        contrast = float(
            np.median(amplitude.reshape(len(n), -1)[np.arange(len(n)), explained.reshape(len(n), -1).argmax(1)])
        )
        return _nothing("the contrast is too low against the noise", good.size, contrast), strength
    cost = independent[good, None, None] * np.log1p(-(1 - _SATURATION) * explained[good])
    common = cost.sum(0)
    centre = offsets[int(common.argmin()) % offsets.size]
    cost += ((offsets - centre) / patch_offset_mm) ** 2
    place = cost.argmin(2)
    profile = np.take_along_axis(cost, place[..., None], 2)[..., 0]
    log_sigma = np.log(_SIGMAS)
    sigma = np.exp(_vertex(log_sigma, -profile.sum(0)))
    level = int(np.abs(log_sigma - np.log(sigma)).argmin())
    shift = [_vertex(offsets, -curve) for curve in cost[:, level]]
    own = _SIGMAS[profile.argmin(1)] * WIDTH_PER_SIGMA
    noise = np.sqrt(spread[good] * (1 - quality[good]) / np.maximum(weight[good] - 4, 1))
    fit = EdgeFit(
        width_mm=float(sigma * WIDTH_PER_SIGMA),
        offset_mm=float(np.median(shift)),
        contrast_hu=float(np.median(amplitude[good, level, place[:, level]])),
        noise_hu=float(np.median(noise)),
        patches=int(good.size),
        spread_mm=float(1.4826 * np.median(np.abs(own - np.median(own)))),
        strength=float((independent[good] * quality[good] / np.maximum(1 - quality[good], 1e-3)).sum()),
    )
    return fit, strength


def _vertex(x: np.ndarray, height: np.ndarray) -> float:
    """Place of the maximum of samples ``height`` on the even grid ``x``, by a parabola through the top three."""
    top = int(height.argmax())
    if top <= 0 or top >= len(x) - 1:
        return float(x[top])
    a, b, c = height[top - 1], height[top], height[top + 1]
    bend = a - 2 * b + c
    return float(x[top] if bend >= 0 else x[top] + 0.5 * (a - c) / bend * (x[1] - x[0]))


def reference_edge_width(image: np.ndarray, labels: np.ndarray, spacing_zyx, slices: int = 12) -> float:
    """10–90 % width (mm) in plane of the sharp edges of this scan: organ–fat, lung, and skin.

    ``image`` HU and ``labels`` (PASTA organ values 1–10; 11 and more are ignored) are whole volumes or a part (z, y, x).
    The boundary is where the image crosses the middle between the two tissues, near the surface of a label, so that a
    rough segmentation does not widen the result; it is measured by the same fit as a lesion's edge. Organ–fat edges
    count first; lung and skin stand in for them. Falls back to two in-plane voxels where no edge is usable.
    """
    spacing = np.asarray(spacing_zyx, float)
    widths = []
    is_solid = np.zeros(256, bool)
    is_solid[list(_SOLID_ORGANS)] = True
    chosen = _spread_slices(np.array([is_solid[part].any() for part in labels]), slices)
    if chosen.size:
        widths += _fat_edges(image, {k: is_solid[labels[k]] for k in chosen}, chosen, spacing)
    if len(widths) < 3:
        widths += _gas_edges(image, labels, spacing, slices)
    fallback = 2.0 * float(spacing[1:].mean())
    return float(np.median(widths)) if widths else fallback


def _spread_slices(present: np.ndarray, count: int) -> np.ndarray:
    found = np.flatnonzero(present)
    return found if found.size <= count else found[np.linspace(0, found.size - 1, count).round().astype(int)]


def _fat_edges(image, solid, chosen, spacing) -> list[float]:
    """Widths of organ–fat edges in the chosen slices: organ brighter than 0 HU against fat of −140…−50 HU."""
    widths = []
    for k in chosen:
        body = solid[k]
        rows, columns = (np.flatnonzero(body.any(axis=a)) for a in (1, 0))
        pad = int(np.ceil(16 / spacing[1:].min()))
        box = (
            slice(max(0, rows[0] - pad), rows[-1] + pad + 1),
            slice(max(0, columns[0] - pad), columns[-1] + pad + 1),
        )
        hu, body = image[k][box].astype(np.float32), body[box]
        level = 0.5 * (float(np.median(hu[body])) - 100.0)
        calm = ndimage.gaussian_filter(hu, 0.6)
        tissue = calm > level
        near = np.abs(signed_distance(body[None], (1.0, *spacing[1:]))[0]) < 6.0
        deep = ndimage.binary_erosion(body, iterations=max(1, int(round(2.0 / spacing[1:].mean()))))
        mask, _ = ndimage.label(tissue)
        keep = np.unique(mask[deep & tissue])
        mask = np.isin(mask, keep[keep > 0])
        usable = near & (hu > -160) & (hu < 300)
        fat = usable & ~mask
        fit = fit_edge(
            hu[None],
            mask[None],
            fat[None].astype(np.uint8),
            (1.0, *spacing[1:]),
            inside=(mask & usable)[None],
            in_plane=True,
        )
        if np.isfinite(fit.width_mm) and fit.patches >= 4 and abs(fit.contrast_hu) > 60:
            widths.append(fit.width_mm)
    return widths


def _gas_edges(image, labels, spacing, slices) -> list[float]:
    """Widths of lung and skin edges: the −450 HU surface of whole slices."""
    present = np.array([(part == 1).any() for part in labels])
    chosen = _spread_slices(present if present.any() else np.ones(image.shape[0], bool), max(3, slices // 2))
    widths = []
    for k in chosen:
        hu = image[k].astype(np.float32)
        mask = ndimage.gaussian_filter(hu, 0.6) > -450
        usable = np.ones(hu.shape, np.uint8)
        fit = fit_edge(hu[None], mask[None], usable[None], (1.0, *spacing[1:]), in_plane=True)
        if np.isfinite(fit.width_mm) and fit.patches >= 4 and abs(fit.contrast_hu) > 300:
            widths.append(fit.width_mm)
    return widths
