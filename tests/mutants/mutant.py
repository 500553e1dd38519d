"""A mutant: one small change to one file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """A change before it has a name: where it is, the bytes that are replaced, and the change as people read it."""

    #: The function, with the classes and functions around it; empty in the main part of a script.
    function: str
    line: int
    start: int
    end: int
    replacement: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A change with its file and name.

    The name is that of the file and the function, the change, and a number if the function has the same change at
    several places. So an edit elsewhere, also in the same function, leaves the name as it is.
    """

    path: str
    change: Change
    number: int

    @property
    def name(self) -> str:
        again = f" #{self.number}" if self.number > 1 else ""
        return f"{self.path}::{self.change.function}: {self.change.before} → {self.change.after}{again}"

    @property
    def package(self) -> str:
        """The package that it belongs to; for a script, ``lua`` and its folder."""
        parts = self.path.removeprefix("runner/").removesuffix(".py").split("/")
        return "/".join(parts[1:-1]) if self.path.endswith(".lua") else parts[0]

    def applied_to(self, source: bytes) -> bytes:
        """The text of the file with the change."""
        change = self.change
        return source[: change.start] + change.replacement.encode() + source[change.end :]
