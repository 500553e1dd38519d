"""Exporting events as JSON lines that an import reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..effects import DriverOperation, invoke
from ..errors import DataError
from ..format.json_lines import dump
from ..log.reading import LogPages, in_category, last_position
from .face import OnProgress, Progress, StoreContext, for_either_store, ignore


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What an export did: events written, one a line."""

    events: int


@for_either_store
def export_lines(
    store: StoreContext,
    write: Callable[[bytes], Awaitable[object] | object],
    *,
    category: str | None = None,
    after: int = 0,
    progress: OnProgress = ignore,
) -> DriverOperation[ExportResult]:
    """Write all events, or those of a category, as JSON lines, one partition after the other.

    ``write`` is given whole lines, a page of events at a time: the method of a binary file, or a coroutine function. An
    asynchronous store calls a plain function in a thread. ``after`` is a position, for a store of one partition.
    ``progress`` is told how many events are written, of how many in the log. Raises LogTrimmed if events after
    ``after`` were trimmed, other errors of the classes DataError and StoreTrouble, and what ``write`` raises.
    """
    pages = LogPages(after, None, None, None if category is None else in_category(category), store.settings.page_size)
    total = 0
    for keys in store.info.keys:
        total += yield from last_position(keys)
    count = 0
    while (page := (yield from pages.next(store.info))) is not None:
        lines: list[bytes] = []
        damage: DataError | None = None
        for event in page:
            try:
                lines.append(dump(event).encode() + b"\n")
            except DataError as error:  # the events before it are written first
                damage = error
                break
        if lines:
            yield from invoke(write, b"".join(lines))
            count += len(lines)
            progress(Progress(count, total))
        if damage is not None:
            raise damage
    return ExportResult(count)
