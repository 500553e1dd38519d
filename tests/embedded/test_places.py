"""Directories of embedded stores that somebody else made, or may write to: nothing in them is believed."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from accounts import deposited
from forking import forked, in_child
from users import STRANGER, as_stranger, needs_root

from runner import EventStore, InvalidInput, StoreTrouble
from runner.cli.demo import writable_place
from runner.embedded.peer import user_of
from runner.embedded.server import Server
from runner.errors import StoreRefused
from runner.testing import TEST_SETTINGS, count

pytestmark = pytest.mark.real

#: Files of a store's directory that are written when it is opened, or when its server is killed.
FILES = ["pid", "killed", "server.log", "users", "start", "server", "checked"]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user may enter, as ``/tmp`` is."""
    with tempfile.TemporaryDirectory(prefix="runner-place-") as made:
        os.chmod(made, 0o1777)
        yield Path(made)


def opened(directory: Path) -> EventStore:
    return EventStore.open(f"embedded:{directory}", settings=TEST_SETTINGS)


def refused(directory: Path) -> str:
    """The text with which a store is refused."""
    with pytest.raises(InvalidInput) as caught:
        opened(directory).close()
    assert caught.value.hint
    return str(caught.value)


def modes(directory: Path) -> dict[str, int]:
    """What each entry of a directory, and the directory itself, lets other users do."""
    entries = [directory, *directory.rglob("*")]
    return {str(entry.relative_to(directory)): stat.S_IMODE(entry.stat().st_mode) & 0o077 for entry in entries}


# -- links ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*FILES, "appendonlydir", "temp-rewriteaof-7.aof"])
def test_a_link_in_a_directory_is_refused_and_not_followed(place: Path, name: str) -> None:
    """A project that was downloaded may hold links: the file that one leads to stays as it was."""
    # given
    mine = place / "mine"
    mine.write_text("mine")
    store = place / "store"
    store.mkdir(0o700)
    (store / name).symlink_to(mine)

    # when
    text = refused(store)

    # then
    assert str(store / name) in text
    assert "is a link" in text
    assert mine.read_text() == "mine"


def test_a_link_among_the_append_only_files_is_refused(place: Path) -> None:
    """The server would append to the file that the link leads to."""
    # given
    with opened(place / "store") as store:
        store.append("account-1", deposited())
    [file] = (place / "store").glob("appendonlydir/*.incr.aof")
    file.rename(place / "elsewhere")
    file.symlink_to(place / "elsewhere")

    # when
    text = refused(place / "store")

    # then
    assert file.name in text


def test_a_directory_that_is_a_link_is_refused(place: Path) -> None:
    """Whoever may change the link decides which directory is opened; nothing is made in the directory."""
    # given
    (place / "private").mkdir(0o700)
    (place / "store").symlink_to(place / "private")

    # when
    text = refused(place / "store")

    # then
    assert "is a link" in text
    assert list((place / "private").iterdir()) == []


# -- other users ----------------------------------------------------------------------------------


@needs_root
@pytest.mark.parametrize("mode", [0o777, 0o755, 0o700])
def test_a_directory_of_another_user_is_refused(place: Path, mode: int) -> None:
    """Its owner may change it at any time; the links in it are not followed."""
    # given
    mine = place / "mine"
    mine.write_text("mine")
    store = place / "store"

    def make() -> None:
        store.mkdir()
        (store / "pid").symlink_to(mine)
        store.chmod(mode)

    assert as_stranger(make) == "None"

    # when
    text = refused(store)

    # then
    assert f"belongs to user {STRANGER}" in text
    assert mine.read_text() == "mine"


@needs_root
def test_a_file_of_another_user_is_refused(place: Path) -> None:
    """One that was put into a directory before others were locked out of it."""
    # given
    store = place / "store"
    store.mkdir(0o700)
    (store / "users").touch()
    os.chown(store / "users", STRANGER, STRANGER)

    # when
    text = refused(store)

    # then
    assert f"{store / 'users'}' is refused: it belongs to user {STRANGER}" in text


@needs_root
def test_the_answers_of_another_users_process_are_not_believed(place: Path) -> None:
    """A socket says whose process listens; one of another user that answers like a server is refused."""
    # given
    store = place / "store"
    store.mkdir(0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(store / "socket"))

        ready, tell = os.pipe()

        def listen() -> str:
            os.setuid(STRANGER)
            listener.listen()
            os.write(tell, b"x")
            connection, _ = listener.accept()
            connection.settimeout(5)
            return str(connection.recv(10))

        with forked(listen) as child:
            os.read(ready, 1)

            # when
            with pytest.raises(StoreRefused) as caught:
                opened(store)
            assert child.answer() == "b''"

    # then
    assert f"user {STRANGER}" in str(caught.value)


