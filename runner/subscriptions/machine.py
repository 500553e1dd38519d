"""The subscription machine: history first, then the live feed, every event once and in order.

Theory. A process has one live feed a partition, shared by all its subscriptions. A subscription that joins a running
feed must read once more up to the feed's position, hold the events that the feed brings meanwhile, and deliver all of
them in order::

    READING ──page at the end──▶ JOINING ──joined──▶ CATCHING_UP ──page at the end──▶ LIVE
       ▲                                                                               │
       └────── LEAVING ◀── restart (leave, clear what is held) ◀───────────────────────┘

The page that is read *after* the feed has confirmed covers all events before the join; the feed brings all events
after it. Both may bring the same event: an event whose number is not above the last number delivered is dropped.

Invariants. Delivered numbers rise strictly. No request asks for events below the last number that was passed. After a
restart no held event is delivered. An input that its state does not allow raises and changes nothing.

Deliberately elsewhere. No I/O, clock or log here: a driver sends inputs in, does the actions that come out, and
sends their outcome in. The decoder checks that pages have no gap. The feed keeps held events few: it drops a member
that is too slow. A number is what orders the events of the source: the position in a log or a category, the event
number in a stream.

Wart: a page carries the serial of its request, because the answer to a request that was repeated may come late or
twice. An answer to an older request delivers its new events and does no more: it asks for nothing, because a newer
request is under way, and it does not end the catch-up, because it may have been read before the feed was joined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, TypeVar

from ..errors import RunnerError

E = TypeVar("E")

#: How many events a read asks for by default.
PAGE_SIZE = 100


class State(Enum):
    """The state of a subscription; see the drawing above. CLOSING: it was ended, and has not left the feed yet."""

    NEW = "new"
    READING = "reading"
    JOINING = "joining"
    CATCHING_UP = "catching up"
    LIVE = "live"
    LEAVING = "leaving"
    CLOSING = "closing"
    CLOSED = "closed"


# -- inputs -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """Begin to read."""


@dataclass(frozen=True, slots=True)
class PageCame(Generic[E]):
    """The answer to ``Read(after)``: events above ``after`` and up to ``upto``; ``end``: there was no more."""

    after: int
    events: Sequence[E]
    upto: int
    end: bool
    #: The serial of the request it answers.
    serial: int = 0


@dataclass(frozen=True, slots=True)
class Joined:
    """The feed has confirmed: it brings every event from now on."""


@dataclass(frozen=True, slots=True)
class Appeared(Generic[E]):
    """The feed brought these events and has passed ``upto``, which need not be an event of this subscription."""

    events: Sequence[E]
    upto: int


@dataclass(frozen=True, slots=True)
class Left:
    """The feed has confirmed that it brings no more events."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """The feed or the reader gave up. ``reason`` None: on request."""

    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Restart:
    """Requests under way may be lost: ask again."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Unsubscribe."""


Input = Start | PageCame[Any] | Joined | Appeared[Any] | Left | Dropped | Restart | Stop


# -- actions ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Read:
    """Read ``count`` events of the source with numbers above ``after``."""

    source: object
    after: int
    count: int
    #: Tells this request from every other of the machine; the answer carries it back.
    serial: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class JoinFeed:
    """Join the live feed."""


@dataclass(frozen=True, slots=True)
class LeaveFeed:
    """Take this subscription, and no other, from the live feed."""


@dataclass(frozen=True, slots=True)
class Deliver(Generic[E]):
    """Hand these events to the subscriber, in this order. ``upto`` is passed after them."""

    events: Sequence[E]
    upto: int


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """All events before the join are delivered; later ones are live."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The subscription has ended; ``reason`` None: on request."""

    reason: str | None = None


Action = Read | JoinFeed | LeaveFeed | Deliver[Any] | CaughtUp | Finished


class IllegalInput(RunnerError):
    """An input that the machine's state does not allow. The machine is unchanged."""

    def __init__(self, state: State, given: Input) -> None:
        super().__init__(f"a subscription that is {state.value} does not take {given!r}")
        self.state = state
        self.given = given


