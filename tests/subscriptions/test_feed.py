"""The feed without I/O: what a member holds, when it is dropped and woken, and a log that is another one."""

from __future__ import annotations

import asyncio
import re
import threading
from typing import Any

import pytest
from accounts import PATIENCE, deposits, in_thread
from faces import FACES
from looks import do, keys_of

from runner import ALL, AsyncEventStore, DataError, EventStore, SubscriptionDropped
from runner.errors import LogCorrupt, RecordDamaged, StoreClosed, StoreUnavailable
from runner.subscriptions.feed import TOO_SLOW, Delivery, FeedCore, Member
from runner.testing import TEST_SETTINGS, all_events, memory_store


class Bell:
    """Counts how often it was rung."""

    def __init__(self) -> None:
        self.rung = 0

    def __call__(self) -> None:
        self.rung += 1


def test_a_member_holds_as_many_events_as_its_limit_and_no_more() -> None:
    """Pages that fill the buffer exactly fit; the event beyond drops the member, which still gives what it holds."""
    # given
    with memory_store() as store:
        store.append("account-1", deposits(3))
        one, two, three = all_events(store)
    member = Member(2, Bell())

    # when
    taken = [member.offer([one], 1), member.offer([two], 2), member.offer([three], 3)]

    # then
    assert taken == [True, True, False]
    held, after = member.take(), member.take()
    assert held is not None
    assert (held.events, held.upto, held.reason) == ([one, two], 2, None)
    assert after is not None
    assert (after.events, after.reason) == ([], TOO_SLOW)


def test_a_page_larger_than_the_limit_fits_into_an_empty_buffer() -> None:
    """Otherwise a member with a small limit would never get anything."""
    with memory_store() as store:
        store.append("account-1", deposits(3))
        events = all_events(store)
    member = Member(2, Bell())
    assert member.offer(events, 3)
    assert not member.offer(events, 6)


def test_a_member_has_room_again_when_it_has_taken_its_events() -> None:
    """The limit is on what it holds, not on what it has ever had."""
    with memory_store() as store:
        store.append("account-1", deposits(2))
        events = all_events(store)
    member = Member(2, Bell())
    for _ in range(3):
        assert member.offer(events, 2)
        assert member.take() is not None
    assert member.take() is None


def test_a_member_is_woken_by_a_page_and_by_its_drop() -> None:
    """After the drop it takes nothing more, and its reason stays."""
    # given
    bell = Bell()
    member = Member(2, bell)

    # when
    member.offer([], 1)
    after_the_page = bell.rung
    member.drop("the store was closed")

    # then
    assert (after_the_page, bell.rung) == (1, 2)
    assert not member.offer([], 2)
    member.take()
    for _ in range(2):
        delivery = member.take()
        assert delivery is not None
        assert delivery.reason == "the store was closed"


def test_who_waits_for_long_hears_at_once_of_its_drop(store: EventStore, url: str) -> None:
    """The store is closed while a poll may wait for a minute: the poll ends with SubscriptionDropped."""
    # given
    other = EventStore.open(url, name=store.info.name, settings=TEST_SETTINGS)
    subscription, ended = other.subscribe(ALL), threading.Event()
    assert subscription.poll() is None

    def wait() -> None:
        with pytest.raises(SubscriptionDropped):
            subscription.poll(60.0)
        ended.set()

    # when, then
    with in_thread(wait):
        other.close()
        assert ended.wait(PATIENCE)


def test_nobody_joins_a_feed_that_was_closed(store: EventStore, url: str) -> None:
    """The store's feed is closed with the store, and says that it is."""
    other = EventStore.open(url, name=store.info.name, settings=TEST_SETTINGS)
    feed = other.feed(0)
    other.close()
    with pytest.raises(StoreClosed):
        feed.join(Member(2, Bell()))


# -- a log that is not the one that was followed -----------------------------------------------------


