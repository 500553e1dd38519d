"""`catch_up`, `follow` and `state_at`: projections over either kind of store."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime
from typing import Any, overload

from .aio.engine import AsyncEngine, AsyncFollowing, async_catch_up
from .aio.store import AsyncEventStore
from .format.names import check_name
from .projections.as_of import AsOf
from .projections.projection import Projection, State
from .sync.engine import Engine, Following
from .sync.engine import catch_up as sync_catch_up
from .sync.store import EventStore, check_store
from .workers.pool import Runnable


@overload
def catch_up(store: EventStore, *projections: Runnable) -> int: ...
@overload
def catch_up(store: AsyncEventStore, *projections: Runnable) -> Awaitable[int]: ...
def catch_up(store: EventStore | AsyncEventStore, *projections: Runnable) -> int | Awaitable[int]:
    """Apply the events that are new to each projection or reactor, and return how many were applied; 0 = none was new.

    Await it for an asynchronous store. Raises HandlerFailed if a handler failed and its policy stops (the events before
    the failing one are committed); CommitRefused or ProjectionHeld if another runner drives one of the projections;
    BuildReplaced if another build is live; InvalidInput for ``async def`` handlers of a synchronous store in a thread
    whose event loop is running; DataError; StoreTrouble.
    """
    if isinstance(store, AsyncEventStore):
        return async_catch_up(store, projections)
    return sync_catch_up(check_store(store), projections)


@overload
def follow(store: EventStore, *projections: Runnable) -> Following: ...
@overload
def follow(store: AsyncEventStore, *projections: Runnable) -> AsyncFollowing: ...
def follow(store: EventStore | AsyncEventStore, *projections: Runnable) -> Following | AsyncFollowing:
    """``with follow(store, balances):`` catch up, then apply what is appended, in the background of this process.

    ``async with`` for an asynchronous store. The projections start with the block, which raises StoreTrouble if the
    server cannot be reached. The end of the block stops them. If one of them failed, it raises what `catch_up` raises,
    unless the block itself raised. Only BuildReplaced does not end a projection: its code stands by, and takes over
    when its build is live again.
    """
    if isinstance(store, AsyncEventStore):
        return AsyncFollowing(AsyncEngine(store, projections, live=True))
    return Following(Engine(check_store(store), projections))


@overload
def state_at(
    store: EventStore,
    projection: Projection[State],
    *,
    position: int | None = None,
    time: datetime | None = None,
    key: None = None,
) -> dict[str, State]: ...
@overload
def state_at(
    store: EventStore,
    projection: Projection[State],
    *,
    position: int | None = None,
    time: datetime | None = None,
    key: str,
) -> State | None: ...
@overload
def state_at(
    store: AsyncEventStore,
    projection: Projection[State],
    *,
    position: int | None = None,
    time: datetime | None = None,
    key: None = None,
) -> Awaitable[dict[str, State]]: ...
@overload
def state_at(
    store: AsyncEventStore,
    projection: Projection[State],
    *,
    position: int | None = None,
    time: datetime | None = None,
    key: str,
) -> Awaitable[State | None]: ...
def state_at(
    store: EventStore | AsyncEventStore,
    projection: Projection,
    *,
    position: int | None = None,
    time: datetime | None = None,
    key: str | None = None,
) -> Any:
    """The rows as they were after ``position``, or by ``time``, or now: folded in memory, and nothing is written.

    With ``position`` the log is read up to there, else whole. With ``time``, the events that were recorded at that time
    or earlier are folded. Returns all rows by key; with ``key`` the row of that key, or None if there is none. Await it
    for an asynchronous store.

    Raises InvalidInput for both a position and a time, and for a position in a store of several partitions;
    HandlerFailed if a handler fails, under every policy; LogTrimmed if the first events were trimmed; StoreTrouble.
    """
    if key is not None:
        key = check_name(key, "row")
    if isinstance(store, AsyncEventStore):
        return _async_state_at(store, projection, position, time, key)
    as_of = AsOf(projection, position, time, check_store(store).info.partitions)
    with as_of.from_the_first_event():
        for event in store.read_all():
            if as_of.beyond(event):
                break
            if as_of.add(event):
                store.run(as_of.fold())
    store.run(as_of.fold())
    return as_of.rows() if key is None else as_of.row(key)


async def _async_state_at(
    store: AsyncEventStore, projection: Projection, position: int | None, time: datetime | None, key: str | None
) -> Any:
    as_of = AsOf(projection, position, time, (await store.info()).partitions)
    with as_of.from_the_first_event():
        async for event in store.read_all():
            if as_of.beyond(event):
                break
            if as_of.add(event):
                await store.run(as_of.fold())
    await store.run(as_of.fold())
    return as_of.rows() if key is None else as_of.row(key)
