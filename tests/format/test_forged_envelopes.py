"""Envelopes that no append writes: an event shows the same to every reader, or is no event."""

from __future__ import annotations

import msgpack
import pytest

from runner import EventStore, NewEvent, operations
from runner.errors import UndecodableEvent
from runner.format.events import pack_event


def test_an_envelope_of_more_items_is_no_event(store: EventStore) -> None:
    """Items behind the checksum would set what readers see, and not what projections fold."""
    keys = store.info.keys[0]
    seven = msgpack.unpackb(pack_event("a-1", NewEvent("X", {"amount": 2}), 0), strict_map_key=False)
    forged = msgpack.packb([*seven, 1, 1, 0, {"amount": 1_000_000}, None])
    store.driver.execute([("XADD", keys.log, "1-1", "e", forged), ("XADD", keys.stream("a-1"), "1-1", "", "")])

    with pytest.raises(UndecodableEvent, match="not an envelope"):
        list(store.read_all())
    with pytest.raises(UndecodableEvent, match="not an envelope"):
        list(store.read_stream("a-1"))
    assert not operations.verify(store).sound
