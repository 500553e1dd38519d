"""Bytes of an entry of the log, to the decoder of pages and to all that is read from an event."""

from __future__ import annotations

import json
from binascii import crc32
from typing import Any
from uuid import UUID

import msgpack
from hypothesis import strategies as st

from runner import NewEvent
from runner.errors import DataError, UndecodableEvent
from runner.format.events import RecordedEvent, decode_log, pack_event
from runner.format.json_lines import dump, parse
from runner.format.names import check_name

from .kind import CHANGES, LEAVES, VALUES, Fresh, Kind, changed, variants

NOW = 1_700_000_000_000_000


def _good(data: Any, metadata: Any) -> bytes:
    return pack_event("account-1", NewEvent("Deposited", data, metadata, UUID(int=7)), NOW)


def _sealed(envelope: bytes) -> bytes:
    """The same bytes with a checksum that is right, so that what is behind it is reached."""
    return envelope[:-4] + crc32(envelope[1:-5]).to_bytes(4, "big") if len(envelope) > 5 else envelope


def _forged(items: list[Any]) -> bytes:
    body = b"".join(msgpack.packb(item) for item in items)
    return bytes([0x90 | min(len(items) + 1, 15)]) + body + b"\xce" + crc32(body).to_bytes(4, "big")


GOOD = st.builds(_good, VALUES, st.none() | st.dictionaries(st.text(max_size=6), LEAVES, max_size=3))
CHANGED = st.builds(changed, GOOD, CHANGES)
ITEMS = st.tuples(st.binary(min_size=16, max_size=16), st.text(max_size=8), st.text(max_size=8), st.integers(0, NOW))
FORGED = st.builds(lambda head, rest: _forged([*head, *rest]), ITEMS, st.lists(VALUES, max_size=10))
BYTES = st.one_of(
    GOOD, CHANGED, CHANGED.map(_sealed), FORGED, st.builds(changed, FORGED, CHANGES), st.binary(max_size=64)
)
#: With an even number the checksum of each variant is made right.
INPUTS = st.tuples(BYTES, st.integers(0, 2**32))


def check(given: tuple[bytes, int], fresh: Fresh) -> int:
    """Each variant is an event or damage."""
    envelope, spread = given
    tried = variants(envelope, spread)
    for variant in tried:
        try:
            _check(_sealed(variant) if spread and spread % 2 == 0 else variant)
        except Exception as fault:
            fault.add_note(f"the envelope: {variant!r}")
            raise
    return len(tried)


def _check(envelope: bytes) -> None:
    """It is an event with a name, an id and a time, whose parts can be read or not; or it is damage that says where."""
    page = decode_log([(b"1-1", [b"e", envelope])], 0, 0)
    assert len(page.events) + (page.damage is not None) == 1
    if page.damage is not None:
        assert isinstance(page.damage, UndecodableEvent), page.damage
        assert page.damage.position == 1
        return
    [event] = page.events
    assert (event.position, event.number, event.partition) == (1, 1, 0)
    assert envelope[0] == 0x97
    first = _read(event)
    event.forget()
    assert _read(event) == first == _read(event.copy())
    _as_line(event)


def _read(event: RecordedEvent) -> list[str]:
    """All that is read from an event; what cannot be read is an error of that part."""
    found = [repr(event), str(event.id), event.recorded_at.isoformat(), event.category, str(event.recorded_us)]
    places: set[int] = set()
    for part in ("data", "metadata"):
        try:
            found.append(repr(getattr(event, part)))
        except UndecodableEvent as error:
            found.append(str(error))
            places.add(error.position)
    assert places <= {1}
    return found


def _as_line(event: RecordedEvent) -> None:
    """An exported line is JSON, and is read as the same event if an append would have taken its names."""
    try:
        text = dump(event)
    except DataError:
        return
    assert "\n" not in text
    json.loads(text, parse_constant=lambda name: 1 / 0)
    check_name(event.stream)
    check_name(event.type, "event type")
    line = parse(text.encode())
    assert (line.stream, line.type, line.id) == (event.stream, event.type, event.id)
    assert repr(line.data) == repr(event.data)


ENVELOPES = Kind("envelopes", "bytes of an entry: an event, or damage that says where", INPUTS, check)
