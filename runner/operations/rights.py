"""What each kind of user of a store has to be allowed: the one list, which `runner acl` prints and the page shows.

A right is commands on some keys. Each becomes a selector of its own, so that a command is allowed on the keys that it
is needed for and on no others. Commands without a key stand outside of the selectors.

Tests run the work of each kind of user under its list, and again without each word of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..format.keys import PartitionKeys


@dataclass(frozen=True, slots=True)
class Right:
    """Commands that are allowed on some keys, with blanks between the names of either.

    A key is named as in the drawing of `runner.format.keys`, without its tag.
    """

    commands: str
    keys: str
    purpose: str
    #: What the commands may do with the keys: "~" everything, "%R~" read them; "&" if the keys are channels.
    access: str = "~"


READ = "%R~"
CHANNEL = "&"
NO_KEYS = ""

#: Who may load scripts can make the server stand still, so users may be made without.
LOADING = "script|load"

_READING = "log meta stream:*"
_PROGRESS = "projection:* projections build:* view:* parked:* skipped:*"

APPENDER = (
    Right("evalsha", f"{_READING} new recent:* bookmarks run:*", "the append script, and those that read"),
    Right("script|load", NO_KEYS, "loads a script that the server does not have"),
    Right("time", NO_KEYS, "tells a page that was too large from a server that does not answer"),
    Right("hget hmget", "meta recent:* bookmarks", "the store's facts, recent ids, bookmarks", READ),
    Right("exists xinfo|stream xrange xrevrange", "log stream:*", "versions, positions, reading", READ),
    Right("xadd", "log stream:* new", "the log and the indexes of streams"),
    Right("copy del", "new stream:*", "a new stream's index is made beside its place and copied into it"),
    Right("hset del", "recent:*", "ids are kept, and dropped after a while"),
    Right("hset", "bookmarks", "bookmarks move with an append"),
    Right("get set", "run:* snapshot:*", "what a call of independent appends was refused; snapshots of aggregates"),
)

READER = (
    Right("evalsha", _READING, "the scripts that read"),
    Right("exists xinfo|stream xrange xrevrange type", "log stream:*", "events, versions, positions", READ),
    Right("xread xlen", "log", "subscriptions", READ),
    Right("hget hmget", "meta bookmarks projection:* build:* view:*", "facts, bookmarks, checkpoints, rows", READ),
    Right("hlen hscan", "view:* parked:*", "how many rows there are, and which", READ),
    Right("subscribe", "applied:*", "being woken when a view has reached a position", CHANNEL),
    Right("hgetall smembers", "projection:* projections", "status", READ),
    Right("xrevrange", "skipped:*", "skipped events", READ),
    Right("zrange", "runners", "which runners there are", READ),
    Right("hgetall", "bookmarks build:*", "whether these records are sound", READ),
    Right("type hget hmget hscan", "ids", "whether the index of ids is sound", READ),
    Right("hscan", "recent:*", "whether the ids of the last events are sound", READ),
    Right("ttl", "log meta", "whether the log expires", READ),
    Right("time", NO_KEYS, "how long events have waited"),
)

RUNNER = (
    Right("evalsha", f"log meta runners {_PROGRESS}", "the scripts that claim, commit and report"),
    Right("script|load", NO_KEYS, "loads scripts that the server does not have"),
    Right("exists xinfo|stream xrange xrevrange xread xlen", "log", "history and the live feed", READ),
    Right("hget hmget", "meta", "the store's facts", READ),
    Right("exists hget hmget hgetall hset hdel", "projection:* build:*", "builds, checkpoints, leases"),
    Right("hincrby", "build:*", "counters of what was done"),
    Right("sadd sismember", "projections", "which projections there are"),
    Right("hmget hset hdel hlen", "view:*", "rows"),
    Right("hset hgetall hlen", "parked:*", "events that are set aside"),
    Right("xadd xlen", "skipped:*", "records of skipped events"),
    Right("unlink", "build:* view:* parked:* skipped:*", "a build that is not needed any more"),
    Right("zadd zrem zrange zrangebyscore zremrangebyscore", "runners", "which runners there are, to share the work"),
    Right("publish", "applied:*", "waking who waits for a view", CHANNEL),
    Right("ttl", "log meta", "whether the log expires", READ),
    Right("time info", NO_KEYS, "leases; what the server is"),
)

OPERATOR = (
    Right("evalsha", f"{_READING} {_PROGRESS}", "the scripts that read, rebuild, reset and trim"),
    Right("script|load", NO_KEYS, "loads scripts that the server does not have"),
    Right("type exists xinfo|stream xrange xrevrange", "log stream:*", "history, and whether it is sound", READ),
    Right("xtrim", "log stream:*", "events and entries of indexes are trimmed"),
    Right("hget hmget hset", "meta", "the store's facts, and up to where it is trimmed"),
    Right("hgetall zrange", "bookmarks runners", "bookmarks, and which runners there are", READ),
    Right("type hget hmget hscan", "ids", "whether the index of ids is sound", READ),
    Right("hscan", "recent:*", "ids of the last events: whether they are sound, and for an export", READ),
    Right("exists hexists hget hmget hgetall hset hdel", "projection:* build:*", "builds, checkpoints, leases"),
    Right("hincrby", "build:*", "counters of what was done"),
    Right("sadd srem scard sismember smembers", "projections", "which projections there are"),
    Right("hget hmget hset hdel hlen hscan", "view:*", "rows"),
    Right("hset hdel hlen hscan hgetall hkeys hexists", "parked:*", "events that are set aside"),
    Right("xadd xlen xrevrange", "skipped:*", "records of skipped events"),
    Right(
        "unlink",
        "projection:* build:* view:* parked:* skipped:*",
        "builds that are not needed any more, projections that are forgotten",
    ),
    Right("publish", "applied:*", "waking who waits for a view", CHANNEL),
    Right("ttl", "log meta", "whether the log expires", READ),
    Right("scan", NO_KEYS, "finds indexes of streams that the log does not have"),
    Right("time info config|get acl|whoami acl|dryrun", NO_KEYS, "leases; what the server is; what users may do"),
)

#: The rights of each kind of user.
KINDS = {
    "appender": APPENDER,
    "reader": READER,
    "runner": RUNNER,
    "operator": OPERATOR,
}

#: What an appender needs beside its own rights if it declares a durability.
DURABILITY = {
    "memory": (),
    "everysec": (Right("config|get", NO_KEYS, "whether the server syncs its file as declared"),),
    "always": (Right("config|get", NO_KEYS, "whether the server syncs its file as declared"),),
    "replicated": (Right("info wait", NO_KEYS, "how many replicas there are, and waiting for them"),),
}

#: What an appender needs beside its own rights on the stores of an adapter.
ADAPTERS = {
    "castlecraft": (
        Right("evalsha", "meta castlecraft:*", "snapshots and states of projections are replaced"),
        Right("get set unlink", "castlecraft:*", "snapshots, states of projections"),
    ),
    "eventsource": (
        Right("evalsha", f"{_READING} new recent:* ids", "appends whose ids must be new"),
        Right("hget hmget hset hsetnx unlink", "ids", "the index of ids"),
        Right("evalsha", "meta eventsource:*", "checkpoints and dead letters are replaced"),
        Right("hget hset hdel hscan", "eventsource:*", "checkpoints, dead letters"),
    ),
    "eventsourcing": (
        Right("evalsha", "meta eventsourcing:*", "snapshots are recorded; waiting processes are woken"),
        Right("zadd zrangebyscore zrevrangebyscore", "eventsourcing:*", "snapshots"),
        Right("xread xlen", "log", "subscriptions", READ),
        Right("publish subscribe", "eventsourcing:*", "waking, and being woken", CHANNEL),
    ),
    "messagebus": (),
}  # fmt: skip


def rules_of(rights: Sequence[Right], keys: Sequence[PartitionKeys]) -> list[str]:
    """The rules of an access list that give these rights on the partitions with these keys, and nothing else."""
    channels, commands, selectors = [], [], []
    for right in rights:
        words = [f"+{command}" for command in right.commands.split()]
        patterns = [f"{right.access}{pattern}" for pattern in _patterns(right.keys, keys)]
        if right.access == CHANNEL or not patterns:
            channels += patterns
            commands += words
        else:
            selectors.append(f"({' '.join((*words, *patterns))})")
    return list(dict.fromkeys(("resetchannels", *channels, "-@all", *commands, *selectors)))


def _patterns(kinds: str, keys: Sequence[PartitionKeys]) -> Iterator[str]:
    """The patterns of the keys of these kinds."""
    bookmarks = keys[0].bookmarks.removeprefix(f"{keys[0].tag}:")
    for kind in kinds.split():
        for tag in _tags(keys):
            yield f"{tag}:{bookmarks if kind == 'bookmarks' else kind}"


def _tags(keys: Sequence[PartitionKeys]) -> list[str]:
    """Patterns of the partitions' tags. Several partitions have one pattern, such as ``{es.[0-9].[a-z]}``.

    None has a ``*``, which would match the braces and dots of other stores' tags, too. What a class of digits or of
    letters stands for can only be a partition of this store, because the tag of a store ``es.1`` has a further dot.
    """
    first, *others = keys
    tags = [first.tag]
    for each in others:
        suffix = f".{'[a-z]' * len(each.suffix)}" if each.suffix else ""
        tags.append(f"{{{each.name}.{'[0-9]' * len(str(each.partition))}{suffix}}}")
    return list(dict.fromkeys(tags))
