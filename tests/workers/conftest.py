"""What the tests of workers share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ground import Ground

from runner import EventStore, Projection


@pytest.fixture
def ground(store: EventStore) -> Iterator[Callable[..., Ground]]:
    """Makes pools on the store, which end with the test."""
    made: list[Ground] = []

    def make(*given: Projection, **options: Any) -> Ground:
        made.append(Ground(store, *given, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()
