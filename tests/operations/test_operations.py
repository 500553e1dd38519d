"""The functions of `runner.operations`: each over all partitions, by either face, on fake and real servers."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, assert_type

import pytest
from accounts import deposited, reached
from disturbing import command_of
from trouble import divide_by_zero

from runner import (
    ANY,
    AsyncEventStore,
    EventStore,
    HandlerFailed,
    InvalidInput,
    NewEvent,
    ParkStream,
    Projection,
    Reactor,
    RecordedEvent,
    Skip,
    View,
    catch_up,
    follow,
)
from runner import operations as ops
from runner.errors import BuildReplaced, DataError, LogTrimmed, ProjectionHeld
from runner.operations import BadLine, Progress, TrimResult, VerifyResult
from runner.operations.check import BAD, WARNING
from runner.progress.checkpoint import Checkpoint, Claim
from runner.progress.lease import ClaimRequest, RunnerIdentity, acquire
from runner.progress.registration import unregister
from runner.progress.status import status
from runner.projections import fingerprint as fingerprints
from runner.testing import TEST_SETTINGS, all_events, count
from runner.views.redis_rows import Changes, commit_command

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"

PARTITIONS = 3
STREAMS = [f"account-{number}" for number in range(12)]


class Face:
    """Calls the functions with a store of one kind. ``store`` is the same store, for preparing and looking."""

    def __init__(self, kind: str, url: str, store: EventStore) -> None:
        self.asynchronous = kind == "async"
        self.url = url
        self.store = store

    def __call__(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if not self.asynchronous:
            return function(self.store, *args, **options)

        async def call() -> Any:
            name, settings = self.store.info.name, self.store.settings
            async with AsyncEventStore.open(self.url, name=name, settings=settings) as store:
                return await function(store, *args, **options)

        return asyncio.run(call())


@pytest.fixture(params=["sync", "async"])
def face(request: pytest.FixtureRequest, url: str, fresh_name: str) -> Iterator[Face]:
    """Each face, with a store of several partitions."""
    settings = replace(TEST_SETTINGS, page_size=5)
    with EventStore.open(url, name=fresh_name, partitions=PARTITIONS, settings=settings) as store:
        yield Face(request.param, url, store)


def filled(store: EventStore, events: int = 4) -> None:
    """As many events in each stream; there are streams in every partition."""
    results = store.append_each([(stream, [deposited(each + 1)], ANY) for each in range(events) for stream in STREAMS])
    assert {result.partition for result in results} == set(range(PARTITIONS))  # type: ignore[union-attr]


def sums(build: str = "1", factor: int = 1, *, failing: str = "", **options: Any) -> Projection:
    """A row a stream: the sum of its amounts. Its handler fails for one stream, if told to."""
    projection = Projection("sums", build=build, initial=lambda: {"sum": 0}, **options)

    @projection.when("Deposited")
    def add(state: Any, event: RecordedEvent) -> None:
        if event.stream == failing:
            raise ValueError("no luck")
        state["sum"] += factor * event.data["amount"]

    return projection


def mailer() -> Reactor:
    reactor = Reactor("mailer", category="account")
    reactor.when("Deposited", lambda event, key: None)
    return reactor


def rows(store: EventStore) -> dict[str, Any]:
    return dict(View(store, "sums").items())


def ends(store: EventStore) -> tuple[int, ...]:
    return tuple(store.last_position(partition=partition) for partition in range(PARTITIONS))


# -- projections --------------------------------------------------------------------------------


def test_status_tells_where_every_projection_stands_in_every_partition(face: Face) -> None:
    """With the ends of the partitions; of one projection, only of that."""
    # given
    filled(face.store)
    catch_up(face.store, sums(), mailer())
    before = ends(face.store)
    face.store.append(STREAMS[0], deposited())

    # when
    found = face(ops.status)
    one = face(ops.status, "sums")

    # then
    assert (found.name, found.last_positions) == (face.store.info.name, ends(face.store))
    assert [(each.partition, each.name, each.kind) for each in found.projections] == [
        (partition, *unit)
        for partition in range(PARTITIONS)
        for unit in (("mailer", "reactor"), ("sums", "projection"))
    ]
    assert [each.position for each in one.projections] == list(before)
    assert sum(each.lag for each in one.projections) == 1
    assert {each.current_state for each in one.projections} == {"idle"}
    with pytest.raises(InvalidInput, match="knows no projection 'nothing'"):
        face(ops.status, "nothing")


def test_who_makes_another_build_live_is_told_which_runner_keeps_it(face: Face) -> None:
    """A live runner with code of that build, or none; status tells then that no runner has it, until one comes."""
    # given: a runner of build 1
    filled(face.store)
    with follow(face.store, sums(), mailer()) as following:
        following.wait_live(10)
        here = {face.store.driver.place}

        # when: build 2 is made by hand
        made = face(ops.rebuild, sums("2", 2))
        between = [each for each in face(ops.status, "sums").projections if each.role == "live"]
        back = face(ops.rollback, "sums")

        # then
        assert {result.keepers for result in made} == {()}
        assert {each.current_state for each in between} == {"no runner has build 2"}
        assert {each.codes for each in between} == {("1",)}
        assert {place for result in back for place in result.keepers} == here
        assert reached(lambda: _states(face, "sums") == {"live"})
        assert _states(face, "mailer") == {"live"}
    assert _states(face, "sums") == {"idle"}


def test_a_rebuild_that_does_not_switch_names_no_keeper(face: Face) -> None:
    """Its build is not live, so nobody is to keep it."""
    filled(face.store)
    with follow(face.store, sums()) as following:
        following.wait_live(10)
        results = face(ops.rebuild, sums(factor=2), require_same=True)
    assert {(result.switched, result.keepers) for result in results} == {(False, ())}


def _states(face: Face, name: str) -> set[str]:
    return {each.current_state for each in face(ops.status, name).projections if each.role == "live"}


def test_a_projection_whose_runner_has_gone_silent_has_none(face: Face) -> None:
    """What it said last is known as long as its lease runs; a projection that stopped has none by right."""
    # given
    filled(face.store, 1)
    catch_up(face.store, sums())
    keys = face.store.info.keys[0].build("sums", "1")

    # then
    for said, lease, state in (("live", 2**52, "live"), ("live", 1, "no runner"), ("stopped", 1, "stopped")):
        face.store.driver.execute([("HSET", keys, "state", said, "lease", lease)])
        one = face(ops.status, "sums").projections[0]
        assert (one.state, one.current_state) == (said, state)


def test_names_are_those_of_all_partitions(face: Face) -> None:
    """Sorted, each once, whether it has run in one partition or in all."""
    # given
    assert face(ops.projection_names) == []
    catch_up(face.store, sums(), mailer())
    ops.reset(face.store, "mailer", repeat_effects=True)
    face.store.driver.execute([("SADD", face.store.info.keys[2].projections, "another")])

    # then
    assert face(ops.projection_names) == ["another", "sums"]


def test_a_rebuild_switches_in_every_partition_and_a_rollback_goes_back(face: Face) -> None:
    """Progress ends at the sum of the partitions' ends; the old build is live again after the rollback."""
    # given
    filled(face.store)
    catch_up(face.store, sums())
    before, told = rows(face.store), list[Progress]()

    # when
    done = face(ops.rebuild, sums(factor=10), progress=told.append)

    # then
    assert [(each.partition, each.build, each.before, each.switched) for each in done] == [
        (partition, "1.2", "1", True) for partition in range(PARTITIONS)
    ]
    assert tuple(each.position for each in done) == ends(face.store)
    assert rows(face.store) == {key: {"sum": 10 * row["sum"]} for key, row in before.items()}
    end = sum(ends(face.store))
    assert [each.done for each in told] == sorted(each.done for each in told)
    assert told[-1] == Progress(end, end)

    # when
    back = face(ops.rollback, "sums")

    # then
    assert [(each.partition, each.live, each.before) for each in back] == [(p, "1", "1.2") for p in range(PARTITIONS)]
    assert rows(face.store) == before


