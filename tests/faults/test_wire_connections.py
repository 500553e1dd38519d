"""Connections that go silent, are reset, slow down or carry too much, and a server that stands still.

Rows 6 and 9 have short time-outs here: a blocked read waits 0.05 s and everything else 0.2 s; the freeze lasts 1 s.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import islice

import pytest
from accounts import PATIENCE, deposited, in_thread, reached
from wirelab import (
    BALANCES,
    IMPATIENT,
    RUNNER_REQUESTS,
    Wire,
    following,
    frozen,
    own_wire,
    server_pid,
    wire_to,
    work_until_it_has_happened,
)

from runner import ALL, ANY, EventStore, NewEvent, RecordedEvent, SubscriptionDropped
from runner.progress.status import ProjectionStatus, status
from runner.testing import TEST_SETTINGS

pytestmark = pytest.mark.real

#: What is added to the time-outs before a row calls a recovery late, in seconds: this machine is busy.
SLACK = 3.0

#: Bytes of replies that a server may hold back for a client before it hangs up on it.
OUTPUT_LIMIT = 1_000_000


def standing(wire: Wire) -> ProjectionStatus:
    return wire.direct.run(status(wire.direct.info.keys[0], "balances"))[0]


# -- 6: blackhole -------------------------------------------------------------------------------


def test_row_06_blackhole_during_block_is_noticed_by_a_runner_within_block_and_margin(wire: Wire) -> None:
    """Proxy discards: noticed within block + margin, and the view goes on (F)."""
    wire.deposit(10)
    with following(wire) as runner:
        runner.wait_live(PATIENCE)
        with wire.proxy.blackhole():
            started = time.monotonic()
        wire.deposit(10)

        assert wire.settled()

        assert time.monotonic() - started < IMPATIENT.block + IMPATIENT.socket_timeout + SLACK
    assert wire.findings(BALANCES) == []


def test_row_06_blackhole_that_lasts_is_outlived_by_a_runner(wire: Wire) -> None:
    """Whoever connects meanwhile is not heard either; what was appended is applied when it is over (D, F)."""
    wire.deposit(10)
    with following(wire) as runner:
        runner.wait_live(PATIENCE)
        with wire.proxy.blackhole():
            before = wire.position()
            wire.deposit(10)
            assert not reached(lambda: wire.position() > before, 3 * IMPATIENT.socket_timeout)
        assert wire.settled()
    assert wire.findings(BALANCES) == []


def test_row_06_blackhole_during_block_ends_a_subscription_within_block_and_margin(wire: Wire) -> None:
    """A subscription that does not resubscribe is told so instead of waiting for ever (F)."""
    wire.deposit(1)
    with wire.store.subscribe(ALL) as subscription:
        next(subscription)
        assert subscription.poll(0.1) is None  # it is live
        with wire.proxy.blackhole():
            started = time.monotonic()
            with pytest.raises(SubscriptionDropped):
                next(subscription)
        assert time.monotonic() - started < IMPATIENT.block + IMPATIENT.socket_timeout + SLACK


def test_row_06_blackhole_during_an_append_is_outlived_by_its_writer(wire: Wire) -> None:
    """Request and retries are discarded, none has run; the first that gets through is the only one (B, F)."""
    wire.deposit(1)
    outcome = []
    with ExitStack() as stack:
        stack.enter_context(in_thread(lambda: outcome.append(wire.writer.append("account-9", deposited(5), 0))))
        with wire.proxy.blackhole():
            assert not reached(lambda: bool(outcome), 2 * IMPATIENT.socket_timeout)
    assert [result.version for result in outcome] == [1]
    assert wire.findings() == []


# -- 7: reset -----------------------------------------------------------------------------------

KILL = ("CLIENT", "KILL", "TYPE", "normal")

#: What may happen to all connections at once.
CUTS: dict[str, Callable[[Wire], object]] = {
    "reset": lambda wire: wire.proxy.reset(),
    "closed": lambda wire: wire.proxy.hang_up(),
    "killed": lambda wire: wire.direct.driver.execute([KILL]),
}


@pytest.mark.parametrize("cut", CUTS)
def test_row_07_reset_or_client_kill_under_load_skips_and_doubles_nothing(wire: Wire, cut: str) -> None:
    """SO_LINGER 0 and CLIENT KILL, again and again: reconnect; nothing skipped or doubled (D, F)."""
    ends = threading.Event()

    def write(number: int) -> None:
        while not ends.is_set():
            wire.writer.append(f"account-{number}", [deposited(1), deposited(2)], ANY)

    def cut_again_and_again() -> None:
        dice = random.Random(7)
        for times in range(500):
            ends.wait(dice.uniform(0.0, 0.04))
            CUTS[cut](wire)
            if times >= 25 and len(wire.record.told) >= 3:
                return

    with following(wire) as runner, in_thread(lambda: write(1)), in_thread(lambda: write(2)):
        try:
            cut_again_and_again()
        finally:
            ends.set()
        runner.wait_live(PATIENCE)
    with following(wire):
        assert wire.settled()
    assert len(wire.record.told) >= 3
    assert wire.findings(BALANCES) == []


@pytest.mark.parametrize("executed", [False, True], ids=["before it ran", "after it ran"])
@pytest.mark.parametrize("request_", RUNNER_REQUESTS)
def test_row_07_reset_around_every_kind_of_request_of_a_runner(wire: Wire, request_: str, executed: bool) -> None:
    """All its connections are lost at once, right before or after one request was executed (D, F)."""
    wire.deposit(10)
    wire.proxy.meanwhile(wire.proxy.reset, RUNNER_REQUESTS[request_], executed=executed)
    work_until_it_has_happened(wire)


# -- 8: slow ------------------------------------------------------------------------------------


def test_row_08_slow_link_one_byte_at_a_time_is_correct_and_the_lag_shows_it(wire: Wire) -> None:
    """Proxy slices: correct; lag shows it (D)."""
    wire.deposit(10)
    with following(wire) as runner:
        runner.wait_live(PATIENCE)
        with wire.proxy.slow(slice_size=1, pause=0.0002):
            wire.deposit(15)
            assert standing(wire).lag > 0
            wire.writer.append("account-1", deposited(5), ANY)
            assert wire.settled()
        assert reached(lambda: standing(wire).lag == 0)
    assert wire.findings(BALANCES) == []


def test_row_08_slow_link_gives_readers_every_event_in_order(wire: Wire) -> None:
    """Bytes that come one at a time, or in slices that end anywhere, make the same events (D)."""
    wire.deposit(50)
    written = [(event.stream, event.number, event.data) for event in wire.direct.read_all()]
    for size in (1, 3, 4095):
        with wire.proxy.slow(size):
            assert [(event.stream, event.number, event.data) for event in wire.store.read_all()] == written


def test_row_08_slow_link_where_every_answer_is_late_is_only_slow(real_store: EventStore) -> None:
    """An answer that is late, but in time, is an answer: nothing is repeated (D)."""
    with wire_to(real_store, tcp=True, settings=replace(IMPATIENT, socket_timeout=PATIENCE)) as wire:
        with wire.proxy.delayed(0.05), following(wire) as runner:
            runner.wait_live(PATIENCE)
            assert not wire.writer.append("account-1", deposited(5), ANY).duplicate
            assert wire.settled()
        assert wire.findings(BALANCES) == []


# -- 9: frozen ----------------------------------------------------------------------------------


def test_row_09_server_frozen_writers_and_runner_back_off_and_nothing_is_doubled() -> None:
    """SIGSTOP: back-off; no duplicate, although every repetition that was sent is executed after it (B, F)."""
    outcomes: list[object] = []

    def keep(append: Callable[[], object]) -> None:
        outcomes.append(append())

    with own_wire(tcp=True) as wire:
        wire.deposit(10)
        with following(wire) as runner:
            runner.wait_live(PATIENCE)
            appends: tuple[Callable[[], object], ...] = (
                lambda: wire.writer.append("account-1", deposited(1), 2),
                lambda: wire.writer.append("account-2", deposited(1), ANY),
                lambda: wire.writer.append_each([("account-3", [deposited(1)], ANY), ("account-8", [deposited(1)], 0)]),
            )
            with ExitStack() as stack:
                with frozen(server_pid(wire.direct)):
                    for append in appends:
                        stack.enter_context(in_thread(partial(keep, append)))
                    assert not reached(lambda: bool(outcomes), 1.0)
                thawed = time.monotonic()
            assert len(outcomes) == 3
            assert wire.settled()
            assert time.monotonic() - thawed < PATIENCE
        assert wire.direct.last_position() == 14
        assert wire.findings(BALANCES) == []


# -- 30: too large ------------------------------------------------------------------------------


@pytest.fixture
def narrow() -> Iterator[Wire]:
    """A server that hangs up on a client to which it owes a megabyte, and 3 MB of events."""
    with own_wire() as wire:
        large = [NewEvent("Deposited", {"amount": amount, "paper": "x" * 100_000}) for amount in range(30)]
        wire.beside.append("account-1", large[:15], 0)
        wire.beside.append("account-2", large[15:], 0)
        limit = f"normal {OUTPUT_LIMIT} 0 0"
        wire.direct.driver.execute([("CONFIG", "SET", "client-output-buffer-limit", limit)])
        yield wire


def test_row_30_page_larger_than_the_output_limit_is_halved_by_a_runner(narrow: Wire) -> None:
    """output-buffer 1 MB: page halves, goes on (F)."""
    with following(narrow) as runner:
        assert narrow.settled()
        runner.wait_live(PATIENCE)
        narrow.deposit(3)
        assert narrow.settled()
    narrow.direct.driver.execute([("CONFIG", "SET", "client-output-buffer-limit", "normal 0 0 0")])  # the checker reads
    assert narrow.findings(BALANCES) == []


def test_row_30_page_larger_than_the_output_limit_is_halved_by_subscriptions(narrow: Wire) -> None:
    """To the log and to a stream: both come to the end (F)."""
    for to in (ALL, "account-2"):
        with narrow.store.subscribe(to) as subscription:
            events = list(islice(subscription, 30 if to is ALL else 15))
        numbers = [event.position if to is ALL else event.number for event in events]
        assert numbers == list(range(1, len(events) + 1))


READS: dict[str, Callable[[EventStore], Iterable[RecordedEvent]]] = {
    "all": lambda store: store.read_all(),
    "a category": lambda store: store.read_category("account"),
    "all, backwards": lambda store: store.read_all(backwards=True),
    "a stream": lambda store: store.read_stream("account-2"),
}


@pytest.mark.parametrize(
    "read",
    [
        "all",
        "a category",
        "all, backwards",
        "a stream",
    ],
)
def test_row_30_page_larger_than_the_output_limit_is_halved_by_readers(narrow: Wire, read: str) -> None:
    """Reading comes to the end of the log. A page is halved after each ``retry_for``, which is 0.05 s here (F)."""
    settings = replace(IMPATIENT, retry_for=0.05, socket_timeout=PATIENCE)  # a large page may take its time
    with EventStore.open(narrow.proxy.url, name=narrow.direct.info.name, settings=settings) as store:
        assert len(list(READS[read](store))) == (15 if read == "a stream" else 30)


def test_row_30_live_page_larger_than_the_output_limit_goes_on(narrow: Wire) -> None:
    """What was appended while a runner is live, in one piece too large for one reply (F)."""
    with following(narrow) as runner:
        runner.wait_live(PATIENCE)
        large = [NewEvent("Deposited", {"amount": amount, "paper": "x" * 100_000}) for amount in range(30)]
        narrow.beside.append("account-3", large, 0)
        assert narrow.settled()
    narrow.direct.driver.execute([("CONFIG", "SET", "client-output-buffer-limit", "normal 0 0 0")])
    assert narrow.findings(BALANCES) == []


assert TEST_SETTINGS.block == IMPATIENT.block == 0.05  # as the head of this file says
