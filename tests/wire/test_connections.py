"""The connections of a store: a bounded number, shared by all tasks or threads, whatever becomes of a call."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

import pytest
from accounts import deposited
from faces import FACES
from servers import Server, server
from tls import TlsServer, tls_server

from runner import ANY, AsyncEventStore, EventStore, InvalidInput, Replicated, RunnerError, Settings
from runner.errors import StoreUnavailable
from runner.testing import TEST_SETTINGS
from runner.wire import address

#: Two connections, of which one may be lent to appends that wait for replicas.
TWO = replace(TEST_SETTINGS, max_connections=2)

#: Bounds of a test that would otherwise wait for ever, in seconds.
LONG = 30


@pytest.fixture
def own() -> Iterator[Server]:
    """A server of the test's own, whose connections are counted."""
    with server() as started:
        yield started


@pytest.fixture
def secured() -> Iterator[TlsServer]:
    with tls_server() as started:
        yield started


def opened(own: Server, during: Callable[[], Any]) -> int:
    """How many connections the server accepts during a call."""
    before = own.do("INFO", "stats")["total_connections_received"]
    during()
    return int(own.do("INFO", "stats")["total_connections_received"] - before - 1)  # the second look has one, too


def append_in_tasks(url: str, count: int, settings: Settings = TEST_SETTINGS) -> list[Any]:
    """The results of as many appends under way at the same time."""

    async def scenario() -> list[Any]:
        async with AsyncEventStore.open(url, settings=settings) as store:
            each = [store.append(f"account-{number}", deposited()) for number in range(count)]
            return await asyncio.gather(*each, return_exceptions=True)

    return asyncio.run(scenario())


def append_in_threads(url: str, count: int, settings: Settings = TEST_SETTINGS) -> list[Any]:
    with EventStore.open(url, settings=settings) as store:
        ready = threading.Barrier(count)

        def append(number: int) -> Any:
            ready.wait()
            return store.append(f"account-{number}", deposited())

        with ThreadPoolExecutor(count) as threads:
            return list(threads.map(append, range(count)))


# -- how many -----------------------------------------------------------------------------------


@pytest.mark.real
def test_two_thousand_appends_at_the_same_time_share_the_connections(own: Server) -> None:
    """They wait for a connection instead of opening one each, and all are stored."""
    # when
    results: list[Any] = []
    count = opened(own, lambda: results.extend(append_in_tasks(own.url, 2000)))

    # then
    assert sorted(result.position for result in results) == list(range(1, 2001))
    assert 1 < count <= TEST_SETTINGS.max_connections


@pytest.mark.real
def test_two_hundred_threads_share_the_connections(own: Server) -> None:
    """The synchronous store has as many; the one that opens it is extra, and is closed."""
    # when
    results: list[Any] = []
    count = opened(own, lambda: results.extend(append_in_threads(own.url, 200)))

    # then
    assert sorted(result.position for result in results) == list(range(1, 201))
    assert 1 < count <= TEST_SETTINGS.max_connections + 1


@pytest.mark.real
def test_many_appends_over_TLS_do_not_become_a_storm_of_handshakes(secured: TlsServer) -> None:
    """As many connections as there were appends would time out while they are made."""
    results: list[Any] = []
    count = opened(secured.server, lambda: results.extend(append_in_tasks(secured.trusted_url, 400)))

    assert sorted(result.position for result in results) == list(range(1, 401))
    assert count <= TEST_SETTINGS.max_connections


@pytest.mark.real
@pytest.mark.parametrize("append", [append_in_tasks, append_in_threads])
def test_the_number_of_connections_is_set_by_the_settings_or_the_url(
    own: Server, append: Callable[..., list[Any]]
) -> None:
    """The URL prevails: whoever operates a program may not be able to change its settings."""
    extra = 1 if append is append_in_threads else 0
    assert opened(own, lambda: append(own.url, 20, replace(TEST_SETTINGS, max_connections=3))) <= 3 + extra
    assert opened(own, lambda: append(f"{own.url}?max_connections=1", 20)) <= 1 + extra


@pytest.mark.parametrize("count", ["0", "-1", "10001", "many", "1.5"])
def test_a_number_of_connections_that_cannot_be_is_refused(count: str) -> None:
    """By the name of the option."""
    with pytest.raises(InvalidInput) as refused:
        address.parse(f"redis://localhost?max_connections={count}")
    assert "max_connections" in str(refused.value) + refused.value.hint


# -- nobody waits for ever ----------------------------------------------------------------------


