"""The soak: writers, runner processes and faults, all at once and at random, and the checker at the end.

``python -m tests.faults --seconds 60 --seed 7 --writers 4 --runners 2``

A server of its own stands behind the proxy. Writers append in every way there is and repeat what got no answer;
runners keep the views of `plugin`; one fault follows another. Which faults come, in which order, with what in them
and how long after one another, is decided by the seed alone; when exactly they hit is up to the machine.

Then the faults end, everything may settle, and the history must be sound: exit code 0, or 1 with what is wrong.

A request is never held back for longer than the window in which unversioned appends are recognised (10,000
positions), which is what is promised; at the pace of this soak that takes several seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

from accounts import closed, deposited, noted, withdrew
from history import Acknowledged, Finding, Writer, check
from plugin import VIEWS
from proxy import A_SCRIPT, Held, Proxy
from wirelab import checkpoint_of, runner_process

from runner import ANY, STREAM_EXISTS, AppendResult, EventStore, NewEvent, Settings, WrongExpectedVersion
from runner.embedded import Server
from runner.errors import StoreUnavailable
from runner.log.append_plan import Append
from runner.operations import verify

#: Writers lose patience soon, so that much is repeated.
SETTINGS = Settings(block=0.2, socket_timeout=0.5, retry_for=0.5)

#: Those who control the soak are never in a hurry.
PATIENT = replace(SETTINGS, socket_timeout=5.0, retry_for=20.0)

#: How many accounts the writers share: few enough for conflicts.
ACCOUNTS = 12

#: How long everything may take to settle when the faults are over, in seconds. A lease lasts 10 s, a silent
#: connection of a runner is given up after 6 s.
SETTLING = 60.0

#: With which exit codes a runner may end that is told to stop: it was at work, its projections were taken over by
#: another, its last request got no answer, it was told before, or it was only starting.
SOUND_ENDS = (0, 1, 3, 130, -signal.SIGTERM)

#: How long a runner that ended waits before it is started again, in seconds: two that take over from one another
#: must both have time to work.
RESTART_AFTER = 1.0

#: Longer than any lease that a runner may have on its work, in seconds.
PAST_ITS_LEASE = 12.0

#: How long a request is held back at most, in seconds; see the head of this module.
LONGEST_HOLD = 1.0


class World:
    """The server, the proxy before it, the record of the writers, and the runners."""

    def __init__(self, directory: Path, runners: int) -> None:
        self.directory = directory
        with ExitStack() as stack:
            self.direct = stack.enter_context(EventStore.open(f"embedded:{directory}/server", settings=PATIENT))
            self.proxy = stack.enter_context(Proxy(self.server.socket, directory))
            self.runners = [RunnerSlot(self, number) for number in range(runners)]
            self._stack = stack.pop_all()
        self.record = Acknowledged()
        self.held: list[Held] = []

    @property
    def server(self) -> Server:
        server = self.direct.driver.address.server
        assert server is not None
        return server

    def server_signal(self, number: int) -> None:
        pid = self.server.pid
        if pid is not None:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass  # it is being started

    def close(self) -> None:
        self.server_signal(signal.SIGCONT)
        for runner in self.runners:
            runner.kill()
        self._stack.close()


class RunnerSlot:
    """One ``runner run``, started again whenever it has ended."""

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        self.log = world.directory / f"runner-{number}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._ended: float | None = None
        self.starts = 0

    def start(self) -> None:
        with open(self.log, "ab") as log:
            self._process = runner_process(self._world.proxy.url, self._world.direct.info.name, log=log)
        self.starts += 1
        self._ended = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def look(self, now: float) -> None:
        """Start it again, some time after it has ended."""
        if self.running:
            return
        if self._ended is None:
            self._ended = now
        if self.starts == 0 or now - self._ended >= RESTART_AFTER:
            self.start()

    def signal(self, number: int) -> None:
        if self.running and self._process is not None:
            self._process.send_signal(number)

    def tell_to_stop(self) -> None:
        """As an operator does."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)

    def stop(self) -> int | None:
        """Wait until it has ended; its exit code, None where it had to be killed."""
        assert self._process is not None
        try:
            return self._process.wait(15)
        except subprocess.TimeoutExpired:
            return None
        finally:
            self.kill()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def last_error(self) -> str:
        """What it said when it ended with an error."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return next((line for line in reversed(lines) if line.startswith("Error: the runner failed")), "")

    def said(self) -> Iterator[dict[str, object]]:
        """Its log lines, over all its lives."""
        if self.log.exists():
            for line in self.log.read_text(errors="replace").splitlines():
                if line.startswith("{"):
                    try:
                        yield json.loads(line)
                    except ValueError:
                        pass  # it was killed while it wrote


# -- faults -------------------------------------------------------------------------------------

#: A fault: hits the world; what it needs to know was drawn from the seed before.
Act = Callable[[World], object]


@dataclass(frozen=True)
class Fault:
    """What happens, and how long it is until the next, in seconds."""

    name: str
    act: Act
    pause: float


def plan(seed: int, runners: int) -> Iterator[Fault]:
    """All faults of a seed, one after the other, for ever."""
    dice = random.Random(seed)
    names = list(KINDS)
    weights = [weight for weight, _ in KINDS.values()]
    while True:
        [name] = dice.choices(names, weights)
        _, draw = KINDS[name]
        act = draw(dice, runners)
        yield Fault(name, act, dice.uniform(0.02, 0.3))


def _match(dice: random.Random) -> bytes:
    """Which request a fault of the proxy hits: any, a script, a page, the feed's blocked read."""
    return dice.choice((b"", A_SCRIPT, A_SCRIPT, b"XRANGE", b"XREAD"))


