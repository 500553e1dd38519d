"""Blocking work on behalf of coroutines, whichever event loop they run on.

An asynchronous store is bound to the loop that opened its connections, and it is not told when a loop ends. Some
callers in the library make a loop for each call (`SyncEventStoreAdapter`): each loop would open connections and leave
them open. So a synchronous store does the work in threads: threads may share it, and its connections outlive a loop.
Going to a thread and back makes an append 15 to 20 % slower than asyncio's own streams. In return, packing and
decoding do not block the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from eventsource.domain.exceptions import EventStoreError

from ...effects.user_code import call
from ...errors import StoreClosed, StoreUnavailable
from ...wire.host import Process

P = ParamSpec("P")
T = TypeVar("T")

#: The most requests at a time. The server executes one at a time, so more would only wait there.
THREADS = 16


class RedisUnavailableError(EventStoreError, ConnectionError):
    """The server cannot be reached or is not ready. The command may or may not have run.

    This is a ConnectionError, after which the library's subscriptions try again.
    """


class Threads:
    """A few threads, started when they are needed. In a forked process they are started anew."""

    def __init__(self) -> None:
        self._closed = False
        self._process = Process()
        self._executor = _executor()

    async def run(self, function: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
        """Call a function in a thread. The call goes on when the caller is cancelled, like a request already sent."""
        if self._closed:
            raise StoreClosed
        if not self._process.is_this:  # after a fork, the threads belong to the parent
            self._executor, self._process = _executor(), Process()
        try:
            future = asyncio.get_running_loop().run_in_executor(self._executor, lambda: call(function, *args, **more))
        except RuntimeError:
            if self._closed:
                raise StoreClosed from None
            raise
        try:
            return await future
        except StoreUnavailable as error:
            raise RedisUnavailableError(error.with_hint) from error

    def close(self) -> None:
        """Wait for calls under way, and refuse new ones."""
        self._closed = True
        if self._process.is_this:
            self._executor.shutdown()


def _executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="runner-eventsource")
