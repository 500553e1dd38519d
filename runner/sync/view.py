"""Views of a synchronous store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, TypeVar, overload

from ..projections.projection import Projection, State
from ..views.reading import PATIENCE, Appended, ViewReader
from .store import EventStore, check_store

D = TypeVar("D")


class View(Generic[State]):
    """The rows of a projection, as its live build left them, whichever process runs it.

    >>> View(store, "balances").get("account-1")        # doctest: +SKIP
    {'balance': 70}

    ``projection`` is its name or the object. From the object, type checkers know the type of a row; nothing else
    differs. A view that no projection has made has no rows. Raises InvalidName, and InvalidInput for a store
    of the other face.

    A view is read like a mapping: ``view[key]``, ``key in view``, ``len(view)``, and a loop over it gives the keys.
    Each of these asks the server, and raises what `get`, `count` or `items` raises;
    ``view[key]`` raises KeyError without a row.
    """

    def __init__(self, store: EventStore, projection: Projection[State] | str) -> None:
        self._store = check_store(store)
        self._reader = ViewReader(projection.name if isinstance(projection, Projection) else projection)

    @overload
    def get(self, key: str) -> State | None: ...
    @overload
    def get(self, key: str, default: D) -> State | D: ...
    def get(self, key: str, default: Any = None) -> Any:
        """The row of ``key``, or ``default`` where there is none. The caller may change the returned row.

        Raises InvalidName or StoreTrouble.
        """
        row = self._store.run(self._reader.get(self._store.info, key))
        return default if row is None else row

    def count(self) -> int:
        """The number of rows. Raises StoreTrouble."""
        return self._store.run(self._reader.count(self._store.info))

    def items(self) -> Iterator[tuple[str, State]]:
        """All keys and rows, in no order, read page by page; ``dict(view.items())`` is the whole view.

        A row that changes meanwhile is given once, in its old or its new state. Raises StoreTrouble.
        """
        for keys in self._store.info.keys:
            seen: set[str] = set()
            cursor, more = 0, True
            while more:
                cursor, rows = self._store.run(self._reader.page(keys, cursor))
                more = cursor != 0
                for key, row in rows:
                    if key not in seen:
                        seen.add(key)
                        yield key, row

    def wait_for(self, result: Appended, timeout: float | None = PATIENCE) -> None:
        """Wait until the view shows an append, whichever process runs the projection.

        ``result`` is what the append returned, or an event that was read; ``timeout`` is in seconds, and None waits
        without end. The wait goes on while the projection is stopped, because another process may start it again.

        Raises WaitTimeout, which says how many events the projection lags, what it is doing, and why it stopped if
        it has; InvalidInput at once if other projections were run and none of this name ever was; StoreTrouble.
        """
        store = self._store
        store.run(self._reader.wait_for(store.info, result, timeout, store.driver.clock))

    def __iter__(self) -> Iterator[str]:
        return (key for key, _ in self.items())

    def __len__(self) -> int:
        return self.count()

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    def __getitem__(self, key: str) -> State:
        row = self.get(key)
        if row is None:
            raise KeyError(key)
        return row
