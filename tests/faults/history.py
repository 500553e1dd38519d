"""One checker over the whole history: what writers were told, against what the log, its indexes and its views hold.

`Acknowledged` is the record of what writers tried and were told; `Writer` keeps it while it appends. When all is
quiet, `check` compares the record with the store and says everything that is wrong:

========== ==========================================================================================
kind       what must hold
========== ==========================================================================================
lost       what was acknowledged is in the log, with exactly those numbers and positions
altered    an event in the log is the one that was appended: its stream, type and data
twice      no id is in a stream twice
stranger   nothing is in the log that nobody tried to append, or that its writer was told is refused
contiguous positions have no gaps, and neither have the numbers of a stream
index      the index of a stream points to its events, and to nothing else
checkpoint a checkpoint stands on an event of the log, and holds that event's id
view       the rows of a view are the fold of the log up to its checkpoint
========== ==========================================================================================

It reads bytes from the server and decodes them by itself: the product's readers are among what is checked. It keeps
everything in memory, about a kilobyte an event.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgpack

from runner import AppendResult, EventStore, NewEvent, RunnerError, WrongExpectedVersion
from runner.errors import DataError, StoreUnavailable
from runner.format.codec import unpack
from runner.format.keys import PartitionKeys
from runner.log.append_plan import Append, ExpectedVersion
from runner.views.redis_rows import BuildView, row_state

#: Entries and rows read at a time.
PAGE = 1000


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: of which kind, where, and what."""

    kind: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.what}"


@dataclass(frozen=True)
class Seen:
    """An event as it was found in the log; a plain fold takes it for a RecordedEvent."""

    stream: str
    number: int
    position: int
    partition: int
    type: str
    id: UUID
    recorded_us: int
    data: Any
    metadata: Any

    @property
    def category(self) -> str:
        return self.stream.partition("-")[0]


#: What a projection must come to, in plain Python: the events it has applied, to its rows.
Fold = Callable[[Iterable[Any]], dict[str, Any]]


# -- what writers were told ---------------------------------------------------------------------


@dataclass(repr=False)
class Acknowledged:
    """What writers tried and were told. Safe for threads."""

    #: Every event that anybody tried to append, by stream and id.
    tried: dict[tuple[str, UUID], NewEvent] = field(default_factory=dict)
    #: Every acknowledgement: the events in their order, and what came back.
    told: list[tuple[Sequence[NewEvent], AppendResult]] = field(default_factory=list)
    #: What is refused for good: by stream and id.
    refused: set[tuple[str, UUID]] = field(default_factory=set)
    #: How many calls ended without an answer, and how many were made again for that.
    unknown: int = 0
    retried: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def trying(self, stream: str, events: Iterable[NewEvent]) -> None:
        """To be called before an append is sent: from now on its events may be in the log."""
        with self._lock:
            self.tried.update(((stream, event.id), event) for event in events)

    def acknowledge(self, events: Sequence[NewEvent], result: AppendResult) -> None:
        """The store has said that these events are stored."""
        with self._lock:
            self.told.append((events, result))

    def refuse(self, stream: str, events: Iterable[NewEvent]) -> None:
        """The store has said that these events are not stored, and the writer has given them up."""
        with self._lock:
            self.refused.update((stream, event.id) for event in events)

    def lose(self) -> None:
        """An append got no answer."""
        with self._lock:
            self.unknown += 1

    def repeat(self) -> None:
        """An append without an answer is made again."""
        with self._lock:
            self.retried += 1

    @property
    def duplicates(self) -> int:
        """Appends that were found to have run before."""
        return sum(result.duplicate for _, result in self.told)


