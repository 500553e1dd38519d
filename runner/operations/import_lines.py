"""Importing events from JSON lines, so that every event is in the log once, however often the import is repeated.

An event without an id gets one that follows from its content and its place among the file's lines of the same stream,
so the same file gives the same ids. The ids of a stream that is in the store already are read once, and events with
these ids are passed over. New events are appended with the version that was read, so another writer is noticed.

Events are appended in portions. In a portion the events of a stream are next to each other, and are one append, all or
nothing. A line of a stream that the portion has already, after lines of another stream, begins the next portion. The
next portion is sent when this one is answered. If both were under way, another writer's events could take the places of
the first append, and the second append would fit. So the log has the order of the file, and each stream keeps that
order even while others write to the stream.
"""

from __future__ import annotations

import zlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from uuid import UUID, uuid5

from ..effects import DriverOperation, Invoke, StoreOperation
from ..errors import EventIdReused, InvalidInput, LogTrimmed, RunnerError, WrongExpectedVersion
from ..format.events import NewEvent, pack_event
from ..format.json_lines import Line, parse
from ..format.place_lines import is_place_line
from ..log.append_plan import ANY, Append
from ..log.appending import append_each
from ..log.durability import acknowledgement
from ..log.reading import StreamPages, StreamRange, versions
from ..settings import MAX_APPEND_BYTES
from .face import OnProgress, Progress, StoreContext, for_either_store, ignore
from .import_placed import PlacedImporter
from .import_result import BadLine, ImportResult

#: Lines that are read at a time, and events that are looked up together.
LINES_A_READ, EVENTS_A_BATCH = 1000, 1000

#: The bytes of the longest line, with its end. An event has 1 MiB, and no value takes ten times as much room in JSON.
LONGEST_LINE = 16 * 1024 * 1024

#: How often in a row a portion is tried again because another writer appended to one of its streams.
TRIES = 20

_NAMESPACE = UUID("7b2ad0a4-3c5e-5c1b-9d54-2f0c6c1f6f0a")


@for_either_store
def import_lines(
    store: StoreContext,
    lines: Iterable[bytes],
    *,
    skip_bad: bool = False,
    keep_positions: bool = False,
    after_line: int = 0,
    progress: OnProgress = ignore,
) -> DriverOperation[ImportResult]:
    """Import JSON lines, as `export_lines` writes them. Repeating an import adds nothing.

    ``lines`` may be a binary file; an asynchronous store reads them in a thread. A bad line raises InvalidInput with
    its number, after all lines before it are appended; with ``skip_bad`` it is noted in the result instead. Events that
    an earlier import appended are confirmed at the store's durability level, as new ones are.

    ``keep_positions``: put an export with positions into an empty store of as many partitions, every event in its
    place. Nothing can be appended to the store before the import ends; one that was interrupted goes on if it is
    repeated. A bad line ends it.

    ``after_line``: the lines up to this one were imported before, and are only counted. ``progress`` is told up to
    which line everything is in the log. Raises what appending raises.
    """
    if isinstance(lines, (str, bytes)) or not isinstance(lines, Iterable):
        raise InvalidInput(f"lines must be a binary file or an iterable of lines, not {lines!r:.100}")
    if keep_positions and skip_bad:
        raise InvalidInput("positions cannot be kept if lines are skipped")
    if keep_positions and after_line:
        raise InvalidInput("an import that keeps positions goes on by itself: give no line to go on after")
    importer = PlacedImporter(store) if keep_positions else Importer(store, skip_bad)
    try:
        yield from _take_all(importer, lines, after_line, progress)
    except RunnerError:
        progress(Progress(importer.done))
        raise
    progress(Progress(importer.done))
    return (yield from importer.end())


def _take_all(
    importer: Importer | PlacedImporter, lines: Iterable[bytes], after_line: int, progress: OnProgress
) -> DriverOperation[None]:
    given, read, last = _bounded(lines), 0, False
    while not last:
        portion, last, damage = yield Invoke(_read, (given,))
        for number, text in enumerate(portion, read + 1):
            if number <= after_line and isinstance(importer, Importer):
                importer.pass_line(text)
            else:
                yield from importer.take_line(number, text)
        read += len(portion)
        if damage is not None:
            yield from importer.finish()
            raise InvalidInput(f"the input ends in the middle after line {read}: {damage}")
        if not last:
            progress(Progress(importer.done))
    yield from importer.finish()


