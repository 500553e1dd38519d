"""The benchmark: its ratios are kept, and a later run says what has become worse since."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import run

from runner import InvalidInput
from runner.bench import ratios
from runner.bench.figures import Figure, at_least, at_most

ROOT = Path(__file__).parents[2]

OPTIONS = {"events": 1000, "startup_events": 1000}


def rate(ratio: float) -> Figure:
    return at_least("append", ratio * 1000, "events/s", 1000, "XADD", 0.6)


def latency(ratio: float) -> Figure:
    return at_most("live", ratio * 0.001, "s", 0.001, "XREAD", 3)


@pytest.mark.parametrize(
    ("before", "now", "worse"),
    [
        (rate(0.8), rate(0.61), None),
        (rate(0.8), rate(0.59), 0.2625),
        (rate(0.8), rate(8.0), None),
        (latency(2.0), latency(2.6), None),
        (latency(2.0), latency(4.0), 0.5),
        (latency(2.0), latency(0.2), None),
    ],
)
def test_a_ratio_that_has_lost_more_than_a_quarter_is_told(before: Figure, now: Figure, worse: float | None) -> None:
    """A rate falls, a time rises: what is lost of the kept ratio counts, whichever way is better."""
    found = ratios.falls([now], {before.name: before.ratio})
    assert [fall.share for fall in found] == ([] if worse is None else [pytest.approx(worse)])


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    """A file holds the ratios of one run by the names of its figures; a figure that it has not is no fall."""
    # given
    file = tmp_path / "ratios.json"
    ratios.keep(file, [rate(0.5)], OPTIONS)

    # when
    ratios.keep(file, [rate(0.75), latency(2.0)], OPTIONS)

    # then
    kept = ratios.read(file, OPTIONS)
    assert kept == {"append": 0.75, "live": 2.0}
    [fall] = ratios.falls([rate(0.3), replace(latency(9.0), name="another")], kept)
    assert str(fall) == "append: ratio 0.30, and 0.75 when it was kept (60% worse)"


@pytest.mark.parametrize(
    "content", [None, "", "[]", "{}", '{"options": {}, "ratios": {"append": "fast"}}', '{"ratios": 1}']
)
def test_a_file_without_ratios_is_refused(tmp_path: Path, content: str | None) -> None:
    """The error names the file and says how one comes to be."""
    file = tmp_path / "ratios.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InvalidInput, match=r"ratios\.json holds no ratios") as caught:
        ratios.read(file, OPTIONS)
    assert "--keep" in caught.value.hint


def test_ratios_of_other_options_are_no_comparison(tmp_path: Path) -> None:
    """Figures depend on how many events there are, so a file of another run is refused before anything is measured."""
    file = tmp_path / "ratios.json"
    ratios.keep(file, [rate(0.5)], {"events": 5, "startup_events": 5})
    result = run("bench", "--events", "1000", "--compare", str(file))
    assert result.exit_code == 2
    assert "of another run" in result.output


def test_the_gate_compares_with_ratios_of_its_own_options() -> None:
    """The kept file is that of a run as the gate makes it, so that the comparison is not refused at its end."""
    gate = (ROOT / ".ci" / "run").read_text().replace("\\\n", " ")
    [given] = re.findall(r'runner" bench (.*)', gate)
    words = shlex.split(given)
    sizes = {name: int(words[words.index("--" + name.replace("_", "-")) + 1]) for name in OPTIONS}
    file = ROOT / words[words.index("--compare") + 1].removeprefix("$here/")
    assert len(ratios.read(file, sizes)) == 10


@pytest.mark.real
def test_the_command_tells_what_has_become_worse_and_keeps_the_new_ratios(tmp_path: Path) -> None:
    """It compares with the file as it was, and writes what it has measured; worse ratios leave the exit code 0."""
    # given
    file = tmp_path / "ratios.json"
    unreachable = {"append, one event a round trip": 1000.0, "memory per event, index included": 1e6}
    file.write_text(json.dumps({"options": OPTIONS, "ratios": unreachable}))
    sizes = [part for name, size in OPTIONS.items() for part in ("--" + name.replace("_", "-"), str(size))]

    # when
    result = run("bench", *sizes, "--rounds", "1", "--compare", str(file), "--keep", str(file), "--json")

    # then
    assert result.exit_code == 0
    assert "WORSE" in result.stderr
    assert "append, one event a round trip: ratio" in result.stderr
    assert "memory per event" not in result.stderr
    figures: list[dict[str, Any]] = json.loads(result.stdout)
    assert ratios.read(file, OPTIONS) == {figure["name"]: figure["ratio"] for figure in figures}
    assert len(figures) == 10
