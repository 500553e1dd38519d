"""Checks of the server: what it says about itself. A user may be allowed to see less; then the checks say so."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..effects import StoreOperation
from ..embedded.server import BINARY_VARIABLE, SHIPPED
from ..errors import StoreRefused
from ..log.durability import Durability, check_level
from ..log.server_info import config, info
from .check import BAD, GOOD, WARNING, Check, unseen

#: The oldest servers whose scripts know the ``#!lua`` line.
OLDEST_REDIS, OLDEST_VALKEY = (7, 0), (7, 2)

#: The version that a server built from the development branch reports.
UNSTABLE = "255.255.255"

_RELEASED = re.compile(r"(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?(\.\d+)*", re.ASCII)


def version() -> StoreOperation[Check]:
    """Whether the server is recent enough."""
    server = yield from info("server")
    if not server:
        return unseen("version", "INFO", "Make sure that it is Redis 7.0 or Valkey 7.2 or later.")
    return judge_version(server)


def judge_version(server: Mapping[str, str]) -> Check:
    """The check of the server's version, by what INFO says in its section `server`."""
    name, text = name_and_version(server)
    oldest = OLDEST_VALKEY if name == "Valkey" else OLDEST_REDIS
    if not text:
        advice = "Make sure that it is Redis 7.0 or Valkey 7.2 or later."
        return Check("version", WARNING, "the server does not tell its version", advice)
    needed = ".".join(map(str, oldest))
    released = _RELEASED.fullmatch(text)
    if released is None or text == UNSTABLE:
        advice = f"Make sure that it has all features of {name} {needed}."
        return Check("version", WARNING, f"{name} {text}, which is not the number of a release", advice)
    if (int(released[1]), int(released[2])) < oldest:
        return Check("version", BAD, f"{name} {text}", f"Use {name} {needed} or later.")
    return Check("version", GOOD, f"{name} {text}")


def name_and_version(server: Mapping[str, str]) -> tuple[str, str]:
    """What a server is, by what INFO says in its section `server`; no version if it does not tell."""
    if valkey := server.get("valkey_version"):
        return "Valkey", valkey
    return "Valkey" if server.get("server_name") == "valkey" else "Redis", server.get("redis_version", "")


def embedded_server() -> StoreOperation[Check]:
    """Which program an embedded store runs on, and whether it is older than the one that comes with the package."""
    server = yield from info("server")
    name, text = name_and_version(server)
    found = f"{name} {text}, {server.get('executable', 'at an unknown place')}"
    released, shipped = _RELEASED.fullmatch(text), ".".join(map(str, SHIPPED))
    numbers = tuple(int(part or 0) for part in released.groups()[:3]) if released else SHIPPED
    if name == "Valkey" and numbers < SHIPPED:
        advice = f"Install this package anew, and unset {BINARY_VARIABLE} if it names an older server."
        return Check("embedded server", WARNING, f"{found}: older than {shipped}, which this package knows", advice)
    return Check("embedded server", GOOD, found)


def role() -> StoreOperation[Check]:
    """Whether the server is a primary."""
    told = (yield from info("replication")).get("role")
    if told is None:
        return unseen("role", "INFO", "Make sure that the server is a primary: replicas cannot be written to.")
    if told != "master":
        return Check("role", BAD, f"the server is a {told}", "Connect to the primary: replicas cannot be written to.")
    return Check("role", GOOD, "primary")


def mode() -> StoreOperation[Check]:
    """Whether the server is a node of a cluster."""
    server = yield from info("server")
    told = server.get("redis_mode") or server.get("server_mode")
    if told is None:
        return unseen("mode", "INFO", "Make sure that the server is not in cluster mode.")
    if told == "cluster":
        advice = "Use a server with cluster-enabled no: Redis Cluster is not supported yet."
        return Check("mode", BAD, "the server is in cluster mode: other nodes have some of the keys", advice)
    return Check("mode", GOOD, told)


def durability(declared: Durability) -> StoreOperation[Check]:
    """What the server's settings give, and whether it is what the store was opened for."""
    name = "durability"
    try:
        yield from check_level(declared)
    except StoreRefused as refused:
        return Check(name, BAD, str(refused), refused.hint)
    try:
        settings = yield from config("appendonly", "appendfsync")
    except StoreRefused:
        settings = {}
    fsync = settings.get("appendfsync", "")
    if "appendonly" not in settings:
        return _file((yield from info("persistence")))
    if settings["appendonly"] != "yes":
        return Check(name, BAD, "the append-only file is off: a crash loses events", "Set appendonly yes.")
    if fsync == "no":
        return Check(
            name,
            WARNING,
            "appendfsync no: a power loss loses what the system has not written to the disk yet",
            "Set everysec or always.",
        )
    if fsync == "everysec":
        return Check(name, GOOD, "everysec: a killed server loses nothing, a power loss up to one second")
    return Check(name, GOOD, "always: every acknowledged event is on the disk")


def _file(persistence: Mapping[str, str]) -> Check:
    """The check of durability by what INFO says in its section `persistence`, where CONFIG is not allowed."""
    on = persistence.get("aof_enabled")
    if on == "0":
        return Check("durability", BAD, "the append-only file is off: a crash loses events", "Set appendonly yes.")
    if on == "1":
        advice = "Make sure that appendfsync is everysec or always."
        return unseen("durability", "CONFIG GET", advice, "the append-only file is on; when it is synced ")
    return unseen("durability", "CONFIG GET", "Make sure that appendonly is yes.")


def eviction() -> StoreOperation[Check]:
    """Whether the server may remove the log to make room."""
    name = "eviction"
    try:
        settings = yield from config("maxmemory-policy", "maxmemory")
    except StoreRefused:
        memory = yield from info("memory")
        settings = {key: memory[key.replace("-", "_")] for key in ("maxmemory-policy", "maxmemory") if memory}
    policy, limit = settings.get("maxmemory-policy", ""), settings.get("maxmemory", "")
    if not policy:
        return unseen(name, "CONFIG GET", "Make sure that maxmemory-policy is noeviction.")
    if policy == "noeviction":
        return Check(name, GOOD, "noeviction")
    if policy.startswith("volatile") or limit == "0":
        return Check(
            name, WARNING, f"{policy}, which cannot remove the log at present", "Set maxmemory-policy noeviction."
        )
    return Check(name, BAD, f"{policy}: the server may remove the whole log", "Set maxmemory-policy noeviction.")
