"""Following the log: subscriptions that go from history to live, the feed they share, and projections that follow."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from accounts import (
    PATIENCE,
    balances,
    deposited,
    in_thread,
    noted,
    plain_fold,
    reached,
    rows_of,
)
from looks import trim_by_hand
from redis.connection import UnixDomainSocketConnection
from trouble import divide_by_zero

from runner import (
    ALL,
    AsyncEventStore,
    Category,
    DataError,
    EventStore,
    HandlerFailed,
    InvalidInput,
    NewEvent,
    Projection,
    RecordedEvent,
    StoreTrouble,
    SubscriptionDropped,
    View,
    WaitTimeout,
    catch_up,
    follow,
)
from runner.errors import LogTrimmed
from runner.subscriptions.feed import Member
from runner.sync.engine import Engine, Following
from runner.sync.feed import Feed
from runner.sync.subscription import Subscription
from runner.testing import TEST_SETTINGS, all_events, memory_store

#: A feed that reads three events at a time for members that may hold no more than three.
CRAMPED = replace(TEST_SETTINGS, page_size=3, buffer_size=3)

_stores = count(1)


def numbers(events: list[RecordedEvent]) -> list[tuple[str, int]]:
    return [(event.stream, event.number) for event in events]


def take(subscription: Subscription, how_many: int) -> list[RecordedEvent]:
    """The next events, each of which must come within a bounded time."""
    taken: list[RecordedEvent] = []
    for _ in range(how_many):
        event = subscription.poll(PATIENCE)
        assert event is not None, f"only {len(taken)} of {how_many} events came"
        taken.append(event)
    return taken


def feed_threads(partition: int = 0) -> int:
    return sum(thread.name == f"runner-feed-{partition}" for thread in threading.enumerate())


def view_reaches(store: EventStore, expected: dict[str, Any], name: str = "balances") -> bool:
    return reached(lambda: rows_of(store, name) == expected)


# -- subscriptions ------------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", [1, 3, 500])
def test_a_subscription_to_everything_reads_history_and_then_what_is_appended(
    url: str, fresh_name: str, page_size: int
) -> None:
    """A4, A7. History first, then the live tail; every event once, in order, whatever the page size."""
    # given
    with EventStore.open(url, name=fresh_name, settings=replace(TEST_SETTINGS, page_size=page_size)) as store:
        store.append("account-1", [deposited(), deposited(), deposited()])
        store.append("order-1", noted())

        with store.subscribe(ALL) as subscription:
            # when
            history = take(subscription, 4)
            for _ in range(3):
                store.append("account-1", deposited())
            store.append("order-1", [noted(), noted()])
            live = take(subscription, 5)

        # then
        assert history + live == all_events(store)


def test_a_subscription_to_a_stream_gets_that_stream_alone(store: EventStore) -> None:
    """A1, A4. Only the stream's events come, by their numbers, from history and live."""
    # given
    store.append("account-1", [deposited(), deposited()])
    store.append("account-10", deposited())

    with store.subscribe("account-1") as subscription:
        # when
        taken = take(subscription, 2)
        store.append("account-10", deposited())
        store.append("account-1", deposited())
        taken += take(subscription, 1)

    # then
    assert numbers(taken) == [("account-1", 1), ("account-1", 2), ("account-1", 3)]


def test_a_subscription_to_a_category_gets_all_its_streams(store: EventStore) -> None:
    """A4. The streams of the category come in the order of the log; others with a similar name do not."""
    # given
    for stream in ("account-1", "accounts-1", "account", "my-account"):
        store.append(stream, deposited())

    with store.subscribe(Category("account")) as subscription:
        # when
        taken = take(subscription, 2)
        for stream in ("accounts-1", "account-2", "account-1"):
            store.append(stream, deposited())
        taken += take(subscription, 2)

    # then
    assert numbers(taken) == [("account-1", 1), ("account", 1), ("account-2", 1), ("account-1", 2)]


def test_a_subscription_to_a_stream_that_is_not_there_waits_for_it(store: EventStore) -> None:
    """A5. Nothing comes until the stream is made; then its first event does."""
    with store.subscribe("account-1") as subscription:
        # when
        nothing = subscription.poll(0.0)
        store.append("account-1", deposited())

        # then
        assert nothing is None
        assert numbers(take(subscription, 1)) == [("account-1", 1)]


def test_a_subscription_begins_after_the_place_it_was_given(store: EventStore) -> None:
    """after= is a number of the stream, or a position; what is up to it does not come."""
    # given
    store.append("account-2", deposited())
    store.append("account-1", [deposited(), deposited(), deposited()])

    # when
    with store.subscribe("account-1", after=2) as by_number, store.subscribe(ALL, after=2) as by_position:
        # then
        assert numbers(take(by_number, 1)) == [("account-1", 3)]
        assert numbers(take(by_position, 2)) == [("account-1", 2), ("account-1", 3)]


def test_a_subscription_can_begin_at_the_end(store: EventStore) -> None:
    """after=last_position() skips the history: only what is appended from then on comes."""
    # given
    store.append("account-1", [deposited(), deposited()])

    with store.subscribe(ALL, after=store.last_position()) as subscription:
        # when
        nothing = subscription.poll(0.0)
        store.append("account-1", deposited())

        # then
        assert nothing is None
        assert numbers(take(subscription, 1)) == [("account-1", 3)]


