"""What a reader is told between cases: the beginning of a part, a pause, a washout, a case that cannot be shown, the end."""

from __future__ import annotations

from dataclasses import dataclass

from slicer.i18n import tr as _

from ..study.session import ReaderSession, StudyItem

START, NEXT, PAUSE, WAIT, BROKEN, END = "start", "next", "pause", "wait", "broken", "end"


@dataclass(frozen=True)
class Page:
    """A page in the place of a case: ``button`` is also what Enter does, ``second`` another way on ("" for none)."""

    kind: str
    title: str
    text: str
    button: str
    second: str = ""


def block_of(item: StudyItem) -> tuple:
    """Items that are read in one go; a page comes before each block."""
    return item.session, item.part, item.practice


def start_page(session: ReaderSession) -> Page:
    """Before the first case of a block that is read now."""
    item, study = session.item, session.study
    rated, of = session.session_progress
    title = study.part_title(item.part)
    if item.practice:
        title = _("Practice: {part}").format(part=title)
    lines = [study.instructions(item.part)]
    if item.practice:
        lines.append(_("These cases are for practice; they do not count."))
    if study.sessions > 1:
        lines.append(_("Session {number} of {of}.").format(number=item.session, of=study.sessions))
    if rated:
        lines.append(_("{rated} of {of} cases are rated; you go on where you left.").format(rated=rated, of=of))
    else:
        lines.append(_("{of} cases.").format(of=of))
    if len(session.questions) > 1:
        lines.append(
            _("Keys: 1 to 5 score the row that is marked, \u2191 and \u2193 choose another, Enter confirms the case.")
        )
    else:
        lines.append(_("Keys: 1 to 5 rate the case and show the next, Backspace goes back."))
    if session.note:
        lines.append(session.note[:1].upper() + session.note[1:])
    return Page(START, title, "\n\n".join(lines), _("Go on (Enter)") if rated else _("Start (Enter)"))


def pause_page() -> Page:
    """While the images are hidden."""
    return Page(PAUSE, _("Paused"), _("The image is hidden, and no time counts."), _("Continue (Enter)"))


def wait_page(session: ReaderSession) -> Page:
    """While a washout lasts."""
    reason = session.blocked or ""
    text = _("{reason}. All your ratings are stored; come back then.").format(reason=reason[:1].upper() + reason[1:])
    return Page(WAIT, _("This session is done"), text, _("Leave (Enter)"))


def broken_page(line: str) -> Page:
    """Instead of a case that cannot be read."""
    text = _("{reason}\n\nSkip it to go on with the next case, and tell the study lead.").format(reason=line)
    return Page(BROKEN, _("This case cannot be shown"), text, _("Skip this case (Enter)"), _("Try again"))


def end_page(session: ReaderSession) -> Page:
    """After the last case."""
    of, path = session.progress[1], session.study.store_path(session.reader)
    text = _(
        "You have rated all {of} cases. Every rating is stored; thank you.\n\nNow tell the study lead. If you read a copy of the study, send "
        "the file {file} of its folder."
    ).format(of=of, file=f"{path.parent.name}/{path.name}")
    return Page(END, _("Finished"), text, _("Leave (Enter)"), _("Back to the last case"))
