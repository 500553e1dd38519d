"""Messages as events: what each part of a message becomes, and which stream the event goes to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from uuid import UUID

from ...errors import InvalidInput
from ...format.events import NewEvent
from ...format.json_text import read_json, read_time
from ...format.names import check_name

#: The default stream of messages: one stream, so all readers see all messages in one order.
STREAM = "messages"

#: The parts of a serialized message that have a place of their own in the event; all others are metadata.
_PLACED = frozenset({"id", "type", "created_at", "payload"})

#: The name of a stream, or a function from an event to a name; if it returns None, the message is left out.
Stream = str | Callable[[NewEvent], str | None]

V = TypeVar("V")


def stream_of(event: NewEvent) -> str:
    """The ``stream`` of the message's metadata, if they have one; else ``messages``."""
    named = (event.metadata or {}).get("stream")
    return STREAM if named is None else check_name(named)


def event_of(message: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> NewEvent:
    """The event for a message in the form of the library's serializer.

    Raises InvalidInput, which names the missing or wrong part.
    """
    if not {"id", "type", "payload"} <= message.keys():
        raise InvalidInput(
            f"a serialized message needs 'id', 'type' and 'payload', and this one has {sorted(message)}",
            hint="Correct the serializer of the publisher or of the message store.",
        )
    what = f"message {message['id']!r} of type {message['type']!r}"
    created, payload = message.get("created_at"), message["payload"]
    return NewEvent(
        message["type"],
        _read(payload, read_json, f"{what}: its payload is not JSON") if isinstance(payload, str) else payload,
        {**(metadata or {}), **_beside(message)} or None,
        _read(str(message["id"]), UUID, f"{what}: its id is not a UUID"),
        None if created is None else _read(str(created), read_time, f"{what}: its created_at is not a time"),
    )


def _beside(message: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a serialized message with no other place. The entries of a map ``metadata`` are merged in."""
    rest = {name: value for name, value in message.items() if name not in _PLACED}
    inner = rest.get("metadata")
    if isinstance(inner, Mapping):
        del rest["metadata"]
        return {**inner, **rest}
    return rest


def _read(text: str, read: Callable[[str], V], fault: str) -> V:
    try:
        return read(text)
    except ValueError:
        raise InvalidInput(f"{fault}: {text!r:.100}") from None


def check_stream(stream: Stream) -> Stream:
    return stream if callable(stream) else check_name(stream)


def place(stream: Stream, event: NewEvent) -> str | None:
    """The stream of an event; None = left out. Raises InvalidName."""
    name = stream(event) if callable(stream) else stream
    return None if name is None else check_name(name)
