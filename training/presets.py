"""Named settings of the training commands, from ``presets.toml``: the paper's, the published code's, and small ones for tests."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

from PASTALib.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = Path(__file__).with_name("presets.toml")


@lru_cache(maxsize=1)
def _tables() -> dict:
    with FILE.open("rb") as stream:
        return tomllib.load(stream)


def names(command: str) -> list[str]:
    """The presets of a command."""
    return list(_tables().get(command, {}))


def preset(command: str, name: str, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Settings of the preset ``name`` of a command, those it inherits included, with ``changes`` made.

    InputError for a preset that there is not, and for changed settings that it does not have or of another kind.
    """
    known = _tables().get(command, {})
    if name not in known:
        raise InputError(f"{command}: no preset {name!r}; use one of {', '.join(known) or 'none'}")
    settings: dict[str, Any] = {}
    chain, at = [], name
    while at is not None:
        if at in chain or at not in known:
            raise InputError(
                f"{FILE.name}: [{command}.{chain[-1] if chain else name}] inherits from {at!r}, which leads nowhere"
            )
        chain.append(at)
        at = known[at].get("inherits")
    for at in reversed(chain):
        settings |= known[at]
    settings.pop("inherits", None)
    for key, value in (changes or {}).items():
        settings[key] = _fitting(command, key, value, settings)
    return settings


def parse_changes(items: Sequence[str]) -> dict[str, Any]:
    """``KEY=VALUE`` texts as a dictionary; values are numbers, true, false, lists as in JSON, or text."""
    changes = {}
    for item in items:
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not key or not value:
            raise InputError(f"--set {item!r} is not understood; write KEY=VALUE, such as --set steps=500")
        try:
            changes[key] = json.loads(value)
        except json.JSONDecodeError:
            changes[key] = value
    return changes


def _fitting(command: str, key: str, value: Any, settings: Mapping[str, Any]) -> Any:
    """``value`` if it is of the kind of the preset's own (whole numbers serve for fractions)."""
    if key not in settings:
        close = get_close_matches(key, settings, n=1)
        hint = f"; did you mean {close[0]}?" if close else f"; it has {', '.join(settings)}"
        raise InputError(f"{command} has no setting {key!r}{hint}")
    present = settings[key]
    if isinstance(present, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(present):
        raise InputError(f"{command}: {key} is {value!r}; wanted a {type(present).__name__} such as {present!r}")
    return value
