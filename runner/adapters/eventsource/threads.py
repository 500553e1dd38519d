"""Blocking work on behalf of coroutines, whichever event loop they run on.

An asynchronous store is bound to the loop that its connections were opened on, and a loop that ends does not say so.
The library has callers who make a loop for each call (`SyncEventStoreAdapter`): each would open connections of its own,
and leave them open. So the synchronous store does the work, in threads: it is safe to share between them, and keeps its
connections from loop to loop. The way to a thread and back costs an append 15 to 20 % over asyncio's own streams, and
packing and decoding do not hold up the loop.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from eventsource.domain.exceptions import EventStoreError

from ...errors import StoreClosed, StoreUnavailable

P = ParamSpec("P")
T = TypeVar("T")

#: Requests under way at a time. One server executes one at a time, so more would only wait elsewhere.
THREADS = 16


class RedisUnavailableError(EventStoreError, ConnectionError):
    """The server cannot be reached or is not ready. What was sent may or may not have run.

    The library's subscriptions take a ConnectionError for what it is, and try again.
    """


class Threads:
    """A few threads, started when they are needed. In a forked process they are started anew."""

    def __init__(self) -> None:
        self._closed = False
        self._process = os.getpid()
        self._executor = _executor()

    async def run(self, function: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
        """Call a function in a thread. It goes on when the caller is cancelled, as a request does that was sent."""
        if self._closed:
            raise StoreClosed
        if os.getpid() != self._process:  # forked: the parent's threads are the parent's
            self._executor, self._process = _executor(), os.getpid()
        try:
            future = asyncio.get_running_loop().run_in_executor(self._executor, lambda: function(*args, **more))
        except RuntimeError:
            if self._closed:
                raise StoreClosed from None
            raise
        try:
            return await future
        except StoreUnavailable as error:
            raise RedisUnavailableError(error.with_hint) from error

    def close(self) -> None:
        """Wait for what is under way, and refuse anything new."""
        self._closed = True
        if os.getpid() == self._process:
            self._executor.shutdown()


def _executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="runner-eventsource")
