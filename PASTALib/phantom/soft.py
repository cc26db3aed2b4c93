"""Outline of the body: skin, subcutaneous fat, muscles and the fat that fills the cavities."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas
from .frame import SPINE_Y, Variation, body_distance, cavity_distance, diaphragm_distance, fat_thickness
from .geometry import F, capsule, smin, spline
from .tissues import CLASS


class Soft:
    """Paints the body wall and leaves ``body``, ``cavity`` and ``diaphragm`` distances in ``canvas.fields``."""

    def __init__(self, hu, fine, coarse, sheets, variation: Variation):
        self.hu, self.fine, self.coarse, self.sheets = hu, fine, coarse, sheets
        self.variation = variation
        self.psoas = spline(
            [
                (25, -36, 30, 6),
                (33, -40, -30, 15),
                (40, -38, -80, 19),
                (52, -22, -130, 20),
                (74, 8, -180, 19),
                (96, 32, -225, 16),
                (118, 18, -275, 15),
            ],
            10.0,
        )

    def paint(self, canvas: Canvas) -> None:
        whole = (slice(None),) * 3
        x, y, zs = canvas.x, canvas.y, canvas.zs
        body = body_distance(x, y, zs)
        cavity = cavity_distance(x, y, zs)
        flat_x = canvas.axes[2].astype(F).reshape(1, 1, -1)
        flat_y = canvas.axes[1].astype(F).reshape(1, -1, 1)
        canvas.fields["body"], canvas.fields["cavity"] = body, cavity
        canvas.fields["diaphragm"] = diaphragm_distance(flat_x, flat_y, canvas.z)
        fine = canvas.noise(self.fine, whole)
        coarse = canvas.noise(self.coarse, whole)
        canvas.fields["fine"], canvas.fields["coarse"] = fine, coarse
        canvas.paint(whole, body, self.hu["skin"])
        canvas.paint(whole, body + F(1.8), F(self.hu["fat"]) + F(5) * coarse + F(4) * fine)
        wall = body + fat_thickness(x, y, zs) * F(self.variation.fat) + F(1.5) * coarse
        wall = np.minimum(wall, cavity - F(7.0))
        canvas.fields["wall"] = wall
        muscle = F(self.hu["muscle"]) + F(4) * coarse + F(4) * fine
        canvas.paint(whole, wall, muscle)
        self._planes(canvas, x, y, zs, wall, cavity)
        canvas.paint(whole, cavity, F(self.hu["visceral_fat"]) + F(6) * coarse + F(6) * fine)
        self._muscles(canvas)

    def _planes(self, canvas, x, y, zs, wall, cavity):
        """Fat planes that split the muscle mass into muscles."""
        sheet = np.abs(canvas.noise(self.sheets, (slice(None),) * 3))
        inside = np.clip(np.minimum(-wall, cavity) / F(5.0), F(0), F(1))
        pelvic = np.interp(zs, [-310, -170, -120, 150, 220, 310], [1, 1, 0.25, 0.3, 0.9, 1]).astype(F)
        view = canvas.hu
        alpha = np.clip(F(1.25) - sheet / F(0.11), F(0), F(1)) * inside * pelvic * F(0.85)
        view += alpha * (F(self.hu["fat"]) - view)
        # Linea alba, the gap between the flank muscles and the back muscles, and the layers of the flank.
        belly = np.interp(zs, [-225, -200, 60, 95], [0, 1, 1, 0]).astype(F)
        depth = body_layers(wall, cavity)
        layer = np.minimum(np.abs(depth - F(0.36)), np.abs(depth - F(0.68)))
        flank = np.clip((np.abs(x) - F(70)) / F(15), F(0), F(1)) * np.clip((y + F(60)) / F(15), F(0), F(1))
        alpha = (
            np.clip(F(1.2) - layer / F(0.055), F(0), F(1))
            * flank
            * belly
            * F(0.55)
            * np.where((wall < 0) & (cavity > 0), F(1), F(0))
        )
        view += alpha * (F(self.hu["fat"]) - view)
        pelvis = np.interp(zs, [-300, -280, -150, -120, 185, 215, 285, 305], [0.5, 1, 1, 0, 0, 1, 1, 0.5]).astype(F)
        layer = np.abs(depth - F(0.42) - F(0.05) * canvas.fields["coarse"])
        alpha = (
            np.clip(F(1.2) - layer / F(0.035), F(0), F(1))
            * pelvis
            * F(0.75)
            * np.where((wall < 0) & (cavity > 0), F(1), F(0))
        )
        view += alpha * (F(self.hu["fat"]) - view)
        gap = smin(np.abs(np.abs(x) - F(68) - F(0.25) * np.abs(y)), np.abs(x) + F(40) * (y < 0), 2.0)
        front = np.where((y > 30) & (wall < 0) & (cavity > 0), F(1), F(0)) * belly
        alpha = np.clip(F(1.3) - gap / F(2.6), F(0), F(1)) * front * F(0.8)
        view += alpha * (F(self.hu["fat"]) - view)

    def _muscles(self, canvas: Canvas) -> None:
        hu = self.hu
        for name, side in (("right", 1.0), ("left", -1.0)):
            self._axilla(canvas, side)
            psoas = self.psoas * np.array([side, 1, 1, 1])
            canvas.paint_tube(psoas, hu["muscle"], CLASS[f"iliopsoas_{name}"])
            self._iliacus(canvas, side, CLASS[f"iliopsoas_{name}"])
            crus = np.array(
                [
                    (-3 + 10 * side, -14, 62, 5.5),
                    (4 + 11 * side, -20, 35, 6.0),
                    (2 + 12 * side, -19, 5, 5.0),
                    (1 + 11 * side, -15, -25, 3.0),
                ]
            )
            canvas.paint_tube(crus, hu["muscle"], flat=((0, 1, 0), 1.6))
            quadratus = np.array([(50 * side, -66, 30, 8.0), (66 * side, -66, -40, 11.0), (78 * side, -62, -104, 11.0)])
            canvas.paint_tube(quadratus, hu["muscle"], flat=((0.8 * side, 0.6, 0), 1.5))
            box = canvas.box((2 if side > 0 else -62, -125, -175), (62 if side > 0 else -2, -55, 300), 3)
            if box is None:
                continue
            x, y, _ = canvas.xyz(box)
            zs = canvas.height(box)
            centre = np.interp(zs, [-175, -130, -40, 60, 180, 290], [22, 34, 39, 36, 27, 24]).astype(F)
            half = np.interp(zs, [-175, -130, -40, 60, 180, 290], [14, 27, 31, 28, 20, 16]).astype(F)
            thick = np.interp(zs, [-175, -130, -40, 60, 180, 290], [8, 18, 20, 17, 14, 12]).astype(F)
            yc = SPINE_Y(zs) - np.interp(zs, [-175, -130, -40, 60, 180, 290], [38, 44, 46, 45, 38, 34]).astype(F)
            u, v = (x * F(side) - centre) / half, (y - yc) / thick
            r = np.sqrt(u * u + v * v) + F(1e-4)
            d = (r - F(1)) * r / (np.sqrt((u / half) ** 2 + (v / thick) ** 2) + F(1e-4))
            d = np.maximum(d, canvas.fields["wall"][box])
            chest = np.interp(zs, [-30, 10], [-40, 2]).astype(F)
            d = np.maximum(d, chest - canvas.fields["cavity"][box])
            rim = np.clip(F(1) - np.abs(d - F(0.8)) / F(1.3), F(0), F(1)) * F(0.7) * (canvas.fields["wall"][box] < -3)
            canvas.paint(box, d, F(hu["muscle"]) + F(7) * canvas.fields["fine"][box], CLASS[f"autochthon_{name}"])
            view = canvas.hu[box]
            view += rim * (F(hu["fat"]) - view)

    def _axilla(self, canvas, side):
        """Fat of the armpit and of the groin."""
        axilla = np.array([(112, 0, 288, 5), (122, 2, 262, 8.5), (131, -2, 236, 7.5), (140, -10, 200, 3)])
        groin = np.array([(66, 46, -205, 6), (84, 62, -240, 11), (88, 62, -275, 12), (90, 58, -320, 10)])
        ischial = np.array([(26, -70, -285, 10), (34, -62, -298, 16), (36, -60, -325, 16)])
        for path, flat in ((axilla, ((0.35 * side, 0.937, 0), 2.2)), (groin, None), (ischial, None)):
            found = canvas.tube(path * np.array([side, 1, 1, 1]), 8.0, flat)
            if found is not None:
                box, d, _ = found
                d = d + F(3.0) * canvas.fields["coarse"][box]
                canvas.paint(box, d, F(self.hu["fat"]) + F(8) * canvas.fields["fine"][box])

    def _iliacus(self, canvas, side, label):
        box = canvas.box((40 if side > 0 else -130, -75, -215), (130 if side > 0 else -40, 55, -105), 3)
        if box is None:
            return
        x, y, z = canvas.xyz(box)
        x = x * F(side)
        d = smin(
            capsule(x, y, z, (112, -8, -118), (84, 12, -185), 9.0, 15.0),
            capsule(x, y, z, (92, -45, -135), (84, 5, -185), 9.0, 15.0),
            14.0,
        )
        d = smin(d, capsule(x, y, z, (110, 30, -135), (92, 24, -195), 8.0, 15.0), 14.0)
        canvas.paint(box, d, self.hu["muscle"], label)


def body_layers(wall, cavity):
    """0 at the fat, 1 at the cavity, across the muscle wall."""
    outer, inner = np.maximum(-wall, F(0)), np.maximum(cavity, F(0))
    return outer / np.maximum(outer + inner, F(1))
