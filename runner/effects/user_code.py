"""What an operation may ask of the user's code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Await:
    """Wait for an awaitable that user code returned; the outcome is its result."""

    awaitable: Awaitable[Any]


@dataclass(frozen=True, slots=True)
class Invoke:
    """Call a function of the user's that may take long; the outcome is what it returns."""

    function: Callable[..., Any]
    args: tuple[Any, ...]


UserCodeEffect = Await | Invoke
