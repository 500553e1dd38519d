"""Lines of an export with positions that are no events: what a store has beside them, so that it can be restored.

Each is an object with one key, before the lines of the events::

    {"$runner:store": {"layout": 1, "name": "es", "epoch": "…", "format": 2, "floors": [0, 3], "last": [10, 12]}}
    {"$runner:bookmarks": {"partition": 0, "bookmarks": {"feed": "7 2f0c…"}}}
    {"$runner:streams": {"partition": 1, "streams": [["account-1", 2, 3]]}}
    {"$runner:ids": {"partition": 1, "upto": 3, "ids": [["…", "3-2"]]}}
    {"$runner:recent": {"partition": 1, "ids": [["account-1", "…", "3-2"]]}}

The first line is about the whole store: the floor and the last position of each partition. Then come bookmarks; streams
whose events were all trimmed, with number and position of the last one; and the ids of trimmed events, as far as the
index of ids has them, or as they are among the recent ids. An import that does not keep positions passes over these
lines.
"""

from __future__ import annotations

import json
from typing import Any

from ..errors import InvalidInput
from .json_text import read_json
from .names import check_name
from .numbers import check_number

STORE, BOOKMARKS, STREAMS, IDS, RECENT = (
    f"$runner:{kind}" for kind in ("store", "bookmarks", "streams", "ids", "recent")
)

#: The layout that is written, and the only one that is read.
LAYOUT = 1

#: How each of these lines begins.
_BEGINNING = b'{"$runner:'


def is_place_line(text: bytes) -> bool:
    """Whether a line is one of these."""
    return text.lstrip().startswith(_BEGINNING)


def dump_place(kind: str, content: dict[str, Any]) -> bytes:
    """Write a line, with its end."""
    return json.dumps({kind: content}, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def parse_place(text: bytes) -> tuple[str, dict[str, Any]]:
    """Read a line: its kind and its content. Raises InvalidInput."""
    try:
        found = read_json(text)
    except ValueError as fault:
        raise InvalidInput(f"not JSON: {fault}") from None
    [(kind, content)] = found.items() if isinstance(found, dict) and len(found) == 1 else [("", None)]
    if kind not in _READERS or not isinstance(content, dict):
        raise InvalidInput(f"no line of an export with positions that this version knows: {str(found)[:80]}")
    try:
        return kind, _READERS[kind](content)
    except InvalidInput as fault:
        raise InvalidInput(f"{kind}: {fault}") from None
    except (LookupError, AttributeError, TypeError, ValueError) as fault:
        raise InvalidInput(f"{kind}: the content is not what an export writes: {fault!r}") from None


def _store(content: dict[str, Any]) -> dict[str, Any]:
    if content["layout"] != LAYOUT:
        raise InvalidInput(f"layout {content['layout']!r} is not known; this version reads layout {LAYOUT}")
    floors = [check_number(floor, "a floor") for floor in content["floors"]]
    ends = zip(content["last"], floors, strict=True)
    last = [check_number(position, "a last position", floor) for position, floor in ends]
    if not floors:
        raise ValueError("no partitions")
    return {**content, "floors": floors, "last": last, "epoch": str(content["epoch"])}


def _bookmarks(content: dict[str, Any]) -> dict[str, Any]:
    bookmarks = {}
    for name, value in content["bookmarks"].items():
        position, _, _ = value.partition(" ")
        bookmarks[check_name(name, "bookmark")] = value
        check_number(int(position), f"the position of bookmark {name!r}")
    return {"partition": check_number(content["partition"], "partition"), "bookmarks": bookmarks}


def _streams(content: dict[str, Any]) -> dict[str, Any]:
    streams = [
        (check_name(name), check_number(number, "a number", 1), check_number(position, "a position", 1))
        for name, number, position in content["streams"]
    ]
    return {"partition": check_number(content["partition"], "partition"), "streams": streams}


def _ids(content: dict[str, Any]) -> dict[str, Any]:
    ids = [(bytes.fromhex(event_id), _place(place)) for event_id, place in content["ids"]]
    upto = check_number(content["upto"], "upto")
    return {"partition": check_number(content["partition"], "partition"), "upto": upto, "ids": ids}


def _recent(content: dict[str, Any]) -> dict[str, Any]:
    ids = [(check_name(name), bytes.fromhex(event_id), _place(place)) for name, event_id, place in content["ids"]]
    return {"partition": check_number(content["partition"], "partition"), "ids": ids}


def _place(text: str) -> str:
    position, _, number = text.partition("-")
    return f"{check_number(int(position), 'a position', 1)}-{check_number(int(number), 'a number', 1)}"


_READERS = {STORE: _store, BOOKMARKS: _bookmarks, STREAMS: _streams, IDS: _ids, RECENT: _recent}
