"""Views of an asynchronous store. Compare `runner.sync.view`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

from ..effects import StoreOperation
from ..log.info import StoreInfo
from ..views.reading import Appended, T, _Reader


class RunsOperationsAsync(Protocol):
    """An asynchronous store, as far as a view needs it."""

    async def info(self) -> StoreInfo: ...
    async def run(self, operation: StoreOperation[T]) -> T: ...


class AsyncView:
    """The same over an asynchronous store: ``await view.get(key)``, ``async for key, row in view.items()``."""

    def __init__(self, store: RunsOperationsAsync, projection: str) -> None:
        self._store = store
        self._reader = _Reader(projection)

    async def get(self, key: str, default: Any = None) -> Any:
        row = await self._store.run(self._reader.get(await self._store.info(), key))
        return default if row is None else row

    async def wait_for(self, result: Appended, timeout: float = 10.0) -> None:
        await self._store.run(self._reader.wait_for(await self._store.info(), result, timeout))

    async def items(self) -> AsyncIterator[tuple[str, Any]]:
        for keys in (await self._store.info()).keys:
            seen: set[str] = set()
            cursor, more = 0, True
            while more:
                cursor, rows = await self._store.run(self._reader.page(keys, cursor))
                more = cursor != 0
                for key, row in rows:
                    if key not in seen:
                        seen.add(key)
                        yield key, row

    async def count(self) -> int:
        return await self._store.run(self._reader.count(await self._store.info()))
