"""Stores whose directories have too long a path for a socket, where the system has no short one for them."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from accounts import deposited
from forking import in_child

from runner import EventStore, InvalidInput
from runner.embedded import server, short_path
from runner.embedded.place import Place
from runner.testing import TEST_SETTINGS, count

pytestmark = pytest.mark.real

LONG = "/".join(["a-directory-with-a-long-name"] * 6)


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory for temporary files; there is no directory of open files."""
    with tempfile.TemporaryDirectory(prefix="runner-") as made:
        monkeypatch.setattr(tempfile, "tempdir", made)
        monkeypatch.setattr(server, "OPEN_DIRECTORIES", Path("/no/such/directory"))
        yield Path(made)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The directory of a store, with a long path."""
    return tmp_path / LONG / "store"


def opened(directory: Path) -> EventStore:
    return EventStore.open(f"embedded:{directory}", settings=TEST_SETTINGS)


def socket_of(store: EventStore) -> Path:
    assert store.driver.address.server is not None
    return store.driver.address.server.socket


def way_of(directory: Path) -> Path:
    return Path((directory / short_path.FILE).read_text())


def test_a_store_is_found_by_whatever_path_its_users_come(temporary: Path, tmp_path: Path, directory: Path) -> None:
    """Through a link above it, by a short path, and by a process with another directory for temporary files."""
    # given
    (tmp_path / "short").symlink_to(tmp_path / LONG)
    with opened(directory) as store:
        store.append("account-1", deposited())
        assert len(os.fsencode(socket_of(store))) <= short_path.LONGEST_SOCKET_PATH

        def elsewhere() -> str:
            tempfile.tempdir = str(tmp_path)
            with opened(directory) as again:
                return str(count(again))

        # when
        with opened(tmp_path / "short" / "store") as again:
            found = count(again)

        # then
        assert found == 1
        assert in_child(elsewhere) == "1"
        assert (way_of(directory) / "socket").samefile(directory / "socket")


def test_the_way_is_private_has_no_name_that_can_be_guessed_and_goes_with_the_server(
    temporary: Path, directory: Path
) -> None:
    """A directory of its own for each store, which the last user removes."""
    # when
    with opened(directory) as store, opened(directory.with_name("other")) as other:
        store.append("account-1", deposited())
        ways = [way_of(directory), way_of(directory.with_name("other"))]

        # then
        assert (count(store), count(other)) == (1, 0)
        assert ways[0].parent != ways[1].parent
        assert {way.parent.parent for way in ways} == {temporary}
        assert {stat.S_IMODE(way.parent.stat().st_mode) for way in ways} == {0o700}
    assert list(temporary.iterdir()) == []


def test_a_forked_child_uses_the_way_of_its_parent(temporary: Path, directory: Path) -> None:
    """The way stays as long as the server has users."""
    with opened(directory) as store:
        store.append("account-1", deposited())
        assert in_child(lambda: str(count(store))) == "1"
        assert count(store) == 1


def test_a_copy_of_a_directory_gets_a_way_of_its_own(temporary: Path, directory: Path) -> None:
    """It holds the file with the way to its original."""
    # given
    with opened(directory) as store:
        copy = directory.with_name("copy")
        copy.mkdir(0o700)
        (copy / short_path.FILE).write_bytes((directory / short_path.FILE).read_bytes())

        # when
        with opened(copy) as other:
            other.append("account-1", deposited())

            # then
            assert (count(store), count(other)) == (0, 1)


@pytest.mark.parametrize("trap", ["a link", "open to others", "below a directory of others", "no path", "too long"])
def test_a_way_that_others_can_have_made_is_not_believed(temporary: Path, directory: Path, trap: str) -> None:
    """The file may come from elsewhere: another way is made, and the one that it names stays as it was."""
    # given
    directory.mkdir(parents=True, mode=0o700)
    made = temporary / "made"
    if trap == "below a directory of others":
        made.mkdir(0o777)
        made.chmod(0o777)
        made = made / "private"
    made.mkdir(0o700)
    (made / short_path.LINK).symlink_to(directory)
    if trap == "a link":
        (temporary / "link").symlink_to(made)
        made = temporary / "link"
    if trap == "open to others":
        made.chmod(0o755)
    text = {"no path": "\0", "too long": "/" * 5000}.get(trap, str(made / short_path.LINK))
    (directory / short_path.FILE).write_text(text)
    (directory / short_path.FILE).chmod(0o600)

    # when
    with opened(directory) as store:
        # then
        assert socket_of(store).parent.parent != made
        store.append("account-1", deposited())
    assert (made / short_path.LINK).is_symlink()


def test_a_way_that_was_left_by_a_killed_process_is_used_again(temporary: Path, directory: Path) -> None:
    """So killed processes do not fill the directory for temporary files."""
    # given
    with opened(directory):
        pass
    place = Place.open(directory)
    left = short_path.short_path(place)
    place.close()

    # when
    with opened(directory) as store:
        # then
        assert socket_of(store).parent == left
    assert list(temporary.iterdir()) == []


def test_without_a_short_directory_for_temporary_files_the_way_out_is_named(
    temporary: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text has the path of the store and the variable."""
    # given
    monkeypatch.setattr(short_path, "_temporary_directories", lambda: iter([str(temporary / LONG)]))

    # when
    with pytest.raises(InvalidInput) as caught:
        opened(directory)

    # then
    assert str(directory) in str(caught.value)
    assert "TMPDIR" in caught.value.hint
