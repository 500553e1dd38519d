"""Judging mutants: each is put into a copy of the tree, and tests run until one fails. The tree is not touched."""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from .mutant import Mutant
from .reach import digest, folders_of

#: How long one test may take, and one run of tests, in seconds. A mutant that hangs is noticed.
TEST_TIME, RUN_TIME = 20, 1800

#: So many tests are tried first. Nearly every mutant that can be noticed is noticed by one of them.
FIRST = 60

#: The end of the name of a test that ended so.
TIME_OUT = " (time-out)"

KILLED, SURVIVED, EQUIVALENT = "killed", "survived", "equivalent"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of a mutant. ``by``: the test that noticed it, or how it ended; ``quick``: whether that is quick."""

    verdict: str
    by: str = ""
    quick: bool = False
    seconds: float = 0.0
    #: The file and, for a survivor, the tests that this was judged with.
    file: str = ""
    tests: str = ""


class Results:
    """What is known of mutants, in a file: a run that was interrupted goes on with it."""

    def __init__(self, root: Path, path: Path) -> None:
        self._root, self._path = root, path
        self._known: dict[str, Judgement] = {}
        self._tests = digest(root, "tests")
        self._lock = threading.Lock()
        if path.exists():
            self._known = {name: Judgement(**kept) for name, kept in json.loads(path.read_text()).items()}

    def of(self, mutant: Mutant) -> Judgement | None:
        """What is known; None if the file has changed since, or if a survivor may be noticed by tests that are new."""
        known = self._known.get(mutant.name)
        if known is None or known.file != digest(self._root, mutant.path):
            return None
        return known if known.verdict == KILLED or known.tests == self._tests else None

    def keep(
        self, mutant: Mutant, verdict: str, by: str, quick: bool, seconds: float, *, final: bool = True
    ) -> Judgement:
        """Make a judgement, and remember it if it is ``final``."""
        file = digest(self._root, mutant.path)
        judgement = Judgement(verdict, by, quick, round(seconds, 1), file, "" if verdict == KILLED else self._tests)
        if not final:
            return judgement
        with self._lock:
            self._known[mutant.name] = judgement
            self._path.write_text(
                json.dumps({name: asdict(one) for name, one in self._known.items()}, indent=1, ensure_ascii=False)
            )
        return judgement


class Copy:
    """A copy of the tree, in which one mutant at a time is judged."""

    def __init__(self, root: Path, place: Path) -> None:
        self._place = place
        #: Tests that were seen to pass without a mutant.
        self._sound: set[str] = set()
        shutil.rmtree(place, ignore_errors=True)
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        for name in subprocess.run(listed, cwd=root, check=True, capture_output=True, text=True).stdout.split("\0"):
            if name and (root / name).is_file():
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, place / name)

    def judge(self, mutant: Mutant, stages: Iterable[tuple[list[str], bool]]) -> tuple[str, str, bool]:
        """Run tests on a mutant, stage by stage: each has arguments for pytest, and whether its tests are quick ones.

        Returns the verdict, the test that noticed the mutant, and whether that test is quick. A test that fails without
        the mutant, too, has noticed nothing: the others go on without it.
        """
        path = self._place / mutant.path
        source = path.read_bytes()
        failing: list[str] = []
        for arguments, quick in stages:
            while True:
                try:
                    self._write(path, mutant.applied_to(source))
                    by = self.failing([*arguments, *(f"--deselect={test}" for test in failing)])
                finally:
                    self._write(path, source)
                if not by:
                    break
                test = re.split(r"[\[ ]", by)[0]  # with all its parameters
                if "::" not in test or self._passes(test, again=by.endswith(TIME_OUT)):
                    return KILLED, by, quick
                failing.append(test)
        return SURVIVED, "", False

    def _passes(self, test: str, *, again: bool) -> bool:
        """Whether a test passes in the tree as it is; looked at once, or ``again`` if it ended by the time-out."""
        if again or test not in self._sound:
            if self.failing([f"--timeout={TEST_TIME}", test]):
                return False
            self._sound.add(test)
        return True

    def failing(self, arguments: list[str]) -> str:
        """The first test that fails, or how the run ended otherwise; empty if all tests pass, or if there is none."""
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider", *arguments]
        # Compiled tests are kept from run to run: most of the time of a short run would go into compiling them.
        environment = {**os.environ, "PYTHONPATH": str(self._place), "PYTHONDONTWRITEBYTECODE": ""}
        try:
            done = subprocess.run(
                command,
                cwd=self._place,
                env=environment,
                capture_output=True,
                text=True,
                timeout=RUN_TIME,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "the time-out"
        if done.returncode in (0, 5):
            return ""
        found = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
        by = found[1] if found else f"pytest, which ended with {done.returncode}"
        return f"{by}{TIME_OUT}" if "Timeout" in done.stdout + done.stderr else by

    @staticmethod
    def _write(path: Path, source: bytes) -> None:
        """Write a file and remove its compiled code: two mutants of one second may have the same size."""
        path.write_bytes(source)
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            compiled.unlink()


def stages_of(mutant: Mutant, reaching: list[str]) -> list[tuple[list[str], bool]]:
    """The first of the quick tests that reach a mutant; all of them; then what else its own folders have.

    The last need time or a real server. Only a survivor of the first comes to the others.
    """
    quick = [f"--timeout={TEST_TIME}", "-m", "quick"]
    tried = [tests for tests in (reaching[:FIRST], reaching[FIRST:]) if tests]
    stages = [([*quick, *tests], True) for tests in tried]
    return [*stages, ([f"--timeout={3 * TEST_TIME}", "-m", "not quick", *folders_of(mutant.package)], False)]


def judge_all(
    root: Path, scratch: Path, todo: Iterable[tuple[Mutant, list[tuple[list[str], bool]]]], results: Results, *,
    workers: int, until: float, tell: Callable[[Mutant, Judgement], None],
) -> None:  # fmt: skip
    """Judge mutants in several copies at once, until all are judged or the time is up (seconds, monotonic)."""
    waiting: queue.SimpleQueue[tuple[Mutant, list[tuple[list[str], bool]]]] = queue.SimpleQueue()
    for one in todo:
        waiting.put(one)

    def work(number: int) -> None:
        copy = Copy(root, scratch / f"copy-{number}")
        while time.monotonic() < until:
            try:
                mutant, stages = waiting.get_nowait()
            except queue.Empty:
                return
            began = time.monotonic()
            verdict, by, quick = copy.judge(mutant, stages)
            final = verdict == KILLED or not all(each for _, each in stages)
            tell(mutant, results.keep(mutant, verdict, by, quick, time.monotonic() - began, final=final))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
