"""Section slicer: PASTA Synth in the host: preview after a control moves, longest freeze of a session, cancel, and what repeated work leaves behind."""

from __future__ import annotations

import gc
import importlib.util
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from PASTALib.organs import OrganMap
from PASTALib.volume import Volume

from .hosts import ROOT, large_host, load_volumes, phantom_host
from .options import Options
from .tables import Check, Section, quantile, table

SLIDES, CYCLES, WARM_UP = 20, 50, 5
SIZE_MM = 30.0
PREVIEW_MS, FREEZE_MS, CANCEL_S, GROWTH = 120.0, 100.0, 1.0, 0.05
VIEWS = (320, 320)  # pixels; drawn by a software renderer


def run(options: Options) -> Section:
    """A user's session through the widgets. Views are rendered by the event loop and count; a software renderer draws them."""
    host = large_host(options.out) if options.large else phantom_host(options.out, options.phantom_mm)
    missing = _why_not()
    if missing:
        return Section("slicer: left out", [missing])
    ct, organs = load_volumes(host)
    section = Section(f"slicer: PASTA Synth in a {'×'.join(str(n) for n in ct.array.shape[::-1])} scan")
    session = _Session(ct, organs)
    try:
        _freezes(section, session)
        _previews(section, session, SLIDES if options.cases is None else options.cases)
        _cancels(section, session)
        _cycles(section, session, CYCLES if options.cases is None else max(WARM_UP, options.cases))
    finally:
        session.close()
    return section


def _why_not() -> str:
    for module, wheel in (("slicer", "slicer-core"), ("PySide6", "PySide6_Essentials")):
        if importlib.util.find_spec(module) is None:
            return f"{wheel} is not installed (pip install {wheel})"
    from Testing.slicerhost.system import missing_line

    return missing_line()


class _Session:
    """The opened module with a scan in it, and the clock."""

    def __init__(self, ct: Volume, organs: OrganMap):
        from Testing.slicerhost import boot_gui, reset_scene

        boot_gui()
        from Testing.gui.synth_support import Hand, add_nodes, deep_indices
        from Testing.slicerhost.layout import Layout
        from Testing.slicerhost.panel import open_module

        reset_scene()
        self.layout = Layout.get(VIEWS)
        self.nodes = add_nodes(ct, organs)
        self.hand = Hand(open_module(ROOT / "PASTASynth", "PASTASynth", size=(400, 1200)), self.layout)
        self.hand.parameters.refine = False
        self.deep = deep_indices(organs, "liver")
        self.gaps: dict[str, float] = {}

    def close(self) -> None:
        """Close the module and the scene."""
        from Testing.slicerhost import reset_scene

        self.hand.module.close()
        reset_scene()

    def do(self, name: str, action: Callable[[], object]) -> None:
        """Do something, wait until all is drawn, and keep the longest time in which no event was handled."""
        from Testing.slicerhost.event_loop import EventLoopWatch

        with self.layout.live(), EventLoopWatch() as watch:
            action()
            for _turn in range(5):
                watch.step()
        self.gaps[name] = max(self.gaps.get(name, 0.0), watch.longest_ms)

    def click(self, number: int = 0) -> None:
        """Place a lesion in the liver and wait for it."""
        from Testing.gui.synth_support import one_of

        self.hand.click("Red", self.hand.world_of(one_of(self.deep, number)))


def _freezes(section: Section, session: _Session) -> None:
    hand = session.hand
    module, ui = hand.module, hand.ui
    hand.layout.jump_to((0.0, 0.0, 0.0))
    session.do("start", lambda: hand.start(*session.nodes))
    hand.give_size(SIZE_MM)
    session.do("place a liver tumor by a click", session.click)
    session.do("another one like this", lambda: (module.press(ui.anotherButton), hand.settle()))
    session.do("density by HU", lambda: (module.choose(ui.densityBox, "by HU difference"), hand.settle()))
    session.do("mass effect", lambda: (setattr(ui.massEffectSlider, "value", 3.0), hand.settle()))
    session.do("size", lambda: (setattr(ui.sizeZBox, "value", 40.0), hand.settle()))
    session.do("show before", lambda: module.press(ui.beforeButton))
    session.do("show after", lambda: module.press(ui.beforeButton))
    session.do("accept", lambda: module.press_keys("Ctrl+Return"))
    session.do("place a second", lambda: session.click(4))
    session.do("accept", lambda: module.press_keys("Ctrl+Return"))
    for _undo in range(2):
        session.do("undo", lambda: module.press_keys("Ctrl+Z"))
    session.do("redo", lambda: module.press_keys("Ctrl+Shift+Z"))
    session.do("undo", lambda: module.press_keys("Ctrl+Z"))
    worst = max(session.gaps, key=session.gaps.get)
    section.text.append(table(("in a session", "longest time without events, ms"), list(session.gaps.items())))
    section.checks.append(
        Check(f"longest freeze of a session ({worst})", session.gaps[worst], 0, FREEZE_MS, "ms", len(session.gaps))
    )
    section.data["gaps_ms"] = dict(session.gaps)


