"""Aggregates: the writing side. Things that check their rules, record events, and are made again from them.

::

    class Account(Aggregate):
        balance = 0

        def withdraw(self, amount):             a command: it checks its rules, then records
            if amount > self.balance:
                raise ValueError("not enough")
            self.record("Withdrawn", {"amount": amount})

        @handles("Withdrawn")                   a handler: it alone changes the state, and cannot refuse
        def _withdrawn(self, event):
            self.balance -= event.data["amount"]

    accounts = Repository(store, Account, category="account")

A recorded event is applied at once, through the handler that `Repository.load` will use, with the data that it will
read. `Repository.save` appends with the version that was loaded, so of two loaded copies one is saved.

A snapshot saves replaying what is long ago, and is never believed more than the log. It is kept beside the stream,
``{es.0}:snapshot:<stream>``, a string: a CRC-32 (4 bytes), then a MessagePack array::

    [class, snapshot_version, version, id of the event with that number (16 bytes), state]

It is passed over, and the whole history replayed, when it is damaged, is of another class or `snapshot_version`, or
when the stream holds another event there or none; where it was trimmed, `load` raises LogTrimmed as it would without.
The next save that a snapshot is due for replaces it.

An aggregate is one caller's at a time; a repository can be shared.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from inspect import isawaitable
from typing import Any, ClassVar, Generic, Protocol, TypeVar
from uuid import UUID
from zlib import crc32

from .aio.store import AsyncEventStore
from .codec import pack_value, unpack
from .durability import Durability
from .errors import InvalidInput, ProjectionError, StoreTrouble, WrongExpectedVersion
from .events import NewEvent, RecordedEvent
from .facts import StoreFacts
from .keys import PartitionKeys
from .log.appending import AppendResult, append_all
from .log.reading import StreamPages, StreamRange, in_category
from .names import check_name
from .requests import Await, Execute, Operation
from .store import EventStore, now_in_microseconds

log = logging.getLogger("runner")

F = TypeVar("F", bound=Callable[..., Any])
A = TypeVar("A", bound="Aggregate")

#: How often `change` decides anew when other writers were faster, unless told otherwise.
ATTEMPTS = 3

#: The bytes of the checksum before a snapshot.
_CHECKSUM = 4

_MARK = "_handled_types"


class Happened(Protocol):
    """What a handler may ask an event for: the same right after it was recorded and whenever it is read again."""

    @property
    def type(self) -> str: ...
    @property
    def id(self) -> UUID: ...
    @property
    def data(self) -> Any: ...
    @property
    def metadata(self) -> Any: ...


def handles(*types: str) -> Callable[[F], F]:
    """Declare a method ``(self, event)`` of an aggregate as the handler of one or more event types."""
    if not types:
        raise ProjectionError("@handles needs the event types that the method is for")
    for event_type in types:
        check_name(event_type, "event type")

    def mark(method: F) -> F:
        setattr(method, _MARK, types)
        return method

    return mark


class Aggregate:
    """The base class. State is whatever attributes the handlers set; names that begin with ``_`` are not state.

    A subclass that has an ``__init__`` takes the id and passes it on. New aggregates have version 0 and nothing
    uncommitted; they exist once they are saved.
    """

    #: What a snapshot must say to be used. Count it up whenever handlers or the state they make have changed.
    snapshot_version: ClassVar[int] = 1

    _handlers: ClassVar[dict[str, str]] = {}

    def __init__(self, id: str) -> None:  # noqa: A002 - it is called what it is
        self._id = check_name(id, "aggregate")
        self._version = 0
        self._uncommitted: list[NewEvent] = []
        self._failed: str | None = None
        self._snapshot_at = 0

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        own: dict[str, str] = {}
        for name, method in vars(cls).items():
            for event_type in getattr(method, _MARK, ()):
                if event_type in own:
                    raise ProjectionError(f"aggregate {cls.__name__!r}: two handlers for event type {event_type!r}")
                own[event_type] = name
        cls._handlers = {**cls._handlers, **own}

    @property
    def id(self) -> str:
        """What follows the category in the name of its stream."""
        return self._id

    @property
    def version(self) -> int:
        """The number of the last event that was loaded or saved; 0 = it does not exist yet."""
        return self._version

    @property
    def uncommitted(self) -> tuple[NewEvent, ...]:
        """What was recorded and is not saved yet."""
        return tuple(self._uncommitted)

    def record(self, event_type: str, data: Any = None, metadata: Any = None) -> None:
        """Record an event, which is applied at once.

        Raises InvalidInput for a type without a handler, PayloadError for what cannot be stored, and what the
        handler raises; the event is not recorded then.
        """
        if event_type not in self._handlers:
            raise InvalidInput(
                f"aggregate {type(self).__name__!r} has no handler for event type {event_type!r}; "
                f"declare one with @handles({event_type!r}), even if it does nothing"
            )
        packed = pack_value(data, f"event {event_type!r}: data")
        beside = pack_value(metadata, f"event {event_type!r}: metadata")
        event = NewEvent(event_type, unpack(packed), unpack(beside))
        self._apply(replace(event, data=unpack(packed), metadata=unpack(beside)))  # handlers may keep what they get
        self._uncommitted.append(event)

    def state(self) -> Any:
        """What a snapshot keeps: anything that events can hold. By default a map of the attributes."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def restore(self, state: Any) -> None:
        """Take over what `state` returned, in an aggregate that is new."""
        vars(self).update(state)

    def _apply(self, event: Happened) -> None:
        """Have an event handled. One that the class has no handler for (any more) passes by."""
        name = self._handlers.get(event.type)
        if name is None:
            return
        try:
            getattr(self, name)(event)
        except BaseException as fault:
            self._failed = event.type  # its state may be half of what it should be
            fault.add_note(f"aggregate {type(self).__name__!r}, {self.id!r}: while {event!r} was applied")
            raise

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r} version={self.version} uncommitted={len(self._uncommitted)}>"


