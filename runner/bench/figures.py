"""What is measured, and against what. Every figure stands beside a baseline taken in the same run.

A baseline uses the same client as the package (one connection of redis-py with hiredis), the same server and the same
bytes, and does nothing else. Rounds of figure and baseline alternate and the best of each counts, because whatever
else a machine does only ever makes a round slower.
"""

from __future__ import annotations

import itertools
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

from ..engine import Engine
from ..errors import RunnerError
from ..events import NewEvent, RecordedEvent, pack_event
from ..following import catch_up
from ..keys import PartitionKeys
from ..log.appending import Append
from ..projection import Projection
from ..settings import DEFAULTS
from ..store import EventStore
from ..testing import clear
from ..wire import address
from ..wire.sync import Driver

#: Events a stream has, and the size of their payloads in bytes.
EVENTS_A_STREAM, PAYLOAD = 10, 100

#: How many streams are being written to at a time: claims under way in the same weeks, carts of the same hour.
STREAMS_AT_A_TIME = 100

#: Commands in one pipeline.
PIPELINE = 1000

#: Entries in one page of a bare read.
PAGE = 500


@dataclass(frozen=True, slots=True)
class Figure:
    """A measurement: rates are events a second, times seconds. ``reach`` is what its ratio should be."""

    name: str
    value: float
    unit: str
    baseline: float
    baseline_name: str
    reach: str
    met: bool

    @property
    def ratio(self) -> float:
        return self.value / self.baseline


def at_least(name: str, value: float, unit: str, baseline: float, baseline_name: str, reach: float) -> Figure:
    return Figure(name, value, unit, baseline, baseline_name, f"≥ {reach}", value / baseline >= reach)


def at_most(name: str, value: float, unit: str, baseline: float, baseline_name: str, reach: float) -> Figure:
    return Figure(name, value, unit, baseline, baseline_name, f"≤ {reach}", value / baseline <= reach)


