"""Repositories: they load aggregates from their streams, and save recorded events."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from inspect import isawaitable
from typing import Generic, TypeVar

from ..aio import store as aio_store
from ..aio.store import AsyncEventStore
from ..effects import Await, DriverOperation
from ..errors import InvalidInput, StoreTrouble, WrongExpectedVersion
from ..format.names import check_name
from ..log.append_plan import AppendResult
from ..log.appending import append_all
from ..log.durability import Durability
from ..log.info import StoreInfo
from ..log.reading import StreamPages, StreamRange, in_category
from ..projections.functions import check_answer
from ..sync import store as sync_store
from ..sync.store import EventStore
from ..wire.clock import now_in_microseconds
from .aggregate import Aggregate
from .snapshots import Snapshot, pack_snapshot, read_snapshot, write_snapshot

log = logging.getLogger("runner")

A = TypeVar("A", bound=Aggregate)

#: How many attempts `change` makes by default when other writers are faster.
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class _Work(Generic[A]):
    """The work of repositories, as operations. The classes below run them on a driver."""

    kind: type[A]
    category: str
    every: int | None
    page_size: int
    durability: Durability

    def __post_init__(self) -> None:
        if not isinstance(self.kind, type) or not issubclass(self.kind, Aggregate):
            raise InvalidInput(f"a repository needs a subclass of Aggregate, not {self.kind!r}")
        in_category(self.category)  # raises for an invalid category
        if self.every is not None:
            _check_count(self.every, "snapshot_every")

    def stream(self, id: str) -> str:  # noqa: A002
        return check_name(f"{self.category}-{check_name(id, 'aggregate')}")

    def load(self, info: StoreInfo, id: str) -> DriverOperation[A]:  # noqa: A002
        stream = self.stream(id)
        if self.every is not None:
            snapshot = yield from read_snapshot(info.of_stream(stream), stream, self.kind)
            if snapshot is not None:
                restored = yield from self._since(info, id, snapshot)
                if restored is not None:
                    return restored
        aggregate = self.kind(id)
        yield from self._replay(info, aggregate, self._pages(stream, 0))
        return aggregate

    def save(self, info: StoreInfo, aggregate: A) -> DriverOperation[AppendResult]:
        stream = self._check(aggregate)
        keys, events = info.of_stream(stream), aggregate.uncommitted
        if not events:
            return AppendResult(stream, aggregate.version, 0, 0, keys.partition, False)
        version = aggregate.version + len(events)
        due = self.every is not None and version - aggregate._snapshot_at >= self.every
        # Packed before anything is appended: if the state cannot be stored, nothing is saved.
        packed = pack_snapshot(aggregate, version, events[-1].id) if due else b""
        append = (stream, events, aggregate.version)
        [result] = yield from append_all(info, [append], None, None, now_in_microseconds(), self.durability)
        aggregate._version = version
        del aggregate._uncommitted[: len(events)]  # events recorded meanwhile stay uncommitted
        if due:
            try:
                yield from write_snapshot(keys, stream, packed)
                aggregate._snapshot_at = version
            except StoreTrouble as error:  # the events are saved; only the snapshot is missing
                log.warning("stream %r: no snapshot at version %d: %s", stream, version, error)
        return result

    def change(
        self,
        info: StoreInfo,
        id: str,  # noqa: A002
        command: Callable[[A], object],
        attempts: int,
    ) -> DriverOperation[AppendResult]:
        left = _check_count(attempts, "attempts")
        while True:
            aggregate = yield from self.load(info, id)
            answer = command(aggregate)
            if isawaitable(answer):
                answer = yield Await(answer)
            check_answer(answer, "the command")
            try:
                return (yield from self.save(info, aggregate))
            except WrongExpectedVersion:
                left -= 1
                if not left:
                    raise

    def _check(self, aggregate: A) -> str:
        if not isinstance(aggregate, self.kind):
            raise InvalidInput(f"a repository of {self.kind.__name__!r} cannot save {aggregate!r}")
        if aggregate._failed is not None:
            raise InvalidInput(
                f"{aggregate!r} cannot be saved: its handler of {aggregate._failed!r} raised, so its state is not sure",
                hint="Correct the handler, load the aggregate again, and repeat the command.",
            )
        return self.stream(aggregate.id)

    def _pages(self, stream: str, after: int) -> StreamPages:
        return StreamPages(StreamRange(stream, after), None, self.page_size)

    def _replay(self, info: StoreInfo, aggregate: A, pages: StreamPages) -> DriverOperation[None]:
        while (page := (yield from pages.next(info))) is not None:
            aggregate._replay(page)

    def _since(self, info: StoreInfo, id: str, snapshot: Snapshot) -> DriverOperation[A | None]:  # noqa: A002
        """The aggregate, loaded from its snapshot; None if the stream does not hold the snapshot's event."""
        pages = self._pages(self.stream(id), snapshot.version - 1)
        first = yield from pages.next(info)
        if not first or (first[0].number, first[0].id.bytes) != (snapshot.version, snapshot.event_id):
            return None
        aggregate = self.kind(id)
        aggregate.restore(snapshot.state)
        aggregate._version = aggregate._snapshot_at = snapshot.version
        aggregate._replay(first[1:])
        yield from self._replay(info, aggregate, pages)
        return aggregate


