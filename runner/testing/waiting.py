"""Calls of asynchronous code from synchronous tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from ..effects import Await, UserCodeOperation, drive
from ..sync.concurrency import UserCode

T = TypeVar("T")


async def _collected(events: AsyncIterator[Any]) -> list[Any]:
    return [event async for event in events]


def run_waiting(operation: UserCodeOperation[T]) -> T:
    """Run an operation whose only effects are calls of user code."""
    user_code = UserCode()  # makes an event loop only for async user code
    try:
        return drive(operation, user_code.perform)
    finally:
        user_code.close()


class Waiting:
    """An asynchronous store with synchronous methods: each call waits, and each read collects its events.

    ``opening`` is the object that ``async with`` opens. ``with`` opens it here, on the event loop of all calls.
    """

    def __init__(self, opening: Any) -> None:
        self._opening = opening
        self._store: Any = None
        self._loop = UserCode()

    def append(self, *args: Any) -> Any:
        return self._wait(self._store.append(*args))

    def read_stream(self, *args: Any, **options: Any) -> Iterator[Any]:
        return iter(self._wait(_collected(self._store.read_stream(*args, **options))))

    def read_all(self, *args: Any, **options: Any) -> Iterator[Any]:
        return iter(self._wait(_collected(self._store.read_all(*args, **options))))

    def version(self, stream: str) -> Any:
        return self._wait(self._store.version(stream))

    def last_position(self) -> Any:
        return self._wait(self._store.last_position())

    def _wait(self, awaitable: Awaitable[Any]) -> Any:
        return self._loop.perform(Await(awaitable))

    def __enter__(self) -> Self:
        try:
            self._store = self._wait(self._opening.__aenter__())
        except BaseException:
            self._loop.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._wait(self._opening.__aexit__(None, None, None))
        finally:
            self._loop.close()
