"""Which kind of ``with`` block an object takes: the wrong one is named, with the right one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import InvalidInput


def _refuse(thing: object, right: str) -> NoReturn:
    other = {"with": "async with", "async with": "with"}[right]
    raise InvalidInput(f"{type(thing).__name__} is used by `{right}`, not by `{other}`")


class TakesWith:
    """What is used in a ``with`` block. Type checkers know the other kind as a mistake anyway."""

    __slots__ = ()

    if not TYPE_CHECKING:

        async def __aenter__(self) -> NoReturn:
            _refuse(self, "with")

        async def __aexit__(self, *_: Any) -> None: ...


class TakesAsyncWith:
    """What is used in an ``async with`` block. Type checkers know the other kind as a mistake anyway."""

    __slots__ = ()

    if not TYPE_CHECKING:

        def __enter__(self) -> NoReturn:
            _refuse(self, "async with")

        def __exit__(self, *_: Any) -> None: ...
