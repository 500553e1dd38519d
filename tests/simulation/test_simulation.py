"""Schedules of crashes, lost and late answers, freezes, failovers and rebuilds: what is promised holds in all of them.

``python -m tests.simulation --seeds 10000 --first 1`` runs more of them than the suite does.
"""

from __future__ import annotations

import pytest

from runner.format.scripts import load

from .schedule import Schedule
from .world import Violation

#: Schedules that the suite runs, in portions that are small enough to tell where it fails.
PORTIONS, PORTION = 12, 20


def without(script: str, check: str, instead: str) -> dict[str, str]:
    """A script that does not check something."""
    source = load(script).bare_source
    assert check in source
    return {script: source.replace(check, instead)}


def first_failure(sources: dict[str, str], seeds: range) -> str:
    """What the first schedule says that fails."""
    for seed in seeds:
        try:
            Schedule(seed, sources).run()
        except Violation as violation:
            return str(violation)
    return ""


@pytest.mark.parametrize("portion", range(PORTIONS))
def test_what_is_promised_holds_in_every_schedule(portion: int) -> None:
    """The log, the views, the effects and the leases are right, and all comes to rest in time."""
    for seed in range(1 + portion * PORTION, 1 + (portion + 1) * PORTION):
        Schedule(seed).run()


def test_a_seed_is_a_schedule() -> None:
    """Run again, a seed leads to the same store, write for write, at the same time."""
    first, second = Schedule(7).run(), Schedule(7).run()

    assert (first.now, first.counts, len(first.store.journal)) == (second.now, second.counts, len(second.store.journal))
    assert {key: repr(value) for key, value in first.store.db.items() if b":view:" in key} == {
        key: repr(value) for key, value in second.store.db.items() if b":view:" in key
    }


@pytest.mark.parametrize(
    ("script", "check", "instead", "seeds"),
    [
        ("progress/commit", "stored[1] ~= owner or stored[2] ~= token", "stored[1] ~= owner", range(1, 400)),
        ("progress/commit", "(stored[5] or '0') ~= generation", "false", range(1, 400)),
        ("progress/commit", "position ~= before or id ~= id_before", "false", range(2900, 3100)),
        ("progress/claim", "int(math.max(whole_number(before, build, 'token') + 1, now))", "int(before + 1)",
         range(1, 60)),
        ("log/append", "if known == 0 then return {'wrong_version', group.version} end",
         "if true then return {'wrong_version', group.version} end", range(1, 60)),
    ],
)  # fmt: skip
def test_a_script_that_lacks_a_check_is_found_out(script: str, check: str, instead: str, seeds: range) -> None:
    """Each check of the scripts is needed in some schedule, which fails without it and tells its seed."""
    found = first_failure(without(script, check, instead), seeds)

    assert found.startswith(f"seed {seeds[0] if len(seeds) == 1 else ''}")
    assert "what came before:" in found
