"""Projections at work: a worker that folds batches into rows.

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
from .assignment import Assignment, Attempts
from .lease_keeper import Assignments
from .worker import SLICE, Worker, before, too_many


class ProjectionWorker(Worker):
    """A worker of projections."""

    _router: Router | None = None

    def _assignments_changed(self) -> None:
        self._router = None

    def _apply(self, assignments: Assignments, events: Sequence[RecordedEvent]) -> Operation[Assignments]:
        first, last = events[0].position, events[-1]
        plans = self._plans(assignments, events)
        for assignment, steps in zip(assignments, plans, strict=True):
            if assignment.position >= first:
                steps[:] = [step for step in steps if step[2].position > assignment.position]
        yield from self._load(assignments, plans)
        until = self._clock() + min(SLICE, self.context.runner.lease / 3)
        commands: list[Command] = []
        committed: list[Assignment[Any]] = []
        failed: list[tuple[Assignment[Any], RunnerError]] = []
        late: list[Assignment[Any]] = []
        begun = False
        for assignment, steps in zip(assignments, plans, strict=True):
            if assignment not in self.assignments:
                continue  # it left while rows were loaded: its claim is another, and these steps do not follow from it
            held = assignment.claim.checkpoint
            if held.position >= last.position:
                continue
            if (
                begun and steps and self._clock() > until
            ):  # else slow events of many assignments would outlast the lease
                late.insert(0, assignment)
                continue
            begun = begun or bool(steps)
            tries: dict[int, Attempts] = {}
            folded, failure = yield from self._fold(assignment, steps, until, tries)
            stop = failure.position if failure is not None else folded.rest
            after = before(stop, events, held) if stop else Checkpoint(last.position, last._id)
            if after.position > held.position:
                assignment.remember(folded.changed, self.context.settings.cache_rows)
                commands.append(self._commit(assignment, _changes(assignment, folded, tries), after))
                committed.append(assignment)
            if failure is not None:
                failed.append((assignment, failure.error))
            elif folded.rest:
                late.append(assignment)
        yield from self._send(commands, committed)
        if failed:
            yield from self._settle()
            for assignment, reason in failed:
                if assignment in self.assignments:
                    yield from self._fail(assignment, reason)
        return late

    def _plans(self, assignments: Assignments, events: Sequence[RecordedEvent]) -> list[list[Step]]:
        if assignments != self.assignments:
            return Router([assignment.projection for assignment in assignments]).plan(events)
        if self._router is None:
            self._router = Router([assignment.projection for assignment in assignments])
        return self._router.plan(events)

    def _load(self, assignments: Assignments, plans: Sequence[Sequence[Step]]) -> Operation[None]:
        wanted = [
            (assignment, keys)
            for assignment, steps in zip(assignments, plans, strict=True)
            if (keys := assignment.missing(step[0] for step in steps))
        ]
        if not wanted:
            return
        yield from self._settle()  # a row must not be read while a commit that changes it is under way
        wanted = [(assignment, keys) for assignment, keys in wanted if assignment in self.assignments]
        replies = yield Execute(
            [rows_command(self.keys, assignment.name, assignment.claim.build, keys) for assignment, keys in wanted]
        )
        for (assignment, keys), rows in zip(wanted, replies, strict=True):
            assignment.rows.update(zip(keys, rows, strict=True))

    def _fold(
        self, assignment: Assignment[Projection], steps: Sequence[Step], until: float, tries: dict[int, Attempts]
    ) -> Operation[tuple[Folded, _End | None]]:
        """Fold, with failures met by the assignment's policy; why it ended before the last step, if it failed."""
        resort = last_resort(assignment.projection.on_error)
        # A row that was parked under another policy stays parked, and what comes for it waits.
        limit = resort.limit if isinstance(resort, ParkStream) else MOST_PARKED
        verdicts: dict[int, str | None] = {}  # each event is asked about once, also when it is folded again

        def decide(key: str, failure: HandlerFailed) -> str | None:
            if failure.position not in verdicts:
                verdicts[failure.position] = judge(key, failure)
            return verdicts[failure.position]

        def judge(key: str, failure: HandlerFailed) -> str | None:
            attempts = assignment.failed_at(failure, self.context.clock.now())
            if attempts.count <= retries(assignment.projection.on_error):
                return None
            tries[failure.position] = attempts
            if isinstance(resort, Skip):
                return SKIP
            return PARK if isinstance(resort, ParkStream) and key else None

        rules = Rules(decide, assignment.parked, self._clock, until)
        folded = yield from fold(assignment.projection, steps, assignment.rows, rules)
        over = _over(folded, limit - assignment.parked_events)
        if over is not None:
            steps = [step for step in steps if step[2].position < over.position]
            folded = yield from fold(assignment.projection, steps, assignment.rows, rules)
            if folded.failure is None and not folded.rest:  # it has come so far this time, too
                return folded, _End(over.position, too_many(assignment, over.position, limit))
        failure = folded.failure
        return folded, None if failure is None else _End(failure.position, failure)


class _End:
    """Where a fold ended before its time, and why."""

    def __init__(self, position: int, error: RunnerError) -> None:
        self.position = position
        self.error = error


def _changes(assignment: Assignment[Projection], folded: Folded, tries: dict[int, Attempts]) -> Changes:
    """What a fold writes; the assignment remembers what it parked."""
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
            assignment.parked.add(one.key)
        else:
            changes.skipped.append(record)
    assignment.parked_events += len(changes.parked)
    return changes


def _over(folded: Folded, room: int) -> RecordedEvent | None:
    """The first event that there is no room for among the parked ones."""
    parked = [one.event for one in folded.aside if one.verdict == PARK]
    return parked[max(0, room)] if len(parked) > max(0, room) else None
