"""A reader study of small generated cases, and hands on the panel of PASTAStudy: its keys, its pages, its cases."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from PASTALib import cases, taxonomy
from PASTALib.attributes import LEARNED, StructuredReport, options
from PASTALib.study.create import create_study
from PASTALib.study.design import Design
from PASTALib.study.export import ExportGrid
from PASTALib.study.pools import read_pool
from PASTALib.volume import Volume, write_volume

ROOT = Path(__file__).resolve().parents[2]
CAN_SEAL = find_spec("cryptography") is not None
PASSPHRASE = "four random words here"
KINDS = ("liver_tumor", "kidney_cyst")
READERS = ("anna", "ben", "carla", "dan")
GRID = ExportGrid((32, 40, 40), (2.0, 2.0, 2.0))
MARK = "cohort-name"  # part of every source's name: must turn up nowhere


def make_pool(folder: Path, truth: str, count: int, first: int) -> Path:
    """``count`` case folders per type with a bright ball each; the numbers of the pools differ, so that every image is another."""
    rng = np.random.default_rng(first)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    ball = ((np.indices((36, 44, 44)).T - (18, 22, 22)) ** 2).sum(-1).T <= 16
    for kind in KINDS:
        for number in range(first, first + count):
            case = cases.case_folder(folder, kind, f"{MARK}-{truth}-{number}")
            case.mkdir(parents=True)
            image = rng.normal(60, 8, ball.shape) + 5 * number * ball
            image[:, :4] = -1000.0  # air
            write_volume(Volume(np.rint(image).astype(np.int16), affine), case / cases.IMAGE)
            label = Volume((1 + ball).astype(np.uint8), affine)
            write_volume(label, case / cases.LABEL)
            write_volume(
                Volume(np.full(ball.shape, taxonomy.organ(taxonomy.lesion(kind).organ).value, np.uint8), affine),
                case / cases.TOTAL,
            )
            values = {key: options(key)[number % len(options(key))] for key in LEARNED}
            report = StructuredReport.from_options(kind, values, "requested")
            (case / cases.TYPE).write_text(json.dumps(report.to_type_json()))
    return folder


def make_study(folder: Path, readers=READERS, realism: int = 2, description: int = 2, **changes) -> Path:
    """A study in ``folder/study`` of 4 × ``realism`` + 2 × ``description`` cases. ``changes``: fields of Design.

    Its key is sealed with PASSPHRASE, or lies in ``folder/key.json`` where the package cryptography is missing.
    """
    practice = changes.get("practice", 0)
    real = make_pool(folder / "real", "real", realism + practice, 10)
    synthetic = make_pool(folder / "synthetic", "synthetic", realism + practice + description, 50)
    changes = {"grid": GRID, **changes}
    design = Design(
        "test", "A small study", dict.fromkeys(KINDS, realism), dict.fromkeys(KINDS, description) if description else {}, readers=tuple(readers), **changes
    )  # fmt: skip
    pools = read_pool(real, "real"), read_pool(synthetic, "synthetic")
    key = {"passphrase": PASSPHRASE} if CAN_SEAL else {"key_file": folder / "key.json"}
    return create_study(folder / "study", design, *pools, seed=5, **key)


class Hand:
    """Uses the opened module as a reader does: by keys, and buttons where there is no key."""

    def __init__(self, module):
        self.module, self.ui = module, module.ui

    @property
    def reading(self):
        return self.module.widget.reading

    @property
    def session(self):
        return self.reading.session

    @property
    def item(self):
        return self.session.item

    def label(self, name: str):
        """A label of the panel that was made in code, by its name."""
        import qt

        return next(label for label in self.module.parent.findChildren(qt.QLabel) if label.name == name)

    def open(self, folder: Path) -> None:
        self.ui.folderPath.currentPath = str(folder)

    def log_in(self, folder: Path, reader: str) -> None:
        """Choose folder and name, and begin; the page before the first case is there then."""
        self.open(folder)
        self.module.choose(self.ui.readerBox, reader)
        self.module.press(self.ui.beginButton)

    def key(self, name: str, modifiers: str = "", widget=None) -> None:
        """Press a key ("5", "Backspace", "Return" …) with the focus where it is, as Qt's own test library does."""
        import slicer
        from PySide6.QtCore import Qt
        from PySide6.QtTest import QTest

        target = widget or self.module.parent
        target.activateWindow()
        slicer.app.processEvents()
        code = getattr(Qt.Key, f"Key_{name}")
        held = getattr(Qt.KeyboardModifier, f"{modifiers}Modifier") if modifiers else Qt.KeyboardModifier.NoModifier
        QTest.keyClick(target, code, held)

    def start(self) -> None:
        """Leave the page before a part, and wait for its first case."""
        assert self.reading.page is not None, "no page"
        self.key("Return")
        self.wait()

    def wait(self) -> None:
        """Until a case may be rated, or a page is there, and is drawn."""
        import slicer

        self.module.wait_until(lambda: self.reading.rating or self.reading.page is not None, 20)
        slicer.app.processEvents()

    def rate(self, score: int) -> None:
        """Rate the case by one key, or each line of its report by a key and Enter."""
        for _question in self.session.questions:
            self.key(str(score))
        if not self.reading.form.single:
            self.key("Return")
        self.wait()

    def read_all(self, score) -> int:
        """Rate everything by ``score(item)``, pages included; the number of cases that were rated."""
        rated = 0
        while not self.session.finished:
            if self.reading.page is not None:
                self.start()
            self.rate(score(self.item))
            rated += 1
        return rated


def shown_voxels(hand: Hand) -> np.ndarray:
    """What the volume in the views holds."""
    import slicer

    return slicer.util.arrayFromVolume(hand.reading.view.node)


def file_voxels(path: Path) -> np.ndarray:
    """What a case's file holds, read by SimpleITK."""
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
