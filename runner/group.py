"""A group: projections of one partition that share a subscription, a decode, and a round trip of commits a batch.

Its work is one operation, the same for threads and for asyncio. Correctness does not rest here: the commit script
refuses what does not follow from the stored checkpoint. This is about doing little per event:

- the next page is under way while this one is folded, and one batch of commits is under way while the next is folded;
- rows are cached packed, so a row is loaded once, and an aborted fold cannot leave a trace;
- an event is looked at once, however many projections there are.

A projection that fails leaves the group, with the events before the failing one committed; the others go on. A
connection that fails throws away caches and whatever is under way, and asks the store where each projection stands.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .errors import CommitRefused, DataError, HandlerFailed, RunnerError, StoreTrouble
from .events import RecordedEvent
from .keys import PartitionKeys
from .log.reading import read_log
from .progress import (
    Checkpoint,
    Claim,
    check_commit,
    commit_command,
    confirm,
    report_command,
    rows_command,
    verify,
)
from .projection import Folded, Plan, Projection, Router, fold
from .pump import Batch, Ended, LogSource, Pump
from .requests import Command, Execute, Leave, Operation, Pause, Pending, Receive, Send
from .settings import Settings
from .wire.encoding import Backoff

CATCHING_UP, LIVE, STOPPED, IDLE, WAITING = "catching up", "live", "stopped", "idle", "waiting for the server"


@dataclass(eq=False)
class Seat:
    """A projection in a group: what it holds, and what it knows of its rows."""

    projection: Projection
    keys: PartitionKeys
    claim: Claim
    #: Packed rows, None = known to be absent. With ``whole``, what is not here is absent.
    rows: dict[str, bytes | None] = field(default_factory=dict)
    whole: bool = False
    state: str = CATCHING_UP
    handled: int = 0
    #: Commits without an answer yet: the position after each, and how many events it handled.
    unanswered: list[tuple[int, int]] = field(default_factory=list)
    #: The position that is known to be committed.
    committed: int = 0
    failure: RunnerError | None = None

    @property
    def name(self) -> str:
        return self.projection.name

    @property
    def position(self) -> int:
        return self.claim.checkpoint.position

    def forget_rows(self) -> None:
        self.rows.clear()
        self.whole = self.position == 0

    def has_applied(self, partition: int, position: int) -> bool:
        """Whether there is no more to wait for: the position is committed, in another partition, or never will be."""
        return self.keys.partition != partition or self.committed >= position or self.failure is not None

    def missing(self, plan: Plan) -> list[str]:
        """The keys of rows that the plan needs and the cache does not hold."""
        if self.whole:
            return []
        rows = self.rows
        return list({step[0]: None for step in plan.steps if step[0] not in rows})

    def remember(self, changed: dict[str, bytes | None], limit: int) -> None:
        self.rows.update(changed)
        while len(self.rows) > limit:
            self.rows.pop(next(iter(self.rows)))
            self.whole = False


#: Called at each change of a seat's state, and when a batch of it is committed.
Notify = Callable[[Seat], None]


class Group:
    """See the head of this module. ``clock`` is monotonic, in seconds; ``patience`` bounds one outage, in seconds."""

    def __init__(
        self,
        keys: PartitionKeys,
        seats: Sequence[Seat],
        settings: Settings,
        *,
        clock: Callable[[], float],
        notify: Notify,
        patience: float,
        hand_over: Callable[[Group], bool] = lambda group: False,
    ) -> None:
        self.keys = keys
        self.seats = list(seats)
        self._settings = settings
        self._clock = clock
        self._notify = notify
        self._patience = patience
        self._hand_over = hand_over
        self._router = Router([seat.projection for seat in self.seats])
        self._page_size = settings.page_size
        self._under_way: tuple[Pending, list[Seat]] | None = None
        self._incoming: list[Seat] = []
        self._incoming_lock = threading.Lock()
        self._beaten = clock()
        self.stopping = False
        for seat in self.seats:
            seat.forget_rows()
            seat.committed = seat.position

    def take_in(self, seats: Sequence[Seat]) -> None:
        """Let seats of another group join this one; any thread may ask."""
        with self._incoming_lock:
            self._incoming += seats

    def work(self, live: bool) -> Operation[None]:
        """Drive the projections: to the end of the history, or with ``live`` until `stopping` is set."""
        damage: DataError | None = None
        while self.seats:
            started = self._farthest()
            try:
                if damage is not None:
                    yield from self._stop_all(damage)
                    return
                yield from self._set_states(CATCHING_UP)
                pump = Pump(
                    LogSource(self.keys),
                    after=min(seat.position for seat in self.seats),
                    page_size=self._page_size,
                    live=live,
                    resubscribe=True,
                )
                yield from self._drive(pump)
                yield from self._settle()
                yield from self._set_states(IDLE)
                return
            except StoreTrouble as trouble:
                if not trouble.passing:
                    raise
                # A page too large for the server's output limits ends the connection each time.
                stuck = self._farthest() == started
                self._page_size = max(1, self._page_size // 2) if stuck else self._settings.page_size
                damage = None
                yield from self._wait_for_server(trouble)
            except DataError as found:
                damage = found

    def _farthest(self) -> int:
        return max(seat.position for seat in self.seats)

    def _drive(self, pump: Pump) -> Operation[None]:
        announced = False
        while self.seats and not self.stopping:
            if pump.caught_up:
                yield from self._settle()
                if not announced:
                    announced = True
                    if self._hand_over(self):
                        yield from self._leave()
                        return
                    yield from self._set_states(LIVE)
            elif announced and not pump.live:  # it was too slow for the feed
                announced = False
                yield from self._set_states(CATCHING_UP)
            yield from self._beat()
            self.seat_newcomers()
            batch = yield from pump.next(self._settings.heartbeat)
            if isinstance(batch, Ended):
                return
            if isinstance(batch, Batch) and batch.events:
                yield from self._apply(self.seats, batch.events)
                self._leave_out_stopped()
        yield from self._leave()

    # -- a batch --------------------------------------------------------------------------------

    def _apply(self, seats: list[Seat], events: Sequence[RecordedEvent]) -> Operation[None]:
        first, last = events[0].position, events[-1]
        for seat in seats:
            if seat.position < first - 1:
                yield from self._bring_forward(seat, first - 1)
        seats = [seat for seat in seats if seat.failure is None]  # bringing one forward can stop it, or another
        plans = (self._router if seats == self.seats else Router([seat.projection for seat in seats])).plan(events)
        yield from self._load(seats, plans)
        commands: list[Command] = []
        committed: list[Seat] = []
        failed: list[tuple[Seat, RunnerError]] = []
        for seat, plan in zip(seats, plans, strict=True):
            before = seat.claim.checkpoint
            if before.position >= last.position:
                continue
            if before.position >= first:
                plan.steps = [step for step in plan.steps if step[2].position > before.position]
            folded = yield from fold(seat.projection, plan.steps, seat.rows)
            failure: HandlerFailed | None = folded.failure or plan.failure
            after = (
                Checkpoint(last.position, last._id) if failure is None else _before(failure.position, events, before)
            )
            if after.position > before.position:
                commands.append(self._commit(seat, folded, after))
                committed.append(seat)
            if failure is not None:
                failed.append((seat, failure))
        yield from self._settle()
        if commands:
            self._under_way = (yield Send(commands)), committed
        if failed:
            yield from self._settle()
            for seat, reason in failed:
                if seat.failure is None:
                    yield from self._stop(seat, reason)

    def _commit(self, seat: Seat, folded: Folded, after: Checkpoint) -> Command:
        command = commit_command(self.keys, seat.name, seat.claim, after, folded.changed, folded.handled)
        seat.remember(folded.changed, self._settings.cache_rows)
        seat.claim.checkpoint = after
        seat.unanswered.append((after.position, folded.handled))
        return command

    def _load(self, seats: Sequence[Seat], plans: Sequence[Plan]) -> Operation[None]:
        wanted = [(seat, keys) for seat, plan in zip(seats, plans, strict=True) if (keys := seat.missing(plan))]
        if not wanted:
            return
        yield from self._settle()  # a row must not be read while a commit that changes it is under way
        replies = yield Execute([rows_command(self.keys, seat.name, seat.claim.build, keys) for seat, keys in wanted])
        for (seat, keys), rows in zip(wanted, replies, strict=True):
            seat.rows.update(zip(keys, rows, strict=True))

    def _settle(self) -> Operation[None]:
        """Wait for the commits under way. One that was refused stops its projection."""
        if self._under_way is None:
            return
        (pending, seats), self._under_way = self._under_way, None
        replies = yield Receive(pending)
        for seat, reply in zip(seats, replies, strict=True):
            position, handled = seat.unanswered.pop(0)
            try:
                check_commit(reply, seat.name, self.keys.partition)
                seat.handled += handled
                seat.committed = position
                self._notify(seat)
            except CommitRefused as refused:
                yield from self._stop(seat, (yield from self._explain(seat, refused)))

    def _bring_forward(self, seat: Seat, upto: int) -> Operation[None]:
        """Let one projection that is behind the others catch up with them, by reading for it alone."""
        while seat.position < upto and seat.failure is None:
            page = yield from read_log(self.keys, seat.position, min(self._settings.page_size, upto - seat.position))
            if not page.events:
                raise page.trouble or DataError(f"the log of partition {self.keys.partition} ends before {upto}")
            yield from self._apply([seat], page.events)

    # -- states ---------------------------------------------------------------------------------

    def _set_states(self, state: str) -> Operation[None]:
        for seat in self.seats:
            seat.state = state
            self._notify(seat)
        yield from self._report()

    def _report(self) -> Operation[None]:
        self._beaten = self._clock()
        seats = list(self.seats)
        if not seats:
            return
        replies = yield Execute([report_command(self.keys, seat.name, seat.claim.owner, seat.state) for seat in seats])
        for seat, reply in zip(seats, replies, strict=True):
            try:
                check_commit(reply, seat.name, self.keys.partition)
            except CommitRefused as refused:
                yield from self._stop(seat, (yield from self._explain(seat, refused)))

    def _beat(self) -> Operation[None]:
        if self._clock() - self._beaten >= self._settings.heartbeat:
            yield from self._report()

    def _stop(self, seat: Seat, failure: RunnerError) -> Operation[None]:
        seat.failure, seat.state = failure, STOPPED
        self._notify(seat)
        yield Execute([report_command(self.keys, seat.name, seat.claim.owner, STOPPED, str(failure))])
        self._leave_out_stopped()

    def _leave_out_stopped(self) -> None:
        going = [seat for seat in self.seats if seat.failure is None]
        if len(going) < len(self.seats):
            self._change_seats(going)

    def seat_newcomers(self) -> bool:
        """Give those that were taken in their seats; True if there were any."""
        if not self._incoming:
            return False
        with self._incoming_lock:
            newcomers, self._incoming = self._incoming, []
        for seat in newcomers:
            seat.state = LIVE
            self._notify(seat)
        self._change_seats(self.seats + newcomers)
        self._beaten = float("-inf")  # report them at the next beat
        return True

    def _change_seats(self, seats: list[Seat]) -> None:
        self.seats = seats
        self._router = Router([seat.projection for seat in seats])

    def _leave(self) -> Operation[None]:
        yield Leave()

    def _wait_for_server(self, trouble: StoreTrouble) -> Operation[None]:
        """Back off until the server answers, then take up from what it says was committed."""
        backoff = Backoff(self._patience, self._clock())
        self._under_way = None
        for seat in self.seats:
            seat.state = WAITING
            self._notify(seat)
        while True:
            pause = backoff.after(trouble, self._clock())
            if self.stopping:
                raise trouble
            yield Pause(pause)
            try:
                yield from self._leave()
                for seat in list(self.seats):
                    if seat.failure is not None:  # the report of its failure was lost
                        yield from self._stop(seat, seat.failure)
                        continue
                    try:
                        yield from confirm(self.keys, seat.name, seat.claim)
                        seat.handled += sum(handled for after, handled in seat.unanswered if after <= seat.position)
                        seat.unanswered.clear()
                        seat.committed = seat.position
                        seat.forget_rows()
                    except (CommitRefused, DataError) as failure:
                        yield from self._stop(seat, failure)
                return
            except StoreTrouble as still:
                if not still.passing:
                    raise
                trouble = still

    def _stop_all(self, damage: DataError) -> Operation[None]:
        yield from self._settle()  # what was applied before the damage is committed
        for seat in list(self.seats):
            yield from self._stop(seat, (yield from self._explain(seat, damage)))

    def _explain(self, seat: Seat, damage: RunnerError) -> Operation[RunnerError]:
        """Trouble as it looks from a projection's checkpoint: another log explains everything else."""
        try:
            yield from verify(self.keys, seat.name, seat.claim.checkpoint)
        except DataError as diverged:
            return diverged
        return damage


def _before(position: int, events: Sequence[RecordedEvent], held: Checkpoint) -> Checkpoint:
    """The checkpoint right before ``position``, which is in ``events``."""
    place = position - events[0].position
    if place == 0 or position - 1 <= held.position:
        return held
    return Checkpoint(position - 1, events[place - 1]._id)
