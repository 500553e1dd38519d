"""Views as they were after a position, and at a time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from accounts import (
    append_history,
    balances,
    deposited,
    failing_at,
    plain_fold,
)
from looks import redis_contents

from runner import (
    EventStore,
    HandlerFailed,
    InvalidInput,
    operations,
    state_at,
)
from runner.errors import LogTrimmed
from runner.projections import as_of
from runner.projections.as_of import AsOf
from runner.testing import TEST_SETTINGS, all_events, async_memory_store, memory_store


def test_a_view_as_it_was_after_any_position(store: EventStore) -> None:
    """state_at(position=) is the fold of the events up to that position, for every position; it writes nothing."""
    # given
    append_history(store)
    history = all_events(store)
    projection = balances()
    before = redis_contents(store)

    # when
    past = [state_at(store, projection, position=position) for position in range(len(history) + 2)]

    # then
    assert past == [plain_fold(history[:position]) for position in range(len(history) + 2)]
    assert redis_contents(store) == before


def test_a_view_as_it_was_at_a_time(store: EventStore) -> None:
    """state_at(time=) takes what was recorded up to and with that moment, in whatever order the log has it."""
    # given
    noon = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    minute = timedelta(minutes=1)
    store.append("account-1", deposited(1, recorded_at=noon))
    store.append("account-1", deposited(2, recorded_at=noon + 2 * minute))
    store.append("account-1", deposited(4, recorded_at=noon + minute))
    projection = balances()

    # when
    balance = {
        after: state_at(store, projection, time=noon + after * minute, key="account-1") for after in (-1, 0, 1, 2)
    }

    # then
    assert balance == {
        -1: None,
        0: {"balance": 1, "numbers": [1]},
        1: {"balance": 5, "numbers": [1, 3]},
        2: {"balance": 7, "numbers": [1, 2, 3]},
    }


def test_one_row_of_a_view_as_it_was(store: EventStore) -> None:
    """state_at(key=) gives that row alone; None where it is missing or was deleted."""
    # given
    append_history(store)
    projection = balances()

    # when
    row = state_at(store, projection, position=1, key="account-1")

    # then
    assert row == {"balance": 100, "numbers": [1]}
    assert state_at(store, projection, position=4, key="account-2") is None
    assert state_at(store, projection, position=4, key="account-3") is None
    assert state_at(store, projection) == plain_fold(all_events(store))


def test_the_past_of_a_long_log_is_folded_in_parts() -> None:
    """state_at folds a thousand events at a time; the state goes on from part to part."""
    # given
    with memory_store(settings=TEST_SETTINGS) as store:
        store.append("account-1", [deposited(1) for _ in range(2500)])

        # when
        row = state_at(store, balances(), position=2400, key="account-1")

    # then
    assert row is not None
    assert row["balance"] == 2400
    assert row["numbers"] == list(range(1, 2401))


def test_the_past_is_held_in_memory_a_thousand_events_at_a_time() -> None:
    """It asks to be folded when it holds so many; an event after the time that was asked for is none of them."""
    # given
    with memory_store() as store:
        noon = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
        store.append("account-1", deposited(1, recorded_at=noon + timedelta(minutes=1)))
        store.append("account-1", [deposited(1, recorded_at=noon) for _ in range(1000)])
        events = all_events(store)
        past = AsOf(balances(), None, noon, 1)

        # when
        full = [past.add(event) for event in events]
        store.run(past.fold())

    # then
    assert full == [*(False for _ in range(1000)), True]
    assert not past.add(events[1])


def test_the_past_that_is_held_in_memory_is_bounded_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few large events are folded at once, and the count begins anew."""
    # given
    with memory_store() as store:
        store.append("account-1", [deposited(1) for _ in range(5)])
        events = all_events(store)
        monkeypatch.setattr(as_of, "BATCH_BYTES", sum(event._size for event in events[:2]))
        past = AsOf(balances(), None, None, 1)

        # when
        full = []
        for event in events:
            full.append(past.add(event))
            if full[-1]:
                store.run(past.fold())

    # then
    assert full == [False, True, False, True, False]


@pytest.mark.parametrize(
    "wrong",
    [
        {"position": 1, "time": datetime(2026, 1, 1, tzinfo=UTC)},
        {"position": -1},
        {"position": "1"},
        {"time": datetime(2026, 1, 1)},
        {"time": "yesterday"},
        {"key": ""},
    ],
)
def test_a_past_that_cannot_be_told_is_refused(wrong: dict[str, Any]) -> None:
    """state_at refuses a position and a time together, negative positions, times without a zone and empty keys."""
    with memory_store() as store, pytest.raises(InvalidInput):
        state_at(store, balances(), **wrong)


def test_a_position_in_a_store_of_several_partitions_is_refused() -> None:
    """With several partitions no one position says when; a time does."""
    # given
    with memory_store(partitions=3) as store:
        for account in range(6):
            store.append(f"account-{account}", deposited(account))

        # when
        with pytest.raises(InvalidInput, match="3 partitions"):
            state_at(store, balances(), position=1)

        # then
        assert state_at(store, balances(), time=datetime.now(UTC)) == plain_fold(all_events(store))


def test_a_handler_that_fails_in_the_past_is_raised() -> None:
    """state_at raises HandlerFailed with the position, as a run would."""
    # given
    with memory_store() as store:
        append_history(store)

        # then
        with pytest.raises(HandlerFailed) as raised:
            state_at(store, failing_at(4))
    assert raised.value.position == 4


def test_after_a_trim_the_hint_is_that_of_a_view() -> None:
    """Whatever position is asked for, and on both faces: a view as it was needs the first event."""

    def told(error: LogTrimmed) -> tuple[int, str]:
        return error.floor, error.hint

    async def asked_on_a_loop() -> tuple[int, str]:
        async with async_memory_store() as store:
            await store.append("account-1", [deposited(1), deposited(2), deposited(3)])
            await operations.trim(store, 3, although_nobody_has_read_them=True)
            with pytest.raises(LogTrimmed) as raised:
                await state_at(store, balances(), position=3)
            return told(raised.value)

    with memory_store() as store:
        store.append("account-1", [deposited(1), deposited(2), deposited(3)])
        operations.trim(store, 3, although_nobody_has_read_them=True)
        with pytest.raises(LogTrimmed) as raised:
            state_at(store, balances(), position=3)
    assert told(raised.value) == asyncio.run(asked_on_a_loop()) == (2, as_of.NOT_AS_IT_WAS)