def test_a_rebuild_that_is_to_make_the_same_rows_does_not_switch_where_one_differs(face: Face) -> None:
    """The result holds how many rows differ in each partition, and the first of them. Code that makes equal rows is
    switched to; that a candidate of other code was left does not matter to it."""
    # given
    filled(face.store)
    catch_up(face.store, sums())

    # when
    other = face(ops.rebuild, sums("2", factor=10), require_same=True)
    same = face(ops.rebuild, sums("3"), require_same=True)

    # then
    assert not any(each.switched for each in other)
    assert sum(each.comparison.differing for each in other) == len(STREAMS)
    first = other[0].comparison.first[0]
    assert (first.live, first.rebuilt) == ({"sum": 10}, {"sum": 100})
    assert [(each.switched, each.comparison.differing) for each in same] == [(True, 0)] * PARTITIONS


def test_a_rebuild_tells_why_it_failed_and_the_next_one_goes_on(face: Face) -> None:
    """The live view stays as it is; a reactor has nothing to rebuild, nor has what was never run."""
    # given
    filled(face.store)
    with pytest.raises(InvalidInput, match="knows no projection"):
        face(ops.rebuild, sums())
    with pytest.raises(InvalidInput, match="has no view to rebuild"):
        face(ops.rebuild, mailer())
    catch_up(face.store, sums())
    before = rows(face.store)

    # when
    with pytest.raises(HandlerFailed):
        face(ops.rebuild, sums("2", failing=STREAMS[0]))

    # then
    assert rows(face.store) == before
    assert {each.build for each in face(ops.rebuild, sums("2", factor=2))} == {"2"}