@dataclass(frozen=True, slots=True)
class _Snapshot:
    version: int
    event_id: bytes
    state: Any


@dataclass(frozen=True, slots=True)
class _Work(Generic[A]):
    """What repositories do, as operations: the drivers are below."""

    kind: type[A]
    category: str
    every: int | None
    page_size: int
    durability: Durability

    def __post_init__(self) -> None:
        if not isinstance(self.kind, type) or not issubclass(self.kind, Aggregate):
            raise InvalidInput(f"a repository needs a subclass of Aggregate, not {self.kind!r}")
        in_category(self.category)  # raises for one that cannot be
        if self.every is not None:
            _check_count(self.every, "snapshot_every")

    def stream(self, id: str) -> str:  # noqa: A002
        return check_name(f"{self.category}-{check_name(id, 'aggregate')}")

    def load(self, facts: StoreFacts, id: str) -> Operation[A]:  # noqa: A002
        stream = self.stream(id)
        if self.every is not None:
            snapshot = yield from self._snapshot(facts.of_stream(stream), stream)
            if snapshot is not None:
                restored = yield from self._since(facts, id, snapshot)
                if restored is not None:
                    return restored
        aggregate = self.kind(id)
        yield from self._replay(facts, aggregate, self._pages(stream, 0))
        return aggregate

    def save(self, facts: StoreFacts, aggregate: A) -> Operation[AppendResult]:
        stream = self._check(aggregate)
        keys, events = facts.of_stream(stream), aggregate.uncommitted
        if not events:
            return AppendResult(stream, aggregate.version, 0, 0, keys.partition, False)
        version = aggregate.version + len(events)
        due = self.every is not None and version - aggregate._snapshot_at >= self.every
        # Packed before anything is appended: a state that cannot be stored refuses the whole.
        packed = self._pack(aggregate, version, events[-1].id) if due else b""
        append = (stream, events, aggregate.version)
        [result] = yield from append_all(facts, [append], None, None, now_in_microseconds(), self.durability)
        aggregate._version = version
        aggregate._uncommitted.clear()
        if due:
            try:
                yield Execute([("SET", _key(keys, stream), packed)])
                aggregate._snapshot_at = version
            except StoreTrouble as trouble:  # the events are saved, and they are what counts
                log.warning("stream %r: no snapshot at version %d: %s", stream, version, trouble)
        return result

    def change(
        self,
        facts: StoreFacts,
        id: str,  # noqa: A002
        command: Callable[[A], object],
        attempts: int,
    ) -> Operation[AppendResult]:
        left = _check_count(attempts, "attempts")
        while True:
            aggregate = yield from self.load(facts, id)
            answer = command(aggregate)
            if isawaitable(answer):
                yield Await(answer)
            try:
                return (yield from self.save(facts, aggregate))
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

    def _replay(self, facts: StoreFacts, aggregate: A, pages: StreamPages) -> Operation[None]:
        while (page := (yield from pages.next(facts))) is not None:
            _apply_all(aggregate, page)

    # -- snapshots ------------------------------------------------------------------------------

    def _pack(self, aggregate: A, version: int, event_id: UUID) -> bytes:
        what = f"snapshot of {aggregate!r}"
        content = [self.kind.__qualname__, self.kind.snapshot_version, version, event_id.bytes]
        pack_value(state := aggregate.state(), what)  # so that the error names what is wrong in it
        packed = pack_value([*content, state], what)
        return crc32(packed).to_bytes(_CHECKSUM, "big") + packed

    def _snapshot(self, keys: PartitionKeys, stream: str) -> Operation[_Snapshot | None]:
        """The stored snapshot, if it is whole and of this class."""
        [found] = yield Execute([("GET", _key(keys, stream))])
        if found is None or found[:_CHECKSUM] != crc32(found[_CHECKSUM:]).to_bytes(_CHECKSUM, "big"):
            return None
        try:
            kind, snapshot_version, version, event_id, state = unpack(found[_CHECKSUM:])
        except (ValueError, TypeError, ArithmeticError, RecursionError):
            return None
        fits = (kind, snapshot_version) == (self.kind.__qualname__, self.kind.snapshot_version)
        possible = isinstance(version, int) and 0 < version < 2**63
        return _Snapshot(version, event_id, state) if fits and possible else None

    def _since(self, facts: StoreFacts, id: str, snapshot: _Snapshot) -> Operation[A | None]:  # noqa: A002
        """The aggregate from its snapshot on, unless the stream does not hold the event it was taken at."""
        pages = self._pages(self.stream(id), snapshot.version - 1)
        first = yield from pages.next(facts)
        if not first or (first[0].number, first[0].id.bytes) != (snapshot.version, snapshot.event_id):
            return None
        aggregate = self.kind(id)
        aggregate.restore(snapshot.state)
        aggregate._version = aggregate._snapshot_at = snapshot.version
        _apply_all(aggregate, first[1:])
        yield from self._replay(facts, aggregate, pages)
        return aggregate


