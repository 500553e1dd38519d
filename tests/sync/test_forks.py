"""After a fork: what a child inherits works there, or says that it belongs to the parent."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from accounts import PATIENCE, balances, deposited, rows_of
from forking import forked, in_child

from runner import ALL, AsyncEventStore, EventStore, follow
from runner.testing import TEST_SETTINGS, all_events, memory_store

pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


@pytest.fixture
def store(real_url: str, fresh_name: str) -> Iterator[EventStore]:
    with EventStore.open(real_url, name=fresh_name, settings=TEST_SETTINGS) as store:
        yield store


def test_parent_and_child_append_and_read_with_connections_of_their_own(store: EventStore) -> None:
    """A store that the parent has used goes on in both."""
    store.append("account-1", deposited(1))

    def append_and_read() -> str:
        store.append("account-1", deposited(2), expected_version=1)
        return str(len(list(store.read_all())))

    assert in_child(append_and_read) == "2"
    assert store.append("account-1", deposited(3), expected_version=2).version == 3


def test_a_subscription_that_a_child_makes_gets_history_and_live_events(store: EventStore) -> None:
    """The feed's thread stays with the parent, so the child has a feed of its own."""
    store.append("account-1", deposited(1))
    with store.subscribe(ALL) as parents:
        assert parents.poll(PATIENCE) is not None
        assert parents.poll(0.0) is None  # joined the feed

        def subscribe() -> str:
            with store.subscribe(ALL) as subscription:
                first = subscription.poll(PATIENCE)
                assert subscription.poll(0.0) is None
                store.append("account-1", deposited(2))
                second = subscription.poll(PATIENCE)
            store.close()
            assert first is not None
            assert second is not None
            return f"{first.number} {second.number}"

        assert in_child(subscribe) == "1 2"
        event = parents.poll(PATIENCE)
        assert event is not None
        assert event.number == 2


def test_a_child_follows_the_log_while_its_parent_does(store: EventStore) -> None:
    """Projections that a child drives are live there, whatever the parent drives."""
    with follow(store, balances("theirs")) as following:
        following.wait_live(PATIENCE)

        def follow_too() -> str:
            mine = balances("mine")
            with follow(store, mine) as following:
                following.wait_for(store.append("account-1", deposited(5)), PATIENCE)
                return str(rows_of(store, "mine")["account-1"]["balance"])

        assert in_child(follow_too) == "5"
        following.wait_for(store.append("account-1", deposited(1)), PATIENCE)
    assert rows_of(store, "theirs")["account-1"]["balance"] == 6


def test_what_waits_for_threads_of_the_parent_says_so_in_a_child(store: EventStore) -> None:
    """A subscription and a Following hold a connection or threads of their process. The parent's are not disturbed."""
    with store.subscribe(ALL) as subscription, follow(store, balances()) as following:
        following.wait_live(PATIENCE)
        result = store.append("account-1", deposited(1))

        def refusals() -> str:
            found = []
            for use in (
                lambda: subscription.poll(0.1),
                lambda: following.wait_live(0.1),
                lambda: following.wait_for(result, 0.1),
            ):
                try:
                    use()
                except Exception as error:
                    found.append(f"{type(error).__name__}: {error}")
            subscription.__exit__(None, None, None)
            following.__exit__(None, None, None)
            return "\n".join(found)

        said = in_child(refusals).splitlines()
        assert [line.partition(" belongs to process ")[0] for line in said] == [
            "InvalidInput: this subscription",
            "InvalidInput: this Following",
            "InvalidInput: this Following",
        ]
        following.wait_for(result, PATIENCE)
        event = subscription.poll(PATIENCE)
        assert event is not None
        assert event.number == 1