def test_a_reset_forgets_a_view_in_every_partition(face: Face) -> None:
    """A dry run says the same and changes nothing; a reactor is reset only by those who know what that means."""
    # given
    filled(face.store)
    catch_up(face.store, sums(), mailer())

    # when
    would = face(ops.reset, "sums", dry_run=True)
    kept = rows(face.store)
    done = face(ops.reset, "sums")

    # then
    assert would == done
    assert tuple(each.position for each in done) == ends(face.store)
    assert sum(each.rows for each in done) == len(kept) == len(STREAMS)
    assert face(ops.projection_names) == ["mailer"]
    with pytest.raises(InvalidInput, match="performs all its effects again"):
        face(ops.reset, "mailer")
    assert len(face(ops.reset, "mailer", repeat_effects=True)) == PARTITIONS
    with pytest.raises(InvalidInput, match="knows no projection"):
        face(ops.reset, "mailer")


# -- events that were set aside -----------------------------------------------------------------


def test_parked_events_are_told_by_row_tried_again_and_given_up(face: Face) -> None:
    """Over all partitions, or of one row; what is given up is among the skipped events then."""
    # given
    filled(face.store)
    parking = sums(on_error=ParkStream(), failing=STREAMS[3])
    catch_up(face.store, parking)

    # when
    [row] = face(ops.parked)

    # then
    assert (row.projection, row.key, len(row.events), row.error) == ("sums", STREAMS[3], 4, "ValueError: no luck")
    assert [event.number for event in row.events] == [1, 2, 3, 4]
    assert face(ops.parked, "sums", row=STREAMS[3]) == [row]
    assert face(ops.parked, "sums", row=STREAMS[4]) == []
    with pytest.raises(InvalidInput, match="knows no projection"):
        face(ops.parked, "nothing")

    # when
    [again] = face(ops.retry_parked, parking)
    [would] = face(ops.retry_parked, sums(), dry_run=True)
    assert face(ops.retry_parked, sums(), row=STREAMS[4]) == []
    assert face(ops.parked) != []

    # then
    assert (again.freed, again.left) == (0, 4)
    assert "no luck" in again.error
    assert (would.key, would.freed, would.left, would.error) == (STREAMS[3], 4, 0, "")

    # when
    [given_up] = face(ops.drop_parked, "sums")

    # then
    assert (given_up.key, given_up.freed, given_up.left) == (STREAMS[3], 4, 0)
    assert face(ops.parked) == face(ops.drop_parked, "sums") == []
    assert [(each.projection, each.event.stream, each.event.number) for each in face(ops.skipped, "sums")] == [
        ("sums", STREAMS[3], number) for number in range(1, 5)
    ]


def test_a_row_whose_events_are_tried_with_success_flows_again(face: Face) -> None:
    """Also through a handler that is a coroutine function."""
    # given
    filled(face.store)
    catch_up(face.store, sums(on_error=ParkStream(), failing=STREAMS[3]))
    mended = Projection("sums", initial=lambda: {"sum": 0})

    @mended.when("Deposited")
    async def add(state: Any, event: RecordedEvent) -> None:
        await asyncio.sleep(0)
        state["sum"] += event.data["amount"]

    # when
    [outcome] = face(ops.retry_parked, mended)

    # then
    assert (outcome.freed, outcome.left, outcome.error) == (4, 0, "")
    assert rows(face.store)[STREAMS[3]] == {"sum": 10}


@pytest.mark.parametrize("awaited", [False, True])
def test_the_parked_effects_of_a_reactor_are_tried_again_by_either_face(face: Face, awaited: bool) -> None:
    """The handler is called by the operation, in order: a plain function, or one that is a coroutine function."""
    # given
    filled(face.store)
    refusing, performed = Reactor("mailer", on_error=ParkStream()), list[int]()

    @refusing.when("Deposited")
    def refuse(event: RecordedEvent, key: str) -> None:
        if event.stream == STREAMS[3]:
            raise ValueError("no luck")

    catch_up(face.store, refusing)
    mended = Reactor("mailer")

    def perform(event: RecordedEvent, key: str) -> None:
        performed.append(event.number)

    async def perform_later(event: RecordedEvent, key: str) -> None:
        await asyncio.sleep(0)
        performed.append(event.number)

    if awaited:
        mended.when("Deposited", perform_later)
    else:
        mended.when("Deposited", perform)

    # when
    [outcome] = face(ops.retry_parked, mended)

    # then
    assert (outcome.freed, outcome.left, outcome.error) == (4, 0, "")
    assert performed == [1, 2, 3, 4]


def test_skipped_events_are_those_of_all_partitions(face: Face) -> None:
    """A projection that the store does not know has none."""
    # given
    filled(face.store, 1)
    skipping = Projection("picky", on_error=Skip())
    skipping.when("Deposited", divide_by_zero)
    catch_up(face.store, skipping, sums())

    # then
    assert {each.event.stream for each in face(ops.skipped)} == set(STREAMS)
    assert {each.partition for each in face(ops.skipped, "picky")} == set(range(PARTITIONS))
    with pytest.raises(InvalidInput, match="knows no projection 'piky'") as caught:
        face(ops.skipped, "piky")
    assert caught.value.hint.startswith("Did you mean 'picky'? ")


# -- the server and the store -------------------------------------------------------------------


