"""Records beside the log that are damaged or forged: each harms its own projection, and is named by its key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from accounts import PATIENCE
from faces import FACES
from looks import do
from workbench import Workbench

from runner import AsyncEventStore, AsyncView, EventStore, NewEvent, Projection, RunnerError, View, follow, operations
from runner.aio.engine import AsyncEngine
from runner.errors import DataError, RecordDamaged
from runner.format.keys import PartitionKeys
from runner.projections.policies import ParkStream, Skip
from runner.sync.engine import Engine
from runner.testing import TEST_SETTINGS

#: Values that none of the fields below may hold.
BAD = (b"x", b"", b"\xff\xfe", b"-1", b"9" * 30, b"1e3", b"nan")

#: The fields of a build's record that hold numbers.
NUMBERS = ("position", "applied", "skips", "generation", "token", "lease", "lasts", "resets", "rows", "mixed")


def counting(name: str) -> Projection:
    """A projection that counts the events of each stream, and parks those of type Bad."""
    made = Projection(name, category="a", initial=lambda: 0, on_error=ParkStream())
    made.when("X", lambda state, event: state + 1)
    made.when("Bad", lambda state, event: 1 // 0)
    return made


def damages(keys: PartitionKeys) -> Iterator[tuple[str, list[tuple[object, ...]]]]:
    """What is damaged, and the commands that damage it."""
    build = keys.build("p", "1")
    for field in NUMBERS:
        for bad in BAD:
            if (field, bad) != ("mixed", b""):  # empty means that there is none
                yield f"{field} {bad!r}", [("HSET", build, field, bad)]
    for field in ("state", "error", "kind"):
        yield f"{field} no text", [("HSET", build, field, b"\xff")]
    for bad in (b"\xc1", b"\x05", b"\x91\x05", b"\x91\x92\xa1x\xc4\x00"):
        yield f"ahead {bad!r}", [("HSET", build, "ahead", bad)]
    for field in ("build", "previous", "candidate", "made"):
        for bad in (b"\xff", b"", b"a b"):
            yield f"{field} {bad!r}", [("HSET", keys.projection("p"), field, bad)]
    for bad in (b"\xc1", b"\x05", b"\x92\x01\x02", b""):
        yield f"parked {bad!r}", [("HSET", keys.parked("p", "1"), 2, bad)]
        yield f"skipped {bad!r}", [("XADD", keys.skipped("p", "1"), "*", "e", bad)]
    yield "parked position", [("HSET", keys.parked("p", "1"), "x", b"\x90")]
    for bad in (b"\xff", b"a b", b"", b"ghost"):
        yield f"name {bad!r}", [("SADD", keys.projections, bad)]
    yield "no record", [("UNLINK", keys.projection("p"))]
    for bad in (b"\xff", b"a b c", b""):
        yield f"runner {bad!r}", [("ZADD", keys.runners, 9e15, bad)]
    for key in (*keys.of_build("p", "1"), keys.projection("p"), keys.runners):
        yield f"type of {key}", [("UNLINK", key), ("SET", key, "mine") if key != keys.runners else ("SADD", key, "x")]


def prepared(store: EventStore) -> PartitionKeys:
    """A store with two projections, one event of each is parked, and one is new."""
    store.append("a-1", [NewEvent("X"), NewEvent("Bad")])
    run(store)
    store.append("a-2", NewEvent("X"))
    return store.info.keys[0]


def run(store: EventStore) -> None:
    """Run both projections to the end; each in its way."""
    try:
        Engine(store, [counting("p"), counting("q")], live=False).run_to_end()
    except RunnerError:
        pass


async def run_async(store: AsyncEventStore) -> None:
    """The same on the other face."""
    try:
        await AsyncEngine(store, [counting("p"), counting("q")], live=False).run_to_end()
    except RunnerError:
        pass


async def items_of(store: AsyncEventStore) -> dict[str, Any]:
    return dict([item async for item in AsyncView(store, "p").items()])


#: Functions for either kind of store.
OPERATIONS: list[Callable[[Any], Any]] = [
    operations.status,
    operations.parked,
    operations.skipped,
    operations.verify,
    operations.doctor,
    lambda store: operations.trim(store, 2, dry_run=True),
    lambda store: operations.rollback(store, "p"),
    lambda store: operations.reset(store, "p", dry_run=True),
    lambda store: operations.unregister(store, "p", dry_run=True),
]
VIEWS: list[Callable[[EventStore], object]] = [
    lambda store: dict(View(store, "p").items()),
    lambda store: len(View(store, "p")),
]
ASYNC_VIEWS: list[Callable[[AsyncEventStore], Any]] = [items_of, lambda store: AsyncView(store, "p").count()]

CASES = [what for what, _ in damages(PartitionKeys("es", 0))]


def look_and_run(store: EventStore) -> None:
    for operation in (*OPERATIONS, *VIEWS):
        try:
            operation(store)
        except RunnerError:
            pass
    run(store)


def look_and_run_async(url: str, name: str) -> None:
    async def work() -> None:
        async with AsyncEventStore.open(url, name=name, settings=TEST_SETTINGS) as store:
            for operation in (*OPERATIONS, *ASYNC_VIEWS):
                try:
                    await operation(store)
                except RunnerError:
                    pass
            await run_async(store)

    asyncio.run(work())


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("at", range(len(CASES)), ids=CASES)
def test_a_damaged_record_harms_one_projection(url: str, fresh_name: str, face: str, at: int) -> None:
    """The other one goes on; every operation lists what it can, or raises an error of this package; verify finds it."""
    with EventStore.open(url, name=fresh_name, settings=TEST_SETTINGS) as store:
        keys = prepared(store)
        sound = operations.verify(store).sound
        _, commands = list(damages(keys))[at]
        store.driver.execute(commands)

        found = operations.verify(store).findings
        if face == "sync":
            look_and_run(store)
        else:
            look_and_run_async(url, fresh_name)

        assert sound
        assert found
        assert dict(View(store, "q").items()) == {"a-1": 1, "a-2": 1}
        assert [one.name for one in operations.status(store).projections if one.name == "q"] == ["q"]


def test_a_damaged_record_is_a_row_of_status(store: EventStore) -> None:
    """A projection whose record cannot be read has the state "damaged", and the error names key and field."""
    keys = prepared(store)
    store.driver.execute([("HSET", keys.build("p", "1"), "position", "x"), ("SADD", keys.projections, b"\xff")])

    rows = [(one.name, one.current_state) for one in operations.status(store).projections]

    assert rows == [("?", "damaged"), ("p", "damaged"), ("q", "idle")]
    assert f"{keys.build('p', '1')} is damaged: its field 'position'" in operations.status(store).projections[1].error


@pytest.mark.parametrize("field", ["rows", "applied", "skips"])
def test_a_commit_beside_a_damaged_count_writes_nothing(store: EventStore, field: str) -> None:
    """Scripts do not roll back: the count that would be raised last is looked at before the first row is written."""
    # given
    keys = prepared(store)
    bench = Workbench(store, counting("p"))
    bench.claim()
    do(store, "HSET", keys.build("p", "1"), field, "x")
    rows = do(store, "HGETALL", keys.view("p", "1"))

    # when
    bench.work()

    # then
    assert [f"field '{field}'" in error for error in bench.errors] == [True]
    assert do(store, "HGETALL", keys.view("p", "1")) == rows
    assert do(store, "HGET", keys.build("p", "1"), "position") == b"2"


@pytest.mark.parametrize(("policy", "key"), [(ParkStream(), "parked"), (Skip(), "skipped")], ids=["parked", "skipped"])
def test_a_commit_beside_a_key_of_another_type_writes_nothing(store: EventStore, policy: Any, key: str) -> None:
    """The key that would be written to after the rows is looked at before them."""
    # given
    keys = prepared(store)
    store.append("a-3", NewEvent("Bad"))
    projection = counting("p")
    projection.on_error = policy
    bench = Workbench(store, projection)
    bench.claim()
    name = getattr(keys, key)("p", "1")
    do(store, "DEL", name)
    do(store, "SET", name, "mine")
    rows = do(store, "HGETALL", keys.view("p", "1"))

    # when
    bench.work()

    # then
    assert [name in error for error in bench.errors] == [True]
    assert do(store, "HGETALL", keys.view("p", "1")) == rows
    assert do(store, "HGET", keys.build("p", "1"), "position") == b"2"


@pytest.mark.parametrize("field", ["rows", "generation"])
def test_parked_events_beside_a_damaged_count_stay_parked(store: EventStore, field: str) -> None:
    """Nor is a record written of events that would be given up."""
    # given
    keys = prepared(store)
    do(store, "HSET", keys.build("p", "1"), field, "x")

    # when
    with pytest.raises(RecordDamaged, match=f"field '{field}'"):
        operations.drop_parked(store, "p")

    # then
    assert do(store, "HKEYS", keys.parked("p", "1")) == [b"2"]
    assert do(store, "XLEN", keys.skipped("p", "1")) == 0


def test_a_reset_mends_a_damaged_record(store: EventStore) -> None:
    """What is damaged goes with the rest, and the next run makes the view again."""
    keys = prepared(store)
    store.driver.execute(
        [
            ("HSET", keys.build("p", "1"), "resets", "x", "position", "nan"),
            ("UNLINK", keys.view("p", "1")),
            ("SET", keys.view("p", "1"), "mine"),
        ]
    )

    operations.reset(store, "p", repeat_effects=True)
    run(store)

    assert dict(View(store, "p").items()) == {"a-1": 1, "a-2": 1}
    assert operations.verify(store).sound


def test_a_record_that_is_gone_is_a_row_of_status(store: EventStore) -> None:
    """The projection is in the set of all, so it was run; the others are told as ever. A trim removes nothing."""
    keys = prepared(store)
    store.driver.execute([("UNLINK", keys.projection("p"))])

    rows = [(one.name, one.current_state) for one in operations.status(store).projections]
    checks = {check.name: check for check in operations.doctor(store).checks}
    [trim] = operations.trim(store, 3, dry_run=True)

    gone = f"{keys.projection('p')} is damaged: its field 'build' is gone"
    assert rows == [("p", "damaged"), ("q", "idle")]
    assert gone in operations.status(store, "p").projections[0].error
    assert [(found.where, gone in found.what) for found in operations.verify(store).findings] == [
        (keys.projection("p"), True)
    ]
    assert gone in checks["records"].finding
    assert {row.projection: gone in row.error for row in operations.parked(store)} == {"p": True, "q": False}
    assert (trim.removed, trim.limit) == (0, "projection 'p' has no live build: its record is gone")
    assert "runner unregister p" in trim.advice
    with pytest.raises(RecordDamaged, match="its field 'build' is gone"):
        operations.reset(store, "p")
    operations.unregister(store, "p")
    assert operations.verify(store).sound


def test_a_set_of_projections_that_is_none_is_a_row_of_status(store: EventStore) -> None:
    """Nobody knows which projections there are: the row names the key, and a trim removes nothing."""
    keys = prepared(store)
    store.driver.execute([("DEL", keys.projections), ("SET", keys.projections, "mine")])

    [row] = operations.status(store).projections

    assert (row.name, row.current_state) == ("?", "damaged")
    assert keys.projections in row.error
    with pytest.raises(RecordDamaged) as damage:
        operations.trim(store, 2)
    assert keys.projections in str(damage.value)
    assert do(store, "XLEN", keys.log) == 3


def test_a_runner_works_although_the_list_of_runners_is_none(store: EventStore) -> None:
    """Shares are advice: it counts itself alone, and leaves the key as it is."""
    # given
    keys = prepared(store)
    store.driver.execute([("DEL", keys.runners), ("SET", keys.runners, "mine")])

    # when
    with follow(store, counting("q")) as following:
        following.wait_live(PATIENCE)

    # then
    assert dict(View(store, "q").items()) == {"a-1": 1, "a-2": 1}
    assert do(store, "GET", keys.runners) == b"mine"


def test_a_bookmark_that_is_no_position_is_named(store: EventStore) -> None:
    """An append that would move it writes nothing."""
    keys = store.info.keys[0]
    store.driver.execute([("HSET", keys.bookmarks, "mine", "x")])

    with pytest.raises(DataError, match=r"bookmarks is damaged: its field 'mine'"):
        store.append_many([("a-1", [NewEvent("X")], 0)], bookmark=("mine", 5))

    assert store.version("a-1") == 0
