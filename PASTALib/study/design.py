"""The design of a study: how many cases of which type, who reads, how often, in which order; and what that costs the readers."""

from __future__ import annotations

import math
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .. import taxonomy
from ..errors import InputError
from .export import ExportGrid
from .package import DESCRIPTION, REALISM, check_reader_name
from .pools import REAL, SYNTHETIC, PoolCase

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PRESETS_FILE = Path(__file__).with_name("presets.toml")
SECONDS_REALISM, SECONDS_DESCRIPTION = 20.0, 45.0  # per reading; ours, for planning only
SD_SCORE = 0.8  # of one reader's realism scores within a class, for planning only; a pilot study tells your own
PRACTICE = "practice"


@dataclass
class Design:
    """A study before its cases are drawn.

    ``realism`` and ``description``: number of cases by lesion type; realism counts each class, so n real and n synthetic ones.
    ``practice``: pairs (real and synthetic) at the beginning that are analysed separately. ``repeats``: realism cases that every reader
    reads a second time. ``sessions``: sittings with at least ``washout_days`` between them; with several, second readings come in a later
    one. ``grid``: what every case is exported to.
    """

    name: str
    title: str
    realism: dict[str, int]
    description: dict[str, int] = field(default_factory=dict)
    practice: int = 0
    repeats: int = 0
    sessions: int = 1
    washout_days: float = 0.0
    readers: tuple[str, ...] = ("reader1",)
    grid: ExportGrid = field(default_factory=lambda: ExportGrid((128, 256, 256), (1.0, 1.0, 1.0)))

    def __post_init__(self) -> None:
        for kind, number in [*self.realism.items(), *self.description.items()]:
            if kind not in taxonomy.LESION_KEYS:
                raise InputError(f"lesion type {kind!r} is not known; use one of {', '.join(taxonomy.LESION_KEYS)}")
            _whole(number, f"cases of {kind}", 0, 10_000)
        _whole(self.practice, "practice pairs", 0, 100)
        _whole(self.repeats, "repeats", 0, 10_000)
        _whole(self.sessions, "sessions", 1, 20)
        if not (math.isfinite(self.washout_days) and 0 <= self.washout_days <= 365):
            raise InputError(f"washout of {self.washout_days} days; give 0 to 365")
        for reader in self.readers:
            check_reader_name(reader)
        if not self.readers:
            raise InputError("a study needs at least one reader; name them with --readers")
        if len({reader.lower() for reader in self.readers}) < len(self.readers):
            raise InputError(
                f"readers {', '.join(self.readers)}: two have the same name; give each reader a name of their own"
            )
        main = 2 * sum(self.realism.values())
        if not main and not sum(self.description.values()):
            raise InputError("the design holds no case; give --per-type, --count TYPE=N or --description")
        if self.sessions > max(1, main):
            raise InputError(f"{self.sessions} sessions for {main} cases; give fewer sessions")
        early = main - main // self.sessions if self.sessions > 1 else main
        if self.repeats > early:
            raise InputError(
                f"{self.repeats} repeats, but only {early} realism cases come early enough to be read again; give fewer"
            )

    @property
    def items_per_reader(self) -> dict[str, int]:
        """Readings of one reader by part."""
        return {
            PRACTICE: 2 * self.practice,
            REALISM: 2 * sum(self.realism.values()),
            "repeats": self.repeats,
            DESCRIPTION: sum(self.description.values()),
        }

    @property
    def case_count(self) -> int:
        """Exported cases."""
        return sum(self.items_per_reader.values()) - self.repeats


def load_presets() -> dict:
    """The contents of presets.toml."""
    return tomllib.loads(PRESETS_FILE.read_text(encoding="utf-8"))


