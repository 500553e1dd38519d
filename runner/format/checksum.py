"""Sealed values: MessagePack after a CRC-32 of four bytes, for the small records beside the log.

Servers keep no checksum in their append-only files. What does not match its seal is damaged, and never half believed.

Sealed is what is believed as it stands and exists nowhere else: the records of `runner.log.records`, which are the
snapshots and the adapters' states. Not sealed are the rows of views and the parked events: they are made of the log, a
fold writes a row anew with each event, and `runner rebuild` makes all of them again and says which rows differ. There a
checksum would cost every row of every commit, in the hottest path, and could only say what a rebuild repairs.
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
    """The content, packed and sealed. Raises PayloadError, naming ``what``, for what cannot be stored."""
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
        raise Damaged("it holds something else")
    return content
