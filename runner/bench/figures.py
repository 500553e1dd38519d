"""The figures of the benchmark. Every figure has a baseline that is measured in the same run.

A baseline uses the same client as the package (one connection of redis-py with hiredis), the same server and the same
bytes, and does nothing else. Rounds of figure and baseline alternate and the best of each counts, because other work of
the machine only ever makes a round slower.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import quantiles

from ..following import catch_up
from ..format.keys import PartitionKeys
from ..settings import DEFAULTS
from ..sync.driver import Driver
from ..sync.store import EventStore
from ..testing import clear
from ..wire import address
from .live import bare_latencies, live_latencies, waits_across_processes, waits_in_one_process
from .workload import (
    PAGE,
    PIPELINE,
    appends,
    envelopes,
    exhaust,
    fill,
    parts,
    projection,
    raw,
    start,
    used,
    xadd,
)


@dataclass(frozen=True, slots=True)
class Figure:
    """A measurement: rates are events a second, times seconds. ``reach`` is the ratio that it should have."""

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

    @property
    def more_is_better(self) -> bool:
        """Whether a larger ratio is a better one: true for rates, not for times and sizes."""
        return self.reach.startswith("≥")


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
                fill(store, self._events)
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
        given = list(itertools.islice(appends(), count))
        packed = envelopes(given)

        def ours() -> float:
            with self._store() as store:
                return _timed(lambda: [store.append(*append) for append in given])

        def bare() -> float:
            with self._store() as store:
                add = store.driver.execute
                return _timed(lambda: [add([xadd(store, place, envelope)]) for place, envelope in packed])

        value, baseline = self._best(ours, bare)
        return at_least(
            "append, one event a round trip", count / value, "events/s", count / baseline, "XADD of the same bytes", 0.6
        )

    def _pipelined_appends(self) -> Figure:
        count = self._events
        given = list(itertools.islice(appends(), count))
        packed = envelopes(given)

        def ours() -> float:
            with self._store() as store:
                return _timed(lambda: [store.append_each(part) for part in parts(given, PIPELINE)])

        def bare() -> float:
            with self._store() as store:
                session = store.driver.session()
                return _timed(
                    lambda: [session.call([xadd(store, *item) for item in part]) for part in parts(packed, PIPELINE)]
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
        value, baseline = self._best(lambda: _timed(lambda: exhaust(store)), lambda: _timed(lambda: raw(store)))
        return at_least(
            "read_all to RecordedEvent", count / value, "events/s", count / baseline, "XRANGE pages, not decoded", 0.45
        )

    def _projecting(self, store: EventStore) -> Iterator[Figure]:
        count = self._events
        names = itertools.count()
        tenths = [[f"T{kind}", f"T{(kind + 1) % 20}"] for kind in range(20)]

        def run(*kinds: list[str]) -> float:
            projections = [projection(f"bench-{next(names)}", *types) for types in kinds]
            return _timed(lambda: catch_up(store, *projections))

        value, baseline = self._best(lambda: run([]), lambda: _timed(lambda: raw(store)))
        yield at_least(
            "one projection catching up", count / value, "events/s", count / baseline, "XRANGE pages, not decoded", 0.25
        )
        value, baseline = self._best(lambda: run(*tenths), lambda: run(tenths[0]))
        yield at_most("20 projections, a tenth of the events each", value, "s", baseline, "one such projection", 5)

    # -- live -----------------------------------------------------------------------------------

    def _latency(self) -> Iterator[Figure]:
        count = 300
        with self._store() as store:
            bare = quantiles(bare_latencies(store, count), n=100)
            ours = quantiles(live_latencies(store, self._url, count), n=100)
        what, against = "live: append returns → row visible", "XADD → blocked XREAD wakes"
        yield at_most(f"{what}, p50", ours[49], "s", bare[49], against, 3)
        yield at_most(f"{what}, p99", ours[98], "s", bare[98], against, 4)
        with self._store() as store:
            inside = quantiles(waits_in_one_process(store, count), n=100)
        with self._store() as store:
            across = quantiles(waits_across_processes(store, self._url, count), n=100)
        what, against = "append and View.wait_for, two processes", "append and Following.wait_for, one process"
        yield at_most(f"{what}, p50", across[49], "s", inside[49], against, 1.5)

    # -- memory and start-up --------------------------------------------------------------------

    def _memory(self) -> Figure:
        count = self._events
        given = list(itertools.islice(appends(), count))
        packed = envelopes(given)

        def ours() -> float:
            with self._store() as store:
                before = used(store)
                for part in parts(given, PIPELINE):
                    store.append_each(part)
                return used(store) - before

        def bare() -> float:
            with self._store() as store:
                before = used(store)
                for part in parts(packed, PIPELINE):
                    store.driver.execute([xadd(store, *item) for item in part])
                return used(store) - before

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
                fill(store, events, in_bulk=True)
                catch_up(store, projection("bench-startup"))
            value, baseline = self._best(lambda: start(large), lambda: start(small), rounds=5 * self._rounds)
        return at_most(
            f"start-up with {self._startup_events:,} events before the checkpoint",
            value,
            "s",
            baseline,
            f"with {few:,}",
            1.2,
        )

    # -- parts ----------------------------------------------------------------------------------

    def _store(self) -> EventStore:
        """A new store with an unused name. The name is short, as names usually are: it is part of every key."""
        while True:
            name = f"b{next(self._numbers)}"
            [taken] = self._driver.execute([("EXISTS", PartitionKeys(name, 0).meta)])
            if not taken:
                self._ours.append(name)
                return EventStore.open(self._url, name=name)

    def _best(
        self, ours: Callable[[], float], bare: Callable[[], float], rounds: int | None = None
    ) -> tuple[float, float]:
        taken = [(ours(), bare()) for _ in range(rounds or self._rounds)]
        return min(one for one, _ in taken), min(other for _, other in taken)

    def _clean_up(self) -> None:
        for name in self._ours:
            with EventStore.open(self._url, name=name) as store:
                clear(store)
                store.driver.execute([("DEL", store.info.keys[0].meta)])
        self._driver.close()
        self._driver.address.close()


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
