"""Handlers that fail, and entries that nobody can read: what makes trouble for a projection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack
from accounts import balances, deposited

from runner import EventStore, Projection, RecordedEvent
from runner.projections.policies import Policy
from runner.testing import all_events


class Trouble(Exception):
    """What a handler of these tests raises."""


class Trap:
    """Makes handlers fail at some positions, and counts how often each was tried."""

    def __init__(self, *positions: int, times: int = 10**9) -> None:
        self.positions = set(positions)
        self.times = times
        self.calls: dict[int, int] = {}

    def __call__(self, event: RecordedEvent) -> None:
        self.calls[event.position] = count = self.calls.get(event.position, 0) + 1
        if event.position in self.positions and count <= self.times:
            raise Trouble(f"no luck with {event.position}")


def trapped(trap: Callable[[RecordedEvent], object], policy: Policy, name: str = "balances") -> Projection:
    projection = balances(name, on_event=trap)
    projection.on_error = policy
    return projection


def three_accounts(store: EventStore) -> list[RecordedEvent]:
    """Positions 1 to 6: two rounds over three accounts."""
    for amount in (10, 20):
        for account in ("account-1", "account-2", "account-3"):
            store.append(account, deposited(amount))
    return all_events(store)


def rogue(store: EventStore, position: int, envelope: bytes, number: int = 1) -> None:
    """What someone with write access can do: an entry that no append made."""
    store.driver.execute([("XADD", store.info.keys[0].log, f"{position}-{number}", "e", envelope)])


def envelope(stream: str = "account-1", event_type: str = "Deposited", data: bytes = b"\xc1") -> bytes:
    """An entry whose head says what it is, and whose data no decoder takes (0xc1 is never used)."""
    head = [b"i" * 16, stream, event_type, 0]
    return b"\x97" + b"".join(msgpack.packb(item) for item in head) + data + b"\xc0\x00"


def divide_by_zero(state: Any, event: RecordedEvent) -> None:
    """A handler that fails."""
    raise ZeroDivisionError("division by zero")
