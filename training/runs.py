"""One training run on disk: its settings, its log, its checkpoints; and taking it up again after a stop of any kind."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import PASTALib
from PASTALib.errors import InputError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

CONFIG, METRICS, TENSORBOARD = "config.json", "metrics.jsonl", "tensorboard"


class Run:
    """A run directory. Made by ``Run.open``; use it as a context manager.

    ``config.json`` holds command, settings, seed and version; ``metrics.jsonl`` one JSON object per logged step; ``<name>.pth``
    checkpoints, each complete or not there. TensorBoard files are written too where its package is installed.
    """

    def __init__(self, folder: Path, config: dict, writes: bool = True):
        self.folder, self.config = folder, config
        self.writes = writes  # False in all but the first of several processes
        self._log = None
        self._board: SummaryWriter | None = None

    @classmethod
    def open(
        cls,
        folder: str | Path,
        command: str,
        settings: Mapping[str, Any],
        *,
        seed: int = 0,
        resume: bool = False,
        overwrite: bool = False,
    ) -> Run:
        """Begin a run in ``folder``, or go on with the one that is there.

        InputError when the folder holds a run and neither ``resume`` nor ``overwrite`` is given, when it holds something else, when there is
        nothing to resume, or when the run to resume had other settings (the first that differs is named).
        """
        folder = Path(folder)
        config = {"command": command, "settings": dict(settings), "seed": seed, "version": _version()}
        there = folder / CONFIG
        if resume:
            if not there.is_file():
                raise InputError(f"--out {folder}: no run to resume there; leave --resume out to begin one")
            _check_same(config, _read(there), folder)
            return cls(folder, _read(there))
        if folder.is_file():
            raise InputError(f"--out {folder} is a file; give a folder")
        if folder.is_dir() and any(folder.iterdir()):
            if not there.is_file():
                raise InputError(f"--out {folder} is not empty and holds no run; choose another folder")
            if not overwrite:
                raise InputError(
                    f"--out {folder} holds a run; add --resume to go on with it, or --overwrite to begin anew"
                )
            for old in (*folder.glob("*.pth"), folder / METRICS):
                old.unlink(missing_ok=True)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(there, config)
        except OSError as error:
            raise InputError(f"--out {folder} cannot be written ({error.strerror}); choose another folder") from None
        return cls(folder, config)

    @classmethod
    def of_first(
        cls, folder: str | Path, command: str, settings: Mapping[str, Any], *, seed: int = 0, **others: bool
    ) -> Run:
        """``open`` in the first of several processes (as torchrun numbers them); in the others the same run, with nothing done on disk.

        They must meet before any reads a checkpoint, so that all see what the first has left there.
        """
        if int(os.environ.get("RANK", 0)) == 0:
            return cls.open(folder, command, settings, seed=seed, **others)
        return cls(
            Path(folder), {"command": command, "settings": dict(settings), "seed": seed, "version": _version()}, False
        )

    def log(self, step: int, **numbers: float) -> None:
        """Add one line of figures; those that are not finite become null."""
        if self._log is None:
            self._log = open(self.folder / METRICS, "a", encoding="utf-8")
        plain = {key: float(value) if math.isfinite(value) else None for key, value in numbers.items()}
        self._log.write(json.dumps({"step": step, **plain}) + "\n")
        self._log.flush()
        board = self._tensorboard()
        if board is not None:
            for key, value in plain.items():
                if value is not None:
                    board.add_scalar(key, value, step)

    def metrics(self) -> list[dict]:
        """All logged lines; a last line cut off by a stop is passed over."""
        lines = []
        with contextlib.suppress(FileNotFoundError):
            for line in (self.folder / METRICS).read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(json.JSONDecodeError):
                    lines.append(json.loads(line))
        return lines

    def forget_after(self, step: int) -> None:
        """Drop logged lines beyond ``step``: a resumed run logs them again."""
        kept = [line for line in self.metrics() if line["step"] <= step]
        self.close()
        text = "".join(json.dumps(line) + "\n" for line in kept)
        _write(self.folder / METRICS, text.encode())

    def save(self, state: Mapping[str, Any], name: str = "latest") -> Path:
        """Write a checkpoint of tensors and plain values; the file of that name is replaced only when the new one is complete."""
        import torch

        path = self.folder / f"{name}.pth"
        try:
            with replacing(path) as temporary:
                torch.save(dict(state), temporary)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"{path}: the checkpoint cannot be written ({error}); free disk space and use --resume"
            ) from None
        return path

    def load(self, name: str = "latest") -> dict | None:
        """The checkpoint of that name, on the CPU; None when there is none."""
        import torch

        path = self.folder / f"{name}.pth"
        if not path.is_file():
            return None
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever a damaged file does to the reader
            raise InputError(
                f"{path}: damaged ({type(error).__name__}); take it away to begin anew, or restore it"
            ) from None

    def close(self) -> None:
        """Close the log; it opens again when needed."""
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._board is not None:
            self._board.close()
            self._board = None

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _tensorboard(self) -> SummaryWriter | None:
        if self._board is None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                return None
            self._board = SummaryWriter(str(self.folder / TENSORBOARD))
        return self._board


def write_json(path: Path, data: Any) -> None:
    """Write ``data`` as JSON, complete or not at all."""
    _write(path, (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode())


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to: it takes the place of ``path`` when the block ends well, and goes when it does not."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def _read(path: Path) -> dict:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable ({error}); restore it, or begin anew with --overwrite") from None
    if not isinstance(data, dict) or "command" not in data:
        raise InputError(f"{path}: not the config of a run; choose another folder")
    return data


def _check_same(wanted: dict, found: dict, folder: Path) -> None:
    if found["command"] != wanted["command"]:
        raise InputError(
            f"--out {folder} holds a run of {found['command']}, not of {wanted['command']}; choose another folder"
        )
    pairs = {"seed": (found.get("seed"), wanted["seed"])}
    before, now = found.get("settings", {}), json.loads(json.dumps(wanted["settings"]))
    pairs |= {key: (before.get(key), now.get(key)) for key in {*before, *now}}
    for key, (old, new) in sorted(pairs.items()):
        if old != new:
            raise InputError(
                f"--resume: {key} was {old!r} in {folder} and is {new!r} now; use the same, or another folder"
            )


def _version() -> dict:
    """Version of the package and, in a clone, the commit."""
    version = {"pasta": PASTALib.__version__}
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(PASTALib.__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
        )
        if done.returncode == 0:
            version["git"] = done.stdout.strip()
    return version
