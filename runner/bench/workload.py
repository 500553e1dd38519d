"""The workload of the benchmark: events, bare commands, and the plain loops that are measured."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

from ..errors import RunnerError
from ..format.events import NewEvent, RecordedEvent, pack_event
from ..log.append_plan import Append
from ..projections.projection import Projection
from ..sync.engine import Engine
from ..sync.store import EventStore

#: Events a stream has, and the size of their payloads in bytes.
EVENTS_A_STREAM, PAYLOAD = 10, 100

#: How many streams are being written to at a time: claims under way in the same weeks, carts of the same hour.
STREAMS_AT_A_TIME = 100

#: Commands in one pipeline.
PIPELINE = 1000

#: Entries in one page of a bare read.
PAGE = 500


def appends() -> Iterator[Append]:
    """Appends without end: 100 streams under way at a time, 10 events in each, then the next 100."""
    for block in itertools.count():
        for number in range(EVENTS_A_STREAM):
            for stream in range(STREAMS_AT_A_TIME):
                kind = (stream + number) % 20
                data = {"amount": stream, "note": "x" * (PAYLOAD - 20)}
                yield f"bench-{block * STREAMS_AT_A_TIME + stream}", [NewEvent(f"T{kind}", data)], number


def envelopes(appends: list[Append]) -> list[tuple[int, bytes]]:
    """The positions of the events and the bytes that are stored for them."""
    now = time.time_ns() // 1000
    return [(position, pack_event(stream, event, now)) for position, (stream, [event], _) in enumerate(appends, 1)]


def xadd(store: EventStore, position: int, envelope: bytes) -> tuple[Any, ...]:
    """The bare command that stores the same bytes."""
    return ("XADD", store.info.keys[0].tag + ":bare", f"{position}-1", "e", envelope)


def fill(store: EventStore, count: int, *, in_bulk: bool = False) -> None:
    """Append ``count`` events; in bulk to a few long streams, else as `appends` gives them."""
    if in_bulk:
        for start in range(0, count, PIPELINE):
            events = [NewEvent("T0", {"amount": 1, "note": "x" * 80}) for _ in range(min(PIPELINE, count - start))]
            store.append(f"bench-{start}", events, 0)
        return
    for part in parts(list(itertools.islice(appends(), count)), PIPELINE):
        for outcome in store.append_each(part):
            if isinstance(outcome, RunnerError):
                raise outcome


def projection(name: str, *types: str) -> Projection:
    """A projection that handles the given types (all, when there are none) and reads the payload."""
    projection = Projection(name, category="bench", initial=lambda: {"amount": 0, "events": 0})

    def add(state: dict[str, int], event: RecordedEvent) -> None:
        state["amount"] += event.data["amount"]
        state["events"] += 1

    projection.when(*types)(add)
    return projection


def exhaust(store: EventStore) -> None:
    """Read every event."""
    for _ in store.read_all():
        pass


def raw(store: EventStore) -> None:
    """Read every entry of the log and decode none."""
    session = store.driver.session()
    log, after = store.info.keys[0].log, "0"
    while True:
        [entries] = session.call([("XRANGE", log, f"({after}", "+", "COUNT", PAGE)])
        if not entries:
            break
        after = entries[-1][0].decode()
    session.close()


def start(store: EventStore) -> float:
    """Seconds from a new engine until its projection is live."""
    begin = time.perf_counter()
    engine = Engine(store, [projection("bench-startup")])
    engine.start()
    engine.wait_live(60)
    took = time.perf_counter() - begin
    engine.stop()
    engine.join()
    return took


def used(store: EventStore) -> int:
    """How many bytes the server's data takes."""
    [info] = store.driver.execute([("INFO", "memory")])
    for line in info.decode().splitlines():
        if line.startswith("used_memory_dataset:"):
            return int(line.partition(":")[2])
    raise RunnerError("the server does not tell how much memory it uses")


def parts(items: list[Any], size: int) -> Iterator[list[Any]]:
    """The items in lists of ``size``."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
