"""Errors of the caller: a name, a payload, a number, a projection. Nothing was written."""

from __future__ import annotations

from collections.abc import Sequence

from .root import RunnerError

#: So many names of what is there are told, where something is not.
MOST_TOLD = 10


class InvalidInput(RunnerError, ValueError):
    """An argument that is not valid. Nothing was written."""


class InvalidName(InvalidInput):
    """A stream, category, projection or store name that is not allowed."""


class PayloadError(InvalidInput):
    """A value in an event or a row that cannot be stored; the text names its path and type."""


class AppendTooLarge(InvalidInput):
    """An append over the limit of events or bytes. Nothing was sent."""


class EventIdReused(InvalidInput):
    """An append holds known and new ids of its stream, or one id twice. Nothing was written.

    With an index of ids (see `runner.log.id_index`), also: an append holds an id of any stream of the partition.
    """

    def __init__(self, stream: str, detail: str) -> None:
        super().__init__(
            f"append to stream {stream!r} refused: {detail}; nothing was written",
            hint="Give each new event its own id, or repeat the first append exactly as it was.",
        )
        self.stream = stream


class StoreNotFound(InvalidInput):
    """There is no such store, and none was to be made.

    ``place`` is where it was looked for; ``name`` is empty if no store of any name is there. ``others`` are the names
    of those that are there, as far as they could be seen.
    """

    def __init__(self, name: str, place: str, others: Sequence[str] = (), meant: str = "") -> None:
        which = f"store {name!r}" if name else "store"
        told = ", ".join(others[:MOST_TOLD]) + (f" and {len(others) - MOST_TOLD} more" if others[MOST_TOLD:] else "")
        seen = f"; there are: {told}" if others else ""
        super().__init__(
            f"there is no {which} at {place}{seen}",
            hint=(f"Did you mean {meant!r}? " if meant else "") + "`runner init` makes a store.",
        )
        self.name = name
        self.place = place
        self.others = tuple(others)


class ProjectionError(InvalidInput):
    """A projection, a plug-in or a handler's answer that is not well formed."""
