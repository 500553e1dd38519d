"""Whole numbers that callers give and the server keeps: which are allowed, so that each comes back as it was given."""

from __future__ import annotations

from ..errors import InvalidInput

#: Redis counts to here. A number of Lua is exact up to 2**53 only, so scripts compare what may be larger as text.
LARGEST = 2**63 - 1

#: Longer numbers are told by their length: Python refuses to write very long ones.
_SHOWN_BITS = 128


def check_number(value: object, what: str, least: int = 0, most: int = LARGEST) -> int:
    """A position, version or count that a caller gave, as a plain int. Raises InvalidInput, naming ``what``."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        bits = value.bit_length() if isinstance(value, int) else 0
        shown = f"a number of {bits} bits" if bits > _SHOWN_BITS else repr(value)
        limit = "2**63 - 1" if most == LARGEST else most
        raise InvalidInput(f"{what} must be a number from {least} to {limit}, not {shown}")
    return int.__int__(value)