def preset_design(
    preset: str,
    types: Iterable[str],
    *,
    name: str = "study",
    title: str | None = None,
    readers: Iterable[str] | None = None,
    only: Iterable[str] | None = None,
    per_type: int | None = None,
    counts: Mapping[str, int] | None = None,
    **changes,
) -> Design:
    """A design from a preset of presets.toml, changed where asked.

    types: lesion types that are there; a preset with one number for all types gives it to each of them, the paper's lists its own.
    only: leave out every other type. per_type, counts: other numbers of realism cases, for all types or for single ones.
    changes: other fields of the preset (None: as it is); ``description`` is a number per type.
    """
    presets = load_presets()["presets"]
    if preset not in presets:
        raise InputError(f"preset {preset!r} is not known; use one of {', '.join(presets)}")
    data = dict(presets[preset])
    data |= {key: value for key, value in changes.items() if value is not None}
    numbers = data["realism"]
    realism = dict(numbers) if isinstance(numbers, dict) else dict.fromkeys(types, numbers)
    if only is not None:
        realism = {kind: realism.get(kind, 0) for kind in only}
    if per_type is not None:
        realism = dict.fromkeys(realism, per_type)
    realism |= counts or {}
    description = {kind: data["description"] for kind in realism if data["description"]}
    realism = {kind: number for kind, number in realism.items() if number}
    if readers is None:
        readers = [f"reader{number}" for number in range(1, data["readers"] + 1)]
    fewer = _at_most(realism, data, changes)
    return Design(
        name, title or name, realism, description, data["practice"], fewer, data["sessions"], float(data["washout_days"]),
        tuple(readers), ExportGrid(tuple(data["shape_zyx"]), tuple(map(float, data["spacing_mm"]))),
    )  # fmt: skip