def test_the_doctor_examines_the_server(face: Face) -> None:
    """A server of one's own is fit, and so is memory, with a warning; the result says what is bad."""
    found = face(ops.doctor)
    assert found.fit
    assert found.bad == ()
    assert "durability" in {check.name for check in found.checks}
    assert face(ops.alarms) == []


@pytest.mark.real
def test_a_level_that_the_server_gives_no_longer_is_an_alarm(real_url: str, fresh_name: str) -> None:
    """The settings were compared when the store was opened, and are compared again."""
    with EventStore.open(real_url, name=fresh_name, durability="always", settings=TEST_SETTINGS) as store:
        assert ops.alarms(store) == []
        store.driver.execute([("CONFIG", "SET", "appendfsync", "everysec")])
        try:
            [alarm] = ops.alarms(store)
            assert (alarm.name, alarm.verdict) == ("durability", BAD)
            assert "durability always needs" in alarm.finding
            assert not ops.doctor(store).fit
        finally:
            store.driver.execute([("CONFIG", "SET", "appendfsync", "always")])


def test_a_log_that_expires_is_an_alarm_in_whichever_partition_it_is(face: Face) -> None:
    """And makes the server unfit."""
    key = face.store.info.keys[2].log
    filled(face.store, 1)
    face.store.driver.execute([("EXPIRE", key, 1000)])
    [alarm] = face(ops.alarms)
    assert (alarm.name, alarm.verdict, alarm.advice) == ("expiry", BAD, f"Run PERSIST {key} now.")
    found = face(ops.doctor)
    assert not found.fit
    assert [check.name for check in found.bad] == ["expiry"]


def test_the_doctor_goes_by_the_clock_of_the_store(store: EventStore) -> None:
    """What it compares with the server's, and what it measures round trips by."""
    clock = store.driver.clock
    ticks = iter(range(1000))
    store.driver.clock = replace(clock, now=lambda: clock.now() + 60_000_000, monotonic=lambda: float(next(ticks)))
    found = {check.name: check for check in ops.doctor(store).checks}
    assert found["clock"].verdict == WARNING
    assert "-60.0 s off" in found["clock"].finding
    assert (found["round trip"].verdict, found["round trip"].finding[1:]) == (WARNING, "000.00 ms")


def test_a_walk_counts_the_events_of_all_partitions(face: Face) -> None:
    """Progress rises up to the whole; a sound store has no findings."""
    filled(face.store)
    told = list[Progress]()
    result = face(ops.verify, progress=told.append)
    assert result.sound
    assert (result.events, result.findings) == (48, ())
    assert [each.done for each in told] == sorted(each.done for each in told)
    assert told[-1] == Progress(48, 48)


def test_findings_are_told_as_they_are_found_and_returned(face: Face) -> None:
    """In whichever partition the damage is."""
    filled(face.store)
    for keys in face.store.info.keys[1:]:
        face.store.driver.execute([("XTRIM", keys.log, "MINID", "2")])
    told = list[Any]()
    result = face(ops.verify, found=told.append)
    assert not result.sound
    assert {finding.partition for finding in result.findings} == {1, 2}
    assert tuple(told) == result.findings


# -- trimming -----------------------------------------------------------------------------------

LONG_AGO, LATER = datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 6, 1, tzinfo=UTC)


#: After every event.
ALL_TIMES = datetime(2999, 1, 1, tzinfo=UTC)


#: The option of a trim of a log that no projection was ever run on.
UNREAD = {"although_nobody_has_read_them": True}


def of_long_ago(store: EventStore) -> None:
    store.append_each([(stream, [deposited(recorded_at=LONG_AGO)] * 1, ANY) for stream in STREAMS])
    store.append_each([(stream, [deposited()], ANY) for stream in STREAMS])


def test_a_trim_by_time_is_one_of_every_partition(face: Face) -> None:
    """A dry run says the same before; progress is told up to the whole."""
    # given
    of_long_ago(face.store)
    told = list[Progress]()

    # when
    would = face(ops.trim, LATER, dry_run=True)
    untouched = count(face.store) == len(all_events(face.store))
    done = face(ops.trim, LATER, progress=told.append, **UNREAD)

    # then
    assert untouched
    assert would == done
    assert sum(each.removed for each in done) == len(STREAMS)
    assert told[-1] == Progress(len(STREAMS), len(STREAMS))
    assert [each.removed for each in face(ops.trim, LATER)] == [0] * PARTITIONS


def test_a_position_needs_its_partition(face: Face) -> None:
    """And says which where it has one."""
    filled(face.store)
    with pytest.raises(InvalidInput, match="needs its partition"):
        face(ops.trim, 3)
    [done] = face(ops.trim, 3, partition=1, **UNREAD)
    assert (done.partition, done.removed, done.floor) == (1, 2, 2)


