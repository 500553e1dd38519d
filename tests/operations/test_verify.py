"""Verify: what is damaged is found once and named, what is sound is not; and the judgement of server versions."""

from __future__ import annotations

import tracemalloc
from typing import Any
from uuid import UUID
from zlib import crc32

import pytest
from accounts import balances, deposited
from looks import do
from trouble import three_accounts

from runner import NO_STREAM, EventStore, NewEvent, catch_up, operations
from runner.effects import StoreOperation
from runner.errors import DataError
from runner.format.events import pack_event
from runner.format.keys import PartitionKeys
from runner.log.append_new import append_new
from runner.operations.check import BAD, GOOD, WARNING
from runner.operations.check_server import judge_version
from runner.operations.verify import Finding, Inspection
from runner.operations.verify_views import check_rows
from runner.views.redis_rows import BuildView


def filled(store: EventStore, count: int = 5) -> PartitionKeys:
    """A store whose streams a-1 and b-1 have ``count`` events each, in turn."""
    for _ in range(count):
        store.append("a-1", NewEvent("X"))
        store.append("b-1", NewEvent("X"))
    return store.info.keys[0]


def findings(store: EventStore) -> list[tuple[str, str]]:
    return [(found.where, found.what) for found in operations.verify(store).findings]


def envelope(stream: str) -> bytes:
    """The envelope of a new event."""
    return pack_event(stream, NewEvent("X"), 0)


def stream_from(store: EventStore, keys: PartitionKeys, stream: str, numbers: list[int]) -> None:
    """A log and an index that hold events of these numbers, one position after the other."""
    for position, number in enumerate(numbers, 1):
        store.driver.execute([("XADD", keys.log, f"{position}-{number}", "e", envelope(stream))])
    for number, position in sorted((number, position) for position, number in enumerate(numbers, 1)):
        store.driver.execute([("XADD", keys.stream(stream), f"{number}-{position}", "", "")])


@pytest.mark.parametrize(
    ("gone", "what"),
    [
        (["1-1"], "number 1 missing before it"),
        (["3-5"], "number 3 missing before it"),
        (["2-3", "3-5"], "numbers 2 to 3 missing before it"),
        (["5-9"], "ends at number 4; the log has stream 'a-1' up to 5"),
    ],
)
def test_an_entry_that_an_index_lacks_is_found(store: EventStore, gone: list[str], what: str) -> None:
    """Wherever it was: at the beginning, in the middle, at the end."""
    keys = filled(store)
    assert findings(store) == []
    store.driver.execute([("XDEL", keys.stream("a-1"), *gone)])
    [(where, found)] = findings(store)
    assert where.startswith(keys.stream("a-1"))
    assert found == what


def test_a_store_that_is_trimmed_is_sound(store: EventStore) -> None:
    """Index entries of trimmed events may be there or gone; an entry above the floor may not be gone."""
    keys = filled(store)
    store.driver.execute([("XTRIM", keys.log, "MINID", "5"), ("HSET", keys.meta, "floor", 4)])
    assert findings(store) == []
    store.driver.execute([("XDEL", keys.stream("a-1"), "1-1", "2-3")])
    assert findings(store) == []
    store.driver.execute([("XDEL", keys.stream("a-1"), "3-5")])
    assert [what for _, what in findings(store)] == ["number 3 missing before it"]


class AppendsAfterTheLog(Inspection):
    """An inspection in whose middle others append."""

    def __init__(self, store: EventStore, *args: Any) -> None:
        super().__init__(store.info.keys[0], *args)
        self._store = store

    def _walk_indexes(self) -> StoreOperation[None]:
        self._store.append("a-1", [NewEvent("X"), NewEvent("X")])
        self._store.append("c-1", NewEvent("X"))
        yield from super()._walk_indexes()


def test_events_appended_between_log_and_indexes_are_not_findings(store: EventStore) -> None:
    """The index has more than the log had when it was walked; only what the log still lacks is wrong."""
    keys = filled(store)
    found: list[Finding] = []
    store.run(AppendsAfterTheLog(store, found.append).run())
    assert found == []
    store.driver.execute([("XADD", keys.stream("b-1"), "6-99", "", "")])
    store.run(AppendsAfterTheLog(store, found.append).run())
    assert [one.what for one in found] == ["points to position 99; the log has event 6 nowhere"]


def test_a_number_that_is_far_too_high_costs_no_memory(store: EventStore) -> None:
    """An entry 2-1152921504606846975 is a finding, and so is the number after it, but what follows is judged anew."""
    keys = store.info.keys[0]
    stream_from(store, keys, "a-1", [1, 1152921504606846975, 2, 3, 4])
    tracemalloc.start()
    try:
        found = findings(store)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert [what for where, what in found if where.startswith(keys.log)] == [
        "number 1152921504606846975 of stream 'a-1' where 2 was due",
        "number 2 of stream 'a-1' where 1152921504606846976 was due",
    ]


