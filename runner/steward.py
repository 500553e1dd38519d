"""The steward: gets a process its share of the work, and gives up what is beyond it.

Every runner that runs the same projections says so with each round, so each knows how many there are; a fair share is
the number of units (a projection in a partition) divided by that, rounded up. Who holds more gives units back; who
holds less takes those that are free. A unit that stays free for the time of a lease is taken by anyone: shares are a
courtesy, and never a reason for work to lie.

Its work is one operation. It only claims; what happens to a seat that is claimed is its group's affair.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

from .errors import BuildReplaced, CommitRefused, DataError, ProjectionHeld, StoreTrouble
from .group import check_claim, lease_time
from .progress.lease import Held, Stopped, acquire, enrol, report_command
from .requests import Execute, Operation, Pause
from .seat import STOPPED, Context, Seat
from .wire.encoding import Backoff

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
        #: Since when, by the clock, a seat has been free for the taking.
        self._free: dict[Seat[Any], float] = {}
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
        backoff = Backoff(context.patience, context.clock())
        while not self.stopping and any(seat.failure is None for seat in self._seats):
            complete = all(seat.held or seat.failure is not None for seat in self._seats)
            yield Pause(context.settings.beat if complete else min(LOOK, context.settings.beat))
            if self.stopping:
                break
            try:
                if context.clock() - self._enrolled >= context.settings.beat:
                    yield from self._enrol()
                    self._give_up_the_surplus()
                yield from self._claim(also_stopped=False)
                backoff = Backoff(context.patience, context.clock())
            except StoreTrouble as trouble:
                if not trouble.passing:
                    raise
                yield Pause(backoff.after(trouble, context.clock()))
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
                until = waiting.setdefault(seat, context.clock() + seat.held_for)
                if context.clock() + seat.held_for > until + MOVED:
                    seat.failure = ProjectionHeld(seat.name, seat.keys.partition, seat.holder)
            if not self._open():
                return
            yield Pause(min(LOOK, context.runner.lease / 10))

    def _open(self) -> list[Seat[Any]]:
        """Seats that are neither held nor given up."""
        return [seat for seat in self._seats if not seat.held and seat.failure is None]

    def _enrol(self) -> Operation[None]:
        self._enrolled = self._context.clock()
        self._alive = yield from enrol(self._context.runner, self._units)

    @property
    def _share(self) -> int:
        going = sum(seat.failure is None for seat in self._seats)
        return -(-going // max(1, self._alive))

    def _held(self) -> list[Seat[Any]]:
        return [seat for seat in self._seats if seat.held and not seat.leaving]

    def _give_up_the_surplus(self) -> None:
        for seat in self._held()[self._share :]:
            seat.leaving = True

    def _claim(self, *, also_stopped: bool, everything: bool = False) -> Operation[None]:
        context = self._context
        claimed: list[Seat[Any]] = []
        room = self._share - len(self._held())
        try:
            for seat in self._open():
                overdue = context.clock() - self._free.get(seat, context.clock()) >= context.runner.lease
                if not everything and len(claimed) >= room and not overdue:
                    self._free.setdefault(seat, context.clock())
                    continue
                if (yield from self._claim_one(seat, also_stopped)):
                    claimed.append(seat)
                    self._free.pop(seat, None)
        finally:  # also when the server went away in the middle: nobody else looks after what is claimed already
            self._seat_together(claimed)

    def _seat_together(self, claimed: list[Seat[Any]]) -> None:
        together: dict[tuple[int, int, bool], list[Seat[Any]]] = {}
        for seat in claimed:
            together.setdefault((seat.keys.partition, seat.position, seat.alone), []).append(seat)
        for seats in together.values():
            self._seat_them(seats)

    def _claim_one(self, seat: Seat[Any], also_stopped: bool) -> Operation[bool]:
        context = self._context
        asked, stood = context.clock(), seat.stood
        try:
            found = yield from acquire(context.runner, seat.wish(), also_stopped=also_stopped)
            if isinstance(found, Held):
                self._free.pop(seat, None)
                seat.stand_by(found.where, found.left)
                context.notify(seat)
                return False
            if isinstance(found, Stopped):
                return False
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
                self._context.runner, seat.keys, seat.name, seat.claim, STOPPED, str(failure), release=True
            )
            yield Execute([report])
            seat.lose()
        seat.failure, seat.state = failure, STOPPED
        self._context.notify(seat)


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
