"""Keys: all of a partition lie in one slot, and no two things share one."""

from __future__ import annotations

from runner.format.keys import PartitionKeys


def test_every_key_of_a_partition_has_its_tag_and_is_another() -> None:
    """So scripts may use them together in a cluster, and stores of one database never meet."""
    keys = PartitionKeys("es", 3)
    found = [
        keys.log, keys.meta, keys.runners, keys.projections, keys.bookmarks, *keys.recent, keys.ids, keys.new,
        keys.stream("a-1"), keys.projection("p"), *keys.of_build("p", "1"), keys.run("7"), keys.snapshot("a-1"),
        keys.applied("p"),
    ]  # fmt: skip
    assert all(key.startswith("{es.3}:") for key in found)
    assert len(set(found)) == len(found)
    assert keys.build("p", "1") in keys.of_build("p", "1")
    assert keys.view("p", "1") in keys.of_build("p", "1")
    assert keys.of_build("p", "1") == [
        keys.build("p", "1"),
        keys.view("p", "1"),
        keys.parked("p", "1"),
        keys.skipped("p", "1"),
    ]
