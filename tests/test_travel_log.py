"""A real event log of expense claims, through the whole product, compared row by row with a plain loop over the file.

The log (55,628 events in 10,357 streams) is not part of the project: give its path in RUNNER_TRAVEL_LOG.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from runner import EventStore, View
from runner.operations import stream_digests

LOG = os.environ.get("RUNNER_TRAVEL_LOG", "")

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not LOG, reason="needs the travel-declarations log; its path goes in RUNNER_TRAVEL_LOG"),
    pytest.mark.timeout(300),
]


class ByHand:
    """The three read models, and a count by type and day, without any of the runner's code."""

    def __init__(self, path: str) -> None:
        self.status: dict[str, dict[str, Any]] = {}
        self.payments: dict[str, dict[str, Any]] = {}
        self.days: Counter[str] = Counter()
        self.events = 0
        with gzip.open(path, "rt") as lines:
            for line in lines:
                self._take(json.loads(line))
        self.amounts: dict[str, dict[str, int]] = defaultdict(lambda: {"declarations": 0, "cents": 0})
        for row in self.status.values():
            self.amounts[row["status"]]["declarations"] += 1
            self.amounts[row["status"]]["cents"] += row["cents"]

    def _take(self, event: dict[str, Any]) -> None:
        self.events += 1
        stream, kind, time = event["stream"], event["type"], datetime.fromisoformat(event["time"])
        steps = self.status.get(stream, {"steps": 0})["steps"]
        self.status[stream] = {"status": kind, "cents": round(event["data"]["Amount"] * 100), "steps": steps + 1}
        self.days[f"{kind} {time.date().isoformat()}"] += 1
        row = self.payments.setdefault(stream, {"submitted": None, "paid": None, "seconds": None})
        if kind == "Declaration SUBMITTED by EMPLOYEE" and row["submitted"] is None:
            row["submitted"] = time
        if kind == "Payment Handled" and row["paid"] is None:
            row["paid"] = time
            row["seconds"] = int((time - row["submitted"]).total_seconds()) if row["submitted"] else None


@pytest.fixture(scope="module")
def by_hand() -> ByHand:
    return ByHand(LOG)


def runner(url: str, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "runner", *args, "--store", url],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def succeed(url: str, *args: str) -> str:
    return finish(runner(url, *args))


def check(store: EventStore, by_hand: ByHand) -> None:
    """Every row of every view equals the one made by hand."""
    assert store.last_position() == by_hand.events == 55_628
    assert dict(View(store, "declaration-status").items()) == by_hand.status
    payments = {key: row for key, row in by_hand.payments.items() if row["submitted"] or row["paid"]}
    assert dict(View(store, "declaration-payments").items()) == payments
    assert {key: row["events"] for key, row in View(store, "events-per-day").items()} == by_hand.days
    totals: dict[str, dict[str, int]] = defaultdict(lambda: {"declarations": 0, "cents": 0})
    for _, row in View(store, "declaration-amounts").items():
        for status, part in row["totals"].items():
            for name, value in part.items():
                totals[status][name] += value
    assert {status: row for status, row in totals.items() if row["declarations"]} == by_hand.amounts
    assert all(
        row == {"declarations": 0, "cents": 0} for status, row in totals.items() if status not in by_hand.amounts
    )


def test_import_run_and_view_equal_a_plain_loop(tmp_path: Path, by_hand: ByHand) -> None:
    """55,628 events in 10,357 streams, every row of every view; a second import changes nothing; verify is content."""
    url = f"embedded:{tmp_path}/s"
    with EventStore.open(url) as store:
        succeed(url, "import", LOG)
        succeed(url, "run", "--once")
        check(store, by_hand)
        assert len({event.stream for event in store.read_all()}) == 10_357
        assert "55628 were there already" in succeed(url, "import", LOG)
        assert "nothing wrong" in succeed(url, "verify")
        row = json.loads(succeed(url, "view", "declaration-status", "declaration-86791", "--json"))
        assert row["row"] == by_hand.status["declaration-86791"]


