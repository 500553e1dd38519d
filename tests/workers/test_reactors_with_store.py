"""Reactors whose handlers ask for the store: they append to the one that the reactor runs on, on either face."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest
from accounts import PATIENCE, deposited

from runner import (
    AsyncEventStore,
    EventStore,
    NewEvent,
    ParkStream,
    Reactor,
    RecordedEvent,
    catch_up,
    follow,
    operations,
)
from runner.errors import ProjectionError
from runner.testing import TEST_SETTINGS


def answering(limit: int = 100) -> Reactor:
    """Answers each deposit below the limit, by an event whose id is made from the key."""
    reactor = Reactor("answering", category="account", on_error=ParkStream())

    @reactor.when("Deposited")
    def answer(event: RecordedEvent, key: str, store: EventStore) -> None:
        assert event.data["amount"] < limit
        store.append(f"answer-{event.stream}-{event.number}", answered(key), expected_version=0)

    return reactor


def answering_on_a_loop(limit: int = 100) -> Reactor:
    """The same for an event loop."""
    reactor = Reactor("answering", category="account", on_error=ParkStream())

    @reactor.when("Deposited")
    async def answer(event: RecordedEvent, key: str, store: AsyncEventStore) -> None:
        assert event.data["amount"] < limit
        await store.append(f"answer-{event.stream}-{event.number}", answered(key), expected_version=0)

    return reactor


def answered(key: str) -> NewEvent:
    return NewEvent("Answered", id=uuid5(NAMESPACE_URL, key))


REACTORS: dict[str, Callable[..., Reactor]] = {"sync": answering, "async": answering_on_a_loop}


def run_on(face: str, url: str, store: EventStore, action: Callable[[Any], Any]) -> Any:
    """Do something with the store of one face; on the asynchronous one, await it."""
    if face == "sync":
        return action(store)

    async def run() -> Any:
        async with (
            asyncio.timeout(PATIENCE),
            AsyncEventStore.open(url, name=store.info.name, settings=TEST_SETTINGS) as opened,
        ):
            return await action(opened)

    return asyncio.run(run())


def follow_until_live(opened: Any, reactor: Reactor) -> Any:
    """Follow until the reactor has caught up."""
    if isinstance(opened, EventStore):
        with follow(opened, reactor) as following:
            return following.wait_live(timeout=PATIENCE)

    async def run() -> None:
        async with follow(opened, reactor) as following:
            await following.wait_live(timeout=PATIENCE)

    return run()


@pytest.mark.parametrize("face", REACTORS)
@pytest.mark.parametrize("drive", [catch_up, follow_until_live])
def test_a_handler_that_asks_for_the_store_appends_to_it(
    url: str, store: EventStore, face: str, drive: Callable[..., Any]
) -> None:
    """And what is appended again, because the effects are repeated, is recognised by its id."""
    # given
    for number in range(5):
        store.append(f"account-{number}", [deposited(), deposited()])

    # when
    run_on(face, url, store, lambda opened: drive(opened, REACTORS[face]()))
    operations.reset(store, "answering", repeat_effects=True)
    run_on(face, url, store, lambda opened: drive(opened, REACTORS[face]()))

    # then
    answers = [f"answer-account-{number}-{place}" for number in range(5) for place in (1, 2)]
    assert [store.version(stream) for stream in answers] == [1] * 10
    assert store.last_position() == 20
    assert operations.parked(store) == []


@pytest.mark.parametrize("face", REACTORS)
def test_a_parked_event_is_tried_again_with_the_store(url: str, store: EventStore, face: str) -> None:
    """By code that can do it today."""
    store.append("account-1", deposited(200))
    run_on(face, url, store, lambda opened: catch_up(opened, REACTORS[face]()))
    assert [row.key for row in operations.parked(store)] == ["account-1"]
    better = REACTORS[face](1_000)
    [outcome] = run_on(face, url, store, lambda opened: operations.retry_parked(opened, better))
    assert (outcome.freed, outcome.left, outcome.error) == (1, 0, "")
    assert store.version("answer-account-1-1") == 1


def test_a_handler_of_the_other_kind_is_refused_before_an_event_is_touched(url: str, store: EventStore) -> None:
    """An async def has no loop for its store here, and a plain function cannot await one; the way out is told."""
    store.append("account-1", deposited())
    asynchronous, plain = answering_on_a_loop(), answering()
    for drive in (catch_up, follow_until_live, operations.retry_parked):
        if drive is operations.retry_parked:
            catch_up(store, plain)
        with pytest.raises(ProjectionError, match="'answer' asks for the store and is an async def") as refused:
            drive(store, asynchronous)
        assert refused.value.hint == "Make the handler a plain function, or run the reactor on an AsyncEventStore."
        with pytest.raises(ProjectionError, match="'answer' asks for the store and is a plain function") as refused:
            run_on("async", url, store, lambda opened, drive=drive: drive(opened, plain))  # type: ignore[misc]
        assert refused.value.hint == "Make the handler an async def, or run the reactor on an EventStore."
        assert store.last_position() == (1 if drive is not operations.retry_parked else 2)


@pytest.mark.parametrize(
    "handler",
    [
        lambda event, key, shop: None,
        lambda event, store, key: None,
        lambda event, key, store, more: None,
        lambda event, key, *, store: None,
    ],
)
def test_a_third_argument_is_the_store_or_nothing(handler: Any) -> None:
    """Refused when it is declared, because it could not be called."""
    with pytest.raises(ProjectionError, match=r"must take \(event, key"):
        Reactor("answering").when("Deposited", handler)
