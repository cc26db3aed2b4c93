"""What every case is: its template, its seeds, its name. A pure function of the run's seed, the lesion type and the case's number."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

import PASTALib
from PASTALib import taxonomy
from PASTALib.errors import InputError

from .manifest import canonical_json
from .templates import Template

TEMPLATES_PER_CASE = 3  # where its own template has no room for the lesion, two others are tried
_DIGITS = 6


@dataclass(frozen=True)
class Settings:
    """What determines the bytes of every case, beside its type and number.

    ``spacing_mm`` 0: each scan's own grid. ``cube`` 0: whole scans, else voxels per side of the box that is kept around the lesion.
    ``multiple``: as many lesions per case as the priors say, else one. ``attempts``: seeds tried per case before it is given up.
    """

    seed: int
    spacing_mm: float = 0.0
    cube: int = 0
    multiple: bool = False
    attempts: int = 9


@dataclass(frozen=True)
class CasePlan:
    """One case to make. ``id`` is its folder below the output folder; ``key`` changes whenever its bytes would."""

    id: str
    lesion: str
    number: int
    key: str
    templates: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """Cases that a worker makes one after the other in (mostly) one template."""

    template: str
    cases: tuple[CasePlan, ...]


def seed_of(settings: Settings, lesion: str, number: int, attempt: int, part: int = 0) -> int:
    """Seed of one attempt at one lesion; ``part`` counts the lesions of a case with several."""
    entropy = [settings.seed, taxonomy.lesion(lesion).value, number, attempt, part]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint32)[0])


def folder_of(lesion: str, number: int) -> str:
    """Place of a case below the output folder, as in the published set: ``<Organ>/<Type>/<number>``."""
    item = taxonomy.lesion(lesion)
    return f"{taxonomy.organ(item.organ).folder}/{item.folder}/{number:0{_DIGITS}d}"


class Plan:
    """All cases of a run that could be asked for, given the judged templates (in the table's order)."""

    def __init__(self, settings: Settings, templates: Sequence[Template]):
        self.settings = settings
        self.templates = {template.id: template for template in templates}
        self._usable = {
            lesion: [template.id for template in templates if template.usable(lesion)]
            for lesion in taxonomy.LESION_KEYS
        }

    def case(self, lesion: str, number: int) -> CasePlan:
        """Case ``number`` (from 0) of a type. Templates are dealt like shuffled cards: each is used once before any is used again.

        InputError for a type that no template may carry.
        """
        usable = self._usable[lesion]
        if not usable:
            raise InputError(f"{lesion}: no template scan may carry it")
        deal, at = divmod(number, len(usable))
        rng = np.random.default_rng([self.settings.seed, taxonomy.lesion(lesion).value, deal])
        order = rng.permutation(len(usable))
        chosen = tuple(usable[order[(at + step) % len(usable)]] for step in range(min(TEMPLATES_PER_CASE, len(usable))))
        content = {
            "version": PASTALib.__version__,
            "settings": vars(self.settings),
            "lesion": lesion,
            "number": number,
            "templates": [self.templates[name].fingerprint for name in chosen],
        }
        key = hashlib.sha256(canonical_json(content).encode()).hexdigest()[:32]
        return CasePlan(folder_of(lesion, number), lesion, number, key, chosen)

    def cases(self, types: Iterable[str], per_type: int) -> list[CasePlan]:
        """The first ``per_type`` cases of each type."""
        return [self.case(lesion, number) for lesion in types for number in range(per_type)]

    def voxels(self, case: CasePlan) -> int:
        """Voxels that the case will have."""
        if self.settings.cube:
            return self.settings.cube**3
        return self.templates[case.templates[0]].voxels(self.settings.spacing_mm)


def jobs_of(cases: Sequence[CasePlan], workers: int, largest: int = 8) -> list[Job]:
    """Cases grouped by template, so that each is read seldom, in pieces small enough to keep all workers busy to the end."""
    by_template: dict[str, list[CasePlan]] = defaultdict(list)
    for case in cases:
        by_template[case.templates[0]].append(case)
    size = int(np.clip(len(cases) // (32 * max(workers, 1)), 1, largest))
    return [
        Job(template, tuple(group[start : start + size]))
        for template, group in by_template.items()
        for start in range(0, len(group), size)
    ]
