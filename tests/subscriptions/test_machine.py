"""The subscription machine: inputs in, actions out; no store, no clock, no thread.

Three parts: the scenarios A1 to A18; every row of the transition table, and everything that is not in it; and a
property test that plays driver, log and feed at once, against a machine that is whole and against broken ones.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from subscription_world import Event, World, answer, numbered

from runner.subscriptions import machine as subscription
from runner.subscriptions.machine import (
    PAGE_SIZE,
    Action,
    Appeared,
    CaughtUp,
    Deliver,
    Dropped,
    Finished,
    IllegalInput,
    Input,
    Joined,
    JoinFeed,
    LeaveFeed,
    Left,
    PageCame,
    Read,
    Restart,
    Start,
    State,
    Stop,
    SubscriptionMachine,
)

TRANSITIONS = subscription._TABLE


@dataclass(frozen=True)
class Link:
    """An event that is read through a stream of links: its own number says nothing about its place there."""

    link: int
    number: int


@dataclass
class Driven:
    """A machine with what it has asked for and delivered so far."""

    machine: SubscriptionMachine[Any]
    actions: list[Action] = field(default_factory=list)
    #: The actions that the last input led to.
    latest: list[Action] = field(default_factory=list)

    def give(self, *inputs: Input) -> Driven:
        for given in inputs:
            self.latest = self.machine.receive(given)
            self.actions += self.latest
        return self

    def page(self, *events: Any, end: bool = False, upto: int | None = None, of: Read | None = None) -> Driven:
        """The answer to the last read request, or to an older one; bare numbers stand for events."""
        read = of or self.reads[-1]
        given = [Event(event) if isinstance(event, int) else event for event in events]
        number = self.machine._number
        return self.give(answer(read, given, upto or (number(given[-1]) if given else read.after), end))

    def feed(self, *numbers: int, upto: int | None = None) -> Driven:
        return self.give(Appeared(numbered(*numbers), upto or max(numbers)))

    def live(self, last: int = 0) -> Driven:
        """Through all of an empty or short history, up to ``last``, to where it follows the feed."""
        self.give(Start()).page(*range(self.machine.last + 1, last + 1), end=True)
        return self.give(Joined()).page(end=True)

    @property
    def state(self) -> State:
        return self.machine.state

    @property
    def reads(self) -> list[Read]:
        return [action for action in self.actions if isinstance(action, Read)]

    @property
    def delivered(self) -> list[Any]:
        return [event for action in self.actions if isinstance(action, Deliver) for event in action.events]

    @property
    def numbers(self) -> list[int]:
        return [event.number for event in self.delivered]


def a_machine(number: Callable[[Any], int] = lambda event: event.number, **settings: Any) -> Driven:
    """A machine for the stream ``account-1``, from its first event unless told."""
    return Driven(SubscriptionMachine("account-1", number, **settings))


def asked_after(actions: Sequence[Action]) -> list[int]:
    return [action.after for action in actions if isinstance(action, Read)]


def kinds(actions: Sequence[Action]) -> list[type[Any]]:
    return [type(action) for action in actions]


# -- scenarios ----------------------------------------------------------------------------------


def test_A1_start_asks_for_the_first_page_and_nothing_else() -> None:
    """A1. Start leads to one read: this stream, from the first event, a page of it."""
    # given
    by_default, configured = a_machine(), a_machine(page_size=7)

    # when
    by_default.give(Start())
    configured.give(Start())

    # then
    [read] = by_default.actions
    assert isinstance(read, Read)
    assert (read.source, read.after, read.count) == ("account-1", 0, PAGE_SIZE)
    assert PAGE_SIZE == 100
    assert [read.count for read in configured.reads] == [7]


def test_A2_pages_follow_one_another_and_are_delivered_in_order() -> None:
    """A2. After a page with 32 and 33 that is not the end, the next read starts at 34."""
    # given
    machine = a_machine(after=31).give(Start())

    # when
    machine.page(32, 33)
    after_the_first = asked_after(machine.latest)
    machine.page(34, 35)

    # then
    assert after_the_first == [33]
    assert machine.numbers == [32, 33, 34, 35]
    assert machine.state is State.READING


def test_A3_a_stream_of_links_is_paged_by_the_numbers_of_the_links() -> None:
    """A3. Events whose own number is 0-based or repeats are paged by their link; none is taken for a duplicate."""
    # given
    originals = [Link(32, number=0), Link(33, number=0), Link(34, number=1), Link(35, number=1)]
    machine = a_machine(number=lambda event: event.link, after=31).give(Start())

    # when
    machine.page(*originals[:2])
    after_the_first = asked_after(machine.latest)
    machine.page(*originals[2:])

    # then
    assert after_the_first == [33]
    assert machine.delivered == originals


def test_A4_the_end_of_history_is_delivered_and_then_the_feed_is_joined() -> None:
    """A4. The page that reaches the end delivers its events, then asks to join; nobody is told anything else."""
    # given
    machine = a_machine().give(Start())

    # when
    machine.page(1, 2, end=True)

    # then
    assert machine.latest == [Deliver(numbered(1, 2), 2), JoinFeed()]


def test_A5_an_empty_stream_leads_to_the_feed_at_once() -> None:
    """A5. An empty page at the end asks to join the feed, and delivers nothing."""
    # given
    machine = a_machine().give(Start())

    # when
    machine.page(end=True)

    # then
    assert machine.latest == [JoinFeed()]


def test_A6_catching_up_reads_on_from_the_last_page() -> None:
    """A6. Once the feed confirms, the read goes on after the last page, never from where the feed stands."""
    # given
    machine = a_machine(after=14).give(Start()).page(15, 16, end=True)

    # when
    machine.feed(40).give(Joined())

    # then
    assert kinds(machine.latest) == [Read]
    assert asked_after(machine.latest) == [16]


def test_A7_events_of_the_feed_wait_until_history_is_there() -> None:
    """A7. The feed brings 4 while 2 and 3 are still being read: each is delivered once, in order."""
    # given
    machine = a_machine().give(Start()).page(1, end=True).give(Joined())

    # when
    machine.feed(4)
    while_catching_up = list(machine.numbers)
    machine.page(2).page(3, 4, end=True)

    # then
    assert while_catching_up == [1]
    assert machine.numbers == [1, 2, 3, 4]
    assert machine.state is State.LIVE
    assert machine.actions.count(CaughtUp()) == 1


def test_A8_a_restart_while_reading_repeats_the_last_request() -> None:
    """A8. Reading from 10, a page of two came and 12 was asked for: a restart asks for 12 again."""
    # given
    machine = a_machine(after=9).give(Start()).page(10, 11)
    before = asked_after(machine.latest)

    # when
    machine.give(Restart())

    # then
    assert before == [11]
    assert kinds(machine.latest) == [Read]
    assert asked_after(machine.latest) == [11]


def test_A9_both_answers_to_a_repeated_request_deliver_each_event_once() -> None:
    """A9. The request was sent twice; pages 1-2 and 1-3 come: 1, 2, 3 are delivered once."""
    # given
    machine = a_machine().give(Start(), Restart())
    first, second = machine.reads

    # when
    machine.page(1, 2, of=first).page(1, 2, 3, of=second)

    # then
    assert machine.numbers == [1, 2, 3]


def test_A9_an_answer_from_before_the_join_does_not_end_the_catch_up() -> None:
    """A9. The second answer to a repeated request was read before the feed was joined; what came between is read."""
    # given
    machine = a_machine().give(Start(), Restart())
    first, second = machine.reads
    machine.page(end=True, of=second).give(Joined())  # event 1 was appended just before the feed confirmed

    # when
    machine.page(end=True, of=first)
    after_the_late_answer = machine.state
    machine.page(1, end=True)
    machine.feed(2)

    # then
    assert after_the_late_answer is State.CATCHING_UP
    assert machine.numbers == [1, 2]


def test_A10_a_restart_while_catching_up_leaves_reads_and_joins_again() -> None:
    """A10. It leaves the feed; once that is confirmed it reads after the last page, then joins again."""
    # given
    machine = a_machine().give(Start()).page(1, end=True).give(Joined()).page(2, 3)

    # when
    machine.give(Restart())
    on_restart = machine.latest
    machine.give(Left())
    on_leaving = asked_after(machine.latest)
    machine.page(end=True)

    # then
    assert on_restart == [LeaveFeed()]
    assert on_leaving == [3]
    assert machine.latest == [JoinFeed()]


def test_A11_a_restart_throws_away_what_is_held() -> None:
    """A11. Held events are dropped by a restart and read again: 1, 2, 3 are delivered, each once."""
    # given
    machine = a_machine().give(Start()).page(end=True).give(Joined()).feed(2).page(1)

    # when
    machine.give(Restart(), Left()).page(2, end=True)
    machine.give(Joined()).feed(3).page(end=True)

    # then
    assert machine.numbers == [1, 2, 3]
    assert machine.state is State.LIVE


def test_A11_nothing_held_before_a_restart_is_delivered_after_it() -> None:
    """A11. What the feed brought before a restart never comes out of the machine: history has the last word."""
    # given
    machine = a_machine().give(Start()).page(end=True).give(Joined()).feed(1)

    # when
    machine.give(Restart(), Left()).page(end=True).give(Joined()).page(end=True)

    # then
    assert machine.state is State.LIVE
    assert machine.numbers == []


def test_A12_a_restart_while_live_leaves_and_reads_on() -> None:
    """A12. Live up to 2, a restart leaves the feed; once that is confirmed it reads after 2."""
    # given
    machine = a_machine().live().feed(1).feed(2)

    # when
    machine.give(Restart())
    on_restart = machine.latest
    machine.give(Left())

    # then
    assert on_restart == [LeaveFeed()]
    assert kinds(machine.latest) == [Read]
    assert asked_after(machine.latest) == [2]


def test_A13_unsubscribing_leaves_the_feed_for_this_subscription_alone() -> None:
    """A13. Stop asks to leave the feed and ends once that is confirmed; another subscription goes on."""
    # given
    machine, other = a_machine().live(1), a_machine().live(1)

    # when
    machine.give(Stop())
    on_stop = machine.latest
    machine.give(Left())
    other.feed(2)

    # then
    assert on_stop == [LeaveFeed()]
    assert machine.latest == [Finished(None)]
    assert machine.state is State.CLOSED
    assert (other.state, other.numbers) == (State.LIVE, [1, 2])


def test_A14_what_the_feed_brings_after_a_stop_is_not_delivered() -> None:
    """A14. Whoever leaves has the events that were taken, and gets no more while the feed is being left."""
    # given
    machine = a_machine().live().feed(1).feed(2)

    # when
    machine.give(Stop()).feed(3).give(Left())

    # then
    assert machine.numbers == [1, 2]
    assert kinds(machine.actions[-2:]) == [LeaveFeed, Finished]
    assert machine.actions[-1] == Finished(None)


@pytest.mark.parametrize("resubscribe", [False, True])
def test_A15_a_drop_on_request_ends_without_a_reason(resubscribe: bool) -> None:
    """A15. Dropped on request while live: what was delivered is all that comes, and the end carries no reason."""
    # given
    machine = a_machine(resubscribe=resubscribe).live().feed(1, 2)

    # when
    machine.give(Dropped())

    # then
    assert machine.latest == [Finished(None)]
    assert machine.numbers == [1, 2]
    assert machine.state is State.CLOSED


def test_A16_a_drop_for_a_reason_ends_with_the_reason() -> None:
    """A16. Dropped by the feed while live: the events before it are delivered, then the end carries the reason."""
    # given
    machine = a_machine().live().feed(1, 2)

    # when
    machine.give(Dropped("too slow"))

    # then
    assert machine.latest == [Finished("too slow")]
    assert machine.numbers == [1, 2]


def test_A16_with_resubscription_a_drop_goes_back_to_reading() -> None:
    """A16. With automatic resubscription it reads after the last event instead, and joins again at the end."""
    # given
    machine = a_machine(resubscribe=True).live().feed(1, 2)

    # when
    machine.give(Dropped("too slow"))
    on_drop = machine.latest
    machine.page(3, end=True).give(Joined()).page(end=True).feed(4)

    # then
    assert kinds(on_drop) == [Read]
    assert asked_after(on_drop) == [2]
    assert machine.numbers == [1, 2, 3, 4]
    assert machine.state is State.LIVE


def test_A17_a_drop_before_the_first_page_ends_with_the_reason() -> None:
    """A17. Dropped before anything came: the end carries the reason, and nothing was delivered."""
    # given
    machine = a_machine().give(Start())

    # when
    machine.give(Dropped("the feed failed"))

    # then
    assert machine.latest == [Finished("the feed failed")]
    assert machine.delivered == []


def test_A18_an_input_that_is_not_allowed_changes_nothing() -> None:
    """A18. A live event while history is read is refused by name; the machine goes on as if it had not come."""
    # given
    machine = a_machine().give(Start())

    # when
    with pytest.raises(IllegalInput) as refused:
        machine.feed(7)
    machine.page(1, end=True)

    # then
    assert (refused.value.state, refused.value.given) == (State.READING, Appeared(numbered(7), 7))
    assert machine.latest == [Deliver(numbered(1), 1), JoinFeed()]


# -- the table ----------------------------------------------------------------------------------

#: How each state is reached. Nothing has come but event 1, and it is delivered where history was read.
REACHED: dict[State, Callable[[Driven], Driven]] = {
    State.NEW: lambda machine: machine,
    State.READING: lambda machine: machine.give(Start()),
    State.JOINING: lambda machine: machine.give(Start()).page(1, end=True),
    State.CATCHING_UP: lambda machine: machine.give(Start()).page(1, end=True).give(Joined()),
    State.LIVE: lambda machine: machine.live(1),
    State.LEAVING: lambda machine: machine.live(1).give(Restart()),
    State.CLOSING: lambda machine: machine.live(1).give(Stop()),
    State.CLOSED: lambda machine: machine.live(1).give(Stop(), Left()),
}

BROUGHT = Appeared(numbered(2), 2)
ON_REQUEST, TOO_SLOW = Dropped(), Dropped("too slow")


def reads(after: int) -> tuple[type[Any], int]:
    """Stands for a read request in an expectation."""
    return Read, after


def delivers(*numbers: int) -> Deliver[Event]:
    return Deliver(numbered(*numbers), max(numbers))


@dataclass(frozen=True)
class Page:
    """Stands for the answer to the last request that the machine made."""

    numbers: tuple[int, ...]
    end: bool


MORE, LAST, NONE = Page((2,), end=False), Page((2,), end=True), Page((), end=True)

#: State, input, the state after it, the actions.
ROWS: list[tuple[State, Input | Page, State, list[Any]]] = [
    (State.NEW, Start(), State.READING, [reads(0)]),
    (State.NEW, Stop(), State.CLOSED, [Finished()]),
    (State.READING, Page((1,), end=False), State.READING, [delivers(1), reads(1)]),
    (State.READING, Page((1,), end=True), State.JOINING, [delivers(1), JoinFeed()]),
    (State.READING, NONE, State.JOINING, [JoinFeed()]),
    (State.READING, Restart(), State.READING, [reads(0)]),
    (State.READING, ON_REQUEST, State.CLOSED, [Finished()]),
    (State.READING, TOO_SLOW, State.CLOSED, [Finished("too slow")]),
    (State.READING, Stop(), State.CLOSED, [Finished()]),
    (State.JOINING, Joined(), State.CATCHING_UP, [reads(1)]),
    (State.JOINING, BROUGHT, State.JOINING, []),
    (State.JOINING, NONE, State.JOINING, []),
    (State.JOINING, Restart(), State.LEAVING, [LeaveFeed()]),
    (State.JOINING, ON_REQUEST, State.CLOSED, [Finished()]),
    (State.JOINING, TOO_SLOW, State.CLOSED, [Finished("too slow")]),
    (State.JOINING, Stop(), State.CLOSING, [LeaveFeed()]),
    (State.CATCHING_UP, MORE, State.CATCHING_UP, [delivers(2), reads(2)]),
    (State.CATCHING_UP, LAST, State.LIVE, [delivers(2), CaughtUp()]),
    (State.CATCHING_UP, NONE, State.LIVE, [CaughtUp()]),
    (State.CATCHING_UP, BROUGHT, State.CATCHING_UP, []),
    (State.CATCHING_UP, Restart(), State.LEAVING, [LeaveFeed()]),
    (State.CATCHING_UP, ON_REQUEST, State.CLOSED, [Finished()]),
    (State.CATCHING_UP, TOO_SLOW, State.CLOSED, [Finished("too slow")]),
    (State.CATCHING_UP, Stop(), State.CLOSING, [LeaveFeed()]),
    (State.LIVE, BROUGHT, State.LIVE, [delivers(2)]),
    (State.LIVE, NONE, State.LIVE, []),
    (State.LIVE, Restart(), State.LEAVING, [LeaveFeed()]),
    (State.LIVE, ON_REQUEST, State.CLOSED, [Finished()]),
    (State.LIVE, TOO_SLOW, State.CLOSED, [Finished("too slow")]),
    (State.LIVE, Stop(), State.CLOSING, [LeaveFeed()]),
    (State.LEAVING, Left(), State.READING, [reads(1)]),
    (State.LEAVING, TOO_SLOW, State.READING, [reads(1)]),
    (State.LEAVING, NONE, State.LEAVING, []),
    (State.LEAVING, BROUGHT, State.LEAVING, []),
    (State.LEAVING, Joined(), State.LEAVING, []),
    (State.LEAVING, Restart(), State.LEAVING, []),
    (State.LEAVING, Stop(), State.CLOSING, []),
    (State.CLOSING, Left(), State.CLOSED, [Finished()]),
    (State.CLOSING, TOO_SLOW, State.CLOSED, [Finished()]),
    (State.CLOSING, NONE, State.CLOSING, []),
    (State.CLOSING, BROUGHT, State.CLOSING, []),
    (State.CLOSING, Joined(), State.CLOSING, []),
    (State.CLOSING, Restart(), State.CLOSING, []),
    (State.CLOSING, Stop(), State.CLOSING, []),
]

#: The rows that differ with automatic resubscription: what the feed drops for a reason is read again.
RESUBSCRIBING: list[tuple[State, Input | Page, State, list[Any]]] = [
    (State.READING, TOO_SLOW, State.READING, [reads(0)]),
    (State.JOINING, TOO_SLOW, State.READING, [reads(1)]),
    (State.CATCHING_UP, TOO_SLOW, State.READING, [reads(1)]),
    (State.LIVE, TOO_SLOW, State.READING, [reads(1)]),
    (State.LIVE, ON_REQUEST, State.CLOSED, [Finished()]),
]


def row_name(part: object) -> str | None:
    if isinstance(part, State):
        return part.value.replace(" ", "-")
    return None if isinstance(part, list) else repr(part)


def check_row(machine: Driven, given: Input | Page, after: State, actions: list[Any]) -> None:
    if isinstance(given, Page):
        machine.page(*given.numbers, end=given.end)
    else:
        machine.give(given)
    seen = [reads(action.after) if isinstance(action, Read) else action for action in machine.latest]
    assert (machine.state, seen) == (after, actions)


@pytest.mark.parametrize(("state", "given", "after", "actions"), ROWS, ids=row_name)
def test_every_row_of_the_table_leads_where_it_should(
    state: State, given: Input | Page, after: State, actions: list[Any]
) -> None:
    """In each state, each input that it allows leads to one state and to exactly these actions."""
    # given
    machine = REACHED[state](a_machine())
    assert machine.state is state

    # when, then
    check_row(machine, given, after, actions)


@pytest.mark.parametrize(("state", "given", "after", "actions"), RESUBSCRIBING, ids=row_name)
def test_every_row_that_differs_with_resubscription_leads_where_it_should(
    state: State, given: Input | Page, after: State, actions: list[Any]
) -> None:
    """With automatic resubscription a drop for a reason reads again, and one on request still ends."""
    # given
    machine = REACHED[state](a_machine(resubscribe=True))
    assert machine.state is state

    # when, then
    check_row(machine, given, after, actions)


def test_the_rows_above_are_those_of_the_machine() -> None:
    """No row of the machine's table is without an expectation, and no expectation without a row."""
    expected = {(state, PageCame if isinstance(given, Page) else type(given)) for state, given, _, _ in ROWS}
    assert expected == set(TRANSITIONS)


