"""Copies of a store: with the same partitions or others, from format 1, stopped in the middle, beside writers."""

from __future__ import annotations

import asyncio
import importlib
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_stores import (
    STREAMS,
    Made,
    check_appends,
    check_bookmarks,
    floor_of,
    kept_events,
    make_format_1,
    steps,
)

from runner import AsyncEventStore, EventStore, InvalidInput, NewEvent, RecordedEvent
from runner.effects import DriverOperation, Execute, StoreOperation
from runner.errors import LogTrimmed
from runner.format.keys import PartitionKeys
from runner.log.extent import Extent, read_extent
from runner.operations import CopyResult, copy_store, stream_digests, verify
from runner.operations.trim import Trim
from runner.testing import TEST_SETTINGS

#: The module, whose name in its package is that of the function.
module = importlib.import_module("runner.operations.copy_store")

PAGES = replace(TEST_SETTINGS, page_size=3)

_names = count(1)


def opened(url: str, partitions: int | None = None) -> EventStore:
    return EventStore.open(url, name=f"copy-{next(_names)}", partitions=partitions, settings=PAGES)


def copied(source: EventStore, target: EventStore, url: str = "") -> CopyResult:
    """Copy a store; by the asynchronous face if the URL of both is given."""
    if not url:
        return copy_store(source, target)

    async def run() -> CopyResult:
        async with (
            AsyncEventStore.open(url, name=source.info.name, settings=PAGES) as ours,
            AsyncEventStore.open(url, name=target.info.name, settings=PAGES) as theirs,
        ):
            return await copy_store(ours, theirs)

    return asyncio.run(run())


def filled(url: str, partitions: int, trimmed: int = 0) -> Made:
    """A store of twelve events in each of six streams; of the first ones some may be trimmed."""
    made = Made(opened(url, partitions))
    made.take([("append", which, 2) for which in range(6)] * 5 + [("trim", trimmed, 0)] * bool(trimmed))
    made.take([("append", which, 2) for which in (0, 1)] + [("bookmark", 0, 3)])
    return made


def all_kept(store: EventStore) -> list[RecordedEvent]:
    return [event for partition in range(store.info.partitions) for event in kept_events(store, partition)]


def merged(logs: Sequence[list[RecordedEvent]]) -> list[RecordedEvent]:
    """In each step the earliest of the logs' next events; of equal times, that of the lowest partition."""
    heads, found = [log for log in logs if log], list[RecordedEvent]()
    while heads:
        log = min(heads, key=lambda each: (each[0].recorded_at, each[0].partition))
        found.append(log.pop(0))
        heads = [each for each in heads if each]
    return found


def facts(event: RecordedEvent) -> tuple[Any, ...]:
    """What a copy never changes."""
    return event.stream, event.number, event.id, event.type, event.recorded_at, event.data, event.metadata


def check_copy(source: EventStore, target: EventStore) -> None:
    """Every event is there, in the documented order; versions and the number of trimmed events are the same."""
    order = merged([kept_events(source, partition) for partition in range(source.info.partitions)])
    for partition, keys in enumerate(target.info.keys):
        due = [facts(event) for event in order if target.info.of_stream(event.stream).partition == partition]
        found = kept_events(target, partition)
        assert [facts(event) for event in found] == due
        floor = floor_of(target, keys)
        assert [event.position for event in found] == list(range(floor + 1, floor + 1 + len(found)))
        assert target.last_position(partition=partition) == floor + len(found)
    assert sum(floor_of(target, keys) for keys in target.info.keys) == sum(
        floor_of(source, keys) for keys in source.info.keys
    )
    assert [target.version(stream) for stream in STREAMS] == [source.version(stream) for stream in STREAMS]
    assert verify(target).findings == ()


def check_same_places(source: EventStore, target: EventStore) -> None:
    assert all_kept(target) == all_kept(source)
    for ours, theirs in zip(source.info.keys, target.info.keys, strict=True):
        assert floor_of(source, ours) == floor_of(target, theirs)
    assert [target.version(stream) for stream in STREAMS] == [source.version(stream) for stream in STREAMS]


