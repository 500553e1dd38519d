"""Aggregates tested without a store: what a command records, refuses, and makes of the state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from runner import EventStore, InvalidInput, NewEvent
from runner.aggregates import Aggregate, Happened, Repository, handles
from runner.errors import PayloadError
from runner.testing import AggregateScenario, EventsFor, all_events


class Purse(Aggregate):
    """Coins go in and out; it is never less than empty."""

    coins = 0

    def fill(self, coins: int, by: Any = None) -> None:
        self.record("Filled", {"coins": coins}, by)

    def spend(self, coins: int) -> None:
        if coins > self.coins:
            raise ValueError(f"{coins} is more than {self.coins}")
        self.record("Spent", {"coins": coins})

    async def spend_later(self, coins: int) -> None:
        self.spend(coins)

    @handles("Filled")
    def _filled(self, event: Happened) -> None:
        if event.data["coins"] < 0:
            raise ArithmeticError("less than nothing")
        self.coins += event.data["coins"]

    @handles("Spent")
    def _spent(self, event: Happened) -> None:
        self.coins -= event.data["coins"]


class Events(EventsFor):
    def filled(self, coins: int) -> Events:
        return self.event("Filled", {"coins": coins})


FILLED, SPENT = NewEvent("Filled", {"coins": 5}), NewEvent("Spent", {"coins": 3})


def purse() -> AggregateScenario[Purse]:
    return AggregateScenario(Purse).given(FILLED)


def test_an_aggregate_is_tested_in_a_line() -> None:
    """What is given is replayed, the command runs, and what it records is compared."""
    purse().when(lambda it: it.spend(3)).then(NewEvent("Spent", {"coins": 3})).then_state({"coins": 2})


def test_several_commands_and_builders_of_events() -> None:
    """Commands run one after the other; builders stand for their events, given or expected."""
    story = AggregateScenario(Purse, id="mine").given(Events("purse-mine").filled(1), FILLED)
    story.when(lambda it: it.fill(2)).when(lambda it: it.fill(4)).then(Events("purse-mine").filled(2).filled(4))
    story.then_state({"coins": 12})


def test_metadata_is_compared_too() -> None:
    """An event that says who did it is not one that does not."""
    story = purse().when(lambda it: it.fill(1, by={"user": "Ada"}))
    story.then(NewEvent("Filled", {"coins": 1}, {"user": "Ada"}))
    with pytest.raises(AssertionError, match=r"expected None, is {'user': 'Ada'}"):
        story.then(NewEvent("Filled", {"coins": 1}))


def test_a_command_that_records_nothing() -> None:
    """No expected events: none may be recorded."""
    purse().when(lambda it: None).then()
    with pytest.raises(AssertionError, match="recorded: expected "):
        purse().when(lambda it: it.fill(1)).then()


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (lambda it: it.then(NewEvent("Spent", {"coins": 4})), r"recorded\[0\]\[1\]\['coins'\]: expected 4, is 3"),
        (lambda it: it.then(NewEvent("Lost", {"coins": 3})), r"recorded\[0\]\[0\]: expected 'Lost', is 'Spent'"),
        (lambda it: it.then_state({"coins": 3}), r"state\['coins'\]: expected 3, is 2"),
        (lambda it: it.then_raises(ValueError), "expected ValueError, but every command succeeded"),
    ],
)
def test_what_differs_is_shown(check: Callable[[Any], Any], said: str) -> None:
    """A check that fails names the place, what was expected, and what is."""
    with pytest.raises(AssertionError, match=said):
        check(purse().when(lambda it: it.spend(3)))


def test_a_command_that_should_raise_does() -> None:
    """By its kind and a part of its text; another kind or another text fails the check."""
    story = purse().when(lambda it: it.spend(9)).then_raises(ValueError, "more than 5")
    with pytest.raises(AssertionError, match="expected TypeError, but ValueError: 9 is more than 5"):
        story.then_raises(TypeError)
    with pytest.raises(AssertionError, match="expected ValueError with 'less', but ValueError"):
        story.then_raises(ValueError, "less")


def test_a_failure_nobody_expected_fails_the_check() -> None:
    """It is named, and the cause of the AssertionError."""
    with pytest.raises(AssertionError, match="ValueError: 9 is more than 5") as failed:
        purse().when(lambda it: it.spend(9)).then(SPENT)
    assert isinstance(failed.value.__cause__, ValueError)


def test_what_is_given_must_not_fail() -> None:
    """A handler that raises at what is given is no answer to the command."""
    with pytest.raises(AssertionError, match="what is given fails already: ArithmeticError"):
        AggregateScenario(Purse).given(NewEvent("Filled", {"coins": -1})).when(lambda it: None).then()


def test_what_could_not_be_stored_fails_here_too() -> None:
    """A recorded event is packed as for a store."""
    AggregateScenario(Purse).when(lambda it: it.fill(object())).then_raises(PayloadError, "object")  # type: ignore[arg-type]


def test_a_story_goes_on_after_a_check() -> None:
    """What a command recorded is given for the next; what one that raised had recorded is not."""
    story = purse().when(lambda it: it.spend(3)).then(SPENT)
    story.when(lambda it: (it.fill(7), it.spend(100))).then_raises(ValueError)
    story.when(lambda it: it.spend(2)).then(NewEvent("Spent", {"coins": 2})).then_state({"coins": 0})
    with pytest.raises(InvalidInput, match="given comes before when"):
        story.given(FILLED)


def test_asynchronous_commands_are_waited_for() -> None:
    """As `Repository.change` does."""
    purse().when(lambda it: it.spend_later(3)).then(SPENT)
    purse().when(lambda it: it.spend_later(9)).then_raises(ValueError)


def test_a_command_that_changes_the_state_itself_is_found_out_by_a_replay() -> None:
    """State that no event tells of is gone when the aggregate is loaded."""
    purse().when(lambda it: it.spend(3)).replay_twice()
    with pytest.raises(AssertionError, match=r"loaded: state\['coins'\]: expected 50, is 5"):
        purse().when(lambda it: setattr(it, "coins", 50)).replay_twice()


def test_a_handler_that_remembers_is_found_out_by_a_replay() -> None:
    """Loading twice must make the same."""
    seen: list[Any] = []

    class Counter(Aggregate):
        def __init__(self, id: str) -> None:  # noqa: A002
            super().__init__(id)
            self.seen = 0

        @handles("Seen")
        def _seen(self, event: Happened) -> None:
            seen.append(event)
            self.seen = len(seen)

    with pytest.raises(AssertionError, match="loaded"):
        AggregateScenario(Counter).given(NewEvent("Seen")).when(lambda it: None).replay_twice()


def test_a_scenario_comes_to_what_a_repository_comes_to(store: EventStore) -> None:
    """The same history and command, in a store: the same events and the same state."""
    purses = Repository(store, Purse, category="purse")
    purses.change("1", lambda it: it.fill(5))
    purses.change("1", lambda it: it.spend(3))
    last = all_events(store)[-1]
    story = purse().when(lambda it: it.spend(3))
    story.then(NewEvent(last.type, last.data, last.metadata)).then_state(purses.load("1").state())


def test_a_scenario_may_be_told_where_an_event_loop_runs() -> None:
    """In an asynchronous test: as long as nothing has to be waited for, there is no second loop."""

    async def test() -> None:
        purse().when(lambda it: it.spend(3)).then(SPENT)

    asyncio.run(test())
