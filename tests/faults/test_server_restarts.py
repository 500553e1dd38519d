"""The fault matrix, servers that die and come back, and their files: rows 10, 11, 12 and 32."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from accounts import balances, in_thread, reached
from click.testing import CliRunner, Result
from clients import Writer, following
from disk import can_be_told, unwritten_pages
from lab import PATIENT, Lab, Server, binary

from runner import DataError, EventStore, RunnerError, StoreTrouble, WrongExpectedVersion, catch_up
from runner.cli.main import main
from runner.embedded import supervisor

pytestmark = pytest.mark.real

#: Events enough for the server to look at its clients while it loads them, which it does every 1,024 commands.
LONG = 2000


# -- row 10 -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fsync", ["no", "always"])
def test_row_10_server_killed_and_restarted_loading(lab: Lab, fsync: str) -> None:
    """Killed under load and loading for a while: every acknowledged event is there, writer and view go on alone."""
    # given
    server = lab.server(appendfsync=fsync)
    store = lab.store(server.url, PATIENT)
    writer, end = Writer(store), threading.Event()
    writer.append(LONG)
    with following(store) as follower, in_thread(lambda: writer.run(end)):
        assert reached(lambda: writer.acknowledged > LONG + 50)

        # when
        server.kill()
        before = writer.acknowledged
        server.launch(key_load_delay=100)  # microseconds, for each command in the file
        assert reached(lambda: is_loading(server))
        assert reached(server.answers)

        # then
        assert reached(lambda: writer.acknowledged > before + 50 or writer.told is not None)
        end.set()
        assert writer.told is None
        assert follower.is_right()
    assert writer.record.unknown == 0  # no append came back without an answer
    assert writer.findings(views=True) == []


def is_loading(server: Server) -> bool:
    try:
        server.do("PING")
    except redis.exceptions.BusyLoadingError:
        return True
    except redis.ConnectionError:
        pass
    return False


# -- row 11 -------------------------------------------------------------------------------------


@pytest.fixture
def embedded(lab: Lab) -> Path:
    """The directory of an embedded store that is not there yet."""
    return lab.directory / "embedded"


def tail_of(directory: Path) -> Path:
    """The file that a server of the directory adds commands to."""
    [file] = directory.glob("appendonlydir/*.incr.aof")
    return file


def test_row_11_power_loss_with_always_loses_nothing(lab: Lab, embedded: Path) -> None:
    """The embedded server syncs: with the file cut to what it held when an append was acknowledged, the append and
    all before it are there."""
    # given
    lengths = []
    with EventStore.open(f"embedded:{embedded}") as store:
        writer = Writer(store)
        for count in (1, 3, 1, 50, 1):
            writer.append(count)
            lengths.append(tail_of(embedded).stat().st_size)
    appends = list(writer.record.told)

    for place, length in enumerate(lengths, 1):
        # when
        survivor = lab.server(f"after-{place}", files=embedded, cut_at=length)

        # then
        writer.store = lab.store(survivor.url)
        assert writer.findings(upto=appends[place - 1][1].position) == []
        assert writer.store.last_position() == appends[place - 1][1].position


def test_row_11_what_the_embedded_server_acknowledges_is_on_the_disk(lab: Lab, embedded: Path) -> None:
    """When an append returns, the kernel holds nothing of the append-only file that the disk does not."""
    if not can_be_told(lab.directory):
        pytest.skip("this kernel or file system does not tell what has reached the disk")
    with EventStore.open(f"embedded:{embedded}") as store:
        writer = Writer(store)
        for _ in range(50):
            writer.append()
            assert unwritten_pages(tail_of(embedded)) == 0


class PowerLoss:
    """A server that syncs every second, and loses the last second: five events, which were acknowledged."""

    KEPT, LOST = 5, 5

    def __init__(self, lab: Lab) -> None:
        self.server = lab.server(appendfsync="always")  # what is kept is in the file for certain
        self.store = lab.store(self.server.url)
        self.writer = Writer(self.store)
        self.writer.append(self.KEPT)
        self.server.config(appendfsync="everysec")
        self.synced = 0

    def lose_the_last_second(self) -> None:
        self.server.lose_power(self.synced)
        self.server.start()

    def append_within_the_last_second(self) -> None:
        self.synced = self.server.tail.stat().st_size
        for _ in range(self.LOST):
            self.writer.append()


def test_row_11_power_loss_with_everysec_is_reported_to_the_writer(lab: Lab) -> None:
    """The writer's next append is a conflict that names the version that is left; nothing is written."""
    # given
    loss = PowerLoss(lab)
    loss.append_within_the_last_second()

    # when
    loss.lose_the_last_second()
    with pytest.raises(WrongExpectedVersion) as conflict:
        loss.writer.append()

    # then
    assert (conflict.value.expected, conflict.value.actual) == (loss.KEPT + loss.LOST, loss.KEPT)
    assert loss.writer.findings(upto=loss.KEPT) == []