def test_a_number_that_is_there_twice_is_one_finding_in_the_log(store: EventStore) -> None:
    """The numbers after it follow on it, so they are as they should be."""
    keys = store.info.keys[0]
    stream_from(store, keys, "a-1", [1, 2, 2, 3, 4, 5, 6])
    assert findings(store) == [
        (f"{keys.log} 3-2", "number 2 of stream 'a-1' where 3 was due"),
        (f"{keys.stream('a-1')} 2-3", "number 2 is there twice"),
    ]


def test_a_number_that_is_passed_over_is_one_finding_in_log_and_index(store: EventStore) -> None:
    """What follows the gap is found where it is."""
    keys = store.info.keys[0]
    stream_from(store, keys, "a-1", [1, 2, 4, 5, 6])
    assert findings(store) == [
        (f"{keys.log} 3-4", "number 4 of stream 'a-1' where 3 was due"),
        (f"{keys.stream('a-1')} 4-3", "number 3 missing before it"),
    ]


def test_bookmarks_that_are_not_even_text_are_findings(store: EventStore) -> None:
    """Neither their names nor their values need be readable."""
    keys = filled(store)
    store.driver.execute([("HSET", keys.bookmarks, b"\xff", b"\xfe 1", "mine", "²")])
    assert {what for _, what in findings(store)} == {
        "holds b'\\xfe 1', which is no position",
        "holds b'\\xc2\\xb2', which is no position",
    }