def _previews(section: Section, session: _Session, count: int) -> None:
    """From a slider's change to the moment at which the draft, and then the lesion, is drawn in all three views."""
    hand, ui = session.hand, session.hand.ui
    hand.give_size(SIZE_MM)
    session.click()
    if ui.densityDeltaSlider.isHidden():
        hand.module.choose(ui.densityBox, "by HU difference")
    hand.settle()
    drafts, lesions = [], []
    with session.layout.live() as live, _shown(hand.session, live) as shown:
        for number in range(count):
            shown.clear()
            begun = time.perf_counter()
            ui.densityDeltaSlider.value = -30.0 - number
            for kind, times in (("Draft", drafts), ("SynthesisResult", lesions)):
                hand.wait(lambda kind=kind: kind in shown or "SynthesisResult" in shown)
                if kind in shown:
                    hand.wait(lambda kind=kind: live.frames >= shown[kind] + len(session.layout.slices))
                    times.append(1e3 * (time.perf_counter() - begun))
            hand.settle()
    hand.module.press_keys("Ctrl+Z")
    rows = [(name, len(t), quantile(t, 0.5), quantile(t, 0.95)) for name, t in (("draft", drafts), ("lesion", lesions))]
    section.text.append(table(("slider change → drawn in three views", "n", "median, ms", "p95, ms"), rows))
    median = quantile(drafts, 0.5)
    section.checks.append(Check("slider change → preview visible, median", median, 0, PREVIEW_MS, "ms", len(drafts)))
    section.data["preview_ms"] = {"draft": drafts, "lesion": lesions}


@contextmanager
def _shown(session, live):
    """What the session shows from now on: kind -> how many frames had been drawn just before."""
    kinds: dict[str, int] = {}
    show = session.show

    def watched(what, token=None):
        frames = live.frames
        done = show(what, token)
        if done:
            kinds[type(what).__name__] = frames
        return done

    session.show = watched
    try:
        yield kinds
    finally:
        del session.show


def _cancels(section: Section, session: _Session) -> None:
    import slicer

    hand = session.hand
    scan = hand.module.widget.scan
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    if hand.ui.scanSection.collapsed:
        hand.ui.scanSection.collapsed = False
    times = []
    for delay in (0.0, 0.2, 0.6):
        hand.module.press(hand.ui.startButton)
        until = time.perf_counter() + delay
        hand.wait(lambda until=until: time.perf_counter() >= until)
        begun = time.perf_counter()
        hand.module.press_keys("Esc")
        hand.wait(lambda: not scan.bar.running)
        times.append(time.perf_counter() - begun)
    left = slicer.mrmlScene.GetNumberOfNodes() - nodes
    section.checks.append(Check("cancel of Start, longest", max(times), 0, CANCEL_S, "s", len(times)))
    section.checks.append(Check("nodes that a cancelled Start leaves", left, 0, 0, "", len(times)))


def _cycles(section: Section, session: _Session, count: int) -> None:
    import slicer

    original = slicer.util.arrayFromVolume(session.nodes[0])
    nodes, memory = [], []
    for number in range(count + WARM_UP):
        session.click(number)
        session.hand.module.press_keys("Ctrl+Z")
        session.hand.settle()
        gc.collect()
        nodes.append(slicer.mrmlScene.GetNumberOfNodes())
        memory.append(_resident_mb())
    same = np.array_equal(slicer.util.arrayFromVolume(session.hand.session.nodes.output), original)
    early, late = np.median(memory[WARM_UP - 2 : WARM_UP + 1]), np.median(memory[-3:])
    name = f"{count} place–undo cycles: "
    section.checks += [
        Check(name + "growth of memory", 100 * (late / early - 1), -np.inf, 100 * GROWTH, "%", count),
        Check(name + "nodes left", nodes[-1] - nodes[WARM_UP - 1], 0, 0, "", count),
        Check(name + "scan as before", float(same), 1, 1, "", count),
    ]
    section.data["cycles"] = {"resident_mb": memory, "nodes": nodes}


def _resident_mb() -> float:
    """Memory of this process; NaN where it cannot be told."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return float("nan")
    import resource

    return pages * resource.getpagesize() / 1e6
