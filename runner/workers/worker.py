"""A worker: assignments of one partition that share a subscription, a decode, and a round trip of commits a batch.

Its work is one operation, the same for threads and for asyncio: read, let `_apply` do what the assignments are for (see
`projection_worker` and `reactor_worker`), keep the leases, and deal with what goes wrong. Correctness does not rest
here: the commit script refuses what does not follow from the stored checkpoint.

What ends an assignment's time in a worker:

- its event failed: it stops, or leaves for a while and comes back, as its policy says; the others go on;
- it lost its lease, or its build was switched: it stands by, and the coordinator gets it back when it may;
- the coordinator wants another runner to have it, or the process ends: it is given back, and free at once.

A connection that fails throws away caches and whatever is under way. Each assignment is claimed again, which fences off
commits that are still on their way, and goes on from where the store says it stands.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from ..effects import Execute, Leave, Operation, Pause
from ..effects.backoff import Backoff
from ..errors import CommitRefused, DataError, HandlerFailed, RunnerError, StoreTrouble, UndecodableEvent
from ..format.events import RecordedEvent, entry_id
from ..format.keys import PartitionKeys
from ..log.reading import read_log
from ..progress.builds import switch
from ..progress.checkpoint import Checkpoint
from ..progress.lease import report_command
from ..progress.parked import Aside
from ..projections.policies import ParkStream, Retry, Skip, last_resort, retries
from ..subscriptions.reader import Batch, Ended, SubscriptionReader
from ..subscriptions.sources import LogSource
from ..views.redis_rows import Changes
from .assignment import CATCHING_UP, IDLE, LIVE, REBUILDING, RETRYING, WAITING, Assignment
from .context import Context
from .lease_keeper import Assignments, Tenure

#: Handlers get so much time before what they did is committed, in seconds; a third of the lease if that is less.
SLICE = 1.0

#: Trouble that comes back sooner than this, in seconds, with nothing committed in between, is the same trouble.
CALM = 5.0


class Worker(Tenure):
    """See the head of this module. ``delay``: seconds to wait before it begins; ``upto``: the position to end at."""

    def __init__(
        self,
        keys: PartitionKeys,
        assignments: Assignments,
        context: Context,
        *,
        hand_over: Callable[[Worker], bool] = lambda worker: False,
        spin_off: Callable[[Assignment[Any], float], None],
        on_loss: Callable[[], None] = lambda: None,
        delay: float = 0.0,
        upto: int | None = None,
    ) -> None:
        super().__init__(keys, assignments, context, spin_off, on_loss)
        self._hand_over = hand_over
        self._delay = delay
        self._upto = upto
        self._page_size = context.settings.page_size
        self._incoming: list[Assignment[Any]] = []
        self._incoming_lock = threading.Lock()
        #: How long to wait, as long as nothing is committed between one trouble and the next.
        self._backoff: Backoff | None = None
        self._calm_since = float("-inf")
        self.stopping = False

    def take_in(self, assignments: Assignments) -> None:
        """Let assignments of another worker join this one; any thread may ask."""
        with self._incoming_lock:
            self._incoming += assignments

    def work(self, live: bool) -> Operation[None]:
        """Drive the assignments: to the end of the history, or with ``live`` until `stopping` is set."""
        damage: DataError | None = None
        while self.assignments:
            started = self._farthest()
            try:
                if self._delay:
                    yield from self._wait_out()
                if damage is not None:
                    found, damage = damage, None
                    yield from self._meet(found)
                    continue
                yield from self._set_states(CATCHING_UP)
                if not self.assignments:  # their reports were refused
                    return
                yield from self._drive(self._new_reader(live))
                yield from self._settle()
                if not live and self._upto is None and (yield from self._switch_candidates()):
                    continue
                yield from self._give_back(list(self.assignments), IDLE)
                return
            except StoreTrouble as trouble:
                if not trouble.passing:
                    raise
                if not self.assignments:
                    return
                # A page too large for the server's output limits ends the connection each time.
                stuck = self._farthest() == started
                self._page_size = max(1, self._page_size // 2) if stuck else self.context.settings.page_size
                if not stuck or self._backoff is None or self._clock() - self._calm_since > CALM:
                    self._backoff = Backoff(self.context.patience, self.context.clock)
                yield from self._wait_for_server(trouble, self._backoff)
                self._calm_since = self._clock()
            except DataError as found:
                damage = found

    # -- what a worker is for ----------------------------------------------------------------------

    def _apply(self, assignments: Assignments, events: Sequence[RecordedEvent]) -> Operation[Assignments]:
        """Do what the assignments do with events, and commit it; those that had no time for all of them."""
        raise NotImplementedError

    def _idle_time(self) -> float:
        """How long to wait for events, in seconds."""
        return self.context.settings.beat

    def _tend(self) -> Operation[None]:
        """Called when no events came in that time."""
        return
        yield

    def _finish(self) -> Operation[None]:
        """Called at the end of the history, where nothing is followed."""
        return
        yield

    # -- the loop ---------------------------------------------------------------------------------

    def _new_reader(self, live: bool) -> SubscriptionReader:
        after = min(assignment.position for assignment in self.assignments)
        return SubscriptionReader(
            LogSource(self.keys), after=after, page_size=self._page_size, live=live, resubscribe=True
        )

    def _drive(self, reader: SubscriptionReader) -> Operation[None]:
        announced = False
        while self.assignments and not self.stopping:
            if reader.caught_up:
                yield from self._settle()
                yield from self._switch_candidates()
                if not announced:
                    announced = True
                    if self._hand_over(self):
                        break
                    yield from self._set_states(LIVE)
            elif announced and not reader.live:  # it was too slow for the feed
                announced = False
                yield from self._set_states(CATCHING_UP)
            yield from self._beat()
            yield from self._let_go()
            self.take_newcomers()
            if reader.caught_up:  # else the next batch brings newcomers forward
                yield from self._bring_all_forward(self.assignments, reader.position)
            if not self.assignments:
                break
            batch = yield from reader.next(self._idle_time())
            if isinstance(batch, Ended):
                yield from self._finish()
                return
            if isinstance(batch, Batch) and batch.events:
                events = batch.events
                if self._upto is not None:
                    events = [event for event in events if event.position <= self._upto]
                    if not events:
                        break
                yield from self._apply_all(self.assignments, events)
            else:
                yield from self._tend()
        yield Leave()

    def _apply_all(self, assignments: Assignments, events: Sequence[RecordedEvent]) -> Operation[None]:
        """Apply events to the end, however slow the handlers are, with leases kept and commits in between."""
        yield from self._bring_all_forward(assignments, events[0].position - 1)
        assignments = self._present(assignments)
        while assignments and not self.stopping:
            assignments = self._present((yield from self._apply(assignments, events)))
            if assignments:
                yield from self._settle()
                yield from self._beat()
                yield from self._let_go()
                assignments = self._present(assignments)

    def _bring_all_forward(self, assignments: Assignments, upto: int) -> Operation[None]:
        for assignment in list(assignments):
            if assignment.position < upto:
                yield from self._bring_forward(assignment, upto)

    def _bring_forward(self, assignment: Assignment[Any], upto: int) -> Operation[None]:
        """Let one assignment that is behind the others catch up with them, by reading for it alone."""
        while assignment in self.assignments and assignment.position < upto and not self.stopping:
            count = min(self.context.settings.page_size, upto - assignment.position)
            page = yield from read_log(self.keys, assignment.position, count)
            if not page.events:
                raise page.trouble or DataError(f"the log of partition {self.keys.partition} ends before {upto}")
            yield from self._apply_all([assignment], page.events)

    def _farthest(self) -> int:
        """The farthest position that is known to be committed."""
        return max((assignment.committed for assignment in self.assignments), default=0)

    # -- failures ---------------------------------------------------------------------------------

    def _fail(self, assignment: Assignment[Any], failure: RunnerError) -> Operation[None]:
        """An event of the assignment failed, and what precedes it is committed: try again later, or stop."""
        policy = assignment.projection.on_error
        attempts = assignment.attempts.get(failure.position) if isinstance(failure, HandlerFailed) else None
        if isinstance(policy, Retry) and attempts is not None and attempts.count <= retries(policy):
            pause = policy.pause(attempts.count, self.context.clock.random)
            text = f"{failure} (attempt {attempts.count} of {retries(policy) + 1}; the next in {pause:.1f} s)"
            yield from self._tell(assignment, RETRYING, text)
            self._remove([assignment])
            self._spin_off(assignment, pause)
            return
        yield from self._stop_unless_it_was_outdated(assignment, failure)

    def _stop_unless_it_was_outdated(self, assignment: Assignment[Any], failure: RunnerError) -> Operation[None]:
        """Stop, except where parked events were taken out since it looked, or another runner has claimed it."""
        parked, verdict = yield Execute([
            ("HLEN", self.keys.parked(assignment.name, assignment.claim.build)),
            report_command(
                self.context.runner, self.keys, assignment.name, assignment.claim, assignment.state, assignment.trouble
            ),
        ])  # fmt: skip
        if parked < assignment.parked_events or verdict[0] == b"owner":
            yield from self._retake(assignment)
        else:
            yield from self._stop(assignment, failure)

    def _meet(self, damage: DataError) -> Operation[None]:
        """Something that is not an event stands right behind what was applied: stop, or pass over it by policy."""
        yield from self._settle()  # what was applied before the damage is committed
        for assignment in list(self.assignments):
            if not isinstance(damage, UndecodableEvent):
                yield from self._stop(assignment, (yield from self._explain(assignment, damage)))
            elif assignment.position < damage.position:
                yield from self._meet_alone(assignment, damage)

    def _meet_alone(self, assignment: Assignment[Any], damage: UndecodableEvent) -> Operation[None]:
        """Bring an assignment to where the damage is, and do what its policy says."""
        yield from self._bring_forward(assignment, damage.position - 1)
        if assignment not in self.assignments or assignment.position != damage.position - 1:
            return  # it has left, or is to stop before that
        changes = self._set_aside(assignment, damage)
        if changes is None:
            yield from self._stop_unless_it_was_outdated(assignment, (yield from self._explain(assignment, damage)))
        else:
            yield from self._pass_over(assignment, damage.position, changes)

    def _set_aside(self, assignment: Assignment[Any], damage: UndecodableEvent) -> Changes | None:
        """What an assignment keeps of an event that cannot be decoded, and goes on; None if it stops.

        An event that is not for it leaves no trace. One that does not even say its stream cannot be parked: nobody
        knows which events are to wait behind it.
        """
        one, resort = assignment.projection, last_resort(assignment.projection.on_error)
        if damage.stream and not one.wants(damage.stream, damage.type):
            return Changes()
        now = self.context.clock.now()
        key = damage.stream
        aside = Aside(damage.position, key, key, damage.number, damage.type, 1, now, now, str(damage))
        if isinstance(resort, Skip):
            return Changes(skipped=[aside.record()])
        room = isinstance(resort, ParkStream) and assignment.parked_events < resort.limit
        if not (room and key and one.keyed_by_stream):
            return None
        assignment.parked.add(key)
        assignment.parked_events += 1
        return Changes(parked={damage.position: aside.record()})

    def _pass_over(self, assignment: Assignment[Any], position: int, changes: Changes) -> Operation[None]:
        """Commit that an assignment goes on behind an event that cannot be decoded."""
        [entries] = yield Execute([("XRANGE", self.keys.log, position, position)])
        command = self._commit(assignment, changes, Checkpoint(position, entry_id(entries[0])))
        yield from self._send([command], [assignment])
        yield from self._settle()

    def _switch_candidates(self) -> Operation[bool]:
        """Make candidates that have caught up the live builds; True if one is behind the live build still."""
        behind = False
        for assignment in [assignment for assignment in self.assignments if assignment.candidate]:
            try:
                assignment.claim.candidate = (
                    yield from switch(self.keys, assignment.name, assignment.claim)
                ) is not None
                behind = behind or assignment.claim.candidate
                if not assignment.claim.candidate:
                    yield from self._tell(assignment, LIVE)
            except CommitRefused:
                yield from self._retake(assignment)
        return behind

    # -- newcomers --------------------------------------------------------------------------------

    def take_newcomers(self) -> bool:
        """Give those that were taken in their assignments; True if there were any."""
        if not self._incoming:
            return False
        with self._incoming_lock:
            newcomers, self._incoming = self._incoming, []
        for assignment in newcomers:
            assignment.state = REBUILDING if assignment.candidate else LIVE
            self.context.notify(assignment)
        self.assignments += newcomers
        self._assignments_changed()
        self._beaten = float("-inf")  # report them at the next beat
        return True

    # -- waiting ----------------------------------------------------------------------------------

    def _wait_out(self) -> Operation[None]:
        """Wait before trying again, and keep the leases meanwhile."""
        until, self._delay = self._clock() + self._delay, 0.0
        while not self.stopping and self.assignments and (left := until - self._clock()) > 0:
            yield Pause(min(left, self.context.settings.beat))
            yield from self._beat()

    def _wait_for_server(self, trouble: StoreTrouble, backoff: Backoff) -> Operation[None]:
        """Back off until the server answers, then take up from what it says was committed."""
        self._under_way = None
        for assignment in self.assignments:
            assignment.state = WAITING
            self.context.notify(assignment)
        tried = False
        while True:
            pause = backoff.after(trouble)
            if self.stopping and tried:
                raise trouble
            yield Pause(0.0 if self.stopping else pause)
            tried = True
            try:
                yield Leave()
                for assignment in list(self.assignments):
                    yield from self._claim_again(assignment)
                return
            except StoreTrouble as still:
                if not still.passing:
                    raise
                trouble = still


def before(position: int, events: Sequence[RecordedEvent], held: Checkpoint) -> Checkpoint:
    """The checkpoint right before ``position``, which is in ``events``."""
    place = position - events[0].position
    if place == 0 or position - 1 <= held.position:
        return held
    return Checkpoint(position - 1, events[place - 1]._id)


def too_many(assignment: Assignment[Any], position: int, limit: int) -> RunnerError:
    """Why a projection or reactor stops before an event that there is no room for among the parked ones."""
    return RunnerError(
        f"{assignment.projection.kind} {assignment.name!r} (partition {assignment.keys.partition}) would park the event "
        f"at position {position}, but {limit} events are parked already, which is its limit",
        hint=f"Correct the cause, then `runner parked retry {assignment.name}`, and start again.",
    )
