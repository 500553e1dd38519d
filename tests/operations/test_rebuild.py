"""Builds side by side: rebuild, switch, rollback, rolling deploys and resets, with readers and writers at work."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from accounts import deposited, in_thread, reached
from click.testing import CliRunner, Result
from trouble import three_accounts
from workbench import pool_of, status_of

from runner import (
    ANY,
    AsyncEventStore,
    EventStore,
    HandlerFailed,
    NewEvent,
    Projection,
    RecordedEvent,
    View,
    catch_up,
    follow,
)
from runner.cli.main import main
from runner.errors import BuildReplaced, CommitRefused, InvalidInput, LogTruncated, ProjectionHeld
from runner.operations.rebuild import rebuild
from runner.progress.builds import read_builds, reset, rollback
from runner.progress.lease import ClaimRequest, RunnerIdentity, Which, acquire
from runner.progress.status import status
from runner.sync.engine import Engine
from runner.testing import TEST_SETTINGS
from runner.workers.assignment import STANDING_BY
from runner.workers.holdings import Holdings


def sums(
    build: str = "1", factor: int = 1, *, on_event: Callable[[RecordedEvent], None] = lambda e: None
) -> Projection:
    """A row a stream: the number of its last event, and the sum of its amounts times a factor."""
    projection = Projection("sums", initial=lambda: {"last": 0, "sum": 0, "factor": factor}, build=build)

    @projection.when("Deposited")
    def add(state: Any, event: RecordedEvent) -> None:
        on_event(event)
        assert event.number == state["last"] + 1, "an event is missing, or doubled"
        state["last"] = event.number
        state["sum"] += factor * event.data["amount"]

    return projection


def fold(store: EventStore, factor: int = 1) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for event in store.read_all():
        row = rows.setdefault(event.stream, {"last": 0, "sum": 0, "factor": factor})
        row["last"] = event.number
        row["sum"] += factor * event.data["amount"]
    return rows


def rows(store: EventStore) -> dict[str, Any]:
    return dict(View(store, "sums").items())


def builds(store: EventStore, partition: int = 0) -> tuple[str | None, str | None, str | None]:
    found = store.run(read_builds(store.info.keys[partition], "sums"))
    return found.live, found.previous, found.candidate


def remake(store: EventStore, projection: Projection, **more: Any) -> list[Any]:
    return list(rebuild(store, projection, **more))


def mark() -> Projection:
    """Another projection, with code that nobody replaces."""
    projection = Projection("mark")
    projection.when(lambda state, event: {"number": event.number})
    return projection


def stands_by(engine: Engine) -> bool:
    """Whether the code of `sums` was replaced, and its runner stands by."""
    [one] = [one for one in engine.assignments if one.name == "sums"]
    return one.replaced is not None and one.state == STANDING_BY and not one.held


def held_by(engine: Engine, name: str) -> bool:
    return any(one.name == name and one.held for one in engine.assignments)


@contextmanager
def writing(store: EventStore, streams: int = 3, pause: float = 0.0) -> Iterator[None]:
    """Append without end beside the block, with pauses (in seconds) in between."""
    stop = threading.Event()

    def write() -> None:
        place = 0
        while not stop.wait(pause):
            store.append(f"a-{place % streams}", deposited(place))
            place += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)


@contextmanager
def reading(store: EventStore, streams: int = 3) -> Iterator[list[str]]:
    """Read the view without end beside the block, with one `View`; a row that goes back is written down."""
    stop, wrong = threading.Event(), list[str]()
    looks = 0

    def read() -> None:
        nonlocal looks
        view, last = View(store, "sums"), dict[str, int]()
        while not stop.is_set():
            for key in [f"a-{place}" for place in range(streams)]:
                floor = status_of(store, "sums").position if looks % 10 == 0 else 0
                row = view.get(key)
                seen = row["last"] if row else 0
                if seen < last.get(key, 0):
                    wrong.append(f"{key} went back from {last[key]} to {seen}")
                missing = [e for e in store.read_stream(key, after=seen) if e.position <= floor] if floor else []
                if missing:
                    wrong.append(f"{key} at {seen} lacks {missing[0]}, but {floor} is applied")
                last[key] = seen
                looks += 1

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield wrong
        before = looks
        assert reached(lambda: looks > before + 6), "the reader failed"
    finally:
        stop.set()
        thread.join(10)


# -- rebuild ------------------------------------------------------------------------------------


def test_a_rebuild_makes_the_view_beside_the_old_one_and_switches(store: EventStore) -> None:
    """C6. The old rows answer until the new build has caught up; then the same View shows the new ones."""
    # given
    three_accounts(store)
    catch_up(store, sums())
    view, seen = View(store, "sums"), list[Any]()

    # when
    [result] = remake(store, sums(factor=10, on_event=lambda event: seen.append(view["account-1"]["factor"])))

    # then
    assert (result.before, result.build, result.switched, result.position) == ("1", "1.2", True, 6)
    assert set(seen) == {1}
    assert view["account-1"]["factor"] == 10
    assert rows(store) == fold(store, 10)
    assert builds(store) == ("1.2", "1", None)


def test_a_rollback_changes_the_two_builds_over(store: EventStore) -> None:
    """C6. The build before is live again where it stood, and a runner of its code catches it up; and back again."""
    three_accounts(store)
    catch_up(store, sums())
    remake(store, sums(factor=10))
    store.append("account-1", deposited(1))
    done = store.run(rollback(store.info.keys[0], "sums"))
    assert (done.live, done.before, done.position) == ("1", "1.2", 6)
    catch_up(store, sums())
    assert rows(store) == fold(store)
    store.run(rollback(store.info.keys[0], "sums", "1.2"))
    assert View(store, "sums")["account-1"]["factor"] == 10
    with pytest.raises(InvalidInput, match="has no build before"):
        store.run(reset(store.info.keys[0], "sums"))
        catch_up(store, sums())
        store.run(rollback(store.info.keys[0], "sums"))


@pytest.mark.parametrize("factor", [1, 2])
def test_rows_are_compared_before_the_switch(store: EventStore, factor: int) -> None:
    """--require-same does not switch where a row differs, and shows which; equal rows are switched to."""
    three_accounts(store)
    catch_up(store, sums())
    [result] = remake(store, sums(factor=factor), require_same=True)
    assert result.switched == (factor == 1)
    assert result.comparison.differing == (0 if factor == 1 else 3)
    assert (result.comparison.rows_live, result.comparison.rows_candidate) == (3, 3)
    assert result.comparison.position == 6
    if factor == 2:
        key, old, new = result.comparison.first[0]
        assert (key, old["factor"], new["factor"]) == ("account-1", 1, 2)
        assert builds(store) == ("1", None, "1.2")
        [again] = remake(store, sums(factor=factor))
        assert (again.build, again.switched) == ("1.2", True), "it goes on with what was made"


def test_a_candidate_with_rows_of_other_code_is_made_anew(store: EventStore) -> None:
    """A rebuild that did not switch goes on with its rows only where the same code made them; it says so."""
    # given
    three_accounts(store)
    catch_up(store, sums())
    told = list[str]()
    [first] = remake(store, sums(factor=2), require_same=True)

    # when
    [same] = remake(store, sums(factor=2), require_same=True, note=told.append)
    silent = list(told)
    [other] = remake(store, sums(factor=3), note=told.append)

    # then
    assert (first.build, same.build, silent) == ("1.2", "1.2", [])
    assert told == ["build 1.2 has rows of other code of the same build: it is made anew"]
    assert (other.build, other.switched) == ("1.3", True)
    assert rows(store) == fold(store, 3)


def test_rows_that_differ_only_in_the_order_of_a_map_are_equal(store: EventStore) -> None:
    """The old code made the keys in one order, the new in another: nothing differs."""
    three_accounts(store)
    one, other = Projection("sums"), Projection("sums")
    one.when("Deposited", lambda state, event: {"a": 1, "b": {"c": 2, "d": 3}})
    other.when("Deposited", lambda state, event: {"b": {"d": 3, "c": 2}, "a": 1})
    catch_up(store, one)
    [result] = remake(store, other, require_same=True)
    assert (result.switched, result.comparison.differing) == (True, 0)


def test_a_candidate_that_is_ahead_of_the_live_build_is_made_anew_for_a_comparison(store: EventStore) -> None:
    """Rows can be compared at a position that both builds have had, and the live build has not been so far."""
    # given: a rebuild that failed at the last of two events which the live build has not applied
    three_accounts(store)
    catch_up(store, sums())
    store.append("account-1", deposited())
    store.append("account-2", deposited())

    def fail(event: RecordedEvent) -> None:
        assert event.position != 8, "no handler is perfect"

    with pytest.raises(HandlerFailed):
        remake(store, sums(on_event=fail))
    notes: list[str] = []

    # when
    [result] = remake(store, sums(), compare=True, note=notes.append)

    # then
    assert notes == ["build 1.2 is ahead of the live build, so rows could not be compared: it is made anew"]
    assert (result.build, result.comparison.differing, result.comparison.position) == ("1.3", 0, 6)
    assert (result.switched, result.position) == (True, 8)
    assert rows(store) == fold(store)


def test_a_rebuild_whose_claim_is_taken_says_who_has_it(store: EventStore) -> None:
    """The candidate is left to the other one, and the live build stays."""
    # given
    three_accounts(store)
    catch_up(store, sums())
    keys, taken = store.info.keys[0], list[Any]()

    def take_over(event: RecordedEvent) -> None:
        if event.position == 3 and not taken:
            other = RunnerIdentity("other", store.info, 60.0, "process 7 elsewhere")
            store.driver.execute([("HSET", keys.build("sums", "1.2"), "lease", 0)])
            taken.append(store.run(acquire(other, ClaimRequest(keys, "sums", "1"), Which.ANY, rebuilding=True)))

    # when
    with pytest.raises(CommitRefused, match="process 7 elsewhere"):
        remake(store, sums(on_event=take_over))

    # then
    assert [one.candidate for one in taken] == [True]
    assert builds(store) == ("1", None, "1.2")
    assert rows(store) == fold(store)


def test_two_rebuilds_at_once_the_second_is_told(store: EventStore, url: str) -> None:
    """ProjectionHeld names who is at it; the first goes on undisturbed."""
    # given
    three_accounts(store)
    catch_up(store, sums())
    told: list[ProjectionHeld] = []

    def meanwhile(event: RecordedEvent) -> None:
        if event.position != 3 or told:
            return
        with EventStore.open(url, name=store.info.name, settings=TEST_SETTINGS) as second:
            with in_thread(renew_for_ever), pytest.raises(ProjectionHeld) as held:
                try:
                    remake(second, sums())
                finally:
                    stop.set()
            told.append(held.value)

    stop = threading.Event()

    def renew_for_ever() -> None:  # what the worker does between two events
        [key] = [store.info.keys[0].build("sums", "1.2")]
        while not stop.wait(0.05):
            [now] = store.driver.execute([("TIME",)])
            lease = int(now[0]) * 1_000_000 + int(now[1]) + 2_000_000
            store.driver.execute([("HSET", key, "lease", lease)])

    # when
    [result] = remake(store, sums(on_event=meanwhile))

    # then
    assert len(told) == 1
    assert result.switched
    assert rows(store) == fold(store)


@pytest.mark.parametrize("partitions", [1, 3])
def test_a_rebuild_beside_a_live_runner_with_writers_and_readers(url: str, fresh_name: str, partitions: int) -> None:
    """The runner keeps the old build and takes the new one over by itself; no reader sees a row go back, or one that
    lacks an event that its build has applied; nothing is lost or doubled."""
    settings = replace(TEST_SETTINGS, page_size=20)
    with EventStore.open(url, name=fresh_name, partitions=partitions, settings=settings) as store:
        # given
        store.append_each([(f"a-{place % 3}", [deposited(place)], ANY) for place in range(300)])
        with follow(store, sums()) as following:
            following.wait_live(10)
            with reading(store) as wrong, writing(store):
                # when
                for _ in range(3):
                    assert all(result.switched for result in remake(store, sums()))
                    last = store.append("a-0", deposited(1))
                    View(store, "sums").wait_for(last, timeout=10)

            # then
            for partition in range(partitions):
                result = store.append(f"a-{partition}", deposited(1))
                following.wait_for(result, 10)
        assert wrong == []
        assert rows(store) == fold(store)
        assert {builds(store, partition)[0] for partition in range(partitions)} == {"1.4"}


def test_a_comparison_beside_a_live_runner_with_writers(store: EventStore) -> None:
    """While every row keeps changing, without a pause, equal code compares equal, and is switched to."""
    store.append_each([(f"a-{place % 3}", [deposited(place)], ANY) for place in range(300)])
    with follow(store, sums()) as following:
        following.wait_live(10)
        with reading(store) as wrong, writing(store):
            [result] = remake(store, sums(), require_same=True)
        following.wait_for(store.append("a-0", deposited(1)), 10)
    assert wrong == []
    assert (result.comparison.differing, result.switched) == (0, True)
    assert rows(store) == fold(store)


def test_a_row_that_differs_beside_a_live_runner_with_writers_is_found(store: EventStore) -> None:
    """One row of many differs, and goes on changing while it is compared: it is that one, and there is no switch."""
    store.append_each([(f"a-{place % 3}", [deposited(place)], ANY) for place in range(300)])
    other = Projection("sums", initial=lambda: {"last": 0, "sum": 0, "factor": 1}, build="2")

    @other.when("Deposited")
    def add(state: Any, event: RecordedEvent) -> None:
        state["last"] = event.number
        state["sum"] += event.data["amount"] * (2 if event.stream == "a-1" else 1)

    with follow(store, sums()) as following:
        following.wait_live(10)
        with writing(store):
            [result] = remake(store, other, require_same=True)
    assert not result.switched
    assert [key for key, _, _ in result.comparison.first] == ["a-1"]
    assert result.comparison.differing == 1


# -- a log that was taken back ------------------------------------------------------------------


def taken_back(store: EventStore) -> None:
    """The log ends three events earlier, as after a restore of an older copy; views and checkpoints stay."""
    log = store.info.keys[0].log
    [entries] = store.driver.execute([("XRANGE", log, "-", "+")])
    store.driver.execute([("DEL", log), *(("XADD", log, entry_id, *fields) for entry_id, fields in entries[:-3])])


def test_a_rebuild_says_that_the_live_build_stands_beyond_the_log(store: EventStore) -> None:
    """No candidate could come as far: it would wait without end. It says so before it does anything."""
    three_accounts(store)
    catch_up(store, sums())
    taken_back(store)
    with pytest.raises(LogTruncated, match="stands at position 6, but the log ends at 3"):
        remake(store, sums("2", 10))
    assert builds(store) == ("1", None, None)


def test_a_runner_says_that_its_candidate_cannot_reach_the_live_build(store: EventStore) -> None:
    """It stops with the reason, and a projection in the same worker goes on."""
    # given
    three_accounts(store)
    catch_up(store, sums())
    taken_back(store)

    # when
    engine = Engine(store, [sums("2", 10), mark()])
    engine.start()
    try:
        assert reached(lambda: engine.failures != [])
        assert reached(lambda: held_by(engine, "mark") and status_of(store, "mark").state == "live")
    finally:
        engine.stop()
        assert engine.join(10)

    # then
    [failure] = engine.failures
    assert isinstance(failure, LogTruncated)
    assert "stands at position 6, but the log ends at 3" in str(failure)
    [_, candidate] = store.run(status(store.info.keys[0], "sums"))
    assert (candidate.role, candidate.state) == ("candidate", "stopped")
    assert "the log ends at 3" in candidate.error


def test_a_candidate_that_stands_beyond_the_log_says_so_and_is_made_anew(store: EventStore) -> None:
    """A runner stops and names the candidate; a rebuild throws it away and begins another one."""
    # given: a candidate at the end of a log that is taken back; the live build stands before that
    store.append("account-1", deposited(1))
    catch_up(store, sums())
    three_accounts(store)
    wanted = sums("2", 10)
    begun = Engine(store, [wanted], live=False)
    with pytest.MonkeyPatch.context() as never:
        never.setattr(Holdings, "switch_candidates", lambda holdings: iter(()))
        begun.run_to_end()
    assert builds(store) == ("1", None, "2")
    taken_back(store)

    # when
    with pytest.raises(LogTruncated, match=r"candidate '2'\) stands at position 7, but the log ends at 4") as truncated:
        catch_up(store, sums("2", 10))
    told = list[str]()
    [result] = remake(store, sums("2", 10), note=told.append)

    # then
    assert "`runner rebuild sums` makes the candidate anew" in truncated.value.hint
    assert "build 2 was made from another log" in told[0]
    assert (result.switched, result.build) == (True, "2.3")
    assert rows(store) == fold(store, 10)


# -- rolling deploys ----------------------------------------------------------------------------


def test_new_code_rebuilds_by_itself_and_old_code_stands_by(store: EventStore, url: str) -> None:
    """build="2" starts beside a runner of build 1: the view never goes back, the old runner stands by without a
    failure, and old code that is started again does not take the view back."""
    # given
    store.append_each([(f"a-{place % 3}", [deposited(place)], ANY) for place in range(300)])
    with EventStore.open(url, name=store.info.name, settings=TEST_SETTINGS) as second:
        old, new = Engine(store, [sums()]), Engine(second, [sums("2", 10)])
        old.start()
        assert old.wait_live(10)
        with reading(store) as wrong, writing(store):
            # when
            new.start()
            try:
                assert reached(lambda: builds(store)[0] == "2")
                assert reached(lambda: stands_by(old))
                again = Engine(store, [sums()])
                again.start()
                assert reached(lambda: stands_by(again))
            finally:
                for one in (old, again):
                    one.stop()
                    assert one.join(10)
                last = store.append("a-1", deposited(1))
                assert new.wait_for(0, last.position, 10)
        assert new.wait_for(0, store.last_position(), 10)
        new.stop()
        assert new.join(10)

    # then
    assert wrong == []
    assert old.failures == again.failures == new.failures == []
    assert rows(store) == fold(store, 10)


def test_a_switch_that_the_store_has_forgotten_is_made_again(store: EventStore) -> None:
    """A failover may lose a switch that its runner was told of; the heartbeat finds it out, and it goes live again."""
    three_accounts(store)
    catch_up(store, sums())
    new = Engine(store, [sums("2", 10)])
    new.start()
    try:
        assert reached(lambda: builds(store)[0] == "2")
        projection = store.info.keys[0].projection("sums")
        store.driver.execute([
            ("HSET", projection, "build", "1", "candidate", "2"), ("HDEL", projection, "previous", "code:1")
        ])  # fmt: skip
        assert reached(lambda: builds(store)[0] == "2")
        assert new.wait_for(0, store.append("account-1", deposited(1)).position, 10)
    finally:
        new.stop()
        assert new.join(10)
    assert new.failures == []
    assert rows(store) == fold(store, 10)


def test_code_of_a_lower_number_does_not_replace_that_of_a_higher_one(store: EventStore) -> None:
    """Neither where it has never been live: a runner that is late in a rolling deploy does not turn it round."""
    three_accounts(store)
    catch_up(store, sums("10", 10))
    with pytest.raises(BuildReplaced, match="the live build is '10'; this code is build '9'"):
        catch_up(store, sums("9"))
    assert builds(store)[0] == "10"


def test_two_new_versions_do_not_fight(store: EventStore, url: str) -> None:
    """Build 3 comes while build 2 is still being made: one of them gives way and stands by, the other is live."""
    # given: build 2 is held up in its history
    three_accounts(store)
    catch_up(store, sums())
    begun, release = threading.Event(), threading.Event()

    def hold(event: RecordedEvent) -> None:
        begun.set()
        assert release.wait(10)

    with EventStore.open(url, name=store.info.name, settings=TEST_SETTINGS) as other:
        second, third = Engine(store, [sums("2", on_event=hold)]), Engine(other, [sums("3", 3)])
        second.start()
        assert begun.wait(10)

        # when
        third.start()
        assert reached(lambda: builds(store)[0] == "3")
        release.set()
        assert reached(lambda: stands_by(second))
        for one in (second, third):
            one.stop()
            assert one.join(10)

    # then
    assert second.failures == third.failures == []
    assert rows(store) == fold(store, 3)


def test_a_rollback_while_runners_run(store: EventStore, url: str) -> None:
    """Build 1 is live again: the runner of build 2 stands by, one of build 1 takes over."""
    three_accounts(store)
    catch_up(store, sums())
    with EventStore.open(url, name=store.info.name, settings=TEST_SETTINGS) as second:
        new = Engine(second, [sums("2", 10)])
        new.start()
        assert reached(lambda: builds(store)[0] == "2")
        store.append("account-1", deposited(1))
        store.run(rollback(store.info.keys[0], "sums"))
        with follow(store, sums()) as following:
            assert reached(lambda: stands_by(new))
            following.wait_for(store.append("account-2", deposited(2)), 10)
        new.stop()
        assert new.join(10)
    assert new.failures == []
    assert rows(store) == fold(store)


def test_replaced_code_takes_over_when_its_build_is_live_again(store: EventStore) -> None:
    """Nothing is started again: two rollbacks bring the view back to the runner of either build, with all events."""
    # given
    three_accounts(store)
    old, new = Engine(store, [sums(), mark()]), Engine(store, [sums("2", 10)])
    old.start()
    assert old.wait_live(10)
    new.start()
    try:
        assert reached(lambda: builds(store)[0] == "2" and stands_by(old))

        for engine, build, factor, other in ((old, "1", 1, new), (new, "2", 10, old)):
            # when
            store.append("account-1", deposited(1))
            store.run(rollback(store.info.keys[0], "sums", build))

            # then
            assert reached(lambda engine=engine: held_by(engine, "sums"))  # type: ignore[misc]
            assert engine.wait_for(0, store.append("account-2", deposited(2)).position, 10)
            assert rows(store) == fold(store, factor)
            assert reached(lambda other=other: stands_by(other))  # type: ignore[misc]
    finally:
        for engine in (old, new):
            engine.stop()
            assert engine.join(10)
    assert old.failures == new.failures == []


def test_replaced_code_takes_over_in_an_event_loop_too(store: EventStore, url: str) -> None:
    """A wait for replaced code ends with BuildReplaced, and the same block has the view again after a rollback."""

    async def go() -> None:
        async with (
            AsyncEventStore.open(url, name=store.info.name, settings=TEST_SETTINGS) as opened,
            follow(opened, sums()) as following,
        ):
            await following.wait_live(10)
            await asyncio.to_thread(remake, store, sums("2", 10))
            with pytest.raises(BuildReplaced, match="the live build is '2'"):
                while True:  # until the runner has noticed it
                    await following.wait_for(await opened.append("account-1", deposited(1)), 10)
            with pytest.raises(BuildReplaced):
                await following.wait_live(10)
            await asyncio.to_thread(store.run, rollback(store.info.keys[0], "sums"))
            assert await asyncio.to_thread(reached, lambda: status_of(store, "sums").state == "live")
            await following.wait_for(await opened.append("account-2", deposited(2)), 10)

    three_accounts(store)
    asyncio.run(go())
    assert rows(store) == fold(store)


def test_replaced_code_does_not_begin_a_view_that_was_reset(store: EventStore) -> None:
    """The newer code makes the view again; older code that only stands by would begin it from its own."""
    # given
    three_accounts(store)
    catch_up(store, sums("2", 10))
    coordinator = pool_of(store, [sums()], live=True).coordinator
    store.run(coordinator.first_round())

    # when
    store.run(reset(store.info.keys[0], "sums"))
    store.run(coordinator.first_round())

    # then
    assert coordinator.take_claimed() == []
    assert builds(store) == (None, None, None)


def test_old_code_that_only_catches_up_is_refused(store: EventStore) -> None:
    """It would wait for nothing: BuildReplaced names both builds and the way back."""
    three_accounts(store)
    catch_up(store, sums("2", 10))
    with pytest.raises(BuildReplaced) as replaced:
        catch_up(store, sums())
    assert (replaced.value.build, replaced.value.live) == ("1", "2")
    assert "runner rollback sums" in replaced.value.hint


def test_a_rollback_that_is_done_already_does_nothing(store: EventStore) -> None:
    """Two people who roll back do not undo each other. Going forward again takes the name of the build."""
    # given
    three_accounts(store)
    catch_up(store, sums())
    catch_up(store, sums("2", 10))
    [keys] = store.info.keys

    def go(to: str | None = None) -> tuple[str | None, str | None, str]:
        done = store.run(rollback(keys, "sums", to))
        return builds(store)[0], done.before, done.live

    # when, then
    assert [go(), go(), go("1")] == [("1", "2", "1"), ("1", None, "1"), ("1", None, "1")]
    assert [go("2"), go("2")] == [("2", "1", "2"), ("2", None, "2")]
    assert go() == ("1", "2", "1")
    with pytest.raises(InvalidInput, match="no build '3'; it has 1 and 2"):
        go("3")


def test_a_switch_after_a_rollback_can_be_rolled_back(store: EventStore) -> None:
    """What an earlier rollback left is forgotten with the switch. A build is also named by its code alone."""
    three_accounts(store)
    catch_up(store, sums())
    remake(store, sums())
    [keys] = store.info.keys
    assert store.run(rollback(keys, "sums", "1")).live == "1"
    remake(store, sums("2", 10))
    assert builds(store) == ("2", "1", None)
    assert store.run(rollback(keys, "sums")).live == "1"
    remake(store, sums("2", 10))
    assert builds(store) == ("2.4", "1", None)
    assert store.run(rollback(keys, "sums", "1")).live == "1"
    assert store.run(rollback(keys, "sums", "2")).live == "2.4"


def test_a_rollback_whose_reply_is_lost_is_made_once(store: EventStore) -> None:
    """It is sent again, finds that it is done, and does not go forward."""
    three_accounts(store)
    catch_up(store, sums())
    catch_up(store, sums("2", 10))
    going: Any = rollback(store.info.keys[0], "sums")
    sent: list[Any] = []
    effect = next(going)
    with pytest.raises(StopIteration) as ended:
        while True:
            replies = store.driver.execute(effect.commands)
            if "rollback" in repr(effect.commands[0][0]) and not sent:
                sent.append(store.driver.execute(effect.commands))
                replies = sent[-1]
            effect = going.send(replies)
    assert sent
    assert (ended.value.value.live, builds(store)[0]) == ("1", "1")


def test_a_reset_under_a_running_runner_lets_it_begin_anew(store: EventStore) -> None:
    """Reset a rebuilt projection while it runs: the runner makes the view again by itself, from the first event."""
    three_accounts(store)
    catch_up(store, sums())
    remake(store, sums())
    with follow(store, sums()) as following:
        following.wait_live(10)
        store.run(reset(store.info.keys[0], "sums"))
        following.wait_for(store.append("account-2", deposited(2)), 10)
        assert reached(lambda: rows(store) == fold(store))
    assert builds(store)[1:] == (None, None)


def test_two_candidates_switch_each_for_itself(store: EventStore) -> None:
    """Two projections are made anew in one worker; one that is switched does not wait for the other."""
    three_accounts(store)
    first, second = Projection("first"), Projection("second")
    first.when(lambda state, event: {"build": "1"})
    second.when(lambda state, event: {"build": "1"})
    catch_up(store, first, second)
    anew = [Projection(name, build="2") for name in ("first", "second")]
    for one in anew:
        one.when(lambda state, event: {"build": "2"})
    with follow(store, *anew) as following:
        following.wait_live(10)
        following.wait_for(store.append("account-1", deposited()), 10)
        for name in ("first", "second"):
            assert status_of(store, name).build == "2"
            assert View(store, name)["account-1"] == {"build": "2"}


# -- processes ----------------------------------------------------------------------------------

PLUGIN = """
import time
from runner import Projection
sums = Projection("sums", initial=lambda: {"last": 0, "sum": 0, "factor": 1})
@sums.when("Deposited")
def add(state, event):
    assert event.number == state["last"] + 1
    state["last"] = event.number
    state["sum"] += event.data["amount"]
    time.sleep(SLOW)
