"""Scripts that the server forgets, again and again, while they are in use."""

from __future__ import annotations

import threading

import pytest
from accounts import PATIENCE, balances, deposited, in_thread, reached
from plugin import VIEWS, kinds
from wirelab import (
    APPENDERS,
    BALANCES,
    RESULTS,
    RUNNER_REQUESTS,
    Wire,
    digest,
    following,
    work_until_it_has_happened,
)

from runner import ANY, follow
from runner.format.scripts import load

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("first_event")]

FLUSH = ("SCRIPT", "FLUSH")

#: How many flushes the writers and the runner of the loop must outlive, and how long after one another, in seconds.
FLUSHES, PAUSE = 200, 0.004


@pytest.mark.parametrize(
    "times",
    [
        1,
        3,
        25,
    ],
)
@pytest.mark.parametrize("kind", APPENDERS)
def test_row_24_script_flush_right_before_an_append_costs_a_round_trip(wire: Wire, kind: str, times: int) -> None:
    """Another client flushes between load and call: reloaded; no duplicate (B, F)."""
    for _ in range(times):
        wire.proxy.before(*FLUSH)

    results = APPENDERS[kind](wire.writer)

    assert [result.duplicate for result in results] == [False] * RESULTS[kind]
    assert (wire.record.unknown, wire.proxy.armed) == (0, 0)
    assert wire.findings() == []


@pytest.mark.parametrize("kind", APPENDERS)
def test_row_24_script_flush_and_a_lost_reply_together(wire: Wire, kind: str) -> None:
    """The script runs, its answer is lost, and at the retry it is not known any more: duplicate (B)."""
    wire.proxy.lose_reply()
    wire.proxy.before(*FLUSH)

    results = APPENDERS[kind](wire.writer)

    assert [result.duplicate for result in results] == [True] * RESULTS[kind]
    assert wire.findings() == []


@pytest.mark.parametrize("request_", ["claim", "report", "commit"])
def test_row_24_script_flush_right_before_a_script_of_a_runner(wire: Wire, request_: str) -> None:
    """Claims, reports and commits are done as if nothing had been (D, F)."""
    wire.deposit(30)
    wire.proxy.before(*FLUSH, match=RUNNER_REQUESTS[request_])
    work_until_it_has_happened(wire)


def test_row_24_script_flush_that_another_client_mends_between_two_commits(wire: Wire) -> None:
    """The first commit of a batch finds no script, the second does; both are made again, and each counts once (D)."""
    wire.deposit(30)
    with follow(wire.store, balances(), kinds) as runner:
        runner.wait_live(PATIENCE)
        wire.proxy.before(*FLUSH, match=digest("progress/commit"))
        wire.proxy.before("SCRIPT", "LOAD", load("progress/commit").source, match=digest("progress/commit"))
        wire.deposit(10)
        assert wire.settled("balances")
        assert wire.settled("kinds")
        wire.deposit(10)
        assert wire.settled("balances")
        assert wire.settled("kinds")
    assert wire.proxy.armed == 0
    assert wire.findings(VIEWS) == []


def test_row_24_script_flush_in_a_loop_under_load(wire: Wire) -> None:
    """Another client flushes every few milliseconds: reloaded; no duplicate; the view is right (B, F)."""
    ends = threading.Event()
    flushes = []

    def flush() -> None:
        while not ends.is_set():
            wire.direct.driver.execute([FLUSH])
            flushes.append(1)
            ends.wait(PAUSE)

    def write(number: int) -> None:
        version = 0
        while not ends.is_set():
            version = wire.writer.append(f"account-9{number}", [deposited(1), deposited(2)], version).version
            wire.writer.append_each([(f"account-{place}", [deposited(4)], ANY) for place in range(5)])
            wire.writer.append("account-1", deposited(3), ANY)

    with following(wire), in_thread(flush), in_thread(lambda: write(1)), in_thread(lambda: write(2)):
        try:
            assert reached(lambda: len(flushes) > FLUSHES and len(wire.record.told) > 20)
        finally:
            ends.set()
    with following(wire):
        assert wire.settled()
    assert wire.findings(BALANCES) == []


def test_row_24_script_flush_is_told_from_a_script_that_fails(wire: Wire) -> None:
    """What is loaded again is the script that was meant: its digest is the one that was asked for (B)."""
    wire.proxy.before(*FLUSH)
    wire.writer.append("account-1", deposited(1), 1)

    assert wire.direct.driver.execute([("SCRIPT", "EXISTS", digest("log/append").decode())]) == [[1]]
