"""An output folder that appears complete or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from ..errors import InputError


class OutputFolder:
    """Context manager: files are written to a hidden folder beside the target and moved there only when everything went well.

    ``InputError`` when the target is a file, is in use and ``overwrite`` is off, or cannot be written. With ``overwrite`` the new files replace
    those of the same name, and files that match ``stale`` are removed from the folders that get new ones; anything else in there stays.
    """

    def __init__(
        self,
        path: str | Path,
        overwrite: bool = False,
        option: str = "--out",
        stale: tuple[str, ...] = ("preview*.png", "lesions.nii.gz"),
    ):
        self.path = Path(path).expanduser()
        self._stale = stale
        try:
            self._prepare(overwrite, option)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise InputError(f"{option} {self.path} cannot be written ({reason}); choose another folder") from None

    def _prepare(self, overwrite: bool, option: str) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{option} {self.path} is a file; give a folder")
        if self.path.is_dir() and not overwrite and any(self.path.iterdir()):
            raise InputError(f"{option} {self.path} exists and is not empty; add --overwrite or choose another folder")
        self._base = self.path
        while not self._base.exists():
            self._base = self._base.parent
        if not self._base.is_dir():
            raise InputError(f"{option} {self.path} lies below a file, {self._base}; choose another folder")
        with tempfile.TemporaryDirectory(prefix=".pasta-", dir=self._base):
            pass  # it can be written, found out before the long work rather than after it

    def __enter__(self) -> Path:
        self._staging = Path(tempfile.mkdtemp(prefix=".pasta-", dir=self._base))
        return self._staging

    def __exit__(self, kind, error, traceback) -> None:
        try:
            if kind is None:
                self._publish()
        finally:
            shutil.rmtree(self._staging, ignore_errors=True)

    def _publish(self) -> None:
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            umask = os.umask(0)
            os.umask(umask)
            self._staging.chmod(0o777 & ~umask)
            os.rename(self._staging, self.path)
            return
        for folder, _, names in os.walk(self._staging):
            target = self.path / Path(folder).relative_to(self._staging)
            target.mkdir(parents=True, exist_ok=True)
            for pattern in self._stale if names else ():
                for old in target.glob(pattern):
                    old.unlink()
            for name in names:
                os.replace(Path(folder) / name, target / name)