@pytest.mark.parametrize("awaited", [True, False], ids=["coroutine function", "function"])
def test_a_trim_that_is_not_confirmed_removes_nothing(face: Face, awaited: bool) -> None:
    """Who is asked is told what would go; nobody is asked where nothing would."""
    # given
    of_long_ago(face.store)
    asked = list[Any]()
    answers = iter([False, True])

    def confirm(results: Any) -> bool:
        asked.append(list(results))
        return next(answers)

    async def confirm_in_time(results: Any) -> bool:
        await asyncio.sleep(0)
        return confirm(results)

    # when
    would = face(ops.trim, LATER, dry_run=True)
    no = face(ops.trim, LATER, confirm=confirm_in_time if awaited else confirm, **UNREAD)
    untouched = len(all_events(face.store))
    yes = face(ops.trim, LATER, confirm=confirm_in_time if awaited else confirm, **UNREAD)
    nothing = face(ops.trim, LATER, confirm=confirm)

    # then
    assert untouched == count(face.store)
    assert [(each.removed, each.floor, each.limit) for each in no] == [(0, 0, "it was not confirmed")] * PARTITIONS
    assert asked == [would, would]
    assert yes == would
    assert not any(each.removed for each in nothing)


def test_events_that_nobody_was_asked_about_are_removed_only_on_demand(face: Face) -> None:
    """Where no projection was ever run, each that is run later would stop. A dry run may look."""
    # given
    of_long_ago(face.store)
    would = face(ops.trim, LATER, dry_run=True)

    # when
    with pytest.raises(InvalidInput, match="knows no projection or reactor in partition 0: none was") as refused:
        face(ops.trim, LATER, confirm=lambda results: True)

    # then
    assert "--although-nobody-has-read-them" in refused.value.hint
    assert {each.asked for each in would} == {()}
    assert len(all_events(face.store)) == count(face.store)
    assert sum(each.removed for each in face(ops.trim, LATER, **UNREAD)) == len(STREAMS)


def test_who_is_asked_is_told_which_projections_were(face: Face) -> None:
    """By name, in the results that a confirmation gets and in those that come back."""
    of_long_ago(face.store)
    catch_up(face.store, sums(), mailer())
    asked = list[Any]()
    done = face(ops.trim, LATER, confirm=lambda results: asked.extend(results) or True)
    assert {each.asked for each in (*asked, *done)} == {("mailer", "sums")}


def test_a_projection_that_is_reset_while_the_trim_is_confirmed_is_respected(face: Face) -> None:
    """It may begin again, so nothing goes in the partition that it has forgotten."""
    of_long_ago(face.store)
    catch_up(face.store, sums())
    [done] = face(ops.trim, 3, partition=0, confirm=lambda results: bool(ops.reset(face.store, "sums")))
    assert (done.removed, done.limit) == (
        0,
        "projection 'sums' was reset or unregistered meanwhile, and may begin again",
    )


def test_a_projection_that_nobody_runs_any_more_is_forgotten(face: Face) -> None:
    """It holds the log back, and every other way is closed on a trimmed log; then nothing of it is left."""
    # given: two builds, parked and skipped events, and a log whose first events are gone
    filled(face.store)
    catch_up(face.store, sums(on_error=ParkStream(), failing=STREAMS[0]), noted())
    catch_up(face.store, sums("2", on_error=Skip(), failing=STREAMS[1]), noted())
    for partition in range(PARTITIONS):
        face(ops.trim, 3, partition=partition)
    catch_up(face.store, noted())
    filled(face.store)
    catch_up(face.store, noted())
    with pytest.raises(LogTrimmed) as refused:
        face(ops.reset, "sums")
    assert "runner unregister sums" in refused.value.hint
    held = face(ops.trim, ALL_TIMES)
    assert {each.advice for each in held} == {
        "Let a runner catch sums up. If nobody runs it any more, forget it: `runner unregister sums`."
    }

    # when
    would = face(ops.unregister, "sums", dry_run=True)
    before = ops.projection_names(face.store)
    done = face(ops.unregister, "sums")

    # then
    assert before == ["noted", "sums"]
    assert done == would
    assert [each.partition for each in done] == list(range(PARTITIONS))
    assert {each.builds for each in done} == {("2", "1")}
    assert [sum(getattr(each, what) for each in done) for what in ("rows", "parked", "skipped")] == [22, 4, 4]
    assert keys_with(face.store, "sums") == []
    assert ops.projection_names(face.store) == ["noted"]
    assert {each.limit for each in face(ops.trim, ALL_TIMES)} == {"the last event of a log stays"}
    with pytest.raises(InvalidInput, match="knows no projection 'sums'"):
        face(ops.unregister, "sums")


def test_what_a_live_runner_has_is_not_forgotten(face: Face) -> None:
    """A projection that it holds, and one that it has code for, as it would take it up again."""
    # given
    filled(face.store)
    catch_up(face.store, sums("2", 2))
    with follow(face.store, sums(), mailer()) as following:
        assert reached(lambda: _states(face, "mailer") == {"live"})
        with pytest.raises(BuildReplaced):
            following.wait_live(10)

        # when, then
        for name in ("mailer", "sums"):
            with pytest.raises(ProjectionHeld) as held:
                face(ops.unregister, name)
            assert held.value.holder == face.store.driver.place
    assert ops.projection_names(face.store) == ["mailer", "sums"]
    assert face(ops.unregister, "mailer")


