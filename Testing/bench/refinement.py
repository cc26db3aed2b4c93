"""Section refinement: what the denoising network does to lesions of all types, and how long five steps take. Needs the starter weights."""

from __future__ import annotations

from PASTALib import taxonomy
from PASTALib.models import DENOISER, bundled_folder
from PASTALib.phantom import make_phantom
from PASTALib.refinement.refine import Refiner
from PASTALib.synthesis.scan import prepare_scan

from . import refinement_figures as figures
from .hosts import load_scan, real_hosts
from .options import Options
from .tables import Check, Section

PHANTOM_SEED = 4711  # of a torso that no training used
SEEDS = 3


def run(options: Options) -> Section:
    """Lesions in both phases of the phantom and in the real scans, before and after; without weights nothing is measured."""
    weights = bundled_folder() / DENOISER
    section = Section("refinement")
    if not weights.is_file():
        section.text.append(f"not measured: no starter weights at Resources/Models/{weights.name}")
        return section
    refiner = Refiner(weights)
    section.title = f"refinement: {refiner.name}, engine {refiner.engine}"
    seeds = range(SEEDS if options.cases is None else min(SEEDS, options.cases))
    records = []
    for phase in (taxonomy.ENHANCED, taxonomy.PLAIN):
        made = make_phantom(options.phantom_mm, phase, PHANTOM_SEED)
        scan = prepare_scan(made.ct, made.organs)
        records += figures.measure_cases(scan, f"phantom, {phase}", refiner, options.lesions, seeds)
    hosts, missing = real_hosts(options.out)
    section.text += missing
    for host in hosts:
        records += figures.measure_cases(load_scan(host), host.name, refiner, options.lesions, seeds)
    section.checks = figures.refinement_checks(records)
    section.checks.append(
        Check("largest change of a constant image", figures.constant_change(refiner), 0, 0.01, "HU", 1)
    )
    speed = figures.measure_speed(refiner)
    section.checks += figures.speed_checks(speed)
    section.data = {"records": records, "speed": speed}
    return section
