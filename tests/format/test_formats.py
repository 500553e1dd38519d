"""The formats of stores: what an older version made is opened, read and written; what a later one made is refused.

``format_1.jsonl`` holds three stores of format 1 as an early version of the package wrote them, key by key: ``es``
(one partition, with parked and skipped events, two builds, a bookmark), ``many`` (three partitions), ``trimmed``.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from accounts import deposited, rows_of

from runner import (
    ANY,
    EventStore,
    ParkStream,
    Projection,
    RecordedEvent,
    Skip,
    View,
    catch_up,
    operations,
)
from runner.errors import BookmarkConflict, LogCorrupt
from runner.format.rows import is_sealed
from runner.testing import TEST_SETTINGS, all_events

STORES = Path(__file__).with_name("format_1.jsonl")


@dataclass(frozen=True)
class Kept:
    """The three stores on a server, each under a name of its own."""

    url: str
    prefix: str

    def open(self, name: str = "es") -> EventStore:
        return EventStore.open(self.url, name=f"{self.prefix}-{name}", settings=TEST_SETTINGS)

    def commands(self, key: dict[str, Any]) -> list[tuple[Any, ...]]:
        """What writes a key. Its value may hold the names of other keys."""
        name = self._renamed(key["key"].encode())
        if key["type"] == "hash":
            return [("HSET", name, *map(self._value, key["fields"]))]
        if key["type"] == "set":
            return [("SADD", name, *map(self._value, key["members"]))]
        assert key["type"] == "stream"
        return [("XADD", name, entry_id, *map(self._value, fields)) for entry_id, fields in key["entries"]]

    def _value(self, encoded: str) -> bytes:
        return self._renamed(b64decode(encoded))

    def _renamed(self, value: bytes) -> bytes:
        return re.sub(rb"{(es|many|trimmed)\.", rb"{%s-\1." % self.prefix.encode(), value)


@pytest.fixture
def kept(store: EventStore, url: str, fresh_name: str) -> Kept:
    kept = Kept(url, fresh_name)
    for line in STORES.read_text().splitlines():
        store.driver.execute(kept.commands(json.loads(line)))
    return kept


def sums(name: str, policy: Any = None, build: str = "1") -> Projection[dict[str, int]]:
    """The projection whose views are kept: the sum of what each account got, times the number of the build."""
    projection = Projection[dict[str, int]](
        name,
        category="account",
        initial=lambda: {"balance": 0},
        build=build,
        **({"on_error": policy} if policy else {}),
    )

    @projection.when("Deposited")
    def deposited(state: dict[str, int], event: RecordedEvent) -> None:
        if event.data["amount"] < 0:
            raise ValueError("negative")
        state["balance"] += event.data["amount"] * int(build)

    return projection


def test_a_store_of_format_1_is_read(kept: Kept) -> None:
    """Events, versions, a bookmark, views, parked and skipped events are what they were."""
    with kept.open() as store:
        events = all_events(store)
        assert [(event.stream, event.number, event.data["amount"]) for event in events] == [
            ("account-1", 1, 10), ("account-1", 2, 5), ("account-2", 1, -1), ("account-1", 3, 1),
            ("account-{x}-2", 1, 7), ("account-3", 1, 2),
        ]  # fmt: skip
        assert events[1].metadata == {"by": "ada"}
        assert store.version("account-1") == 3
        assert store.bookmark("feed") == 17
        assert View(store, "balances").get("account-1") == {"balance": 16}
        assert [row.key for row in operations.parked(store, "balances")] == ["account-2"]
        assert [skipped.event.position for skipped in operations.skipped(store, "skips")] == [3]
        assert operations.verify(store).sound


def test_a_store_of_format_1_is_written_as_it_was(kept: Kept) -> None:
    """Repetitions are recognised, views go on, and rows have no checksum, so that the first version can read them."""
    with kept.open() as store:
        known = all_events(store)[3]
        again = deposited(1)
        object.__setattr__(again, "id", known.id)
        assert store.append("account-1", again, ANY).duplicate
        with pytest.raises(BookmarkConflict):
            store.append_many([("account-9", [deposited(1)], ANY)], bookmark=("feed", 17))
        store.append("account-1", deposited(100), expected_version=3)
        balances = sums("balances", ParkStream())
        assert catch_up(store, balances) == 1

        assert View(store, balances).get("account-1") == {"balance": 116}
        keys = store.info.keys[0]
        [row, rows] = store.driver.execute(
            [("HGET", keys.view("balances", "1"), "account-1"), ("HGET", keys.build("balances", "1"), "rows")]
        )
        assert not is_sealed(row)
        assert rows is None
        assert operations.verify(store).sound


def test_a_view_of_format_1_has_no_count_of_rows_after_a_retry(kept: Kept) -> None:
    """A parked event that makes a new row is applied by other code, and the view goes on."""
    with kept.open() as store:
        # given
        lenient = Projection[dict[str, int]]("balances", category="account", initial=lambda: {"balance": 0})

        @lenient.when("Deposited")
        def deposited_any(state: dict[str, int], event: RecordedEvent) -> None:
            state["balance"] += event.data["amount"]

        # when
        operations.retry_parked(store, lenient)
        store.append("account-2", deposited(5))
        catch_up(store, lenient)

        # then
        assert View(store, "balances").get("account-2") == {"balance": 4}
        assert store.driver.execute([("HGET", store.info.keys[0].build("balances", "1"), "rows")]) == [None]


def test_a_view_of_format_1_can_be_rolled_back_and_made_again(kept: Kept) -> None:
    """The builds that were kept are those that a rollback and a rebuild find."""
    with kept.open() as store:
        assert View(store, "twice").get("account-1") == {"balance": 32}
        operations.rollback(store, "twice")
        assert View(store, "twice").get("account-1") == {"balance": 16}
        operations.rebuild(store, sums("twice", Skip(), "3"))
        assert View(store, "twice").get("account-1") == {"balance": 48}


def test_streams_of_format_1_stay_in_their_partitions(kept: Kept) -> None:
    """The whole name decides there, braces or not, and the tags have no suffix."""
    with kept.open("many") as store:
        assert [keys.tag for keys in store.info.keys] == [f"{{{store.info.name}.{number}}}" for number in range(3)]
        events = [event for partition in range(3) for event in store.read_all(partition=partition)]
        assert len(events) == 13
        for event in events:
            assert store.append(event.stream, deposited(1), expected_version=1).partition == event.partition
        catch_up(store, sums("balances"))
        assert rows_of(store) == {event.stream: {"balance": event.data["amount"] + 1} for event in events}


def test_a_trimmed_store_of_format_1_goes_on(kept: Kept) -> None:
    """Positions and versions follow those of the events that are gone."""
    with kept.open("trimmed") as store:
        result = store.append("account-1", deposited(1), expected_version=5)
        assert (result.version, result.position) == (6, 6)
        catch_up(store, sums("balances"))
        assert View(store, "balances").get("account-1") == {"balance": 16}


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("partitions", "999999999999999999999999", "'999999999999999999999999' partitions"),
        ("partitions", "0", "'0' partitions"),
        ("partitions", "257", "'257' partitions"),
        ("partitions", "two", "'two' partitions"),
        ("partitions", "2", "'2' partitions and the tags ''"),
        ("tags", ",b", "'1' partitions and the tags ',b'"),
        ("format", "3", "has format '3'"),
        ("format", "x", "has format 'x'"),
        ("needs", "segments", "needs 'segments'"),
    ],
)
def test_metadata_that_cannot_be_are_refused(
    store: EventStore, url: str, fresh_name: str, field: str, value: str, said: str
) -> None:
    """Neither a damaged number nor what a later version has written is guessed at."""
    store.driver.execute([("HSET", store.info.keys[0].meta, field, value)])

    with pytest.raises(LogCorrupt, match=said) as caught:
        EventStore.open(url, name=fresh_name)

    assert caught.value.hint
