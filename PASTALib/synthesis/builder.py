"""Builds one drawn lesion at its site: outline, partial-volume weights, texture, and the new HU, in a region of the scan."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from .. import taxonomy
from . import fields, texture
from .distance import exterior_distance, signed_distance
from .draw import ISO_LIMIT_HU, LesionDraw, clear_of_dead_zone
from .measure_tissue import measuring_margin_mm, reference_level, regions
from .placement import BULGING, Site
from .priors import ROUND
from .scan import PreparedScan
from .shape import distance
from .walls import wall_distance

_AIR_HU = -250
_LARGEST_STEP_MM = 2.6
_SMALLEST_STEP_MM = 0.35
_KEEP_SIGMA = 2.5  # low-pass host variation up to this many noise SD is kept, more is structure and is replaced
_CLIP_SIGMA = 3.5
LEAST_MARGIN_MM = (
    3.0  # a lesion may change the image this far from its label, or two sigma of its edge where that is more
)
_LARGEST_CACHE = 24  # fields kept on a canvas; a long series of size changes must not fill the memory
LARGEST_PENETRATION_MM = 8.0  # of an invading lesion into a neighbour
SAME_TISSUE = ("parenchyma",)  # references whose noise continues inside the lesion


@dataclass
class Canvas:
    """A place in the scan, with everything about it that does not depend on the lesion's parameters (so edits are quick).

    ``region`` slices of the scan; ``host`` float32 HU; ``parent`` bool; ``others`` uint8; all (z, y, x).
    ``extent``: box (low, high) in mm from the site that holds the lesion; None for the box of ``reach_mm``.
    """

    scan: PreparedScan
    site: Site
    region: tuple[slice, slice, slice]
    host: np.ndarray
    parent: np.ndarray
    others: np.ndarray
    extent: tuple | None = None
    cache: dict = field(default_factory=dict)

    @property
    def offset(self) -> np.ndarray:
        """Site in region indices (z, y, x)."""
        return self.site.centre - np.array([s.start for s in self.region])

    def axis_mm(self, axis: int) -> np.ndarray:
        """mm from the site of the region's voxel centres along one axis."""
        return (np.arange(self.host.shape[axis]) - self.offset[axis]) * self.scan.spacing[axis]


@dataclass
class Built:
    """A lesion built on a canvas: ``after`` HU float32, ``label`` bool, ``weight`` of the lesion per voxel (0 = untouched), facts."""

    after: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    survived: float
    reference_hu: float
    level_hu: float
    edge_sigma_mm: float
    allowed_outside: np.ndarray | None


def reach_mm(draw: LesionDraw, site: Site) -> np.ndarray:
    """Half extents (z, y, x) of a box around the site that holds the lesion."""
    if draw.kind == "wall":
        wall = draw.wall
        tube = min(2 * site.lumen_mm if wall.arc > 0.3 else site.lumen_mm + wall.thickness_mm, 45.0)
        size = 0.5 * wall.length_mm * np.abs(site.along) + tube * np.sqrt(np.clip(1 - site.along**2, 0.05, 1))
        if wall.arc < 0.999:
            size = np.minimum(size, np.hypot(0.5 * wall.length_mm, tube))
        return size + wall.thickness_mm * 0.4 + 3
    reach = draw.outline.reach_mm
    if draw.kind == "polyp" and site.inward is not None:
        reach = reach + np.abs(site.inward) * _polyp_depth(draw, site)
    return reach


def make_canvas(scan: PreparedScan, draw: LesionDraw, site: Site) -> Canvas:
    """The region around ``site`` that is large enough to build and measure ``draw``."""
    margin = (
        max(measuring_margin_mm(draw.reference), edge_sigma(scan, draw) * fields.EDGE_CUT + 2 * scan.spacing.max())
        + 1.0
    )
    reach = reach_mm(draw, site)
    canvas = _cut(scan, draw, site, (-reach, reach), margin)
    if draw.kind != "wall":
        return canvas
    # along a curved wall the lesion's box is known only when it is laid out: once coarsely, then in a box that fits
    axes = _lattice(canvas, draw, 1.0, points=30)
    inside = _outline(canvas, draw, axes) < 0
    if not inside.any():
        return canvas
    used = [np.flatnonzero(inside.any(axis=tuple(j for j in range(3) if j != i))) for i in range(3)]
    slack = 1.5 * float(_step(axes).max()) + 1.0
    low = np.array([axis[u[0]] for axis, u in zip(axes, used)]) - slack
    high = np.array([axis[u[-1]] for axis, u in zip(axes, used)]) + slack
    return _cut(scan, draw, site, (np.maximum(low, -reach), np.minimum(high, reach)), margin)


