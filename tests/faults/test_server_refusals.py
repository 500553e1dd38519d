"""The fault matrix, servers that are there and do not do what they are asked: rows 19, 22, 23 and 33."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import redis
from accounts import balances, deposited, in_thread, noted, reached, rows_of
from clients import Follower, Writer, everything_said, following
from lab import IMPATIENT, PATIENT, Lab, Server

from runner import EventStore, StoreTrouble
from runner.errors import StoreRefused
from runner.workers.assignment import WAITING

pytestmark = pytest.mark.real

SECRET = "correct-horse-battery"


class Gate:
    """Holds a projection's handlers back, so that a fault can hit the commit behind them."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.reached = threading.Event()

    def __call__(self, event: object) -> None:
        self.reached.set()
        assert self._open.wait(10)

    def open(self) -> None:
        self._open.set()


@contextmanager
def held_back(store: EventStore, writer: Writer) -> Iterator[tuple[Follower, Gate]]:
    """A follower that has read three new events, and commits them when the gate is opened."""
    gate = Gate()
    with following(store, balances(on_event=gate)) as follower:
        writer.append(3)
        assert gate.reached.wait(10)
        try:
            yield follower, gate
        finally:
            gate.open()


# -- row 19 -------------------------------------------------------------------------------------


def test_row_19_maxmemory_reached_is_a_clear_error_and_no_part_of_a_batch(lab: Lab) -> None:
    """OOM: the append is refused with what to do about it, nothing of it is there, and it is taken when there is
    room; the index of a new stream does not stay behind either."""
    # given
    server = lab.server()
    writer = Writer(lab.store(server.url))
    writer.append(3)
    before = sorted(server.do("KEYS", "*"))
    server.config(maxmemory=1)

    # when
    with pytest.raises(StoreRefused) as refused:
        writer.store.append("account-2", [noted() for _ in range(50)], 0)

    # then
    assert refused.value.code == "OOM"
    assert "maxmemory" in refused.value.hint
    assert sorted(server.do("KEYS", "*")) == before
    assert writer.store.last_position() == 3

    # and
    server.config(maxmemory=0)
    writer.append(50)
    assert writer.findings() == []


def test_row_19_maxmemory_reached_between_the_writes_of_a_batch(lab: Lab) -> None:
    """A batch that begins below the limit and ends above it is written whole: a script is not stopped in between."""
    # given
    server = lab.server()
    writer = Writer(lab.store(server.url))
    server.config(maxmemory=int(server.info("memory")["used_memory"]) + 3_000_000)

    # when
    whole = 0
    with pytest.raises(StoreRefused, match="maxmemory"):
        for whole in range(10):  # 2 MB each
            batch = [deposited(text="x" * 10_000) for _ in range(200)]
            writer.store.append("account-1", batch, 200 * whole)

    # then
    assert 0 < whole < 10
    memory = server.info("memory")
    assert memory["used_memory_peak"] > memory["maxmemory"]
    assert writer.store.version("account-1") == writer.store.last_position() == 200 * whole
    assert [found for found in writer.findings() if not found.startswith("stranger")] == []


def test_row_19_maxmemory_reached_holds_a_projection_up_until_there_is_room(lab: Lab) -> None:
    """The commit is refused, the view stays as it was, and the same runner goes on with it when there is room."""
    # given
    server = lab.server()
    store = lab.store(server.url)
    writer = Writer(store)
    with held_back(store, writer) as (follower, gate):
        # when
        server.config(maxmemory=1)
        gate.open()
        assert reached(lambda: errors(server, "OOM") > 2)  # it has tried more than once
        assert rows_of(store) == {}
        assert reached(lambda: follower.state == WAITING)

        # then
        server.config(maxmemory=0)
        assert follower.sees(writer.append())
        assert follower.is_right()
    assert writer.findings(views=True) == []


def errors(server: Server, code: str) -> int:
    """How often the server has answered with an error."""
    return int(server.info("errorstats").get(f"errorstat_{code}", {}).get("count", 0))


# -- row 22 -------------------------------------------------------------------------------------


class Disk:
    """Where a server writes its snapshots: taken away and given back."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._place = server.directory / "snapshots"

    def take_away(self) -> None:
        self._place.mkdir()
        self._server.config(dir=self._place)
        self._place.rmdir()
        self._save("err")

    def give_back(self) -> None:
        self._server.config(dir=self._server.directory)
        self._save("ok")

    def _save(self, status: str) -> None:
        self._server.do("BGSAVE")
        assert reached(lambda: self._server.info("persistence")["rdb_last_bgsave_status"] == status)


@pytest.fixture
def saving(lab: Lab) -> Server:
    """A server that takes no writes when it could not save."""
    return lab.server(save="3600 100000", stop_writes_on_bgsave_error="yes", enable_protected_configs="yes")


def test_row_22_misconf_refuses_an_append_and_then_takes_it(lab: Lab, saving: Server) -> None:
    """MISCONF: not executed, the error says whose fault it is, and the same append runs when the disk is back."""
    # given
    disk, writer = Disk(saving), Writer(lab.store(saving.url))
    writer.append(3)
    event = deposited()

    # when
    disk.take_away()
    with pytest.raises(StoreRefused) as refused:
        writer.store.append("account-2", event, 0)

    # then
    assert refused.value.code == "MISCONF"
    assert "disk" in refused.value.hint
    assert writer.store.last_position() == 3

    # and
    disk.give_back()
    assert writer.store.append("account-2", event, 0).duplicate is False
    writer.append()
    assert writer.store.last_position() == 5


def test_row_22_misconf_holds_a_projection_up_until_the_disk_is_back(lab: Lab, saving: Server) -> None:
    """The runner says that it waits, tries again, and goes on by itself."""
    # given
    disk, store = Disk(saving), lab.store(saving.url)
    writer = Writer(store)
    with held_back(store, writer) as (follower, gate):
        # when
        disk.take_away()
        gate.open()
        assert reached(lambda: errors(saving, "MISCONF") > 2)
        assert rows_of(store) == {}
        assert reached(lambda: follower.state == WAITING)

        # then
        disk.give_back()
        assert follower.sees(writer.append())
        assert follower.is_right()


# -- row 23 -------------------------------------------------------------------------------------


@contextmanager
def busy(server: Server) -> Iterator[None]:
    """Another client's script runs for the length of the block, and the server answers BUSY."""
    server.config(busy_reply_threshold=20)

    def run_for_ever() -> None:
        with pytest.raises(redis.ResponseError, match=r"(?i)killed"):
            server.do("EVAL", "while true do end", 0)

    with in_thread(run_for_ever):
        assert reached(lambda: says_busy(server))
        try:
            yield
        finally:
            server.do("SCRIPT", "KILL")


