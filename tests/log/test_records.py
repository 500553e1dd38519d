"""Small records beside the log: replaced only where nothing was written since they were read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from zlib import crc32

import pytest

from runner import EventStore
from runner.effects import StoreOperation
from runner.errors import PayloadError, StoreReplaced
from runner.format.checksum import Damaged
from runner.log import records
from runner.log.records import NOTHING, Change, Moved, Place, Stored, record_of

KINDS = ["string", "hash", "zset"]


@pytest.fixture
def place(store: EventStore) -> Callable[[str, int], Place]:
    """Makes places, of each type of key."""
    tag = store.info.keys[0].tag

    def made(kind: str, number: int) -> Place:
        if kind == "string":
            return Place(f"{tag}:record:{number}")
        return Place(f"{tag}:records", name=f"n{number}") if kind == "hash" else Place(f"{tag}:ordered", number=number)

    return made


def stored_at(store: EventStore, place: Place) -> Stored:
    if place.number is None:
        return store.run(records.read(place))
    [found] = store.driver.execute([("ZRANGEBYSCORE", place.key, place.number, place.number)])
    assert len(found) < 2
    return Stored(found[0]) if found else NOTHING


def replace(store: EventStore, *changes: Change) -> Moved | None:
    return store.run(records.replace(store.info, store.info.keys[0], changes))


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_is_written_in_place_of_the_one_that_was_read(
    store: EventStore, place: Callable[[str, int], Place], kind: str
) -> None:
    """In place of nothing, of a record, and nothing in place of a record."""
    at, first, second = place(kind, 1), record_of(["a", 1], "it"), record_of(["b", 2], "it")

    assert replace(store, Change(at, NOTHING, first)) is None
    assert stored_at(store, at).content == ["a", 1]
    assert replace(store, Change(at, Stored(first), second)) is None
    assert stored_at(store, at).content == ["b", 2]
    assert replace(store, Change(at, Stored(second), b"")) is None
    assert not stored_at(store, at)


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_that_was_written_meanwhile_refuses_all_changes(
    store: EventStore, place: Callable[[str, int], Place], kind: str
) -> None:
    """The reply says which one it is, and what is stored there; nothing is written, before or after it."""
    places = [place(kind, number) for number in (1, 2, 3)]
    read = [Stored(record_of([number], "it")) for number in (1, 2, 3)]
    theirs, ours = record_of(["theirs"], "it"), record_of(["ours"], "it")
    assert replace(store, *(Change(at, NOTHING, each.data) for at, each in zip(places, read, strict=True))) is None
    assert replace(store, Change(places[1], read[1], theirs)) is None

    moved = replace(store, *(Change(at, each, ours) for at, each in zip(places, read, strict=True)))

    assert moved == Moved(1, Stored(theirs))
    assert [stored_at(store, at).content for at in places] == [[1], ["theirs"], [3]]
    assert replace(store, Change(place(kind, 4), read[0], b"")) is None
    assert replace(store, Change(place(kind, 4), read[0], ours)) == Moved(0, NOTHING)


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_that_is_sent_again_is_made_once(
    store: EventStore, place: Callable[[str, int], Place], kind: str
) -> None:
    """It finds its own record; one that arrives after another write changes nothing, even if the values are equal."""
    at, first, equal = place(kind, 1), record_of(["same"], "it"), record_of(["same"], "it")
    change = Change(at, NOTHING, first)

    assert replace(store, change) is None
    assert replace(store, change) is None
    assert replace(store, Change(at, Stored(first), equal)) is None
    assert replace(store, change) == Moved(0, Stored(equal))
    assert stored_at(store, at) == Stored(equal)


def test_records_are_removed_only_as_they_were_read(store: EventStore, place: Callable[[str, int], Place]) -> None:
    """Each for itself; those that were written since, or are gone, are not counted."""
    at = [place("hash", number) for number in range(4)]
    read = [Stored(record_of([number], "it")) for number in range(4)]
    for where, what in zip(at, read, strict=True):
        assert replace(store, Change(where, NOTHING, what.data)) is None
    changed = record_of(["changed"], "it")
    assert replace(store, Change(at[1], read[1], changed)) is None
    store.run(records.remove(at[2]))

    removed = store.run(records.remove_each(store.info, store.info.keys[0], zip(at, read, strict=True)))

    assert removed == 2
    assert [stored_at(store, where) for where in at] == [NOTHING, Stored(changed), NOTHING, NOTHING]


def test_an_update_is_decided_anew_by_what_is_stored(store: EventStore, place: Callable[[str, int], Place]) -> None:
    """A wrong guess and a faster writer lead to another decision; None leaves what is stored."""
    at, seen = place("string", 1), []

    def add(stored: Stored) -> StoreOperation[bytes | None]:
        seen.append(stored.content if stored else None)
        if len(seen) == 1:  # another writer is faster
            yield from records.put(at.key, record_of([10], "it"))
        [count] = stored.content if stored else [0]
        return None if count == 12 else record_of([count + 1], "it")

    def updated(guess: Stored | None = None) -> list[Any]:
        return store.run(records.update(store.info, store.info.keys[0], at, add, guess)).content

    assert updated() == [11]
    assert updated(NOTHING) == [12]
    assert updated() == [12]
    assert seen == [None, [10], None, [11], [12]]


def test_nothing_is_written_beside_another_log(store: EventStore, place: Callable[[str, int], Place]) -> None:
    """A record belongs to the log that it was made for: the store was flushed, and made anew by somebody else."""
    store.driver.execute([("HSET", store.info.keys[0].meta, "epoch", "another")])
    with pytest.raises(StoreReplaced):
        replace(store, Change(place("hash", 1), NOTHING, record_of([1], "it")))
    with pytest.raises(StoreReplaced):
        store.run(records.remove_each(store.info, store.info.keys[0], [(place("hash", 1), NOTHING)]))
    assert not stored_at(store, place("hash", 1))


@pytest.mark.parametrize("packed", [b"\x05", b"\xc1", b""], ids=["no list", "no value", "nothing"])
def test_a_record_whose_checksum_fits_and_that_is_none_has_no_content(packed: bytes) -> None:
    """Another program may seal, too."""
    with pytest.raises(Damaged):
        assert Stored(crc32(packed).to_bytes(4, "big") + packed).content


@pytest.mark.parametrize("damage", ["cut", "longer", "changed", "something else"])
def test_a_damaged_record_has_no_content(damage: str) -> None:
    """What the checksum does not fit is never half believed."""
    good = record_of([1], "it")
    bad = {
        "cut": good[:-1],
        "longer": good + b"x",
        "changed": bytes([good[0] ^ 1]) + good[1:],
        "something else": b"junk",
    }[damage]
    with pytest.raises(Damaged):
        assert Stored(bad).content
    assert Stored(good).content == [1]


def test_values_that_cannot_be_stored_are_refused_by_name() -> None:
    """As those of events are."""
    with pytest.raises(PayloadError, match="my record"):
        record_of([object()], "my record")