@pytest.mark.parametrize("face", FACES)
def test_a_feed_that_gets_no_connection_drops_its_members(
    store: EventStore, url: str, face: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the process has too many open files: nobody waits for a feed that has ended."""

    def no_session(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("too many open files")

    def in_threads() -> Delivery | None:
        with EventStore.open(url, name=store.info.name, settings=TEST_SETTINGS) as other:
            monkeypatch.setattr(other.driver, "session", no_session)
            woken = threading.Event()
            member = Member(10, woken.set)
            other.feed(0).join(member)
            assert woken.wait(PATIENCE)
            return member.take()

    async def in_tasks() -> Delivery | None:
        async with AsyncEventStore.open(url, name=store.info.name, settings=TEST_SETTINGS) as other:
            monkeypatch.setattr(other.driver, "session", no_session)
            woken = asyncio.Event()
            member = Member(10, woken.set)
            await other.feed(0).join(member)
            await asyncio.wait_for(woken.wait(), PATIENCE)
            return member.take()

    dropped = in_threads() if face == "sync" else asyncio.run(in_tasks())
    assert dropped is not None
    assert dropped.reason == "the live feed failed: too many open files"


def core_at(store: EventStore, position: int) -> FeedCore:
    """A feed that stands at a position and knows the event there."""
    core = FeedCore(store.info, store.info.keys[0], TEST_SETTINGS)
    core.stand_at(position, all_events(store)[position - 1]._id)
    return core


def test_a_feed_notices_another_event_at_its_position(store: EventStore) -> None:
    """A restored log is as long as the one that was followed, and has the same epoch."""
    # given
    store.append("account-1", deposits(3))
    core, log = core_at(store, 3), keys_of(store).log
    entries = do(store, "XRANGE", log, "-", "+")

    # when
    do(store, "DEL", log)
    for (place, _), (_, fields) in zip(entries, reversed(entries), strict=True):
        do(store, "XADD", log, place, *fields)

    # then
    with pytest.raises(DataError, match="was at position 3 and is now at 3"):
        core.advance(store.driver.execute(core.read_commands()))


def test_a_feed_notices_that_an_event_before_it_is_gone(store: EventStore) -> None:
    """Who joins later would miss it in history."""
    # given
    store.append("account-1", deposits(3))
    core = core_at(store, 3)

    # when
    do(store, "XDEL", keys_of(store).log, "2-2")

    # then
    with pytest.raises(LogCorrupt, match="ends at position 3, but holds 2 entries after 0 trimmed ones"):
        core.advance(store.driver.execute(core.read_commands()))


def test_a_feed_at_a_position_that_was_trimmed_notices_a_log_that_ends_before_it(store: EventStore) -> None:
    """The event there cannot be compared, but the end of the log says enough."""
    # given: the feed has seen five events; a restored log has three of them, and says that all of these were trimmed
    store.append("account-1", deposits(5))
    core = core_at(store, 5)
    keys = store.info.keys[0]
    store.driver.execute([("HSET", keys.meta, "floor", 5), ("XTRIM", keys.log, "MINID", 6)])
    core.advance(store.driver.execute(core.read_commands()))  # so far it is the log that it followed

    # when
    store.driver.execute([("HSET", keys.meta, "floor", 3)])

    # then
    with pytest.raises(DataError, match="was at position 5 and is now at 3"):
        core.advance(store.driver.execute(core.read_commands()))


def test_a_floor_that_is_no_number_is_named_by_the_feed(store: EventStore) -> None:
    """The members are dropped with this error."""
    store.append("account-1", deposits(2))
    core = core_at(store, 2)
    keys = store.info.keys[0]
    store.driver.execute([("HSET", keys.meta, "floor", "x")])
    with pytest.raises(RecordDamaged, match=re.escape(f"{keys.meta} is damaged: its field 'floor'")):
        core.advance(store.driver.execute(core.read_commands()))
