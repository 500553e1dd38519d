"""The mutants of a Lua script, by its tokens: comparisons, logic, numbers, conditions, and calls that write."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .mutant import Change

_TOKEN = re.compile(
    rb"(?P<comment>--[^\n]*)|(?P<text>'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\")|(?P<number>\d+(?:\.\d+)?)"
    rb"|(?P<word>[A-Za-z_]\w*)|(?P<sign>==|~=|<=|>=|\.\.|[-+*/%#<>=(){}\[\],;.:])"
)

#: Each token and what it becomes.
REPLACED = {
    "==": ("~=",), "~=": ("==",), "<": ("<=", ">="), "<=": ("<", ">"), ">": (">=", "<="), ">=": (">", "<"),
    "and": ("or",), "or": ("and",), "not": ("",), "+": ("-",), "-": ("+",), "true": ("false",), "false": ("true",),
    "min": ("max",), "max": ("min",), "break": ("",),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Token:
    """A word, number, sign or text, and where it is."""

    kind: str
    text: str
    start: int
    end: int


def tokens_of(source: bytes) -> list[Token]:
    """The tokens of a script, without its comments."""
    return [
        Token(found.lastgroup or "", found.group().decode(), found.start(), found.end())
        for found in _TOKEN.finditer(source)
        if found.lastgroup != "comment"
    ]


def changes_of(source: bytes) -> Iterator[Change]:
    """Every change that is made to a script, in the order of the source."""
    tokens, function = tokens_of(source), ""
    for place, token in enumerate(tokens):
        line_start = source.rfind(b"\n", 0, token.start) + 1
        if token.text == "function" and tokens[place + 1].kind == "word":
            function = tokens[place + 1].text
        elif token.start == line_start and token.text != "end":
            function = ""  # a definition begins at the start of a line, and so does what follows it

        def change(start: int, end: int, replacement: str, after: str, function: str = function) -> Change:
            before = " ".join(source[start:end].decode().split())
            return Change(function, source.count(b"\n", 0, start) + 1, start, end, replacement, before, after)

        line = " ".join(source[line_start : _end_of_line(source, token.start)].decode().split())
        for other in REPLACED.get(token.text, ()) if token.kind != "text" else ():
            yield _in_line(change(token.start, token.end, other, other), line, token, line_start, source)
        if token.kind == "number":
            other = str(int(float(token.text)) + 1)
            yield _in_line(change(token.start, token.end, other, other), line, token, line_start, source)
        if token.text in ("if", "elseif"):
            then = next(later for later in tokens[place:] if later.text == "then")
            condition = " ".join(source[token.end : then.start].decode().split())
            for other in (f"not ({condition})", f"false and ({condition})"):
                yield change(token.end, then.start, f" {other} ", other)
        if token.text == "call" and _begins_a_statement(tokens, place):
            end = _closing(tokens, place + 1).end
            yield change(token.start, end, "do end", "do end")


def _in_line(made: Change, line: str, token: Token, line_start: int, source: bytes) -> Change:
    """The change of one token, shown with the whole line before and after."""
    end = _end_of_line(source, token.start)
    after = source[line_start : token.start].decode() + made.replacement + source[token.end : end].decode()
    return Change(made.function, made.line, made.start, made.end, made.replacement, line, " ".join(after.split()))


def _end_of_line(source: bytes, place: int) -> int:
    end = source.find(b"\n", place)
    return len(source) if end < 0 else end


def _begins_a_statement(tokens: list[Token], place: int) -> bool:
    """Whether the result of a call is not used: nothing stands before it that would use it."""
    if place == 0:
        return True
    before = tokens[place - 1]
    return (
        before.text in ("then", "do", "else", "end", ")", "}")
        or before.kind in ("number", "text")
        or (
            before.kind == "word" and before.text not in ("return", "and", "or", "not", "in", "local", "until", "while")
        )
    )


def _closing(tokens: list[Token], place: int) -> Token:
    """The bracket that closes the one at ``place``."""
    depth = 0
    for token in tokens[place:]:
        depth += (token.text == "(") - (token.text == ")") if token.kind == "sign" else 0
        if depth == 0:
            return token
    raise AssertionError("a bracket is not closed")
