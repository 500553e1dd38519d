"""Given these events, when that event comes, then the row is this: a projection tested without a store.

::

    Scenario(balances).given(opened).when(deposited).then({"balance": 70})

Events go through the same fold as in a runner. Rows are packed and unpacked between ``given`` and ``when``, so a row
that cannot be stored fails here, too. The projection's policy (``on_error``) is not applied to a failure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from ..errors import HandlerFailed, InvalidInput
from ..format.codec import unpack
from ..format.events import RecordedEvent
from ..projections.fold import Router, fold, row_of
from ..projections.projection import DELETE, Projection, check_projection
from .building import Happened, placed
from .differences import differences
from .waiting import run_waiting


class _NoRow:
    def __repr__(self) -> str:
        return "no row"


_NO_ROW = _NoRow()


@dataclass(slots=True)
class _Outcome:
    """The result of a fold: the packed rows (None = deleted), and the failure that ended the fold early, if any."""

    rows: dict[str, bytes | None] = field(default_factory=dict)
    failure: HandlerFailed | None = None

    def row(self, key: str) -> Any:
        packed = self.rows.get(key)
        return _NO_ROW if packed is None else unpack(packed)

    def failed_with(self) -> tuple[int, type[BaseException]] | None:
        """The place and type of the failure, without its message, which may hold an address in memory."""
        return None if self.failure is None else (self.failure.position, type(self.failure.cause))

    def all(self) -> dict[str, Any]:
        return {key: unpack(packed) for key, packed in self.rows.items() if packed is not None}


class Scenario:
    """A projection, and events that it folds.

    ``given`` and ``when`` take events of a log, builders of them (`EventsFor`), and NewEvents, which go to ``stream``
    (by default ``<category>-1`` of the projection). Events of builders and NewEvents get the numbers after the events
    before them. Checks can follow each other; a check that fails raises AssertionError.
    """

    def __init__(self, projection: Projection, *, stream: str | None = None) -> None:
        self.projection = check_projection(projection, "a Scenario")
        self.stream = stream or f"{projection.category or 'stream'}-1"
        self._given: list[RecordedEvent] = []
        self._when: list[RecordedEvent] = []
        self._asked = False

    # -- what happens ---------------------------------------------------------------------------

    def given(self, *events: Happened) -> Self:
        """Past events; their handlers must succeed. Raises InvalidInput after `when`."""
        if self._when:
            raise InvalidInput("given comes before when")
        for event in events:
            self._given += placed(event, self._given, self.stream)
        return self

    def when(self, *events: Happened) -> Self:
        """The events to test. After a check, the next ``when`` takes all earlier events as given.

        Raises InvalidInput for a value that is no event, and for an event with a position before earlier ones.
        """
        if self._asked:
            self._given, self._when, self._asked = [*self._given, *self._when], [], False
        for event in events:
            self._when += placed(event, [*self._given, *self._when], self.stream)
        return self

    # -- what comes of it -----------------------------------------------------------------------

    def then(self, row: Any, *, key: str | None = None) -> Self:
        """The row is ``row``; None or DELETE: there is no row. ``key`` is by default the key of the last event.

        Raises AssertionError, also where a handler has failed.
        """
        __tracebackhide__ = True
        outcome = self._outcome()
        self._check_success(outcome)
        name = self._last_key() if key is None else key
        expected = _NO_ROW if row is None or row is DELETE else row
        self._compare(differences(expected, outcome.row(name), f"row {name!r}"))
        return self

    def then_rows(self, rows: dict[str, Any]) -> Self:
        """The rows, by key, are these and no others. Raises AssertionError, also where a handler has failed."""
        __tracebackhide__ = True
        outcome = self._outcome()
        self._check_success(outcome)
        self._compare(differences(rows, outcome.all(), "rows"))
        return self

    def then_raises(self, kind: type[BaseException], text: str = "") -> Self:
        """A handler raises ``kind`` at one of the events of ``when``, with ``text`` in its message.

        Raises AssertionError if no handler does.
        """
        __tracebackhide__ = True
        failure = self._outcome().failure
        if failure is None:
            raise AssertionError(f"{self}: expected {kind.__name__}, but every handler succeeded")
        if not isinstance(failure.cause, kind) or text not in failure.cause_text:
            wanted = f"{kind.__name__} with {text!r}" if text else kind.__name__
            raise AssertionError(f"{self}: expected {wanted}, but {failure}") from failure.cause
        return self

    def replay_twice(self) -> Self:
        """Folding the events again, all at once and one at a time, gives the same rows: handlers are pure functions.

        Raises AssertionError.
        """
        __tracebackhide__ = True
        events = [*self._given, *self._when]
        once = _folded(self.projection, [events])
        for how, batches in (("again", [events]), ("one at a time", [[event] for event in events])):
            other = _folded(self.projection, batches)
            if once.failed_with() != other.failed_with():
                raise AssertionError(f"{self}: first {once.failure!r}, replayed {how} {other.failure!r}")
            self._compare(differences(once.all(), other.all(), f"replayed {how}: rows"))
        return self

    def __repr__(self) -> str:
        return f"<Scenario of {self.projection.name!r}>"

    # -- inside ---------------------------------------------------------------------------------

    def _outcome(self) -> _Outcome:
        __tracebackhide__ = True
        self._asked = True
        before = _folded(self.projection, [self._given])
        if before.failure is not None:
            raise AssertionError(f"{self}: what is given fails already: {before.failure}") from before.failure.cause
        return _folded(self.projection, [self._when], before.rows)

    def _check_success(self, outcome: _Outcome) -> None:
        __tracebackhide__ = True
        if outcome.failure is not None:
            raise AssertionError(f"{self}: {outcome.failure}") from outcome.failure.cause

    def _compare(self, lines: Iterable[str]) -> None:
        __tracebackhide__ = True
        found = list(lines)
        if found:
            raise AssertionError("\n  ".join([f"{self}:", *found]))

    def _last_key(self) -> str:
        events = self._when or self._given
        if not events:
            raise InvalidInput("nothing has happened yet: name the row's key, or say given or when first")
        return row_of(self.projection, events[-1])


def _folded(
    projection: Projection, batches: Sequence[Sequence[RecordedEvent]], rows: dict[str, bytes | None] | None = None
) -> _Outcome:
    """Fold batches of events into rows, as a runner does. The fold ends where a handler fails."""
    outcome = _Outcome(dict(rows or {}))
    router = Router([projection])
    for batch in batches:
        [steps] = router.plan(batch)
        folded = run_waiting(fold(projection, steps, outcome.rows))
        outcome.rows.update(folded.changed)
        if folded.failure is not None:
            outcome.failure = folded.failure
            break
    return outcome