@pytest.mark.parametrize("used", [True, False])
def test_a_lock_that_another_thread_held_at_the_fork_stops_no_child(store: EventStore, used: bool) -> None:
    """The thread that would release it is not in the child, whether the child uses the store or only closes it."""
    held, done = threading.Event(), threading.Event()
    feed = store.feed(0)

    def hold() -> None:
        with store._lock, feed._lock, store.driver._listener._lock:
            held.set()
            done.wait(PATIENCE)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert held.wait(PATIENCE)

        def use_and_close() -> str:
            said = "None"
            if used:
                with store.subscribe(ALL) as subscription:
                    said = str(subscription.poll(0.0))
            store.close()
            return said

        assert in_child(use_and_close) == "None"
    finally:
        done.set()
        holder.join()


def test_a_store_in_memory_says_that_a_child_has_only_a_copy() -> None:
    """What a child appended there would be lost without a word."""
    with memory_store() as store:
        said = in_child(lambda: str(store.append("account-1", deposited(1))))
    assert "InvalidInput: the store memory: belongs to process" in said


def test_an_asynchronous_store_says_that_it_belongs_to_its_parent(real_url: str, fresh_name: str) -> None:
    """Its connections belong to an event loop of the parent, in whatever loop the child uses it."""

    async def main() -> str:
        async with AsyncEventStore.open(real_url, name=fresh_name, settings=TEST_SETTINGS) as store:

            def use() -> str:
                return str(asyncio.new_event_loop().run_until_complete(store.version("account-1")))

            def in_a_fresh_thread() -> str:  # the forked thread is inside the loop
                said: list[str] = []

                def work() -> None:
                    try:
                        said.append(use())
                    except Exception as error:
                        said.append(f"{type(error).__name__}: {error}")

                thread = threading.Thread(target=work)
                thread.start()
                thread.join()
                return said[0]

            said = in_child(in_a_fresh_thread)
            assert await store.version("account-1") == 0
            return said

    assert "InvalidInput: the AsyncEventStore at" in asyncio.run(main())


# -- the embedded server --------------------------------------------------------------------------


@pytest.fixture
def embedded(tmp_path: Path) -> Callable[[], EventStore]:
    return lambda: EventStore.open(f"embedded:{tmp_path / 'store'}", settings=TEST_SETTINGS)


def test_a_child_that_closes_an_embedded_store_leaves_the_server_to_its_parent(
    embedded: Callable[[], EventStore],
) -> None:
    """It neither stops the server nor keeps others out."""
    with embedded() as store:
        store.append("account-1", deposited(1))
        server = store.driver.address.server
        assert server is not None
        before = server.pid

        def close() -> str:
            store.close()
            return "closed"

        assert in_child(close) == "closed"
        assert store.append("account-1", deposited(2)).version == 2
        assert server.pid == before
        with embedded() as other:
            assert other.version("account-1") == 2


def test_an_embedded_server_lives_as_long_as_a_child_that_uses_it(embedded: Callable[[], EventStore]) -> None:
    """The child is a user of its own: its parent's end is not the end of the server, and its own end is."""
    joined, tell_joined = os.pipe()
    go, tell_go = os.pipe()
    store = embedded()
    store.append("account-1", deposited(1))
    server = store.driver.address.server
    assert server is not None

    def append_later() -> str:
        os.write(tell_joined, b"x")
        os.read(go, 1)
        pid = server.pid
        store.append("account-1", deposited(2))
        same = server.pid == pid
        store.close()
        return str(same)

    with forked(append_later) as child:
        os.read(joined, 1)
        pid = server.pid
        store.close()
        assert pid is not None
        os.kill(pid, 0)
        os.write(tell_go, b"x")
        assert child.answer() == "True"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with embedded() as store:
        assert [event.number for event in all_events(store)] == [1, 2]


def test_a_parent_that_closes_at_once_takes_nothing_from_its_child(embedded: Callable[[], EventStore]) -> None:
    """The server may stop before the child has joined it; the child's next use starts it again."""
    store = embedded()
    store.append("account-1", deposited(1))
    with forked(lambda: str(store.append("account-1", deposited(2)).version)) as child:
        store.close()
        assert child.answer() == "2"
