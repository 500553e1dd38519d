"""Export with positions: all that is needed to put every event of a store into its place again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..effects import DriverOperation, invoke
from ..format.json_lines import dump
from ..format.place_lines import BOOKMARKS, IDS, LAYOUT, RECENT, STORE, STREAMS, dump_place
from ..log.extent import (
    A_PORTION,
    Extent,
    ExtentPages,
    TrimmedIds,
    TrimmedRecent,
    TrimmedStreams,
    check_not_trimmed_since,
    read_extent,
)
from .face import OnProgress, Progress, StoreContext


def export_placed(
    store: StoreContext, write: Callable[[bytes], Awaitable[object] | object], progress: OnProgress
) -> DriverOperation[int]:
    """Write the store and all its events; returns how many events there are."""
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
        pages = ExtentPages(keys, extent, store.settings.page_size)
        while page := (yield from pages.next()):
            yield from invoke(write, b"".join(dump(event).encode() + b"\n" for event, _ in page))
            count += len(page)
            progress(Progress(count, total))
        yield from check_not_trimmed_since(keys, extent)
    return count


def _export_rest(
    store: StoreContext, extent: Extent, write: Callable[[bytes], Awaitable[object] | object]
) -> DriverOperation[None]:
    """Write what a partition has beside its events."""
    keys, partition = store.info.keys[extent.partition], extent.partition
    bookmarks = list(extent.bookmarks.items())
    for at in range(0, len(bookmarks), A_PORTION):
        some = {"partition": partition, "bookmarks": dict(bookmarks[at : at + A_PORTION])}
        yield from invoke(write, dump_place(BOOKMARKS, some))
    streams = TrimmedStreams(keys, extent)
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
