"""Given these events, when that command runs, then these events are recorded: an aggregate tested without a store.

::

    AggregateScenario(Account).given(opened, deposited).when(lambda it: it.withdraw(3)).then(NewEvent("Withdrawn", {…}))

The aggregate is loaded from the given events, and records events, as with a repository.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any, Generic, Self, TypeVar

from ..aggregates import Aggregate
from ..aggregates.snapshots import check_fit
from ..effects import Await, CannotWait, UserCodeOperation
from ..errors import InvalidInput, PayloadError
from ..format.codec import unpack
from ..format.events import NewEvent, RecordedEvent
from ..projections.functions import check_answer
from .building import EventsFor, Happened, placed
from .differences import differences
from .waiting import run_waiting

A = TypeVar("A", bound=Aggregate)


@dataclass(frozen=True, slots=True)
class _Outcome(Generic[A]):
    """The aggregate after its commands, and what one of them raised."""

    aggregate: A
    failure: Exception | None = None


class AggregateScenario(Generic[A]):
    """An aggregate, its past events, and commands to run on it.

    Checks can follow each other; a check that fails raises AssertionError. After a check, the next ``when`` takes the
    recorded events as given.
    """

    def __init__(self, kind: type[A], *, id: str = "1") -> None:  # noqa: A002 - it is called what it is
        self.kind = kind
        self.id = id
        self._given: list[RecordedEvent] = []
        self._commands: list[Callable[[A], object]] = []
        self._found: _Outcome[A] | None = None

    # -- what happens ---------------------------------------------------------------------------

    def given(self, *events: Happened) -> Self:
        """Past events; their handlers must succeed. Raises InvalidInput after `when`."""
        if self._commands:
            raise InvalidInput("given comes before when")
        for event in events:
            self._given += placed(event, self._given, self._stream)
        return self

    def when(self, command: Callable[[A], object]) -> Self:
        """A command: called with the aggregate; it may be ``async def``. Several run one after the other.

        What a command raises, `then_raises` checks.
        """
        if self._found is not None:
            if self._found.failure is None:  # after a failure, nothing would be saved
                for event in self._found.aggregate.uncommitted:
                    self._given += placed(event, self._given, self._stream)
            self._commands, self._found = [], None
        self._commands.append(command)
        return self

    # -- what comes of it -----------------------------------------------------------------------

    def then(self, *events: NewEvent | EventsFor) -> Self:
        """These events are recorded and no others: type, data and metadata are compared. ``then()``: none is recorded.

        Raises AssertionError, also where a command has raised.
        """
        __tracebackhide__ = True
        expected = [new for event in events for new in (event.new() if isinstance(event, EventsFor) else [event])]
        found = self._success().uncommitted
        self._compare(differences(_contents(expected), _contents(found), "recorded"))
        return self

    def then_state(self, state: Any) -> Self:
        """The aggregate's `state` is ``state``. Raises AssertionError, also where a command has raised."""
        __tracebackhide__ = True
        self._compare(differences(state, self._success().state(), "state"))
        return self

    def then_raises(self, kind: type[BaseException], text: str = "") -> Self:
        """A command raises ``kind``, with ``text`` in its message. Raises AssertionError if no command does."""
        __tracebackhide__ = True
        failure = self._outcome().failure
        wanted = f"{kind.__name__} with {text!r}" if text else kind.__name__
        if failure is None:
            raise AssertionError(f"{self}: expected {wanted}, but every command succeeded")
        if not isinstance(failure, kind) or text not in str(failure):
            raise AssertionError(f"{self}: expected {wanted}, but {_named(failure)}") from failure
        return self

    def then_restored(self) -> Self:
        """A snapshot restores the aggregate's state: what `Repository` does with ``snapshot_every``.

        Raises AssertionError, also for a state that a snapshot cannot hold.
        """
        __tracebackhide__ = True
        aggregate, restored = self._success(), self.kind(self.id)
        try:
            restored.restore(unpack(check_fit(aggregate.state(), self.kind, "state")))
        except PayloadError as unfit:
            raise AssertionError(f"{self}: {unfit}") from None
        self._compare(differences(aggregate.state(), restored.state(), "restored: state"))
        return self

    def replay_twice(self) -> Self:
        """Loading the aggregate from its events gives the state that the commands made. Raises AssertionError."""
        __tracebackhide__ = True
        aggregate = self._success()
        events = list(self._given)
        for event in aggregate.uncommitted:
            events += placed(event, events, self._stream)
        for how in ("loaded", "loaded again"):
            self._compare(differences(aggregate.state(), self._made(events).state(), f"{how}: state"))
        return self

    def __repr__(self) -> str:
        return f"<AggregateScenario of {self.kind.__name__!r}>"

    # -- inside ---------------------------------------------------------------------------------

    @property
    def _stream(self) -> str:
        return f"aggregate-{self.id}"

    def _made(self, events: Sequence[RecordedEvent]) -> A:
        aggregate = self.kind(self.id)
        aggregate._replay(event.copy() for event in events)  # handlers may change the payload
        return aggregate

    def _outcome(self) -> _Outcome[A]:
        __tracebackhide__ = True
        if self._found is None:
            try:
                aggregate = self._made(self._given)
            except Exception as failure:
                raise AssertionError(f"{self}: what is given fails already: {_named(failure)}") from failure
            self._found = run_waiting(_commanded(aggregate, self._commands))
        return self._found

    def _success(self) -> A:
        __tracebackhide__ = True
        outcome = self._outcome()
        if outcome.failure is not None:
            raise AssertionError(f"{self}: {_named(outcome.failure)}") from outcome.failure
        return outcome.aggregate

    def _compare(self, lines: Iterable[str]) -> None:
        __tracebackhide__ = True
        found = list(lines)
        if found:
            raise AssertionError("\n  ".join([f"{self}:", *found]))


def _commanded(aggregate: A, commands: Sequence[Callable[[A], object]]) -> UserCodeOperation[_Outcome[A]]:
    """Run commands until one raises."""
    try:
        for command in commands:
            answer = command(aggregate)
            if isawaitable(answer):
                answer = yield Await(answer)
            check_answer(answer, "the command")
    except CannotWait:
        raise
    except Exception as failure:
        return _Outcome(aggregate, failure)
    return _Outcome(aggregate)


def _contents(events: Iterable[NewEvent]) -> list[tuple[str, Any, Any]]:
    return [(event.type, event.data, event.metadata) for event in events]


def _named(failure: BaseException) -> str:
    return f"{type(failure).__name__}: {failure}"
