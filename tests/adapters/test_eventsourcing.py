"""The persistence module for the library eventsourcing: its published tests, and what else it promises."""

from __future__ import annotations

import gc
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from accounts import PATIENCE, in_thread, reached
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate
from eventsourcing.persistence import (
    AggregateRecorder,
    DataError,
    IntegrityError,
    InterfaceError,
    InternalError,
    Notification,
    OperationalError,
    StoredEvent,
    Tracking,
    WaitInterruptedError,
)
from eventsourcing.popo import POPOAggregateRecorder, POPOApplicationRecorder
from eventsourcing.utils import Environment
from hypothesis import given
from hypothesis import strategies as st
from proxy import Proxy
from servers import server

from runner import EventStore, NewEvent, StoreTrouble
from runner.adapters.eventsourcing import (
    RunnerApplicationRecorder,
    RunnerFactory,
    RunnerProcessRecorder,
    RunnerSnapshotRecorder,
    notification_of,
)
from runner.adapters.eventsourcing.naming import stream_of
from runner.adapters.eventsourcing.tracking import LOOK_ANYWAY
from runner.embedded.server import find_binary
from runner.errors import LogTrimmed
from runner.format.events import pack_event
from runner.format.keys import PartitionKeys
from runner.log.records import record_of
from runner.operations import verify
from runner.operations.rights import APPENDER, rules_of
from runner.operations.trim import Trim
from runner.testing import all_events, clear, streams

from .suites import run_suites

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "eventsourcing.md").read_text()

#: How many tests the library publishes that run here; a suite that was not found would pass, too.
PUBLISHED = 84

A_UUID = UUID("6c1f9a52-91f5-4d3e-8f0a-3a5b8f0d2c11")


@pytest.mark.real
@pytest.mark.timeout(300)
def test_the_tests_that_the_library_publishes_pass() -> None:
    """Recorders, factory, applications and projections, in memory and on a real server."""
    assert run_suites("eventsourcing") >= PUBLISHED