def test_killing_the_importer_the_runner_and_the_server_changes_nothing(tmp_path: Path, by_hand: ByHand) -> None:
    """kill -9 at random moments of each; what was acknowledged stays, and the rows are the same in the end."""
    seed = int(os.environ.get("RUNNER_TEST_SEED", random.randrange(10**6)))
    print(f"RUNNER_TEST_SEED={seed}")
    dice = random.Random(seed)
    url = f"embedded:{tmp_path}/s"
    keeper = EventStore.open(url)
    kill_at(keeper, runner(url, "import", LOG), keeper.last_position, dice.randrange(1, 20_000))
    acknowledged = keeper.last_position()
    keeper = kill_server(keeper, url)
    assert keeper.last_position() >= acknowledged
    kill_at(keeper, runner(url, "import", LOG), keeper.last_position, acknowledged + dice.randrange(1, 20_000))
    succeed(url, "import", LOG)

    for _ in range(3):
        least = position(keeper) + dice.randrange(1, 10_000)
        kill_at(keeper, runner(url, "run", "--once"), lambda: position(keeper), least)
    following = runner(url, "run", "--once")
    wait(following, lambda: position(keeper), position(keeper) + dice.randrange(1, 10_000))
    keeper = kill_server(keeper, url)
    following.communicate(timeout=100)
    succeed(url, "run", "--once")
    check(keeper, by_hand)
    assert "nothing wrong" in succeed(url, "verify")
    keeper.close()


def position(store: EventStore) -> int:
    [value] = store.driver.execute([("HGET", store.info.keys[0].build("declaration-status", "1"), "position")])
    return int(value or 0)


def kill_at(store: EventStore, process: subprocess.Popen[str], progress: Callable[[], int], least: int) -> None:
    wait(process, progress, least)
    process.kill()
    process.communicate()


def wait(process: subprocess.Popen[str], progress: Callable[[], int], least: int) -> None:
    while progress() < least and process.poll() is None:
        pass


def kill_server(store: EventStore, url: str) -> EventStore:
    """Kill the server, and open the store again, which starts it."""
    server = store.driver.address.server
    assert server is not None
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    again = EventStore.open(url)
    store.close()
    return again


def test_a_backup_and_copies_of_the_log_are_the_same_stream_by_stream(tmp_path: Path) -> None:
    """Exported with positions, imported by a process that is killed on its way, copied into other partitions."""
    seed = int(os.environ.get("RUNNER_TEST_SEED", random.randrange(10**6)))
    print(f"RUNNER_TEST_SEED={seed}")
    dice = random.Random(seed)
    origin, back, wider = (f"embedded:{tmp_path}/{name}" for name in ("o", "b", "w"))
    file = str(tmp_path / "backup.jsonl.gz")
    with EventStore.open(origin, partitions=3) as store, EventStore.open(back, partitions=3) as restored:
        succeed(origin, "import", LOG)
        timed("export", lambda: succeed(origin, "export", "--with-positions", file))

        def done() -> int:
            return sum(restored.last_position(partition=partition) for partition in range(3))

        kill_at(restored, runner(back, "import", "--keep-positions", file), done, dice.randrange(1, 50_000))
        assert done() > 0
        timed("import", lambda: succeed(back, "import", "--keep-positions", file))
        assert list(restored.read_all()) == list(store.read_all())
        assert "nothing wrong" in succeed(back, "verify")

        with EventStore.open(wider, partitions=4) as other:

            def copied() -> int:
                return sum(other.last_position(partition=partition) for partition in range(4))

            kill_at(other, copying(origin, wider), copied, dice.randrange(1, 50_000))
            assert copied() > 0
            said = timed("copy", lambda: finish(copying(origin, wider)))
            assert "55628 events in 10357 streams: positions are new" in said
            assert stream_digests(other) == stream_digests(restored)


def copying(source: str, target: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "runner", "copy", source, target],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    return output


def timed(what: str, action: Callable[[], str]) -> str:
    start = time.perf_counter()
    said = action()
    print(f"{what}: {time.perf_counter() - start:.1f} s")
    return said
