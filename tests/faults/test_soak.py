"""The soak in short: it runs, it is decided by its seed, it says what is wrong, and it leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import soak as module
from accounts import PATIENCE, reached
from soak import World, main, plan, soak
from wirelab import PROJECT

from runner.format.codec import pack

pytestmark = pytest.mark.real

#: Seconds of faults, and a seed whose first faults are of many kinds.
SECONDS, SEED = 8.0, 1


def test_a_short_soak_finds_a_sound_history() -> None:
    """Rows 1 to 9, 24, 25 and 29 at random: writers, two runner processes, and a fault after the other."""
    outcome = soak(SECONDS, SEED, writers=3, runners=2)

    print(outcome.report())
    assert outcome.findings == []
    assert outcome.faults.total() >= 10
    assert outcome.acknowledged > 100


def test_faults_are_decided_by_the_seed() -> None:
    """The same seed gives the same faults, another one others."""
    first, again, other = ([(fault.name, fault.pause) for fault in islice(plan(seed, 2), 50)] for seed in (7, 7, 8))

    assert first == again
    assert first != other
    assert {fault.name for fault in islice(plan(7, 2), 500)} == set(module.KINDS)


def test_a_soak_that_meets_damage_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A row that nobody has written: it is named, and the exit code is 1."""

    def damage(world: World) -> None:
        view = world.direct.info.keys[0].view("balances", "1")
        world.direct.driver.execute([("HSET", view, "account-99", pack({"balance": 1}))])

    monkeypatch.setattr(module, "KINDS", {"a row changed": (1, lambda dice, runners: damage)})

    assert main(["--seconds", "0.5", "--seed", "3", "--writers", "1", "--runners", "1"]) == 1

    said = capsys.readouterr().out
    assert "seed 3" in said
    assert "FOUND view: balances[0] account-99" in said


@pytest.fixture
def short_place() -> Iterator[Path]:
    """A directory whose sockets have short paths."""
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        yield Path(directory)


def processes_of(place: Path) -> set[int]:
    """The processes that name a directory in their command line, or work in it."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (
                str(place).encode() in (entry / "cmdline").read_bytes()
                or os.readlink(entry / "cwd").startswith(str(place))
            ):
                found.add(int(entry.name))
        except OSError:
            pass  # it has ended meanwhile
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_soak_that_is_interrupted_leaves_nothing_behind(short_place: Path, number: int) -> None:
    """Neither server nor runner nor directory."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults", "--seconds", "60", "--seed", "2", "--writers", "1"],
        cwd=PROJECT, env=os.environ | {"TMPDIR": str(short_place)}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert reached(lambda: len(processes_of(short_place)) >= 4)  # supervisor, server, two runners
        process.send_signal(number)
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.wait()
    assert reached(lambda: not processes_of(short_place), PATIENCE)
    assert list(short_place.iterdir()) == []