def test_a_subscription_can_begin_at_a_time(store: EventStore) -> None:
    """since= passes over what was recorded before that moment, in history and live; equal moments come."""
    # given
    noon = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    before, after = noon - timedelta(microseconds=1), noon + timedelta(hours=1)
    store.append("account-1", [deposited(recorded_at=when) for when in (before, noon, before, after)])

    with store.subscribe(ALL, since=noon) as subscription:
        # when
        taken = take(subscription, 2)
        store.append("account-1", [deposited(recorded_at=when) for when in (before, after)])
        taken += take(subscription, 1)

    # then
    assert [event.number for event in taken] == [2, 4, 6]


def test_a_subscription_without_any_event_in_its_time_is_caught_up(store: EventStore) -> None:
    """since= later than all there is: nothing comes, and the subscription is live."""
    # given
    store.append("account-1", [deposited(), deposited()])

    with store.subscribe(ALL, since=datetime.now(UTC) + timedelta(days=1)) as subscription:
        # then
        assert subscription.poll(0.0) is None
        assert subscription.caught_up


@pytest.mark.parametrize("page_size", [1, 2, 3, 500])
def test_caught_up_is_told_with_the_last_event_of_history(url: str, fresh_name: str, page_size: int) -> None:
    """caught_up is False while history is left and True from its last event on; a control signal, never an event."""
    # given
    with EventStore.open(url, name=fresh_name, settings=replace(TEST_SETTINGS, page_size=page_size)) as store:
        store.append("account-1", [deposited(), deposited(), deposited()])

        with store.subscribe(ALL) as subscription:
            # when
            told = [subscription.caught_up]
            for _ in range(3):
                take(subscription, 1)
                told.append(subscription.caught_up)

            # then
            assert told == [False, False, False, True]


def test_poll_gives_up_after_its_timeout(store: EventStore) -> None:
    """poll(timeout) gives None when nothing came, as often as it is asked, and the event when it has come."""
    with store.subscribe(ALL) as subscription:
        # then
        assert subscription.poll() is None
        assert subscription.poll(0.02) is None

        # when
        store.append("account-1", deposited())

        # then
        assert numbers(take(subscription, 1)) == [("account-1", 1)]
        assert subscription.poll(0.02) is None


def test_poll_without_waiting_gives_all_of_history(store: EventStore) -> None:
    """poll(0) reads what there is, however many pages it takes; None means there is no more now."""
    # given
    store.append("account-1", [deposited() for _ in range(7)])

    with store.subscribe(ALL) as subscription:
        # when
        polled = [subscription.poll(0.0) for _ in range(8)]

    # then
    assert [event and event.number for event in polled] == [1, 2, 3, 4, 5, 6, 7, None]


def test_iteration_waits_for_what_is_appended(store: EventStore) -> None:
    """A for loop over a subscription goes from history to live without an end of its own."""
    # given
    store.append("account-1", deposited())
    seen: list[int] = []

    # when
    with store.subscribe(ALL) as subscription:
        for event in subscription:
            seen.append(event.number)
            if event.number == 3:
                break
            store.append("account-1", deposited())

    # then
    assert seen == [1, 2, 3]


def test_unsubscribing_from_another_thread_ends_the_iteration(store: EventStore) -> None:
    """A13. unsubscribe ends a wait for the next event at once, without an error; later polls give None."""
    # given
    store.append("account-1", [deposited(), deposited()])
    subscription = store.subscribe(ALL)
    seen: list[RecordedEvent] = []

    # when
    with in_thread(lambda: seen.extend(subscription)):
        assert reached(lambda: subscription.caught_up)
        subscription.unsubscribe()

    # then
    assert [event.number for event in seen] == [1, 2]
    store.append("account-1", deposited())
    assert subscription.poll(0.0) is None


def test_unsubscribing_ends_a_poll_of_another_thread(store: EventStore) -> None:
    """A13. A poll that waits for ever ends when another thread unsubscribes."""
    # given
    subscription = store.subscribe(ALL)
    came: list[object] = []

    # when
    with in_thread(lambda: came.append(subscription.poll(1000.0))):
        assert reached(lambda: subscription.caught_up)
        subscription.unsubscribe()

    # then
    assert came == [None]


def test_unsubscribing_one_leaves_the_others_in_the_feed(store: EventStore) -> None:
    """A13. The feed is left for this subscription and no other."""
    # given
    with store.subscribe(ALL) as leaving, store.subscribe(ALL) as staying:
        assert (leaving.poll(), staying.poll()) == (None, None)

        # when
        leaving.unsubscribe()
        assert leaving.poll() is None
        store.append("account-1", deposited())

        # then
        assert numbers(take(staying, 1)) == [("account-1", 1)]
        assert leaving.poll(0.0) is None


def test_leaving_the_block_ends_the_subscription(store: EventStore) -> None:
    """A14. After the with block nothing more comes, also of what was read already; the events taken stay taken."""
    # given
    store.append("account-1", [deposited(), deposited(), deposited()])

    # when
    with store.subscribe(ALL) as subscription:
        taken = take(subscription, 1)

    # then
    assert numbers(taken) == [("account-1", 1)]
    assert list(subscription) == []
    assert subscription.poll(0.0) is None


