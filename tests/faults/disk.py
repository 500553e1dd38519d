"""What of a file has not reached the disk yet, as the kernel counts it: a power loss would take it."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from pathlib import Path

#: The number of Linux' cachestat(2), the same on every machine; there since Linux 6.5.
CACHESTAT = 451

_libc = ctypes.CDLL(None, use_errno=True)


def unwritten_pages(path: Path) -> int | None:
    """Pages of the file that are in memory only; None where the kernel cannot say."""
    if sys.platform != "linux" or platform.libc_ver()[0] == "":
        return None
    whole, counts = (ctypes.c_uint64 * 2)(), (ctypes.c_uint64 * 5)()
    file = os.open(path, os.O_RDONLY)
    try:
        failed = _libc.syscall(CACHESTAT, file, whole, counts, 0)
    finally:
        os.close(file)
    _, dirty, under_way, _, _ = counts
    return None if failed else dirty + under_way


def can_be_told(directory: Path) -> bool:
    """Whether `unwritten_pages` sees a write here, and sees it gone after it was synced."""
    probe = directory / "probe"
    with open(probe, "wb", buffering=0) as file:
        file.write(b"x")
        before = unwritten_pages(probe)
        os.fsync(file.fileno())
        after = unwritten_pages(probe)
    probe.unlink()
    return (before, after) == (1, 0)
