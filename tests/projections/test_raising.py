"""What user code raises: a failure of its event, or the end of the runner; never a wait without end."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from accounts import rows_of
from faces import FACES, catch_up_on
from workbench import skipped_of

from runner import AsyncEventStore, EventStore, HandlerFailed, NewEvent, Projection, Reactor, Skip, catch_up, state_at
from runner.forwarding import Forwarder
from runner.operations import export_lines, retry_parked
from runner.projections.policies import ParkStream
from runner.testing import TEST_SETTINGS, Scenario, async_memory_store, memory_store
from runner.workers.pool import Runnable


class Abort(BaseException):
    """An exception that `except Exception` does not catch."""


#: Exceptions that Python, asyncio or threads give a meaning of their own.
FAULTS: dict[str, Callable[[], BaseException]] = {
    "StopIteration": lambda: StopIteration("no more"),
    "StopAsyncIteration": StopAsyncIteration,
    "GeneratorExit": GeneratorExit,
    "SystemExit": lambda: SystemExit(3),
    "CancelledError": asyncio.CancelledError,
    "Abort": Abort,
    "group": lambda: BaseExceptionGroup("several", [SystemExit(3), ValueError()]),
}

#: What ends the runner.
ENDS: dict[str, Callable[[], BaseException]] = {
    "KeyboardInterrupt": KeyboardInterrupt,
    "group": lambda: BaseExceptionGroup("several", [ValueError(), BaseExceptionGroup("in", [KeyboardInterrupt()])]),
}

#: The places of user code: each makes something runnable of a function of the event.
Make = Callable[[Callable[[Any], None]], Runnable]


def plain_projection(act: Callable[[Any], None]) -> Runnable:
    projection = Projection[Any]("tried", on_error=Skip())
    projection.when(lambda state, event: act(event) or {"number": event.number})
    return projection


def async_projection(act: Callable[[Any], None]) -> Runnable:
    projection = Projection[Any]("tried", on_error=Skip())

    @projection.when
    async def later(state: Any, event: Any) -> Any:
        await asyncio.sleep(0)
        act(event)
        return {"number": event.number}

    return projection


def key_function(act: Callable[[Any], None]) -> Runnable:
    projection = Projection[Any]("tried", on_error=Skip(), key=lambda event: act(event) or "row")
    projection.when(lambda state, event: {"number": event.number})
    return projection


def plain_reactor(act: Callable[[Any], None]) -> Runnable:
    reactor = Reactor("tried", on_error=Skip())
    reactor.when(lambda event, key: act(event))
    return reactor


def async_reactor(act: Callable[[Any], None]) -> Runnable:
    reactor = Reactor("tried", on_error=Skip())

    @reactor.when
    async def later(event: Any, key: str) -> None:
        await asyncio.sleep(0)
        act(event)

    return reactor


def forwarder(act: Callable[[Any], None]) -> Runnable:
    class Numbered:
        def __init__(self, number: int) -> None:
            self.number = number

    class Transport:
        def send(self, message: Any) -> None:
            act(Numbered(message["number"]))

    return Forwarder("tried", transport=Transport(), on_error=Skip())


PLACES: list[Make] = [
    plain_projection, async_projection, key_function, plain_reactor, async_reactor, forwarder,
]  # fmt: skip


def two_events(store: EventStore) -> None:
    store.append("a-1", [NewEvent("Happened"), NewEvent("Happened")])


@pytest.fixture
def happened(fresh_name: str) -> Iterator[EventStore]:
    """A store with two events, which either face can open."""
    with EventStore.open(f"memory:{fresh_name}", settings=TEST_SETTINGS) as store:
        two_events(store)
        yield store


def run_on(face: str, store: EventStore, fresh_name: str, one: Runnable) -> int:
    return catch_up_on(face, f"memory:{fresh_name}", store.info.name, one)


def at_the_first(fault: Callable[[], BaseException]) -> Callable[[Any], None]:
    def act(event: Any) -> None:
        if event.number == 1:
            raise fault()

    return act


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
def test_whatever_user_code_raises_is_a_failure_of_its_event(
    happened: EventStore, fresh_name: str, fault: Callable[[], BaseException], place: Make, face: str
) -> None:
    """C7. The policy decides about the event; the next one is handled. The error's own name is kept."""
    # when
    applied = run_on(face, happened, fresh_name, place(at_the_first(fault)))

    # then
    assert applied == 1
    [skipped] = skipped_of(happened, "tried")
    assert skipped.position == 1
    assert skipped.error.startswith((type(fault()).__name__, "RuntimeError: coroutine raised StopIteration"))


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("end", ENDS.values(), ids=list(ENDS))
def test_an_interrupt_ends_the_runner_and_is_no_failure(
    happened: EventStore, fresh_name: str, end: Callable[[], BaseException], place: Make, face: str
) -> None:
    """C7. A KeyboardInterrupt, alone or in a group, passes every policy; nothing is skipped."""
    with pytest.raises(type(end())):
        run_on(face, happened, fresh_name, place(at_the_first(end)))
    assert skipped_of(happened, "tried") == []


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("kind", ["projection", "reactor"])
def test_a_cancelled_future_that_a_handler_awaits_is_a_failure(
    happened: EventStore, fresh_name: str, face: str, kind: str
) -> None:
    """C7. Nobody has cancelled the runner: the policy decides."""
    # given
    one: Any = (Projection if kind == "projection" else Reactor)("tried", on_error=Skip())

    @one.when
    async def wait(first: Any, second: Any) -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    # when
    run_on(face, happened, fresh_name, one)

    # then
    assert [skipped.error.partition(":")[0] for skipped in skipped_of(happened, "tried")] == ["CancelledError"] * 2


