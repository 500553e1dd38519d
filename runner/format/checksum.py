"""Sealed values: MessagePack after a CRC-32 of four bytes, for the small records beside the log.

Servers keep no checksum in their append-only files. A value that does not match its checksum is damaged, and no part of
it is used.

The records of `runner.log.records` are sealed: snapshots and the adapters' states, which are used as they are stored.
Rows of views and parked events are not sealed. They are made from the log, and `runner rebuild` makes them again and
says which rows differ. A checksum would cost every row of every commit, in the hottest path, and could only tell what a
rebuild repairs.
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

from .codec import pack_value, unpack

_CHECKSUM = 4

#: What unpacking bytes that are not MessagePack may raise.
_UNPACK_FAULTS = (ValueError, TypeError, ArithmeticError, RecursionError)


class Damaged(ValueError):
    """Bytes that are not as they were sealed."""


def seal(content: list[Any], what: str) -> bytes:
    """The content, packed and sealed. Raises PayloadError, naming ``what``, for a value that cannot be stored."""
    packed = pack_value(content, what)
    return crc32(packed).to_bytes(_CHECKSUM, "big") + packed


def unseal(sealed: bytes) -> list[Any]:
    """The content. Raises Damaged."""
    if sealed[:_CHECKSUM] != crc32(sealed[_CHECKSUM:]).to_bytes(_CHECKSUM, "big"):
        raise Damaged("its checksum is another")
    try:
        content = unpack(sealed[_CHECKSUM:])
    except _UNPACK_FAULTS as fault:
        raise Damaged(str(fault)) from fault
    if not isinstance(content, list):
        raise Damaged("it does not hold a list")
    return content
