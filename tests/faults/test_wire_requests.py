"""Requests that are held back or cut: what comes late does no harm, and what comes in part does nothing.

The time-out of the rows is 0.2 s here, and not the usual 5 s.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from accounts import PATIENCE, balances, deposited, reached
from wirelab import APPENDERS, BALANCES, RESULTS, RUNNER_REQUESTS, Wire, digest, following, wire_to

from runner import ANY, NO_STREAM, EventStore, WrongExpectedVersion, catch_up
from runner.errors import BookmarkConflict, StoreUnavailable
from runner.testing import TEST_SETTINGS

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("first_event")]


# -- 3: held ------------------------------------------------------------------------------------


@pytest.mark.parametrize("beside", [False, True], ids=["at once", "after others"])
@pytest.mark.parametrize("kind", APPENDERS)
def test_row_03_request_held_retried_then_delivered_is_a_duplicate(wire: Wire, kind: str, beside: bool) -> None:
    """Proxy holds connection 1: the retry is the first run, the late copy → duplicate (B)."""
    held = wire.proxy.hold()
    results = APPENDERS[kind](wire.writer)
    assert [result.duplicate for result in results] == [False] * RESULTS[kind]
    if beside:
        wire.beside.append("account-1", deposited(1), ANY)
        wire.beside.append("account-2", deposited(1), ANY)
    before = wire.direct.last_position()

    reply = held.deliver()

    assert reply is not None
    assert reply.count(b"duplicate") == RESULTS[kind]
    assert wire.direct.last_position() == before
    assert wire.findings() == []


def test_row_03_request_held_and_given_up_is_a_conflict_when_another_was_first(real_store: EventStore) -> None:
    """Nobody retries, another writer takes the version: the late copy → conflict, nothing is forked (B)."""
    with wire_to(real_store, settings=replace(TEST_SETTINGS, socket_timeout=1.0, retry_for=0)) as wire:
        wire.beside.append("account-1", deposited(1), NO_STREAM)
        mine = deposited(2)
        held = wire.proxy.hold()
        with pytest.raises(StoreUnavailable):
            wire.store.append("account-1", mine, 1)
        wire.beside.append("account-1", deposited(3), 1)

        reply = held.deliver()

        assert reply is not None
        assert b"wrong_version" in reply
        with pytest.raises(WrongExpectedVersion):
            wire.writer.append("account-1", mine, 1)
        assert wire.direct.version("account-1") == 2
        assert wire.findings() == []


def test_row_03_late_move_of_a_bookmark_does_not_move_it_back(wire: Wire) -> None:
    """Held, retried, moved on by the next append: the late copy is refused, the bookmark stands (B)."""
    held = wire.proxy.hold()
    wire.writer.append_many([("account-1", [deposited(2)], 1)], bookmark=("transfers", 7))
    wire.writer.append_many([("account-1", [deposited(3)], 2)], bookmark=("transfers", 8))

    reply = held.deliver()

    assert reply is not None
    assert b"bookmark" in reply or b"duplicate" in reply
    assert wire.direct.bookmark("transfers") == 8
    with pytest.raises(BookmarkConflict):
        wire.store.append_many([], bookmark=("transfers", 7), partition=0)
    assert wire.findings() == []


def test_row_03_late_commit_of_a_runner_is_fenced_off(wire: Wire) -> None:
    """The runner has given the commit up and gone on from its checkpoint: the late copy changes nothing (B, D)."""
    wire.deposit(30)
    with following(wire) as runner:
        runner.wait_live(PATIENCE)
        held = wire.proxy.hold(digest("progress/commit"))
        wire.deposit(10)
        assert held.taken(PATIENCE)
        assert wire.settled()
        wire.deposit(10)
        assert wire.settled()

        reply = held.deliver()

        assert reply is not None
        assert b"owner" in reply
        wire.deposit(10)
        assert wire.settled()
    assert wire.findings(BALANCES) == []


def test_row_03_copy_of_a_commit_delivered_behind_the_next_one_is_refused(wire: Wire) -> None:
    """It is the same runner's, and its checkpoint is not the stored one any more: the late copy changes nothing (D)."""
    wire.deposit(30)
    with following(wire) as runner:
        runner.wait_live(PATIENCE)
        copy = wire.proxy.copy(digest("progress/commit"))
        for _ in range(2):
            wire.deposit(10)
            assert wire.settled()

        assert b"moved" in copy.deliver()

        wire.deposit(10)
        assert wire.settled()
    assert wire.findings(BALANCES) == []


