"""The worker of projections: folds batches of events into rows.

It keeps the work per event small:

- the next page is under way while this one is folded, and one batch of commits is under way while the next is folded;
- rows are cached packed, so a row is loaded once, and an aborted fold cannot leave a trace;
- each event is routed once, for all projections together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..effects import Execute, Operation, UserCodeOperation
from ..errors import DataError, RunnerError
from ..format.events import RecordedEvent
from ..progress.checkpoint import Checkpoint
from ..progress.parked import failing, parked_after
from ..projections.fold import Folded, Router, Rules, Step, Verdict, fold
from ..projections.projection import Projection
from ..views.redis_rows import BuildView, Changes, packed_row, rows_command
from .assignment import Assignment, Assignments
from .commits import Commit
from .failures import Judge, park_limit, too_many_parked
from .pace import LONGEST_TURN, SlowTurn
from .worker import SLICE, Worker, before


class _End(NamedTuple):
    """The position of the event that ended a fold, and the error."""

    position: int
    error: RunnerError


#: An assignment that cannot go on, and why.
Failed = tuple[Assignment[Any], RunnerError]


class ProjectionWorker(Worker):
    """Drives the projections of one partition that share their batches."""

    #: Sorts events to the projections of one list of assignments.
    _routed: tuple[Assignments, Router] | None = None

    def _apply(self, assignments: Assignments, events: Sequence[RecordedEvent]) -> Operation[Assignments]:
        first, last = events[0].position, events[-1]
        plans = self._plans(assignments, events)
        for assignment, steps in zip(assignments, plans, strict=True):
            if assignment.position >= first:
                steps[:] = [step for step in steps if step[2].position > assignment.position]
        failed = yield from self._load(assignments, plans)
        damaged = [assignment for assignment, _ in failed]
        until = self._clock() + min(SLICE, self.context.runner.lease / 3)
        commits: list[Commit] = []
        late: list[Assignment[Any]] = []
        slow: list[Assignment[Any]] = []
        begun, shared = False, len(self.assignments) > 1
        for assignment, steps in zip(assignments, plans, strict=True):
            if assignment in damaged:
                continue
            if assignment not in self.assignments:
                continue  # the assignment left while rows were loaded: the steps do not follow from its new claim
            held = assignment.claim.checkpoint
            if held.position >= last.position:
                continue
            if begun and steps and self._clock() > until:  # else slow events of many projections outlast the lease
                late.insert(0, assignment)
                continue
            begun = begun or bool(steps)
            judge, began = Judge(assignment, self.context.clock), self._clock()
            folded, end = yield from self._fold(assignment, steps, until, judge)
            if (took := self._clock() - began) > LONGEST_TURN and self._leaves(assignment, took, shared):
                slow.append(assignment)
            stop = end.position if end is not None else folded.rest
            after = before(stop, events, held) if stop else Checkpoint(last.position, last._id)
            if after.position > held.position:
                assignment.remember(folded.changed, self.context.settings.cache_rows)
                commits.append(Commit(assignment, _changes(assignment, folded, judge), after))
            if end is not None:
                failed.append((assignment, end.error))
            elif folded.rest:
                late.append(assignment)
        yield from self.holdings.commit(commits)
        if failed:
            yield from self.holdings.settle()
            for assignment, error in failed:
                if assignment in self.assignments:
                    yield from self.holdings.fail(assignment, error)
        if slow:
            yield from self.holdings.set_apart(slow)
        return late

    def _leaves(self, assignment: Assignment[Projection], took: float, shared: bool) -> bool:
        """Whether an assignment whose turn took too long goes on in a worker of its own. That is told."""
        if not (self.context.in_threads or assignment.projection.awaits):
            return False  # its handlers would hold up the others there, too
        if not assignment.pace.was_slow(self._clock(), shared=shared):
            return False
        self.context.tell(SlowTurn(assignment.name, self.keys.partition, took, assignment.pace.stay))
        return True

    def _may_join(self) -> bool:
        now = self._clock()
        return not any(one.pace.is_apart(now) for one in self.assignments)

    def _plans(self, assignments: Assignments, events: Sequence[RecordedEvent]) -> list[list[Step]]:
        """The steps of each assignment, with a router that is kept while the assignments are the same."""
        if self._routed is None or self._routed[0] != assignments:
            self._routed = list(assignments), Router([one.projection for one in assignments])
        return self._routed[1].plan(events)

    def _load(self, assignments: Assignments, plans: Sequence[Sequence[Step]]) -> Operation[list[Failed]]:
        """Load the rows that the steps need and the cache lacks; returns the assignments that have a damaged row."""
        wanted = [
            (one, keys)
            for one, steps in zip(assignments, plans, strict=True)
            if (keys := one.missing(step[0] for step in steps))
        ]
        if not wanted:
            return []
        yield from self.holdings.settle()  # a row must not be read while a commit that changes it is under way
        wanted = [(one, keys) for one, keys in wanted if one in self.assignments]
        replies = yield Execute([rows_command(self.keys, one.name, one.claim.build, keys) for one, keys in wanted])
        failed: list[Failed] = []
        for (assignment, keys), rows in zip(wanted, replies, strict=True):
            view = BuildView(self.keys, assignment.name, assignment.claim.build)
            try:
                for key, stored in zip(keys, rows, strict=True):
                    assignment.rows[key] = packed_row(view, key, stored)
            except DataError as damage:
                failed.append((assignment, damage))
        return failed

    def _fold(
        self, assignment: Assignment[Projection], steps: Sequence[Step], until: float, judge: Judge
    ) -> UserCodeOperation[tuple[Folded, _End | None]]:
        """Fold by the projection's policy; returns also the event that ended the fold, if one did."""
        rules = Rules(judge, assignment.parked, self._clock, until)
        folded = yield from fold(assignment.projection, steps, assignment.rows, rules)
        room = max(0, park_limit(assignment.projection.on_error) - assignment.parked_events)
        parked = [one.event for one in folded.aside if one.verdict is Verdict.PARK]
        if len(parked) > room:  # fold again, up to the first event that there is no room for
            over = parked[room].position
            steps = [step for step in steps if step[2].position < over]
            folded = yield from fold(assignment.projection, steps, assignment.rows, rules)
            if folded.failure is None and not folded.rest:  # the second fold has reached that event, too
                return folded, _End(over, too_many_parked(assignment, over))
        failure = folded.failure
        return folded, None if failure is None else _End(failure.position, failure)


def _changes(assignment: Assignment[Projection], folded: Folded, judge: Judge) -> Changes:
    """The changes that a fold commits. The assignment remembers which rows were parked."""
    changes = Changes(folded.changed, folded.handled)
    for one in folded.aside:
        if one.failure is None:
            aside = parked_after(one.key, one.event)
        else:
            made = judge.given_up[one.event.position]
            aside = failing(one.key, one.event, one.failure, made.count, made.first_us, made.last_us)
        if one.verdict is Verdict.PARK:
            changes.parked.append(aside)
            assignment.parked.add(one.key)
        else:
            changes.skipped.append(aside)
    assignment.parked_events += len(changes.parked)
    return changes
