"""The coordinator: gets a process its share of the work, and gives up what is beyond it.

Every runner that runs the same projections says so with each round, so each knows how many there are; a fair share is
the number of units (a projection in a partition) divided by that, rounded up. Who holds more gives units back; who
holds less takes those that are free. A unit that stays free for the time of a lease is taken by anyone, and kept until
another runner joins: shares are a courtesy, and never a reason for work to lie.

Its work is one operation. It only claims; what happens to an assignment that is claimed is its worker's affair. With one
exception: while a worker is at a single slow event it cannot renew its leases, so the coordinator does, for a bounded time.
Otherwise two runners would take an event that outlasts the lease from each other for ever.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

from ..effects import Execute, Operation, Pause
from ..effects.backoff import Backoff
from ..errors import BuildReplaced, CommitRefused, DataError, ProjectionHeld, StoreTrouble
from ..progress.lease import (
    ALSO_STOPPED,
    LOOK_ONLY,
    NOT_STOPPED,
    ONLY_STOPPED,
    Free,
    HeldByOther,
    Stopped,
    acquire,
    announce,
    report_command,
)
from .assignment import IDLE, STOPPED, Assignment
from .context import Context
from .lease_keeper import check_claim, lease_time

#: How often a runner that stands by looks whether something is free, in seconds.
LOOK = 0.5


class Coordinator:
    """See the head of this module. ``work_on`` is given assignments that were just claimed, those of one partition and
    position together."""

    def __init__(
        self, assignments: Sequence[Assignment[Any]], context: Context, work_on: Callable[[list[Assignment[Any]]], None]
    ) -> None:
        self._assignments = assignments
        self._context = context
        self._work_on = work_on
        self._units = _fingerprint(assignments)
        #: Since when, by the clock, an assignment beyond the share has been seen free.
        self._free: dict[Assignment[Any], float] = {}
        #: When an assignment that somebody else has is looked at again, unless somebody came or went a moment ago.
        self._look: dict[Assignment[Any], float] = {}
        self._watchful = float("-inf")
        #: Assignments beyond the share that nobody else took.
        self._beyond: set[Assignment[Any]] = set()
        #: When the lease of another ends, by the clock: not before, and not after.
        self._ends: dict[Assignment[Any], tuple[float, float]] = {}
        self._announced = float("-inf")
        self._alive = 1
        self.stopping = False

    def first_round(self) -> Operation[None]:
        """Claim what can be had: all of it, if nobody else is there. What stopped by a failure is taken up again."""
        yield from self._announce()
        yield from self._claim(also_stopped=True)

    def work(self) -> Operation[None]:
        """Until `stopping`: hold a fair share. Ends when every assignment has stopped by a failure."""
        context = self._context
        backoff: Backoff | None = None
        while not self.stopping and any(assignment.failure is None for assignment in self._assignments):
            complete = all(assignment.held or assignment.failure is not None for assignment in self._assignments)
            yield Pause(context.settings.beat if complete else min(LOOK, context.settings.beat))
            if self.stopping:
                break
            try:
                if not complete or context.clock.monotonic() - self._announced >= context.settings.beat:
                    yield from self._announce()
                    self._give_up_the_surplus()
                yield from self._claim(also_stopped=False)
                yield from self._tend()
                backoff = None
            except StoreTrouble as trouble:
                if not trouble.passing:
                    raise
                backoff = backoff or Backoff(context.patience, context.clock)
                yield Pause(backoff.after(trouble))
        try:
            yield from announce(context.runner, self._units, leaving=True)
        except StoreTrouble:
            pass  # the others will notice by its silence

    def claim_all(self) -> Operation[None]:
        """Claim every assignment, waiting out the leases of runners that are gone; for history only.

        An assignment whose holder renews its lease gets ProjectionHeld as its failure.
        """
        waiting: dict[Assignment[Any], float] = {}
        context = self._context
        while not self.stopping:
            yield from self._claim(also_stopped=True, everything=True)
            for assignment in self._open():
                if assignment not in self._ends:
                    continue  # nobody else had it: its worker has ended meanwhile
                earliest, latest = self._ends[assignment]
                if earliest > waiting.setdefault(assignment, latest) + MOVED:
                    assignment.failure = ProjectionHeld(assignment.name, assignment.keys.partition, assignment.holder)
            if not self._open():
                return
            yield Pause(min(LOOK, context.runner.lease / 10))

    def _open(self) -> list[Assignment[Any]]:
        """Assignments that are neither held, nor given up, nor done with."""
        return [
            assignment
            for assignment in self._assignments
            if not assignment.held and assignment.failure is None and assignment.state != IDLE
        ]

    def _announce(self) -> Operation[None]:
        self._announced, before = self._context.clock.monotonic(), self._alive
        self._alive = yield from announce(self._context.runner, self._units)
        if self._alive != before:
            self._watchful = self._announced + 2 * self._context.settings.beat
        if self._alive > before:  # somebody came who may want them
            self._beyond.clear()

    @property
    def _share(self) -> int:
        going = sum(assignment.failure is None for assignment in self._assignments)
        return -(-going // max(1, self._alive))

    def _held(self) -> list[Assignment[Any]]:
        return [assignment for assignment in self._assignments if assignment.held and not assignment.leaving]

    def _give_up_the_surplus(self) -> None:
        for one in [one for one in self._held() if one not in self._beyond][self._share :]:
            one.leaving = True

    def _claim(self, *, also_stopped: bool, everything: bool = False) -> Operation[None]:
        claimed: list[Assignment[Any]] = []
        room = self._share - len(self._held())
        try:
            for assignment in self._open():
                if not everything and self._is_settled(assignment):
                    continue
                beyond = not everything and len(claimed) >= room
                if beyond and not also_stopped and not (yield from self._lies(assignment)):
                    continue
                which = ONLY_STOPPED if beyond and also_stopped else ALSO_STOPPED if also_stopped else NOT_STOPPED
                if (yield from self._claim_one(assignment, which)):
                    claimed.append(assignment)
                    if beyond and not also_stopped:
                        self._beyond.add(assignment)
        finally:  # also when the server went away in the middle: nobody else looks after what is claimed already
            self._hand_out(claimed)

    def _hand_out(self, claimed: list[Assignment[Any]]) -> None:
        together: dict[tuple[int, int], list[Assignment[Any]]] = {}
        for assignment in claimed:
            if assignment.alone:
                self._work_on([assignment])
            else:
                together.setdefault((assignment.keys.partition, assignment.position), []).append(assignment)
        for assignments in together.values():
            self._work_on(assignments)

    def _tend(self) -> Operation[None]:
        """Renew the leases of assignments whose workers have not done so for long."""
        asked, runner = self._context.clock.monotonic(), self._context.runner
        slow = [
            (assignment, claim)
            for assignment in self._assignments
            if (claim := assignment.busy_with) is not None
            and assignment.tended - runner.lease / 2 <= asked < assignment.tended + OUTLASTS * runner.lease
        ]
        if not slow:
            return
        replies = yield Execute([
            report_command(runner, one.keys, one.name, claim, one.state) for one, claim in slow
        ])  # fmt: skip
        for (assignment, claim), reply in zip(slow, replies, strict=True):
            if reply[0] == b"ok" and assignment.busy_with is claim:  # anything else its worker will hear by itself
                assignment.expires = max(assignment.expires, asked + lease_time(runner.lease))

    def _is_settled(self, assignment: Assignment[Any]) -> bool:
        now = self._context.clock.monotonic()
        return self._watchful <= now < self._look.get(assignment, now)

    def _lies(self, assignment: Assignment[Any]) -> Operation[bool]:
        """Whether an assignment was free whenever it was looked at for the time of a lease."""
        now, lease = self._context.clock.monotonic(), self._context.runner.lease
        free = yield from self._claim_one(assignment, LOOK_ONLY)
        self._look[assignment] = now + lease / LOOKS
        if not free:
            self._free.pop(assignment, None)
            return False
        return now - self._free.setdefault(assignment, now) >= lease

    def _claim_one(self, assignment: Assignment[Any], which: str) -> Operation[bool]:
        """Whether it is claimed; with LOOK_ONLY, whether it could be."""
        context = self._context
        asked, stood = context.clock.monotonic(), assignment.stood
        try:
            found = yield from acquire(context.runner, assignment.request(), which)
            if isinstance(found, HeldByOther):
                now = context.clock.monotonic()
                self._ends[assignment] = asked + found.left, now + found.left
                self._look[assignment] = now + min(found.left, context.settings.beat)
                assignment.stand_by(found.where, found.left)
                context.notify(assignment)
                return False
            if isinstance(found, Free):
                return which == LOOK_ONLY
            if isinstance(found, Stopped):
                self._look[assignment] = context.clock.monotonic() + context.settings.beat
                return False
            self._free.pop(assignment, None)
            assignment.take(found, asked + lease_time(context.runner.lease))
            yield from check_claim(assignment.keys, assignment, stood)
        except (BuildReplaced, DataError) as failure:
            yield from self._stop(assignment, failure)
            return False
        except StoreTrouble:
            if assignment.held:
                assignment.lose()  # it is claimed again in a later round
            raise
        return True

    def _stop(self, assignment: Assignment[Any], failure: BuildReplaced | DataError) -> Operation[None]:
        if assignment.held:
            report = report_command(
                self._context.runner,
                assignment.keys,
                assignment.name,
                assignment.claim,
                STOPPED,
                failure.with_hint,
                release=True,
            )
            try:
                yield Execute([report])
            finally:  # if the store could not be told, it is claimed again in a later round, and this found out again
                assignment.lose()
        assignment.failure, assignment.state = failure, STOPPED
        self._context.notify(assignment)


#: How many leases one event may take before another runner gets its turn: it may be a better one.
OUTLASTS = 10

#: How often in the time of a lease a runner that has its share looks whether something lies free.
LOOKS = 2

#: A lease whose end has moved by more than this was renewed, in seconds.
MOVED = 0.05


def _fingerprint(assignments: Sequence[Assignment[Any]]) -> str:
    """The same for runners that run the same units."""
    units = sorted(
        f"{assignment.name} {assignment.request().code} {assignment.keys.partition}" for assignment in assignments
    )
    return f"{zlib.crc32(chr(10).join(units).encode()):08x}"


def refused(assignment: Assignment[Any]) -> CommitRefused:
    """The error for an assignment that was lost to another runner, where nobody waits to get it back."""
    taken = (
        f"another runner has claimed it ({assignment.holder})"
        if assignment.holder
        else "it was reset, switched or released"
    )
    return CommitRefused(assignment.name, assignment.keys.partition, taken)
