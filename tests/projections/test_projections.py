"""Projections: what a view holds at rest, whatever the events, the pages and the cache."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from accounts import (
    PAGE_SIZES,
    append_history,
    balances,
    checkpoint_of,
    closed,
    counting_all,
    deposited,
    noted,
    plain_fold,
    reopened,
    rows_of,
    unsettled,
    withdrew,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import (
    EventStore,
    InvalidInput,
    NewEvent,
    Projection,
    RecordedEvent,
    View,
    catch_up,
    state_at,
)
from runner.progress.builds import reset
from runner.progress.checkpoint import Checkpoint
from runner.progress.status import status
from runner.sync.engine import Engine
from runner.testing import TEST_SETTINGS, all_events

_stores = count(1)

# -- catching up --------------------------------------------------------------------------------


def test_catching_up_applies_what_is_new_and_says_how_many(store: EventStore) -> None:
    """C1. catch_up applies what is new and returns how many events were applied; again without new events: 0."""
    # given
    store.append("account-1", [deposited(100), withdrew(30)])

    # when
    first = catch_up(store, balances())
    again = catch_up(store, balances())
    store.append("account-1", [deposited(1)])
    later = catch_up(store, balances())

    # then
    assert (first, again, later) == (2, 0, 1)
    assert rows_of(store) == {"account-1": {"balance": 71, "numbers": [1, 2, 3]}}


def test_catching_up_with_an_empty_store_applies_nothing(store: EventStore) -> None:
    """C1. With no events there are no rows, and the checkpoint stays at 0."""
    # when
    applied = catch_up(store, balances())

    # then
    assert applied == 0
    assert rows_of(store) == {}
    assert checkpoint_of(store) == Checkpoint(0, b"")


def test_several_projections_catch_up_together_from_where_each_of_them_stands(small_store: EventStore) -> None:
    """C1. Projections at different positions are each applied from their own checkpoint, and the counts add up."""
    # given
    append_history(small_store)
    catch_up(small_store, balances("early"))
    small_store.append("account-9", [deposited(1), deposited(2), deposited(3)])

    # when
    applied = catch_up(small_store, balances("early"), balances("late"), counting_all())

    # then
    expected = plain_fold(all_events(small_store))
    assert rows_of(small_store, "early") == rows_of(small_store, "late") == expected
    assert View(small_store, "all")["total"] == {"Deposited": 8, "Withdrew": 1, "Closed": 1, "Noted": 2}
    assert applied == 3 + 10 + 12


def test_declared_and_registered_handlers_make_the_same_projection(store: EventStore) -> None:
    """C3. A handler declared with a decorator and one registered with a call do the same; other types pass by."""

    # given
    def add(state: Any, event: RecordedEvent) -> None:
        state["balance"] = state.get("balance", 0) + event.data["amount"]

    declared, registered = Projection("declared", category="account"), Projection("registered", category="account")
    declared.when("Deposited")(add)
    registered.when("Deposited", add)
    append_history(store)

    # when
    applied = [catch_up(store, projection) for projection in (declared, registered)]

    # then
    assert declared.types == registered.types == ("Deposited",)
    assert rows_of(store, "declared") == rows_of(store, "registered")
    assert rows_of(store, "declared")["account-1"] == {"balance": 105}
    assert applied == [5, 5]


def test_the_checkpoint_is_the_last_event_of_the_batch_whoever_wanted_it(store: EventStore) -> None:
    """C4. After a batch the checkpoint is the position and id of its last event, also where no handler wanted it."""
    # given
    last = noted()
    store.append("account-1", deposited())
    store.append("order-1", [noted(), last])

    # when
    catch_up(store, balances())

    # then
    assert checkpoint_of(store) == Checkpoint(3, last.id.bytes)


def test_a_projection_that_wants_nothing_still_moves_its_checkpoint(store: EventStore) -> None:
    """C4. A projection whose handlers match no event ends at the last position with no rows."""
    # given
    append_history(store)
    nothing = Projection("nothing")
    nothing.when("NeverHappens", lambda state, event: None)

    # when
    applied = catch_up(store, nothing)

    # then
    assert applied == 0
    assert checkpoint_of(store, "nothing").position == store.last_position()
    assert rows_of(store, "nothing") == {}


def test_a_new_process_resumes_where_the_last_one_was(small_store: EventStore, url: str) -> None:
    """C5. State and position are saved: a new process applies only what came later, onto the rows that are there."""
    # given
    append_history(small_store)
    catch_up(small_store, balances())
    resumed_after = small_store.last_position()
    small_store.append("account-1", [deposited(1000)])
    handled: list[int] = []

    # when
    with reopened(small_store, url) as other:
        catch_up(other, balances(on_event=lambda event: handled.append(event.position)))

    # then
    assert handled == [resumed_after + 1]
    assert rows_of(small_store) == plain_fold(all_events(small_store))


def test_after_a_reset_the_next_run_equals_the_first(small_store: EventStore) -> None:
    """C6. Reset: view and checkpoint are gone, and the next run applies everything again, to equal rows."""
    # given
    append_history(small_store)
    first = catch_up(small_store, balances())
    rows, checkpoint = rows_of(small_store), checkpoint_of(small_store)

    # when
    result = small_store.run(reset(small_store.info.keys[0], "balances"))

    # then
    assert (result.position, result.rows) == (9, len(rows))
    assert rows_of(small_store) == {}
    assert checkpoint_of(small_store) == Checkpoint(0, b"")
    assert catch_up(small_store, balances()) == first
    assert (rows_of(small_store), checkpoint_of(small_store)) == (rows, checkpoint)


def test_a_dry_run_of_a_reset_says_what_would_go_and_removes_nothing(store: EventStore) -> None:
    """C6. With dry_run, reset counts and changes nothing."""
    # given
    append_history(store)
    catch_up(store, balances())
    rows, checkpoint = rows_of(store), checkpoint_of(store)

    # when
    result = store.run(reset(store.info.keys[0], "balances", dry_run=True))

    # then
    assert (result.position, result.rows) == (9, 3)
    assert (rows_of(store), checkpoint_of(store)) == (rows, checkpoint)


def test_a_reset_of_one_projection_leaves_the_others_alone(store: EventStore) -> None:
    """C6. Reset forgets the projection it names and no other; one that the store does not know is refused."""
    # given
    append_history(store)
    catch_up(store, balances("kept"), balances("forgotten"))
    kept = rows_of(store, "kept")

    # when
    store.run(reset(store.info.keys[0], "forgotten"))

    # then
    assert rows_of(store, "kept") == kept
    with pytest.raises(InvalidInput, match="forgotten"):
        store.run(reset(store.info.keys[0], "forgotten"))


def test_a_reset_under_a_running_projection_lets_it_begin_anew(small_store: EventStore) -> None:
    """C6. A runner that was at work when its projection was reset cannot commit what it had: it begins anew."""
    # given
    append_history(small_store)
    handled: list[int] = []

    def reset_once(event: RecordedEvent) -> None:
        handled.append(event.position)
        if handled == [1, 2, 3, 4]:
            small_store.run(reset(small_store.info.keys[0], "balances"))

    # when
    catch_up(small_store, balances(on_event=reset_once))

    # then
    assert handled[4:].count(1) == 1
    assert rows_of(small_store) == plain_fold(all_events(small_store))
    assert small_store.run(status(small_store.info.keys[0], "balances"))[0].applied == 7


# -- any order of events, any pages -------------------------------------------------------------


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, NewEvent]]:
    """Events over a few accounts and a stream of another category, in any order."""
    kinds = st.sampled_from([deposited, withdrew, closed, noted])
    streams = st.sampled_from(["account-1", "account-2", "account-3", "account", "accounts-1"])
    events: list[tuple[str, NewEvent]] = []
    for kind, stream, amount in draw(st.lists(st.tuples(kinds, streams, st.integers(0, 1000)), max_size=20)):
        events.append((stream, kind(amount) if kind in (deposited, withdrew) else kind()))
    return events


def apply_in_parts(store: EventStore, history: list[tuple[str, NewEvent]], splits: list[int]) -> int:
    """Append a history with a catch_up at every split and at the end; how many events were applied."""
    applied = 0
    for place, (stream, event) in enumerate(history):
        if place in splits:
            applied += catch_up(store, balances(), counting_all())
        store.append(stream, event)
    return applied + catch_up(store, balances(), counting_all())


def check_against_a_plain_fold(
    url: str, history: list[tuple[str, NewEvent]], splits: list[int], page_size: int, cache_rows: int
) -> None:
    # given
    settings = replace(TEST_SETTINGS, page_size=page_size, cache_rows=cache_rows)
    with EventStore.open(url, name=f"any{next(_stores)}-{os.getpid()}", settings=settings) as store:
        # when
        applied = apply_in_parts(store, history, splits)

        # then
        events = all_events(store)
        assert rows_of(store) == plain_fold(events)
        assert rows_of(store, "all").get("total", {}) == Counter(event.type for event in events)
        wanted = [e for e in events if e.category == "account" and e.type != "Noted"]
        assert applied == len(wanted) + len(events)
        assert state_at(store, balances()) == rows_of(store)
        assert checkpoint_of(store).position == len(history)


any_history = given(
    history=histories(),
    splits=st.lists(st.integers(0, 20), max_size=3),
    page_size=st.sampled_from(PAGE_SIZES),
    cache_rows=st.sampled_from([0, 1, 2, 1000]),
)


@settings(max_examples=50)
@any_history
def test_any_history_in_any_pages_equals_a_plain_fold(
    history: list[tuple[str, NewEvent]], splits: list[int], page_size: int, cache_rows: int
) -> None:
    """C12. Whatever the events, the page size, the cache and the points of rest: the view is the plain fold."""
    check_against_a_plain_fold("memory:", history, splits, page_size, cache_rows)


@pytest.mark.real
@settings(max_examples=15)
@any_history
def test_any_history_in_any_pages_equals_a_plain_fold_on_a_server(
    real_url: str, history: list[tuple[str, NewEvent]], splits: list[int], page_size: int, cache_rows: int
) -> None:
    """C12. The same on a real server."""
    check_against_a_plain_fold(real_url, history, splits, page_size, cache_rows)


def test_running_a_projection_twice_from_scratch_gives_equal_views(small_store: EventStore) -> None:
    """C12. Two replays of the same events, as two projections and after a reset, give equal views."""
    # given
    append_history(small_store)

    # when
    catch_up(small_store, balances("one"))
    catch_up(small_store, balances("two"))
    first = rows_of(small_store, "one")
    small_store.run(reset(small_store.info.keys[0], "one"))
    catch_up(small_store, balances("one"))

    # then
    assert first == rows_of(small_store, "one") == rows_of(small_store, "two") == plain_fold(all_events(small_store))


@pytest.mark.parametrize("cache_rows", [0, 3])
def test_rows_that_fell_out_of_the_cache_are_read_again(url: str, fresh_name: str, cache_rows: int) -> None:
    """C12. A cache that is far too small for the rows gives the same view."""
    # given
    with EventStore.open(url, name=fresh_name, settings=unsettled(cache_rows)) as store:
        for _ in range(3):
            for account in range(10):
                store.append(f"account-{account}", deposited(account))
        store.append("account-4", [closed(), deposited(1)])

        # when
        engine = Engine(store, [balances()], live=False)
        engine.run_to_end()

        # then
        assert rows_of(store) == plain_fold(all_events(store))
        assert len(engine.assignments[0].rows) <= max(cache_rows, 2)


# -- rows ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", PAGE_SIZES)
def test_a_row_that_was_deleted_begins_anew(url: str, fresh_name: str, page_size: int) -> None:
    """DELETE removes the row; a later event starts from the initial state, in the same batch or in another."""
    # given
    with EventStore.open(url, name=fresh_name, settings=replace(TEST_SETTINGS, page_size=page_size)) as store:
        store.append("account-1", [deposited(100), closed(), deposited(1), closed(), closed()])
        store.append("account-2", [deposited(100), closed(), deposited(1)])
        store.append("account-3", [closed(), deposited(2)])

        # when
        catch_up(store, balances())

        # then
        assert rows_of(store) == {
            "account-2": {"balance": 1, "numbers": [3]},
            "account-3": {"balance": 2, "numbers": [2]},
        }
        assert "account-1" not in View(store, "balances")
        assert len(View(store, "balances")) == 2


def test_a_handler_may_return_the_new_state(small_store: EventStore) -> None:
    """A handler changes the state in place and returns None, or returns the new one; falsy states are states."""
    # given
    total = Projection("total", initial=lambda: 10, key=lambda event: "sum")
    total.when("Deposited", lambda state, event: state - event.data["amount"])
    small_store.append("account-1", [deposited(4), deposited(6)])

    # when
    catch_up(small_store, total)

    # then
    assert rows_of(small_store, "total") == {"sum": 0}
    small_store.append("account-1", deposited(1))
    catch_up(small_store, total)
    assert rows_of(small_store, "total") == {"sum": -1}


def test_rows_do_not_share_their_initial_state(store: EventStore) -> None:
    """Every new row gets an initial state of its own."""
    # given
    store.append("account-1", deposited(1))
    store.append("account-2", deposited(2))

    # when
    catch_up(store, balances())

    # then
    assert rows_of(store) == {
        "account-1": {"balance": 1, "numbers": [1]},
        "account-2": {"balance": 2, "numbers": [1]},
    }


def test_rows_go_by_the_key_function(small_store: EventStore) -> None:
    """key= gives the row's key: events of several streams meet in one row, events of one stream go to several."""
    # given
    by_currency = Projection("by-currency", category="account", key=lambda event: event.data["currency"])
    by_currency.when("Deposited", lambda state, event: {"total": state.get("total", 0) + event.data["amount"]})
    small_store.append("account-1", [deposited(1, currency="EUR"), deposited(2, currency="☕ beans")])
    small_store.append("account-2", [deposited(4, currency="EUR"), deposited(8, currency="☕ beans")])

    # when
    catch_up(small_store, by_currency)

    # then
    assert rows_of(small_store, "by-currency") == {"EUR": {"total": 5}, "☕ beans": {"total": 10}}


def test_only_the_category_of_the_projection_reaches_its_handlers(store: EventStore) -> None:
    """category= takes the streams of that category: the name alone and what has it before the first "-", no more."""
    # given
    streams = ["account-1", "account", "account-2-b", "accounts-1", "my-account-1", "Account-1"]
    for stream in streams:
        store.append(stream, deposited())
    projection = Projection("only", category="account")
    projection.when(lambda state, event: None)

    # when
    catch_up(store, projection)

    # then
    assert set(rows_of(store, "only")) == {"account-1", "account", "account-2-b"}
