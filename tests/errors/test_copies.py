"""Errors travel between processes: each class of the package can be pickled and copied, with all that it says."""

from __future__ import annotations

import copy
import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from threading import Lock
from typing import Any

import pytest

import runner
from runner import errors
from runner.effects.user_code import UserCodeRaised
from runner.log.append_plan import AppendResult
from runner.subscriptions.machine import IllegalInput, State

RESULT = AppendResult("a-1", 3, 7, 9, 0, False)


class Unportable(Exception):
    """An exception of a user that pickle cannot make again."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")
        self.lock = Lock()


def handler_failed(cause: BaseException) -> errors.HandlerFailed:
    try:
        raise cause
    except BaseException as raised:
        return errors.HandlerFailed("balances", 7, "a-1", 3, "Deposited", raised, "reactor")


#: How an error of a class is made, where the parameters do not tell it.
MAKE: dict[type[BaseException], Callable[[], BaseException]] = {
    errors.NotConfirmed: lambda: errors.NotConfirmed([RESULT], 2, 1),
    errors.RecordDamaged: lambda: errors.RecordDamaged("no number", "{es.0}:meta", hint="Look."),
    errors.HandlerFailed: lambda: handler_failed(ValueError("no")),
    UserCodeRaised: lambda: UserCodeRaised(StopIteration("over")),
    IllegalInput: lambda: IllegalInput(State.LIVE, "what"),  # type: ignore[arg-type]
}


def classes() -> Iterator[type[BaseException]]:
    """All exceptions that the package defines."""
    seen = set()
    for found in pkgutil.walk_packages(runner.__path__, "runner."):
        if found.name == "runner.__main__":
            continue
        for value in vars(importlib.import_module(found.name)).values():
            if isinstance(value, type) and issubclass(value, BaseException) and value.__module__.startswith("runner."):
                seen.add(value)
    yield from sorted(seen, key=lambda kind: kind.__name__)


def arguments(kind: type[BaseException]) -> dict[str, Any]:
    """Arguments that fit the parameters of an error: numbers, lists of names, texts."""
    given: dict[str, Any] = {}
    for name, parameter in inspect.signature(kind).parameters.items():
        said = str(parameter.annotation)
        given[name] = 7 if "int" in said else ["a-1", "a-2"] if "Sequence" in said else f"the {name}"
    return given


def made(kind: type[BaseException]) -> BaseException:
    if kind in MAKE:
        error = MAKE[kind]()
    elif "__init__" in {name for each in kind.__mro__ if each.__module__.startswith("runner.") for name in vars(each)}:
        error = kind(**arguments(kind))
    else:
        error = kind("what happened")
    error.add_note("a note")
    return error


def said(error: BaseException) -> dict[str, Any]:
    """What an error says; of an exception in a field, its type and text."""
    fields = {
        name: (type(value), str(value)) if isinstance(value, BaseException) else value
        for name, value in vars(error).items()
        if name != "_traceback"
    }
    return {"type": type(error), "text": str(error), "args": error.args, "fields": fields}


copied = pytest.mark.parametrize(
    "copied",
    [lambda error: pickle.loads(pickle.dumps(error)), copy.deepcopy, copy.copy],
    ids=["pickle", "deep", "copy"],
)


@copied
@pytest.mark.parametrize("kind", list(classes()))
def test_an_error_comes_back_as_it_was(kind: type[BaseException], copied: Callable[[Any], Any]) -> None:
    """Type, text, arguments, fields, hint and notes."""
    error = made(kind)

    back = copied(error)

    assert back is not error
    assert said(back) == said(error)
    assert vars(back)["__notes__"] == ["a note"]
    if isinstance(error, errors.RunnerError):
        assert (back.hint, back.with_hint) == (error.hint, error.with_hint)


@copied
@pytest.mark.parametrize(
    "cause", [ValueError("no"), Unportable("this", "that"), KeyError("k")], ids=lambda one: repr(one)
)
def test_a_failure_keeps_the_text_and_the_traceback_of_its_cause(
    cause: BaseException, copied: Callable[[Any], Any]
) -> None:
    """Also where the cause cannot be pickled: a RuntimeError stands for it."""
    failure = handler_failed(cause)

    back = copied(failure)

    assert back.traceback == failure.traceback
    assert "handler_failed" in back.traceback
    assert failure.cause_text in back.cause_text
    portable = not isinstance(cause, Unportable)
    assert type(back.cause) is (type(cause) if portable else RuntimeError)


def fail(kind: int) -> None:
    raise [errors.WrongExpectedVersion("a-1", 3, 4), handler_failed(Unportable("this", "that"))][kind]


def test_an_error_of_another_process_arrives() -> None:
    """`ProcessPoolExecutor` raises what the function raised, and its pool goes on."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        with pytest.raises(errors.WrongExpectedVersion) as conflict:
            pool.submit(fail, 0).result(60)
        with pytest.raises(errors.HandlerFailed, match="this and that") as failed:
            pool.submit(fail, 1).result(60)
    assert (conflict.value.expected, conflict.value.actual) == (3, 4)
    assert (failed.value.position, failed.value.projection) == (7, "balances")
