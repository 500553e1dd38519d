"""The embedded server: who starts it, who stops it, and what is left when somebody is killed."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from accounts import PATIENCE, balances, deposited, reached, rows_of

from runner import EventStore, InvalidInput, StoreTrouble, follow
from runner.testing import TEST_SETTINGS, all_events, count

pytestmark = pytest.mark.real

#: A process that opens the store, says so, and does what its arguments say until its input ends.
USER = """
import sys
from runner import EventStore, NewEvent

with EventStore.open("embedded:" + sys.argv[1]) as store:
    if sys.argv[2] == "once":
        store.append(sys.argv[3], NewEvent("Deposited", {"amount": 1}))
    print("in", flush=True)
    while sys.argv[2] == "for ever":
        print(store.append(sys.argv[3], NewEvent("Deposited", {"amount": 1})).version, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that is not there yet, with a short path, gone after the test."""
    with tempfile.TemporaryDirectory(prefix="runner-emb-") as place:
        yield Path(place) / "store"


def opened(directory: Path) -> EventStore:
    return EventStore.open(f"embedded:{directory}", settings=TEST_SETTINGS)


def server_pid(directory: Path) -> int:
    return int((directory / "pid").read_text())


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but was not yet waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return not Path("/proc/self").exists()


def gone(pid: int) -> bool:
    """Whether the process ends within a bounded time."""
    return reached(lambda: not alive(pid))


def start_user(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", USER, str(directory), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@contextmanager
def user(directory: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the store open, for the length of the block."""
    process = start_user(directory, *(arguments or ("nothing",)))
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "in\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def leave(process: subprocess.Popen[str]) -> None:
    """Let a user's process end in good order."""
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


# -- coming and going ---------------------------------------------------------------------------


def test_the_first_opener_starts_the_server_and_the_last_one_out_stops_it(directory: Path) -> None:
    """Opening a directory starts its server; closing the store stops it, and no process is left."""
    # when
    with opened(directory) as store:
        pid = server_pid(directory)
        assert alive(pid)
        store.append("account-1", deposited())

    # then
    assert gone(pid)


def test_what_was_appended_is_there_after_the_server_was_stopped_and_started(directory: Path) -> None:
    """B18. After a restart of the server: the same contents and version, and the next append follows."""
    # given
    with opened(directory) as store:
        store.append("account-1", [deposited(), deposited()])
        before, epoch = all_events(store), store.info.epoch

    # when
    with opened(directory) as store:
        # then
        assert all_events(store) == before
        assert (store.version("account-1"), store.info.epoch) == (2, epoch)
        assert store.append("account-1", deposited(), 2).version == 3


def test_a_second_store_of_the_same_process_joins(directory: Path) -> None:
    """Two stores of one process on one directory share a server; closing one leaves the other at work."""
    # given
    first, second = opened(directory), opened(directory)
    pid = server_pid(directory)
    first.append("account-1", deposited())

    # when
    first.close()
    first.close()

    # then
    assert count(second) == 1
    assert alive(pid)
    assert server_pid(directory) == pid
    second.close()
    assert gone(pid)


def test_a_second_process_joins_the_server_that_runs(directory: Path) -> None:
    """Another process that opens the directory uses the same server, and each sees what the other appended."""
    # given
    with opened(directory) as store:
        pid = server_pid(directory)
        store.append("account-1", deposited())

        # when
        with user(directory, "once", "account-1"):
            # then
            assert server_pid(directory) == pid
            assert store.version("account-1") == 2


def test_the_server_stays_until_its_last_user_has_left(directory: Path) -> None:
    """The process that started the server may leave first: it runs on for those who joined, and ends with the last."""
    # given
    with ExitStack() as stack:
        store = opened(directory)
        pid = server_pid(directory)
        process = stack.enter_context(user(directory))

        # when
        store.close()

        # then
        assert alive(pid)
        with opened(directory) as again:
            assert server_pid(directory) == pid
            again.append("account-1", deposited())
        assert alive(pid)

        # when
        leave(process)

        # then
        assert gone(pid)


def test_a_store_can_be_opened_again_at_once_many_times(directory: Path) -> None:
    """Closing and opening in turn never meets a server on its way out."""
    # when
    for round_ in range(4):
        with opened(directory) as store:
            assert store.append("account-1", deposited(), round_).version == round_ + 1

    # then
    with opened(directory) as store:
        assert count(store) == 4


def test_ten_processes_that_start_at_once_have_one_server(directory: Path) -> None:
    """Starting is a matter of one process at a time: all ten use the same server, and every append is there."""
    # given
    with ExitStack() as stack:
        processes = [start_user(directory, "once", f"account-{place}") for place in range(10)]
        for process in processes:
            stack.callback(process.communicate)
            stack.callback(process.kill)

        # when
        said = [process.stdout.readline() for process in processes if process.stdout is not None]

        # then
        assert said == ["in\n"] * 10
        assert (directory / "server.log").read_text().lower().count("ready to accept connections") == 1
        with opened(directory) as store:
            assert count(store) == 10
        pid = server_pid(directory)
        assert alive(pid)
        for process in processes:
            leave(process)
    assert gone(pid)


# -- killed -------------------------------------------------------------------------------------


def test_when_all_users_are_killed_no_server_is_left_and_nothing_acknowledged_is_lost(directory: Path) -> None:
    """kill -9 of every user, while they append: the server ends by itself, and what was acknowledged is there."""
    # given
    with (
        user(directory, "for ever", "account-1") as one,
        user(directory, "for ever", "account-2") as two,
    ):
        pid = server_pid(directory)
        acknowledged = {}
        for process in (one, two):
            assert process.stdout is not None
            for _ in range(20):
                process.stdout.readline()

        # when
        for process in (one, two):
            process.send_signal(signal.SIGKILL)
        for name, process in (("account-1", one), ("account-2", two)):
            assert process.stdout is not None
            rest = process.stdout.read().split("\n")[:-1]
            acknowledged[name] = int(rest[-1]) if rest else 20

        # then
        assert gone(pid)
    with opened(directory) as store:
        for name, version in acknowledged.items():
            assert version >= 20
            assert store.version(name) in (version, version + 1)
        assert [event.position for event in store.read_all()] == list(range(1, count(store) + 1))


def test_after_the_server_was_killed_the_next_append_starts_it_again(directory: Path) -> None:
    """kill -9 of the server: a store that is open starts it anew, with everything acknowledged in it, and goes on."""
    # given
    with opened(directory) as store:
        store.append("account-1", [deposited(), deposited()])
        before = all_events(store)
        pid = server_pid(directory)

        # when
        os.kill(pid, signal.SIGKILL)
        assert gone(pid)
        result = store.append("account-1", deposited(), 2)

        # then
        assert (result.version, result.position) == (3, 3)
        assert all_events(store)[:2] == before
        new_pid = server_pid(directory)
        assert new_pid != pid
    assert gone(new_pid)


def test_several_users_of_a_killed_server_meet_on_the_new_one(directory: Path) -> None:
    """kill -9 of the server with several users, in this process and another: one new server for all of them."""
    # given
    with opened(directory) as one, opened(directory) as two, user(directory, "for ever", "account-2") as other:
        one.append("account-1", deposited())
        pid = server_pid(directory)

        # when
        os.kill(pid, signal.SIGKILL)
        assert gone(pid)

        # then
        assert two.append("account-1", deposited(), 1).version == 2
        assert one.append("account-1", deposited(), 2).version == 3
        seen = two.version("account-2")
        assert reached(lambda: two.version("account-2") > seen)
        other.kill()
        assert other.stdout is not None
        acknowledged = other.stdout.read().split("\n")[:-1]
        assert two.version("account-2") >= int(acknowledged[-1])
        assert (directory / "server.log").read_text().lower().count("ready to accept connections") == 2


def test_projections_go_on_with_the_new_server(directory: Path) -> None:
    """kill -9 of the server under a projection that follows: it goes on, and the view is right."""
    # given
    with opened(directory) as store, follow(store, balances()) as following:
        store.append("account-1", [deposited(), deposited()])
        following.wait_live(PATIENCE)

        # when
        os.kill(server_pid(directory), signal.SIGKILL)
        store.append("account-1", deposited(), 2)

        # then
        assert reached(lambda: rows_of(store) == {"account-1": {"balance": 30, "numbers": [1, 2, 3]}})


def test_a_killed_server_is_noticed_by_those_who_open_later(directory: Path) -> None:
    """The files that a killed server left, locks and socket and pid, do not keep the next one from starting."""
    # given
    with opened(directory) as store:
        store.append("account-1", deposited())
        os.kill(server_pid(directory), signal.SIGKILL)
    left = {path.name for path in directory.iterdir()}

    # when
    with opened(directory) as store:
        # then
        assert {"users", "start", "server", "pid", "socket"} <= left
        assert count(store) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_server_does_not_outlive_its_supervisor(directory: Path) -> None:
    """kill -9 of the supervisor ends the server too, so that none is left that nobody would ever stop."""
    # given
    with opened(directory) as store:
        store.append("account-1", deposited())
        pid = server_pid(directory)
        supervisor = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        assert b"supervisor.py" in Path(f"/proc/{supervisor}/cmdline").read_bytes()

        # when
        os.kill(supervisor, signal.SIGKILL)

        # then
        assert gone(pid)
        with opened(directory) as again:
            assert count(again) == 1


# -- places -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["/".join(["a-directory-with-a-long-name"] * 6), "with a space", "mit-ümläut-☕", "quote'\"s", "$HOME;x", "{tag}"],
)
def test_any_path_that_a_directory_can_have_will_do(directory: Path, name: str) -> None:
    """A path longer than a socket's may be, and one with spaces, quotes or other scripts: all who open it meet."""
    # given
    place = directory / name
    with opened(place) as store:
        store.append("account-1", deposited())

        # when
        with opened(place) as again:
            # then
            assert count(again) == 1
        pid = server_pid(place)
    assert gone(pid)
    with opened(place) as later:
        assert count(later) == 1


