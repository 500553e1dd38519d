"""Is this server fit to hold an event log? Each check says what it found and what to do about it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median

from ..errors import StoreRefused
from ..sync.store import EventStore

GOOD, WARNING, BAD = "good", "warning", "bad"

#: The oldest servers whose scripts know the ``#!lua`` line.
OLDEST_REDIS, OLDEST_VALKEY = (7, 0), (7, 2)

#: What a server says that was built from the branch of development.
UNSTABLE = "255.255.255"

_RELEASED = re.compile(r"(\d{1,9})\.(\d{1,9})(\.\d+)*", re.ASCII)

#: A server clock further off than this makes times in the log misleading, in seconds.
CLOCK_TOLERANCE = 2.0

#: A round trip that takes longer than this makes single appends slow, in seconds.
SLOW_ROUND_TRIP = 0.005


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: ``verdict`` is good, warning or bad; ``advice`` is empty when there is nothing to do."""

    name: str
    verdict: str
    finding: str
    advice: str = ""


def examine(store: EventStore) -> list[Check]:
    """All checks, in a fixed order. Raises StoreTrouble when the server cannot be asked at all."""
    in_memory = store.driver.address.fake
    checks: list[Callable[[EventStore], Check]] = [_round_trip, _scripts, _clock, _ttl]
    if in_memory:
        told = Check("durability", WARNING, "memory: nothing outlives this process", "Use it for tests only.")
        return [told, *(check(store) for check in checks)]
    return [
        _version(store), _role(store), _durability(store), _eviction(store), *(check(store) for check in checks),
    ]  # fmt: skip


def alarms(store: EventStore) -> list[Check]:
    """What may take the log away at any moment: cheap enough to be asked with every heartbeat. Raises StoreTrouble."""
    checks = [_ttl(store)] if store.driver.address.fake else [_ttl(store), _eviction(store)]
    return [check for check in checks if check.verdict == BAD]


def _version(store: EventStore) -> Check:
    return judge_version(_info(store, "server"))


def judge_version(info: Mapping[str, str]) -> Check:
    """The check of the server's version, by what INFO says about the server."""
    valkey = info.get("valkey_version") or (info.get("server_name") == "valkey" and info.get("redis_version"))
    name, text, oldest = (
        ("Valkey", valkey, OLDEST_VALKEY) if valkey else ("Redis", info.get("redis_version"), OLDEST_REDIS)
    )
    if not text:
        return Check("version", WARNING, "the server does not say", "See that it is Redis 7.0 or Valkey 7.2 or later.")
    needed = ".".join(map(str, oldest))
    released = _RELEASED.fullmatch(text)
    if released is None or text == UNSTABLE:
        advice = f"See that it has what {name} {needed} has."
        return Check("version", WARNING, f"{name} {text}, which could not be read as a release", advice)
    if (int(released[1]), int(released[2])) < oldest:
        return Check("version", BAD, f"{name} {text}", f"Use {name} {needed} or later.")
    return Check("version", GOOD, f"{name} {text}")


def _role(store: EventStore) -> Check:
    role = _info(store, "replication").get("role", "unknown")
    if role != "master":
        return Check("role", BAD, f"the server is a {role}", "Connect to the primary: replicas cannot be written to.")
    return Check("role", GOOD, "primary")


def _durability(store: EventStore) -> Check:
    name = "durability"
    try:
        append_only = _config(store, "appendonly")
        fsync = _config(store, "appendfsync")
    except StoreRefused:
        aof = _info(store, "persistence").get("aof_enabled")
        if aof == "0":
            return Check(name, BAD, "the append-only file is off", "Set appendonly yes.")
        return Check(name, WARNING, "CONFIG is not allowed, so it could not be checked", "See that appendonly is yes.")
    if append_only != "yes":
        return Check(name, BAD, "the append-only file is off: a crash loses events", "Set appendonly yes.")
    if fsync == "no":
        return Check(
            name,
            WARNING,
            "appendfsync no: a power loss costs what the system had not written",
            "Set everysec or always.",
        )
    if fsync == "everysec":
        return Check(name, GOOD, "everysec: a killed server loses nothing, a power loss up to one second")
    return Check(name, GOOD, "always: acknowledged is on the disk")


def _eviction(store: EventStore) -> Check:
    name = "eviction"
    try:
        policy, limit = _config(store, "maxmemory-policy"), _config(store, "maxmemory")
    except StoreRefused:
        return Check(
            name,
            WARNING,
            "CONFIG is not allowed, so it could not be checked",
            "See that maxmemory-policy is noeviction.",
        )
    if policy == "noeviction":
        return Check(name, GOOD, "noeviction")
    if policy.startswith("volatile") or limit == "0":
        return Check(
            name, WARNING, f"{policy}, which does not reach the log as things are", "Set maxmemory-policy noeviction."
        )
    return Check(name, BAD, f"{policy}: the server may remove the log whole", "Set maxmemory-policy noeviction.")


def _ttl(store: EventStore) -> Check:
    keys = [key for partition in store.info.keys for key in (partition.log, partition.meta)]
    left = store.driver.execute([("TTL", key) for key in keys])
    for key, seconds in zip(keys, left, strict=True):
        if seconds >= 0:
            return Check("expiry", BAD, f"{key} expires in {seconds} s, and the log with it", f"Run PERSIST {key} now.")
    return Check("expiry", GOOD, "no key of the log expires")


def _scripts(store: EventStore) -> Check:
    source = "return 1" if store.driver.address.fake else "#!lua\nreturn 1"
    try:
        store.driver.execute([("EVAL", source, 0)])
    except StoreRefused as refused:
        if refused.code == "OOM":
            return Check("memory", BAD, "the server is at its maxmemory", "Raise it, or make room.")
        return Check("scripts", BAD, f"Lua scripts do not run: {refused}", "Allow EVAL, EVALSHA and SCRIPT LOAD.")
    return Check("scripts", GOOD, "Lua scripts run")


def _clock(store: EventStore) -> Check:
    before = time.time()
    [(seconds, micros)] = store.driver.execute([("TIME",)])
    off = int(seconds) + int(micros) / 1e6 - (before + time.time()) / 2
    if abs(off) > CLOCK_TOLERANCE:
        return Check(
            "clock", WARNING, f"the server's clock is {off:+.1f} s off this machine's", "Synchronise the clocks."
        )
    return Check("clock", GOOD, f"{abs(off) * 1000:.0f} ms between the server's clock and this machine's")


def _round_trip(store: EventStore) -> Check:
    took = []
    for _ in range(20):
        start = time.perf_counter()
        store.driver.execute([("TIME",)])
        took.append(time.perf_counter() - start)
    typical = median(took)
    finding = f"{typical * 1000:.2f} ms"
    if typical > SLOW_ROUND_TRIP:
        return Check("round trip", WARNING, finding, "Run close to the server, or append in batches.")
    return Check("round trip", GOOD, finding)


def _info(store: EventStore, section: str) -> dict[str, str]:
    try:
        [text] = store.driver.execute([("INFO", section)])
    except StoreRefused:
        return {}
    return dict(_pairs(text.decode()))


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, separator, value = line.partition(":")
        if separator:
            yield name, value


def _config(store: EventStore, name: str) -> str:
    [flat] = store.driver.execute([("CONFIG", "GET", name)])
    return flat[1].decode() if flat else ""
