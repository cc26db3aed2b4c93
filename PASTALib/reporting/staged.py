"""Several files that appear together, complete, or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError


@contextmanager
def staged(paths: Sequence[str | Path]) -> Iterator[list[Path]]:
    """Temporary names beside ``paths`` to write to; when the block ends well, each takes its place, otherwise none does.

    A name that nothing was written to is passed over. Files that were there before are replaced, and put back when a later one cannot be
    replaced. InputError for folders that are missing or cannot be written.
    """
    targets = [Path(path) for path in paths]
    mark = secrets.token_hex(6)
    temporary = [target.parent / f".{mark}.part.{target.name}" for target in targets]
    kept = [target.parent / f".{mark}.old.{target.name}" for target in targets]
    try:
        yield temporary
        _publish(targets, temporary, kept)
    except OSError as error:
        real = dict(zip(map(str, temporary), targets))
        where = real.get(str(error.filename), error.filename or targets[0])
        raise InputError(
            f"{where}: cannot be written ({error.strerror or error}); free disk space or choose another folder"
        ) from error
    finally:
        for path in (*temporary, *kept):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _publish(targets: list[Path], temporary: list[Path], kept: list[Path]) -> None:
    done: list[tuple[Path, Path]] = []
    try:
        for target, new, old in zip(targets, temporary, kept):
            if not new.exists():
                continue
            done.append((target, old))
            if target.exists():
                os.replace(target, old)
            os.replace(new, target)
    except BaseException:
        for target, old in done:
            if old.exists():
                os.replace(old, target)
            else:
                target.unlink(missing_ok=True)
        raise
