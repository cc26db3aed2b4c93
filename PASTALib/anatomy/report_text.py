"""Whether a radiology report's impression mentions an organ: the paper's keyword search, and one that understands negation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from .. import taxonomy

_DATA = Path(__file__).with_name("data") / "report_terms.json"


@lru_cache(maxsize=1)
def _terms() -> dict:
    return json.loads(_DATA.read_text(encoding="utf-8"))


def impression(report_text: str) -> str:
    """The impression section of a report, or the whole text when it has no such heading."""
    headers = _terms()["headers"]
    start = re.search(rf"(?im)^\W*(?:{_any(headers['start'])})\s*[:：\n]", report_text)
    if not start:
        return report_text
    rest = report_text[start.end() :]
    stop = re.search(rf"(?im)^\W*(?:{_any(headers['stop'])})\s*[:：]", rest)
    return rest[: stop.start()] if stop else rest


def organ_mention(report_text: str, organ_key: str, negation_aware: bool = False) -> str | None:
    """First sentence of the impression that mentions the organ, or None.

    With ``negation_aware`` sentences that call the organ normal or free of disease are passed over. The reading is cautious: whatever
    it cannot follow stays a mention, so that a diseased organ is not taken for healthy.
    """
    for sentence in _sentences(impression(report_text)):
        clauses = _clauses(sentence) if negation_aware else [sentence]
        for clause in clauses:
            searched = _without_misleading(clause.lower(), organ_key)
            mentions = list(_organ_pattern(organ_key).finditer(searched))
            if mentions and not (negation_aware and all(_cleared(searched, mention) for mention in mentions)):
                return " ".join(sentence.split())
    return None


def _any(words: Iterable[str]) -> str:
    return "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in sorted(words, key=len, reverse=True))


@lru_cache(maxsize=32)
def _pattern(name: str, stems: bool = False) -> re.Pattern:
    words = _terms()[name]
    return re.compile(rf"\b(?:{_any(words)})" + (r"\w*" if stems else r"\b"))


@lru_cache(maxsize=32)
def _organ_pattern(organ_key: str) -> re.Pattern:
    """Organ words, and as group "disease" words that name a disease of it ("hydronephrosis")."""
    extra = _terms()["organs"][organ_key]
    whole = {*taxonomy.organ(organ_key).keywords, *extra["terms"]}
    return re.compile(rf"(?P<disease>\b(?:{_any(extra['diseases'])})\w*)|\b(?:{_any(whole)})s?\b")


def _without_misleading(text: str, organ_key: str) -> str:
    """Blank the phrases that only look like the organ ("hepatic lobe" for the lung), keeping every position."""
    phrases = _terms()["organs"][organ_key]["not"]
    if not phrases:
        return text
    return re.sub(rf"\b(?:{_any(phrases)})\b", lambda match: "_" * len(match.group()), text)


def _sentences(text: str) -> list[str]:
    """Sentences and list items; a decimal point or a number at the start of a line does not end one."""
    parts = re.split(r"(?<=[.!?;。；])\s+|\n+|(?:^|\s)\d+[.)]\s+|;", text)
    return [part.strip() for part in parts if part and part.strip()]


def _clauses(sentence: str) -> list[str]:
    return re.split(rf"(?i)[,;]?\s*\b(?:{_any(_terms()['clause_breaks'])})\b", sentence)


def _cleared(clause: str, mention: re.Match) -> bool:
    """Whether a clause says that the organ mentioned is normal, or denies disease of it."""
    if _pattern("not_negations").search(clause) or _pattern("exceptions").search(clause):
        return False
    before, after = clause[: mention.start()], clause[mention.end() :]
    if _denied_before(before, mention.group(), after):
        return True
    return mention["disease"] is None and (_denied_after(before, after) or _normal(before, after))


def _denied_before(before: str, word: str, after: str) -> bool:
    """ "no … liver …": a negation ahead, and nothing asserted since or later."""
    cue = _pattern("negations").search(before)
    if not cue or _found(before[: cue.start()]):
        return False
    return not _asserted(before[cue.end() :] + word + after)


def _denied_after(before: str, after: str) -> bool:
    """ "liver: no …", "liver without …": only filler words up to the negation, nothing asserted after it."""
    cue = _pattern("negations").search(after)
    if not cue or not _only_fillers(after[: cue.start()]) or not _only_fillers(_own_words(before)):
        return False
    return not _asserted(after[cue.end() :])


def _normal(before: str, after: str) -> bool:
    """ "normal liver", "liver and spleen are unremarkable", and no finding in the rest of the clause."""
    cue = _pattern("normal").search(after)
    if cue and _only_fillers(after[: cue.start()]):
        rest = after[cue.end() :]
        return not _negated_word(after[: cue.start()]) and not _found(before) and not _found(rest)
    cues = list(_pattern("normal").finditer(before))
    if (
        not cues
        or not _only_fillers(before[cues[-1].end() :])
        or re.search(r"\b(?:not|ab|non)\s*-?$", before[: cues[-1].start()])
    ):
        return False
    return not _found(before[: cues[-1].start()]) and not _found(after)


def _negated_word(text: str) -> bool:
    return bool(re.search(r"\bnot\b|\bno\b", text))


def _found(text: str) -> bool:
    """Whether a finding is named that no negation covers."""
    cue = _pattern("negations").search(text)
    if cue and _found(text[: cue.start()]):
        return True
    if cue:
        return _asserted(text[cue.end() :])
    return bool(_pattern("findings", stems=True).search(text)) or bool(re.search(r"\d\s*(?:mm|cm)\b", text))


def _asserted(text: str) -> bool:
    """Whether something is asserted inside the scope of a negation ("no liver lesion, with ascites")."""
    text = _without_closings(text)
    if _pattern("assertions").search(text) or re.search(r"\d\s*(?:mm|cm)\b", text):
        return True
    parts = [part for part in text.split(",")[1:] if not _pattern("negations").match(part.strip())]
    if any(re.search(r"\b(?:is|are|was|were|has|have)\b", part) for part in parts):
        return True
    listed = any(re.search(r"\b(?:or|nor)\b", part) for part in parts)
    return not listed and any(_pattern("findings", stems=True).search(part) for part in parts)


def _without_closings(text: str) -> str:
    """Text without "is seen", "are identified", "are unremarkable": they end a denial, they assert nothing."""
    seen = r"seen|identified|noted|present|evident|demonstrated|detected|visible"
    return re.sub(rf"\b(?:is|are|was|were|appears?)\s+(?:{seen}|{_any(_terms()['normal'])})\b", " ", text)


def _own_words(before: str) -> str:
    """The words of the current statement: what follows the last comma or colon."""
    return re.split(r"[,:]", before)[-1]


def _only_fillers(text: str) -> bool:
    """Whether a stretch holds nothing but fillers and organ names."""
    organs = {word for organ in taxonomy.ORGANS for key in organ.keywords for word in key.split()}
    allowed = {*_terms()["fillers"], *organs}
    return all(word in allowed or word.rstrip("s") in allowed for word in re.findall(r"[a-z_]+", text))
