"""Envelopes that no append writes: an event shows the same to every reader, or is no event."""

from __future__ import annotations

import secrets
from zlib import crc32

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner import ALL, EventStore, InvalidInput, NewEvent, Projection, Skip, catch_up, operations
from runner.errors import UndecodableEvent
from runner.format.events import decode_log, pack_event
from runner.format.names import check_name


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


def forged(stream: str, event_type: str) -> bytes:
    """An envelope with these names and a right checksum, whether an append takes them or not."""
    body: bytes = msgpack.packb([secrets.token_bytes(16), stream, event_type, 0, None, None])[1:]
    return b"\x97" + body + b"\xce" + crc32(body).to_bytes(4, "big")


def shown(name: str) -> str:
    return ascii(name[:8]) + f"x{len(name)}"


#: Names that no append takes.
REFUSED = ["", "a\nb", "\x00", "a\x1b[2J", "\x7f", "a-\x9b2J", "é\x85", "a" * 513, "é" * 257, "\U0001f600" * 129]

#: Names that any append takes, however they look.
TAKEN = ["a b", "é" * 256, "a" * 512, "\u200bx", "\u202e", "\xa0", "\U0001f600" * 128, "日本-1", '"\\{}']


@pytest.mark.parametrize("name", REFUSED, ids=shown)
@pytest.mark.parametrize("which", ["stream", "event type"])
def test_an_event_with_a_name_that_no_append_takes_is_no_event(store: EventStore, which: str, name: str) -> None:
    """Readers stop before it, and say so; a policy passes over it; `verify` names its place; the others are read."""
    # given
    keys = store.info.keys[0]
    store.append("a-1", NewEvent("X"), 0)
    packed = forged(name, "X") if which == "stream" else forged("a-2", name)
    store.driver.execute([("XADD", keys.log, "2-1", "e", packed)])
    if which == "event type":
        store.driver.execute([("XADD", keys.stream("a-2"), "1-2", "", "")])

    # when, then
    with pytest.raises(UndecodableEvent, match="position 2"):
        list(store.read_all())
    with pytest.raises(UndecodableEvent, match="position 2"):
        list(store.read_all(backwards=True))
    if which == "event type":
        with pytest.raises(UndecodableEvent, match="position 2"):
            list(store.read_stream("a-2"))
    with store.subscribe(ALL) as subscription, pytest.raises(UndecodableEvent, match="position 2"):
        for _ in range(2):
            subscription.poll(5)
    counting = Projection("counting", on_error=Skip())
    counting.when("X", lambda state, event: (state or 0) + 1)
    catch_up(store, counting)
    assert [each.event.position for each in operations.skipped(store, "counting")] == [2]
    assert f"{keys.log} 2-1" in [found.where for found in operations.verify(store).findings]


@pytest.mark.parametrize("name", TAKEN, ids=shown)
def test_a_name_that_an_append_takes_is_read_again(store: EventStore, name: str) -> None:
    """Among others in its page, and alone."""
    store.append_many([("a-1", [NewEvent("X")], 0), (name, [NewEvent(name)], 0), ("é", [NewEvent("X")], 0)])
    assert [event.stream for event in store.read_all()] == ["a-1", name, "é"]
    assert [event.type for event in store.read_stream(name)] == [name]
    assert operations.verify(store).sound


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), min_size=1, max_size=4))
@example([("é" * 256, "x"), ("a", "b")])
@example([("é" * 257, "x"), ("a", "b")])
@example([("a" * 513, "x")])
def test_a_page_is_decoded_up_to_the_first_name_that_no_append_takes(names: list[tuple[str, str]]) -> None:
    """What is looked at as one text for a whole page has the same end as a look at each name."""
    entries = [(f"{at}-1".encode(), [b"e", forged(*pair)]) for at, pair in enumerate(names, 1)]
    page = decode_log(entries, 0, 0)
    sound = [all(map(is_taken, pair)) for pair in names]
    assert [(event.stream, event.type) for event in page.events] == names[: (*sound, False).index(False)]
    assert (page.damage is None) == all(sound)


def is_taken(name: str) -> bool:
    try:
        check_name(name)
    except InvalidInput:
        return False
    return True