"""


@pytest.mark.real
def test_a_rebuild_that_is_killed_goes_on_where_it_was(real_url: str, fresh_name: str, tmp_path: Path) -> None:
    """SIGKILL at random moments: the live view answers all the time, and the next rebuild resumes the candidate."""
    plugin = tmp_path / "slow.py"
    plugin.write_text(PLUGIN.replace("SLOW", "0.001"))
    command = [
        sys.executable, "-m", "runner", "rebuild", "sums", "--projections", str(plugin),
        "--store", real_url, "--name", fresh_name, "--lease", "0.4",
    ]  # fmt: skip
    with EventStore.open(real_url, name=fresh_name, settings=replace(TEST_SETTINGS, lease=0.4)) as store:
        # given
        store.append_each([(f"a-{place % 3}", [deposited(place)], ANY) for place in range(1500)])
        catch_up(store, sums())
        expected, chance, reachd = rows(store), random.Random(7), [0]

        def candidate() -> int:
            [position] = store.driver.execute([("HGET", store.info.keys[0].build("sums", "1.2"), "position")])
            return int(position or 0)

        # when
        for _ in range(3):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            goal = reachd[-1] + chance.randint(1, 400)
            assert reached(lambda goal=goal: candidate() >= goal, 20)  # type: ignore[misc]
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert rows(store) == expected
            assert candidate() >= reachd[-1], "it begins anew"
            reachd.append(candidate())
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)

        # then
        assert done.returncode == 0, done.stderr
        assert builds(store) == ("1.2", "1", None)
        assert rows(store) == expected


# -- the commands -------------------------------------------------------------------------------


def run(url: str, *args: str) -> Result:
    result = CliRunner().invoke(main, [*args, "--store", url], env={"COLUMNS": "200"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_the_commands_tell_what_they_did(fresh_name: str, tmp_path: Path) -> None:
    """rebuild --diff shows rows and switches, --require-same exits with 1 and does not; rollback goes back; status has
    a line for the candidate."""
    url = f"memory:rebuild-{fresh_name}"
    same, other = tmp_path / "same.py", tmp_path / "other.py"
    same.write_text(PLUGIN.replace("SLOW", "0"))
    other.write_text(PLUGIN.replace("SLOW", "0").replace('event.data["amount"]', '2 * event.data["amount"]'))
    with EventStore.open(url) as store:
        store.append("a-1", [NewEvent("Deposited", {"amount": 1})])
        assert run(url, "rebuild", "sums", "--projections", str(same)).exit_code == 2
        assert run(url, "run", "--once", "--accept-bad", "--projections", str(same)).exit_code == 0

        refused = run(url, "rebuild", "sums", "--require-same", "--projections", str(other))
        assert refused.exit_code == 1
        assert "1 row live, 1 made again, 1 differ" in refused.output
        assert "build 1 stays live" in refused.output
        assert "1.2 (candidate)" in run(url, "status").output
        found = run(url, "rebuild", "sums", "--diff", "--json", "--projections", str(other))
        [result] = json.loads(found.stdout)
        assert (result["switched"], result["comparison"]["differing"]) == (True, 1)
        assert rows(store)["a-1"]["sum"] == 2
        assert "build 1 is live again" in run(url, "rollback", "sums").output
        assert rows(store)["a-1"]["sum"] == 1
        [live, previous] = json.loads(run(url, "status", "--json").output)
        assert (live["build"], live["role"], previous["build"], previous["role"]) == ("1", "live", "1.2", "previous")
        assert run(url, "rollback", "nothing").exit_code == 2


def test_the_commands_warn_where_nobody_keeps_a_view(fresh_name: str, tmp_path: Path) -> None:
    """rebuild and rollback name the runner that keeps the view, or warn; status says which build has no runner."""
    url = f"memory:keepers-{fresh_name}"
    plugin = tmp_path / "sums.py"
    plugin.write_text(PLUGIN.replace("SLOW", "0").replace('"sums",', '"sums", build="2",'))
    with EventStore.open(url, settings=TEST_SETTINGS) as store, follow(store, sums()) as following:
        store.append("a-1", [NewEvent("Deposited", {"amount": 1})])
        following.wait_live(10)

        made = run(url, "rebuild", "sums", "--projections", str(plugin))
        assert made.exit_code == 0
        assert (
            "Warning: none of the runners that are alive has the code of build 2 of sums: the view stays as it is: new "
            "events are not applied until a runner with that code runs\n"
            "Hint: Start `runner run` with the code of build 2 of sums."
        ) in made.stderr
        assert "no runner has build 2" in run(url, "status").stdout

        back = run(url, "rollback", "sums")
        assert "nothing was done" in run(url, "rollback", "sums").stdout
        assert run(url, "rollback", "sums", "--to", "3").exit_code == 2
        assert f"build 1 is kept up to date by {store.driver.place}" in back.stdout
        assert "Warning" not in back.output


def test_a_rebuild_without_a_runner_says_that_none_is_alive(url: str, tmp_path: Path) -> None:
    """The view is whole; the warning says what does not happen until a runner is started, and how to start it."""
    plugin = tmp_path / "sums.py"
    plugin.write_text(PLUGIN.replace("SLOW", "0"))
    with EventStore.open(url, settings=TEST_SETTINGS) as store:
        store.append("a-1", [NewEvent("Deposited", {"amount": 1})])
        catch_up(store, sums())

        made = run(url, "rebuild", "sums", "--projections", str(plugin))

        assert made.stderr == (
            "Warning: no runner is alive: the view stays as it is: new events are not applied until a runner with "
            "that code runs\nHint: Start `runner run` with the code of build 1 of sums.\n"
        )
