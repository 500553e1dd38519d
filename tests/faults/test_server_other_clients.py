"""The fault matrix, what other clients of the server can do to a store: rows 20, 21 and 31."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from accounts import balances, deposited, rows_of
from click.testing import CliRunner
from clients import Writer, following
from lab import Lab, Server

from runner import ALL, DataError, EventStore, NewEvent, RunnerError, catch_up
from runner.cli.main import main
from runner.format.events import pack_event
from runner.settings import MAX_EVENT_BYTES

pytestmark = pytest.mark.real

LOG, META, INDEX = "{es.0}:log", "{es.0}:meta", "{es.0}:stream:account-1"

#: How long after a fault a report may come: some heartbeats of the test's settings, in seconds.
SOON = 1.0

PLUGIN = """
from runner import Projection
counts = Projection("counts", initial=lambda: {"events": 0})
@counts.when("Deposited")
def deposited(state, event):
    state["events"] += 1
    state["size"] = len(event.data)
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    file = tmp_path / "plugin.py"
    file.write_text(PLUGIN)
    return file


# -- row 20 -------------------------------------------------------------------------------------


def let_it_evict(server: Server) -> None:
    server.config(maxmemory=100_000_000, maxmemory_policy="allkeys-lru")


def let_it_expire(server: Server) -> None:
    server.do("EXPIRE", LOG, 1000)


def let_its_info_expire(server: Server) -> None:
    server.do("EXPIRE", META, 1000)


def let_it_sync_nothing(server: Server) -> None:
    server.config(appendonly="no")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (let_it_evict, "eviction"),
        (let_it_expire, "expiry"),
        (let_its_info_expire, "expiry"),
        (let_it_sync_nothing, "durability"),
    ],
)
def test_row_20_eviction_policy_or_ttl_is_refused_at_start(
    lab: Lab, plugin: Path, fault: Callable[[Server], None], said: str
) -> None:
    """`runner run` does not start on a server that may remove the log: it says which setting, and what to set."""
    # given
    server = lab.server()
    Writer(lab.store(server.url)).append(3)
    run = ["run", "--once", "--projections", str(plugin), "--store", server.url]

    # when
    fault(server)
    result = CliRunner().invoke(main, run)

    # then
    assert result.exit_code == 3
    assert said in result.output
    assert "Hint: " in result.output
    assert int(server.do("EXISTS", "{es.0}:projection:counts")) == 0
    assert CliRunner().invoke(main, [*run, "--accept-bad"]).exit_code == 0


DAEMON = """
import logging, sys
from runner import EventStore
from runner.daemon.logs import JsonFormatter
from runner.daemon.process import Daemon
from runner.projections.plugins import load
from runner.testing import TEST_SETTINGS

handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(JsonFormatter())
logging.getLogger("runner").addHandler(handler)
logging.getLogger("runner").setLevel(logging.INFO)
sys.path.insert(0, sys.argv[2])
from plugin import counts
with EventStore.open(sys.argv[1], settings=TEST_SETTINGS) as store:
    Daemon(store, [counts]).run()
"""


