"""How a wait for projections of this process ends: well, with what stopped one of them, or with WaitTimeout.

A projection that has stopped in this process goes on when it is started again, not before. So a wait ends with its
failure as soon as no other projection is waited for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import WaitTimeout
from .assignment import LIVE, Assignment


def check_live(assignments: Sequence[Assignment[Any]]) -> None:
    """Raise what stopped an assignment, else WaitTimeout for the first one that is not live, if there is one."""
    _raise_failure(assignments)
    for each in assignments:
        if each.state != LIVE:
            raise WaitTimeout(each.name, each.keys.partition, None, None, each.state, each.reason)


def check_applied(assignments: Sequence[Assignment[Any]], partition: int, position: int) -> None:
    """Raise what stopped an assignment before a position, else WaitTimeout for the first that has not applied it."""
    late = [each for each in assignments if each.keys.partition == partition and each.committed < position]
    _raise_failure(late)
    for each in late:
        raise WaitTimeout(each.name, partition, position, position - each.committed, each.state, each.reason)


def _raise_failure(assignments: Sequence[Assignment[Any]]) -> None:
    for each in assignments:
        if each.failure is not None:
            raise each.failure
