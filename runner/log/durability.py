"""Durability: what an acknowledged append survives, what a server needs for each level, and how a level is confirmed.

Each level includes the levels before it: memory < everysec < always < replicated(k).

*everysec* and *always* follow from the server's settings. These are compared with the declared level when a store is
opened, before anything is written, and are relied upon from then on; a runner compares them again with every heartbeat,
and raises an alarm. *replicated(k)* is confirmed append by append: a
WAIT follows the script, on the same connection and in the same round trip. Too few replicas in time are `NotConfirmed`.

WAIT waits for the last write of its own connection. A repetition that is recognised writes nothing. After it, on a
connection that never wrote, Valkey 9.1 counts replicas that have received nothing (Redis 7.0 does not). So where an
append wrote nothing, a mark is written, and WAIT follows the mark. Replicas receive writes in order, so a replica that
has the mark has everything before it.

WAIT is sent before the script's answer is known. So while replicas lag, even a refusal may take the whole time.

WAITAOF would be the same for the disk. It is not used: on Valkey 8.1 and 9.1 it answers before the fsync.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from typing import Any, Literal

from ..effects import Command, Execute, StoreOperation
from ..errors import InvalidInput, StoreRefused
from ..format.keys import PartitionKeys
from ..settings import Settings
from .info import StoreInfo, open_store
from .server_info import config, fields, info

#: How long an append waits for its replicas by default, in seconds. A replica that keeps up takes milliseconds.
DEFAULT_WITHIN = 1.0

#: After how many seconds the server removes the mark.
MARK_SECONDS = 60

#: The levels that follow from a server's settings, the weakest first.
LOCAL_LEVELS = ("memory", "everysec", "always")

_NEEDS = {
    "everysec": "appendonly yes and appendfsync everysec or always",
    "always": "appendonly yes and appendfsync always",
}

#: Error codes that blame the user or password. Every other code means that the command is not allowed or not known.
_WRONG_USER = frozenset({"NOAUTH", "WRONGPASS"})


@dataclass(frozen=True, slots=True)
class Replicated:
    """The level at which ``replicas`` replicas have received an append; it waits ``within`` seconds for them."""

    replicas: int
    within: float = DEFAULT_WITHIN

    def __post_init__(self) -> None:
        if not isinstance(self.replicas, int) or isinstance(self.replicas, bool) or self.replicas < 1:
            raise InvalidInput(f"Replicated needs a number of replicas from 1, not {self.replicas!r}")
        within = self.within
        if not isinstance(within, (int, float)) or isinstance(within, bool) or not (isfinite(within) and within > 0):
            raise InvalidInput(f"Replicated needs seconds above 0 to wait within, not {within!r}")

    def __str__(self) -> str:
        return f"replicated({self.replicas})"


#: The level that a store is opened with; with None nothing is checked and nothing is promised.
Durability = Literal["memory", "everysec", "always"] | Replicated | None


# -- when a store is opened ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opening:
    """How a store is opened. ``place`` is the server, for people; ``create``: make a store that is not there."""

    name: str
    partitions: int | None
    durability: Durability
    settings: Settings
    create: bool
    place: str
    in_memory: bool


def open_durable(opening: Opening) -> StoreOperation[StoreInfo]:
    """Check that the server gives the declared level, then open the store.

    Raises InvalidInput if no server could give the level, and StoreRefused if a person has to change the server.
    """
    _check_argument(opening.durability, opening.settings, opening.in_memory)
    yield from check_level(opening.durability)
    return (yield from open_store(opening.name, opening.partitions, create=opening.create, place=opening.place))


def check_level(level: Durability) -> StoreOperation[None]:
    """Check that the server gives a level now. Raises StoreRefused if a person has to change the server."""
    if isinstance(level, Replicated):
        yield from _check_replicas(level)
    elif level is not None and level != "memory":
        yield from _check_file(level)


def _check_argument(level: Durability, settings: Settings, in_memory: bool) -> None:
    if level is not None and not isinstance(level, Replicated) and level not in LOCAL_LEVELS:
        raise InvalidInput(f"durability must be None, 'memory', 'everysec', 'always' or Replicated(k), not {level!r}")
    if in_memory and level not in (None, "memory"):
        raise InvalidInput(
            f"durability {level} is not possible in a memory: store, which ends with its process",
            hint="Use a server, for example embedded:, or declare durability='memory'.",
        )
    if isinstance(level, Replicated) and level.within >= settings.socket_timeout:
        raise InvalidInput(
            f"durability {level} waits {level.within} s, but socket_timeout gives up after {settings.socket_timeout} s",
            hint="Make `within` shorter, or the setting socket_timeout longer.",
        )


def _check_file(level: str) -> StoreOperation[None]:
    """Check that the server has an append-only file, and syncs it as the level needs."""
    try:
        settings = yield from config("appendonly", "appendfsync", "no-appendfsync-on-rewrite")
    except StoreRefused as refused:
        if refused.code in _WRONG_USER:
            raise
        persistence = yield from info("persistence")
        if persistence.get("aof_enabled") != "0":
            known = "the append-only file is on, but " if "aof_enabled" in persistence else ""
            raise _not_answered(level, "config|get", f"{known}CONFIG GET is not allowed to this user") from None
        given, found = "memory", "appendonly no"
    else:
        given, found = _file_level(settings)
    if LOCAL_LEVELS.index(given) < LOCAL_LEVELS.index(level):
        raise _refusal(
            f"durability {level} needs {_NEEDS[level]}, but the server has {found}",
            f"Change the server's configuration, or declare durability={given!r}.",
        )


def _file_level(settings: dict[str, str]) -> tuple[str, str]:
    """The level that a server's settings give, and the setting that prevents a higher one."""
    if settings.get("appendonly") != "yes":
        return "memory", "appendonly no"
    if settings.get("no-appendfsync-on-rewrite") == "yes":
        return "memory", "no-appendfsync-on-rewrite yes, so that nothing is synced while the file is rewritten"
    fsync = settings.get("appendfsync", "no")
    return (fsync if fsync in LOCAL_LEVELS else "memory"), f"appendfsync {fsync}"


