"""Bones: vertebrae and discs, sacrum, ribs with cartilages, sternum, pelvis, femurs, shoulder girdle."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas
from .frame import CAVITY_A, CAVITY_BACK, CAVITY_FRONT, CAVITY_N, LEVELS, SPINE_Y, union
from .geometry import F, capsule, ellipsoid, smax, smin, smoothstep, spline
from .tissues import CLASS

SIDES = (("right", 1.0), ("left", -1.0))


class Skeleton:
    """Paints all bones; ``hu`` is the tissue table, ``grain`` a fine lattice for trabecular texture."""

    def __init__(self, hu: dict[str, float], grain, patches):
        self.hu = hu
        self.grain = grain
        self.patches = patches
        self.ribs = [(f"rib_{name}_{i}", *rib_path(i, side)) for name, side in SIDES for i in range(1, 13)]

    def paint(self, canvas: Canvas) -> None:
        for name in LEVELS:
            self._vertebra(canvas, name)
        self._sacrum(canvas)
        self._canal(canvas)
        for name, bone, cartilage in self.ribs:
            if cartilage is not None:
                canvas.paint_tube(cartilage, self.hu["cartilage"], CLASS["costal_cartilages"], flat=((0, 0, 1), 1.6))
            found = canvas.tube(bone, flat=((0, 0, 1), 1.9))
            if found is not None:
                self._bone(canvas, found[0], found[1], CLASS[name], shell_mm=1.3, marrow=120.0)
        self._sternum(canvas)
        symphysis = np.array([(0, 60, -240, 7.0), (0, 57, -254, 6.0)])
        canvas.paint_tube(symphysis, self.hu["cartilage"] - 15)
        for name, side in SIDES:
            self._hip(canvas, side, CLASS[f"hip_{name}"])
            self._femur(canvas, side, CLASS[f"femur_{name}"])
            self._shoulder(canvas, side, name)

    def _bone(self, canvas, box, distance, label, shell_mm=1.6, marrow=None, cortical=None):
        """Cortical shell over cancellous bone with trabecular texture."""
        marrow = self.hu["cancellous"] if marrow is None else marrow
        cortical = self.hu["cortical"] if cortical is None else cortical
        inner = F(marrow) + F(38) * canvas.noise(self.grain, box) + F(14) * canvas.noise(self.patches, box)
        shell = smoothstep(-distance, shell_mm + 1.4, shell_mm - 0.8)
        canvas.paint(box, distance, inner + shell * (F(cortical) - inner), label)

    def _vertebra(self, canvas: Canvas, name: str) -> None:
        zc, half = LEVELS[name]
        yc = float(SPINE_Y(zc))
        box = canvas.box((-48, yc - 72, zc - 42), (48, yc + 26, zc + 30), 3)
        if box is None:
            return
        slope = float(SPINE_Y(zc + 12) - SPINE_Y(zc - 12)) / 24.0
        tilt = np.arctan(slope)
        c, s = F(np.cos(tilt)), F(np.sin(tilt))
        x, y0, z0 = canvas.xyz(box)
        dy, dz = y0 - F(yc), z0 - F(zc)
        y, z = c * dy - s * dz, s * dy + c * dz
        lumbar = name.startswith("L")
        level = int(name[1:])
        width = 23.5 - 0.5 * (5 - level) * 0.8 if lumbar else 13.5 + 0.62 * level
        depth = 16.5 if lumbar else 11.5 + 0.38 * level
        ax = np.abs(x)
        waist = F(1.0) - F(0.10) * np.clip(F(1.0) - (z / F(half)) ** 2, F(0), F(1))
        u, v = ax / (F(width) * waist), y / (F(depth) * waist)
        radial = np.sqrt(u * u + v * v + F(1e-6))
        scale = np.sqrt((u / F(width)) ** 2 + (v / F(depth)) ** 2) + F(1e-4)
        body = (radial - F(1)) * radial / scale
        back = -(y + F(depth - 3.0))
        body = smax(body, back, 4.0)
        self._disc(canvas, box, body, z, half)
        body = smax(body, np.abs(z) - F(half), 4.0)
        d = -depth
        reach, droop = (37.0, 2.0) if lumbar else (30.0 - 0.6 * max(level - 9, 0) * 3, 0.0)
        back_box = tuple(
            slice(None) if axis != 1 else slice(int(np.searchsorted(-canvas.axes[1][box[1]], -(yc - depth + 22))), None)
            for axis in range(3)
        )
        ax_, y_, z_ = ax[back_box], y[back_box], z[back_box]
        arch = np.full(x.shape, 60.0, F)
        arch[back_box] = union(
            capsule(ax_, y_, z_, (width * 0.58, d + 4, half * 0.35), (width * 0.66, d - 13, half * 0.2), 5.0, 4.6),
            capsule(ax_, y_, z_, (14, d - 14, half * 0.1), (2, d - 25, -half * 0.35), 3.8, 4.4),
            capsule(
                ax_,
                y_,
                z_,
                (14, d - 14, half * 0.2),
                (reach, d - (17 if lumbar else 24), half * 0.25 - droop),
                5.0,
                3.4,
            ),
            capsule(ax_, y_, z_, (14.5, d - 13, half * 0.95), (14.0, d - 19, -half * 1.25), 4.6, 4.8),
            blend_mm=4.0,
        )
        if lumbar:
            spinous = smin(
                capsule(x, y, z, (0, d - 23, -4), (0, d - 47, -8), 3.6, 4.2),
                capsule(x, y, z, (0, d - 23, -10), (0, d - 46, -16), 3.0, 4.0),
                5.0,
            )
        else:
            fall = -26.0 if 4 <= level <= 9 else -14.0
            spinous = capsule(x, y, z, (0, d - 22, -4), (0, d - 42, fall), 3.8, 3.4)
        shape = union(body, arch, spinous, blend_mm=4.0)
        canal = ellipsoid(x, y, F(0), (0, d - 9.5, 0), (11.5 if lumbar else 9.5, 8.5 if lumbar else 8.0, 1e3))
        shape = smax(shape, -canal, 2.0)
        self._bone(canvas, box, shape, CLASS[f"vertebrae_{name}"])

    def _disc(self, canvas, box, body, z, half):
        disc = smax(body + F(0.8), np.abs(z + F(half + 4.0)) - F(5.5), 3.0)
        canvas.paint(box, disc, self.hu["disc"])

    def _sacrum(self, canvas: Canvas) -> None:
        box = canvas.box((-62, -125, -262), (62, -15, -140), 3)
        if box is None:
            return
        x, y, z = canvas.xyz(box)
        ax = np.abs(x)
        core = np.full(x.shape, 1e3, F)
        tops = [
            (-168, -55, 23, 16.5),
            (-186, -68, 21, 13),
            (-205, -80, 18, 10),
            (-222, -88, 15, 8),
            (-238, -91, 11, 6.5),
            (-256, -86, 6, 4.5),
        ]
        for (z0, y0, w0, t0), (z1, y1, w1, t1) in zip(tops[:-1], tops[1:]):
            for shift in (0.0, 0.55, 1.0):
                piece = capsule(
                    ax, y, z, (w0 * shift, y0 - 2 * shift, z0), (w1 * shift, y1 - 2 * shift, z1), t0 * 0.92, t1 * 0.92
                )
                core = smin(core, piece, 4.0)
        ala = capsule(ax, y, z, (22, -58, -163), (44, -74, -172), 13.0, 10.0)
        ala = smin(ala, capsule(ax, y, z, (26, -72, -185), (44, -80, -184), 11.0, 8.0), 8.0)
        ala = smin(ala, capsule(ax, y, z, (24, -84, -205), (33, -86, -204), 8.0, 6.0), 8.0)
        crest = capsule(x, y, z, (0, -82, -160), (0, -104, -215), 4.0, 3.0)
        shape = union(core, ala, crest, blend_mm=6.0)
        plane = (z + F(151.0)) * F(0.88) + (y + F(48.0)) * F(0.47)
        shape = smax(shape, plane, 4.0)
        canal = capsule(x, y, z, (0, -71, -150), (0, -98, -215), 8.5, 4.0)
        shape = smax(shape, -canal, 2.0)
        for zf, yf, xf in ((-178, -68, 25), (-197, -80, 22), (-215, -89, 18)):
            shape = smax(shape, -capsule(ax, y, z, (xf, yf + 20, zf + 4), (xf, yf - 26, zf - 2), 4.2, 3.6), 2.0)
        self._bone(canvas, box, shape, CLASS["sacrum"], shell_mm=1.5, marrow=140.0)

    def _canal(self, canvas: Canvas) -> None:
        heights = np.arange(318.0, -215.0, -6.0)
        knots = []
        for zc in heights:
            slope = float(SPINE_Y(zc + 8) - SPINE_Y(zc - 8)) / 16.0
            depth = float(np.interp(zc, [-160, -20, 40, 308], [16.5, 16.5, 15.5, 12.0]))
            back = depth + 9.5
            z_shift = back * slope
            y = float(SPINE_Y(zc)) - back
            if zc < -150:
                y = float(np.interp(zc, [-215, -150], [-97, -70]))
                z_shift = 0.0
            knots.append((0, y, zc + z_shift, float(np.interp(zc, [-215, -160, -20, 308], [3, 7, 7.5, 7]))))
        path = np.asarray(knots)
        canvas.paint_tube(path, self.hu["csf"])
        cord = path[path[:, 2] > 5].copy()
        cord[:, 3] = 4.0
        canvas.paint_tube(cord, self.hu["cord"], CLASS["spinal_cord"], flat=((1, 0, 0), 1.4))

    def _sternum(self, canvas: Canvas) -> None:
        box = canvas.box((-34, 50, 96), (34, 112, 285), 3)
        if box is None:
            return
        x, y, z = canvas.xyz(box)
        ax = np.abs(x)
        across = F(0.34)
        manubrium = capsule(x * across, y, z, (0, 67, 270), (0, 79, 238), 8.0, 5.6)
        body = capsule(x * across, y, z, (0, 83, 226), (0, 98, 138), 5.2, 5.8)
        manubrium, body = (smax(d, (ax - F(w)) * F(0.8), 6.0) for d, w in ((manubrium, 26.0), (body, 17.5)))
        xiphoid = capsule(x, y, z, (0, 98, 130), (0, 98, 108), 3.6, 2.2)
        self._bone(
            canvas,
            box,
            union(manubrium, body, xiphoid, blend_mm=2.0),
            CLASS["sternum"],
            shell_mm=0.9,
            marrow=130.0,
            cortical=520.0,
        )

    def _hip(self, canvas: Canvas, side: float, label: int) -> None:
        low, high = (25, -105, -315), (150, 90, -80)
        box = canvas.box(*_mirror(low, high, side), 3)
        if box is None:
            return
        x, y, z = canvas.xyz(box)
        x = x * F(side)
        flip = np.array([side, 1.0, 1.0])
        crest = spline(
            [
                (112, 47, -168, 5),
                (124, 38, -140, 5),
                (131, 8, -110, 5),
                (120, -32, -104, 5),
                (92, -66, -124, 6),
                (58, -88, -152, 7),
                (52, -88, -178, 7),
            ],
            8.0,
        )
        root = np.array([98, -2, -212])
        fan = []
        for px, py, pz, r in crest:
            tip = np.array([px, py, pz])
            middle = root * 0.55 + tip * 0.45 + np.array([-7.0, 0, 0])
            fan += [(root * flip, middle * flip, 7.0, 3.6), (middle * flip, tip * flip, 3.6, r)]
        rest = [
            ((52, -84, -172), (78, -42, -205), 10.0, 10.0),
            ((92, -2, -237), (92, -2, -235), 32.5, 32.5),
            ((72, 20, -226), (36, 52, -233), 9.5, 7.0),
            ((36, 52, -233), (10, 60, -246), 7.0, 9.5),
            ((9, 58, -252), (36, 10, -284), 7.0, 6.5),
            ((36, 10, -284), (60, -36, -292), 6.5, 12.0),
            ((82, -26, -240), (62, -40, -288), 13.0, 14.0),
        ]
        rest = [(np.asarray(a) * flip, np.asarray(b) * flip, ra, rb) for a, b, ra, rb in rest]
        shape = smin(canvas.balls(box, fan, 5.0), canvas.balls(box, rest, 8.0, 12.0), 8.0)
        socket = ellipsoid(x, y, z, (96, 3, -241), (27.5, 27.5, 27.5))
        socket = smin(socket, capsule(x, y, z, (100, 4, -245), (140, 12, -268), 27.0, 30.0), 3.0)
        shape = smax(shape, -socket, 2.0)
        shape = np.maximum(shape, F(4.0) - x)
        self._bone(canvas, box, shape, label, shell_mm=1.8, marrow=130.0)

    def _femur(self, canvas: Canvas, side: float, label: int) -> None:
        box = canvas.box(*_mirror((65, -45, -420), (175, 40, -205), side), 3)
        if box is None:
            return
        x, y, z = canvas.xyz(box)
        x = x * F(side)
        shape = union(
            ellipsoid(x, y, z, (96, 3, -241), (24, 24, 24)),
            capsule(x, y, z, (98, 2, -243), (134, -6, -268), 15.5, 17.0),
            capsule(x, y, z, (146, -14, -254), (144, -10, -285), 13.0, 15.0),
            capsule(x, y, z, (136, -8, -280), (134, 2, -420), 18.0, 14.0),
            blend_mm=10.0,
        )
        marrow = F(160) - F(170) * smoothstep(-z, 275, 305)
        self._bone(canvas, box, shape, label, shell_mm=2.2, marrow=marrow)

    def _shoulder(self, canvas: Canvas, side: float, name: str) -> None:
        box = canvas.box(*_mirror((60, -120, 150), (215, 40, 340), side), 3)
        if box is not None:
            x, y, z = canvas.xyz(box)
            x = x * F(side)
            rim = spline(
                [
                    (98, -108, 172, 3),
                    (86, -109, 200, 2.6),
                    (77, -103, 230, 2.6),
                    (75, -96, 254, 2.6),
                    (82, -88, 275, 2.8),
                    (102, -76, 288, 3.2),
                ],
                6.0,
            )
            parts = [((134, -56, 270), tuple(p[:3]), 5.0, p[3]) for p in rim]
            parts += [
                ((82, -104, 255), (138, -88, 292), 3.0, 6.0), ((138, -88, 292), (158, -62, 303), 6.0, 5.0),
                ((128, -46, 282), (124, -18, 278), 6.0, 5.0), ((137, -58, 258), (137, -54, 280), 8.0, 8.0),
            ]  # fmt: skip
            flip = np.array([side, 1.0, 1.0])
            shape = canvas.balls(
                box, [(np.asarray(a) * flip, np.asarray(b) * flip, ra, rb) for a, b, ra, rb in parts], 4.0
            )
            self._bone(canvas, box, shape, CLASS[f"scapula_{name}"], shell_mm=1.3, marrow=150.0)
            humerus = union(
                ellipsoid(x, y, z, (159, -46, 281), (20, 21, 22)),
                capsule(x, y, z, (160, -45, 284), (172, -36, 360), 15.0, 11.0),
                blend_mm=8.0,
            )
            self._bone(canvas, box, humerus, CLASS[f"humerus_{name}"], shell_mm=2.0, marrow=120.0)
        clavicle = spline([(18, 70, 276, 7), (55, 62, 284, 5), (95, 22, 294, 5), (134, -34, 303, 6)], 8.0)
        clavicle[:, 0] *= side
        found = canvas.tube(clavicle)
        if found is not None:
            self._bone(canvas, found[0], found[1], CLASS[f"clavicula_{name}"], shell_mm=1.6, marrow=140.0)


def _mirror(low, high, side: float):
    if side > 0:
        return low, high
    return (-high[0], low[1], low[2]), (-low[0], high[1], high[2])


def rib_path(number: int, side: float) -> tuple[np.ndarray, np.ndarray | None]:
    """Bone path (n, 4) of one rib along the wall of the chest and, where it has one, its cartilage."""
    zc, half = LEVELS[f"T{number}"]
    yc = float(SPINE_Y(zc))
    z0 = zc + half * 0.7
    drop = [26, 48, 62, 72, 80, 88, 94, 98, 98, 92, 62, 34][number - 1]
    end = [52, 60, 62, 62, 60, 56, 50, 42, 32, 22, -12, -42][number - 1]
    depth = 10.0 + 0.4 * number
    knots = [(13 + 0.5 * number, yc - depth + 2, z0, 3.4), (31, yc - depth - 19, z0 - 2, 3.4)]
    angles = np.deg2rad(np.linspace(-66, end, max(4, int((end + 66) / 9))))
    span = np.deg2rad(62 + 66)
    for angle in angles:
        part = (angle + np.deg2rad(66)) / span
        z = z0 - 4 - drop * (1.12 * part if part < 0.75 else 0.84 + 0.72 * (part - 0.75))
        a = float(CAVITY_A(z)) + 7.0
        b = (float(CAVITY_FRONT(z)) if angle > 0 else -float(CAVITY_BACK(z))) + 7.0
        c, s = np.cos(angle), np.sin(angle)
        x = a * np.sign(c) * abs(c) ** (2 / CAVITY_N)
        y = b * np.sign(s) * abs(s) ** (2 / CAVITY_N)
        knots.append((x, y, z, 3.5 if number > 1 else 4.5))
    knots = np.asarray(knots)
    knots[-1, 3] = 3.8
    bone = spline(knots, 7.0)
    cartilage = None
    if number <= 10:
        tip = bone[-1, :3]
        target = np.array(
            [
                (19, 74, 258),
                (17, 82, 229),
                (16, 88, 207),
                (16, 93, 186),
                (16, 96, 166),
                (15, 98, 150),
                (13, 99, 138),
                (32, 99, 120),
                (58, 95, 96),
                (84, 84, 68),
            ][number - 1],
            float,
        )
        middle = (tip + target) / 2 + np.array([0, 3.0, -10.0 if number >= 6 else -3.0])
        cartilage = spline([(*tip, 3.6), (*middle, 4.0), (*target, 4.0)], 8.0)
        cartilage[:, 0] *= side
    bone[:, 0] *= side
    return bone, cartilage
