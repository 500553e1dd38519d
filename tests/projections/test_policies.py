"""Failure policies: what becomes of an event that fails, of its row, of its neighbours, and how often it is tried."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgpack
import pytest
from accounts import balances, deposited, noted, plain_fold, reached, reopened, rows_of
from hypothesis import given
from hypothesis import strategies as st
from trouble import Trap, Trouble, envelope, rogue, three_accounts, trapped
from workbench import Workbench, let_lease_end, parked_of, skipped_of, status_of

from runner import EventStore, InvalidInput, NewEvent, Projection, RecordedEvent, catch_up, follow
from runner.effects import Command
from runner.format.scripts import load
from runner.projections.policies import MOST_PARKED, ParkStream, Policy, Retry, Skip, Stop
from runner.settings import MAX_EVENT_BYTES
from runner.sync.engine import Engine
from runner.sync.session import Session
from runner.testing import TEST_SETTINGS, all_events, memory_store

LAST_RESORTS: list[Policy] = [Stop(), ParkStream(), Skip()]


# -- pauses -------------------------------------------------------------------------------------


@given(
    attempts=st.integers(1, 10_000),
    backoff=st.floats(0, 1e6),
    longest=st.floats(0, 1e6),
    chance=st.floats(0, 1),
)
def test_a_pause_is_random_between_half_and_all_of_a_doubling_bounded_time(
    attempts: int, backoff: float, longest: float, chance: float
) -> None:
    """Before attempt n+1: from half of to all of min(longest, backoff * 2^(n-1)), whatever the numbers."""
    whole = min(longest, backoff * 2.0 ** min(attempts - 1, 60))
    pause = Retry(backoff=backoff, longest=longest).pause(attempts, lambda: chance)
    assert whole / 2 <= pause <= whole


@pytest.mark.parametrize(("random", "times"), [(1.0, [0, 1, 3, 7, 12, 17]), (0.0, [0, 0.5, 1.5, 3.5, 6, 8.5])])
def test_an_event_is_tried_after_pauses_that_double_up_to_the_longest(
    store: EventStore, random: float, times: list[float]
) -> None:
    """With backoff 1 s and at most 5 s, the attempts come at these moments of the injected clock, and no more."""
    # given
    three_accounts(store)
    tried: list[float] = []
    trap = Trap(2)
    bench = Workbench(
        store,
        trapped(
            lambda event: (tried.append(bench.time) if event.position == 2 else None, trap(event)),
            Retry(times=5, backoff=1.0, longest=5.0),
        ),
        random=random,
    )

    # when
    bench.run()

    # then
    assert tried == pytest.approx(times, abs=0.001)
    assert "no luck with 2" in bench.errors[0]


def test_pauses_are_long_and_the_lease_is_kept(store: EventStore) -> None:
    """A projection in a pause of minutes says that it retries, and why, with each heartbeat."""
    # given
    three_accounts(store)
    seen: list[tuple[str, str]] = []
    bench = Workbench(store, trapped(Trap(2, times=1), Retry(times=1, backoff=60.0)))

    def look() -> None:
        if bench.time > 30 and not seen:
            seen.append((status_of(store).state, status_of(store).error))

    bench.on_look = look

    # when
    bench.run()

    # then
    [(state, error)] = seen
    assert state == "retrying"
    assert "no luck with 2" in error
    assert "attempt 1 of 2" in error
    assert status_of(store).error == ""
    assert rows_of(store) == plain_fold(all_events(store))


def test_retrying_does_not_hold_other_projections_up(store: EventStore) -> None:
    """While one waits an hour for its next attempt, the others of the process follow the log; a stop ends it."""
    # given
    three_accounts(store)
    failing = trapped(Trap(2), Retry(times=3, backoff=7200.0, longest=7200.0), "failing")
    engine = Engine(store, [failing, balances()])

    # when
    engine.start()
    try:
        assert reached(lambda: status_of(store, "failing").state == "retrying")
        store.append("account-1", deposited(1000))
        assert reached(lambda: rows_of(store) == plain_fold(all_events(store)))
    finally:
        engine.stop()
        assert engine.join(10)

    # then
    assert rows_of(store, "failing") == plain_fold(all_events(store)[:1])
    assert engine.failures == []


# -- attempts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", [1, 2, 500])
@pytest.mark.parametrize("fails", [1, 2, 3, 4])
@pytest.mark.parametrize("resort", LAST_RESORTS, ids=repr)
def test_an_event_is_tried_as_often_as_the_policy_says(
    url: str, fresh_name: str, resort: Any, fails: int, page_size: int
) -> None:
    """C7. Retry(times=3) tries four times in all; less if it succeeds before; then the last resort."""
    with EventStore.open(url, name=fresh_name, settings=replace(TEST_SETTINGS, page_size=page_size)) as store:
        # given
        history = three_accounts(store)
        trap = Trap(2, 4, times=fails)

        # when
        bench = Workbench(store, trapped(trap, Retry(times=3, backoff=0.0, then=resort))).run()

        # then
        if fails < 4:
            assert trap.calls[2] == fails + 1
            assert rows_of(store) == plain_fold(history)
        elif resort == Stop():
            assert trap.calls == {1: trap.calls[1], 2: 4}
            assert bench.errors
            assert rows_of(store) == plain_fold(history[:1])
        else:
            assert (trap.calls[2], trap.calls[4]) == (4, 4)
            kept = parked_of(store) if resort == ParkStream() else skipped_of(store)
            assert [one.attempts for one in kept if one.error] == [4, 4]


def test_attempts_are_counted_for_each_event_also_where_two_fail_together(store: EventStore) -> None:
    """C7. A row that cannot be stored and a later handler that raises, in one batch: each has its own count."""
    # given
    store.append("account-1", [NewEvent("Bad")])
    store.append("account-2", [NewEvent("Raises")])
    calls = {"Bad": 0, "Raises": 0}
    projection = Projection("two", on_error=Retry(times=2, backoff=0.0, then=Skip()))

    @projection.when("Bad")
    def bad(state: Any, event: RecordedEvent) -> None:
        state["what"] = object()

    @projection.when("Raises")
    def raises(state: Any, event: RecordedEvent) -> None:
        calls["Raises"] += 1
        if calls["Raises"] > 50:
            pytest.fail("it is tried for ever")
        raise Trouble

    # when
    Workbench(store, projection).run()

    # then
    first, second = skipped_of(store, "two")
    assert (first.position, second.position) == (1, 2)
    assert first.attempts == 3
    assert second.attempts == calls["Raises"]


def test_what_was_kept_of_a_failure_says_when_it_was_tried_first_and_last(store: EventStore) -> None:
    """C8. Error, traceback, attempts, and the times of the first and the last attempt by the injected clock."""
    # given
    three_accounts(store)

    # when
    Workbench(store, trapped(Trap(2), Retry(times=2, backoff=8.0, then=Skip()))).run()

    # then
    [kept] = skipped_of(store)
    assert (kept.position, kept.stream, kept.key) == (2, "account-2", "account-2")
    assert (kept.number, kept.type) == (1, "Deposited")
    assert kept.error == "Trouble: no luck with 2"
    assert "raise Trouble" in kept.traceback
    assert (kept.attempts, kept.first_us, kept.last_us) == (3, 1, 24_000_001)


# -- rows ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", [1, 2, 3, 500])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("resort", LAST_RESORTS, ids=repr)
def test_what_a_failing_handler_had_changed_is_undone(
    url: str, fresh_name: str, resort: Policy, asynchronous: bool, page_size: int
) -> None:
    """C7. Whatever the policy: the row is as it was before the event, deep inside too, and events before it count."""
    with EventStore.open(url, name=fresh_name, settings=replace(TEST_SETTINGS, page_size=page_size)) as store:
        # given
        three_accounts(store)
        projection = Projection[Any]("deep", initial=lambda: {"deep": {"list": []}}, on_error=resort)

        def change(state: Any, event: RecordedEvent) -> None:
            state["deep"]["list"].append(event.position)
            state[f"seen {event.position}"] = True
            if event.position == 5:
                raise Trouble

        async def change_later(state: Any, event: RecordedEvent) -> None:
            await asyncio.sleep(0)
            change(state, event)

        projection.when(change_later if asynchronous else change)

        # when
        Workbench(store, projection).run()

        # then
        def row(*positions: int) -> dict[str, Any]:
            return {"deep": {"list": list(positions)}} | {f"seen {position}": True for position in positions}

        assert rows_of(store, "deep")["account-2"] == row(2)
        assert rows_of(store, "deep")["account-1"] == row(1, 4)
        assert rows_of(store, "deep")["account-3"] == (row(3) if resort == Stop() else row(3, 6))


def test_slow_handlers_that_fail_are_committed_in_between(store: EventStore) -> None:
    """However many slow events fail and are skipped, a commit comes with each slice of time: the lease is kept."""
    # given
    store.append("account-1", [deposited() for _ in range(30)])
    behind: list[int] = []

    def slow(event: RecordedEvent) -> None:
        behind.append(event.position - 1 - status_of(store).position)
        bench.time += 0.5
        raise Trouble

    bench = Workbench(store, trapped(slow, Skip()))

    # when
    bench.run()

    # then
    assert len(behind) == len(skipped_of(store)) == 30
    assert max(behind) <= 5
    assert status_of(store).skipped == 30


@pytest.mark.parametrize("slow", [1, 2, 3, 4])
def test_a_fold_that_is_made_again_and_runs_out_of_time_leaves_no_event_out(store: EventStore, slow: int) -> None:
    """C7. A row that cannot be packed is folded again without its event; what there is no time for comes later."""
    # given: the handler of one event takes longer than a slice of time, in the first fold and in each later one
    projection = balances(on_event=lambda event: take_time(event))
    projection.on_error = Skip()

    @projection.when("Spoiled")
    def spoil(state: Any, event: RecordedEvent) -> None:
        take_time(event)
        state["tags"] = {"a", "set"}

    def take_time(event: RecordedEvent) -> None:
        if event.position == slow:
            bench.time += 10.0

    store.append("account-1", NewEvent("Spoiled"))
    store.append("account-2", [deposited(amount) for amount in (1, 2, 3)])
    bench = Workbench(store, projection)

    # when
    bench.run()

    # then
    assert rows_of(store) == plain_fold(all_events(store)[1:])
    assert [one.position for one in skipped_of(store)] == [1]
    assert status_of(store).applied == 3


# -- the policies themselves --------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: Retry(times=0),
        lambda: Retry(times=True),
        lambda: Retry(times=1.5),  # type: ignore[arg-type]
        lambda: Retry(backoff=-1),
        lambda: Retry(backoff=float("nan")),
        lambda: Retry(longest=float("inf")),
        lambda: Retry(then=Retry()),  # type: ignore[arg-type]
        lambda: Retry(then=Stop),  # type: ignore[arg-type]
        lambda: ParkStream(0),
        lambda: ParkStream(MOST_PARKED + 1),
        lambda: ParkStream(True),
        lambda: Projection("p", on_error="skip"),  # type: ignore[arg-type]
        lambda: Projection("p", on_error=None),  # type: ignore[arg-type]
    ],
)
def test_a_policy_that_is_not_well_made_is_refused(make: Callable[[], object]) -> None:
    """The mistake is told when the policy is made, not when the first event fails."""
    with pytest.raises(InvalidInput):
        make()


def test_a_projection_stops_unless_told_otherwise() -> None:
    """The default is Stop; a policy may be named by its class where it needs no argument."""
    assert Projection("p").on_error == Stop()
    assert Projection("p", on_error=Skip).on_error == Skip()


def test_skipped_events_are_gone_on_without_and_listed(store: EventStore) -> None:
    """Each row is the fold of its events without the skipped ones, of which records are kept in order."""
    # given
    history = three_accounts(store)

    # when
    Workbench(store, trapped(Trap(1, 5), Skip())).run()

    # then
    assert rows_of(store) == plain_fold(event for event in history if event.position not in (1, 5))
    assert [one.position for one in skipped_of(store)] == [1, 5]
    now = status_of(store)
    assert (now.skipped, now.applied, now.lag, now.parked) == (2, 4, 0, 0)


# -- events that cannot be decoded --------------------------------------------------------------

BAD = {
    "broken data": envelope(),
    "too large": envelope(data=msgpack.packb(b"x" * MAX_EVENT_BYTES)),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("retrying", [False, True], ids=["at once", "retrying"])
@pytest.mark.parametrize("resort", LAST_RESORTS, ids=repr)
def test_an_event_that_cannot_be_decoded_is_met_with_the_same_policy(
    store: EventStore, resort: Any, retrying: bool, bad: bytes
) -> None:
    """It says its stream and type, so it can be parked or skipped; Stop ends before it. Trying again is no use."""
    # given
    history = three_accounts(store)
    rogue(store, 7, bad, number=3)
    store.append("account-2", deposited(5))
    store.append("account-1", deposited(7))
    policy = Retry(times=3, backoff=0.0, then=resort) if retrying else resort

    # when
    bench = Workbench(store, trapped(Trap(), policy)).run()

    # then
    later = list(store.read_all(after=7))
    if resort == Stop():
        assert "position 7 (of stream 'account-1') cannot be decoded" in bench.errors[0]
        assert rows_of(store) == plain_fold(history)
        assert status_of(store).position == 6
        return
    assert bench.errors == []
    assert status_of(store).lag == 0
    kept = parked_of(store) if resort == ParkStream() else skipped_of(store)
    assert (kept[0].position, kept[0].key, kept[0].number, kept[0].type) == (7, "account-1", 3, "Deposited")
    assert "cannot be decoded" in kept[0].error
    if resort == Skip():
        assert rows_of(store) == plain_fold([*history, *later])
    else:
        assert [one.position for one in kept] == [7, 9]
        assert rows_of(store) == plain_fold([*history, later[0]])


@pytest.mark.parametrize("policy", LAST_RESORTS, ids=repr)
def test_an_event_that_cannot_be_decoded_and_is_not_for_the_projection_passes_by(
    store: EventStore, policy: Policy
) -> None:
    """Another category, or a type without a handler: no policy is asked, nothing is kept of it."""
    # given
    history = three_accounts(store)
    rogue(store, 7, envelope("order-1"))
    rogue(store, 8, envelope("account-1", "Noted"), number=3)
    store.append("account-2", deposited(5))

    # when
    bench = Workbench(store, trapped(Trap(), policy)).run()

    # then
    assert bench.errors == []
    assert rows_of(store) == plain_fold([*history, *store.read_all(after=8)])
    assert (parked_of(store), skipped_of(store)) == ([], [])
    assert status_of(store).lag == 0


@pytest.mark.parametrize("policy", LAST_RESORTS, ids=repr)
@pytest.mark.parametrize("junk", [b"", b"\x00", b"not an envelope at all, but some text", b"\xff" * 40])
def test_an_event_whose_stream_cannot_be_read_cannot_be_parked(store: EventStore, policy: Policy, junk: bytes) -> None:
    """Nobody knows what is to wait behind it: Stop, except where it is skipped."""
    # given
    history = three_accounts(store)
    rogue(store, 7, junk)
    store.append("account-2", deposited(5))

    # when
    bench = Workbench(store, trapped(Trap(), policy)).run()
    again = Workbench(store, trapped(Trap(), policy)).run()  # the checkpoint on such an entry is a good one

    # then
    if policy == Skip():
        assert bench.errors == again.errors == []
        assert rows_of(store) == plain_fold([*history, *store.read_all(after=7)])
        assert [(one.position, one.stream) for one in skipped_of(store)] == [(7, "")]
    else:
        assert "position 7 cannot be decoded" in bench.errors[0]
        assert "position 7 cannot be decoded" in again.errors[0]
        assert rows_of(store) == plain_fold(history)


def test_damage_is_met_by_each_projection_at_its_own_place(store: EventStore) -> None:
    """One that joins a worker from behind, right before damage, skips the damage and none of the events before it."""
    # given: a projection that joins at position 0 while the other handles position 6
    history = three_accounts(store)
    rogue(store, 7, envelope(), number=3)
    store.append("account-2", deposited(5))

    def join(event: RecordedEvent) -> None:
        if event.position == 6:
            bench.workers[0].take_in([late])

    bench = Workbench(store, trapped(join, Skip()), trapped(Trap(), Skip(), "late"))
    first, late = bench.claim()

    # when
    bench.work(first)

    # then
    expected = plain_fold([*history, *store.read_all(after=7)])
    assert rows_of(store) == expected
    assert rows_of(store, "late") == expected
    assert [one.position for one in skipped_of(store, "late")] == [7]


def test_who_has_passed_an_event_that_cannot_be_decoded_is_not_asked_again(store: EventStore) -> None:
    """With room for one parked event, who parked it goes on while a projection of its worker comes from behind."""
    # given
    three_accounts(store)
    rogue(store, 7, envelope(), number=3)
    store.append("account-2", deposited(5))
    Workbench(store, trapped(Trap(), ParkStream(1), "ahead")).run()
    store.append("account-3", deposited(1))
    bench = Workbench(store, trapped(Trap(), ParkStream(1), "ahead"), trapped(Trap(), Skip(), "late"))

    # when
    bench.work(*bench.claim())

    # then
    assert bench.errors == []
    assert [one.position for one in parked_of(store, "ahead")] == [7]
    assert [one.position for one in skipped_of(store, "late")] == [7]
    assert rows_of(store, "ahead") == rows_of(store, "late")


def test_a_projection_that_is_stopped_on_its_way_to_a_damaged_event_leaves_none_out(small_store: EventStore) -> None:
    """It is brought forward to the event and told to stop: the events in between are for the next run."""
    # given: a projection that joins at position 0 while the other handles position 6
    history = three_accounts(small_store)
    rogue(small_store, 7, envelope(), number=3)

    def join(event: RecordedEvent) -> None:
        if event.position == 6:
            bench.workers[0].take_in([late])

    def stop(event: RecordedEvent) -> None:
        bench.workers[0].stopping = event.position == 2

    bench = Workbench(small_store, trapped(join, Skip()), trapped(stop, Skip(), "late"))
    first, late = bench.claim()

    # when
    bench.work(first)

    # then
    assert status_of(small_store, "late").position == 2
    assert rows_of(small_store, "late") == plain_fold(history[:2])
    assert skipped_of(small_store, "late") == []


def test_a_projection_that_was_taken_over_on_its_way_to_a_damaged_event_has_it_parked_once(
    small_store: EventStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another runner stopped right before the event and gave the projection back: one more claim, and one judgement."""
    # given: a projection with room for one parked event, which joins at position 0 while the other handles position 6
    history = three_accounts(small_store)
    claims, execute = list[Command](), small_store.driver.execute
    build = small_store.info.keys[0].build("late", "1")

    def noting(commands: list[Command], held: Session | None = None) -> list[Any]:
        claims.extend(one for one in commands if one[0] == load("progress/claim") and build in one)
        return execute(commands, held)

    monkeypatch.setattr(small_store.driver, "execute", noting)
    rogue(small_store, 7, envelope(), number=3)

    def join(event: RecordedEvent) -> None:
        if event.position == 6:
            bench.workers[0].take_in([late])

    def overtake(event: RecordedEvent) -> None:
        if event.position == 2:
            let_lease_end(small_store, late)
            with reopened(small_store, url) as second:
                there = Workbench(second, trapped(Trap(), Stop(), "late")).run()
                assert "position 7 cannot be decoded" in there.errors[0]

    bench = Workbench(small_store, trapped(join, Skip()), trapped(overtake, ParkStream(1), "late"))
    first, late = bench.claim()

    # when
    bench.work(first)

    # then
    assert bench.errors == []
    assert [one.position for one in parked_of(small_store, "late")] == [7]
    assert len(claims) == 2  # at the start, and after the other runner
    assert rows_of(small_store, "late") == plain_fold(history)


