"""What ``benchmark`` does once its options are read."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from PASTALib.errors import InputError

from .downstream_options import check_numbers

TABLES = ("reannotation", "clinical", "points")


@dataclass(frozen=True)
class Asked:
    """The options as they were given."""

    out: Path | None
    tasks: list[str]
    models: list[str]
    weights: dict[str, str]
    suite: str | None
    data: Path | None
    tables: dict[str, str]
    partial: bool
    mode: str
    budget: str
    folds: int | None
    k: str | None
    draws: int | None
    seed: int
    keep_weights: bool
    gpus: int
    workers: int
    threads: int
    device: str
    empty: str
    correction: str
    as_json: bool

    def arguments(self) -> list[str]:
        """The same on a command line, but for where it runs."""
        words: list[str] = []
        for option, values in (("--task", self.tasks), ("--model", self.models)):
            words += [word for value in values for word in (option, value)]
        for option, pairs_ in (("--weights", self.weights), ("--table", self.tables)):
            words += [word for name, value in pairs_.items() for word in (option, f"{name}={_absolute(value)}")]
        given = {
            "--out": self.out and self.out.absolute(),
            "--data": self.data and self.data.absolute(),
            "--suite": self.suite,
        }
        given |= {
            "--mode": self.mode,
            "--budget": self.budget,
            "--folds": self.folds,
            "--k": self.k,
            "--draws": self.draws,
        }
        given |= {"--seed": self.seed, "--workers": self.workers, "--threads": self.threads, "--device": self.device}
        words += [word for option, value in given.items() if value not in (None, "") for word in (option, str(value))]
        return words + ["--partial"] * self.partial + ["--keep-weights"] * self.keep_weights


def listed(values: Sequence[str] | None) -> list[str]:
    """Words of a repeatable option that also takes commas."""
    return [part.strip() for value in values or () for part in value.split(",") if part.strip()]


def models(values: Sequence[str] | None) -> list[str]:
    """Models, whose own options have commas, too: a part with "=" and no ":" belongs to the model before it."""
    found: list[str] = []
    for part in listed(values):
        if found and "=" in part and ":" not in part:
            found[-1] += f",{part}"
        else:
            found.append(part)
    return found


def pairs(values: Sequence[str] | None, option: str, form: str) -> dict[str, str]:
    """NAME=FILE options; the name of a model may hold "=" itself, so the last one parts them where the first leaves no such name."""
    found = {}
    for value in values or ():
        head, equals, tail = value.rpartition("=") if ":" in value.partition("=")[0] else value.partition("=")
        if not equals or not head.strip() or not tail.strip():
            raise InputError(f"{option} {value!r} is not understood; write {form}")
        if head.strip() in found:
            raise InputError(f"{option} {head.strip()} is given twice; give it once")
        found[head.strip()] = tail.strip()
    return found


def folder(out: Path | None) -> Path:
    """--out; InputError where it is missing."""
    if out is None:
        raise InputError("--out is missing; give a folder for results and report")
    return out


def make(asked: Asked, only_cost: bool = False):
    """The plan that was asked for."""
    from PASTALib.commands import options

    from ..benchmark import plan as plans

    check_numbers(asked.seed, asked.workers, asked.threads)
    options.number(asked.gpus, "--gpus", 0, 64, "")
    if asked.suite not in (None, *plans.SUITES):
        raise InputError(f"--suite {asked.suite!r}; wanted {' or '.join(plans.SUITES)}")
    small = asked.suite == plans.SMOKE
    tasks = asked.tasks or (["all"] if asked.suite else [])
    chosen = asked.models or ([plans.PAPER_ROWS] if asked.suite == plans.PAPER else [plans.ALL] if small else [])
    for option, values in (("--task", tasks), ("--model", chosen)):
        if not values:
            raise InputError(f"{option} is missing; name what to run, or give --suite smoke to try everything")
    few = small and not asked.k
    for value, option, high in ((asked.folds, "--folds", 20), (asked.draws, "--draws", 100)):
        options.number(value, option, 2 if option == "--folds" else 1, high, "")
    conditions = plans.Conditions(
        mode=asked.mode,
        folds=asked.folds or (plans.SMOKE_FOLDS if small else plans.Conditions.folds),
        seed=asked.seed,
        budget=asked.budget,
        k=plans.SMOKE_K if few else _numbers(asked.k),
        draws=asked.draws or (plans.SMOKE_DRAWS if small else 0),
        small=small,
    )
    return plans.make_plan(conditions, tasks, chosen, asked.weights, only_cost=only_cost)


def run(asked: Asked, *, slurm: str | None, part: str | None, resume: bool, overwrite: bool) -> None:
    """Prepare, train and test what is not done yet, and write the report."""
    out, plan = folder(asked.out), make(asked)
    _check_policy(asked)
    from PASTALib.commands.console import note, print_json, steps

    from ..benchmark.runner import Workplace, done_units, open_workplace, prepare, run_units
    from ..benchmark.runner.parallel import part_of, run_parallel, write_slurm
    from ..benchmark.runner.prepare import REPLICAS

    units = list(plan.units) if part is None else part_of(plan.units, part)
    data = asked.data
    if data is None:
        if not plan.conditions.small:
            raise InputError(
                "--data is missing; give the folder with the data sets (or try --suite smoke, which makes its own)"
            )
        data = out / REPLICAS
    elif not data.is_dir():
        raise InputError(f"--data {data}: no such folder; check the path")
    place = Workplace(
        out,
        plan,
        data,
        extra=_tables(asked.tables),
        partial=asked.partial or asked.data is None,
        keep_weights=asked.keep_weights,
    )
    devices = _devices(asked)
    open_workplace(place, resume=resume, overwrite=overwrite)
    for line in plan.notes:
        note(line)
    if not asked.as_json and not part:
        _say_cost(plan)
    material = place.material()
    with steps(quiet=asked.as_json) as shown:
        if part is None or not (out / "plan.json").is_file():
            prepare(place, material, shown.start("Preparing data"))
        if slurm is not None:
            script, elements = write_slurm(place, plan, asked.arguments(), slurm)
            text = f"Prepared. {len(plan.units)} trainings in {elements} elements: sbatch {script}"
            print_json({"script": str(script), "elements": elements}) if asked.as_json else typer.echo(text)
            return
        tell = _teller(len(units), quiet=asked.as_json or sys.stderr.isatty())
        progress = shown.start("Training")
        if devices:
            failed = run_parallel(place, units, devices, workers=asked.workers, progress=progress, tell=tell)
        else:
            _set_threads(asked.threads)
            failed = run_units(
                place, material, units, device=asked.device, workers=asked.workers, progress=progress, tell=tell
            )
        page = None
        if part is None and done_units(place, plan.units):
            page = _write(out, asked, None, shown.start("Writing the report"))
    done = len(done_units(place, units))
    if asked.as_json:
        print_json(
            {"out": str(out), "trainings": len(units), "done": done, "failed": failed, "report": str(page or "")}
        )
    else:
        typer.echo(f"{done} of {len(units)} trainings are done." + (f" Report: {page}" if page else ""))
    if failed:
        more = f" ({len(failed) - 1} more failed)" if len(failed) > 1 else ""
        raise InputError(f"{failed[0]}{more}; the others are done: mend it and --resume")


def dry_run(asked: Asked) -> None:
    """Print the plan and what it costs."""
    plan = make(asked, only_cost=True)
    from PASTALib.commands.console import note, print_json

    from ..benchmark.budget import assumption

    rows = plan.table()
    total = sum(row["gpu_hours"] for row in rows)
    if asked.as_json:
        data = {"conditions": plan.conditions.to_json(), "trainings": len(plan.units), "gpu_hours": total}
        print_json({**data, "assumption": assumption(), "rows": rows, "notes": list(plan.notes)})
        return
    for line in plan.notes:
        note(line)
    _show(plan, rows)
    typer.echo(f"{len(plan.units)} trainings, {_hours(total)} in all.")
    typer.echo(assumption()[0].upper() + assumption()[1:] + ".")


def report(asked: Asked) -> None:
    """Only the report."""
    out = folder(asked.out)
    from PASTALib.commands.console import print_json, steps

    with steps(quiet=asked.as_json) as shown:
        page = _write(out, asked, asked.tasks or None, shown.start("Writing the report"))
    print_json({"report": str(page)}) if asked.as_json else typer.echo(f"Report: {page}")


# ---------------------------------------------------------------------------------------------------------------


_MADE_UP = "Smoke run: tiny networks, trained for a step or two on made-up scans. It shows that everything works; its figures mean nothing."


def _write(out: Path, asked: Asked, tasks: Sequence[str] | None, progress) -> Path:
    from ..benchmark.plan import Entrant, as_run
    from ..benchmark.registry import select
    from ..benchmark.report import Policy, write_report
    from ..benchmark.results import read_results
    from ..benchmark.runner.prepare import UNITS, read_conditions

    if not (out / UNITS).is_dir():
        raise InputError(f"--out {out}: no results there; run a benchmark first")
    conditions = read_conditions(out)
    chosen = as_run(select(tasks or ["all"]), conditions)
    names = read_results(out / UNITS, chosen).models
    entrants = {name: rival for name in names if (rival := _entrant(name, Entrant)) is not None}
    policy = Policy(empty=asked.empty, correction=asked.correction)
    warning = _MADE_UP if conditions.small else ""
    return write_report(
        out / UNITS, out, tasks=chosen, policy=policy, rivals=entrants, warning=warning, progress=progress
    )[0]


def _check_policy(asked: Asked) -> None:
    """InputError before the long work, not after it."""
    from ..benchmark.report import Policy

    Policy(empty=asked.empty, correction=asked.correction)


def _entrant(name: str, kind) -> Any:
    """The model of a results' name; None for one that is no longer installed."""
    from ..benchmark.models.interface import find_rival

    try:
        return kind(name, find_rival(name))
    except InputError:
        return None


