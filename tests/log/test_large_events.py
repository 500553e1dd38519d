"""Large events: a page has few enough bytes, so the memory of a reader does not grow with the log."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from accounts import balances, deposited
from servers import server

from runner import ANY, EventStore, NewEvent, catch_up
from runner.format.scripts import load
from runner.log.page_size import PAGE_BYTES, PageSize
from runner.settings import MAX_EVENT_BYTES
from runner.subscriptions.feed import BUFFER_BYTES, Member
from runner.testing import TEST_SETTINGS

#: How many large events the log has, and the bytes of each.
COUNT, SIZE = 400, 1_000_000

#: By how much the memory of a process may grow over them, in MB.
GROWTH = 64

PLUGIN = """
from runner import Projection
sizes = Projection("sizes", category="big", initial=lambda: {"count": 0})

@sizes.when("Big")
def seen(state, event):
    state["count"] += 1
"""

#: What each process does with the store, and with an empty one, which shows what the process itself takes.
WORK = {
    "export": 'command("export", os.devnull)',
    "run": 'command("run", "--once", "--accept-bad", "--projections", sys.argv[3])',
    "verify": 'command("verify")',
    "reading": "for event in opened().read_all(): pass",
    "reading backwards": "for event in opened().read_all(backwards=True): pass",
    "reading a stream": 'for event in opened().read_stream("big-1"): pass',
    "a subscription": """
with opened().subscribe(ALL) as events:
    while events.poll(0.1) is not None: pass
""",
    "the live feed": """
writer, store = opened(), opened()
with store.subscribe(ALL, after=store.last_position(), resubscribe=True) as events, ThreadPoolExecutor(1) as thread:
    assert events.poll(0.1) is None and events.caught_up
    count = min(100, writer.last_position())
    list(thread.map(lambda n: writer.append("live", NewEvent("Big", "x" * 1_000_000)), range(count)))
    while events.poll(0.1) is not None: pass
""",
    "a state as of now": "state_at(opened(), sizes)",
    "an asynchronous store": """
async def read():
    async with AsyncEventStore.open(sys.argv[1], name=sys.argv[2]) as store:
        async for event in store.read_all(): pass
asyncio.run(read())
""",
}

PROCESS = """
import asyncio, os, resource, sys
from concurrent.futures import ThreadPoolExecutor
from runner import ALL, AsyncEventStore, EventStore, NewEvent, Projection, state_at
from runner.cli.main import main

sizes = Projection("sizes", initial=lambda: {"count": 0})
sizes.when("Big", lambda state, event: {"count": state["count"] + 1})

def opened():
    return EventStore.open(sys.argv[1], name=sys.argv[2])

def command(*arguments):
    os.environ["RUNNER_STORE"], os.environ["RUNNER_NAME"] = sys.argv[1:3]
    try:
        main([*arguments])
    except SystemExit as end:
        assert not end.code, end.code