class SubscriptionMachine(Generic[E]):
    """One subscription. ``receive`` takes an input and returns the actions it leads to."""

    def __init__(
        self,
        source: object,
        number: Callable[[E], int],
        *,
        after: int = 0,
        page_size: int = PAGE_SIZE,
        resubscribe: bool = False,
    ) -> None:
        self.state = State.NEW
        #: The last number passed: delivered, or known not to be an event of this subscription.
        self.last = after
        self._source = source
        self._number = number
        #: How many events the next read asks for.
        self.page_size = page_size
        self._resubscribe = resubscribe
        self._serial = 0
        self._held: list[Appeared[E]] = []

    def receive(self, given: Input) -> list[Action]:
        """The actions that follow from an input. Raises IllegalInput."""
        try:
            transition = _TABLE[self.state, type(given)]
        except KeyError:
            raise IllegalInput(self.state, given) from None
        return transition(self, given)

    # -- transitions ----------------------------------------------------------------------------

    def _read(self, _: object) -> list[Action]:
        self.state = State.READING
        return [self._request()]

    def _page(self, page: PageCame[E]) -> list[Action]:
        answered = page.serial == self._serial
        actions = self._deliver(page.events, page.upto)
        if not answered:
            return actions
        if not page.end:
            return [*actions, self._request()]
        if self.state is State.READING:
            self.state = State.JOINING
            return [*actions, JoinFeed()]
        held, self._held = self._held, []
        for batch in held:
            actions += self._deliver(batch.events, batch.upto)
        self.state = State.LIVE
        return [*actions, CaughtUp()]

    def _joined(self, _: Joined) -> list[Action]:
        self.state = State.CATCHING_UP
        return [self._request()]

    def _hold(self, batch: Appeared[E]) -> list[Action]:
        self._held.append(batch)
        return []

    def _live(self, batch: Appeared[E]) -> list[Action]:
        return self._deliver(batch.events, batch.upto)

    def _restart_reading(self, _: Restart) -> list[Action]:
        return [self._request()]

    def _restart_joined(self, _: Restart) -> list[Action]:
        self._held.clear()
        self.state = State.LEAVING
        return [LeaveFeed()]

    def _dropped(self, drop: Dropped) -> list[Action]:
        self._held.clear()
        if self._resubscribe and drop.reason is not None:
            return self._read(drop)
        return self._finish(drop)

    def _stop_reading(self, _: Stop) -> list[Action]:
        return self._finish(Dropped())

    def _stop_joined(self, _: Stop) -> list[Action]:
        self._held.clear()
        self.state = State.CLOSING
        return [LeaveFeed()]

    def _stop_leaving(self, _: Stop) -> list[Action]:
        self.state = State.CLOSING
        return []

    def _finish(self, given: object) -> list[Action]:
        self.state = State.CLOSED
        return [Finished(given.reason if isinstance(given, Dropped) else None)]

    def _pass(self, _: object) -> list[Action]:
        return []

    # -- parts ----------------------------------------------------------------------------------

    def _request(self) -> Read:
        self._serial += 1
        return Read(self._source, self.last, self.page_size, serial=self._serial)

    def _deliver(self, events: Sequence[E], upto: int) -> list[Action]:
        number, last = self._number, self.last
        if events and number(events[0]) <= last:
            events = [event for event in events if number(event) > last]
        self.last = max(last, upto)
        if not events and self.last == last:
            return []
        return [Deliver(events, self.last)]


_M = SubscriptionMachine
_TABLE: dict[tuple[State, type[Any]], Callable[[SubscriptionMachine[Any], Any], list[Action]]] = {
    (State.NEW, Start): _M._read,
    (State.NEW, Stop): _M._stop_reading,
    (State.READING, PageCame): _M._page,
    (State.READING, Restart): _M._restart_reading,
    (State.READING, Dropped): _M._dropped,
    (State.READING, Stop): _M._stop_reading,
    (State.JOINING, Joined): _M._joined,
    (State.JOINING, Appeared): _M._hold,
    (State.JOINING, PageCame): _M._pass,
    (State.JOINING, Restart): _M._restart_joined,
    (State.JOINING, Dropped): _M._dropped,
    (State.JOINING, Stop): _M._stop_joined,
    (State.CATCHING_UP, PageCame): _M._page,
    (State.CATCHING_UP, Appeared): _M._hold,
    (State.CATCHING_UP, Restart): _M._restart_joined,
    (State.CATCHING_UP, Dropped): _M._dropped,
    (State.CATCHING_UP, Stop): _M._stop_joined,
    (State.LIVE, Appeared): _M._live,
    (State.LIVE, PageCame): _M._pass,
    (State.LIVE, Restart): _M._restart_joined,
    (State.LIVE, Dropped): _M._dropped,
    (State.LIVE, Stop): _M._stop_joined,
    (State.LEAVING, Left): _M._read,
    (State.LEAVING, Dropped): _M._read,
    (State.LEAVING, PageCame): _M._pass,
    (State.LEAVING, Appeared): _M._pass,
    (State.LEAVING, Joined): _M._pass,
    (State.LEAVING, Restart): _M._pass,
    (State.LEAVING, Stop): _M._stop_leaving,
    (State.CLOSING, Left): _M._finish,
    (State.CLOSING, Dropped): _M._stop_reading,
    (State.CLOSING, PageCame): _M._pass,
    (State.CLOSING, Appeared): _M._pass,
    (State.CLOSING, Joined): _M._pass,
    (State.CLOSING, Restart): _M._pass,
    (State.CLOSING, Stop): _M._pass,
}
