"""A scan made ready for lesions: organ geometry, tissue levels, noise and edge sharpness, computed once and kept."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from .. import taxonomy
from ..errors import InputError
from ..organs import OrganMap
from ..templates import contrast_phase
from ..volume import Volume, patient_axes, same_grid
from .distance import interior_distance
from .measure_tissue import FAT_HU
from .measurement import ScanReference, reference_edge_width
from .noise import NoiseModel, measure_noise, relative_noise

COARSE_MM = 2.0  # organ geometry is kept at about this spacing
LESION_VALUE = 255  # in maps of "other" structures: a lesion that was inserted before
FIRST_STRUCTURE = 11  # in maps of "other" structures: values from here on are structures that are not target organs
_MARGIN_VOXELS = 2


@dataclass
class OrganGeometry:
    """One organ on the coarse grid: ``depth_mm`` (z, y, x) inside the box that starts at coarse index ``offset``; 0 outside.

    ``sinus_mm`` (kidney): depth below the closed outline where the collecting system is; made by ``placement.sinus`` when first needed.
    ``extent_ras`` (2, 3): RAS mm between which nearly all of the organ lies; made when a sub-site is first asked for.
    """

    offset: np.ndarray
    depth_mm: np.ndarray
    volume_mm3: float
    largest_depth_mm: float
    sinus_mm: np.ndarray | None = None
    extent_ras: np.ndarray | None = None


@dataclass
class PreparedScan:
    """A CT with its organ map and everything that synthesis needs to know about them. Made by ``prepare_scan``.

    ``ct.array`` is int16 HU and is changed only by ``insert``. ``axes_ras`` (3, 3): rows are the RAS directions of the array's z, y, x axes.
    """

    ct: Volume
    organs: OrganMap
    phase: str
    phase_reason: str
    noise: NoiseModel
    edge_width_mm: float
    tissue_hu: dict[str, float]
    stride: np.ndarray
    geometry: dict[str, OrganGeometry]
    lesions: list = field(default_factory=list)

    @property
    def spacing(self) -> np.ndarray:
        """Voxel size (z, y, x) in mm."""
        return self.ct.spacing_zyx_mm

    @property
    def axes_ras(self) -> np.ndarray:
        """Rows: unit RAS vectors of the array axes z, y, x."""
        columns = self.ct.affine[:3, :3] / np.linalg.norm(self.ct.affine[:3, :3], axis=0)
        return columns.T[::-1]

    @property
    def patient_axes(self) -> tuple[int, int, int]:
        """The array axes closest to superior-inferior, right-left and anterior-posterior: the order of the paper's size Z×X×Y."""
        return patient_axes(self.ct.affine)

    def toward(self, ras: tuple[float, float, float]) -> np.ndarray:
        """A RAS direction as a (z, y, x) unit vector in scan axes."""
        vector = self.axes_ras @ np.asarray(ras, float)
        return vector / np.linalg.norm(vector)

    def organ_geometry(self, key: str) -> OrganGeometry:
        """Geometry of one organ; InputError when the organ map does not hold it."""
        if key not in self.geometry:
            present = ", ".join(self.geometry) or "none"
            raise InputError(
                f"the organ map has no {taxonomy.organ(key).name.lower()} (organs found: {present}); "
                "choose a lesion of another organ or another organ map"
            )
        return self.geometry[key]

    def reference(self, noise_sd_hu: float | None = None) -> ScanReference:
        """What measurements in this scan are judged against."""
        scale = 1.0 if noise_sd_hu is None else noise_sd_hu / self.noise.high_pass_sd_hu
        return ScanReference(
            edge_width_mm=self.edge_width_mm,
            noise_sd_hu=self.noise.high_pass_sd_hu * scale,
            smoothed_sd_hu=self.noise.smoothed_sd_hu * scale,
            tissue_hu=dict(self.tissue_hu),
        )

    def local_noise(self, centre: np.ndarray) -> float:
        """Noise around the index ``centre`` (z, y, x) relative to the whole scan: that of 70 x 70 mm in up to a dozen slices."""
        region = self.box(np.asarray(centre, float), np.array([20.0, 35.0, 35.0]))
        part = self.ct.array[region]
        return relative_noise(part[:: max(1, -(-part.shape[0] // 12))], self.spacing, self.noise)

    def box(self, centre: np.ndarray, half_mm: np.ndarray) -> tuple[slice, slice, slice]:
        """Slices around the continuous index ``centre`` (z, y, x), cut at the scan's border."""
        low = np.floor(centre - half_mm / self.spacing).astype(int)
        high = np.ceil(centre + half_mm / self.spacing).astype(int) + 1
        low, high = np.maximum(low, 0), np.minimum(high, self.ct.array.shape)
        return tuple(slice(int(a), int(max(b, a + 1))) for a, b in zip(low, high))

    def parent_and_others(
        self, region: tuple[slice, slice, slice], organ_key: str, at=None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The organ's mask (bool) and every other labelled thing (uint8) in ``region``.

        For bone only the one at the index ``at`` (z, y, x), where the map tells bones apart: a lesion does not cross a joint.

        Others: PASTA values 1-10 for organs, from 11 on for other structures, 255 for lesions inserted before.
        """
        labels = self.organs.labels.array[region]
        value = taxonomy.organ(organ_key).value
        parent = labels == value
        others = np.where(parent, 0, labels).astype(np.uint8)
        if self.organs.structures is not None:
            lut = self.structure_lut()
            extra = lut[self.organs.structures.array[region]]
            others = np.where((others == 0) & ~parent, extra, others)
            if organ_key == "bone" and at is not None:
                here = tuple(int(np.clip(round(c), 0, n - 1)) for c, n in zip(at, self.ct.array.shape))
                which = self.organs.structures.array[here]
                if self.organs.structure_names.get(int(which)) in taxonomy.organ("bone").classes:
                    parent &= self.organs.structures.array[region] == which
        for earlier in self.lesions:
            common = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(region, earlier.region)]
            if all(lo < hi for lo, hi in common):
                here = tuple(slice(lo - a.start, hi - a.start) for (lo, hi), a in zip(common, region))
                there = tuple(slice(lo - b.start, hi - b.start) for (lo, hi), b in zip(common, earlier.region))
                others[here][earlier.label[there]] = LESION_VALUE
                parent[here][earlier.label[there]] = False
        return parent, others

    def structure_lut(self) -> np.ndarray:
        """Structure value -> value in the map of others; classes that make up a target organ count as nothing here."""
        target = {name for organ in taxonomy.ORGANS for name in organ.classes}
        lut = np.zeros(256, np.uint8)
        for value, name in self.organs.structure_names.items():
            if name not in target:
                lut[value] = min(FIRST_STRUCTURE + value, 254)
        return lut

    def lesion_labels(self) -> np.ndarray:
        """uint8 (z, y, x) map of the inserted lesions with the values of the taxonomy (11-25); made on demand."""
        out = np.zeros(self.ct.array.shape, np.uint8)
        for item in self.lesions:
            out[item.region][item.label] = taxonomy.lesion(item.request.lesion).value
        return out


def prepare_scan(ct: Volume, organs: OrganMap, progress=None) -> PreparedScan:
    """Measure once what every lesion in this scan will need.

    ``ct`` int16 HU and ``organs`` share one grid (InputError otherwise). ``progress(fraction, text)`` is called between steps.
    """
    difference = same_grid(ct, organs.labels)
    if difference:
        raise InputError(
            f"CT and organ map lie on different grids ({difference}); resample the organ map to the CT first"
        )
    tell = progress or (lambda fraction, text: None)
    spacing = ct.spacing_zyx_mm
    stride = np.maximum(1, np.round(COARSE_MM / spacing).astype(int))
    step = tuple(slice(None, None, int(s)) for s in stride)
    tell(0.05, "reading organ geometry")
    coarse = organs.labels.array[step]
    if not coarse.any():
        raise InputError(
            "the organ map is empty; run `pasta organs` or choose a map with at least one of the ten organs"
        )
    coarse_ct = ct.array[step]
    geometry: dict[str, OrganGeometry] = {}
    tissue: dict[str, float] = {}
    boxes = ndimage.find_objects(coarse, max_label=len(taxonomy.ORGANS))
    for number, organ in enumerate(taxonomy.ORGANS):
        box = boxes[organ.value - 1]
        if box is None:
            continue
        box = tuple(slice(max(s.start - _MARGIN_VOXELS, 0), s.stop + _MARGIN_VOXELS) for s in box)
        mask = coarse[box] == organ.value
        geometry[organ.key] = _organ_geometry(mask, box, spacing * stride, border_is_surface=not organ.hollow)
        tissue[organ.key] = _deep_median(coarse_ct[box], geometry[organ.key].depth_mm)
        tell(0.05 + 0.06 * (number + 1), f"{organ.name.lower()} ready")
    body = _body_box(coarse_ct, stride, ct.array.shape)
    tell(0.7, "measuring noise and sharpness")
    noise = measure_noise(ct.array, spacing, body)
    width = reference_edge_width(ct.array, organs.labels.array, spacing)
    phase = contrast_phase(ct, organs)
    soft = coarse_ct[(coarse == 0) & (coarse_ct > 15) & (coarse_ct < 130)]
    tissue["soft_tissue"] = float(np.median(soft)) if soft.size > 50 else noise.soft_tissue_hu
    tissue["wall"] = tissue["soft_tissue"]
    tissue["bile"] = tissue.get("gallbladder", 8.0)
    tell(1.0, "scan ready")
    known = phase.phase in (taxonomy.ENHANCED, taxonomy.PLAIN)
    name, reason = (phase.phase, phase.reason) if known else (taxonomy.PLAIN, f"assumed plain: {phase.reason}")
    return PreparedScan(ct, organs, name, reason, noise, width, tissue, stride, geometry)


def _organ_geometry(
    mask: np.ndarray, box: tuple[slice, ...], spacing: np.ndarray, border_is_surface: bool
) -> OrganGeometry:
    """Depth below the organ's surface. A solid organ that is cut by the scan's border counts the cut as surface."""
    pad = 1 if border_is_surface else 0
    depth = interior_distance(np.pad(mask, pad), spacing)
    if pad:
        depth = np.ascontiguousarray(depth[1:-1, 1:-1, 1:-1])
    return OrganGeometry(
        np.array([s.start for s in box]), depth, float(mask.sum() * np.prod(spacing)), float(depth.max())
    )


def _deep_median(hu: np.ndarray, depth: np.ndarray) -> float:
    """Median HU of the organ away from its surface; in parenchyma without the fat between its lobules."""
    limit = min(4.0, 0.5 * float(depth.max()))
    values = hu[depth >= max(limit, 1e-3)]
    lean = values[values > FAT_HU]
    return float(np.median(lean if lean.size > 0.5 * values.size else values))


def _body_box(coarse_ct: np.ndarray, stride: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, slice, slice]:
    """Box around everything denser than fat, in scan indices."""
    dense = coarse_ct > -150
    slices = []
    for axis in range(3):
        share = dense.mean(axis=tuple(i for i in range(3) if i != axis))
        index = np.flatnonzero(share > 0.02)
        low, high = (index[0], index[-1] + 1) if index.size else (0, dense.shape[axis])
        slices.append(slice(int(low * stride[axis]), int(min(high * stride[axis], shape[axis]))))
    return tuple(slices)
