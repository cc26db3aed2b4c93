"""Section fidelity: does the written image show what each report says, and does the mask obey the rules of its type?"""

from __future__ import annotations

from collections import Counter

import numpy as np

from .cases import all_cases
from .options import Options
from .tables import Check, Section, percent, quantile, table

TARGET_PASSED, TARGET_FIRST = 98.0, 60.0
ATTRIBUTES = ("enhancement", "location", "size", "shape", "density", "heterogeneity", "surface", "invasion")


def run(options: Options) -> Section:
    """Make, read back and judge the cases of every type and host."""
    records, remarks = all_cases(options)
    section = Section("fidelity: every accepted lesion measured again from CT, mask and organ map")
    section.text += remarks
    hosts = list(dict.fromkeys(r["host"] for r in records))
    for host in hosts:
        here = [r for r in records if r["host"] == host]
        section.text.append(f"### {host}\n\n" + _table(here) + "\n\n" + _attribute_table(here))
        section.checks += _checks(host, here)
    section.text.append(_failures(records))
    section.data = {"records": [{k: v for k, v in r.items() if k != "texture"} for r in records]}
    return section


def passed(record: dict) -> bool:
    """All attribute checks (not measurable does not count against) and all geometry checks."""
    return all(v is not False for v in record["attributes"].values()) and all(record["geometry"].values())


def _types(records) -> list[str]:
    return list(dict.fromkeys(r["lesion"] for r in records))


def _table(records) -> str:
    rows = []
    for lesion in _types(records):
        free = [r for r in records if r["lesion"] == lesion and not r["sized"]]
        accepted = [r for r in records if r["lesion"] == lesion and r["accepted"]]
        sized = [r for r in records if r["lesion"] == lesion and r["sized"]]
        rows.append(
            (
                lesion,
                len(free),
                percent(r["accepted"] for r in free),
                percent(r["accepted"] and r["tries"] == 1 for r in free),
                sum(r["tries"] for r in free) / max(len(free), 1),
                f"{percent(passed(r) for r in accepted):.1f} ({len(accepted)})" if accepted else "–",
                f"{percent(r['accepted'] for r in sized):.0f} ({len(sized)})" if sized else "–",
                quantile([r["seconds"] for r in free], 0.5),
                quantile([r["seconds"] for r in free], 0.95),
                quantile([r["cpu_seconds"] for r in free], 0.5),
            )
        )
    head = ("type", "n", "accepted %", "first try %", "mean tries", "checks passed % (n)", "size asked: accepted % (n)")
    return table((*head, "s median", "s p95", "CPU s median"), rows)


def _attribute_table(records) -> str:
    """Per attribute: % of the measurable that agree, and in brackets % not measurable."""
    rows = []
    for lesion in _types(records):
        accepted = [r for r in records if r["lesion"] == lesion and r["accepted"]]
        if not accepted:
            continue
        row = [lesion, len(accepted)]
        for key in ATTRIBUTES:
            values = [r["attributes"][key] for r in accepted]
            known = [v for v in values if v is not None]
            unknown = percent(v is None for v in values)
            row.append(f"{percent(known):.0f}" + (f" ({unknown:.0f} n.m.)" if unknown else ""))
        names = dict.fromkeys(k for r in accepted for k in r["geometry"])
        row.append(f"{percent(all(r['geometry'].values()) for r in accepted):.0f}")
        bad = {k: sum(not r["geometry"].get(k, True) for r in accepted) for k in names}
        row.append(", ".join(f"{k} {n}" for k, n in bad.items() if n) or "none")
        offsets = [r["figures"].get("edge_offset_mm") for r in accepted]
        row.append(quantile(offsets, 0.5))
        rows.append(row)
    return table(("type", "n", *ATTRIBUTES, "geometry %", "geometry failures", "edge offset mm"), rows)