@pytest.mark.parametrize("kind", APPENDERS)
def test_row_03_copy_of_an_append_delivered_behind_others_is_a_duplicate(wire: Wire, kind: str) -> None:
    """It was executed and answered long ago: the late copy → duplicate, with the same numbers (B)."""
    copy = wire.proxy.copy()
    APPENDERS[kind](wire.writer)
    for number in range(5):
        wire.beside.append("account-1", [deposited(1), deposited(2)], ANY)
        wire.beside.append(f"account-{number + 2}", deposited(number), ANY)

    assert copy.deliver().count(b"duplicate") == RESULTS[kind]

    assert wire.findings() == []


def test_row_03_late_commit_before_the_runner_went_on_is_counted_once(wire: Wire) -> None:
    """It comes after the runner has lost its patience and before it asks where it stands (B, D)."""
    wire.deposit(30)
    with following(wire) as runner:
        runner.wait_live(PATIENCE)
        commit, confirmation = wire.proxy.hold(digest("progress/commit")), wire.proxy.hold(digest("progress/claim"))
        wire.deposit(10)
        assert commit.taken(PATIENCE)
        assert confirmation.taken(PATIENCE)  # held until the late commit has run

        reply = commit.deliver()

        assert reply is not None
        confirmation.release()
        assert wire.settled()
    assert wire.findings(BALANCES) == []


# -- 4: cut -------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 90, None, -1], ids=["nothing", "a byte", "its head", "half", "all but one"])
@pytest.mark.parametrize("kind", APPENDERS)
def test_row_04_request_cut_half_way_is_not_executed_and_the_retry_works(
    wire: Wire, kind: str, after: int | None
) -> None:
    """Proxy limits bytes up: not executed; retry works (B, C)."""
    wire.proxy.cut_request(after=after)

    results = APPENDERS[kind](wire.writer)

    assert [result.duplicate for result in results] == [False] * RESULTS[kind]
    assert (results[0].first_position, wire.record.unknown, wire.proxy.armed) == (2, 0, 0)
    assert wire.findings() == []


def test_row_04_request_cut_without_a_retry_leaves_nothing(real_store: EventStore) -> None:
    """Half an append is none: neither log nor index has anything of it (B, C)."""
    with wire_to(real_store, settings=replace(TEST_SETTINGS, retry_for=0)) as wire:
        wire.writer.append("account-1", deposited(1), NO_STREAM)
        wire.proxy.cut_request()

        with pytest.raises(StoreUnavailable):
            wire.store.append("account-1", [deposited(amount) for amount in range(100)], 1)

        assert (wire.direct.last_position(), wire.direct.version("account-1")) == (1, 1)
        assert wire.findings() == []


@pytest.mark.parametrize("request_", RUNNER_REQUESTS)
def test_row_04_request_of_a_runner_cut_half_way_is_made_again(wire: Wire, request_: str) -> None:
    """A commit in part is none, and a question in part is asked again (C, D)."""
    wire.deposit(10)
    catch_up(wire.direct, balances())
    wire.deposit(30)
    wire.proxy.cut_request(RUNNER_REQUESTS[request_])
    with following(wire) as runner:
        runner.wait_live(PATIENCE)
        wire.deposit(10)
        assert wire.settled()
        assert reached(lambda: wire.proxy.armed == 0)
    assert wire.findings(BALANCES) == []
