"""Forked children that tell how their work ended."""

from __future__ import annotations

import os
import select
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from accounts import PATIENCE


@dataclass
class Child:
    """A forked process, and the pipe on which its answer comes."""

    pid: int
    answers: int

    def answer(self) -> str:
        """What the child's function returned, or the traceback of its error. Waits for the child's end."""
        said = b""
        while True:
            ready, _, _ = select.select([self.answers], [], [], PATIENCE)
            if not ready:
                os.kill(self.pid, signal.SIGKILL)
                return f"no answer within {PATIENCE} s"
            chunk = os.read(self.answers, 65536)
            if not chunk:
                return said.decode()
            said += chunk


@contextmanager
def forked(work: Callable[[], str]) -> Iterator[Child]:
    """Run ``work`` in a forked child; the child has ended when the block ends."""
    answers, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = work()
        except BaseException:
            said = traceback.format_exc()
        os.write(tell, said.encode())
        os._exit(0)
    os.close(tell)
    try:
        yield Child(pid, answers)
    finally:
        os.close(answers)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def in_child(work: Callable[[], str]) -> str:
    """What ``work`` returns in a forked child, or the traceback of its error."""
    with forked(work) as child:
        return child.answer()
