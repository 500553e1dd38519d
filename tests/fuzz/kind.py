"""What a kind of fuzzing is, the stores that it works on, and its corpus.

An input is a Python literal, so that one that was found can be printed, and kept in a file: `corpus/KIND.txt` has one
a line, below a line that says what was wrong. The quick tests try them all again.
"""

from __future__ import annotations

import ast
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import strategies as st

from runner import EventStore
from runner.testing import TEST_SETTINGS

CORPUS = Path(__file__).parent / "corpus"

#: A new store, empty. It is closed with its kind's block.
Fresh = Callable[[], EventStore]


@dataclass(frozen=True)
class Kind:
    """One kind of fuzzing. ``check`` raises if something is wrong; whatever it raises is a finding.

    It may return how many inputs it made of the one that it was given.
    """

    name: str
    #: What is put in, and what must hold.
    what: str
    inputs: st.SearchStrategy[Any]
    check: Callable[[Any, Fresh], object]
    #: Whether the stores are on a real server: what runs there must be tried there.
    real: bool = False


def corpus(kind: str) -> list[Any]:
    """The inputs that were found once."""
    path = CORPUS / f"{kind}.txt"
    if not path.exists():
        return []
    lines = path.read_text().splitlines()
    return [ast.literal_eval(line) for line in lines if line and not line.startswith("#")]


@contextmanager
def fresh_stores(url: str) -> Iterator[Fresh]:
    """Stores at a URL, each with a name of its own. Those that are open at the end are closed."""
    opened: list[EventStore] = []
    patient = replace(TEST_SETTINGS, socket_timeout=10.0)

    def fresh() -> EventStore:
        while opened:
            opened.pop().close()
        at = url if url != "memory:" else f"memory:{secrets.token_hex(8)}"
        opened.append(EventStore.open(at, name=f"f{secrets.token_hex(8)}", settings=patient))
        return opened[-1]

    try:
        yield fresh
    finally:
        while opened:
            opened.pop().close()


#: Values that can be stored, and are literals.
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    st.binary(max_size=12),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6) | st.integers(0, 99), inner, max_size=4)
    ),
    max_leaves=8,
)

#: Changes of bytes: at a place, so many bytes are replaced by others.
CHANGES = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 4), st.binary(max_size=4)), min_size=1, max_size=5
)  # fmt: skip


def changed(text: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """The text with these changes."""
    for place, length, other in changes:
        at = place % (len(text) + 1)
        text = text[:at] + other + text[at + length :]
    return text


#: How many inputs come from one, where trying one takes less time than making it.
VARIANTS = 40


def variants(text: bytes, spread: int) -> list[bytes]:
    """The bytes, and other ones that differ from them in some places, as ``spread`` decides; 0 = only themselves."""
    chance, found = Random(spread), [text]
    for _ in range(VARIANTS if spread else 0):
        changes = [
            (
                chance.randrange(len(text) + 1),
                chance.choice((0, 1, 1, 1, 2)),
                chance.randbytes(chance.choice((0, 1, 1, 2))),
            )
            for _ in range(chance.choice((1, 1, 2, 4)))
        ]
        found.append(changed(text, changes))
    return found
