"""The bus of the library ``messagebus``: what it publishes, and what its units of work keep, as events in a store.

::

    transport = AsyncEventstreamTransport(store)        published messages, one append each
    uow.messagestore = AsyncMessageStoreRepository(store)    every message, one append for each commit

A message becomes an event through the library's own serializer, so it reads the same whichever way it came::

    id            the message's id: a message that is sent again is a duplicate, not a second event
    type          name and schema version, as ``book_proposed_v1``
    data          what its payload holds, decoded: a map that JSON can hold
    recorded_at   when the message was created
    metadata      the message's metadata, as far as they are known: see below

The library's serializer leaves metadata out, so what comes through a transport has none; a serializer of one's own that
puts a map under ``metadata`` is understood. The message store knows the message itself, and keeps them always.

All messages go to the stream ``messages``, unless their metadata name a ``stream``; see `stream_of`. Whoever wants a
stream for each thing gives a name, or a function that takes the event and returns one; where it returns None the
message is left out.

**Commit.** The library tells a message store of each message before the commit, and of the end of a transaction that
was committed; not of the commit itself, and not of a rollback. So `commit` and `rollback` are for the unit of work to
call, as it does with a session; what no `commit` has appended is appended when the transaction ends. What is held is
one append, all or nothing, and stays held until the store has confirmed it. Everything that an append would refuse for
itself is refused by ``add``, when the application can still roll back.

The asynchronous classes take an `AsyncEventStore`, which belongs to one event loop, or an `EventStore`, which may be
used from any number of them: its appends run in threads.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

try:
    from messagebus import (
        AbstractMessageSerializer,
        AsyncAbstractEventstreamTransport,
        AsyncAbstractMessageStoreRepository,
        AsyncEventstreamPublisher,
        Message,
        SyncAbstractEventstreamTransport,
        SyncAbstractMessageStoreRepository,
        SyncEventstreamPublisher,
    )
    from messagebus.service.eventstream import MessageSerializer
except ModuleNotFoundError as missing:
    raise ImportError(f"{missing}; install the extra: pip install 'redis-streams-runner[messagebus]'") from missing

from ..aio.store import AsyncEventStore
from ..errors import AppendTooLarge, InvalidInput
from ..events import NewEvent, pack_event
from ..facts import StoreFacts
from ..log.appending import ANY, Append, AppendResult
from ..names import check_name
from ..settings import MAX_APPEND_BYTES, MAX_APPEND_EVENTS
from ..store import EventStore

__all__ = [
    "AsyncEventstreamTransport",
    "AsyncMessageStoreRepository",
    "SyncEventstreamTransport",
    "SyncMessageStoreRepository",
    "event_of",
    "stream_of",
]

#: Where messages go for which nothing else is said: one stream, so one order for all of them, whoever reads it.
STREAM = "messages"

#: Which parts of a serialized message have a place of their own in the event; all others are metadata.
_PLACED = frozenset({"id", "type", "created_at", "payload"})

#: The name of a stream, or a function that says it for an event; None = the message is left out.
Stream = str | Callable[[NewEvent], str | None]

V = TypeVar("V")

_serializer = MessageSerializer()


def stream_of(event: NewEvent) -> str:
    """The ``stream`` of the message's metadata, if they have one; else ``messages``."""
    named = (event.metadata or {}).get("stream")
    return STREAM if named is None else check_name(named)


# -- messages as events -------------------------------------------------------------------------