# -- rows with a key of their own ---------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["raises", "not text", "empty"])
@pytest.mark.parametrize("policy", LAST_RESORTS, ids=repr)
def test_an_event_whose_row_cannot_be_named_cannot_be_parked(store: EventStore, policy: Policy, wrong: str) -> None:
    """key() is part of the handler: Skip goes on without the event; Stop and ParkStream stop before it."""
    # given
    three_accounts(store)

    def key(event: RecordedEvent) -> Any:
        if event.position != 4:
            return "total"
        if wrong == "raises":
            raise Trouble
        return 7 if wrong == "not text" else ""

    projection = Projection("keyed", key=key, on_error=policy)
    projection.when("Deposited", lambda state, event: state | {str(event.position): True})

    # when
    bench = Workbench(store, projection).run()

    # then
    if policy == Skip():
        assert rows_of(store, "keyed") == {"total": {"1": True, "2": True, "3": True, "5": True, "6": True}}
        assert [(one.position, one.key) for one in skipped_of(store, "keyed")] == [(4, "")]
    else:
        assert len(bench.errors) == 1
        assert rows_of(store, "keyed") == {"total": {"1": True, "2": True, "3": True}}
        assert parked_of(store, "keyed") == []


def test_a_keyed_row_is_parked_as_a_whole(store: EventStore) -> None:
    """What waits behind a failing event is what goes to its row, whatever the stream."""
    # given
    three_accounts(store)
    projection = Projection("keyed", key=lambda event: "odd" if event.position % 2 else "even", on_error=ParkStream())

    @projection.when("Deposited")
    def seen(state: Any, event: RecordedEvent) -> None:
        state[str(event.position)] = True
        if event.position == 3:
            raise Trouble

    # when
    Workbench(store, projection).run()

    # then
    assert rows_of(store, "keyed") == {"odd": {"1": True}, "even": {"2": True, "4": True, "6": True}}
    assert [(one.position, one.key, one.stream) for one in parked_of(store, "keyed")] == [
        (3, "odd", "account-3"), (5, "odd", "account-2"),
    ]  # fmt: skip


