"""What a runner that stands by tells of an outage. One that is at work tells it by the states of its assignments."""

from __future__ import annotations

from dataclasses import dataclass
from logging import INFO, WARNING
from typing import Any

from ..errors import StoreTrouble


@dataclass(frozen=True, slots=True)
class Outage:
    """The server is away for a reason, or answers again (None)."""

    reason: StoreTrouble | None

    @property
    def level(self) -> int:
        return INFO if self.reason is None else WARNING

    @property
    def text(self) -> str:
        """What happened, and what comes next."""
        if self.reason is None:
            return "the server answers; standing by"
        return f"{self.reason}; standing by until it answers. {self.reason.hint}"

    @property
    def fields(self) -> dict[str, Any]:
        """The same for programs."""
        if self.reason is None:
            return {"finding": "the server answers"}
        return {"finding": "the server is away", "error": str(self.reason), "next": self.reason.hint}