def event_of(message: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> NewEvent:
    """The event for a message as the library's serializer, or one in its manner, makes it.

    Raises InvalidInput, which says what is missing or wrong.
    """
    absent = sorted({"id", "type", "payload"} - message.keys())
    if absent:
        raise InvalidInput(
            f"a serialized message needs 'id', 'type' and 'payload', and this one has no {absent[0]!r}: {message!r}",
            hint="The serializer of the publisher, or of the message store, makes it.",
        )
    what = f"message {message['id']!r} of type {message['type']!r}"
    created, payload = message.get("created_at"), message["payload"]
    return NewEvent(
        message["type"],
        _read(json.loads, payload, f"{what}: its payload", "JSON") if isinstance(payload, str) else payload,
        {**(metadata or {}), **_beside(message)} or None,
        _read(UUID, message["id"], f"{what}: its id", "a UUID"),
        None if created is None else _read(datetime.fromisoformat, created, f"{what}: its created_at", "an ISO time"),
    )


def _beside(message: Mapping[str, Any]) -> dict[str, Any]:
    """What of a serialized message has no other place; the parts of a map ``metadata`` are taken for themselves."""
    rest = {name: value for name, value in message.items() if name not in _PLACED}
    inner = rest.get("metadata")
    if isinstance(inner, Mapping):
        del rest["metadata"]
        return {**inner, **rest}
    return rest


def _read(read: Callable[[str], V], value: Any, what: str, kind: str) -> V:
    try:
        return read(value)
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise InvalidInput(f"{what} is not {kind}: {value!r}") from None


def _check_stream(stream: Stream) -> Stream:
    return stream if callable(stream) else check_name(stream)


def _place(stream: Stream, event: NewEvent) -> str | None:
    """Where an event goes. Raises InvalidName."""
    name = stream(event) if callable(stream) else stream
    return None if name is None else check_name(name)


class _Held:
    """What waits for the commit, in order. What an append would refuse does not come in."""

    def __init__(self, stream: Stream, serializer: AbstractMessageSerializer) -> None:
        self._stream = _check_stream(stream)
        self._serializer = serializer
        self._events: dict[UUID, tuple[str, NewEvent, int]] = {}
        self._bytes = 0

    @property
    def events(self) -> tuple[NewEvent, ...]:
        return tuple(event for _, event, _ in self._events.values())

    def add(self, message: Message[Any], facts: StoreFacts) -> None:
        """Hold a message, once. Raises InvalidInput or a kind of it."""
        event = event_of(self._serializer.serialize_message(message), message.metadata.model_dump(mode="json"))
        stream = _place(self._stream, event)
        if stream is None or event.id in self._events:
            return
        size = len(pack_event(stream, event, 0))
        self._check(stream, self._bytes + size, facts)
        self._events[event.id] = stream, event, size
        self._bytes += size

    def _check(self, stream: str, size: int, facts: StoreFacts) -> None:
        if len(self._events) == MAX_APPEND_EVENTS:
            raise AppendTooLarge(f"one commit appends {MAX_APPEND_EVENTS} messages at most, and so many are held")
        if size > MAX_APPEND_BYTES:
            raise AppendTooLarge(f"one commit appends {MAX_APPEND_BYTES} bytes at most, and this would make {size}")
        first = next(iter(self._events.values()), (stream,))[0]
        if facts.of_stream(first) != facts.of_stream(stream):
            raise InvalidInput(
                f"one commit stays in one partition; {first!r} and {stream!r} live in different ones",
                hint="Use a store with one partition, or one stream for what is committed together.",
            )

    def appends(self) -> list[Append]:
        """One append for each stream, in the order of their first messages."""
        groups: dict[str, list[NewEvent]] = {}
        for stream, event, _ in self._events.values():
            groups.setdefault(stream, []).append(event)
        return [(stream, events, ANY) for stream, events in groups.items()]

    def forget(self, events: tuple[NewEvent, ...]) -> None:
        for event in events:
            _, _, size = self._events.pop(event.id, ("", event, 0))
            self._bytes -= size


# -- with asyncio -------------------------------------------------------------------------------


class AsyncEventstreamTransport(AsyncAbstractEventstreamTransport):
    """Appends each published message to the store. Safe to share between units of work.

    ``stream`` is a name, or a function of the event that returns one. The store is an `AsyncEventStore`, of the event
    loop that this is used in, or an `EventStore`, for any number of loops.
    """

    def __init__(self, store: EventStore | AsyncEventStore, *, stream: Stream = stream_of) -> None:
        self._store = _check_store(store, EventStore, AsyncEventStore)
        self._stream = _check_stream(stream)

    async def send_message_serialized(self, message: Mapping[str, Any]) -> None:
        """Append the message; sent again, it is a duplicate. Raises what `EventStore.append` raises."""
        event = event_of(message)
        if stream := _place(self._stream, event):
            await _append(self._store, [(stream, [event], ANY)])


class AsyncMessageStoreRepository(AsyncAbstractMessageStoreRepository):
    """Keeps every message that the bus has handled: held until `commit`, then one append, all or nothing.

    For one unit of work, as the library has it. ``publisher`` is the library's: it gets the published messages at the
    end of a transaction that was committed. ``stream`` and the store are as in `AsyncEventstreamTransport`.
    """

    def __init__(
        self,
        store: EventStore | AsyncEventStore,
        publisher: AsyncEventstreamPublisher | None = None,
        *,
        stream: Stream = stream_of,
        serializer: AbstractMessageSerializer = _serializer,
    ) -> None:
        super().__init__(publisher)
        self._store = _check_store(store, EventStore, AsyncEventStore)
        self._held = _Held(stream, serializer)
        #: What the last append did, stream by stream; a view can be waited for with the last of them.
        self.appended: list[AppendResult] = []

    @property
    def held(self) -> tuple[NewEvent, ...]:
        """What would be appended by a commit now."""
        return self._held.events

    async def _add(self, message: Message[Any]) -> None:
        store = self._store
        self._held.add(message, store.facts if isinstance(store, EventStore) else await store.facts())

    async def commit(self) -> None:
        """Append what is held, and hold it no longer. Call it from the unit of work's ``commit``.

        Raises EventIdReused or StoreTrouble; everything is still held then, and calling this again is safe.
        """
        if taken := self.held:
            self.appended = await _append(self._store, self._held.appends())
            self._held.forget(taken)

    async def rollback(self) -> None:
        """Drop what is held, and what would have been published. Call it from the unit of work's ``rollback``."""
        self._held.forget(self.held)
        self.stream_buffer.clear()

    async def publish_eventstream(self) -> None:
        """Called by the library when a transaction that was committed ends: append what no `commit` has appended."""
        await self.commit()
        await super().publish_eventstream()


async def _append(store: EventStore | AsyncEventStore, appends: list[Append]) -> list[AppendResult]:
    if isinstance(store, EventStore):
        return await asyncio.to_thread(store.append_many, appends)
    return await store.append_many(appends)


# -- without ------------------------------------------------------------------------------------


class SyncEventstreamTransport(SyncAbstractEventstreamTransport):
    """The same for the library's synchronous half. See `AsyncEventstreamTransport`."""

    def __init__(self, store: EventStore, *, stream: Stream = stream_of) -> None:
        self._store = _check_store(store, EventStore)
        self._stream = _check_stream(stream)

    def send_message_serialized(self, message: Mapping[str, Any]) -> None:
        event = event_of(message)
        if stream := _place(self._stream, event):
            self._store.append(stream, event)


class SyncMessageStoreRepository(SyncAbstractMessageStoreRepository):
    """The same for the library's synchronous half. See `AsyncMessageStoreRepository`."""

    def __init__(
        self,
        store: EventStore,
        publisher: SyncEventstreamPublisher | None = None,
        *,
        stream: Stream = stream_of,
        serializer: AbstractMessageSerializer = _serializer,
    ) -> None:
        super().__init__(publisher)
        self._store = _check_store(store, EventStore)
        self._held = _Held(stream, serializer)
        self.appended: list[AppendResult] = []

    @property
    def held(self) -> tuple[NewEvent, ...]:
        return self._held.events

    def _add(self, message: Message[Any]) -> None:
        self._held.add(message, self._store.facts)

    def commit(self) -> None:
        if taken := self.held:
            self.appended = self._store.append_many(self._held.appends())
            self._held.forget(taken)

    def rollback(self) -> None:
        self._held.forget(self.held)
        self.stream_buffer.clear()

    def publish_eventstream(self) -> None:
        self.commit()
        super().publish_eventstream()


def _check_store(store: V, *kinds: type) -> V:
    if isinstance(store, kinds):
        return store
    raise InvalidInput(f"this needs an {' or an '.join(kind.__name__ for kind in kinds)}, not {store!r}")
