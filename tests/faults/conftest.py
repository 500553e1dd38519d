"""A lab for each test of the fault matrix."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lab import Lab
from lab import lab as opened_lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Servers for one test, gone after it."""
    with opened_lab() as room:
        yield room
