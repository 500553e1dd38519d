"""The interpreter: performs every effect of an operation, over blocking sockets."""

from __future__ import annotations

import threading
from typing import Any, TypeVar

from ..effects import Begin, Effect, Finish, Join, Leave, Operation, Pause, Receive, Send, Take, UserCodeEffect, drive
from ..subscriptions.feed import Delivery, Member
from ..wire.host import Process
from .concurrency import Threads, UserCode
from .driver import Driver
from .feed import Feed

T = TypeVar("T")


class Interpreter:
    """A session, a member of a feed, and the driver: all that the effects of an operation need."""

    def __init__(self, driver: Driver, feed: Feed) -> None:
        self._driver = driver
        self._feed = feed
        self._wake = threading.Event()
        self._member: Member | None = None
        self._woken = False
        self._user_code = UserCode()
        self._beside = Threads()
        self.session = driver.session()
        self.process = Process()

    def run(self, operation: Operation[T]) -> T:
        """Run an operation to its end."""
        return drive(operation, self._perform)

    def wake(self) -> None:
        """End a wait for the feed at once, from any thread."""
        self._woken = True
        self._wake.set()

    def close(self) -> None:
        """Leave the feed, and close the connection and the threads of user code: in a forked child, nothing."""
        if not self.process.is_this:
            return
        self._leave()
        self.session.close()
        self._user_code.close()
        self._beside.close()

    def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Take):
            return self._take(effect.timeout)
        if isinstance(effect, Join):
            self._leave()  # who begins anew may have a place already
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
        if isinstance(effect, Send):
            return self.session.send(effect.commands)
        if isinstance(effect, Receive):
            return self.session.receive(effect.pending)
        if isinstance(effect, UserCodeEffect):
            return self._user_code.perform(effect)
        return self._driver.perform(effect, self.session)

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
