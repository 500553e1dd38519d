"""Records that stand beside the log: flat JSON objects, the values of a hash's fields, each changed in one step."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from ...effects import Command
from ...format.scripts import load
from ...sync.store import EventStore

#: Fields that one round trip of `Records.all` asks for.
PAGE = 100

#: A record: text, whole numbers below 2⁵³, nothing inside.
Record = dict[str, Any]


class Records:
    """The records of a hash, over a store's connections. Blocks; errors are those of the store."""

    def __init__(self, store: EventStore, what: str) -> None:
        self._store = store
        self._key = f"{store.info.keys[0].tag}:eventsource:{what}"

    def get(self, field: str) -> Record | None:
        [found] = self._execute(("HGET", self._key, field))
        return None if found is None else json.loads(found)

    def all(self) -> Iterator[tuple[str, Record, bytes]]:
        """Every record, by field, and as it is stored; a few at a time. What is changed meanwhile may be missing."""
        cursor, seen = b"0", set()
        while True:
            [(cursor, flat)] = self._execute(("HSCAN", self._key, cursor, "COUNT", PAGE))
            for field, stored in zip(flat[::2], flat[1::2], strict=True):
                if field not in seen:  # a scan may give one twice
                    seen.add(field)
                    yield field.decode(), json.loads(stored), stored
            if cursor in (b"0", 0):
                return

    def patch(
        self, field: str, changes: Mapping[str, Any], initial: Mapping[str, Any] | None = None, *, count: bool = False
    ) -> None:
        """Change a record; it begins as ``initial``, and is left alone where there is neither. See `patch_record`."""
        begin = "" if initial is None else json.dumps(initial)
        token = secrets.token_hex(8) if count else ""
        self._execute(load("adapters/patch_record").call([self._key], field, json.dumps(changes), begin, token))

    def remove(self, field: str) -> None:
        self._execute(("HDEL", self._key, field))

    def drop(self, records: list[tuple[str, bytes]]) -> int:
        """Remove those records that are still as they were read; how many these were."""
        dropped = 0
        for at in range(0, len(records), PAGE):
            portion = records[at : at + PAGE]
            dropped += sum(
                self._execute(*(load("adapters/drop_record").call([self._key], *record) for record in portion))
            )
        return dropped

    def _execute(self, *commands: Command) -> list[Any]:
        return self._store.driver.execute(list(commands))
