"""Units on several cards, one process each, and the script of a SLURM array. A unit belongs to whoever locks its folder."""

from __future__ import annotations

import os
import queue
import shlex
import sys
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from PASTALib.errors import InputError
from PASTALib.progress import Progress, silent

from ...runs import replacing
from ..plan import Plan, Unit
from .prepare import Workplace
from .units import Tell, run_units

SCRIPT, LOGS = "slurm.sh", "slurm-logs"
ARRAY_MOST = 1000  # elements; SLURM's own default limit is 1,001
_POLL_S = 0.5


def run_parallel(
    place: Workplace,
    units: Sequence[Unit],
    devices: Sequence[str],
    *,
    workers: int = 0,
    progress: Progress = silent,
    tell: Tell = lambda unit, state, about: None,
) -> list[str]:
    """Run them in one process for each of ``devices`` ("cuda:0", …, or "cpu"); one line for each unit that failed, and for each process that died.

    The data must be prepared. A process sees its own card only.
    """
    context = get_context("spawn")
    told, following, alive, failed = context.Queue(), context.Value("i", 0), [], []
    for device in devices:
        process = context.Process(target=_work, args=(place, units, following, device, workers, told))
        with _visible(device):
            process.start()
        alive.append(process)
    ended = done = 0
    try:
        while ended < len(alive):
            try:
                unit, state, about = told.get(timeout=_POLL_S)
            except queue.Empty:
                dead = next((process for process in alive if process.exitcode not in (None, 0)), None)
                if dead is not None:
                    raise InputError(
                        f"a process of the benchmark ended with code {dead.exitcode}; see what it printed, and go on with --resume"
                    ) from None
                continue
            if state == "end":
                ended += 1
                continue
            done += 1
            if state == "failed":
                failed.append(about["error"])
            progress(done, len(units), unit.words())
            tell(unit, state, about)
    finally:
        for process in alive:
            if ended < len(alive):
                process.terminate()
            process.join()
    return failed


def part_of(units: Sequence[Unit], text: str) -> list[Unit]:
    """The units of the I-th of N parts, ``I/N`` with I from 0: every N-th, so that long and short ones are spread. InputError otherwise."""
    try:
        number, of = (int(part) for part in text.split("/"))
    except ValueError:
        number, of = -1, 0
    if not 0 <= number < of:
        raise InputError(f"--part {text!r}; wanted I/N, such as 0/8 to 7/8")
    return list(units[number::of])


def write_slurm(place: Workplace, plan: Plan, arguments: Sequence[str], options: str) -> tuple[Path, int]:
    """The array's script in the benchmark's folder, and its number of elements.

    ``arguments``: of ``python -m training benchmark`` for the whole; each element adds its part. ``options``: further ones of sbatch, such as
    "--partition=gpu --time=1-0". An element that is stopped is submitted again: what is done is passed over.
    """
    try:
        wanted = shlex.split(options)
    except ValueError as error:
        raise InputError(
            f"--slurm {options!r}: {error}; give sbatch options, such as '--partition=gpu --time=1-0'"
        ) from None
    wrong = next((word for word in wanted if not word.startswith("-")), None)
    if wrong is not None:
        raise InputError(f"--slurm: {wrong!r} is no option; write NAME=VALUE with dashes, such as --partition=gpu")
    elements = min(len(plan.units), ARRAY_MOST)
    logs = place.out.absolute() / LOGS
    logs.mkdir(parents=True, exist_ok=True)
    lines = [
        "#!/bin/bash",
        "#SBATCH --job-name=benchmark",
        f"#SBATCH --array=0-{elements - 1}",
        "#SBATCH --gpus=1",
        f"#SBATCH --output={logs}/%A_%a.txt",
        *(f"#SBATCH {word}" for word in wanted),
        "",
        f"# {len(plan.units)} trainings in {elements} elements. Data are prepared; --resume passes over what is done.",
        f"cd {shlex.quote(str(Path.cwd()))} || exit 1",
        f"{shlex.quote(sys.executable)} -m training benchmark {' '.join(map(shlex.quote, arguments))} \\",
        f'  --resume --part "$SLURM_ARRAY_TASK_ID/{elements}"',
        "",
    ]
    path = place.out / SCRIPT
    with replacing(path) as part:
        part.write_text("\n".join(lines), encoding="utf-8")
        part.chmod(0o755)
    return path, elements


# ---------------------------------------------------------------------------------------------------------------


def _work(place: Workplace, units: Sequence[Unit], following: Any, device: str, workers: int, told: Any) -> None:
    """What one process does: it takes the unit ``following`` until none is left; messages go to ``told``."""
    import warnings

    import torch

    warnings.simplefilter("ignore")
    if device == "cpu":
        torch.set_num_threads(1)
    material = place.material()

    def tell(unit: Unit, state: str, about: dict[str, Any]) -> None:
        told.put((unit, state, about))

    while True:
        with following.get_lock():
            number = following.value
            following.value += 1
        if number >= len(units):
            break
        run_units(place, material, [units[number]], device=device.partition(":")[0], workers=workers, tell=tell)
    told.put((None, "end", {}))


class _visible:
    """For the start of a process: the card that it sees."""

    def __init__(self, device: str):
        self._card = device.partition(":")[2] if device.startswith("cuda") else None

    def __enter__(self) -> None:
        self._before = os.environ.get("CUDA_VISIBLE_DEVICES")
        if self._card is not None:
            cards = self._before.split(",") if self._before else None
            os.environ["CUDA_VISIBLE_DEVICES"] = cards[int(self._card)] if cards else self._card

    def __exit__(self, *_) -> None:
        if self._before is None:
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = self._before
