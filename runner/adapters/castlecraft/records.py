"""Small records beside the log: read, decided upon, and written only if nobody wrote in between."""

from __future__ import annotations

import secrets
from typing import Any
from zlib import crc32

from ...codec import pack_value, unpack
from ...keys import PartitionKeys
from ...requests import Execute, Operation
from ...scripts import load

#: The bytes of the checksum before a record.
_CHECKSUM = 4

#: A random number of this many bytes tells one write from another.
_REVISION = 8


class Damaged(ValueError):
    """A record that is not as it was written."""


def key_of(keys: PartitionKeys, what: str, name: str) -> str:
    return f"{keys.tag}:castlecraft:{what}:{name}"


def seal(content: list[Any], what: str) -> bytes:
    """A record. Raises PayloadError, naming ``what``, for content that cannot be stored."""
    packed = pack_value(content, what)
    return crc32(packed).to_bytes(_CHECKSUM, "big") + packed


def unseal(record: bytes) -> list[Any]:
    """The content of a record. Raises Damaged."""
    if record[:_CHECKSUM] != crc32(record[_CHECKSUM:]).to_bytes(_CHECKSUM, "big"):
        raise Damaged("its checksum is another")
    content: list[Any] = unpack(record[_CHECKSUM:])
    return content


def read(key: str) -> Operation[tuple[bytes, bytes | None]]:
    """The revision that stands there, empty for none; and the record."""
    [[revision, record]] = yield Execute([("HMGET", key, "revision", "record")])
    return revision or b"", record


def replace(key: str, before: bytes, record: bytes) -> Operation[bool]:
    """Write a record in place of revision ``before``; whether that was still there."""
    after = secrets.token_bytes(_REVISION)
    [[verdict]] = yield Execute([load("adapters/replace_record").call([key], before, after, record)])
    return bool(verdict == b"ok")


def remove(key: str) -> Operation[None]:
    yield Execute([("UNLINK", key)])
