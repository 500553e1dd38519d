"""A world around one subscription machine: driver, log and feed, in which what is under way may come late or twice."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from runner.subscriptions.machine import (
    Appeared,
    Deliver,
    Dropped,
    Finished,
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


@dataclass(frozen=True)
class Event:
    """An event as the machine sees it: something with a number."""

    number: int


def numbered(*numbers: int) -> list[Event]:
    return [Event(number) for number in numbers]


def answer(read: Read, events: Sequence[Any], upto: int, end: bool) -> PageCame[Any]:
    """The answer to ``read``: it repeats whatever a page says of the request it belongs to."""
    told: dict[str, Any] = {"events": events, "upto": upto, "end": end}
    repeated = {
        each.name: getattr(read, each.name)
        for each in fields(PageCame)
        if each.name not in told and hasattr(read, each.name)
    }
    return PageCame(**repeated, **told)


@dataclass
class Request:
    """A read that is under way, with its answer once the log has read the page."""

    read: Read
    page: PageCame[Event] | None = None


class World(RuleBasedStateMachine):
    """Driver, log and feed around one machine. The log is 1, 2, 3 …; ``every`` says which of them are its events.

    From the moment that it takes the machine in, the feed brings what is above ``reached``. What it has brought and
    what it confirms are under way until they are handed to the machine, events in their order. After `LeaveFeed` it
    may go on for a while; a drop throws away what is under way, and stands for the confirmation if one is awaited.
    """

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Request] = []
        #: Answers that came, and may come again.
        self.heard: deque[PageCame[Event]] = deque(maxlen=1)
        #: How often all went well since the last trouble.
        self.calm = 0
        self.joining = self.member = self.unconfirmed = self.leaving = self.stopping = False
        self.brought: deque[Appeared[Event]] = deque()
        self.delivered: list[int] = []
        self.finished: list[Finished] = []

    @initialize(
        page_size=st.integers(1, 4),
        every=st.sampled_from([1, 1, 2, 3]),
        history=st.integers(0, 9),
        after=st.integers(0, 3),
    )
    def begin(self, page_size: int, every: int, history: int, after: int) -> None:
        self.every = every
        self.end, self.reached = history, 0
        self.first = self.passed = min(after, history)
        self.machine: SubscriptionMachine[Event] = SubscriptionMachine(
            "log", lambda event: event.number, after=self.first, page_size=page_size, resubscribe=True
        )
        self.give(Start())

    # -- the driver -----------------------------------------------------------------------------

    def give(self, given: Input) -> None:
        for action in self.machine.receive(given):
            assert not self.finished, f"{action} came after the end"
            if isinstance(action, Read):
                assert action.after == self.passed, "asked for what was passed, or left something out"
                self.requests.append(Request(action))
            elif isinstance(action, Deliver):
                self.take(action)
            elif isinstance(action, JoinFeed):
                assert not self.joining
                assert not self.member
                self.joining = True
            elif isinstance(action, LeaveFeed):
                assert self.joining or self.member
                self.leaving = True
            elif isinstance(action, Finished):
                self.finished.append(action)

    def take(self, action: Deliver[Event]) -> None:
        came = [event.number for event in action.events]
        assert came == self.events(self.passed, action.upto), f"a gap or a repeat after {self.passed}: {action}"
        assert action.upto > self.passed
        self.delivered += came
        self.passed = action.upto

    def events(self, after: int, upto: int) -> list[int]:
        return [number for number in range(after + 1, upto + 1) if number % self.every == 0]

    # -- what goes well ---------------------------------------------------------------------------

    @rule(choices=st.lists(st.integers(0, 59), min_size=1, max_size=8))
    def go_on(self, choices: list[int]) -> None:
        """Events are appended, and something of what is under way arrives; in which order is not given."""
        self.calm += 1
        for choice in choices:
            again = [partial(self.give, page) for page in self.heard if not self.finished]
            possible: list[Callable[[], object]] = [self.append, *self.possible(), *again]
            possible[choice % len(possible)]()

    def append(self) -> None:
        self.end += 1

    def possible(self) -> list[Callable[[], None]]:
        if self.finished:
            return []
        steps: list[Callable[[], None]] = [
            partial(self.log_reads if request.page is None else self.page_comes, request) for request in self.requests
        ]
        if self.leaving:
            steps.append(self.feed_is_left)
        if self.joining:
            steps.append(self.feed_takes_it_in)
        if self.unconfirmed:
            steps.append(self.feed_confirms)
        if self.brought:
            steps.append(self.events_come)
        if self.member and self.reached < self.end:
            steps.append(self.feed_moves_on)
        return steps

    def log_reads(self, request: Request) -> None:
        """The driver may have asked for a larger page than the machine did."""
        read = request.read
        count = read.count + self.end % 3
        upto = max(read.after, min(self.end, read.after + count))
        request.page = answer(read, numbered(*self.events(read.after, upto)), upto, end=upto - read.after < count)

    def page_comes(self, request: Request) -> None:
        assert request.page is not None
        self.requests.remove(request)
        self.heard.append(request.page)
        self.give(request.page)

    def feed_takes_it_in(self) -> None:
        """Others have kept the feed going meanwhile: it stands at the end of the log, or a little before it."""
        self.joining = False
        self.member = self.unconfirmed = True
        self.reached = max(self.reached, self.end - self.end % 2)

    def feed_confirms(self) -> None:
        self.unconfirmed = False
        self.give(Joined())

    def feed_moves_on(self) -> None:
        before, self.reached = self.reached, min(self.end, self.reached + 2)
        self.brought.append(Appeared(numbered(*self.events(before, self.reached)), self.reached))

    def events_come(self) -> None:
        self.give(self.brought.popleft())

    def feed_is_left(self) -> None:
        self.forgotten_by_the_feed()
        self.give(Left())

    def forgotten_by_the_feed(self) -> None:
        self.joining = self.member = self.unconfirmed = self.leaving = False
        self.brought.clear()

    # -- what does not ----------------------------------------------------------------------------

    @precondition(lambda self: self.calm > 1 and not self.finished)
    @rule(lost=st.booleans(), dropped=st.booleans())
    def trouble(self, lost: bool, dropped: bool) -> None:
        self.calm = 0
        if dropped and (self.joining or self.member or self.machine.state is State.READING):
            self.forgotten_by_the_feed()
            self.give(Dropped("too slow"))
        else:
            if lost:
                self.requests.clear()
            self.give(Restart())

    @precondition(lambda self: self.end > 20 and not self.stopping)
    @rule()
    def stop(self) -> None:
        self.stopping = True
        self.give(Stop())

    # -- the end --------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Everything that is under way arrives; then the machine has delivered all, or has ended as it was told."""
        if not hasattr(self, "machine"):
            return
        while possible := self.possible():
            possible[0]()
        assert self.delivered == self.events(self.first, self.passed)
        if self.stopping:
            assert self.finished == [Finished(None)]
        else:
            assert not self.finished
            assert self.machine.state is State.LIVE
            assert self.passed == self.end
