"""Chest: lungs with lobes and vessels, heart, great vessels, trachea and bronchi, oesophagus."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas
from .frame import cavity_distance, diaphragm_distance, union
from .geometry import F, Lattice, Profile, ellipsoid, path_distance, rotation, smax, smin, spline
from .tissues import CLASS
from .trees import grow_tree, scatter

HEART_TURN = rotation(2, -38) @ rotation(0, 24)
AORTA = spline(
    [
        (-8, 26, 172, 15.5), (6, 32, 200, 15.5), (10, 26, 228, 15), (1, 10, 250, 14.5), (-12, -14, 256, 13.5),
        (-22, -38, 246, 13), (-25, -46, 222, 12.5), (-24, -44, 180, 12.5), (-21, -40, 130, 12), (-14, -30, 80, 11.5),
        (-8, -22, 40, 11), (-6, -15, 5, 10.5), (-6, -10, -40, 10), (-5, -9, -75, 9.5), (-4, -12, -98, 9),
    ],
    7.0,
)  # fmt: skip
OESOPHAGUS = spline([
    (2, -22, 316, 7.8), (-2, -28, 285, 8), (-6, -34, 255, 8.3), (-5, -36, 225, 8.6), (-3, -32, 190, 8.8),
    (-5, -24, 150, 9), (-11, -18, 118, 9.2), (-20, -13, 98, 9.4), (-32, -10, 84, 9.6),
], 7.0)  # fmt: skip
TRACHEA = spline([(1, -4, 316, 9), (0, -8, 290, 9), (1, -14, 262, 9), (3, -18, 240, 9.5)], 8.0)
BRONCHI = (
    spline(
        [
            (3, -18, 240, 8),
            (16, -18, 226, 7.5),
            (30, -20, 214, 6.5),
            (44, -26, 200, 5),
            (54, -34, 178, 3.8),
            (60, -42, 155, 2.8),
        ],
        7.0,
    ),
    spline(
        [
            (3, -18, 240, 8),
            (-14, -19, 227, 6.8),
            (-32, -23, 214, 6),
            (-46, -30, 200, 4.8),
            (-56, -38, 176, 3.6),
            (-62, -44, 155, 2.6),
        ],
        7.0,
    ),
    spline([(24, -18, 222, 5), (40, -14, 232, 4), (52, -8, 248, 3), (56, -8, 262, 2.2)], 7.0),
    spline([(-36, -24, 212, 5), (-48, -12, 220, 4), (-58, 0, 234, 3), (-64, 4, 252, 2.2)], 7.0),
)
VENA_CAVA_SUPERIOR = spline([(20, 22, 276, 6.5), (24, 18, 250, 9), (26, 16, 220, 10), (28, 16, 196, 10.5)], 7.0)
PULMONARY = (
    spline([(-18, 42, 178, 13), (-20, 36, 200, 13.5), (-18, 16, 218, 12.5)], 7.0),
    spline([(-18, 16, 218, 11.5), (2, 8, 214, 11), (24, 4, 208, 10.5), (40, -4, 202, 8)], 7.0),
    spline([(-18, 16, 218, 11.5), (-32, -2, 222, 11), (-44, -18, 214, 9), (-52, -26, 198, 7)], 7.0),
)
PULMONARY_VEINS = tuple(
    spline(knots, 7.0)
    for knots in (
        [(10, -8, 182, 8), (28, -8, 190, 7), (46, -2, 204, 5)],
        [(10, -12, 172, 8), (30, -16, 168, 7), (50, -26, 158, 5)],
        [(-22, -6, 186, 8), (-38, -4, 194, 6.5), (-52, 4, 206, 5)],
        [(-20, -14, 174, 8), (-38, -22, 170, 7), (-54, -32, 160, 5)],
    )
)
BRANCHES = (
    ("brachiocephalic_trunk", spline([(6, 18, 254, 6.5), (14, 22, 275, 6.5), (22, 12, 296, 6)], 7.0)),
    (
        "subclavian_artery_right",
        spline([(22, 12, 296, 4.5), (44, 0, 306, 4.5), (75, -6, 300, 4.2), (110, -14, 292, 4)], 7.0),
    ),
    ("common_carotid_artery_right", spline([(22, 12, 296, 4), (26, 8, 320, 4)], 7.0)),
    ("common_carotid_artery_left", spline([(-4, 8, 260, 4.5), (-12, 8, 285, 4.2), (-22, 4, 320, 4)], 7.0)),
    (
        "subclavian_artery_left",
        spline([(-16, -10, 262, 5.5), (-24, -14, 290, 5), (-48, -14, 304, 4.5), (-110, -20, 292, 4)], 7.0),
    ),
    ("brachiocephalic_vein_right", spline([(22, 22, 272, 7), (28, 24, 292, 6.5), (34, 18, 318, 6)], 7.0)),
    (
        "brachiocephalic_vein_left",
        spline([(20, 24, 266, 6.5), (0, 40, 270, 6.5), (-22, 34, 286, 6.5), (-34, 18, 312, 6)], 7.0),
    ),
)
AORTA_X = Profile([-100, 40, 80, 130, 180, 245, 262], [-5, -8, -14, -21, -24, -23, -20])
AORTA_Y = Profile([-100, 40, 80, 130, 180, 245, 262], [-12, -22, -30, -40, -44, -38, -30])


def heart_distance(x, y, z):
    """Signed distance to the heart with its chambers, without the great vessels."""
    ventricles = ellipsoid(x, y, z, (-32, 34, 140), (57, 40, 38), HEART_TURN)
    right_atrium = ellipsoid(x, y, z, (27, 20, 153), (26, 30, 39))
    left_atrium = ellipsoid(x, y, z, (-8, -2, 176), (33, 22, 25))
    outflow = ellipsoid(x, y, z, (-14, 46, 170), (24, 22, 26))
    d = smin(smin(ventricles, right_atrium, 18.0), smin(left_atrium, outflow, 14.0), 12.0)
    return smax(d, diaphragm_distance(x, y, z) * F(-1) + F(3), 8.0)


def mediastinum_distance(x, y, z, zs, heart):
    """Signed distance to everything between the lungs."""
    width = np.interp(zs, [60, 110, 160, 215, 245, 275, 312], [16, 17, 18, 30, 28, 30, 24]).astype(F)
    front = np.interp(zs, [60, 110, 160, 215, 245, 290, 312], [30, 40, 60, 62, 52, 26, 10]).astype(F)
    slab = smax(np.abs(x - F(1)) - width, np.abs(y - (front - F(70)) * F(0.5)) - (front + F(70)) * F(0.5), 14.0)
    anterior = smax(np.abs(x + F(2)) - F(7), F(0) - y, 8.0)
    aorta = np.sqrt((x - AORTA_X(zs)) ** 2 + (y - AORTA_Y(zs)) ** 2) - F(15)
    aorta = smax(aorta, z - F(254), 8.0)
    arch = ellipsoid(x, y, z, (-8, 0, 246), (24, 46, 22))
    hilum = np.minimum(
        ellipsoid(x, y, z, (34, -14, 200), (20, 22, 28)), ellipsoid(x, y, z, (-38, -18, 204), (20, 22, 26))
    )
    return union(slab, anterior, aorta, heart - F(5), arch, hilum, blend_mm=10.0)


def lung_distance(cavity, diaphragm, mediastinum):
    """Signed distance to both lungs from the three surfaces that bound them."""
    d = smax(cavity + F(2.0), F(2.5) - diaphragm, 3.0)
    return smax(d, -mediastinum, 9.0)


def lung_at(x, y, z):
    """Lung distance at any points."""
    heart = heart_distance(x, y, z)
    return lung_distance(cavity_distance(x, y, z), diaphragm_distance(x, y, z), mediastinum_distance(x, y, z, z, heart))


class Thorax:
    """Paints the chest."""

    def __init__(self, hu, seed: int, variation):
        self.hu = hu
        rng = np.random.default_rng([seed, 21])
        self.texture = Lattice(rng, 1.6, 64, 0.8)
        self.vessels: list[np.ndarray] = []
        low = {1.0: (5, -105, 15), -1.0: (-132, -105, 15)}
        for side in (1.0, -1.0):
            lo = low[side]
            hi = (132, 98, 305) if side > 0 else (-5, 98, 305)
            targets = scatter(lambda x, y, z: lung_at(x, y, z) + F(6), lo, hi, 560, rng, 8.0)
            artery = (
                np.array([(34, -6, 206), (44, -12, 200), (50, -20, 190)])
                if side > 0
                else np.array([(-44, -18, 214), (-50, -24, 202), (-54, -28, 190)])
            )
            vein = (
                np.array([(24, -12, 172), (38, -18, 170), (48, -20, 172)])
                if side > 0
                else np.array([(-34, -16, 174), (-44, -20, 174), (-52, -20, 176)])
            )
            pick = rng.random(len(targets)) < 0.55
            self.vessels += grow_tree(artery, targets[pick], rng, 0.62, 6.5)
            self.vessels += grow_tree(vein, targets[~pick], rng, 0.62, 5.5)

    def paint_lungs(self, canvas: Canvas) -> None:
        """Parenchyma, lobes and vessels."""
        box = canvas.box((-140, -115, -5), (140, 105, 312), 2)
        if box is None:
            return
        x, y, z = canvas.xyz(box)
        zs = canvas.height(box)
        heart = heart_distance(x, y, z)
        medi = mediastinum_distance(x, y, z, zs, heart)
        lung = lung_distance(canvas.fields["cavity"][box], canvas.fields["diaphragm"][box], medi)
        oblique = (z - F(238) + (y + F(90)) * F(0.80)) * F(0.78)
        horizontal = z - F(184) - F(0.05) * y
        label = np.where(
            oblique > 0, np.where(x > 0, np.where(horizontal > 0, 12, 13), 10), np.where(x > 0, 14, 11)
        ).astype(np.uint8)
        fine, coarse = canvas.fields["fine"][box], canvas.fields["coarse"][box]
        hu = (
            F(self.hu["lung"] - 12)
            - F(0.32) * y
            + F(14) * coarse
            + F(9) * fine
            + F(16) * canvas.noise(self.texture, box)
        )
        fissure = np.minimum(np.abs(oblique), np.where((x > 0) & (oblique > 0), np.abs(horizontal), F(9)))
        hu += F(95) * np.clip(F(1.0) - fissure / F(1.1), F(0), F(1))
        # The diaphragm muscle: a thin sheet between lung and abdomen.
        dome = np.abs(canvas.fields["diaphragm"][box] - F(0.4)) - F(2.1)
        canvas.paint(box, smax(dome, canvas.fields["cavity"][box], 2.0), self.hu["muscle"])
        canvas.paint(box, lung, hu)
        mask = lung < 0
        canvas.labels[box][mask] = label[mask]
        for path in self.vessels:
            found = canvas.tube(path, 3.0)
            if found is not None:
                part, d, _ = found
                canvas.paint(part, d, self.hu["pulmonary"] if path[:, 3].max() > 1.6 else self.hu["pulmonary"] - 30)

    def paint_mediastinum(self, canvas: Canvas) -> None:
        """Heart, vessels, airways and oesophagus."""
        hu = self.hu
        for path in PULMONARY_VEINS:
            canvas.paint_tube(path, hu["heart_blood"], CLASS["pulmonary_vein"])
        self._heart(canvas)
        for path in PULMONARY:
            canvas.paint_tube(path, hu["pulmonary"])
        canvas.paint_tube(VENA_CAVA_SUPERIOR, hu["vein"], CLASS["superior_vena_cava"])
        for name, path in BRANCHES:
            canvas.paint_tube(path, hu["vein"] if "vein" in name else hu["aorta"], CLASS[name])
        thyroid = canvas.box((-32, -12, 300), (32, 20, 330))
        if thyroid is not None:
            x, y, z = canvas.xyz(thyroid)
            d = ellipsoid(np.abs(x), y, z, (18, 2, 318), (9, 10, 18))
            canvas.paint(thyroid, d, 110.0 if hu["aorta"] < 100 else 170.0, CLASS["thyroid_gland"])
        canvas.paint_tube(AORTA, hu["aorta"], CLASS["aorta"])
        self._airways(canvas)
        self._oesophagus(canvas)

    def _heart(self, canvas: Canvas) -> None:
        hu = self.hu
        box = canvas.box((-92, -40, 96), (62, 88, 214), 3)
        if box is None:
            return
        x, y, z = canvas.xyz(box)
        d = heart_distance(x, y, z)
        canvas.paint(box, d, F(hu["fat"]) + F(12) * canvas.fields["fine"][box], CLASS["heart"])
        muscle = d + F(3.5) + F(2.5) * canvas.fields["coarse"][box]
        groove = path_distance(x, y, z, np.array([(8, 64, 172, 5.5), (13, 56, 146, 5.5), (20, 40, 112, 5.5)]))
        muscle = smax(muscle, -groove, 5.0)
        canvas.paint(box, muscle, hu["myocardium"])
        left = ellipsoid(x, y, z, (-41, 30, 139), (36, 21, 21), HEART_TURN)
        right = smax(
            ellipsoid(x, y, z, (-13, 48, 141), (40, 30, 30), HEART_TURN),
            -(ellipsoid(x, y, z, (-41, 30, 139), (46, 31.5, 31.5), HEART_TURN)),
            5.0,
        )
        right = smin(right, ellipsoid(x, y, z, (-16, 46, 174), (13, 13, 18)), 8.0)
        atrium = ellipsoid(x, y, z, (27, 19, 155), (21, 25, 34))
        left_atrium = ellipsoid(x, y, z, (-8, -3, 177), (28, 17, 20))
        root = path_distance(x, y, z, np.array([(-28, 28, 158, 12), (-8, 26, 176, 15)]))
        for chamber in (
            left,
            smax(right, muscle + F(3), 3.0),
            smax(atrium, muscle + F(1.5), 3.0),
            smax(left_atrium, muscle + F(1.5), 3.0),
            root,
        ):
            canvas.paint(box, chamber, hu["heart_blood"])

    def _airways(self, canvas: Canvas) -> None:
        tubes = [found for path in BRONCHI if (found := canvas.tube(path)) is not None]
        trachea = canvas.tube(TRACHEA)
        if trachea is not None:
            box, d, _ = trachea
            _, y, z = canvas.xyz(box)
            # The membranous back wall flattens the tube.
            trachea = box, smax(d, F(-22) + F(0.06) * (z - F(240)) - y, 3.0)
            canvas.paint(box, trachea[1] - F(1.6), 45.0)
        for box, d, _ in tubes:
            canvas.paint(box, d - F(1.3), 30.0)
        for box, d, _ in tubes:
            canvas.paint(box, d, -985.0)
        if trachea is not None:
            canvas.paint(*trachea, -995.0, CLASS["trachea"])

    def _oesophagus(self, canvas: Canvas) -> None:
        found = canvas.tube(OESOPHAGUS, flat=((1, 0, 0), 1.12), position=True)
        if found is None:
            return
        box, d, along = found
        canvas.paint(box, d - F(1.6), self.hu["visceral_fat"], strength=0.7)
        canvas.paint(box, d, self.hu["wall"] + 2, CLASS["esophagus"])
        canvas.paint(box, d + F(3.6), self.hu["mucosa"] - 12)
        lumen = d + F(5.6) + F(1.6) * np.sin(along * F(2 * np.pi / 47.0)) + F(0.9) * np.sin(along * F(2 * np.pi / 17.0))
        canvas.paint(box, lumen, -850.0)
