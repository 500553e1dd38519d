"""The commit pipeline: one batch of commits is under way while the next batch is worked on.

A commit is safe by itself: its script refuses a batch that does not follow from the stored checkpoint under the present
claim. So the next batch may be folded before the answer has come, and a late refusal costs only time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..effects import Command, Pending, Receive, Send, StoreOperation
from ..format.keys import PartitionKeys
from ..progress.checkpoint import Checkpoint
from ..views.redis_rows import Changes, commit_command, was_committed
from .assignment import Assignment, Assignments
from .context import WorkerContext
from .failed_events import set_aside


class Commit(NamedTuple):
    """The changes to write for an assignment, and the assignment's checkpoint afterwards."""

    assignment: Assignment[Any]
    changes: Changes
    after: Checkpoint


class CommitPipeline:
    """The commits of a worker; at most one batch of them is under way."""

    def __init__(self, keys: PartitionKeys, context: WorkerContext) -> None:
        self._keys = keys
        self._context = context
        self._under_way: tuple[Pending, list[Commit]] | None = None

    def send(self, commits: Sequence[Commit]) -> StoreOperation[None]:
        """Send commits without waiting for the answers. The batch before must be settled."""
        assert self._under_way is None, "one batch of commits at a time"
        if commits:
            pending = yield Send([self._command(commit) for commit in commits])
            self._under_way = pending, list(commits)

    def settle(self, present: Assignments) -> StoreOperation[list[Assignment[Any]]]:
        """Wait for the commits under way; returns the assignments whose commit was refused.

        ``present``: the assignments that the worker still has. An answer for another one concerns an earlier claim of
        that assignment and is ignored.
        """
        if self._under_way is None:
            return []
        (pending, commits), self._under_way = self._under_way, None
        replies = yield Receive(pending)
        refused = []
        for (assignment, _, _), reply in zip(commits, replies, strict=True):
            if assignment not in present or not assignment.unanswered:
                continue
            position, changes = assignment.unanswered.pop(0)
            if was_committed(reply):
                assignment.handled += changes.handled
                assignment.committed = position
                self._context.notify(assignment)
                for event in set_aside(assignment, changes):
                    self._context.tell(event)
            else:
                refused.append(assignment)
        return refused

    def _command(self, commit: Commit) -> Command:
        """The command of a commit. From now on the assignment's checkpoint is the one after the commit."""
        assignment, changes, after = commit
        command = commit_command(self._keys, assignment.name, assignment.claim, after, changes)
        assignment.claim.checkpoint = after
        assignment.unanswered.append((after.position, changes))
        for position in [position for position in assignment.attempts if position <= after.position]:
            del assignment.attempts[position]
        return command

    def forget(self) -> None:
        """The connection is lost: no answer will come."""
        self._under_way = None
