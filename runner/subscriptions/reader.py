"""The subscription reader: performs the subscription machine's actions as effects, and gives it the outcomes as inputs.

It is written once for both faces. The next page is asked for before the last one is handed out, so the server reads
while the caller works.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from ..effects import Execute, Join, Leave, Operation, Pending, Receive, Send, Take
from ..errors import DataError, RunnerError
from ..format import fields
from ..format.events import RecordedEvent, entry_id
from ..log.page_size import PageSize
from ..log.reading import check_floor
from .feed import Delivery
from .machine import (
    Action,
    Appeared,
    CaughtUp,
    Deliver,
    Dropped,
    Finished,
    Input,
    Joined,
    JoinFeed,
    LeaveFeed,
    Left,
    PageCame,
    Read,
    Restart,
    Start,
    State,
    SubscriptionMachine,
)
from .sources import LogSource, Source, StreamSource


@dataclass(slots=True)
class Batch:
    """Events to work on. After them, every number up to ``upto`` is passed."""

    events: Sequence[RecordedEvent]
    upto: int


@dataclass(slots=True)
class Ended:
    """No more batches will come. ``reason`` None: on request, or only history was asked for."""

    reason: str | None


class SubscriptionReader:
    """One subscription at work. ``live=False``: history only, it ends where it would join the feed."""

    def __init__(
        self, source: Source, *, after: int, page_size: int, live: bool = True, resubscribe: bool = False
    ) -> None:
        self._source = source
        self._live = live
        self._machine: SubscriptionMachine[RecordedEvent] = SubscriptionMachine(
            source, source.number, after=after, page_size=page_size, resubscribe=resubscribe
        )
        self._size = PageSize(page_size)
        self._reading: tuple[Pending, Read] | None = None
        self._count = page_size
        self._page_size = page_size
        self._set_page_size()
        self._ready: deque[Batch] = deque()
        self._ended: Ended | None = None
        #: The damage of the entry right after the events handed out so far.
        self.damage: DataError | None = None
        #: Position and id of the last event that came. After a lost connection the log must still hold it.
        self._stands: tuple[int, bytes] = (0, b"")
        self._lost = False

    @property
    def live(self) -> bool:
        """Whether the subscription has delivered history and takes events from the feed."""
        return self._machine.state is State.LIVE

    @property
    def caught_up(self) -> bool:
        """Whether the subscription is live and has handed out every event that it has."""
        return self.live and not self._ready

    @property
    def position(self) -> int:
        """The last number passed."""
        return self._machine.last

    def next(self, timeout: float) -> Operation[Batch | Ended | None]:
        """The next batch; None if nothing came within ``timeout`` seconds, or the subscription has just become live."""
        if self._machine.state is State.NEW:
            yield from self._input(Start())
        while not self._ready:
            if self.damage is not None:
                raise self.damage
            if self._ended is not None:
                return self._ended
            if self._reading is not None:
                yield from self._take_page()
                if self.caught_up:
                    return None
            else:
                delivery: Delivery | None = yield Take(timeout)
                if delivery is None:
                    return None
                yield from self._input(self._as_input(delivery))
        return self._ready.popleft()

    def restart(self) -> Operation[None]:
        """Requests under way are lost: ask again. Batches that are ready will still be handed out.

        A page that is too large for the server's output limits ends the connection each time. So if a page was awaited
        when the connection was lost, the next page is half as large, until one comes.
        """
        if self._reading is not None:
            self._machine.page_size = max(1, self._machine.page_size // 2)
        self._reading = None
        self._lost = True
        if self._machine.state is not State.NEW:  # else nothing was asked for yet
            yield from self._input(Restart())

    def _take_page(self) -> Operation[None]:
        assert self._reading is not None
        pending, read = self._reading
        after = read.after
        [reply] = yield Receive(pending)
        self._reading = None
        try:
            page = self._source.decode(reply, after)
            self._size.saw(page.largest)
            self._set_page_size()
            if not page.events and isinstance(self._source, LogSource):
                yield from check_floor(self._source.keys, after)
        except DataError as damage:
            self.damage = damage  # the next call raises it again
            raise
        if page.damage is not None:
            self.damage = page.damage
        if page.events:
            self._stands = page.events[-1].position, page.events[-1]._id
        upto = self._source.upto(page.events, after)
        end = len(page.events) < self._count and page.damage is None and not page.cut
        yield from self._input(PageCame(after, self._source.wanted(page.events), upto, end, read.serial))

    def _set_page_size(self) -> None:
        """A page of a log has as many events as its bytes allow; the pages of a stream are cut by their script."""
        self._machine.page_size = self._size.count if isinstance(self._source, LogSource) else self._page_size

    def _check_place(self) -> Operation[None]:
        """After a lost connection, check that the log still holds the event that came last. Raises DataError."""
        keys, (position, event_id) = self._source.keys, self._stands
        entries, stored = yield Execute([("XRANGE", keys.log, position, position), ("HGET", keys.meta, "floor")])
        self._lost = False
        floor = fields.number(keys.meta, "floor", stored)
        if position > floor and (not entries or entry_id(entries[0]) != event_id):
            self.damage = DataError(
                f"the event at position {position} of partition {keys.partition} is not the one that was delivered: "
                "the log was flushed, restored, or lost its tail"
            )
            raise self.damage

    def _as_input(self, delivery: Delivery) -> Input:
        if isinstance(delivery.reason, RunnerError):
            raise delivery.reason
        if delivery.reason is not None:
            self._lost = True
            return Dropped(delivery.reason)
        if delivery.events:
            self._stands = delivery.events[-1].position, delivery.events[-1]._id
        wanted = self._source.wanted(delivery.events)
        if isinstance(self._source, StreamSource):
            return Appeared(wanted, self._source.upto(wanted, self._machine.last))
        return Appeared(wanted, delivery.upto)

    def _input(self, given: Input) -> Operation[None]:
        todo: deque[Action] = deque(self._machine.receive(given))
        while todo:
            action = todo.popleft()
            if isinstance(action, Read):
                self._count = action.count
                if self._lost:
                    yield from self._check_place()
                if self.damage is None:
                    pending = yield Send([self._source.command(action.after, action.count)])
                    self._reading = pending, action
            elif isinstance(action, Deliver):
                self._ready.append(Batch(action.events, action.upto))
            elif isinstance(action, JoinFeed):
                if self._live:
                    yield Join()
                    todo.extend(self._machine.receive(Joined()))
                else:
                    self._ended = Ended(None)
            elif isinstance(action, LeaveFeed):
                yield Leave()
                todo.extend(self._machine.receive(Left()))
            elif isinstance(action, Finished):
                self._ended = Ended(action.reason)
            else:
                assert isinstance(action, CaughtUp)