def test_unsubscribing_before_the_first_read_gives_nothing(store: EventStore) -> None:
    """A13. A subscription that is ended before it began ends without an error, and may be ended twice."""
    # given
    store.append("account-1", deposited())
    subscription = store.subscribe(ALL)

    # when
    subscription.unsubscribe()
    subscription.unsubscribe()

    # then
    assert list(subscription) == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("account-1", -1), "after"),
        (("", 0), "empty"),
        ((7, 0), "text"),
        ((Category("account-1"), 0), "'-'"),
    ],
)
def test_a_subscription_that_makes_no_sense_is_refused(arguments: tuple[Any, int], text: str) -> None:
    """Names and places are checked when subscribing, not later in a loop."""
    with memory_store() as store, pytest.raises(InvalidInput, match=text):
        store.subscribe(*arguments)


def test_a_time_without_a_zone_is_refused() -> None:
    """since= needs a zone."""
    with memory_store() as store, pytest.raises(InvalidInput, match="zone"):
        store.subscribe(ALL, since=datetime(2026, 1, 1))


def test_in_a_store_of_several_partitions_a_subscription_follows_one() -> None:
    """ALL and categories need a partition; a stream knows its own. Together they bring every event."""
    # given
    with memory_store(partitions=3) as store:
        for account in range(9):
            store.append(f"account-{account}", [deposited(), deposited()])

        # then
        with pytest.raises(InvalidInput, match="3 partitions"):
            store.subscribe(ALL)
        with pytest.raises(InvalidInput, match="3 partitions"):
            store.subscribe(Category("account"))

        # when
        came: list[RecordedEvent] = []
        for partition in range(3):
            with store.subscribe(ALL, partition=partition) as subscription:
                while (event := subscription.poll(0.0)) is not None:
                    came.append(event)
        with store.subscribe("account-5") as of_stream:
            five = take(of_stream, 2)

        # then
        assert came == all_events(store)
        assert numbers(five) == [("account-5", 1), ("account-5", 2)]


def test_what_one_subscriber_does_to_an_event_the_others_do_not_see(store: EventStore) -> None:
    """Live events are shared by the feed, their payloads are not."""
    # given
    with store.subscribe(ALL) as one, store.subscribe(ALL) as two:
        assert (one.poll(), two.poll()) == (None, None)
        store.append("account-1", deposited(7))

        # when
        [first] = take(one, 1)
        first.data["amount"] = "spoiled"
        [second] = take(two, 1)

        # then
        assert second.data == {"amount": 7}


# -- dropped ------------------------------------------------------------------------------------


def test_a_subscriber_that_does_not_read_is_dropped_and_told_so(url: str, fresh_name: str) -> None:
    """A16. Too slow for its buffer: what was delivered has no gap, then SubscriptionDropped; nothing is lost by it."""
    # given
    with EventStore.open(url, name=fresh_name, settings=CRAMPED) as store:
        store.append("account-1", [deposited(), deposited()])
        with store.subscribe(ALL) as slow, store.subscribe(ALL) as quick:
            taken = take(slow, 2)
            take(quick, 2)

            # when: the quick one reads everything, the slow one nothing
            for _ in range(6):
                store.append("account-1", [deposited(), deposited()])
                take(quick, 2)
            with pytest.raises(SubscriptionDropped) as raised:
                taken.extend(slow)

        # then
        assert "too slow" in raised.value.reason
        assert [event.number for event in taken] == list(range(1, len(taken) + 1))
        assert list(slow) == []
        with store.subscribe(ALL, after=taken[-1].position) as again:
            rest = take(again, 14 - len(taken))
        assert taken + rest == all_events(store)


def test_events_that_were_taken_from_the_feed_come_before_the_drop(url: str, fresh_name: str) -> None:
    """A16. What the subscription holds when it is dropped is delivered first."""
    # given
    with (
        EventStore.open(url, name=fresh_name, settings=CRAMPED) as store,
        store.subscribe(ALL) as slow,
        store.subscribe(ALL) as quick,
    ):
        assert (slow.poll(), quick.poll()) == (None, None)
        store.append("account-1", [deposited(), deposited(), deposited()])
        taken = take(slow, 1)
        take(quick, 3)

        # when: two events are held, and many more come
        for _ in range(6):
            store.append("account-1", [deposited(), deposited()])
            take(quick, 2)

        with pytest.raises(SubscriptionDropped):
            taken.extend(slow)

        # then
        assert [event.number for event in taken] == list(range(1, len(taken) + 1))
        assert 3 <= len(taken) < 15


def test_events_that_the_feed_brought_come_before_the_error(store: EventStore) -> None:
    """A16. The feed brings an event, then finds damage: the event is delivered to a late reader, then the error."""
    # given
    with store.subscribe(ALL) as late, store.subscribe(ALL) as quick:
        assert (late.poll(), quick.poll()) == (None, None)
        store.append("account-1", deposited())
        take(quick, 1)

        # when
        store.driver.execute([("XADD", store.info.keys[0].log, "5-5", "e", "x")])
        with pytest.raises(DataError):
            quick.poll(PATIENCE)

        # then
        assert [event.number for event in take(late, 1)] == [1]
        with pytest.raises(DataError, match="position 2 is missing"):
            late.poll(PATIENCE)


