"""Reading a view: the same names on both faces, and mapping syntax where nothing has to be awaited."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

import pytest
from accounts import balances, deposited, plain_fold

from runner import AsyncEventStore, AsyncView, EventStore, View, WaitTimeout, catch_up
from runner.effects import StoreOperation
from runner.effects.clock import Clock
from runner.format.keys import PartitionKeys
from runner.testing import TEST_SETTINGS, all_events, async_memory_store, memory_store
from runner.views.reading import ViewReader


def test_a_view_is_read_by_plain_names_and_like_a_mapping(store: EventStore) -> None:
    """`get`, `count` and `items` are what ``view[key]``, ``key in view``, ``len`` and a loop ask for."""
    # given
    for number in range(3):
        store.append(f"account-{number}", deposited(number))
    catch_up(store, balances())
    view = View(store, "balances")

    # when
    rows = dict(view.items())

    # then
    assert rows == plain_fold(all_events(store))
    assert view.count() == len(view) == 3
    assert sorted(view) == sorted(rows)
    assert view["account-1"] == view.get("account-1") == rows["account-1"]
    assert ("account-1" in view, "account-9" in view) == (True, False)
    assert view.get("account-9", "none") == "none"
    with pytest.raises(KeyError, match="account-9"):
        view["account-9"]


def test_an_asynchronous_view_has_the_same_names(store: EventStore, url: str) -> None:
    """What is read from it is what the other kind reads."""
    # given
    for number in range(3):
        store.append(f"account-{number}", deposited(number))
    catch_up(store, balances())
    there = View(store, "balances")

    async def main() -> None:
        async with AsyncEventStore.open(url, name=store.info.name, settings=TEST_SETTINGS) as other:
            view = AsyncView(other, "balances")
            assert {key: row async for key, row in view.items()} == dict(there.items())
            assert sorted([key async for key in view]) == sorted(there)
            assert await view.count() == there.count()
            assert await view.get("account-1") == there.get("account-1")
            assert await view.get("account-9", "none") == "none"

    # when / then
    asyncio.run(main())


#: Two pages as HSCAN may give them while the hash is resized: a row stands in both, in its old and its new state.
PAGES: dict[int, tuple[int, list[tuple[str, Any]]]] = {0: (7, [("a", 1), ("b", 1)]), 7: (0, [("b", 2), ("c", 1)])}


class Pages(ViewReader):
    """A reader that finds these pages."""

    def page(self, keys: PartitionKeys, cursor: int) -> StoreOperation[tuple[int, list[tuple[str, Any]]]]:
        return PAGES[cursor]
        yield


def test_a_row_that_is_found_twice_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server may show a row again while it reorganises the hash: whoever counts the items counts rows."""
    # given
    monkeypatch.setattr("runner.sync.view.ViewReader", Pages)
    monkeypatch.setattr("runner.aio.view.ViewReader", Pages)
    expected = [("a", 1), ("b", 1), ("c", 1)]

    async def asynchronously() -> list[tuple[str, Any]]:
        async with async_memory_store() as store:
            return [item async for item in AsyncView(store, "balances").items()]

    # when, then
    with memory_store() as store:
        assert list(View(store, "balances").items()) == expected
    assert asyncio.run(asynchronously()) == expected


def test_a_wait_lasts_as_long_as_the_clock_of_the_store_says(store: EventStore) -> None:
    """An hour's patience is over at once where each look at the clock finds it an hour later."""
    # given
    result = store.append("account-1", deposited())
    hours = count()
    store.driver.clock = Clock(lambda: next(hours) * 3600.0, lambda: 1, lambda: 1.0)

    # when
    with pytest.raises(WaitTimeout) as late:
        View(store, "balances").wait_for(result, timeout=3600)

    # then
    assert late.value.lag == 1


def test_what_the_view_shows_is_not_waited_for_without_end(store: EventStore) -> None:
    """A wait without a limit returns at once where the append is shown; an event that was read may be waited for."""
    # given
    store.append("account-1", deposited())
    catch_up(store, balances())

    # when / then
    [event] = all_events(store)
    View(store, "balances").wait_for(event, timeout=None)
