"""Importing events from JSON lines, so that every event is in the log once, however often it is done.

An event without an id is given one that follows from its content and its place among the file's lines of the same
stream, so the same file makes the same ids. Streams that are in the store already are looked through once, and what
is there is passed over; what is new is appended with the version that was seen, so another writer is noticed.

Events are appended in portions in which the events of a stream stand side by side, and so are one append, all or
nothing. A stream that comes again after another one begins the next portion, which is sent when this one is answered:
were both under way, another writer's events could take the places of the first append and make the second one fit.
So the log has the order of the file, and each stream has it even while others write to it.
"""

from __future__ import annotations

import zlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from uuid import UUID, uuid5

from ..errors import EventIdReused, InvalidInput, LogTrimmed, RunnerError, WrongExpectedVersion
from ..format.events import NewEvent, pack_event
from ..format.json_lines import Line, parse
from ..log.append_plan import Append
from ..log.reading import versions
from ..settings import MAX_APPEND_BYTES
from ..sync.store import EventStore
from ..wire.clock import now_in_microseconds

#: Lines that are looked up together.
BATCH = 1000

#: How often in a row a portion is tried again because another writer appended to one of its streams.
TRIES = 20

_NAMESPACE = UUID("7b2ad0a4-3c5e-5c1b-9d54-2f0c6c1f6f0a")


@dataclass(slots=True)
class ImportResult:
    """What an import did: lines read, events appended, events that were there already, and lines that were skipped."""

    lines: int = 0
    appended: int = 0
    known: int = 0
    bad: list[tuple[int, str]] = field(default_factory=list)


@dataclass(slots=True)
class _Stream:
    """What an import knows about a stream of its file."""

    #: Lines of the file so far, and their ids.
    lines: int = 0
    taken: set[bytes] = field(default_factory=set)
    #: The version that was seen last, and the ids of other writers' events up to it.
    version: int = 0
    stored: set[bytes] = field(default_factory=set)
    #: Whether to look again before the next append.
    stale: bool = True


@dataclass(frozen=True, slots=True)
class _Entry:
    """An event to append: the number of its line, and its size when it is packed."""

    number: int
    stream: str
    event: NewEvent
    size: int


class Importer:
    """Takes lines and appends their events in batches; `finish` appends the last one."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._batch: deque[_Entry] = deque()
        self._size = 0
        self._streams: defaultdict[str, _Stream] = defaultdict(_Stream)
        self.result = ImportResult()

    def prepare(self, number: int, line: Line) -> _Entry:
        """The event of a line. Raises PayloadError if it cannot be stored."""
        stream = self._streams[line.stream]
        stream.lines += 1
        event_id = line.id or uuid5(_NAMESPACE, f"{line.stream}\n{stream.lines}\n{line.content.decode()}")
        event = line.event(event_id)
        size = len(pack_event(line.stream, event, now_in_microseconds()))
        return _Entry(number, line.stream, event, size)

    def take(self, entry: _Entry) -> None:
        """Take an event in. Raises what `finish` raises."""
        taken = self._streams[entry.stream].taken
        if entry.event.id.bytes in taken:
            self.result.known += 1
            return
        if len(self._batch) >= BATCH or self._size + entry.size > MAX_APPEND_BYTES:
            self.finish()
        taken.add(entry.event.id.bytes)
        self._batch.append(entry)
        self._size += entry.size

    def finish(self) -> None:
        """Append what was taken. Raises what appending raises; everything before it is in the log."""
        batch, self._batch, self._size = self._batch, deque(), 0
        self._look_up({entry.stream for entry in batch})
        tries = 0
        while batch:
            refused = self._append(self._portion(batch))
            self._look_up({entry.stream for entry in refused})
            batch.extendleft(reversed(refused))
            tries = tries + 1 if refused else 0
            if tries == TRIES:
                raise InvalidInput(
                    f"line {batch[0].number}: stream {batch[0].stream!r} is written to all the time",
                    hint="Import it when it is at rest.",
                )

    def _look_up(self, names: set[str]) -> None:
        """Learn the versions of streams that are stale, and the ids that were not seen in them yet."""
        stale = sorted(name for name in names if self._streams[name].stale)
        if not stale:
            return
        for name, version in zip(stale, self._store.run(versions(self._store.info, stale)), strict=True):
            stream = self._streams[name]
            if version > stream.version:
                stream.stored.update(self._ids(name, stream.version, version))
            stream.version, stream.stale = version, False

    def _ids(self, stream: str, after: int, to: int) -> set[bytes]:
        """The ids that are in a stream. What was trimmed cannot be recognised, and must not be appended again."""
        try:
            return {event._id for event in self._store.read_stream(stream, after, to)}
        except LogTrimmed as trimmed:
            raise InvalidInput(
                f"stream {stream!r} has events that were trimmed, so nobody knows which lines are in it already",
                hint="Import into a new store, or lines of other streams.",
            ) from trimmed

    def _portion(self, batch: deque[_Entry]) -> dict[str, list[_Entry]]:
        """Take from a batch what can be under way together: the new events of each stream stand side by side."""
        portion: dict[str, list[_Entry]] = {}
        last = ""
        while batch:
            name = batch[0].stream
            if batch[0].event.id.bytes in self._streams[name].stored:
                self.result.known += 1
                batch.popleft()
                continue
            if name != last and name in portion:
                break
            portion.setdefault(name, []).append(batch.popleft())
            last = name
        return portion

    def _append(self, portion: dict[str, list[_Entry]]) -> list[_Entry]:
        """Append a portion; returns the events whose stream was changed by another writer meanwhile."""
        appends: list[Append] = [
            (name, [entry.event for entry in entries], self._streams[name].version) for name, entries in portion.items()
        ]
        refused: list[_Entry] = []
        for (name, entries), outcome in zip(portion.items(), self._store.append_each(appends), strict=True):
            stream = self._streams[name]
            if isinstance(outcome, (WrongExpectedVersion, EventIdReused)):  # no id was there at the version seen
                stream.stale = True
                refused += entries
            elif isinstance(outcome, RunnerError):
                raise outcome
            else:
                stream.version = outcome.version
                self.result.appended += len(entries)
        return refused


def import_lines(
    store: EventStore,
    lines: Iterable[bytes],
    *,
    skip_bad: bool = False,
    progress: Callable[[ImportResult], None] = lambda result: None,
) -> ImportResult:
    """Import JSON lines. A bad line raises InvalidInput with its number, after everything before it was appended."""
    importer = Importer(store)
    result = importer.result
    number = 0
    try:
        for number, text in enumerate(lines, 1):
            if not text.strip():
                continue
            result.lines += 1
            try:
                entry = importer.prepare(number, parse(text))
            except InvalidInput as fault:
                if not skip_bad:
                    importer.finish()
                    raise InvalidInput(
                        f"line {number}: {fault}", hint="--skip-bad goes on without such lines."
                    ) from None
                result.bad.append((number, str(fault)))
            else:
                importer.take(entry)
            if result.lines % BATCH == 0:
                progress(result)
    except (EOFError, OSError, zlib.error) as fault:
        importer.finish()
        raise InvalidInput(f"the input ends in the middle after line {number}: {fault}") from None
    importer.finish()
    progress(result)
    return result
