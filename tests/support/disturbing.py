"""Races by hand: something happens between the requests of an operation, at a moment that the test chooses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from workbench import relayed

from runner import EventStore
from runner.effects import Command, Effect, Execute, Operation

T = TypeVar("T")


def script_of(effect: Effect) -> str:
    """The name of the script that an effect calls first; empty if it calls none."""
    return getattr(effect.commands[0][0], "name", "") if isinstance(effect, Execute) else ""


def disturbed(operation: Operation[T], script: str, disturb: Callable[[], object]) -> Operation[T]:
    """The operation, with something that happens once, right before it calls a script."""
    left = [disturb]

    def relay(effect: Effect) -> Operation[Any]:
        if left and script_of(effect) == script:
            left.pop()()
        return (yield effect)

    return relayed(operation, relay)


class _Seen(Exception):
    """The command is made."""


def command_of(store: EventStore, operation: Operation[Any], script: str) -> Command:
    """The command by which an operation calls a script. It is not sent, and the operation ends there."""

    def relay(effect: Effect) -> Operation[Any]:
        if script_of(effect) == script:
            assert isinstance(effect, Execute)
            commands.extend(effect.commands)
            raise _Seen
        return (yield effect)

    commands: list[Command] = []
    with pytest.raises(_Seen):
        store.work(relayed(operation, relay))
    [command] = commands
    return command


def misunderstood(operation: Operation[T], script: str) -> Operation[T]:
    """The operation, with a verdict that nobody knows in each reply of a script. What the script does, it has done."""

    def relay(effect: Effect) -> Operation[Any]:
        replies = yield effect
        if isinstance(effect, Execute):
            called = [getattr(command[0], "name", "") == script for command in effect.commands]
            replies = [[b"strange"] if ours else reply for ours, reply in zip(called, replies, strict=True)]
        return replies

    return relayed(operation, relay)
