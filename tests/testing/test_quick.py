"""The quick part of the suite: it reaches every package, and what it leaves out exists."""

from __future__ import annotations

from pathlib import Path

import pytest
from quick import SLOW, is_quick

TESTS = Path(__file__).parents[1]

#: Packages that cannot be tested without a server or a process of their own.
REAL = {"embedded", "daemon"}


@pytest.mark.parametrize(
    ("test", "real", "quick"),
    [
        ("log/test_store.py::test_it[memory]", False, True),
        ("log/test_store.py::test_it[real]", True, False),
        ("faults/test_soak.py::test_it", False, False),
        ("testing/test_contract.py::TestOurs::test_the_largest_batch_is_written_whole[memory]", False, False),
        ("workers/test_crashes.py::test_it[memory]", False, False),
    ],
)
def test_a_test_is_quick_unless_it_is_real_or_named(test: str, real: bool, quick: bool) -> None:
    """The list of what is slow names folders, files and tests."""
    assert is_quick(test, real=real) is quick


@pytest.mark.parametrize("slow", SLOW)
def test_what_is_named_as_slow_exists(slow: str) -> None:
    """An entry whose folder, file or test has gone must go too."""
    place, _, test = slow.partition("::")
    if place.startswith("test_") and not place.endswith(".py"):
        place, test = "testing/test_contract.py", place
        text = (TESTS.parent / "runner" / "testing" / "contract.py").read_text()
    elif test:
        text = (TESTS / place).read_text()
    assert (TESTS / place).exists()
    assert not test or f"def {test}" in text


@pytest.mark.parametrize(
    "folder",
    sorted({file.parent.name for file in TESTS.glob("*/test_*.py")} - {slow.strip("/") for slow in SLOW} - REAL),
)
def test_every_folder_has_quick_tests(folder: str) -> None:
    """A newcomer's run reaches every package that can be tested without a server."""
    files = [
        file.relative_to(TESTS).as_posix()
        for file in (TESTS / folder).glob("test_*.py")
        if "pytestmark = pytest.mark.real" not in file.read_text()
    ]
    assert any(is_quick(f"{file}::test_it", real=False) for file in files)
