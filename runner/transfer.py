"""Importing events from JSON lines, so that every event is in the log once, however often it is done.

An event without an id is given one that follows from its content and its place among the file's lines of the same
stream, so the same file makes the same ids. Streams that are in the store already are looked through once, and what
is there is passed over; what is new is appended with the version that was seen, so another writer is noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from uuid import UUID, uuid5

from .errors import InvalidInput, RunnerError, WrongExpectedVersion
from .events import pack_event
from .jsonl import Line, parse
from .log.appending import Append
from .log.reading import versions
from .store import EventStore

#: Lines that are looked up and appended together.
BATCH = 1000

#: How often a stream is looked through again because another writer appended to it meanwhile.
TRIES = 20

_NAMESPACE = UUID("7b2ad0a4-3c5e-5c1b-9d54-2f0c6c1f6f0a")


@dataclass(slots=True)
class ImportResult:
    """What an import did: lines read, events appended, events that were there already, and lines that were skipped."""

    lines: int = 0
    appended: int = 0
    known: int = 0
    bad: list[tuple[int, str]] = field(default_factory=list)


class Importer:
    """Takes lines and appends their events in batches; `finish` appends the last one."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._batch: list[tuple[Line, UUID]] = []
        self._counts: dict[str, int] = {}
        self._versions: dict[str, int] = {}
        self._known: dict[str, set[UUID]] = {}
        self.result = ImportResult()

    def take(self, line: Line) -> None:
        """Take a line's event in. Raises PayloadError, and what `finish` raises."""
        count = self._counts[line.stream] = self._counts.get(line.stream, 0) + 1
        event_id = line.id or uuid5(_NAMESPACE, f"{line.stream}\n{count}\n{line.content.decode()}")
        pack_event(line.stream, line.event(event_id), 0)  # what cannot be stored is this line's fault, not the batch's
        self._batch.append((line, event_id))
        if len(self._batch) >= BATCH:
            self.finish()

    def finish(self) -> None:
        """Append what was taken. Raises what appending raises; everything before it is in the log."""
        batch, self._batch = self._batch, []
        for _ in range(TRIES):
            if not batch:
                return
            self._look_up({line.stream for line, _ in batch} - self._versions.keys())
            batch = self._append(batch)
        stream = batch[0][0].stream
        raise InvalidInput(f"stream {stream!r} is written to all the time; import it when it is at rest")

    def _look_up(self, streams: set[str]) -> None:
        """Learn the versions of streams, and the ids that are in them."""
        if not streams:
            return
        names = sorted(streams)
        for name, version in zip(names, self._store.run(versions(self._store.facts, names)), strict=True):
            self._versions[name] = version
            if version:
                self._known[name] = {event.id for event in self._store.read_stream(name, to=version)}

    def _append(self, batch: list[tuple[Line, UUID]]) -> list[tuple[Line, UUID]]:
        """Append the new ones of a batch; returns those whose stream was changed by another writer meanwhile."""
        appends: list[Append] = []
        taken: list[tuple[Line, UUID]] = []
        ahead: dict[str, int] = {}
        for line, event_id in batch:
            known = self._known.get(line.stream)
            if known is not None and event_id in known:
                self.result.known += 1
                continue
            version = self._versions[line.stream] + ahead.get(line.stream, 0)
            ahead[line.stream] = ahead.get(line.stream, 0) + 1
            appends.append((line.stream, [line.event(event_id)], version))
            taken.append((line, event_id))
        again: list[tuple[Line, UUID]] = []
        for (line, event_id), outcome in zip(taken, self._store.append_each(appends), strict=True):
            if isinstance(outcome, WrongExpectedVersion):
                again.append((line, event_id))
            elif isinstance(outcome, RunnerError):
                raise outcome
            else:
                self._versions[line.stream] = outcome.version
                self.result.appended += 1
                if line.stream in self._known:
                    self._known[line.stream].add(event_id)
        for line, _ in again:
            self._versions.pop(line.stream, None)
        return again


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
                importer.take(parse(text))
            except InvalidInput as fault:
                if not skip_bad:
                    importer.finish()
                    raise InvalidInput(
                        f"line {number}: {fault}", hint="--skip-bad goes on without such lines."
                    ) from None
                result.bad.append((number, str(fault)))
            if result.lines % BATCH == 0:
                progress(result)
    except (EOFError, OSError) as fault:
        importer.finish()
        raise InvalidInput(f"the input ends in the middle after line {number}: {fault}") from None
    importer.finish()
    progress(result)
    return result
