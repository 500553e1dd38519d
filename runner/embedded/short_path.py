"""A short path to a directory whose own path is too long for a socket: a link among the temporary files.

The socket always lies in the directory of the store. Only the way there must be short. So the first user that needs a
short way makes a private directory with a link, and writes its path into the directory of the store. All others read
it there, by whatever path they came and whatever their directory for temporary files is.

What was written down is believed only if nobody else can have made it, and if the link leads to this very directory.
The file may come from elsewhere, as the whole directory may, or from a copy of it.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import InvalidInput
from .place import OTHERS, OTHERS_WRITE, Place

#: The path of a Unix socket may have some 104 bytes.
LONGEST_SOCKET_PATH = 100

#: The file of the store's directory that tells the short way, and the name of the link there.
FILE, LINK = "short-path", "store"

#: The longest path that is read from the file.
LONGEST = 4096


def fits(socket: Path) -> bool:
    """Whether a socket can be reached by this path."""
    return len(os.fsencode(socket)) <= LONGEST_SOCKET_PATH


def short_path(place: Place) -> Path:
    """The short way to a directory, made where there is none. Its callers hold the lock ``start``. Raises OSError."""
    return _noted(place) or _made(place)


def forget(place: Place) -> None:
    """Remove the short way, if there is one. The last user does so when the server has stopped. Raises OSError."""
    way = _noted(place)
    if way is not None:
        way.unlink()
        way.parent.rmdir()


def _noted(place: Place) -> Path | None:
    """The way that is written down, if it can be believed."""
    try:
        text = place.read(FILE)
        way = Path(text)
        if len(text) > LONGEST or not way.is_absolute() or way.name != LINK or not fits(way / "socket"):
            return None
        found = os.lstat(way.parent)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & OTHERS:
            return None
        if not all(_is_kept(parent) for parent in way.parent.parents):
            return None
        return way if os.path.samestat(os.stat(way), os.fstat(place.handle)) else None
    except (OSError, ValueError):
        return None


def _is_kept(directory: Path) -> bool:
    """Whether no other user can put something else in the place of what lies in a directory."""
    found = directory.stat()
    if found.st_uid not in (0, os.geteuid()):
        return False
    return not found.st_mode & OTHERS_WRITE or bool(found.st_mode & stat.S_ISVTX)


def _made(place: Place) -> Path:
    for temporary in _temporary_directories():
        if not fits(Path(temporary) / "runner-xxxxxxxx" / LINK / "socket"):
            continue
        way = Path(tempfile.mkdtemp(prefix="runner-", dir=temporary)) / LINK
        way.symlink_to(place.path)
        with open(place.file(FILE, os.O_WRONLY | os.O_TRUNC), "wb") as file:
            file.write(os.fsencode(way))
        return way
    raise InvalidInput(
        f"embedded store {str(place.path)!r} has too long a path for a socket, and so has the directory for temporary "
        f"files, {tempfile.gettempdir()!r}",
        hint="Set TMPDIR to a directory with a short path.",
    )


def _temporary_directories() -> Iterator[str]:
    yield os.path.abspath(tempfile.gettempdir())
    if os.access("/tmp", os.W_OK):
        yield "/tmp"
