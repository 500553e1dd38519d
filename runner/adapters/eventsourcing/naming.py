"""The stream names of originators, and the library's notifications made from events of the log.

All streams of a store share a category, so that a projection can subscribe to it: the store's name, with ``_`` for each
``-``. (The topic cannot give the category, because a reader of an originator knows only the originator's id.)

Event numbers begin at 1, originator versions at 1 or at 0. So an originator has one of two streams::

    BankAccounts-6c1f…      its versions begin at 1: the event's number is the version
    BankAccounts-~6c1f…     its versions begin at 0: the event's number is the version + 1

and never both: an append that begins one stream requires, in the same step, that the other does not exist. If an id
begins with ``~`` itself, each ``~`` at its beginning is doubled. So every stream name has one meaning.
"""

from __future__ import annotations

from functools import lru_cache
from uuid import UUID

from eventsourcing.persistence import DataError, Notification

from ...format.events import NewEvent, RecordedEvent

#: The mark before the id if versions begin at 0.
MARK = "~"

#: The metadata of an event whose originator id is text in the form of a UUID.
TEXT = "text"


def category_of_store(name: str) -> str:
    """The category of the streams in the store ``name``."""
    return name.replace("-", "_")


def text_of(originator_id: UUID | str) -> str:
    """An originator id as text. Raises DataError for an id that is neither a UUID nor text."""
    if isinstance(originator_id, str):
        return str.__str__(originator_id)  # the text also of an enumeration's member, whose str() is its name
    if isinstance(originator_id, UUID):
        return UUID.__str__(originator_id)
    raise DataError(f"an originator id must be a UUID or text, not {originator_id!r}")


def stream_of(category: str, text: str, first: int) -> str:
    """The stream of the originator ``text`` when its versions begin at ``first``, 0 or 1."""
    marks = len(text) - len(text.lstrip(MARK))
    return f"{category}-{MARK * (marks + 1 - first)}{text}"


def new_event(originator_id: UUID | str, topic: str, state: bytes) -> NewEvent:
    """The event as it is appended, with an id of its own."""
    if not isinstance(state, bytes):
        raise DataError(f"the state of an event must be bytes, not {type(state).__name__}; topic {topic!r}")
    is_text = isinstance(originator_id, str) and isinstance(_id_of(originator_id), UUID)
    return NewEvent(topic, state, TEXT if is_text else None)


def notification_of(event: RecordedEvent) -> Notification:
    """The library's notification, for its mappers: ``mapper.to_domain_event(notification_of(event))``.

    Raises DataError for an event that the library did not write.
    """
    state = state_of(event)
    originator_id, first = _originator_of(event.stream)
    if isinstance(originator_id, UUID) and event.metadata == TEXT:
        originator_id = str(originator_id)
    return Notification(
        id=event.position,
        originator_id=originator_id,
        originator_version=event.number - 1 + first,
        topic=event.type,
        state=state,
    )


def version_of(event: RecordedEvent) -> int:
    """The originator version that the event stands for."""
    return event.number - 1 + _originator_of(event.stream)[1]


def state_of(event: RecordedEvent) -> bytes:
    """The stored state. Raises DataError for an event that the library did not write."""
    state = event.data
    if "-" not in event.stream or not isinstance(state, bytes):
        raise DataError(
            f"the event at position {event.position}, {event.type!r} of {event.stream!r}, is not one of the library's: "
            "its data is not bytes; keep other events in a store of their own, or in another category"
        )
    return state


@lru_cache(maxsize=4096)
def _originator_of(stream: str) -> tuple[UUID | str, int]:
    """The originator of a stream, and the version of its first event."""
    name = stream.partition("-")[2]
    marks = len(name) - len(name.lstrip(MARK))
    return _id_of(name[(marks + 1) // 2 :]), 1 - marks % 2


def _id_of(text: str) -> UUID | str:
    """The UUID if the text is one in the usual form; else the text."""
    if len(text) == 36 and text[8] == "-":
        try:
            found = UUID(text)
        except ValueError:
            return text
        if str(found) == text:
            return found
    return text