@pytest.mark.parametrize("what", [ALL, "account-1"])
def test_history_that_was_trimmed_is_told_to_each_call(store: EventStore, url: str, what: Any) -> None:
    """On either face, by a log and by a stream: who polls again after LogTrimmed gets it again."""
    # given
    store.append("account-1", [deposited(), deposited()])
    store.driver.execute([("XTRIM", store.info.keys[0].stream("account-1"), "MINID", "3-0")])
    trim_by_hand(store, 2)

    async def asynchronously() -> None:
        async with (
            asyncio.timeout(PATIENCE),
            AsyncEventStore.open(url, name=store.info.name) as other,
            other.subscribe(what) as subscription,
        ):
            for _ in range(3):
                with pytest.raises(LogTrimmed):
                    await subscription.poll()

    # then
    with store.subscribe(what) as subscription:
        for _ in range(3):
            with pytest.raises(LogTrimmed):
                subscription.poll()
    asyncio.run(asynchronously())


def test_events_that_the_feed_brought_come_before_the_end(store: EventStore, url: str) -> None:
    """A16. The store is closed with an event in the buffer: the event is delivered, then SubscriptionDropped."""
    # given
    other = EventStore.open(url, name=store.info.name, settings=TEST_SETTINGS)
    late, quick = other.subscribe(ALL), other.subscribe(ALL)
    assert (late.poll(), quick.poll()) == (None, None)
    store.append("account-1", deposited())
    take(quick, 1)

    # when
    other.close()

    # then
    assert [event.number for event in take(late, 1)] == [1]
    with pytest.raises(SubscriptionDropped):
        late.poll(PATIENCE)


def test_closing_the_store_drops_its_subscriptions(store: EventStore, url: str) -> None:
    """A16. Whoever waits for events of a store that is closed gets SubscriptionDropped with the reason."""
    # given
    other = EventStore.open(url, name=store.info.name, settings=TEST_SETTINGS)
    subscription = other.subscribe(ALL)
    assert subscription.poll() is None

    # when
    other.close()

    # then
    with pytest.raises(SubscriptionDropped, match="the store was closed"):
        subscription.poll(PATIENCE)


def test_a_subscription_that_joins_after_the_store_was_closed_is_dropped_too(store: EventStore, url: str) -> None:
    """A17. Closed while the subscription was reading history: it ends with an error instead of waiting for ever."""
    # given
    store.append("account-1", [deposited(), deposited()])
    other = EventStore.open(url, name=store.info.name, settings=replace(TEST_SETTINGS, page_size=1))
    subscription = other.subscribe(ALL)
    take(subscription, 1)

    # when
    other.close()

    # then
    ended = threading.Event()

    def read() -> None:
        try:
            list(subscription)
        except (SubscriptionDropped, StoreTrouble):
            ended.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert ended.wait(2.0)
    reader.join(PATIENCE)


# -- a connection that can be broken ------------------------------------------------------------


class Wire:
    """Whether connections of a `Flaky` client can be made, and how many were refused."""

    def __init__(self) -> None:
        self.refuse_next = 0
        self.refused = 0


class Flaky(UnixDomainSocketConnection):
    """A connection to a real server that can be told to refuse the next attempts to connect."""

    def __init__(self, *, wire: Wire, **options: Any) -> None:
        self._wire = wire
        super().__init__(**options)

    def _connect(self) -> Any:
        if self._wire.refuse_next > 0:
            self._wire.refuse_next -= 1
            self._wire.refused += 1
            raise ConnectionRefusedError("refused by the test")
        return super()._connect()


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def flaky_store(server_directory: Path, fresh_name: str, wire: Wire) -> Iterator[EventStore]:
    """A store on the real server, over connections that can be broken; it is patient for half a second."""
    pool = redis.ConnectionPool(
        connection_class=Flaky, path=str(server_directory / "socket"), wire=wire, client_name=fresh_name
    )
    with EventStore(
        redis.Redis(connection_pool=pool), name=fresh_name, settings=replace(CRAMPED, retry_for=0.5)
    ) as store:
        yield store


def kill_connections(store: EventStore) -> None:
    """Every client of the server but the one that says so loses its connection."""
    store.driver.execute([("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")])


@pytest.mark.real
def test_a_subscription_that_never_reaches_the_server_tells_its_caller(flaky_store: EventStore, wire: Wire) -> None:
    """A17. The server cannot be reached before the first page came: the caller who waits gets the error."""
    # given
    subscription = flaky_store.subscribe(ALL)
    wire.refuse_next = 1_000_000

    # then
    with pytest.raises(StoreTrouble, match="refused by the test"):
        subscription.poll(PATIENCE)


@pytest.mark.real
@pytest.mark.parametrize("refused", [1, 2, 4])
def test_a_subscription_reads_on_after_its_connection_was_away(
    flaky_store: EventStore, real_store: EventStore, wire: Wire, refused: int
) -> None:
    """A8. Connections are killed and the next attempts refused while it reads history: it goes on, each event once."""
    # given
    flaky_store.append("account-1", [deposited() for _ in range(20)])
    with flaky_store.subscribe(ALL) as subscription:
        taken = take(subscription, 2)

        # when
        kill_connections(real_store)
        wire.refuse_next = refused
        taken += take(subscription, 18)

        # then
        assert wire.refused == refused
        assert taken == all_events(flaky_store)


