"""``slicer.i18n``: marks and looks up translated texts. Written for tests, from Slicer's documented behaviour."""

from __future__ import annotations

from string import Formatter

_translations: dict[str, str] = {}


def translate(context: str, text: str) -> str:
    """The translation of a literal, or the text itself. Placeholders must be named and survive translation."""
    if not isinstance(text, str):
        raise TypeError(f"only a string literal can be translated, not {text!r}")
    wanted = _fields(text)
    unnamed = [name for name in wanted if not name.isidentifier()]
    if unnamed:
        raise ValueError(f"placeholders must have names, as in {{name}}: {text!r}")
    translated = _translations.get(text, text)
    if _fields(translated) != wanted:
        raise ValueError(f"the translation {translated!r} of {text!r} changed the placeholders")
    return translated


def tr(text: str) -> str:
    return translate("", text)


def set_translations(table: dict[str, str]) -> None:
    """For tests: translate by this table from now on; an empty one ends it."""
    _translations.clear()
    _translations.update(table)


def _fields(text: str) -> list[str]:
    try:
        return sorted(name for _, name, _, _ in Formatter().parse(text) if name is not None)
    except ValueError as error:
        raise ValueError(f"unbalanced braces in {text!r}: {error}") from error
