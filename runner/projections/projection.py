"""Projections: plain functions that fold events into rows, and the fold itself.

A handler takes ``(state, event)``. It changes the state in place and returns None, or returns the new state, or
returns `DELETE` to remove the row. It must be a pure function of the two: the runner may call it again for an event
whose result was not committed. Handlers may be ``async def``.

A handler that raises leaves no trace. Rows are kept packed and unpacked for each batch, so the state it had begun to
change is thrown away, and the row is folded again from its packed form up to the event before. What becomes of the
event is decided outside, by the projection's policy: the fold ends before it, or goes on without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ..errors import InvalidName, ProjectionError
from ..format.events import RecordedEvent
from ..format.keys import FIRST_BUILD
from ..format.names import check_plain_name
from .handlers import Handlers
from .policies import DEFAULT, Policy

State = Any


class _Delete:
    def __repr__(self) -> str:
        return "DELETE"


#: What a handler returns to remove the row.
DELETE: Final = _Delete()


def by_stream(event: RecordedEvent) -> str:
    """The default key of a row: the stream's name."""
    return event.stream


class Projection(Handlers):
    """A fold over events into a view of keyed rows.

    ``category``: only the events of that category; None means all events. ``initial`` makes the state of a new
    row; it must be a function, so that no two rows share one. ``key`` gives the row's key, a text. ``build`` names the
    version of its code: where another one made the view, the runner makes it again beside the old one and switches.
    ``on_error`` is what becomes of an event that fails (see `runner.projections.policies`).

    Raises ProjectionError or InvalidName.
    """

    def __init__(
        self,
        name: str,
        *,
        category: str | None = None,
        initial: Callable[[], State] = dict,
        key: Callable[[RecordedEvent], str] = by_stream,
        build: str = FIRST_BUILD,
        on_error: Policy = DEFAULT,
    ) -> None:
        super().__init__(name, category, on_error)
        if not callable(initial):
            raise ProjectionError(f"projection {name!r}: initial must be a function that makes a state: {initial!r}")
        if not callable(key):
            raise ProjectionError(f"projection {name!r}: key must be a function of the event: {key!r}")
        if "." in check_plain_name(build, "build"):
            raise InvalidName(f"projection {name!r}: build {build!r} holds a '.', which numbers rebuilds of one build")
        self.initial = initial
        self.key = key
        self.build = build

    @property
    def keyed_by_stream(self) -> bool:
        return self.key is by_stream
