"""The library's event store on a store of this package."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import get_annotations

from castlecraft_engineer.abstractions.event import Event
from castlecraft_engineer.abstractions.event_store import EventStore, EventStoreConflictError, TAggregateId

from ...aio.store import AsyncEventStore
from ...errors import InvalidInput, UndecodableEvent, WrongExpectedVersion
from ...format.events import NewEvent, RecordedEvent
from ...format.numbers import LARGEST, check_number
from ...log.reading import StreamPages, StreamRange
from .classes import Classes, Decode, Encode, Registry
from .ids import IdText, Streams, check_store, id_text

#: The fields that every event has; the others are its data.
_ID, _OCCURRED = "event_id", "occurred_on"


class RedisEventStore(EventStore[TAggregateId]):
    """The events of one kind of aggregates; each aggregate has a stream, ``<category>-<id>``.

    ``events`` are the classes of all events that are appended or loaded, each stored under its own name; or a map of
    names and classes, in which a class that was renamed has both names. ``encode`` and ``decode`` are for objects in
    events that are neither dataclasses nor anything else that msgspec knows (its ``enc_hook`` and ``dec_hook``).
    ``id_text`` makes text of ids that are not UUIDs, text or integers. Use this store, like its `AsyncEventStore`,
    within one event loop.
    """

    def __init__(
        self,
        store: AsyncEventStore,
        *,
        category: str,
        events: Classes,
        encode: Encode | None = None,
        decode: Decode | None = None,
        id_text: IdText = id_text,
    ) -> None:
        self._store = check_store(store)
        self._streams = Streams(category, id_text)
        self._registry = Registry(events, "events", encode, decode, _check_class)

    def stream(self, aggregate_id: TAggregateId) -> str:
        """The name of an aggregate's stream. Raises InvalidInput or InvalidName."""
        return self._streams.name(aggregate_id)

    async def append_events(self, aggregate_id: TAggregateId, expected_version: int, events: Sequence[Event]) -> None:
        """Append events, all or none, if the stream's last event has the number ``expected_version`` (-1: none).

        Without events nothing is done. Repeating the same append is safe, so after StoreUnavailable or NotConfirmed
        append **the same events** again. Raises EventStoreConflictError; InvalidInput (PayloadError for an event that
        would not come back equal); StoreTrouble.
        """
        if not events:
            return
        stream = self.stream(aggregate_id)
        expected = check_number(expected_version, "expected_version", -LARGEST, LARGEST - 1) + 1
        new = [self._new(event, stream) for event in events]
        if expected < 0:  # no stream has this version
            raise EventStoreConflictError(aggregate_id, expected_version, await self._store.version(stream) - 1)
        try:
            await self._store.append(stream, new, expected)
        except WrongExpectedVersion as conflict:
            raise EventStoreConflictError(aggregate_id, expected_version, conflict.actual - 1) from conflict

    async def load_events(self, aggregate_id: TAggregateId, from_version: int | None = None) -> list[Event]:
        """The events after the one with the number ``from_version``; all events if that is None or negative.

        Raises UndecodableEvent for an event whose class was not given or does not fit any more; LogTrimmed,
        LogCorrupt or StoreTrouble.
        """
        after = 0
        if from_version is not None:
            after = max(check_number(from_version, "from_version", -LARGEST, LARGEST - 1) + 1, 0)
        pages = StreamPages(StreamRange(self.stream(aggregate_id), after), None, self._store.settings.page_size)
        info = await self._store.info()
        events: list[Event] = []
        while (page := await self._store.run(pages.next(info))) is not None:
            events += map(self.event_of, page)
        return events

    async def get_current_version(self, aggregate_id: TAggregateId) -> int | None:
        """The number of the stream's last event, from 0; None where there is no stream."""
        version = await self._store.version(self.stream(aggregate_id))
        return version - 1 if version else None

    def event_of(self, recorded: RecordedEvent) -> Event:
        """The library's event for an event of the log, for callers that read or follow the log itself.

        An event of the same form that other code appended gets the time of its append as ``occurred_on``.
        Raises UndecodableEvent.
        """
        metadata = recorded.metadata if isinstance(recorded.metadata, dict) else {}
        fields = {_ID: recorded.id, _OCCURRED: metadata.get(_OCCURRED, recorded.recorded_at)}
        try:
            event: Event = self._registry.load(
                recorded.type, {**({} if recorded.data is None else recorded.data), **fields}
            )
        except Exception as fault:  # also errors of the class itself and of hooks
            raise self._undecodable(recorded, fault) from fault
        return event

    def _new(self, event: Event, stream: str) -> NewEvent:
        if not isinstance(event, Event):
            raise InvalidInput(f"only events of castlecraft-engineer can be appended, not {event!r}")
        name = self._registry.name_of(event)
        data = self._registry.dump(event, f"event {name!r} of {stream!r}: data")
        return NewEvent(name, data, {_OCCURRED: data.pop(_OCCURRED)}, id=data.pop(_ID))

    def _undecodable(self, recorded: RecordedEvent, fault: Exception) -> UndecodableEvent:
        error = UndecodableEvent(
            recorded.position, str(fault), stream=recorded.stream, number=recorded.number, event_type=recorded.type
        )
        error.hint = "Give the store every class under every name that it was stored by, and new fields a default."
        return error


def _check_class(kind: type[object]) -> None:
    if not issubclass(kind, Event):
        raise InvalidInput(f"events takes subclasses of castlecraft-engineer's Event, not {kind!r}")
    for base in kind.__mro__:
        own = vars(base)
        plain = issubclass(base, Event) and "__dataclass_fields__" not in own
        if plain and ("__init__" in own or _is_annotated(base)):
            raise InvalidInput(
                f"event class {base.__qualname__!r} has attributes but is not a dataclass, so they would be lost",
                hint="Decorate it with @dataclass(frozen=True, kw_only=True), as Event is.",
            )


def _is_annotated(kind: type[object]) -> bool:
    try:
        return bool(get_annotations(kind))
    except NameError:  # for a type that is imported only for type checkers
        return True