@pytest.mark.real
def test_the_blocks_of_the_documentation_are_a_program(tmp_path: Path) -> None:
    """They run one after the other, as a script of their own, and each assertion holds."""
    program = "\n".join(re.findall(r"^```python\n(.*?)^```", DOCUMENT, flags=re.MULTILINE | re.DOTALL))
    assert program.count("assert") >= 7
    with tempfile.TemporaryDirectory(prefix="runner-test-") as directory:  # a socket needs a short path
        (Path(directory) / "dog_school.py").write_text(program)
        done = subprocess.run(
            [sys.executable, "-W", "error", "dog_school.py"], cwd=directory, capture_output=True, text=True,
            timeout=60, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


# -- builders -----------------------------------------------------------------------------------


@pytest.fixture
def factory(url: str, fresh_name: str) -> Iterator[RunnerFactory]:
    """An empty store behind a factory, in memory and on the real server in turn."""
    made = RunnerFactory({"RUNNER_STORE": url, "RUNNER_NAME": fresh_name})
    yield made
    made.close()


@pytest.fixture
def real_factory(real_url: str, fresh_name: str) -> Iterator[RunnerFactory]:
    made = RunnerFactory({"RUNNER_STORE": real_url, "RUNNER_NAME": fresh_name})
    yield made
    made.close()


@pytest.fixture
def recorder(factory: RunnerFactory) -> RunnerProcessRecorder:
    return process_recorder(factory)


def process_recorder(factory: RunnerFactory) -> RunnerProcessRecorder:
    made = factory.process_recorder()
    assert isinstance(made, RunnerProcessRecorder)
    return made


def stored(originator: UUID | str, *versions: int, topic: str = "dogs:Dog.Barked") -> list[StoredEvent]:
    """An event of each version."""
    return [StoredEvent(originator, version, topic, b"state %d" % version) for version in versions]


def versions_of(recorder: AggregateRecorder, originator: UUID | str) -> list[int]:
    return [event.originator_version for event in recorder.select_events(originator)]


def refused(work: Callable[[], object]) -> bool:
    """Whether it was refused as a conflict."""
    try:
        work()
    except IntegrityError:
        return True
    return False


def store_of(recorder: Any) -> EventStore:
    opened: EventStore = recorder.datastore.store
    return opened


def with_small_pages(factory: RunnerFactory, size: int) -> RunnerFactory:
    store = factory.datastore.store
    store.settings = replace(store.settings, page_size=size)
    return factory


def race(*work: Callable[[], object]) -> list[bool]:
    """Do all of it at once; which of it was refused."""
    barrier = threading.Barrier(len(work))
    outcomes = [False] * len(work)

    def run(place: int) -> None:
        barrier.wait(PATIENCE)
        outcomes[place] = refused(work[place])

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    return outcomes


# -- versions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 1])
def test_versions_begin_at_0_or_at_1(recorder: RunnerProcessRecorder, first: int) -> None:
    """Either way an originator has one stream, and each event keeps the version that it was given."""
    # when
    dog = uuid4()
    recorder.insert_events(stored(dog, first))
    recorder.insert_events(stored(dog, first + 1, first + 2))

    # then
    assert versions_of(recorder, dog) == [first, first + 1, first + 2]
    assert [each.originator_version for each in recorder.select_notifications(1, 10)] == [first, first + 1, first + 2]
    assert list(streams(store_of(recorder)).values()) == [3]


def test_recorders_that_never_saw_an_originator_go_on_with_it(factory: RunnerFactory) -> None:
    """Nothing has to be loaded first: wherever versions begin, the next one is recorded."""
    for first in (0, 1):
        dog = uuid4()
        for version in range(first, first + 4):
            factory.application_recorder().insert_events(stored(dog, version))
        assert versions_of(factory.application_recorder(), dog) == list(range(first, first + 4))


@pytest.mark.parametrize("first", [0, 1])
def test_a_version_is_recorded_once_for_ever(recorder: RunnerProcessRecorder, first: int) -> None:
    """Whoever comes second is refused, also with other content, and when the event is no longer in the log."""
    # given
    dog = uuid4()
    recorder.insert_events(stored(dog, first, first + 1, first + 2))
    recorder.insert_events(stored("another", 1))
    again = [stored(dog, version, topic="other") for version in range(first, first + 3)]

    # then
    assert all(refused(partial(recorder.insert_events, one)) for one in again)

    # when
    store_of(recorder).run(Trim(store_of(recorder).info, 0, before=4).run())

    # then
    assert all(refused(partial(recorder.insert_events, one)) for one in again)
    recorder.insert_events(stored(dog, first + 3))
    assert recorder.max_notification_id() == 5


@pytest.mark.parametrize(
    ("there", "added"),
    [
        ([], [2]),
        ([], [5]),
        ([0], [2]),
        ([1], [3]),
        ([1], [0]),
        ([1, 2], [0]),
        ([0, 1], [0]),
        ([], [-1]),
        ([], [1, 3]),
        ([], [2, 1]),
        ([], [1, 1]),
        ([1], [1, 2]),
        ([0, 1], [1, 2]),
    ],
)
def test_versions_that_leave_a_gap_or_are_there_are_refused(
    recorder: RunnerProcessRecorder, there: list[int], added: list[int]
) -> None:
    """Nothing of the call is recorded, and the next version still is."""
    # given
    dog = uuid4()
    recorder.insert_events(stored(dog, *there))

    # then
    assert refused(lambda: recorder.insert_events(stored(dog, *added)))
    assert versions_of(recorder, dog) == there
    recorder.insert_events(stored(dog, there[-1] + 1 if there else 0))


@pytest.mark.parametrize("version", [0, 1, 2])
def test_of_many_writers_of_a_version_one_is_taken(recorder: RunnerProcessRecorder, version: int) -> None:
    """Whichever version it is; the others are refused and leave nothing."""
    for attempt in range(5):
        dog = f"dog-{attempt}"
        recorder.insert_events(stored(dog, *range(1 if version == 2 else version, version)))
        outcomes = race(*[lambda dog=dog: recorder.insert_events(stored(dog, version))] * 8)
        assert outcomes.count(False) == 1
        assert versions_of(recorder, dog).count(version) == 1


def test_an_originator_begins_once(factory: RunnerFactory) -> None:
    """Of two writers that begin it, one at 0 and one at 1, either comes first; no version is there twice."""
    for attempt in range(20):
        dog = f"dog-{attempt}"
        recorders = [factory.application_recorder() for _ in range(3)]
        at_0, at_1, again = race(
            partial(recorders[0].insert_events, stored(dog, 0)),
            partial(recorders[1].insert_events, stored(dog, 1)),
            partial(recorders[2].insert_events, stored(dog, 1)),
        )
        found = versions_of(recorders[0], dog)
        assert found == [version for version in (0, 1) if not {0: at_0, 1: at_1 and again}[version]]
        assert not (found == [0, 1] and not at_1 and not again)
        assert found
    assert len(streams(factory.datastore.store)) == 20


# -- calls --------------------------------------------------------------------------------------


def test_a_call_over_several_originators_is_all_or_nothing(recorder: RunnerProcessRecorder) -> None:
    """One version that is there refuses the events of the others, and the tracking."""
    # given
    recorder.insert_events([*stored("fido", 1), *stored("rex", 0)], tracking=Tracking("upstream", 1))

    # then
    for taken in (stored("fido", 1), stored("rex", 0)):
        call = [*stored("new", 1), *taken, *stored("newer", 0)]
        assert refused(partial(recorder.insert_events, call, tracking=Tracking("upstream", 2)))
    assert refused(lambda: recorder.insert_events(stored("new", 1), tracking=Tracking("upstream", 1)))

    # then
    assert versions_of(recorder, "new") == versions_of(recorder, "newer") == []
    assert (recorder.max_notification_id(), recorder.max_tracking_id("upstream")) == (2, 1)


def test_a_call_may_hold_originators_that_begin_at_0_and_at_1(recorder: RunnerProcessRecorder) -> None:
    """Some of them new and some not, in any mixture."""
    recorder.insert_events([*stored("a", 0), *stored("b", 1), *stored("c", 0), *stored("d", 1)])
    recorder.insert_events([*stored("d", 2), *stored("c", 1), *stored("b", 2, 3), *stored("a", 1), *stored("e", 1)])
    assert [versions_of(recorder, each) for each in "abcde"] == [[0, 1], [1, 2, 3], [0, 1], [1, 2], [1]]


def test_notification_ids_are_those_of_the_events(recorder: RunnerProcessRecorder) -> None:
    """They count up through the call, also where its originators alternate."""
    # when
    call = [*stored("a", 1), *stored("b", 0), *stored("a", 2), *stored("c", 1), *stored("b", 1)]
    ids = recorder.insert_events(call)

    # then
    assert ids == [1, 2, 3, 4, 5]
    found = [(each.originator_id, each.originator_version, each.state) for each in recorder.select_notifications(1, 9)]
    assert found == [(each.originator_id, each.originator_version, each.state) for each in call]

    # when
    again = [*stored("c", 2), *stored("a", 3), *stored("c", 3), *stored("b", 2), *stored("a", 4), *stored("c", 4)]
    assert recorder.insert_events(again) == [6, 7, 8, 9, 10, 11]
    assert [versions_of(recorder, each) for each in "abc"] == [[1, 2, 3, 4], [0, 1, 2], [1, 2, 3, 4]]
    assert refused(lambda: recorder.insert_events(again))
    store = store_of(recorder)
    assert verify(store).sound


def test_a_call_of_one_originator_after_the_other_keeps_its_order(recorder: RunnerProcessRecorder) -> None:
    """Which is what saving aggregates does: positions count up through the call."""
    call = [*stored("b", 1, 2), *stored("a", 0), *stored("c", 1, 2, 3)]
    assert recorder.insert_events(call) == [1, 2, 3, 4, 5, 6]
    assert [each.originator_id for each in recorder.select_notifications(1, 10)] == list("bbaccc")


def test_the_log_is_sound(recorder: RunnerProcessRecorder, factory: RunnerFactory) -> None:
    """`runner verify` finds nothing wrong after whatever recorders do."""
    # given
    snapshots = factory.aggregate_recorder("snapshots")
    for version in range(4):
        call = [*stored("a", version), *stored("b", version + 1)]
        recorder.insert_events(call, tracking=Tracking("upstream", version + 1))
        snapshots.insert_events(stored("a", version))
        assert refused(partial(recorder.insert_events, call))

    # then
    store = store_of(recorder)
    assert verify(store).sound


@pytest.fixture
def behind_a_proxy(real_factory: RunnerFactory) -> Iterator[tuple[Proxy, RunnerFactory]]:
    """A factory whose connections go through a proxy."""
    embedded = real_factory.datastore.store.driver.address.server
    assert embedded is not None
    name = real_factory.datastore.store.info.name
    with (
        tempfile.TemporaryDirectory(prefix="runner-wire-") as directory,
        Proxy(embedded.socket, Path(directory)) as proxy,
    ):
        factory = RunnerFactory({"RUNNER_STORE": proxy.url, "RUNNER_NAME": name})
        yield proxy, factory
        factory.close()


@pytest.mark.real
def test_a_lost_reply_is_not_a_conflict(behind_a_proxy: tuple[Proxy, RunnerFactory]) -> None:
    """The driver repeats what it heard no answer to, and it is recognised: events, tracking and snapshots alike."""
    # given
    proxy, factory = behind_a_proxy
    recorder, snapshots = process_recorder(factory), factory.aggregate_recorder("snapshots")
    recorder.insert_events([*stored("a", 0), *stored("b", 1)])
    recorder.insert_events([*stored("a", 1), *stored("b", 2)])

    # when
    calls: list[Callable[[], object]] = [
        lambda: recorder.insert_events([*stored("a", 2), *stored("b", 3)]),
        lambda: recorder.insert_events([*stored("c", 1), *stored("d", 0)], tracking=Tracking("upstream", 7)),
        lambda: recorder.insert_tracking(Tracking("upstream", 8)),
        lambda: recorder.insert_events([*stored("e", 0), *stored("f", 1), *stored("e", 1), *stored("f", 2)]),
        lambda: snapshots.insert_events([*stored("a", 1), *stored("b", 3)]),
    ]
    for call in calls:
        call_once_lost(proxy, call)

    # then
    found = [versions_of(recorder, each) for each in "abcdef"]
    assert found == [[0, 1, 2], [1, 2, 3], [1], [0], [0, 1], [1, 2]]
    assert (recorder.max_notification_id(), recorder.max_tracking_id("upstream")) == (12, 8)
    assert (versions_of(snapshots, "a"), versions_of(snapshots, "b")) == ([1], [3])
    assert all(refused(call) for call in calls)


def call_once_lost(proxy: Proxy, call: Callable[[], object]) -> None:
    proxy.lose_reply()
    call()
    assert proxy.armed == 0


# -- selecting ----------------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", [3, 500])
@pytest.mark.parametrize("first", [0, 1])
def test_events_are_selected_as_the_library_selects_them(factory: RunnerFactory, first: int, page_size: int) -> None:
    """Whatever the bounds, the direction and the limit: as its own recorder does that keeps everything in memory."""
    # given
    theirs: Any = POPOAggregateRecorder()
    ours = with_small_pages(factory, page_size).aggregate_recorder()
    for recorder in (theirs, ours):
        recorder.insert_events(stored("dog", *range(first, first + 10)))
        recorder.insert_events(stored("cat", *range(1 - first, 4)))

    # then
    bounds = [None, -3, -1, 0, 1, 2, 5, 9, 10, 11, 40]
    choose = random.Random(7)
    for _ in range(300):
        asked: dict[str, Any] = {
            "gt": choose.choice(bounds),
            "lte": choose.choice(bounds),
            "limit": choose.choice([None, 1, 2, 3, 7, 100]),
            "desc": choose.choice([True, False]),
        }
        assert list(ours.select_events("dog", **asked)) == theirs.select_events("dog", **asked), asked
    assert ours.select_events("nobody", desc=True) == []
    assert ours.select_events("dog", limit=0) == []


@pytest.mark.parametrize("page_size", [3, 500])
def test_notifications_are_selected_as_the_library_selects_them(factory: RunnerFactory, page_size: int) -> None:
    """Whatever the bounds, the topics and the limit."""
    # given
    theirs: Any = POPOApplicationRecorder()
    ours: Any = with_small_pages(factory, page_size).application_recorder()
    for version in range(1, 6):
        call = [*stored("a", version, topic=f"t{version % 3}"), *stored("b", version, topic="t0")]
        assert ours.insert_events(call) == theirs.insert_events(call)

    # then
    choose = random.Random(7)
    for _ in range(300):
        start, limit = choose.choice([None, 0, 1, 2, 5, 10, 11, 30]), choose.choice([1, 2, 3, 7, 100])
        asked: dict[str, Any] = {
            "stop": choose.choice([None, 1, 4, 10, 11, 30]),
            "topics": choose.choice([(), ["t0"], ["t1", "t2"], ["none"]]),
            "inclusive_of_start": choose.choice([True, False]),
        }
        found = ours.select_notifications(start, limit, **asked)
        assert found == theirs.select_notifications(start, limit, **asked), (start, limit, asked)
    assert ours.select_notifications(1, 0) == []


@pytest.mark.parametrize(
    "originator",
    [
        A_UUID, str(A_UUID), str(A_UUID).upper(), A_UUID.hex, f"~{A_UUID}", f"dog-{A_UUID}",
        "dog", "", "-", "a-b-c", "~", "~~", "~0~x", "Fido der Grüne",
    ],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("first", [0, 1])
def test_originator_ids_come_back_as_what_they_were(
    recorder: RunnerProcessRecorder, originator: UUID | str, first: int
) -> None:
    """UUIDs as UUIDs and text as text, also text that looks like a UUID or like our names."""
    # when
    recorder.insert_events(stored(originator, first))

    # then
    assert recorder.select_events(originator) == stored(originator, first)
    [notification] = recorder.select_notifications(1, 10)
    assert (notification.originator_id, notification.originator_version) == (originator, first)
    assert type(notification.originator_id) is type(originator)


@given(st.lists(st.text(alphabet="~-0a", max_size=4), min_size=2, max_size=2, unique=True))
def test_no_two_originators_share_a_stream(originators: list[str]) -> None:
    """Nor do the two streams that one may have."""
    names = {stream_of("dogs", originator, first) for originator in originators for first in (0, 1)}
    assert len(names) == 4


def test_events_of_other_writers_are_passed_over_or_named(recorder: RunnerProcessRecorder) -> None:
    """Those of other categories are not the application's; in its own category they cannot be read as such."""
    # given
    store = store_of(recorder)
    category = recorder.datastore.category
    recorder.insert_events(stored("a", 1))
    store.append("account-1", NewEvent("Opened"))
    recorder.insert_events(stored("a", 2))

    # then
    assert [each.id for each in recorder.select_notifications(1, 10)] == [1, 3]
    with recorder.subscribe() as subscription:
        assert [next(subscription).id, next(subscription).id] == [1, 3]

    # when
    store.append(f"{category}-x", NewEvent("Opened", {"owner": "Ada"}))

    # then
    with pytest.raises(DataError, match=r"position 4, 'Opened' of .* is not one of the library's"):
        recorder.select_notifications(1, 10)


def test_what_was_trimmed_is_said_to_be(recorder: RunnerProcessRecorder) -> None:
    """Never a history with a hole: neither an originator's nor the application's."""
    # given
    recorder.insert_events(stored("a", 1, 2, 3, 4))
    store_of(recorder).run(Trim(store_of(recorder).info, 0, before=3).run())

    # then
    for read in (lambda: recorder.select_events("a"), lambda: recorder.select_notifications(1, 10)):
        with pytest.raises(InternalError) as caught:
            read()
        assert isinstance(caught.value.__cause__, LogTrimmed)
    assert [each.originator_version for each in recorder.select_events("a", gt=2)] == [3, 4]
    assert [each.id for each in recorder.select_notifications(3, 10)] == [3, 4]


def test_what_cannot_be_decoded_is_an_internal_error(recorder: RunnerProcessRecorder) -> None:
    """However it is read; the cause says where it stands."""
    # given
    store, stream = store_of(recorder), stream_of(recorder.datastore.category, "dog", 1)
    envelope = pack_event(stream, NewEvent("topic", b"AB"), 0).replace(b"\xc4\x02AB", b"\xc7\x01\x63A")
    keys = store.info.keys[0]
    store.driver.execute([("XADD", keys.log, "1-1", "e", envelope), ("XADD", keys.stream(stream), "1-1", "", "")])

    # then
    subscription = recorder.subscribe()
    reads: list[Callable[[], object]] = [
        lambda: recorder.select_events("dog"),
        lambda: recorder.select_notifications(1, 10),
        lambda: next(subscription),
    ]
    with subscription:
        for read in reads:
            with pytest.raises(InternalError, match="the event at position 1"):
                read()


# -- snapshots ----------------------------------------------------------------------------------


def test_snapshots_have_gaps_and_any_order(factory: RunnerFactory) -> None:
    """They are kept by version, selected as the library selects them, and are no part of the log."""
    # given
    theirs: Any = POPOAggregateRecorder()
    ours = factory.aggregate_recorder("snapshots")
    for version in (3, 10, 7, 0):
        ours.insert_events(stored("dog", version))
    theirs.insert_events(stored("dog", 0, 3, 7, 10))

    # then
    for gt in (None, -1, 0, 3, 5, 10):
        for lte in (None, 0, 3, 5, 10, 11):
            for limit in (None, 1, 2, 9):
                for desc in (False, True):
                    asked: dict[str, Any] = {"gt": gt, "lte": lte, "desc": desc, "limit": limit}
                    assert list(ours.select_events("dog", **asked)) == theirs.select_events("dog", **asked), asked
    assert factory.datastore.store.last_position() == 0
    assert factory.aggregate_recorder("other").select_events("dog") == []


def test_a_snapshot_is_kept_once(factory: RunnerFactory) -> None:
    """A version that is there refuses the whole call, and so does one that is in it twice."""
    # given
    snapshots = factory.aggregate_recorder("snapshots")
    snapshots.insert_events(stored("a", 4))

    # then
    with pytest.raises(IntegrityError, match="version 4 of originator 'a'"):
        snapshots.insert_events([*stored("b", 2), *stored("a", 4), *stored("c", 1)])
    assert refused(lambda: snapshots.insert_events(stored("a", 5, 5)))
    assert [versions_of(snapshots, each) for each in "abc"] == [[4], [], []]
    assert race(*[lambda: snapshots.insert_events(stored("d", 9))] * 8).count(False) == 1
    assert versions_of(snapshots, "d") == [9]


def test_a_damaged_snapshot_is_passed_over(factory: RunnerFactory, caplog: pytest.LogCaptureFixture) -> None:
    """The ones around it are selected, and a warning says which one is not."""
    # given
    snapshots = factory.aggregate_recorder("snapshots")
    snapshots.insert_events(stored("a", 1, 2, 3))
    store = factory.datastore.store
    key = f"{store.info.keys[0].tag}:eventsourcing:snapshots:a"
    [[member]] = store.driver.execute([("ZRANGEBYSCORE", key, 2, 2)])
    store.driver.execute([("ZREM", key, member), ("ZADD", key, 2, member[:-1] + b"\x00")])

    # then
    assert versions_of(snapshots, "a") == [1, 3]
    assert "snapshots of a: version 2 is damaged and passed over: its checksum is another" in caplog.text


@pytest.mark.parametrize(
    ("values", "score"),
    [(["topic"], 2), (["topic", "text"], 2), ([5, b""], 2), ([None, None], 2), (["topic", b""], 1.5),
     (["topic", b""], "inf"), (["topic", b""], "-inf"), (["topic", b""], -1), (["topic", b"", b""], 2)],
    ids=repr,
)  # fmt: skip
def test_a_snapshot_that_nobody_recorded_so_is_passed_over(
    factory: RunnerFactory, caplog: pytest.LogCaptureFixture, values: list[Any], score: Any
) -> None:
    """Values of other types, and scores that are no versions; the ones around it are selected."""
    snapshots = factory.aggregate_recorder("snapshots")
    snapshots.insert_events(stored("a", 1, 3))
    store = factory.datastore.store
    key = f"{store.info.keys[0].tag}:eventsourcing:snapshots:a"
    store.driver.execute([("ZADD", key, score, record_of(values, "it"))])
    assert versions_of(snapshots, "a") == [1, 3]
    assert "is damaged and passed over" in caplog.text


def test_a_key_of_another_type_is_an_error_of_the_library(factory: RunnerFactory) -> None:
    """It names the key."""
    snapshots = factory.aggregate_recorder("snapshots")
    store = factory.datastore.store
    key = f"{store.info.keys[0].tag}:eventsourcing:snapshots:a"
    store.driver.execute([("SET", key, "mine")])
    with pytest.raises(InternalError, match=re.escape(key)):
        versions_of(snapshots, "a")
    with pytest.raises(InternalError, match=re.escape(key)):
        snapshots.insert_events(stored("a", 1))


@pytest.mark.parametrize("held", [b"x", b"", b"-1", b"9" * 40])
def test_tracking_that_is_no_position_is_an_error_of_the_library(factory: RunnerFactory, held: bytes) -> None:
    """It names key and field."""
    tracking = factory.tracking_recorder()
    tracking.insert_tracking(Tracking("upstream", 5))
    store = factory.datastore.store
    key = store.info.keys[0].bookmarks
    [[name]] = store.driver.execute([("HKEYS", key)])
    store.driver.execute([("HSET", key, name, held)])
    with pytest.raises(InternalError, match=re.escape(f"{key} is damaged: its field")):
        tracking.max_tracking_id("upstream")


@pytest.mark.parametrize("version", [-1, 2**53 + 1, True, 1.0])
def test_a_snapshot_that_cannot_be_found_again_is_refused(factory: RunnerFactory, version: Any) -> None:
    """Scores are exact up to 2**53."""
    with pytest.raises(DataError, match=re.escape(f"a version of snapshots must be a number from 0 to {2**53}, not ")):
        factory.aggregate_recorder("snapshots").insert_events(stored("dog", version))


# -- tracking -----------------------------------------------------------------------------------


def when_waited_for(recorder: RunnerProcessRecorder, work: Callable[[], object]) -> Callable[[], None]:
    """Does its work once somebody waits for the application "upstream"."""
    channel = f"{store_of(recorder).info.keys[0].tag}:eventsourcing:tracking:{store_of(recorder).info.name}:upstream"

    def heard() -> bool:
        [found] = store_of(recorder).driver.execute([("PUBSUB", "NUMSUB", channel)])
        return int(found[1]) > 0

    def then() -> None:
        assert reached(heard)
        work()

    return then


@pytest.mark.parametrize("with_events", [False, True])
def test_whoever_waits_is_woken_by_another_process(
    factory: RunnerFactory, recorder: RunnerProcessRecorder, with_events: bool
) -> None:
    """The two share nothing but the server, and the one who waits did not look by itself."""
    # given
    name = recorder.datastore.store.info.name
    other = RunnerFactory({"RUNNER_STORE": same_server(factory), "RUNNER_NAME": name})
    tracking = Tracking("upstream", 21)
    events = stored("dog", 1) if with_events else []
    inserted: list[float] = []

    def insert() -> None:
        inserted.append(time.monotonic())
        process_recorder(other).insert_events(events, tracking=tracking)

    # when
    with in_thread(when_waited_for(recorder, insert)):
        recorder.wait("upstream", 21, timeout=PATIENCE)
        woken = time.monotonic()

    # then
    assert woken - inserted[0] < LOOK_ANYWAY / 2
    other.close()


def same_server(factory: RunnerFactory) -> str:
    return factory.env["RUNNER_STORE"]


@pytest.mark.real
@pytest.mark.parametrize("timeout", [0.9 * LOOK_ANYWAY, PATIENCE])
def test_whoever_waits_looks_anyway(real_factory: RunnerFactory, timeout: float) -> None:
    """The process that recorded the tracking may have died before it rang: in time, and before the time is up."""
    # given
    recorder = process_recorder(real_factory)
    store = store_of(recorder)

    def silently() -> None:
        store.append_many([], bookmark=(f"tracking:{store.info.name}:upstream", 3), partition=0)

    # when
    began = time.monotonic()
    with in_thread(when_waited_for(recorder, silently)):
        recorder.wait("upstream", 3, timeout=timeout)

    # then
    assert time.monotonic() - began < 5 * LOOK_ANYWAY


@pytest.mark.real
def test_whoever_waits_asks_nothing_meanwhile(real_factory: RunnerFactory) -> None:
    """With an interrupt to look at, too: the server hears of who waits when it begins, and once a second."""
    # given
    recorder = process_recorder(real_factory)
    store = store_of(recorder)

    def asked() -> int:
        [found] = store.driver.execute([("INFO", "commandstats")])
        return int((re.findall(rb"cmdstat_hget:calls=(\d+)", found) or [0])[0])

    # when
    before = asked()
    with pytest.raises(TimeoutError, match="notification 5 of application 'upstream' was not processed in time"):
        recorder.wait("upstream", 5, timeout=LOOK_ANYWAY * 0.8, interrupt=threading.Event())

    # then
    assert asked() - before <= 4


def test_an_interrupt_ends_the_wait_soon(recorder: RunnerProcessRecorder) -> None:
    """From another thread, long before the time is up, or it would look again."""
    # given
    interrupt = threading.Event()
    interrupted: list[float] = []

    def work() -> None:
        interrupted.append(time.monotonic())
        interrupt.set()

    # when
    with in_thread(when_waited_for(recorder, work)), pytest.raises(WaitInterruptedError):
        recorder.wait("upstream", 9, timeout=60, interrupt=interrupt)

    # then
    assert time.monotonic() - interrupted[0] < LOOK_ANYWAY / 2


@pytest.mark.real
def test_whoever_waits_outlives_its_connection(real_factory: RunnerFactory) -> None:
    """All connections end, the tracking is recorded, and it is noticed."""
    # given
    recorder = process_recorder(real_factory)
    store = store_of(recorder)

    def cut_and_insert() -> None:
        store.driver.execute([("CLIENT", "KILL", "TYPE", "pubsub")])
        recorder.insert_tracking(Tracking("upstream", 4))

    # then
    with in_thread(when_waited_for(recorder, cut_and_insert)):
        recorder.wait("upstream", 4, timeout=PATIENCE)


def test_tracking_is_each_applications_own(recorder: RunnerProcessRecorder) -> None:
    """It rises for each by itself, and other bookmarks of the store are not in its way."""
    store_of(recorder).append_many([], bookmark=("upstream", 50), partition=0)
    recorder.insert_tracking(Tracking("upstream", 2))
    recorder.insert_tracking(Tracking("downstream", 1))
    assert [recorder.max_tracking_id(each) for each in ("upstream", "downstream", "none")] == [2, 1, None]
    for impossible in (0, 2**63):
        with pytest.raises(DataError, match="must be a number from 1"):
            recorder.insert_tracking(Tracking("other", impossible))


def test_tracking_is_exact_however_large_its_id_is(recorder: RunnerProcessRecorder) -> None:
    """Ids of another application may be any numbers: times, for example, whose last digits no float holds."""
    moment = 1_764_418_831_123_456_789
    for notification_id in (moment, moment + 1):
        recorder.insert_tracking(Tracking("upstream", notification_id))
        with pytest.raises(IntegrityError, match=str(notification_id)):
            recorder.insert_tracking(Tracking("upstream", notification_id))
        assert recorder.max_tracking_id("upstream") == notification_id
    with pytest.raises(DataError, match="start"):
        recorder.select_notifications(2**64, 10)


# -- subscriptions ------------------------------------------------------------------------------


def read_in_thread(subscription: Any) -> tuple[threading.Thread, list[Any]]:
    """A thread that reads until the end, and what came: notifications, or the error that ended it."""
    found: list[Any] = []

    def read() -> None:
        try:
            for notification in subscription:
                found.append(notification)
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread, found


def waits(subscription: Any) -> bool:
    """Whether it has handed out everything there is."""
    return bool(subscription._events.caught_up)


@pytest.mark.parametrize("end", ["stop", "exit"])
def test_ending_a_subscription_wakes_its_reader_at_once(recorder: RunnerProcessRecorder, end: str) -> None:
    """From another thread, and long before the read of the live feed ends by itself."""
    # given
    recorder.insert_events(stored("dog", 1))
    subscription = recorder.subscribe()
    subscription.__enter__()
    thread, found = read_in_thread(subscription)
    assert reached(lambda: len(found) == 1 and waits(subscription))

    # when
    began = time.monotonic()
    subscription.stop() if end == "stop" else subscription.__exit__(None, None, None)
    thread.join(PATIENCE)

    # then
    assert time.monotonic() - began < store_of(recorder).settings.block / 2
    assert [each.id for each in found] == [1]
    subscription.stop()
    with pytest.raises(StopIteration):
        next(subscription)


def test_a_subscription_that_is_left_leaves_the_feed(recorder: RunnerProcessRecorder) -> None:
    """Also where nobody is reading then; the feed's thread ends when nobody is in it any more."""
    # given
    recorder.insert_events(stored("dog", 1))
    feed = store_of(recorder).feed(0)

    # when
    with recorder.subscribe() as subscription:
        assert next(subscription).id == 1
        assert feed._thread is not None

    # then
    assert reached(lambda: feed._thread is None)


def test_what_recorders_left_is_cleared(recorder: RunnerProcessRecorder, factory: RunnerFactory) -> None:
    """By the helper for tests: snapshots and tracking go with the events."""
    # given
    recorder.insert_events(stored("dog", 0, 1), tracking=Tracking("upstream", 1))
    factory.aggregate_recorder("snapshots").insert_events(stored("dog", 1))

    # when
    clear(store_of(recorder))

    # then
    tag = store_of(recorder).info.keys[0].tag
    [keys] = store_of(recorder).driver.execute([("KEYS", tag.replace("{", "[{]").replace("}", "[}]") + "*")])
    assert keys == [f"{tag}:meta".encode()]
    recorder.insert_events(stored("dog", 1))


def test_a_subscription_brings_what_is_appended(recorder: RunnerProcessRecorder) -> None:
    """Of its topics only, in order and once, from history into what follows."""
    # given
    recorder.insert_events(stored("dog", 1, 2, topic="wanted"))
    subscription = recorder.subscribe(gt=1, topics=["wanted"])
    with subscription:
        thread, found = read_in_thread(subscription)
        assert reached(lambda: waits(subscription))

        # when
        for version in range(3, 40):
            recorder.insert_events(stored("dog", version, topic="wanted" if version % 2 else "other"))

        # then
        assert reached(lambda: len(found) >= 20)
    thread.join(PATIENCE)
    assert [each.id for each in found] == [2, *range(3, 40, 2)]
    assert all(isinstance(each, Notification) for each in found)


@pytest.mark.real
def test_a_subscription_outlives_its_connections(real_factory: RunnerFactory) -> None:
    """They are made again, and nothing is missed or comes twice."""
    # given
    recorder: Any = real_factory.application_recorder()
    recorder.insert_events(stored("dog", 1))
    with recorder.subscribe() as subscription:
        thread, found = read_in_thread(subscription)
        assert reached(lambda: len(found) == 1 and waits(subscription))

        # when
        store_of(recorder).driver.execute([("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")])
        recorder.insert_events(stored("dog", 2))

        # then
        assert reached(lambda: len(found) == 2)
    thread.join(PATIENCE)
    assert [each.id for each in found] == [1, 2]


def test_closing_the_factory_ends_its_subscriptions(factory: RunnerFactory) -> None:
    """Whoever reads is told, at once; a connection cannot be had any more."""
    # given
    recorder: Any = factory.application_recorder()
    recorder.insert_events(stored("dog", 1))
    with recorder.subscribe() as subscription:
        thread, found = read_in_thread(subscription)
        assert reached(lambda: len(found) == 1 and waits(subscription))

        # when
        factory.close()
        thread.join(PATIENCE)

    # then
    assert isinstance(found[1], InterfaceError)
    for work in (recorder.max_notification_id, recorder.subscribe, lambda: recorder.insert_events(stored("dog", 2))):
        with pytest.raises(InterfaceError, match="the store was closed"):
            work()
    factory.close()


# -- the factory --------------------------------------------------------------------------------


def test_the_stores_url_is_needed() -> None:
    """The error names both keys that it is looked for under."""
    with pytest.raises(OSError, match="with keys: DOGSCHOOL_RUNNER_STORE, RUNNER_STORE"):
        RunnerFactory(Environment("DogSchool", {}))


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"RUNNER_STORE": "localhost"}, "has no scheme"),
        ({"RUNNER_STORE": "memory:", "RUNNER_NAME": "a b"}, "'a b' may hold only letters"),
    ],
)
def test_settings_that_cannot_be_right_are_refused(variables: dict[str, str], text: str) -> None:
    """As the library does it, by an OSError; it says which settings, and what is wrong."""
    with pytest.raises(OSError, match=f"RUNNER_STORE and RUNNER_NAME name no store that can be used: .*{text}"):
        RunnerFactory(variables)


