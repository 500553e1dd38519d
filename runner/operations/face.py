"""How an operation becomes a function for either kind of store.

An operation is written once, as a generator whose first argument is a `StoreContext`. A decorator makes it a function
that takes a store in that place: an `EventStore` runs the operation and gives its result, an `AsyncEventStore` gives
an awaitable of the same. Neither class is known here: a store is asynchronous if its method `run` is a coroutine
function.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import wraps
from inspect import iscoroutinefunction, signature
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar, overload

from ..effects import DriverOperation, Operation, UserCodeOperation, invoke
from ..effects.clock import Clock
from ..errors import InvalidInput
from ..log.durability import Durability
from ..log.info import StoreInfo
from ..projections.functions import check_plain
from ..settings import Settings

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long operation is, over all partitions, in events or in lines of an import.

    ``total``: how many there were when the operation began; None if that is not known.
    """

    done: int
    total: int | None = None


#: A function that a long operation calls with its progress, between two round trips. It should not wait.
OnProgress = Callable[[Progress], object]


#: The arguments of operations that are such functions, or are told something else. None of them is awaited.
TOLD: Final = {"progress", "note", "found"}


def ignore(told: object) -> None:
    """Do nothing: the default for functions that are told something."""


def counting_from(before: int, total: int | None, progress: OnProgress) -> Callable[[int], object]:
    """A function for one part of an operation: it takes the part's own count; earlier parts have done ``before``."""
    return lambda done: progress(Progress(before + done, total))


@dataclass(frozen=True, slots=True)
class StoreContext:
    """What an operation knows about its store."""

    info: StoreInfo
    settings: Settings
    durability: Durability
    clock: Clock
    #: The machine and process that this is, for people.
    place: str
    #: Whether the store lives in this process, on fakeredis.
    in_memory: bool
    #: Whether its server is the package's own.
    embedded: bool = False
    #: The store itself, for the handlers of reactors that ask for it.
    store: object = None


# -- what a store offers --------------------------------------------------------------------------


class _Address(Protocol):
    @property
    def fake(self) -> bool: ...
    @property
    def server(self) -> object | None: ...


class _Driver(Protocol):
    @property
    def clock(self) -> Clock: ...
    @property
    def place(self) -> str: ...
    @property
    def address(self) -> _Address: ...


class _AnyStore(Protocol):
    @property
    def settings(self) -> Settings: ...
    @property
    def durability(self) -> Durability: ...
    @property
    def driver(self) -> _Driver: ...


class SyncStore(_AnyStore, Protocol):
    """What an `EventStore` offers to operations. `run` performs one; `work` also performs one that waits or follows."""

    @property
    def info(self) -> StoreInfo: ...
    def run(self, operation: DriverOperation[T], /) -> T: ...
    def work(self, operation: Operation[T], /) -> T: ...


class AsyncStore(_AnyStore, Protocol):
    """What an `AsyncEventStore` offers to operations."""

    async def info(self) -> StoreInfo: ...
    async def run(self, operation: DriverOperation[T], /) -> T: ...
    async def work(self, operation: Operation[T], /) -> T: ...


class ForEitherStore(Protocol[P, T_co]):
    """A function whose first argument is a store of either kind."""

    @overload
    def __call__(self, store: SyncStore, /, *args: P.args, **kwargs: P.kwargs) -> T_co: ...
    @overload
    def __call__(self, store: AsyncStore, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T_co]: ...


# -- the decorators -------------------------------------------------------------------------------


def for_either_store(
    operation: Callable[Concatenate[StoreContext, P], DriverOperation[T]],
) -> ForEitherStore[P, T]:
    """Make an operation a function that takes a store and runs the operation by the store's `run`."""
    function: ForEitherStore[P, T] = _function(operation, "run")
    return function


def for_either_store_at_work(operation: Callable[Concatenate[StoreContext, P], Operation[T]]) -> ForEitherStore[P, T]:
    """The same for an operation that waits or drives workers: it is run by the store's `work`."""
    function: ForEitherStore[P, T] = _function(operation, "work")
    return function


def other_store(store: SyncStore | AsyncStore) -> UserCodeOperation[StoreContext]:
    """The context of a second store, which an operation was given. `run_on` runs operations there."""
    info: Any = store.info  # a property of the one face, a coroutine function of the other
    return _context(store, (yield from invoke(info)) if iscoroutinefunction(store.run) else info)


def run_on(store: SyncStore | AsyncStore, operation: DriverOperation[T]) -> UserCodeOperation[T]:
    """Run an operation on a second store, by its own driver."""
    return (yield from invoke(store.run, operation))  # type: ignore[no-any-return]


def _function(operation: Callable[..., Operation[Any]], method: str) -> Any:
    @wraps(operation)
    def on_store(store: Any, /, *args: Any, **kwargs: Any) -> Any:
        if not _is_store(store):
            raise InvalidInput(f"an EventStore or AsyncEventStore is needed, not {type(store).__name__}: {store!r}")
        for name in TOLD & kwargs.keys():
            check_plain(kwargs[name], name, "(told)")
        for other in args:
            if _is_store(other) and iscoroutinefunction(other.run) is not iscoroutinefunction(store.run):
                raise InvalidInput("both stores must be EventStores, or both AsyncEventStores")
        if iscoroutinefunction(store.run):
            return awaited(store, *args, **kwargs)
        return getattr(store, method)(operation(_context(store, store.info), *args, **kwargs))

    # What `help` shows: a store in the place of the context, and the result in the place of the operation.
    shown = signature(operation)
    first, *others = shown.parameters.values()
    result = str(shown.return_annotation).partition("[")[2].removesuffix("]")
    on_store.__signature__ = shown.replace(  # type: ignore[attr-defined]
        parameters=[first.replace(annotation="EventStore | AsyncEventStore"), *others],
        return_annotation=f"{result} | Awaitable[{result}]",
    )

    async def awaited(store: Any, *args: Any, **kwargs: Any) -> Any:
        context = _context(store, await store.info())
        return await getattr(store, method)(operation(context, *args, **kwargs))

    return on_store


def _is_store(given: object) -> bool:
    return callable(getattr(given, "run", None)) and hasattr(given, "driver")


def _context(store: _AnyStore, info: StoreInfo) -> StoreContext:
    driver = store.driver
    address = driver.address
    return StoreContext(
        info,
        store.settings,
        store.durability,
        driver.clock,
        driver.place,
        address.fake,
        address.server is not None,
        store,
    )
