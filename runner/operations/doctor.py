"""The doctor: is a server fit to hold an event log? Each check says what it found and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from ..effects import DriverOperation, Execute, StoreOperation
from ..errors import NOT_ALLOWED, StoreRefused
from ..format.scripts import load
from .check import BAD, GOOD, WARNING, Check, unseen
from .check_memory import memory
from .check_records import records
from .check_server import durability, embedded_server, eviction, mode, role, version
from .check_users import users
from .face import StoreContext, for_either_store

#: A server clock further off than this makes times in the log misleading, in seconds.
CLOCK_TOLERANCE = 2.0

#: A round trip that takes longer than this makes single appends slow, in seconds.
SLOW_ROUND_TRIP = 0.005

#: Round trips that are measured; the median counts.
ROUND_TRIPS = 20


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
    """Examine the server: version, role, cluster mode, durability, eviction, round-trip time, scripts, clock, expiry,
    memory, and what its users may do; and the code and the views.

    A store in memory gets only the checks that need no server, and a warning that nothing outlives the process. What
    the user may not see is a warning that says so. Writes nothing. Raises StoreTrouble if the server does not answer.
    """
    checks = list((yield from _fitness(store)).checks)
    if not store.in_memory:
        checks.append((yield from users(store.info, store.embedded)))
    if store.embedded:
        checks.append((yield from embedded_server()))
    return Diagnosis((*checks, *(yield from records(store.info))))


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
            (yield from version()), (yield from role()), (yield from mode()),
            (yield from durability(store.durability)), (yield from eviction()),
            (yield from _if_allowed("memory", "reading the log", memory(store.info))),
        ]  # fmt: skip
    checks += [
        (yield from _if_allowed("round trip", "TIME", _round_trip(store))), (yield from _scripts(store)),
        (yield from _if_allowed("clock", "TIME", _clock(store))),
        (yield from _if_allowed("expiry", "TTL", _ttl(store))),
    ]  # fmt: skip
    return Diagnosis(tuple(checks))


def _if_allowed(name: str, command: str, check: StoreOperation[Check]) -> StoreOperation[Check]:
    """A check; where its command is not allowed, one that says so."""
    try:
        return (yield from check)
    except StoreRefused as refused:
        if refused.code not in NOT_ALLOWED:
            raise
        return unseen(name, command)


@for_either_store
def alarms(store: StoreContext) -> DriverOperation[list[Check]]:
    """What may lose events at any moment: `BAD` checks only, and cheap enough to be run with every heartbeat.

    Raises StoreTrouble if the server does not answer.
    """
    checks = [(yield from _if_allowed("expiry", "TTL", _ttl(store)))]
    if not store.in_memory:
        checks += [(yield from eviction()), (yield from durability(store.durability))]
    return [check for check in checks if check.verdict == BAD]


def _ttl(store: StoreContext) -> StoreOperation[Check]:
    keys = [key for partition in store.info.keys for key in (partition.log, partition.meta)]
    left = yield Execute([("TTL", key) for key in keys])
    for key, seconds in zip(keys, left, strict=True):
        if seconds >= 0:
            return Check("expiry", BAD, f"{key} expires in {seconds} s, and the log with it", f"Run PERSIST {key} now.")
    return Check("expiry", GOOD, "no key of the log expires")


def _scripts(store: StoreContext) -> StoreOperation[Check]:
    """Whether scripts run for this user: one that reads the log."""
    try:
        yield Execute([load("log/last_id").call([store.info.keys[0].log])])
    except StoreRefused as refused:
        return Check("scripts", BAD, f"Lua scripts do not run: {refused}", refused.hint or "Allow EVALSHA.")
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
