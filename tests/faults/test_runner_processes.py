"""The fault matrix, runner processes: rows 25, 26 and 27, and how long a takeover takes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from accounts import PATIENCE, deposited, reached, rows_of
from servers import Server, server

from runner import ANY, EventStore
from runner.progress.status import ProjectionStatus, status
from runner.testing import TEST_SETTINGS

pytestmark = pytest.mark.real

#: A row a stream: how many events there were, and a number that tells their order.
PLUGIN = """
from runner import Projection

def make(name):
    projection = Projection(name, initial=lambda: {"events": 0, "order": 0})
    @projection.when("Deposited")
    def seen(state, event):
        state["events"] += 1
        state["order"] = (state["order"] * 31 + event.position) % 1_000_000_007
    return projection

"""


def fold(events: Iterable[Any]) -> dict[str, Any]:
    """What each of them must come to."""
    rows: dict[str, Any] = {}
    for event in events:
        row = rows.setdefault(event.stream, {"events": 0, "order": 0})
        row["events"] += 1
        row["order"] = (row["order"] * 31 + event.position) % 1_000_000_007
    return rows


class Process:
    """A runner process; what it says goes to a file."""

    def __init__(self, url: str, plugin: Path, log: Path, lease: float) -> None:
        self._log = log
        with open(log, "wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "runner", "run", "--store", url, "--projections", str(plugin),
                 "--lease", str(lease), "--log", "json", "--accept-bad"],
                stdout=file, stderr=file, stdin=subprocess.DEVNULL,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def said(self) -> list[tuple[str, str]]:
        """Its changes of state in their order: of which projection, to which state."""
        lines = [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]
        return [(line["projection"], line["state"]) for line in lines if "state" in line]

    def has_said(self, state: str) -> bool:
        assert self.runs, self._log.read_text()
        return any(said == state for _, said in self.said())

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """SIGTERM; it is not waited for."""
        self._process.terminate()

    def end(self) -> int:
        """Its exit code after SIGTERM."""
        self.terminate()
        return self.ended()

    def ended(self) -> int:
        """Its exit code, when it has ended by itself."""
        return self._process.wait(PATIENCE)


class Room:
    """A store, runner processes over it, and what the store says of them."""

    def __init__(self, url: str, directory: Path, stack: ExitStack, projections: int, lease: float) -> None:
        self._url, self._directory, self._stack = url, directory, stack
        self.lease = lease
        self.names = [f"view{place}" for place in range(projections)]
        self.store = stack.enter_context(EventStore.open(url, settings=TEST_SETTINGS))
        self.processes: list[Process] = []
        self._plugin = directory / "plugin.py"
        self._plugin.write_text(PLUGIN + "\n".join(f"{name} = make({name!r})" for name in self.names))

    def start(self) -> Process:
        log = self._directory / f"log{len(self.processes)}"
        process = Process(self._url, self._plugin, log, self.lease)
        self._stack.callback(process.kill)
        self.processes.append(process)
        return process

    def append(self, count: int = 10) -> None:
        self.store.append_each([(f"account-{place % 7}", [deposited()], ANY) for place in range(count)])

    def status(self, name: str) -> ProjectionStatus:
        return self.store.run(status(self.store.info.keys[0], name))[0]

    def holders(self) -> dict[str, int]:
        """The process that holds each projection; those that nobody holds are left out."""
        [known] = self.store.driver.execute([("SMEMBERS", self.store.info.keys[0].projections)])
        found = {name: self.status(name).holder for name in self.names if name.encode() in known}
        return {name: int(holder.rpartition(":")[2]) for name, holder in found.items() if holder}

    def all_held_by(self, *processes: Process) -> bool:
        """Whether everything is held, by these and no others, and each of them has something."""
        holders = self.holders()
        return holders.keys() == set(self.names) and set(holders.values()) == {process.pid for process in processes}

    def holder(self) -> Process:
        """The process that holds the first projection."""
        [found] = [process for process in self.processes if process.pid == self.holders().get(self.names[0])]
        return found

    def is_right(self, patience: float = PATIENCE) -> bool:
        """Whether each view comes to be the fold of the log, with each event counted once."""
        expected, end = fold(self.store.read_all()), self.store.last_position()
        return reached(
            lambda: all(
                rows_of(self.store, name) == expected and self.status(name).applied == end for name in self.names
            ),
            patience,
        )


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Callable[..., Room]]:
    """Makes a store on a server of its own."""
    with ExitStack() as stack:
        yield lambda projections=1, lease=1.0, url=f"embedded:{tmp_path}/s": Room(
            url, tmp_path, stack, projections, lease
        )


@contextmanager
def appending(room: Room) -> Iterator[None]:
    """Events come all the time while the block runs."""
    end = threading.Event()

    def work() -> None:
        while not end.wait(0.005):
            room.append(20)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join(PATIENCE)
    assert not thread.is_alive()


# -- row 25 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("runners", [1, 2])
def test_row_25_runner_killed_between_read_fold_and_commit(room: Callable[..., Room], runners: int) -> None:
    """Whenever it is killed, whoever is there or comes next resumes, and the view is right."""
    # given
    seed = int(os.environ.get("FAULTS_SEED", random.SystemRandom().randrange(1_000_000)))
    print(f"FAULTS_SEED={seed}")
    chance = random.Random(seed)
    place = room(2)
    at_work = [place.start() for _ in range(runners)]

    # when
    with appending(place):
        for _ in range(5):
            victim = at_work.pop(chance.randrange(runners))
            assert reached(lambda one=victim: bool(one.said()))  # type: ignore[misc]
            threading.Event().wait(chance.uniform(0.0, 0.6))
            victim.kill()
            at_work.append(place.start())

    # then
    assert place.is_right(patience=30.0)


# -- row 26 ---------------------------------------------------------------------------------------


def test_row_26_runner_frozen_past_its_lease(room: Callable[..., Room]) -> None:
    """It is fenced and there is one committer; thawed it stands by, and takes over when the other dies."""
    # given
    place = room(1)
    place.start(), place.start()
    assert reached(lambda: len(place.holders()) == 1)
    frozen = place.holder()
    [other] = [process for process in place.processes if process is not frozen]

    # when: in the midst of work
    with appending(place):
        assert reached(lambda: place.store.last_position() > 500)
        frozen.freeze()
        assert reached(lambda: place.all_held_by(other))
        before = len(frozen.said())
        frozen.thaw()
        assert reached(lambda: (place.names[0], "standing by") in frozen.said()[before:])
        assert place.all_held_by(other)

    # then
    assert place.is_right()
    other.kill()
    place.append()
    assert place.is_right()
    assert place.all_held_by(frozen)


def test_row_26_runners_frozen_at_random(room: Callable[..., Room]) -> None:
    """Two runners are frozen and thawed in turn, for longer and for shorter than a lease: one committer at a time."""
    # given
    seed = int(os.environ.get("FAULTS_SEED", random.SystemRandom().randrange(1_000_000)))
    print(f"FAULTS_SEED={seed}")
    chance = random.Random(seed)
    place = room(3)
    two = [place.start(), place.start()]
    assert reached(lambda: place.all_held_by(*two))

    # when
    with appending(place):
        for _ in range(4):
            frozen = chance.choice(two)
            frozen.freeze()
            threading.Event().wait(chance.uniform(0.3, 1.8))
            frozen.thaw()

    # then
    assert place.is_right()
    assert reached(lambda: place.all_held_by(*two))


# -- row 27 ---------------------------------------------------------------------------------------


class Door:
    """An address that stays while the server behind it changes."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "door"

    @property
    def url(self) -> str:
        return f"unix://{self._path}"

    def lead_to(self, socket: Path) -> None:
        following = self._path.with_suffix(".next")
        following.symlink_to(socket)
        following.replace(self._path)


