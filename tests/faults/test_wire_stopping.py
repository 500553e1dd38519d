"""Ending in the middle: tasks cancelled at every await, calls interrupted at every request, processes killed.

Whoever ends in the middle of an append does not know whether it ran. It is appended again as it was, and found to
be a duplicate, or it is the first.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
from accounts import PATIENCE, balances, deposited, reached, withdrew
from history import check
from plugin import VIEWS
from wirelab import BALANCES, IMPATIENT, PROJECT, Wire, digest, runner_process

from runner import ANY, NO_STREAM, AppendResult, AsyncEventStore, AsyncView, NewEvent, catch_up, follow
from runner.log.append_plan import Append

pytestmark = pytest.mark.real

#: No operation here waits more often than this.
MOST_STEPS = 400


# -- cancelling at every await ------------------------------------------------------------------


class CancelledAt:
    """Awaits ``work`` and cancels the task when it waits for the nth time; ``answered``: when that wait is over."""

    def __init__(self, work: Coroutine[Any, Any, Any], step: int, *, answered: bool) -> None:
        self._work = work
        self._left = step
        self._answered = answered

    def __await__(self) -> Generator[Any, Any, Any]:
        waiting = self._work.__await__()
        trouble: BaseException | None = None
        while True:
            try:
                awaited = waiting.send(None) if trouble is None else waiting.throw(trouble)
            except StopIteration as stop:
                return stop.value
            self._left -= 1
            if self._left == 0:
                self._cancel(awaited)
            try:
                trouble = None
                yield awaited
            except BaseException as raised:
                trouble = raised

    def _cancel(self, awaited: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._answered and awaited is not None:
            awaited.add_done_callback(lambda _: task.cancel())  # before the task hears of it
        else:
            task.cancel()

    @property
    def in_time(self) -> bool:
        """Whether it waited that often before it ended."""
        return self._left <= 0


async def cancelled_at(work: Coroutine[Any, Any, Any], step: int, *, answered: bool) -> bool:
    """Run something to its end or to its cancellation; False when it ended without waiting that often.

    Python 3.11 loses a cancellation that meets the end of an ``asyncio.wait_for``, as the client library has them.
    Then it ends as if nothing had been, which is right as well.
    """
    steps = CancelledAt(work, step, answered=answered)

    async def run() -> None:
        await steps

    task = asyncio.create_task(run())
    done, _ = await asyncio.wait({task}, timeout=PATIENCE)
    assert done, f"cancelled at wait {step}, it has not ended"
    if not task.cancelled():
        task.result()
    return steps.in_time


async def at_every_await(
    make: Callable[[], Coroutine[Any, Any, Any]], answered: bool, after_each: Callable[[], Awaitable[None]]
) -> int:
    """Do something again and again, cancelled at a later await each time, until it has no more; how often."""
    for step in range(1, MOST_STEPS):
        came_so_far = await cancelled_at(make(), step, answered=answered)
        await after_each()
        if not came_so_far:
            return step
    raise AssertionError(f"it was cancelled {MOST_STEPS} times and never came to an end")


def payment() -> list[NewEvent]:
    return [deposited(7), withdrew(3)]


#: The appends of one attempt: to streams of its own where they are versioned.
APPENDS: dict[str, Callable[[int], list[Append]]] = {
    "versioned": lambda attempt: [(f"account-{attempt + 100}", payment(), NO_STREAM)],
    "any version": lambda attempt: [("account-1", payment(), ANY)],
    "several streams": lambda attempt: [(f"account-{attempt + 100}", payment(), 0), ("account-1", payment(), ANY)],
    "one by one": lambda attempt: [
        (f"account-{attempt}-{place}", [deposited()], ANY) for place in range(250)
    ],  # two script runs,
}


@pytest.mark.parametrize("state", ["new connection", "open connection", "scripts flushed"])
@pytest.mark.parametrize("answered", [False, True], ids=["asked", "answered"])
@pytest.mark.parametrize("kind", APPENDS)
def test_row_29_cancellation_at_every_await_of_an_append_is_resolved_as_a_duplicate(
    wire: Wire, kind: str, answered: bool, state: str
) -> None:
    """Unknown → resolved as duplicate, on the same store, whose connections answer nobody else's question (B)."""
    tries, duplicates = 0, 0
    appends: list[Append] = []

    async def append(store: AsyncEventStore) -> list[Any]:
        return list(await (store.append_each(appends) if kind == "one by one" else store.append_many(appends)))

    async def append_and_close() -> None:
        async with AsyncEventStore.open(wire.proxy.url, name=wire.direct.info.name, settings=IMPATIENT) as store:
            await append(store)

    async def scenario() -> int:
        async with AsyncEventStore.open(wire.proxy.url, name=wire.direct.info.name, settings=IMPATIENT) as store:

            def make() -> Coroutine[Any, Any, Any]:
                nonlocal tries
                tries += 1
                appends[:] = APPENDS[kind](tries)
                for stream, events, _ in appends:
                    wire.record.trying(stream, events)
                if state == "scripts flushed":
                    wire.direct.driver.execute([("SCRIPT", "FLUSH")])
                return append_and_close() if state == "new connection" else append(store)

            async def repeat() -> None:
                nonlocal duplicates
                results = await append(store)
                for (_, events, _), result in zip(appends, results, strict=True):
                    assert isinstance(result, AppendResult)
                    wire.record.acknowledge(list(events), result)
                duplicates += any(result.duplicate for result in results)
                last = [event.number async for event in store.read_stream("account-1", backwards=True, limit=1)]
                assert (last or [0]) == [await store.version("account-1")]

            return await at_every_await(make, answered, repeat)

    steps = asyncio.run(scenario())

    assert steps > {"new connection": 5, "open connection": 1, "scripts flushed": 3}[state]
    assert duplicates > 0
    assert wire.findings() == []


