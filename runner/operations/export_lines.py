"""Exporting events as JSON lines that an import reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..effects import DriverOperation, invoke
from ..errors import DataError, InvalidInput
from ..format.json_lines import dump
from ..format.place_lines import BOOKMARKS, IDS, LAYOUT, RECENT, STORE, STREAMS, dump_place
from ..log.extent import (
    A_PORTION,
    Extent,
    TrimmedIds,
    TrimmedRecent,
    TrimmedStreams,
    check_not_trimmed_since,
    read_extent,
)
from ..log.reading import LogPages, in_category, last_position, read_log
from ..projections.functions import check_function
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
    with_positions: bool = False,
    progress: OnProgress = ignore,
) -> DriverOperation[ExportResult]:
    """Write all events, or those of a category, as JSON lines, one partition after the other.

    ``write`` is given whole lines, a page of events at a time: the method of a binary file, or a coroutine function. An
    asynchronous store calls a plain function in a thread. ``after`` is a position, for a store of one partition.
    ``with_positions``: all that `import_lines` needs to put every event into its place again: of a trimmed store, too,
    but not of a part of one. Events that are appended after the beginning are not in it then.

    ``progress`` is told how many events are written, of how many in the log. Raises LogTrimmed if events after
    ``after`` were trimmed, or with positions if any were trimmed meanwhile; other errors of the classes DataError and
    StoreTrouble, and what ``write`` raises.
    """
    check_function(write, "write", "(lines)")
    if with_positions:
        if category is not None or after:
            raise InvalidInput("an export with positions is of the whole store, so it takes no category and no `after`")
        return (yield from _export_places(store, write, progress))
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


def _export_places(
    store: StoreContext, write: Callable[[bytes], Awaitable[object] | object], progress: OnProgress
) -> DriverOperation[ExportResult]:
    info, extents = store.info, list[Extent]()
    for keys in info.keys:
        extents.append((yield from read_extent(keys)))
    about = {
        "layout": LAYOUT,
        "name": info.name,
        "epoch": info.epoch,
        "format": info.keys[0].format,
        "floors": [extent.floor for extent in extents],
        "last": [extent.last for extent in extents],
    }
    yield from invoke(write, dump_place(STORE, about))
    for extent in extents:
        yield from _export_rest(store, extent, write)
    total, count = sum(extent.events for extent in extents), 0
    for keys, extent in zip(info.keys, extents, strict=True):
        at = extent.floor
        while at < extent.last:
            page = yield from read_log(keys, at, min(store.settings.page_size, extent.last - at))
            lines = [dump(event).encode() for event in page.events]
            yield from invoke(write, b"".join(line + b"\n" for line in lines))
            if page.damage is not None:
                raise page.damage
            at += len(lines)
            count += len(lines)
            progress(Progress(count, total))
        yield from check_not_trimmed_since(keys, extent)
    return ExportResult(count)


def _export_rest(
    store: StoreContext, extent: Extent, write: Callable[[bytes], Awaitable[object] | object]
) -> DriverOperation[None]:
    """Write what a partition has beside its events."""
    keys, partition = store.info.keys[extent.partition], extent.partition
    bookmarks = list(extent.bookmarks.items())
    for at in range(0, len(bookmarks), A_PORTION):
        some = {"partition": partition, "bookmarks": dict(bookmarks[at : at + A_PORTION])}
        yield from invoke(write, dump_place(BOOKMARKS, some))
    streams = TrimmedStreams(keys, extent.floor)
    while (portion := (yield from streams.next())) is not None:
        gone = [(each.stream, each.number, each.position) for each in portion if each.position is not None]
        if gone:
            yield from invoke(write, dump_place(STREAMS, {"partition": partition, "streams": gone}))
    ids = TrimmedIds(store.info, keys, extent.floor)
    upto = yield from ids.upto()
    while (pairs := (yield from ids.next())) is not None:
        if pairs:
            known = [(event_id.hex(), place) for event_id, place in pairs]
            yield from invoke(write, dump_place(IDS, {"partition": partition, "upto": upto, "ids": known}))
    recent = TrimmedRecent(keys, extent.floor)
    while (places := (yield from recent.next())) is not None:
        if places:
            shown = [(stream, event_id.hex(), place) for stream, event_id, place in places]
            yield from invoke(write, dump_place(RECENT, {"partition": partition, "ids": shown}))