def test_a_relative_path_and_its_absolute_one_are_the_same_place(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path is made absolute when it is opened; a process may change its directory afterwards."""
    # given
    monkeypatch.chdir(directory.parent)
    with EventStore.open("embedded:store", settings=TEST_SETTINGS) as store:
        store.append("account-1", deposited())

        # when
        monkeypatch.chdir("/")
        with opened(directory) as again:
            # then
            assert count(again) == 1
            assert count(store) == 1


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_path_that_is_a_file_is_refused(directory: Path, below: str) -> None:
    """A file where the directory should be, or above it: InvalidInput names the path, and the file is left alone."""
    # given
    directory.write_text("mine")
    place = directory / below if below else directory

    # when
    with pytest.raises(InvalidInput) as raised:
        opened(place)

    # then
    assert str(place) in str(raised.value)
    assert directory.read_text() == "mine"


def test_the_directory_and_its_socket_are_for_their_user_alone(directory: Path) -> None:
    """A new directory has the permissions 0700, whatever the umask, and so has the socket; locks have 0600."""
    # given
    before = os.umask(0)
    try:
        # when
        with opened(directory):
            modes = {name: stat.S_IMODE((directory / name).stat().st_mode) for name in ("", "socket", "users", "start")}
    finally:
        os.umask(before)

    # then
    assert modes == {"": 0o700, "socket": 0o700, "users": 0o600, "start": 0o600}


def test_the_server_listens_on_its_socket_alone(directory: Path) -> None:
    """No TCP port is opened, acknowledged is on the disk, and nothing is evicted."""
    # when
    with opened(directory) as store:
        names = ("port", "appendonly", "appendfsync", "maxmemory-policy")
        [found] = store.driver.execute([("CONFIG", "GET", *names)])

    # then
    assert dict(zip(found[::2], found[1::2], strict=True)) == {
        b"port": b"0",
        b"appendonly": b"yes",
        b"appendfsync": b"always",
        b"maxmemory-policy": b"noeviction",
    }


# -- damage -------------------------------------------------------------------------------------


def append_only_file(directory: Path) -> Path:
    """The file that holds what was appended."""
    return max(directory.glob("appendonlydir/*.incr.aof"), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize("damage", ["in the middle", "at the end"])
def test_a_damaged_file_is_refused_with_a_text_that_says_so(directory: Path, damage: str) -> None:
    """A damaged append-only file: StoreTrouble says what is wrong and where to look; nothing is repaired in silence."""
    # given
    with opened(directory) as store:
        store.append("account-1", [deposited() for _ in range(20)])
    file = append_only_file(directory)
    whole = file.read_bytes()
    half = whole.index(b"\r\n*", len(whole) // 2)  # where a command begins: payloads may hold any bytes
    damaged = whole[:half] + b"\xff" * 64 + whole[half + 64 :] if damage == "in the middle" else whole[:-7]
    file.write_bytes(damaged)

    # when
    with pytest.raises(StoreTrouble) as raised:
        opened(directory)

    # then
    text = str(raised.value)
    assert str(directory) in text
    assert "append only file" in text.lower()
    assert "server.log" in raised.value.hint
    assert file.read_bytes() == damaged

    # and: put right, it opens
    file.write_bytes(whole)
    with opened(directory) as store:
        assert count(store) == 20
