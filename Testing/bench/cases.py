"""The cases that fidelity and realism look at: one lesion each, made, read back and measured by a worker."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from PASTALib import taxonomy
from PASTALib.errors import InputError
from PASTALib.synthesis.generator import synthesise
from PASTALib.synthesis.placement import capacity_mm
from PASTALib.synthesis.priors import load_priors
from PASTALib.synthesis.spec import LesionRequest

from .hosts import Host, lacks, load_scan, phantom_host, real_hosts
from .options import Options
from .pool import run_all
from .recheck import attribute_checks, geometry_checks, read_back
from .texture_figures import texture_figures

SOLID_TYPES = tuple(
    item.key for item in taxonomy.LESIONS if not taxonomy.organ(item.organ).hollow or item.key == "gallstone"
)


@dataclass(frozen=True)
class Task:
    """One lesion to make: host, type, seed; ``sized`` asks for a size drawn from the type's prior."""

    host: Host
    lesion: str
    seed: int
    sized: bool = False


def make_case(task: Task) -> dict:
    """Make one lesion and everything that is said about it, as plain numbers (None where the lesion has no place)."""
    scan = load_scan(task.host)
    record: dict = {
        "host": task.host.name,
        "lesion": task.lesion,
        "seed": task.seed,
        "sized": task.sized,
        "skipped": "",
    }
    if lacks(scan, task.lesion):
        return {**record, "skipped": f"no {taxonomy.lesion(task.lesion).organ}"}
    request = LesionRequest(task.lesion, seed=task.seed, size_mm=_size(scan, task) if task.sized else None)
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        result = synthesise(scan, request)
    except InputError as error:
        return {**record, "accepted": False, "tries": request.max_tries, "error": str(error), **_spent(wall, cpu)}
    record.update(accepted=result.accepted, tries=result.tries, error="", log=list(result.log), **_spent(wall, cpu))
    if not result.accepted:
        return record
    reading = read_back(scan, result)
    record["attributes"] = attribute_checks(scan, result, reading)
    record["geometry"] = geometry_checks(scan, result, reading)
    record["options"] = {key: result.report.value(key) for key in record["attributes"]}
    record["again"] = dict(reading.measured.values)
    record["reasons"] = dict(reading.measured.reasons)
    record["figures"] = {k: float(v) for k, v in reading.measured.figures.items()}
    record["parameters"] = {k: v for k, v in result.parameters.items() if isinstance(v, (int, float, str, bool, list))}
    record["texture"] = texture_figures(scan, result, reading, task.seed)
    return record


def _spent(wall: float, cpu: float) -> dict:
    return {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}


def _size(scan, task: Task) -> tuple[float, float, float]:
    """Three extents round a size between the prior's 20 and 80 % quantiles that the organ can hold."""
    rng = np.random.default_rng([task.seed, 77])
    prior = load_priors()[task.lesion].size
    drawn = [prior.sample(rng) for _ in range(60)]
    low, high = np.quantile(drawn, (0.2, 0.8))
    limit = 0.75 * capacity_mm(scan, task.lesion)
    diameter = min(float(rng.uniform(low, high)), limit)
    least = 2.0 * float(scan.spacing.max())
    return tuple(float(max(round(diameter * f, 1), least)) for f in rng.uniform(0.85, 1.15, 3))


def hosts_of(options: Options) -> tuple[list[Host], list[str]]:
    """Hosts of a run and remarks on those that are left out."""
    real, missing = real_hosts(options.out)
    hosts = [phantom_host(options.out, options.phantom_mm), *real]
    if options.hosts:
        wanted = tuple(name.lower() for name in options.hosts)
        hosts = [h for h in hosts if h.name.lower().startswith(wanted)]
        missing = []
    return hosts, missing


def all_cases(options: Options) -> tuple[list[dict], list[str]]:
    """Records of every case of a run (made once, shared by the sections) and remarks on hosts left out."""
    if "cases" in options.memo:
        return options.memo["cases"]
    hosts, remarks = hosts_of(options)
    records: list[dict] = []
    for host in hosts:
        scan = load_scan(host)
        tasks = []
        for lesion in options.lesions:
            if lacks(scan, lesion):
                remarks.append(f"{host.name}: {lesion} left out, the organ map has no {taxonomy.lesion(lesion).organ}")
                continue
            tasks += [Task(host, lesion, seed) for seed in range(options.count(host.name))]
            if lesion in SOLID_TYPES:
                tasks += [Task(host, lesion, 10_000 + seed, sized=True) for seed in range(options.sized)]
        records += run_all(make_case, tasks, options.workers, f"{host.name}: lesions")
    options.memo["cases"] = records, remarks
    return records, remarks
