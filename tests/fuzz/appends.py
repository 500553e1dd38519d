"""Appends to a real server, against a model: any versions, ids that come again, groups, checkpoints."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from log_model import Group, Model, info_of, outcome_of

from runner import ANY, STREAM_EXISTS, NewEvent

from .kind import Fresh, Kind

#: Names of streams, among them some that look like keys or patterns.
STREAMS = ("a-1", "a-2", "b", "{es.0}:log", "*", "x}:stream:y", "ü", "a-1 ")
EXPECTED = st.one_of(
    st.sampled_from(["any", "exists", "right", "right", "right", "low", "high"]),
    st.integers(0, 5),
    st.sampled_from([2**31, 2**53, 2**53 + 1, 2**63 - 1]),
)
#: An event is known by a small number, so that ids come again, in other streams and other orders.
IDS = st.lists(st.integers(0, 24), max_size=4, unique=True)
GROUP = st.tuples(st.integers(0, len(STREAMS) - 1), EXPECTED, IDS)
GROUPS = st.lists(GROUP, max_size=4, unique_by=lambda group: group[0])
BOOKMARK = st.none() | st.tuples(st.sampled_from(["m", "n"]), st.integers(1, 5))
CALLS = st.one_of(
    st.tuples(st.just("each"), GROUPS, st.none()),
    st.tuples(st.just("all"), GROUPS, BOOKMARK),
    st.tuples(st.just("again"), st.integers(0, 5), st.none()),
)
INPUTS = st.lists(CALLS, min_size=1, max_size=25)


def check(calls: list[Any], fresh: Fresh) -> None:
    """Each verdict, position and version is as the model says, and the log is the model's in the end."""
    store, model = fresh(), Model()
    done: list[tuple[str, list[Group], Any]] = []
    for what, given, bookmark in calls:
        if what == "again":
            if not done:
                continue
            what, groups, bookmark = done[given % len(done)]
        else:
            groups = [_group(model, *group) for group in given]
            done.append((what, groups, bookmark))
        if what == "each":
            ours, models = store.append_each(groups), model.append_each(groups)
        else:
            ours = outcome_of(lambda g, b: store.append_many(g, bookmark=b), groups, bookmark)
            models = outcome_of(model.append_all, groups, bookmark)
        assert info_of(ours, with_duplicate=True) == info_of(models, with_duplicate=True)
    read = list(store.read_all())
    assert [(event.stream, event.id) for event in read] == model.log
    assert [event.position for event in read] == list(range(1, len(read) + 1))
    for stream in STREAMS:
        assert [(e.number, e.position) for e in store.read_stream(stream)] == list(enumerate(model.places(stream), 1))
        assert store.version(stream) == model.version(stream)
    for name in ("m", "n"):
        assert store.bookmark(name) == model.bookmarks.get(name, 0)


def _group(model: Model, stream: int, expected: Any, ids: list[int]) -> Group:
    name = STREAMS[stream]
    version = model.version(name)
    named = {"any": ANY, "exists": STREAM_EXISTS, "right": version, "low": max(0, version - 1), "high": version + 1}
    return name, [NewEvent("X", number, id=UUID(int=number + 1)) for number in ids], named.get(expected, expected)


APPENDS = Kind("appends", "the append script against a model: each verdict, position and version", INPUTS, check, True)