def _teller(total: int, quiet: bool):
    """A line for every training on stderr, where no bar is seen: a cluster's log."""
    count = [0]

    def tell(unit, state: str, about: Mapping[str, Any]) -> None:
        count[0] += 1
        if state == "failed":
            typer.echo(f"failed: {about['error']}", err=True)
        elif not quiet:
            typer.echo(f"{count[0]}/{total} {unit.words()}: {about['seconds']:.1f} s", err=True)

    return tell


def _devices(asked: Asked) -> list[str]:
    """One for each process; none for this one."""
    if not asked.gpus:
        return []
    import torch

    there = torch.cuda.device_count()
    if asked.gpus > there:
        raise InputError(f"--gpus {asked.gpus}: {there} are there; set --gpus to that, or leave it out to run here")
    return [f"cuda:{n}" for n in range(asked.gpus)]


def _set_threads(threads: int) -> None:
    if threads:
        import torch

        torch.set_num_threads(threads)


def _tables(found: Mapping[str, str]) -> dict[str, Path]:
    for name, path in found.items():
        if name not in TABLES:
            raise InputError(f"--table {name}=…: wanted one of {', '.join(TABLES)}")
        if not Path(path).is_file():
            raise InputError(f"--table {name}={path}: no such file; check the path")
    return {name: Path(path).absolute() for name, path in found.items()}


