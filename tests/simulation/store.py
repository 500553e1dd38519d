"""A Redis in one thread: the commands that the package uses, and its real Lua scripts, over plain dictionaries.

Its time is given from outside. Every change is noted with how to undo it, so history can be taken back by a number of
writes, as a failover to a replica that lagged does. `test_simulation_store.py` holds it to a real server.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from typing import Any, Final

from lupa.lua51 import LuaRuntime

from runner.format.scripts import Script

#: The highest number in either half of an entry ID.
HIGHEST: Final = 2**64 - 1
ABSENT: Final = object()

Id = tuple[int, int]
#: How to undo one change: the key it is about, then the mapping, what was set in it, and its old value.
Undo = tuple[bytes, Any, Any, Any]


class ReplyError(Exception):
    """An error reply."""


class Status(bytes):
    """A status reply, such as OK."""


class Hash(dict[bytes, bytes]):
    kind = b"hash"


class Members(dict[bytes, None]):
    kind = b"set"


class Scores(dict[bytes, float]):
    kind = b"zset"


class Stream:
    """Entries in order, and the last ID there was."""

    kind = b"stream"

    def __init__(self) -> None:
        self.ids: list[Id] = []
        self.fields: list[list[bytes]] = []
        self.last: Id = (0, 0)

    def copy(self) -> Stream:
        other = Stream()
        other.ids, other.fields, other.last = self.ids[:], self.fields[:], self.last
        return other

    def __len__(self) -> int:
        return len(self.ids)


class SimulatedStore:
    """See the head of this module. ``time`` gives the server's clock in µs; ``sources`` replaces scripts by name."""

    def __init__(self, time: Callable[[], int], sources: Mapping[str, str] | None = None) -> None:
        self.db: dict[bytes, Any] = {}
        self._time = time
        self._sources = sources or {}
        #: One list of undos for each write, in their order.
        self.journal: list[list[Undo]] = []
        self._writing: list[Undo] = []
        self._commands: dict[str, Callable[..., Any]] = {
            name.removeprefix("cmd_").upper(): getattr(self, name) for name in dir(self) if name.startswith("cmd_")
        }

    # -- running --------------------------------------------------------------------------------

    def execute(self, command: tuple[Any, ...]) -> Any:
        """One command, or one script run, which is one write if it changes anything."""
        first = command[0]
        self._writing = []
        try:
            if isinstance(first, Script):
                count = command[1]
                rest = [_to_bytes(part) for part in command[2:]]
                return LUA.run(self, self._sources.get(first.name, first.bare_source), rest[:count], rest[count:])
            return self.perform(first, [_to_bytes(part) for part in command[1:]])
        finally:
            if self._writing:
                self.journal.append(self._writing)
                self._writing = []

    def perform(self, name: str, args: list[bytes]) -> Any:
        """One command, as a client or a script asks for it."""
        found = self._commands.get(name.upper())
        if found is None:
            raise ReplyError(f"ERR unknown command {name!r}")
        return found(*args)

    # -- history --------------------------------------------------------------------------------

    def take_back(self, writes: int, only: Callable[[bytes], bool] = lambda key: True) -> None:
        """Undo the last writes, or what they did to some keys; what they did to others cannot be undone after that."""
        for _ in range(writes):
            for key, mapping, item, old in reversed(self.journal.pop()):
                if not only(key):
                    continue
                if item is None:  # an entry of a stream
                    mapping.ids.pop()
                    mapping.fields.pop()
                    mapping.last = old
                elif old is ABSENT:
                    mapping.pop(item, None)
                else:
                    mapping[item] = old

    def _put(self, key: bytes, mapping: Any, item: Any, value: Any) -> None:
        self._writing.append((key, mapping, item, mapping.get(item, ABSENT)))
        mapping[item] = value

    def _drop(self, key: bytes, mapping: Any, item: Any) -> bool:
        if item not in mapping:
            return False
        self._writing.append((key, mapping, item, mapping.pop(item)))
        return True

    def _find(self, key: bytes, kind: type[Any]) -> Any:
        value = self.db.get(key)
        if value is not None and type(value) is not kind:
            raise ReplyError("WRONGTYPE Operation against a key holding the wrong kind of value")
        return value

    def _make(self, key: bytes, kind: type[Any]) -> Any:
        value = self._find(key, kind)
        if value is None:
            value = kind()
            self._put(key, self.db, key, value)
        return value

    def _lose_if_empty(self, key: bytes) -> None:
        if not self.db[key]:
            self._drop(key, self.db, key)

    # -- keys and strings -----------------------------------------------------------------------

    def cmd_time(self) -> list[bytes]:
        now = self._time()
        return [b"%d" % (now // 1_000_000), b"%d" % (now % 1_000_000)]

    def cmd_exists(self, *keys: bytes) -> int:
        return sum(key in self.db for key in keys)

    def cmd_del(self, *keys: bytes) -> int:
        return sum(self._drop(key, self.db, key) for key in keys)

    def cmd_unlink(self, *keys: bytes) -> int:
        return self.cmd_del(*keys)

    def cmd_get(self, key: bytes) -> Any:
        return self._find(key, bytes)

    def cmd_set(self, key: bytes, value: bytes, *_: bytes) -> Status:
        self._put(key, self.db, key, value)
        return Status(b"OK")

    def cmd_copy(self, source: bytes, target: bytes, *options: bytes) -> int:
        if source == target:
            raise ReplyError("ERR source and destination objects are the same")
        value = self.db.get(source)
        if value is None or (target in self.db and b"REPLACE" not in options):
            return 0
        self._put(target, self.db, target, value if isinstance(value, bytes) else _copy_of(value))
        return 1

    def cmd_publish(self, channel: bytes, message: bytes) -> int:
        return 0

    # -- hashes ---------------------------------------------------------------------------------

    def cmd_hget(self, key: bytes, field: bytes) -> Any:
        found = self._find(key, Hash)
        return None if found is None else found.get(field)

    def cmd_hmget(self, key: bytes, *fields: bytes) -> list[Any]:
        found = self._find(key, Hash) or {}
        return [found.get(field) for field in fields]

    def cmd_hgetall(self, key: bytes) -> list[bytes]:
        return [part for pair in (self._find(key, Hash) or {}).items() for part in pair]

    def cmd_hvals(self, key: bytes) -> list[bytes]:
        return list((self._find(key, Hash) or {}).values())

    def cmd_hkeys(self, key: bytes) -> list[bytes]:
        return list(self._find(key, Hash) or ())

    def cmd_hlen(self, key: bytes) -> int:
        return len(self._find(key, Hash) or ())

    def cmd_hexists(self, key: bytes, field: bytes) -> int:
        return int(field in (self._find(key, Hash) or ()))

    def cmd_hset(self, key: bytes, *pairs: bytes) -> int:
        if not pairs or len(pairs) % 2:
            raise ReplyError("ERR wrong number of arguments for 'hset' command")
        found = self._make(key, Hash)
        before = len(found)
        for field, value in zip(pairs[::2], pairs[1::2], strict=True):
            self._put(key, found, field, value)
        return len(found) - before

    def cmd_hdel(self, key: bytes, *fields: bytes) -> int:
        found = self._find(key, Hash)
        if found is None:
            return 0
        gone = sum(self._drop(key, found, field) for field in fields)
        self._lose_if_empty(key)
        return gone

    def cmd_hincrby(self, key: bytes, field: bytes, by: bytes) -> int:
        found = self._make(key, Hash)
        value = int(found.get(field, b"0")) + int(by)
        self._put(key, found, field, b"%d" % value)
        return value

    # -- sets -----------------------------------------------------------------------------------

    def cmd_sadd(self, key: bytes, *members: bytes) -> int:
        found = self._make(key, Members)
        new = [member for member in dict.fromkeys(members) if member not in found]
        for member in new:
            self._put(key, found, member, None)
        return len(new)

    def cmd_srem(self, key: bytes, *members: bytes) -> int:
        found = self._find(key, Members)
        if found is None:
            return 0
        gone = sum(self._drop(key, found, member) for member in members)
        self._lose_if_empty(key)
        return gone

    def cmd_scard(self, key: bytes) -> int:
        return len(self._find(key, Members) or ())

    def cmd_sismember(self, key: bytes, member: bytes) -> int:
        return int(member in (self._find(key, Members) or ()))

    def cmd_smembers(self, key: bytes) -> list[bytes]:
        return sorted(self._find(key, Members) or ())

    def cmd_zadd(self, key: bytes, score: bytes, member: bytes) -> int:
        found = self._make(key, Scores)
        new = member not in found
        self._put(key, found, member, float(score))
        return int(new)

    def cmd_zrem(self, key: bytes, member: bytes) -> int:
        found = self._find(key, Scores)
        if found is None:
            return 0
        gone = int(self._drop(key, found, member))
        self._lose_if_empty(key)
        return gone

    def cmd_zrange(self, key: bytes, first: bytes, last: bytes) -> list[bytes]:
        found = self._find(key, Scores) or {}
        ordered = sorted(found, key=lambda member: (found[member], member))
        end = int(last)
        return ordered[int(first) : len(ordered) if end == -1 else end + 1]

    def cmd_zrangebyscore(self, key: bytes, low: bytes, high: bytes) -> list[bytes]:
        found = self._find(key, Scores) or {}
        return [member for member in self.cmd_zrange(key, b"0", b"-1") if _within(found[member], low, high)]

    def cmd_zremrangebyscore(self, key: bytes, low: bytes, high: bytes) -> int:
        found = self._find(key, Scores)
        if found is None:
            return 0
        gone = [member for member, score in found.items() if _within(score, low, high)]
        for member in gone:
            self._drop(key, found, member)
        self._lose_if_empty(key)
        return len(gone)

    # -- streams --------------------------------------------------------------------------------

    def cmd_xadd(self, key: bytes, *rest: bytes) -> bytes:
        args = list(rest)
        if args[0] == b"MAXLEN":  # never so many in a simulation
            del args[: 3 if args[1] in (b"~", b"=") else 2]
        asked, fields = args[0], args[1:]
        found = self._find(key, Stream)
        last = (0, 0) if found is None else found.last
        if asked == b"*":
            now = self._time() // 1000
            new = (now, 0) if now > last[0] else (last[0], last[1] + 1)
        else:
            high, _, low = asked.partition(b"-")
            new = (int(high), int(low or 0))
            if new == (0, 0):
                raise ReplyError("ERR The ID specified in XADD must be greater than 0-0")
            if new <= last:
                raise ReplyError("ERR The ID specified in XADD is equal or smaller than the target stream top item")
        found = self._make(key, Stream)
        self._writing.append((key, found, None, found.last))
        found.ids.append(new)
        found.fields.append(fields)
        found.last = new
        return _text(new)

    def cmd_xrange(self, key: bytes, first: bytes, last: bytes, *count: bytes) -> list[Any]:
        found = self._find(key, Stream)
        if found is None:
            return []
        low, high = _bounds(found, first, last)
        if count:
            high = min(high, low + int(count[1]))
        return [[_text(found.ids[i]), found.fields[i]] for i in range(low, high)]

    def cmd_xrevrange(self, key: bytes, last: bytes, first: bytes, *count: bytes) -> list[Any]:
        found = self._find(key, Stream)
        if found is None:
            return []
        low, high = _bounds(found, first, last)
        if count:
            low = max(low, high - int(count[1]))
        return [[_text(found.ids[i]), found.fields[i]] for i in range(high - 1, low - 1, -1)]

    def cmd_xlen(self, key: bytes) -> int:
        return len(self._find(key, Stream) or ())

    def cmd_xread(self, *args: bytes) -> Any:
        """Without waiting; one stream."""
        key, after = args[-2:]
        count = int(args[args.index(b"COUNT") + 1])
        found = self._find(key, Stream)
        start = 0 if found is None else bisect_right(found.ids, _id(after, 0))
        if found is None or start == len(found):
            return None
        return [[key, [[_text(found.ids[i]), found.fields[i]] for i in range(start, min(len(found), start + count))]]]

    def cmd_xinfo(self, what: bytes, key: bytes) -> list[Any]:
        found = self._find(key, Stream)
        if found is None:
            raise ReplyError("ERR no such key")
        return [b"length", len(found), b"last-generated-id", _text(found.last)]


def _within(score: float, low: bytes, high: bytes) -> bool:
    """Whether a score is in a range; "(" before a bound leaves it out."""
    bottom, top = float(low.lstrip(b"(")), float(high.lstrip(b"("))
    above = score > bottom if low.startswith(b"(") else score >= bottom
    return above and (score < top if high.startswith(b"(") else score <= top)


def _copy_of(value: Any) -> Any:
    return value.copy() if isinstance(value, Stream) else type(value)(value)


def _bounds(stream: Stream, first: bytes, last: bytes) -> tuple[int, int]:
    return bisect_left(stream.ids, _id(first, 0)), bisect_right(stream.ids, _id(last, HIGHEST))


def _id(text: bytes, missing: int) -> Id:
    if text == b"-":
        return (0, 0)
    if text == b"+":
        return (HIGHEST, HIGHEST)
    high, dash, low = text.partition(b"-")
    return int(high), int(low) if dash else missing


def _text(entry: Id) -> bytes:
    return b"%d-%d" % entry


def _to_bytes(part: Any) -> bytes:
    if type(part) is bytes:
        return part
    return part.encode() if isinstance(part, str) else str(part).encode()


# -- scripts --------------------------------------------------------------------------------------

_GUARD = b"""
setmetatable(_G, {__newindex = function(_, name)
  error('Script attempted to access nonexistent global variable ' .. tostring(name))
end})
"""


class Lua:
    """Lua 5.1 as Redis has it: ``redis.call``, KEYS and ARGV, and what becomes of values on the way."""

    def __init__(self) -> None:
        self._lua = LuaRuntime(encoding=None, unpack_returned_tuples=False, register_eval=False)
        self._store: SimulatedStore | None = None
        self._compiled: dict[str, Any] = {}
        redis = self._lua.table()
        redis[b"call"] = self._call
        redis[b"pcall"] = self._pcall
        self._lua.globals()[b"redis"] = redis
        self._lua.execute(_GUARD)
        self._table = self._lua.table_from

    def run(self, store: SimulatedStore, source: str, keys: list[bytes], args: list[bytes]) -> Any:
        function = self._compiled.get(source)
        if function is None:
            function = self._lua.eval(b"function(KEYS, ARGV)\n%s\nend" % source.encode())
            self._compiled[source] = function
        self._store = store
        return self._reply(function(self._table(keys), self._table(args)))

    def _call(self, name: bytes, *args: Any) -> Any:
        assert self._store is not None
        return self._value(self._store.perform(name.decode(), [_argument(arg) for arg in args]))

    def _pcall(self, name: bytes, *args: Any) -> Any:
        try:
            return self._call(name, *args)
        except ReplyError as error:
            table = self._lua.table()
            table[b"err"] = str(error).encode()
            return table

    def _value(self, reply: Any) -> Any:
        """A reply as a script sees it."""
        if reply is None:
            return False
        if isinstance(reply, list):
            return self._table([self._value(part) for part in reply])
        if isinstance(reply, Status):
            table = self._lua.table()
            table[b"ok"] = bytes(reply)
            return table
        return reply

    def _reply(self, value: Any) -> Any:
        """What a script returns, as a client sees it."""
        if value is None or value is False:
            return None
        if value is True:
            return 1
        if isinstance(value, (int, float)):
            return int(value)
        if isinstance(value, bytes):
            return value
        if value[b"err"] is not None:
            raise ReplyError(value[b"err"].decode())
        if value[b"ok"] is not None:
            return Status(value[b"ok"])
        reply, place = [], 1
        while (part := value[place]) is not None:
            reply.append(self._reply(part))
            place += 1
        return reply


def _argument(value: Any) -> bytes:
    if type(value) is bytes:
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ReplyError("ERR Lua redis lib command arguments must be strings or integers")
    return b"%.17g" % value


#: One for all stores: a script is compiled once.
LUA: Final = Lua()