def test_a_server_that_is_not_there_is_an_operational_error(tmp_path: Path) -> None:
    """With the error of this package as its cause."""
    with pytest.raises(OperationalError) as caught:
        RunnerFactory({"RUNNER_STORE": f"unix://{tmp_path}/none"})
    assert isinstance(caught.value.__cause__, StoreTrouble)


def test_a_store_of_several_partitions_is_refused(url: str, fresh_name: str) -> None:
    """Notification ids have one order."""
    with EventStore.open(url, name=fresh_name, partitions=2), pytest.raises(OSError, match="has 2 partitions"):
        RunnerFactory({"RUNNER_STORE": url, "RUNNER_NAME": fresh_name})


def test_a_recorder_of_another_store_is_refused(factory: RunnerFactory) -> None:
    """A class that the environment names must be one of ours."""
    factory.env["APPLICATION_RECORDER_TOPIC"] = "eventsourcing.popo:POPOApplicationRecorder"
    with pytest.raises(OSError, match="is not a subclass of RunnerApplicationRecorder"):
        factory.application_recorder()
    with pytest.raises(OSError, match="is not a subclass of RunnerTrackingRecorder"):
        factory.tracking_recorder(RunnerSnapshotRecorder)  # type: ignore[arg-type]


class OwnRecorder(RunnerApplicationRecorder):
    """What an application may name."""