@pytest.mark.parametrize("answered", [False, True], ids=["asked", "answered"])
def test_row_29_cancellation_at_every_await_of_a_projection_leaves_its_view_right(wire: Wire, answered: bool) -> None:
    """Catching up is cancelled and taken up again; every event is counted once (D)."""
    wire.deposit(30, streams=9)

    async def scenario() -> int:
        settings = type(IMPATIENT)(page_size=10, block=0.05, socket_timeout=0.2, heartbeat=0.1)
        store = AsyncEventStore.open(wire.proxy.url, name=wire.direct.info.name, settings=settings)

        async def catch_up_all() -> None:
            await catch_up(store, balances())

        async def look() -> None:
            assert check(wire.direct, wire.record, BALANCES) == []
            wire.deposit(15, streams=9)

        steps = await at_every_await(catch_up_all, answered, look)
        await catch_up(store, balances())
        assert await AsyncView(store, "balances").count() == 9
        await store.close()
        return steps

    assert asyncio.run(scenario()) >= 3
    assert wire.settled()
    assert wire.findings(BALANCES) == []


def test_row_29_cancellation_of_a_follower_at_every_await_leaves_its_view_right(wire: Wire) -> None:
    """``async with follow(…)`` is left by a cancellation; who follows next goes on from there (D)."""
    wire.deposit(20)

    async def scenario() -> int:
        store = AsyncEventStore.open(wire.proxy.url, name=wire.direct.info.name, settings=IMPATIENT)

        async def follow_a_while() -> None:
            async with follow(store, balances()) as following:
                await following.wait_live(PATIENCE)
                result = await store.append("account-1", deposit := deposited(1), ANY)
                wire.record.acknowledge([deposit], result)
                await following.wait_for(result, PATIENCE)

        async def look() -> None:
            for event in wire.direct.read_stream("account-1"):  # those whose acknowledgement was cut off, too
                wire.record.tried.setdefault(("account-1", event.id), NewEvent(event.type, event.data, id=event.id))
            assert check(wire.direct, wire.record, BALANCES) == []

        steps = await at_every_await(follow_a_while, False, look)
        await store.close()
        return steps

    assert asyncio.run(scenario()) > 3


# -- interrupting at every request --------------------------------------------------------------


class Interrupted(BaseException):
    """What a signal's handler raises here, as Ctrl-C raises KeyboardInterrupt."""


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Gives what interrupts the main thread from another one, and waits until it has been."""
    raised = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        raised.set()
        raise Interrupted

    def interrupt() -> None:
        raised.clear()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        raised.wait(PATIENCE)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("executed", [False, True], ids=["before it ran", "after it ran"])
@pytest.mark.parametrize("kind", APPENDS)
def test_row_29_interruption_at_every_request_of_an_append_is_resolved_as_a_duplicate(
    wire: Wire, kind: str, executed: bool
) -> None:
    """A signal's handler raises while the append waits for its nth answer; made again, it is known (B)."""
    duplicates = 0
    wire.store.append_many([], bookmark=("warm", 1))  # a connection and the script are there
    with interruptible() as interrupt:
        for attempt in range(1, 20):
            appends = APPENDS[kind](attempt)
            for _ in range(attempt - 1):
                wire.proxy.meanwhile(lambda: None, b"")
            wire.proxy.meanwhile(interrupt, b"", executed=executed)
            appender = wire.writer.append_each if kind == "one by one" else wire.writer.append_many
            try:
                appender(appends)
            except Interrupted:
                wire.proxy.forget()
                results = appender(appends)
                duplicates += any(isinstance(result, AppendResult) and result.duplicate for result in results)
            else:
                wire.proxy.forget()
                break
        else:
            raise AssertionError("it was interrupted each time")

    assert attempt > 1
    assert duplicates > 0
    assert wire.findings() == []


