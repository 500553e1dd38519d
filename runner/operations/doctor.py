"""The doctor: is a server fit to hold an event log? Each check says what it found and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from ..effects import DriverOperation, Execute, StoreOperation
from ..errors import StoreRefused
from ..log.durability import Durability, check_level
from ..log.server_info import config, info
from ..progress.builds import changed_by_hand, mixed_rows
from ..progress.status import ProjectionStatus, projection_names, status
from .face import StoreContext, for_either_store

GOOD, WARNING, BAD = "good", "warning", "bad"

#: The oldest servers whose scripts know the ``#!lua`` line.
OLDEST_REDIS, OLDEST_VALKEY = (7, 0), (7, 2)

#: The version that a server built from the development branch reports.
UNSTABLE = "255.255.255"

_RELEASED = re.compile(r"(\d{1,9})\.(\d{1,9})(\.\d+)*", re.ASCII)

#: A server clock further off than this makes times in the log misleading, in seconds.
CLOCK_TOLERANCE = 2.0

#: A round trip that takes longer than this makes single appends slow, in seconds.
SLOW_ROUND_TRIP = 0.005

#: Round trips that are measured; the median counts.
ROUND_TRIPS = 20


@dataclass(frozen=True, slots=True)
class Check:
    """One finding about the server."""

    name: str
    #: `GOOD`, `WARNING` or `BAD`: "good", "warning" or "bad".
    verdict: str
    finding: str
    #: What to do; empty when there is nothing to do.
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the doctor found: all checks, in a fixed order."""

    checks: tuple[Check, ...]

    @property
    def bad(self) -> tuple[Check, ...]:
        """The checks with the verdict `BAD`: each is a reason not to run on this server."""
        return tuple(check for check in self.checks if check.verdict == BAD)

    @property
    def fit(self) -> bool:
        """Whether nothing bad was found; warnings do not count."""
        return not self.bad


@for_either_store
def doctor(store: StoreContext) -> DriverOperation[Diagnosis]:
    """Examine the server: version, role, durability, eviction, round-trip time, scripts, clock, expiry; and the code
    and the views.

    A store in memory gets only the last six checks, and a warning that nothing outlives the process. Writes nothing.
    Raises StoreTrouble if the server does not answer.
    """
    found = yield from _fitness(store)
    return Diagnosis((*found.checks, (yield from _code(store)), (yield from _views(store))))


@for_either_store
def fitness(store: StoreContext) -> DriverOperation[Diagnosis]:
    """The checks of `doctor` that can be bad: may a runner begin here? Raises StoreTrouble."""
    return (yield from _fitness(store))


def _fitness(store: StoreContext) -> StoreOperation[Diagnosis]:
    checks: list[Check] = []
    if store.in_memory:
        checks.append(Check("durability", WARNING, "memory: nothing outlives this process", "Use it for tests only."))
    else:
        checks += [
            (yield from _version()), (yield from _role()), (yield from _durability(store.durability)),
            (yield from _eviction()),
        ]  # fmt: skip
    for check_of_store in (_round_trip, _scripts, _clock, _ttl):
        checks.append((yield from check_of_store(store)))
    return Diagnosis(tuple(checks))


@for_either_store
def alarms(store: StoreContext) -> DriverOperation[list[Check]]:
    """What may lose events at any moment: `BAD` checks only, and cheap enough to be run with every heartbeat.

    Raises StoreTrouble if the server does not answer.
    """
    checks = [(yield from _ttl(store))]
    if not store.in_memory:
        checks += [(yield from _eviction()), (yield from _durability(store.durability))]
    return [check for check in checks if check.verdict == BAD]


def _version() -> StoreOperation[Check]:
    return judge_version((yield from info("server")))


def judge_version(server: Mapping[str, str]) -> Check:
    """The check of the server's version, by what INFO says in its section `server`."""
    valkey = server.get("valkey_version") or (server.get("server_name") == "valkey" and server.get("redis_version"))
    name, text, oldest = (
        ("Valkey", valkey, OLDEST_VALKEY) if valkey else ("Redis", server.get("redis_version"), OLDEST_REDIS)
    )
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


def _role() -> StoreOperation[Check]:
    role = (yield from info("replication")).get("role", "unknown")
    if role != "master":
        return Check("role", BAD, f"the server is a {role}", "Connect to the primary: replicas cannot be written to.")
    return Check("role", GOOD, "primary")


