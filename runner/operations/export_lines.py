"""Exporting events as JSON lines that an import reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..effects import DriverOperation, invoke
from ..errors import DataError, InvalidInput
from ..format.json_lines import dump
from ..log.extent import check_whole
from ..log.reading import LogPages, in_category, last_position
from ..log.trimmed import floor_of
from ..projections.functions import check_function
from .export_placed import export_placed
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
    after: int | None = 0,
    partition: int | None = None,
    with_positions: bool = False,
    progress: OnProgress = ignore,
) -> DriverOperation[ExportResult]:
    """Write all events, or those of a category, as JSON lines, one partition after the other.

    ``write`` is given whole lines, a page of events at a time: the method of a binary file, or a coroutine function. An
    asynchronous store calls a plain function in a thread. ``after`` is a position, for one partition; None begins with
    the first event that is left after a trim. ``partition``: only this one.
    ``with_positions``: all that `import_lines` needs to put every event into its place again: of a trimmed store, too,
    but not of a part of one. Events that are appended after the beginning are not in it then.

    ``progress`` is told how many events are written, of how many in the log. Raises LogTrimmed if events after
    ``after`` were trimmed, or with positions if any were trimmed meanwhile; StoreRefused if the store is being
    restored; other errors of the classes DataError and StoreTrouble, and what ``write`` raises.
    """
    check_function(write, "write", "(lines)")
    if with_positions:
        if category is not None or after or partition is not None:
            raise InvalidInput("an export with positions is of the whole store, so it takes no part of one")
        return ExportResult((yield from export_placed(store, write, progress)))
    only = None if category is None else in_category(category)
    partitions = store.info.keys if partition is None else [store.info.of_partition(partition)]
    total = 0
    for keys in partitions:
        yield from check_whole(keys)
        total += yield from last_position(keys)
    if after is not None:
        ranges = [LogPages(after, None, partition, only, store.settings.page_size)]
    else:
        ranges = []
        for keys in partitions:
            left_after = yield from floor_of(keys)
            ranges.append(LogPages(left_after, None, keys.partition, only, store.settings.page_size))
    count = 0
    for pages in ranges:
        count = yield from _export(store, pages, write, count, lambda done: progress(Progress(done, total)))
    return ExportResult(count)


def _export(
    store: StoreContext, pages: LogPages, write: Callable[[bytes], Awaitable[object] | object], count: int,
    progress: Callable[[int], object],
) -> DriverOperation[int]:  # fmt: skip
    """Write these pages; ``count`` events were written before. Returns how many are written then."""
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
            progress(count)
        if damage is not None:
            raise damage
    return count