def test_row_11_power_loss_with_everysec_is_reported_by_the_runner(lab: Lab) -> None:
    """A projection that had applied what is lost says that history diverged, though its view lost the same."""
    # given
    loss = PowerLoss(lab)
    with following(loss.store) as follower:
        assert follower.is_right()
        loss.append_within_the_last_second()
        assert follower.is_right()

        # when
        loss.lose_the_last_second()
        failure = follower.stops(patience=2.0)

    # then
    assert isinstance(failure, DataError)
    assert str(loss.KEPT + loss.LOST) in str(failure)


def test_row_11_a_view_elsewhere_is_ahead_of_the_log_that_is_left(lab: Lab) -> None:
    """A projection whose checkpoint was kept when its log lost the tail is not taken up again: it says so at once."""
    # given
    loss = PowerLoss(lab)
    loss.append_within_the_last_second()
    catch_up(loss.store, balances())
    keys = loss.store.info.keys[0]
    records = [keys.projection("balances"), keys.build("balances", "1")]
    kept = [loss.server.do("DUMP", key) for key in records]

    # when
    loss.lose_the_last_second()
    for key, value in zip(records, kept, strict=True):
        loss.server.do("RESTORE", key, 0, value, "REPLACE")

    # then
    with pytest.raises(DataError, match=str(loss.KEPT + loss.LOST)):
        catch_up(loss.store, balances())


# -- row 12 -------------------------------------------------------------------------------------


def cut(whole: bytes) -> bytes:
    return whole[:-7]


def add_garbage(whole: bytes) -> bytes:
    return whole + b"\x00\xff" * 40


def flip(before: bytes, wanted: bytes, bit: int = 0) -> Callable[[bytes], bytes]:
    """Flip a bit of the first byte of ``wanted``, where it comes right behind the last ``before``."""

    def damage(whole: bytes) -> bytes:
        place = whole.rindex(before + wanted) + len(before)
        return whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :]

    return damage


@pytest.fixture
def damaged(embedded: Path) -> Callable[[Callable[[bytes], bytes]], str]:
    """An embedded store of 20 events whose file is damaged while no server runs; its URL."""

    def make(damage: Callable[[bytes], bytes]) -> str:
        url = f"embedded:{embedded}"
        with EventStore.open(url) as store:
            Writer(store).append(20)
            catch_up(store, balances())
        file = tail_of(embedded)
        file.write_bytes(damage(file.read_bytes()))
        return url

    return make


def verify(url: str) -> Result:
    return CliRunner().invoke(main, ["verify", "--store", url])


@pytest.mark.parametrize(
    "damage",
    [cut, add_garbage, flip(b"\r\n", b"$4\r\nXADD"), flip(b"\r\n$", b"4\r\nXADD"), flip(b"\r\n", b"XADD")],
    ids=["tail cut", "garbage behind it", "bit of a type", "bit of a length", "bit of a command"],
)
def test_row_12_damaged_aof_is_refused_at_start(
    damaged: Callable[[Callable[[bytes], bytes]], str], embedded: Path, damage: Callable[[bytes], bytes]
) -> None:
    """The server does not start, the error says why and where to look, and nothing is repaired in silence."""
    # given
    url = damaged(damage)
    before = tail_of(embedded).read_bytes()

    # when
    with pytest.raises(StoreTrouble) as refused:
        EventStore.open(url)

    # then
    assert str(embedded) in str(refused.value)
    assert "server.log" in refused.value.hint
    assert tail_of(embedded).read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [
        flip(b"{es.0}:", b"log\r\n"),
        flip(b"{es.0}:", b"stream:account-1\r\n"),
        flip(b"account-1", b"\xa9Deposited"),
        flip(b"\xa9Deposited", b"\xcf"),
        flip(b"{es.0}:log\r\n$5\r\n", b"20-20\r\n"),
        flip(b"\xa6amount", b"\x0a"),
        flip(b"\xa9", b"Deposited"),
    ],
    ids=["name of the log", "name of an index", "shape of an event", "type of a time", "position", "payload", "type"],
)
def test_row_12_damage_that_the_server_does_not_see_is_reported_by_verify(
    damaged: Callable[[Callable[[bytes], bytes]], str], damage: Callable[[bytes], bytes]
) -> None:
    """A flipped bit inside of a command loads: `runner verify` finds what it did, and ends with exit code 1."""
    # given
    url = damaged(damage)

    # when
    result = verify(url)

    # then
    assert result.exit_code == 1, result.output
    assert "position" in result.output or "log" in result.output


