"""Section generation: seconds per case at the paper's size, two workers against one, what 30,000 cases would cost."""

from __future__ import annotations

from . import generate_figures as figures
from .options import Options
from .tables import Check, Section, quantile, table

SCALING_RUNS = 1  # of 150 cases each, with one worker and with two


def run(options: Options) -> Section:
    """Cases are made in this process, one after the other; the comparison of workers runs the command itself."""
    section = Section("generation: cases of 280³ voxels at 1 mm in generated torsos")
    size = {} if options.large else {"spacing_mm": 4.0, "cube": 70}
    cases = figures.measure_cases(options.lesions, 2, **size)
    template = figures.measure_template(1.0 if options.large else 4.0)
    cost = figures.projection(cases, template)
    scaling = (
        figures.measure_scaling(runs=SCALING_RUNS) if options.large else figures.measure_scaling(1, 5.0, phantoms=1)
    )
    rows = [
        (name, len(cases[name]), quantile(cases[name], 0.5), quantile(cases[name], 0.95))
        for name in ("wall_s", "cpu_s", "mb")
    ]
    section.text.append(table(("a case", "n", "median", "p95"), rows))
    section.text.append(
        f"cases per hour and core {cost['per_core']:.0f}; {figures.PAPER_CASES:,} cases on {figures.CORES} cores: {cost['hours']:.1f} h, "
        f"{cost['terabytes']:.2f} TB (of that {cost['hours_templates']:.1f} h for {figures.PAPER_SCANS:,} scans); given up {sum(cases['given_up']):.0f}"
    )
    one, two = max(scaling["one"]), max(scaling["two"])
    section.checks.append(Check("two workers ÷ one, cases per hour", two / one, 1.8, unit="", n=len(scaling["one"])))
    section.data = {"cases": cases, "template": template, "projection": cost, "scaling": scaling}
    return section
