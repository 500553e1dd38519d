"""The events that a message store holds until the commit. A batch is one append, and is repeated unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from uuid import UUID

from messagebus import AbstractMessageSerializer, Message
from messagebus.service.eventstream import MessageSerializer

from ...errors import AppendTooLarge, InvalidInput
from ...format.events import NewEvent, pack_event
from ...log.append_plan import ANY, Append
from ...log.info import StoreInfo
from ...settings import MAX_APPEND_BYTES, MAX_APPEND_EVENTS
from .events import Stream, check_stream, event_of, place

S = TypeVar("S")

#: The library's own serializer.
SERIALIZER: AbstractMessageSerializer = MessageSerializer()


class Batch:
    """The events of one append, in order, each once. ``due``: the application has committed its transaction."""

    def __init__(self) -> None:
        self.events: dict[UUID, tuple[str, NewEvent]] = {}
        self.size = 0
        self.due = False

    def add(self, stream: str, event: NewEvent, info: StoreInfo) -> None:
        """Add an event, unless the batch has it. Raises InvalidInput if the append would be refused for the event."""
        if event.id in self.events:
            if self.events[event.id] != (stream, event):
                raise InvalidInput(
                    f"two messages of one commit have the id {event.id}, and they are not the same",
                    hint="Give each message an id of its own, or leave it to the library.",
                )
            return
        size = self.size + len(pack_event(stream, event, 0))
        if len(self.events) == MAX_APPEND_EVENTS:
            raise AppendTooLarge(f"one commit appends {MAX_APPEND_EVENTS} messages at most, and so many are held")
        if size > MAX_APPEND_BYTES:
            raise AppendTooLarge(f"one commit appends {MAX_APPEND_BYTES} bytes at most, and this would make {size}")
        first = next(iter(self.events.values()), (stream,))[0]
        if info.of_stream(first) != info.of_stream(stream):
            raise InvalidInput(
                f"one commit stays in one partition; {first!r} and {stream!r} live in different ones",
                hint="Use a store with one partition, or put messages that are committed together in one stream.",
            )
        self.events[event.id] = stream, event
        self.size = size

    def appends(self) -> list[Append]:
        """One append for each stream, in the order of their first messages."""
        groups: dict[str, list[NewEvent]] = {}
        for stream, event in self.events.values():
            groups.setdefault(stream, []).append(event)
        return [(stream, events, ANY) for stream, events in groups.items()]


class HeldEvents:
    """The events that wait for the commit: the open batch, and earlier batches whose append was not confirmed.

    A batch that was sent once does not grow: sent again it is the same append, and the store recognises it.
    """

    def __init__(self, stream: Stream, serializer: AbstractMessageSerializer) -> None:
        self._stream = check_stream(stream)
        self._serializer = serializer
        self._batches = [Batch()]

    @property
    def events(self) -> tuple[NewEvent, ...]:
        return tuple(event for batch in self._batches for _, event in batch.events.values())

    def add(self, message: Message[Any], info: StoreInfo) -> None:
        """Hold a message. Raises InvalidInput, or a subclass, for a message that could never be appended."""
        event = event_of(self._serializer.serialize_message(message), message.metadata.model_dump(mode="json"))
        stream = place(self._stream, event)
        if stream is not None:
            self._batches[-1].add(stream, event, info)

    def close(self, *, due: bool) -> list[Batch]:
        """All batches to append now, in order. Later messages go to the next batch."""
        if self._batches[-1].events:
            self._batches.append(Batch())
        closed = self._batches[:-1]
        for batch in closed:
            batch.due = batch.due or due
        return closed

    @contextmanager
    def appending(self, batch: Batch) -> Iterator[None]:
        """Remove a batch once its append is confirmed, or, if the batch is due, once it is refused for good."""
        try:
            yield
        except InvalidInput:
            if batch.due:
                self._remove(batch)
            raise
        else:
            self._remove(batch)

    def drop(self) -> None:
        """Drop the batches that are not due."""
        self._batches = [*(batch for batch in self._batches[:-1] if batch.due), Batch()]

    def _remove(self, batch: Batch) -> None:
        self._batches = [each for each in self._batches if each is not batch]


def check_store(store: S, *kinds: type) -> S:
    if isinstance(store, kinds):
        return store
    raise InvalidInput(f"this needs an {' or an '.join(kind.__name__ for kind in kinds)}, not {store!r}")