def test_the_peer_of_a_socket_is_known(place: Path) -> None:
    """It is the user of the process that listens."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(place / "socket"))
        listener.listen()
        client.connect(str(place / "socket"))
        assert user_of(client) == os.geteuid()


# -- permissions ----------------------------------------------------------------------------------


def test_everything_in_a_new_directory_is_private(place: Path) -> None:
    """Directories, files and the socket, whatever the umask."""
    # given
    before = os.umask(0)
    try:
        # when
        with opened(place / "store") as store:
            store.append("account-1", deposited())
            found = modes(place / "store")
    finally:
        os.umask(before)

    # then
    assert set(FILES) - {"killed"} <= set(found)
    assert any(name.endswith(".incr.aof") for name in found)
    assert not any(found.values()), found


@pytest.mark.parametrize("mode", [0o755, 0o777, 0o770])
def test_an_empty_directory_becomes_private(place: Path, mode: int) -> None:
    """``mkdir my-events`` before the first use: others are locked out of it."""
    # given
    store = place / "store"
    store.mkdir()
    store.chmod(mode)

    # when
    with opened(store) as events:
        events.append("account-1", deposited())

        # then
        assert not any(modes(store).values())


def test_a_store_that_others_may_enter_becomes_private(place: Path) -> None:
    """A store whose directory was opened to others is closed to them, with all its events."""
    # given
    with opened(place / "store") as store:
        store.append("account-1", deposited())
    (place / "store").chmod(0o755)

    # when
    with opened(place / "store") as store:
        # then
        assert count(store) == 1
        assert not any(modes(place / "store").values())


def test_a_directory_with_other_files_that_others_may_enter_is_refused(place: Path) -> None:
    """It serves another purpose: its permissions are left alone, and the hint says how to go on."""
    # given
    (place / "project").mkdir()
    (place / "project").chmod(0o755)
    (place / "project" / "file").touch()

    # when
    text = refused(place / "project")

    # then
    assert "other users may enter it" in text
    assert stat.S_IMODE((place / "project").stat().st_mode) == 0o755
    assert [path.name for path in (place / "project").iterdir()] == ["file"]


def test_a_store_that_others_may_write_to_is_refused(place: Path) -> None:
    """Others may have put anything into it: its user is told how to open it all the same."""
    # given
    opened(place / "store").close()
    (place / "store").chmod(0o777)

    # when
    text = refused(place / "store")

    # then
    assert "other users may write to it" in text
    (place / "store").chmod(0o700)
    opened(place / "store").close()


# -- files from elsewhere -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (("CONFIG", "SET", "port", "{port}"), "port"),
        (("CONFIG", "SET", "bind", "0.0.0.0"), "bind"),
        (("CONFIG", "SET", "protected-mode", "no"), "protected-mode"),
        (("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"), "maxmemory-policy"),
        (("CONFIG", "SET", "appendfsync", "no"), "appendfsync"),
        (("CONFIG", "SET", "save", "1 1"), "save"),
        (("CONFIG", "SET", "requirepass", "x"), "password"),
    ],
)
def test_a_store_whose_files_change_the_servers_settings_is_refused(
    place: Path, command: tuple[str, ...], named: str
) -> None:
    """The append-only file is a list of commands: one that opens a port, say, is found out, and the server stopped."""
    # given
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with opened(place / "store") as store:
        store.append("account-1", deposited())
    [file] = (place / "store").glob("appendonlydir/*.incr.aof")
    words = [word.format(port=port).encode() for word in command]
    with file.open("ab") as append:
        append.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))

    # when
    text = refused(place / "store")

    # then
    assert named in text
    pid = int((place / "store" / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_server_that_nobody_has_checked_is_checked_by_those_who_join_it(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that started it was killed before it could compare the settings, while another one was waiting."""
    # given
    with opened(place / "store") as store:
        store.append("account-1", deposited())
    [file] = (place / "store").glob("appendonlydir/*.incr.aof")
    with file.open("ab") as append:
        append.write(b"*4\r\n$6\r\nCONFIG\r\n$3\r\nSET\r\n$4\r\nsave\r\n$3\r\n1 1\r\n")

    def killed() -> str:
        monkeypatch.setattr(Server, "_check_settings", lambda server: os.kill(os.getpid(), signal.SIGKILL))
        opened(place / "store")
        return "not killed"

    with (place / "store" / "users").open() as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        assert in_child(killed) == ""

        # when
        text = refused(place / "store")

    # then
    assert "save" in text
    with pytest.raises(ProcessLookupError):
        os.kill(int((place / "store" / "pid").read_text()), 0)


def test_a_store_that_was_refused_closes_nothing_in_a_forked_child(place: Path) -> None:
    """Its handles are closed once: their numbers may belong to other files by then."""
    # given
    (place / "store").mkdir(0o700)
    (place / "store" / "appendonlydir").mkdir(0o700)
    (place / "store" / "appendonlydir" / "appendonly.aof.manifest").write_text("no manifest")
    with pytest.raises(StoreTrouble) as caught:
        opened(place / "store")
    assert caught.traceback  # it keeps the refused server's object alive

    # when
    handles = [os.open(os.devnull, os.O_RDONLY) for _ in range(8)]

    # then
    assert in_child(lambda: str([os.fstat(handle).st_rdev for handle in handles].count(0))) == "0"
    for handle in handles:
        os.close(handle)


# -- the demo -------------------------------------------------------------------------------------


@needs_root
def test_the_demo_does_not_use_a_place_that_another_user_prepared(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the working directory cannot be written, it makes a place of its own among the temporary files."""
    # given
    mine = place / "mine"
    mine.write_text("mine")
    trap = place / f"runner-demo-{STRANGER}"
    trap.mkdir()
    trap.chmod(0o777)
    (trap / "pid").symlink_to(mine)
    mine.chmod(0o666)
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    closed = place / "closed"
    closed.mkdir()
    closed.chmod(0o755)

    def ask() -> str:
        os.chdir(closed)
        return writable_place()

    # when
    chosen = Path(as_stranger(ask))

    # then
    assert chosen.parent == place
    assert chosen != trap
    assert (chosen.stat().st_uid, stat.S_IMODE(chosen.stat().st_mode)) == (STRANGER, 0o700)
