"""Waits for views: however many there are, they look first, share one connection, and leave nothing behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from accounts import PATIENCE, balances, deposited, reached
from servers import Server, server
from tls import tls_server

from runner import (
    AppendResult,
    AsyncEventStore,
    AsyncView,
    EventStore,
    View,
    WaitTimeout,
    catch_up,
    follow,
)
from runner.errors import StoreClosed
from runner.testing import TEST_SETTINGS
from runner.views.reading import LOOK_ANYWAY
from runner.wire import channels

#: Two views, so that the connection has two channels.
NAMES = ("balances", "others")


@pytest.fixture
def own() -> Iterator[Server]:
    """A server of the test's own, whose connections are counted."""
    with server("--appendonly", "no") as started:
        yield started


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels nobody listens to are closed soon."""
    monkeypatch.setattr(channels, "LINGER", 0.05)


def received(own: Server) -> int:
    return int(own.do("INFO", "stats")["total_connections_received"])


def listening(own: Server) -> int:
    """How many connections listen."""
    return len(own.do("CLIENT", "LIST", "TYPE", "pubsub").strip().splitlines())


def in_threads(store: EventStore, count: int, wait: Callable[[View[Any]], None]) -> list[BaseException | None]:
    """Waits of as many threads for the two views, and how each ended."""
    with ThreadPoolExecutor(count) as threads:
        waits = [threads.submit(wait, View(store, NAMES[each % 2])) for each in range(count)]
        return [each.exception() for each in waits]


@pytest.mark.real
def test_a_hundred_waits_open_one_connection(own: Server) -> None:
    """On either face, one after the other, each for an append of its own."""
    with (
        EventStore.open(own.url, settings=TEST_SETTINGS) as runners,
        EventStore.open(own.url, settings=TEST_SETTINGS) as store,
        follow(runners, balances()) as following,
    ):
        # given
        following.wait_live(PATIENCE)
        view = View(store, "balances")
        store.append("account-1", deposited())
        runners.append("account-1", deposited())
        before = received(own)

        # when
        for _ in range(100):
            view.wait_for(store.append("account-1", deposited()))

        # then: the runner may have opened some, too
        assert received(own) - before < 20
        assert listening(own) == 1

        async def scenario() -> int:
            async with AsyncEventStore.open(own.url, settings=TEST_SETTINGS) as other:
                await other.append("account-1", deposited())
                before = received(own)
                for _ in range(100):
                    await AsyncView(other, "balances").wait_for(await other.append("account-1", deposited()))
                return received(own) - before

        assert asyncio.run(scenario()) < 20


@pytest.mark.real
def test_what_the_view_shows_is_found_without_listening(own: Server) -> None:
    """It looks first: nothing is opened for what is there."""
    with EventStore.open(own.url, settings=TEST_SETTINGS) as store:
        # given
        result = store.append("account-1", deposited())
        catch_up(store, balances())
        before = received(own)

        # when
        for _ in range(10):
            View(store, "balances").wait_for(result)

        # then
        assert received(own) - before == 1


@pytest.mark.real
def test_waits_at_the_same_time_share_a_connection_and_are_all_woken(own: Server) -> None:
    """Thirty threads and thirty tasks that wait for two views have a connection a store."""
    with EventStore.open(own.url, settings=TEST_SETTINGS) as store, ThreadPoolExecutor(30) as threads:
        # given
        result = store.append("account-1", deposited())
        waits = [threads.submit(View(store, NAMES[each % 2]).wait_for, result) for each in range(30)]

        async def scenario() -> None:
            async with AsyncEventStore.open(own.url, settings=TEST_SETTINGS) as other:
                tasks = [asyncio.create_task(AsyncView(other, NAMES[each % 2]).wait_for(result)) for each in range(30)]
                async with asyncio.timeout(PATIENCE):
                    while own.do("PUBSUB", "NUMSUB", *both(store)) != [both(store)[0], 2, both(store)[1], 2]:
                        await asyncio.sleep(0.01)
                assert listening(own) == 2

                # when
                began = time.monotonic()
                await asyncio.to_thread(catch_up, store, *[balances(name) for name in NAMES])
                await asyncio.gather(*tasks)
                for wait in waits:
                    wait.result()

                # then
                assert time.monotonic() - began < LOOK_ANYWAY / 2

        asyncio.run(asyncio.wait_for(scenario(), 2 * PATIENCE))


def both(store: EventStore) -> list[str]:
    return [store.info.keys[0].applied(name) for name in NAMES]


@pytest.mark.usefixtures("brief")
def test_waits_that_run_out_of_time_leave_nothing(store: EventStore, url: str) -> None:
    """Channels and connection go a moment after the last wait; the next wait begins anew."""
    # given
    result = store.append("account-1", deposited())

    def is_heard() -> bool:
        [found] = store.driver.execute([("PUBSUB", "NUMSUB", *both(store))])
        return any(found[1::2])

    # when
    for _ in range(2):
        ended = in_threads(store, 8, lambda view: view.wait_for(result, timeout=0.1))
        assert {type(error) for error in ended} == {WaitTimeout}

        # then
        assert reached(lambda: not is_heard())
        assert reached(lambda: store.driver._listener._thread is None)

    async def scenario() -> None:
        async with AsyncEventStore.open(url, name=store.info.name, settings=TEST_SETTINGS) as other:
            waits = [AsyncView(other, NAMES[each % 2]).wait_for(result, timeout=0.1) for each in range(8)]
            assert {type(e) for e in await asyncio.gather(*waits, return_exceptions=True)} == {WaitTimeout}
            async with asyncio.timeout(PATIENCE):
                while other.driver._listener._task is not None:
                    await asyncio.sleep(0.01)

    asyncio.run(scenario())


def test_a_wait_for_another_view_is_not_held_up_by_the_first(store: EventStore) -> None:
    """The connection is busy listening when a further channel is wanted."""
    # given
    result = store.append("account-1", deposited())
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(View(store, "balances").wait_for, result)
        assert reached(lambda: store.driver._listener._channels.is_open(both(store)[0], time.monotonic()))

        # when
        second = threads.submit(View(store, "others").wait_for, result)
        assert reached(lambda: store.driver._listener._channels.is_open(both(store)[1], time.monotonic()))
        began = time.monotonic()
        catch_up(store, balances("others"))
        second.result()

        # then
        assert time.monotonic() - began < LOOK_ANYWAY / 2
        catch_up(store, balances())
        first.result()


def test_a_wait_that_is_cancelled_at_any_moment_harms_no_other(store: EventStore, url: str) -> None:
    """It has no part in the use of the connection."""
    result = store.append("account-1", deposited())

    async def scenario() -> None:
        async with AsyncEventStore.open(url, name=store.info.name, settings=TEST_SETTINGS) as other:
            staying = asyncio.create_task(AsyncView(other, "balances").wait_for(result))
            for turn in range(60):
                going = [asyncio.create_task(AsyncView(other, name).wait_for(result)) for name in NAMES]
                for _ in range(turn // 2):
                    await asyncio.sleep(0)
                while not all(
                    task.done() for task in going
                ):  # Python 3.11 loses a cancellation that comes with a result
                    for task in going:
                        task.cancel()
                    await asyncio.sleep(0)
            assert await catch_up(other, balances()) == 1
            began = time.monotonic()
            await staying
            assert time.monotonic() - began < LOOK_ANYWAY / 2

    asyncio.run(asyncio.wait_for(scenario(), 2 * PATIENCE))


def test_those_who_wait_hear_that_the_store_was_closed(store: EventStore, url: str) -> None:
    """At once, on either face."""
    result = store.append("account-1", deposited())
    other = EventStore.open(url, name=store.info.name, settings=TEST_SETTINGS)
    with ThreadPoolExecutor(1) as threads:
        wait = threads.submit(View(other, "balances").wait_for, result)
        assert reached(lambda: other.driver._listener._channels.is_open(both(store)[0], time.monotonic()))
        began = time.monotonic()
        other.close()
        assert isinstance(wait.exception(), StoreClosed)
        assert time.monotonic() - began < LOOK_ANYWAY / 2

    async def scenario() -> None:
        async with AsyncEventStore.open(url, name=store.info.name, settings=TEST_SETTINGS) as another:
            wait = asyncio.create_task(AsyncView(another, "balances").wait_for(result))
            async with asyncio.timeout(PATIENCE):
                while not another.driver._listener._channels.is_open(both(store)[0], time.monotonic()):
                    await asyncio.sleep(0.01)
            await another.close()
            with pytest.raises(StoreClosed):
                await wait

    asyncio.run(asyncio.wait_for(scenario(), PATIENCE))


@pytest.mark.real
def test_waits_over_TLS_open_one_connection() -> None:
    """A handshake for each wait would take longer than all the rest."""
    with (
        tls_server("--appendonly", "no") as secured,
        EventStore.open(secured.server.url, settings=TEST_SETTINGS) as runners,
        EventStore.open(secured.trusted_url, settings=TEST_SETTINGS) as store,
        follow(runners, balances()) as following,
    ):
        following.wait_live(PATIENCE)
        view = View(store, "balances")
        results: list[AppendResult] = [store.append("account-1", deposited())]
        before = received(secured.server)
        for _ in range(20):
            results.append(store.append("account-1", deposited()))
            view.wait_for(results[-1])
        assert received(secured.server) - before < 10
