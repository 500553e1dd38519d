"""Projections for runner processes, each with its plain fold. Given to ``runner run --projections`` as it is."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from accounts import balances as make_balances
from accounts import plain_fold

from runner import Projection, RecordedEvent

balances = make_balances()

#: One row for each type of event: how many there were, the last one's place, and a sum that tells their order.
kinds = Projection("kinds", initial=lambda: {"count": 0, "last": 0, "order": 0}, key=lambda event: event.type)

#: What `kinds` keeps of the order is taken modulo this prime.
PRIME = 1_000_000_007


@kinds.when()
def counted(state: Any, event: RecordedEvent) -> None:
    state["count"] += 1
    state["last"] = event.position
    state["order"] = (state["order"] * 31 + event.position * 7 + event.number) % PRIME


def kinds_fold(events: Iterable[Any]) -> dict[str, Any]:
    """What `kinds` must come to."""
    rows: dict[str, Any] = {}
    for event in events:
        row = rows.setdefault(event.type, {"count": 0, "last": 0, "order": 0})
        counted(row, event)
    return rows


#: The names of the projections, each with its fold.
VIEWS: list[tuple[str, Callable[[Iterable[Any]], dict[str, Any]]]] = [("balances", plain_fold), ("kinds", kinds_fold)]

if sys.platform == "linux" and "FAULTS_PARENT" in os.environ:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: who started this runner takes it along
    if os.environ["FAULTS_PARENT"] != str(os.getppid()):
        os._exit(1)  # it was gone before