@pytest.mark.parametrize("field", ["epoch", "format", "partitions"])
def test_row_12_info_of_the_store_that_are_damaged_are_an_error_of_the_data(lab: Lab, field: str) -> None:
    """A store whose info are incomplete is not opened: a DataError says what is wrong."""
    server = lab.server()
    Writer(lab.store(server.url)).append(3)
    server.do("HDEL", "{es.0}:meta", field)
    with pytest.raises(DataError):
        EventStore.open(server.url)


def test_row_12_a_batch_that_was_cut_is_gone_whole(lab: Lab) -> None:
    """A server that may cut a damaged tail off leaves no part of a batch behind."""
    # given
    server = lab.server()
    writer = Writer(lab.store(server.url))
    writer.append(3)
    start = server.tail.stat().st_size
    writer.append(20)
    end = server.tail.stat().st_size

    # when
    survivor = lab.server("survivor", files=server.directory, cut_at=(start + end) // 2, aof_load_truncated="yes")

    # then
    writer.store = lab.store(survivor.url)
    assert writer.store.last_position() == 3
    assert writer.findings(upto=3) == []


# -- row 32 -------------------------------------------------------------------------------------


def pid_of(directory: Path) -> int:
    return int((directory / "pid").read_text())


def test_row_32_second_embedded_server_on_one_directory_is_refused(embedded: Path) -> None:
    """Whoever opens the directory joins its server, and one that is started past that check does not come up."""
    # given
    with EventStore.open(f"embedded:{embedded}") as store:
        Writer(store).append(3)
        pid = pid_of(embedded)

        # when
        with EventStore.open(f"embedded:{embedded}") as second:
            assert Writer(second).append().position == 4
        directory = os.open(embedded, os.O_RDONLY)
        command = [sys.executable, "-I", "-S", supervisor.__file__, str(directory), binary(), "--port", "0"]
        started = subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=False, pass_fds=[directory]
        )  # fmt: skip
        os.close(directory)

        # then
        assert (started.returncode, pid_of(embedded)) == (3, pid)
        assert "another server holds the directory" in started.stdout
        assert store.last_position() == 4


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whether another process has a file open")
def test_row_32_an_embedded_server_beside_one_that_was_started_by_hand_is_refused(lab: Lab, embedded: Path) -> None:
    """Someone's own server works on the directory: opening it as embedded is refused, and starts no second one."""
    # given
    with EventStore.open(f"embedded:{embedded}") as store:
        Writer(store).append(3)
    by_hand = lab.server("embedded", unixsocket=lab.directory / "by-hand")
    assert int(by_hand.do("DBSIZE")) > 0

    # then
    with pytest.raises(RunnerError):
        EventStore.open(f"embedded:{embedded}").close()


@pytest.mark.xfail(reason="neither Redis nor Valkey asks anyone whether the directory is free", strict=True)
def test_row_32_a_server_started_by_hand_beside_an_embedded_one_does_not_reach_its_files(
    lab: Lab, embedded: Path
) -> None:
    """Started by hand with the usual settings in the directory of an embedded server, a server finds no log there."""
    with EventStore.open(f"embedded:{embedded}") as store:
        Writer(store).append(3)
        by_hand = lab.server("embedded", unixsocket=lab.directory / "by-hand")
        assert int(by_hand.do("DBSIZE")) == 0
