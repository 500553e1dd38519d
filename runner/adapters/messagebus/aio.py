"""The asynchronous half: `AsyncEventstreamTransport` and `AsyncMessageStoreRepository`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from messagebus import (
    AbstractMessageSerializer,
    AsyncAbstractEventstreamTransport,
    AsyncAbstractMessageStoreRepository,
    AsyncEventstreamPublisher,
    Message,
)

from ...aio.store import AsyncEventStore
from ...errors import InvalidInput
from ...format.events import NewEvent
from ...log.append_plan import ANY, Append, AppendResult
from ...sync.store import EventStore
from .events import Stream, check_stream, event_of, place, stream_of
from .holding import SERIALIZER, HeldEvents, check_store


class AsyncEventstreamTransport(AsyncAbstractEventstreamTransport):
    """Appends each published message to the store. Safe to share between units of work.

    ``stream`` is a name, or a function of the event that returns one. The store is an `AsyncEventStore`, for one
    event loop, or an `EventStore`, for any number of loops.
    """

    def __init__(self, store: EventStore | AsyncEventStore, *, stream: Stream = stream_of) -> None:
        self._store = check_store(store, EventStore, AsyncEventStore)
        self._stream = check_stream(stream)

    async def send_message_serialized(self, message: Mapping[str, Any]) -> None:
        """Append the message. A message sent again is a duplicate. Raises what `EventStore.append` raises."""
        event = event_of(message)
        if stream := place(self._stream, event):
            await _append(self._store, [(stream, [event], ANY)])


class AsyncMessageStoreRepository(AsyncAbstractMessageStoreRepository):
    """Keeps every message that the bus has handled: holds them until `commit`, then appends them, all or nothing.

    One object serves one unit of work, as in the library. ``publisher`` is the library's: it gets the published
    messages at the end of a committed transaction. ``stream`` and the store are as in `AsyncEventstreamTransport`.
    """

    def __init__(
        self,
        store: EventStore | AsyncEventStore,
        publisher: AsyncEventstreamPublisher | None = None,
        *,
        stream: Stream = stream_of,
        serializer: AbstractMessageSerializer = SERIALIZER,
    ) -> None:
        super().__init__(publisher)
        self._store = check_store(store, EventStore, AsyncEventStore)
        self._held = HeldEvents(stream, serializer)
        self._publishing = 0
        #: The results of the last commit's append, one for each stream. Give the last one to `View.wait_for`.
        self.appended: list[AppendResult] = []

    @property
    def held(self) -> tuple[NewEvent, ...]:
        """The held events: those whose append is not confirmed yet."""
        return self._held.events

    async def _add(self, message: Message[Any]) -> None:
        store = self._store
        self._held.add(message, store.info if isinstance(store, EventStore) else await store.info())

    async def commit(self) -> None:
        """Append the held events, and hold them no longer. Call this from the unit of work's ``commit``.

        Raises EventIdReused or StoreTrouble. The events are still held then, and calling this again is safe.
        """
        await self._append_held(due=False)

    async def rollback(self) -> None:
        """Drop the held events and the messages to publish. Call this from the unit of work's ``rollback``.

        Events that an earlier transaction could not append at its end stay, because that transaction was committed.
        """
        self._held.drop()
        del self.stream_buffer[self._publishing :]

    async def publish_eventstream(self) -> None:
        """Append the events that no `commit` has appended. The library calls this after a committed transaction.

        Raises what `commit` raises. After StoreTrouble, closing the transaction appends again, and so does the end of
        the next transaction. Events that are refused for good are held no longer.
        """
        self._publishing = len(self.stream_buffer)
        try:
            await self._append_held(due=True)
        except InvalidInput:  # refused for good: messages that are not in the log are not published either
            del self.stream_buffer[: self._publishing]
            self._publishing = 0
            raise
        self._publishing = 0
        await super().publish_eventstream()

    async def _append_held(self, *, due: bool) -> None:
        results: list[AppendResult] = []
        for batch in self._held.close(due=due):
            with self._held.appending(batch):
                results += await _append(self._store, batch.appends())
        self.appended = results or self.appended


async def _append(store: EventStore | AsyncEventStore, appends: list[Append]) -> list[AppendResult]:
    if isinstance(store, EventStore):
        return await asyncio.to_thread(store.append_many, appends)
    return await store.append_many(appends)