def test_a_recorder_may_be_named(factory: RunnerFactory) -> None:
    """As with the library's own modules, by its topic."""
    factory.env["APPLICATION_RECORDER_TOPIC"] = f"{__name__}:OwnRecorder"
    assert type(factory.application_recorder()) is OwnRecorder


class Kennel(Application[UUID]):
    """An application whose store is named after it."""

    name = "the-kennel"
    snapshotting_intervals = {Aggregate: 2}  # noqa: RUF012 - the library's way


class Office(Application[UUID]):
    """Another one on the same server."""


def test_each_application_has_its_own_log(url: str) -> None:
    """Named after it unless the environment says otherwise; the category follows the name."""
    # given
    env = {"PERSISTENCE_MODULE": "runner.adapters.eventsourcing", "RUNNER_STORE": url}
    name = f"office{uuid4().hex}"
    with Kennel(env={**env, "THE-KENNEL_RUNNER_NAME": f"k-{name}"}) as kennel:
        with Office(env={**env, "OFFICE_RUNNER_NAME": name}) as office:
            # when
            dog, desk = Aggregate(), Aggregate()
            kennel.save(dog)
            office.save(desk)

            # then
            assert kennel.recorder.max_notification_id() == office.recorder.max_notification_id() == 1
        with EventStore.open(url, name=f"k-{name}") as store:
            assert streams(store) == {f"k_{name}-{dog.id}": 1}
        with EventStore.open(url, name=name) as store:
            assert streams(store) == {f"{name}-{desk.id}": 1}


