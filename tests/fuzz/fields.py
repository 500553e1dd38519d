"""One damaged or forged record beside the log, to all that reads it."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from looks import do, keys_of
from verbs import tried

from runner import EventStore, NewEvent, Projection, RunnerError, View, operations
from runner.projections.policies import ParkStream, Skip
from runner.sync.engine import Engine

from .kind import CHANGES, Fresh, Kind, changed

#: What a field may become: numbers beyond all bounds, other encodings, and other values of MessagePack.
ODD = st.sampled_from([b"", b"x", b"-1", b"0", b"1e9", b"nan", b"9" * 25, b"\xff", b"\xc1", b"\x05", b"\x90", b"a b"])
VALUES = st.one_of(ODD, st.binary(max_size=24), CHANGES)
COMMANDS = (
    *("status", "parked", "skipped", "view p", "view q", "verify", "read"),
    *("trim --before 2 --yes", "rollback p", "reset p --yes", "unregister p --yes"),
)
#: Which key of the store, which of its fields, what is done, and which commands are run.
INPUTS = st.tuples(
    st.integers(0, 63),
    st.integers(0, 63),
    st.sampled_from(["set", "set", "set", "new", "remove", "retype"]),
    VALUES,
    st.lists(st.sampled_from(COMMANDS), max_size=3),
)


def counting(name: str) -> Projection:
    made = Projection(name, category="a", initial=lambda: 0, on_error=ParkStream() if name == "p" else Skip())
    made.when("X", lambda state, event: state + 1)
    made.when("Bad", lambda state, event: 1 // 0)
    return made


def check(given: Any, fresh: Fresh) -> None:
    """Each operation and command ends with a result or an error of the package; of two projections one is unharmed."""
    store = fresh()
    store.append("a-1", [NewEvent("X"), NewEvent("Bad")])
    store.append_many([("a-2", [NewEvent("X")], 0)], bookmark=("m", 1))
    _run(store)
    store.append("a-3", NewEvent("X"))
    *damage, commands = given
    key = _damage(store, *damage)
    for operation in _OPERATIONS:
        try:
            operation(store)
        except RunnerError:
            pass
    if key is not None and any(f":{kind}:p" in key for kind in ("view", "build", "parked", "skipped", "projection")):
        _run(store)
        assert dict(View(store, "q").items()) == {"a-1": 2, "a-2": 1, "a-3": 1}
    tried(store, *commands)


def _run(store: EventStore) -> None:
    try:
        Engine(store, [counting("p"), counting("q")], live=False).run_to_end()
    except RunnerError:
        pass


def _damage(store: EventStore, at: int, field: int, what: str, value: Any) -> str | None:
    """Damage one field of one key; the name of the key, or None if there is nothing to change."""
    names = sorted(do(store, "KEYS", f"{keys_of(store).tag}:*"))
    key = names[at % len(names)]
    kind = do(store, "TYPE", key)
    if what == "remove":
        do(store, "UNLINK", key)
    elif what == "retype":
        do(store, "UNLINK", key)
        do(store, *(("SET", key, "mine") if kind != b"string" else ("SADD", key, "mine")))
    elif kind == b"hash":
        fields = sorted(do(store, "HKEYS", key))
        name = _value(b"new", value) if what == "new" else fields[field % len(fields)]
        do(store, "HSET", key, name, _value(do(store, "HGET", key, name) or b"", value))
    elif kind == b"string":
        do(store, "SET", key, _value(do(store, "GET", key), value))
    elif kind == b"set":
        do(store, "SADD", key, _value(b"p", value))
    elif kind == b"zset":
        do(store, "ZADD", key, field, _value(b"x", value))
    elif kind == b"stream":
        do(store, "XADD", key, "*", "e", _value(b"x", value))
    return str(key.decode())


def _value(before: bytes, value: Any) -> bytes:
    return changed(before, value) if isinstance(value, list) else value


_OPERATIONS = (
    operations.status,
    operations.parked,
    operations.skipped,
    operations.verify,
    operations.doctor,
    lambda store: dict(View(store, "p").items()),
    lambda store: len(View(store, "p")),
    lambda store: View(store, "p").get("a-1"),
    lambda store: store.bookmark("m"),
    lambda store: list(store.read_stream("a-1")),
    lambda store: store.append("a-1", NewEvent("X")),
    _run,
    lambda store: EventStore.open(store.label, name=store.info.name).close(),
    lambda store: operations.trim(store, 2, dry_run=True),
    lambda store: operations.rollback(store, "p"),
)

FIELDS = Kind("fields", "one damaged record: an error that is the package's, and no harm to others", INPUTS, check)
