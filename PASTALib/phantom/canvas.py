"""One slab of the phantom while it is painted: coordinates, HU and structure labels, and painting with soft edges."""

from __future__ import annotations

import numpy as np

from .geometry import F, _segment, arclength, smin

_FAR = F(60.0)


class Canvas:
    """A z-slab of the grid.

    ``x, y, z`` are anatomy coordinates in mm (nz, ny, nx), already warped; ``zs`` (nz, 1, 1) the unwarped height that
    profiles use. ``hu`` is float32, ``labels`` uint8. ``edge_mm`` is the full support of the edge's blur. Distances
    handed to ``paint`` are negative inside.
    """

    def __init__(self, axes_zyx, warp_zyx, warp_limit_mm: float, edge_mm: float):
        az, ay, ax = (np.asarray(a, float) for a in axes_zyx)
        self.axes = (az, ay, ax)
        self.shape = (len(az), len(ay), len(ax))
        self.zs = az.astype(F).reshape(-1, 1, 1)
        self.z = warp_zyx[0] + self.zs
        self.y = warp_zyx[1] + ay.astype(F).reshape(1, -1, 1)
        self.x = warp_zyx[2] + ax.astype(F).reshape(1, 1, -1)
        self.limit = warp_limit_mm
        self.edge = F(edge_mm)
        self.hu = np.full(self.shape, -1000.0, F)
        self.labels = np.zeros(self.shape, np.uint8)
        self.fields: dict[str, np.ndarray] = {}

    def box(self, low, high, pad_mm: float = 4.0):
        """Slices (z, y, x) of the slab within ``low`` .. ``high`` (x, y, z mm) plus padding; None if empty."""
        slices = []
        for axis, lo, hi in zip(self.axes, low[::-1], high[::-1]):
            pad = pad_mm + self.limit
            inside = np.flatnonzero((axis >= lo - pad) & (axis <= hi + pad))
            if not len(inside):
                return None
            slices.append(slice(int(inside[0]), int(inside[-1]) + 1))
        return tuple(slices)

    def xyz(self, box):
        """Anatomy coordinates x, y, z of one box."""
        return self.x[box], self.y[box], self.z[box]

    def height(self, box):
        """Unwarped height of one box, (nz, 1, 1)."""
        return self.zs[box[0]]

    def noise(self, lattice, box):
        """A lattice field on one box."""
        return lattice.sample(*(axis[part] for axis, part in zip(self.axes, box)))

    def occupancy(self, distance):
        """Share of a voxel that lies inside, 0..1, with the scanner's edge blur."""
        t = distance * (F(-1.0) / self.edge)
        t += F(0.5)
        np.clip(t, F(0), F(1), out=t)
        alpha = t * F(-2.0)
        alpha += F(3.0)
        alpha *= t
        alpha *= t
        return alpha

    def paint(self, box, distance, hu, label: int | None = None, strength: float = 1.0):
        """Lay a tissue over what is there; ``hu`` is a number or an array on the box, ``label`` None keeps labels."""
        alpha = self.occupancy(distance)
        if strength != 1.0:
            alpha *= F(strength)
        view = self.hu[box]
        view += alpha * (hu - view)
        if label is not None:
            self.labels[box][distance < 0] = label

    def tube(self, path: np.ndarray, pad_mm: float = 5.0, flat=None, position: bool = False):
        """Distance to a tube (n, 4) as ``(box, distance, position)`` or None; large beyond the padding."""
        widening = 1.0 if flat is None else flat[1]
        reach = float(path[:, 3].max()) * max(widening, 1.0)
        box = self.box(path[:, :3].min(0) - reach, path[:, :3].max(0) + reach, pad_mm)
        if box is None:
            return None
        shape = tuple(s.stop - s.start for s in box)
        distance = np.full(shape, _FAR, F)
        along = np.zeros(shape, F) if position else None
        s = arclength(path)
        for i in range(len(path) - 1):
            a, b = path[i], path[i + 1]
            reach = max(a[3], b[3]) * max(widening, 1.0)
            part = self.box(np.minimum(a[:3], b[:3]) - reach, np.maximum(a[:3], b[:3]) + reach, pad_mm)
            if part is None:
                continue
            local = tuple(slice(p.start - q.start, p.stop - q.start) for p, q in zip(part, box))
            d, t = _segment(*self.xyz(part), a[:3], b[:3], a[3], b[3], flat)
            if position:
                nearer = d < distance[local]
                along[local][nearer] = (s[i] + t * (s[i + 1] - s[i]))[nearer]
            np.minimum(distance[local], d, out=distance[local])
        return box, distance, along

    def balls(self, box, parts, blend_mm: float = 4.0, pad_mm: float = 8.0):
        """Distance on ``box`` to a smooth union of swept balls ``(a, b, ra, rb)``; beyond the padding it is large."""
        distance = np.full(tuple(s.stop - s.start for s in box), _FAR, F)
        for a, b, ra, rb in parts:
            a, b = np.asarray(a, float), np.asarray(b, float)
            reach = max(ra, rb)
            part = self.box(np.minimum(a, b) - reach, np.maximum(a, b) + reach, pad_mm)
            if part is None:
                continue
            part = tuple(slice(max(p.start, q.start), min(p.stop, q.stop)) for p, q in zip(part, box))
            if any(s.stop <= s.start for s in part):
                continue
            local = tuple(slice(p.start - q.start, p.stop - q.start) for p, q in zip(part, box))
            d, _ = _segment(*self.xyz(part), a, b, ra, rb, None)
            distance[local] = smin(distance[local], d, blend_mm)
        return distance

    def paint_tube(self, path, hu, label=None, wall=None, pad_mm: float = 5.0, flat=None):
        """Paint a tube; ``wall`` = (thickness mm, wall HU) paints a wall first and ``hu`` inside it."""
        found = self.tube(path, pad_mm, flat)
        if found is None:
            return
        box, distance, _ = found
        if wall is None:
            self.paint(box, distance, hu, label)
        else:
            self.paint(box, distance, wall[1], label)
            self.paint(box, distance + F(wall[0]), hu)
