"""Picture of PASTAStudy in use, for the README: ``python -m Testing.gui.study_pictures [--out FOLDER]``. The sample study, a description case."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from Testing.gui.study_support import ROOT, Hand

FOLDER = ROOT / "Resources" / "Screenshots"
SIZES = ((400, 1.0), (600, 1.0), (400, 1.5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, help="also write every state of the panel there, at several widths and font sizes"
    )
    given = parser.parse_args()

    from Testing.slicerhost import boot_gui

    boot_gui()
    import qt

    from PASTALib.gui import study_login, study_reading
    from PASTALib.study.sample import load_recipe, make_sample
    from Testing.slicerhost.layout import Layout
    from Testing.slicerhost.panel import open_module
    from Testing.slicerhost.screenshot import screenshot

    study_reading.BOUNCE_S = 0.0
    qt.QSettings().remove(study_login.FOLDER)
    layout = Layout.get((320, 320))
    with tempfile.TemporaryDirectory() as folder, open_module(ROOT / "PASTAStudy", "PASTAStudy") as module:
        hand = Hand(module)

        def shoot(name: str) -> None:
            for width, scale in SIZES if given.out is not None else ():
                path = given.out / f"{name}-{width}-{scale:g}.png"
                screenshot(module.parent, layout, path, panel_width=width, scale=scale)

        shoot("1-empty")
        study = make_sample(Path(folder) / "study")
        hand.open(study)
        module.choose(hand.ui.readerBox, load_recipe()["readers"][0])
        hand.ui.leadSection.collapsed = hand.ui.newSection.collapsed = hand.ui.closeSection.collapsed = False
        module.wait_until(lambda: hand.ui.statusLabel.text != "")
        shoot("2-chosen")
        module.press(hand.ui.beginButton)
        shoot("3-start")
        hand.start()
        shoot("4-realism")
        for score in (4, 5):
            hand.rate(score)
        hand.start() if hand.reading.page is not None else None
        screenshot(module.parent, layout, FOLDER / "pasta-study.png", panel_width=400)
        hand.key("P")
        shoot("5-pause")
        hand.key("Return")
        while hand.item.part == "realism":
            hand.rate(4)
        hand.start()
        hand.key("5")
        hand.key("4")
        hand.ui.optionalSection.collapsed = False
        shoot("6-description")
        while not hand.session.finished:
            hand.rate(5)
        shoot("7-end")


if __name__ == "__main__":
    main()