@pytest.mark.parametrize("face", ["sync", "async"])
@settings(max_examples=20)
@given(taken=steps, before=st.sampled_from([1, 2, 3]), after=st.sampled_from([1, 2, 3]))
def test_a_copy_holds_what_the_source_holds(taken: list[Any], before: int, after: int, face: str) -> None:
    """B22. With as many partitions everything is where it was; with others, each stream is, in a merged order."""
    url = f"memory:copy-{next(_names)}"
    with opened(url, before) as source, opened(url, after) as target:
        # given
        made = Made(source)
        made.take(taken)

        # when
        result = copied(source, target, url if face == "async" else "")

        # then
        assert result.good
        assert result.positions_kept is (before == after)
        assert result.copied == len(all_kept(source))
        assert list(result.streams) == stream_digests(source) == stream_digests(target)
        assert result.bookmarks_left == (0 if before == after else len(made.bookmarks))
        if before == after:
            check_same_places(source, target)
            check_bookmarks(made, target)
            check_appends(made, target)
        else:
            check_copy(source, target)
            if not any(step[0] == "trim" for step in taken):
                check_appends(made, target)
        assert verify(target).findings == ()


@pytest.mark.real
@pytest.mark.parametrize("trimmed", [0, 5, 10])
@pytest.mark.parametrize("partitions", [1, 3, 5])
def test_a_real_server_copies_as_the_one_in_memory_does(real_url: str, partitions: int, trimmed: int) -> None:
    """Also streams of which nothing is left, and target partitions that get no event."""
    with filled(real_url, 3, trimmed).store as source, opened(real_url, partitions) as target:
        assert copied(source, target).good
        if partitions == 3:
            check_same_places(source, target)
        else:
            check_copy(source, target)


class Stopped(Exception):
    """The process of a copy ended here."""


class Stopping(EventStore):
    """A store whose operations end after some round trips."""

    left = 0

    def run(self, operation: DriverOperation[Any]) -> Any:
        return super().run(self._stopped(operation))

    def _stopped(self, operation: DriverOperation[Any]) -> DriverOperation[Any]:
        try:
            effect = next(operation)
            while True:
                if isinstance(effect, Execute):
                    if self.left == 0:
                        raise Stopped
                    self.left -= 1
                effect = operation.send((yield effect))
        except StopIteration as stop:
            return stop.value


