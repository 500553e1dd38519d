"""The words of the documentation: the glossary is complete, and each word means one thing."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from pages import PAGES, Page

CONCEPTS = PAGES["docs/concepts.md"]

#: The terms of the design, which code, messages and pages use.
TERMS = [
    "stream", "category", "event number", "version", "expected version", "log", "partition", "position",
    "subscription", "projection", "view", "reactor", "checkpoint", "lag", "parked", "rebuild", "runner",
]  # fmt: skip

#: What else a stranger to the code meets.
MORE_TERMS = [
    "event", "event id", "feed", "row", "key", "handler", "forwarder", "transport", "bookmark", "skipped",
    "policy", "build", "live build", "candidate", "previous build", "switch", "rollback", "reset", "lease", "owner",
    "fencing token", "epoch", "heartbeat", "assignment", "coordinator", "worker", "worker pool", "commit pipeline",
    "lease keeper", "plug-in", "store", "envelope", "trim", "floor", "duplicate", "idempotency key", "aggregate",
    "repository", "snapshot", "adapter", "embedded server", "durability level",
]  # fmt: skip

#: Words that a page may not use, and what to say instead.
FORBIDDEN = {
    r"\bbehind\b": "'after' for what follows, 'lags' for what is late",
    r"\bwhoever\b": "name who it is",
    r"\bepoch of (a|the|its) (claim|lease)": "'fencing token'",
    r"\bsteward\b": "'coordinator'",
}


def glossary() -> list[str]:
    """The words that the tables of the glossary explain."""
    rows = CONCEPTS.table("word")
    return [match[1] for row in rows if (match := re.fullmatch(r"\*\*(.+)\*\*", row[0]))]


def test_every_word_of_the_glossary_is_explained_once() -> None:
    """Each row explains one word, in bold, and no other row does."""
    words = glossary()
    assert len(words) == len(CONCEPTS.table("word"))
    assert [word for word, times in Counter(words).items() if times > 1] == []


@pytest.mark.parametrize("term", [*TERMS, *MORE_TERMS])
def test_the_glossary_has_the_terms_of_the_design(term: str) -> None:
    """Every term has its row."""
    assert term in glossary()


def test_the_glossary_stands_first() -> None:
    """The page begins with it."""
    assert CONCEPTS.headings[:2] == ["Concepts", "Glossary"]


def test_an_epoch_and_a_fencing_token_are_two_things() -> None:
    """The epoch belongs to the store; what fences an old owner off is the fencing token."""
    explained = {row[0].strip("*"): row[1] for row in CONCEPTS.table("word")}
    assert "store" in explained["epoch"]
    assert "refused" in explained["fencing token"]


@pytest.mark.parametrize("page", PAGES.values(), ids=lambda page: page.name)
def test_words_are_used_as_they_are_meant(page: Page) -> None:
    """Words that were used for two things are used for none."""
    for number, line in page.prose:
        for word, instead in FORBIDDEN.items():
            found = re.search(word, line, flags=re.IGNORECASE)
            assert not found, f"{page.name}:{number}: {found and found.group()!r}; say {instead}"


@pytest.mark.parametrize("page", PAGES.values(), ids=lambda page: page.name)
def test_verify_is_the_command(page: Page) -> None:
    """Whatever else is looked at is compared, examined or checked; verify, also as a function, walks a store."""
    for number, line in page.prose:
        for found in re.finditer(r"\bverif(y|ies|ied)\b", line, flags=re.IGNORECASE):
            before = line[: found.start()]
            said = before.endswith(("runner ", "**", "operations.", "| `"))
            assert said, f"{page.name}:{number}: {found.group()!r} is not the command"


@pytest.mark.parametrize("page", PAGES.values(), ids=lambda page: page.name)
def test_an_epoch_is_that_of_a_store(page: Page) -> None:
    """A line that has the word says what it belongs to."""
    for number, line in page.prose:
        assert "epoch" not in line or "store" in line or "format" in line, f"{page.name}:{number}: epoch of what?"
