"""Rows as they are stored: a checksum, a count, and what happens when a row is not what was written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from zlib import crc32

import pytest
from accounts import PATIENCE, balances, deposited, reached, rows_of
from faces import FACES, catch_up_on
from hypothesis import given
from hypothesis import strategies as st

from runner import DataError, EventStore, Retry, Skip, View, catch_up, follow, operations
from runner.format.checksum import Damaged
from runner.format.codec import pack
from runner.format.rows import is_sealed, open_row, seal_row
from runner.testing import TEST_SETTINGS

NUMBERS = st.integers(-(2**63), 2**64 - 1)


def view_of(store: EventStore) -> str:
    return store.info.keys[0].view("balances", "1")


def stored(store: EventStore, key: str = "account-1") -> bytes:
    [row] = store.driver.execute([("HGET", view_of(store), key)])
    return bytes(row)


@pytest.fixture
def filled(store: EventStore) -> EventStore:
    """Three accounts, and their balances."""
    for number in (1, 2, 3):
        store.append(f"account-{number}", deposited(number))
    catch_up(store, balances())
    return store


@given(st.text(min_size=1), st.binary())
def test_a_sealed_row_opens_to_what_was_packed(key: str, packed: bytes) -> None:
    """The form is C1, a CRC-32 of the key and the state, and the state."""
    row = seal_row(key, packed)
    assert row == b"\xc1" + crc32(key.encode() + packed).to_bytes(4, "big") + packed
    assert open_row(key, row) == packed


@given(st.binary(min_size=1, max_size=40), st.data())
def test_a_change_of_one_byte_is_noticed(packed: bytes, data: st.DataObject) -> None:
    """Wherever it is, but for the first byte, which tells a sealed row."""
    row = bytearray(seal_row("account-1", packed))
    place = data.draw(st.integers(1, len(row) - 1))
    row[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Damaged):
        open_row("account-1", bytes(row))


@given(st.one_of(st.none(), NUMBERS, st.text(), st.dictionaries(st.text(), NUMBERS)))
def test_no_packed_value_looks_like_a_sealed_row(value: Any) -> None:
    """So rows of both kinds are told apart."""
    assert not is_sealed(pack(value))


def test_a_view_keeps_a_checksum_a_row_and_counts_its_rows(filled: EventStore) -> None:
    """The count follows rows that are made and deleted."""
    keys = filled.info.keys[0]
    assert is_sealed(stored(filled))
    assert filled.driver.execute([("HGET", keys.build("balances", "1"), "rows")]) == [b"3"]
    assert operations.verify(filled).sound


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda row: row[:-1] + bytes([row[-1] ^ 1]), "row 'account-1' of .* is damaged: its checksum is another"),
        (lambda row: pack({"balance": 99, "numbers": [1]}), "row 'account-1' of .* is damaged: it has no checksum"),
        (lambda row: seal_row("account-2", row[5:]), "row 'account-1' of .* is damaged: its checksum is another"),
        (lambda row: seal_row("account-1", b"\xc1"), "row 'account-1' of .* is damaged"),
        (None, r"should have 3 rows and has 2"),
    ],
    ids=["a bit changed", "another value", "another row's", "no value", "deleted"],
)
def test_verify_names_a_row_that_is_not_what_was_written(
    filled: EventStore, damage: Callable[[bytes], bytes] | None, said: str
) -> None:
    """Changed, replaced or deleted by hand."""
    if damage is None:
        filled.driver.execute([("HDEL", view_of(filled), "account-1")])
    else:
        filled.driver.execute([("HSET", view_of(filled), "account-1", damage(stored(filled)))])

    [finding, *_] = operations.verify(filled).findings

    assert finding.where == view_of(filled)
    with pytest.raises(DataError, match=said):
        raise DataError(finding.what)


@pytest.mark.parametrize(
    "damage",
    [lambda row: row[:-1] + bytes([row[-1] ^ 1]), lambda row: row[5:], lambda row: pack({"balance": 10**6})],
    ids=["a bit changed", "without a checksum", "written by hand"],
)
def test_a_damaged_row_stops_its_projection_whatever_the_policy(
    filled: EventStore, damage: Callable[[bytes], bytes]
) -> None:
    """It is no fault of the event, which is neither skipped nor tried again. Nothing is folded on."""
    row = damage(stored(filled))
    filled.driver.execute([("HSET", view_of(filled), "account-1", row)])
    filled.append("account-1", deposited(1))
    for policy in (Skip(), Retry(3, backoff=0.001)):
        projection = balances()
        projection.on_error = policy
        with pytest.raises(DataError, match=r"row 'account-1' of .* is damaged"):
            catch_up(filled, projection)
    assert operations.skipped(filled, "balances") == []
    with pytest.raises(DataError, match="row 'account-1'"):
        View(filled, "balances").get("account-1")
    with pytest.raises(DataError, match="row 'account-1'") as raised:
        list(View(filled, "balances").items())
    assert "`runner rebuild balances`" in raised.value.hint
    assert stored(filled) == row


@pytest.mark.parametrize("face", FACES)
def test_a_row_without_a_checksum_stops_its_projection_alone(fresh_name: str, face: str) -> None:
    """Other projections go on. A rebuild makes the view again."""
    url = f"memory:{fresh_name}"
    with EventStore.open(url, settings=TEST_SETTINGS) as store:
        store.append("account-1", deposited(1))
        other = balances()
        other.name = "other"
        catch_up(store, balances(), other)
        store.driver.execute([("HSET", view_of(store), "account-1", stored(store)[5:])])
        store.append("account-1", deposited(2))

        with pytest.raises(DataError, match=r"row 'account-1' of .*: it has no checksum, so it was not written by the"):
            catch_up_on(face, url, store.info.name, balances(), other)

        assert View(store, "other")["account-1"]["balance"] == 3
        operations.rebuild(store, balances())
        assert rows_of(store)["account-1"]["balance"] == 3


def test_a_rebuild_mends_a_damaged_row_and_shows_it(filled: EventStore) -> None:
    """The damage is one side of the difference."""
    filled.driver.execute([("HSET", view_of(filled), "account-1", b"\xc1junk!")])

    [result] = operations.rebuild(filled, balances(), compare=True)

    assert result.comparison is not None
    assert [row.key for row in result.comparison.first] == ["account-1"]
    assert "is damaged" in str(result.comparison.first[0].live)
    assert rows_of(filled)["account-1"]["balance"] == 1


@pytest.mark.parametrize("lost", [["account-2"], None], ids=["a row", "the view"])
def test_rows_that_are_deleted_by_hand_stop_a_live_projection(filled: EventStore, lost: list[str] | None) -> None:
    """Its next heartbeat notices, or its next commit; the view does not begin anew without a word."""
    with pytest.raises(DataError, match="should have 3 rows and has"), follow(filled, balances()) as following:
        following.wait_live(PATIENCE)
        view = view_of(filled)
        filled.driver.execute([("DEL", view) if lost is None else ("HDEL", view, *lost)])
        assert reached(lambda: operations.status(filled).projections[0].state == "stopped")


def test_a_row_that_is_deleted_by_hand_is_noticed_by_the_next_runner(filled: EventStore) -> None:
    """A claim compares the number of rows, so nothing is folded on."""
    filled.driver.execute([("HDEL", view_of(filled), "account-3")])
    filled.append("account-3", deposited(1))

    with pytest.raises(DataError, match="should have 3 rows and has 2"):
        catch_up(filled, balances())

    assert "account-3" not in rows_of(filled)


def test_a_value_that_is_changed_by_hand_is_noticed_by_whoever_reads_it(filled: EventStore) -> None:
    """A runner that holds the row does not read it: its next commit puts what it holds into that place."""
    with follow(filled, balances()) as following:
        following.wait_live(PATIENCE)
        following.wait_for(filled.append("account-1", deposited(1)), PATIENCE)
        changed = bytearray(stored(filled))
        changed[-1] ^= 1
        filled.driver.execute([("HSET", view_of(filled), "account-1", bytes(changed))])

        with pytest.raises(DataError, match=r"row 'account-1' of .* is damaged"):
            View(filled, "balances").get("account-1")
        assert not operations.verify(filled).sound

        following.wait_for(filled.append("account-1", deposited(1)), PATIENCE)
        assert rows_of(filled)["account-1"]["balance"] == 3
        assert operations.verify(filled).sound
