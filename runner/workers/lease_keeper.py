"""The lease keeper: claims, heartbeats and releases of a worker's assignments.

An assignment is held from a claim until it is released, lost or stopped. Each heartbeat renews the lease, and the store
compares history with the checkpoint at the same time. After a refused commit or heartbeat the worker claims the
assignment again: if that succeeds, it continues from the stored checkpoint; if not, another runner owns it.
"""

from __future__ import annotations

from typing import Any

from ..effects import Execute, StoreOperation
from ..errors import DataError, HistoryDiverged, RecordDamaged, RunnerError, StoreReplaced
from ..format.keys import PartitionKeys
from ..format.scripts import expect
from ..progress.checkpoint import compare_rows, compare_with_log
from ..progress.lease import HeldByOther, claim_again, report_command
from ..progress.parked import read_parked, traceback_of
from .assignment import IDLE, STOPPED, Assignment, Assignments, LastKnown
from .context import WorkerContext
from .failed_events import set_aside

#: The part of a lease that its holder does not rely on, because its clock and the server's may differ.
MARGIN = 0.1


class LeaseKeeper:
    """Keeps the leases of a worker's assignments."""

    def __init__(self, keys: PartitionKeys, context: WorkerContext) -> None:
        self._keys = keys
        self._context = context
        self._clock = context.clock.monotonic
        self._renewed = float("-inf")

    @property
    def due(self) -> bool:
        """Whether it is time for a heartbeat."""
        return self._clock() - self._renewed >= self._context.settings.beat

    def hurry(self) -> None:
        """Make a heartbeat due: the store does not know the state of assignments that have just joined."""
        self._renewed = float("-inf")

    def any_expired(self, assignments: Assignments) -> bool:
        """Whether the lease of one of them has run out by this process's clock."""
        now = self._clock()
        return any(now >= assignment.expires for assignment in assignments)

    def renew(self, assignments: Assignments) -> StoreOperation[tuple[list[Assignment[Any]], list[Assignment[Any]]]]:
        """The heartbeat: report the states of the assignments, and renew their leases.

        Returns the assignments that the store refused, and those for which it suspects that the history is another.
        """
        refused: list[Assignment[Any]] = []
        suspect: list[Assignment[Any]] = []
        if not assignments:
            return refused, suspect
        asked = self._renewed = self._clock()
        runner = self._context.runner
        replies = yield Execute([
            report_command(runner, self._keys, one.name, one.claim, one.state, one.reason, committed=one.committed)
            for one in assignments
        ])  # fmt: skip
        for assignment, reply in zip(assignments, replies, strict=True):
            if reply[0] == b"ok":
                assignment.expires = assignment.expires_by_worker = asked + lease_time(runner.lease)
            else:
                expect("progress/report", reply[0], b"owner", b"moved", b"replaced", b"suspect")
                (suspect if reply[0] == b"suspect" else refused).append(assignment)
        return refused, suspect

    def claim_again(self, assignment: Assignment[Any]) -> StoreOperation[HeldByOther | None]:
        """Claim a held assignment under a new fencing token, and continue from the stored checkpoint.

        Returns the holder if another runner has claimed it meanwhile. Raises DataError if the history is another.
        """
        asked, known = self._clock(), assignment.last_known
        runner = self._context.runner
        found = yield from claim_again(runner, assignment.request(), assignment.claim)
        if isinstance(found, HeldByOther):
            return found
        for changes in assignment.take(found, asked + lease_time(runner.lease)):
            for event in set_aside(assignment, changes):
                self._context.tell(event)
        yield from check_claim(self._keys, assignment, known)
        return None

    def explain(self, assignment: Assignment[Any], error: RunnerError) -> StoreOperation[RunnerError]:
        """The error to show. If the history diverged from the checkpoint, that is the cause of every other error."""
        try:
            yield from _compare(self._keys, assignment)
        except DataError as cause:
            return cause
        if isinstance(error, StoreReplaced):
            another = "the store is not the one that was opened: its epoch has changed or is gone"
            position = assignment.claim.checkpoint.position
            return HistoryDiverged(assignment.name, self._keys.partition, position, another)
        return error

    def report_state(
        self, assignment: Assignment[Any], state: str, reason: str = "", traceback: str = ""
    ) -> StoreOperation[None]:
        """Put an assignment into a state, and report that to the store at once."""
        assignment.state, assignment.reason = state, reason
        runner = self._context.runner
        yield Execute([
            report_command(
                runner, self._keys, assignment.name, assignment.claim, state, reason, traceback=traceback
            )
        ])  # fmt: skip
        self._context.notify(assignment)

    def release(self, assignments: Assignments, state: str) -> StoreOperation[None]:
        """Release assignments: another runner may claim them at once. ``state``: their state in this process."""
        runner = self._context.runner
        reports = [report_command(runner, self._keys, one.name, one.claim, IDLE, release=True) for one in assignments]
        yield Execute(reports)
        for assignment in assignments:
            assignment.lose()
            assignment.state = state
            self._context.notify(assignment)

    def stop(self, assignment: Assignment[Any], failure: RunnerError) -> StoreOperation[None]:
        """Stop an assignment: record its failure in the store, unless its record is damaged, and release it."""
        report = report_command(
            self._context.runner, self._keys, assignment.name, assignment.claim, STOPPED, failure.with_hint,
            release=True, traceback=traceback_of(failure),
        )  # fmt: skip
        try:
            yield Execute([report])
        except RecordDamaged:
            pass  # the lease ends by itself; this process says why
        # Only after the store has answered: if the report did not arrive, the assignment goes on, and fails again.
        assignment.failure = failure
        assignment.lose()
        assignment.state = STOPPED
        self._context.notify(assignment)


def check_claim(keys: PartitionKeys, assignment: Assignment[Any], known: LastKnown) -> StoreOperation[None]:
    """Compare a new claim with the log and with what was known before the claim, and load which rows are parked.

    A checkpoint that the store acknowledged does not go back, unless the projection was reset. Raises HistoryDiverged
    or LogTruncated.
    """
    claim = assignment.claim
    went_back = claim.checkpoint.position < known.committed and claim.resets in (known.resets, "new")
    if known.build == claim.build and went_back:
        now = "has forgotten the projection" if claim.resets == "new" else f"has it at {claim.checkpoint.position} now"
        what = f"the store {now}: it lost what it had acknowledged"
        raise HistoryDiverged(assignment.name, keys.partition, known.committed, what)
    yield from _compare(keys, assignment)
    assignment.know_parked((yield from read_parked(keys, assignment.name, claim.build)))


def _compare(keys: PartitionKeys, assignment: Assignment[Any]) -> StoreOperation[None]:
    """Compare the checkpoint with the log, and the view with the number of its rows."""
    claim = assignment.claim
    yield from compare_with_log(keys, assignment.name, claim.checkpoint, claim.build if claim.candidate else None)
    yield from compare_rows(keys, assignment.name, claim.build)


def lease_time(lease: float) -> float:
    """How many seconds a holder relies on a lease, counted from the moment before it asked for the lease."""
    return lease * (1 - MARGIN)