# -- processes ----------------------------------------------------------------------------------

WRITER = """
import sys, uuid
from runner import ANY, EventStore, NewEvent
url, name = sys.argv[1:]
def event(*place):
    return NewEvent("Deposited", {"amount": place[1]}, id=uuid.uuid5(uuid.NAMESPACE_OID, repr(place)))
with EventStore.open(url, name=name) as store:
    for number in range(10):
        store.append("account-1", [event(1, number), event(2, number)], 2 * number)
        store.append_many([("account-2", [event(3, number)], number), ("account-3", [event(4, number)], ANY)])
        store.append_each([(f"account-{stream}", [event(stream, number)], ANY) for stream in range(4, 9)])
"""

#: The requests at which a process is ended: how many scripts of its kind it has run before.
MOMENTS = (0, 1, 2, 7, 13)


def writer_process(wire: Wire) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, wire.proxy.url, wire.direct.info.name],
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        start_new_session=True,
    )


def ended(process: subprocess.Popen[bytes]) -> int:
    """Its exit code; a process that does not end is killed and fails the test."""
    try:
        return process.wait(30)
    finally:
        process.kill()
        process.wait()


def signal_at(
    wire: Wire,
    started: list[subprocess.Popen[bytes]],
    number: int,
    request: bytes,
    before: int,
    *,
    executed: bool,
) -> None:
    """Send a signal to a process around the request that follows ``before`` others of its kind."""
    for _ in range(before):
        wire.proxy.meanwhile(lambda: None, request)
    wire.proxy.meanwhile(lambda: started[0].send_signal(number), request, executed=executed)


@pytest.mark.parametrize("executed", [False, True], ids=["before it ran", "after it ran"])
def test_row_29_writer_process_killed_in_the_middle_repeats_everything(wire: Wire, executed: bool) -> None:
    """Killed at various appends, it begins again from its first: what was there is a duplicate (B)."""
    wire.direct.append_many([], bookmark=("warm", 1))  # the script is there
    for moment in MOMENTS:
        started: list[subprocess.Popen[bytes]] = []
        signal_at(wire, started, signal.SIGKILL, digest("log/append"), moment, executed=executed)
        started.append(writer_process(wire))
        assert ended(started[0]) == -signal.SIGKILL
        assert wire.proxy.armed == 0

    assert ended(writer_process(wire)) == 0

    assert wire.direct.version("account-1") == 20
    assert [wire.direct.version(f"account-{stream}") for stream in range(2, 9)] == [10] * 7
    assert check(wire.direct) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_row_29_runner_process_ended_in_the_middle_leaves_its_views_right(wire: Wire, number: signal.Signals) -> None:
    """Ended at its claim, its first page, a commit, live: its views equal the log up to their checkpoints (D)."""
    wire.deposit(20)
    wire.beside.append("note-1", NewEvent("Noted"), ANY)
    claim, commit, page, feed = digest("progress/claim"), digest("progress/commit"), b"XRANGE", b"XREAD"
    for request, before, executed in (
        (claim, 0, True), (page, 0, False), (commit, 0, False), (commit, 0, True), (commit, 2, True), (feed, 1, False),
    ):  # fmt: skip
        started: list[subprocess.Popen[bytes]] = []
        signal_at(wire, started, number, request, before, executed=executed)
        started.append(runner_process(wire.proxy.url, wire.direct.info.name))
        give_it_work_until_it_ends(wire, started[0])

        expected = {-signal.SIGKILL} if number == signal.SIGKILL else {0}
        if request == claim:  # it is not at work yet, and ends as any process does
            expected.add(-number)
        assert ended(started[0]) in expected
        assert wire.proxy.armed == 0
        assert wire.findings(VIEWS) == []

    assert ended(runner_process(wire.proxy.url, wire.direct.info.name, "--once")) == 0
    assert (wire.position("balances"), wire.position("kinds")) == (wire.direct.last_position(),) * 2
    assert wire.findings(VIEWS) == []


def give_it_work_until_it_ends(wire: Wire, process: subprocess.Popen[bytes]) -> None:
    """Append something every now and then."""

    def has_ended() -> bool:
        if process.poll() is None:
            wire.deposit(3)
        return process.poll() is not None

    try:
        assert reached(has_ended, 3 * PATIENCE)
    except BaseException:
        process.kill()
        process.wait()
        raise
