"""Event loops: a call in the wrong place is refused, with the way out, before any event is touched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from accounts import deposited
from trouble import Trouble
from workbench import parked_of, skipped_of

from runner import (
    AsyncView,
    EventStore,
    InvalidInput,
    NewEvent,
    Projection,
    Reactor,
    Skip,
    View,
    catch_up,
    follow,
    state_at,
)
from runner.aggregates import Aggregate, AsyncRepository, Repository, handles
from runner.operations import export_lines, rebuild, retry_parked, status, trim
from runner.projections.policies import ParkStream
from runner.testing import AggregateScenario, Scenario, async_memory_store, memory_store

#: What each refusal says, and its way out.
REFUSED = "event loop of this thread is running"


def awaiting(name: str = "awaiting", policy: Any = Skip) -> Projection:
    """Counts deposits, in an ``async def``."""
    projection = Projection[Any](name, initial=lambda: {"count": 0}, on_error=policy)

    @projection.when("Deposited")
    async def count(state: Any, event: Any) -> None:
        await asyncio.sleep(0)
        state["count"] += 1

    return projection


def in_a_loop(call: Callable[[], Any]) -> Any:
    """The result of a call where an event loop is running, as in a notebook."""

    async def main() -> Any:
        return call()

    return asyncio.run(main())


class Account(Aggregate):
    @handles("Opened")
    def opened(self, event: Any) -> None:
        pass


async def opening(account: Account) -> None:
    account.record("Opened")


async def writing(lines: bytes) -> None:
    """Takes lines."""


#: Calls of a synchronous store that have to wait for asynchronous user code.
CALLS: dict[str, Callable[[EventStore], Any]] = {
    "catch_up": lambda store: catch_up(store, awaiting()),
    "state_at": lambda store: state_at(store, awaiting()),
    "rebuild": lambda store: rebuild(store, awaiting("rebuilt")),
    "retry_parked": lambda store: retry_parked(store, awaiting("parking", ParkStream)),
    "Repository": lambda store: Repository(store, Account, category="account").change("9", opening),
    "export_lines": lambda store: export_lines(store, writing),
    "Scenario": lambda store: Scenario(awaiting()).when(deposited()).then({"count": 1}),
    "AggregateScenario": lambda store: AggregateScenario(Account).when(opening).then_raises(InvalidInput),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
def test_async_user_code_of_a_synchronous_store_is_refused_in_a_running_loop(call: Callable[[EventStore], Any]) -> None:
    """C7. It cannot be waited for there. No policy takes that for a failing event: nothing is skipped or changed."""
    # given
    with memory_store() as store:
        store.append("account-1", [deposited(), deposited()])
        parking = Projection("parking", on_error=ParkStream)
        rebuilt = Projection[Any]("rebuilt")
        rebuilt.when("Deposited", lambda state, event: {"count": 0})

        @parking.when("Deposited")
        def fail(state: Any, event: Any) -> None:
            raise Trouble

        catch_up(store, parking, rebuilt)
        [(before,)] = [store.driver.execute([("KEYS", "*")])]

        # when
        with pytest.raises(InvalidInput, match=REFUSED) as refused:
            in_a_loop(lambda: call(store))

        # then
        assert "AsyncEventStore" in refused.value.hint
        assert "to_thread" in refused.value.hint
        assert sorted(store.driver.execute([("KEYS", "*")])[0]) == sorted(before)
        assert skipped_of(store, "awaiting") == []
        assert len(parked_of(store, "parking")) == 2
        assert View(store, "rebuilt").get("account-1") == {"count": 0}


def test_an_awaitable_that_comes_as_a_surprise_is_refused_and_skips_nothing() -> None:
    """C7. A plain handler that returns an awaitable is found out when it does; its event is left for the next run."""
    # given
    projection, later = Projection[Any]("awaiting", on_error=Skip()), awaiting()
    handler = later.handler("Deposited")
    assert handler is not None
    projection.when("Deposited", lambda state, event: handler(state, event))
    with memory_store() as store:
        store.append("account-1", [NewEvent("Deposited"), NewEvent("Deposited")])

        # then
        with pytest.raises(InvalidInput, match=REFUSED):
            in_a_loop(lambda: catch_up(store, projection))
        assert skipped_of(store, "awaiting") == []


def test_what_needs_no_waiting_in_this_thread_works_in_a_running_loop() -> None:
    """Plain handlers, reactors (which have threads of their own) and `follow` work there."""
    # given
    plain, reactor, done = Projection[Any]("plain"), Reactor("reactor"), []
    plain.when("Deposited", lambda state, event: {"count": event.number})

    @reactor.when("Deposited")
    async def react(event: Any, key: str) -> None:
        await asyncio.sleep(0)
        done.append(event.number)

    def following(store: EventStore) -> None:
        with follow(store, awaiting()) as running:
            running.wait_live(10)

    with memory_store() as store:
        store.append("account-1", [deposited(), deposited()])

        # when
        in_a_loop(lambda: catch_up(store, plain, reactor))
        in_a_loop(lambda: following(store))

        # then
        assert (View(store, "plain")["account-1"], done) == ({"count": 2}, [1, 2])
        assert View(store, "awaiting")["account-1"] == {"count": 2}


def test_an_asynchronous_store_is_refused_in_another_loop() -> None:
    """Its connections work only in the loop that opened them; nothing is claimed and nothing skipped."""
    store = async_memory_store()

    async def first() -> None:
        await store.append("account-1", deposited())

    async def other(call: Callable[[], Any]) -> None:
        with pytest.raises(InvalidInput, match="belongs to the event loop that it was first used in"):
            await call()

    async def follow_it() -> None:
        async with follow(store, awaiting()):
            pass

    asyncio.run(first())
    for call in (
        lambda: catch_up(store, awaiting()),
        lambda: state_at(store, awaiting()),
        lambda: retry_parked(store, awaiting()),
        lambda: rebuild(store, awaiting()),
        lambda: AsyncView(store, "awaiting").get("account-1"),
        follow_it,
    ):
        asyncio.run(other(call))


def test_a_store_of_the_other_face_or_no_store_is_refused() -> None:
    """The error names what was given and what is needed."""
    with memory_store() as store:
        other = async_memory_store()
        for make in (
            lambda: View(other, "balances"),  # type: ignore[arg-type]
            lambda: Repository(other, Account, category="account"),  # type: ignore[arg-type]
            lambda: AsyncView(store, "balances"),  # type: ignore[arg-type]
            lambda: AsyncRepository(store, Account, category="account"),  # type: ignore[arg-type]
            lambda: catch_up("redis://localhost", awaiting()),  # type: ignore[call-overload]
            lambda: follow("redis://localhost", awaiting()),  # type: ignore[call-overload]
            lambda: state_at(None, awaiting()),  # type: ignore[call-overload]
            lambda: status("redis://localhost"),  # type: ignore[call-overload]
            lambda: trim(None, before=1),  # type: ignore[call-overload]
        ):
            with pytest.raises(InvalidInput, match=r"EventStore is needed, not (Async|EventStore|str|None)"):
                make()