def _bounded(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines. Of a file's line that is too long only the beginning, which is too long as well."""
    readline: Callable[[int], bytes] | None = getattr(lines, "readline", None)
    if readline is None:
        yield from lines
        return
    while text := readline(LONGEST_LINE + 1):
        yield text
        if len(text) > LONGEST_LINE:
            while text and not text.endswith(b"\n"):
                text = readline(LONGEST_LINE)


def _read(lines: Iterator[bytes]) -> tuple[list[bytes], bool, Exception | None]:
    """The next lines, whether they are the last, and the error that ended the reading, if there was one."""
    portion: list[bytes] = []
    size = 0
    try:
        for line in lines:
            portion.append(line)
            size += len(line)
            if len(portion) == LINES_A_READ or size > LONGEST_LINE:
                return portion, False, None
    except (EOFError, OSError, zlib.error) as error:
        return portion, True, error
    return portion, True, None


@dataclass(slots=True)
class _Stream:
    """What an import knows about a stream of its file."""

    #: Lines of the file so far, and their ids.
    lines: int = 0
    taken: set[bytes] = field(default_factory=set)
    #: The version that was seen last, and the ids of other writers' events up to it.
    version: int = 0
    stored: set[bytes] = field(default_factory=set)
    #: Whether version and ids must be read again before the next append.
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

    def __init__(self, store: StoreContext, skip_bad: bool) -> None:
        self._store = store
        self._skip_bad = skip_bad
        self._batch: deque[_Entry] = deque()
        self._size = 0
        self._streams: defaultdict[str, _Stream] = defaultdict(_Stream)
        self._appended = 0
        self._known = 0
        self._bad: list[BadLine] = []
        #: By partition, a stream that has an event which an earlier import appended, and may not have had confirmed.
        self._found: dict[int, str] = {}
        self.lines = 0
        #: The number of the line up to which everything is in the log, and of the last one that was taken in.
        self.done = 0
        self._last = 0

    def end(self) -> StoreOperation[ImportResult]:
        """What was done."""
        yield from ()
        return ImportResult(self.lines, self._appended, self._known, tuple(self._bad))

    def take_line(self, number: int, text: bytes) -> StoreOperation[None]:
        """Take line ``number`` in. Raises InvalidInput for a bad line, and what `finish` raises."""
        if len(text) <= LONGEST_LINE and (not text.strip() or is_place_line(text)):
            return
        self.lines += 1
        self._last, before = number, self._last
        try:
            if len(text) > LONGEST_LINE:
                raise InvalidInput(f"longer than {LONGEST_LINE:,} bytes, which no event needs")
            entry = self._prepare(number, parse(text))
        except InvalidInput as fault:
            if not self._skip_bad:
                self._last = before
                yield from self.finish()
                hint = "Correct the line, or go on without such lines: --skip-bad (skip_bad=True)."
                raise InvalidInput(f"line {number}: {fault}", hint=hint) from None
            self._bad.append(BadLine(number, str(fault)))
        else:
            yield from self._take(entry)

    def _prepare(self, number: int, line: Line) -> _Entry:
        """The event of a line. Raises PayloadError if it cannot be stored."""
        event = line.event(self._id_of(line))
        size = len(pack_event(line.stream, event, self._store.clock.now()))
        return _Entry(number, line.stream, event, size)

    def pass_line(self, text: bytes) -> None:
        """Take in a line that was imported before: the ids of later lines may follow from it."""
        try:
            line = parse(text)
            self._streams[line.stream].taken.add(self._id_of(line).bytes)
        except InvalidInput:
            pass  # it was skipped, or is blank

    def _id_of(self, line: Line) -> UUID:
        """The id of a line's event: its own, or one that follows from its content and its place."""
        stream = self._streams[line.stream]
        stream.lines += 1
        return line.id or uuid5(_NAMESPACE, f"{line.stream}\n{stream.lines}\n{line.content.decode()}")

    def _take(self, entry: _Entry) -> StoreOperation[None]:
        taken = self._streams[entry.stream].taken
        if entry.event.id.bytes in taken:
            self._known += 1
            return
        if len(self._batch) >= EVENTS_A_BATCH or self._size + entry.size > MAX_APPEND_BYTES:
            yield from self.finish()
        taken.add(entry.event.id.bytes)
        self._batch.append(entry)
        self._size += entry.size

    def finish(self) -> StoreOperation[None]:
        """Append the events that were taken. Raises what appending raises; all events before are in the log then."""
        batch, self._batch, self._size, last = self._batch, deque(), 0, self._last
        yield from self._look_up({entry.stream for entry in batch})
        tries = 0
        while batch:
            refused = yield from self._append(self._portion(batch))
            yield from self._look_up({entry.stream for entry in refused})
            batch.extendleft(reversed(refused))
            tries = tries + 1 if refused else 0
            if tries == TRIES:
                raise InvalidInput(
                    f"line {batch[0].number}: stream {batch[0].stream!r} is written to all the time",
                    hint="Import again when no other program writes to the stream.",
                )
        yield from self._confirm()
        self.done = last

    def _confirm(self) -> StoreOperation[None]:
        """Have the events confirmed that were in the store already: by an append without events in each partition."""
        store, found = self._store, self._found
        self._found = {}
        if not found or not acknowledgement(store.durability):
            return
        nothing: list[Append] = [(stream, [], ANY) for stream in found.values()]
        for outcome in (yield from append_each(store.info, nothing, store.clock.now(), store.durability)):
            if isinstance(outcome, RunnerError):
                raise outcome

    def _look_up(self, names: set[str]) -> StoreOperation[None]:
        """Read the versions of streams that are stale, and the ids of their events that were not read yet."""
        stale = sorted(name for name in names if self._streams[name].stale)
        if not stale:
            return
        for name, version in zip(stale, (yield from versions(self._store.info, stale)), strict=True):
            stream = self._streams[name]
            if version > stream.version:
                stream.stored |= yield from self._ids(name, stream.version, version)
            stream.version, stream.stale = version, False

    def _ids(self, stream: str, after: int, to: int) -> StoreOperation[set[bytes]]:
        """The ids of a stream's events. Raises InvalidInput if events were trimmed: these could be appended twice."""
        pages = StreamPages(StreamRange(stream, after, to), None, self._store.settings.page_size)
        found: set[bytes] = set()
        try:
            while (page := (yield from pages.next(self._store.info))) is not None:
                found.update(event._id for event in page)
            return found
        except LogTrimmed as trimmed:
            raise InvalidInput(
                f"stream {stream!r} has events that were trimmed, so it is not known which lines are in it already",
                hint="Import into a new store, or lines of other streams.",
            ) from trimmed

    def _portion(self, batch: deque[_Entry]) -> dict[str, list[_Entry]]:
        """Take the next portion from a batch: the new events of each stream are next to each other."""
        portion: dict[str, list[_Entry]] = {}
        last = ""
        while batch:
            name = batch[0].stream
            if batch[0].event.id.bytes in self._streams[name].stored:
                self._known += 1
                self._found[self._store.info.of_stream(name).partition] = name
                batch.popleft()
                continue
            if name != last and name in portion:
                break
            portion.setdefault(name, []).append(batch.popleft())
            last = name
        return portion

    def _append(self, portion: dict[str, list[_Entry]]) -> StoreOperation[list[_Entry]]:
        """Append a portion; returns the events whose stream was changed by another writer meanwhile."""
        appends: list[Append] = [
            (name, [entry.event for entry in entries], self._streams[name].version) for name, entries in portion.items()
        ]
        refused: list[_Entry] = []
        store = self._store
        outcomes = yield from append_each(store.info, appends, store.clock.now(), store.durability)
        for (name, entries), outcome in zip(portion.items(), outcomes, strict=True):
            stream = self._streams[name]
            if isinstance(outcome, (WrongExpectedVersion, EventIdReused)):  # the ids are new at the version read
                stream.stale = True
                refused += entries
            elif isinstance(outcome, RunnerError):
                raise outcome
            else:
                stream.version = outcome.version
                self._appended += len(entries)
        return refused
