"""The records that the repositories keep beside the log: maps under names in a hash. A change is one atomic step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from ...effects import StoreOperation
from ...errors import RecordDamaged
from ...format import fields
from ...format.checksum import Damaged
from ...log import records
from ...log.records import NOTHING, Place, Stored
from ...sync.store import EventStore

log = logging.getLogger("runner")

#: Fields that one round trip of `Records.all` asks for.
PAGE = 100

#: A record: a flat map of text and whole numbers.
Record = dict[str, Any]

#: Checks a field's value: raises ValueError or TypeError for one that cannot be what was written.
Check = Callable[[Any], object]


def text(value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError("it is no text")


def count(value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError("it is no number from 0")


def moment(value: Any) -> None:
    if datetime.fromisoformat(value).utcoffset() is None:
        raise ValueError("it has no zone")


class Records:
    """The records of a hash, over a store's connections. Calls block. Errors are those of the store.

    ``needed`` and ``possible`` check the fields of a record. Raises RecordDamaged for a record that is damaged.
    """

    def __init__(
        self, store: EventStore, what: str, needed: Mapping[str, Check], possible: Mapping[str, Check]
    ) -> None:
        self._store = store
        self._needed = needed
        self._possible = possible
        self._what = what
        self._keys = store.info.keys[0]
        self._key = f"{self._keys.tag}:eventsource:{what}"
        #: The records counted here last. One process mostly writes the same record again and again.
        self._counted: dict[str, Stored] = {}

    def get(self, name: str) -> Record | None:
        """The record of a name; None if there is none."""
        stored = self._store.run(records.read(Place(self._key, name)))
        return self._opened(name, stored) if stored else None

    def all(self) -> Iterator[tuple[str, Record, Stored]]:
        """Every record: name, content and stored form, read in pages. A record changed meanwhile may be missing.

        One that is damaged is passed over with a warning.
        """
        cursor, seen = b"0", set()
        while True:
            [(cursor, flat)] = self._store.driver.execute([("HSCAN", self._key, cursor, "COUNT", PAGE)])
            for field, data in zip(flat[::2], flat[1::2], strict=True):
                if field not in seen:  # a scan may give a field twice
                    seen.add(field)
                    try:
                        name, stored = fields.text(self._key, "name", field), Stored(data)
                        found = name, self._opened(name, stored), stored
                    except RecordDamaged as damage:
                        log.warning("passed over: %s", damage.with_hint)
                    else:
                        yield found
            if cursor in (b"0", 0):
                return

    def patch(self, name: str, changes: Mapping[str, Any], initial: Mapping[str, Any] | None = None) -> None:
        """Change a record. A missing record begins as ``initial``; without ``initial`` nothing happens."""
        self._update(name, lambda record: {**record, **changes}, initial, None if initial is None else NOTHING)

    def count(self, name: str, changes: Mapping[str, Any]) -> None:
        """Change a record, and add 1 to its ``count``. A missing record begins empty."""
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
        """Remove the records that are still as they were read. Returns how many."""
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
            yield from ()  # makes this a generator; it asks the store nothing
            before = self._opened(name, stored) if stored else initial
            return None if before is None else records.record_of([change(before)], f"record {name!r} of {self._what}")

        return self._store.run(records.update(self._store.info, self._keys, Place(self._key, name), decide, guess))

    def _opened(self, name: str, stored: Stored) -> Record:
        try:
            [record] = stored.values(dict)
            for field, check in (*self._needed.items(), *self._possible.items()):
                if field in self._needed or field in record:
                    self._check(record, field, check)
        except Damaged as fault:
            raise RecordDamaged(
                f"record {name!r} of {self._key} is damaged: {fault}",
                self._key,
                hint=f"Restore it from a backup, or remove it: HDEL {self._key} {name}",
            ) from fault
        return record  # type: ignore[no-any-return]

    @staticmethod
    def _check(record: Record, field: str, check: Check) -> None:
        """Raise Damaged, naming the field, for one that is missing or cannot be what was written."""
        try:
            check(record[field])
        except Exception as fault:  # also errors of the library's own classes
            raise Damaged(f"its field {field!r} holds {record.get(field)!r:.40}: {fault}") from fault
