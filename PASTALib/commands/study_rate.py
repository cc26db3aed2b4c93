"""``pasta study rate``: rating in a terminal, with the image in any viewer. The module PASTAStudy does the same in Slicer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError

if TYPE_CHECKING:
    from ..study.session import ReaderSession, StudyItem

_HELP = "b back, f forward, s skip, p pause, c TEXT comment, q quit"


def command(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of the study.")],
    reader: Annotated[str, typer.Option(metavar="NAME", help="Your name in the study.")],
) -> None:
    """Rate the cases of a study in the terminal: one line per case, with the image open in a viewer of your choice.

    Type the scores (1 to 5, one per question, with spaces) or b (back), f (forward), s (skip), p (pause), c TEXT (comment), q (quit). Every rating is on
    the disk when the next case appears.
    """
    from ..study.session import ReaderSession, open_study

    with ReaderSession(open_study(study), reader) as session:
        if session.note:
            typer.echo(f"note: {session.note}", err=True)
        _loop(session)
        done, of = session.progress
    receipt = session.receipt()
    typer.echo(f"{done} of {of} rated; receipt: {receipt['events']} events, {receipt['hash'][:12]}")


def _loop(session: ReaderSession) -> None:
    comment, shown, part = "", None, None
    while session.item is not None:
        item = session.item
        if item.part != part:
            typer.echo(f"\n{session.study.part_title(item.part)}. {session.study.instructions(item.part)}\n({_HELP})")
            part = item.part
        if item.item != shown:
            _show(session, item)
            shown, comment = item.item, ""
        try:
            line = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            typer.echo()
            return
        word = line[:1].lower()
        try:
            if word == "q":
                return
            if word == "c":
                comment = line[1:].strip()
                typer.echo("comment kept for this case")
            elif word == "p":
                _pause(session)
            elif word in ("b", "f"):
                if not (session.back() if word == "b" else session.forward()):
                    typer.echo("there is no such case within this part")
            elif word == "s":
                session.skip()
                shown = None
            else:
                session.rate(_scores(session, line), comment=comment)
        except InputError as error:
            if session.item is None:
                raise
            typer.echo(f"not stored: {error}")
    typer.echo(session.blocked or "Everything is rated. Thank you.")


def _show(session: ReaderSession, item: StudyItem) -> None:
    done, of = session.progress
    practice = ", practice" if item.practice else ""
    typer.echo(f"\n[{done + 1}/{of}{practice}] {item.title}   {item.image}")
    level, width = item.window
    typer.echo(
        f"  at R {item.pointer_ras[0]:g}, A {item.pointer_ras[1]:g}, S {item.pointer_ras[2]:g} mm; level {level:g}, width {width:g} HU"
    )
    for name, text in item.report or []:
        typer.echo(f"  {name}: {text}")
    for question in session.questions:
        given = f" (now {item.scores[question.key]})" if question.key in item.scores else ""
        typer.echo(f"  {question.text}  1 {question.anchors[1]} … 5 {question.anchors[5]}{given}")


def _scores(session: ReaderSession, line: str) -> dict[str, int]:
    keys = [question.key for question in session.questions]
    words = line.replace(",", " ").split()
    if len(words) == 1 and len(keys) > 1 and len(words[0]) == len(keys):
        words = list(words[0])  # 54545
    if len(words) != len(keys) or not all(word.isdecimal() for word in words):
        raise InputError(
            f"type {len(keys)} number{'s' if len(keys) > 1 else ''} from 1 to 5 ({', '.join(keys)}), or one of: {_HELP}"
        )
    return dict(zip(keys, map(int, words)))


def _pause(session: ReaderSession) -> None:
    session.pause()
    try:
        input("paused; Enter goes on ")
    except EOFError:
        pass
    session.resume()
