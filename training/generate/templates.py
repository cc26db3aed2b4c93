"""Which scan may carry which lesion type (the paper's section 1.4), judged once per scan and remembered; generated torsos as stand-ins."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import PASTALib
from PASTALib import taxonomy
from PASTALib.errors import InputError
from PASTALib.organs import OrganMap, read_organs
from PASTALib.synthesis.scan import PreparedScan, prepare_scan
from PASTALib.templates import OTHER, THORAX_ABDOMEN_PELVIS, check_template, contrast_phase, scan_range
from PASTALib.volume import Volume, read_volume, to_canonical

from .table import Row

RULES = ("literal", "negation-aware")
CSV = "templates.csv"
# Voxel size along (z, y, x) relative to what was asked for, in turn, so that slices are thick and thin; and noise in HU.
_PHANTOM_GRIDS = ((1.0, 1.0, 1.0), (1.5, 1.0, 1.0), (2.0, 0.9, 0.9), (1.0, 1.2, 1.2))
_PHANTOM_NOISE_HU = (8.0, 16.0)


@dataclass(frozen=True)
class PhantomSpec:
    """A generated torso: ``make_phantom``'s arguments."""

    seed: int
    phase: str
    spacing_zyx_mm: tuple[float, float, float]
    noise_hu: float


@dataclass(frozen=True)
class Template:
    """A scan that has been judged: from the table (``row``) or generated (``phantom``).

    ``reasons``: per lesion type why it must not carry one, empty where it may. ``fingerprint`` covers voxels, organ labels and grid.
    """

    id: str
    patient: str
    fingerprint: str
    phase: str
    study: str
    shape_zyx: tuple[int, int, int]
    spacing_zyx_mm: tuple[float, float, float]
    reasons: Mapping[str, tuple[str, ...]]
    row: Row | None = None
    phantom: PhantomSpec | None = None

    def usable(self, lesion: str) -> bool:
        """Whether it may carry this lesion type."""
        return not self.reasons[lesion]

    def voxels(self, spacing_mm: float) -> int:
        """Voxels of the scan, or of what it becomes at ``spacing_mm`` (0: its own)."""
        scale = [s / spacing_mm if spacing_mm else 1.0 for s in self.spacing_zyx_mm]
        return int(np.prod([round((n - 1) * f) + 1 for n, f in zip(self.shape_zyx, scale)]))


# --- scans of a table ------------------------------------------------------------------------------------------------


def screen(row: Row, rule: str, any_range: bool) -> dict:
    """Judge one scan; runs on a worker. The result is plain JSON; a scan that cannot be used at all has a ``problem``."""
    found = {"id": row.id, "stamp": stamp(row), "rule": rule, "any_range": any_range}
    try:
        ct, organs = read_scan(row)
    except InputError as error:
        return found | {"problem": str(error)}
    study = scan_range(organs)
    general = [study.reason] if study.study == OTHER and not any_range else []
    return found | {
        "problem": None,
        "fingerprint": fingerprint(ct, organs),
        "phase": contrast_phase(ct, organs).phase,
        "study": study.study,
        "shape_zyx": list(ct.array.shape),
        "spacing_zyx_mm": [float(f"{value:.6g}") for value in ct.spacing_zyx_mm],
        "reasons": {key: general + check_template(ct, organs, key, row.report, rule) for key in taxonomy.LESION_KEYS},
    }


def still_valid(found: Mapping, row: Row, rule: str, any_range: bool) -> bool:
    """Whether an earlier judgement stands: same rule, files untouched."""
    return (found["rule"], found["any_range"]) == (rule, any_range) and found["stamp"] == stamp(row)


def stamp(row: Row) -> str:
    """Changes when the table's entry, a file, or the contents of a folder does (names, sizes, times of change)."""
    parts = [f"{row.organ_scheme}|{row.report}"]
    for path in (Path(row.ct), Path(row.organs)):
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        for file in files:
            try:
                status = file.stat()
            except OSError:
                continue
            parts.append(f"{file.name}|{status.st_size}|{status.st_mtime_ns}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def read_scan(row: Row) -> tuple[Volume, OrganMap]:
    """CT and organ map of a row; InputError as their readers raise it."""
    ct = read_volume(row.ct, "ct")
    return ct, read_organs(row.organs, row.organ_scheme, ct)


def fingerprint(ct: Volume, organs: OrganMap) -> str:
    """SHA-256 over HU, organ labels and grid."""
    sums = hashlib.sha256(np.round(np.asarray(ct.affine, float), 4).tobytes())
    parts = [ct.array, organs.labels.array] + ([organs.structures.array] if organs.structures is not None else [])
    for array in parts:
        sums.update(repr((array.shape, array.dtype.str)).encode())
        sums.update(np.ascontiguousarray(array).data)
    return sums.hexdigest()


def from_screening(row: Row, found: Mapping) -> Template | None:
    """The template that a judgement describes, None for a scan with a problem."""
    if found["problem"] is not None:
        return None
    return Template(
        row.id,
        row.patient,
        found["fingerprint"],
        found["phase"],
        found["study"],
        tuple(found["shape_zyx"]),
        tuple(found["spacing_zyx_mm"]),
        {key: tuple(found["reasons"][key]) for key in taxonomy.LESION_KEYS},
        row=row,
    )


def identity(template: Template) -> str:
    """Short fingerprint of a template: its voxels and what it may carry."""
    usable = [lesion for lesion in template.reasons if template.usable(lesion)]
    return hashlib.sha256(f"{template.fingerprint} {usable}".encode()).hexdigest()[:16]


def write_csv(path: Path, rows: Sequence[Row], screened: Mapping[str, Mapping], templates: Iterable[Template]) -> None:
    """Every scan and type with the verdict and its reasons."""
    by_id = {template.id: template for template in templates}
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(("id", "patient", "type", "usable", "phase", "study", "reasons"))
    for row in rows:
        if row.id not in by_id:
            writer.writerow((row.id, row.patient, "", "no", "", "", screened[row.id]["problem"]))
    for template in by_id.values():
        for lesion, reasons in template.reasons.items():
            verdict = "no" if reasons else "yes"
            line = (template.id, template.patient, lesion, verdict, template.phase, template.study, "; ".join(reasons))
            writer.writerow(line)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text.getvalue(), encoding="utf-8", newline="")
    os.replace(temporary, path)


