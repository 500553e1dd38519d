"""Errors of handlers, of waits for them, and of subscriptions."""

from __future__ import annotations

import pickle
import traceback
from typing import Any

from .root import RunnerError, counted, text_of


class HandlerFailed(RunnerError):
    """A handler of a projection or reactor raised; the cause is chained. The row keeps its last good state.

    In a copy that was pickled the cause is a RuntimeError with its text, if the cause itself cannot be pickled.
    """

    #: The traceback of the cause, in a copy, whose cause has none.
    _traceback = ""

    def __init__(
        self,
        projection: str,
        position: int,
        stream: str,
        number: int,
        event_type: str,
        cause: BaseException,
        kind: str = "projection",
    ) -> None:
        super().__init__(
            f"{kind} {projection!r} failed at position {position} "
            f"({event_type!r}, event {number} of {stream!r}): {type(cause).__name__}: {text_of(cause)}",
            hint=f"Correct the handler and start again: the {kind} goes on with this event.",
        )
        self.projection = projection
        self.position = position
        self.stream = stream
        self.number = number
        self.type = event_type
        self.cause = cause

    @property
    def cause_text(self) -> str:
        """The cause's text in one line."""
        return text_of(self.cause)

    @property
    def traceback(self) -> str:
        """The cause's traceback, as text; never raises."""
        if self._traceback:
            return self._traceback
        try:
            text = "".join(traceback.format_exception(self.cause))
            return text.encode(errors="backslashreplace").decode()  # it is stored, and half a character cannot be
        except Exception as worse:
            return f"(the traceback cannot be shown: {type(worse).__name__})"

    def __reduce__(self) -> tuple[Any, ...]:
        made_again, args, fields = super().__reduce__()
        return made_again, args, fields | {"cause": _portable(self.cause), "_traceback": self.traceback}


class WaitTimeout(RunnerError):
    """A projection has not applied an append in time, or is not live in time. ``state`` says what it is doing.

    ``position`` is the position that the wait was for, and ``lag`` how many events are missing. Both are None if the
    wait was for the projection to be live.
    """

    def __init__(
        self, projection: str, partition: int, position: int | None, lag: int | None, state: str, error: str = ""
    ) -> None:
        missing = "is not live in time" if position is None else f"has not applied position {position} in time"
        lags = "" if lag is None else f"it lags {counted(lag, 'event')}, and "
        super().__init__(
            f"projection {projection!r} (partition {partition}) {missing}: {lags}its state is {state!r}"
            + (f" ({error})" if error else ""),
            hint="Correct the cause, then start its runner again." if state == "stopped"
            else "Wait longer, or see `runner status`.",
        )  # fmt: skip
        self.projection = projection
        self.partition = partition
        self.position = position
        self.lag = lag
        self.state = state


class SubscriptionDropped(RunnerError):
    """The subscription ended; every event before it was delivered. ``reason`` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"subscription dropped: {reason}", hint="Subscribe again after the last event seen.")
        self.reason = reason


def _portable(cause: BaseException) -> BaseException:
    """The exception, or what stands for it if it does not come back from pickle as it is."""
    try:
        back = pickle.loads(pickle.dumps(cause))
        if type(back) is type(cause) and str(back) == str(cause):
            return cause
    except Exception:
        pass
    return RuntimeError(f"{type(cause).__name__}: {text_of(cause)}")
