"""Small records beside the log: read, decided upon, and written only if nobody wrote in between."""

from __future__ import annotations

import secrets

from ...effects import Execute, StoreOperation
from ...format.keys import PartitionKeys
from ...format.scripts import load

#: A random number of this many bytes tells one write from another.
_REVISION = 8


def key_of(keys: PartitionKeys, what: str, name: str) -> str:
    return f"{keys.tag}:castlecraft:{what}:{name}"


def read(key: str) -> StoreOperation[tuple[bytes, bytes | None]]:
    """The revision that stands there, empty for none; and the record."""
    [[revision, record]] = yield Execute([("HMGET", key, "revision", "record")])
    return revision or b"", record


def replace(key: str, before: bytes, record: bytes) -> StoreOperation[bool]:
    """Write a record in place of revision ``before``; whether that was still there."""
    after = secrets.token_bytes(_REVISION)
    [[verdict]] = yield Execute([load("adapters/replace_record").call([key], before, after, record)])
    return bool(verdict == b"ok")


def remove(key: str) -> StoreOperation[None]:
    yield Execute([("UNLINK", key)])