class Writer:
    """Appends and keeps the record. An append without an answer is made again, as it was, for ``patience`` seconds."""

    def __init__(
        self,
        store: EventStore,
        acknowledged: Acknowledged,
        *,
        patience: float = 30.0,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._record = acknowledged
        self._patience = patience
        self._stopping = stopping

    def append(self, stream: str, events: list[NewEvent] | NewEvent, expected: ExpectedVersion) -> AppendResult:
        """As `EventStore.append`."""
        given = [events] if isinstance(events, NewEvent) else events
        [result] = self.append_many([(stream, given, expected)])
        return result

    def append_many(self, appends: Sequence[Append], bookmark: tuple[str, int] | None = None) -> list[AppendResult]:
        """As `EventStore.append_many`."""
        groups = self._try(appends)
        try:
            results: list[AppendResult] = self._until_known(lambda: self._store.append_many(groups, bookmark=bookmark))
        except WrongExpectedVersion:
            for stream, events, _ in groups:
                self._record.refuse(stream, events)
            raise
        for (_, events, _), result in zip(groups, results, strict=True):
            self._record.acknowledge(events, result)
        return results

    def append_each(self, appends: Sequence[Append]) -> list[AppendResult | RunnerError]:
        """As `EventStore.append_each`. What is refused is so for good: versions only grow."""
        groups = self._try(appends)
        outcomes: list[AppendResult | RunnerError] = self._until_known(lambda: self._store.append_each(groups))
        for (stream, events, _), outcome in zip(groups, outcomes, strict=True):
            if isinstance(outcome, AppendResult):
                self._record.acknowledge(events, outcome)
            else:
                self._record.refuse(stream, events)
        return outcomes

    def _try(self, appends: Sequence[Append]) -> list[tuple[str, list[NewEvent], ExpectedVersion]]:
        groups = [(stream, list(events), expected) for stream, events, expected in appends]
        for stream, events, _ in groups:
            self._record.trying(stream, events)
        return groups

    def _until_known(self, call: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return call()
            except StoreUnavailable:
                self._record.lose()
                if self._stopping() or time.monotonic() > deadline:
                    raise
                self._record.repeat()


# -- what is there ------------------------------------------------------------------------------


def check(
    store: EventStore, acknowledged: Acknowledged | None = None, views: Iterable[tuple[str, Fold]] = ()
) -> list[Finding]:
    """Everything that is wrong with a store at rest. ``views``: names of projections, each with its plain fold.

    Without a record of what writers were told, the store is only compared with itself.
    """
    findings: list[Finding] = []
    logs: dict[int, list[Seen]] = {}
    for keys in store.info.keys:
        reader = _Reader(store, keys, findings)
        logs[keys.partition] = reader.log()
        reader.check_numbers(logs[keys.partition])
        reader.check_indexes(logs[keys.partition])
    if acknowledged is not None:
        findings += _check_record(logs, acknowledged)
    for name, fold in views:
        findings += _check_view(store, logs, name, fold)
    return findings


class _Reader:
    """Reads one partition and adds what is wrong with it to the findings."""

    def __init__(self, store: EventStore, keys: PartitionKeys, findings: list[Finding]) -> None:
        self._store = store
        self._keys = keys
        self._findings = findings

    def _found(self, kind: str, where: str, what: str) -> None:
        self._findings.append(Finding(kind, where, what))

    def log(self) -> list[Seen]:
        """The events of the log in their order, each position due after the one before it."""
        events: list[Seen] = []
        due = 1
        for entry_id, fields in _entries(self._store, self._keys.log):
            position, number = map(int, entry_id.split("-"))
            where = f"{self._keys.log} {entry_id}"
            if position != due:
                self._found("contiguous", where, f"position {due} was due")
            due = position + 1
            try:
                events.append(_decode(fields, number, position, self._keys.partition))
            except (ValueError, TypeError, LookupError) as fault:
                self._found("altered", where, f"it is no event: {fault}")
        info = _info(self._store, self._keys.log)
        if info is not None and info != due - 1:
            self._found("contiguous", self._keys.log, f"it ends with position {due - 1}, and had {info}")
        return events

    def check_numbers(self, events: Sequence[Seen]) -> None:
        """Each stream's numbers are 1, 2, 3 …, and no id is in it twice."""
        versions: dict[str, int] = {}
        ids: dict[tuple[str, UUID], int] = {}
        for event in events:
            where = f"position {event.position}"
            due = versions.get(event.stream, 0) + 1
            if event.number != due:
                self._found("contiguous", where, f"number {event.number} of {event.stream!r} where {due} was due")
            versions[event.stream] = event.number
            before = ids.setdefault((event.stream, event.id), event.position)
            if before != event.position:
                self._found("twice", where, f"id {event.id} is in {event.stream!r} at position {before} already")

    def check_indexes(self, events: Sequence[Seen]) -> None:
        """Each stream's index holds the places of its events."""
        due: dict[str, list[str]] = {}
        for event in events:
            due.setdefault(self._keys.stream(event.stream), []).append(f"{event.number}-{event.position}")
        for key in _matching(self._store, self._keys.stream("*")) | due.keys():
            found = [entry_id for entry_id, _ in _entries(self._store, key)]
            wanted = due.get(key, [])
            if found != wanted:
                wrong = sorted(set(found) ^ set(wanted))
                self._found("index", key, f"it differs from the log in {', '.join(wrong[:5])} ({len(wrong)} in all)")


def _decode(fields: Sequence[bytes], number: int, position: int, partition: int) -> Seen:
    event_id, stream, kind, recorded, data, metadata, crc = msgpack.unpackb(
        fields[1], strict_map_key=False, ext_hook=lambda code, raw: unpack(msgpack.packb(msgpack.ExtType(code, raw)))
    )
    if zlib.crc32(fields[1][1:-5]) != crc:
        raise ValueError("its checksum is another")
    return Seen(stream, number, position, partition, kind, UUID(bytes=event_id), recorded, data, metadata)


def _check_record(logs: dict[int, list[Seen]], record: Acknowledged) -> Iterator[Finding]:
    at: dict[tuple[int, int], Seen] = {}
    for partition, events in logs.items():
        for event in events:
            at[partition, event.position] = event
            yield from _check_origin(event, record)
    for told, result in record.told:
        yield from _check_acknowledgement(at, told, result)


def _check_origin(event: Seen, record: Acknowledged) -> Iterator[Finding]:
    where = f"position {event.position}"
    appended = record.tried.get((event.stream, event.id))
    if appended is None:
        yield Finding("stranger", where, f"nobody appended {event.type} {event.id} to {event.stream!r}")
    elif (appended.type, appended.data, appended.metadata) != (event.type, event.data, event.metadata):
        yield Finding(
            "altered", where, f"{event.type} {event.data!r} was appended as {appended.type} {appended.data!r}"
        )
    if (event.stream, event.id) in record.refused:
        yield Finding("stranger", where, f"{event.type} {event.id} was refused, and is in {event.stream!r}")


def _check_acknowledgement(
    at: dict[tuple[int, int], Seen], events: Sequence[NewEvent], result: AppendResult
) -> Iterator[Finding]:
    if not events:
        return
    first = result.version - len(events) + 1
    if result.position - result.first_position + 1 != len(events):
        yield Finding("lost", f"stream {result.stream!r}", f"{len(events)} events were acknowledged as {result}")
        return
    for offset, event in enumerate(events):
        position, number = result.first_position + offset, first + offset
        found = at.get((result.partition, position))
        place = None if found is None else (found.stream, found.number, found.id)
        if place != (result.stream, number, event.id):
            yield Finding(
                "lost",
                f"position {position}",
                f"{event.type} {event.id} was acknowledged as number {number} of {result.stream!r}; there is {found}",
            )


def _check_view(store: EventStore, logs: dict[int, list[Seen]], name: str, fold: Fold) -> Iterator[Finding]:
    for keys in store.info.keys:
        events = logs[keys.partition]
        where = f"{name}[{keys.partition}]"
        [live] = store.driver.execute([("HGET", keys.projection(name), "build")])
        build = (live or b"1").decode()
        [(position_, event_id)] = store.driver.execute([("HMGET", keys.build(name, build), "position", "id")])
        position = int(position_ or 0)
        if position:
            stands = next((event for event in events if event.position == position), None)
            if stands is None:
                yield Finding("checkpoint", where, f"it stands at position {position}, and no event does")
            elif stands.id.bytes != event_id:
                yield Finding("checkpoint", where, f"at position {position} it is not the event {stands.id}")
        rows = _rows(store, BuildView(keys, name, build))
        wanted = fold(event for event in events if event.position <= position)
        for key in sorted(rows.keys() | wanted.keys()):
            if rows.get(key) != wanted.get(key):
                yield Finding(
                    "view", f"{where} {key}", f"is {rows.get(key)!r} and not {wanted.get(key)!r} at {position}"
                )


# -- bytes --------------------------------------------------------------------------------------


def _entries(store: EventStore, key: str) -> Iterator[tuple[str, Sequence[bytes]]]:
    after = "-"
    while True:
        [page] = store.driver.execute([("XRANGE", key, after, "+", "COUNT", PAGE)])
        for entry_id, fields in page:
            yield entry_id.decode(), fields
        if len(page) < PAGE:
            return
        after = "(" + page[-1][0].decode()


def _info(store: EventStore, key: str) -> int | None:
    """The last position that a log has ever had; None where there is no log."""
    [there] = store.driver.execute([("EXISTS", key)])
    if not there:
        return None
    [flat] = store.driver.execute([("XINFO", "STREAM", key)])
    info = dict(zip(flat[::2], flat[1::2], strict=True))
    return int(info[b"last-generated-id"].partition(b"-")[0])


def _matching(store: EventStore, pattern: str) -> set[str]:
    escaped = pattern.replace("{", "[{]").replace("}", "[}]")
    cursor, keys, more = 0, set(), True
    while more:
        [(following, found)] = store.driver.execute([("SCAN", cursor, "MATCH", escaped, "COUNT", PAGE)])
        keys |= {key.decode() for key in found}
        cursor, more = int(following), int(following) != 0
    return keys


def _state(view: BuildView, row: str, stored: bytes) -> Any:
    """The state of a row, or the error where the row is damaged: no fold comes to that."""
    try:
        return row_state(view, row, stored)
    except DataError as damage:
        return damage


def _rows(store: EventStore, view: BuildView) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    cursor, more = 0, True
    while more:
        [(following, flat)] = store.driver.execute([("HSCAN", view.key, cursor, "COUNT", PAGE)])
        found = zip(map(bytes.decode, flat[::2]), flat[1::2], strict=True)
        rows |= {row: _state(view, row, stored) for row, stored in found}
        cursor, more = int(following), int(following) != 0
    return rows
