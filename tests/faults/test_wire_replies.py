"""Replies that are lost, swallowed or cut: the client cannot know what ran, and nothing happens twice all the same.

The time-out of the rows is 0.2 s here, and not the usual 5 s.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice

import pytest
from accounts import PATIENCE, balances, deposited, reached
from wirelab import APPENDERS, BALANCES, IMPATIENT, RESULTS, RUNNER_REQUESTS, Wire, digest, following, wire_to

from runner import ALL, ANY, NO_STREAM, EventStore, View, catch_up
from runner.testing import TEST_SETTINGS

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("first_event")]

#: What is added to the time-outs before a row calls a recovery late, in seconds: this machine is busy.
SLACK = 3.0


#: What a runner asks for when it is live: no pages, no rows it knows already.
LIVE_REQUESTS = (digest("progress/report"), digest("progress/commit"), b"XREAD")


def is_sound_afterwards(wire: Wire) -> bool:
    """The store can be used as if nothing had been, and the history is what writers were told."""
    wire.writer.append("account-1", deposited(1), ANY)
    assert [event.number for event in wire.store.read_stream("account-1")] == list(
        range(1, wire.store.version("account-1") + 1)
    )
    assert wire.proxy.armed == 0
    assert wire.findings() == []
    return True


def runs_through(wire: Wire, fault: Callable[[bytes], None], request: bytes) -> None:
    """A projection with a past catches up and follows; the fault hits it in history, and where it can, live."""
    wire.deposit(10)
    catch_up(wire.direct, balances())
    wire.deposit(30)
    fault(request)
    with following(wire) as runner:
        assert wire.settled()
        runner.wait_live(PATIENCE)
        if request in LIVE_REQUESTS:
            fault(request)
        for _ in range(3):
            wire.deposit(10)
            assert wire.settled()
        assert reached(lambda: wire.proxy.armed == 0)
    assert wire.findings(BALANCES) == []


# -- 1: lost ------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("kind", APPENDERS)
def test_row_01_reply_lost_after_the_script_ran_retry_is_a_duplicate(wire: Wire, kind: str, reset: bool) -> None:
    """Proxy closes after EVALSHA: retry → duplicate, same numbers (B, C)."""
    wire.proxy.lose_reply(reset=reset)

    results = APPENDERS[kind](wire.writer)

    assert [result.duplicate for result in results] == [True] * RESULTS[kind]
    assert (results[0].first_position, wire.record.unknown) == (2, 0)
    assert is_sound_afterwards(wire)


def test_row_01_reply_lost_again_and_again_is_still_a_duplicate(wire: Wire) -> None:
    """Each retry runs the script once more, and each finds the first run (B, C)."""
    for _ in range(5):
        wire.proxy.lose_reply()

    [result] = APPENDERS["any version"](wire.writer)

    assert (result.duplicate, result.position) == (True, 3)
    assert is_sound_afterwards(wire)


def test_row_01_reply_lost_beyond_the_stores_patience_the_caller_repeats(real_store: EventStore) -> None:
    """With ``retry_for=0`` the caller is told that it is not known, appends the same again, and has a duplicate (B)."""
    with wire_to(real_store, settings=replace(TEST_SETTINGS, retry_for=0)) as wire:
        wire.direct.append_many([], bookmark=("warm", 1))  # loads the script
        wire.proxy.lose_reply()

        result = wire.writer.append("account-1", deposited(100), NO_STREAM)

        assert (result.duplicate, wire.record.unknown, wire.record.retried) == (True, 1, 1)
        assert wire.findings() == []


@pytest.mark.parametrize("request_", RUNNER_REQUESTS)
def test_row_01_reply_lost_by_a_runner_its_view_counts_every_event_once(wire: Wire, request_: str) -> None:
    """Whatever the lost reply was an answer to, the runner goes on from what is committed (C, D)."""
    runs_through(wire, wire.proxy.lose_reply, RUNNER_REQUESTS[request_])


# -- 2: swallowed -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", APPENDERS)
def test_row_02_reply_lost_but_the_socket_stays_open_times_out_and_is_repeated(wire: Wire, kind: str) -> None:
    """Proxy swallows it: timeout, retry → duplicate (B, F)."""
    wire.proxy.swallow_reply()
    started = time.monotonic()

    results = APPENDERS[kind](wire.writer)

    assert IMPATIENT.socket_timeout <= time.monotonic() - started < IMPATIENT.socket_timeout + SLACK
    assert [result.duplicate for result in results] == [True] * RESULTS[kind]
    assert is_sound_afterwards(wire)


@pytest.mark.parametrize("request_", RUNNER_REQUESTS)
def test_row_02_reply_swallowed_from_a_runner_it_goes_on_after_the_timeout(wire: Wire, request_: str) -> None:
    """The silence is given up after the time-out, and the runner takes up from what is committed (D, F)."""
    runs_through(wire, wire.proxy.swallow_reply, RUNNER_REQUESTS[request_])


# -- 5: cut -------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, None, 25], ids=["nothing", "a byte", "half", "most"])
@pytest.mark.parametrize("kind", APPENDERS)
def test_row_05_reply_of_an_append_cut_half_way_is_asked_for_again(wire: Wire, kind: str, after: int | None) -> None:
    """Proxy limits bytes down: connection error; the retry has the whole answer (B, D)."""
    wire.proxy.cut_reply(after=after)

    results = APPENDERS[kind](wire.writer)

    assert [result.duplicate for result in results] == [True] * RESULTS[kind]
    assert is_sound_afterwards(wire)


@pytest.mark.parametrize("after", [1, None, 1500], ids=["a byte", "half", "most"])
def test_row_05_page_cut_half_way_is_read_again(wire: Wire, after: int | None) -> None:
    """Half a page of events is no page: all are read, in order and once (D)."""
    wire.deposit(30)

    wire.proxy.cut_reply(b"XRANGE", after=after)
    assert [event.position for event in wire.store.read_all()] == list(range(1, 32))
    wire.proxy.cut_reply(digest("log/read_stream"), after=after)
    assert [event.number for event in wire.store.read_stream("account-1")] == list(range(1, 7))
    with wire.store.subscribe(ALL) as subscription:
        wire.proxy.cut_reply(b"XRANGE", after=after)
        assert [event.position for event in islice(subscription, 31)] == list(range(1, 32))

    assert wire.proxy.armed == 0


def test_row_05_rows_of_a_view_cut_half_way_are_read_again(wire: Wire) -> None:
    """Half a view is no view (D)."""
    wire.deposit(30)
    catch_up(wire.direct, balances())

    wire.proxy.cut_reply(b"HSCAN")

    assert dict(View(wire.store, "balances").items()) == dict(View(wire.direct, "balances").items())
    assert wire.proxy.armed == 0


@pytest.mark.parametrize("after", [1, None], ids=["a byte", "half"])
@pytest.mark.parametrize("request_", RUNNER_REQUESTS)
def test_row_05_reply_to_a_runner_cut_half_way_is_asked_for_again(wire: Wire, request_: str, after: int | None) -> None:
    """Connection error; read again, from what is committed (D)."""
    runs_through(wire, lambda match: wire.proxy.cut_reply(match, after=after), RUNNER_REQUESTS[request_])
