"""Fields of stored records: numbers, text, names and packed values, and the error where they are none.

Whoever may write to Redis may write anything there, by mistake or on purpose. So each field of a record beside the log
is decoded here. A fault names the key and the field. `number` of the prelude is the same for scripts.
"""

from __future__ import annotations

from typing import Any

from ..errors import InvalidName, RecordDamaged
from .codec import UNPACK_FAULTS, unpack
from .names import check_plain_name
from .numbers import LARGEST

#: How much of a damaged value an error shows, in bytes.
_SHOWN = 40

#: The digits of `LARGEST`.
_DIGITS = 19


def number(key: str, field: str, stored: bytes | None, absent: int = 0) -> int:
    """A whole number, from 0. ``absent``: the number where there is no field. Raises RecordDamaged."""
    if stored is None:
        return absent
    if not stored.isdigit() or len(stored) > _DIGITS or int(stored) > LARGEST:
        raise damaged(key, field, stored, "no number")
    return int(stored)


def text(key: str, field: str, stored: bytes | None, absent: str = "") -> str:
    """Text. ``absent``: the text where there is no field. Raises RecordDamaged."""
    if stored is None:
        return absent
    try:
        return stored.decode()
    except UnicodeDecodeError:
        raise damaged(key, field, stored, "no text") from None


def plain_name(key: str, field: str, stored: bytes | None) -> str | None:
    """The name of a projection or a build; None where there is no field. Raises RecordDamaged."""
    if stored is None:
        return None
    try:
        return check_plain_name(text(key, field, stored), field)
    except InvalidName:
        raise damaged(key, field, stored, "no name") from None


def packed(key: str, field: str, stored: bytes) -> Any:
    """A packed value. Raises RecordDamaged."""
    try:
        return unpack(stored)
    except UNPACK_FAULTS:
        raise damaged(key, field, stored, "no packed value") from None


def damaged(key: str, field: str, stored: bytes, what: str) -> RecordDamaged:
    """The error for a field that cannot be what was written. ``what`` says what it is not."""
    more = "…" if len(stored) > _SHOWN else ""
    return RecordDamaged(f"{key} is damaged: its field {field!r} holds {stored[:_SHOWN]!r}{more}, which is {what}", key)
