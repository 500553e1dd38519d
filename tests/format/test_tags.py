"""Tags of partitions: their slots spread evenly, and none is another store's."""

from __future__ import annotations

import pytest
from accounts import deposited
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from runner import EventStore
from runner.format.keys import PartitionKeys
from runner.format.names import placed_by
from runner.format.tags import SLOTS, slot_of, suffixes_of, tag_of
from runner.testing import TEST_SETTINGS

NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,20}", fullmatch=True)


@given(NAMES, st.integers(0, 255), st.from_regex(r"[a-z]{0,3}", fullmatch=True))
def test_the_slot_of_a_tag_is_that_of_its_keys(name: str, partition: int, suffix: str) -> None:
    """The client library computes the same slot for every key of the partition."""
    tag = tag_of(name, partition, suffix)
    assert slot_of(tag) == key_slot(f"{tag}:stream:account-{{x}}-1".encode())


@given(NAMES, st.integers(1, 256))
def test_each_partition_has_a_part_of_the_slots_of_its_own(name: str, partitions: int) -> None:
    """So nodes that have equal shares of the slots have equal shares of the partitions."""
    slots = [slot_of(tag_of(name, number, suffix)) for number, suffix in enumerate(suffixes_of(name, partitions))]
    assert len({slot * partitions // SLOTS for slot in slots}) == partitions


@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 6, 12])
def test_twelve_partitions_are_shared_evenly(nodes: int) -> None:
    """Each of so many nodes has the same number of partitions."""
    slots = [slot_of(tag_of("es", number, suffix)) for number, suffix in enumerate(suffixes_of("es", 12))]
    shares = [sum(slot * nodes // SLOTS == node for slot in slots) for node in range(nodes)]
    assert shares == [12 // nodes] * nodes


def test_the_suffixes_of_a_store_are_always_the_same() -> None:
    """They are part of the format: another program finds the same ones."""
    assert suffixes_of("es", 1) == [""]
    assert suffixes_of("es", 4) == ["", "d", "d", "d"]


def test_a_store_keeps_its_tags(store: EventStore, url: str, fresh_name: str) -> None:
    """What is stored decides, not what would be computed."""
    with EventStore.open(url, name=f"{fresh_name}-p", partitions=3, settings=TEST_SETTINGS) as made:
        computed = ",".join(suffixes_of(made.info.name, 3))
        meta = made.info.keys[0].meta
        assert made.driver.execute([("HGET", meta, "tags")]) == [computed.encode()]
        made.driver.execute([("HSET", meta, "tags", ",x,yz")])
    with EventStore.open(url, name=f"{fresh_name}-p", settings=TEST_SETTINGS) as again:
        assert [keys.tag[1:-1].removeprefix(again.info.name) for keys in again.info.keys] == [".0", ".1.x", ".2.yz"]


def test_no_tag_is_that_of_another_store() -> None:
    """A suffix has letters only, and the number of a partition has none."""
    others = {PartitionKeys("es.1", number).tag for number in range(256)}
    assert others.isdisjoint(tag_of("es", 1, suffix) for suffix in ["", *suffixes_of("es", 256)])


@pytest.mark.parametrize(
    ("stream", "part"),
    [
        ("account-1", "account-1"),
        ("account-{branch-7}-1", "branch-7"),
        ("{x}", "x"),
        ("a{}b{c}", "a{}b{c}"),
        ("a{b", "a{b"),
        ("a}b{c}d{e}", "c"),
        ("a{b{c}d}", "b{c"),
    ],
)
def test_braces_in_a_name_decide_the_partition(stream: str, part: str) -> None:
    """The rule is that of hash tags in Redis."""
    assert placed_by(stream) == part
    assert key_slot(stream.encode()) == key_slot(part.encode()) or part == stream


def test_streams_with_the_same_braces_are_appended_together(url: str, fresh_name: str) -> None:
    """What must change together lies together, however many partitions there are."""
    with EventStore.open(url, name=fresh_name + "-b", partitions=7, settings=TEST_SETTINGS) as store:
        streams = [f"account-{{branch-7}}-{number}" for number in range(20)]
        results = store.append_many([(stream, [deposited(1)], 0) for stream in streams])
        assert len({result.partition for result in results}) == 1
