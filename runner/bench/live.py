"""Latency: how long until an appended event shows in a view of a runner process, and to a bare blocked reader."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..following import follow
from ..format.events import NewEvent
from ..format.keys import FIRST_BUILD
from ..log.append_plan import AppendResult
from ..sync.store import EventStore
from ..sync.view import View
from ..views.redis_rows import BuildView, row_state
from .latency import bench_latency
from .workload import PAYLOAD

#: The first appends of a measurement wait for the runner, and are not counted.
UNCOUNTED = 20


def bare_latencies(store: EventStore, count: int) -> list[float]:
    """Seconds from sending an XADD until a reader blocked in XREAD has the entry."""
    key = store.info.keys[0].tag + ":latency"
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


@contextmanager
def _runner(store: EventStore, url: str) -> Iterator[None]:
    """A runner process that keeps the view of `bench_latency`."""
    command = [sys.executable, "-P", "-m", "runner", "run", "--accept-bad", "--name", store.info.name]
    process = subprocess.Popen(
        [*command, "--projections", "runner.bench.latency"],
        env={**os.environ, "RUNNER_STORE": url},  # not an argument: all users of the machine can read those
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def live_latencies(store: EventStore, url: str, count: int) -> list[float]:
    """Seconds from the return of an append until the view that another process keeps shows it."""
    session = store.driver.session()
    keys = store.info.keys[0]
    view = BuildView(keys, bench_latency.name, FIRST_BUILD)
    look = [("HGET", view.key, "bench-1")]
    took: list[float] = []
    with _runner(store, url):
        for tick in range(-UNCOUNTED, count):
            store.append("bench-1", NewEvent("Ticked", {"tick": tick}))
            start = time.perf_counter()
            before = session.call(look)
            while session.call(look) == before and time.perf_counter() - start < 10 and not _shows(view, before, tick):
                pass
            if tick >= 0:
                took.append(time.perf_counter() - start)
    session.close()
    return took


def waits_across_processes(store: EventStore, url: str, count: int) -> list[float]:
    """Seconds from an append to the end of `View.wait_for`, while another process keeps the view."""
    with _runner(store, url):
        return _waits(store, View(store, bench_latency).wait_for, count)


def waits_in_one_process(store: EventStore, count: int) -> list[float]:
    """Seconds from an append to the end of `Following.wait_for`, while this process keeps the view."""
    with follow(store, bench_latency) as following:
        return _waits(store, following.wait_for, count)


def _waits(store: EventStore, wait_for: Callable[[AppendResult], None], count: int) -> list[float]:
    took: list[float] = []
    for tick in range(-UNCOUNTED, count):
        start = time.perf_counter()
        wait_for(store.append("bench-1", NewEvent("Ticked", {"tick": tick})))
        if tick >= 0:
            took.append(time.perf_counter() - start)
    return took


def _shows(view: BuildView, replies: list[Any], tick: int) -> bool:
    return replies[0] is not None and row_state(view, "bench-1", replies[0])["tick"] == tick
