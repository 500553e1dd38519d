"""Errors travel between processes: each class of the package can be pickled and copied, with all that it says."""

from __future__ import annotations

import copy
import importlib
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
from runner.adapters.eventsource.threads import RedisUnavailableError
from runner.effects.user_code import CannotWait, UserCodeRaised
from runner.format.checksum import Damaged
from runner.format.codec import NotStorable
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


#: How an error of each class is made. Those that are missing take a message and a hint.
MAKE: dict[type[BaseException], Callable[[], BaseException]] = {
    errors.StoreNotFound: lambda: errors.StoreNotFound("es", "redis://here", ["other"], "other"),
    errors.EventIdReused: lambda: errors.EventIdReused("a-1", "one id twice"),
    errors.WrongExpectedVersion: lambda: errors.WrongExpectedVersion("a-1", 3, 4),
    errors.BookmarkConflict: lambda: errors.BookmarkConflict("feed", 3, 4),
    errors.CommitRefused: lambda: errors.CommitRefused("balances", 1, "it moved"),
    errors.ProjectionHeld: lambda: errors.ProjectionHeld("balances", 1, "here:1"),
    errors.BuildReplaced: lambda: errors.BuildReplaced("balances", 1, "1", "2"),
    errors.NotConfirmed: lambda: errors.NotConfirmed([RESULT], 2, 1),
    errors.StoreClosed: errors.StoreClosed,
    errors.StoreRefused: lambda: errors.StoreRefused("no memory", code="OOM", hint="Give it some."),
    errors.LogTrimmed: lambda: errors.LogTrimmed(3, 5),
    errors.HistoryDiverged: lambda: errors.HistoryDiverged("balances", 1, 7, "there is none", candidate="2"),
    errors.LogTruncated: lambda: errors.LogTruncated("balances", 1, 7, 5),
    errors.StoreReplaced: lambda: errors.StoreReplaced("es"),
    errors.RecordDamaged: lambda: errors.RecordDamaged("no number", "{es.0}:meta", hint="Look."),
    errors.UndecodableEvent: lambda: errors.UndecodableEvent(7, "no map", stream="a-1", number=3, event_type="X"),
    errors.HandlerFailed: lambda: handler_failed(ValueError("no")),
    errors.WaitTimeout: lambda: errors.WaitTimeout("balances", 1, 7, 2, "stopped", "why"),
    errors.SubscriptionDropped: lambda: errors.SubscriptionDropped("too slow"),
    CannotWait: CannotWait,
    UserCodeRaised: lambda: UserCodeRaised(StopIteration("over")),
    IllegalInput: lambda: IllegalInput(State.LIVE, "what"),  # type: ignore[arg-type]
    NotStorable: lambda: NotStorable("a set"),
    Damaged: lambda: Damaged("another checksum"),
    RedisUnavailableError: lambda: RedisUnavailableError("away"),
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


def made(kind: type[BaseException]) -> BaseException:
    make = MAKE.get(kind, lambda: kind("what happened", hint="What to do."))  # type: ignore[call-arg]
    error = make()
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