def _cut(scan: PreparedScan, draw: LesionDraw, site: Site, extent, margin: float) -> Canvas:
    """A canvas whose region is ``extent`` (low, high mm from the site) and ``margin`` mm around it."""
    low, high = extent
    middle, half = (low + high) / 2, (high - low) / 2
    region = scan.box(site.centre + middle / scan.spacing, half + margin)
    parent, others = scan.parent_and_others(region, taxonomy.lesion(draw.lesion).organ, site.centre)
    return Canvas(scan, site, region, scan.ct.array[region].astype(np.float32), parent, others, (low, high))


def push_away(canvas: Canvas, label: np.ndarray, amount_mm: float) -> tuple[Canvas, np.ndarray]:
    """Mass effect: the canvas with image and labels displaced away from the lesion, and where (bool) anything moved.

    The displacement is ``amount_mm`` at the lesion's surface, along the surface's normal, and falls smoothly to zero over
    four times that distance (at least 10 mm), so that nothing folds.
    """
    spacing = canvas.scan.spacing
    reach = max(4.0 * amount_mm, 10.0)
    gap = -signed_distance(label, spacing)
    smooth = ndimage.gaussian_filter(gap, 1.5 / spacing)
    normal = np.stack(np.gradient(smooth, *spacing))
    normal /= np.maximum(np.sqrt((normal**2).sum(0)), 1e-3)
    size = np.float32(amount_mm) * np.clip(1 - np.clip(gap, 0, None) / np.float32(reach), 0, 1) ** 2
    moved = size > 0.02
    at = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in label.shape), indexing="ij"))
    at -= size * normal / spacing[:, None, None, None].astype(np.float32)
    host = canvas.host.copy()
    # cubic interpolation keeps the noise in the displaced tissue
    host[moved] = ndimage.map_coordinates(canvas.host, at[:, moved], order=3, mode="nearest")
    nearest = tuple(np.clip(np.rint(at[i][moved]).astype(int), 0, n - 1) for i, n in enumerate(label.shape))
    parent, others = canvas.parent.copy(), canvas.others.copy()
    parent[moved], others[moved] = canvas.parent[nearest], canvas.others[nearest]
    return Canvas(canvas.scan, canvas.site, canvas.region, host, parent, others, canvas.extent), moved


def edge_sigma(scan: PreparedScan, draw: LesionDraw) -> float:
    """Sigma (mm) of the edge, from the scan's own sharpness; ill-defined edges are wider."""
    return draw.edge_factor * scan.edge_width_mm / fields.EDGE_WIDTH_PER_SIGMA


def build(canvas: Canvas, draw: LesionDraw) -> Built:
    """Build ``draw`` on ``canvas``. The scan is not touched."""
    scan = canvas.scan
    sigma = edge_sigma(scan, draw)
    axes = _lattice(canvas, draw, sigma)
    sd, survived = _clip(canvas, draw, axes, _kept_outline(canvas, draw, axes))
    weight, label, inner = _weights(canvas, draw, axes, sd, sigma)
    thin = _thinning(canvas)
    zones = _zones(canvas, draw, label, sigma, thin)
    reference, level = _levels(canvas, draw, zones, thin)
    hu = texture.target_hu(draw, sd, axes, level, scan.phase == taxonomy.ENHANCED)
    after = canvas.host.copy()
    if inner is not None:
        grid = tuple(canvas.axis_mm(i)[s] for i, s in enumerate(inner))
        target = fields.separable(hu, tuple(fields.linear_matrix(a, g) for a, g in zip(axes, grid)))
        after[inner] = _compose(canvas, draw, inner, target, weight[inner], reference)
        whole = np.full(after.shape, np.float32(level))
        whole[inner] = target
        solid = zones.core & (np.abs(whole[thin] - level) < 12.0)
        shift = _shift(after[thin][solid], weight[thin][solid], reference, level, draw)
        if shift:
            after[inner] -= weight[inner] * np.float32(shift)
    return Built(after, label, weight, survived, reference, level, sigma, _allowed_outside(canvas, draw))


