"""The holdings of a worker: its assignments, their leases and commits, and the outcomes of those that have left it.

The store decides. If it refuses a commit or a heartbeat, the assignment is claimed again: it leaves the worker, and
goes on in a worker of its own, or is lost to another runner.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..effects import Execute, StoreOperation
from ..errors import CommitRefused, DataError, HandlerFailed, RunnerError, StoreReplaced, StoreTrouble
from ..format.keys import PartitionKeys
from ..progress.builds import switch
from ..progress.lease import report_command
from ..progress.parked import traceback_of
from ..projections.fold import Verdict
from ..projections.policies import Retry
from .assignment import LIVE, REBUILDING, RETRYING, STANDING_BY, Assignment, Assignments
from .commits import Commit, CommitPipeline
from .context import WorkerContext
from .failed_events import to_retry
from .failures import verdict
from .lease_keeper import LeaseKeeper
from .outcomes import Again, Lost, Outcome


class Holdings:
    """See the head of this module. Each change makes ``assignments`` a new list."""

    def __init__(self, keys: PartitionKeys, assignments: Assignments, context: WorkerContext) -> None:
        self.assignments = list(assignments)
        self.commits = CommitPipeline(keys, context)
        self.leases = LeaseKeeper(keys, context)
        #: The outcomes that the worker returns to the pool.
        self.outcomes: list[Outcome] = []
        self._keys = keys
        self._context = context

    def present(self, assignments: Assignments) -> list[Assignment[Any]]:
        """Those of the assignments that are still held."""
        return [one for one in assignments if one in self.assignments]

    def add(self, assignments: Assignments) -> None:
        """Hold further assignments. A heartbeat is due at once, to report their states to the store."""
        self.assignments = [*self.assignments, *assignments]
        self.leases.hurry()

    def hand_over(self) -> list[Assignment[Any]]:
        """Give up all assignments, which another worker of this process holds from now on."""
        handed, self.assignments = self.assignments, []
        return handed

    def take_outcomes(self) -> list[Outcome]:
        """The outcomes since the last call."""
        taken, self.outcomes = self.outcomes, []
        return taken

    def farthest(self) -> int:
        """The farthest position that is known to be committed."""
        return max((one.committed for one in self.assignments), default=0)

    def _remove(self, assignments: Assignments) -> None:
        self.assignments = [one for one in self.assignments if one not in assignments]

    # -- commits and leases ---------------------------------------------------------------------------

    def settle(self) -> StoreOperation[None]:
        """Wait for the commits under way; claim each assignment again whose commit was refused."""
        for assignment in (yield from self.commits.settle(self.assignments)):
            yield from self._claim_after_refusal(assignment)

    def commit(self, commits: Sequence[Commit]) -> StoreOperation[None]:
        """Send commits, after earlier ones are settled and leases that have run out are renewed."""
        yield from self.settle()
        if self.leases.any_expired([commit.assignment for commit in commits]):
            yield from self.heartbeat()
        # An assignment that has left meanwhile has another claim by now: what was folded here is void.
        yield from self.commits.send([commit for commit in commits if commit.assignment in self.assignments])

    def forget_commits(self) -> None:
        """The connection is lost: no answer to the commits under way will come."""
        self.commits.forget()

    def explain(self, assignment: Assignment[Any], error: RunnerError) -> StoreOperation[RunnerError]:
        """The error to show. If the history diverged from the checkpoint, that is the cause of every other error."""
        return self.leases.explain(assignment, error)

    def heartbeat_if_due(self) -> StoreOperation[None]:
        """Make a heartbeat, if it is time for one."""
        if self.leases.due:
            yield from self.heartbeat()

    def heartbeat(self) -> StoreOperation[None]:
        """Renew the leases; claim refused assignments again, and stop those whose history is another."""
        yield from self.settle()  # the answer to an earlier commit must not reach an assignment that leaves now
        refused, suspect = yield from self.leases.renew(self.assignments)
        for assignment in refused:
            yield from self._claim_after_refusal(assignment)
        for assignment in suspect:
            error = yield from self.leases.explain(assignment, StoreReplaced(self._keys.name))
            yield from self.stop(assignment, error)

    def _claim_after_refusal(self, assignment: Assignment[Any]) -> StoreOperation[None]:
        """The store refused this assignment: claim it again. It goes on in a worker of its own, or is lost."""
        self._remove([assignment])
        try:
            regained = yield from self.claim_again(assignment)
        except StoreTrouble:
            self.assignments = [*self.assignments, assignment]  # claimed again with the others, later
            raise
        if regained:
            self.outcomes.append(Again(assignment))

    def claim_again(self, assignment: Assignment[Any]) -> StoreOperation[bool]:
        """Claim an assignment under a new fencing token; False when it has left the worker."""
        try:
            other = yield from self.leases.claim_again(assignment)
        except DataError as error:
            yield from self.stop(assignment, (yield from self.leases.explain(assignment, error)))
            return False
        if other is None:
            return True
        assignment.lose(other.where)
        self._remove([assignment])
        if other.owner:  # else another build is live: the coordinator looks at once, and says which
            self._context.notify(assignment)
        self.outcomes.append(Lost(assignment))
        return False

    def stop(self, assignment: Assignment[Any], failure: RunnerError) -> StoreOperation[None]:
        """Stop an assignment, and record its failure in the store."""
        yield from self.leases.stop(assignment, failure)
        self._remove([assignment])
        self.outcomes.append(Lost(assignment))

    def release_surplus(self) -> StoreOperation[None]:
        """Release the assignments that the coordinator wants another runner to have."""
        leaving = [one for one in self.assignments if one.leaving]
        if leaving:
            yield from self.release(leaving, STANDING_BY)

    def release(self, assignments: Assignments, state: str) -> StoreOperation[None]:
        """Release assignments, after their commits are settled."""
        yield from self.settle()
        present = self.present(assignments)
        if present:
            yield from self.leases.release(present, state)
            self._remove(present)

    def set_states(self, state: str) -> StoreOperation[None]:
        """Put all assignments into a state, and tell the store."""
        for assignment in self.assignments:
            assignment.state, assignment.reason = REBUILDING if assignment.candidate else state, ""
            self._context.notify(assignment)
        yield from self.heartbeat()

    def switch_candidates(self) -> StoreOperation[bool]:
        """Make candidates that have caught up the live builds; True if a candidate still lags its live build."""
        lags = False
        for assignment in [one for one in self.assignments if one.candidate]:
            try:
                claim = assignment.claim
                claim.candidate = (yield from switch(self._keys, assignment.name, claim)) is not None
                lags = lags or claim.candidate
                if not claim.candidate:
                    yield from self.leases.report_state(assignment, LIVE)
            except CommitRefused:
                yield from self._claim_after_refusal(assignment)
            except DataError as beyond:
                yield from self.stop(assignment, beyond)
        return lags

    def set_apart(self, assignments: Assignments) -> StoreOperation[None]:
        """Let assignments go on in workers of their own, after their commits are settled."""
        yield from self.settle()
        leaving = self.present(assignments)
        self._remove(leaving)
        self.outcomes += [Again(one) for one in leaving]

    # -- failures -----------------------------------------------------------------------------------

    def fail(self, assignment: Assignment[Any], failure: RunnerError) -> StoreOperation[None]:
        """An event failed, and all events before it are committed: try the event again later, or stop."""
        policy = assignment.projection.on_error
        attempts = assignment.attempts.get(failure.position) if isinstance(failure, HandlerFailed) else None
        if (
            not isinstance(failure, HandlerFailed)
            or attempts is None
            or verdict(policy, attempts.count, can_park=False) is not Verdict.RETRY
        ):
            yield from self.stop_unless_outdated(assignment, failure)
            return
        assert isinstance(policy, Retry)
        pause = policy.pause(attempts.count, self._context.clock.random)
        text = f"{failure} (attempt {attempts.count} of {policy.times + 1}; the next in {pause:.1f} s)"
        yield from self.leases.report_state(assignment, RETRYING, text, traceback_of(failure))
        self._context.tell(to_retry(assignment, failure, attempts, pause))
        self._remove([assignment])
        self.outcomes.append(Again(assignment, pause))

    def stop_unless_outdated(self, assignment: Assignment[Any], failure: RunnerError) -> StoreOperation[None]:
        """Stop an assignment, unless parked events were set free meanwhile or another runner has claimed it."""
        one = assignment
        parked, answer = yield Execute([
            ("HLEN", self._keys.parked(one.name, one.claim.build)),
            report_command(self._context.runner, self._keys, one.name, one.claim, one.state, one.reason),
        ])  # fmt: skip
        if parked < assignment.parked_events or answer[0] == b"owner":
            yield from self._claim_after_refusal(assignment)
        else:
            yield from self.stop(assignment, failure)
