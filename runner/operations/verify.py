"""Verifying a store: walks log, indexes, checkpoints and views, and finds everything that is wrong. Only reads."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TypeVar

from ..effects import DriverOperation, Execute, StoreOperation
from ..errors import NOT_ALLOWED, DataError, RecordDamaged, StoreRefused
from ..format import fields
from ..format.events import RecordedEvent, decode_entry, entry_id, is_intact
from ..format.keys import PartitionKeys
from ..log.page_size import PageSize
from ..log.reading import largest_of, last_position
from ..progress.builds import read_builds
from ..progress.checkpoint import Checkpoint, compare_with_log
from ..progress.status import projection_names
from .face import OnProgress, StoreContext, counting_from, for_either_store, ignore
from .verify_ids import WalkedIds, check_ids, complete_upto
from .verify_recent import RecentIds
from .verify_records import verify_records
from .verify_views import verify_view

T = TypeVar("T")

#: How many entries of the log or of an index are read at a time, and how many keys are scanned at a time.
ENTRIES_A_PAGE, KEYS_A_PAGE = 1000, 1000

#: The type of the keys of the log and of the indexes.
STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    partition: int
    #: A key and the ID of an entry of it, or a projection and its build, or a checkpoint.
    where: str
    what: str
    #: It is in a build that is kept only for a rollback, which refuses the build. Nothing else is harmed.
    only_kept: bool = False


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What a walk through a store found."""

    #: Events that were checked, over all partitions.
    events: int
    #: What is wrong, partition by partition: log, then indexes, then checkpoints and views.
    findings: tuple[Finding, ...]
    #: What could not be looked at, because the user may not, as sentences.
    unseen: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong, but perhaps in builds that are kept only for a rollback."""
        return all(finding.only_kept for finding in self.findings)


@for_either_store
def verify(
    store: StoreContext, *, found: Callable[[Finding], object] = ignore, progress: OnProgress = ignore
) -> DriverOperation[VerifyResult]:
    """Check positions, numbers, ids, indexes, checksums, checkpoints and views of all partitions against each other.

    That includes the index of event ids, where there is one.

    ``found`` is told each finding at once, ``progress`` how many events have been walked. Appends and trims may go on
    meanwhile. Reads only; takes about 130 bytes of memory an event of the largest partition. Raises StoreTrouble.
    """
    total = 0
    for keys in store.info.keys:
        if (yield from _kind_of(keys.log)) == STREAM:
            total += yield from last_position(keys)
    events, findings, unseen = 0, list[Finding](), set[str]()

    def note(finding: Finding) -> None:
        findings.append(finding)
        found(finding)

    for keys in store.info.keys:
        inspection = Inspection(keys, note, counting_from(events, total, progress))
        yield from inspection.run()
        events += inspection.events
        unseen |= inspection.unseen
    return VerifyResult(events, tuple(findings), tuple(sorted(unseen)))


@dataclass(slots=True)
class _Stream:
    """The positions that the events of a stream have in the log."""

    #: The number of the first event, and the positions of this number and the next ones, as long as none is missing.
    first: int
    positions: array[int] = field(default_factory=lambda: array("Q"))
    #: The positions of all other numbers: only a damaged stream has them.
    odd: dict[int, int] = field(default_factory=dict)
    #: The number of the last event.
    last: int = 0

    def add(self, number: int, position: int) -> None:
        if number == self.first + len(self.positions):
            self.positions.append(position)
        else:
            self.odd[number] = position
        self.last = number

    def at(self, number: int) -> set[int]:
        """The positions of the events with a number."""
        found = {self.odd[number]} if number in self.odd else set()
        if 0 <= number - self.first < len(self.positions):
            found.add(self.positions[number - self.first])
        return found


class Inspection:
    """The inspection of one partition. Memory: about 130 bytes an event, for the ids and the indexes.

    ``found`` is told each finding at once; ``walked`` is told how many events have been walked.
    """

    def __init__(
        self,
        keys: PartitionKeys,
        found: Callable[[Finding], object],
        walked: Callable[[int], object] = ignore,
        *,
        entries_a_page: int = ENTRIES_A_PAGE,
    ) -> None:
        self._keys = keys
        self._found = found
        self._walked = walked
        self._page_size = entries_a_page
        self._size = PageSize(entries_a_page)
        self._streams: dict[str, _Stream] = {}
        self._ids: set[bytes] = set()
        self._log_ids = WalkedIds()
        self._recent = RecentIds(keys, self._tell)
        self._indexed = False
        self._floor = 0
        self._floor_told = False
        self._end = 0
        self.events = 0
        #: What could not be looked at, because the user may not.
        self.unseen: set[str] = set()

    def run(self) -> StoreOperation[None]:
        """Walk log, indexes, checkpoints and views. Raises StoreTrouble."""
        if not (yield from self._is_stream(self._keys.log)):
            return
        yield from self._look_at_floor()
        [restoring] = yield Execute([("HGET", self._keys.meta, "restoring")])
        if restoring:
            self._tell(self._keys.meta, "events are put in from elsewhere, and that has not ended")
        upto = (
            yield from _or_none(complete_upto(self._keys))
        ) or 0  # before the log, so that the log has all events up to there
        self._indexed = upto > 0
        yield from self._recent.read()
        yield from self._walk_log()
        self._recent.tell_left((yield from self._look_at_floor()))
        yield from self._walk_indexes()
        if 0 < upto <= max(self._end, self._floor):  # an index beyond the log is made again
            yield from check_ids(self._keys, self._log_ids, upto, self._look_at_floor, self._was_appended, self._tell)
        yield from self._check_checkpoints()

    # -- the log --------------------------------------------------------------------------------

    def _walk_log(self) -> StoreOperation[None]:
        after, expected = "-", self._floor + 1
        while True:
            [entries] = yield Execute([("XRANGE", self._keys.log, after, "+", "COUNT", self._size.count)])
            if not entries:
                return
            self._size.saw(largest_of(entries))
            for entry in entries:
                position, number = map(int, entry[0].split(b"-"))
                where = f"{self._keys.log} {entry[0].decode()}"
                if position > expected and (yield from self._look_at_floor()) >= expected:
                    self._streams.clear()  # all events walked so far were trimmed meanwhile, and some more
                    expected = self._floor + 1
                if position > expected:
                    self._tell(where, f"{_missing('position', expected, position)} missing before it")
                elif position < expected:
                    self._tell(where, f"position {position} is there twice")
                if self._indexed:
                    self._log_ids.add(position, number, entry_id(entry))
                expected = max(expected, position + 1)
                self._end = max(self._end, position)
                try:
                    event = decode_entry(entry, self._keys.partition)
                except DataError as damage:
                    self._tell(where, str(damage))
                    self._recent.walked(position, number, entry_id(entry), None)
                    continue
                self._recent.walked(position, number, event._id, event.stream)
                if not is_intact(entry[1][1]):
                    what = f"event {event.number} of stream {event.stream!r} is not what was written"
                    self._tell(where, what)
                self._check_event(event, where)
            self.events += len(entries)
            self._walked(self.events)
            after = "(" + entries[-1][0].decode()

    def _check_event(self, event: RecordedEvent, where: str) -> None:
        stream = self._streams.get(event.stream)
        if stream is None:
            stream = self._streams[event.stream] = _Stream(event.number)
            if event.number != 1 and self._floor == 0:
                self._tell(where, f"stream {event.stream!r} begins with number {event.number}, not 1")
        elif event.number != stream.last + 1:
            due = stream.last + 1
            self._tell(where, f"number {event.number} of stream {event.stream!r} where {due} was due")
        stream.add(event.number, event.position)
        identity = blake2b(event._id + event.stream.encode(), digest_size=16).digest()
        if identity in self._ids:
            self._tell(where, f"id {event.id} is in stream {event.stream!r} twice")
        self._ids.add(identity)
        try:
            _ = event.data, event.metadata
        except DataError as damage:
            self._tell(where, str(damage))

    # -- the indexes ----------------------------------------------------------------------------

    def _walk_indexes(self) -> StoreOperation[None]:
        try:
            seen = yield from self._scan_indexes()
        except StoreRefused as refused:
            if refused.code not in NOT_ALLOWED:
                raise
            self.unseen.add("SCAN is not allowed, so indexes of streams that have no event in the log were not sought")
            seen = yield from self._look_at_known_indexes()
        for name in self._streams.keys() - seen:
            self._tell(self._keys.stream(name), f"stream {name!r} has events in the log but no index")

    def _scan_indexes(self) -> StoreOperation[set[str]]:
        """Check every index that is there; returns the names of their streams."""
        pattern = self._keys.stream("*").replace("{", "[{]").replace("}", "[}]")
        prefix = len(self._keys.stream("").encode())
        cursor, seen = 0, set[str]()
        while True:
            [(following, found)] = yield Execute([("SCAN", cursor, "MATCH", pattern, "COUNT", KEYS_A_PAGE)])
            names = [key[prefix:].decode(errors="replace") for key in found]
            for name in names:
                if name not in seen:
                    seen.add(name)
                    yield from self._check_index(name)
            cursor = int(following)
            if cursor == 0:
                return seen

    def _look_at_known_indexes(self) -> StoreOperation[set[str]]:
        """The same for the streams that have events in the log."""
        seen = set[str]()
        for name in self._streams:
            if (yield from _kind_of(self._keys.stream(name))) != "none":
                seen.add(name)
                yield from self._check_index(name)
        return seen

    def _check_index(self, name: str) -> StoreOperation[None]:
        key = self._keys.stream(name)
        if not (yield from self._is_stream(key)):
            return
        stream = self._streams.get(name)
        due = 1 if self._floor == 0 else None if stream is None else stream.first
        after, number = "-", 0
        while True:
            [entries] = yield Execute([("XRANGE", key, after, "+", "COUNT", self._page_size)])
            if not entries:
                break
            for entry in entries:
                number, position = map(int, entry[0].split(b"-"))
                if position <= self._floor:
                    due = number + 1
                    continue
                where = f"{key} {entry[0].decode()}"
                if due is not None and number > due and (yield from self._is_trimmed(stream, number - 1)):
                    due = number
                if due is None:
                    pass  # the log has no event of the stream: this entry is newer than the walk, or points to nothing
                elif number > due:
                    self._tell(where, f"{_missing('number', due, number)} missing before it")
                elif number < due:
                    self._tell(where, f"number {number} is there twice")
                due = number + 1
                yield from self._check_target(stream, number, position, where)
            after = "(" + entries[-1][0].decode()
        if stream is None or number >= stream.last:
            return
        if not (yield from self._is_trimmed(stream, stream.last)):
            self._tell(key, f"ends at number {number}; the log has stream {name!r} up to {stream.last}")

    def _check_target(self, stream: _Stream | None, number: int, position: int, where: str) -> StoreOperation[None]:
        there = set() if stream is None else stream.at(number)
        if position in there or (position > self._end and (yield from self._is_in_log(number, position))):
            return
        if position <= (yield from self._look_at_floor()):
            return
        place = f"at position {', '.join(map(str, sorted(there)))}" if there else "nowhere"
        self._tell(where, f"points to position {position}; the log has event {number} {place}")

    def _was_appended(self, number: int, position: int) -> StoreOperation[bool]:
        """Whether an event was appended after the log was walked."""
        return position > self._end and (yield from self._is_in_log(number, position))

    def _is_in_log(self, number: int, position: int) -> StoreOperation[bool]:
        """Whether the log holds an event that may have been appended since the log was walked."""
        entry_id = f"{position}-{number}"
        [entries] = yield Execute([("XRANGE", self._keys.log, entry_id, entry_id)])
        return bool(entries)

    def _is_stream(self, key: str) -> StoreOperation[bool]:
        """Whether a key holds a stream or nothing; if it holds something else, that is a finding."""
        kind = yield from _kind_of(key)
        if kind not in (STREAM, "none"):
            self._tell(key, f"is a {kind}, not a stream")
        return kind in (STREAM, "none")

    # -- trimming, which may go on meanwhile --------------------------------------------------------

    def _look_at_floor(self) -> StoreOperation[int]:
        [floor] = yield Execute([("HGET", self._keys.meta, "floor")])
        try:
            self._floor = fields.number(self._keys.meta, "floor", floor)
        except RecordDamaged as damage:
            if not self._floor_told:
                self._tell(self._keys.meta, str(damage))
            self._floor_told = True
        return self._floor

    def _is_trimmed(self, stream: _Stream | None, number: int) -> StoreOperation[bool]:
        """Whether event ``number``, and so every one before it, was trimmed since the log was walked."""
        if stream is None or (yield from self._look_at_floor()) == 0:
            return False
        there = stream.at(min(number, stream.last))
        return max(there) <= self._floor if there else number < stream.first

    # -- checkpoints and bookmarks --------------------------------------------------------------

    def _check_checkpoints(self) -> StoreOperation[None]:
        yield from verify_records(self._keys, self._tell)
        for name in (yield from _or_none(projection_names(self._keys))) or []:
            builds = yield from _or_none(read_builds(self._keys, name))
            for build in builds.all if builds is not None else []:
                tell = self._tell_kept if build == (builds and builds.previous) else self._tell
                try:
                    yield from check_checkpoint(self._keys, name, build, build == (builds and builds.candidate))
                    yield from verify_view(self._keys, name, build, tell)
                except RecordDamaged:
                    continue  # told above
                except DataError as diverged:
                    tell(f"projection {name}, build {build}", str(diverged))
                    yield from verify_view(self._keys, name, build, tell)

    def _tell(self, where: str, what: str) -> None:
        self._found(Finding(self._keys.partition, where, what))

    def _tell_kept(self, where: str, what: str) -> None:
        what = f"{what}; this build is kept only for a rollback"
        self._found(Finding(self._keys.partition, where, what, only_kept=True))


def _kind_of(key: str) -> StoreOperation[str]:
    """The type of a key, as Redis names it."""
    [kind] = yield Execute([("TYPE", key)])
    return kind.decode()  # type: ignore[no-any-return]


def _missing(what: str, due: int, found: int) -> str:
    return f"{what} {due}" if found == due + 1 else f"{what}s {due} to {found - 1}"


def _or_none(operation: StoreOperation[T]) -> StoreOperation[T | None]:
    """What an operation reads; None where a record is damaged, which `verify_records` tells."""
    try:
        return (yield from operation)
    except RecordDamaged:
        return None


def check_checkpoint(keys: PartitionKeys, name: str, build: str, candidate: bool = False) -> StoreOperation[None]:
    """Check that the log holds the event of a build's checkpoint. Raises DataError."""
    key = keys.build(name, build)
    [[stored, event_id]] = yield Execute([("HMGET", key, "position", "id")])  # in one look: commits may go on meanwhile
    found = Checkpoint(fields.number(key, "position", stored), event_id or b"")
    yield from compare_with_log(keys, name, found, build if candidate else None)