@pytest.mark.real
def test_no_event_is_lost_by_an_error_that_was_raised_behind_it(
    flaky_store: EventStore, real_store: EventStore, wire: Wire
) -> None:
    """A8. The server stays away, the caller gets the error, and polls again later: each event comes once, in order."""
    # given
    flaky_store.append("account-1", [deposited() for _ in range(10)])
    with flaky_store.subscribe(ALL) as subscription:
        taken = take(subscription, 1)

        # when
        kill_connections(real_store)
        wire.refuse_next = 1_000_000
        with pytest.raises(StoreTrouble):
            while (event := subscription.poll(PATIENCE)) is not None:
                taken.append(event)
        wire.refuse_next = 0
        taken += take(subscription, 10 - len(taken))

        # then
        assert taken == all_events(flaky_store)


@pytest.mark.real
def test_a_feed_that_fails_drops_its_subscriptions_with_the_reason(
    flaky_store: EventStore, real_store: EventStore, wire: Wire
) -> None:
    """A16. The live feed's connection is killed: SubscriptionDropped says so, and subscribing again goes on."""
    # given
    flaky_store.append("account-1", deposited())
    with flaky_store.subscribe(ALL) as subscription:
        [first] = take(subscription, 1)
        assert subscription.poll() is None
        assert reached(lambda: waiting_reads(real_store, flaky_store.info.name) == 1)

        # when
        kill_connections(real_store)

        # then
        with pytest.raises(SubscriptionDropped, match="the live feed failed"):
            subscription.poll(PATIENCE)
    flaky_store.append("account-1", deposited())
    with flaky_store.subscribe(ALL, after=first.position) as again:
        assert [event.number for event in take(again, 1)] == [2]


# -- the feed -----------------------------------------------------------------------------------


def waiting_reads(store: EventStore, client: str = "") -> int:
    """How many connections of the server are blocked in XREAD; only those of a client of that name, if one is given."""
    [clients] = store.driver.execute([("CLIENT", "LIST")])
    text = clients.decode() if isinstance(clients, bytes) else str(clients)
    return sum("cmd=xread" in line and f" name={client}" in line for line in text.splitlines())


def test_one_feed_is_shared_by_all_subscriptions_of_a_partition(store: EventStore) -> None:
    """Ten live subscriptions and two projections have one feed thread, and each gets every event once."""
    # given
    with ExitStack() as stack:
        subscriptions = [stack.enter_context(store.subscribe(ALL)) for _ in range(10)]
        following = stack.enter_context(follow(store, balances("one"), balances("two")))
        following.wait_live(PATIENCE)
        for subscription in subscriptions:
            assert subscription.poll() is None

        # then
        assert reached(lambda: feed_threads() == 1)

        # when
        store.append("account-1", [deposited(), deposited()])
        for subscription in subscriptions:
            assert [event.number for event in take(subscription, 2)] == [1, 2]
        assert view_reaches(store, plain_fold(all_events(store)), "one")
        assert view_reaches(store, plain_fold(all_events(store)), "two")
        assert feed_threads() == 1

    # then
    assert reached(lambda: feed_threads() == 0)


@pytest.mark.real
def test_one_connection_waits_for_all_subscriptions_of_a_partition(real_store: EventStore) -> None:
    """On the server there is one blocked XREAD for ten subscriptions, and none when they have left."""
    # given
    with ExitStack() as stack:
        for _ in range(10):
            assert stack.enter_context(real_store.subscribe(ALL)).poll() is None

        # then
        assert reached(lambda: waiting_reads(real_store) == 1)
    assert reached(lambda: waiting_reads(real_store) == 0)


def test_a_feed_starts_again_after_all_have_left(store: EventStore) -> None:
    """Subscribing, leaving and subscribing again brings what comes later, without what came between twice."""
    for round_ in range(3):
        # when
        with store.subscribe(ALL, after=store.last_position()) as subscription:
            assert subscription.poll() is None
            store.append("account-1", deposited())

            # then
            assert [event.number for event in take(subscription, 1)] == [round_ * 2 + 1]
        store.append("account-1", deposited())


def flush(store: EventStore) -> None:
    """Remove everything of the store at once, as FLUSHALL does."""
    [found] = store.driver.execute([("KEYS", "*" + store.info.name + ".*")])
    store.driver.execute([("DEL", *found)])


def test_the_feed_notices_a_store_that_was_flushed(store: EventStore) -> None:
    """A subscriber that waits for events of a flushed store is told, instead of waiting for ever."""
    # given
    store.append("account-1", [deposited(), deposited()])
    with store.subscribe(ALL) as subscription:
        take(subscription, 2)
        assert subscription.poll() is None

        # when
        flush(store)

        # then
        with pytest.raises(DataError, match="flushed"):
            subscription.poll(PATIENCE)


#: Put the keys of one store in the place of another's, and append one event more, all at once.
REPLACE = """
for i = 1, #KEYS, 2 do redis.call('RENAME', KEYS[i], KEYS[i + 1]) end
local last = redis.call('XREVRANGE', KEYS[4], '+', '-', 'COUNT', 1)
redis.call('XADD', KEYS[4], '5-5', 'e', last[1][2][2])
"""


