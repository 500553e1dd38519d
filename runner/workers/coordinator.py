"""The coordinator: gets this process its fair share of the assignments, and gives up what is beyond it.

Every runner that runs the same projections announces itself with each round, so each knows how many there are. A fair
share is the number of assignments divided by that, rounded up. A runner that holds more releases the surplus; one that
holds less claims assignments that are free. Shares are advisory: an assignment left unclaimed for one lease period is
taken by any runner, even above its share, and kept until another runner joins.

The coordinator only claims. What it has claimed it returns to the pool, which makes workers for it, and is run again.
There is one exception: a worker that is at a single slow event cannot renew its leases, so the coordinator renews them,
for a bounded time. Otherwise two runners would take an event that outlasts the lease from each other for ever.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

from ..effects import Execute, Operation, Pause, StoreOperation
from ..effects.backoff import Backoff
from ..errors import BuildReplaced, CommitRefused, DataError, ProjectionHeld, StoreTrouble
from ..progress.lease import Free, HeldByOther, Stopped, Which, acquire, announce, report_command
from .assignment import IDLE, STOPPED, Assignment
from .context import WorkerContext
from .lease_keeper import check_claim, lease_time

#: How often a runner that stands by looks for free assignments, in seconds.
LOOK_EVERY = 0.5

#: How many leases one event may take before another runner gets its turn: it may be a better one.
OUTLASTS = 10

#: How often in one lease period a runner that has its share looks for assignments that are left unclaimed.
LOOKS_A_LEASE = 2

#: A lease whose end has moved by more than this was renewed, in seconds.
MOVED = 0.05

#: Assignments that were claimed in one round and stand at one position of one partition: one worker's.
Claimed = list[list[Assignment[Any]]]


class Coordinator:
    """Claims the assignments of one process. See the head of this module."""

    def __init__(self, assignments: Sequence[Assignment[Any]], context: WorkerContext) -> None:
        self._assignments = assignments
        self._context = context
        self._clock = context.clock.monotonic
        self._fingerprint = fingerprint(assignments)
        self._claimed: list[Assignment[Any]] = []
        self._backoff: Backoff | None = None
        #: Since when, by the clock, an assignment beyond the share has been seen free.
        self._free_since: dict[Assignment[Any], float] = {}
        #: When an assignment that another runner holds is looked at again, unless a runner came or went a moment ago.
        self._look_at: dict[Assignment[Any], float] = {}
        self._watchful_until = float("-inf")
        #: Assignments beyond the share that no other runner took.
        self._beyond_share: set[Assignment[Any]] = set()
        #: Earliest and latest monotonic time (s) at which the other runner's lease can end.
        self._lease_ends: dict[Assignment[Any], tuple[float, float]] = {}
        #: For `claim_all`: the latest end of that lease when the wait for it began, and what was claimed already.
        self._waits_until: dict[Assignment[Any], float] = {}
        self._had: set[Assignment[Any]] = set()
        self._announced = float("-inf")
        self._runners = 1
        self.stopping = False

    def take_claimed(self) -> Claimed:
        """What was claimed and not given to the pool yet, in portions for one worker each."""
        together: dict[tuple[object, ...], list[Assignment[Any]]] = {}
        for one in self._claimed:
            together.setdefault((one,) if one.alone else (one.keys.partition, one.position), []).append(one)
        self._claimed = []
        return list(together.values())

    def first_round(self) -> StoreOperation[None]:
        """Claim the share, or everything where no other runner is there; also what has stopped by a failure."""
        yield from self._announce()
        yield from self._claim(self._open(), also_stopped=True)

    def work(self) -> Operation[Claimed]:
        """Hold a fair share until `stopping` is set or every assignment has stopped by a failure.

        Returns what was claimed; run it again, until it returns nothing.
        """
        context = self._context
        while not self.stopping and any(one.failure is None for one in self._assignments):
            if self._claimed:
                return self.take_claimed()
            complete = all(one.held or one.failure is not None for one in self._assignments)
            yield Pause(context.settings.beat if complete else min(LOOK_EVERY, context.settings.beat))
            if self.stopping:
                break
            try:
                if not complete or self._clock() - self._announced >= context.settings.beat:
                    yield from self._announce()
                    self._give_up_surplus()
                yield from self._claim(self._open(), also_stopped=False)
                yield from self._renew_slow()
                self._backoff = None
            except StoreTrouble as error:
                if not error.passing:
                    raise
                self._backoff = self._backoff or Backoff(context.patience, context.clock)
                if self._claimed:
                    continue  # the workers will find out by themselves that the server is away
                yield Pause(self._backoff.after(error))
        if self._claimed:
            return self.take_claimed()
        try:
            yield from announce(context.runner, self._fingerprint, leaving=True)
        except StoreTrouble:
            pass  # the others notice by the silence
        return []

    def claim_all(self) -> Operation[Claimed]:
        """Claim every assignment once, waiting out the leases of runners that are gone; for history only.

        Returns what was claimed; run it again, until it returns nothing. An assignment whose holder renews its lease
        gets ProjectionHeld as its failure.
        """
        while not self.stopping and (awaited := [one for one in self._open() if one not in self._had]):
            yield from self._claim(awaited, also_stopped=True, everything=True)
            self._had.update(self._claimed)
            for one in awaited:
                if one.held or one not in self._lease_ends:
                    continue
                earliest, latest = self._lease_ends[one]
                if earliest > self._waits_until.setdefault(one, latest) + MOVED:
                    one.failure = ProjectionHeld(one.name, one.keys.partition, one.holder)
            if self._claimed:
                break
            yield Pause(min(LOOK_EVERY, self._context.runner.lease / 10))
        return self.take_claimed()

    def _open(self) -> list[Assignment[Any]]:
        """Assignments that are neither held, nor given up, nor done with."""
        return [one for one in self._assignments if not one.held and one.failure is None and one.state != IDLE]

    def _announce(self) -> StoreOperation[None]:
        """Say that this runner is alive, and hear how many are."""
        self._announced, before = self._clock(), self._runners
        self._runners = yield from announce(self._context.runner, self._fingerprint)
        if self._runners != before:
            self._watchful_until = self._announced + 2 * self._context.settings.beat
        if self._runners > before:  # the new runner may want them
            self._beyond_share.clear()

    @property
    def _share(self) -> int:
        going = sum(one.failure is None for one in self._assignments)
        return -(-going // max(1, self._runners))

    def _held(self) -> list[Assignment[Any]]:
        return [one for one in self._assignments if one.held and not one.leaving]

    def _give_up_surplus(self) -> None:
        for one in [one for one in self._held() if one not in self._beyond_share][self._share :]:
            one.leaving = True

    def _claim(
        self, wanted: Sequence[Assignment[Any]], *, also_stopped: bool, everything: bool = False
    ) -> StoreOperation[None]:
        """Claim free assignments up to the share, and beyond it what is left unclaimed."""
        room = self._share - len(self._held())
        for one in wanted:
            if not everything and self._is_settled(one):
                continue
            beyond = not everything and room <= 0
            if beyond and not also_stopped and not (yield from self._idle_for_a_lease(one)):
                continue
            which = Which.RUNNABLE if not also_stopped else Which.FAILED_ONLY if beyond else Which.ANY
            if (yield from self._claim_one(one, which)):
                self._claimed.append(one)
                room -= 1
                if beyond and not also_stopped:
                    self._beyond_share.add(one)

    def _renew_slow(self) -> StoreOperation[None]:
        """Renew the leases of assignments whose workers have not done so for long."""
        asked, runner = self._clock(), self._context.runner
        slow = [
            (one, claim)
            for one in self._assignments
            if (claim := one.busy_with) is not None
            and one.expires_by_worker - runner.lease / 2 <= asked < one.expires_by_worker + OUTLASTS * runner.lease
        ]
        if not slow:
            return
        replies = yield Execute([
            report_command(runner, one.keys, one.name, claim, one.state) for one, claim in slow
        ])  # fmt: skip
        for (one, claim), reply in zip(slow, replies, strict=True):
            if reply[0] == b"ok" and one.busy_with is claim:  # its worker will hear anything else by itself
                one.expires = max(one.expires, asked + lease_time(runner.lease))

    def _is_settled(self, one: Assignment[Any]) -> bool:
        """Whether there is no need to look at an assignment yet."""
        now = self._clock()
        return self._watchful_until <= now < self._look_at.get(one, now)

    def _idle_for_a_lease(self, one: Assignment[Any]) -> StoreOperation[bool]:
        """True if this assignment has had no owner at every check for at least one lease period."""
        now, lease = self._clock(), self._context.runner.lease
        free = yield from self._claim_one(one, Which.NONE)
        self._look_at[one] = now + lease / LOOKS_A_LEASE
        if not free:
            self._free_since.pop(one, None)
            return False
        return now - self._free_since.setdefault(one, now) >= lease

    def _claim_one(self, one: Assignment[Any], which: Which) -> StoreOperation[bool]:
        """Whether it is claimed; with `Which.NONE`, whether it could be."""
        context = self._context
        asked, known = self._clock(), one.last_known
        try:
            found = yield from acquire(context.runner, one.request(), which)
            if isinstance(found, HeldByOther):
                now = self._clock()
                self._lease_ends[one] = asked + found.left, now + found.left
                self._look_at[one] = now + min(found.left, context.settings.beat)
                one.stand_by(found.where, found.left)
                context.notify(one)
                return False
            if isinstance(found, Free):
                return which is Which.NONE
            if isinstance(found, Stopped):
                self._look_at[one] = self._clock() + context.settings.beat
                return False
            self._free_since.pop(one, None)
            one.take(found, asked + lease_time(context.runner.lease))
            yield from check_claim(one.keys, one, known)
        except (BuildReplaced, DataError) as failure:
            yield from self._stop(one, failure)
            return False
        except StoreTrouble:
            if one.held:
                one.lose()  # it is claimed again in a later round
            raise
        return True

    def _stop(self, one: Assignment[Any], failure: BuildReplaced | DataError) -> StoreOperation[None]:
        """Stop an assignment that cannot be worked on, and record why."""
        if one.held:
            report = report_command(
                self._context.runner, one.keys, one.name, one.claim, STOPPED, failure.with_hint, release=True
            )
            try:
                yield Execute([report])
            finally:  # where the store could not be told, a later round claims it and stops it again
                one.lose()
        one.failure, one.state = failure, STOPPED
        self._context.notify(one)


def fingerprint(assignments: Sequence[Assignment[Any]]) -> str:
    """The same for runners that run the same assignments."""
    runs = sorted(f"{one.name} {one.request().code} {one.keys.partition}" for one in assignments)
    return f"{zlib.crc32(chr(10).join(runs).encode()):08x}"


def refused(assignment: Assignment[Any]) -> CommitRefused:
    """The error for an assignment that was lost to another runner, where it is not waited for."""
    holder = assignment.holder
    taken = f"another runner has claimed it ({holder})" if holder else "it was reset, switched or released"
    return CommitRefused(assignment.name, assignment.keys.partition, taken)