@pytest.mark.parametrize(
    ("info", "verdict"),
    [
        ({"redis_version": "7.0.0"}, GOOD),
        ({"redis_version": "10.1"}, GOOD),
        ({"redis_version": "6.2.14"}, BAD),
        ({"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "8.0.1"}, GOOD),
        ({"redis_version": "7.2.4", "valkey_version": "7.1.9"}, BAD),
        ({"redis_version": "8.0-rc1"}, WARNING),
        ({"redis_version": "255.255.255"}, WARNING),
        ({"redis_version": "²"}, WARNING),
        ({"redis_version": "7"}, WARNING),
        ({}, WARNING),
    ],
)
def test_a_version_that_cannot_be_read_is_a_warning(info: dict[str, str], verdict: str) -> None:
    """Releases are judged; of what is no release the doctor says that it could not tell, and what to look for."""
    check = judge_version(info)
    assert check.verdict == verdict
    assert bool(check.advice) == (verdict != GOOD)


def test_a_log_that_is_no_stream_is_one_finding(store: EventStore) -> None:
    """Nothing else is looked at: all of it would be missing."""
    keys = filled(store)
    store.driver.execute([("DEL", keys.log), ("SET", keys.log, "text")])
    assert findings(store) == [(keys.log, "is a string, not a stream")]


def test_an_index_that_is_no_stream_is_one_finding(store: EventStore) -> None:
    """The walk goes on with the other indexes."""
    keys = filled(store)
    index = keys.stream("a-1")
    store.driver.execute([("DEL", index), ("SET", index, "text"), ("XDEL", keys.stream("b-1"), "1-2")])
    assert sorted(findings(store)) == [
        (index, "is a string, not a stream"), (f"{keys.stream('b-1')} 2-4", "number 1 missing before it"),
    ]  # fmt: skip


def test_a_position_that_is_there_twice_is_found(store: EventStore) -> None:
    """Two entries of the log have one position, as another program may have written them."""
    keys = store.info.keys[0]
    stream_from(store, keys, "a-1", [1, 2])
    store.driver.execute([("XADD", keys.log, "2-3", "e", envelope("b-1"))])
    assert (f"{keys.log} 2-3", "position 2 is there twice") in findings(store)


def test_a_stream_that_does_not_begin_with_number_one_is_found(store: EventStore) -> None:
    """In a log that was never trimmed every stream begins with 1."""
    keys = store.info.keys[0]
    stream_from(store, keys, "a-1", [2, 3])
    found = findings(store)
    assert (f"{keys.log} 1-2", "stream 'a-1' begins with number 2, not 1") in found
    assert (f"{keys.stream('a-1')} 2-1", "number 1 missing before it") in found


@pytest.mark.parametrize("place", [4, 30, -6])
def test_a_changed_byte_of_an_event_is_found(store: EventStore, place: int) -> None:
    """In the id, in the head, in the metadata: the checksum tells, whether or not the event can be read."""
    keys = store.info.keys[0]
    whole = bytearray(pack_event("a-1", NewEvent("X", {"text": "abcdefgh"}, {"more": "text"}), 0))
    whole[place] ^= 1
    store.driver.execute([
        ("XADD", keys.log, "1-1", "e", bytes(whole)), ("XADD", keys.stream("a-1"), "1-1", "", ""),
    ])  # fmt: skip
    assert any(where == f"{keys.log} 1-1" for where, _ in findings(store))


def test_a_payload_that_cannot_be_read_is_found(store: EventStore) -> None:
    """The envelope is whole and its checksum fits; its payload has an extension type that nobody knows."""
    # given
    keys = store.info.keys[0]
    whole = pack_event("a-1", NewEvent("X", {"text": "abcdefgh"}), 0)
    body = whole[1:-5].replace(b"\xa8abcdefgh", b"\xc7\x06\x63abcdef")
    odd = whole[:1] + body + whole[-5:-4] + crc32(body).to_bytes(4, "big")
    assert len(odd) == len(whole)
    store.driver.execute([("XADD", keys.log, "1-1", "e", odd), ("XADD", keys.stream("a-1"), "1-1", "", "")])

    # then
    [(where, what)] = findings(store)
    assert where == f"{keys.log} 1-1"
    assert "data" in what


def test_a_floor_that_is_no_number_is_one_finding(store: EventStore) -> None:
    """However often it is looked at; the walk goes on."""
    keys = filled(store)
    store.driver.execute([("HSET", keys.meta, "floor", "x"), ("XDEL", keys.stream("b-1"), "1-2")])
    found = findings(store)
    assert [what for where, what in found if where == keys.meta] == [
        f"{keys.meta} is damaged: its field 'floor' holds b'x', which is no number"
    ]
    assert keys.stream("b-1") in {where.partition(" ")[0] for where, _ in found}


def test_the_view_of_a_checkpoint_that_is_wrong_is_looked_at_too(store: EventStore) -> None:
    """Both are findings: the checkpoint names another event, and a row was changed."""
    # given
    three_accounts(store)
    catch_up(store, balances())
    keys = store.info.keys[0]
    row = bytearray(do(store, "HGET", keys.view("balances", "1"), "account-1"))
    row[-1] ^= 1
    store.driver.execute([
        ("HSET", keys.build("balances", "1"), "id", bytes(16)),
        ("HSET", keys.view("balances", "1"), "account-1", bytes(row)),
    ])  # fmt: skip

    # then
    checkpoint, view = findings(store)
    assert checkpoint[0] == "projection balances, build 1"
    assert "account-1" in view[0] + view[1]


def indexed(store: EventStore, count: int = 4) -> tuple[PartitionKeys, list[NewEvent]]:
    """A store with an index of ids, and its events, one a stream."""
    events = [NewEvent("X") for _ in range(count)]
    for number, event in enumerate(events):
        store.run(append_new(store.info, f"a-{number}", [event], NO_STREAM, 0, None))
    return store.info.keys[0], events


def test_an_index_of_ids_that_fits_the_log_is_sound(store: EventStore) -> None:
    """Also one that lags the log, has ids of trimmed events, or the first place of an id in two streams."""
    keys, events = indexed(store)
    assert findings(store) == []
    store.append("b-1", events[3])
    store.append("b-2", NewEvent("X"))
    assert findings(store) == []
    store.run(append_new(store.info, "b-3", [NewEvent("X")], NO_STREAM, 0, None))
    assert findings(store) == []
    operations.trim(store, 3, although_nobody_has_read_them=True)
    assert findings(store) == []
    assert store.driver.execute([("HLEN", keys.ids)]) == [4 + 2 + 2]


def test_what_is_wrong_with_the_index_of_ids_is_found(store: EventStore) -> None:
    """An id that is missing, one that points elsewhere, one of no event, and one without a place."""
    keys, events = indexed(store)
    lost, moved, broken, _ = events
    odd = UUID(int=7)
    store.driver.execute([
        ("HDEL", keys.ids, lost.id.bytes), ("HSET", keys.ids, moved.id.bytes, "4-1"),
        ("HSET", keys.ids, broken.id.bytes, "somewhere"), ("HSET", keys.ids, odd.bytes, "9-1"),
    ])  # fmt: skip
    assert sorted(findings(store)) == sorted([
        (f"{keys.ids} {lost.id}", "is missing; the log has its event at position 1"),
        (f"{keys.ids} {moved.id}", "points to event 1 at position 4, where the log has another event, or none"),
        (f"{keys.ids} {broken.id}", "holds b'somewhere', which is no place of an event"),
        (f"{keys.ids} {odd}", "points to event 1 at position 9, where the log has another event, or none"),
    ])  # fmt: skip


def test_an_index_of_ids_of_another_log_is_no_finding(store: EventStore) -> None:
    """The next append that needs it makes it again."""
    keys, events = indexed(store)
    store.driver.execute([("HSET", keys.ids, "epoch", "another"), ("HDEL", keys.ids, events[0].id.bytes)])
    assert findings(store) == []


# -- the ids of the last events -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("member", "place", "text"),
    [
        ("", b"", "which is no place of an event"),
        ("", b"x", "which is no place of an event"),
        ("", b"1-1-1", "which is no place of an event"),
        ("", b"2-1", "points to position 2, where the log has another event, or none"),
        ("", b"1-2", "points to position 1, where the log has another event, or none"),
        ("", b"99-1", "points to position 99, where the log has another event, or none"),
        ("", b"99", "points to position 99, where the log has another event, or none"),
        ("b-1", b"1-1", "points to position 1, where the log has another event, or none"),
        ("short", b"1-1", "which is no stream and id"),
    ],
)
def test_a_recent_id_that_is_not_that_of_an_event_is_found(
    store: EventStore, member: str, place: bytes, text: str
) -> None:
    """A repetition with ANY would be stored again, or an event taken for a repetition."""
    # given
    event = NewEvent("X")
    store.append_many([("a-1", [event], 0), ("b-1", [NewEvent("X")], 0)])
    keys = store.info.keys[0]
    name = b"x" if member == "short" else keys.stream(member or "a-1").encode() + event.id.bytes
    assert operations.verify(store).sound

    # when
    store.driver.execute([("HSET", keys.recent[0], name, place)])

    # then
    [finding] = operations.verify(store).findings
    assert text in finding.what
    assert finding.where == keys.recent[0]


def test_recent_ids_of_trimmed_events_and_those_of_earlier_versions_are_sound(store: EventStore) -> None:
    """An earlier version kept the position only."""
    events = [NewEvent("X") for _ in range(4)]
    store.append("a-1", events, 0)
    keys = store.info.keys[0]
    store.driver.execute([("HSET", keys.recent[0], keys.stream("a-1").encode() + events[2].id.bytes, "3")])
    operations.trim(store, 3, although_nobody_has_read_them=True)
    assert operations.verify(store).sound


def test_a_key_of_another_type_in_the_place_of_recent_ids_is_found(store: EventStore) -> None:
    """By its name."""
    keys = store.info.keys[0]
    store.append("a-1", NewEvent("X"), 0)
    store.driver.execute([("DEL", keys.recent[1]), ("SET", keys.recent[1], "mine")])
    assert [finding.where for finding in operations.verify(store).findings] == [keys.recent[1]]


@pytest.mark.parametrize("name", ["bookmarks", "ids", "projections", "runners"])
def test_a_key_of_another_type_is_a_finding_with_its_name(store: EventStore, name: str) -> None:
    """Whatever it should hold; the walk goes on."""
    filled(store)
    key = getattr(store.info.keys[0], name)
    store.driver.execute([("DEL", key), ("SET", key, "mine")])
    assert [finding.where for finding in operations.verify(store).findings] == [key]


def test_commits_that_go_on_meanwhile_are_no_finding(store: EventStore) -> None:
    """The position and the id of a checkpoint are read in one look."""
    # given
    store.append("account-1", deposited())
    catch_up(store, balances())
    keys, found = store.info.keys[0], list[Finding]()

    def beside(walk: StoreOperation[None]) -> StoreOperation[None]:
        """After each look at the record of the build there is another commit."""
        effect, done = next(walk), False
        while not done:
            outcome = yield effect
            if keys.build("balances", "1") in str(effect):
                store.append("account-1", deposited())
                catch_up(store, balances())
            try:
                effect = walk.send(outcome)
            except StopIteration:
                done = True

    # when
    store.run(beside(Inspection(keys, found.append).run()))

    # then
    assert found == []


def test_a_damaged_row_that_a_scan_gives_twice_is_one_finding(store: EventStore) -> None:
    """A hash that grows or shrinks meanwhile is scanned so."""
    found: list[DataError] = []
    walk = check_rows(BuildView(store.info.keys[0], "balances", "1"), found.append)

    next(walk)
    walk.send([(b"7", [b"account-1", b"junk", b"account-2", b"junk"])])
    with pytest.raises(StopIteration):
        walk.send([(b"0", [b"account-1", b"junk"])])

    assert ["account-1" in str(found[0]), "account-2" in str(found[1]), len(found)] == [True, True, 2]