def test_what_a_runner_holds_that_has_not_announced_itself_is_not_forgotten(face: Face) -> None:
    """A rebuild by hand is such a runner; the lease of a dead one is waited out. No partition forgets it then."""
    # given
    filled(face.store)
    catch_up(face.store, sums())
    runner = RunnerIdentity("rebuild", face.store.info, 60.0, "there:1")
    face.store.run(acquire(runner, ClaimRequest(face.store.info.keys[1], "sums", "1")))
    before = sorted(keys_with(face.store, "sums"))

    # when
    with pytest.raises(ProjectionHeld) as held:
        face(ops.unregister, "sums")

    # then
    assert (held.value.holder, held.value.partition) == ("there:1", 1)
    assert sorted(keys_with(face.store, "sums")) == before


@pytest.mark.parametrize("awaited", [True, False], ids=["coroutine function", "function"])
def test_who_is_asked_about_a_name_is_told_what_would_be_removed(face: Face, awaited: bool) -> None:
    """A no removes nothing, a yes does."""
    filled(face.store)
    catch_up(face.store, sums())
    asked, answers = list[Any](), iter([False, True])

    def confirm(kept: Any) -> bool:
        asked.append(kept)
        return next(answers)

    async def confirm_in_time(kept: Any) -> bool:
        await asyncio.sleep(0)
        return confirm(kept)

    ask = confirm_in_time if awaited else confirm
    would = face(ops.unregister, "sums", dry_run=True)
    assert face(ops.unregister, "sums", confirm=ask) == []
    assert face(ops.unregister, "sums", dry_run=True) == would
    assert face(ops.unregister, "sums", confirm=ask) == would
    assert asked == [would, would]


def test_a_late_commit_to_a_projection_that_was_forgotten_is_refused(face: Face) -> None:
    """Its owner was frozen for longer than its lease: nothing comes back."""
    # given
    filled(face.store)
    catch_up(face.store, sums())
    keys = face.store.info.keys[0]
    held = face.store.run(acquire(RunnerIdentity("frozen", face.store.info, 0.001), ClaimRequest(keys, "sums", "1")))
    assert isinstance(held, Claim)
    assert reached(lambda: face.store.run(status(keys, "sums"))[0].lease_left == 0)

    # when
    face(ops.unregister, "sums")
    command = commit_command(keys, "sums", held, Checkpoint(99, b"x" * 16), Changes({"account-1": b"\x01"}))
    [[verdict, *_]] = face.store.driver.execute([command])

    # then
    assert verdict == b"owner"
    assert keys_with(face.store, "sums") == []


def test_the_request_to_forget_a_projection_may_be_sent_again(face: Face) -> None:
    """After a lost reply it gives the same answer, so what was removed is told."""
    filled(face.store)
    catch_up(face.store, sums())
    command = command_of(face.store, unregister(face.store.info.keys[0], "sums"), "progress/unregister")
    assert [face.store.driver.execute([command]) for _ in range(2)] == [[[b"ok"]]] * 2


def test_a_reactor_that_holds_the_log_is_called_one(face: Face) -> None:
    """What holds a trim back is named by its kind; so is a candidate, and a parked event, with what to do."""
    filled(face.store, 2)
    catch_up(face.store, mailer())
    filled(face.store, 1)
    assert all(each.limit.startswith("reactor 'mailer' (build '1') stands at") for each in face(ops.trim, ALL_TIMES))


def test_a_trim_says_what_to_do_about_a_candidate_and_a_parked_event(face: Face) -> None:
    """They hold the log as a checkpoint does; the way out is another."""
    filled(face.store)
    catch_up(face.store, sums(on_error=ParkStream(), failing=STREAMS[0]))
    [parked] = [each.partition for each in ops.parked(face.store)]
    assert "runner parked retry sums" in face(ops.trim, ALL_TIMES, dry_run=True)[parked].advice
    ops.drop_parked(face.store, "sums")
    face(ops.rebuild, sums("2", 2), require_same=True)
    filled(face.store)
    catch_up(face.store, sums())
    assert {each.advice for each in face(ops.trim, ALL_TIMES, dry_run=True)} == {
        "Finish the candidate: `runner rebuild sums`."
    }


def keys_with(store: EventStore, name: str) -> list[bytes]:
    """The keys of the store that are of a projection."""
    [keys] = store.driver.execute([("KEYS", f"*{store.info.name}.*:*:{name}*")])
    members = [key for each in store.info.keys for key in store.driver.execute([("SMEMBERS", each.projections)])[0]]
    return [*keys, *(member for member in members if member == name.encode())]


def noted() -> Projection:
    """Another projection, which fails nowhere."""
    projection = Projection("noted")
    projection.when(lambda state, event: {"number": event.number})
    return projection


# -- views that were changed by hand -------------------------------------------------------------