"""


@pytest.fixture(scope="module")
def large() -> Iterator[str]:
    """The URL of a server with a store "large", whose events are, and with "small", which has one small event."""
    with server("--appendonly", "no", "--maxmemory", "3gb") as own:
        with EventStore.open(own.url, name="large", settings=TEST_SETTINGS) as store:
            for number in range(COUNT):
                store.append(f"big-{number % 2}", NewEvent("Big", f"{number:06}" + "x" * SIZE))
        with EventStore.open(own.url, name="small", settings=TEST_SETTINGS) as store:
            store.append("big-1", NewEvent("Big", "x"))
        yield own.url


def peak(url: str, name: str, work: str, plugin: Path) -> float:
    """The most memory that a process had while it worked, in MB."""
    code = PROCESS + WORK[work] + "\nprint('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    run = subprocess.run(
        [sys.executable, "-c", code, url, name, str(plugin)], capture_output=True, text=True, timeout=100,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return int(run.stdout.rpartition("peak ")[2]) / 1024


@pytest.mark.real
@pytest.mark.parametrize("work", WORK)
def test_the_memory_of_a_reader_does_not_grow_with_large_events(large: str, tmp_path: Path, work: str) -> None:
    """Of 400 events of 1 MB, as many are in memory at a time as a page may have."""
    plugin = tmp_path / "sizes.py"
    plugin.write_text(PLUGIN)
    assert peak(large, "large", work, plugin) - peak(large, "small", work, plugin) <= GROWTH


@pytest.mark.real
def test_the_server_holds_few_large_events_while_it_looks_for_an_id(large: str) -> None:
    """A script has what it reads in the server's memory."""
    with EventStore.open(large, name="large", settings=TEST_SETTINGS) as store:
        find = load("adapters/find_event").call([store.info.keys[0].log], bytes(16), 1, COUNT)
        [[verdict, entry]] = store.driver.execute([find])
        memory = store.driver.execute([("INFO", "memory")])[0].decode()

    found = dict(line.split(":", 1) for line in memory.split() if ":" in line)
    assert (verdict, entry[:4]) == (b"further", b"400-")
    assert (int(found["used_memory_peak"]) - int(found["used_memory"])) / 1e6 < GROWTH


def test_the_size_of_a_page_follows_what_was_seen() -> None:
    """At first it is small enough for the largest events; it is full after small ones, and grows again after large."""
    size = PageSize(500)
    assert size.count == PAGE_BYTES // MAX_EVENT_BYTES == 8
    size.saw(200)
    assert size.count == 500
    size.saw(1_000_000)
    assert size.count == 8
    counts = []
    while size.count < 500:
        size.saw(200)
        counts.append(size.count)
    assert counts == [16, 33, 67, 134, 268, 500]
    size.saw(0)
    assert size.count == 500
    assert PageSize(2).count == 2


def test_a_member_of_the_feed_holds_so_many_bytes() -> None:
    """It is dropped at the page that is too much; one page always fits."""
    member = Member(1000, lambda: None)
    event: Any = object()
    assert member.offer([event], 1, 2 * BUFFER_BYTES)
    assert member.take() is not None
    assert member.offer([event], 2, BUFFER_BYTES // 2)
    assert member.offer([event], 3, BUFFER_BYTES // 2)
    assert not member.offer([event], 4, 1)


@pytest.mark.parametrize("backwards", [False, True])
def test_a_page_of_a_stream_is_cut_where_it_has_enough_bytes(store: EventStore, backwards: bool) -> None:
    """All its events are read all the same, in order, whichever streams lie between them."""
    # given
    for number in range(6):
        store.append_each([
            ("big-1", [NewEvent("Big", "x" * 900_000), NewEvent("Big", number)], ANY),
            ("big-2", [NewEvent("Big", "x" * 900_000)], ANY),
        ])  # fmt: skip

    # when
    events = list(store.read_stream("big-1", backwards=backwards))

    # then
    expected = list(range(1, 13))
    assert [event.number for event in events] == (expected[::-1] if backwards else expected)
    assert [event.number for event in store.read_stream("big-1", limit=11, backwards=backwards)] == (
        expected[:0:-1] if backwards else expected[:11]
    )


def test_pages_of_large_and_small_events_lose_none(store: EventStore) -> None:
    """Forwards, backwards and in a subscription."""
    # given
    sizes = [10, 10, 900_000, 10, *[900_000] * 12, *[10] * 40]
    store.append_each([(f"account-{place % 3}", [deposited(text="x" * size)], ANY) for place, size in enumerate(sizes)])

    # when
    events = list(store.read_all())

    # then
    assert [event.position for event in events] == list(range(1, len(sizes) + 1))
    assert list(store.read_all(backwards=True)) == events[::-1]
    with store.subscribe("account-1") as subscription:
        expected = list(store.read_stream("account-1"))
        assert [subscription.poll(5) for _ in expected] == expected

    assert catch_up(store, balances()) == len(sizes)
