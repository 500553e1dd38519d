"""Sealed values: MessagePack after a CRC-32 of four bytes, for the small records beside the log.

Servers keep no checksum in their append-only files. A value that does not match its checksum is damaged, and no part of
it is used.

The records of `runner.log.records` are sealed: snapshots and the adapters' states, which are used as they are stored.
Rows of views have a checksum in a form of their own, see `runner.format.rows`.
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

from .codec import UNPACK_FAULTS, pack_value, unpack

_CHECKSUM = 4


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
    except UNPACK_FAULTS as fault:
        raise Damaged(str(fault)) from fault
    if not isinstance(content, list):
        raise Damaged("it does not hold a list")
    return content
