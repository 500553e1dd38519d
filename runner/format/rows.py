"""Rows of views as they are stored: packed states, after a checksum.

::

    C1, CRC-32 of the row's key and the packed state (4 bytes), packed state

No packed value begins with C1, so a row with a checksum is told from one without. Stores of format 1 have rows without;
in stores of format 2 such a row is not what the package wrote. The checksum covers the key, so a row that stands under
another key is noticed, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from zlib import crc32

from .checksum import Damaged

#: The byte that MessagePack never uses.
_MARK = b"\xc1"
_STATE = 5


def seal_rows(rows: Mapping[str, bytes | None]) -> list[str | bytes]:
    """The keys and the sealed rows in turn, of the rows that are not None. One call for all: this is the hot path."""
    found: list[str | bytes] = []
    add, join, mark = found.append, b"".join, _MARK
    for key, packed in rows.items():
        if packed is not None:
            add(key)
            add(join((mark, crc32(packed, crc32(key.encode())).to_bytes(4, "big"), packed)))
    return found


def seal_row(key: str, packed: bytes) -> bytes:
    """The row with its checksum."""
    [_, sealed] = seal_rows({key: packed})
    assert isinstance(sealed, bytes)
    return sealed


def is_sealed(row: bytes) -> bool:
    """Whether a stored row has a checksum."""
    return row[:1] == _MARK


def open_row(key: str, row: bytes) -> bytes:
    """The packed state of a row that is stored with a checksum. Raises Damaged."""
    if row[:1] != _MARK:
        raise Damaged("it has no checksum, so it was not written by the package")
    packed = row[_STATE:]
    if crc32(packed, crc32(key.encode())).to_bytes(4, "big") != row[1:_STATE]:
        raise Damaged("its checksum is another")
    return packed
