"""Projections tested without a store: scenarios, builders of events and the clock that stands still."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from accounts import balances, closed, deposited, withdrew

from runner import DELETE, EventStore, InvalidInput, NewEvent, Projection, View, catch_up
from runner.errors import PayloadError
from runner.testing import EventsFor, FixedClock, Scenario, all_events, events_for


class Account(EventsFor):
    """A builder with the words of its domain."""

    def paid_in(self, amount: int = 10) -> Account:
        return self.event("Deposited", {"amount": amount})

    def closed(self) -> Account:
        return self.event("Closed")


def strict() -> Projection:
    """A balance that must not fall below nothing."""
    projection = Projection("strict", category="account", initial=lambda: {"balance": 0})

    @projection.when("Deposited", "Withdrew")
    def moved(state: Any, event: Any) -> None:
        state["balance"] += event.data["amount"] if event.type == "Deposited" else -event.data["amount"]
        if state["balance"] < 0:
            raise ValueError("overdrawn by", -state["balance"])

    return projection


# -- scenarios ----------------------------------------------------------------------------------


def test_a_projection_is_tested_in_a_line() -> None:
    """D3. What is given and what happens is folded, and the row of the last event is compared."""
    Scenario(balances()).given(deposited(70)).when(withdrew(20)).then({"balance": 50, "numbers": [1, 2]})


def test_a_row_that_is_removed_is_none() -> None:
    """D3. None and DELETE both say that there is no row; an event nobody handles makes none."""
    Scenario(balances()).given(deposited()).when(closed()).then(None).then(DELETE)
    Scenario(balances()).when(NewEvent("Noted")).then(None)


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ({"balance": 70, "numbers": [1, 2]}, "row 'account-1'['balance']: expected 70, is 50"),
        ({"balance": 50, "numbers": [1, 3]}, "row 'account-1'['numbers'][1]: expected 3, is 2"),
        ({"balance": 50}, "row 'account-1'['numbers']: expected nothing, is [1, 2]"),
        ({"balance": 50, "numbers": [1, 2], "open": True}, "row 'account-1'['open']: expected True, is nothing"),
        (None, "row 'account-1': expected no row, is {'balance': 50, 'numbers': [1, 2]}"),
    ],
)
def test_a_row_that_differs_is_shown_place_by_place(expected: Any, said: str) -> None:
    """D3. The message names the projection, the row's key, and what was expected and is at each place."""
    scenario = Scenario(balances()).given(deposited(70)).when(withdrew(20))
    with pytest.raises(AssertionError) as failed:
        scenario.then(expected)
    assert str(failed.value) == f"<Scenario of 'balances'>:\n  {said}"


def test_a_long_difference_is_cut() -> None:
    """D3. Some twenty lines are shown, and how many more there are."""
    many = Projection("many", initial=lambda: {"all": list(range(100))})
    many.when(lambda state, event: None)
    with pytest.raises(AssertionError) as failed:
        Scenario(many).when(deposited()).then({"all": [-1] * 100})
    assert len(str(failed.value).splitlines()) == 22
    assert str(failed.value).endswith("… and 80 more")


def test_a_row_that_is_missing_is_said_to_be() -> None:
    """D3. A key that no event went to has no row."""
    with pytest.raises(AssertionError, match=r"row 'account-9': expected {'balance': 1}, is no row"):
        Scenario(balances()).when(deposited()).then({"balance": 1}, key="account-9")


def test_all_rows_are_compared_with_none_left_out() -> None:
    """D3. A row too many is a difference, as one too few is."""
    scenario = Scenario(strict()).given(events_for("account-1").event("Deposited", {"amount": 1}))
    scenario.when(events_for("account-2").event("Deposited", {"amount": 2}))
    scenario.then_rows({"account-1": {"balance": 1}, "account-2": {"balance": 2}})
    with pytest.raises(AssertionError, match=r"rows\['account-1'\]: expected nothing, is {'balance': 1}"):
        scenario.then_rows({"account-2": {"balance": 2}})


def test_a_handler_that_should_raise_does() -> None:
    """D3. The kind is that of what the handler raised; more of the message may be asked for."""
    Scenario(strict()).given(deposited(5)).when(withdrew(6)).then_raises(ValueError).then_raises(
        ValueError, "overdrawn"
    )


@pytest.mark.parametrize(
    ("amount", "kind", "text", "said"),
    [
        (5, ValueError, "", "expected ValueError, but every handler succeeded"),
        (6, KeyError, "", "expected KeyError, but projection 'strict' failed at position 2"),
        (6, ValueError, "frozen", "expected ValueError with 'frozen', but projection 'strict' failed"),
    ],
)
def test_a_failure_that_differs_is_told(amount: int, kind: type[Exception], text: str, said: str) -> None:
    """D3. No failure, one of another kind and one with another text are not what was expected."""
    with pytest.raises(AssertionError, match=said):
        Scenario(strict()).given(deposited(5)).when(withdrew(amount)).then_raises(kind, text)


