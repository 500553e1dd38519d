"""The log: lines about what happens in the background, on Python's logger ``runner``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from ..text import visible

log = logging.getLogger("runner")


class Line(Protocol):
    """A line of the log: its level, its text, and the same as fields for programs."""

    @property
    def level(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def fields(self) -> Mapping[str, Any]: ...


def write(line: Line) -> None:
    """Write a line. The formatters of `runner.daemon.logs` show its fields."""
    log.log(line.level, "%s", visible(line.text), extra={"fields": dict(line.fields)})
