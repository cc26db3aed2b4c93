"""Upper abdomen and retroperitoneum: liver, gallbladder, spleen, pancreas, kidneys, adrenals and the great veins."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas
from .frame import Variation, cavity_distance, diaphragm_distance
from .geometry import F, Lattice, ellipsoid, path_distance, rotation, smax, smin, smoothstep, spline
from .tissues import CLASS
from .trees import grow_tree, scatter

VENA_CAVA = spline([
    (16, -12, -118, 10), (19, -10, -60, 11), (21, -8, -10, 11), (24, -10, 40, 11.5), (24, -10, 85, 12),
    (22, 0, 115, 12), (24, 10, 142, 12),
], 7.0)  # fmt: skip
PORTAL = spline([(8, 14, -10, 7), (18, 12, 4, 7), (30, 8, 18, 7), (40, 6, 32, 6.8)], 6.0)
SPLENIC = spline([(8, 14, -10, 5), (-14, 14, -2, 4.6), (-42, 4, 12, 4.4), (-68, -20, 28, 4.2), (-88, -38, 44, 4)], 6.0)
MESENTERIC_VEIN = spline(
    [(8, 14, -10, 6), (9, 18, -35, 5.6), (12, 20, -65, 5), (22, 24, -100, 4), (40, 22, -130, 3)], 6.0
)
MESENTERIC_ARTERY = spline(
    [(-5, 0, -4, 4.2), (-4, 10, -18, 4.2), (-4, 15, -40, 4), (-2, 18, -70, 3.6), (8, 22, -105, 3)], 6.0
)
COELIAC = (
    spline([(-6, -8, 12, 4), (-5, 8, 12, 4), (-18, 12, 14, 3.4), (-45, 0, 22, 3.2), (-80, -30, 42, 3)], 6.0),
    spline([(-5, 8, 12, 3.4), (12, 14, 12, 3), (26, 12, 18, 2.8), (38, 10, 28, 2.4)], 6.0),
)
RENAL = (
    ("aorta", spline([(-2, -10, -14, 3.6), (20, -24, -18, 3.2), (44, -36, -22, 3)], 6.0)),
    ("aorta", spline([(-10, -10, -8, 3.6), (-26, -22, -6, 3.2), (-44, -36, -4, 3)], 6.0)),
    ("vein", spline([(26, -10, -20, 5.4), (38, -22, -24, 5), (50, -34, -25, 4.4)], 6.0)),
    ("vein", spline([(18, -6, -12, 5.2), (-2, 0, -10, 4.4), (-22, -10, -10, 5), (-46, -32, -7, 4.6)], 6.0)),
)
HEPATIC_VEINS = (
    np.array([(24, -8, 102), (40, -10, 100), (60, -12, 92), (82, -18, 74), (98, -24, 50)], float),
    np.array([(23, -2, 104), (32, 12, 98), (42, 28, 84), (50, 42, 62)], float),
    np.array([(22, -2, 104), (12, 14, 98), (-4, 32, 90), (-22, 44, 80)], float),
)
PANCREAS = spline([
    (26, 4, -48, 9), (29, 10, -34, 15), (27, 13, -20, 15.4), (16, 19, -11, 11.5), (2, 25, -6, 10.4),
    (-20, 26, 3, 11.4), (-42, 15, 12, 11.4), (-64, -8, 22, 11.2), (-84, -30, 35, 8),
], 6.0)  # fmt: skip
UNCINATE = spline([(26, 6, -42, 9), (14, 5, -42, 7), (6, 6, -40, 4)], 5.0)
KIDNEYS = {1.0: (66.0, -45.0, -26.0), -1.0: (-64.0, -46.0, -8.0)}
KIDNEY_RADII = (29.5, 27.5, 55.0)


def kidney_turn(side: float) -> np.ndarray:
    """Axes of a kidney: upper pole medial and posterior, hilum turned forward."""
    return rotation(2, 32 * side) @ rotation(1, -9 * side) @ rotation(0, -10)


def liver_distance(cavity, diaphragm, x, y, z, grow_mm: float = 0.0):
    """Signed distance to the liver from the cavity's and the diaphragm's distances and the visceral surfaces."""
    d = smax(cavity + F(3.5), diaphragm + F(2.6), 12.0)
    left = np.maximum(F(15) - x, F(0))
    below = F(-39) + F(74) * smoothstep(-x, -114, -16) + F(0.30) * left + F(0.003) * left * left
    below = below - F(0.22) * smax(y - F(12), F(0) * y, 24.0) + F(0.10) * np.maximum(F(-10) - y, F(0)) - z
    bulge = F(9) * np.exp(-(((x - F(112)) / F(26)) ** 2))
    d = smax(d, (below - bulge) * F(0.80), 16.0)
    behind = F(-0.62) * x + F(-0.78) * y + F(0.16) * (F(60) - z) - F(6)
    d = smax(d, behind, 22.0)
    d = smax(d, F(-74) - x + F(0.25) * (F(80) - z), 22.0)
    front_left = F(-0.55) * x + F(0.8) * y - F(94)
    d = smax(d, front_left, 18.0)
    d = smax(d, -ellipsoid(x, y, z, (30, 4, 20), (15, 12, 19)), 12.0)
    groove = path_distance(x, y, z, np.array([(4, 92, 20, 4.0), (6, 48, 34, 3.5), (8, 20, 44, 3.0)]))
    d = smax(d, -groove, 7.0)
    for side_, (cx, cy, cz) in KIDNEYS.items():
        if side_ > 0:
            d = smax(d, -ellipsoid(x, y, z, (cx, cy, cz), (35, 33, 61), kidney_turn(side_)), 10.0)
    d = smax(d, -ellipsoid(x, y, z, (60, 44, -24), (19, 30, 25)), 8.0)
    return d - F(grow_mm)


def spleen_distance(cavity, diaphragm, x, y, z, scale: float = 1.0):
    """Signed distance to the spleen: a crescent against the diaphragm, hollowed by stomach and kidney."""
    turn = rotation(0, 28) @ rotation(1, 8)
    d = ellipsoid(x, y, z, (-103, -50, 54), (48 * scale, 54 * scale, 64 * scale), turn)
    d = smax(smax(d, cavity + F(3.0), 3.0), diaphragm + F(2.6), 3.0)
    hollow = ellipsoid(x, y, z, (-46, -2, 58), (39, 43, 54), turn)
    d = smax(d, -hollow, 12.0)
    return smax(d, -ellipsoid(x, y, z, KIDNEYS[-1.0], (34, 33, 60), kidney_turn(-1.0)), 10.0)


class Abdomen:
    """Paints the solid organs of the abdomen."""

    def __init__(self, hu, seed: int, variation: Variation):
        self.hu, self.variation = hu, variation
        rng = np.random.default_rng([seed, 31])
        self.lobules = Lattice(rng, 3.2, 48, 1.0)
        self.strands = Lattice(rng, 5.0, 48, 0.8)
        grow = variation.liver_mm

        def inside(x, y, z):
            cavity, dome = cavity_distance(x, y, z), diaphragm_distance(x, y, z)
            return liver_distance(cavity, dome, x, y, z, grow) + F(7)

        targets = scatter(inside, (-75, -80, -60), (135, 100, 122), 210, rng, 13.0)
        pick = rng.random(len(targets)) < 0.55
        portal_targets, vein_targets = targets[pick], targets[~pick]
        trunk = np.array([(40, 6, 32), (46, 6, 40), (56, 4, 46)], float)
        left = np.array([(40, 6, 32), (26, 18, 46), (6, 34, 58), (-8, 42, 66)], float)
        is_left = portal_targets[:, 0] < 22
        self.portal_tree = grow_tree(trunk, portal_targets[~is_left], rng, 0.9, 6.2) + grow_tree(
            left, portal_targets[is_left], rng, 0.9, 5.0
        )
        owner = np.argmin(
            [
                np.min(np.linalg.norm(vein_targets[:, None] - spline_points(v)[None], axis=2), axis=1)
                for v in HEPATIC_VEINS
            ],
            axis=0,
        )
        self.vein_tree = []
        for number, vein in enumerate(HEPATIC_VEINS):
            self.vein_tree += grow_tree(vein, vein_targets[owner == number], rng, 0.85, 5.4)

    def paint(self, canvas: Canvas) -> None:
        self._liver(canvas)
        self._spleen(canvas)
        for side, name in ((1.0, "right"), (-1.0, "left")):
            self._kidney(canvas, side, name)
            self._adrenal(canvas, side, name)
        self._vessels(canvas)
        self._pancreas(canvas)

    def _liver(self, canvas: Canvas) -> None:
        box = canvas.box((-95, -100, -75), (140, 105, 128), 3)
        if box is None:
            return
        x, y, z = canvas.xyz(box)
        fields = {name: canvas.fields[name][box] for name in ("cavity", "diaphragm", "coarse", "fine")}
        d = liver_distance(fields["cavity"], fields["diaphragm"], x, y, z, self.variation.liver_mm)
        hu = F(self.hu["liver"]) + F(3) * fields["coarse"] + F(2) * fields["fine"]
        canvas.paint(box, d, hu, CLASS["liver"])
        self._inside(canvas, box, d, self.portal_tree, self.hu["portal"])
        self._inside(canvas, box, d, self.vein_tree, self.hu["vein"])

    @staticmethod
    def _inside(canvas, box, outer, paths, hu):
        """Vessels clipped to an organ; its label stays."""
        for path in paths:
            found = canvas.tube(path, 3.0)
            if found is None:
                continue
            part, d, _ = found
            common = tuple(slice(max(p.start, q.start), min(p.stop, q.stop)) for p, q in zip(part, box))
            if any(s.stop <= s.start for s in common):
                continue
            local = tuple(slice(c.start - p.start, c.stop - p.start) for c, p in zip(common, part))
            clip = tuple(slice(c.start - q.start, c.stop - q.start) for c, q in zip(common, box))
            canvas.paint(common, np.maximum(d[local], outer[clip] + F(3)), hu)

    def _spleen(self, canvas: Canvas) -> None:
        box = canvas.box((-142, -108, -2), (-60, 20, 120), 3)
        if box is None:
            return
        x, y, z = canvas.xyz(box)
        d = spleen_distance(
            canvas.fields["cavity"][box], canvas.fields["diaphragm"][box], x, y, z, self.variation.spleen
        )
        canvas.paint(
            box,
            d,
            F(self.hu["spleen"]) + F(2.5) * canvas.fields["coarse"][box] + F(2) * canvas.fields["fine"][box],
            CLASS["spleen"],
        )

    def _kidney(self, canvas: Canvas, side: float, name: str) -> None:
        hu, scale = self.hu, self.variation.kidney
        cx, cy, cz = KIDNEYS[side]
        reach = np.array([40, 40, 64])
        box = canvas.box(np.array([cx, cy, cz]) - reach, np.array([cx, cy, cz]) + reach, 3)
        if box is None:
            return
        x, y, z = canvas.xyz(box)
        m = kidney_turn(side).astype(F).T / F(scale)
        px, py, pz = x - F(cx), y - F(cy), z - F(cz)
        u, v, w = (m[i, 0] * px + m[i, 1] * py + m[i, 2] * pz for i in range(3))
        u = u * F(side)
        bean = u + F(5.5) * (w / F(40)) ** 2 - F(3)
        d = ellipsoid(bean, v, w, (0, 0, 0), KIDNEY_RADII) * F(scale)
        lobes = F(0.7) * np.cos(w * F(2 * np.pi / 27)) * np.cos(np.arctan2(v, bean) * F(3))
        d = d + lobes
        notch = ellipsoid(u, v, w, (-26, 0, 0), (22, 8.5, 17))
        sinus = smin(notch, ellipsoid(u, v, w, (-7, 0, 0), (9.5, 7.5, 29)), 10.0)
        for height in (-24.0, -9.0, 9.0, 24.0):
            for tilt in (-6.0, 6.0):
                sinus = smin(sinus, ellipsoid(u, v, w, (1.0, tilt, height * 1.06), (6.5, 3.6, 4.6)), 4.0)
        sinus = sinus * F(scale)
        label = CLASS[f"kidney_{name}"]
        parenchyma = smax(d, -sinus, 3.0)
        canvas.paint(box, parenchyma, F(hu["renal_cortex"]) + F(3) * canvas.fields["fine"][box], label)
        sector = np.cos(w * F(2 * np.pi / 17.5)) * F(0.6) + np.cos(np.arctan2(v, u + F(6)) * F(4.0)) * F(0.55)
        pyramid = np.maximum(d + F(7.5), F(2.4) - sinus) - F(3.0) * np.clip(sector, -1, 0.25) + F(0.4)
        canvas.paint(box, pyramid, hu["renal_medulla"])
        inner = smax(sinus, d + F(2), 3.0)
        fat = F(hu["visceral_fat"]) + F(14) * canvas.fields["fine"][box]
        hole = np.minimum(inner, np.maximum(sinus, -F(1)))
        canvas.paint(box, np.maximum(hole, d - F(1)), fat)
        canvas.labels[box][(hole < 0) & (d < 1)] = 0
        tree = np.full(x.shape, 1e3, F)
        for height in (-22.0, 0.0, 22.0):
            path = np.array([(-13, -1, height * 0.25, 4.6), (-5, 0, height * 0.75, 3.0), (1, 3, height, 2.6)])
            tree = smin(tree, path_distance(u, v, w, path), 3.0)
        tree = smin(
            tree, path_distance(u, v, w, np.array([(-12, 0, 0, 5.2), (-24, -2, -5, 5.0), (-30, -3, -16, 3.0)])), 4.0
        )
        canvas.paint(box, tree, hu["urine"] + 3)
        for shift in (-16.0, 6.0, 14.0):
            path = np.array([(-26, 4, shift * 0.2, 2.6), (-12, 5, shift * 0.7, 2.0), (-3, 4, shift * 1.2, 1.5)])
            canvas.paint(box, path_distance(u, v, w, path), hu["vein"])

    def _adrenal(self, canvas: Canvas, side: float, name: str) -> None:
        x0, y0, z0 = (36.0, -34.0, 36.0) if side > 0 else (-34.0, -30.0, 34.0)
        for dx, dy in ((8.0, -16.0), (-3.0, -17.0)):
            path = np.array([(x0, y0, z0, 2.6), (x0 + side * dx, y0 + dy, z0 - 6, 1.8)])
            canvas.paint_tube(path, self.hu["adrenal"], CLASS[f"adrenal_gland_{name}"], flat=((0, 0, 1), 4.0))

    def _vessels(self, canvas: Canvas) -> None:
        hu = self.hu
        for kind, path in RENAL:
            canvas.paint_tube(path, hu["aorta"] if kind == "aorta" else hu["vein"])
        canvas.paint_tube(VENA_CAVA, hu["vein"], CLASS["inferior_vena_cava"], flat=((1, 0, 0), 1.18))
        for path in (PORTAL, SPLENIC, MESENTERIC_VEIN):
            canvas.paint_tube(path, hu["portal"], CLASS["portal_vein_and_splenic_vein"])
        for path in (MESENTERIC_ARTERY, *COELIAC):
            canvas.paint_tube(path, hu["aorta"])

    def _pancreas(self, canvas: Canvas) -> None:
        found = canvas.tube(PANCREAS, 8.0, flat=((0.15, 0.1, 0.98), 1.28))
        if found is None:
            return
        box, d, _ = found
        x, y, z = canvas.xyz(box)
        d = smin(d, path_distance(x, y, z, UNCINATE), 6.0)
        lobules = canvas.noise(self.lobules, box)
        clefts = canvas.noise(self.strands, box)
        d = d + F(1.25) * lobules + F(0.8) * canvas.fields["coarse"][box]
        for path in (PORTAL, SPLENIC, MESENTERIC_VEIN):
            if np.any(path[:, 2] > -60):
                d = smax(d, F(1.2) - path_distance(x, y, z, path), 2.0)
        d = smax(d, F(1.5) - path_distance(x, y, z, MESENTERIC_ARTERY), 2.0)
        hu = F(self.hu["pancreas"]) + F(4) * lobules
        cleft = smoothstep(np.abs(clefts), 0.16, 0.02) * smoothstep(-d, 7.0, 1.0) * F(0.7)
        hu = hu + cleft * (F(self.hu["visceral_fat"]) - hu)
        canvas.paint(box, d, hu, CLASS["pancreas"])
        duct = PANCREAS[2:-2].copy()
        duct[:, 3] = 1.0
        canvas.paint_tube(duct, self.hu["bile"] + 10)
        bile = np.array([(38, 12, 26, 3.0), (32, 10, 2, 3.0), (34, 6, -22, 2.6), (40, 5, -36, 2.0)])
        canvas.paint_tube(bile, self.hu["bile"])


def spline_points(path: np.ndarray) -> np.ndarray:
    """A (n, 3) polyline resampled finely."""
    return spline(np.column_stack([path, np.ones(len(path))]), 4.0)[:, :3]
