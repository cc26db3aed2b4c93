"""What the panel says: the next step, and remarks on a lesion. No Qt, no nodes."""

from __future__ import annotations

from math import dist

from slicer.i18n import tr as _

from ..mrml.placed_lesion import PlacedLesion
from ..mrml.session import SynthesisSession
from ..refinement.closed_loop import refinement_note
from ..synthesis.scan import PreparedScan
from ..synthesis.spec import SynthesisResult

OFF_VOXELS = 0.5  # of the finest axis: a lesion farther from the click is said to be


def next_step(parameters, session: SynthesisSession | None, placing: bool, found) -> str:
    """One line for a first-time user. ``found``: output volume of a session that can be continued, or None."""
    if session is None:
        if found is not None:
            return _("This scene holds a session, {name}: press Continue to go on with it.").format(
                name=found.GetName()
            )
        if parameters.ct is None:
            return _("Load a CT (or the phantom of Sample Data), then choose it below.")
        if parameters.organs is None:
            return _("Choose a segmentation or label map of the organs, or have one computed.")
        return _("Press Start: the scan is measured once, then lesions can be placed.")
    if placing:
        return _("Click in a slice or 3D view where the lesion shall be. Esc cancels.")
    if session.current is not None:
        return _("Change what you like, drag the point to move it; Accept (Ctrl+Return) keeps the lesion.")
    if session.lesions:
        return _("Place another lesion, or save below: the new volume and segmentation are in the scene.")
    return _("Choose a type, press Place, and click in a view.")


def remarks(result: SynthesisResult, click: tuple[float, float, float] | None, scan: PreparedScan) -> list[str]:
    """What a user should know about a lesion: where it lies, what could not be shown, what became of its refinement."""
    lines = []
    if click is not None:
        off = dist(result.center_ras, click)
        if off > OFF_VOXELS * float(scan.spacing.min()) + 1e-6:
            lines.append(
                _(
                    "Its centre lies {off:.1f} mm from the click, at the nearest place where this lesion can lie."
                ).format(off=off)
            )
    if not result.accepted:
        why = result.log[-1].split(": ", 1)[-1] if result.log else ""
        lines.append(_("Not all that was asked for could be shown ({why}); the table says what is.").format(why=why))
    note = refinement_note(result)
    if note:
        lines.append(note[:1].upper() + note[1:] + ".")
    return lines


def line_of(lesion: PlacedLesion, edited: bool) -> str:
    """A lesion in the list."""
    if lesion.is_draft:
        return _("{name}, being measured").format(name=lesion.name)
    report = lesion.result.report
    place = report.location_detail or report.organ.name
    text = _("{name}: {size}, {place}").format(name=lesion.name, size=report.value("size"), place=place)
    return _("{text} (not accepted yet)").format(text=text) if edited else text
