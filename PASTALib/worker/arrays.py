"""Arrays between two processes: memory-mapped ``.npy`` files in a folder that only this user can open, gone with the client."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ..errors import InputError

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be deleted: that is lock enough
    fcntl = None

PREFIX = "pasta-worker-"
_LOCK = "lock"
_UNLOCKED_S = 3600.0  # a folder without a lock may be one that is being made
_BLOCK = 1 << 24
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ArrayFolder:
    """The client's folder. Made with mode 0700; removed by ``close``, at exit, or with this object.

    Folders of programs that died are removed when the next one is made. InputError when there is no room for one.
    """

    def __init__(self) -> None:
        remove_stale()
        try:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
            lock = _hold(self.path)
        except OSError as error:
            raise InputError(_no_room("a temporary folder", tempfile.gettempdir(), error)) from None
        self._close = weakref.finalize(self, _remove, self.path, lock, os.getpid())
        self._count = 0

    def put(self, arrays: Mapping[str, np.ndarray], check: Callable[[], None] = lambda: None) -> dict[str, str]:
        """Write arrays; returns name -> file name for the request. ``check`` is called between blocks and may raise.

        InputError for a full disk, ValueError for names that are no identifiers and arrays of Python objects.
        """
        self._count += 1
        return save_arrays(self.path, f"in{self._count}", arrays, check)

    def take(self, files: Mapping[str, str]) -> dict[str, np.ndarray]:
        """Map result files into memory, read-only."""
        return {name: open_array(self.path, file) for name, file in files.items()}

    def sweep(self) -> None:
        """Delete all files, for between two jobs. Arrays that are mapped stay valid (where that is impossible, their files stay)."""
        with contextlib.suppress(OSError):
            for entry in os.scandir(self.path):
                if entry.name != _LOCK:
                    with contextlib.suppress(OSError):
                        os.unlink(entry.path)

    def close(self) -> None:
        """Remove the folder with all that is in it."""
        self._close()


def open_array(folder: Path | None, file: str) -> np.ndarray:
    """The array in ``file``, mapped into memory and read-only. InputError when it is not inside ``folder`` or is no array file."""
    if folder is None:
        raise InputError(f"array file {file}: this worker was started without --folder and takes no arrays")
    path = (folder / file).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise InputError(f"array file {file} lies outside the private folder {folder}; write it there")
    try:
        if path.stat().st_size == 0:
            raise ValueError("it is empty")
        try:
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError:  # an array without elements cannot be mapped
            mapped = np.load(path, allow_pickle=False)
            mapped.flags.writeable = False
    except (OSError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:120]
        raise InputError(f"array file {file} cannot be read ({reason}); wanted a .npy file of numbers") from None
    return np.asarray(mapped)


def save_arrays(
    folder: Path | None, stem: str, arrays: Mapping[str, np.ndarray], check: Callable[[], None] = lambda: None
) -> dict[str, str]:
    """Write ``<stem>-<name>.npy`` for each array; all of them or none. Returns name -> file name. Errors as in ``ArrayFolder.put``."""
    files: dict[str, str] = {}
    try:
        for name, array in arrays.items():
            if not _NAME.fullmatch(name):
                raise ValueError(f"array name {name!r}; wanted letters, digits and underscores")
            if folder is None:
                raise InputError(f"array {name}: this worker was started without --folder and gives no arrays")
            file = f"{stem}-{name}.npy"
            write_array(folder / file, name, np.asarray(array), check)
            files[name] = file
    except BaseException:
        for file in files.values():
            (folder / file).unlink(missing_ok=True)
        raise
    return files


def write_array(path: Path, name: str, array: np.ndarray, check: Callable[[], None] = lambda: None) -> None:
    """One array as ``.npy``, in blocks, under a temporary name that is renamed when it is complete."""
    if array.dtype.hasobject:
        raise ValueError(f"array {name!r} holds Python objects; wanted numbers")
    if not array.flags.c_contiguous and not array.flags.f_contiguous:
        array = np.ascontiguousarray(array)
    data = (array if array.flags.c_contiguous else array.T).reshape(-1).view(np.uint8)
    temporary = path.with_name(f".{path.name}.part")
    try:
        with open(temporary, "xb", buffering=0) as stream:
            header = np.lib.format.header_data_from_array_1_0(array)
            np.lib.format.write_array_header_1_0(stream, header)
            done = 0
            while done < data.size:
                check()
                done += stream.write(memoryview(data[done : done + _BLOCK]))
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(_no_room(f"{name!r} ({data.size / 1e6:.0f} MB)", path.parent, error)) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _no_room(what: str, folder: object, error: OSError) -> str:
    variable = "TEMP" if sys.platform == "win32" else "TMPDIR"
    reason = error.strerror or str(error) or type(error).__name__
    return (
        f"{folder}: cannot write {what}: {reason}; free some space there, or set {variable} to a folder on another disk"
    )


# ---------------------------------------------------------------------------------------------------------------
# Life and death of folders. Whoever holds the lock file is alive; process ids say nothing across containers that share a folder.


def remove_stale() -> None:
    """Remove folders of this user whose client died without doing so."""
    try:
        entries = [entry for entry in os.scandir(tempfile.gettempdir()) if entry.name.startswith(PREFIX)]
    except OSError:
        return
    for entry in entries:
        with contextlib.suppress(OSError):
            about = entry.stat(follow_symlinks=False)
            ours = stat.S_ISDIR(about.st_mode) and (not hasattr(os, "getuid") or about.st_uid == os.getuid())
            if ours and _abandoned(Path(entry.path), about.st_mtime):
                shutil.rmtree(entry.path, ignore_errors=True)


def remove_orphan(folder: Path) -> None:
    """What a worker does when its client died: remove the folder, if it is one that a client made."""
    if folder.name.startswith(PREFIX) and (folder / _LOCK).is_file():
        shutil.rmtree(folder, ignore_errors=True)


def _hold(folder: Path) -> int:
    """Make the lock file, held from the moment that it is there; returns its descriptor."""
    lock = folder / _LOCK
    if fcntl is None:
        return os.open(lock, os.O_RDWR | os.O_CREAT)
    made = folder / f".{_LOCK}"
    handle = os.open(made, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX)
    os.rename(made, lock)
    return handle


def _abandoned(folder: Path, modified: float) -> bool:
    lock = folder / _LOCK
    if not lock.is_file():
        return time.time() - modified > _UNLOCKED_S
    if fcntl is None:
        try:
            lock.unlink()
        except OSError:
            return False
        return True
    handle = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _remove(folder: Path, lock: int, owner: int) -> None:
    if os.getpid() != owner:  # a forked child is not the one who made it
        return
    with contextlib.suppress(OSError):
        os.close(lock)
    shutil.rmtree(folder, ignore_errors=True)
