"""Subscriptions whose connection is lost, or whose call is interrupted, at every request: each event comes once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from accounts import PATIENCE, deposits

from runner import ALL, AsyncEventStore, EventStore, SubscriptionDropped
from runner.aio.session import AsyncSession
from runner.aio.subscription import AsyncSubscription
from runner.errors import StoreUnavailable
from runner.sync.session import Session
from runner.testing import TEST_SETTINGS

#: Pages so small that a subscription to these events reads several.
SETTINGS = replace(TEST_SETTINGS, page_size=2, retry_for=0.3)
EVENTS = 7

#: More requests than a subscription to so many events sends.
REQUESTS = range(1, 9)

#: What happens to a request: nothing arrives, or it arrives and its reply is not read.
MOMENTS = ["before", "after"]


def lost() -> StoreUnavailable:
    return StoreUnavailable("the connection was lost")


def fail_at(
    monkeypatch: pytest.MonkeyPatch, at: Callable[[int], bool], make: Callable[[], BaseException], moment: str
) -> None:
    """The requests of these numbers fail, on sessions of either face; of threads, only those of the present one."""
    numbers, ours = count(1), threading.current_thread()
    real, real_async = Session._transmit, AsyncSession._transmit

    def transmit(session: Session, pending: Any) -> None:
        bad = threading.current_thread() is ours and at(next(numbers))
        if not bad or moment == "after":
            real(session, pending)
        if bad:
            session.close()
            raise make()

    async def transmit_async(session: AsyncSession, pending: Any) -> None:
        bad = at(next(numbers))
        if not bad or moment == "after":
            await real_async(session, pending)
        if bad:
            await session.close()
            raise make()

    monkeypatch.setattr(Session, "_transmit", transmit)
    monkeypatch.setattr(AsyncSession, "_transmit", transmit_async)


@asynccontextmanager
async def subscribed(url: str, name: str, **options: Any) -> AsyncIterator[AsyncSubscription]:
    """A subscription of an asynchronous store that was used before."""
    async with asyncio.timeout(2 * PATIENCE), AsyncEventStore.open(url, name=name, settings=SETTINGS) as store:
        await store.last_position()
        async with store.subscribe(ALL, **options) as subscription:
            yield subscription


@pytest.mark.parametrize("at", REQUESTS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_subscription_reads_on_where_its_connection_was_lost(
    store: EventStore, url: str, monkeypatch: pytest.MonkeyPatch, at: int, moment: str
) -> None:
    """A8. Whichever request it is that was lost, by thread and by task: nobody is told, and nothing is missing."""
    # given
    store.append("account-1", deposits(EVENTS))

    async def positions() -> list[int]:
        async with subscribed(url, store.info.name) as subscription:
            fail_at(monkeypatch, lambda number: number == at, lost, moment)
            return [(await anext(subscription)).position for _ in range(EVENTS)]

    # when
    asynchronously = asyncio.run(positions())
    monkeypatch.undo()
    with EventStore.open(url, name=store.info.name, settings=SETTINGS) as other, other.subscribe(ALL) as subscription:
        fail_at(monkeypatch, lambda number: number == at, lost, moment)
        by_thread = [next(subscription).position for _ in range(EVENTS)]

    # then
    assert asynchronously == by_thread == list(range(1, EVENTS + 1))


@pytest.mark.parametrize("at", REQUESTS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_poll_that_is_interrupted_loses_no_event(
    store: EventStore, url: str, monkeypatch: pytest.MonkeyPatch, at: int, moment: str
) -> None:
    """Ctrl-C in a thread, a cancelled task in an event loop: who catches it and polls again gets each event once."""
    # given
    store.append("account-1", deposits(EVENTS))

    async def positions() -> list[int]:
        found: list[int] = []
        async with subscribed(url, store.info.name) as subscription:
            fail_at(monkeypatch, lambda number: number == at, asyncio.CancelledError, moment)
            while len(found) < EVENTS:
                try:
                    event = await subscription.poll(PATIENCE)
                except asyncio.CancelledError:
                    continue
                assert event is not None
                found.append(event.position)
        return found

    # when
    asynchronously = asyncio.run(positions())
    monkeypatch.undo()
    by_thread: list[int] = []
    with EventStore.open(url, name=store.info.name, settings=SETTINGS) as other, other.subscribe(ALL) as subscription:
        fail_at(monkeypatch, lambda number: number == at, KeyboardInterrupt, moment)
        while len(by_thread) < EVENTS:
            try:
                event = subscription.poll(PATIENCE)
            except KeyboardInterrupt:
                continue
            assert event is not None
            by_thread.append(event.position)

    # then
    assert asynchronously == by_thread == list(range(1, EVENTS + 1))


@pytest.mark.parametrize("turn", range(0, 60, 3))
def test_a_task_that_is_cancelled_anywhere_loses_no_event(store: EventStore, url: str, turn: int) -> None:
    """The task that polls is cancelled after so many turns of the event loop, and another one polls on."""
    # given
    store.append("account-1", deposits(EVENTS))

    async def positions() -> list[int]:
        found: list[int] = []
        async with subscribed(url, store.info.name) as subscription:

            async def take() -> None:
                while len(found) < EVENTS:
                    event = await subscription.poll(PATIENCE)
                    assert event is not None
                    found.append(event.position)

            # when
            taking = asyncio.create_task(take())
            for _ in range(turn):
                await asyncio.sleep(0)
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)
            await take()
        return found

    # then
    assert asyncio.run(positions()) == list(range(1, EVENTS + 1))


def test_a_subscription_of_a_task_tells_that_the_server_stays_away(
    store: EventStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After all that it had read it raises StoreUnavailable, and goes on from there when the server is back."""
    # given
    store.append("account-1", deposits(EVENTS))

    async def positions() -> list[int]:
        found: list[int] = []
        async with subscribed(url, store.info.name) as subscription:
            found.append((await anext(subscription)).position)
            fail_at(monkeypatch, lambda number: True, lost, "before")

            # when
            with pytest.raises(StoreUnavailable):
                while True:
                    found.append((await anext(subscription)).position)
            monkeypatch.undo()
            while len(found) < EVENTS:
                found.append((await anext(subscription)).position)
        return found

    # then
    assert asyncio.run(positions()) == list(range(1, EVENTS + 1))


@pytest.mark.parametrize("resubscribe", [False, True])
def test_a_subscription_of_a_task_hears_that_the_feed_has_failed(
    store: EventStore, url: str, monkeypatch: pytest.MonkeyPatch, resubscribe: bool
) -> None:
    """A16. The feed's connection is lost: SubscriptionDropped with the reason, or with ``resubscribe`` it reads on."""
    # given
    store.append("account-1", deposits(1))

    async def scenario() -> None:
        async with subscribed(url, store.info.name, resubscribe=resubscribe) as subscription:
            assert (await anext(subscription)).position == 1
            assert await subscription.poll() is None
            assert subscription.caught_up

            # when: the next read of the feed fails
            fail_at(monkeypatch, lambda number: number == 1, lost, "before")

            # then
            if not resubscribe:
                with pytest.raises(SubscriptionDropped, match="the live feed failed"):
                    await subscription.poll(PATIENCE)
                return
            store.append("account-1", deposits(1))
            event = await subscription.poll(PATIENCE)
            assert event is not None
            assert event.position == 2

    asyncio.run(scenario())
