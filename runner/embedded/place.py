"""The directory of an embedded store: its user's own, entered by nobody else, and without links.

A directory may have been made by somebody else, in ``/tmp`` or in a project that was downloaded. Then it may hold links
that lead to other files of the user, or be writable for its maker. Such a directory is refused. The others stay open:
files are opened by the handle of the directory, so nobody can put another directory in its place meanwhile.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InvalidInput

#: The folder of the append-only files, in the directory.
FILES = "appendonlydir"

#: The permissions of everybody but the owner, and those of them that let others change a directory.
OTHERS, OTHERS_WRITE = 0o077, 0o022


class Place:
    """A directory that was found to be private, and its handle."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self.handle = handle

    @classmethod
    def open(cls, path: Path) -> Place:
        """Open a directory, which is made if it is not there. Raises InvalidInput, and OSError."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.is_symlink():
            raise _refused(path, "it is a link", "Give the directory that the link leads to, if it is yours.")
        place = cls(path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC))
        try:
            place._make_private()
            place._check_entries(".")
            if FILES in place.names():
                place._check_entries(FILES)
        except BaseException:
            place.close()
            raise
        return place

    def file(self, name: str, flags: int) -> int:
        """Open a file of the directory, which is made if it is not there, for its user alone. Raises OSError."""
        return os.open(name, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self.handle)

    def read(self, name: str) -> str:
        """The text of a file of the directory. Raises OSError, also if there is none."""
        with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.handle), "rb") as file:
            return file.read().decode(errors="replace")

    def names(self, folder: str = ".") -> list[str]:
        """The names in a folder of the directory, sorted. Raises OSError."""
        with _listing(self.handle, folder) as entries:
            return sorted(os.listdir(entries))

    def close(self) -> None:
        """Give up the handle; what is opened afterwards raises OSError."""
        handle, self.handle = self.handle, -1
        if handle >= 0:
            os.close(handle)

    def _make_private(self) -> None:
        """Lock others out of a new directory, or of a store's; refuse one that others share for another reason."""
        found = os.fstat(self.handle)
        _check_owner(self.path, found)
        if not found.st_mode & OTHERS:
            return
        names = self.names()
        if names and found.st_mode & OTHERS_WRITE:
            raise _refused(
                self.path, "other users may write to it", f"If you trust what it holds: chmod 700 {self.path}"
            )
        if names and "users" not in names:
            raise _refused(
                self.path,
                "other users may enter it, and it holds no store but other files",
                f"Give a directory that is not there yet, or: chmod 700 {self.path}",
            )
        os.fchmod(self.handle, stat.S_IMODE(found.st_mode) & ~OTHERS)

    def _check_entries(self, folder: str) -> None:
        """Refuse a folder that holds a link, or a file of another user."""
        with _listing(self.handle, folder) as handle, os.scandir(handle) as entries:
            for entry in entries:
                path = self.path / folder / entry.name
                if entry.is_symlink():
                    raise _refused(self.path, f"{path} is a link", "Remove the link, if you trust the directory.")
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # a temporary file of the running server
                _check_owner(path, found)


def has_store(path: str | os.PathLike[str]) -> bool:
    """Whether a server was ever started in a directory, or its files were put there. Makes nothing."""
    place = Path(path).expanduser()
    try:
        return not {"users", FILES}.isdisjoint(os.listdir(place))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # whoever opens it is told what is wrong


@contextmanager
def _listing(directory: int, folder: str) -> Iterator[int]:
    """A handle for listing a folder: its place in the listing is shared with no other process."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        yield handle
    finally:
        os.close(handle)


def _check_owner(path: Path, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise _refused(
            path,
            f"it belongs to user {found.st_uid}, and this process to user {os.geteuid()}",
            "Give a directory of your own; or run as the user that the directory belongs to.",
        )


def _refused(path: Path, reason: str, hint: str) -> InvalidInput:
    return InvalidInput(f"embedded store {str(path)!r} is refused: {reason}", hint=hint)
