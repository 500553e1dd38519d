"""Subscriptions as the synchronous API hands them out, and the port through which a pump reaches the world."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from .beside import Threads
from .errors import InvalidInput, RunnerError, StoreUnavailable, SubscriptionDropped
from .events import RecordedEvent
from .facts import StoreFacts
from .feed import Delivery, Feed, Member
from .log.reading import in_category
from .names import check_name
from .pump import Ended, LogSource, Pump, Source, StreamSource
from .requests import Begin, Effect, Finish, Join, Leave, Operation, Pause, Take, drive
from .wire.encoding import Backoff
from .wire.sync import Driver, Waiter

T = TypeVar("T")


class All:
    """Every event of the store; use the constant `ALL`."""

    def __repr__(self) -> str:
        return "ALL"


#: Subscribe to every event.
ALL = All()


@dataclass(frozen=True, slots=True)
class Category:
    """Subscribe to the events of every stream of a category."""

    name: str


def source_of(facts: StoreFacts, what: str | Category | All, partition: int) -> Source:
    """What to read for a subscription to a stream's name, a category or `ALL`."""
    if isinstance(what, Category):
        return LogSource(facts.of_partition(partition), in_category(what.name))
    if isinstance(what, All):
        return LogSource(facts.of_partition(partition))
    return StreamSource(facts, check_name(what))


def one_partition(facts: StoreFacts, what: str | Category | All, partition: int | None) -> int:
    """The partition to subscribe to; raises InvalidInput where it has to be given."""
    if partition is None and facts.partitions > 1 and not isinstance(what, str):
        raise InvalidInput(
            f"store {facts.name!r} has {facts.partitions} partitions; a subscription follows one",
            hint="Give partition=, and subscribe once for each.",
        )
    return partition or 0


class Port:
    """A session, a place in a feed, and the driver: everything a pump's effects need."""

    def __init__(self, driver: Driver, feed: Feed) -> None:
        self._driver = driver
        self._feed = feed
        self._wake = threading.Event()
        self._member: Member | None = None
        self._woken = False
        self._waiter = Waiter()
        self._beside = Threads()
        self.session = driver.session()

    def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end."""
        return drive(operation, self._perform)

    def wake(self) -> None:
        """End a wait for the feed at once, from any thread."""
        self._woken = True
        self._wake.set()

    def close(self) -> None:
        self._leave()
        self.session.close()
        self._waiter.close()
        self._beside.close()

    def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Take):
            return self._take(effect.timeout)
        if isinstance(effect, Join):
            self._member = Member(self._driver.settings.buffer_size, self._wake.set)
            return self._feed.join(self._member)
        if isinstance(effect, Leave):
            return self._leave()
        if isinstance(effect, Pause):
            self._wake.clear()
            if not self._woken:
                self._wake.wait(effect.seconds)
            self._woken = False
            return None
        if isinstance(effect, Begin):
            return self._beside.begin(effect)
        if isinstance(effect, Finish):
            return self._beside.finish(effect.work, effect.timeout)
        return self._driver.perform(effect, self.session, self._waiter)

    def _take(self, timeout: float) -> Delivery | None:
        member = self._member
        assert member is not None, "nothing can be taken from a feed before it is joined"
        delivery = member.take()
        if delivery is None and not self._woken and timeout > 0:
            self._wake.wait(timeout)
        self._wake.clear()
        self._woken = False
        return delivery or member.take()

    def _leave(self) -> None:
        if self._member is not None:
            self._feed.leave(self._member)
            self._member = None


class Subscription:
    """History, then what is appended, for ever: iterate over it, inside ``with``.

    Iteration ends after `unsubscribe`, which any thread may call. Raises SubscriptionDropped when the live feed drops
    it (too slow, connection lost; with ``resubscribe`` it reads on instead), StoreUnavailable when the server stays
    away, DataError when the log is damaged; every event before that was delivered.
    """

    def __init__(
        self, driver: Driver, feed: Feed, source: Source, after: int, since: int | None, resubscribe: bool
    ) -> None:
        settings = driver.settings
        self._driver = driver
        self._settings = settings
        self._since = since
        self._port = Port(driver, feed)
        self._pump = Pump(source, after=after, page_size=settings.page_size, resubscribe=resubscribe)
        self._events: deque[RecordedEvent] = deque()
        self._stopping = False
        self._ended = False
        #: Requests under way were lost with their connection; also when the caller was told and tries again.
        self._lost = False
        self._error: RunnerError | None = None

    @property
    def caught_up(self) -> bool:
        """Whether every event that the store had is delivered: whoever iterates now waits for a new one."""
        return not self._events and self._pump.caught_up

    def poll(self, timeout: float = 0.0) -> RecordedEvent | None:
        """The next event, or None when none came within ``timeout`` seconds, or the subscription has ended."""
        deadline = time.monotonic() + timeout
        while not self._events and (self._error is not None or not self._ended):
            left = deadline - time.monotonic()
            was_live = self._pump.live
            self._advance(max(0.0, left))
            if left <= 0 and was_live:
                break
        return self._pop()

    def unsubscribe(self) -> None:
        """End the subscription: iteration stops, and the feed forgets it."""
        self._stopping = True
        self._port.wake()

    def __iter__(self) -> Iterator[RecordedEvent]:
        return self

    def __next__(self) -> RecordedEvent:
        while not self._events:
            if self._ended and self._error is None:
                raise StopIteration
            self._advance(self._settings.block)
        event = self._pop()
        if event is None:
            raise StopIteration
        return event

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _pop(self) -> RecordedEvent | None:
        if self._stopping:
            self._close()
            return None
        if not self._events:
            return None
        event = self._events.popleft()
        if not self._events and not self._pump.live:
            self._look_ahead()
        return event

    def _look_ahead(self) -> None:
        """See what follows, so that `caught_up` is right at the last event of history; errors keep until then."""
        try:
            while not self._events and not self._pump.live and not self._ended:
                self._advance(0.0)
        except RunnerError as error:
            self._error = error

    def _advance(self, timeout: float) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        if self._stopping:
            self._close()
            return
        backoff = Backoff(self._settings.retry_for, time.monotonic())
        while True:
            try:
                if self._lost:
                    self._port.run(self._pump.restart())
                    self._lost = False
                batch = self._port.run(self._pump.next(timeout))
                break
            except StoreUnavailable as trouble:
                self._lost = True
                self._port.session.close()
                time.sleep(backoff.after(trouble, time.monotonic()))
                self._driver.address.revive()
        if isinstance(batch, Ended):
            self._close()
            if batch.reason is not None:
                raise SubscriptionDropped(batch.reason)
        elif batch is not None:
            since = self._since
            self._events.extend(
                batch.events if since is None else [event for event in batch.events if event.recorded_us >= since]
            )

    def _close(self) -> None:
        self._ended = True
        self._events.clear()
        self._port.close()
