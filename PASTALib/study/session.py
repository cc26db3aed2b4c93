"""One reader at work: which case is next, storing its scores, going back, skipping, pausing, taking up where it was left."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timezone

from ..errors import InputError
from .chain import RATING, RECEIPT, SKIP, Event, Head
from .package import RATINGS, SCORES, Question, StudyItem, StudyPackage, open_study
from .store import RatingStore, plain_number

__all__ = ["Question", "ReaderSession", "StudyItem", "StudyPackage", "open_study"]

MAX_COMMENT = 2000
_DAY_S = 86400.0


class ReaderSession:
    """The session of one reader; the module and ``pasta study rate`` drive it.

    ``item`` is the case to be rated now: None when everything is rated, or while ``blocked`` says that a washout pause is not over.
    ``rate`` stores durably before it returns. The time on an image runs from the moment it becomes ``item``, or from ``shown()``, which a
    viewer calls once the image can be seen; pauses are left out. ``note`` is a remark for the user about where ratings are kept, or None.

    view_summaries: whether the reader agreed to have window, level and scrolling stored; without it ``view`` is dropped.
    clock: seconds since 1970, for time stamps and washout. Not for use from several threads.
    """

    def __init__(
        self,
        study: StudyPackage,
        reader: str,
        clock: Callable[[], float] = time.time,
        view_summaries: bool = False,
    ):
        if study.closed:
            raise InputError(f"{study.folder}: the study is closed; nothing more can be rated")
        self.study, self.reader = study, study.check_reader(reader)
        self._clock = clock
        self._timer = (
            time.monotonic if clock is time.time else clock
        )  # the computer's clock may be set while somebody reads
        self._view_summaries = view_summaries
        self._items = study.items(reader)
        self._store: RatingStore | None = RatingStore(study.store_path(reader), study.study_id, reader, study.digest)
        self.note = self._store.note
        problems = self._store.problems()
        if problems:
            self._store.close()
            raise InputError(f"{self._store.path}: {problems[0]}; keep the file and tell the study lead")
        self._scores: dict[int, dict[str, int]] = {}
        self._skipped: dict[int, int] = {}
        self._rated_at: dict[int, float] = {}
        for event in self._store.events():
            self._take(event)
        self._head: Head = self._store.head
        self._index: int | None = None
        self._paused = False
        self._go(self._next())

    # What is now -------------------------------------------------------------------------------------------------

    @property
    def item(self) -> StudyItem | None:
        """The case to be rated, with the scores given so far; None when all is rated or while ``blocked``."""
        return None if self._index is None else self._with_scores(self._index)

    @property
    def questions(self) -> list[Question]:
        """The questions about the present case; none without a case."""
        return [] if self._index is None else self.study.questions(self._items[self._index].part)

    @property
    def progress(self) -> tuple[int, int]:
        """How many items are rated, of how many."""
        return len(self._scores), len(self._items)

    @property
    def session_progress(self) -> tuple[int, int]:
        """The same within the present sitting and part (the whole study when there is no present case)."""
        if self._index is None:
            return self.progress
        block = [item for item in self._items if _block(item) == _block(self._items[self._index])]
        return sum(item.item in self._scores for item in block), len(block)

    @property
    def finished(self) -> bool:
        return len(self._scores) == len(self._items)

    @property
    def paused(self) -> bool:
        return self._paused

    @property
    def blocked(self) -> str | None:
        """Why the next sitting cannot begin yet, or None. The washout begins with the last rating of the sitting before."""
        place = self._next(ignore_washout=True)
        return None if place is None else self._blocked(self._items[place])

    def upcoming(self, n: int = 1) -> list[StudyItem]:
        """The ``n`` cases that come after the present one if it is rated now; for reading ahead."""
        waiting = [place for place in self._waiting() if place != self._index]
        return [self._with_scores(place) for place in waiting[: max(0, n)] if not self._blocked(self._items[place])]

    # What the reader does ----------------------------------------------------------------------------------------

    def rate(
        self,
        scores: Mapping[str, int],
        confidence: float | None = None,
        comment: str = "",
        view: Mapping | None = None,
    ) -> Event:
        """Store the scores of the present case and go to the next one that is not rated.

        scores: 1 to 5 for every question. confidence: 0 to 100 %, or None. comment: up to 2000 characters. view: a small JSON object
        about window, level and scrolling. When this returns, the rating is on the disk. InputError for scores that are missing or out of
        range, without a present case, and when the disk refuses (the rating is then not stored and the case stays).
        """
        item = self._current("rate")
        checked = self._checked(scores)
        plain_number(confidence, 0, 100, "confidence")
        if len(comment) > MAX_COMMENT:
            raise InputError(f"the comment has {len(comment)} characters; shorten it to {MAX_COMMENT}")
        return self._append(RATING, item, checked, confidence, comment, self._plain_view(view))

    def skip(self) -> Event:
        """Leave the present case for the end of its part of the sitting."""
        return self._append(SKIP, self._current("skip"), {}, None, "", None)

    def back(self) -> bool:
        """Go to the case before, within the same part and sitting; False when there is none."""
        return self._step(-1)

    def forward(self) -> bool:
        """Go to the case after the present one, as far as cases have been seen; False when there is none."""
        return self._step(1)

    def pause(self) -> None:
        """Stop the time on the image."""
        if not self._paused:
            self._seconds, self._paused = self._elapsed(), True

    def resume(self) -> None:
        """Let the time on the image run on; a washout that is over by now is noticed as well."""
        if self._paused:
            self._paused, self._since = False, self._timer()
        if self._index is None:
            self._go(self._next())

    def shown(self) -> None:
        """The present image has just become visible: its time begins now."""
        self._seconds, self._since = 0.0, self._timer()

    def receipt(self) -> dict:
        """What a reader keeps as proof: number and hash of the last event. Written to ``ratings/<reader>.receipt.json`` by ``close``."""
        return {
            "study": self.study.study_id, "reader": self.reader, "events": self._head.seq, "hash": self._head.hash,
            "time": _iso(self._clock()),
        }  # fmt: skip

    def close(self) -> None:
        """Close the store and leave the receipt beside it. May be called twice."""
        if self._store is None:
            return
        self._store.close()
        self._store = None
        self._index = None
        path = self.study.folder / RATINGS / f"{self.reader}{RECEIPT}"
        try:
            temporary = path.with_suffix(".tmp")
            temporary.write_text(json.dumps(self.receipt(), indent=1) + "\n", encoding="utf-8")
            os.replace(temporary, path)
        except OSError as error:
            raise InputError(
                f"{path}: the receipt was not written ({error.strerror}); the ratings are stored"
            ) from error

    def __enter__(self) -> ReaderSession:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    # Inside ------------------------------------------------------------------------------------------------------

    def _append(self, kind: str, item: StudyItem, scores: dict, confidence, comment: str, view: dict | None) -> Event:
        seconds = round(max(0.0, self._elapsed()), 3)
        event = self._store.append(
            self._head, kind=kind, item=item.item, case_id=item.case, part=item.part, session=item.session, practice=item.practice,
            repeat=item.repeat, scores=scores, confidence=confidence, comment=comment, seconds=seconds, view=view, time=_iso(self._clock()),
        )  # fmt: skip
        self._head = Head(event.seq, event.hash)
        self._take(event)
        self._go(self._next())
        return event

    def _take(self, event: Event) -> None:
        if event.kind == RATING:
            self._scores[event.item] = event.scores
            self._rated_at[event.item] = datetime.fromisoformat(event.time).timestamp()
        else:
            self._skipped[event.item] = event.seq

    def _current(self, what: str) -> StudyItem:
        if self._store is None:
            raise InputError(f"the session of {self.reader} is closed; log in again")
        if self._index is None:
            raise InputError(self.blocked or f"nothing to {what}: {self.reader} has rated every case")
        return self._items[self._index]

    def _checked(self, scores: Mapping[str, int]) -> dict[str, int]:
        wanted = [question.key for question in self.questions]
        unknown = [key for key in scores if key not in wanted]
        missing = [key for key in wanted if key not in scores]
        if unknown or missing:
            what = f"{', '.join(unknown)} is not asked" if unknown else f"{', '.join(missing)} has no score"
            raise InputError(f"{what}; give 1 to 5 for {', '.join(wanted)}")
        for key in wanted:
            if isinstance(scores[key], bool) or scores[key] not in SCORES:
                raise InputError(f"{key} is {scores[key]!r}; give a whole number from 1 to 5")
        return {key: int(scores[key]) for key in wanted}

    def _plain_view(self, view: Mapping | None) -> dict | None:
        if view is None or not self._view_summaries:
            return None
        try:
            return json.loads(json.dumps(dict(view), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise InputError(
                f"the summary of the view cannot be stored ({error}); use plain numbers and text"
            ) from None

    def _with_scores(self, place: int) -> StudyItem:
        item = self._items[place]
        return replace(item, scores=dict(self._scores.get(item.item, {})))

    def _waiting(self) -> list[int]:
        """Places that are not rated, in the order in which they come: skipped ones at the end of their block."""
        places = [place for place, item in enumerate(self._items) if item.item not in self._scores]
        first: dict[tuple, int] = {}
        for place, item in enumerate(self._items):
            first.setdefault(_block(item), place)
        return sorted(
            places, key=lambda p: (first[_block(self._items[p])], self._skipped.get(self._items[p].item, 0), p)
        )

    def _next(self, ignore_washout: bool = False) -> int | None:
        waiting = self._waiting()
        if not waiting or (not ignore_washout and self._blocked(self._items[waiting[0]])):
            return None
        return waiting[0]

    def _blocked(self, item: StudyItem) -> str | None:
        days = self.study.washout_days
        earlier = [self._rated_at[i.item] for i in self._items if i.session < item.session and i.item in self._rated_at]
        if not earlier or not days or item.item in self._scores:
            return None
        if any(i.session == item.session and i.item in self._rated_at for i in self._items):
            return None  # the sitting has begun; a late change in an earlier one does not interrupt it
        left = max(earlier) + days * _DAY_S - self._clock()
        if left <= 0:
            return None
        begins = datetime.fromtimestamp(max(earlier) + days * _DAY_S).strftime("%Y-%m-%d %H:%M")
        return f"session {item.session} of {self.study.sessions} begins on {begins}: {days:g} days lie between two sessions"

    def _step(self, by: int) -> bool:
        if self._store is None or not self._items:
            return False
        if self._index is None:
            place = (
                None if by > 0 else max((p for p, i in enumerate(self._items) if i.item in self._scores), default=None)
            )
        else:
            place = self._index + by
            if not 0 <= place < len(self._items) or _block(self._items[place]) != _block(self._items[self._index]):
                place = None
            elif by > 0 and place != self._next():
                seen = self._items[place].item in self._scores or self._items[place].item in self._skipped
                place = place if seen else self._next()
                place = None if place == self._index else place
        if place is None:
            return False
        self._go(place)
        return True

    def _go(self, place: int | None) -> None:
        self._index, self._paused = place, False
        self._seconds, self._since = 0.0, self._timer()

    def _elapsed(self) -> float:
        return self._seconds + (0.0 if self._paused else self._timer() - self._since)


def _block(item: StudyItem) -> tuple[int, str, bool]:
    """Items among which a reader may go back and forth: what was learnt in a later part must not change an earlier one."""
    return item.session, item.part, item.practice


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")
