"""The records that the repositories keep beside the log: maps, under names in a hash, each changed in one step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ...effects import StoreOperation
from ...errors import DataError
from ...format.checksum import Damaged
from ...log import records
from ...log.records import NOTHING, Place, Stored
from ...sync.store import EventStore

#: Fields that one round trip of `Records.all` asks for.
PAGE = 100

#: A record: text and whole numbers, nothing inside.
Record = dict[str, Any]


class Records:
    """The records of a hash, over a store's connections. Blocks; errors are those of the store.

    Raises DataError for a record that is damaged.
    """

    def __init__(self, store: EventStore, what: str) -> None:
        self._store = store
        self._what = what
        self._keys = store.info.keys[0]
        self._key = f"{self._keys.tag}:eventsource:{what}"
        #: Those that were counted here last: they are written again and again, mostly by one process.
        self._counted: dict[str, Stored] = {}

    def get(self, name: str) -> Record | None:
        """The record of a name; None where there is none."""
        stored = self._store.run(records.read(Place(self._key, name)))
        return self._opened(name, stored) if stored else None

    def all(self) -> Iterator[tuple[str, Record, Stored]]:
        """Every record, by name, and as it is stored; a few at a time. What is changed meanwhile may be missing."""
        cursor, seen = b"0", set()
        while True:
            [(cursor, flat)] = self._store.driver.execute([("HSCAN", self._key, cursor, "COUNT", PAGE)])
            for field, data in zip(flat[::2], flat[1::2], strict=True):
                if field not in seen:  # a scan may give one twice
                    seen.add(field)
                    name, stored = field.decode(), Stored(data)
                    yield name, self._opened(name, stored), stored
            if cursor in (b"0", 0):
                return

    def patch(self, name: str, changes: Mapping[str, Any], initial: Mapping[str, Any] | None = None) -> None:
        """Change a record; it begins as ``initial``, and is left alone where there is neither."""
        self._update(name, lambda record: {**record, **changes}, initial, None if initial is None else NOTHING)

    def count(self, name: str, changes: Mapping[str, Any]) -> None:
        """Change a record, which begins empty, and count in ``count`` that it was."""
        if len(self._counted) > PAGE:
            self._counted.clear()
        self._counted[name] = self._update(
            name,
            lambda record: {**record, **changes, "count": record.get("count", 0) + 1},
            {},
            self._counted.get(name, NOTHING),
        )

    def remove(self, name: str) -> None:
        """Remove the record of a name, if there is one."""
        self._store.run(records.remove(Place(self._key, name)))

    def drop(self, found: list[tuple[str, Stored]]) -> int:
        """Remove those records that are still as they were read; how many these were."""
        dropped = 0
        for at in range(0, len(found), PAGE):
            portion = [(Place(self._key, name), stored) for name, stored in found[at : at + PAGE]]
            dropped += self._store.run(records.remove_each(self._store.info, self._keys, portion))
        return dropped

    def _update(
        self,
        name: str,
        change: Callable[[Mapping[str, Any]], Record],
        initial: Mapping[str, Any] | None,
        guess: Stored | None,
    ) -> Stored:
        def decide(stored: Stored) -> StoreOperation[bytes | None]:
            yield from ()  # nothing is asked of the store
            before = self._opened(name, stored) if stored else initial
            return None if before is None else records.record_of([change(before)], f"record {name!r} of {self._what}")

        return self._store.run(records.update(self._store.info, self._keys, Place(self._key, name), decide, guess))

    def _opened(self, name: str, stored: Stored) -> Record:
        try:
            [record] = stored.content
        except (Damaged, ValueError) as fault:
            raise DataError(
                f"record {name!r} of {self._key} is damaged: {fault}",
                hint=f"Restore it from a backup, or remove it: HDEL {self._key} {name}",
            ) from fault
        return record  # type: ignore[no-any-return]