def _at_most(realism: Mapping[str, int], data: dict, changes: dict) -> int:
    """The preset's repeats, fewer where a small study has no room for them; what was asked for stays and is checked by ``Design``."""
    main = 2 * sum(realism.values())
    return data["repeats"] if changes.get("repeats") is not None else min(data["repeats"], main // 2)


@dataclass(frozen=True)
class Selection:
    """Cases drawn for a study: (role, case) with role "realism", "description" or "practice"."""

    cases: list[tuple[str, PoolCase]]


def draw_cases(design: Design, real: list[PoolCase], synthetic: list[PoolCase], seed: int) -> Selection:
    """Draw what the design needs from the pools; no case is used twice.

    Raises InputError that lists every type of which a pool holds too few.
    """
    by_class = {REAL: _by_type(real), SYNTHETIC: _by_type(synthetic)}
    practice = _practice_types(design, seed)
    need = {
        truth: Counter(design.realism) + practice + (Counter(design.description) if truth == SYNTHETIC else Counter())
        for truth in by_class
    }
    short = [
        f"{truth} {kind}: {len(by_class[truth][kind])} of {number}"
        for truth in by_class
        for kind, number in sorted(need[truth].items())
        if len(by_class[truth][kind]) < number
    ]
    if short:
        raise InputError(
            f"the pools hold too few cases ({'; '.join(short)}); add cases or lower --per-type, --count, --description or --practice"
        )
    chosen: list[tuple[str, PoolCase]] = []
    for order, truth in enumerate(by_class):
        for kind in sorted(need[truth]):
            rng = np.random.default_rng([seed, 1, order, taxonomy.LESION_KEYS.index(kind)])
            pool = [by_class[truth][kind][place] for place in rng.permutation(len(by_class[truth][kind]))]
            for role, number in ((REALISM, design.realism.get(kind, 0)), (PRACTICE, practice[kind])):
                chosen += [(role, pool.pop()) for _ in range(number)]
            if truth == SYNTHETIC:
                chosen += [(DESCRIPTION, pool.pop()) for _ in range(design.description.get(kind, 0))]
    return Selection(chosen)


def _by_type(pool: list[PoolCase]) -> dict[str, list[PoolCase]]:
    result: dict[str, list[PoolCase]] = defaultdict(list)
    for case in pool:
        result[case.lesion_type].append(case)
    return result


def _practice_types(design: Design, seed: int) -> Counter:
    """The types of the practice pairs, spread over the types of the realism part."""
    types = sorted(design.realism)
    if not types:
        return Counter()
    order = np.random.default_rng([seed, 2]).permutation(len(types))
    return Counter(types[order[number % len(types)]] for number in range(design.practice))


def reader_order(ids: Mapping[str, Iterable[str]], design: Design, seed: int, reader: int) -> list[list]:
    """The sequence of one reader: rows [case id, part, session, practice, repeat].

    ids: opaque ids by role. Practice comes first; realism cases follow in random order, spread over the sessions; then, at the end of the last
    session, the description part, because its reports would tell what synthetic cases look like. Repeats are drawn at random and come in a
    later session than the first reading; with one session in its second half, at least a quarter of the part later.

    The order is drawn over the sorted random ids, so that it holds nothing about truth even for somebody who guesses the seed.
    """
    rng = np.random.default_rng([seed, 3, reader])

    def shuffled(role: str) -> list[str]:
        sorted_ids = sorted(ids.get(role, ()))
        return [sorted_ids[place] for place in rng.permutation(len(sorted_ids))]

    rows = [[case, REALISM, 1, 1, 0] for case in shuffled(PRACTICE)]
    main = [list(part) for part in np.array_split(np.array(shuffled(REALISM), object), design.sessions)]
    sequences = [[(case, 0) for case in part] for part in main]
    if design.repeats:
        _insert_repeats(sequences, main, design.repeats, rng)
    for session, sequence in enumerate(sequences, 1):
        rows += [[case, REALISM, session, 0, repeat] for case, repeat in sequence]
    return rows + [[case, DESCRIPTION, design.sessions, 0, 0] for case in shuffled(DESCRIPTION)]


def _insert_repeats(sequences: list[list], main: list[list[str]], repeats: int, rng: np.random.Generator) -> None:
    if len(sequences) == 1:
        sequence = sequences[0]
        count = len(sequence)
        # first those read early, so that the second reading is as far away as can be
        early = max(repeats, count // 2)
        for place in sorted(rng.choice(early, repeats, replace=False)):
            case = main[0][place]
            first = next(at for at, row in enumerate(sequence) if row == (case, 0))
            low = min(len(sequence), max(first + 1 + count // 4, count // 2))
            sequence.insert(int(rng.integers(low, len(sequence) + 1)), (case, 1))
        return
    early = [(case, session) for session, part in enumerate(main[:-1]) for case in part]
    for place in sorted(rng.choice(len(early), repeats, replace=False)):
        case, session = early[place]
        later = sequences[int(rng.integers(session + 1, len(sequences)))]
        later.insert(int(rng.integers(0, len(later) + 1)), (case, 1))


def plan(design: Design) -> dict:
    """What a design asks of readers and disk, and how precise it is.

    Keys: readings_per_reader (and by part), hours_per_reader (at 20 s per realism and 45 s per description case), cases, disk_gb,
    ci_half_width (half the 95 % interval of the difference between the mean scores of real and synthetic cases, for a standard deviation
    of 0.8 and cases as the only source of chance; readers that differ widen it: ``pasta study simulate`` gives the power).
    """
    parts = design.items_per_reader
    seconds = (
        SECONDS_REALISM * (parts[PRACTICE] + parts[REALISM] + parts["repeats"])
        + SECONDS_DESCRIPTION * parts[DESCRIPTION]
    )
    numbers = [number for number in design.realism.values() if number]
    width = {"all": _half_width(sum(numbers))} if numbers else {}
    if len(numbers) > 1:
        width |= {"smallest type": _half_width(min(numbers)), "largest type": _half_width(max(numbers))}
    return {
        "readers": len(design.readers),
        "cases": design.case_count,
        "readings_per_reader": sum(parts.values()),
        "by_part": parts,
        "readings": len(design.readers) * sum(parts.values()),
        "hours_per_reader": round(seconds / 3600, 2),
        "sessions": design.sessions,
        "washout_days": design.washout_days,
        "bytes_per_case": design.grid.bytes_per_case,
        "disk_gb": round(design.case_count * design.grid.bytes_per_case / 1e9, 3),
        "ci_half_width": width,
    }


def _half_width(cases_per_class: int) -> float:
    return round(1.96 * SD_SCORE * math.sqrt(2 / cases_per_class), 3)


def _whole(value: int, what: str, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{what}: {value!r}; give a whole number from {low} to {high}")
