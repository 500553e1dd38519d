"""A worker: drives the assignments of one partition that share a subscription, a decode and a round trip of commits.

Its work is one operation, the same for threads and for asyncio: read a batch, let `_apply` do what the assignments are
for (see `projection_worker` and `reactor_worker`), keep the leases, and deal with what goes wrong. It has a commit
pipeline and a lease keeper. Correctness does not rest here: the commit script refuses what does not follow from the
stored checkpoint.

How an assignment leaves its worker:

- its event failed: it stops, or goes on later in a worker of its own, as its policy says; the others go on;
- the store refused its commit or heartbeat: it is claimed again, and goes on in a worker of its own or is lost;
- another runner is to have it, or the process ends: it is released.

`work` returns such outcomes to the pool and goes on where it was when it is run again. So its state between two runs
lies in fields: the reader, the batch that is not finished, a bad entry that is not dealt with, an outage.

A connection that fails throws away caches and all that is under way. Each assignment is claimed again, which fences off
commits that are still on their way, and goes on from the stored checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Any

from ..effects import Command, Execute, Leave, Operation, Pause
from ..effects.backoff import Backoff
from ..errors import CommitRefused, DataError, HandlerFailed, RunnerError, StoreReplaced, StoreTrouble, UndecodableEvent
from ..format.events import RecordedEvent, entry_id
from ..format.keys import PartitionKeys
from ..log.reading import read_log
from ..progress.builds import switch
from ..progress.checkpoint import Checkpoint
from ..progress.lease import report_command
from ..progress.parked import SetAsideEvent
from ..projections.fold import Verdict
from ..projections.policies import Retry, last_resort
from ..subscriptions.reader import Batch, Ended, SubscriptionReader
from ..subscriptions.sources import LogSource
from ..views.redis_rows import Changes
from .assignment import CATCHING_UP, IDLE, LIVE, REBUILDING, RETRYING, STANDING_BY, WAITING, Assignment
from .commits import CommitPipeline
from .context import WorkerContext
from .failures import park_limit, verdict
from .lease_keeper import LeaseKeeper
from .outcomes import Again, CaughtUp, Lost, Outcome

#: Handlers get so much time before their results are committed, in seconds; a third of the lease if that is less.
SLICE = 1.0

#: An outage that begins within so many seconds of the last one, with nothing committed in between, continues it.
CALM = 5.0

Assignments = Sequence[Assignment[Any]]


class Worker:
    """See the head of this module. ``delay``: seconds to wait before it begins; ``upto``: the position to end at."""

    def __init__(
        self,
        keys: PartitionKeys,
        assignments: Assignments,
        context: WorkerContext,
        *,
        delay: float = 0.0,
        upto: int | None = None,
    ) -> None:
        self.keys = keys
        self.assignments = list(assignments)
        self.context = context
        #: Set from any thread: finish the batch at hand, commit it, release everything.
        self.stopping = False
        self.commits = CommitPipeline(keys, context.notify)
        self.leases = LeaseKeeper(keys, context)
        self._clock = context.clock.monotonic
        self._upto = upto
        self._page_size = context.settings.page_size
        self._newcomers: list[Assignment[Any]] = []
        self._newcomers_lock = Lock()
        self._outcomes: list[Outcome] = []
        # Where it is between two runs of `work`:
        self._begin_at = self._clock() + delay if delay else None
        self._reader: SubscriptionReader | None = None
        self._batch: Sequence[RecordedEvent] = ()
        self._bad_entry: DataError | None = None
        self._outage: StoreTrouble | None = None
        self._caught_up = False
        self._is_live = False
        #: The back-off of the present outage, or of the last one, and when that ended.
        self._backoff: Backoff | None = None
        self._calm_since = float("-inf")

    def take_in(self, assignments: Assignments) -> None:
        """Let assignments of another worker join this one; any thread may ask."""
        with self._newcomers_lock:
            self._newcomers += assignments

    def work(self, live: bool) -> Operation[list[Outcome]]:
        """Drive the assignments: to the end of history, or with ``live`` until `stopping` is set.

        Returns outcomes that the pool has to act on; run it again, until it returns none.
        """
        while self.assignments and not self._outcomes:
            started = self._farthest()
            try:
                if self._outage is not None:
                    yield from self._wait_for_server()
                elif self._begin_at is not None:
                    yield from self._wait_to_begin(self._begin_at)
                elif self._bad_entry is not None:
                    yield from self._handle_bad_entry(self._bad_entry)
                elif (yield from self._drive(live)):
                    yield from self._finish(live)
            except StoreTrouble as error:
                if not error.passing:
                    raise
                self._begin_outage(error, stuck=self._farthest() == started)
            except DataError as error:
                self._start_over()
                self._bad_entry = error
        if not self.assignments:
            self._start_over()
            yield Leave()
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def orphans(self) -> list[Assignment[Any]]:
        """The assignments of a worker that crashed, those on their way to another worker included."""
        return [*self.assignments, *(one.assignment for one in self._outcomes if isinstance(one, Again))]

    # -- what a worker is for ---------------------------------------------------------------------

    def _apply(self, assignments: Assignments, events: Sequence[RecordedEvent]) -> Operation[Assignments]:
        """Do what the assignments do with events, and commit it; returns those that had no time for all of them."""
        raise NotImplementedError

    def _idle_time(self) -> float:
        """How long to wait for events, in seconds."""
        return self.context.settings.beat

    def _on_idle(self) -> Operation[None]:
        """Called when no events came in that time."""
        return
        yield

    def _on_end(self) -> Operation[None]:
        """Called at the end of history, where the log is not followed."""
        return
        yield

    def _on_change(self) -> None:
        """Called when assignments came or went."""

    # -- the loop ---------------------------------------------------------------------------------

    def _drive(self, live: bool) -> Operation[bool]:
        """Read and apply until something concerns the pool (False), or all is done that was asked for (True)."""
        if self._reader is None:
            yield from self._set_states(CATCHING_UP)
            if not self.assignments or self._outcomes:
                return False
            self._reader = self._new_reader(live)
        reader = self._reader
        while self.assignments and not self.stopping:
            if self._batch:
                yield from self._apply_all(self.assignments, self._batch)
                if self._outcomes:
                    return False
                self._batch = ()
            if reader.caught_up:
                yield from self._settle()
                yield from self._switch_candidates()
                yield from self._go_live()
            elif self._caught_up and not reader.live:  # it was too slow for the feed
                self._caught_up = self._is_live = False
                yield from self._set_states(CATCHING_UP)
            yield from self._heartbeat_if_due()
            yield from self._release_surplus()
            self.take_newcomers()
            if reader.caught_up:  # else the next batch brings newcomers forward
                yield from self._bring_all_forward(self.assignments, reader.position)
            if self._outcomes:
                return False
            if not self.assignments:
                break
            came = yield from reader.next(self._idle_time())
            if isinstance(came, Ended):
                yield from self._on_end()
                return not self._outcomes
            if isinstance(came, Batch) and came.events:
                upto = self._upto
                self._batch = came.events if upto is None else [one for one in came.events if one.position <= upto]
                if not self._batch:
                    break
            else:
                yield from self._on_idle()
        return not self._outcomes

    def _new_reader(self, live: bool) -> SubscriptionReader:
        after = min(one.position for one in self.assignments)
        source = LogSource(self.keys)
        return SubscriptionReader(source, after=after, page_size=self._page_size, live=live, resubscribe=True)

    def _start_over(self) -> None:
        """Forget what was read; the next run reads from the lowest checkpoint."""
        self._reader, self._batch, self._bad_entry = None, (), None
        self._caught_up = self._is_live = False

    def _go_live(self) -> Operation[None]:
        """Tell the pool once that the end of the log is reached; go live when it leaves the assignments here."""
        if not self._caught_up:
            self._caught_up = True
            self._outcomes.append(CaughtUp())
        elif not self._is_live and not self._outcomes:
            self._is_live = True
            yield from self._set_states(LIVE)

    def _finish(self, live: bool) -> Operation[None]:
        """All is done that was asked for: switch to candidates that are ready, and release everything."""
        yield Leave()
        yield from self._settle()
        self._start_over()
        if not live and self._upto is None and (yield from self._switch_candidates()):
            return  # a candidate lags its live build still
        yield from self._release(list(self.assignments), IDLE)

    def _apply_all(self, assignments: Assignments, events: Sequence[RecordedEvent]) -> Operation[None]:
        """Apply events to the end, however slow the handlers are, with leases kept and commits in between.

        May end early, with an outcome; run again with the same events it goes on where it was.
        """
        yield from self._bring_all_forward(assignments, events[0].position - 1)
        late = self._present(assignments)
        while late and not self.stopping and not self._outcomes:
            late = self._present((yield from self._apply(late, events)))
            if late:
                yield from self._settle()
                yield from self._heartbeat_if_due()
                yield from self._release_surplus()
                late = self._present(late)

    def _bring_all_forward(self, assignments: Assignments, upto: int) -> Operation[None]:
        for assignment in list(assignments):
            if assignment.position < upto:
                yield from self._bring_forward(assignment, upto)

    def _bring_forward(self, assignment: Assignment[Any], upto: int) -> Operation[None]:
        """Let one assignment that stands before the others catch up with them, by reading for it alone."""
        while assignment in self.assignments and assignment.position < upto and not self.stopping:
            if self._outcomes:
                return
            count = min(self.context.settings.page_size, upto - assignment.position)
            page = yield from read_log(self.keys, assignment.position, count)
            if not page.events:
                raise page.damage or DataError(f"the log of partition {self.keys.partition} ends before {upto}")
            yield from self._apply_all([assignment], page.events)

    def _farthest(self) -> int:
        """The farthest position that is known to be committed."""
        return max((one.committed for one in self.assignments), default=0)

    # -- who is in it -----------------------------------------------------------------------------

    def _present(self, assignments: Assignments) -> list[Assignment[Any]]:
        """Those that are still the worker's."""
        return [one for one in assignments if one in self.assignments]

    def _remove(self, assignments: Assignments) -> None:
        self.assignments = [one for one in self.assignments if one not in assignments]
        self._on_change()

    def take_newcomers(self) -> bool:
        """Let those join that were handed over; True if there were any."""
        if not self._newcomers:
            return False
        with self._newcomers_lock:
            newcomers, self._newcomers = self._newcomers, []
        for assignment in newcomers:
            assignment.state = REBUILDING if assignment.candidate else LIVE
            self.context.notify(assignment)
        self.assignments += newcomers
        self._on_change()
        self.leases.hurry()
        return True

    # -- commits and leases -----------------------------------------------------------------------

    def _settle(self) -> Operation[None]:
        """Wait for the commits under way; claim the assignments again whose commit was refused."""
        for assignment in (yield from self.commits.settle(self.assignments)):
            yield from self._claim_after_refusal(assignment)

    def _send(self, commits: Sequence[tuple[Assignment[Any], Command]]) -> Operation[None]:
        """Send prepared commits, once those before them are settled and the leases are known to be good."""
        yield from self._settle()
        if self.leases.any_expired([assignment for assignment, _ in commits]):
            yield from self._heartbeat()
        # An assignment that has left meanwhile has another claim by now: what was folded here is void.
        yield from self.commits.send([commit for commit in commits if commit[0] in self.assignments])

    def _heartbeat_if_due(self) -> Operation[None]:
        if self.leases.due:
            yield from self._heartbeat()

    def _heartbeat(self) -> Operation[None]:
        yield from self._settle()  # the answer to an earlier commit must not reach an assignment that leaves now
        refused, suspect = yield from self.leases.renew(self.assignments)
        for assignment in refused:
            yield from self._claim_after_refusal(assignment)
        for assignment in suspect:
            error = yield from self.leases.explain(assignment, StoreReplaced(self.keys.name))
            yield from self._stop(assignment, error)

    def _claim_after_refusal(self, assignment: Assignment[Any]) -> Operation[None]:
        """The store refused this assignment. If no other runner has it, it goes on in a worker of its own."""
        self._remove([assignment])
        assignment.unanswered.clear()
        try:
            regained = yield from self._claim_again(assignment)
        except StoreTrouble:
            self.assignments.append(assignment)  # it is claimed again with the others, when the server answers
            self._on_change()
            raise
        if regained:
            self._outcomes.append(Again(assignment))

    def _claim_again(self, assignment: Assignment[Any]) -> Operation[bool]:
        """Claim under a new token; False when the assignment has left the worker."""
        try:
            other = yield from self.leases.claim_again(assignment)
        except DataError as error:
            yield from self._stop(assignment, (yield from self.leases.explain(assignment, error)))
            return False
        if other is None:
            return True
        assignment.lose(other.where)
        self._remove([assignment])
        self.context.notify(assignment)
        self._outcomes.append(Lost(assignment))
        return False

    def _stop(self, assignment: Assignment[Any], failure: RunnerError) -> Operation[None]:
        yield from self.leases.stop(assignment, failure)
        self._remove([assignment])
        self._outcomes.append(Lost(assignment))

    def _release_surplus(self) -> Operation[None]:
        """Release the assignments that the coordinator wants another runner to have."""
        leaving = [one for one in self.assignments if one.leaving]
        if leaving:
            yield from self._release(leaving, STANDING_BY)

    def _release(self, assignments: Assignments, state: str) -> Operation[None]:
        yield from self._settle()
        present = self._present(assignments)
        if present:
            yield from self.leases.release(present, state)
            self._remove(present)

    def _set_states(self, state: str) -> Operation[None]:
        """Put all assignments into a state, and tell the store."""
        for assignment in self.assignments:
            assignment.state, assignment.reason = REBUILDING if assignment.candidate else state, ""
            self.context.notify(assignment)
        yield from self._heartbeat()

    def _switch_candidates(self) -> Operation[bool]:
        """Make candidates that have caught up the live builds; True if one lags its live build still."""
        lags = False
        for assignment in [one for one in self.assignments if one.candidate]:
            try:
                claim = assignment.claim
                claim.candidate = (yield from switch(self.keys, assignment.name, claim)) is not None
                lags = lags or claim.candidate
                if not claim.candidate:
                    yield from self.leases.report_state(assignment, LIVE)
            except CommitRefused:
                yield from self._claim_after_refusal(assignment)
        return lags

    # -- failures ---------------------------------------------------------------------------------

    def _fail(self, assignment: Assignment[Any], failure: RunnerError) -> Operation[None]:
        """An event failed, and the events before it are committed: try it again later, or stop."""
        policy = assignment.projection.on_error
        attempts = assignment.attempts.get(failure.position) if isinstance(failure, HandlerFailed) else None
        if attempts is None or verdict(policy, attempts.count, can_park=False) is not Verdict.RETRY:
            yield from self._stop_unless_outdated(assignment, failure)
            return
        assert isinstance(policy, Retry)
        pause = policy.pause(attempts.count, self.context.clock.random)
        text = f"{failure} (attempt {attempts.count} of {policy.times + 1}; the next in {pause:.1f} s)"
        yield from self.leases.report_state(assignment, RETRYING, text)
        self._remove([assignment])
        self._outcomes.append(Again(assignment, pause))

    def _stop_unless_outdated(self, assignment: Assignment[Any], failure: RunnerError) -> Operation[None]:
        """Stop, except where parked events were set free since it looked, or another runner has claimed it."""
        one = assignment
        parked, answer = yield Execute([
            ("HLEN", self.keys.parked(one.name, one.claim.build)),
            report_command(self.context.runner, self.keys, one.name, one.claim, one.state, one.reason),
        ])  # fmt: skip
        if parked < assignment.parked_events or answer[0] == b"owner":
            yield from self._claim_after_refusal(assignment)
        else:
            yield from self._stop(assignment, failure)

    def _handle_bad_entry(self, error: DataError) -> Operation[None]:
        """The next log entry cannot be decoded: stop, park or skip it, by policy."""
        yield from self._settle()  # what was applied before the entry is committed
        for assignment in list(self.assignments):
            if self._outcomes:
                return  # the others follow in the next run
            if not isinstance(error, UndecodableEvent):
                yield from self._stop(assignment, (yield from self.leases.explain(assignment, error)))
            elif assignment.position < error.position:
                yield from self._pass_bad_entry(assignment, error)
        if not self._outcomes:
            self._bad_entry = None

    def _pass_bad_entry(self, assignment: Assignment[Any], error: UndecodableEvent) -> Operation[None]:
        """Bring an assignment to the entry before the bad one, and do what its policy says."""
        yield from self._bring_forward(assignment, error.position - 1)
        if assignment not in self.assignments or assignment.position != error.position - 1:
            return  # it has left, or is to stop before that
        changes = self._set_bad_entry_aside(assignment, error)
        if changes is None:
            failure = yield from self.leases.explain(assignment, error)
            yield from self._stop_unless_outdated(assignment, failure)
            return
        [entries] = yield Execute([("XRANGE", self.keys.log, error.position, error.position)])
        after = Checkpoint(error.position, entry_id(entries[0]))
        yield from self._send([(assignment, self.commits.prepare(assignment, changes, after))])
        yield from self._settle()

    def _set_bad_entry_aside(self, assignment: Assignment[Any], error: UndecodableEvent) -> Changes | None:
        """What is recorded of an event that cannot be decoded; None where the projection stops.

        An event that is not for the projection leaves no trace. An entry that does not even say its stream cannot be
        parked: which events are to wait after it is not known.
        """
        one, key = assignment.projection, error.stream
        if key and not one.wants(key, error.type):
            return Changes()
        room = assignment.parked_events < park_limit(one.on_error)
        can_park = room and bool(key) and one.keyed_by_stream
        found = verdict(last_resort(one.on_error), 1, can_park=can_park)
        if found is Verdict.STOP:
            return None
        now = self.context.clock.now()
        record = SetAsideEvent(error.position, key, key, error.number, error.type, 1, now, now, str(error)).record()
        if found is Verdict.SKIP:
            return Changes(skipped=[record])
        assignment.parked.add(key)
        assignment.parked_events += 1
        return Changes(parked={error.position: record})

    # -- waiting ----------------------------------------------------------------------------------

    def _wait_to_begin(self, begin_at: float) -> Operation[None]:
        """Wait before trying again, and keep the leases meanwhile."""
        while not self.stopping and self.assignments and (left := begin_at - self._clock()) > 0:
            if self._outcomes:
                return
            yield Pause(min(left, self.context.settings.beat))
            yield from self._heartbeat_if_due()
        self._begin_at = None

    def _begin_outage(self, error: StoreTrouble, *, stuck: bool) -> None:
        """The server does not answer. ``stuck``: nothing was committed since the work began.

        A page that is too large for the server's output limits ends the connection each time, so the next is half as
        large.
        """
        self.commits.forget()
        self._start_over()
        self._outage, self._begin_at = error, None
        self._page_size = max(1, self._page_size // 2) if stuck else self.context.settings.page_size
        if not stuck or self._backoff is None or self._clock() - self._calm_since > CALM:
            self._backoff = Backoff(self.context.patience, self.context.clock)

    def _wait_for_server(self) -> Operation[None]:
        """Back off until the server answers, then claim everything again and go on from what is committed."""
        assert self._backoff is not None
        assert self._outage is not None
        for assignment in self.assignments:
            assignment.state = WAITING
            self.context.notify(assignment)
        tried = False
        while self._outage is not None:
            pause = self._backoff.after(self._outage)
            if self.stopping and tried:
                raise self._outage
            yield Pause(0.0 if self.stopping else pause)
            tried = True
            try:
                yield Leave()
                for assignment in list(self.assignments):
                    yield from self._claim_again(assignment)
                self._outage = None
            except StoreTrouble as error:
                if not error.passing:
                    raise
                self._outage = error
        self._calm_since = self._clock()


def before(position: int, events: Sequence[RecordedEvent], held: Checkpoint) -> Checkpoint:
    """The checkpoint right before ``position``, which is in ``events``."""
    place = position - events[0].position
    if place == 0 or position - 1 <= held.position:
        return held
    return Checkpoint(position - 1, events[place - 1]._id)
