"""`catch_up` and `follow` for either kind of store."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import overload

from .aio.engine import AsyncEngine, AsyncFollowing, async_catch_up
from .aio.store import AsyncEventStore
from .sync.engine import Engine, Following
from .sync.store import EventStore
from .workers.pool import Runnable


@overload
def catch_up(store: EventStore, *projections: Runnable) -> int: ...
@overload
def catch_up(store: AsyncEventStore, *projections: Runnable) -> Awaitable[int]: ...
def catch_up(store: EventStore | AsyncEventStore, *projections: Runnable) -> int | Awaitable[int]:
    """Apply what is new, and return how many events were applied: 0 when there was nothing. Awaitable for async stores.

    Raises HandlerFailed with the events before the failing one committed, CommitRefused when another runner drives
    one of the projections, DataError or StoreTrouble.
    """
    if isinstance(store, AsyncEventStore):
        return async_catch_up(store, *projections)
    engine = Engine(store, projections, live=False)
    engine.run_here()
    return sum(assignment.handled for assignment in engine.assignments)


@overload
def follow(store: EventStore, *projections: Runnable) -> Following: ...
@overload
def follow(store: AsyncEventStore, *projections: Runnable) -> AsyncFollowing: ...
def follow(store: EventStore | AsyncEventStore, *projections: Runnable) -> Following | AsyncFollowing:
    """``with follow(store, balances):`` catch up, then apply what is appended, in the background of this process.

    ``async with`` for asynchronous stores. The end of the block stops it and raises what went wrong, if anything did.
    """
    if isinstance(store, AsyncEventStore):
        return AsyncFollowing(AsyncEngine(store, projections, live=True))
    return Following(Engine(store, projections))
