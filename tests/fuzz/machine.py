"""Inputs to the subscription machine: any in any state, and worlds in which what is under way comes late or twice."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

from hypothesis import strategies as st
from subscription_world import World, numbered

from runner.subscriptions.machine import (
    Appeared,
    Deliver,
    Dropped,
    IllegalInput,
    Input,
    Joined,
    Left,
    PageCame,
    Read,
    Restart,
    Start,
    Stop,
    SubscriptionMachine,
)

from .kind import VARIANTS, Fresh, Kind

#: An input by its name, and three numbers that an input may need.
GIVEN = st.tuples(
    st.sampled_from(["start", "page", "page", "joined", "appeared", "left", "dropped", "restart", "stop"]),
    st.integers(0, 6),
    st.integers(0, 4),
    st.booleans(),
)
ANYTHING = st.tuples(st.just("any"), st.integers(1, 4), st.booleans(), st.lists(GIVEN, max_size=30))
CHANCE = st.tuples(st.just("chance"), st.integers(1, 4), st.booleans(), st.integers(0, 2**32))
STEPS = st.one_of(
    st.lists(st.integers(0, 59), min_size=1, max_size=8), st.tuples(st.booleans(), st.booleans()), st.just("stop")
)
WORLD = st.tuples(
    st.just("world"),
    st.tuples(st.integers(1, 4), st.sampled_from([1, 1, 2, 3]), st.integers(0, 9), st.integers(0, 3)),
    st.lists(STEPS, max_size=25),
)
INPUTS = st.one_of(ANYTHING, CHANCE, WORLD)


def check(given: tuple[Any, ...], fresh: Fresh) -> int:
    """What is delivered rises; an input that is not allowed changes nothing; a world ends with every event."""
    if given[0] == "world":
        _world(*given[1:])
        return 1
    _, page_size, resubscribe, inputs = given
    sequences = [inputs] if given[0] == "any" else _by_chance(inputs)
    for sequence in sequences:
        try:
            _any(page_size, resubscribe, sequence)
        except Exception as fault:
            fault.add_note(f"the inputs: {('any', page_size, resubscribe, sequence)!r}")
            raise
    return len(sequences)


def _by_chance(seed: int) -> list[list[tuple[str, int, int, bool]]]:
    """Sequences of inputs, of which many are allowed where they come."""
    chance, names = Random(seed), ["start", "joined", "left", "dropped", "restart", "stop"]
    weights = [2, 4, 3, 1, 2, 1]
    return [
        [
            (
                chance.choices([*names, "page", "appeared"], [*weights, 9, 5])[0],
                chance.randrange(7),
                chance.randrange(5),
                chance.random() < 0.4,
            )
            for _ in range(chance.randrange(30))
        ]
        for _ in range(VARIANTS)
    ]


def _any(page_size: int, resubscribe: bool, given: list[tuple[str, int, int, bool]]) -> None:
    machine: SubscriptionMachine[Any] = SubscriptionMachine(
        "log", lambda event: event.number, page_size=page_size, resubscribe=resubscribe
    )
    last, serial = 0, 0
    for name, more, count, flag in given:
        before = copy.deepcopy(vars(machine))
        try:
            actions = machine.receive(_input(name, machine.last, serial, more, count, flag))
        except IllegalInput:
            actions = []
            unchanged = vars(machine)
        else:
            unchanged = before
        assert unchanged == before
        for action in actions:
            if isinstance(action, Read):
                assert action.after == machine.last
                serial = action.serial
            elif isinstance(action, Deliver):
                numbers = [event.number for event in action.events]
                assert numbers == sorted(set(numbers))
                assert not numbers or last < numbers[0]
                assert not numbers or numbers[-1] <= action.upto
                assert action.upto > last
                last = action.upto


def _input(name: str, last: int, serial: int, more: int, count: int, flag: bool) -> Input:
    """An input near to what the machine expects: numbers a little lower or higher, an older serial."""
    first = max(1, last + more - 2)
    events = numbered(*range(first, first + count))
    upto = max(first + count - 1, last if flag else 0)
    if name == "page":
        return PageCame(max(0, last - more % 3), events, upto, flag, serial - (more == 0))
    if name == "appeared":
        return Appeared(events, upto)
    if name == "dropped":
        return Dropped("too slow" if flag else None)
    plain: dict[str, Input] = {
        "start": Start(), "joined": Joined(), "left": Left(), "restart": Restart(), "stop": Stop(),
    }  # fmt: skip
    return plain[name]


def _world(begin: tuple[int, int, int, int], steps: list[Any]) -> None:
    world = World()
    world.begin(*begin)
    for step in steps:
        if step == "stop":
            if world.end > 20 and not world.stopping:
                world.stop()
        elif isinstance(step, list):
            world.go_on(step)
        elif world.calm > 1 and not world.finished:
            world.trouble(*step)
    world.teardown()


MACHINE = Kind("machine", "inputs of the subscription machine: each event once, in order", INPUTS, check)
