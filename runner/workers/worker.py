"""A worker: drives the assignments of one partition that share a subscription, a decode and a round trip of commits.

Its work is one operation, the same for threads and for asyncio: read a batch, apply it to the assignments (`_apply` of
`projection_worker` and `reactor_worker`), and deal with failures. It has `Holdings`: the assignments, with their commit
pipeline and lease keeper. Correctness does not depend on the worker: the commit script refuses a commit that does not
follow from the stored checkpoint.

How an assignment leaves its worker:

- its event failed: it stops, or goes on later in a worker of its own, as its policy says; the others go on;
- its handlers keep the others waiting: it goes on in a worker of its own;
- the store refused its commit or heartbeat: it is claimed again, and goes on in a worker of its own or is lost;
- the coordinator gives it up to another runner, or the process ends: it is released.

`work` returns such outcomes to the pool and goes on where it was when it is run again. So the state between two runs is
in fields: the reader, the batch that is not finished, a bad entry that is not dealt with, an outage.

After a connection has failed, caches and replies under way are thrown away. Each assignment is claimed again, which
fences off commits that are still on their way, and goes on from the stored checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Any

from ..effects import Execute, Leave, Operation, Pause
from ..effects.backoff import Backoff
from ..errors import DataError, RecordDamaged, StoreTrouble, UndecodableEvent
from ..format.events import RecordedEvent, entry_id
from ..format.keys import PartitionKeys
from ..log.page_size import PageSize
from ..log.reading import read_log
from ..progress.checkpoint import Checkpoint
from ..subscriptions.reader import Batch, Ended, SubscriptionReader
from ..subscriptions.sources import LogSource
from .assignment import CATCHING_UP, IDLE, LIVE, REBUILDING, WAITING, Assignment, Assignments
from .commits import Commit
from .context import WorkerContext
from .failures import bad_entry_aside
from .holdings import Holdings
from .outcomes import Again, CaughtUp, Outcome

#: How long handlers run before their results are committed, in seconds; a third of the lease if that is less.
SLICE = 1.0

#: An outage that begins within so many seconds of the last one, with nothing committed in between, continues it.
CALM = 5.0


class Worker:
    """See the head of this module. ``delay``: seconds before the work begins; ``upto``: the position to end at."""

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
        self.context = context
        #: Any thread may set it: finish the batch at hand, commit it, release every assignment.
        self.stopping = False
        self.holdings = Holdings(keys, assignments, context)
        self._clock = context.clock.monotonic
        self._upto = upto
        self._page_size = context.settings.page_size
        self._newcomers: list[Assignment[Any]] = []
        self._newcomers_lock = Lock()
        # The state between two runs of `work`:
        self._begin_at = self._clock() + delay if delay else None
        self._reader: SubscriptionReader | None = None
        self._batch: Sequence[RecordedEvent] = ()
        self._bad_entry: DataError | None = None
        self._damage: RecordDamaged | None = None
        self._outage: StoreTrouble | None = None
        self._caught_up = False
        #: Whether the live worker of the partition could take the assignments when the pool was last told of the end.
        self._could_join = False
        self._is_live = False
        #: The farthest committed position when the work began, or began anew.
        self._committed_before = 0
        #: The back-off of the present outage, or of the last one, and when that ended.
        self._backoff: Backoff | None = None
        self._calm_since = float("-inf")

    @property
    def assignments(self) -> list[Assignment[Any]]:
        """The assignments that the worker drives now."""
        return self.holdings.assignments

    def hand_over(self) -> list[Assignment[Any]]:
        """Give all assignments to another worker of this process."""
        return self.holdings.hand_over()

    def take_in(self, assignments: Assignments) -> None:
        """Let assignments of another worker join this one. Any thread may call it."""
        with self._newcomers_lock:
            self._newcomers += assignments

    def work(self, live: bool) -> Operation[list[Outcome]]:
        """Drive the assignments: to the end of history, or with ``live`` until `stopping` is set.

        Returns outcomes that the pool has to act on; run it again until it returns none.
        """
        while self.assignments and not self.holdings.outcomes:
            if self._outage is not None:  # outside the try: an outage that outlasts the patience ends the work
                yield from self._wait_for_server(self._outage)
                continue
            if self._reader is None:
                self._committed_before = self.holdings.farthest()
            try:
                if self._begin_at is not None:
                    yield from self._wait_to_begin(self._begin_at)
                elif self._damage is not None:
                    yield from self._stop_damaged(self._damage)
                elif self._bad_entry is not None:
                    yield from self._handle_bad_entry(self._bad_entry)
                elif (yield from self._drive(live)):
                    yield from self._finish(live)
            except StoreTrouble as error:
                if not error.passing:
                    raise
                self._begin_outage(error)
            except RecordDamaged as damage:
                self.holdings.forget_commits()
                self._start_over()
                self._damage = damage
            except DataError as error:
                self._start_over()
                self._bad_entry = error
        if not self.assignments:
            self._start_over()
            yield Leave()
        return self.holdings.take_outcomes()

    def orphans(self) -> list[Assignment[Any]]:
        """The assignments of a worker that crashed, those on their way to another worker included."""
        return [*self.assignments, *(one.assignment for one in self.holdings.outcomes if isinstance(one, Again))]

    # -- what the kinds of worker define ----------------------------------------------------------

    def _apply(self, assignments: Assignments, events: Sequence[RecordedEvent]) -> Operation[Assignments]:
        """Apply events to the assignments and commit the results; returns the assignments that ran out of time."""
        raise NotImplementedError

    def _idle_time(self) -> float:
        """How long to wait for events, in seconds."""
        return self.context.settings.beat

    def _on_idle(self) -> Operation[None]:
        """Called when no events came within `_idle_time`."""
        return
        yield

    def _may_join(self) -> bool:
        """Whether the live worker of the partition may take the assignments over."""
        return False

    def _on_end(self) -> Operation[None]:
        """Called at the end of history, where the log is not followed."""
        return
        yield

    # -- the loop ---------------------------------------------------------------------------------

    def _drive(self, live: bool) -> Operation[bool]:
        """Read and apply until the pool has to act (False) or the work is finished (True)."""
        if self._reader is None:
            yield from self.holdings.set_states(CATCHING_UP)
            if not self.assignments or self.holdings.outcomes:
                return False
            self._reader = self._new_reader(live)
        reader = self._reader
        while self.assignments and not self.stopping:
            if self._batch:
                yield from self._apply_all(self.assignments, self._batch)
                if self.holdings.outcomes:
                    return False
                self._batch = ()
            if reader.caught_up:
                yield from self.holdings.settle()
                yield from self.holdings.switch_candidates()
                yield from self._go_live()
                if self.holdings.outcomes:  # at once: assignments are handed over with their commits settled
                    return False
            elif self._caught_up and not reader.live:  # the worker was too slow for the feed
                self._caught_up = self._is_live = False
                yield from self.holdings.set_states(CATCHING_UP)
            yield from self.holdings.heartbeat_if_due()
            yield from self.holdings.release_surplus()
            self.take_newcomers()
            if reader.caught_up:  # else the next batch brings newcomers forward
                yield from self._bring_all_forward(self.assignments, reader.position)
            if self.holdings.outcomes:
                return False
            if not self.assignments:
                break
            came = yield from reader.next(self._idle_time())
            if isinstance(came, Ended):
                yield from self._on_end()
                return not self.holdings.outcomes
            if isinstance(came, Batch) and came.events:
                upto = self._upto
                self._batch = came.events if upto is None else [one for one in came.events if one.position <= upto]
                if not self._batch:
                    break
            else:
                yield from self._on_idle()
        return not self.holdings.outcomes

    def _new_reader(self, live: bool) -> SubscriptionReader:
        after = min(one.position for one in self.assignments)
        source = LogSource(self.keys)
        return SubscriptionReader(source, after=after, page_size=self._page_size, live=live, resubscribe=True)

    def _start_over(self) -> None:
        """Forget what was read; the next run reads from the lowest checkpoint."""
        self._reader, self._batch, self._bad_entry = None, (), None
        self._caught_up = self._is_live = False

    def _go_live(self) -> Operation[None]:
        """Tell the pool that the end of the log is reached; go live when it leaves the assignments here."""
        joins = self._may_join()
        if not self._caught_up or (joins and not self._could_join):
            self._caught_up, self._could_join = True, joins
            self.holdings.outcomes.append(CaughtUp(joins))
        elif not self._is_live and not self.holdings.outcomes:
            self._is_live = True
            yield from self.holdings.set_states(LIVE)

    def _finish(self, live: bool) -> Operation[None]:
        """The work is finished: switch to candidates that have caught up, and release every assignment."""
        yield from self.holdings.settle()
        self._start_over()
        lags = not live and self._upto is None and (yield from self.holdings.switch_candidates())
        if lags and not self.stopping:
            return  # a candidate lags its live build still
        yield from self.holdings.release(list(self.assignments), IDLE)

    def _apply_all(self, assignments: Assignments, events: Sequence[RecordedEvent]) -> Operation[None]:
        """Apply all events, also with slow handlers: keep the leases and commit in between.

        May end early, with an outcome. Run again with the same events, it goes on where it was.
        """
        yield from self._bring_all_forward(assignments, events[0].position - 1)
        late = self.holdings.present(assignments)
        while late and not self.stopping and not self.holdings.outcomes:
            late = self.holdings.present((yield from self._apply(late, events)))
            if late:
                yield from self.holdings.settle()
                yield from self.holdings.heartbeat_if_due()
                yield from self.holdings.release_surplus()
                late = self.holdings.present(late)

    def _bring_all_forward(self, assignments: Assignments, upto: int) -> Operation[None]:
        for assignment in list(assignments):
            if assignment.position < upto:
                yield from self._bring_forward(assignment, upto)

    def _bring_forward(self, assignment: Assignment[Any], upto: int) -> Operation[None]:
        """Let one assignment that lags the others catch up with them, by reading for it alone."""
        size = PageSize(self.context.settings.page_size)
        while assignment in self.assignments and assignment.position < upto and not self.stopping:
            if self.holdings.outcomes:
                return
            page = yield from read_log(self.keys, assignment.position, size, upto - assignment.position)
            if not page.events:
                raise page.damage or DataError(
                    f"the log of partition {self.keys.partition} ends before position {upto}"
                )
            yield from self._apply_all([assignment], page.events)

    def take_newcomers(self) -> bool:
        """Let the assignments join that other workers handed over; True if there were any."""
        if not self._newcomers:
            return False
        with self._newcomers_lock:
            newcomers, self._newcomers = self._newcomers, []
        for assignment in newcomers:
            assignment.state = REBUILDING if assignment.candidate else LIVE
            self.context.notify(assignment)
        self.holdings.add(newcomers)
        return True

    # -- failures ---------------------------------------------------------------------------------

    def _stop_damaged(self, damage: RecordDamaged) -> Operation[None]:
        """A record is damaged: stop the assignments that it belongs to, and claim the others again."""
        hit = [one for one in self.assignments if one.has_key(damage.keys)] or list(self.assignments)
        for assignment in list(self.assignments):
            if assignment in hit:
                yield from self.holdings.stop(assignment, damage)
            else:
                yield from self.holdings.claim_again(assignment)
        self._damage = None

    def _handle_bad_entry(self, error: DataError) -> Operation[None]:
        """The next log entry cannot be decoded: stop, park or skip it, by policy."""
        yield from self.holdings.settle()  # what was applied before the entry is committed
        for assignment in list(self.assignments):
            if self.holdings.outcomes:
                return  # the others follow in the next run
            if not isinstance(error, UndecodableEvent):
                yield from self.holdings.stop(assignment, (yield from self.holdings.explain(assignment, error)))
            elif assignment.position < error.position:
                yield from self._pass_bad_entry(assignment, error)
        if not self.holdings.outcomes:
            self._bad_entry = None

    def _pass_bad_entry(self, assignment: Assignment[Any], error: UndecodableEvent) -> Operation[None]:
        """Bring an assignment to the entry before the bad one, and do what its policy says."""
        yield from self._bring_forward(assignment, error.position - 1)
        if assignment not in self.assignments or assignment.position != error.position - 1:
            return  # the assignment has left, or ended at an earlier event
        changes = bad_entry_aside(assignment, error, self.context.clock.now())
        if changes is None:
            failure = yield from self.holdings.explain(assignment, error)
            yield from self.holdings.stop_unless_outdated(assignment, failure)
            return
        [entries] = yield Execute([("XRANGE", self.keys.log, error.position, error.position)])
        after = Checkpoint(error.position, entry_id(entries[0]))
        yield from self.holdings.commit([Commit(assignment, changes, after)])
        yield from self.holdings.settle()

    # -- waiting ----------------------------------------------------------------------------------

    def _wait_to_begin(self, begin_at: float) -> Operation[None]:
        """Wait before trying again, and keep the leases meanwhile."""
        while not self.stopping and self.assignments and (left := begin_at - self._clock()) > 0:
            if self.holdings.outcomes:
                return
            yield Pause(min(left, self.context.settings.beat))
            yield from self.holdings.heartbeat_if_due()
        self._begin_at = None

    def _begin_outage(self, error: StoreTrouble) -> None:
        """The server does not answer.

        A page that is too large for the server's output limits ends the connection each time. So where nothing was
        committed since the work began, the next page is half as large.
        """
        stuck = self.holdings.farthest() == self._committed_before
        self.holdings.forget_commits()
        self._start_over()
        self._outage, self._begin_at = error, None
        self._page_size = max(1, self._page_size // 2) if stuck else self.context.settings.page_size
        if not stuck or self._backoff is None or self._clock() - self._calm_since > CALM:
            self._backoff = Backoff(self.context.patience, self.context.clock)

    def _wait_for_server(self, error: StoreTrouble) -> Operation[None]:
        """Back off until the server answers, then claim every assignment again and go on from its checkpoint."""
        assert self._backoff is not None
        for assignment in self.assignments:
            assignment.state, assignment.reason = WAITING, str(error)
            self.context.notify(assignment)
        tried = False
        while True:
            pause = self._backoff.after(error)
            if self.stopping and tried:
                raise error
            yield Pause(0.0 if self.stopping else pause)
            tried = True
            try:
                yield Leave()
                for assignment in list(self.assignments):
                    yield from self.holdings.claim_again(assignment)
                break
            except StoreTrouble as still:
                if not still.passing:
                    raise
                error = still
        self._outage = None
        self._calm_since = self._clock()


def before(position: int, events: Sequence[RecordedEvent], held: Checkpoint) -> Checkpoint:
    """The checkpoint right before ``position``, which is in ``events``."""
    place = position - events[0].position
    if place == 0 or position - 1 <= held.position:
        return held
    return Checkpoint(position - 1, events[place - 1]._id)
