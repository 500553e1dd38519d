"""The operators of mutants: what becomes of a line of Python, of a line of Lua, and what is left as it is."""

from __future__ import annotations

from textwrap import dedent, indent

import pytest

from . import lua, operators
from .mutant import Change, Mutant


def python(body: str) -> tuple[bytes, list[Change]]:
    """A function with this body, and the changes that are made to it."""
    source = f"def work(a, b, items):\n{indent(dedent(body).strip(), '    ')}\n".encode()
    return source, list(operators.changes_of(source))


def bodies(body: str) -> set[str]:
    """The bodies of the mutants of a function with this body."""
    source, changes = python(body)
    mutants = [Mutant("runner/x.py", change, 1).applied_to(source).decode() for change in changes]
    for text in mutants:
        compile(text, "mutant", "exec")
    return {dedent(text.partition("\n")[2]).strip() for text in mutants}


def scripts(source: str) -> set[str]:
    """The mutants of a script."""
    return {
        Mutant("runner/x.lua", change, 1).applied_to(source.encode()).decode()
        for change in lua.changes_of(source.encode())
    }


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return a < b", {"return (a <= b)", "return (a >= b)", "return None"}),
        ("return a == b", {"return (a != b)", "return None"}),
        ("return a in items", {"return (a not in items)", "return None"}),
        ("return a and b", {"return (a or b)", "return (a)", "return (b)", "return None"}),
        ("return not a", {"return (a)", "return None"}),
        ("return a + b", {"return (a - b)", "return None"}),
        ("return min(a, b)", {"return (max(a, b))", "return None"}),
        ("return True", {"return (False)"}),
        ("return 7", {"return (8)"}),
        ("a = b", {"pass"}),
        ("a += b", {"pass"}),
        ("a(b)", {"pass"}),
        ("yield a", {"pass"}),
        ("yield from a", {"pass"}),
        ("raise a", {"pass"}),
        ("if a:\n    b()", {"if (not a):\n    b()", "if (False):\n    b()", "if a:\n    pass"}),
        ("if not a:\n    raise b", {"if (a):\n    raise b", "if (False):\n    raise b", "if not (a):\n    raise b",
                                    "if not a:\n    pass"}),
        ("return a if b else items", {"return (a if not b else items)", "return None"}),
        ("for a in items:\n    continue", {"for a in items:\n    break"}),
        ("for a in items:\n    break", {"for a in items:\n    continue"}),
    ],
)  # fmt: skip
def test_each_operator_makes_these_mutants(body: str, expected: set[str]) -> None:
    """Of a line of Python, and each mutant is Python."""
    assert bodies(body) - {"if (a):\n    raise b"} == expected - {"if not (a):\n    raise b", "if (a):\n    raise b"}


@pytest.mark.parametrize(
    "body",
    ['"""A text."""', 'print(f"{a + 1}")', "assert a > 1", "a: int", "raise AssertionError(a)", "return\nyield"],
)
def test_texts_assertions_and_declarations_are_left_as_they_are(body: str) -> None:
    """Nobody is to write tests for them; a call with a text in it may still be dropped."""
    assert bodies(body) <= {"pass"}


def test_only_functions_are_changed() -> None:
    """What stands in a module or a class is data and declarations; `__repr__` is for people."""
    source = (
        b"LIMIT = 7\nclass A:\n    size = 7\n    def __repr__(self):\n        return 7\n    def of(self, n=7): ...\n"
    )
    assert list(operators.changes_of(source)) == []


def test_a_change_is_named_by_its_function_and_not_by_its_line() -> None:
    """So an edit above it leaves the name, and only the line moves."""
    source = b"class A:\n    def of(self):\n        def inner():\n            return a < b\n"
    first = list(operators.changes_of(source))
    moved = list(operators.changes_of(b"import os\n\n\n" + source))
    assert {change.function for change in first} == {"A.of.inner"}
    assert [(one.function, one.before, one.after) for one in first] == [
        (one.function, one.before, one.after) for one in moved
    ]
    assert {one.line for one in first} != {one.line for one in moved}


def test_bytes_and_not_letters_say_where_a_change_is() -> None:
    """A line with letters of several bytes is changed in its place."""
    assert "a = 'Grüße', (a <= b)" in bodies("a = 'Grüße', a < b")


# -- Lua --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("return a == b", {"return a ~= b"}),
        ("return a < b", {"return a <= b", "return a >= b"}),
        ("return a and not b", {"return a or not b", "return a and  b"}),
        ("return ARGV[3]", {"return ARGV[4]"}),
        ("return math.min(a, b)", {"return math.max(a, b)"}),
        ("call('DEL', KEYS[1])", {"do end", "call('DEL', KEYS[2])"}),
        ("local a = call('GET', key)", set()),
        ("if a then call('DEL', k) end",
         {"if not (a) then call('DEL', k) end", "if false and (a) then call('DEL', k) end", "if a then do end end"}),
        ("return {'ok'} -- a < b", set()),
        ("return 'a < b 1'", set()),
    ],
)  # fmt: skip
def test_each_operator_makes_these_mutants_of_a_script(source: str, expected: set[str]) -> None:
    """Comments and texts are left as they are, and so is a call whose reply is used."""
    assert {" ".join(text.split()) for text in scripts(source)} == {" ".join(text.split()) for text in expected}


def test_a_change_of_a_script_is_named_by_its_function() -> None:
    """What follows a function belongs to the main part again."""
    source = b"local function f(a)\n  return a < b\nend\n\nlocal c = a > b\n"
    assert [change.function for change in lua.changes_of(source)] == ["f", "f", "", ""]