def test_pipelined_appends_of_many_tasks_share_one_connection(store: EventStore, url: str) -> None:
    """An operation with commands under way asks for no second connection, so operations never wait for each other."""

    async def scenario() -> None:
        one = replace(TEST_SETTINGS, max_connections=1)
        async with asyncio.timeout(LONG), AsyncEventStore.open(url, name=store.info.name, settings=one) as other:
            appends = [[(f"account-{task}-{each}", [deposited()], ANY) for each in range(3)] for task in range(20)]
            results = await asyncio.gather(*[other.append_each(each) for each in appends])
            assert sum(map(len, results)) == await other.last_position() == 60

    asyncio.run(scenario())


def test_a_cancelled_task_takes_no_connection_along(store: EventStore, url: str) -> None:
    """Wherever it is cancelled: while it waits for a connection, opens one, sends, or waits for the reply."""

    async def scenario() -> None:
        async with asyncio.timeout(LONG), AsyncEventStore.open(url, name=store.info.name, settings=TWO) as other:
            await other.append("account-1", deposited())
            for turn in range(60):
                tasks = [asyncio.create_task(other.version("account-1")) for _ in range(5)]
                for _ in range(turn // 2):
                    await asyncio.sleep(0)
                for task in tasks[turn % 2 :: 2]:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            pool = other.driver._pool
            sessions = [await pool.borrow([]) for _ in range(2)]  # all places are free
            for session in sessions:
                assert await session.call([("ECHO", "next")]) == [b"next"]
                await pool.give_back(session)
            assert await asyncio.gather(*[other.version("account-1") for _ in range(20)]) == [1] * 20

    asyncio.run(scenario())


@pytest.mark.real
def test_appends_that_wait_for_replicas_leave_connections_to_the_rest() -> None:
    """A replica that does not answer holds up the appends that want it, and no read."""
    level = Replicated(1, within=1.0)
    with server() as primary, server(replica_of=primary) as replica:

        async def in_tasks() -> tuple[list[Any], bool]:
            async with AsyncEventStore.open(primary.url, settings=TWO, durability=level) as store:
                replica.freeze()
                appends = [asyncio.create_task(store.append(f"account-{each}", deposited())) for each in range(3)]
                await asyncio.sleep(0)
                await store.version("account-1")
                early = not any(append.done() for append in appends)
                return await asyncio.gather(*appends, return_exceptions=True), early

        def in_threads() -> tuple[list[Any], bool]:
            with EventStore.open(primary.url, settings=TWO, durability=level) as store, ThreadPoolExecutor(3) as pool:
                replica.freeze()
                appends = [pool.submit(store.append, f"account-{each}", deposited()) for each in range(3)]
                store.version("account-1")
                early = not any(append.done() for append in appends)
                return [append.exception() for append in appends], early

        for run in (lambda: asyncio.run(in_tasks()), in_threads):
            results, early = run()
            assert early, "the read waited for the appends"
            assert {type(result).__name__ for result in results} == {"NotConfirmed"}
            replica.thaw()


@pytest.mark.real
def test_a_frozen_server_fails_those_who_wait_for_a_connection_with_the_others(own: Server) -> None:
    """They do not wait until each of those before them has failed: that would take a time-out for each."""
    hasty = replace(TEST_SETTINGS, max_connections=1, retry_for=0.3, socket_timeout=0.6)

    async def in_tasks() -> list[Any]:
        async with AsyncEventStore.open(own.url, settings=hasty) as store:
            own.freeze()
            reads = [store.version("account-1") for _ in range(30)]
            return await asyncio.gather(*reads, return_exceptions=True)

    def in_threads() -> list[Any]:
        with EventStore.open(own.url, settings=hasty) as store, ThreadPoolExecutor(30) as pool:
            own.freeze()
            return [read.exception() for read in [pool.submit(store.version, "account-1") for _ in range(30)]]

    for fail in (lambda: asyncio.run(in_tasks()), in_threads):
        began = time.monotonic()
        assert {type(error) for error in fail()} == {StoreUnavailable}
        assert time.monotonic() - began < 15 * hasty.socket_timeout
        own.thaw()


def test_an_interrupt_while_a_connection_is_given_back_costs_no_place(store: EventStore, url: str) -> None:
    """As by Ctrl-C, in a program that goes on."""
    with EventStore.open(url, name=store.info.name, settings=replace(TEST_SETTINGS, max_connections=1)) as other:
        driver: Any = other.driver
        session = driver._borrow([])
        session.send([("PING",)])
        close = session.close

        def interrupted() -> None:
            close()
            raise KeyboardInterrupt

        session.close = interrupted
        with pytest.raises(KeyboardInterrupt):
            driver._give_back(session)
        session.close = close
        with ThreadPoolExecutor(1) as threads:
            read = threads.submit(other.version, "account-1")
            done, _ = wait([read], timeout=3)
            if not done:
                driver._pool._places.put(None)  # else the test would not end
            assert done


@pytest.mark.real
def test_a_connection_that_is_given_back_while_its_store_closes_is_closed(own: Server) -> None:
    """Another thread closes the store at that moment."""
    driver: Any = EventStore.open(own.url, settings=TEST_SETTINGS).driver
    session, give_back = driver._borrow([]), driver._pool.give_back
    session.call([("PING",)])

    def closing(one: Any) -> None:
        driver.close()
        give_back(one)

    driver._pool.give_back = closing
    driver._give_back(session)
    assert session._connection._sock is None


class Places:
    """Places of a pool, and how often somebody looked for a free one."""

    def __init__(self, places: Any) -> None:
        self._places = places
        self.looks = 0

    def __getattr__(self, name: str) -> Any:
        self.looks += name in ("get", "acquire")
        return getattr(self._places, name)


@pytest.mark.parametrize("face", FACES)
def test_who_waits_for_a_connection_is_idle_where_requests_are_not_repeated(
    store: EventStore, url: str, face: str
) -> None:
    """It does not look as often as the machine can until there is a free one."""
    settings = replace(TEST_SETTINGS, max_connections=1, retry_for=0)

    def in_threads() -> int:
        with EventStore.open(url, name=store.info.name, settings=settings) as other, ThreadPoolExecutor(1) as threads:
            pool: Any = other.driver._pool
            pool._places = places = Places(pool._places)
            session = pool.borrow([])
            read = threads.submit(other.version, "account-1")
            with pytest.raises(TimeoutError):
                read.result(timeout=0.3)
            pool.give_back(session)
            assert read.result(timeout=LONG) == 0
            return places.looks

    async def in_tasks() -> int:
        async with AsyncEventStore.open(url, name=store.info.name, settings=settings) as other:
            pool: Any = other.driver._pool
            pool._places = places = Places(pool._places)
            session = await pool.borrow([])
            read = asyncio.create_task(other.version("account-1"))
            assert await asyncio.wait({read}, timeout=0.3) == (set(), {read})
            await pool.give_back(session)
            assert await asyncio.wait_for(read, LONG) == 0
            return places.looks

    assert (in_threads() if face == "sync" else asyncio.run(in_tasks())) < 20


@pytest.mark.real
def test_connections_over_TLS_to_a_frozen_server_are_dropped_at_once(secured: TlsServer) -> None:
    """Nobody waits for the server's end of TLS, and a cancellation stays one."""
    hasty = replace(TEST_SETTINGS, retry_for=0, socket_timeout=0.3)

    async def scenario() -> None:
        async with AsyncEventStore.open(secured.trusted_url, settings=hasty) as store:
            await asyncio.gather(*[store.append(f"account-{each}", deposited()) for each in range(4)])
            secured.server.freeze()
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await store.version("account-1")
            with pytest.raises(TimeoutError):  # the caller's own
                async with asyncio.timeout(0.1):
                    await store.version("account-1")
            assert time.monotonic() - began < 3
        secured.server.thaw()

    asyncio.run(scenario())


# -- errors -------------------------------------------------------------------------------------

EXHAUSTED = """
import asyncio, os, resource, sys
from runner import AsyncEventStore, EventStore, NewEvent, RunnerError, Settings

quick = Settings(retry_for=0)
many = range(50)

def use_up():
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    while True:
        try:
            os.open(os.devnull, os.O_RDONLY)
        except OSError:
            return

async def main():
    async with AsyncEventStore.open(sys.argv[1], settings=quick) as store:
        with EventStore.open(sys.argv[1], settings=quick) as other:
            await store.append("a-1", NewEvent("T"))  # reads the script
            use_up()
            found = await asyncio.gather(*[store.append("a-1", NewEvent("T")) for _ in many], return_exceptions=True)
            try:
                other.driver.session().call([("PING",)])
            except Exception as error:
                found.append(error)
    print({isinstance(one, RunnerError) for one in found if isinstance(one, Exception)})

asyncio.run(main())
"""


@pytest.mark.real
def test_too_many_open_files_are_an_error_of_this_package(own: Server) -> None:
    """The client library opens files besides sockets, and lets the system's error through."""
    run = subprocess.run([sys.executable, "-c", EXHAUSTED, own.url], capture_output=True, text=True, timeout=LONG)

    assert run.stdout == "{True}\n", run.stderr
    assert issubclass(StoreUnavailable, RunnerError)
