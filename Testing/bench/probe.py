"""What other processes run for the benchmarks: one program for peak memory, one for digests of lesions (JSON on standard output)."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path

from .hosts import Host, load_scan, load_volumes


def memory(host: Host, lesions: list[str]) -> dict:
    """Peak memory (MB) of reading a scan, preparing it and making one lesion of each type, in this process."""
    from PASTALib.synthesis.generator import synthesise
    from PASTALib.synthesis.scan import prepare_scan
    from PASTALib.synthesis.spec import LesionRequest

    libraries = peak_mb()
    volumes = load_volumes(host)
    loaded = peak_mb()
    scan = prepare_scan(*volumes)
    prepared = peak_mb()
    for lesion in lesions:
        synthesise(scan, LesionRequest(lesion, seed=1))
    return {
        "libraries_mb": libraries,
        "loaded_mb": loaded,
        "prepared_mb": prepared,
        "peak_mb": peak_mb(),
        "voxels": int(scan.ct.array.size),
    }


def peak_mb() -> float:
    """Peak resident memory of this process in MB. Where the system tells it per program: ru_maxrss begins with the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def digests(host: Host, lesions: list[str], seeds: list[int]) -> dict:
    """SHA-256 of (after as int16, label, report JSON) per type and seed."""
    from PASTALib.errors import InputError
    from PASTALib.synthesis.generator import synthesise
    from PASTALib.synthesis.spec import LesionRequest

    scan = load_scan(host)
    out = {}
    for lesion in lesions:
        for seed in seeds:
            try:
                out[f"{lesion} {seed}"] = digest(synthesise(scan, LesionRequest(lesion, seed=seed)))
            except InputError as error:
                out[f"{lesion} {seed}"] = f"refused: {error}"
    return out


def digest(result) -> str:
    """SHA-256 over image, mask, place and report of one lesion."""
    import numpy as np

    total = hashlib.sha256()
    total.update(np.rint(result.after).astype("<i2").tobytes())
    total.update(result.label.tobytes())
    total.update(repr([(s.start, s.stop) for s in result.region]).encode())
    total.update(json.dumps(result.report.to_json(), sort_keys=True).encode())
    return total.hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m Testing.bench.probe")
    parser.add_argument("task", choices=("memory", "digests"))
    parser.add_argument("--host", required=True, help="a host as JSON")
    parser.add_argument("--lesions", required=True)
    parser.add_argument("--seeds", default="0")
    given = parser.parse_args()
    data = json.loads(given.host)
    host = Host(
        data["name"],
        Path(data["out"]),
        *(tuple(data[k]) if data[k] else None for k in ("spacing", "shape")),
        data["region"],
    )
    lesions = given.lesions.split(",")
    started = time.perf_counter()
    answer = (
        memory(host, lesions)
        if given.task == "memory"
        else digests(host, lesions, [int(s) for s in given.seeds.split(",")])
    )
    print(json.dumps({"answer": answer, "seconds": time.perf_counter() - started}))
    return 0


def command(task: str, host: Host, lesions, seeds=(0,)) -> list[str]:
    """Command line that runs this program for ``host``."""
    description = {
        "name": host.name,
        "out": str(host.out),
        "spacing": host.spacing,
        "shape": host.shape,
        "region": host.region,
    }
    arguments = [
        "--host",
        json.dumps(description),
        "--lesions",
        ",".join(lesions),
        "--seeds",
        ",".join(map(str, seeds)),
    ]
    return [sys.executable, "-m", "Testing.bench.probe", task, *arguments]


if __name__ == "__main__":
    sys.exit(main())