@pytest.mark.parametrize("partitions", [3, 2])
@pytest.mark.parametrize("trimmed", [0, 5])
def test_a_copy_that_was_stopped_goes_on_when_it_is_repeated(
    url: str, partitions: int, trimmed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After any round trip to the target: with the same order of events, so each gets the place it was given before."""
    monkeypatch.setattr(module, "A_RUN", 7)
    with filled(url, 3, trimmed).store as source:
        for after in count(1, 4):
            with opened(url, partitions) as target:
                with Stopping.open(url, name=target.info.name, settings=PAGES) as stopping:
                    stopping.left = after
                    try:
                        copied(source, stopping)
                    except Stopped:
                        pass
                    else:
                        break
                result = copied(source, target)
                assert result.good
                assert result.copied + result.known == len(all_kept(source))
                if partitions == 3:
                    check_same_places(source, target)
                else:
                    check_copy(source, target)
        assert after > 20


def test_events_that_are_appended_meanwhile_are_counted_and_not_copied(url: str) -> None:
    """B22. Writers that do not pause are noticed at the end; the target holds a beginning of the source."""
    with filled(url, 2).store as source, opened(url, 3) as target:
        before = len(all_kept(source))
        once = iter([2])

        def disturb(told: object) -> None:
            source.append("account-9", [NewEvent("Late")] * 0 + [NewEvent("Late") for _ in range(next(once, 0))])

        result = copy_store(source, target, progress=disturb)
        assert (result.missed, result.good, result.copied) == (2, False, before)
        assert result.differing == ()
        assert target.version("account-9") == 0


@pytest.mark.parametrize("partitions", [1, 3])
def test_a_stream_without_events_keeps_its_version_if_it_is_appended_to_meanwhile(url: str, partitions: int) -> None:
    """Whether positions are kept or new: what the target holds is a beginning of the source."""
    with opened(url, 1) as source, opened(url, partitions) as target:
        source.append("gone-1", [NewEvent("X"), NewEvent("X")])
        source.append("kept-1", [NewEvent("X"), NewEvent("X")])
        source.run(Trim(source.info, 0, 3).run())

        def append_and_look(keys: PartitionKeys) -> StoreOperation[Extent]:
            found = yield from read_extent(keys)
            source.append("gone-1", NewEvent("X"))
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "read_extent", append_and_look)
            result = copy_store(source, target)

        assert (result.missed, result.differing, result.findings) == (1, (), ())
        assert target.version("gone-1") == 2


def test_a_trim_meanwhile_ends_the_copy(url: str) -> None:
    """What is gone cannot be compared; the target stays closed for writers."""
    with filled(url, 1).store as source, opened(url, 1) as target, pytest.raises(LogTrimmed):
        copy_store(source, target, progress=lambda told: source.run(Trim(source.info, 0, 3).run()))


@pytest.mark.parametrize("partitions", [1, 4])
def test_large_events_are_copied_in_small_pages(url: str, partitions: int) -> None:
    """However many partitions there are, what is held at a time is bounded; the order is that of small events."""
    with opened(url, 3) as source, opened(url, partitions) as target:
        for number in range(30):
            source.append(f"account-{number}", NewEvent("Deposited", "x" * 900_000))
        assert copied(source, target).good
        check_copy(source, target)


def test_a_trim_of_events_that_were_not_read_yet_is_told_as_one(url: str) -> None:
    """The log is not said to be damaged."""
    with filled(url, 1).store as source, pytest.raises(LogTrimmed):
        stream_digests(source, progress=lambda told: source.run(Trim(source.info, 0, 60).run()))


def test_a_copy_goes_on_from_its_own_source_only(url: str) -> None:
    """Also a source that has grown since is another one: its events may come in another order."""
    with filled(url, 3).store as source, opened(url, 2) as target:
        with Stopping.open(url, name=target.info.name, settings=PAGES) as stopping:
            stopping.left = 9
            with pytest.raises(Stopped):
                copied(source, stopping)
        source.append("account-1", NewEvent("Later"))
        with pytest.raises(InvalidInput, match="holds a part of another restore"):
            copied(source, target)


def test_what_cannot_be_copied_is_refused(url: str, store: EventStore) -> None:
    """A store into itself, into one that is not empty, or between the two kinds of store."""
    store.append("account-1", NewEvent("Opened"))
    with EventStore.open(url, name=store.info.name) as same, pytest.raises(InvalidInput, match="are the same store"):
        copy_store(store, same)
    with filled(url, 1).store as other, pytest.raises(InvalidInput, match="is not empty"):
        copy_store(store, other)
    with pytest.raises(InvalidInput, match="both stores must be EventStores, or both AsyncEventStores"):
        copy_store(store, AsyncEventStore.open(url, name="other"))


@pytest.mark.parametrize("braces", [False, True])
def test_a_store_of_format_1_is_copied_into_one_of_format_2(url: str, fresh_name: str, braces: bool) -> None:
    """Positions are kept unless the formats place a stream differently."""
    make_format_1(url, fresh_name, 3)
    with EventStore.open(url, name=fresh_name, settings=PAGES) as source, opened(url, 3) as target:
        made = Made(source)
        made.take([("append", which, 2) for which in range(6)] + [("bookmark", 1, 2), ("trim", 5, 0)])
        for number in range(9 if braces else 0):
            source.append(f"account-{{x}}-{number}", NewEvent("Opened"))
        result = copied(source, target)
        assert result.good
        assert result.positions_kept is not braces
        if braces:
            check_copy(source, target)
            assert {target.info.of_stream(f"account-{{x}}-{number}").partition for number in range(9)} == {
                target.info.of_stream("x").partition
            }
        else:
            check_same_places(source, target)
            check_bookmarks(made, target)


def test_digests_tell_streams_apart_that_differ_in_anything(url: str) -> None:
    """In an id, a type, the order, or in what an event holds; where the events lie is nothing to them."""
    with filled(url, 1).store as source, opened(url, 3) as target:
        copied(source, target)
        assert stream_digests(source) == stream_digests(target)
        dice = random.Random(7)
        for stream in dice.sample(STREAMS, 2):
            target.append(stream, NewEvent("More"))
        differing = {one.stream for one in {*stream_digests(source)} ^ {*stream_digests(target)}}
        assert len(differing) == 2
