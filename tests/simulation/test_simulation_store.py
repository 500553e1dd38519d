"""The simulated store is held to a real server: the same random commands and scripts, and the same replies."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any
from uuid import UUID

import pytest

from runner import EventStore, NewEvent
from runner.errors import RunnerError
from runner.format.events import pack_event
from runner.format.keys import PartitionKeys
from runner.format.scripts import load
from runner.log.page_size import PAGE_BYTES

from .store import ReplyError, SimulatedStore
from .world import DAWN

pytestmark = pytest.mark.real

#: What holds a time of the server's, which differs.
TIMES = (b"updated", b"seen", b"lease", b"token")


def command(chance: random.Random, keys: PartitionKeys) -> tuple[Any, ...]:
    """A command with arguments that often meet what is there, and sometimes the wrong type of it."""
    key = f"{keys.tag}:{chance.choice(('h', 'h', 's', 'z', 'x', 'x', 'k'))}"
    field, number = chance.choice("abc"), chance.randint(0, 6)
    return chance.choice((
        ("HSET", key, field, number), ("HSET", key, field, number, "d", "e"), ("HGET", key, field),
        ("HMGET", key, "a", "b", "nothing"), ("HLEN", key), ("HEXISTS", key, field), ("HDEL", key, field, "d"),
        ("HINCRBY", key, "n", number), ("SADD", key, field, "b"), ("SREM", key, field), ("SMEMBERS", key),
        ("ZADD", key, number, field), ("ZREM", key, field), ("ZRANGE", key, 0, -1),
        ("ZRANGEBYSCORE", key, f"({number}", "+inf"), ("HKEYS", key), ("XLEN", key), ("SCARD", key),
        ("SISMEMBER", key, field),
        ("ZREMRANGEBYSCORE", key, "-inf", number), ("XADD", key, f"{number}-{chance.randint(0, 3)}", "e", field),
        ("XRANGE", key, "-", "+"), ("XRANGE", key, number, "+", "COUNT", 2), ("XRANGE", key, f"{number}-1", number),
        ("XREVRANGE", key, "+", "-", "COUNT", 1), ("XREVRANGE", key, number, "-"), ("EXISTS", key), ("DEL", key),
        ("UNLINK", key), ("SET", key, field), ("GET", key),
        ("COPY", key, f"{keys.tag}:{chance.choice('hxz')}", *chance.choice(((), ("REPLACE",)))),
        ("XREAD", "COUNT", 2, "STREAMS", f"{keys.tag}:x", f"{number}-1"),
    ))  # fmt: skip


@dataclass(frozen=True)
class Token:
    """In a call, the fencing token of the claim of a build so many claims ago; 0 if there were fewer."""

    build: str
    ago: int


class Server:
    """A real or a simulated server. Fencing tokens are times, so each server gets those that it has given itself."""

    def __init__(self, execute: Callable[[tuple[Any, ...]], Any]) -> None:
        self._execute = execute
        self._tokens: defaultdict[str, list[bytes]] = defaultdict(list)

    def __call__(self, call: tuple[Any, ...]) -> Any:
        """The outcome of a call, with tokens as the places that they have among those of their build."""
        found = outcome(lambda: self._execute(tuple(map(self._token, call))))
        if call[0] == load("progress/claim") and isinstance(found, list) and found[0] == b"ok":
            given = self._tokens[call[3]]
            given.append(found[3])
            found[3], found[7] = len(given), found[7] in given and given.index(found[7]) + 1
        return found

    def _token(self, part: Any) -> Any:
        if not isinstance(part, Token):
            return part
        given = self._tokens[part.build]
        return given[-part.ago] if part.ago <= len(given) else 0


class Calls:
    """Script calls that follow from one another, as writers, runners and operators make them."""

    def __init__(self, chance: random.Random, keys: PartitionKeys) -> None:
        self.chance = chance
        self.keys = keys
        self.known = [self._envelope("a-1", number) for number in range(12)]

    def first(self) -> list[tuple[Any, ...]]:
        """The store is made, has one event, and build 1 is claimed."""
        keys = self.keys
        names = [keys.log, keys.meta, keys.bookmarks, *keys.recent, keys.new, keys.run("t"), keys.stream("a-1")]
        return [
            load("log/create").call([keys.meta, keys.log], 2, 1, "ep", ""),
            load("log/append").call(names, "all", "ep", "", 0, "", 1, "any", 1, self.known[0]),
            self._claim("A", "1", "live"),
        ]

    def __call__(self) -> tuple[Any, ...]:
        return self.chance.choice((self._append, self._append, self._claim, self._commit, self._commit, self._other))()

    def _envelope(self, stream: str, number: int) -> bytes:
        return pack_event(stream, NewEvent("Changed", {"id": number}, id=UUID(int=number + 1)), DAWN)

    def _append(self) -> tuple[Any, ...]:
        keys, chance = self.keys, self.chance
        mode = chance.choice(("all", "each"))
        streams = chance.choice((["a-1"], ["a-2"], ["a-1", "a-2"]))
        names = [keys.log, keys.meta, keys.bookmarks, *keys.recent, keys.new, keys.run("t")]
        bookmark = chance.choice(("", "", "c")) if mode == "all" else ""
        args: list[Any] = [
            mode,
            chance.choice(("ep",) * 9 + ("no",)),
            bookmark,
            chance.randint(1, 5),
            "t",
            len(streams),
        ]
        for _ in streams:
            events = chance.sample(self.known, chance.choice((0, 1, 1, 2)))
            args += [chance.choice(("any", "exists", 0, 1, 2, 5)), len(events), *events]
        return load("log/append").call([*names, *(keys.stream(stream) for stream in streams)], *args)

    def _claim(self, owner: str = "", build: str = "", role: str = "") -> tuple[Any, ...]:
        keys, chance = self.keys, self.chance
        build = build or chance.choice("12")
        names = [keys.projection("p"), keys.build("p", build), keys.projections, keys.meta]
        return load("progress/claim").call(
            names, owner or chance.choice("AAAB"), "here", 10_000_000, "ep", "p", build,
            role or chance.choice(("live", "candidate")), "projection", chance.choice((0, 3)), b"i" * 16,
            chance.choice(("", "1")), "cpython", chance.choice(("", "one", "other")),
        )  # fmt: skip

    def _commit(self) -> tuple[Any, ...]:
        keys, chance = self.keys, self.chance
        before = chance.choice((0, 0, 1, 2))
        after = before + chance.choice((0, 1, 1, 2))
        token = Token(keys.build("p", "1"), chance.choice((1, 1, 1, 2)))
        rows = [f"r{number}" for number in range(chance.randint(0, 2))]
        return load("progress/commit").call(
            [*keys.of_build("p", "1"), keys.log, keys.meta], chance.choice("AAAB"), token, chance.choice("0001"),
            before, event_id(before), after, event_id(after), 1,
            chance.choice((b"", b"x")), keys.applied("p"), len(rows), 1, 1, 0,
            *(part for row in rows for part in (row, b"v")), "r1", 7, b"why",
        )  # fmt: skip

    def _other(self) -> tuple[Any, ...]:
        keys, chance = self.keys, self.chance
        of_1, of_2 = keys.of_build("p", "1"), keys.of_build("p", "2")
        position = chance.randint(1, 3)
        return chance.choice((
            load("progress/report").call(
                [of_1[0], keys.log, keys.meta, keys.projection("p"), of_1[1]],
                "A", Token(of_1[0], chance.choice((1, 2))),
                chance.choice(("live", "stopped")), "", chance.choice((0, 10_000_000)), "ep", chance.randint(0, 3),
                chance.choice(("", "1", "2")),
            ),
            load("progress/announce").call([keys.runners], chance.choice("AB"), chance.choice((0, 10_000_000))),
            load("progress/propose").call([keys.projection("p"), *of_2], "1", chance.choice(("", "2")), "2", position),
            load("progress/switch").call(
                [keys.projection("p"), of_2[0], of_1[0]],
                "A", Token(of_2[0], 1), "2", "1", "", "2", "1", keys.applied("p"),
            ),
            load("progress/rollback").call(
                [keys.projection("p"), of_2[0], of_1[0]], "2", "1", "2", "1", keys.applied("p")
            ),
            load("progress/unpark").call(of_1, "r1", "", chance.choice(("", "=w")), "", "", 1, 7),
            load("progress/reset").call(
                [keys.projection("p"), keys.projections, keys.meta, *of_1, *of_2], "p", "1", "", "2",
                chance.choice("01"),
            ),
            load("log/read_stream").call(
                [keys.log, keys.meta, keys.stream("a-1")], position, "+", 2, chance.choice("01"), PAGE_BYTES
            ),
        ))  # fmt: skip


def event_id(position: int) -> bytes:
    """The id of the first event; of each other position one that no event has."""
    return (b"", UUID(int=1).bytes)[position] if position < 2 else b"i" * 16


def outcome(execute: Callable[[], Any]) -> Any:
    """A reply without its times, or that there was an error."""
    try:
        reply = execute()
    except (ReplyError, RunnerError):
        return "an error"
    if isinstance(reply, list) and reply and reply[0] == b"held":
        return reply[:3]
    return reply


def contents(execute: Callable[[tuple[Any, ...]], Any], names: list[str]) -> dict[str, Any]:
    """The hashes there are, without times."""
    found = {}
    for name in names:
        flat = execute(("HGETALL", name))
        found[name] = {key: value for key, value in zip(flat[::2], flat[1::2], strict=True) if key not in TIMES}
    return found


@pytest.mark.parametrize("seed", range(3))
def test_commands_give_the_replies_of_a_real_server(real_store: EventStore, seed: int) -> None:
    """Hashes, sets, sorted sets and streams, of the right and of the wrong type, answer alike."""
    chance, keys = random.Random(seed), PartitionKeys(f"{real_store.info.name}-c{seed}", 0)
    simulated = SimulatedStore(count(DAWN, 1000).__next__)
    for _ in range(200):
        one = command(chance, keys)
        real = outcome(lambda one=one: real_store.driver.execute([one])[0])  # type: ignore[misc]
        ours = outcome(lambda one=one: simulated.execute(one))  # type: ignore[misc]
        if one[0] in ("SMEMBERS",) and isinstance(real, list):
            real = sorted(real)
        assert ours == real, one


@pytest.mark.parametrize("seed", range(3))
def test_scripts_give_the_replies_of_a_real_server(real_store: EventStore, seed: int) -> None:
    """Every script answers alike, call after call, and leaves the same behind."""
    chance, keys = random.Random(seed), PartitionKeys(f"{real_store.info.name}-s{seed}", 0)
    simulated = SimulatedStore(count(DAWN, 1000).__next__)
    real, ours = Server(lambda one: real_store.driver.execute([one])[0]), Server(simulated.execute)
    calls = Calls(chance, keys)
    taken: Counter[str] = Counter()
    for one in [*calls.first(), *(calls() for _ in range(300))]:
        answer = ours(one)
        assert answer == real(one), one
        taken[one[0].name] += isinstance(answer, list) and b"ok" in answer[:1]
    hashes = [
        *keys.recent,
        keys.projection("p"),
        *(keys.of_build("p", build)[kind] for build in "12" for kind in range(3)),
    ]
    assert contents(lambda one: real_store.driver.execute([one])[0], hashes) == contents(simulated.execute, hashes)
    assert taken["progress/claim"] > 5
    assert taken["progress/commit"] > 0


def test_what_is_taken_back_is_as_it_was() -> None:
    """After a failover by so many writes the store is exactly what it was before them."""
    chance, keys = random.Random(5), PartitionKeys("u", 0)
    simulated = SimulatedStore(count(DAWN, 1000).__next__)
    server, calls = Server(simulated.execute), Calls(chance, keys)
    for one in calls.first():
        server(one)
    seen = []
    for _ in range(200):
        seen.append((len(simulated.journal), image(simulated)))
        server(chance.choice((calls, lambda: command(chance, keys)))())
    for writes, before in reversed(seen):
        simulated.take_back(len(simulated.journal) - writes)
        assert image(simulated) == before


def image(store: SimulatedStore) -> dict[bytes, Any]:
    """Everything a store holds, as plain values."""
    return {
        key: (value.ids[:], value.fields[:], value.last)
        if hasattr(value, "ids")
        else dict(value)
        if isinstance(value, dict)
        else value
        for key, value in store.db.items()
    }