def _thinning(canvas: Canvas) -> tuple[slice, slice, slice]:
    """Every how many voxels a large region is looked at for its tissue levels (voxels of up to about 1.7 mm)."""
    if canvas.host.size < 250_000:
        return (slice(None),) * 3
    return tuple(slice(None, None, max(1, int(1.7 / s))) for s in canvas.scan.spacing)


def _shift(values, weight, reference: float, level: float, draw: LesionDraw) -> float:
    """How far the solid part (``values`` HU, with the lesion's ``weight``) is off its level: a vessel or drift carried over from the
    host, partial volume. What noise alone explains is no shift, unless it carries the lesion into the dead zone between two options.
    """
    if "mixed_lytic_blastic" in draw.components or values.size < 4:
        return 0.0
    share = float(weight.mean())
    if share < 0.4:
        return 0.0  # mostly partial volume: what is seen is what such a lesion looks like in this scan
    off = float(np.median(values)) - level
    spread = 1.4826 * float(np.median(np.abs(values - np.median(values))))
    allowed = 2.5 * spread / np.sqrt(max(values.size / 4.0, 1.0))  # voxels of CT noise are not independent
    delta = level - reference
    unclear = clear_of_dead_zone(delta + off, draw.options["density"]) != delta + off
    if unclear or (abs(delta) <= ISO_LIMIT_HU) != (abs(delta + off) <= ISO_LIMIT_HU):
        allowed = 0.0
    return float(np.clip(np.sign(off) * max(abs(off) - allowed, 0.0) / share, -40, 40))


def _lattice(canvas: Canvas, draw: LesionDraw, sigma: float, points: int = 46):
    """Coordinates (mm from the site) of the working lattice along z, y, x: about ``points`` along the longest."""
    pad = np.ceil(2 * sigma * fields.EDGE_CUT) / 2 + 1.0  # in steps, so that small changes of the edge keep the lattice
    if draw.kind == "wall" and canvas.extent is not None:
        low, high = canvas.extent
    else:
        high = reach_mm(draw, canvas.site)
        low = -high
    step = float(
        np.clip(((high - low).max() + 2 * pad) / points, _SMALLEST_STEP_MM, _LARGEST_STEP_MM if points > 40 else np.inf)
    )
    axes = []
    for axis in range(3):
        grid = canvas.axis_mm(axis)
        half = 0.5 * canvas.scan.spacing[axis]
        start, end = max(low[axis] - pad, grid[0] - half), min(high[axis] + pad, grid[-1] + half)
        axes.append(start + step * np.arange(max(int(np.ceil((end - start) / step)) + 1, 4)))
    return tuple(axes)


def _sample(canvas: Canvas, array: np.ndarray, axes) -> np.ndarray:
    """Linear interpolation of a region array (as float32) at lattice points."""
    inner = tuple(
        slice(max(int(np.searchsorted(g, a[0])) - 2, 0), int(np.searchsorted(g, a[-1])) + 2)
        for g, a in zip((canvas.axis_mm(i) for i in range(3)), axes)
    )
    grid = tuple(canvas.axis_mm(i)[s] for i, s in enumerate(inner))
    matrices = tuple(fields.linear_matrix(g, a) for g, a in zip(grid, axes))
    return fields.separable(array[inner].astype(np.float32), matrices)


def _lattice_key(axes) -> tuple:
    return tuple((len(a), float(a[0]), float(a[-1])) for a in axes)


def _cached(canvas: Canvas, name: str, axes, make):
    """Value of ``make()`` kept on the canvas for the same lattice."""
    key = (name, _lattice_key(axes))
    if key not in canvas.cache:
        if len(canvas.cache) > _LARGEST_CACHE:
            canvas.cache.clear()
        canvas.cache[key] = make()
    return canvas.cache[key]


def _kept_outline(canvas: Canvas, draw: LesionDraw, axes) -> np.ndarray:
    """The outline, kept from the last build when only density, texture or edge have changed since."""
    made_for = (draw.wall, draw.ill, draw.seed, draw.options["shape"], _lattice_key(axes))
    kept = canvas.cache.get("outline")
    if kept is None or kept[0] is not draw.outline or kept[1] != made_for:
        kept = canvas.cache["outline"] = (draw.outline, made_for, _outline(canvas, draw, axes))
    return kept[2]


