"""Command line of the benchmarks: python -m Testing.bench [section …] [--cases N] [--json FILE] [--out DIR] [--strict]."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
from pathlib import Path

SECTIONS = (
    "fidelity",
    "realism",
    "shapes",
    "speed",
    "determinism",
    "networks",
    "generation",
    "refinement",
    "starter",
    "slicer",
    "study",
    "study_view",
)


def main(arguments: list[str] | None = None) -> int:
    """Run the sections asked for (all by default) and print their tables; 0, or with --strict 1 when a figure misses its target."""
    from PASTALib import taxonomy

    from .machine import cores, machine_line, source_digest
    from .options import Options

    parser = argparse.ArgumentParser(
        prog="python -m Testing.bench", description="Every figure the project claims, measured here."
    )
    parser.add_argument("sections", nargs="*", metavar="section", help=f"any of {', '.join(SECTIONS)} (default: all)")
    parser.add_argument("--cases", type=int, help="cases per type on the phantom (real scans: at most 20)")
    parser.add_argument("--real-cases", type=int, help="cases per type and real CT")
    parser.add_argument(
        "--lesion", action="append", choices=taxonomy.LESION_KEYS, help="only this type (may be repeated)"
    )
    parser.add_argument(
        "--host", action="append", help="only scans whose name starts so: phantom, S01, S02, S03 (may be repeated)"
    )
    parser.add_argument("--phantom-mm", type=float, default=2.0, help="voxel size of the phantom (default 2)")
    parser.add_argument(
        "--small", action="store_true", help="speed section on the small phantom instead of 512 x 512 x 300"
    )
    parser.add_argument("--workers", type=int, default=cores(), help="processes for many lesions (default: cores)")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    parser.add_argument("--out", type=Path, default=Path("bench-output"), help="folder for plots and cached phantoms")
    parser.add_argument("--strict", action="store_true", help="exit code 1 when a figure misses its target")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"unknown section {unknown[0]!r}; choose from {', '.join(SECTIONS)}")
    options = Options(
        cases=given.cases,
        real_cases=given.real_cases,
        out=given.out.resolve(),
        workers=given.workers,
        lesions=tuple(given.lesion or taxonomy.LESION_KEYS),
        hosts=tuple(given.host or ()),
        phantom_mm=given.phantom_mm,
        large=not given.small,
    )
    options.out.mkdir(parents=True, exist_ok=True)
    machine, source = machine_line(), source_digest()
    print(f"{machine}\nsource: {source}", flush=True)
    collected: dict = {"machine": machine, "source": source, "sections": {}}
    checks = []
    for name in given.sections or SECTIONS:
        started, cpu = time.perf_counter(), sum(os.times()[:4])
        section = importlib.import_module(f".{name}", __package__).run(options)
        print(f"\n{section}", flush=True)
        print(
            f"\n({name}: {time.perf_counter() - started:.0f} s, {sum(os.times()[:4]) - cpu:.0f} s of CPU)", flush=True
        )
        checks += section.checks
        collected["sections"][name] = {"checks": [c.to_json() for c in section.checks], **section.data}
    if source_digest() != source:
        print("\nWARNING: PASTALib was edited during this run; the figures belong to no single version of it")
    failed = sum(c.verdict == "FAIL" for c in checks)
    print(f"\n{sum(c.verdict == 'PASS' for c in checks)} of {len(checks)} figures meet their target, {failed} do not")
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(collected, indent=1, default=_plain) + "\n")
    return 1 if given.strict and failed else 0


def _plain(value):
    """numpy numbers and arrays for JSON."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


if __name__ == "__main__":
    sys.exit(main())
