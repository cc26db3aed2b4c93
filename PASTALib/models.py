"""The model store: weights that were added under a name, and where the authors publish theirs. Needs no torch.

An entry is a folder ``<name>/`` with ``card.json`` and either ``model.pth`` or a copied nnU-Net model folder. Weights that come with the
program are found too. Nothing here opens a checkpoint: who adds a file has loaded it before.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import InputError
from .paths import data_folder

CARD, WEIGHTS = "card.json", "model.pth"
DENOISER = "ddpm.pth"  # among the starter weights, but no model that segments: refinement alone reads it
_HERE = Path(__file__).resolve().parent
_PUBLISHED = _HERE / "networks" / "data" / "published_models.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_RESERVED = re.compile(r"random|(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


@dataclass(frozen=True)
class StoredModel:
    """``path``: what to load, a checkpoint or a folder; ``card``: the card's dictionary, None when the weights hold their own."""

    name: str
    path: Path
    card: dict | None
    bundled: bool = False

    @property
    def bytes(self) -> int:
        """Size on disk."""
        files = [self.path] if self.path.is_file() else self.path.rglob("*")
        return sum(item.stat().st_size for item in files if item.is_file())


@dataclass(frozen=True)
class PublishedModel:
    """Something that the authors publish. ``kind``: "checkpoint", "folder" or "data set"; ``url`` None when a browser is needed."""

    name: str
    title: str
    kind: str
    page: str
    url: str | None
    size: str
    licence: str
    contents: str
    citation: str
    file: str = ""


def store_folder() -> Path:
    """Where added models are kept; the environment variable ``PASTA_MODELS`` overrides. It need not exist."""
    given = os.environ.get("PASTA_MODELS")
    return Path(given).expanduser() if given else data_folder() / "models"


def bundled_folder() -> Path:
    """Where the starter weights of this program lie, if it came with any."""
    return _HERE.parent / "Resources" / "Models"


def published_models() -> list[PublishedModel]:
    """What the authors publish, with licence; nothing of it is ever fetched without being asked for."""
    return [PublishedModel(**entry) for entry in json.loads(_PUBLISHED.read_text(encoding="utf-8"))["models"]]


def list_models() -> list[StoredModel]:
    """Bundled and added models by name; an added one hides a bundled one of the same name."""
    files = [file for file in sorted(bundled_folder().glob("*.pth")) if file.name != DENOISER]
    found = {file.stem: StoredModel(file.stem, file, None, True) for file in files}
    found |= {name: _added(name) for name in _names()}
    return [found[name] for name in sorted(found)]


def find_model(name: str) -> StoredModel | None:
    """The model called ``name``, or None. InputError when its card is damaged."""
    if not _NAME.fullmatch(name):
        return None
    if (store_folder() / name / CARD).is_file():
        return _added(name)
    bundled = bundled_folder() / f"{name}.pth"
    return StoredModel(name, bundled, None, True) if bundled.is_file() and bundled.name != DENOISER else None


def check_name(name: str, overwrite: bool = False) -> str:
    """``name`` if a model may be added under it."""
    if not _NAME.fullmatch(name) or _RESERVED.fullmatch(name):
        raise InputError(f"model name {name!r}: wanted letters, digits, dot, dash and underscore, and not random")
    if not overwrite and (store_folder() / name).exists():
        raise InputError(f"model {name!r} is in the store already; add --overwrite or choose another name")
    return name


def add_model(
    source: str | Path, name: str, card: Mapping, *, overwrite: bool = False, move: bool = False
) -> StoredModel:
    """Copy a checkpoint or an nnU-Net model folder into the store, with ``card`` (``ModelCard.to_json``); complete or not at all.

    Of a folder only plans.json, dataset.json and one checkpoint of each fold are taken. ``move``: take the file instead of copying it.
    InputError for a name that is no good or taken, and when the disk is full or cannot be written.
    """
    source = Path(source)
    check_name(name, overwrite)
    store = store_folder()
    try:
        store.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".adding-", dir=store))
    except OSError as error:
        raise InputError(
            f"model store {store} cannot be written ({error.strerror}); set PASTA_MODELS to another folder"
        ) from None
    try:
        fresh, old = staging / name, staging / "old"
        fresh.mkdir()
        if source.is_dir():
            _copy_folder(source, fresh)
        elif move:
            shutil.move(source, fresh / WEIGHTS)
        else:
            shutil.copyfile(source, fresh / WEIGHTS)
        (fresh / CARD).write_text(json.dumps(dict(card), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if (store / name).exists():
            os.rename(store / name, old)
        try:
            os.rename(fresh, store / name)
        except OSError:
            if old.exists():
                os.rename(old, store / name)
            raise
    except OSError as error:
        raise InputError(
            f"{source} cannot be copied to {store} ({error.strerror or error}); free space or set PASTA_MODELS"
        ) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return find_model(name)


def remove_models(names: list[str] | None = None) -> list[str]:
    """Remove added models, all without ``names``, and whatever an interrupted download left; the names that went. Bundled ones stay."""
    store = store_folder()
    added = _names()
    unknown = [name for name in names or () if name not in added]
    if unknown:
        raise InputError(f"model {unknown[0]!r} is not in the store; there: {', '.join(added) or 'none'}")
    chosen = added if names is None else list(dict.fromkeys(names))
    for name in chosen:
        shutil.rmtree(store / name)
    if names is None:
        for left in (*store.glob(".adding-*"), *store.glob(".downloads")):
            shutil.rmtree(left, ignore_errors=True)
    return chosen


def _names() -> list[str]:
    return sorted(card.parent.name for card in store_folder().glob(f"*/{CARD}") if _NAME.fullmatch(card.parent.name))


def _added(name: str) -> StoredModel:
    folder = store_folder() / name
    weights = folder / WEIGHTS
    return StoredModel(name, weights if weights.is_file() else folder, _read_card(folder / CARD))


def _copy_folder(source: Path, target: Path) -> None:
    inner = target / source.name
    inner.mkdir()
    for name in ("plans.json", "dataset.json"):
        shutil.copyfile(source / name, inner / name)
    for fold in sorted(source.glob("fold_*")):
        file = next((fold / n for n in ("checkpoint_final.pth", "checkpoint_best.pth") if (fold / n).is_file()), None)
        if file is not None:
            (inner / fold.name).mkdir()
            shutil.copyfile(file, inner / fold.name / file.name)


def _read_card(path: Path) -> dict:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        data = None
    if not isinstance(data, dict):
        raise InputError(
            f"{path} is damaged; remove it with pasta models clear {path.parent.name}, and add the model again"
        )
    return data