# -- with the engines ---------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [Retry(times=2, backoff=0.01, then=Skip()), Skip()], ids=repr)
def test_policies_work_while_following(store: EventStore, policy: Policy) -> None:
    """The threads of an engine do what the bench does: an event that fails live is skipped, the rest is applied."""
    # given
    three_accounts(store)
    projection = trapped(Trap(7, 3), policy)

    # when
    with follow(store, projection) as following:
        store.append("account-1", deposited(1))
        last = store.append("account-2", deposited(2))
        following.wait_for(last, 10)

    # then
    assert rows_of(store) == plain_fold(event for event in all_events(store) if event.position not in (3, 7))


def test_catching_up_waits_for_retries(store: EventStore) -> None:
    """catch_up ends when the event that failed at first is applied, and counts it once."""
    # given
    three_accounts(store)

    # when
    applied = catch_up(store, trapped(Trap(4, times=2), Retry(times=2, backoff=0.001)))

    # then
    assert applied == 6
    assert rows_of(store) == plain_fold(all_events(store))


def test_an_event_nobody_wants_is_not_tried() -> None:
    """A policy is about events that have a handler."""
    with memory_store() as store:
        store.append("account-1", noted())
        trap = Trap(1)
        assert catch_up(store, trapped(trap, Stop())) == 0
        assert trap.calls == {}
