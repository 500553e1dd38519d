"""The steward: gets a process its share of the work, and gives up what is beyond it.

Every runner that runs the same projections says so with each round, so each knows how many there are; a fair share is
the number of units (a projection in a partition) divided by that, rounded up. Who holds more gives units back; who
holds less takes those that are free. A unit that stays free for the time of a lease is taken by anyone, and kept until
another runner joins: shares are a courtesy, and never a reason for work to lie.

Its work is one operation. It only claims; what happens to a seat that is claimed is its group's affair. With one
exception: while a group is at a single slow event it cannot renew its leases, so the steward does, for a bounded time.
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
    Held,
    Stopped,
    acquire,
    enrol,
    report_command,
)
from .assignment import IDLE, STOPPED, Seat
from .context import Context
from .lease_keeper import check_claim, lease_time

#: How often a runner that stands by looks whether something is free, in seconds.
LOOK = 0.5


class Steward:
    """See the head of this module. ``seat_them`` is given seats that were just claimed, those of one partition and
    position together."""

    def __init__(
        self, seats: Sequence[Seat[Any]], context: Context, seat_them: Callable[[list[Seat[Any]]], None]
    ) -> None:
        self._seats = seats
        self._context = context
        self._seat_them = seat_them
        self._units = _fingerprint(seats)
        #: Since when, by the clock, a seat beyond the share has been seen free.
        self._free: dict[Seat[Any], float] = {}
        #: When a seat that somebody else has is looked at again, unless somebody came or went a moment ago.
        self._look: dict[Seat[Any], float] = {}
        self._watchful = float("-inf")
        #: Seats beyond the share that nobody else took.
        self._beyond: set[Seat[Any]] = set()
        #: When the lease of another ends, by the clock: not before, and not after.
        self._ends: dict[Seat[Any], tuple[float, float]] = {}
        self._enrolled = float("-inf")
        self._alive = 1
        self.stopping = False

    def first_round(self) -> Operation[None]:
        """Claim what can be had: all of it, if nobody else is there. What stopped by a failure is taken up again."""
        yield from self._enrol()
        yield from self._claim(also_stopped=True)

    def work(self) -> Operation[None]:
        """Until `stopping`: hold a fair share. Ends when every seat has stopped by a failure."""
        context = self._context
        backoff: Backoff | None = None
        while not self.stopping and any(seat.failure is None for seat in self._seats):
            complete = all(seat.held or seat.failure is not None for seat in self._seats)
            yield Pause(context.settings.beat if complete else min(LOOK, context.settings.beat))
            if self.stopping:
                break
            try:
                if not complete or context.clock.monotonic() - self._enrolled >= context.settings.beat:
                    yield from self._enrol()
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
            yield from enrol(context.runner, self._units, leaving=True)
        except StoreTrouble:
            pass  # the others will notice by its silence

    def seat_all(self) -> Operation[None]:
        """Claim every seat, waiting out the leases of runners that are gone; for history only.

        A seat whose holder renews its lease gets ProjectionHeld as its failure.
        """
        waiting: dict[Seat[Any], float] = {}
        context = self._context
        while not self.stopping:
            yield from self._claim(also_stopped=True, everything=True)
            for seat in self._open():
                if seat not in self._ends:
                    continue  # nobody else had it: its group has ended meanwhile
                earliest, latest = self._ends[seat]
                if earliest > waiting.setdefault(seat, latest) + MOVED:
                    seat.failure = ProjectionHeld(seat.name, seat.keys.partition, seat.holder)
            if not self._open():
                return
            yield Pause(min(LOOK, context.runner.lease / 10))

    def _open(self) -> list[Seat[Any]]:
        """Seats that are neither held, nor given up, nor done with."""
        return [seat for seat in self._seats if not seat.held and seat.failure is None and seat.state != IDLE]

    def _enrol(self) -> Operation[None]:
        self._enrolled, before = self._context.clock.monotonic(), self._alive
        self._alive = yield from enrol(self._context.runner, self._units)
        if self._alive != before:
            self._watchful = self._enrolled + 2 * self._context.settings.beat
        if self._alive > before:  # somebody came who may want them
            self._beyond.clear()

    @property
    def _share(self) -> int:
        going = sum(seat.failure is None for seat in self._seats)
        return -(-going // max(1, self._alive))

    def _held(self) -> list[Seat[Any]]:
        return [seat for seat in self._seats if seat.held and not seat.leaving]

    def _give_up_the_surplus(self) -> None:
        for seat in [seat for seat in self._held() if seat not in self._beyond][self._share :]:
            seat.leaving = True

    def _claim(self, *, also_stopped: bool, everything: bool = False) -> Operation[None]:
        claimed: list[Seat[Any]] = []
        room = self._share - len(self._held())
        try:
            for seat in self._open():
                if not everything and self._is_settled(seat):
                    continue
                beyond = not everything and len(claimed) >= room
                if beyond and not also_stopped and not (yield from self._lies(seat)):
                    continue
                which = ONLY_STOPPED if beyond and also_stopped else ALSO_STOPPED if also_stopped else NOT_STOPPED
                if (yield from self._claim_one(seat, which)):
                    claimed.append(seat)
                    if beyond and not also_stopped:
                        self._beyond.add(seat)
        finally:  # also when the server went away in the middle: nobody else looks after what is claimed already
            self._seat_together(claimed)

    def _seat_together(self, claimed: list[Seat[Any]]) -> None:
        together: dict[tuple[int, int], list[Seat[Any]]] = {}
        for seat in claimed:
            if seat.alone:
                self._seat_them([seat])
            else:
                together.setdefault((seat.keys.partition, seat.position), []).append(seat)
        for seats in together.values():
            self._seat_them(seats)

    def _tend(self) -> Operation[None]:
        """Renew the leases of seats whose groups have not done so for long."""
        asked, runner = self._context.clock.monotonic(), self._context.runner
        slow = [
            (seat, claim)
            for seat in self._seats
            if (claim := seat.busy_with) is not None
            and seat.tended - runner.lease / 2 <= asked < seat.tended + OUTLASTS * runner.lease
        ]
        if not slow:
            return
        replies = yield Execute([
            report_command(runner, seat.keys, seat.name, claim, seat.state) for seat, claim in slow
        ])  # fmt: skip
        for (seat, claim), reply in zip(slow, replies, strict=True):
            if reply[0] == b"ok" and seat.busy_with is claim:  # anything else its group will hear by itself
                seat.expires = max(seat.expires, asked + lease_time(runner.lease))

    def _is_settled(self, seat: Seat[Any]) -> bool:
        now = self._context.clock.monotonic()
        return self._watchful <= now < self._look.get(seat, now)

    def _lies(self, seat: Seat[Any]) -> Operation[bool]:
        """Whether a seat was free whenever it was looked at for the time of a lease."""
        now, lease = self._context.clock.monotonic(), self._context.runner.lease
        free = yield from self._claim_one(seat, LOOK_ONLY)
        self._look[seat] = now + lease / LOOKS
        if not free:
            self._free.pop(seat, None)
            return False
        return now - self._free.setdefault(seat, now) >= lease

    def _claim_one(self, seat: Seat[Any], which: str) -> Operation[bool]:
        """Whether it is claimed; with LOOK_ONLY, whether it could be."""
        context = self._context
        asked, stood = context.clock.monotonic(), seat.stood
        try:
            found = yield from acquire(context.runner, seat.wish(), which)
            if isinstance(found, Held):
                now = context.clock.monotonic()
                self._ends[seat] = asked + found.left, now + found.left
                self._look[seat] = now + min(found.left, context.settings.beat)
                seat.stand_by(found.where, found.left)
                context.notify(seat)
                return False
            if isinstance(found, Free):
                return which == LOOK_ONLY
            if isinstance(found, Stopped):
                self._look[seat] = context.clock.monotonic() + context.settings.beat
                return False
            self._free.pop(seat, None)
            seat.take(found, asked + lease_time(context.runner.lease))
            yield from check_claim(seat.keys, seat, stood)
        except (BuildReplaced, DataError) as failure:
            yield from self._stop(seat, failure)
            return False
        except StoreTrouble:
            if seat.held:
                seat.lose()  # it is claimed again in a later round
            raise
        return True

    def _stop(self, seat: Seat[Any], failure: BuildReplaced | DataError) -> Operation[None]:
        if seat.held:
            report = report_command(
                self._context.runner, seat.keys, seat.name, seat.claim, STOPPED, failure.with_hint, release=True
            )
            try:
                yield Execute([report])
            finally:  # if the store could not be told, it is claimed again in a later round, and this found out again
                seat.lose()
        seat.failure, seat.state = failure, STOPPED
        self._context.notify(seat)


#: How many leases one event may take before another runner gets its turn: it may be a better one.
OUTLASTS = 10

#: How often in the time of a lease a runner that has its share looks whether something lies free.
LOOKS = 2

#: A lease whose end has moved by more than this was renewed, in seconds.
MOVED = 0.05


def _fingerprint(seats: Sequence[Seat[Any]]) -> str:
    """The same for runners that run the same units."""
    units = sorted(f"{seat.name} {seat.wish().code} {seat.keys.partition}" for seat in seats)
    return f"{zlib.crc32(chr(10).join(units).encode()):08x}"


def refused(seat: Seat[Any]) -> CommitRefused:
    """The error for a seat that was lost to another runner, where nobody waits to get it back."""
    taken = f"another runner has claimed it ({seat.holder})" if seat.holder else "it was reset, switched or released"
    return CommitRefused(seat.name, seat.keys.partition, taken)
