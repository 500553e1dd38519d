"""JSON lines, to an import, an export, and back."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from runner import InvalidInput
from runner.format.json_lines import parse
from runner.operations import export_lines, import_lines

from .kind import CHANGES, Fresh, Kind, changed

TAGS = st.sampled_from(
    [f"$runner:{tag}" for tag in ("bytes", "datetime", "date", "uuid", "decimal", "float", "tuple", "map", "none")]
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | TAGS, inner, max_size=3),
    max_leaves=6,
)
TEXTS = st.one_of(
    JSON,
    st.sampled_from(["a-1", "X", "2026-01-31T12:00:00+00:00", "1e5", "NaN", "0" * 32, "AAAA", "2026-01-31", "-0"]),
)
TAGGED = st.dictionaries(TAGS, TEXTS, min_size=1, max_size=1)
OBJECTS = st.fixed_dictionaries(
    {"stream": st.sampled_from(["a-1", "b"]) | st.text(max_size=4), "type": st.sampled_from(["X", "Y"])},
    optional={"id": TEXTS, "time": TEXTS, "data": TEXTS | TAGGED, "metadata": TEXTS | TAGGED, "position": JSON},
)
LINE = OBJECTS.map(lambda found: json.dumps(found).encode())
INPUTS = st.lists(LINE | st.builds(changed, LINE, CHANGES) | st.binary(max_size=20), min_size=1, max_size=4)


def check(lines: list[bytes], fresh: Fresh) -> None:
    """Each line is an event or a bad line; what was imported is exported, and the export is imported as the same."""
    good = 0
    for line in lines:
        try:
            parse(line)
            good += 1
        except InvalidInput:
            pass
    if not good:
        return
    store = fresh()
    text = b"\n".join(line.replace(b"\n", b" ") for line in lines).splitlines(keepends=True)
    try:
        first = import_lines(store, text, skip_bad=True)
    except InvalidInput:
        return
    again = import_lines(store, text, skip_bad=True)
    assert again.appended == 0
    assert (again.lines, again.bad) == (first.lines, first.bad)
    written: list[bytes] = []
    export_lines(store, written.append)
    exported = b"".join(written).splitlines(keepends=True)
    assert len(exported) == first.appended
    other = fresh()
    copied = import_lines(other, exported)
    assert copied.appended == first.appended
    twice: list[bytes] = []
    export_lines(other, twice.append)
    assert [json.loads(line) for line in b"".join(twice).splitlines()] == [json.loads(line) for line in exported]


LINES = Kind("lines", "JSON lines: imported, exported and imported as the same", INPUTS, check)