def _step(axes) -> np.ndarray:
    return np.array([a[1] - a[0] for a in axes])


def parent_distance(canvas: Canvas, axes) -> np.ndarray:
    """Signed distance (mm, positive inside) to the parent organ's surface on the lattice, without voxel stairs."""

    def make():
        soft = _sample(canvas, canvas.parent, axes)
        sd = signed_distance(soft > 0.5, _step(axes))
        blur = 0.35 * canvas.scan.spacing / _step(axes)
        return ndimage.gaussian_filter(sd, np.maximum(blur, 0.6))

    return _cached(canvas, "parent", axes, make)


def _others_distance(canvas: Canvas, axes, include_air: bool) -> np.ndarray:
    """Distance (mm, positive outside) to the nearest other labelled structure, and to air outside the organ."""

    def make():
        blocked = (canvas.others > 0).astype(np.float32)
        if include_air:
            blocked = np.maximum(blocked, ((canvas.host < _AIR_HU) & ~canvas.parent).astype(np.float32))
        return -signed_distance(_sample(canvas, blocked, axes) > 0.35, _step(axes))

    return _cached(canvas, f"others{include_air}", axes, make)


def _outline(canvas: Canvas, draw: LesionDraw, axes) -> np.ndarray:
    """Signed distance of the lesion before anything limits it."""
    if draw.kind == "wall":
        sd = wall_distance(draw, canvas.site, parent_distance(canvas, axes), axes)
    elif draw.kind == "polyp" and canvas.site.inward is not None:
        shift = canvas.site.inward * _polyp_depth(draw, canvas.site)
        sd = distance(draw.outline, tuple(a - s for a, s in zip(axes, shift)))
    else:
        sd = distance(draw.outline, axes)
    if draw.ill:
        rng = np.random.default_rng(draw.seed + 2)
        amplitude = min(0.9, 0.1 * draw.radius_mm)
        sd = sd + np.float32(amplitude) * fields.smooth_noise(rng, axes, max(4.0, 0.25 * draw.radius_mm))
    return sd


def _polyp_depth(draw: LesionDraw, site: Site) -> float:
    """How far the centre of a polypoid lesion lies inwards of the outer surface: broad base, apex in the lumen."""
    half = np.asarray(draw.size_zyx_mm) / 2
    across = float(np.sqrt(((half * site.inward) ** 2).sum()))
    return (0.7 if draw.options["shape"] == ROUND else 0.85) * across


def _clip(canvas: Canvas, draw: LesionDraw, axes, sd: np.ndarray) -> tuple[np.ndarray, float]:
    """Keep the lesion where its type may be; returns the distance and the share of the volume that is left."""
    before = int((sd < 0).sum())
    limit = _room(canvas, draw, axes)
    if limit is not None and (limit < float(_step(axes).max())).any():
        sd = fields.smooth_max(sd, -limit, np.float32(min(1.6, 0.3 * draw.radius_mm + 0.2)))
    left = int((sd < 0).sum())
    if left:
        sd = _largest_piece(sd, draw)
    return sd, left / max(before, 1)


def _room(canvas: Canvas, draw: LesionDraw, axes) -> np.ndarray | None:
    """Distance (mm, positive inside) to the border of where this lesion may grow; None when it may grow anywhere."""
    if draw.kind == "kidney_stone":
        return None
    parent = parent_distance(canvas, axes)
    if draw.kind == "gallstone":
        return parent - np.float32(0.7)
    outward = None  # how far beyond the outer surface of a hollow organ
    if draw.kind == "wall":
        outward = 0.45 * draw.wall.thickness_mm + (4.0 if draw.close else 1.5)
    elif draw.kind == "polyp" and draw.lesion not in BULGING and not draw.close:
        outward = -0.5
    if draw.close:
        room = _others_distance(canvas, axes, include_air=False) + np.float32(
            np.clip(0.25 * draw.radius_mm, 2.5, LARGEST_PENETRATION_MM)
        )
        if taxonomy.lesion(draw.lesion).organ != "lung":
            room = np.minimum(room, _others_distance_air(canvas, axes))
    else:
        clearance = np.float32(max(3.2, float(canvas.scan.spacing.max()) * 1.05 + 0.8) + draw.extra_clearance_mm)
        bulging = draw.exophytic is not None or draw.lesion in BULGING or draw.kind == "wall"
        room = _others_distance(canvas, axes, include_air=bulging) - clearance
        if not bulging:
            room = np.minimum(room, parent - np.float32(0.3))
    return room if outward is None else np.minimum(room, parent + np.float32(outward))


