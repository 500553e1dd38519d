"""The kinds of fuzzing, by name."""

from __future__ import annotations

from .appends import APPENDS
from .arguments import ARGUMENTS
from .envelopes import ENVELOPES
from .fields import FIELDS
from .kind import Kind
from .lines import LINES
from .logs import LOGS
from .machine import MACHINE

KINDS: dict[str, Kind] = {
    kind.name: kind for kind in (ENVELOPES, LOGS, LINES, FIELDS, ARGUMENTS, MACHINE, APPENDS)
}  # fmt: skip
