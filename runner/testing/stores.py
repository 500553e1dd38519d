"""Stores in memory, and helpers to look into any store.

``memory_store()`` gives a store on fakeredis: the behaviour of a store on a server, made in about a millisecond.
"""

from __future__ import annotations

from ..aio.store import AsyncEventStore
from ..format.events import RecordedEvent
from ..settings import DEFAULT_NAME, Settings
from ..sync.store import EventStore

#: Short waits, so that a test which stops a subscription or projection does not wait a second.
TEST_SETTINGS = Settings(block=0.05, retry_for=2.0, heartbeat=0.1, lease=2.0)


def memory_store(
    *, name: str = DEFAULT_NAME, partitions: int | None = None, settings: Settings = TEST_SETTINGS
) -> EventStore:
    """A new, empty store in memory. Needs the extra ``memory``; raises InvalidInput without it."""
    return EventStore.open("memory:", name=name, partitions=partitions, settings=settings)


def async_memory_store(
    *, name: str = DEFAULT_NAME, partitions: int | None = None, settings: Settings = TEST_SETTINGS
) -> AsyncEventStore:
    """A new, empty asynchronous store in memory. Needs the extra ``memory``; raises InvalidInput without it."""
    return AsyncEventStore.open("memory:", name=name, partitions=partitions, settings=settings)


def all_events(store: EventStore) -> list[RecordedEvent]:
    """Every event of the store, in the order of the log. Raises what `EventStore.read_all` raises."""
    return list(store.read_all())


def streams(store: EventStore) -> dict[str, int]:
    """The streams of the store and their versions, in order of their first event.

    Raises what `EventStore.read_all` raises.
    """
    return {event.stream: event.number for event in store.read_all()} if store.last_position() else {}


def count(store: EventStore) -> int:
    """How many events were ever appended to the store. Raises StoreTrouble."""
    return sum(store.last_position(partition=partition) for partition in range(store.info.partitions))


def clear(store: EventStore) -> None:
    """Remove everything that the store holds, and nothing else in the database. The store stays usable.

    Raises StoreTrouble.
    """
    for keys in store.info.keys:
        pattern = keys.tag.replace("{", "[{]").replace("}", "[}]") + ":*"
        cursor, more = 0, True
        while more:
            [(following, found)] = store.driver.execute([("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)])
            cursor, more = int(following), int(following) != 0
            gone = [key for key in found if key.decode() != keys.meta]
            if gone:
                store.driver.execute([("UNLINK", *gone)])
        store.driver.execute([("HDEL", keys.meta, "floor")])