def says_busy(server: Server) -> bool:
    try:
        server.do("PING")
    except redis.ResponseError as error:
        return str(error).startswith("BUSY")
    return False


def test_row_23_busy_script_delays_an_append_and_a_projection(lab: Lab) -> None:
    """While another client's script runs, appends and the runner back off; each runs once when it has ended."""
    # given
    server = lab.server()
    writer = Writer(lab.store(server.url, PATIENT))
    writer.append(3)
    with following(lab.store(server.url)) as follower:
        assert follower.is_right()

        # when
        appending = ExitStack()
        with appending, busy(server):
            appending.enter_context(in_thread(writer.append))
            assert reached(lambda: follower.state == WAITING)
            assert writer.acknowledged == 3

        # then
        assert writer.acknowledged == 4
        assert writer.record.unknown == 0  # the append waited by itself
        assert errors(server, "BUSY") > 2
        assert follower.sees(writer.append())
        assert follower.is_right()
    assert writer.findings(views=True) == []


def test_row_23_busy_for_longer_than_an_append_is_patient(lab: Lab) -> None:
    """The append gives up with an error that says that trying again is right, and the repetition is stored once."""
    # given
    server = lab.server()
    store = lab.store(server.url, IMPATIENT)
    event = deposited()

    # when
    with busy(server), pytest.raises(StoreTrouble, match="BUSY") as told:
        store.append("account-1", event, 0)

    # then
    assert told.value.passing
    assert store.append("account-1", event, 0).position == 1
    assert store.last_position() == 1


# -- row 33 -------------------------------------------------------------------------------------


def clerk(server: Server) -> str:
    """The URL of a user whom the server knows, and who may do everything."""
    server.do("ACL", "SETUSER", "clerk", "on", f">{SECRET}", "~*", "&*", "+@all")
    return f"unix://clerk:{SECRET}@{server.socket}"


def test_row_33_password_wrong_is_a_clear_error_without_it(lab: Lab) -> None:
    """A wrong password and an unknown user: the error says so and what to check, and shows no password."""
    # given
    server = lab.server()
    wrong = clerk(server).replace(SECRET, f"wrong-{SECRET}")

    for url in (wrong, wrong.replace("clerk", "nobody")):
        # when
        with pytest.raises(StoreRefused) as refused:
            EventStore.open(url)

        # then
        assert refused.value.code == "WRONGPASS"
        assert refused.value.hint
        assert SECRET not in everything_said(refused.value)


REVOKE = {
    "a right": (["ACL", "SETUSER", "clerk", "-evalsha"],),
    "the keys": (["ACL", "SETUSER", "clerk", "resetkeys"],),
    "the password": (["ACL", "SETUSER", "clerk", "resetpass", ">another"], ["CLIENT", "KILL", "USER", "clerk"]),
    "the user": (["ACL", "DELUSER", "clerk"],),
}


@pytest.mark.parametrize("what", REVOKE)
def test_row_33_acl_revoked_while_running(lab: Lab, what: str) -> None:
    """Appends are refused and the runner ends: each says that it lacks the right, and shows no password."""
    # given
    server = lab.server()
    store = lab.store(clerk(server))
    writer = Writer(store)
    writer.append(3)
    with following(store) as follower:
        assert follower.is_right()

        # when
        for command in REVOKE[what]:
            server.do(*command)
        failure = follower.stops()
        with pytest.raises(StoreRefused) as refused:
            writer.append()

    # then
    for error in (failure, refused.value):
        assert isinstance(error, StoreRefused)
        assert error.code in ("NOPERM", "WRONGPASS", "NOAUTH")
        assert error.hint
        assert SECRET not in everything_said(error)
    assert SECRET not in "".join(map(repr, (store, store.driver, store.driver.address, store.info)))
    assert lab.store(server.url).last_position() == 3


def test_row_33_a_runner_process_says_no_secret(lab: Lab) -> None:
    """Through wrong password, start, and a right that is taken away, `runner run` prints no password and exits
    with 3."""
    # given
    server = lab.server()
    url = clerk(server)
    run = [sys.executable, "-m", "runner", "run", "--log", "json", "--store"]

    # when
    refused = subprocess.run([*run, url.replace(SECRET, "x" + SECRET)], capture_output=True, text=True, check=False)
    with subprocess.Popen([*run, url], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if '"live"' in line:
                server.do("ACL", "SETUSER", "clerk", "-evalsha")

    # then
    assert (refused.returncode, process.returncode) == (3, 3)
    assert "invalid username-password pair" in refused.stderr
    assert "access list" in "".join(said)
    assert SECRET not in refused.stdout + refused.stderr + "".join(said)
