"""How a wait for projections of this process ends: without an error, with the obstacle of one, or with WaitTimeout.

A projection that has stopped does not go on before it is started again, and one whose code was replaced not before its
build is live again. So a wait ends with that obstacle as soon as every other projection is where the wait wants it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import WaitTimeout
from .assignment import LIVE, Assignment


def check_live(assignments: Sequence[Assignment[Any]]) -> None:
    """Raise the obstacle of an assignment, else WaitTimeout for the first that is not live; nothing if all are."""
    _raise_obstacle(assignments)
    for each in assignments:
        if each.state != LIVE:
            raise WaitTimeout(each.name, each.keys.partition, None, None, each.state, each.reason)


def check_applied(assignments: Sequence[Assignment[Any]], partition: int, position: int) -> None:
    """Raise the obstacle of an assignment that has not applied a position, else WaitTimeout for the first such."""
    late = [each for each in assignments if each.keys.partition == partition and each.committed < position]
    _raise_obstacle(late)
    for each in late:
        raise WaitTimeout(each.name, partition, position, position - each.committed, each.state, each.reason)


def _raise_obstacle(assignments: Sequence[Assignment[Any]]) -> None:
    for each in assignments:
        if each.obstacle is not None:
            raise each.obstacle
