"""The library's snapshot store: the newest snapshot of each aggregate. If it and the log disagree, the log is right."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from castlecraft_engineer.abstractions.aggregate import TAggregateId
from castlecraft_engineer.abstractions.snapshot import Snapshot
from castlecraft_engineer.abstractions.snapshot_store import SnapshotStore

from ...aio.store import AsyncEventStore
from ...effects import StoreOperation
from ...errors import LogTrimmed, PayloadError, RecordDamaged
from ...format.checksum import seal
from ...format.numbers import LARGEST, check_number
from ...log import reading, records
from ...log.info import StoreInfo
from ...log.records import Place, Stored
from .classes import Classes, Decode, Encode, Registry
from .ids import IdText, Streams, check_store, id_text

log = logging.getLogger("runner")


@dataclass(frozen=True, slots=True)
class _Taken:
    """A snapshot that was read.

    ``event_id`` is the id of the last event in the state: empty without an event, None if it was trimmed by then.
    """

    version: int
    event_id: bytes | None
    kind: str | None
    state: Any


class RedisSnapshotStore(SnapshotStore[TAggregateId]):
    """The newest snapshot of each aggregate of a category, which is that of its `RedisEventStore`.

    A state may be anything that an event may hold, or an object of one of the classes ``states``; the other
    arguments are those of `RedisEventStore`. Use the `AsyncEventStore` that holds the events: a snapshot
    remembers the last event in its state, and is not returned if the log no longer holds that event.
    """

    def __init__(
        self,
        store: AsyncEventStore,
        *,
        category: str,
        states: Classes = (),
        encode: Encode | None = None,
        decode: Decode | None = None,
        id_text: IdText = id_text,
    ) -> None:
        self._store = check_store(store)
        self._streams = Streams(category, id_text)
        self._registry = Registry(states, "states", encode, decode)

    async def save_snapshot(self, snapshot: Snapshot[TAggregateId]) -> None:
        """Keep a snapshot, unless a newer one of the same history is stored already: then it is ignored.

        Raises PayloadError for a state that cannot be stored; InvalidInput; StoreTrouble.
        """
        stream = self._streams.name(snapshot.aggregate_id)
        version = check_number(snapshot.version, f"snapshot of {stream!r}: version", -1, LARGEST - 1)
        kind, state = self._dump(snapshot.aggregate_state, f"snapshot of {stream!r}: state")
        await self._store.run(_save(await self._store.info(), stream, version, kind, state))

    async def get_latest_snapshot(self, aggregate_id: TAggregateId) -> Snapshot[TAggregateId] | None:
        """The newest snapshot, if the log still holds the last event in its state; else None.

        Also None, with a warning, for a damaged snapshot, and for one whose class was not given or no longer fits.
        """
        stream = self._streams.name(aggregate_id)
        stored = await self._store.run(_load(await self._store.info(), stream))
        if stored is None:
            return None
        try:
            state = stored.state if stored.kind is None else self._registry.load(stored.kind, stored.state)
        except Exception as fault:  # also errors of the class itself and of hooks
            log.warning("stream %r: its snapshot is passed over: %s", stream, fault)
            return None
        return Snapshot(aggregate_id=aggregate_id, aggregate_state=state, version=stored.version)

    async def clear_snapshots(self, aggregate_id: TAggregateId) -> None:
        """Remove the snapshot of an aggregate."""
        await self._store.run(records.remove(_place(await self._store.info(), self._streams.name(aggregate_id))))

    def _dump(self, state: Any, what: str) -> tuple[str | None, Any]:
        if state in self._registry:
            return self._registry.name_of(state), self._registry.dump(state, what)
        try:
            seal([state], what)  # alone first, so that the error names the wrong part
        except PayloadError as fault:
            if not isinstance(state, (dict, list, tuple)):
                fault.hint = f"Give its class to the store: states=[{type(state).__name__}]."
            raise
        return None, state


def _place(info: StoreInfo, stream: str) -> Place:
    return Place(f"{info.of_stream(stream).tag}:castlecraft:snapshot:{stream}")


def _save(info: StoreInfo, stream: str, version: int, kind: str | None, state: Any) -> StoreOperation[None]:
    event_id = yield from _event_id(info, stream, version)
    record = records.record_of([version, event_id, kind, state], f"snapshot of {stream!r}")

    def decide(stored: Stored) -> StoreOperation[bytes | None]:
        taken = _taken(stored, stream)
        is_newer = taken is not None and taken.version > version and (yield from _stands(info, stream, taken))
        return None if is_newer else record

    yield from records.update(info, info.of_stream(stream), _place(info, stream), decide)


def _load(info: StoreInfo, stream: str) -> StoreOperation[_Taken | None]:
    try:
        stored = yield from records.read(_place(info, stream))
    except RecordDamaged as fault:
        _passed_over(stream, fault)
        return None
    taken = _taken(stored, stream)
    return taken if taken is not None and (yield from _stands(info, stream, taken)) else None


def _taken(stored: Stored, stream: str) -> _Taken | None:
    """The stored snapshot; None if there is none or it is damaged."""
    if not stored:
        return None
    try:
        taken = _Taken(*stored.values(int, bytes | None, str | None, object))
        check_number(taken.version, "version", -1, LARGEST - 1)
    except ValueError as fault:  # Damaged and InvalidInput are such
        _passed_over(stream, fault)
        return None
    return taken


def _passed_over(stream: str, fault: Exception) -> None:
    log.warning("stream %r: its snapshot is damaged and passed over: %s", stream, fault)


def _stands(info: StoreInfo, stream: str, taken: _Taken) -> StoreOperation[bool]:
    """Whether the stream holds the last event in the snapshot's state, or held it before a trim.

    For a snapshot without an event: whether the stream still has no event.
    """
    if taken.event_id == b"":
        return (yield from reading.version(info, stream)) == 0
    found = yield from _event_id(info, stream, taken.version)
    return found is None or found == taken.event_id


def _event_id(info: StoreInfo, stream: str, version: int) -> StoreOperation[bytes | None]:
    """The id of the event of that version; empty if there is none, None if it was trimmed."""
    if version < 0:
        return b""
    which = reading.StreamRange(stream, after=version, to=version + 1)
    try:
        events, _ = yield from reading.read_stream(info, which, 1)
    except LogTrimmed:
        return None
    return events[0].id.bytes if events else b""
