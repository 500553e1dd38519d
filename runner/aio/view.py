"""Views of an asynchronous store. Compare `runner.sync.view`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Generic, TypeVar, overload

from ..projections.projection import Projection, State
from ..views.reading import PATIENCE, Appended, ViewReader
from .store import AsyncEventStore, check_store

D = TypeVar("D")


class AsyncView(Generic[State]):
    """The rows of a projection, as its live build left them, whichever process runs it.

    ``await view.get(key)``, ``async for key, row in view.items()``. ``async for key in view`` gives the
    keys. ``projection`` is its name or the object. From the object, type checkers know the type of a row; nothing else
    differs. A view that no projection has made has no rows. Raises InvalidName, and InvalidInput for a store
    of the other face.
    """

    def __init__(self, store: AsyncEventStore, projection: Projection[State] | str) -> None:
        self._store = check_store(store)
        self._reader = ViewReader(projection.name if isinstance(projection, Projection) else projection)

    @overload
    async def get(self, key: str) -> State | None: ...
    @overload
    async def get(self, key: str, default: D) -> State | D: ...
    async def get(self, key: str, default: Any = None) -> Any:
        """The row of ``key``, or ``default`` where there is none. Raises InvalidName or StoreTrouble."""
        row = await self._store.run(self._reader.get(await self._store.info(), key))
        return default if row is None else row

    async def count(self) -> int:
        """The number of rows. Raises StoreTrouble."""
        return await self._store.run(self._reader.count(await self._store.info()))

    async def items(self) -> AsyncIterator[tuple[str, State]]:
        """All keys and rows, in no order, read page by page.

        A row that changes meanwhile is given once, in its old or its new state. Raises StoreTrouble.
        """
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

    async def wait_for(self, result: Appended, timeout: float | None = PATIENCE) -> None:
        """Wait until the view shows an append, whichever process runs the projection.

        ``result`` is what the append returned, or an event that was read; ``timeout`` is in seconds, and None waits
        without end. The wait goes on while the projection is stopped, because another process may start it again.

        Raises WaitTimeout, which says how many events the projection lags, what it is doing, and why it stopped if
        it has; InvalidInput at once if other projections were run and none of this name ever was; StoreTrouble.
        """
        store = self._store
        await store.run(self._reader.wait_for(await store.info(), result, timeout, store.driver.clock))

    async def __aiter__(self) -> AsyncIterator[str]:
        async for key, _ in self.items():
            yield key
