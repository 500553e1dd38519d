"""The coordinator: claims this process's fair share of the assignments, and gives up the surplus.

Every runner that runs the same projections announces itself with each round, so each runner knows how many there are.
A fair share is the number of assignments divided by the number of runners, rounded up. A runner that holds more
releases the surplus; a runner that holds less claims assignments that are free. Shares are advisory: an assignment left
unclaimed for one lease period is taken by any runner, even above its share, and kept until another runner joins.

The coordinator only claims. It returns what it has claimed to the pool, which starts workers, and it is run again.
There is one exception: a worker whose handler is busy with one slow event cannot renew its leases, so the coordinator
renews them, for a bounded time. Otherwise two runners would take an event that outlasts the lease from each other for
ever.

A round is an announcement and a look for assignments. The more runners there are, the rarer each makes its rounds: all
of them together make a bounded number in a second.

Code that other code has replaced stands by: the coordinator looks with each beat whether the build of its code is live
again, as after a rollback, and claims it then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..effects import Execute, Operation, Pause, StoreOperation
from ..effects.backoff import Backoff
from ..errors import BuildReplaced, DataError, ProjectionHeld, RecordDamaged, StoreTrouble
from ..progress.builds import code_of, read_builds
from ..progress.lease import Free, HeldByOther, Stopped, Which, acquire, report_command
from ..progress.runners import Announcement, announce
from .assignment import IDLE, STOPPED, Assignment
from .context import WorkerContext
from .lease_keeper import check_claim, lease_time
from .outage import Outage

#: How often a runner that stands by looks for free assignments, in seconds.
LOOK_EVERY = 0.5

#: For how many lease periods the coordinator renews the lease of a slow event. Then another runner may try the event.
OUTLASTS = 10

#: How many rounds all runners of a store together make in a second; each makes two at most.
ROUNDS_A_SECOND = 8

#: An announcement counts for so many rounds, so that one that comes late does no harm.
ROUNDS_ANNOUNCED = 3

#: Pauses that end by so much too early have not been cut short, in seconds.
SHORT = 0.001

#: How often in one lease period a runner that has its share looks for assignments that are left unclaimed.
LOOKS_A_LEASE = 2

#: A lease whose end has moved by more than so many seconds was renewed.
MOVED = 0.05

#: Assignments that were claimed in one round, in portions: each is of one partition and one position, for one worker.
Claimed = list[list[Assignment[Any]]]


class Coordinator:
    """Claims the assignments of one process. See the head of this module."""

    def __init__(self, assignments: Sequence[Assignment[Any]], context: WorkerContext) -> None:
        self._assignments = assignments
        self._context = context
        self._clock = context.clock.monotonic
        self._codes = codes(assignments)
        self._claimed: list[Assignment[Any]] = []
        self._backoff: Backoff | None = None
        self._outage_told = False
        #: Since when, by the clock, an assignment beyond the share has been free at each check.
        self._free_since: dict[Assignment[Any], float] = {}
        #: When an assignment that another runner holds is checked again, unless a runner came or went a moment ago.
        self._look_at: dict[Assignment[Any], float] = {}
        self._watchful_until = float("-inf")
        #: Assignments beyond the share that no other runner took.
        self._beyond_share: set[Assignment[Any]] = set()
        #: Earliest and latest monotonic time (s) at which the other runner's lease can end.
        self._lease_ends: dict[Assignment[Any], tuple[float, float]] = {}
        #: For `claim_all`: the latest end of that lease when the wait began, and the assignments claimed already.
        self._waits_until: dict[Assignment[Any], float] = {}
        self._had: set[Assignment[Any]] = set()
        self._announced = float("-inf")
        self._runners = 1
        #: How many runners are alive, also those with other code.
        self._alive = 1
        self.stopping = False

    def take_claimed(self) -> Claimed:
        """The assignments that were claimed and not returned yet, in portions for one worker each."""
        together: dict[tuple[object, ...], list[Assignment[Any]]] = {}
        now = self._clock()
        for one in self._claimed:
            together.setdefault((one,) if one.is_alone(now) else (one.keys.partition, one.position), []).append(one)
        self._claimed = []
        return list(together.values())

    def first_round(self) -> StoreOperation[None]:
        """Claim the share (everything, if there is no other runner), and every assignment that stopped by a failure."""
        yield from self._announce()
        yield from self._claim(self._open(), also_stopped=True)

    def work(self) -> Operation[Claimed]:
        """Hold a fair share until `stopping` is set or every assignment has stopped by a failure.

        Returns the assignments that it claimed; run it again until it returns none.
        """
        context = self._context
        while not self.stopping and any(one.failure is None for one in self._assignments):
            if self._claimed:
                return self.take_claimed()
            until = self._clock() + min(context.settings.beat, max(0.0, self._next_round() - self._clock()))
            yield Pause(max(0.0, until - self._clock()))
            if self.stopping:
                break
            woken = self._clock() + SHORT < until
            try:
                if woken or self._clock() + SHORT >= self._next_round():
                    yield from self._announce()
                    self._give_up_surplus()
                    yield from self._claim(self._open(), also_stopped=False)
                    self._tell_outage(None)
                yield from self._renew_slow()
                self._backoff = None
            except StoreTrouble as error:
                if not error.passing:
                    raise
                self._tell_outage(error)
                self._backoff = self._backoff or Backoff(context.patience, context.clock)
                if self._claimed:
                    continue  # the workers wait for the server by themselves
                yield Pause(self._backoff.after(error))
        if self._claimed:
            return self.take_claimed()
        try:
            yield from announce(context.runner, self._codes, leaving=True)
        except (StoreTrouble, RecordDamaged):
            pass  # the other runners notice when this one's announcement runs out
        return []

    def _tell_outage(self, reason: StoreTrouble | None) -> None:
        """Tell once that the server is away, and once that it answers, if no worker is there to tell it."""
        away = reason is not None
        if away == self._outage_told or (away and any(one.held for one in self._assignments)):
            return
        self._outage_told = away
        self._context.tell(Outage(reason))

    def claim_all(self) -> Operation[Claimed]:
        """Claim every assignment once, for history only; wait until the leases of runners that are gone have ended.

        Returns the assignments that it claimed; run it again until it returns none. An assignment whose holder renews
        its lease gets ProjectionHeld as its failure.
        """
        while not self.stopping and (awaited := [one for one in self._open() if one not in self._had]):
            yield from self._claim(awaited, also_stopped=True, everything=True)
            self._had.update(self._claimed)
            for one in awaited:
                one.failure = one.failure or one.replaced
                if one.held or one.failure is not None or one not in self._lease_ends:
                    continue
                earliest, latest = self._lease_ends[one]
                if earliest > self._waits_until.setdefault(one, latest) + MOVED:
                    one.failure = ProjectionHeld(one.name, one.keys.partition, one.holder)
            if self._claimed:
                break
            yield Pause(min(LOOK_EVERY, self._context.runner.lease / 10))
        return self.take_claimed()

    def _open(self) -> list[Assignment[Any]]:
        """The assignments that are not held and have neither failed nor finished."""
        return [one for one in self._assignments if not one.held and one.failure is None and one.state != IDLE]

    def _announce(self) -> StoreOperation[None]:
        """Announce this runner, and learn how many runners there are."""
        self._announced, before = self._clock(), self._runners
        lasts = ROUNDS_ANNOUNCED * self._pace()
        try:
            alive = yield from announce(self._context.runner, self._codes, lasts=lasts)
        except RecordDamaged:  # shares are advisory: this runner counts itself alone, and `verify` names the key
            alive = [Announcement(self._context.runner.id, "", self._codes)]
        self._alive, self._runners = len(alive), sum(one.codes == self._codes for one in alive)
        if self._runners != before:
            self._watchful_until = self._announced + 2 * max(self._context.settings.beat, self._pace())
        if self._runners > before:  # the new runner may want these assignments
            self._beyond_share.clear()

    def _next_round(self) -> float:
        return self._announced + self._pace()

    def _pace(self) -> float:
        """The seconds between two rounds of this runner, so that all runners together make a bounded number."""
        beat = self._context.settings.beat
        complete = all(one.held or one.obstacle is not None for one in self._assignments)
        return max(beat if complete else min(LOOK_EVERY, beat), self._alive / ROUNDS_A_SECOND)

    @property
    def _share(self) -> int:
        going = sum(one.obstacle is None for one in self._assignments)
        return -(-going // max(1, self._runners))

    def _held(self) -> list[Assignment[Any]]:
        return [one for one in self._assignments if one.held and not one.leaving]

    def _give_up_surplus(self) -> None:
        for one in [one for one in self._held() if one not in self._beyond_share][self._share :]:
            one.leaving = True

    def _claim(
        self, wanted: Sequence[Assignment[Any]], *, also_stopped: bool, everything: bool = False
    ) -> StoreOperation[None]:
        """Claim free assignments up to the share; beyond it, those that no runner has claimed for a lease period."""
        due = []
        for one in wanted:
            if everything or not self._is_settled(one):
                try:
                    due += [] if one.replaced is not None and not (yield from self._is_live_again(one)) else [one]
                except RecordDamaged as damage:
                    yield from self._stop(one, damage)
        room = self._share - len(self._held())
        for one in due:
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
        """Renew the leases of assignments whose workers have not renewed them for long."""
        asked, runner = self._clock(), self._context.runner
        slow = [
            (one, claim)
            for one in self._assignments
            if (claim := one.busy_with) is not None
            and one.expires_by_worker - runner.lease / 2 <= asked < one.expires_by_worker + OUTLASTS * runner.lease
        ]
        if not slow:
            return
        try:
            replies = yield Execute([
                report_command(runner, one.keys, one.name, claim, one.state) for one, claim in slow
            ])  # fmt: skip
        except RecordDamaged:
            return  # the worker of that assignment stops it, once its handler has come back
        for (one, claim), reply in zip(slow, replies, strict=True):
            if reply[0] == b"ok" and one.busy_with is claim:  # the worker gets every other answer by itself
                one.expires = max(one.expires, asked + lease_time(runner.lease))

    def _is_settled(self, one: Assignment[Any]) -> bool:
        """Whether an assignment need not be checked yet."""
        now = self._clock()
        return self._watchful_until <= now < self._look_at.get(one, now)

    def _is_live_again(self, one: Assignment[Any]) -> StoreOperation[bool]:
        """Whether the live build of an assignment that was replaced is of its code again."""
        builds, code = (yield from read_builds(one.keys, one.name)), one.request().code
        if builds.live is not None and code_of(builds.live) == code:
            one.replaced = None
            return True
        self._look_at[one] = self._clock() + self._context.settings.beat
        if builds.live is not None:
            self._stand_aside(one, BuildReplaced(one.name, one.keys.partition, code, builds.live))
        return False

    def _stand_aside(self, one: Assignment[Any], replaced: BuildReplaced) -> None:
        one.stand_aside(replaced)
        self._context.notify(one)

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
        """Claim an assignment if ``which`` allows; True if it is claimed, or with `Which.NONE`, if it is free."""
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
        except BuildReplaced as replaced:
            self._look_at[one] = self._clock() + context.settings.beat
            self._stand_aside(one, replaced)
            return False
        except DataError as failure:
            yield from self._stop(one, failure)
            return False
        except StoreTrouble:
            if one.held:
                one.lose()  # a later round claims the assignment again
            raise
        return True

    def _stop(self, one: Assignment[Any], failure: DataError) -> StoreOperation[None]:
        """Stop an assignment that cannot be worked on, and record why."""
        if one.held:
            report = report_command(
                self._context.runner, one.keys, one.name, one.claim, STOPPED, failure.with_hint, release=True
            )
            try:
                yield Execute([report])
            except RecordDamaged:
                pass  # the lease ends by itself; this process says why
            finally:  # if the report did not arrive, a later round claims the assignment and stops it again
                one.lose()
        one.failure, one.state = failure, STOPPED
        self._context.notify(one)


def codes(assignments: Sequence[Assignment[Any]]) -> dict[str, str]:
    """The version of the code of each projection and reactor."""
    return {one.name: one.request().code for one in assignments}