@contextmanager
def runner_process(server: Server, plugin: Path) -> Iterator[subprocess.Popen[str]]:
    """A runner that is live, with the short heartbeat of the tests."""
    command = [sys.executable, "-c", DAEMON, server.url, str(plugin.parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            said = []
            for line in process.stdout:
                said.append(line)
                if json.loads(line).get("state") == "live":
                    break
            else:
                raise AssertionError(said)
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("fault", [let_it_evict, let_it_expire, let_its_info_expire, let_it_sync_nothing])
def test_row_20_what_is_set_while_running_and_may_lose_events_is_an_alarm(
    lab: Lab, plugin: Path, fault: Callable[[Server], None]
) -> None:
    """A server that has become able to remove the log is a warning in the runner's log within a heartbeat."""
    # given
    server = lab.server()
    writer = Writer(lab.store(server.url))
    writer.append(3)
    with runner_process(server, plugin) as process:
        # when
        fault(server)

        # then
        assert "ALARM" in everything_within(process, SOON)


def everything_within(process: subprocess.Popen[str], seconds: float) -> str:
    """What a process says in that time, and on its way out."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.terminate()
    return process.communicate()[0]


# -- row 21 -------------------------------------------------------------------------------------


def envelope(number: int) -> bytes:
    """A well-made event that nobody appended."""
    return pack_event("account-1", NewEvent("Deposited", {"amount": number}), 1)


class Victim:
    """A store of ten events whose log was dumped when it had five, and which a projection follows."""

    def __init__(self, lab: Lab) -> None:
        self.server = lab.server()
        self.store = lab.store(self.server.url)
        self.writer = Writer(self.store)
        self.writer.append(5)
        self._dump = self.server.do("DUMP", LOG)
        self.writer.append(5)

    def restore(self, *, grow: int = 0) -> None:
        """Put the log of five events back and add others, so that nobody sees anything in between."""
        with self.server.client() as client, client.pipeline(transaction=True) as together:
            together.execute_command("RESTORE", LOG, 0, self._dump, "REPLACE")
            for number in range(6, 6 + grow):
                together.execute_command("XADD", LOG, f"{number}-{number}", "e", envelope(number))
            together.execute()


Fault = Callable[[Victim], object]

#: Each fault; whether a follower notices it by itself, and whether an append behind it is refused. What is forged to
#: fit the indexes is whole for an append, and so is for a follower a log that was only told another last ID.
FAULTS: dict[str, tuple[Fault, bool, bool]] = {
    "FLUSHALL": (lambda victim: victim.server.do("FLUSHALL"), True, True),
    "DEL the log": (lambda victim: victim.server.do("DEL", LOG), True, True),
    "DEL the info": (lambda victim: victim.server.do("DEL", META), True, True),
    "XTRIM": (lambda victim: victim.server.do("XTRIM", LOG, "MAXLEN", 3), True, True),
    "XTRIM to nothing": (lambda victim: victim.server.do("XTRIM", LOG, "MAXLEN", 0), True, True),
    "XDEL in the middle": (lambda victim: victim.server.do("XDEL", LOG, "4-4"), True, True),
    "XDEL of the last": (lambda victim: victim.server.do("XDEL", LOG, "10-10"), True, True),
    "XADD by time": (lambda victim: victim.server.do("XADD", LOG, "*", "e", envelope(11)), True, True),
    "XADD behind a gap": (lambda victim: victim.server.do("XADD", LOG, "13-11", "e", envelope(11)), True, True),
    "XSETID": (lambda victim: victim.server.do("XSETID", LOG, "50-50"), False, True),
    "RESTORE": (lambda victim: victim.restore(), True, True),
    "RESTORE, grown as long": (lambda victim: victim.restore(grow=5), True, False),
    "RESTORE, grown longer": (lambda victim: victim.restore(grow=8), True, False),
}


def faults(kind: Callable[[bool, bool], bool] = lambda follower, append: True) -> list[object]:
    """The faults of a kind, as parameters."""
    return [pytest.param(fault, id=name) for name, (fault, *seen) in FAULTS.items() if kind(*seen)]


@pytest.fixture
def victim(lab: Lab) -> Victim:
    return Victim(lab)


@pytest.mark.parametrize("fault", faults(lambda follower, append: follower))
def test_row_21_damage_by_another_client_stops_a_projection_within_a_heartbeat(victim: Victim, fault: Fault) -> None:
    """Flushed, deleted, trimmed, added to or restored: the projection stops and says so, without a next event."""
    # given
    with following(victim.store) as follower:
        assert follower.is_right()
        view = rows_of(victim.store)

        # when
        fault(victim)
        failure = follower.stops(SOON)

    # then
    assert isinstance(failure, DataError)
    assert "10" in str(failure) or "11" in str(failure)
    assert rows_of(victim.store) in (view, {})


@pytest.mark.parametrize("fault", faults(lambda follower, append: follower))
def test_row_21_damage_by_another_client_ends_a_subscription(victim: Victim, fault: Fault) -> None:
    """A subscriber that waits for the next event is given an error instead, and nothing of another history."""
    with victim.store.subscribe(ALL) as subscription:
        assert len([subscription.poll(5) for _ in range(10)]) == 10
        assert subscription.poll(0.1) is None
        fault(victim)
        with pytest.raises(DataError):
            subscription.poll(SOON)


@pytest.mark.parametrize("fault", faults(lambda follower, append: append))
def test_row_21_damage_by_another_client_refuses_the_next_append(victim: Victim, fault: Fault) -> None:
    """The append script does not write behind a history that is not whole."""
    # when
    fault(victim)
    before = victim.server.do("XINFO", "STREAM", LOG) if victim.server.do("EXISTS", LOG) else None

    # then
    with pytest.raises(RunnerError) as refused:
        victim.writer.append()
    assert isinstance(refused.value, DataError)
    assert (victim.server.do("XINFO", "STREAM", LOG) if before else None) == before


@pytest.mark.parametrize("fault", faults())
def test_row_21_damage_by_another_client_is_not_projected_by_who_starts_later(victim: Victim, fault: Fault) -> None:
    """A projection that had applied all of the log is not taken up again on another one, or by the next append: it
    stops, or the append is refused."""
    # given
    catch_up(victim.store, balances())
    view = rows_of(victim.store)

    # when
    fault(victim)

    # then
    with pytest.raises(DataError), EventStore.open(victim.server.url) as again:
        catch_up(again, balances())
        victim.writer.append()
    assert rows_of(victim.store) in (view, {})


def test_row_21_an_index_that_is_deleted_is_a_conflict_for_its_writer_and_found_by_verify(victim: Victim) -> None:
    """Without its index a stream counts as new: the writer that knows its version is refused, and verify finds it."""
    victim.server.do("DEL", INDEX)
    with pytest.raises(RunnerError):
        victim.writer.append()
    result = CliRunner().invoke(main, ["verify", "--store", victim.server.url])
    assert result.exit_code == 1
    assert "no index" in result.output


# -- row 31 -------------------------------------------------------------------------------------


def event_of_empty_maps(size: int) -> bytes:
    """A well-made event whose payload is a list of empty maps, of about ``size`` bytes."""
    head, _, _ = envelope(11).partition(b"\x81\xa6amount")
    return head + b"\xdd" + size.to_bytes(4, "big") + b"\x80" * size + b"\xc0\x00"


POISON = {
    "no envelope": b"junk",
    "nothing": b"",
    "half an envelope": envelope(11)[:20],
    "an extension nobody knows": b"\xd4\x63\x00",
    "5 MB of empty maps": event_of_empty_maps(5_000_000),
    "an array that says it is long": b"\xdd\xff\xff\xff\xff",
}


@pytest.mark.parametrize("poison", POISON)
def test_row_31_poison_stops_a_projection_right_before_it(lab: Lab, poison: str) -> None:
    """An entry that is no event stops the projection with its position, the events before it committed, and the
    store takes further appends."""
    # given
    server = lab.server()
    store = lab.store(server.url)
    writer = Writer(store)
    writer.append(10)

    # when
    with following(store) as follower:
        server.do("XADD", LOG, "11-11", "e", POISON[poison])
        failure = follower.stops()

    # then
    assert isinstance(failure, DataError)
    assert "position 11" in str(failure)
    assert len(str(failure)) < 500
    assert rows_of(store) == {"account-1": {"balance": 100, "numbers": list(range(1, 11))}}
    assert store.append("account-2", deposited(), 0).position == 12


def test_row_31_poison_costs_no_memory(lab: Lab, plugin: Path) -> None:
    """Five megabytes of empty maps, which would take some 400 to decode, cost a runner a few times their size."""
    # given
    clean, poisoned = lab.server("clean"), lab.server("poisoned")
    for server in (clean, poisoned):
        Writer(lab.store(server.url)).append(10)
    poisoned.do("XADD", LOG, "11-11", "e", POISON["5 MB of empty maps"])

    # when
    (fine, usual), (stopped, most) = (peak_of_a_run(server, plugin) for server in (clean, poisoned))

    # then
    assert (fine, stopped) == (0, 1)
    assert most - usual < 40_000_000


def test_row_31_the_largest_event_that_is_let_in_costs_a_bounded_amount(lab: Lab, plugin: Path) -> None:
    """A payload of empty maps right below the limit is decoded: it takes its seventy times, and no more."""
    # given
    server = lab.server()
    Writer(lab.store(server.url)).append(10)
    worst = event_of_empty_maps(MAX_EVENT_BYTES - 100)
    assert len(worst) <= MAX_EVENT_BYTES
    server.do("XADD", LOG, "11-11", "e", worst)

    # when
    fine, most = peak_of_a_run(server, plugin)

    # then
    assert fine == 0
    assert most < 250_000_000 + own_peak()  # a child's peak begins with its parent's memory, on Linux


def own_peak() -> int:
    """The most memory that this process has had, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * (1 if sys.platform == "darwin" else 1024)


def peak_of_a_run(server: Server, plugin: Path) -> tuple[int, int]:
    """The exit code of `runner run --once`, and the most memory that it had, in bytes."""
    command = ["run", "--once", "--projections", str(plugin), "--store", server.url]
    process = subprocess.Popen([sys.executable, "-m", "runner", *command], stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