def test_an_application_needs_two_variables(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its store is then named as the application is."""
    monkeypatch.setenv("PERSISTENCE_MODULE", "runner.adapters.eventsourcing")
    monkeypatch.setenv("RUNNER_STORE", url)
    with Kennel() as kennel:
        dog = Aggregate()
        for _ in range(4):
            dog.trigger_event(Aggregate.Event)
            kennel.save(dog)
        assert kennel.repository.get(dog.id).version == 5
        assert kennel.snapshots is not None
        assert [each.originator_version for each in kennel.snapshots.get(dog.id)] == [2, 4]
        with EventStore.open(url, name="the-kennel") as store:
            assert [event.stream for event in all_events(store)][-5:] == [f"the_kennel-{dog.id}"] * 5
            assert [notification_of(event).originator_version for event in all_events(store)][-5:] == [1, 2, 3, 4, 5]


def test_of_two_copies_of_an_aggregate_one_is_saved(url: str, fresh_name: str) -> None:
    """By two processes that share nothing but the server: the second one is an IntegrityError."""
    env = {"PERSISTENCE_MODULE": "runner.adapters.eventsourcing", "RUNNER_STORE": url, "RUNNER_NAME": fresh_name}
    with Office(env=env) as here, Office(env=env) as there:
        dog = Aggregate()
        here.save(dog)
        copies: Sequence[Any] = [here.repository.get(dog.id), there.repository.get(dog.id)]
        for copy in copies:
            copy.trigger_event(Aggregate.Event)
        here.save(copies[0])
        with pytest.raises(IntegrityError, match="expected version 1, actual version 2"):
            there.save(copies[1])
        assert there.repository.get(dog.id).version == 2


def test_what_cannot_be_stored_is_a_data_error(recorder: RunnerProcessRecorder) -> None:
    """Before anything is sent, and it names what it is about."""
    bad: list[tuple[StoredEvent, str]] = [
        (StoredEvent("dog", 1, "topic", b"x" * 2_000_000), "the limit is 1048576"),
        (StoredEvent("dog", 1, "topic", "text"), "must be bytes, not str; topic 'topic'"),  # type: ignore[arg-type]
        (StoredEvent(7, 1, "topic", b""), "must be a UUID or text, not 7"),  # type: ignore[arg-type]
        (StoredEvent("dog\n", 1, "topic", b""), "control character"),
        (StoredEvent("dog", 1, "", b""), "must not be empty"),
    ]
    for event, text in bad:
        with pytest.raises(DataError, match=text):
            recorder.insert_events([*stored("other", 1), event])
    assert recorder.max_notification_id() is None
    snapshots = RunnerSnapshotRecorder(recorder.datastore, "snapshots")
    with pytest.raises(DataError, match="over the limit"):
        snapshots.insert_events([StoredEvent("dog", 1, "topic", b"x" * 9_000_000)])


@pytest.mark.real
def test_a_factory_that_is_forgotten_gives_its_connections_back(real_url: str, fresh_name: str) -> None:
    """The library's projection runners make factories that they never close."""
    # given
    factory: RunnerFactory | None = RunnerFactory({"RUNNER_STORE": real_url, "RUNNER_NAME": fresh_name})
    assert factory is not None
    driver = factory.datastore.store.driver
    recorder: Any = factory.application_recorder()
    recorder.insert_events(stored("dog", 1))

    # when
    factory = None
    gc.collect()

    # then
    assert recorder.max_notification_id() == 1  # a recorder needs the store, not the factory
    recorder = None
    gc.collect()
    with pytest.raises(StoreTrouble, match="the store was closed"):
        driver.session()


# -- a flushed server, and the least rights -----------------------------------------------------


@pytest.mark.real
def test_a_store_that_was_flushed_takes_nothing_more(fresh_name: str) -> None:
    """Neither events nor snapshots of a history that is gone."""
    with server("--appendonly", "no", binary=find_binary()) as started:
        factory = RunnerFactory({"RUNNER_STORE": started.url, "RUNNER_NAME": fresh_name})
        recorder, snapshots = factory.application_recorder(), factory.aggregate_recorder("snapshots")
        recorder.insert_events(stored("dog", 1))
        started.do("FLUSHALL")
        for insert_events in (recorder.insert_events, snapshots.insert_events):
            with pytest.raises(InternalError, match="it was flushed or restored"):
                insert_events(stored("dog", 2))
        assert started.do("KEYS", "*") == []
        factory.close()


def rules_on_page(document: str, *, name: str) -> list[str]:
    [block] = re.findall(r"^```text\n(.*?)^```", document, re.MULTILINE | re.DOTALL)
    return [rule.replace("{es.", f"{{{name}.") for rule in re.findall(r"\([^)]*\)|\S+", " ".join(block.split()))]


def appender_rules(name: str) -> list[str]:
    return ["on", ">PASSWORD", *rules_of(APPENDER, [PartitionKeys(name, 0)])]


def work_as(url: str, name: str) -> None:
    """Everything that an application does."""
    factory = RunnerFactory({"RUNNER_STORE": url, "RUNNER_NAME": name})
    try:
        recorder, snapshots = process_recorder(factory), factory.aggregate_recorder("snapshots")
        for version in range(3):
            recorder.insert_events([*stored("a", version), *stored("b", version + 1)])
        recorder.insert_events(stored("c", 1), tracking=Tracking("upstream", 1))
        assert refused(lambda: recorder.insert_events(stored("a", 1)))
        with pytest.raises(TimeoutError):
            recorder.wait("upstream", 2, timeout=1)  # long enough to hear that listening is refused
        recorder.insert_tracking(Tracking("upstream", 2))
        snapshots.insert_events(stored("a", 2))
        assert versions_of(snapshots, "a") == [2]
        assert versions_of(recorder, "a") == [0, 1, 2]
        assert len(snapshots.select_events("a", desc=True, limit=1)) == 1
        with recorder.subscribe(gt=6) as subscription:
            thread, found = read_in_thread(subscription)
            assert reached(lambda: not thread.is_alive() or (len(found) == 1 and waits(subscription)))
            recorder.insert_events(stored("a", 3))
            assert reached(lambda: not thread.is_alive() or len(found) == 2)
        thread.join(PATIENCE)
        assert [getattr(each, "id", each) for each in found] == [7, 8]
    finally:
        factory.close()


@pytest.mark.real
def test_the_rights_of_the_documentation_are_enough(fresh_name: str) -> None:
    """And each rule of them is needed, but for the right to wake others."""
    with server("--appendonly", "no", binary=find_binary()) as started:
        url = started.url.replace("//", "//appender:PASSWORD@")
        more = rules_on_page(DOCUMENT, name=fresh_name)
        needed = [place for place, rule in enumerate(more) if rule != "+publish"]
        for left_out in (None, *needed):
            # given
            started.do("FLUSHALL")
            EventStore.open(started.url, name=fresh_name).close()
            rules = [rule for place, rule in enumerate(more) if place != left_out]
            started.do("ACL", "SETUSER", "appender", "reset", *appender_rules(fresh_name), *rules)

            # then
            if left_out is None:
                work_as(url, fresh_name)
            else:
                with pytest.raises((OperationalError, AssertionError)):
                    work_as(url, fresh_name)


@pytest.mark.real
def test_who_may_not_publish_records_all_the_same(fresh_name: str) -> None:
    """The ring is behind what counts, and never fails it."""
    with server("--appendonly", "no", binary=find_binary()) as started:
        EventStore.open(started.url, name=fresh_name).close()
        started.do("ACL", "SETUSER", "appender", "reset", *appender_rules(fresh_name))
        factory = RunnerFactory(
            {"RUNNER_STORE": started.url.replace("//", "//appender:PASSWORD@"), "RUNNER_NAME": fresh_name}
        )
        recorder = process_recorder(factory)
        assert recorder.insert_events(stored("a", 1), tracking=Tracking("upstream", 1)) == [1]
        assert recorder.max_tracking_id("upstream") == 1
        factory.close()


def test_without_the_library_the_extra_is_named() -> None:
    """Importing the adapter where the library is not installed says what to install."""
    program = "import sys; sys.modules['eventsourcing'] = None; import runner.adapters.eventsourcing"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "install the extra: pip install 'redis-streams-runner[eventsourcing]'" in done.stderr


def test_applications_of_one_store_have_tracking_of_their_own(url: str, fresh_name: str) -> None:
    """Two that process the same application do not take each other's progress for their own."""
    factories = [
        RunnerFactory(Environment(name, {"RUNNER_STORE": url, "RUNNER_NAME": fresh_name}))
        for name in ("Bills", "Mails")
    ]
    bills, mails = map(process_recorder, factories)
    bills.insert_tracking(Tracking("Shop", 3))
    assert (bills.max_tracking_id("Shop"), mails.max_tracking_id("Shop")) == (3, None)
    mails.insert_events(stored("a", 1), tracking=Tracking("Shop", 1))
    assert (bills.max_tracking_id("Shop"), mails.max_tracking_id("Shop")) == (3, 1)
    for factory in factories:
        factory.close()


def test_snapshots_of_equal_content_are_two(factory: RunnerFactory) -> None:
    """Also in one call: what tells them apart is the version."""
    snapshots = factory.aggregate_recorder("snapshots")
    snapshots.insert_events([StoredEvent("a", version, "topic", b"same") for version in (1, 2)])
    assert versions_of(snapshots, "a") == [1, 2]


def test_a_subscription_that_was_stopped_unread_leaves_the_feed(factory: RunnerFactory) -> None:
    """The library's collector only stops it; nobody iterates who could notice."""
    recorder = process_recorder(factory)
    members = store_of(recorder).feed(0)._core.members
    subscription = recorder.subscribe()

    def insert() -> None:
        assert reached(lambda: len(members) == 1)
        recorder.insert_events(stored("a", 1))

    with in_thread(insert):
        assert next(subscription).id == 1
    assert len(members) == 1
    subscription.stop()
    assert members == []