@pytest.mark.parametrize("command", ["DEL", "HDEL"])
def test_status_and_doctor_tell_of_a_view_that_was_deleted_by_hand(face: Face, command: str) -> None:
    """The whole key or a row: with the number of rows that there are, and that should be there."""
    # given
    filled(face.store)
    catch_up(face.store, sums())
    before = [each.rows_committed for each in face(ops.status, "sums").projections]
    good = [check.verdict for check in face(ops.doctor).checks if check.name == "views"]

    # when
    keys = face.store.info.of_stream(STREAMS[0])
    rows_there = face.store.driver.execute([("HLEN", keys.view("sums", "1"))])[0]
    face.store.driver.execute([(command, keys.view("sums", "1"), *([STREAMS[0]] if command == "HDEL" else []))])
    found = face(ops.status, "sums").projections[keys.partition]
    [check] = [check for check in face(ops.doctor).checks if check.name == "views"]

    # then
    assert (before, good) == ([None] * PARTITIONS, ["good"])
    assert found.rows_committed == rows_there > found.rows
    assert check.verdict == WARNING
    assert f"and should have {rows_there}" in check.finding
    assert "runner rebuild sums" in check.advice


# -- code without a build of its own ------------------------------------------------------------


def mixed(face: Face) -> set[int | None]:
    return {each.mixed for each in face(ops.status, "sums").projections}


def test_code_that_changed_without_its_build_is_told(face: Face) -> None:
    """Status and doctor name the projection, the build and the position; code that is as it was says nothing."""
    # given
    filled(face.store)
    catch_up(face.store, sums())
    before = ends(face.store)
    filled(face.store)
    catch_up(face.store, sums())
    assert mixed(face) == {None}
    assert [check.verdict for check in face(ops.doctor).checks if check.name == "code"] == ["good"]

    # when
    catch_up(face.store, sums(factor=100))
    [check] = [check for check in face(ops.doctor).checks if check.name == "code"]

    # then
    assert [each.mixed for each in face(ops.status, "sums").projections] == [2 * position for position in before]
    assert check.verdict == WARNING
    assert f"the code of projection 'sums' changed at position {2 * before[0]}, its build '1' did not" in check.finding
    assert "runner rebuild sums --diff" in check.advice
    catch_up(face.store, sums())
    assert mixed(face) == {2 * position for position in before}, "the rows are mixed still"


def test_a_view_that_is_made_again_is_not_mixed(face: Face) -> None:
    """Neither by a rebuild with the same build, nor by another build; the previous build keeps what it is."""
    filled(face.store)
    catch_up(face.store, sums())
    catch_up(face.store, sums(factor=2))
    face(ops.rebuild, sums(factor=2))
    assert {each.mixed for each in face(ops.status, "sums").projections if each.role == "live"} == {None}
    assert {check.verdict for check in face(ops.doctor).checks if check.name == "code"} == {"good"}


def test_code_that_has_made_no_row_yet_may_change(face: Face) -> None:
    """Nothing is mixed as long as nothing was applied."""
    catch_up(face.store, sums())
    catch_up(face.store, sums(factor=2))
    filled(face.store)
    catch_up(face.store, sums(factor=2))
    assert mixed(face) == {None}


