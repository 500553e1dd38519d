"""Copying a store into an empty one, which may have other partitions, another format or another server.

Where the target has as many partitions, and each stream is in the same one, positions are kept. Otherwise each stream
goes to the partition that the target has it in, and positions are new: the partitions of the source are merged. In each
step the event comes next that was recorded first among the next ones of all partitions; of equal times, the one of the
lowest partition. So every stream keeps its order. Numbers, ids and times are always kept.

Of a trimmed source with new positions, a partition of the target has as many trimmed events before its first one as its
streams have lost.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..effects import DriverOperation, StoreOperation, invoke
from ..errors import InvalidInput
from ..format.events import RecordedEvent
from ..log.extent import (
    Extent,
    ExtentPages,
    StreamNames,
    Trimmed,
    TrimmedIds,
    TrimmedRecent,
    TrimmedStreams,
    check_not_trimmed_since,
    read_extent,
)
from ..log.info import StoreInfo
from ..log.page_size import PAGE_BYTES
from ..log.reading import last_position
from ..log.restoring import A_RUN, Placed, Restoring, check_empty
from ..settings import MAX_APPEND_BYTES
from .face import OnProgress, Progress, StoreContext, for_either_store, ignore, other_store, run_on
from .stream_digests import Digests, StreamDigest, stream_digests
from .verify import Finding, verify

if TYPE_CHECKING:
    from .face import AsyncStore, SyncStore


@dataclass(frozen=True, slots=True)
class CopyResult:
    """What a copy did, and whether the target holds what the source held."""

    #: Events that were copied by this call, and events that an earlier one had copied.
    copied: int
    known: int
    positions_kept: bool
    #: The digests of the target's streams, and the names of streams that are other ones in the source.
    streams: tuple[StreamDigest, ...]
    differing: tuple[str, ...]
    #: What is wrong with the target.
    findings: tuple[Finding, ...]
    #: Events that were appended to the source since the copy began. They are not in the target.
    missed: int
    #: Bookmarks that were not copied: with new positions nobody knows which partition should have them.
    bookmarks_left: int

    @property
    def good(self) -> bool:
        """Whether the target holds all events of the source, and nothing is wrong with it."""
        return not (self.differing or self.findings or self.missed)


@for_either_store
def copy_store(
    store: StoreContext, target: SyncStore | AsyncStore, *, progress: OnProgress = ignore
) -> DriverOperation[CopyResult]:
    """Copy all events of a store into ``target``, an empty store of the same kind, while nobody writes to either.

    Positions are kept where both have as many partitions and place their streams alike, else they are new; numbers, ids
    and times are kept always. Bookmarks are copied where positions are kept; views, parked events and snapshots are
    not. A copy that was interrupted goes on if it is repeated. At the end the target is verified, the digests of all
    streams are compared, and events that were appended to the source meanwhile are counted.

    ``progress`` is told how many events were copied. Raises InvalidInput for a target that holds anything else,
    LogTrimmed if the source is trimmed meanwhile, other DataError for a damaged source, and StoreTrouble.
    """
    there = yield from other_store(target)
    if there.info.epoch == store.info.epoch:
        raise InvalidInput("source and target are the same store", hint="Give the target another name.")
    extents = list[Extent]()
    for keys in store.info.keys:
        extents.append((yield from read_extent(keys)))
    kept = yield from _may_keep_positions(store.info, there.info)
    copy = _Copy(store, there, target, extents, kept, progress)
    yield from copy.begin()
    yield from copy.copy_events()
    yield from copy.end()
    missed = 0
    for keys, extent in zip(store.info.keys, extents, strict=True):
        missed += (yield from last_position(keys)) - extent.last
    ours, theirs = copy.digests.result(), (yield from invoke(stream_digests, target))
    return CopyResult(
        copy.copied,
        copy.known,
        kept,
        tuple(theirs),
        tuple(sorted({one.stream for one in {*ours} ^ {*theirs}})),
        (yield from invoke(verify, target)).findings,
        missed,
        0 if kept else sum(len(extent.bookmarks) for extent in extents),
    )


def _may_keep_positions(source: StoreInfo, target: StoreInfo) -> StoreOperation[bool]:
    """Whether every stream is in the same partition of both stores."""
    if source.partitions != target.partitions:
        return False
    if source.partitions == 1 or source.keys[0].format == target.keys[0].format:
        return True
    for keys in source.keys:  # the formats place streams with braces differently
        names = StreamNames(keys, "*[{]*")
        while (found := (yield from names.next())) is not None:
            if any(target.of_stream(name).partition != keys.partition for name in found):
                return False
    return True


@dataclass(slots=True)
class _Part:
    """A partition of the target: its restore, the events for its next run, and the last position given so far."""

    restoring: Restoring
    position: int = 0
    batch: list[Placed] = field(default_factory=list)
    size: int = 0


class _Copy:
    """One copy: `begin`, `copy_events`, `end`."""

    def __init__(
        self,
        source: StoreContext,
        there: StoreContext,
        target: SyncStore | AsyncStore,
        extents: list[Extent],
        kept: bool,
        progress: OnProgress,
    ) -> None:
        self._source = source
        self._there = there
        self._target = target
        self._extents = extents
        self._kept = kept
        self._progress = progress
        self._total = sum(extent.events for extent in extents)
        about = [source.info.epoch, [(each.floor, each.last) for each in extents], there.info.partitions, kept]
        self._id = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]
        self._parts = [_Part(Restoring(there.info, keys, self._id)) for keys in there.info.keys]
        self.digests = Digests()
        #: The bytes of all events that wait for their next run.
        self._held = 0
        self.copied = 0
        self.known = 0

    def begin(self) -> DriverOperation[None]:
        """Prepare the partitions of the target."""
        yield from run_on(self._target, check_empty(self._there.info, self._id))
        resting: list[tuple[int, Trimmed]] = []
        if self._kept:
            floors = [extent.floor for extent in self._extents]
        else:
            floors, resting = yield from self._lost()
        for part, floor in zip(self._parts, floors, strict=True):
            part.position = floor
            yield from run_on(self._target, part.restoring.begin(floor))
        for partition, stream in resting:
            yield from self._put(partition, self._parts[partition].restoring.put_trimmed_streams([stream]))
        if self._kept:
            for extent in self._extents:
                yield from self._copy_rest(extent)

    def _lost(self) -> StoreOperation[tuple[list[int], list[tuple[int, Trimmed]]]]:
        """The floors of the target's partitions, and the streams of which nothing is left, with their partitions."""
        lost: list[Trimmed] = []
        for keys, extent in zip(self._source.info.keys, self._extents, strict=True):
            streams = TrimmedStreams(keys, extent)
            while (found := (yield from streams.next())) is not None:
                lost += found
        floors, resting = [0] * len(self._parts), list[tuple[int, Trimmed]]()
        for stream in sorted({each.stream: each for each in lost}.values(), key=lambda each: each.stream):
            partition = self._there.info.of_stream(stream.stream).partition
            floors[partition] += stream.number
            if stream.position is not None:
                resting.append((partition, Trimmed(stream.stream, stream.number, floors[partition])))
        return floors, resting

    def _copy_rest(self, extent: Extent) -> DriverOperation[None]:
        """Copy what a partition has beside its events."""
        keys, restoring = self._source.info.keys[extent.partition], self._parts[extent.partition].restoring
        yield from self._put(extent.partition, restoring.put_bookmarks(extent.bookmarks))
        streams = TrimmedStreams(keys, extent)
        while (found := (yield from streams.next())) is not None:
            gone = [each for each in found if each.position is not None]
            yield from self._put(extent.partition, restoring.put_trimmed_streams(gone))
        ids = TrimmedIds(self._source.info, keys, extent.floor)
        upto = yield from ids.upto()
        while (pairs := (yield from ids.next())) is not None:
            yield from self._put(extent.partition, restoring.put_trimmed_ids(upto, pairs))
        recent = TrimmedRecent(keys, extent.floor)
        while (places := (yield from recent.next())) is not None:
            yield from self._put(extent.partition, restoring.put_trimmed_recent(places))

    def _put(self, partition: int, step: StoreOperation[None]) -> DriverOperation[None]:
        if not self._parts[partition].restoring.done:
            yield from run_on(self._target, step)

    def copy_events(self) -> DriverOperation[None]:
        """Copy the events, in their order."""
        count, size = self._source.settings.page_size, PAGE_BYTES // (1 if self._kept else len(self._extents))
        heads = [
            _Head(ExtentPages(keys, extent, count, size))
            for keys, extent in zip(self._source.info.keys, self._extents, strict=True)
        ]
        for part in [[head] for head in heads] if self._kept else [heads]:
            yield from self._merge(part)
        for partition in range(len(self._parts)):
            yield from self._flush(partition)
        for keys, extent in zip(self._source.info.keys, self._extents, strict=True):
            yield from check_not_trimmed_since(keys, extent)

    def _merge(self, heads: list[_Head]) -> DriverOperation[None]:
        for head in heads:
            yield from head.fill()
        while heads := [head for head in heads if head.events]:
            head = min(heads, key=lambda each: each.events[0][0].recorded_us)
            yield from self._take(*head.events.popleft())
            yield from head.fill()

    def _take(self, event: RecordedEvent, envelope: bytes) -> DriverOperation[None]:
        self.digests.add(event.stream, event.number, envelope)
        partition = self._there.info.of_stream(event.stream).partition
        part = self._parts[partition]
        part.position += 1
        if part.position <= part.restoring.position:
            self.known += 1
            return
        if len(part.batch) == A_RUN:
            yield from self._flush(partition)
        if self._held + len(envelope) > MAX_APPEND_BYTES:
            for each in range(len(self._parts)):
                yield from self._flush(each)
        part.batch.append(Placed(part.position, event.number, event.stream, envelope))
        part.size += len(envelope)
        self._held += len(envelope)

    def _flush(self, partition: int) -> DriverOperation[None]:
        part = self._parts[partition]
        batch, part.batch = part.batch, []
        self._held, part.size = self._held - part.size, 0
        if batch:
            yield from run_on(self._target, part.restoring.put_events(batch))
            self.copied += len(batch)
            self._progress(Progress(self.copied + self.known, self._total))

    def end(self) -> DriverOperation[None]:
        """End the restore of each partition: the target is as any other store then."""
        for part in self._parts:
            if not part.restoring.done:
                yield from run_on(self._target, part.restoring.end(part.position, self._there.durability))


@dataclass(slots=True)
class _Head:
    """The next events of a partition of the source."""

    pages: ExtentPages
    events: deque[tuple[RecordedEvent, bytes]] = field(default_factory=deque)

    def fill(self) -> StoreOperation[None]:
        """Read the next page if there are no events left; afterwards there are none only at the end."""
        if not self.events:
            self.events.extend((yield from self.pages.next()))
