"""Hollow organs of abdomen and pelvis: stomach, duodenum, small and large bowel, gallbladder, bladder; prostate."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas
from .frame import Variation
from .geometry import F, Lattice, arclength, ellipsoid, path_distance, smax, smin, spline
from .tissues import CLASS
from .trees import grow_tree

STOMACH = (
    (-32, -10, 84, 12),
    (-56, -20, 82, 25),
    (-67, -14, 68, 29),
    (-71, 8, 46, 27),
    (-68, 30, 24, 24.5),
    (-54, 50, 0, 21),
    (-30, 58, -14, 19.5),
    (-6, 56, -16, 18.5),
    (14, 48, -8, 15),
    (27, 41, -2, 11),
)
DUODENUM = spline(
    [
        (27, 41, -2, 9),
        (40, 34, 2, 12),
        (50, 20, -4, 12),
        (53, 8, -26, 12),
        (50, 2, -52, 12.5),
        (36, 2, -70, 12.5),
        (12, 7, -74, 11.5),
        (-12, 8, -68, 11.5),
        (-30, 10, -50, 11.5),
        (-36, 18, -34, 12),
    ],
    6.0,
)
COLON = spline(
    [
        (96, 22, -158, 20), (102, 16, -142, 29), (110, 2, -112, 27), (112, -10, -78, 25), (106, 4, -50, 25),
        (92, 40, -44, 23), (66, 66, -58, 22), (30, 78, -76, 22.5), (-8, 80, -82, 22), (-46, 76, -68, 22),
        (-80, 60, -34, 21), (-104, 40, 10, 20), (-112, 12, 30, 19), (-117, -14, 4, 18), (-117, -34, -40, 16),
        (-114, -34, -90, 15.5), (-104, -10, -130, 15), (-84, 14, -162, 15), (-54, 18, -184, 15),
        (-26, 4, -176, 15.5), (-2, -12, -166, 15.5), (18, -28, -174, 15.5), (18, -48, -190, 15.5),
        (4, -58, -208, 17), (-2, -58, -232, 19), (0, -47, -256, 19), (0, -40, -276, 15), (0, -50, -300, 8),
    ],
    5.0,
)  # fmt: skip
COLON_LENGTH = float(arclength(COLON)[-1])
GALLBLADDER = ((40, 14, 14, 3.5), (47, 24, 8, 6.5), (55, 38, -4, 12.5), (60, 52, -17, 15.6), (63, 62, -25, 14.6))
BLADDER = ((0.0, 22.0, -228.0), (45.0, 36.0, 37.0))


def small_bowel_paths(rng: np.random.Generator) -> list[np.ndarray]:
    """Loops that fill the middle of the abdomen: rows that run to and fro in three layers, bent at random."""
    layers = []
    for y, z_low, z_high in ((66.0, -192.0, -112.0), (38.0, -196.0, -70.0), (8.0, -172.0, -92.0)):
        knots = []
        for row, z in enumerate(np.arange(z_high, z_low, -27.0)):
            half = float(np.interp(z, [-200, -180, -150, -110, -70, -40], [34, 48, 66, 80, 74, 60]))
            left, right = (-half, half * (0.92 if z > -110 else 0.8))
            columns = np.linspace(left, right, 5)
            if row % 2:
                columns = columns[::-1]
            wave = rng.normal(0, 7.0, (5, 3)) * np.array([0.5, 0.9, 1.0])
            for number, x in enumerate(columns):
                knots.append(
                    (
                        x + wave[number, 0],
                        y + wave[number, 1],
                        z + wave[number, 2] + 5 * (-1) ** number,
                        12.0 + rng.uniform(-1.8, 1.8),
                    )
                )
        layers.append(spline(knots, 6.0))
    extra = (
        [
            (46, 40, -178),
            (48, 12, -196),
            (40, -14, -206),
            (16, -16, -204),
            (-12, -14, -206),
            (-36, -8, -205),
            (-45, 20, -198),
            (-38, 46, -184),
        ],
        [
            (-40, 22, -40),
            (-62, 40, -44),
            (-84, 30, -38),
            (-92, 8, -48),
            (-74, -2, -64),
            (-48, 6, -58),
            (-58, 24, -74),
            (-86, 30, -80),
            (-92, 6, -88),
        ],
        [(-92, 60, 2), (-84, 40, -14), (-96, 14, -20), (-90, -6, -24), (-72, 10, -26), (-56, 28, -28), (-44, 40, -36)],
        [(78, 10, -112), (84, 34, -104), (76, 56, -100), (60, 36, -88), (40, 30, -96), (64, 14, -76), (78, 34, -74)],
    )
    for knots in extra:
        layers.append(spline([(*p, 11.5 + rng.uniform(-1.2, 1.6)) for p in knots], 6.0))
    return layers


class Bowel:
    """Paints the hollow organs."""

    def __init__(self, hu, seed: int, variation: Variation):
        self.hu, self.variation = hu, variation
        rng = np.random.default_rng([seed, 41])
        self.loops = small_bowel_paths(rng)
        self.folds = Lattice(rng, 3.0, 48, 0.7)
        self.stool = Lattice(rng, 3.4, 48, 0.9)
        root = np.array([(9, 18, -35), (11, 21, -62), (16, 24, -86)], float)
        ends = np.concatenate([path[::3, :3] for path in self.loops]) + rng.normal(
            0, 7.0, (sum(len(p[::3]) for p in self.loops), 3)
        )
        self.mesentery = grow_tree(root, ends, rng, 1.0, 4.0)
        self.plugs = rng.uniform(-1.0, 1.0, 64)
        self.stomach = self._scaled(STOMACH, variation.stomach ** (1 / 3))
        self.gallbladder = self._scaled(GALLBLADDER, variation.gallbladder ** (1 / 3))

    @staticmethod
    def _scaled(knots, factor: float) -> np.ndarray:
        path = spline(np.asarray(knots, float), 5.0)
        path[:, 3] *= factor
        return path

    def paint(self, canvas: Canvas) -> None:
        for path in self.mesentery:
            canvas.paint_tube(path, self.hu["portal"], pad_mm=3.0)
        for number, path in enumerate(self.loops):
            self._loop(canvas, path, number)
        self._pelvis(canvas)

    def paint_upper(self, canvas: Canvas) -> None:
        """Colon, duodenum, gallbladder and stomach; laid over the solid organs so that their walls stay whole."""
        self._colon(canvas)
        self._duodenum(canvas)
        self._gallbladder(canvas)
        self._stomach(canvas)

    def _loop(self, canvas: Canvas, path: np.ndarray, number: int) -> None:
        found = canvas.tube(path, position=True)
        if found is None:
            return
        box, d, along = found
        d = smax(d, canvas.fields["cavity"][box] + F(3), 4.0)
        texture = canvas.noise(self.folds, box)
        state = np.sin(along * F(2 * np.pi / 130.0) + F(1.7 * number))
        d = d + F(2.2) * np.maximum(state, 0) + F(0.7) * canvas.fields["coarse"][box] - F(0.8)
        canvas.paint(box, d, self.hu["mucosa"] - 8, CLASS["small_bowel"])
        fold = np.abs(np.sin(along * F(np.pi / 5.2)))
        lumen = (
            d
            + F(2.4)
            + F(1.8) * fold * np.clip(F(0.4) - state, 0, 1)
            + F(6.0) * np.maximum(state - F(0.2), 0)
            + F(0.8) * texture
        )
        content = F(self.hu["chyme"] + 6) + F(14) * texture
        canvas.paint(box, lumen, content)

    def _duodenum(self, canvas: Canvas) -> None:
        found = canvas.tube(DUODENUM, position=True)
        if found is None:
            return
        box, d, along = found
        canvas.paint(box, d, self.hu["mucosa"], CLASS["duodenum"])
        fold = np.abs(np.sin(along * F(np.pi / 6.0)))
        canvas.paint(box, d + F(2.8) + F(1.6) * fold, F(self.hu["chyme"]) + F(6) * canvas.noise(self.folds, box))
        x, y, z = canvas.xyz(box)
        canvas.paint(box, smax(d + F(4.0), F(38) - y, 1.0), -980.0)

    def _stomach(self, canvas: Canvas) -> None:
        path = self.stomach
        found = canvas.tube(path, 8.0)
        if found is None:
            return
        box, d, _ = found
        d = d + F(0.8) * canvas.fields["coarse"][box]
        d = smax(smax(d, canvas.fields["diaphragm"][box] + F(3), 6.0), canvas.fields["cavity"][box] + F(3), 6.0)
        _, y, _ = canvas.xyz(box)
        canvas.paint(box, d, self.hu["wall"], CLASS["stomach"])
        canvas.paint(box, d + F(2.4), self.hu["mucosa"])
        rugae = canvas.noise(self.folds, box)
        lumen = d + F(4.2) + F(1.1) * np.abs(rugae)
        level = canvas.axes[1].astype(F).reshape(1, -1, 1)[:, box[1]] - F(30)
        canvas.paint(box, lumen, F(self.hu["fluid"]) + F(5) * rugae)
        canvas.paint(box, np.maximum(lumen, -level + np.zeros_like(y)), self.hu["gas"])

    def _gallbladder(self, canvas: Canvas) -> None:
        found = canvas.tube(self.gallbladder, 6.0)
        if found is None:
            return
        box, d, _ = found
        canvas.paint(box, d - F(1.0), self.hu["visceral_fat"] + 60, strength=0.5)
        canvas.paint(box, d, self.hu["mucosa"], CLASS["gallbladder"])
        canvas.paint(box, d + F(1.8), self.hu["bile"])

    def _colon(self, canvas: Canvas) -> None:
        hu = self.hu
        found = canvas.tube(COLON, 6.0, position=True)
        if found is None:
            return
        box, d, along = found
        x, y, z = canvas.xyz(box)
        left = along / F(COLON_LENGTH)
        strength = np.interp(left, [0, 0.30, 0.5, 0.62, 0.80, 0.9, 1.0], [3.4, 3.6, 2.6, 1.8, 1.2, 0.6, 0.3]).astype(F)
        haustra = np.abs(np.sin(along * F(np.pi / 31.0) + F(0.4) * canvas.fields["coarse"][box]))
        d = d + strength * (F(1) - haustra) ** 2 * F(1.5) - F(0.2) * strength
        d = smax(d, canvas.fields["cavity"][box] + F(2.5), 4.0)
        canvas.paint(box, d, hu["wall"], CLASS["colon"])
        canvas.paint(box, d + F(1.6), hu["mucosa"] - 8)
        lumen = d + F(3.0)
        texture = canvas.noise(self.stool, box)
        crumbs = np.clip(texture - F(0.55), F(0), F(1.1))
        filling = F(hu["stool"]) + F(14) * texture - F(480) * crumbs
        canvas.paint(box, lumen, filling)
        # Gas collects at the front of each stretch; how much differs along the way.
        slot = np.clip(along / F(48.0), 0, len(self.plugs) - 2)
        low = slot.astype(int)
        blend = slot - low
        plug = self.plugs[low] * (1 - blend) + self.plugs[low + 1] * blend
        centre = np.interp(along, arclength(COLON), COLON[:, 1])
        room = np.interp(along, arclength(COLON), COLON[:, 3])
        share = np.interp(left, [0, 0.25, 0.35, 0.6, 0.7, 0.85, 1], [0.25, 0.35, -0.35, -0.15, 0.75, 0.5, 0.55])
        level = (centre + (share + 0.55 * plug) * room).astype(F)
        ripple = F(1.3) * texture * (left < 0.3)
        canvas.paint(box, np.maximum(lumen + F(0.3), level - y + ripple), hu["gas"])

    def _pelvis(self, canvas: Canvas) -> None:
        hu = self.hu
        box = canvas.box((-60, -45, -312), (60, 75, -180), 3)
        if box is None:
            return
        x, y, z = canvas.xyz(box)
        centre, radii = BLADDER
        factor = self.variation.bladder ** (1 / 3)
        prostate = ellipsoid(x, y, z, (0, 14, -276), (23, 17, 19))
        vesicles = smin(
            path_distance(np.abs(x), y, z, np.array([(3, -15, -258, 5.0), (16, -20, -250, 6.5), (28, -24, -244, 5.0)])),
            F(99),
            1.0,
        )
        canvas.paint(box, vesicles + F(1.0) * canvas.noise(self.folds, box), hu["prostate"] - 25)
        canvas.paint(box, prostate, F(hu["prostate"]) + F(8) * canvas.noise(self.folds, box), CLASS["prostate"])
        d = ellipsoid(x, y, z, centre, tuple(r * factor for r in radii))
        floor = (F(-256) - z) + F(0.18) * (y - F(20))
        roof = (z + F(194)) - F(0.10) * (y - F(20))
        d = smax(smax(d, floor, 16.0), roof, 26.0) + F(0.8) * canvas.fields["coarse"][box]
        canvas.paint(box, d, hu["wall"], CLASS["urinary_bladder"])
        canvas.paint(box, d + F(3.4), hu["urine"])