def test_another_python_does_not_count_as_other_code(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each version of Python compiles in its own way, so its fingerprints are compared among themselves."""
    # given
    filled(face.store)
    catch_up(face.store, sums())

    # when
    with monkeypatch.context() as other:
        other.setattr(fingerprints, "PYTHON", "cpython-399-0")
        catch_up(face.store, sums(factor=2))
        unnoticed = mixed(face)
        catch_up(face.store, sums())
        noticed = mixed(face)

    # then
    assert unnoticed == {None}
    assert None not in noticed


# -- lines --------------------------------------------------------------------------------------


@pytest.mark.parametrize("awaited", [True, False], ids=["coroutine function", "function"])
def test_what_is_exported_is_imported_elsewhere(face: Face, url: str, fresh_name: str, awaited: bool) -> None:
    """Events of all partitions, a page at a time, with progress; imported twice, each is there once."""
    # given
    filled(face.store)
    written, told = list[bytes](), list[Progress]()

    async def write_in_time(lines: bytes) -> None:
        await asyncio.sleep(0)
        written.append(lines)

    # when
    result = face(ops.export_lines, write_in_time if awaited else written.append, progress=told.append)

    # then
    lines = b"".join(written).splitlines(keepends=True)
    assert result.events == len(lines) == 48
    assert max(len(page.splitlines()) for page in written) == 5
    assert told[-1] == Progress(48, 48)

    # when
    told.clear()
    with EventStore.open(url, name=f"{fresh_name}-other", settings=TEST_SETTINGS) as store:
        other = Face("async" if face.asynchronous else "sync", url, store)
        first = other(ops.import_lines, lines, progress=told.append)
        second = other(ops.import_lines, iter(lines))

        # then
        assert (first.lines, first.appended, first.known, first.bad) == (48, 48, 0, ())
        assert (second.appended, second.known) == (0, 48)
        assert told == [Progress(48)]
        assert {event.id for event in all_events(store)} == {event.id for event in all_events(face.store)}


def test_an_export_may_be_of_a_category_or_begin_in_the_middle(store: EventStore) -> None:
    """After a position where there is one partition; not before the first event that is left."""
    store.append("account-1", [deposited(), deposited()])
    store.append("order-1", NewEvent("Placed"))
    written = list[bytes]()
    assert ops.export_lines(store, written.append, category="order").events == 1
    assert ops.export_lines(store, written.append, after=1).events == 2
    assert [json.loads(line)["stream"] for line in b"".join(written).splitlines()] == [
        "order-1",
        "account-1",
        "order-1",
    ]
    ops.trim(store, 2, although_nobody_has_read_them=True)
    with pytest.raises(LogTrimmed):
        ops.export_lines(store, written.append)


def test_what_precedes_an_event_that_cannot_be_written_as_json_is_written(store: EventStore) -> None:
    """Though it is of the same page."""
    nested: Any = []
    for _ in range(150):
        nested = [nested]
    store.append("a-1", [NewEvent("X"), NewEvent("Y")])
    keys = store.info.keys[0]
    [[(_, [_, envelope])]] = store.driver.execute([("XRANGE", keys.log, "1-1", "1-1")])
    store.driver.execute([("XADD", keys.log, "3-3", "e", envelope[:-12])])
    written = list[bytes]()
    with pytest.raises(DataError):
        ops.export_lines(store, written.append)
    assert [json.loads(line)["type"] for line in b"".join(written).splitlines()] == ["X", "Y"]


def test_lines_that_cannot_be_imported_are_noted_or_end_it(face: Face) -> None:
    """With their numbers; what was before is in the log."""
    good = json.dumps({"stream": "a-1", "type": "X"}).encode()
    with pytest.raises(InvalidInput, match="line 2: not JSON"):
        face(ops.import_lines, [good, b"{", good])
    assert count(face.store) == 1
    result = face(ops.import_lines, [good, b"", b"{", good], skip_bad=True)
    assert (result.lines, result.appended, result.known) == (3, 1, 1)
    [bad] = result.bad
    assert isinstance(bad, BadLine)
    assert (bad.number, bad.reason[:8]) == (3, "not JSON")


def test_a_file_is_read_and_written_beside_an_event_loop(face: Face) -> None:
    """Else it would wait for the disk; a synchronous store works in the thread that calls."""
    threads = set[threading.Thread]()

    def lines() -> Iterator[bytes]:
        threads.add(threading.current_thread())
        yield json.dumps({"stream": "a-1", "type": "X"}).encode()

    face(ops.import_lines, lines())
    face(ops.export_lines, lambda data: threads.add(threading.current_thread()))
    here = threading.current_thread()
    assert (here not in threads) if face.asynchronous else (threads == {here})


def test_what_the_user_gives_may_raise(face: Face) -> None:
    """The error comes out as it is."""
    filled(face.store, 1)

    def fail(*_: Any) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        face(ops.export_lines, fail)
    with pytest.raises(ZeroDivisionError):
        face(ops.export_lines, lambda data: None, progress=fail)
    with pytest.raises(ZeroDivisionError):
        face(ops.import_lines, map(fail, [1]))
    with pytest.raises(ZeroDivisionError):
        face(ops.verify, progress=fail)


# -- the face itself ----------------------------------------------------------------------------

FUNCTIONS = [name for name in ops.__all__ if name.islower()]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_says_what_it_does_and_stands_in_a_module_of_the_package(name: str) -> None:
    """Docstring, name and module are those of the operation."""
    function = getattr(ops, name)
    assert function.__name__ == name
    assert function.__module__.startswith("runner.operations.")
    assert function.__doc__.strip()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_stands_on_the_page_with_its_arguments(name: str) -> None:
    """In the table, each argument by its name, in the order of the signature."""
    [row] = re.findall(rf"^\| `{name}\((.*)\)` \|", PAGE.read_text(), flags=re.MULTILINE)
    told = [argument.partition("=")[0] for argument in row.split(", ")]
    wanted = list(inspect.signature(getattr(ops, name)).parameters)
    assert [argument.replace("name", "projection") for argument in told] == wanted


def test_a_type_checker_knows_the_results_of_both_faces(url: str, store: EventStore) -> None:
    """What `assert_type` says is checked by mypy, which reads the tests, too."""
    store.append("a-1", NewEvent("X"))
    assert_type(ops.verify(store), VerifyResult)
    assert_type(ops.trim(store, 1, dry_run=True), list[TrimResult])

    async def call() -> None:
        async with AsyncEventStore.open(url, name=store.info.name, settings=TEST_SETTINGS) as other:
            assert_type(await ops.verify(other), VerifyResult)
            assert_type(await ops.trim(other, 1, dry_run=True), list[TrimResult])
            assert await ops.verify(other) == ops.verify(store)

    asyncio.run(call())


def test_results_are_frozen(store: EventStore) -> None:
    """What was found does not change under those who hold it."""
    store.append("a-1", NewEvent("X"))
    for result in (ops.status(store), ops.verify(store), ops.doctor(store), ops.trim(store, 1)[0], Progress(1)):
        field = next(iter(type(result).__slots__))
        with pytest.raises(FrozenInstanceError):
            setattr(result, field, 7)
