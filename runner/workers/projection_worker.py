"""Projections at work: a group that folds batches into rows.

It is about doing little per event:

- the next page is under way while this one is folded, and one batch of commits is under way while the next is folded;
- rows are cached packed, so a row is loaded once, and an aborted fold cannot leave a trace;
- an event is looked at once, however many projections there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..effects import Command, Execute, Operation
from ..errors import HandlerFailed, RunnerError
from ..format.events import RecordedEvent
from ..progress.checkpoint import Checkpoint
from ..progress.parked import behind, failing
from ..projections.fold import PARK, SKIP, Folded, Router, Rules, Step, fold
from ..projections.policies import MOST_PARKED, ParkStream, Skip, last_resort, retries
from ..projections.projection import Projection
from ..views.redis_rows import Changes, rows_command
from .assignment import Attempts, Seat
from .lease_keeper import Seats
from .worker import SLICE, Group, before, too_many


class Folding(Group):
    """A group of projections."""

    _router: Router | None = None

    def _seats_changed(self) -> None:
        self._router = None

    def _apply(self, seats: Seats, events: Sequence[RecordedEvent]) -> Operation[Seats]:
        first, last = events[0].position, events[-1]
        plans = self._plans(seats, events)
        for seat, steps in zip(seats, plans, strict=True):
            if seat.position >= first:
                steps[:] = [step for step in steps if step[2].position > seat.position]
        yield from self._load(seats, plans)
        until = self._clock() + min(SLICE, self.context.runner.lease / 3)
        commands: list[Command] = []
        committed: list[Seat[Any]] = []
        failed: list[tuple[Seat[Any], RunnerError]] = []
        late: list[Seat[Any]] = []
        begun = False
        for seat, steps in zip(seats, plans, strict=True):
            if seat not in self.seats:
                continue  # it left while rows were loaded: its claim is another, and these steps do not follow from it
            held = seat.claim.checkpoint
            if held.position >= last.position:
                continue
            if begun and steps and self._clock() > until:  # else slow events of many seats would outlast the lease
                late.insert(0, seat)
                continue
            begun = begun or bool(steps)
            tries: dict[int, Attempts] = {}
            folded, failure = yield from self._fold(seat, steps, until, tries)
            stop = failure.position if failure is not None else folded.rest
            after = before(stop, events, held) if stop else Checkpoint(last.position, last._id)
            if after.position > held.position:
                seat.remember(folded.changed, self.context.settings.cache_rows)
                commands.append(self._commit(seat, _changes(seat, folded, tries), after))
                committed.append(seat)
            if failure is not None:
                failed.append((seat, failure.error))
            elif folded.rest:
                late.append(seat)
        yield from self._send(commands, committed)
        if failed:
            yield from self._settle()
            for seat, reason in failed:
                if seat in self.seats:
                    yield from self._fail(seat, reason)
        return late

    def _plans(self, seats: Seats, events: Sequence[RecordedEvent]) -> list[list[Step]]:
        if seats != self.seats:
            return Router([seat.projection for seat in seats]).plan(events)
        if self._router is None:
            self._router = Router([seat.projection for seat in seats])
        return self._router.plan(events)

    def _load(self, seats: Seats, plans: Sequence[Sequence[Step]]) -> Operation[None]:
        wanted = [
            (seat, keys)
            for seat, steps in zip(seats, plans, strict=True)
            if (keys := seat.missing(step[0] for step in steps))
        ]
        if not wanted:
            return
        yield from self._settle()  # a row must not be read while a commit that changes it is under way
        wanted = [(seat, keys) for seat, keys in wanted if seat in self.seats]
        replies = yield Execute([rows_command(self.keys, seat.name, seat.claim.build, keys) for seat, keys in wanted])
        for (seat, keys), rows in zip(wanted, replies, strict=True):
            seat.rows.update(zip(keys, rows, strict=True))

    def _fold(
        self, seat: Seat[Projection], steps: Sequence[Step], until: float, tries: dict[int, Attempts]
    ) -> Operation[tuple[Folded, _End | None]]:
        """Fold, with failures met by the seat's policy; why it ended before the last step, if it failed."""
        resort = last_resort(seat.projection.on_error)
        # A row that was parked under another policy stays parked, and what comes for it waits.
        limit = resort.limit if isinstance(resort, ParkStream) else MOST_PARKED
        verdicts: dict[int, str | None] = {}  # each event is asked about once, also when it is folded again

        def decide(key: str, failure: HandlerFailed) -> str | None:
            if failure.position not in verdicts:
                verdicts[failure.position] = judge(key, failure)
            return verdicts[failure.position]

        def judge(key: str, failure: HandlerFailed) -> str | None:
            attempts = seat.failed_at(failure, self.context.clock.now())
            if attempts.count <= retries(seat.projection.on_error):
                return None
            tries[failure.position] = attempts
            if isinstance(resort, Skip):
                return SKIP
            return PARK if isinstance(resort, ParkStream) and key else None

        rules = Rules(decide, seat.parked, self._clock, until)
        folded = yield from fold(seat.projection, steps, seat.rows, rules)
        over = _over(folded, limit - seat.parked_events)
        if over is not None:
            steps = [step for step in steps if step[2].position < over.position]
            folded = yield from fold(seat.projection, steps, seat.rows, rules)
            if folded.failure is None and not folded.rest:  # it has come so far this time, too
                return folded, _End(over.position, too_many(seat, over.position, limit))
        failure = folded.failure
        return folded, None if failure is None else _End(failure.position, failure)


class _End:
    """Where a fold ended before its time, and why."""

    def __init__(self, position: int, error: RunnerError) -> None:
        self.position = position
        self.error = error


def _changes(seat: Seat[Projection], folded: Folded, tries: dict[int, Attempts]) -> Changes:
    """What a fold writes; the seat remembers what it parked."""
    changes = Changes(folded.changed, folded.handled)
    for one in folded.aside:
        if one.failure is None:
            record = behind(one.key, one.event).record()
        else:
            made = tries[one.event.position]
            record = failing(
                one.key, one.event, one.failure, made.count, made.first_us, made.last_us
            ).record()  # fmt: skip
        if one.verdict == PARK:
            changes.parked[one.event.position] = record
            seat.parked.add(one.key)
        else:
            changes.skipped.append(record)
    seat.parked_events += len(changes.parked)
    return changes


def _over(folded: Folded, room: int) -> RecordedEvent | None:
    """The first event that there is no room for among the parked ones."""
    parked = [one.event for one in folded.aside if one.verdict == PARK]
    return parked[max(0, room)] if len(parked) > max(0, room) else None
