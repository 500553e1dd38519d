"""A store seen through a proxy, the same store seen past it, and the record of what its writers were told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accounts import PATIENCE, balances, deposited, plain_fold, reached, withdrew
from history import Acknowledged, Finding, Fold, Writer, check
from proxy import Proxy

from runner import ANY, NO_STREAM, STREAM_EXISTS, AppendResult, EventStore, NewEvent, Settings, follow
from runner.cli import run
from runner.format.scripts import load
from runner.log.append_plan import Append
from runner.sync.engine import Following
from runner.testing import TEST_SETTINGS

PROJECT = Path(__file__).parents[2]
PLUGIN = Path(__file__).with_name("plugin.py")

#: How long a runner that was killed keeps others from its projections, in seconds, where runners hold leases.
LEASE = 1.0

#: The times of the matrix, made short: a silent connection is given up after 0.2 s, and not after the usual 5 s.
IMPATIENT = replace(TEST_SETTINGS, socket_timeout=0.2, retry_for=PATIENCE)
if hasattr(IMPATIENT, "lease"):
    IMPATIENT = replace(IMPATIENT, lease=LEASE)

_LEASE_OPTION = ("--lease", str(LEASE)) if any(option.name == "lease" for option in run.command.params) else ()

#: What the tests' projection must come to.
BALANCES: list[tuple[str, Fold]] = [("balances", plain_fold)]


def digest(script: str) -> bytes:
    """What the request that runs a script holds in its head."""
    return load(script).sha.encode()


@dataclass(repr=False)
class Wire:
    """``store`` goes through the proxy and ``direct`` past it; ``writer`` goes through it and keeps the record."""

    proxy: Proxy
    direct: EventStore
    store: EventStore
    record: Acknowledged
    writer: Writer
    beside: Writer

    def open(self) -> EventStore:
        """Another store through the proxy."""
        return EventStore.open(self.proxy.url, name=self.direct.info.name, settings=self.store.settings)

    def position(self, name: str = "balances") -> int:
        """Where a projection stands."""
        return checkpoint_of(self.direct, name)

    def settled(self, name: str = "balances", patience: float = PATIENCE) -> bool:
        """Wait until a projection has applied everything that is in the log."""
        end = self.direct.last_position()
        return reached(lambda: self.position(name) >= end, patience)

    def findings(self, views: Iterable[tuple[str, Fold]] = ()) -> list[Finding]:
        """What the checker finds, looking past the proxy."""
        return check(self.direct, self.record, views)

    def deposit(self, count: int, *, streams: int = 7) -> None:
        """Append events past the proxy, for a projection to follow."""
        outcomes = self.beside.append_each(
            [(f"account-{place % streams}", [deposited(place + 1)], ANY) for place in range(count)]
        )
        assert all(isinstance(outcome, AppendResult) for outcome in outcomes)


@contextmanager
def wire_to(
    direct: EventStore, *, tcp: bool = False, settings: Settings = IMPATIENT, record: Acknowledged | None = None
) -> Iterator[Wire]:
    """A proxy before the embedded server of ``direct``, and a store through it."""
    server = direct.driver.address.server
    assert server is not None
    record = record or Acknowledged()
    with (
        tempfile.TemporaryDirectory(prefix="runner-wire-") as directory,
        Proxy(server.socket, None if tcp else Path(directory)) as proxy,
        EventStore.open(proxy.url, name=direct.info.name, settings=settings) as store,
    ):
        yield Wire(proxy, direct, store, record, Writer(store, record), Writer(direct, record))


@contextmanager
def own_wire(*, tcp: bool = False, settings: Settings = IMPATIENT) -> Iterator[Wire]:
    """The same with a server of its own, which may be stopped or configured."""
    with (
        tempfile.TemporaryDirectory(prefix="runner-own-") as directory,
        EventStore.open(f"embedded:{directory}", settings=TEST_SETTINGS) as direct,
        wire_to(direct, tcp=tcp, settings=settings) as wire,
    ):
        yield wire


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """A process that gets no time as long as the block lasts."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def server_pid(store: EventStore) -> int:
    """The process of an embedded server."""
    server = store.driver.address.server
    assert server is not None
    assert server.pid is not None
    return server.pid


@contextmanager
def following(wire: Wire, store: EventStore | None = None) -> Iterator[Following]:
    """The tests' projection at work through the proxy."""
    with follow(store or wire.store, balances()) as opened:
        yield opened


def work_until_it_has_happened(wire: Wire) -> None:
    """A runner catches up, follows, and settles while what the proxy was armed with happens to its requests."""
    with following(wire) as runner:
        runner.wait_live(PATIENCE)
        wire.deposit(10)
        assert wire.settled()
        assert reached(lambda: wire.proxy.armed == 0)
    assert wire.findings(BALANCES) == []


def checkpoint_of(store: EventStore, name: str) -> int:
    """Where a projection of the first partition stands."""
    [position] = store.driver.execute([("HGET", store.info.keys[0].build(name, "1"), "position")])
    return int(position or 0)


def runner_process(url: str, name: str, *options: str, log: Any = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """A ``runner run`` with the projections of `plugin`; ends with this process at the latest."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "runner", "run", "--store", url, "--name", name),
            *("--projections", str(PLUGIN), "--log", "json", *_LEASE_OPTION, *options),
        ],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        env=os.environ | {"FAULTS_PARENT": str(os.getpid()), "PYTHONPATH": str(PROJECT)},
    )  # fmt: skip


# -- appends of every kind ----------------------------------------------------------------------

#: Appends in one way or another, to a store whose stream account-1 has one event.
Appender = Callable[[Writer], list[AppendResult]]


def payments() -> list[NewEvent]:
    return [deposited(7), withdrew(3)]


def _each(writer: Writer) -> list[AppendResult]:
    appends: list[Append] = [("account-1", payments(), 1), ("account-2", payments(), ANY), ("account-1", payments(), 3)]
    return [outcome for outcome in writer.append_each(appends) if isinstance(outcome, AppendResult)]


APPENDERS: dict[str, Appender] = {
    "versioned": lambda writer: [writer.append("account-1", payments(), 1)],
    "any version": lambda writer: [writer.append("account-1", payments(), ANY)],
    "stream exists": lambda writer: [writer.append("account-1", payments(), STREAM_EXISTS)],
    "new stream": lambda writer: [writer.append("account-2", payments(), NO_STREAM)],
    "several streams": lambda writer: writer.append_many(
        [("account-1", payments(), 1), ("account-2", payments(), NO_STREAM)], bookmark=("transfers", 7)
    ),
    "one by one": _each,
}

#: How many results each gives.
RESULTS = {name: {"several streams": 2, "one by one": 3}.get(name, 1) for name in APPENDERS}

#: What a runner asks of the server: the head of the request, by what it is for.
RUNNER_REQUESTS = {
    "claim": digest("progress/claim"),
    "report": digest("progress/report"),
    "page": b"XRANGE",
    "rows": b"HMGET",
    "commit": digest("progress/commit"),
    "feed": b"XREAD",
}
