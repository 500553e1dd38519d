"""The subscription reader: how large its pages are after a connection was lost."""

from __future__ import annotations

from typing import Any

import pytest
from accounts import deposits
from workbench import relayed

from runner import EventStore
from runner.effects import Effect, Operation, Receive, Send
from runner.errors import StoreUnavailable
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
