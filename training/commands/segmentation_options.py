"""Options that finetune and fewshot share. Nothing heavy is imported here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .downstream_options import DATA

Data = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="nnU-Net raw folder: dataset.json, imagesTr, labelsTr.", rich_help_panel=DATA),
]
Cases = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Instead: CSV or TSV with id, patient, ct (several images: a;b), mask.",
        rich_help_panel=DATA,
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,…",
        help="With --cases: names of the mask's values 1, 2, …, such as kidney,kidney_tumor,kidney_cyst.",
        rich_help_panel=DATA,
    ),
]
Channels = Annotated[
    str,
    typer.Option(
        metavar="A,B,…",
        help="With --cases: what the images are: CT, or other names (MRI), which are standardised one by one.",
        rich_help_panel=DATA,
    ),
]
Patients = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="With --data: CSV with id and patient, where a patient has several scans.",
        rich_help_panel=DATA,
    ),
]