def require_usable(templates: Sequence[Template], types: Sequence[str], where: str) -> None:
    """InputError with one line when wanted types have no template, with a reason as example."""
    missing = [lesion for lesion in types if not any(template.usable(lesion) for template in templates)]
    if missing:
        reasons = [reason for template in templates for reason in template.reasons[missing[0]]]
        example = f", for example: {reasons[0]}" if reasons else ""
        raise InputError(
            f"{', '.join(missing)}: none of the {len(templates)} scans may carry {'it' if len(missing) == 1 else 'them'}{example} "
            f"({where} has every reason); add scans, leave the type out with --types, or use --phantom MM"
        )


# --- generated torsos ------------------------------------------------------------------------------------------------


def phantom_templates(spacing_mm: float, per_phase: int, seed: int) -> list[Template]:
    """Generated torsos in both phases, each with its own anatomy, grid (about ``spacing_mm``) and noise; a pure function of its arguments."""
    from PASTALib.phantom.build import FIELD_XY_MM, REGIONS

    low, high = REGIONS["torso"]
    templates = []
    for phase in (taxonomy.ENHANCED, taxonomy.PLAIN):
        for number in range(per_phase):
            rng = np.random.default_rng([seed, phase == taxonomy.PLAIN, number])
            grid = _PHANTOM_GRIDS[number % len(_PHANTOM_GRIDS)]
            spacing = tuple(float(np.clip(round(spacing_mm * factor, 3), 0.3, 10.0)) for factor in grid)
            noise = round(float(rng.uniform(*_PHANTOM_NOISE_HU)), 1)
            spec = PhantomSpec(int(rng.integers(1, 2**31)), phase, spacing, noise)
            reasons = {
                item.key: () if phase in item.phases else (f"{item.name} needs {' or '.join(item.phases)}",)
                for item in taxonomy.LESIONS
            }
            name = f"phantom-{'enhanced' if phase == taxonomy.ENHANCED else 'plain'}-{number:02d}"
            print_ = hashlib.sha256(f"{spec} {PASTALib.__version__}".encode()).hexdigest()
            extent = (high - low, FIELD_XY_MM[1], FIELD_XY_MM[0])
            shape = tuple(max(1, round(e / s)) for e, s in zip(extent, spacing))
            templates.append(
                Template(name, name, print_, phase, THORAX_ABDOMEN_PELVIS, shape, spacing, reasons, phantom=spec)
            )
    return templates


# --- loading ---------------------------------------------------------------------------------------------------------


def load(template: Template, spacing_mm: float) -> PreparedScan:
    """Read or generate a template and make it ready for lesions, resampled to ``spacing_mm`` first (0: on its own grid).

    InputError when the files no longer hold what was judged.
    """
    if template.phantom is not None:
        from PASTALib.phantom import make_phantom

        spec = template.phantom
        made = make_phantom(spec.spacing_zyx_mm, spec.phase, spec.seed, spec.noise_hu, workers=1)
        ct, organs = made.ct, made.organs
    else:
        ct, organs = read_scan(template.row)
        if fingerprint(ct, organs) != template.fingerprint:
            raise InputError(
                f"{template.row.ct} or its organ map has changed since it was judged; begin anew in another folder"
            )
    if spacing_mm:
        ct, organs = _resampled(ct, organs, spacing_mm)
    return prepare_scan(ct, organs)


def _resampled(ct: Volume, organs: OrganMap, spacing_mm: float) -> tuple[Volume, OrganMap]:
    """Canonical axes (right to left, anterior to posterior, inferior to superior) at ``spacing_mm``, as the paper reformats its templates."""
    image = to_canonical(ct, spacing_mm, "ct").volume
    labels = to_canonical(organs.labels, spacing_mm, "labels").volume
    structures, names = None, {}
    if organs.structures is not None:
        structures = to_canonical(organs.structures, spacing_mm, "labels").volume
        present = set(np.flatnonzero(np.bincount(structures.array.ravel(), minlength=256)).tolist())
        names = {value: name for value, name in organs.structure_names.items() if value in present}
    return image, OrganMap(labels, structures, names, organs.scheme, list(organs.notes))