def test_a_failure_nobody_expected_fails_the_check() -> None:
    """D3. Neither a row nor all rows can be right when a handler raised; the cause is chained."""
    scenario = Scenario(strict()).when(withdrew(1))
    for check in (lambda: scenario.then(None), lambda: scenario.then_rows({})):
        with pytest.raises(AssertionError, match="failed at position 1") as failed:
            check()
        assert isinstance(failed.value.__cause__, ValueError)


def test_what_is_given_must_not_fail() -> None:
    """D3. A failure before ``when`` is a mistake of the test, not the failure that it asks for."""
    with pytest.raises(AssertionError, match="what is given fails already"):
        Scenario(strict()).given(withdrew(1)).when(withdrew(1)).then_raises(ValueError)


def test_a_row_that_cannot_be_stored_fails_here_too() -> None:
    """D3. Rows are packed as in a runner."""
    unfit = Projection("unfit")
    unfit.when(lambda state, event: {"seen": {1, 2}})
    Scenario(unfit).when(deposited()).then_raises(PayloadError, "set")


def test_a_story_goes_on_after_a_check() -> None:
    """D3. What happened before a check is given for what comes after it."""
    scenario = Scenario(strict()).when(deposited(5)).then({"balance": 5}).when(withdrew(2)).then({"balance": 3})
    scenario.when(withdrew(9)).then_raises(ValueError)


def test_asynchronous_handlers_are_waited_for() -> None:
    """D3. With a result, without one, and with an error."""
    waiting = Projection("waiting", initial=lambda: {"seen": 0})

    @waiting.when("Seen")
    async def seen(state: Any, event: Any) -> Any:
        return {"seen": state["seen"] + 1}

    @waiting.when("Failed")
    async def failed(state: Any, event: Any) -> Any:
        raise LookupError("not here")

    Scenario(waiting).given(NewEvent("Seen")).when(NewEvent("Seen")).then({"seen": 2})
    Scenario(waiting).given(NewEvent("Seen")).when(NewEvent("Failed")).then_raises(LookupError, "not here")


def test_pure_handlers_replay_to_the_same() -> None:
    """D3. The same events give the same rows again, whatever the batches; the same failure, too."""
    Scenario(balances()).given(deposited(70)).when(withdrew(20), closed(), deposited()).replay_twice()
    Scenario(strict()).given(deposited(1)).when(withdrew(2)).replay_twice()


def test_a_handler_that_remembers_is_found_out_by_a_replay() -> None:
    """D3. What depends on anything but state and event comes out different the second time."""
    calls = count(1)
    forgetful = Projection("forgetful")
    forgetful.when(lambda state, event: {"calls": next(calls)})
    with pytest.raises(AssertionError, match=r"replayed again: rows\['stream-1'\]\['calls'\]: expected 1, is 2"):
        Scenario(forgetful).when(deposited()).replay_twice()


def test_a_handler_that_fails_only_once_is_found_out_by_a_replay() -> None:
    """D3. A failure that a repetition does not have shows, too."""
    calls = count(1)
    moody = Projection("moody")
    moody.when(lambda state, event: {"left": 1 / (next(calls) - 1)})
    with pytest.raises(AssertionError, match="first HandlerFailed"):
        Scenario(moody).when(deposited()).replay_twice()


def test_a_handler_that_needs_its_batch_is_found_out_by_a_replay() -> None:
    """D3. A value that would not come back as it is works inside a batch only, if it is gone at the batch's end."""
    spoilt = Projection("spoilt")

    @spoilt.when("First")
    def first(state: Any, event: Any) -> Any:
        return {"counts": defaultdict(int)}

    @spoilt.when("Then")
    def then(state: Any, event: Any) -> Any:
        state["counts"]["x"] += 1
        return {"count": state["counts"]["x"]}

    with pytest.raises(AssertionError, match="first None, replayed one at a time HandlerFailed"):
        Scenario(spoilt).when(NewEvent("First"), NewEvent("Then")).replay_twice()


def test_failures_are_compared_by_kind_and_place() -> None:
    """D3. A message with an address in memory is never the same twice, and no sign of anything."""
    telling = Projection("telling")

    @telling.when
    def tell(state: Any, event: Any) -> None:
        raise ValueError(object(), next(numbers))

    numbers = count(1)
    Scenario(telling).when(deposited()).replay_twice()


