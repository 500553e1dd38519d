"""The root of all errors, and how an error is put into words."""

from __future__ import annotations

from typing import Any

#: Longer texts of exceptions are cut to so many characters, since they are stored, sent with heartbeats and printed.
LONGEST_TEXT = 1_000


class RunnerError(Exception):
    """The root of the tree. ``hint`` says what to do; the text alone says what happened."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def with_hint(self) -> str:
        """What happened, and what to do."""
        return f"{self} ({self.hint})" if self.hint else str(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, (type(self), self.args), vars(self)


def _made_again(kind: type[RunnerError], args: tuple[Any, ...]) -> RunnerError:
    """An error with a text of its own: what ``kind`` makes its text of is not asked for again."""
    return kind.__new__(kind, *args)


def counted(count: int, noun: str) -> str:
    """A number with its noun: "1 event", "2 events"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def text_of(cause: BaseException) -> str:
    """An exception's text in one line, cut if it is long; never raises."""
    try:
        text = str(cause)
    except Exception as worse:
        text = f"(its text cannot be shown: {type(worse).__name__})"
    return "".join(letter if letter.isprintable() else " " for letter in text[:LONGEST_TEXT])
