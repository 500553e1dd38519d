"""What an operation may ask of its interpreter: to wait, and to run other operations beside it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from .user_code import UserCodeEffect


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait ``seconds``, or until someone wakes the interpreter; the outcome is None."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Begin:
    """Run operations beside this one, ``limit`` at a time; the outcome is what `Finish` takes.

    They call user code and nothing else, hand their results over in objects they share, and must not raise.
    """

    operations: list[Generator[UserCodeEffect, Any, None]]
    limit: int


@dataclass(frozen=True, slots=True)
class Finish:
    """Wait up to ``timeout`` seconds for what was begun; the outcome is whether all of it has ended."""

    work: Any
    timeout: float


SchedulingEffect = Pause | Begin | Finish
