"""Digests of streams: they tell whether two stores hold the same events, wherever these lie."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

from ..effects import DriverOperation
from ..log.extent import Extent, ExtentPages, read_extent
from .face import OnProgress, Progress, StoreContext, for_either_store, ignore

#: The bytes of a digest.
DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class StreamDigest:
    """The events of a stream that were not trimmed: how many, the number of the last one, and their digest."""

    stream: str
    events: int
    version: int
    #: In hexadecimal digits. It follows from numbers and envelopes, so from ids, types, times, data and metadata.
    digest: str


class Digests:
    """Takes events in the order of their streams; `result` gives the digests."""

    def __init__(self) -> None:
        self._streams: dict[str, tuple[int, int, bytes]] = {}

    def add(self, stream: str, number: int, envelope: bytes) -> None:
        """Take the next event of a stream."""
        events, _, before = self._streams.get(stream, (0, 0, b""))
        digest = blake2b(before + number.to_bytes(8, "big") + envelope, digest_size=DIGEST_BYTES).digest()
        self._streams[stream] = events + 1, number, digest

    def result(self) -> list[StreamDigest]:
        """The digest of each stream, by name."""
        return [
            StreamDigest(stream, events, version, digest.hex())
            for stream, (events, version, digest) in sorted(self._streams.items())
        ]


@for_either_store
def stream_digests(store: StoreContext, *, progress: OnProgress = ignore) -> DriverOperation[list[StreamDigest]]:
    """The digest of each stream that has events, by name, over all partitions.

    Equal digests mean the same events with the same numbers, in whatever partition or position. Events that are
    appended meanwhile are not in it. ``progress`` is told how many events were read. Takes about 300 bytes of memory a
    stream. Raises DataError for a damaged log, and StoreTrouble.
    """
    extents = list[Extent]()
    for keys in store.info.keys:
        extents.append((yield from read_extent(keys)))
    digests, total, done = Digests(), sum(extent.events for extent in extents), 0
    for keys, extent in zip(store.info.keys, extents, strict=True):
        pages = ExtentPages(keys, extent, store.settings.page_size)
        while page := (yield from pages.next()):
            for event, envelope in page:
                digests.add(event.stream, event.number, envelope)
            done += len(page)
            progress(Progress(done, total))
    return digests.result()


def whole_digest(streams: Iterable[StreamDigest]) -> str:
    """One digest of all streams."""
    whole = blake2b(digest_size=DIGEST_BYTES)
    for one in streams:
        whole.update(f"{one.stream}\n{one.events}\n{one.digest}\n".encode())
    return whole.hexdigest()
