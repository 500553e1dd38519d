"""The kit for people who write tests: a store in memory, and helpers to look into any store."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner import EventStore, NewEvent, Projection, View, catch_up
from runner.testing import all_events, async_memory_store, clear, count, memory_store, streams


def test_a_store_in_memory_behaves_like_one_on_a_server() -> None:
    """D1. It appends, projects and shows, and needs no server; two of them share nothing."""
    counts = Projection("counts", initial=lambda: {"events": 0})
    counts.when(lambda state, event: {"events": state["events"] + 1})
    with memory_store() as store, memory_store() as other:
        store.append("a-1", [NewEvent("X"), NewEvent("Y")], 0)
        assert catch_up(store, counts) == 2
        assert View(store, "counts")["a-1"] == {"events": 2}
        assert (count(store), count(other)) == (2, 0)


def test_the_asynchronous_store_in_memory_is_one_too() -> None:
    """D1. The same, with await."""
    import asyncio

    async def scenario() -> int:
        async with async_memory_store() as store:
            return (await store.append("a-1", NewEvent("X"), 0)).version

    assert asyncio.run(scenario()) == 1


def test_helpers_list_and_count_what_a_store_holds(store: EventStore) -> None:
    """D1. All events in the order of the log, the streams with their versions, the count."""
    store.append("a-1", [NewEvent("X"), NewEvent("Y")])
    store.append("b-1", NewEvent("Z"))
    assert [event.type for event in all_events(store)] == ["X", "Y", "Z"]
    assert streams(store) == {"a-1": 2, "b-1": 1}
    assert count(store) == 3


def test_clear_removes_a_store_and_nothing_else(url: str, fresh_name: str) -> None:
    """D1. Another store of the same database is untouched, and the cleared one is as good as new."""
    with EventStore.open(url, name=fresh_name) as store, EventStore.open(url, name=f"{fresh_name}x") as neighbour:
        for one in (store, neighbour):
            one.append("a-1", NewEvent("X"), 0)
            catch_up(one, Projection("p"))
        clear(store)
        assert (count(store), streams(store), count(neighbour)) == (0, {}, 1)
        assert store.append("a-1", NewEvent("X"), 0).position == 1


def test_tests_without_the_marker_need_no_server(tmp_path: Path) -> None:
    """D6. With ``-m "not real"`` the kit's own tests pass where no server can be found."""
    environment = {**os.environ, "PATH": str(tmp_path), "PYTEST_ADDOPTS": ""}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "not real", "-k", "not without_the_marker", __file__],
        capture_output=True, text=True, check=False, env=environment, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "deselected" in done.stdout


def test_the_marker_is_on_every_test_that_takes_the_real_server(request: pytest.FixtureRequest) -> None:
    """D6. No test can use the shared server, or a store on it, without saying so."""
    real = {"server_directory", "real_url", "real_store"}
    for item in request.session.items:
        if real & set(getattr(item, "fixturenames", ())) and "memory" not in item.name:
            assert item.get_closest_marker("real"), item.nodeid