def _check_replicas(level: Replicated) -> StoreOperation[None]:
    """Check the server's role, the number of its replicas, and the user's right to WAIT."""
    may_wait = True
    try:
        [text, _] = yield Execute([("INFO", "replication"), ("WAIT", 0, 1)])
    except StoreRefused as refused:
        if refused.code in _WRONG_USER:
            raise
        may_wait = False
        replication = yield from info("replication")
    else:
        replication = fields(text)
    if not replication:
        raise _not_answered(level, "info", "INFO is not allowed to this user")
    if replication.get("role") != "master":
        raise _refusal(f"durability {level} needs a primary, but the server is a replica", "Connect to its primary.")
    if not may_wait:
        raise _not_answered(level, "wait", "WAIT is not allowed to this user")
    online = sum("state=online" in value for name, value in replication.items() if re.fullmatch(r"slave\d+", name))
    if online < level.replicas:
        raise _refusal(
            f"durability {level} needs {level.replicas} connected replicas, but the server has {online}",
            "Connect more replicas, or wait until they have loaded; or declare fewer.",
            code="NOREPLICAS",
        )


def _refusal(message: str, hint: str, *, code: str = "DURABILITY") -> StoreRefused:
    return StoreRefused(message, code=code, hint=hint)


def _not_answered(level: object, right: str, found: str) -> StoreRefused:
    return _refusal(
        f"durability {level} cannot be checked: {found}",
        f"Allow the command with ACL SETUSER … +{right}, or declare no durability.",
    )


# -- when something is appended -----------------------------------------------------------------


def acknowledgement(level: Durability) -> list[Command]:
    """The commands that follow an append script in the same round trip."""
    return [("WAIT", level.replicas, ceil(level.within * 1000))] if isinstance(level, Replicated) else []


def marked(level: Durability, keys: PartitionKeys) -> list[Command]:
    """The commands that follow an append script that may write nothing: a mark, and the WAIT for it.

    Empty for levels that need no confirmation by replicas.
    """
    if not isinstance(level, Replicated):
        return []
    return [("SET", keys.run("mark"), "", "EX", MARK_SECONDS), *acknowledgement(level)]


def shortfall(level: Durability, acknowledged: Sequence[Any]) -> tuple[int, int] | None:
    """How many replicas were wanted and how many confirmed, if too few did; else None."""
    if not isinstance(level, Replicated):
        return None
    confirmed = acknowledged[-1]
    return (level.replicas, confirmed) if confirmed < level.replicas else None
