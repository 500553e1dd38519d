"""Looking at a store from beneath: commands, and all that it has in Redis."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from runner import EventStore, RecordedEvent
from runner.format.keys import PartitionKeys


def do(store: EventStore, *command: Any) -> Any:
    """Run one command on the store's server."""
    [reply] = store.driver.execute([command])
    return reply


def keys_of(store: EventStore) -> PartitionKeys:
    """The names of the first partition's keys."""
    return store.info.keys[0]


_LOOK = {
    b"stream": lambda key: ("XRANGE", key, "-", "+"),
    b"hash": lambda key: ("HGETALL", key),
    b"set": lambda key: ("SMEMBERS", key),
    b"string": lambda key: ("GET", key),
}


def redis_contents(store: EventStore) -> dict[bytes, Any]:
    """Everything that the store has in Redis, key by key."""
    found = {}
    for keys in store.info.keys:
        for key in do(store, "KEYS", f"{keys.tag}:*"):
            kind = do(store, "TYPE", key)
            value = do(store, *_LOOK[kind](key))
            # A server may give the fields of a hash, and the members of a set, in another order each time.
            if kind == b"hash":
                value = dict(zip(value[::2], value[1::2], strict=True))
            found[key] = sorted(value) if kind == b"set" else value
    return found


def trim_by_hand(store: EventStore, floor: int) -> None:
    """Trim the log up to and with position ``floor``, and say so, without the checks of `runner trim`."""
    keys = keys_of(store)
    store.driver.execute([("XTRIM", keys.log, "MINID", floor + 1), ("HSET", keys.meta, "floor", floor)])


def amounts(events: Iterable[RecordedEvent]) -> list[int]:
    """The amounts of deposits."""
    return [event.data["amount"] for event in events]


def numbers(events: Iterable[RecordedEvent]) -> list[int]:
    """The places in their stream."""
    return [event.number for event in events]


def positions(events: Iterable[RecordedEvent]) -> list[int]:
    """The places in the log."""
    return [event.position for event in events]
