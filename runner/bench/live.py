"""Latency: how long until an appended event shows in a view of a runner process, and to a bare blocked reader."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import Any

from ..format.events import NewEvent
from ..format.keys import FIRST_BUILD
from ..sync.store import EventStore
from ..views.redis_rows import BuildView, row_state
from .workload import PAYLOAD


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


def live_latencies(store: EventStore, url: str, count: int) -> list[float]:
    """Seconds from the return of an append until the view that another process keeps shows it."""
    command = [sys.executable, "-P", "-m", "runner", "run", "--accept-bad", "--name", store.info.name]
    process = subprocess.Popen(
        [*command, "--projections", "runner.bench.latency"],
        env={**os.environ, "RUNNER_STORE": url},  # not an argument: all users of the machine can read those
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    session = store.driver.session()
    keys = store.info.keys[0]
    view = BuildView(keys, "bench-latency", FIRST_BUILD)
    look = [("HGET", view.key, "bench-1")]
    took: list[float] = []
    try:
        for tick in range(-20, count):  # the first ones wait for the runner and are not counted
            store.append("bench-1", NewEvent("Ticked", {"tick": tick}))
            start = time.perf_counter()
            before = session.call(look)
            while session.call(look) == before and time.perf_counter() - start < 10 and not _shows(view, before, tick):
                pass
            if tick >= 0:
                took.append(time.perf_counter() - start)
    finally:
        process.terminate()
        process.wait()
        session.close()
    return took


def _shows(view: BuildView, replies: list[Any], tick: int) -> bool:
    return replies[0] is not None and row_state(view, "bench-1", replies[0])["tick"] == tick