def _lose_reply(dice: random.Random, runners: int) -> Act:
    match, times = _match(dice), dice.randint(1, 4)
    return lambda world: [world.proxy.lose_reply(match) for _ in range(times)]


def _swallow_reply(dice: random.Random, runners: int) -> Act:
    match = _match(dice)
    return lambda world: world.proxy.swallow_reply(match)


def _cut_reply(dice: random.Random, runners: int) -> Act:
    match, after = _match(dice), dice.choice((None, 0, 1, 2, 10, 100))
    return lambda world: world.proxy.cut_reply(match, after=after)


def _cut_request(dice: random.Random, runners: int) -> Act:
    match, after = _match(dice), dice.choice((None, 0, 1, 20, 100, -1))
    return lambda world: world.proxy.cut_request(match, after=after)


def _hold(dice: random.Random, runners: int) -> Act:
    seconds = dice.uniform(0.1, LONGEST_HOLD)

    def act(world: World) -> None:
        held = world.proxy.hold()
        world.held.append(held)
        timer = threading.Timer(seconds, held.release)
        timer.daemon = True
        timer.start()

    return act


def _blackhole(dice: random.Random, runners: int) -> Act:
    seconds = dice.uniform(0.0, 0.5)

    def act(world: World) -> None:
        with world.proxy.blackhole():
            time.sleep(seconds)

    return act


def _slow(dice: random.Random, runners: int) -> Act:
    size, seconds = dice.choice((1, 7, 100)), dice.uniform(0.1, 0.6)

    def act(world: World) -> None:
        with world.proxy.slow(size):
            time.sleep(seconds)

    return act


def _delay(dice: random.Random, runners: int) -> Act:
    late, seconds = dice.uniform(0.01, 0.6), dice.uniform(0.1, 0.6)

    def act(world: World) -> None:
        with world.proxy.delayed(late):
            time.sleep(seconds)

    return act


def _away(dice: random.Random, runners: int) -> Act:
    seconds = dice.uniform(0.0, 0.7)

    def act(world: World) -> None:
        with world.proxy.away():
            time.sleep(seconds)

    return act


def _freeze_server(dice: random.Random, runners: int) -> Act:
    seconds = dice.uniform(0.1, 1.5)

    def act(world: World) -> None:
        world.server_signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            world.server_signal(signal.SIGCONT)

    return act


def _kill_server(dice: random.Random, runners: int) -> Act:
    seconds = dice.uniform(0.0, 0.5)

    def act(world: World) -> None:
        world.server_signal(signal.SIGKILL)
        time.sleep(seconds)
        world.server.ensure_running()

    return act


def _signal_runner(number: int) -> Callable[[random.Random, int], Act]:
    def draw(dice: random.Random, runners: int) -> Act:
        chosen = dice.randrange(runners)
        return lambda world: world.runners[chosen].signal(number)

    return draw


def _freeze_runner(dice: random.Random, runners: int) -> Act:
    chosen, seconds = dice.randrange(runners), dice.choice((0.2, 0.5, 1.0, 3.0, PAST_ITS_LEASE))

    def act(world: World) -> None:
        runner = world.runners[chosen]
        runner.signal(signal.SIGSTOP)
        timer = threading.Timer(seconds, runner.signal, (signal.SIGCONT,))
        timer.daemon = True
        timer.start()

    return act


def _always(act: Act) -> Callable[[random.Random, int], Act]:
    return lambda dice, runners: act


def _command(*words: str) -> Callable[[random.Random, int], Act]:
    return _always(lambda world: world.direct.driver.execute([words]))


