"""The events of a made-up bank. They are always the same, so a demo that was killed can go on where it was."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

from ..format.events import NewEvent, RecordedEvent
from ..log.append_plan import Append

ACCOUNTS = 3000
EVENTS = 30_000

_NAMESPACE = UUID("5f0f0c5e-0d0b-5a7e-8a55-6f9d0f3d4c11")
_OWNERS = ("Ada", "Barbara", "Edsger", "Frances", "Grace", "Katherine", "Leslie", "Margaret", "Radia", "Tony")
_BEGIN = datetime(2026, 1, 1, 8, tzinfo=UTC)


def history() -> Iterator[Append]:
    """The bank's history: one event an append, with the version that its stream has before it."""
    dice = random.Random(20260101)
    versions = [0] * ACCOUNTS
    for place in range(EVENTS):
        account = place if place < ACCOUNTS else dice.randrange(ACCOUNTS)
        stream = f"account-{account + 1}"
        kind, data = _step(dice, versions[account])
        event = NewEvent(
            kind,
            data,
            id=uuid5(_NAMESPACE, str(place)),
            recorded_at=_BEGIN + timedelta(seconds=place * 20),
        )
        yield stream, [event], versions[account]
        versions[account] += 1


def live(seed: int) -> Iterator[tuple[str, NewEvent]]:
    """Deposits and withdrawals without end, for accounts of the history."""
    dice = random.Random(seed)
    while True:
        kind, data = _step(dice, 1)
        yield f"account-{dice.randrange(ACCOUNTS) + 1}", NewEvent(kind, data)


def balances_by_hand(events: Iterable[RecordedEvent]) -> dict[str, int]:
    """Every balance, from a plain loop over the events: the demo compares the view with it."""
    balances: dict[str, int] = {}
    for event in events:
        if event.type == "Opened":
            balances[event.stream] = 0
        elif event.type == "Deposited":
            balances[event.stream] += event.data["amount"]
        elif event.type == "Withdrawn":
            balances[event.stream] -= event.data["amount"]
    return balances


def _step(dice: random.Random, version: int) -> tuple[str, dict[str, object]]:
    if version == 0:
        return "Opened", {"owner": dice.choice(_OWNERS)}
    amount = dice.randrange(1_00, 500_00)
    return ("Withdrawn", {"amount": amount // 2}) if dice.random() < 0.4 else ("Deposited", {"amount": amount})
