"""A runner that crashes says so: its failures are never empty, so its exit code is never 0."""

from __future__ import annotations

import pytest

from runner import EventStore, NewEvent, Projection
from runner.daemon.process import Daemon
from runner.errors import LONGEST_TEXT, HandlerFailed
from runner.workers.coordinator import Coordinator


def test_a_crash_of_the_coordinator_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cron job must not take it for done."""

    def crash(self: Coordinator) -> None:
        raise TypeError("a mistake of this package")

    monkeypatch.setattr(Coordinator, "claim_all", crash)
    with EventStore.open("memory:") as store:
        store.append("a-1", NewEvent("X"))
        failures = Daemon(store, [Projection("p")], once=True).run()

    assert [str(failure) for failure in failures] == ["the runner failed: TypeError('a mistake of this package')"]


def test_a_long_text_of_an_exception_is_cut() -> None:
    """It is stored, sent with each heartbeat and printed."""
    failed = HandlerFailed("p", 1, "a-1", 1, "X", ValueError("x" * 1_000_000))

    assert len(failed.cause_text) == LONGEST_TEXT
    assert len(str(failed)) < 2 * LONGEST_TEXT
