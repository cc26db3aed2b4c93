"""Section study_view: a reader study in the host: key press → next image drawn, and the longest freeze, with cases of 280 × 280 × 280 voxels."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from .options import Options
from .slicer import VIEWS, _why_not
from .tables import Check, Section, quantile, table

SIZE, CASES = 280, 20
SHOWN_S, FREEZE_MS = 0.5, 100.0
THINK_S = 1.0  # a reader who looks for one second only: the next case must be there by then


def run(options: Options) -> Section:
    """Rates cases by keys. A software renderer draws the views, in the event loop; its time counts."""
    missing = _why_not()
    if missing:
        return Section("study_view: left out", [missing])
    count = min(CASES, options.cases or CASES)
    section = Section(f"study_view: cases of {SIZE}³ voxels, {VIEWS[0]} × {VIEWS[1]} pixels per view")
    with tempfile.TemporaryDirectory() as folder:
        looked, hurried, cold, gaps = _read(_study(Path(folder), 2 * count + 2), count)
    rows = [
        (name, len(times), 1e3 * quantile(times, 0.5), 1e3 * quantile(times, 0.95), 1e3 * max(times))
        for name, times in (
            (f"after a look of {THINK_S:g} s", looked),
            ("without a look: key after key", hurried),
            ("first case, not read yet", cold),
        )
    ]
    section.text.append(
        table(("key press → image drawn in three views", "n", "median, ms", "p95, ms", "longest, ms"), rows)
    )
    section.checks += [
        Check("key press → next image, longest", max(looked), 0, SHOWN_S, "s", len(looked)),
        Check("key after key → next image, longest", max(hurried), 0, SHOWN_S, "s", len(hurried)),
        Check("longest freeze while cases are rated and read ahead", max(gaps), 0, FREEZE_MS, "ms", len(gaps)),
    ]
    section.data.update(looked_s=looked, hurried_s=hurried, cold_s=cold, gaps_ms=gaps)
    return section


def _study(folder: Path, cases: int) -> Path:
    """A study of ``cases`` cases of SIZE³ voxels of noise, made without pools: what is measured is how they are shown."""
    from PASTALib.study.create import public_design, write_public
    from PASTALib.study.design import Design
    from PASTALib.study.export import ExportGrid, write_nrrd
    from PASTALib.study.package import CASES, REALISM, STUDY

    grid = ExportGrid((SIZE,) * 3, (1.0,) * 3)
    design = Design("bench", "Bench", {"liver_tumor": cases}, readers=("reader",), grid=grid)
    (folder / CASES).mkdir()
    voxels = np.random.default_rng(0).normal(50, 20, grid.shape_zyx).astype("<i2")
    names = [f"c{number:08x}" for number in range(cases)]
    for number, name in enumerate(names):
        write_nrrd(np.roll(voxels, number, axis=0), grid, folder / CASES / f"{name}.nrrd")
    place = {"lesion_type": "liver_tumor", "pointer_ras": [0.0, 0.0, 0.0], "extent_mm": [70.0] * 3}
    about = dict.fromkeys(names, place)
    order = {"reader": [[name, REALISM, 1, 0, 0] for name in names]}
    write_public(folder / STUDY, public_design("bench", design, about, [], order))
    return folder


def _read(folder: Path, count: int) -> tuple[list[float], list[float], list[float], list[float]]:
    """Seconds from the key to the drawn image, after a look and without one; of the first case; and the event loop's gaps in ms."""
    import slicer

    from Testing.gui.study_support import ROOT, Hand
    from Testing.slicerhost import boot_gui, reset_scene

    boot_gui()
    from PASTALib.gui import study_reading
    from Testing.slicerhost.event_loop import EventLoopWatch
    from Testing.slicerhost.layout import Layout
    from Testing.slicerhost.panel import open_module

    reset_scene()
    layout, bounce = Layout.get(VIEWS), study_reading.BOUNCE_S
    study_reading.BOUNCE_S = 0.0
    looked, hurried, gaps = [], [], []
    with open_module(ROOT / "PASTAStudy", "PASTAStudy") as module, layout.live() as live:
        hand = Hand(module)

        def timed(key: str) -> float:
            frames, begun = live.frames, time.perf_counter()
            before = hand.session.item.item if hand.reading.rating else None
            hand.key(key)
            module.wait_until(lambda: hand.reading.rating and hand.session.item.item != before)
            module.wait_until(lambda: live.frames >= frames + len(layout.slices))
            return time.perf_counter() - begun

        hand.log_in(folder, "reader")
        hand.reading.cases.forget()
        cold = [timed("Return")]
        for think, times in ((THINK_S, looked), (0.0, hurried)):
            for _case in range(count):
                with EventLoopWatch() as watch:
                    until = time.perf_counter() + think
                    watch.until(lambda until=until: time.perf_counter() >= until)
                    times.append(timed("3"))
                    watch.step()
                gaps.append(watch.longest_ms)
        slicer.app.processEvents()
    study_reading.BOUNCE_S = bounce
    reset_scene()
    return looked, hurried, cold, gaps
