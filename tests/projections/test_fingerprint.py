"""The fingerprint of a projection's code: what changes it, and what does not."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner import DELETE, Projection
from runner.projections.fingerprint import PYTHON, fingerprint

PLUGIN = '''
from decimal import Decimal
from runner import DELETE, Projection

RATES = {"a": 1, "b": Decimal("2.5")}
LIMIT = 10

def net(amount, tax=0.2):
    """What is left."""
    return amount * (1 - tax)

def key_of(event):
    return event.stream

sums = Projection("sums", category="account", initial=lambda: {"sum": 0}, key=key_of)

def adder(factor):
    def add(state, event):
        if event.type in {"A", "B", "C", "D"}:
            try:
                state["sum"] += factor * net(event.data["amount"]) * RATES["a"]
            except KeyError:
                return DELETE
        for _ in range(LIMIT):
            pass
        return state
    return add

sums.when("A", "B", adder(1))

@sums.when()
async def other(state, event):
    state["names"] = sorted(f"{name!r}" for name in event.data)
'''

#: Changes that make other rows, or may.
CHANGES = {
    "a constant": ('{"sum": 0}', '{"sum": 1}'),
    "an operation": ('state["sum"] += factor', 'state["sum"] -= factor'),
    "a value of a closure": ("adder(1)", "adder(100)"),
    "a function that is called": ("amount * (1 - tax)", "amount * (2 - tax)"),
    "a default": ("tax=0.2", "tax=0.3"),
    "a global number": ("LIMIT = 10", "LIMIT = 11"),
    "a global table": ('Decimal("2.5")', 'Decimal("2.6")'),
    "the key": ("return event.stream", "return event.type"),
    "the category": ('category="account"', 'category="order"'),
    "an event type": ('when("A", "B",', 'when("A",'),
    "what is caught": ("except KeyError", "except ValueError"),
    "a name": ('event.data["amount"]', 'event.metadata["amount"]'),
    "a member of a set": ('"C", "D"}', '"C", "E"}'),
    "an inner function": ("{name!r}", "{name!s}"),
}

#: Changes that make the same rows.
SAME = {
    "a comment": ("    return event.stream", "    # the row of its stream\n    return event.stream"),
    "empty lines": ("def adder", "\n\n\n\ndef adder"),
    "a docstring": ('"""What is left."""', '"""What is left of an amount."""'),
    "no docstring": ('    """What is left."""\n', ""),
    "a new docstring": ("def key_of(event):\n", 'def key_of(event):\n    """The row."""\n'),
    "another function": ("def adder", "def unused():\n    return 7\n\ndef adder"),
    "the order of a set": ('{"A", "B", "C", "D"}', '{"D", "C", "B", "A"}'),
    "a line break": ('state["sum"] += factor * net(', 'state["sum"] += factor * net(\n                    '),
}


def fingerprint_of(tmp_path: Path, text: str, *, seed: int = 0, python: str = sys.executable, options: str = "") -> str:
    """The fingerprint of a plug-in's projection, taken in a process of its own."""
    file = tmp_path / "plugin.py"
    file.write_text(text)
    code = f"""
        import runpy
        from runner.projections.fingerprint import fingerprint
        print(*fingerprint(runpy.run_path({str(file)!r})["sums"]))
    """
    done = subprocess.run(
        [python, *options.split(), "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONHASHSEED": str(seed)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def in_process(text: str) -> str:
    """The same in this process."""
    space: dict[str, Any] = {"__name__": "plugin"}
    exec(compile(text, "plugin.py", "exec"), space)
    return fingerprint(space["sums"]).digest


def test_the_fingerprint_is_the_same_in_every_process(tmp_path: Path) -> None:
    """Whatever the seed of its hashes, and also where the code was compiled before."""
    assert {fingerprint_of(tmp_path, PLUGIN, seed=seed) for seed in range(4)} == {f"{PYTHON} {in_process(PLUGIN)}"}


def test_a_python_without_asserts_is_another_python(tmp_path: Path) -> None:
    """It compiles other code, so its fingerprints are not compared."""
    assert fingerprint_of(tmp_path, PLUGIN, options="-O").split(" ")[0] != PYTHON


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changed_code_has_another_fingerprint(change: tuple[str, str]) -> None:
    """Wherever a handler, the key or the initial state can see it."""
    assert PLUGIN.count(change[0]) == 1
    assert in_process(PLUGIN.replace(*change)) != in_process(PLUGIN)


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_the_layout_of_the_code_does_not_count(change: tuple[str, str]) -> None:
    """Comments, docstrings, lines, and what no handler uses."""
    assert PLUGIN.count(change[0]) == 1
    assert in_process(PLUGIN.replace(*change)) == in_process(PLUGIN)


def test_the_order_of_the_handlers_does_not_count() -> None:
    """They are sorted by event type."""

    def projection(*types: str) -> Projection:
        made = Projection("sums")
        for each in types:
            made.when(each, lambda state, event: None)
        return made

    assert fingerprint(projection("A", "B")) == fingerprint(projection("B", "A"))


class Adder:
    """A handler that is an object."""

    def __init__(self, amount: int) -> None:
        self.amount = amount

    def __call__(self, state: Any, event: Any) -> None:
        state["sum"] += self.amount

    def add(self, state: Any, event: Any) -> None:
        state["sum"] += 1


class Remover(Adder):
    def __call__(self, state: Any, event: Any) -> Any:
        return DELETE


def recursive(state: Any, event: Any) -> Any:
    return recursive(state, event) if event.data else None


class Unruly:
    """An object that answers nothing."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("not now")


UNRULY = Unruly()


def reaching(state: Any, event: Any) -> Any:
    return UNRULY, len, DELETE


HANDLERS: dict[str, Callable[..., Any]] = {
    "an object": Adder(1), "an object of another class": Remover(1), "a method": Adder(1).add,
    "a partial function": functools.partial(lambda amount, state, event: None, 1),
    "another partial function": functools.partial(lambda amount, state, event: None, 2),
    "a function that calls itself": recursive, "a builtin": print, "another builtin": divmod,
    "a function that reaches an unruly object": reaching,
}  # fmt: skip


def test_handlers_of_every_kind_have_fingerprints_of_their_own() -> None:
    """Objects, methods, partial functions, builtins; none of them ends the description."""
    found = {}
    for name, handler in HANDLERS.items():
        projection = Projection("sums")
        projection.when("A", handler)
        found[name] = fingerprint(projection).digest
        assert fingerprint(projection).digest == found[name]
    assert len(set(found.values())) == len(HANDLERS)