def _numbers(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise InputError(f"--k {text!r}; wanted numbers of scans, such as 1,4,16") from None


def _say_cost(plan) -> None:
    if plan.conditions.small:
        typer.echo(f"{len(plan.units)} trainings of tiny networks on made-up scans: figures mean nothing.", err=True)
        return
    hours = sum(row["gpu_hours"] for row in plan.table())
    typer.echo(f"{len(plan.units)} trainings, {_hours(hours)} on an A100 or the like; --dry-run says more.", err=True)


def _show(plan, rows: Sequence[Mapping[str, Any]]) -> None:
    """A line for each run and model; for each group and model where that would be long."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    group = {task.run: task.group for task in plan.tasks}
    lines: dict[tuple[str, str], list] = {}
    for row in rows:
        name = row["run"] if len(rows) <= 40 else group[row["run"]]
        line = lines.setdefault((name, row["model"]), [0, set(), set(), 0.0])
        line[0] += row["trainings"]
        line[1].add(row["steps"])
        line[2].add(round(row["step_s"], 3))
        line[3] += row["gpu_hours"]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Run" if len(rows) <= 40 else "Group")
    table.add_column("Model")
    for column in ("Trainings", "Steps of each", "Seconds a step", "GPU hours"):
        table.add_column(column, justify="right")
    for (name, model), (trainings, steps, seconds, hours) in lines.items():
        cells = [_range(steps, "{:,.0f}"), _range(seconds, "{:.2f}"), _hours(hours, "")]
        if max(steps) and not hours and not plan.conditions.small:
            cells[1:] = ["?", "?"]
        table.add_row(name, model, f"{trainings:,}", *(cells if max(steps) else ["-", "-", "0"]))
    Console(width=None if sys.stdout.isatty() else 110).print(table)


def _range(values: set, form: str) -> str:
    texts = list(dict.fromkeys(form.format(value) for value in sorted(values)))
    return texts[0] if len(texts) == 1 else f"{texts[0]} to {texts[-1]}"


def _hours(hours: float, unit: str = " GPU hours") -> str:
    return f"{hours:,.0f}{unit}" if hours >= 10 else f"{hours:.2g}{unit}"


def _absolute(value: str) -> str:
    return str(Path(value).absolute()) if Path(value).exists() else value
