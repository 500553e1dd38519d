"""Arguments of the wrong kind: each function says in a sentence what it needs, on both faces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from faces import FACES

from runner import InvalidInput, NewEvent, Projection, Reactor, catch_up, state_at
from runner import operations as ops
from runner.testing import Scenario, async_memory_store, memory_store

PROJECTION: Projection[Any] = Projection("p")
PROJECTION.when("X", lambda state, event: {"n": 1})
REACTOR = Reactor("r")
REACTOR.when("X", lambda event, key: None)

#: Functions of a store, and one argument that is a mistake, with what the error says.
MISTAKES: list[tuple[Callable[..., Any], Any, str]] = [
    (ops.rebuild, "p", "a rebuild needs a Projection, and a str is none: 'p'"),
    (ops.rebuild, None, "a rebuild needs a Projection, and a NoneType is none: None"),
    (ops.rebuild, Projection, "a rebuild needs a Projection, and a type is none"),
    (ops.rebuild, REACTOR, "reactor 'r' has no view to rebuild"),
    (ops.retry_parked, "p", "a retry, if it is no Reactor, needs a Projection, and a str is none: 'p'"),
    (state_at, "p", "state_at needs a Projection, and a str is none: 'p'"),
    (state_at, REACTOR, "state_at needs a Projection, and a reactor has no rows"),
    *(
        (function, given, "a projection name must be text, not ")
        for function in (ops.rollback, ops.reset, ops.unregister, ops.drop_parked, ops.parked, ops.skipped, ops.status)
        for given in (PROJECTION, 3)
    ),
    (ops.export_lines, "file", "write must be a function, not 'file'"),
    (ops.export_lines, lambda: None, "write '<lambda>' must take"),
    (ops.import_lines, 3, "lines must be a binary file or an iterable of lines, not 3"),
    (ops.import_lines, "file.jsonl", "lines must be a binary file or an iterable of lines, not 'file.jsonl'"),
    (ops.import_lines, b"{}", "lines must be a binary file or an iterable of lines, not b'{}'"),
]


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(("function", "given", "said"), MISTAKES)
def test_a_mistaken_argument_is_named(function: Callable[..., Any], given: Any, said: str, face: str) -> None:
    """An InvalidInput, and nothing else happens."""

    async def on_loop() -> None:
        async with async_memory_store() as mine:
            await function(mine, given)

    with memory_store() as store:
        store.append("a-1", NewEvent("X"))
        catch_up(store, PROJECTION, REACTOR)
        with pytest.raises(InvalidInput, match=said.replace("(", r"\(")):
            function(store, given) if face == "sync" else asyncio.run(on_loop())


@pytest.mark.parametrize("given", ["p", REACTOR, Projection])
def test_a_scenario_needs_a_projection(given: Any) -> None:
    """It is refused at once, and not by its first check."""
    with pytest.raises(InvalidInput, match="a Scenario needs a Projection, and a"):
        Scenario(given)
