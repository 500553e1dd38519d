"""The names of streams: a category, and the id of an aggregate as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from ...aio.store import AsyncEventStore
from ...errors import InvalidInput
from ...format.names import check_name
from ...log.reading import in_category

#: An aggregate's id → its text.
IdText = Callable[[Any], str]


def id_text(aggregate_id: object) -> str:
    """The text of an id that is a UUID, text or an integer. Raises InvalidInput for another type."""
    if isinstance(aggregate_id, UUID):
        return UUID.__str__(aggregate_id)
    if isinstance(aggregate_id, str):
        return str.__str__(aggregate_id)  # the text also of an enumeration's member, whose str() is its name
    if isinstance(aggregate_id, int) and not isinstance(aggregate_id, bool):
        return int.__repr__(aggregate_id)
    raise InvalidInput(
        f"an aggregate id must be a UUID, text or an integer, not {type(aggregate_id).__name__}: {aggregate_id!r}",
        hint="Give id_text=, a function that makes text of an id; no two ids may have the same text.",
    )


class Streams:
    """The streams of a category."""

    def __init__(self, category: str, text: IdText) -> None:
        in_category(category)  # raises for an invalid category
        self._category = category
        self._text = text

    def name(self, aggregate_id: object) -> str:
        """The stream of an aggregate. Raises InvalidInput or InvalidName."""
        return check_name(f"{self._category}-{check_name(self._text(aggregate_id), 'aggregate')}")


def check_store(store: object) -> AsyncEventStore:
    """Raise InvalidInput unless the store is an AsyncEventStore, which the library's async interfaces need."""
    if not isinstance(store, AsyncEventStore):
        raise InvalidInput(
            f"this takes an AsyncEventStore, not {type(store).__name__}", hint="AsyncEventStore.open(…) makes one."
        )
    return store