@pytest.mark.parametrize("kind", ["projection", "reactor"])
def test_a_runner_that_is_cancelled_while_a_handler_waits_skips_nothing(fresh_name: str, kind: str) -> None:
    """C7. To cancel `catch_up` is not the handler's failure: nothing is skipped, and no effect goes on."""
    # given
    one: Any = (Projection if kind == "projection" else Reactor)("tried", on_error=Skip())
    waiting, ended = asyncio.Event(), asyncio.Event()

    @one.when
    async def wait(first: Any, second: Any) -> None:
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def run() -> None:
        async with AsyncEventStore.open(f"memory:{fresh_name}", settings=TEST_SETTINGS) as mine:
            running = asyncio.ensure_future(catch_up(mine, one))
            await waiting.wait()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            await asyncio.wait_for(ended.wait(), 5)

    with EventStore.open(f"memory:{fresh_name}", settings=TEST_SETTINGS) as store:
        two_events(store)

        # when
        asyncio.run(run())

        # then
        assert skipped_of(store, "tried") == []


@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
def test_parked_events_the_past_and_scenarios_have_the_same_rule(fault: Callable[[], BaseException]) -> None:
    """C7, D3. What a runner takes for a failure, retry_parked, state_at and the test kit take for one."""
    # given
    failing = plain_projection(at_the_first(fault))
    parking = plain_reactor(at_the_first(fault))
    parking.on_error = ParkStream()
    assert isinstance(failing, Projection)
    with memory_store() as store:
        two_events(store)

        # then
        catch_up(store, parking)
        assert [(row.freed, row.left) for row in retry_parked(store, parking)] == [(0, 2)]
        with pytest.raises(HandlerFailed):
            state_at(store, failing)
    Scenario(failing).when(NewEvent("Happened")).then_raises(type(fault()))


def test_a_handler_that_fails_only_when_it_is_repeated_fails_its_event() -> None:
    """C7. A row is folded again after a failure. If an earlier event fails then, that event is the one that fails."""
    # given
    calls = itertools.count(1)
    moody = Projection[Any]("tried", on_error=Skip())

    @moody.when
    def handle(state: Any, event: Any) -> Any:
        if event.number == 2 or (event.number == 1 and next(calls) > 1):
            raise ZeroDivisionError
        return {"number": event.number}

    with memory_store() as store:
        store.append("a-1", [NewEvent("Happened") for _ in range(3)])

        # when
        catch_up(store, moody)

        # then
        assert [skipped.position for skipped in skipped_of(store, "tried")] == [1, 2]
        assert rows_of(store, "tried") == {"a-1": {"number": 3}}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
def test_what_a_callback_raises_ends_the_operation(fault: Callable[[], BaseException]) -> None:
    """What is called while an operation runs may raise anything: the operation ends with an error, on both faces."""

    def raising(*_: Any) -> None:
        raise fault()

    async def run(**options: Any) -> None:
        async with asyncio.timeout(5), async_memory_store() as mine:
            await mine.append("a-1", NewEvent("Happened"))
            await export_lines(mine, **options)

    with memory_store() as store:
        two_events(store)
        for options in ({"write": raising}, {"write": lambda lines: None, "progress": raising}):
            for call in (lambda **given: export_lines(store, **given), lambda **given: asyncio.run(run(**given))):
                with pytest.raises(BaseException) as raised:
                    call(**options)
                assert not isinstance(raised.value, TimeoutError)