def _checks(host: str, records) -> list[Check]:
    accepted = [r for r in records if r["accepted"]]
    free = [r for r in records if not r["sized"]]
    sized = [r for r in accepted if "size as asked" in r["geometry"]]
    first = {t: percent(r["accepted"] and r["tries"] == 1 for r in free if r["lesion"] == t) for t in _types(records)}
    joint = {t: percent(passed(r) for r in accepted if r["lesion"] == t) for t in _types(accepted)}
    benign = [r for r in accepted if "touches no other organ" in r["geometry"]]
    offsets = [r["figures"].get("edge_offset_mm") for r in accepted]
    checks = [
        Check(
            f"{host}: all checks passed", percent(passed(r) for r in accepted), TARGET_PASSED, 100, "%", len(accepted)
        ),
        Check(
            f"{host}: accepted within the tries",
            percent(r["accepted"] for r in free),
            TARGET_PASSED,
            100,
            "%",
            len(free),
        ),
        Check(f"{host}: |edge offset| median", abs(quantile(offsets, 0.5)), 0, 0.5, "mm", len(accepted)),
    ]
    if joint:
        worst = min(joint, key=joint.get)
        count = sum(r["lesion"] == worst for r in accepted)
        checks.append(
            Check(f"{host}: checks passed, worst type ({worst})", joint[worst], TARGET_PASSED, 100, "%", count)
        )
    shifts = {
        t: quantile([r["figures"].get("edge_offset_mm") for r in accepted if r["lesion"] == t], 0.5) for t in joint
    }
    shifts = {t: abs(v) for t, v in shifts.items() if np.isfinite(v)}
    if shifts:
        worst = max(shifts, key=shifts.get)
        checks.append(Check(f"{host}: |edge offset| median, worst type ({worst})", shifts[worst], 0, 0.5, "mm"))
    if first:
        worst = min(first, key=first.get)
        count = sum(r["lesion"] == worst for r in free)
        checks.append(Check(f"{host}: first try, worst type ({worst})", first[worst], TARGET_FIRST, 100, "%", count))
    if benign:
        wrong = sum(not r["geometry"]["touches no other organ"] for r in benign)
        checks.append(Check(f"{host}: benign lesions that touch another organ", wrong, 0, 0, "", len(benign)))
    if sized:
        checks.append(
            Check(
                f"{host}: size as asked",
                percent(r["geometry"]["size as asked"] for r in sized),
                TARGET_PASSED,
                100,
                "%",
                len(sized),
            )
        )
    return checks


def _failures(records) -> str:
    """What failed: cases by type and check, and the commonest reasons for another try."""
    rows = []
    for r in records:
        if r["accepted"] and not passed(r):
            wrong = [k for k, v in r["attributes"].items() if v is False]
            notes = [
                f"{k}: report {r['options'][k]!r}, image {r['again'].get(k, 'between options')!r} ({r['reasons'].get(k, '')})"
                for k in wrong
            ]
            notes += [k for k, v in r["geometry"].items() if not v]
            rows.append((r["host"], r["lesion"], r["seed"], "; ".join(notes)))
    text = "### accepted cases that failed a check\n\n" + (
        table(("host", "type", "seed", "what"), rows[:60]) if rows else "none"
    )
    reasons = Counter()
    for r in records:
        for line in [*r.get("log", []), *([r["error"]] if r.get("error") else [])]:
            reasons[r["host"], r["lesion"], _reason(line)] += 1
    top = [(h, t, why, n) for (h, t, why), n in reasons.most_common(30)]
    return (
        text
        + "\n\n### commonest reasons for another try\n\n"
        + (table(("host", "type", "reason", "times"), top) if top else "none")
    )


def _reason(line: str) -> str:
    """A rejection without its numbers."""
    text = line.split(": ", 1)[1] if line.startswith("try ") else line
    text = text.split("(", 1)[0].strip()
    return " ".join("#" if any(ch.isdigit() for ch in word) else word for word in text.split())[:90]
