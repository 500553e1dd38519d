"""Logs with forged entries among the good ones, to all that reads them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from looks import do, keys_of
from verbs import tried

from runner import EventStore, NewEvent, Projection, RunnerError, View, operations
from runner.projections.policies import ParkStream, Policy, Retry, Skip, Stop
from runner.sync.engine import Engine

from .envelopes import BYTES
from .kind import Fresh, Kind

GOOD = st.tuples(st.just("good"), st.sampled_from(["a-1", "a-2", "b", "{es.0}:log"]), st.integers(1, 3))
#: An entry that is written with any client: how far after the last position, its number, and its bytes.
FORGED = st.tuples(st.just("forged"), st.integers(1, 3), st.integers(0, 3), BYTES)
COMMANDS = ("read", "read a-1", "status", "verify", "view p0", "parked", "skipped", "export", "trim --before 2 --yes")
INPUTS = st.tuples(
    st.lists(GOOD | GOOD | FORGED, min_size=1, max_size=8), st.lists(st.sampled_from(COMMANDS), max_size=3)
)

POLICIES: tuple[Policy, ...] = (Stop(), Skip(), ParkStream(), Retry(2, 0.0), Retry(1, 0.0, then=Skip()))


def check(given: tuple[list[Any], list[str]], fresh: Fresh) -> None:
    """Reading, running and operating end with a result or an error of the package, in Python and as commands."""
    entries, commands = given
    store = fresh()
    for place, entry in enumerate(entries):
        try:
            _write(store, place, entry)
        except RunnerError:
            pass  # a damaged log takes nothing more
    for operation in _OPERATIONS:
        try:
            operation(store)
        except RunnerError:
            pass
    sound = len([entry for entry in entries if entry[0] == "forged"]) == 0
    assert not sound or operations.verify(store).sound
    tried(store, *commands)


def _write(store: EventStore, place: int, entry: Any) -> None:
    if entry[0] == "good":
        _, stream, count = entry
        store.append(stream, [NewEvent("X", place, id=UUID(int=100 * place + each + 1)) for each in range(count)])
    else:
        _, after, number, envelope = entry
        last = do(store, "XREVRANGE", keys_of(store).log, "+", "-", "COUNT", 1)
        position = int(last[0][0].partition(b"-")[0]) + after if last else after
        do(store, "XADD", keys_of(store).log, f"{position}-{number}", "e", envelope)


def _run(store: EventStore) -> None:
    projections = []
    for place, policy in enumerate(POLICIES):
        made = Projection(f"p{place}", initial=lambda: 0, on_error=policy)
        made.when(lambda state, event: state + len(repr(event.data)))
        projections.append(made)
    Engine(store, projections, live=False).run_to_end()


_OPERATIONS = (
    lambda store: list(store.read_all()),
    lambda store: list(store.read_all(backwards=True)),
    lambda store: list(store.read_stream("a-1")),
    lambda store: list(store.read_stream("a-1", backwards=True)),
    lambda store: list(store.read_category("a")),
    _run,
    operations.verify,
    operations.status,
    lambda store: dict(View(store, "p1").items()),
    lambda store: store.append("a-1", NewEvent("X")),
)

LOGS = Kind("logs", "logs with forged entries: read, run, verified and exported", INPUTS, check)
