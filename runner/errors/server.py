"""Errors of the server, which did not do what it was asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .root import RunnerError


class StoreTrouble(RunnerError):
    """The server did not do what it was asked. ``passing``: the same request may succeed later."""

    passing = True


class StoreUnavailable(StoreTrouble):
    """The server cannot be reached or is not ready. What was sent may or may not have run."""


class NotConfirmed(StoreTrouble):
    """Too few replicas confirmed an append in time. It ran on the primary, and a failover may still take it away.

    ``results`` are those of the append on the primary (``result`` is the first of them), ``wanted`` and ``confirmed``
    are numbers of replicas.
    """

    def __init__(self, results: Sequence[Any], wanted: int, confirmed: int) -> None:
        super().__init__(
            f"{confirmed} of {wanted} replicas confirmed the append in time: "
            "its events may exist, and repeating the same append is safe",
            hint="Repeat the append with the same events until it is confirmed; `INFO replication` shows the replicas.",
        )
        self.results = tuple(results)
        self.wanted = wanted
        self.confirmed = confirmed

    @property
    def result(self) -> Any:
        """The first `AppendResult`; None after an append of no streams that moved a bookmark."""
        return self.results[0] if self.results else None


#: Refusals that end when the server has memory, disk or replicas again, or when its password and that of the client are
#: the same again. Nothing was executed.
PASSING_REFUSALS = frozenset({"OOM", "MISCONF", "NOREPLICAS", "WRONGPASS", "NOAUTH"})


#: Refusals of a command that the user may not use, or that was renamed.
NOT_ALLOWED = frozenset({"NOPERM", "ERR"})


class StoreClosed(StoreTrouble):
    """The store was closed by this process."""

    passing = False

    def __init__(self) -> None:
        super().__init__(
            "the store was closed", hint="Open it again, or close it later, when nothing uses it any more."
        )


class StoreRefused(StoreTrouble):
    """The server answered with an error that needs a person; ``code`` is its first word."""

    def __init__(self, message: str, *, code: str = "ERR", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.passing = code in PASSING_REFUSALS
