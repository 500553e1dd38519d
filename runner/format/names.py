"""Names of streams, categories, projections and stores: which are allowed, and a stream's category and partition."""

from __future__ import annotations

import re
import zlib

from ..errors import InvalidName

#: Names become parts of Redis keys; 512 bytes holds any sensible one and keeps keys cheap.
MAX_NAME_BYTES = 512

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_CONTROL_BYTES = bytes((*range(0x20), 0x7F))
_BRACES = re.compile(r"^[^{]*\{([^}]+)\}")
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")


def check_name(name: object, what: str = "stream") -> str:
    """The name as plain text, if it may name a stream or a row; raise InvalidName, naming the fault, if not."""
    if not isinstance(name, str) or not name:
        fault = "not be empty" if isinstance(name, str) else f"be text, not {type(name).__name__}: {name!r}"
        raise InvalidName(f"{'an' if what[0] in 'aeiou' else 'a'} {what} name must {fault}")
    found = _CONTROL.search(name)
    if found:
        raise InvalidName(f"{what} name {name!r} holds the control character {found.group()!r}")
    if len(name) * 4 > MAX_NAME_BYTES and len(name.encode()) > MAX_NAME_BYTES:
        raise InvalidName(f"{what} name {name[:40]!r}… is longer than {MAX_NAME_BYTES} bytes")
    return str.__str__(name)  # the text itself, also of an enumeration's member, whose keys would have another


def are_names(names: list[str]) -> bool:
    """Whether `check_name` allows each of these texts of 1 to 512 characters. It is for many: they are seen as one."""
    text = "".join(names)
    if text.isascii():
        raw = text.encode()
        return len(raw.translate(None, _CONTROL_BYTES)) == len(raw)
    if text.isprintable() and max(map(len, names)) * 4 <= MAX_NAME_BYTES:
        return True
    return all(map(_is_name, set(names)))


def _is_name(text: str) -> bool:
    try:
        check_name(text)
    except InvalidName:
        return False
    return True


def check_plain_name(name: object, what: str) -> str:
    """The stricter rule for stores, projections and builds: letters, digits, ``_``, ``-`` and ``.``."""
    checked = check_name(name, what)
    if not _PLAIN.fullmatch(checked):
        raise InvalidName(f"{what} name {checked!r} may hold only letters, digits, '_', '-' and '.'")
    return checked


def category_of(stream: str) -> str:
    """The text before the first ``-``; the whole name if it has none."""
    return stream.partition("-")[0]


def partition_of(stream: str, partitions: int) -> int:
    """The partition of a stream: CRC-32 of its UTF-8 name, modulo the count; the same on every platform."""
    return zlib.crc32(stream.encode()) % partitions if partitions > 1 else 0


def placed_by(stream: str) -> str:
    """The part of a stream's name that decides its partition: what stands in its first braces, or else all of it.

    So ``account-{branch-7}-1`` and ``account-{branch-7}-2`` are in one partition. Redis has this rule for hash tags.
    """
    found = _BRACES.search(stream)
    return found[1] if found else stream