def _others_distance_air(canvas: Canvas, axes) -> np.ndarray:
    """Distance to air outside the organ and to bone: even an invading lesion does not grow into these."""

    def make():
        blocked = ((canvas.host < _AIR_HU) & ~canvas.parent) | (canvas.others == taxonomy.organ("bone").value)
        return -signed_distance(_sample(canvas, blocked, axes) > 0.5, _step(axes)) - np.float32(1.0)

    return _cached(canvas, "air", axes, make)


def _largest_piece(sd: np.ndarray, draw: LesionDraw) -> np.ndarray:
    """Without satellites a lesion is one piece: smaller pieces are dropped."""
    if draw.outline.satellites:
        return sd
    pieces, count = ndimage.label(sd < 0)
    if count <= 1:
        return sd
    sizes = np.bincount(pieces.ravel())[1:]
    keep = int(sizes.argmax()) + 1
    drop = (pieces > 0) & (pieces != keep)
    near = ndimage.binary_dilation(drop, iterations=3) & (pieces != keep)
    return np.where(near, np.maximum(np.abs(sd), np.float32(8.0)), sd)


def _weights(canvas: Canvas, draw: LesionDraw, axes, sd: np.ndarray, sigma: float):
    """Weight per voxel with partial volume, label (at least half filled), and the slices of the region that they touch."""
    spacing = canvas.scan.spacing
    weight = np.zeros(canvas.host.shape, np.float32)
    label = np.zeros(canvas.host.shape, bool)
    reach = sd < sigma * fields.EDGE_CUT
    if not (sd < 0).any():
        return weight, label, None
    inner = []
    for axis, lattice in enumerate(axes):
        used = np.flatnonzero(reach.any(axis=tuple(i for i in range(3) if i != axis)))
        grid = canvas.axis_mm(axis)
        pad = 0.5 * spacing[axis] + 0.5 * (lattice[1] - lattice[0])
        low = int(np.searchsorted(grid, lattice[used[0]] - pad))
        high = int(np.searchsorted(grid, lattice[used[-1]] + pad, side="right"))
        inner.append(slice(low, max(high, low + 1)))
    inner = tuple(inner)
    step = float(_step(axes).max())
    parts = np.clip(np.ceil(spacing / max(step, 0.5) - 0.15), 1, 4).astype(int)
    fine = []
    for axis, (s, n) in enumerate(zip(inner, parts)):
        centre = canvas.axis_mm(axis)[s]
        shifts = ((np.arange(n) + 0.5) / n - 0.5) * spacing[axis]
        fine.append((centre[:, None] + shifts[None, :]).ravel())
    dense = fields.separable(sd, tuple(fields.linear_matrix(a, f) for a, f in zip(axes, fine)))
    # averaging over sub-voxels blurs in plane too; the edge asked for is the one after that blur
    blur = float((spacing[1:] ** 2 / 12 * (parts[1:] > 1)).mean())
    lesion_weight = fields.edge(dense, max(np.sqrt(max(sigma**2 - blur, 0)), 0.35 * sigma))
    sub = float(np.min(spacing / parts))
    filled = np.clip(0.5 - dense / np.float32(sub), 0, 1)
    shape = [v for s, n in zip((i.stop - i.start for i in inner), parts) for v in (s, n)]
    weight[inner] = lesion_weight.reshape(shape).mean((1, 3, 5))
    occupancy = filled.reshape(shape).mean((1, 3, 5))
    inside = occupancy >= 0.5
    if not draw.outline.satellites:
        inside = _one_piece(inside)
    if not inside.any():
        inside = occupancy >= occupancy.max() - 1e-6
    label[inner] = inside
    # nothing changes farther from the label than its edge reaches: spicules and crumbs too thin to be labelled end there
    reach = max(LEAST_MARGIN_MM, sigma * fields.EDGE_CUT) + 0.5 * float(np.linalg.norm(spacing))
    weight[inner] *= np.clip(reach - exterior_distance(inside, spacing), 0, 1)
    return weight, label, inner


