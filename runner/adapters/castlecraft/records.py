"""Small records beside the log: read, decided upon, and written only if nobody wrote in between."""

from __future__ import annotations

import secrets

from ...keys import PartitionKeys
from ...requests import Execute, Operation
from ...scripts import load

#: A random number of this many bytes tells one write from another.
_REVISION = 8


def key_of(keys: PartitionKeys, what: str, name: str) -> str:
    return f"{keys.tag}:castlecraft:{what}:{name}"


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