#: Every fault: how often it comes, compared with the others, and how it is drawn.
KINDS: dict[str, tuple[int, Callable[[random.Random, int], Act]]] = {
    "reply lost": (12, _lose_reply),
    "reply swallowed": (6, _swallow_reply),
    "reply cut": (8, _cut_reply),
    "request cut": (8, _cut_request),
    "request held": (6, _hold),
    "blackhole": (2, _blackhole),
    "connections reset": (6, _always(lambda world: world.proxy.reset())),
    "CLIENT KILL": (4, _command("CLIENT", "KILL", "TYPE", "normal")),
    "SCRIPT FLUSH": (6, _command("SCRIPT", "FLUSH")),
    "slow link": (3, _slow),
    "replies late": (2, _delay),
    "nobody connects": (2, _away),
    "server frozen": (2, _freeze_server),
    "server killed": (2, _kill_server),
    "runner killed": (4, _signal_runner(signal.SIGKILL)),
    "runner told to stop": (2, _signal_runner(signal.SIGTERM)),
    "runner frozen": (3, _freeze_runner),
}


# -- writers ------------------------------------------------------------------------------------


class SoakWriter:
    """Appends at random until it is told to stop, and then until it knows what became of its last append."""

    def __init__(
        self, world: World, seed: int, number: int, stopping: threading.Event, given_up: threading.Event
    ) -> None:
        self._world = world
        self._dice = random.Random(f"{seed} {number}")
        self._stopping = stopping
        self._given_up = given_up
        self.conflicts = 0
        #: What it was told and should not have been.
        self.trouble: list[str] = []
        self.thread = threading.Thread(target=self._run, name=f"writer-{number}", daemon=True)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with EventStore.open(self._world.proxy.url, settings=SETTINGS) as store:
                    self._write(store)
            except StoreUnavailable:
                pass  # it could not be opened, or a version not be read: once more
            except Exception as fault:
                self.trouble.append(f"{type(fault).__name__}: {fault}")
                return

    def _write(self, store: EventStore) -> None:
        writer = Writer(store, self._world.record, patience=3600.0, stopping=self._given_up.is_set)
        ways = (self._versioned, self._unversioned, self._several, self._one_by_one)
        while not self._stopping.is_set():
            [way] = self._dice.choices(ways, (5, 4, 3, 2))
            try:
                way(store, writer)
            except WrongExpectedVersion:
                self.conflicts += 1
            time.sleep(self._dice.uniform(0.0, 0.004))

    def _account(self) -> str:
        return f"account-{self._dice.randrange(ACCOUNTS)}"

    def _events(self) -> list[NewEvent]:
        makers = (deposited, deposited, withdrew, withdrew, noted, closed)
        return [self._dice.choice(makers)() for _ in range(self._dice.randint(1, 4))]

    def _versioned(self, store: EventStore, writer: Writer) -> None:
        account = self._account()
        writer.append(account, self._events(), store.version(account))

    def _unversioned(self, store: EventStore, writer: Writer) -> None:
        writer.append(self._account(), self._events(), ANY)

    def _several(self, store: EventStore, writer: Writer) -> None:
        accounts = sorted({self._account() for _ in range(3)})
        writer.append_many([
            (account, self._events(), store.version(account) if self._dice.random() < 0.5 else ANY)
            for account in accounts
        ])  # fmt: skip

    def _one_by_one(self, store: EventStore, writer: Writer) -> None:
        appends: list[Append] = []
        for _ in range(self._dice.randint(1, 30)):
            account = self._account()
            expected = self._dice.choice((ANY, ANY, STREAM_EXISTS, store.version(account)))
            appends.append((account, self._events(), expected))
        for outcome in writer.append_each(appends):
            if isinstance(outcome, WrongExpectedVersion):
                self.conflicts += 1
            elif not isinstance(outcome, AppendResult):
                self.trouble.append(f"{type(outcome).__name__}: {outcome}")


# -- the soak -----------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What happened, and what is wrong."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    events: int = 0
    acknowledged: int = 0
    duplicates: int = 0
    retried: int = 0
    unknown: int = 0
    conflicts: int = 0
    runner_starts: int = 0
    settled_in: float = 0.0

    def report(self) -> str:
        faults = ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items()))
        lines = [
            f"seed {self.seed}",
            f"faults: {self.faults.total()} ({faults})",
            f"appends: {self.acknowledged} acknowledged, {self.duplicates} of them found to have run before; "
            f"{self.unknown} calls without an answer, {self.retried} repeated; {self.conflicts} refused",
            f"events: {self.events}; runners started {self.runner_starts} times; settled in {self.settled_in:.1f} s",
        ]
        lines += [f"FOUND {finding}" for finding in self.findings[:50]]
        if len(self.findings) > 50:
            lines.append(f"… and {len(self.findings) - 50} more")
        lines.append("the history is sound" if not self.findings else f"{len(self.findings)} findings")
        return "\n".join(lines)


