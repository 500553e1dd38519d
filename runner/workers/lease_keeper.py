"""What a group holds, and for how long: seats, their leases, and commits on their way.

A seat is held from a claim to the moment its group gives it back, loses it, or stops it. Meanwhile its lease is renewed
with each heartbeat, in which the store also says whether history is still what it was. Whatever the store refuses, a
commit or a heartbeat, is answered by asking it where the seat stands: it goes on from there, in a group of its own at
first, or somebody else has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..effects import Command, Execute, Operation, Pending, Receive, Send, StoreOperation
from ..errors import CommitRefused, DataError, HistoryDiverged, RunnerError, StoreReplaced, StoreTrouble
from ..format.keys import PartitionKeys
from ..progress.checkpoint import Checkpoint, check_commit, verify
from ..progress.lease import Held, renew, report_command
from ..progress.parked import read_parked
from ..views.redis_rows import Changes, commit_command
from .assignment import IDLE, REBUILDING, STANDING_BY, STOPPED, Seat, Stood
from .context import Context

#: The part of a lease that its holder does not use, for what its clock and the server's may differ by.
MARGIN = 0.1

Seats = Sequence[Seat[Any]]


class Tenure:
    """See the head of this module. ``spin_off`` lets a seat go on in a group of its own, after so many seconds."""

    def __init__(
        self,
        keys: PartitionKeys,
        seats: Seats,
        context: Context,
        spin_off: Callable[[Seat[Any], float], None],
        on_loss: Callable[[], None],
    ) -> None:
        self.keys = keys
        self.seats = list(seats)
        self.context = context
        self._clock = context.clock.monotonic
        self._spin_off = spin_off
        self._on_loss = on_loss
        self._under_way: tuple[Pending, list[Seat[Any]]] | None = None
        self._beaten = float("-inf")

    def _seats_changed(self) -> None:
        """Called when seats came or went."""

    def _present(self, seats: Seats) -> list[Seat[Any]]:
        """Those that are still in the group."""
        return [seat for seat in seats if seat in self.seats]

    def _remove(self, seats: Seats) -> None:
        self.seats = [seat for seat in self.seats if seat not in seats]
        self._seats_changed()

    # -- commits ----------------------------------------------------------------------------------

    def _commit(self, seat: Seat[Any], changes: Changes, after: Checkpoint) -> Command:
        command = commit_command(self.keys, seat.name, seat.claim, after, changes)
        seat.claim.checkpoint = after
        seat.unanswered.append((after.position, changes.handled))
        for position in [position for position in seat.attempts if position <= after.position]:
            del seat.attempts[position]
        return command

    def _send(self, commands: list[Command], seats: list[Seat[Any]]) -> Operation[None]:
        yield from self._settle()
        if any(self._clock() >= seat.expires for seat in seats):
            yield from self._report()
        # A seat that has left meanwhile may be at work in another group already: what was folded here is void.
        kept = [place for place, seat in enumerate(seats) if seat in self.seats]
        commands, seats = [commands[place] for place in kept], [seats[place] for place in kept]
        if commands:
            self._under_way = (yield Send(commands)), seats

    def _settle(self) -> Operation[None]:
        """Wait for the commits under way. A seat whose commit was refused asks the store where it stands."""
        if self._under_way is None:
            return
        (pending, seats), self._under_way = self._under_way, None
        replies = yield Receive(pending)
        for seat, reply in zip(seats, replies, strict=True):
            if seat not in self.seats or not seat.unanswered:
                continue  # it has left meanwhile
            position, handled = seat.unanswered.pop(0)
            try:
                check_commit(reply, seat.name, self.keys.partition)
                seat.handled += handled
                seat.committed = position
                self.context.notify(seat)
            except CommitRefused:
                yield from self._retake(seat)

    # -- the end of a tenure ------------------------------------------------------------------------

    def _stop(self, seat: Seat[Any], failure: RunnerError) -> Operation[None]:
        command = report_command(
            self.context.runner, self.keys, seat.name, seat.claim, STOPPED, failure.with_hint, release=True
        )
        yield Execute([command])
        seat.failure = failure  # not before: if the store could not be told, the seat goes on, and finds out again
        seat.lose()
        seat.state = STOPPED
        self._remove([seat])
        self.context.notify(seat)
        self._on_loss()

    def _explain(self, seat: Seat[Any], damage: RunnerError) -> Operation[RunnerError]:
        """Trouble as it looks from a checkpoint: another log explains everything else."""
        try:
            yield from verify(self.keys, seat.name, seat.claim.checkpoint)
        except DataError as diverged:
            return diverged
        if isinstance(damage, StoreReplaced):
            another = "the store is not the one that was opened: its epoch is another, or gone"
            return HistoryDiverged(seat.name, self.keys.partition, seat.claim.checkpoint.position, another)
        return damage

    # -- the lease --------------------------------------------------------------------------------

    def _beat(self) -> Operation[None]:
        if self._clock() - self._beaten >= self.context.settings.beat:
            yield from self._report()

    def _report(self) -> Operation[None]:
        """Say that the seats are at work, renew their leases, and hear whether history is what it was."""
        yield from self._settle()  # a seat that leaves now must not be reached by the answer to a commit of before
        seats = list(self.seats)
        if not seats:
            return
        asked = self._beaten = self._clock()
        runner = self.context.runner
        replies = yield Execute([
            report_command(
                runner, self.keys, seat.name, seat.claim, seat.state, seat.trouble, committed=seat.committed
            )
            for seat in seats
        ])  # fmt: skip
        for seat, reply in zip(seats, replies, strict=True):
            if reply[0] == b"ok":
                seat.expires = seat.tended = asked + lease_time(runner.lease)
            elif reply[0] == b"suspect":
                damage = yield from self._explain(seat, StoreReplaced(self.keys.name))
                yield from self._stop(seat, damage)
            else:
                yield from self._retake(seat)

    def _retake(self, seat: Seat[Any]) -> Operation[None]:
        """The store does not take this seat's word. If nobody else has it, go on from where the store says."""
        self._remove([seat])
        seat.unanswered.clear()
        try:
            regained = yield from self._claim_again(seat)
        except StoreTrouble:
            self.seats.append(seat)  # it is claimed again with the others, when the server answers
            self._seats_changed()
            raise
        if regained:
            self._spin_off(seat, 0.0)
        self._on_loss()

    def _claim_again(self, seat: Seat[Any]) -> Operation[bool]:
        """Claim under a new epoch and take up from where the store says; False when the seat has left the group."""
        asked, stood = self._clock(), seat.stood
        runner = self.context.runner
        try:
            found = yield from renew(runner, seat.wish(), seat.claim)
            if isinstance(found, Held):
                self._lose(seat, found.where)
                return False
            seat.take(found, asked + lease_time(runner.lease))
            yield from check_claim(self.keys, seat, stood)
        except DataError as damage:
            yield from self._stop(seat, (yield from self._explain(seat, damage)))
            return False
        return True

    def _lose(self, seat: Seat[Any], holder: str) -> None:
        seat.lose(holder)
        self._remove([seat])
        self.context.notify(seat)
        self._on_loss()

    def _let_go(self) -> Operation[None]:
        leaving = [seat for seat in self.seats if seat.leaving]
        if leaving:
            yield from self._give_back(leaving, STANDING_BY)

    def _give_back(self, seats: list[Seat[Any]], state: str) -> Operation[None]:
        """Let another runner have these seats at once."""
        yield from self._settle()
        seats = self._present(seats)
        if not seats:
            return
        runner = self.context.runner
        yield Execute([
            report_command(runner, self.keys, seat.name, seat.claim, IDLE, release=True) for seat in seats
        ])  # fmt: skip
        for seat in seats:
            seat.lose()
            seat.state = state
            self.context.notify(seat)
        self._remove(seats)

    # -- states -----------------------------------------------------------------------------------

    def _set_states(self, state: str) -> Operation[None]:
        for seat in self.seats:
            seat.state, seat.trouble = REBUILDING if seat.candidate else state, ""
            self.context.notify(seat)
        yield from self._report()

    def _tell(self, seat: Seat[Any], state: str, error: str = "") -> Operation[None]:
        seat.state, seat.trouble = state, error
        yield Execute([report_command(self.context.runner, self.keys, seat.name, seat.claim, state, error)])
        self.context.notify(seat)


def check_claim(keys: PartitionKeys, seat: Seat[Any], stood: Stood) -> StoreOperation[None]:
    """Look at what a new claim of a seat stands on, and load which rows are parked.

    ``stood`` is what was known of it before: a checkpoint that was acknowledged does not go back, unless it was reset.
    Raises HistoryDiverged or LogTruncated.
    """
    claim = seat.claim
    build, resets, position = stood
    if build == claim.build and claim.checkpoint.position < position and claim.resets in (resets, "new"):
        now = "has forgotten the projection" if claim.resets == "new" else f"has it at {claim.checkpoint.position} now"
        raise HistoryDiverged(seat.name, keys.partition, position, f"the store {now}: it lost what it had acknowledged")
    yield from verify(keys, seat.name, claim.checkpoint)
    seat.know_parked((yield from read_parked(keys, seat.name, claim.build)))


def lease_time(lease: float) -> float:
    """How long a holder relies on a lease of so many seconds, counted from before it asked."""
    return lease * (1 - MARGIN)