class Bench:
    """Measures against stores of its own on the server at ``url``; it removes them afterwards."""

    def __init__(self, url: str, *, events: int, startup_events: int, rounds: int = 5) -> None:
        self._url = url
        self._events = max(events, 2 * PAGE)
        self._startup_events = startup_events
        self._rounds = rounds
        self._driver = Driver(address.parse(url), DEFAULTS)
        self._numbers = itertools.count(secrets.randbelow(90) + 10)
        self._ours: list[str] = []

    def figures(self) -> Iterator[Figure]:
        """Take all figures, one after the other."""
        try:
            yield self._single_appends()
            yield self._pipelined_appends()
            with self._store() as store:
                _fill(store, self._events)
                yield self._reading(store)
                yield from self._projecting(store)
            yield from self._latency()
            yield self._memory()
            yield self._startup()
        finally:
            self._clean_up()

    # -- appending ------------------------------------------------------------------------------

    def _single_appends(self) -> Figure:
        count = max(200, self._events // 100)
        appends = list(itertools.islice(_appends(), count))
        envelopes = _envelopes(appends)

        def ours() -> float:
            with self._store() as store:
                return _timed(lambda: [store.append(*append) for append in appends])

        def bare() -> float:
            with self._store() as store:
                add = store.driver.execute
                return _timed(lambda: [add([_xadd(store, place, envelope)]) for place, envelope in envelopes])

        value, baseline = self._best(ours, bare)
        return at_least(
            "append, one event a round trip", count / value, "events/s", count / baseline, "XADD of the same bytes", 0.6
        )

    def _pipelined_appends(self) -> Figure:
        count = self._events
        appends = list(itertools.islice(_appends(), count))
        envelopes = _envelopes(appends)

        def ours() -> float:
            with self._store() as store:
                return _timed(lambda: [store.append_each(part) for part in _parts(appends, PIPELINE)])

        def bare() -> float:
            with self._store() as store:
                session = store.driver.session()
                return _timed(
                    lambda: [
                        session.call([_xadd(store, *item) for item in part]) for part in _parts(envelopes, PIPELINE)
                    ]
                )

        value, baseline = self._best(ours, bare)
        return at_least(
            "append, pipelined singles",
            count / value,
            "events/s",
            count / baseline,
            "XADD of the same bytes, pipelined",
            0.45,
        )

    # -- reading and projecting -----------------------------------------------------------------

    def _reading(self, store: EventStore) -> Figure:
        count = self._events
        value, baseline = self._best(lambda: _timed(lambda: _exhaust(store)), lambda: _timed(lambda: _raw(store)))
        return at_least(
            "read_all to RecordedEvent", count / value, "events/s", count / baseline, "XRANGE pages, not decoded", 0.45
        )

    def _projecting(self, store: EventStore) -> Iterator[Figure]:
        count = self._events
        names = itertools.count()
        tenths = [[f"T{kind}", f"T{(kind + 1) % 20}"] for kind in range(20)]

        def run(*kinds: list[str]) -> float:
            projections = [_projection(f"bench-{next(names)}", *types) for types in kinds]
            return _timed(lambda: catch_up(store, *projections))

        value, baseline = self._best(lambda: run([]), lambda: _timed(lambda: _raw(store)))
        yield at_least(
            "one projection catching up", count / value, "events/s", count / baseline, "XRANGE pages, not decoded", 0.25
        )
        value, baseline = self._best(lambda: run(*tenths), lambda: run(tenths[0]))
        yield at_most("20 projections, a tenth of the events each", value, "s", baseline, "one such projection", 5)

    # -- live -----------------------------------------------------------------------------------

    def _latency(self) -> Iterator[Figure]:
        count = 300
        with self._store() as store:
            bare = quantiles(_bare_latencies(store, count), n=100)
            ours = quantiles(_live_latencies(store, self._url, count), n=100)
        what, against = "live: append returns → row visible", "XADD → blocked XREAD wakes"
        yield at_most(f"{what}, p50", ours[49], "s", bare[49], against, 3)
        yield at_most(f"{what}, p99", ours[98], "s", bare[98], against, 4)

    # -- memory and start-up --------------------------------------------------------------------

    def _memory(self) -> Figure:
        count = self._events
        appends = list(itertools.islice(_appends(), count))
        envelopes = _envelopes(appends)

        def ours() -> float:
            with self._store() as store:
                before = _used(store)
                for part in _parts(appends, PIPELINE):
                    store.append_each(part)
                return _used(store) - before

        def bare() -> float:
            with self._store() as store:
                before = _used(store)
                for part in _parts(envelopes, PIPELINE):
                    store.driver.execute([_xadd(store, *item) for item in part])
                return _used(store) - before

        value, baseline = self._best(ours, bare)
        return at_most(
            "memory per event, index included",
            value / count,
            "bytes",
            baseline / count,
            "one bare stream of the envelopes",
            1.25,
        )

    def _startup(self) -> Figure:
        few = 1000
        with self._store() as small, self._store() as large:
            for store, events in ((small, few), (large, self._startup_events)):
                _fill(store, events, in_bulk=True)
                catch_up(store, _projection("bench-startup"))
            value, baseline = self._best(lambda: _start(large), lambda: _start(small))
        return at_most(
            f"start-up with {self._startup_events:,} events behind the checkpoint",
            value,
            "s",
            baseline,
            f"with {few:,}",
            1.2,
        )

    # -- parts ----------------------------------------------------------------------------------

    def _store(self) -> EventStore:
        """A new store. Its name is as short as names usually are, since it is part of every key; and nobody's yet."""
        while True:
            name = f"b{next(self._numbers)}"
            [taken] = self._driver.execute([("EXISTS", PartitionKeys(name, 0).meta)])
            if not taken:
                self._ours.append(name)
                return EventStore.open(self._url, name=name)

    def _best(self, ours: Callable[[], float], bare: Callable[[], float]) -> tuple[float, float]:
        rounds = [(ours(), bare()) for _ in range(self._rounds)]
        return min(one for one, _ in rounds), min(other for _, other in rounds)

    def _clean_up(self) -> None:
        for name in self._ours:
            with EventStore.open(self._url, name=name) as store:
                clear(store)
                store.driver.execute([("DEL", store.facts.keys[0].meta)])
        self._driver.close()
        self._driver.address.close()


def _appends() -> Iterator[Append]:
    """Appends without end: 100 streams under way at a time, 10 events in each, then the next 100."""
    for block in itertools.count():
        for number in range(EVENTS_A_STREAM):
            for stream in range(STREAMS_AT_A_TIME):
                kind = (stream + number) % 20
                data = {"amount": stream, "note": "x" * (PAYLOAD - 20)}
                yield f"bench-{block * STREAMS_AT_A_TIME + stream}", [NewEvent(f"T{kind}", data)], number


def _envelopes(appends: list[Append]) -> list[tuple[int, bytes]]:
    now = time.time_ns() // 1000
    return [(position, pack_event(stream, event, now)) for position, (stream, [event], _) in enumerate(appends, 1)]


def _xadd(store: EventStore, position: int, envelope: bytes) -> tuple[Any, ...]:
    return ("XADD", store.facts.keys[0].tag + ":bare", f"{position}-1", "e", envelope)


def _fill(store: EventStore, count: int, *, in_bulk: bool = False) -> None:
    if in_bulk:
        for start in range(0, count, PIPELINE):
            events = [NewEvent("T0", {"amount": 1, "note": "x" * 80}) for _ in range(min(PIPELINE, count - start))]
            store.append(f"bench-{start}", events, 0)
        return
    for part in _parts(list(itertools.islice(_appends(), count)), PIPELINE):
        for outcome in store.append_each(part):
            if isinstance(outcome, RunnerError):
                raise outcome


def _projection(name: str, *types: str) -> Projection:
    projection = Projection(name, category="bench", initial=lambda: {"amount": 0, "events": 0})

    def add(state: dict[str, int], event: RecordedEvent) -> None:
        state["amount"] += event.data["amount"]
        state["events"] += 1

    projection.when(*types, add)
    return projection


def _exhaust(store: EventStore) -> None:
    for _ in store.read_all():
        pass


def _raw(store: EventStore) -> None:
    session = store.driver.session()
    log, after = store.facts.keys[0].log, "0"
    while True:
        [entries] = session.call([("XRANGE", log, f"({after}", "+", "COUNT", PAGE)])
        if not entries:
            break
        after = entries[-1][0].decode()
    session.close()


def _start(store: EventStore) -> float:
    def until_live() -> None:
        engine = Engine(store, [_projection("bench-startup")])
        engine.start()
        engine.wait_live(60)
        engine.stop()
        engines.append(engine)

    engines: list[Engine] = []
    took = _timed(until_live)
    engines[0].join()
    return took


def _bare_latencies(store: EventStore, count: int) -> list[float]:
    key = store.facts.keys[0].tag + ":latency"
    woke: list[float] = []
    blocked = threading.Semaphore(0)
    done = threading.Semaphore(0)

    def read() -> None:
        session = store.driver.session(timeout=10)
        for place in range(count):
            blocked.release()
            session.call([("XREAD", "BLOCK", 5000, "STREAMS", key, f"{place}-1")])
            woke.append(time.perf_counter())
            done.release()
        session.close()

    thread = threading.Thread(target=read)
    thread.start()
    sent: list[float] = []
    for place in range(count):
        blocked.acquire()
        _until_blocked(store)
        sent.append(time.perf_counter())
        store.driver.execute([("XADD", key, f"{place + 1}-1", "e", "x" * PAYLOAD)])
        done.acquire()
    thread.join()
    return [end - start for start, end in zip(sent, woke, strict=True)]


def _until_blocked(store: EventStore) -> None:
    while True:
        [info] = store.driver.execute([("INFO", "clients")])
        if b"blocked_clients:0" not in info:
            return


def _live_latencies(store: EventStore, url: str, count: int) -> list[float]:
    command = [sys.executable, "-m", "runner", "run", "--accept-bad", "--store", url, "--name", store.facts.name]
    process = subprocess.Popen(
        [*command, "--projections", "runner.bench.latency"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    session = store.driver.session()
    keys = store.facts.keys[0]
    look = [("HGET", keys.view("bench-latency", "1"), "bench-1")]
    took: list[float] = []
    try:
        for tick in range(-20, count):  # the first ones wait for the runner and are not counted
            store.append("bench-1", NewEvent("Ticked", {"tick": tick}))
            start = time.perf_counter()
            before = session.call(look)
            while session.call(look) == before and time.perf_counter() - start < 10 and not _shows(before, tick):
                pass
            if tick >= 0:
                took.append(time.perf_counter() - start)
    finally:
        process.terminate()
        process.wait()
        session.close()
    return took


def _shows(replies: list[Any], tick: int) -> bool:
    from ..codec import unpack

    return replies[0] is not None and unpack(replies[0])["tick"] == tick


def _used(store: EventStore) -> int:
    [info] = store.driver.execute([("INFO", "memory")])
    for line in info.decode().splitlines():
        if line.startswith("used_memory_dataset:"):
            return int(line.partition(":")[2])
    raise RunnerError("the server does not tell how much memory it uses")


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _parts(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
