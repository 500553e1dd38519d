"""What the runner process says of crashes, of projections that stop, and of parked events."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from typing import Any

import pytest

from runner import EventStore, NewEvent, ParkStream, Projection, catch_up
from runner.daemon.logs import JsonFormatter, TextFormatter
from runner.daemon.process import Daemon
from runner.errors import LONGEST_TEXT, HandlerFailed
from runner.operations import retry_parked
from runner.testing import TEST_SETTINGS
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


def test_a_projection_that_stops_is_told_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """And with the event: as fields of the JSON line, and below the line for people."""
    fails = Projection[Any]("fails")

    @fails.when("X")
    def x(state: Any, event: Any) -> None:
        raise KeyError("customer")

    with EventStore.open("memory:") as store:
        store.append("a-1", NewEvent("X"))
        [failure] = Daemon(store, [fails], once=True).run()

    assert isinstance(failure, HandlerFailed)
    [record] = [one for one in caplog.records if one.levelname == "ERROR"]
    said = json.loads(JsonFormatter().format(record))
    assert said.items() >= {
        "projection": "fails", "partition": 0, "failed_position": 1, "type": "X", "stream": "a-1", "number": 1,
        "attempt": 1,
    }.items()  # fmt: skip
    assert said["traceback"].endswith("raise KeyError(\"customer\")\nKeyError: 'customer'\n")
    first, *more = TextFormatter().format(record).split("\n")
    assert "fails[0] stopped at position 0" in first
    assert more[-1] == "  | KeyError: 'customer'"


def test_parked_events_are_brought_to_mind(caplog: pytest.LogCaptureFixture) -> None:
    """Now and then while any are parked, also by a runner that found them so; not when they are gone."""
    parks = Projection[Any]("parks", on_error=ParkStream())
    mended = Projection[Any]("parks", on_error=ParkStream())
    mended.when("X")(lambda state, event: None)

    @parks.when("X")
    def x(state: Any, event: Any) -> None:
        raise KeyError("customer")

    def reminders() -> int:
        return sum("1 event parked" in one.getMessage() for one in caplog.records)

    settings, ticks = replace(TEST_SETTINGS, heartbeat=0.01), [0]
    with EventStore.open("memory:", settings=settings) as store:

        def tick(assignments: object) -> None:
            if reminders() >= 2 and not ticks[0]:
                retry_parked(store, mended)
                seen.append(reminders())
            ticks[0] += bool(seen)
            if ticks[0] == 4:
                signal.raise_signal(signal.SIGTERM)

        seen: list[int] = []
        store.append("a-1", NewEvent("X"))
        catch_up(store, parks)
        assert Daemon(store, [parks], show=tick, remind_every=0.02).run() == []
        assert reminders() == seen[0]