def _durability(declared: Durability) -> StoreOperation[Check]:
    """What the server's settings give, and whether it is what the store was opened for."""
    name = "durability"
    try:
        yield from check_level(declared)
    except StoreRefused as refused:
        return Check(name, BAD, str(refused), refused.hint)
    try:
        settings = yield from config("appendonly", "appendfsync")
    except StoreRefused:
        if (yield from info("persistence")).get("aof_enabled") == "0":
            return Check(name, BAD, "the append-only file is off", "Set appendonly yes.")
        return Check(
            name, WARNING, "CONFIG is not allowed, so it cannot be checked", "Make sure that appendonly is yes."
        )
    fsync = settings.get("appendfsync", "")
    if settings.get("appendonly") != "yes":
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


def _eviction() -> StoreOperation[Check]:
    name = "eviction"
    try:
        settings = yield from config("maxmemory-policy", "maxmemory")
    except StoreRefused:
        return Check(
            name,
            WARNING,
            "CONFIG is not allowed, so it cannot be checked",
            "Make sure that maxmemory-policy is noeviction.",
        )
    policy, limit = settings.get("maxmemory-policy", ""), settings.get("maxmemory", "")
    if policy == "noeviction":
        return Check(name, GOOD, "noeviction")
    if policy.startswith("volatile") or limit == "0":
        return Check(
            name, WARNING, f"{policy}, which cannot remove the log at present", "Set maxmemory-policy noeviction."
        )
    return Check(name, BAD, f"{policy}: the server may remove the whole log", "Set maxmemory-policy noeviction.")


def _ttl(store: StoreContext) -> StoreOperation[Check]:
    keys = [key for partition in store.info.keys for key in (partition.log, partition.meta)]
    left = yield Execute([("TTL", key) for key in keys])
    for key, seconds in zip(keys, left, strict=True):
        if seconds >= 0:
            return Check("expiry", BAD, f"{key} expires in {seconds} s, and the log with it", f"Run PERSIST {key} now.")
    return Check("expiry", GOOD, "no key of the log expires")


def _code(store: StoreContext) -> StoreOperation[Check]:
    """Whether code was changed without its build."""
    found = [
        mixed_rows(one.name, one.build, one.mixed)
        for one in (yield from _builds_in_use(store))
        if one.mixed is not None
    ]
    if not found:
        return Check("code", GOOD, "each build was made by one version of its code")
    return Check("code", WARNING, "; ".join(dict.fromkeys(text for text, _ in found)), found[0][1])


def _views(store: StoreContext) -> StoreOperation[Check]:
    """Whether rows were written or deleted by hand."""
    found = [
        changed_by_hand(one.name, one.build, one.rows, one.rows_committed)
        for one in (yield from _builds_in_use(store))
        if one.rows_committed is not None
    ]
    if not found:
        return Check("views", GOOD, "each view has as many rows as its commits have left there")
    return Check("views", WARNING, "; ".join(dict.fromkeys(text for text, _ in found)), found[0][1])


def _builds_in_use(store: StoreContext) -> StoreOperation[list[ProjectionStatus]]:
    """The live builds and the candidates of all projections."""
    found: list[ProjectionStatus] = []
    for keys in store.info.keys:
        for name in (yield from projection_names(keys)):
            found += yield from status(keys, name)
    return [one for one in found if one.role != "previous"]


def _scripts(store: StoreContext) -> StoreOperation[Check]:
    source = "return 1" if store.in_memory else "#!lua\nreturn 1"
    try:
        yield Execute([("EVAL", source, 0)])
    except StoreRefused as refused:
        if refused.code == "OOM":
            return Check("memory", BAD, "the server has reached its maxmemory", "Raise maxmemory, or make room.")
        return Check("scripts", BAD, f"Lua scripts do not run: {refused}", "Allow EVAL, EVALSHA and SCRIPT LOAD.")
    return Check("scripts", GOOD, "Lua scripts run")


def _clock(store: StoreContext) -> StoreOperation[Check]:
    before = store.clock.now()
    [(seconds, micros)] = yield Execute([("TIME",)])
    off = int(seconds) + int(micros) / 1e6 - (before + store.clock.now()) / 2e6
    if abs(off) > CLOCK_TOLERANCE:
        return Check(
            "clock", WARNING, f"the server's clock is {off:+.1f} s off this machine's", "Synchronise the clocks."
        )
    return Check("clock", GOOD, f"{abs(off) * 1000:.0f} ms between the server's clock and this machine's")


def _round_trip(store: StoreContext) -> StoreOperation[Check]:
    took = []
    for _ in range(ROUND_TRIPS):
        start = store.clock.monotonic()
        yield Execute([("TIME",)])
        took.append(store.clock.monotonic() - start)
    typical = median(took)
    finding = f"{typical * 1000:.2f} ms"
    if typical > SLOW_ROUND_TRIP:
        return Check("round trip", WARNING, finding, "Run close to the server, or append in batches.")
    return Check("round trip", GOOD, finding)
