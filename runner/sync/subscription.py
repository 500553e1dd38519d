"""Subscriptions: iterate over history, then over each event as it is appended."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from ..effects.backoff import Backoff
from ..errors import RunnerError, StoreUnavailable, SubscriptionDropped
from ..format.events import RecordedEvent
from ..subscriptions.reader import Ended, SubscriptionReader
from ..subscriptions.sources import Source
from ..wire.blocks import TakesWith
from .driver import Driver
from .feed import Feed
from .interpreter import Interpreter


class Subscription(TakesWith):
    """The events of a stream, a category or a partition: history, then each event as it is appended, for ever.

    `EventStore.subscribe` makes it. Iterate over it inside ``with``, which releases its connection. Iteration ends
    after `unsubscribe`.

    Iteration raises SubscriptionDropped when the live feed drops it (it was too slow, or the connection was lost; with
    ``resubscribe`` it reads on instead), StoreUnavailable when the server stays unreachable, DataError when the log is
    damaged. Every event before the error was delivered.
    """

    def __init__(
        self, driver: Driver, feed: Feed, source: Source, after: int, since: int | None, resubscribe: bool
    ) -> None:
        settings = driver.settings
        self._driver = driver
        self._settings = settings
        self._since = since
        self._interpreter = Interpreter(driver, feed)
        self._reader = SubscriptionReader(source, after=after, page_size=settings.page_size, resubscribe=resubscribe)
        self._events: deque[RecordedEvent] = deque()
        self._stopping = False
        self._ended = False
        #: True after requests under way were lost with their connection: the next read begins with a restart.
        self._lost = False
        self._error: RunnerError | None = None

    @property
    def caught_up(self) -> bool:
        """Whether all history is delivered: the next iteration waits for a new event."""
        return not self._events and self._reader.caught_up

    def poll(self, timeout: float = 0.0) -> RecordedEvent | None:
        """The next event; None where none came within ``timeout`` seconds, or where the subscription has ended.

        Raises what iteration raises.
        """
        deadline = time.monotonic() + timeout
        while not self._events and not self._ended:
            left = deadline - time.monotonic()
            was_live = self._reader.live
            self._advance(max(0.0, left))
            if left <= 0 and was_live:
                break
        return self._pop()

    def unsubscribe(self) -> None:
        """End the subscription; any thread may. Iteration stops, even while it waits. Events read ahead are dropped."""
        self._stopping = True
        self._interpreter.wake()

    def __iter__(self) -> Iterator[RecordedEvent]:
        return self

    def __next__(self) -> RecordedEvent:
        while not self._events and not self._ended:
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
        self._events.clear()

    def _pop(self) -> RecordedEvent | None:
        if self._stopping:
            self._close()
            self._events.clear()
        if not self._events:
            return None
        try:  # read ahead, so that `caught_up` is right at the last event of history
            while len(self._events) == 1 and self._error is None and not self._reader.live and not self._ended:
                self._advance(0.0)
        except RunnerError as error:
            self._error = error
        return self._events.popleft()  # after the last request, so an interrupted call loses no event

    def _advance(self, timeout: float) -> None:
        self._interpreter.process.check("this subscription")
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        if self._stopping:
            self._close()
            return
        backoff = Backoff(self._settings.retry_for, self._driver.clock)
        while True:
            try:
                if self._lost:
                    self._interpreter.run(self._reader.restart())
                    self._lost = False
                batch = self._interpreter.run(self._reader.next(timeout))
                break
            except StoreUnavailable as error:
                self._lost = True
                self._interpreter.session.close()
                time.sleep(backoff.after(error))
                self._driver.address.revive()
            except RunnerError:
                raise
            except BaseException:  # Ctrl-C, or what a signal handler raised
                self._lost = True  # the next call repeats the requests under way
                self._interpreter.session.close()
                raise
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
        self._interpreter.close()
