"""Translates the library's streams, events and positions to those of this package, and back.

A stream ``StreamId(aggregate_id, category)`` is called ``<category>-<aggregate id>``, with ``~`` for each ``-`` of the
category. So this package's category, the text before the first ``-``, is the library's whole category. The library
allows no ``~`` in a category, so no two streams share a name.

An event is stored as the fields that Pydantic's JSON mode makes of it, as in the library's own stores. The fields that
its class declares are the data. The fields of every `DomainEvent` are the metadata, except for id and type, which the
log keeps itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from uuid import UUID

from eventsource.domain import StreamId
from eventsource.domain.event import DomainEvent
from eventsource.domain.event_registry import EventRegistry
from eventsource.domain.exceptions import PositionDecodeError, PositionForeignError, SerializationError
from eventsource.ports import EventEnvelope, Position

from ...errors import InvalidInput
from ...format.events import NewEvent, RecordedEvent

_NAME = re.compile(r"([A-Za-z0-9_.~]+)-([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})")

#: The fields of every event, and those of them that the log keeps itself.
_OF_EVERY_EVENT = frozenset(DomainEvent.model_fields)
_OF_THE_LOG = {"event_id", "event_type"}


def category_name(category: str) -> str:
    """The category of the log for a category of the library."""
    return category.replace("-", "~")


def stream_name(stream: StreamId) -> str:
    """The name in the log of a stream of the library."""
    return f"{category_name(stream.category)}-{stream.aggregate_id}"


def stream_id(name: str) -> StreamId | None:
    """The library's stream of this name; None if the stream is not the library's."""
    found = _NAME.fullmatch(name)
    return StreamId(UUID(found[2]), found[1].replace("~", "-")) if found else None


def new_event(event: DomainEvent) -> NewEvent:
    """The event to append. Raises InvalidInput for a value that is no DomainEvent, and what Pydantic raises."""
    if not isinstance(event, DomainEvent):
        raise InvalidInput(f"only DomainEvent objects can be appended, not {type(event).__name__}: {event!r}")
    fields = event.model_dump(mode="json", exclude=_OF_THE_LOG)
    metadata = {name: fields.pop(name) for name in _OF_EVERY_EVENT if name in fields}
    return NewEvent(event.event_type, fields, metadata, id=event.event_id)


def domain_event(event: RecordedEvent, registry: EventRegistry) -> DomainEvent:
    """The event as an object of its class. Raises EventTypeNotFoundError or SerializationError."""
    kind = registry.get(event.type)
    try:
        fields = {**event.metadata, **event.data, "event_id": event.id, "event_type": event.type}
        return kind.model_validate(fields)
    except (TypeError, ValueError) as fault:  # a ValidationError is a ValueError
        raise SerializationError(
            event.type, f"event {event.number} of {event.stream!r}, at position {event.position}: {fault}"
        ) from fault


def has_tenant(event: RecordedEvent, tenant: UUID) -> bool:
    return isinstance(event.metadata, dict) and event.metadata.get("tenant_id") == str(tenant)


@dataclass(frozen=True, slots=True)
class Positions:
    """Positions of the log as the library's tokens. ``store_id`` names the log by the store's name and epoch."""

    store_id: str

    def token(self, position: int) -> Position:
        return Position(self.store_id, (position,))

    def number(self, token: Position) -> int:
        """The position. Raises PositionForeignError for another log's token, PositionDecodeError for an invalid one."""
        if token.store_id != self.store_id:
            raise PositionForeignError(f"position belongs to {token.store_id!r}, this store is {self.store_id!r}")
        if len(token.key) != 1 or not isinstance(token.key[0], int) or not 0 <= token.key[0] < 2**63:
            raise PositionDecodeError(f"not a position of this store: {token!r}")
        return token.key[0]

    def envelope(self, event: RecordedEvent, stream: StreamId, registry: EventRegistry) -> EventEnvelope:
        """The event with its stream, number and position. Raises what `domain_event` raises."""
        decoded = domain_event(event, registry)
        return EventEnvelope(decoded, stream, event.number, self.token(event.position), event.recorded_at)
