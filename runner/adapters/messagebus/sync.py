"""The synchronous half: `SyncEventstreamTransport` and `SyncMessageStoreRepository`. The logic is that of `aio`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from messagebus import (
    AbstractMessageSerializer,
    Message,
    SyncAbstractEventstreamTransport,
    SyncAbstractMessageStoreRepository,
    SyncEventstreamPublisher,
)

from ...errors import InvalidInput
from ...format.events import NewEvent
from ...log.append_plan import AppendResult
from ...sync.store import EventStore
from .events import Stream, check_stream, event_of, place, stream_of
from .holding import SERIALIZER, HeldEvents, check_store


class SyncEventstreamTransport(SyncAbstractEventstreamTransport):
    """`AsyncEventstreamTransport` for the library's synchronous half."""

    def __init__(self, store: EventStore, *, stream: Stream = stream_of) -> None:
        self._store = check_store(store, EventStore)
        self._stream = check_stream(stream)

    def send_message_serialized(self, message: Mapping[str, Any]) -> None:
        event = event_of(message)
        if stream := place(self._stream, event):
            self._store.append(stream, event)


class SyncMessageStoreRepository(SyncAbstractMessageStoreRepository):
    """`AsyncMessageStoreRepository` for the library's synchronous half."""

    def __init__(
        self,
        store: EventStore,
        publisher: SyncEventstreamPublisher | None = None,
        *,
        stream: Stream = stream_of,
        serializer: AbstractMessageSerializer = SERIALIZER,
    ) -> None:
        super().__init__(publisher)
        self._store = check_store(store, EventStore)
        self._held = HeldEvents(stream, serializer)
        self._publishing = 0
        self.appended: list[AppendResult] = []

    @property
    def held(self) -> tuple[NewEvent, ...]:
        return self._held.events

    def _add(self, message: Message[Any]) -> None:
        self._held.add(message, self._store.info)

    def commit(self) -> None:
        self._append_held(due=False)

    def rollback(self) -> None:
        self._held.drop()
        del self.stream_buffer[self._publishing :]

    def publish_eventstream(self) -> None:
        self._publishing = len(self.stream_buffer)
        try:
            self._append_held(due=True)
        except InvalidInput:  # refused for good: messages that are not in the log are not published either
            del self.stream_buffer[: self._publishing]
            self._publishing = 0
            raise
        self._publishing = 0
        super().publish_eventstream()

    def _append_held(self, *, due: bool) -> None:
        results: list[AppendResult] = []
        for batch in self._held.close(due=due):
            with self._held.appending(batch):
                results += self._store.append_many(batch.appends())
        self.appended = results or self.appended