def test_the_feed_notices_a_store_that_was_flushed_and_filled_again(store: EventStore, url: str) -> None:
    """Another log in the place of this one, and longer than it: none of its events is taken for a continuation."""
    # given
    store.append("account-1", [deposited(1), deposited(2)])
    other = f"{store.info.name}-other"
    with EventStore.open(url, name=other, settings=TEST_SETTINGS) as new:
        new.append("account-1", [deposited(n) for n in (10, 20, 30, 40)])
    with store.subscribe(ALL) as subscription:
        take(subscription, 2)
        assert subscription.poll() is None

        # when
        keys = [f"{{{name}.0}}:{key}" for key in ("meta", "log") for name in (other, store.info.name)]
        store.driver.execute([("EVAL", REPLACE, 4, *keys)])

        # then
        with pytest.raises(DataError):
            subscription.poll(PATIENCE)


def test_the_feed_notices_a_hole_in_the_log(store: EventStore) -> None:
    """A position that is missing is an error for whoever follows; the events before it were delivered."""
    # given
    store.append("account-1", [deposited(), deposited()])
    with store.subscribe(ALL) as subscription:
        take(subscription, 2)
        assert subscription.poll() is None

        # when
        store.driver.execute([("XADD", store.info.keys[0].log, "5-5", "e", "x")])

        # then
        with pytest.raises(DataError, match="position 3 is missing"):
            subscription.poll(PATIENCE)


# -- follow -------------------------------------------------------------------------------------


def test_following_catches_up_and_then_shows_what_is_appended(store: EventStore) -> None:
    """C2. After the first catch-up an append shows in the view without another call."""
    # given
    store.append("account-1", [deposited(1), deposited(2)])

    with follow(store, balances()) as following:
        # when
        following.wait_live(PATIENCE)

        # then
        assert rows_of(store) == plain_fold(all_events(store))
        for amount in (4, 8):
            store.append("account-1", deposited(amount))
            assert view_reaches(store, plain_fold(all_events(store)))


def test_following_an_empty_store_is_live_at_once(store: EventStore) -> None:
    """C2. With no history wait_live returns, and the first append shows."""
    with follow(store, balances()) as following:
        # when
        following.wait_live(PATIENCE)
        store.append("account-1", deposited(1))

        # then
        assert view_reaches(store, {"account-1": {"balance": 1, "numbers": [1]}})


def test_waiting_for_live_gives_up_after_its_timeout(store: EventStore) -> None:
    """wait_live(timeout) raises WaitTimeout as long as a handler of the history has not returned."""
    # given
    store.append("account-1", deposited())
    go_on = threading.Event()

    with follow(store, balances(on_event=lambda event: go_on.wait(PATIENCE) and None)) as following:
        # when
        with pytest.raises(WaitTimeout, match="'catching up'"):
            following.wait_live(0.05)
        go_on.set()

        # then
        following.wait_live(PATIENCE)


def test_a_handler_that_fails_raises_at_the_end_of_the_block(store: EventStore) -> None:
    """C7. While the block runs the failure is kept; at its end it is raised, with the events before it committed."""
    # given
    store.append("account-1", [deposited(1), deposited(2)])

    def fail_at_three(event: RecordedEvent) -> None:
        if event.number == 3:
            raise ZeroDivisionError

    # when
    stopped = threading.Event()
    engine = Engine(
        store,
        [balances(on_event=fail_at_three), balances("sound")],
        notify=lambda assignment: stopped.set() if assignment.failure is not None else None,
    )

    with pytest.raises(HandlerFailed) as raised, Following(engine) as following:
        following.wait_live(PATIENCE)
        store.append("account-1", deposited(4))
        store.append("account-1", deposited(8))
        assert stopped.wait(PATIENCE)
        assert view_reaches(store, plain_fold(all_events(store)), "sound")

    # then
    assert raised.value.position == 3
    assert rows_of(store) == plain_fold(all_events(store)[:2])


def test_a_handler_that_fails_in_history_does_not_keep_wait_live_waiting(store: EventStore) -> None:
    """C7. wait_live ends when every projection is live or has stopped, and raises what stopped one; so does the end."""
    # given
    store.append("account-1", deposited())
    projection = Projection("bad")
    projection.when("Deposited", divide_by_zero)

    # when
    with (
        pytest.raises(HandlerFailed) as ended,
        follow(store, projection) as following,
        pytest.raises(HandlerFailed) as told,
    ):
        following.wait_live(PATIENCE)

    # then
    assert told.value is ended.value


def test_an_error_of_the_block_is_not_hidden_by_a_failing_handler(store: EventStore) -> None:
    """What the block itself raised leaves it, whatever the projections did."""
    # given
    store.append("account-1", deposited())
    projection = Projection("bad")
    projection.when("Deposited", divide_by_zero)

    # then
    with pytest.raises(KeyError, match="mine"), follow(store, projection) as following:
        with pytest.raises(HandlerFailed):
            following.wait_live(PATIENCE)
        raise KeyError("mine")


