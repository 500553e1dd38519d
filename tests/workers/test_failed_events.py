"""What is told of events that fail, and the traceback that stays beside the checkpoint."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import pytest
from command_line import run
from faces import FACES, catch_up_on

from runner import EventStore, NewEvent, ParkStream, Projection, Reactor, Retry, Skip, Stop, operations
from runner.errors import HandlerFailed
from runner.progress.parked import LONGEST_TRACEBACK

KINDS = ("projection", "reactor")


def broken(kind: str, policy: Any, cause: Exception) -> Projection | Reactor:
    """A projection or reactor named "broken" that handles events of the type "Bad" by raising."""
    if kind == "reactor":
        reactor = Reactor("broken", on_error=policy)

        @reactor.when("Bad", "Good")
        def react(event: Any, key: str) -> None:
            if event.type == "Bad":
                raise cause

        return reactor
    projection = Projection[Any]("broken", on_error=policy)

    @projection.when("Bad", "Good")
    def fold(state: Any, event: Any) -> None:
        if event.type == "Bad":
            raise cause

    return projection


@dataclass
class Told:
    """A line of the log."""

    level: int
    text: str
    fields: dict[str, Any]


def told(caplog: pytest.LogCaptureFixture) -> list[Told]:
    return [
        Told(record.levelno, record.getMessage(), record.__dict__["fields"])
        for record in caplog.records if record.name == "runner"
    ]  # fmt: skip


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("kind", KINDS)
def test_each_failed_event_is_told(
    url: str, store: EventStore, face: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Retried and parked, with the later event of its row: projection, place, attempt, error and traceback."""
    # given
    store.append("a-1", [NewEvent("Good"), NewEvent("Bad"), NewEvent("Good")])
    policy = Retry(times=1, backoff=0.0, then=ParkStream())

    # when
    catch_up_on(face, url, store.info.name, broken(kind, policy, KeyError("customer")))

    # then
    retried, parked, waits = told(caplog)
    place = {"projection": "broken", "partition": 0, "position": 2, "type": "Bad", "stream": "a-1", "number": 2}
    for line, outcome, attempt in ((retried, "retried", 1), (parked, "parked", 2)):
        assert line.fields.items() >= {**place, "outcome": outcome, "attempt": attempt}.items()
        assert line.fields["error"] == "KeyError: 'customer'"
        assert "raise cause\nKeyError: 'customer'" in line.fields["traceback"]
    assert (retried.level, parked.level, waits.level) == (logging.WARNING, logging.ERROR, logging.WARNING)
    assert parked.text == (
        "broken[0] parked the event at position 2 ('Bad', event 2 of 'a-1'): KeyError: 'customer' (after 2 attempts); "
        "correct the cause, then `runner parked retry broken`"
    )
    assert (waits.fields["position"], waits.fields["outcome"], "traceback" in waits.fields) == (3, "parked", False)
    assert "it waits for a parked event of its row" in waits.text


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_skipped_event_is_told(
    url: str, store: EventStore, face: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, as a warning."""
    store.append("a-1", [NewEvent("Bad"), NewEvent("Good")])
    catch_up_on(face, url, store.info.name, broken(kind, Skip(), ValueError("no\n\x1b[2J")))
    [line] = told(caplog)
    assert (line.level, line.fields["outcome"], line.fields["position"]) == (logging.WARNING, "skipped", 1)
    assert set("\n\x1b").isdisjoint(line.text)
    assert "its record is in `runner skipped broken`" in line.text


def test_parked_events_that_an_operator_redrives_or_drops_are_told(
    url: str, store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A retry that fails again is told as an error once more."""
    # given
    store.append("a-1", [NewEvent("Bad"), NewEvent("Good")])
    store.append("b-1", NewEvent("Bad"))
    catch_up_on("sync", url, store.info.name, broken("projection", ParkStream(), KeyError("customer")))
    caplog.clear()

    # when
    operations.retry_parked(store, broken("projection", ParkStream(), KeyError("other")), row="a-1")
    mended = Projection[Any]("broken", on_error=ParkStream())
    mended.when("Bad", "Good")(lambda state, event: None)
    operations.retry_parked(store, mended, row="a-1")
    operations.drop_parked(store, "broken", row="b-1")

    # then
    assert [(one.fields["outcome"], one.fields["position"], one.fields["attempt"]) for one in told(caplog)] == [
        ("parked", 1, 2), ("redriven", 1, 2), ("redriven", 2, 0), ("dropped", 3, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_traceback_stays_beside_the_checkpoint(url: str, store: EventStore, face: str, kind: str) -> None:
    """Cut at its beginning; `runner why` shows it, until the projection goes on."""
    # given
    name = store.info.name
    store.append("a-1", NewEvent("Bad"))

    # when
    with pytest.raises(HandlerFailed):
        catch_up_on(face, url, name, broken(kind, Stop(), KeyError("x" * 2 * LONGEST_TRACEBACK)))

    # then
    [stopped] = operations.status(store, "broken").projections
    assert stopped.state == "stopped"
    assert len(stopped.traceback) == LONGEST_TRACEBACK

    # when
    with pytest.raises(HandlerFailed):
        catch_up_on(face, url, name, broken(kind, Stop(), KeyError("customer")))

    # then
    said = run("why", "broken", "--name", name, store=url).stdout
    assert "broken, partition 0, build 1: stopped at position 0, 0 parked, 0 skipped; " in said
    assert "failed at position 1 ('Bad', event 1 of 'a-1'): KeyError: 'customer'" in said
    assert "  |     raise cause\n  | KeyError: 'customer'\n" in said

    # when
    catch_up_on(face, url, name, broken(kind, Skip(), KeyError("customer")))

    # then
    [idle] = operations.status(store, "broken").projections
    assert (idle.error, idle.traceback) == ("", "")
    key = store.info.keys[0].build("broken", "1")
    assert store.driver.execute([("HEXISTS", key, "traceback")]) == [0]
    said = run("why", "broken", "--name", name, store=url).stdout
    assert "idle at position 1, 0 parked, 1 skipped; no error" in said
    assert "skipped: position 1: Bad, event 1 of a-1: KeyError: 'customer'" in said


def test_another_error_takes_its_traceback_away(store: EventStore) -> None:
    """An error that no handler raised has none."""
    # given
    store.append("a-1", [NewEvent("Good"), NewEvent("Bad")])
    with pytest.raises(HandlerFailed):
        catch_up_on("sync", store.label, store.info.name, broken("projection", Stop(), KeyError("customer")))
    keys = store.info.keys[0]

    # when
    store.driver.execute([("HSET", keys.build("broken", "1"), "rows", 7)])
    with pytest.raises(Exception, match="by hand"):
        catch_up_on("sync", store.label, store.info.name, broken("projection", Stop(), KeyError("customer")))

    # then
    [stopped] = operations.status(store, "broken").projections
    assert ("by hand" in stopped.error, stopped.traceback) == (True, "")