#: One input of each type, with something in it where the type has room.
INPUTS: list[Input] = [
    Start(),
    PageCame(0, numbered(5), 5, True),
    Joined(),
    BROUGHT,
    Left(),
    TOO_SLOW,
    Restart(),
    Stop(),
]
ILLEGAL = [(state, given) for state in State for given in INPUTS if (state, type(given)) not in TRANSITIONS]


def test_every_type_of_input_is_tried() -> None:
    """The list of inputs that the next test works with is whole."""
    assert {type(given) for given in INPUTS} == {kind for _, kind in TRANSITIONS}
    assert len(ILLEGAL) + len(TRANSITIONS) == len(State) * len(INPUTS)


@pytest.mark.parametrize(("state", "given"), ILLEGAL, ids=row_name)
def test_every_input_that_is_not_in_the_table_is_refused(state: State, given: Input) -> None:
    """A18. The error names state and input, and the machine is as it was."""
    # given
    machine = REACHED[state](a_machine()).machine
    before = copy.deepcopy(vars(machine))

    # when
    with pytest.raises(IllegalInput) as refused:
        machine.receive(given)

    # then
    assert (refused.value.state, refused.value.given) == (state, given)
    assert state.value in str(refused.value)
    assert repr(given) in str(refused.value)
    assert vars(machine) == before