def _check_count(value: object, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidInput(f"{what} must be a number from 1, not {value!r}")
    return value


class Repository(Generic[A]):
    """The aggregates of a class, in a store: one stream each, ``<category>-<id>``.

    With ``snapshot_every`` a snapshot is taken when that many events were saved since the last one.

    Raises InvalidInput.
    """

    def __init__(self, store: EventStore, kind: type[A], *, category: str, snapshot_every: int | None = None) -> None:
        self._store = sync_store.check_store(store)
        self._work = _Work(kind, category, snapshot_every, store.settings.page_size, store.durability)

    def stream(self, id: str) -> str:  # noqa: A002
        """The name of an aggregate's stream. Raises InvalidName."""
        return self._work.stream(id)

    def load(self, id: str) -> A:  # noqa: A002
        """The aggregate, loaded from its events; a new one, of version 0, if its stream does not exist.

        Raises what its handlers raise, InvalidName, StoreTrouble or DataError (LogTrimmed if its events were trimmed).
        """
        return self._store.run(self._work.load(self._store.info, id))

    def save(self, aggregate: A) -> AppendResult:
        """Append the uncommitted events if the stream still has the loaded version. Returns the append's result.

        Raises WrongExpectedVersion when another writer was faster: load the aggregate again and decide again. After
        StoreUnavailable or NotConfirmed the events may have been appended: **save the same aggregate again**. That is
        safe, because an append may be repeated; loading and running the command again could record a second event.
        Raises InvalidInput for an aggregate of another class, or one whose handler has raised.
        """
        return self._store.run(self._work.save(self._store.info, aggregate))

    def change(self, id: str, command: Callable[[A], object], *, attempts: int = ATTEMPTS) -> AppendResult:  # noqa: A002
        """Load, run the command, save. Starts again when another writer was faster, up to ``attempts`` times in all.

        The command may be ``async def``. It is run once for each attempt, on a newly loaded aggregate. Returns
        the append's result. Raises what the command raises, and what `load` and `save` raise.
        """
        return self._store.run(self._work.change(self._store.info, id, command, attempts))


class AsyncRepository(Generic[A]):
    """The aggregates of a class, in an asynchronous store: one stream each, ``<category>-<id>``.

    With ``snapshot_every`` a snapshot is taken when that many events were saved since the last one.

    Raises InvalidInput.
    """

    def __init__(
        self, store: AsyncEventStore, kind: type[A], *, category: str, snapshot_every: int | None = None
    ) -> None:
        self._store = aio_store.check_store(store)
        self._work = _Work(kind, category, snapshot_every, store.settings.page_size, store.durability)

    def stream(self, id: str) -> str:  # noqa: A002
        """The name of an aggregate's stream. Raises InvalidName."""
        return self._work.stream(id)

    async def load(self, id: str) -> A:  # noqa: A002
        """The aggregate, loaded from its events; a new one, of version 0, if its stream does not exist.

        Raises what its handlers raise, InvalidName, StoreTrouble or DataError (LogTrimmed if its events were trimmed).
        """
        return await self._store.run(self._work.load(await self._store.info(), id))

    async def save(self, aggregate: A) -> AppendResult:
        """Append the uncommitted events if the stream still has the loaded version. Returns the append's result.

        Raises WrongExpectedVersion when another writer was faster: load the aggregate again and decide again. After
        StoreUnavailable or NotConfirmed the events may have been appended: **save the same aggregate again**. That is
        safe, because an append may be repeated; loading and running the command again could record a second event.
        Raises InvalidInput for an aggregate of another class, or one whose handler has raised.
        """
        return await self._store.run(self._work.save(await self._store.info(), aggregate))

    async def change(self, id: str, command: Callable[[A], object], *, attempts: int = ATTEMPTS) -> AppendResult:  # noqa: A002
        """Load, run the command, save. Starts again when another writer was faster, up to ``attempts`` times in all.

        The command may be ``async def``. It is run once for each attempt, on a newly loaded aggregate. Returns
        the append's result. Raises what the command raises, and what `load` and `save` raise.
        """
        return await self._store.run(self._work.change(await self._store.info(), id, command, attempts))
