"""Fetching one large file: resumed when it broke off, complete or not there at all, and never without being told to."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from .errors import InputError
from .progress import Progress, silent

TIMEOUT_S = 30.0
_BLOCK = 1 << 20


def require_online(offline: bool = False) -> None:
    """InputError when ``offline`` or the environment variable ``PASTA_OFFLINE`` forbids connections."""
    if offline or os.environ.get("PASTA_OFFLINE", "").strip().lower() not in ("", "0", "false", "no"):
        raise InputError(
            "offline: nothing is fetched (--offline or PASTA_OFFLINE is set); download the file elsewhere and add it"
        )


def download(url: str, target: Path, progress: Progress = silent) -> str:
    """Fetch ``url`` to ``target`` and return its sha256 in hexadecimal.

    What has arrived is kept in ``<target>.part`` when the transfer breaks off or ``progress`` raises, and continued the next time if the
    server says that the file is still the same. ``progress`` counts bytes. InputError, one line, for everything that a network can do.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise InputError(f"{url}: wanted an address that begins with https://")
    part, label = Path(f"{target}.part"), Path(f"{target}.part.json")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        size = _transfer(url, part, label, progress)
        digest = _sha256(part)
        os.replace(part, target)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = (
            f"{error.code} {error.reason}"
            if isinstance(error, urllib.error.HTTPError)
            else getattr(error, "reason", error)
        )
        raise InputError(
            f"{url}: cannot be fetched ({reason or type(error).__name__}); check the connection and try again"
        ) from None
    except OSError as error:
        raise InputError(
            f"{part}: cannot be written ({error.strerror or error}); free space or choose another folder"
        ) from None
    label.unlink(missing_ok=True)
    progress(size, size, "fetched")
    return digest


def _transfer(url: str, part: Path, label: Path, progress: Progress) -> int:
    """Bring ``part`` to the whole file; its size in bytes."""
    request = urllib.request.Request(url, headers={"User-Agent": "pasta", "Accept-Encoding": "identity"})
    done, version = _resumable(url, part, label)
    if done:
        request.add_header("Range", f"bytes={done}-")
        request.add_header("If-Range", version)
    with _open(request, part, label) as answer:
        if answer.status != 206 or not (answer.headers.get("Content-Range") or "").startswith(f"bytes {done}-"):
            done = 0
        length = answer.headers.get("Content-Length")
        whole = done + int(length) if length and length.isdigit() else 0
        first = answer.read(_BLOCK)
        if not done and _is_page(answer.headers.get("Content-Type", ""), first):
            raise InputError(
                f"{url}: the server sent a web page instead of the file (Google Drive does so for large files and after many downloads); "
                "open the address in a browser, save the file, and add it with pasta models add FILE"
            )
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        label.write_text(json.dumps({"url": url, "version": version}), encoding="utf-8")
        with open(part, "ab" if done else "wb") as file:
            block = first
            while block:
                file.write(block)
                done += len(block)
                progress(done, whole, "fetching")
                block = answer.read(_BLOCK)
    if whole and done != whole:
        raise InputError(
            f"{url}: the transfer ended after {done / 1e6:.1f} of {whole / 1e6:.1f} MB; run the command again, it goes on from there"
        )
    if not done:
        raise InputError(f"{url}: the server sent an empty file; check the address")
    return done


def _open(request: urllib.request.Request, part: Path, label: Path):
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # what is here does not fit what is there: from the beginning
            raise
        error.close()
        part.unlink(missing_ok=True)
        label.unlink(missing_ok=True)
        request.remove_header("Range")
        request.remove_header("If-range")
        return urllib.request.urlopen(request, timeout=TIMEOUT_S)


def _resumable(url: str, part: Path, label: Path) -> tuple[int, str]:
    """Bytes already here and the version that they are of; 0 when it cannot be told."""
    try:
        known = json.loads(label.read_text(encoding="utf-8"))
        if known["url"] == url and known["version"] and not known["version"].startswith("W/"):
            return part.stat().st_size, known["version"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return 0, ""


def _is_page(kind: str, first: bytes) -> bool:
    return (
        kind.startswith("text/html") or re.match(rb"\s*<(!doctype html|html)", first[:200], re.IGNORECASE) is not None
    )


def _sha256(path: Path) -> str:
    total = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            total.update(block)
    return total.hexdigest()
