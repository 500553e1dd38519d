"""The checker itself: on a sound history it finds nothing, and each kind of damage is found and named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from accounts import balances, closed, deposited, noted, plain_fold, withdrew
from history import Acknowledged, Writer, check
from looks import do

from runner import ANY, NO_STREAM, EventStore, NewEvent, WrongExpectedVersion, catch_up
from runner.format.codec import pack
from runner.format.events import pack_event
from runner.views.redis_rows import stored_row

pytestmark = pytest.mark.real

VIEWS = [("balances", plain_fold)]


@pytest.fixture
def record(real_store: EventStore) -> Acknowledged:
    """A history with everything in it: events 1 to 9, a view that has applied 8 of them, a refused append."""
    record = Acknowledged()
    writer = Writer(real_store, record)
    writer.append("account-1", [deposited(1), withdrew(2)], NO_STREAM)
    writer.append_many([("account-1", [deposited(3)], 2), ("account-2", [deposited(4)], ANY)])
    writer.append_each([("account-2", [withdrew(5)], 1), ("note-1", [noted()], ANY), ("account-3", [deposited()], ANY)])
    with pytest.raises(WrongExpectedVersion):
        writer.append("account-1", deposited(99), 1)
    writer.append("account-3", closed(), 1)
    catch_up(real_store, balances())
    writer.append("account-1", deposited(6), ANY)
    return record


def test_a_sound_history_has_no_findings(real_store: EventStore, record: Acknowledged) -> None:
    """Versioned, unversioned, of several streams, one by one, refused: everything is as the writers were told."""
    assert check(real_store, record, VIEWS) == []
    assert (len(record.told), len(record.refused), real_store.last_position()) == (8, 1, 9)


def test_an_empty_store_has_no_findings(real_store: EventStore) -> None:
    """No log, no view, nothing told."""
    assert check(real_store, Acknowledged(), VIEWS) == []


def _keys(store: EventStore) -> Any:
    return store.info.keys[0]


def _rewrite(store: EventStore, entry_id: str, stream: str, event: NewEvent) -> None:
    """Put another event in the place of an entry: the log made again from there on."""
    log = _keys(store).log
    entries = do(store, "XRANGE", log, "-", "+")
    do(store, "DEL", log)
    for found, (name, packed) in entries:
        same = found.decode() != entry_id
        do(store, "XADD", log, found, name, packed if same else pack_event(stream, event, 0))


def _append_again(store: EventStore, record: Acknowledged) -> None:
    """Store an event twice, index and all, as a script without its check would."""
    keys = _keys(store)
    event = next(event for (stream, _), event in record.tried.items() if stream == "account-2")
    do(store, "XADD", keys.log, "10-3", "e", pack_event("account-2", event, 0))
    do(store, "XADD", keys.stream("account-2"), "3-10", "", "")


def _append_stranger(store: EventStore, record: Acknowledged) -> None:
    store.append("account-1", deposited(1000))


def _append_refused(store: EventStore, record: Acknowledged) -> None:
    [(stream, event_id)] = record.refused
    store.append(stream, record.tried[stream, event_id])


def _forge(store: EventStore, record: Acknowledged) -> None:
    """The event at position 4 with other data under its own id."""
    events, result = next(told for told in record.told if told[1].first_position == 4)
    _rewrite(store, "4-1", result.stream, replace(events[0], data={"amount": 4000}))


DAMAGE: dict[str, tuple[str, Callable[[EventStore, Acknowledged], object]]] = {
    "an entry of the log deleted": ("contiguous", lambda store, _: do(store, "XDEL", _keys(store).log, "4-1")),
    "the last entry deleted": ("contiguous", lambda store, _: do(store, "XDEL", _keys(store).log, "9-4")),
    "the tail lost": ("lost", lambda store, _: [_truncate(store, 6)]),
    "the head trimmed": ("contiguous", lambda store, _: do(store, "XTRIM", _keys(store).log, "MAXLEN", 7)),
    "an event forged": ("altered", _forge),
    "an entry that is no event": ("altered", lambda store, _: do(store, "XADD", _keys(store).log, "10-5", "e", b"x")),
    "another event in its place": ("lost", lambda store, _: _rewrite(store, "4-1", "account-2", deposited(4))),
    "an event of nobody's": ("stranger", _append_stranger),
    "an event that was refused": ("stranger", _append_refused),
    "a doubled event": ("twice", _append_again),
    "an event without index": (
        "index",
        lambda store, _: do(store, "XADD", _keys(store).log, "10-5", "e", pack_event("account-1", deposited(), 0)),
    ),
    "a position passed over": (
        "contiguous",
        lambda store, _: do(store, "XADD", _keys(store).log, "11-5", "e", pack_event("account-1", deposited(), 0)),
    ),
    "a number passed over": (
        "contiguous",
        lambda store, _: do(store, "XADD", _keys(store).log, "10-7", "e", pack_event("account-1", deposited(), 0)),
    ),
    "an index entry deleted": ("index", lambda store, _: do(store, "XDEL", _keys(store).stream("account-1"), "2-2")),
    "an index entry too many": (
        "index",
        lambda store, _: do(store, "XADD", _keys(store).stream("account-2"), "3-9", "", ""),
    ),
    "an index of nothing": (
        "index",
        lambda store, _: do(store, "XADD", _keys(store).stream("account-9"), "1-1", "", ""),
    ),
    "a row changed": (
        "view",
        lambda store, _: do(
            store, "HSET", _keys(store).view("balances", "1"), "account-1", _row(store, "account-1", {"balance": 7})
        ),
    ),
    "a row deleted": ("view", lambda store, _: do(store, "HDEL", _keys(store).view("balances", "1"), "account-2")),
    "a row too many": (
        "view",
        lambda store, _: do(
            store, "HSET", _keys(store).view("balances", "1"), "account-3", _row(store, "account-3", {})
        ),
    ),
    "a checkpoint moved back": ("view", lambda store, _: _move_checkpoint(store, 4)),
    "a checkpoint moved on": ("view", lambda store, _: _move_checkpoint(store, 9)),
    "a checkpoint beyond the end": (
        "checkpoint",
        lambda store, _: do(store, "HSET", _keys(store).build("balances", "1"), "position", 10),
    ),
    "a checkpoint with another id": (
        "checkpoint",
        lambda store, _: do(store, "HSET", _keys(store).build("balances", "1"), "id", uuid4().bytes),
    ),
    "a store that was flushed": ("lost", lambda store, _: [do(store, "DEL", _keys(store).log)]),
}


def _row(store: EventStore, key: str, state: object) -> bytes | None:
    """A row as the package writes it."""
    return stored_row(_keys(store), key, pack(state))


def _truncate(store: EventStore, last: int) -> None:
    """The log as a replica has it that lacks its tail: even the last ID goes back."""
    log = _keys(store).log
    entries = do(store, "XRANGE", log, "-", last)
    do(store, "DEL", log)
    for found, (name, packed) in entries:
        do(store, "XADD", log, found, name, packed)


def _move_checkpoint(store: EventStore, position: int) -> None:
    [(_, (_, packed))] = do(store, "XRANGE", _keys(store).log, position, position)
    do(store, "HSET", _keys(store).build("balances", "1"), "position", position, "id", packed[3:19])


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_made_behind_its_back_is_found(real_store: EventStore, record: Acknowledged, damage: str) -> None:
    """Every kind of damage gives a finding of the kind that it is."""
    kind, make = DAMAGE[damage]

    make(real_store, record)

    assert kind in {finding.kind for finding in check(real_store, record, VIEWS)}


def test_a_wrong_acknowledgement_is_found(real_store: EventStore, record: Acknowledged) -> None:
    """A writer was told a position, a number or a partition at which its event is not."""
    events, result = record.told[0]
    for wrong in ({"version": 3}, {"first_position": 4, "position": 5}, {"position": 3}, {"partition": 1}):
        record.told[0] = events, msgspec.structs.replace(result, **wrong)

        assert "lost" in {finding.kind for finding in check(real_store, record)}, wrong


def test_a_store_of_several_partitions_is_checked_in_each(real_url: str, fresh_name: str) -> None:
    """Positions are contiguous in every partition, and a view is the fold of each."""
    record = Acknowledged()
    with EventStore.open(real_url, name=fresh_name, partitions=3) as store:
        writer = Writer(store, record)
        for number in range(20):
            writer.append(f"account-{number}", [deposited(number), withdrew(1)], NO_STREAM)
        catch_up(store, balances())
        assert check(store, record, VIEWS) == []

        for keys in store.info.keys:
            [(last, _)] = do(store, "XREVRANGE", keys.log, "+", "-", "COUNT", 1)
            do(store, "XDEL", keys.log, last)

        assert {finding.where for finding in check(store, record) if finding.kind == "contiguous"} == {
            keys.log for keys in store.info.keys
        }
