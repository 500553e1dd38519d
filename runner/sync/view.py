"""Views of a synchronous store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from ..effects import StoreOperation
from ..log.info import StoreInfo
from ..views.reading import Appended, T, _Reader


class RunsOperations(Protocol):
    """A synchronous store, as far as a view needs it."""

    @property
    def info(self) -> StoreInfo: ...
    def run(self, operation: StoreOperation[T]) -> T: ...


class View:
    """The rows of a projection.

    >>> View(store, "balances").get("account-1")        # doctest: +SKIP
    {'balance': 70}
    """

    def __init__(self, store: RunsOperations, projection: str) -> None:
        self._store = store
        self._reader = _Reader(projection)

    def get(self, key: str, default: Any = None) -> Any:
        """The row, or ``default`` where there is none. Changing what it returns changes nothing else."""
        row = self._store.run(self._reader.get(self._store.info, key))
        return default if row is None else row

    def wait_for(self, result: Appended, timeout: float = 10.0) -> None:
        """Wait until the view shows an append, whichever process keeps it; ``timeout`` in seconds.

        Raises WaitTimeout, which says how far behind the projection is and what it is doing.
        """
        self._store.run(self._reader.wait_for(self._store.info, result, timeout))

    def items(self) -> Iterator[tuple[str, Any]]:
        """All rows, in no order. A row that changes meanwhile shows its old or its new state, and once."""
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

    def __iter__(self) -> Iterator[str]:
        return (key for key, _ in self.items())

    def __len__(self) -> int:
        return self._store.run(self._reader.count(self._store.info))

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None

    def __getitem__(self, key: str) -> Any:
        row = self.get(key)
        if row is None:
            raise KeyError(key)
        return row
