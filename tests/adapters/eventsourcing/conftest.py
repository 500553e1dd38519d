"""Each published test has an empty server in memory, or a store of its own on one embedded server."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from itertools import count

import pytest

#: How the settings of the published tests' applications and projections begin.
APPLICATIONS = ("APPLICATION_", "BANKACCOUNTS_", "COUNTERS_", "EVENTCOUNTERS_")

_names = count(1)


@pytest.fixture(autouse=True)
def environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What an application on Redis sets, in the environment of the process; a class says ``real`` for a real server."""
    monkeypatch.setenv("PERSISTENCE_MODULE", "runner.adapters.eventsourcing")
    number = next(_names)
    if getattr(request.cls, "real", False):
        monkeypatch.setenv("RUNNER_STORE", request.getfixturevalue("real_url"))
        # One server for all: a store named as the application would be found full by the next test that has one.
        for name in ("", *APPLICATIONS):
            monkeypatch.setenv(f"{name}RUNNER_NAME", f"{name or 'S'}{number}")
    else:
        monkeypatch.setenv("RUNNER_STORE", f"memory:eventsourcing-{number}-{os.getpid()}")
    yield
    gc.collect()  # many of these tests leave closing to the collector