def test_the_end_of_the_block_stops_the_work(store: EventStore) -> None:
    """After the block no thread of it is left, and what is appended later waits for the next run."""
    # given
    with follow(store, balances()) as following:
        following.wait_live(PATIENCE)
        store.append("account-1", deposited(1))
        assert view_reaches(store, plain_fold(all_events(store)))

    # when
    assert not any(thread.name == "runner-0" for thread in threading.enumerate())
    store.append("account-1", deposited(2))

    # then
    assert rows_of(store)["account-1"]["balance"] == 1
    assert catch_up(store, balances()) == 1


def test_projections_at_different_places_come_together_in_one_live_group(store: EventStore) -> None:
    """C2. Three groups that start at different positions end as one: one thread does all, and no view is wrong."""
    # given
    for name in ("first", "second"):
        store.append("account-1", [deposited(1), deposited(2), deposited(4)])
        catch_up(store, balances("first"), *([balances("second")] if name == "second" else []))
    store.append("account-2", [deposited(1) for _ in range(5)])
    catch_up(store, balances("first"))
    names = ("first", "second", "third")

    with follow(store, *[balances(name) for name in names]) as following:
        # when
        following.wait_live(PATIENCE)

        # then
        assert reached(lambda: sum(thread.name == "runner-0" for thread in threading.enumerate()) == 1)
        for _ in range(3):
            store.append("account-2", deposited(8))
            expected = plain_fold(all_events(store))
            assert all(view_reaches(store, expected, name) for name in names)


def test_groups_that_come_together_under_load_miss_nothing(store: EventStore, url: str) -> None:
    """C2. Appends go on while groups catch up and merge: every event is in every view, once."""
    # given
    handled: list[str] = []
    for size in (5, 40, 80):
        store.append("account-1", [deposited(1) for _ in range(size)])
        handled.append(f"p{size}")
        catch_up(store, *[balances(name) for name in handled])
    names = [*handled, "new"]

    def append_more() -> None:
        with EventStore.open(url, name=store.info.name, settings=TEST_SETTINGS) as other:
            for place in range(60):
                other.append(f"account-{place % 3}", [deposited(place)])

    with (
        EventStore.open(url, name=store.info.name, settings=replace(TEST_SETTINGS, page_size=3)) as cramped,
        in_thread(append_more) as appending,
        follow(cramped, *[balances(name) for name in names]) as following,
    ):
        # when
        following.wait_live(PATIENCE)
        appending.join(PATIENCE)

        # then
        expected = plain_fold(all_events(store))
        assert all(view_reaches(store, expected, name) for name in names)


def test_partitions_are_followed_side_by_side(url: str, fresh_name: str) -> None:
    """C2. With four partitions each has its feed and its checkpoint; the view is that of all of them."""
    # given
    with EventStore.open(url, name=fresh_name, partitions=4, settings=TEST_SETTINGS) as store:
        for account in range(12):
            store.append(f"account-{account}", [deposited(account), deposited(1)])
        assert all(store.last_position(partition=partition) > 0 for partition in range(4))

        with follow(store, balances()) as following:
            # when
            following.wait_live(PATIENCE)
            assert rows_of(store) == plain_fold(all_events(store))
            for account in range(12):
                store.append(f"account-{account}", deposited(100))

            # then
            expected = plain_fold(all_events(store))
            assert view_reaches(store, expected)
            assert len(View(store, "balances")) == 12
            assert View(store, "balances")["account-7"] == expected["account-7"]
            assert reached(lambda: [feed_threads(partition) for partition in range(4)] == [1, 1, 1, 1])
        assert catch_up(store, balances()) == 0