def _zones(canvas: Canvas, draw: LesionDraw, label: np.ndarray, sigma: float, thin):
    """Core and reference shell, as the measurement will take them, on the thinned region."""
    wide = fields.EDGE_WIDTH_PER_SIGMA * sigma if draw.ill else 0.0
    spacing = canvas.scan.spacing * [s.step or 1 for s in thin]
    return regions(
        label[thin],
        canvas.parent[thin],
        canvas.others[thin],
        spacing,
        draw.reference,
        canvas.host[thin],
        edge_width_mm=wide,
    )


def _one_piece(mask: np.ndarray) -> np.ndarray:
    """The largest 26-connected piece of a mask: necks thinner than a voxel would leave crumbs."""
    pieces, count = ndimage.label(mask, np.ones((3, 3, 3)))
    return mask if count <= 1 else pieces == int(np.bincount(pieces.ravel())[1:].argmax()) + 1


def _levels(canvas: Canvas, draw: LesionDraw, zones, thin) -> tuple[float, float]:
    """Measured HU of the reference tissue here, and the HU aimed at for the lesion's solid part."""
    organ = taxonomy.lesion(draw.lesion).organ
    reference, _ = reference_level(canvas.host[thin], zones.shell, draw.reference, organ, canvas.scan.tissue_hu)
    low, high = draw.hu_limits
    if draw.density_kind == "delta":
        level = reference + draw.density_hu
    else:
        level = reference + clear_of_dead_zone(draw.density_hu - reference, draw.options["density"])
    return float(reference), float(np.clip(level, low, high))


def _compose(canvas: Canvas, draw: LesionDraw, inner, target, weight, reference: float) -> np.ndarray:
    """Host HU with the lesion in it. Where the host is the same tissue its own noise goes on; elsewhere noise of its kind is made."""
    scan = canvas.scan
    noise = scan.noise
    host = canvas.host[inner]
    rng = np.random.default_rng(draw.seed + 3)
    total = noise.sd_hu * _local_noise(canvas)
    residual = noise.sample(rng, host.shape) * np.float32(total)
    if draw.reference in SAME_TISSUE:
        margin = tuple(slice(max(s.start - 6, 0), s.stop + 6) for s in inner)
        crop = tuple(slice(s.start - m.start, s.stop - m.start) for s, m in zip(inner, margin))
        low = ndimage.gaussian_filter(canvas.host[margin], 1.5 / scan.spacing, truncate=3.0)[crop]
        deviation = low - np.float32(reference)
        low_sd = np.float32(noise.low_pass_sd_hu * total / noise.sd_hu)
        keep = np.float32(_KEEP_SIGMA) * low_sd
        structure = np.sign(deviation) * np.maximum(np.abs(deviation) - keep, 0)
        own = np.clip(host - np.float32(reference) - structure, -_CLIP_SIGMA * total, _CLIP_SIGMA * total)
        usable = np.exp(-((np.maximum(np.abs(structure) - low_sd, 0) / np.float32(1.2 * total)) ** 2))
        # not up to an edge either: its fine detail would shine through as a line
        near = np.maximum(np.rint(2.0 / scan.spacing), 1).astype(int)
        usable = ndimage.gaussian_filter(ndimage.minimum_filter(usable, tuple(2 * near + 1)), 1.0 / scan.spacing)
        residual = usable * own + np.sqrt(1 - usable**2) * residual
    return host + weight * (target + residual - host)


def _local_noise(canvas: Canvas) -> float:
    if "noise" not in canvas.cache:
        canvas.cache["noise"] = canvas.scan.local_noise(canvas.site.centre)
    return canvas.cache["noise"]


def _allowed_outside(canvas: Canvas, draw: LesionDraw) -> np.ndarray | None:
    """Where growth beyond the organ's outline is no invasion: bulging into fat (exophytic types), thickened wall, renal sinus."""
    if draw.close:
        return None
    if draw.exophytic is not None or draw.lesion in BULGING or draw.kind in ("wall", "polyp", "kidney_stone"):
        return (canvas.others == 0) & ~canvas.parent
    return None
