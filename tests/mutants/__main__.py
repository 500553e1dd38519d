"""``python -m tests.mutants``: judge the fixed sample, or the mutants that were holes (``--holes``).

Ends with 1 if a mutant survives that is not listed as equivalent, or if a listed one is not there any more.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

from .mutant import Mutant
from .reach import measured
from .run import EQUIVALENT, KILLED, SURVIVED, TEST_TIME, Judgement, Results, judge_all, stages_of
from .sample import SAMPLE, SEED, drawn, equivalent, holes, mutants_of

ROOT = Path(__file__).parents[2]


def parsed(arguments: list[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--sample", type=int, default=SAMPLE, metavar="N", help=f"how many mutants (default: {SAMPLE})")
    parser.add_argument("--seed", type=int, default=SEED, help="which sample")
    parser.add_argument("--only", default="", metavar="PATH", help="only mutants of files whose path begins so")
    parser.add_argument("--name", default="", metavar="TEXT", help="only mutants whose name has this text; no sample")
    parser.add_argument("--holes", action="store_true", help="only the mutants that were holes, each with its test")
    parser.add_argument(
        "--seconds", type=float, default=float("inf"), metavar="N", help="begin no mutant after so long"
    )
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="how many at a time (default: 2)")
    parser.add_argument(
        "--scratch",
        type=Path,
        metavar="DIRECTORY",
        help="where copies and results are kept; a run with the same one goes on where the last one ended",
    )
    parser.add_argument("--list", action="store_true", help="print the names and judge nothing")
    parser.add_argument("--quick", action="store_true", help="try only quick tests; survivors are judged again later")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = parsed(arguments)
    if options.scratch is not None:
        options.scratch.mkdir(mode=0o700, exist_ok=True, parents=True)
        return judged_in(options.scratch, options)
    with tempfile.TemporaryDirectory(prefix="runner-mutants-") as scratch:
        return judged_in(Path(scratch), options)


def judged_in(scratch: Path, options: argparse.Namespace) -> int:
    """Judge the mutants in a directory that this process may fill; returns the exit code."""
    until = time.monotonic() + options.seconds
    every = list(mutants_of(ROOT))
    listed, former = equivalent(), holes()
    gone = sorted((listed.keys() | former.keys()) - {one.name for one in every})
    chosen = _chosen(every, options, former)
    if options.list:
        print(*(one.name for one in chosen), sep="\n")
        return 0
    results = Results(ROOT, scratch / "results.json")
    judged = {one.name: Judgement(EQUIVALENT) for one in chosen if one.name in listed}
    judged |= {one.name: known for one in chosen if one.name not in judged and (known := results.of(one)) is not None}
    todo = [one for one in chosen if one.name not in judged]

    def tell(mutant: Mutant, judgement: Judgement) -> None:
        judged[mutant.name] = judgement
        print(f"{judgement.verdict:9} {judgement.seconds:5.1f} s  {mutant.name}  {judgement.by}", flush=True)

    if todo:
        stages = {one: _first_of(one, former) for one in todo}
        if not options.holes:
            tests = measured(ROOT, scratch)
            stages = {one: [*first, *stages_of(one, tests.tests_of(one))] for one, first in stages.items()}
        if options.quick:
            stages = {one: [stage for stage in found if stage[1]] for one, found in stages.items()}
        judge_all(ROOT, scratch, stages.items(), results, workers=options.workers, until=until, tell=tell)
    return _report(chosen, judged, gone)


def _first_of(one: Mutant, former: dict[str, str]) -> list[tuple[list[str], bool]]:
    """The stage that a former hole has before all others: the test that was written for it."""
    return [([f"--timeout={TEST_TIME}", former[one.name]], True)] if one.name in former else []


def _chosen(every: list[Mutant], options: argparse.Namespace, former: dict[str, str]) -> list[Mutant]:
    among = [one for one in every if one.path.startswith(options.only)]
    if options.holes:
        return [one for one in among if one.name in former]
    if options.name:
        return [one for one in among if options.name in one.name]
    return drawn(among, options.sample, options.seed)


def _report(chosen: list[Mutant], judged: dict[str, Judgement], gone: list[str]) -> int:
    """Print the counts of each package, the survivors and what is listed in vain; returns the exit code."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one in chosen:
        counts[one.package][judged[one.name].verdict if one.name in judged else "not judged"] += 1
    total = sum(counts.values(), Counter())
    print(f"\n{'package':16}{KILLED:>10}{SURVIVED:>10}{EQUIVALENT:>12}{'not judged':>12}")
    for package, found in [*sorted(counts.items()), ("all", total)]:
        print(f"{package:16}{found[KILLED]:10}{found[SURVIVED]:10}{found[EQUIVALENT]:12}{found['not judged']:12}")
    killed = [judged[one.name] for one in chosen if one.name in judged and judged[one.name].verdict == KILLED]
    survivors = [one for one in chosen if one.name in judged and judged[one.name].verdict == SURVIVED]
    if killed:
        noticed, quick = len(killed) / (len(killed) + len(survivors)), sum(one.quick for one in killed) / len(killed)
        print(f"\n{noticed:.1%} of those that can be noticed were noticed, {quick:.1%} of these by a quick test")
    for one in survivors:
        print(f"survived: {one.name} (line {one.change.line})")
    for name in gone:
        print(f"listed, but not there any more: {name}")
    return 1 if survivors or gone else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