class CountedFeeds:
    """How often anyone has joined the feeds of a store."""

    def __init__(self, store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.joins = 0
        join = Feed.join

        def counted(feed: Feed, member: Member) -> None:
            self.joins += 1
            join(feed, member)

        monkeypatch.setattr(Feed, "join", counted)


def test_projections_that_are_too_slow_go_back_to_reading(
    url: str, fresh_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A16. Dropped by the feed with a handler at work, follow reads on by itself and ends with the right view."""
    # given
    with EventStore.open(url, name=fresh_name, settings=CRAMPED) as store:
        feeds = CountedFeeds(store, monkeypatch)
        at_work, go_on = threading.Event(), threading.Event()

        def wait_in_the_first(event: RecordedEvent) -> None:
            if event.position == 1:
                at_work.set()
                assert go_on.wait(PATIENCE)

        with (
            store.subscribe(ALL) as quick,
            follow(store, balances(on_event=wait_in_the_first)) as following,
        ):
            following.wait_live(PATIENCE)
            assert quick.poll() is None
            assert feeds.joins == 2

            # when: the handler does not return while the feed brings far more than a member may hold
            store.append("account-1", deposited(1))
            assert at_work.wait(PATIENCE)
            take(quick, 1)
            for _ in range(10):
                store.append("account-1", [deposited(1), deposited(1)])
                take(quick, 2)
            go_on.set()

            # then
            assert view_reaches(store, plain_fold(all_events(store)))
            store.append("account-1", deposited(1))
            assert view_reaches(store, plain_fold(all_events(store)))
            assert feeds.joins > 2


@pytest.mark.real
def test_following_goes_on_after_all_connections_were_killed(
    flaky_store: EventStore, real_store: EventStore, wire: Wire
) -> None:
    """C10. The feed, the group and the pool lose their connections, three times: every event is counted once."""
    # given
    with follow(flaky_store, balances(), balances("two")) as following:
        for round_ in range(3):
            following.wait_live(PATIENCE)
            real_store.driver.execute([("PING",)])

            # when
            kill_connections(real_store)
            wire.refuse_next = round_
            with EventStore(
                redis.Redis(unix_socket_path=flaky_store.driver.address.options["path"]), name=flaky_store.info.name
            ) as writer:
                writer.append("account-1", [deposited(1), deposited(2)])

            # then
            expected = plain_fold(all_events(flaky_store))
            assert len(expected["account-1"]["numbers"]) == 2 * (round_ + 1)
            assert view_reaches(flaky_store, expected)
            assert view_reaches(flaky_store, expected, "two")


def test_a_second_runner_stands_by_and_takes_over_when_the_first_ends(store: EventStore, url: str) -> None:
    """C11. Two follow one projection: one drives it, the other stands by; a clean end hands over at once."""
    # given
    store.append("account-1", deposited(1))
    with EventStore.open(url, name=store.info.name, settings=replace(TEST_SETTINGS, lease=600.0)) as other:
        first = Engine(store, [balances()])
        first.start()
        assert first.wait_live(PATIENCE)
        with follow(other, balances()) as second:
            with pytest.raises(WaitTimeout, match="is not live in time: its state is 'standing by'"):
                second.wait_live(0.5)

            # when
            first.stop()
            assert first.join(PATIENCE)

            # then: long before its lease would have ended
            second.wait_live(PATIENCE)
            appended = store.append("account-1", deposited(1))
            second.wait_for(appended, PATIENCE)
    assert first.failures == []
    assert rows_of(store) == plain_fold(all_events(store))


def test_a_store_that_is_flushed_stops_the_projections_that_follow_it(store: EventStore) -> None:
    """C5. Following a store that was flushed does not go on as if nothing had happened: it stops with a DataError."""
    # given
    store.append("account-1", [deposited(1), deposited(2)])
    stopped = threading.Event()
    engine = Engine(
        store, [balances()], notify=lambda assignment: stopped.set() if assignment.failure is not None else None
    )
    engine.start()
    assert engine.wait_live(PATIENCE)

    # when
    flush(store)

    # then
    assert stopped.wait(PATIENCE)
    assert engine.join(PATIENCE)
    [failure] = engine.failures
    assert isinstance(failure, DataError)
    assert "position 2" in str(failure)


def test_whoever_waits_for_an_append_sees_it_in_the_view(store: EventStore) -> None:
    """C2. ``wait_for`` returns when the append is committed to every view, and not by chance."""
    seen = Projection("seen")
    seen.when(lambda state, event: {"number": event.number})
    with follow(store, seen) as following:
        for number in range(1, 51):
            result = store.append("thing-1", NewEvent("Happened"))
            following.wait_for(result, timeout=10)
            assert View(store, "seen")["thing-1"] == {"number": number}
        with pytest.raises(WaitTimeout, match="'live'") as late:
            following.wait_for(msgspec.structs.replace(result, position=10**6), timeout=0.01)
    assert (late.value.position, late.value.lag) == (10**6, 10**6 - result.position)


def failing_at_two() -> Projection:
    return balances("failing", on_event=lambda event: 1 // (2 - event.number) and None)


def test_waiting_for_an_append_that_stopped_a_projection_raises_why(store: EventStore) -> None:
    """Every other projection has applied it by then; what was applied before the failure can be waited for."""
    # given
    first, second = store.append("account-1", deposited(1)), store.append("account-1", deposited(2))

    # when / then: the end of the block says it once more
    with pytest.raises(HandlerFailed), follow(store, failing_at_two(), balances()) as following:
        following.wait_for(first)
        with pytest.raises(HandlerFailed, match="position 2"):
            following.wait_for(second)
        assert rows_of(store) == plain_fold(all_events(store))


def test_waiting_in_an_event_loop_for_what_stopped_a_projection_raises_why(store: EventStore, url: str) -> None:
    """The same where it is awaited; WaitTimeout for what nobody has appended."""
    # given
    first, second = store.append("account-1", deposited(1)), store.append("account-1", deposited(2))
    never = msgspec.structs.replace(second, position=10**6)

    async def main() -> None:
        async with AsyncEventStore.open(url, name=store.info.name, settings=TEST_SETTINGS) as other:
            async with follow(other, balances()) as sound:
                await sound.wait_live(PATIENCE)
                with pytest.raises(WaitTimeout, match="lags 999998 events, and its state is 'live'"):
                    await sound.wait_for(never, timeout=0.01)
            async with follow(other, failing_at_two()) as following:
                await following.wait_for(first)
                with pytest.raises(HandlerFailed, match="position 2"):
                    await following.wait_for(second)
                with pytest.raises(HandlerFailed, match="position 2"):
                    await following.wait_live()

    # when / then
    with pytest.raises(HandlerFailed):
        asyncio.run(main())


def test_a_store_may_be_closed_in_the_midst_of_its_feed() -> None:
    """The garbage collector closes what is left in any thread, at any moment; the feed's own thread among them."""
    store = memory_store()

    def close() -> None:
        with store.feed(0)._lock:
            store.close()

    closing = threading.Thread(target=close, daemon=True)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