def _apply_all(aggregate: Aggregate, events: Iterable[RecordedEvent]) -> None:
    for event in events:
        aggregate._apply(event)
        aggregate._version = event.number


def _key(keys: PartitionKeys, stream: str) -> str:
    return f"{keys.tag}:snapshot:{stream}"


def _check_count(value: object, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidInput(f"{what} must be a number from 1, not {value!r}")
    return value


class Repository(Generic[A]):
    """The aggregates of a class, in a store: one stream each, ``<category>-<id>``.

    With ``snapshot_every`` a snapshot is taken when that many events were saved since the last one.
    """

    def __init__(self, store: EventStore, kind: type[A], *, category: str, snapshot_every: int | None = None) -> None:
        self._store = store
        self._work = _Work(kind, category, snapshot_every, store.settings.page_size, store.durability)

    def stream(self, id: str) -> str:  # noqa: A002
        """The name of an aggregate's stream."""
        return self._work.stream(id)

    def load(self, id: str) -> A:  # noqa: A002
        """The aggregate as its history makes it; a new one, of version 0, where there is none.

        Raises what its handlers raise, StoreTrouble or DataError (LogTrimmed, where its events are gone).
        """
        return self._store.run(self._work.load(self._store.facts, id))

    def save(self, aggregate: A) -> AppendResult:
        """Append what is uncommitted, if the stream still has the version that was loaded.

        Raises WrongExpectedVersion when another writer was faster: load it again and decide again. After
        StoreUnavailable or NotConfirmed the events may be there: **save the same aggregate again**, which is safe
        because an append may be repeated; another command on a loaded copy would be another event.
        """
        return self._store.run(self._work.save(self._store.facts, aggregate))

    def change(self, id: str, command: Callable[[A], object], *, attempts: int = ATTEMPTS) -> AppendResult:  # noqa: A002
        """Load, run the command, save; and again, up to ``attempts`` times in all, when another writer was faster.

        The command may be ``async def``. It is run once for each attempt, on an aggregate of its own.
        Raises what the command raises, and what `load` and `save` raise.
        """
        return self._store.run(self._work.change(self._store.facts, id, command, attempts))


class AsyncRepository(Generic[A]):
    """The same with ``await``. See `Repository`."""

    def __init__(
        self, store: AsyncEventStore, kind: type[A], *, category: str, snapshot_every: int | None = None
    ) -> None:
        self._store = store
        self._work = _Work(kind, category, snapshot_every, store.settings.page_size, store.durability)

    def stream(self, id: str) -> str:  # noqa: A002
        return self._work.stream(id)

    async def load(self, id: str) -> A:  # noqa: A002
        return await self._store.run(self._work.load(await self._store.facts(), id))

    async def save(self, aggregate: A) -> AppendResult:
        return await self._store.run(self._work.save(await self._store.facts(), aggregate))

    async def change(self, id: str, command: Callable[[A], object], *, attempts: int = ATTEMPTS) -> AppendResult:  # noqa: A002
        return await self._store.run(self._work.change(await self._store.facts(), id, command, attempts))