def test_events_of_a_log_keep_their_places(store: EventStore) -> None:
    """D3. What was read from a store can be given, and bare events follow it."""
    store.append("other-1", [NewEvent("X")])
    store.append("account-1", [deposited(1), deposited(2)])
    places = Projection[Any]("places", category="account", initial=lambda: {"places": []})
    places.when(lambda state, event: {"places": [*state["places"], [event.number, event.position]]})
    Scenario(places).given(*all_events(store)).when(deposited(3)).then({"places": [[1, 2], [2, 3], [3, 4]]})


def test_events_that_cannot_follow_each_other_are_refused() -> None:
    """D3. Positions rise; what is no event is no event; given comes first; a key needs an event."""
    first, second = events_for("account-1").event("A").event("B").recorded()
    with pytest.raises(InvalidInput, match="cannot follow position 2"):
        Scenario(balances()).given(second).when(first)
    with pytest.raises(InvalidInput, match="not dict"):
        Scenario(balances()).when({"type": "A"})  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="given comes before when"):
        Scenario(balances()).when(first).given(second)
    with pytest.raises(InvalidInput, match="nothing has happened"):
        Scenario(balances()).then(None)


def test_a_scenario_comes_to_what_a_runner_comes_to(store: EventStore) -> None:
    """D3. The same events through a store and a scenario give the same rows."""
    # given
    one, other = Account("account-1").paid_in(7).paid_in(8), Account("account-2").paid_in(1).closed()
    projection = balances()

    # when
    for built in (one, other):
        store.append(built.stream, built.new())
    catch_up(store, projection)

    # then
    Scenario(projection).given(one).when(other).then_rows(dict(View(store, "balances").items()))


# -- builders -----------------------------------------------------------------------------------


def test_a_builder_counts_numbers_positions_and_time() -> None:
    """D4. From 1, or from where it is told; each event a second after the one before."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    plain = events_for("account-1").event("A", {"x": 1}, {"by": "me"}).event("B").recorded()
    later = events_for("account-2", version=3, position=7).event("C").recorded()
    assert [(e.stream, e.number, e.position) for e in plain + later] == [
        ("account-1", 1, 1), ("account-1", 2, 2), ("account-2", 4, 8),
    ]  # fmt: skip
    assert [e.recorded_at for e in plain] == [start, start + timedelta(seconds=1)]
    assert (plain[0].data, plain[0].metadata, plain[1].data) == ({"x": 1}, {"by": "me"}, None)


def test_builders_that_share_a_clock_follow_each_other_in_time() -> None:
    """D4. The clock can be moved between events."""
    clock = FixedClock()
    one, other = events_for("a-1", clock=clock).event("A"), events_for("b-1", clock=clock).event("B")
    clock.advance(timedelta(days=1))
    one.event("C")
    seconds = [int((e.recorded_at - FixedClock().now()).total_seconds()) for e in [*one, *other]]
    assert seconds == [0, 86402, 1]


def test_what_a_builder_makes_is_what_a_store_gives_back(store: EventStore) -> None:
    """D4. Appended and read, the events equal those that were recorded without a store; repeated, they are known."""
    account = Account("account-1").paid_in(5).closed()
    assert not store.append(account.stream, account.new(), 0).duplicate
    assert all_events(store) == account.recorded() == list(account)
    assert store.append(account.stream, account.new(), 0).duplicate
    assert len(account) == 2


def test_two_builders_make_different_events(store: EventStore) -> None:
    """D4. Ids are never the same, so what one built is not taken for a repetition of another."""
    for _ in range(2):
        assert not store.append("account-1", Account("account-1").paid_in().new()).duplicate


def test_a_builder_that_cannot_be_is_refused() -> None:
    """D4. A log has at least as many events as a stream in it; names are those of streams."""
    wrongs: list[dict[str, Any]] = [{"version": 2, "position": 1}, {"version": -1}, {"stream": ""}]
    for wrong in wrongs:
        with pytest.raises(InvalidInput):
            events_for(**{"stream": "a-1", **wrong})


# -- the clock ----------------------------------------------------------------------------------


def test_a_fixed_clock_stands_until_it_is_moved() -> None:
    """A datetime and microseconds show the same moment; seconds and timedeltas move it."""
    start = datetime(2026, 5, 4, 3, 2, 1, 7, tzinfo=UTC)
    clock = FixedClock(start)
    assert clock.now() == clock.now() == start
    assert clock.advance(0.25) == start + timedelta(milliseconds=250) == clock.now()
    before = clock.microseconds()
    clock.advance(timedelta(microseconds=1))
    assert (
        clock.microseconds()
        == before + 1
        == (clock.now() - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    )


def test_a_fixed_clock_never_goes_back() -> None:
    """Nor does it start at a time without a zone."""
    with pytest.raises(InvalidInput, match="cannot be advanced by -1"):
        FixedClock().advance(-1)
    with pytest.raises(InvalidInput, match="zone"):
        FixedClock(datetime(2026, 1, 1))
