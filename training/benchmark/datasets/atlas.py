"""ATLAS: liver tumours in contrast-enhanced T1-weighted MRI; train/imagesTr/im0.nii.gz goes with train/labelsTr/lb0.nii.gz. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from PASTALib.progress import Progress, silent

from .about import About
from .items import Found, Item, find_folder, grid_problem, missing_files, visible
from .tables import SCANS, Table, write_scans


def find(about: About, folder: Path, extra: Mapping[str, Path]) -> Found:
    """The cases by the numbers of their files, im… and lb…; each is a patient."""
    advice = f"unpack {about.folders[0]}.zip ({about.source}) again"
    folder = find_folder(
        folder,
        lambda place: bool(visible(place / "imagesTr", "im*.nii.gz") or visible(place / "labelsTr", "lb*.nii.gz")),
        f"wanted {about.folders[0]}/train with imagesTr/im0.nii.gz and labelsTr/lb0.nii.gz: {advice}",
    )
    numbers = {path.name[2:-7] for path in visible(folder / "imagesTr", "im*.nii.gz")}
    numbers |= {path.name[2:-7] for path in visible(folder / "labelsTr", "lb*.nii.gz")}
    last = max((int(text) for text in numbers if text.isdecimal()), default=0)
    numbers |= {str(number) for number in range(last)}  # a gap is a missing case
    items, problems = [], []
    for number in sorted(numbers, key=lambda text: (len(text), text)):
        name = f"atlas{number.zfill(3)}"
        images = (folder / "imagesTr" / f"im{number}.nii.gz",)
        item = Item(name, name, images, folder / "labelsTr" / f"lb{number}.nii.gz")
        problem = missing_files(item, folder, advice) or grid_problem(item)
        (items if problem is None else problems).append(item if problem is None else problem)
    return Found(folder, tuple(items), tuple(problems), about.notes, len(numbers))


def write(about: About, found: Found, out: Path, progress: Progress = silent) -> dict[str, Table]:
    """The scan table, referring to the set's own files."""
    return {SCANS: write_scans(out, found.items, about.labels, about.channels)}
