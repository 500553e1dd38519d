"""What a worker holds, and for how long: assignments, their leases, and commits on their way.

An assignment is held from a claim to the moment its worker gives it back, loses it, or stops it. Meanwhile its lease is renewed
with each heartbeat, in which the store also says whether history is still what it was. Whatever the store refuses, a
commit or a heartbeat, is answered by asking it where the assignment stands: it goes on from there, in a worker of its own at
first, or somebody else has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..effects import Command, Execute, Operation, Pending, Receive, Send, StoreOperation
from ..errors import CommitRefused, DataError, HistoryDiverged, RunnerError, StoreReplaced, StoreTrouble
from ..format.keys import PartitionKeys
from ..progress.checkpoint import Checkpoint, check_commit, verify
from ..progress.lease import HeldByOther, claim_again, report_command
from ..progress.parked import read_parked
from ..views.redis_rows import Changes, commit_command
from .assignment import IDLE, REBUILDING, STANDING_BY, STOPPED, Assignment, Stood
from .context import Context

#: The part of a lease that its holder does not use, for what its clock and the server's may differ by.
MARGIN = 0.1

Assignments = Sequence[Assignment[Any]]


class Tenure:
    """See the head of this module. ``spin_off`` lets an assignment go on in a worker of its own, after so many seconds."""

    def __init__(
        self,
        keys: PartitionKeys,
        assignments: Assignments,
        context: Context,
        spin_off: Callable[[Assignment[Any], float], None],
        on_loss: Callable[[], None],
    ) -> None:
        self.keys = keys
        self.assignments = list(assignments)
        self.context = context
        self._clock = context.clock.monotonic
        self._spin_off = spin_off
        self._on_loss = on_loss
        self._under_way: tuple[Pending, list[Assignment[Any]]] | None = None
        self._beaten = float("-inf")

    def _assignments_changed(self) -> None:
        """Called when assignments came or went."""

    def _present(self, assignments: Assignments) -> list[Assignment[Any]]:
        """Those that are still in the worker."""
        return [assignment for assignment in assignments if assignment in self.assignments]

    def _remove(self, assignments: Assignments) -> None:
        self.assignments = [assignment for assignment in self.assignments if assignment not in assignments]
        self._assignments_changed()

    # -- commits ----------------------------------------------------------------------------------

    def _commit(self, assignment: Assignment[Any], changes: Changes, after: Checkpoint) -> Command:
        command = commit_command(self.keys, assignment.name, assignment.claim, after, changes)
        assignment.claim.checkpoint = after
        assignment.unanswered.append((after.position, changes.handled))
        for position in [position for position in assignment.attempts if position <= after.position]:
            del assignment.attempts[position]
        return command

    def _send(self, commands: list[Command], assignments: list[Assignment[Any]]) -> Operation[None]:
        yield from self._settle()
        if any(self._clock() >= assignment.expires for assignment in assignments):
            yield from self._report()
        # An assignment that has left meanwhile may be at work in another worker already: what was folded here is void.
        kept = [place for place, assignment in enumerate(assignments) if assignment in self.assignments]
        commands, assignments = [commands[place] for place in kept], [assignments[place] for place in kept]
        if commands:
            self._under_way = (yield Send(commands)), assignments

    def _settle(self) -> Operation[None]:
        """Wait for the commits under way. An assignment whose commit was refused asks the store where it stands."""
        if self._under_way is None:
            return
        (pending, assignments), self._under_way = self._under_way, None
        replies = yield Receive(pending)
        for assignment, reply in zip(assignments, replies, strict=True):
            if assignment not in self.assignments or not assignment.unanswered:
                continue  # it has left meanwhile
            position, handled = assignment.unanswered.pop(0)
            try:
                check_commit(reply, assignment.name, self.keys.partition)
                assignment.handled += handled
                assignment.committed = position
                self.context.notify(assignment)
            except CommitRefused:
                yield from self._retake(assignment)

    # -- the end of a tenure ------------------------------------------------------------------------

    def _stop(self, assignment: Assignment[Any], failure: RunnerError) -> Operation[None]:
        command = report_command(
            self.context.runner, self.keys, assignment.name, assignment.claim, STOPPED, failure.with_hint, release=True
        )
        yield Execute([command])
        assignment.failure = (
            failure  # not before: if the store could not be told, the assignment goes on, and finds out again
        )
        assignment.lose()
        assignment.state = STOPPED
        self._remove([assignment])
        self.context.notify(assignment)
        self._on_loss()

    def _explain(self, assignment: Assignment[Any], damage: RunnerError) -> Operation[RunnerError]:
        """Trouble as it looks from a checkpoint: another log explains everything else."""
        try:
            yield from verify(self.keys, assignment.name, assignment.claim.checkpoint)
        except DataError as diverged:
            return diverged
        if isinstance(damage, StoreReplaced):
            another = "the store is not the one that was opened: its epoch is another, or gone"
            return HistoryDiverged(assignment.name, self.keys.partition, assignment.claim.checkpoint.position, another)
        return damage

    # -- the lease --------------------------------------------------------------------------------

    def _beat(self) -> Operation[None]:
        if self._clock() - self._beaten >= self.context.settings.beat:
            yield from self._report()

    def _report(self) -> Operation[None]:
        """Say that the assignments are at work, renew their leases, and hear whether history is what it was."""
        yield from self._settle()  # an assignment that leaves now must not be reached by the answer to a commit of before
        assignments = list(self.assignments)
        if not assignments:
            return
        asked = self._beaten = self._clock()
        runner = self.context.runner
        replies = yield Execute([
            report_command(
                runner, self.keys, one.name, one.claim, one.state, one.trouble, committed=one.committed
            )
            for one in assignments
        ])  # fmt: skip
        for assignment, reply in zip(assignments, replies, strict=True):
            if reply[0] == b"ok":
                assignment.expires = assignment.tended = asked + lease_time(runner.lease)
            elif reply[0] == b"suspect":
                damage = yield from self._explain(assignment, StoreReplaced(self.keys.name))
                yield from self._stop(assignment, damage)
            else:
                yield from self._retake(assignment)

    def _retake(self, assignment: Assignment[Any]) -> Operation[None]:
        """The store does not take this assignment's word. If nobody else has it, go on from where the store says."""
        self._remove([assignment])
        assignment.unanswered.clear()
        try:
            regained = yield from self._claim_again(assignment)
        except StoreTrouble:
            self.assignments.append(assignment)  # it is claimed again with the others, when the server answers
            self._assignments_changed()
            raise
        if regained:
            self._spin_off(assignment, 0.0)
        self._on_loss()

    def _claim_again(self, assignment: Assignment[Any]) -> Operation[bool]:
        """Claim under a new token and take up from where the store says; False when the assignment has left the worker."""
        asked, stood = self._clock(), assignment.stood
        runner = self.context.runner
        try:
            found = yield from claim_again(runner, assignment.request(), assignment.claim)
            if isinstance(found, HeldByOther):
                self._lose(assignment, found.where)
                return False
            assignment.take(found, asked + lease_time(runner.lease))
            yield from check_claim(self.keys, assignment, stood)
        except DataError as damage:
            yield from self._stop(assignment, (yield from self._explain(assignment, damage)))
            return False
        return True

    def _lose(self, assignment: Assignment[Any], holder: str) -> None:
        assignment.lose(holder)
        self._remove([assignment])
        self.context.notify(assignment)
        self._on_loss()

    def _let_go(self) -> Operation[None]:
        leaving = [assignment for assignment in self.assignments if assignment.leaving]
        if leaving:
            yield from self._give_back(leaving, STANDING_BY)

    def _give_back(self, assignments: list[Assignment[Any]], state: str) -> Operation[None]:
        """Let another runner have these assignments at once."""
        yield from self._settle()
        assignments = self._present(assignments)
        if not assignments:
            return
        runner = self.context.runner
        yield Execute([
            report_command(runner, self.keys, one.name, one.claim, IDLE, release=True) for one in assignments
        ])  # fmt: skip
        for assignment in assignments:
            assignment.lose()
            assignment.state = state
            self.context.notify(assignment)
        self._remove(assignments)

    # -- states -----------------------------------------------------------------------------------

    def _set_states(self, state: str) -> Operation[None]:
        for assignment in self.assignments:
            assignment.state, assignment.trouble = REBUILDING if assignment.candidate else state, ""
            self.context.notify(assignment)
        yield from self._report()

    def _tell(self, assignment: Assignment[Any], state: str, error: str = "") -> Operation[None]:
        assignment.state, assignment.trouble = state, error
        yield Execute([report_command(self.context.runner, self.keys, assignment.name, assignment.claim, state, error)])
        self.context.notify(assignment)


def check_claim(keys: PartitionKeys, assignment: Assignment[Any], stood: Stood) -> StoreOperation[None]:
    """Look at what a new claim of an assignment stands on, and load which rows are parked.

    ``stood`` is what was known of it before: a checkpoint that was acknowledged does not go back, unless it was reset.
    Raises HistoryDiverged or LogTruncated.
    """
    claim = assignment.claim
    build, resets, position = stood
    if build == claim.build and claim.checkpoint.position < position and claim.resets in (resets, "new"):
        now = "has forgotten the projection" if claim.resets == "new" else f"has it at {claim.checkpoint.position} now"
        raise HistoryDiverged(
            assignment.name, keys.partition, position, f"the store {now}: it lost what it had acknowledged"
        )
    yield from verify(keys, assignment.name, claim.checkpoint)
    assignment.know_parked((yield from read_parked(keys, assignment.name, claim.build)))


def lease_time(lease: float) -> float:
    """How long a holder relies on a lease of so many seconds, counted from before it asked."""
    return lease * (1 - MARGIN)
