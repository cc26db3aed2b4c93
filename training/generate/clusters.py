"""Workers for Dask: on this machine, of a running scheduler, or as SLURM jobs."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path

import PASTALib
from PASTALib.errors import InputError

_INSTALL = 'pip install "dask[distributed]"'
START_TRIALS = 10  # a worker may be killed while it starts
CONNECT_S = 10
_ONE_THREAD = {f"{name}_NUM_THREADS": 1 for name in ("OMP", "OPENBLAS", "MKL")} | {
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": 1
}
# Dask says on stderr what this package says better. Its own environment for workers would have every array given back to the system
# at once, which makes them several times slower; ours leaves the memory allocator alone.
_SETTINGS = {
    "logging.distributed": "critical",
    "distributed.nanny.pre-spawn-environ": _ONE_THREAD,
    "distributed.comm.timeouts.connect": "10s",
}


@dataclass(frozen=True)
class Slurm:
    """Options of SLURM jobs. Each job runs ``cores`` workers; ``memory_gb`` is per worker."""

    queue: str | None = None
    account: str | None = None
    time: str = "08:00:00"
    cores: int = 1
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class Workers:
    """Where the work is done. ``count`` 0: in this process, without Dask. ``scheduler``: address of a running one, whose workers are used.

    ``memory_gb``: of each worker, None for its share of the machine.
    """

    count: int = 1
    scheduler: str | None = None
    slurm: Slurm | None = None
    memory_gb: float | None = None
    log_folder: Path | None = None


def machine_memory() -> int:
    """Bytes of memory of this machine."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 8 << 30


def require_dask() -> None:
    """InputError where Dask is not installed."""
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise InputError(f"several workers need Dask; {_INSTALL}, or use --workers 0") from None


def connect(workers: Workers, stack: contextlib.ExitStack):
    """A Dask client of the wanted workers; those made for it end with ``stack``. InputError for a scheduler that cannot be reached."""
    from distributed import Client

    if workers.scheduler is not None:
        try:
            return Client(workers.scheduler, timeout=CONNECT_S, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise InputError(
                f"--scheduler {workers.scheduler}: cannot be reached ({type(error).__name__}); give the address that `dask scheduler` printed"
            ) from None
    cluster = slurm_cluster(workers) if workers.slurm is not None else _local_cluster(workers)
    return Client(stack.enter_context(cluster), set_as_default=False)


def _local_cluster(workers: Workers):
    from distributed import LocalCluster

    options = {"threads_per_worker": 1, "processes": True, "dashboard_address": None}
    options["memory_limit"] = f"{workers.memory_gb}GB" if workers.memory_gb else "auto"
    for trial in range(START_TRIALS):
        try:
            with _deaf():
                return LocalCluster(n_workers=workers.count, silence_logs=logging.CRITICAL, **options)
        except RuntimeError as error:  # a worker was killed while it started
            if trial == START_TRIALS - 1:
                raise InputError(f"the workers cannot be started ({error}); use --workers 0") from None


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Threads and processes started inside never see Ctrl-C, which a terminal sends to all of a session's processes: ending the workers is
    this side's business."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # its start would undo the blocking
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def slurm_cluster(workers: Workers):
    """SLURM jobs for ``workers.count`` workers in all, asked for at once. InputError without dask-jobqueue."""
    try:
        import dask
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise InputError('--slurm needs dask-jobqueue; pip install "dask-jobqueue"') from None
    slurm = workers.slurm
    package = Path(PASTALib.__file__).resolve().parents[1]
    cluster = SLURMCluster(
        queue=slurm.queue,
        account=slurm.account,
        walltime=slurm.time,
        cores=slurm.cores,
        processes=slurm.cores,
        memory=f"{(workers.memory_gb or 4.0) * slurm.cores:g}GB",
        job_extra_directives=list(slurm.extra),
        job_script_prologue=[
            f"export DASK_INTERNAL_INHERIT_CONFIG={dask.config.serialize(dask.config.global_config)}",
            f'export PYTHONPATH="{package}${{PYTHONPATH:+:$PYTHONPATH}}"',
        ],
        log_directory=str(workers.log_folder) if workers.log_folder else None,
        python=sys.executable,
        scheduler_options={"dashboard": False},
        silence_logs="critical",
    )
    try:
        cluster.scale(jobs=math.ceil(workers.count / slurm.cores))
    except BaseException:
        cluster.close()
        raise
    return cluster


def check_versions(client, workers: Workers) -> None:
    """The workers of a foreign scheduler must have this very version, or the bytes would differ."""
    if workers.scheduler is None:
        return
    try:
        found = client.run(_version_here)
    except Exception as error:  # whatever their Python says about the missing package
        raise InputError(
            f"--scheduler {workers.scheduler}: its workers cannot run this package ({type(error).__name__}); install the same version there"
        ) from None
    other = sorted({version for version in found.values() if version != PASTALib.__version__})
    if other:
        raise InputError(
            f"--scheduler {workers.scheduler}: workers have version {', '.join(other)}, this is {PASTALib.__version__}; install the same"
        )


def _version_here() -> str:
    from training.generate import make

    return PASTALib.__version__ if make else ""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Our settings of Dask while the block lasts; workers started in it take them over."""
    import dask

    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with dask.config.set(_SETTINGS):
            yield
    finally:
        for logger, level in zip(loggers, before):
            logger.setLevel(level)
