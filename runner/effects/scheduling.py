"""What an operation may ask of its interpreter: to wait, and to run other operations at the same time."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from .user_code import UserCodeEffect


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait ``seconds``, or until the interpreter is woken; the outcome is None."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Begin:
    """Run other operations at the same time as this one, ``limit`` of them at once; the outcome is for `Finish`.

    The other operations only call user code. They leave their results in shared objects, and must not raise.
    """

    operations: list[Generator[UserCodeEffect, Any, None]]
    limit: int


@dataclass(frozen=True, slots=True)
class Finish:
    """Wait up to ``timeout`` seconds for the operations of a `Begin`; the outcome is whether all have ended."""

    work: Any
    timeout: float


SchedulingEffect = Pause | Begin | Finish