def token_of(one: Server, room: Room) -> int:
    return int(one.do("HGET", room.store.info.keys[0].build(room.names[0], "1"), "token") or 0)


def test_row_27_a_claim_that_a_failover_forgot(tmp_path: Path, room: Callable[..., Room]) -> None:
    """The next owner gets another fencing token: the one whose claim was forgotten is refused, and one commits."""
    door, old, new = Door(tmp_path), tmp_path / "old", tmp_path / "new"
    with (
        server("--unixsocket", str(old)) as primary,
        server("--unixsocket", str(new), replica_of=primary) as replica,
    ):
        # given: one runner has the projection, and the replica has heard of it
        door.lead_to(old)
        place = room(1, url=door.url)
        place.append()
        first = place.start()
        assert place.is_right()
        second = place.start()
        assert reached(lambda: second.has_said("standing by"))
        assert reached(lambda: token_of(replica, place) == token_of(primary, place))
        replica.do("REPLICAOF", "127.0.0.1", 1)

        # when: the other takes over, which the replica never hears of; there a third does
        first.freeze()
        assert reached(lambda: place.all_held_by(second))
        second.freeze()
        forgotten = token_of(primary, place)
        assert token_of(replica, place) < forgotten
        replica.do("REPLICAOF", "NO", "ONE")
        door.lead_to(new)
        primary.kill()
        first.kill()
        third = place.start()
        assert reached(lambda: place.all_held_by(third))
        given = token_of(replica, place)
        second.thaw()

        # then
        place.append(200)
        assert place.is_right()
        assert given > forgotten
        assert place.all_held_by(third)
        third.kill()
        place.append()
        assert place.is_right()
        assert place.all_held_by(second)


# -- takeovers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("lease", [1.0, 2.0])
def test_what_a_killed_runner_held_is_live_again_a_lease_later(room: Callable[..., Room], lease: float) -> None:
    """kill -9: within the lease, and a second for all the rest."""
    # given
    place = room(5, lease)
    two = [place.start(), place.start()]
    assert reached(lambda: place.all_held_by(*two))

    # when
    two[0].kill()
    killed = time.monotonic()
    place.append()

    # then
    assert reached(lambda: place.all_held_by(two[1]))
    assert place.is_right()
    took = time.monotonic() - killed
    print(f"kill -9 with a lease of {lease} s: {took:.2f} s")
    assert took <= lease + 1.0


@pytest.mark.parametrize("lease", [1.0, 10.0])
def test_what_a_runner_gives_back_at_its_end_is_live_again_at_once(room: Callable[..., Room], lease: float) -> None:
    """SIGTERM: however long the lease."""
    # given
    place = room(5, lease)
    two = [place.start(), place.start()]
    assert reached(lambda: place.all_held_by(*two))

    # when
    two[0].terminate()
    told = time.monotonic()
    place.append()

    # then
    assert reached(lambda: place.all_held_by(two[1]))
    assert place.is_right()
    took = time.monotonic() - told
    print(f"SIGTERM with a lease of {lease} s: {took:.2f} s")
    assert took <= 3.0
    assert two[0].ended() == 0
