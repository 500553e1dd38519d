"""JSON that is given by people: what is wrong with a value is said in words of the project, with the way out."""

from __future__ import annotations

from typing import Any

import pytest
from command_line import run

from runner.errors import InvalidInput
from runner.format.json_lines import from_json

MAP = "must be a list of pairs, [key, value], and no key may be a list or a map"

UNFIT: list[tuple[Any, str]] = [
    ({"$runner:decimal": "x"}, "the value of $runner:decimal must be a decimal number as text, such as 1.50, not 'x'"),
    ({"$runner:decimal": 1.5}, "the value of $runner:decimal must be a decimal number as text, such as 1.50, not 1.5"),
    ({"$runner:float": "1"}, "the value of $runner:float must be one of NaN, Infinity, -Infinity, not '1'"),
    ({"$runner:uuid": "x"}, "the value of $runner:uuid must be a UUID, not 'x'"),
    ({"$runner:date": "x"}, "the value of $runner:date must be an ISO 8601 date such as 2026-01-31, not 'x'"),
    ({"$runner:datetime": "2026-01-01T00:00:00.1234567"}, "must be an ISO 8601 time of microseconds at most, such as"),
    ({"$runner:bytes": "x"}, "the value of $runner:bytes must be bytes in base64, not 'x'"),
    ({"$runner:tuple": "x"}, "the value of $runner:tuple must be a list, not 'x'"),
    ({"$runner:map": [1]}, f"the value of $runner:map {MAP}, not [1]"),
    ({"$runner:map": [["a", 1], ["a", 2]]}, "the value of $runner:map has a key twice"),
    ({"$runner:map": [[[1], 2]]}, MAP),
    ({"$runner:what": 1}, "unknown tag $runner:what; known are bytes, date, datetime, decimal, float, map,"),
    ([{"$runner:tuple": [{"$runner:uuid": "x"}]}], "the value of $runner:uuid must be a UUID, not 'x'"),
    ({"$runner:uuid": "x" * 1000}, "… and "),
]


@pytest.mark.parametrize(("value", "said"), UNFIT)
def test_a_tag_says_what_it_takes(value: Any, said: str) -> None:
    """The innermost value that does not fit, and no text of the library that reads it."""
    with pytest.raises(InvalidInput) as refused:
        from_json(value)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("text", "said", "quoted"),
    [
        ('{"a": NaN}', 'DATA: NaN is no number of JSON; write {"$runner:float": "NaN"}', False),
        ('{"a": 1e999}', "DATA: 1e999 is more than a float can hold", False),
        ('{"a": 1, "a": 2}', "DATA: an object has the key 'a' twice", False),
        ('{"$runner:decimal": "x"}', "DATA: the value of $runner:decimal must be a decimal number", False),
        ("{a: 1}", "DATA is not JSON: Expecting property name", True),
        ("", "DATA is not JSON: Expecting value", True),
    ],
)
def test_only_what_is_no_json_is_to_be_quoted(fresh_name: str, text: str, said: str, quoted: bool) -> None:
    """A hint about the shell would mislead where the value itself is refused."""
    refused = run("append", "a-1", "X", text, store=f"memory:{fresh_name}")
    assert refused.exit_code == 2
    assert f"Error: {said}" in refused.stderr
    assert ("Quote it for the shell" in refused.stderr) == quoted
