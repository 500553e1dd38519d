"""Stores with all that a store may hold beside plain events, made from choices of hypothesis, and their comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from hypothesis import strategies

from runner import ANY, EventStore, NewEvent, RecordedEvent, RunnerError, WrongExpectedVersion
from runner.errors import BookmarkConflict
from runner.format.keys import PartitionKeys
from runner.format.scripts import load
from runner.log.append_new import append_new
from runner.operations.trim import Trim

STREAMS = [f"account-{number}" for number in range(6)]

#: What happens to a store: a stream and how many events it gets, or how much of the log is trimmed, in tenths.
Step = tuple[str, int, int]

steps = strategies.lists(
    strategies.one_of(
        strategies.tuples(
            strategies.sampled_from(["append", "any", "append new", "bookmark"]),
            strategies.integers(0, len(STREAMS) - 1),
            strategies.integers(1, 4),
        ),
        strategies.tuples(strategies.just("trim"), strategies.integers(1, 10), strategies.just(0)),
    ),
    max_size=25,
)

_T0 = datetime(2026, 1, 31, 12, tzinfo=UTC)
_ids = count(1)


@dataclass
class Made:
    """A store, and the appends by which it was made: stream, events, and the version that was expected."""

    store: EventStore
    appends: list[tuple[str, list[NewEvent], Any]] = field(default_factory=list)
    bookmarks: dict[tuple[int, str], int] = field(default_factory=dict)

    def take(self, taken: Sequence[Step]) -> None:
        """Do what the steps say. Times go back and forth, as the clocks of several writers do."""
        store = self.store
        for what, which, many in taken:
            if what == "trim":
                for keys in store.info.keys:
                    last = store.last_position(partition=keys.partition)
                    store.run(Trim(store.info, keys.partition, 1 + last * which // 10).run())
                continue
            stream = STREAMS[which]
            events = [self._event() for _ in range(many)]
            expected = ANY if what == "any" else store.version(stream)
            if what == "append new":
                store.run(append_new(store.info, stream, events, expected, 0, None))
                continue
            bookmark = None
            if what == "bookmark":
                place = (store.info.of_stream(stream).partition, "feed")
                bookmark = ("feed", self.bookmarks.get(place, 0) + many)
                self.bookmarks[place] = bookmark[1]
            store.append_many([(stream, events, expected)], bookmark=bookmark)
            self.appends.append((stream, events, expected))

    def _event(self) -> NewEvent:
        number = next(_ids)
        data = {"amount": number, "rate": 1.5, "raw": b"\x00\xff"}
        time = _T0 + timedelta(seconds=number * 7 % 13, microseconds=number)
        return NewEvent("Deposited", data, {"by": "Ada"}, UUID(int=number), recorded_at=time)


def kept_events(store: EventStore, partition: int) -> list[RecordedEvent]:
    """The events of a partition that were not trimmed."""
    return list(store.read_all(partition=partition, after=floor_of(store, store.info.keys[partition])))


def floor_of(store: EventStore, keys: PartitionKeys) -> int:
    return int(store.driver.execute([("HGET", keys.meta, "floor")])[0] or 0)


def check_appends(made: Made, target: EventStore) -> None:
    """Old appends are recognised in the target as in the source, and old versions are good there and no others."""
    source = made.store
    for stream, events, expected in made.appends:
        try:
            due = source.append(stream, events, expected_version=expected)
        except RunnerError as fault:
            with pytest.raises(type(fault)):
                target.append(stream, events, expected_version=expected)
        else:
            found = target.append(stream, events, expected_version=expected)
            assert (found.version, found.duplicate) == (due.version, due.duplicate) == (due.version, True)
    for stream in STREAMS:
        version = source.version(stream)
        with pytest.raises(WrongExpectedVersion) as refused:
            target.append(stream, NewEvent("Wrong"), expected_version=version + 1)
        assert refused.value.actual == version
        assert target.append(stream, NewEvent("Next"), expected_version=version).version == version + 1


def check_bookmarks(made: Made, target: EventStore) -> None:
    """Each bookmark stands where it stood, and cannot be set back."""
    for (partition, name), position in made.bookmarks.items():
        assert target.bookmark(name, partition=partition) == position
        with pytest.raises(BookmarkConflict):
            target.append_many([], bookmark=(name, position), partition=partition)


def make_format_1(url: str, name: str, partitions: int) -> None:
    """Make a store of format 1, as an early version of the package did."""
    with EventStore.open(url, name=f"{name}-keeper") as keeper:
        for partition in range(partitions):
            keys = PartitionKeys(name, partition, format=1)
            keeper.driver.execute([load("log/create").call([keys.meta, keys.log], 1, partitions, "0" * 16, "")])