# -- whatever happens -----------------------------------------------------------------------------


#: A failure is made small once, and not explained: that would take minutes.
ONE_FAILURE: dict[str, Any] = {
    "report_multiple_bugs": False,
    "phases": [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
}
#: The same cases each time, none kept or made small.
QUICK: dict[str, Any] = {"derandomize": True, "database": None, "phases": [Phase.generate]}


def test_whatever_happens_every_event_is_delivered_once_and_in_order() -> None:
    """For all sequences of inputs: what is delivered has no gap and no repeat, and ends at the last event there is.

    Pages of any size, answers late or twice, appends at any time, the feed before or after its confirmation,
    restarts, drops, a stop.
    """
    run_state_machine_as_test(World, settings=settings(max_examples=300, stateful_step_count=30, **ONE_FAILURE))


def test_whatever_happens_takes_the_machine_through_all_its_states() -> None:
    """The world above is not a quiet one: it gives inputs of every type, several in each state."""
    # given
    given_in: dict[State, set[type[Any]]] = {state: set() for state in State}

    class Noted(World):
        def give(self, given: Input) -> None:
            given_in[self.machine.state].add(type(given))
            super().give(given)

    # when
    run_state_machine_as_test(Noted, settings=settings(max_examples=150, stateful_step_count=30, **QUICK))

    # then
    assert set.union(*given_in.values()) == {type(each) for each in INPUTS}
    assert {state for state, given in given_in.items() if len(given) < 2} == {State.NEW, State.CLOSED}


def _live_at_once(machine: SubscriptionMachine[Any], _: Joined) -> list[Action]:
    machine.state = State.LIVE
    return [CaughtUp()]


def _forget_what_is_held(machine: SubscriptionMachine[Any], page: PageCame[Any]) -> list[Action]:
    if page.end:
        machine._held.clear()
    return machine._page(page)


def _repeat_what_was_passed(machine: SubscriptionMachine[Any], batch: Appeared[Any]) -> list[Action]:
    machine.last = max(machine.last, batch.upto)
    return [Deliver(batch.events, machine.last)]


def _go_on_in_the_feed(machine: SubscriptionMachine[Any], _: Restart) -> list[Action]:
    machine.state = State.JOINING
    return [JoinFeed()]


BREAKAGES = {
    "follows the feed without reading up to it": (State.JOINING, Joined, _live_at_once),
    "forgets what it held": (State.CATCHING_UP, PageCame, _forget_what_is_held),
    "delivers again what history had": (State.LIVE, Appeared, _repeat_what_was_passed),
    "joins twice": (State.LIVE, Restart, _go_on_in_the_feed),
}


@pytest.mark.parametrize(("state", "kind", "broken"), BREAKAGES.values(), ids=list(BREAKAGES))
def test_a_broken_machine_does_not_pass(
    state: State, kind: type[Any], broken: Callable[..., list[Action]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above is able to fail: a machine that is broken in one row is found out."""
    # given
    monkeypatch.setitem(TRANSITIONS, (state, kind), broken)
    # Ends with the first example that shows it; how many that takes hangs on the seed.
    quick = settings(max_examples=10_000, stateful_step_count=30, **QUICK)

    # when, then
    with pytest.raises(AssertionError):
        run_state_machine_as_test(World, settings=quick)
