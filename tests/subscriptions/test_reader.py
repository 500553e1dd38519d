"""The subscription reader after a connection was lost: how large its pages are, and whether the log is the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from accounts import deposits
from looks import do, keys_of, trim_by_hand
from workbench import relayed

from runner import DataError, EventStore
from runner.effects import Effect, Operation, Receive, Send
from runner.errors import RecordDamaged, StoreUnavailable
from runner.subscriptions.reader import Batch, SubscriptionReader
from runner.subscriptions.sources import LogSource


@pytest.mark.parametrize(("size", "sizes"), [(8, [8, 4, 2, 8]), (3, [3, 1, 1, 3]), (1, [1, 1, 1, 1])])
def test_a_page_that_was_lost_on_its_way_is_asked_for_in_halves(store: EventStore, size: int, sizes: list[int]) -> None:
    """It may be too large for the server's output limits: half of it each time, and all of it when one has come."""
    # given
    store.append("account-1", deposits(20))
    reader = SubscriptionReader(LogSource(store.info.keys[0]), after=0, page_size=size, live=False)
    asked: list[Any] = []
    losses = 2

    def relay(effect: Effect) -> Operation[Any]:
        nonlocal losses
        if isinstance(effect, Send):
            asked.append(effect.commands[0][-1])
        if isinstance(effect, Receive) and losses:
            losses -= 1
            raise StoreUnavailable("the connection was lost")
        return (yield effect)

    def perform() -> Operation[None]:
        while True:
            try:
                came = yield from relayed(reader.next(0.0), relay)
            except StoreUnavailable:
                yield from relayed(reader.restart(), relay)
                continue
            if not isinstance(came, Batch):
                return

    # when
    store.work(perform())

    # then
    assert asked[:4] == sizes


def lose_the_connection(store: EventStore, reader: SubscriptionReader) -> None:
    """The page that the reader has asked for does not come."""

    def relay(effect: Effect) -> Operation[Any]:
        if isinstance(effect, Receive):
            raise StoreUnavailable("the connection was lost")
        return (yield effect)

    with pytest.raises(StoreUnavailable):
        store.work(relayed(reader.next(0.0), relay))


def flushed(store: EventStore) -> None:
    do(store, "DEL", keys_of(store).log)


def filled_again(store: EventStore) -> None:
    """Another event stands at each position."""
    log = keys_of(store).log
    entries = do(store, "XRANGE", log, "-", "+")
    do(store, "DEL", log)
    for (place, _), (_, fields) in zip(entries, reversed(entries), strict=True):
        do(store, "XADD", log, place, *fields)


@pytest.mark.parametrize("what", [flushed, filled_again])
def test_a_log_that_was_replaced_while_the_connection_was_lost_is_noticed(
    store: EventStore, what: Callable[[EventStore], None]
) -> None:
    """The event that was delivered last is gone, or another one stands at its position: each call raises DataError."""
    # given
    store.append("account-1", deposits(4))
    reader = SubscriptionReader(LogSource(store.info.keys[0]), after=0, page_size=2, live=False)
    came = store.work(reader.next(0.0))
    assert isinstance(came, Batch)
    lose_the_connection(store, reader)

    # when
    what(store)

    # then
    with pytest.raises(DataError, match="the event at position 2 of partition 0 is not the one that was delivered"):
        store.work(reader.restart())
    with pytest.raises(DataError, match="position 2"):
        store.work(reader.next(0.0))


def test_a_log_that_was_trimmed_while_the_connection_was_lost_is_read_on(store: EventStore) -> None:
    """The event that was delivered last may go: the floor says that it was there."""
    # given
    store.append("account-1", deposits(4))
    reader = SubscriptionReader(LogSource(store.info.keys[0]), after=0, page_size=2, live=False)
    store.work(reader.next(0.0))
    lose_the_connection(store, reader)

    # when
    trim_by_hand(store, 2)

    def read_on() -> Operation[Any]:
        yield from reader.restart()
        return (yield from reader.next(0.0))

    came = store.work(read_on())

    # then
    assert isinstance(came, Batch)
    assert [event.position for event in came.events] == [3]  # half a page, as the connection was lost


def test_a_floor_that_is_no_number_is_named_when_the_log_is_looked_at_again(store: EventStore) -> None:
    """By key and field."""
    store.append("account-1", deposits(4))
    reader = SubscriptionReader(LogSource(store.info.keys[0]), after=0, page_size=2, live=False)
    store.work(reader.next(0.0))
    lose_the_connection(store, reader)
    do(store, "HSET", store.info.keys[0].meta, "floor", "x")
    with pytest.raises(RecordDamaged, match="is damaged: its field 'floor'"):
        store.work(reader.restart())


def test_a_restart_before_the_first_request_asks_for_nothing(store: EventStore) -> None:
    """An interrupted first call may not have asked for anything; the next one begins at the beginning."""
    # given
    store.append("account-1", deposits(2))
    reader = SubscriptionReader(LogSource(store.info.keys[0]), after=0, page_size=8, live=False)

    # when
    store.work(reader.restart())

    # then
    came = store.work(reader.next(0.0))
    assert isinstance(came, Batch)
    assert [event.position for event in came.events] == [1, 2]
