"""The plan of appends: what goes into one run of the script."""

from __future__ import annotations

import pytest

from runner.log.append_plan import ANY, EACH_RUN, Group, script_runs
from runner.settings import MAX_APPEND_BYTES, MAX_APPEND_EVENTS
from runner.testing import memory_store


@pytest.mark.parametrize(
    ("count", "events", "size", "runs"),
    [
        (EACH_RUN, 1, 1, [EACH_RUN]), (EACH_RUN + 1, 1, 1, [EACH_RUN, 1]), (2 * EACH_RUN, 0, 0, [EACH_RUN] * 2),
        (4, 1, MAX_APPEND_BYTES // 2, [2, 2]), (3, 1, MAX_APPEND_BYTES // 2 + 1, [1, 1, 1]),
        (1, 1, MAX_APPEND_BYTES, [1]), (2, 1, MAX_APPEND_BYTES, [1, 1]),
        (4, MAX_APPEND_EVENTS // 2, 1, [2, 2]), (3, MAX_APPEND_EVENTS // 2 + 1, 1, [1, 1, 1]),
        (0, 1, 1, []),
    ],
)  # fmt: skip
def test_a_run_of_the_script_is_bounded(count: int, events: int, size: int, runs: list[int]) -> None:
    """By appends, events and bytes, so that the server is blocked for a few milliseconds at most."""
    with memory_store() as store:
        groups = [(place, Group("a-1", ANY, [b"x"] * events, size)) for place in range(count)]
        made = list(script_runs(store.info, groups))
    assert [len(portion) for _, portion in made] == runs
    assert [place for _, portion in made for place in portion] == list(range(count))


def test_appends_to_several_partitions_fill_runs_of_their_own() -> None:
    """In each, the appends stand in their order."""
    with memory_store(partitions=2) as store:
        groups = [(place, Group(f"a-{place % 16}", ANY, [b"x"], 1)) for place in range(4 * EACH_RUN)]
        made = list(script_runs(store.info, groups))
    assert {keys.partition for keys, _ in made} == {0, 1}
    assert all(len(portion) <= EACH_RUN for _, portion in made)
    for partition in (0, 1):
        places = [place for keys, portion in made for place in portion if keys.partition == partition]
        assert places == [place for place, group in groups if store.info.of_stream(group.stream).partition == partition]
