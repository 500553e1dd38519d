"""The asynchronous store beyond the contract of `runner.testing.contract`, on fake and real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from accounts import deposited, deposits

from runner import (
    ALL,
    ANY,
    NO_STREAM,
    AppendResult,
    AsyncEventStore,
    AsyncView,
    Category,
    EventStore,
    HandlerFailed,
    InvalidInput,
    NewEvent,
    Projection,
    RecordedEvent,
    View,
    WrongExpectedVersion,
    catch_up,
    follow,
    state_at,
)
from runner.errors import (
    BookmarkConflict,
    StoreClosed,
    SubscriptionDropped,
)
from runner.log.append_plan import Append
from runner.testing import TEST_SETTINGS, async_memory_store

#: What a scenario may take, in seconds.
PATIENCE = 20

Scenario = Callable[[AsyncEventStore], Awaitable[None]]
Play = Callable[[Scenario], None]


@pytest.fixture
def play(url: str, fresh_name: str) -> Play:
    """Runs a scenario over an empty store, on fakeredis and on the real server in turn."""

    def run(scenario: Scenario, partitions: int = 1) -> None:
        async def whole() -> None:
            async with (
                asyncio.timeout(PATIENCE),
                AsyncEventStore.open(url, name=fresh_name, partitions=partitions, settings=TEST_SETTINGS) as store,
            ):
                await scenario(store)

        asyncio.run(whole())

    return run


async def amounts(events: AsyncIterator[RecordedEvent]) -> list[int]:
    return [event.data["amount"] async for event in events]


async def take(subscription: AsyncIterator[RecordedEvent], count: int) -> list[int]:
    """The positions of the next ``count`` events."""
    return [(await anext(subscription)).position for _ in range(count)]


def balances() -> Projection:
    projection = Projection("balances", category="account", initial=lambda: {"balance": 0})

    @projection.when("Deposited")
    async def paid_in(state: dict[str, int], event: RecordedEvent) -> None:
        state["balance"] += event.data["amount"]

    @projection.when("Withdrew")
    def paid_out(state: dict[str, int], event: RecordedEvent) -> None:
        state["balance"] -= event.data["amount"]

    return projection


# -- appending ----------------------------------------------------------------------------------


def test_several_streams_and_a_bookmark_in_one_append(play: Play) -> None:
    """B12. All or nothing, and the bookmark only moves forward."""

    async def scenario(store: AsyncEventStore) -> None:
        groups: list[Append] = [("account-1", deposits(2), NO_STREAM), ("account-2", deposits(1), ANY)]
        results = await store.append_many(groups, bookmark=("manager", 3))
        again = await store.append_many(groups, bookmark=("manager", 3))
        with pytest.raises(BookmarkConflict):
            await store.append_many([("account-1", deposits(1), ANY)], bookmark=("manager", 3))
        with pytest.raises(WrongExpectedVersion):
            await store.append_many(
                [("account-3", deposits(1), ANY), ("account-1", deposits(1), 1)], bookmark=("manager", 4)
            )

        assert [(result.version, result.position) for result in results] == [(2, 2), (1, 3)]
        assert [result.duplicate for result in again] == [True, True]
        assert await store.bookmark("manager") == 3
        assert await store.last_position() == 3

    play(scenario)


def test_independent_appends_have_their_own_outcomes_in_their_order(play: Play) -> None:
    """Many a round trip; a refused one gives its error in its place, and those behind it are done."""

    async def scenario(store: AsyncEventStore) -> None:
        outcomes = await store.append_each(
            [("account-1", deposits(1, n), n if n != 500 else 7) for n in range(501)]
            + [("account-2", deposits(1), ANY)]
        )

        assert [o.version for o in outcomes if isinstance(o, AppendResult)] == [*range(1, 501), 1]
        assert isinstance(outcomes[500], WrongExpectedVersion)
        assert await amounts(store.read_stream("account-1")) == list(range(500))

    play(scenario)


def test_many_tasks_share_one_store(play: Play) -> None:
    """B17. Of the tasks that expect the same version exactly one wins each time."""

    async def scenario(store: AsyncEventStore) -> None:
        for version in range(20):
            outcomes = await asyncio.gather(
                *(store.append("account-1", deposited(), version) for _ in range(5)), return_exceptions=True
            )
            assert (
                sorted(type(outcome).__name__ for outcome in outcomes)
                == ["AppendResult"] + ["WrongExpectedVersion"] * 4
            )
        assert await store.version("account-1") == await store.last_position() == 20

    play(scenario)


# -- reading ------------------------------------------------------------------------------------


def test_a_category_is_read_in_order(play: Play) -> None:
    """B10, B15. After a position, and since a time."""
    noon = datetime(2024, 1, 1, 12, tzinfo=UTC)

    async def scenario(store: AsyncEventStore) -> None:
        for turn in range(6):
            stream = f"account-{turn % 2}" if turn % 3 else "other-1"
            await store.append(stream, deposited(turn, recorded_at=noon + timedelta(hours=turn)))

        assert await amounts(store.read_category("account")) == [1, 2, 4, 5]
        assert await amounts(store.read_category("account", 2)) == [2, 4, 5]
        assert await amounts(store.read_category("account", since=noon + timedelta(hours=2))) == [2, 4, 5]

    play(scenario)


def test_both_kinds_of_store_see_the_same(store: EventStore, url: str, fresh_name: str) -> None:
    """B1. What one wrote the other reads, event for event, and the reverse."""

    async def scenario() -> list[RecordedEvent]:
        async with AsyncEventStore.open(url, name=fresh_name, settings=TEST_SETTINGS) as other:
            await other.append("account-1", deposits(2), 2)
            return [event async for event in other.read_all()]

    store.append("account-1", deposits(2), NO_STREAM)
    read = asyncio.run(scenario())

    assert read == list(store.read_all())
    assert store.version("account-1") == 4


# -- following ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("to", "found"),
    [(ALL, [1, 2, 3, 4, 5, 6]), (Category("account"), [1, 3, 4, 6]), ("account-1", [1, 3, 4, 6])],
    ids=str,
)
def test_a_subscription_reads_history_and_then_what_is_appended(play: Play, to: Any, found: list[int]) -> None:
    """A4, A6. Everything, a category or a stream: each event once, in order, and ``caught_up`` in between."""

    async def scenario(store: AsyncEventStore) -> None:
        for stream in ("account-1", "other-1", "account-1"):
            await store.append(stream, deposited())
        history = len([position for position in found if position <= 3])

        async with store.subscribe(to) as subscription:
            seen = await take(subscription, history)
            assert subscription.caught_up
            for stream in ("account-1", "other-1", "account-1"):
                await store.append(stream, deposited())
            seen += await take(subscription, len(found) - history)

        assert seen == found

    play(scenario)


def test_a_subscription_starts_where_it_is_told(play: Play) -> None:
    """After a position, after a number, at the end, and since a time."""
    noon = datetime(2024, 1, 1, 12, tzinfo=UTC)

    async def scenario(store: AsyncEventStore) -> None:
        await store.append("other-1", deposited(recorded_at=noon))
        await store.append("account-1", [deposited(recorded_at=noon + timedelta(hours=hour)) for hour in range(3)])
        end = await store.last_position()

        for to, options, first in (
            (ALL, {"after": 2}, 3),
            ("account-1", {"after": 2}, 4),
            (ALL, {"since": noon + timedelta(hours=1)}, 3),
        ):
            async with store.subscribe(to, **options) as subscription:
                assert await take(subscription, 1) == [first]
        async with store.subscribe(ALL, end) as subscription:
            await store.append("account-1", deposited())
            assert await take(subscription, 1) == [5]

    play(scenario)


def test_polling_gives_history_and_then_what_is_appended_or_none(play: Play) -> None:
    """poll(0) reads all of history, however many pages; None when nothing came in time, and after the end."""

    async def scenario(store: AsyncEventStore) -> None:
        await store.append("account-1", deposits(7))
        async with store.subscribe(ALL) as subscription:
            polled = [await subscription.poll() for _ in range(8)]
            assert [event and event.number for event in polled] == [1, 2, 3, 4, 5, 6, 7, None]
            assert subscription.caught_up
            assert await subscription.poll(0.02) is None

            waiting = asyncio.create_task(subscription.poll(PATIENCE))
            await store.append("account-1", deposited())
            event = await waiting
            assert event is not None
            assert event.number == 8

            await store.append("account-1", deposited())
            subscription.unsubscribe()
            assert await subscription.poll(PATIENCE) is None

    play(scenario)


def test_unsubscribing_ends_the_iteration(play: Play) -> None:
    """A13, A15. The loop that waits for events ends without an error; another subscription goes on."""

    async def scenario(store: AsyncEventStore) -> None:
        await store.append("account-1", deposits(2))
        async with store.subscribe(ALL) as one, store.subscribe(ALL) as other:
            seen, live = [], asyncio.Event()

            async def read() -> None:
                async for event in one:
                    seen.append(event.position)
                    if one.caught_up:
                        live.set()

            reading = asyncio.create_task(read())
            await live.wait()
            one.unsubscribe()
            await reading
            assert await take(other, 2) == [1, 2]
            await store.append("account-1", deposited())
            assert await take(other, 1) == [3]

        assert seen == [1, 2]

    play(scenario)


def test_closing_the_store_drops_its_subscriptions(play: Play) -> None:
    """A16. Whoever waits for an event is told why none will come."""

    async def scenario(store: AsyncEventStore) -> None:
        await store.append("account-1", deposited())
        async with store.subscribe(ALL) as subscription:
            await take(subscription, 1)
            waiting = asyncio.ensure_future(anext(subscription))
            await store.close()

            with pytest.raises(SubscriptionDropped, match="closed"):
                await waiting

    play(scenario)


def test_many_subscriptions_share_a_feed(play: Play) -> None:
    """Each gets every event, and payloads of its own."""

    async def scenario(store: AsyncEventStore) -> None:
        subscriptions = [store.subscribe(ALL) for _ in range(5)]
        await store.append("account-1", deposited())
        for subscription in subscriptions:
            assert await take(subscription, 1) == [1]
        await store.append("account-1", deposits(3))

        for subscription in subscriptions:
            first = await anext(subscription)
            first.data["amount"] += 1000
            assert first.data == {"amount": 1001}
            assert await take(subscription, 2) == [3, 4]
            await subscription.__aexit__(None, None, None)

    play(scenario)


# -- projections --------------------------------------------------------------------------------


def test_catching_up_fills_a_view(play: Play) -> None:
    """C1. It returns how many events were applied, and 0 when nothing is new; plain and async handlers mix."""

    async def scenario(store: AsyncEventStore) -> None:
        await store.append("account-1", [*deposits(3), NewEvent("Withdrew", {"amount": 2})])
        await store.append_many([("account-2", deposits(1), ANY), ("other-1", deposits(1), ANY)])
        view = AsyncView(store, "balances")

        assert await catch_up(store, balances()) == 5
        assert await catch_up(store, balances()) == 0

        assert await view.get("account-1") == {"balance": 4}
        assert await view.get("other-1", "nothing") == "nothing"
        assert await view.count() == 2
        assert {key: row async for key, row in view.items()} == {
            "account-1": {"balance": 4},
            "account-2": {"balance": 1},
        }

    play(scenario)


def test_a_view_is_the_same_for_both_kinds_of_store(store: EventStore, url: str, fresh_name: str) -> None:
    """C1. One caught up by the asynchronous store is read, and gone on with, by the other."""

    async def scenario() -> int:
        async with AsyncEventStore.open(url, name=fresh_name, settings=TEST_SETTINGS) as other:
            return await catch_up(other, balances())

    store.append("account-1", deposits(3))
    assert asyncio.run(scenario()) == 3
    store.append("account-1", deposited(10))

    assert View(store, "balances").get("account-1") == {"balance": 6}
    assert catch_up(store, balances()) == 1
    assert View(store, "balances").get("account-1") == {"balance": 16}


def test_following_applies_what_is_appended(play: Play) -> None:
    """C2. Once live, an append shows in the view without another call."""
    applied: asyncio.Queue[int] = asyncio.Queue()

    async def scenario(store: AsyncEventStore) -> None:
        projection = balances()
        beacon = Projection("beacon", category="beacon")
        beacon.when("Lit", lambda state, event: applied.put_nowait(event.position))
        await store.append("account-1", deposits(2))

        async with follow(store, projection, beacon) as following:
            await following.wait_live(PATIENCE)
            assert await AsyncView(store, "balances").get("account-1") == {"balance": 3}
            await store.append("account-1", deposited(10))
            await store.append("beacon-1", NewEvent("Lit"))
            assert await applied.get() == 4

        assert await AsyncView(store, "balances").get("account-1") == {"balance": 13}

    play(scenario)


def test_a_failing_handler_ends_the_catch_up_with_its_error(play: Play) -> None:
    """C7. The events before the failing one are committed; the error says where it stands."""

    async def scenario(store: AsyncEventStore) -> None:
        await store.append("account-1", [deposited(1), deposited(2), NewEvent("Deposited", "no amount"), deposited(4)])

        with pytest.raises(HandlerFailed) as caught:
            await catch_up(store, balances())

        assert caught.value.position == 3
        assert await AsyncView(store, "balances").get("account-1") == {"balance": 3}

    play(scenario)


def test_a_failing_handler_ends_the_following_with_its_error(play: Play) -> None:
    """C7. The end of the block raises it."""

    async def scenario(store: AsyncEventStore) -> None:
        await store.append("account-1", [deposited(1), NewEvent("Deposited", "no amount")])

        with pytest.raises(HandlerFailed):
            async with follow(store, balances()) as following:
                await following.wait_live(PATIENCE)

    play(scenario)


def test_the_state_as_of_then_is_the_fold_of_the_events_before(play: Play) -> None:
    """B16. By position and by time, for all rows and for one."""
    noon = datetime(2024, 1, 1, 12, tzinfo=UTC)

    async def scenario(store: AsyncEventStore) -> None:
        for hour, amount in ((0, 1), (2, 10), (1, 100)):
            await store.append("account-1", deposited(amount, recorded_at=noon + timedelta(hours=hour)))

        assert await state_at(store, balances(), position=0) == {}
        assert await state_at(store, balances(), position=2) == {"account-1": {"balance": 11}}
        assert await state_at(store, balances(), time=noon + timedelta(hours=1), key="account-1") == {"balance": 101}
        assert await state_at(store, balances(), position=3, key="account-1") == {"balance": 111}
        with pytest.raises(InvalidInput):
            await state_at(store, balances(), position=1, time=noon)

    play(scenario)


# -- partitions and closing ---------------------------------------------------------------------


def test_partitions_keep_their_positions_apart(url: str, fresh_name: str) -> None:
    """Positions count in each partition, and a subscription to everything needs one."""

    async def scenario() -> None:
        async with (
            asyncio.timeout(PATIENCE),
            AsyncEventStore.open(url, name=fresh_name, partitions=4, settings=TEST_SETTINGS) as store,
        ):
            for number in range(20):
                await store.append(f"account-{number}", deposited(number))

            assert sorted(await amounts(store.read_all())) == list(range(20))
            assert sum([await store.last_position(partition=partition) for partition in range(4)]) == 20
            with pytest.raises(InvalidInput, match="partition"):
                await anext(store.subscribe(ALL))
            with pytest.raises(InvalidInput, match="partition"):
                await store.append_many([(f"account-{number}", deposits(1), ANY) for number in range(8)])
            assert await catch_up(store, balances()) == 20
            assert await AsyncView(store, "balances").count() == 20

    asyncio.run(scenario())


def test_a_store_in_memory_is_for_tests() -> None:
    """D1. ``runner.testing`` gives an empty one, without a server."""

    async def scenario() -> None:
        async with async_memory_store() as store:
            assert await store.last_position() == 0
            assert (await store.append("account-1", deposited())).position == 1
            await store.close()
            await store.close()

    asyncio.run(scenario())


def test_a_cancelled_call_leaves_the_store_usable(play: Play) -> None:
    """A task that is cancelled while it waits for a reply takes its connection with it, and no other reply."""

    async def scenario(store: AsyncEventStore) -> None:
        await store.append("account-1", deposits(3))
        for turn in range(20):
            reading = asyncio.create_task(amounts(store.read_all()))
            for _ in range(turn):  # let it come a different way each time
                await asyncio.sleep(0)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            assert await store.version("account-1") == 3
        assert await amounts(store.read_all()) == [1, 2, 3]

    play(scenario)


def test_a_store_belongs_to_the_event_loop_that_it_was_first_used_in(url: str, fresh_name: str) -> None:
    """In another loop it is refused before anything is sent: its connections would fail after the append."""
    store = AsyncEventStore.open(url, name=fresh_name, settings=TEST_SETTINGS)
    with asyncio.Runner() as first:
        first.run(store.append("account-1", deposited()))
        with asyncio.Runner() as second:
            for call in (lambda: store.append("account-1", deposited()), store.last_position, store.close):
                with pytest.raises(InvalidInput, match="belongs to the event loop"):
                    second.run(call())
        assert first.run(store.last_position()) == 1
        first.run(store.close())


def test_a_store_is_closed_after_its_loop_has_ended(url: str, fresh_name: str) -> None:
    """Its connections ended with the loop; it is closed like any other, and says so."""
    store = AsyncEventStore.open(url, name=fresh_name, settings=TEST_SETTINGS)

    async def use() -> None:
        await store.append("account-1", deposited())
        for session in store._driver._pool._idle:
            await session.close()

    asyncio.run(use())
    asyncio.run(store.close())
    with pytest.raises(StoreClosed):
        asyncio.run(store.last_position())