def soak(seconds: float, seed: int, *, writers: int = 4, runners: int = 2) -> Outcome:
    """Run it. Whatever ends it, nothing of it is left running."""
    with tempfile.TemporaryDirectory(prefix="runner-soak-") as directory:
        world = World(Path(directory), runners)
        try:
            return _soak(world, seconds, seed, writers)
        finally:
            world.close()


def _soak(world: World, seconds: float, seed: int, writers: int) -> Outcome:
    outcome = Outcome(seed)
    stopping, given_up = threading.Event(), threading.Event()
    pool = [SoakWriter(world, seed, number, stopping, given_up) for number in range(writers)]
    try:
        for writer in pool:
            writer.thread.start()
        _inject(world, seconds, seed, outcome.faults)
        _heal(world)
        stopping.set()
        for writer in pool:
            writer.thread.join(SETTLING)
    finally:
        stopping.set()
        given_up.set()
    for writer in pool:
        writer.thread.join(10)
        if writer.thread.is_alive():
            outcome.findings.append(Finding("stuck", writer.thread.name, "it never learnt what became of its append"))
        outcome.conflicts += writer.conflicts
        outcome.findings += [Finding("writer", writer.thread.name, trouble) for trouble in writer.trouble]
    outcome.findings += _settle(world, outcome)
    outcome.findings += _complaints(world)
    outcome.findings += check(world.direct, world.record, VIEWS)
    for found in verify(world.direct).findings:
        outcome.findings.append(Finding("runner verify", found.where, found.what))
    record = world.record
    outcome.events = world.direct.last_position()
    outcome.acknowledged, outcome.duplicates = len(record.told), record.duplicates
    outcome.retried, outcome.unknown = record.retried, record.unknown
    outcome.runner_starts = sum(runner.starts for runner in world.runners)
    return outcome


def _inject(world: World, seconds: float, seed: int, counts: Counter[str]) -> None:
    ends = time.monotonic() + seconds
    for fault in plan(seed, len(world.runners)):
        if _interrupted.is_set():
            raise KeyboardInterrupt
        for runner in world.runners:
            runner.look(time.monotonic())
        if time.monotonic() >= ends:
            return
        fault.act(world)
        counts[fault.name] += 1
        time.sleep(fault.pause)


def _heal(world: World) -> None:
    """No more faults: what is held back is let go, what is armed is forgotten, who is frozen goes on."""
    world.proxy.forget()
    for held in world.held:
        held.release()
    world.server_signal(signal.SIGCONT)
    world.server.ensure_running()
    for runner in world.runners:
        runner.signal(signal.SIGCONT)


def _settle(world: World, outcome: Outcome) -> Iterator[Finding]:
    """Wait until the views have reached the end of the log, then stop the runners."""
    started = time.monotonic()
    end = world.direct.last_position()
    behind = [name for name, _ in VIEWS]
    while behind and time.monotonic() - started < SETTLING:
        if not any(runner.running for runner in world.runners):
            world.runners[0].start()
        time.sleep(0.05)
        behind = [name for name, _ in VIEWS if checkpoint_of(world.direct, name) < end]
    outcome.settled_in = time.monotonic() - started
    for name in behind:
        at = checkpoint_of(world.direct, name)
        yield Finding("stuck", name, f"at position {at} of {end}, {SETTLING:.0f} s after the last fault")
    running = [runner for runner in world.runners if runner.running]
    for runner in running:
        runner.tell_to_stop()
    for runner in running:
        code = runner.stop()
        if code not in SOUND_ENDS:
            yield Finding("stuck", runner.log.name, f"told to stop, it ended with exit code {code}")


def _complaints(world: World) -> Iterator[Finding]:
    """Projections that stopped for another reason than that another runner drives them."""
    for runner in world.runners:
        for line in runner.said():
            error = str(line.get("error", ""))
            if line.get("state") == "stopped" and "another runner" not in error:
                yield Finding("complaint", runner.log.name, error)
            if line.get("level") == "critical":
                yield Finding("complaint", runner.log.name, f"{line.get('message')}: {runner.last_error()}")


#: Set by a signal: what it raises is lost where the interpreter is in a callback of its own.
_interrupted = threading.Event()


def _interrupt(number: int, frame: FrameType | None) -> None:
    _interrupted.set()
    raise KeyboardInterrupt


def main(args: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Soak the product in faults.")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long faults are injected")
    parser.add_argument("--seed", type=int, default=None, help="of the choice of faults; drawn unless given")
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--runners", type=int, default=2)
    options = parser.parse_args(args)
    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    for number in (signal.SIGINT, signal.SIGTERM):  # so that nothing is left behind then either
        signal.signal(number, _interrupt)
    try:
        outcome = soak(options.seconds, seed, writers=options.writers, runners=options.runners)
    except KeyboardInterrupt:
        return 130
    print(outcome.report(), flush=True)
    return 1 if outcome.findings else 0
