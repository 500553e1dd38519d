"""A small domain for tests: accounts are paid into, paid from and closed. Builders, a projection, its plain fold."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from runner import DELETE, Delete, EventStore, NewEvent, Projection, RecordedEvent, Settings, View
from runner.progress.checkpoint import Checkpoint
from runner.testing import TEST_SETTINGS

#: Pages so small that a handful of events makes several batches.
SMALL = replace(TEST_SETTINGS, page_size=2)

#: Pages of one event, of some, and one page for all that a test appends.
PAGE_SIZES = [1, 2, 500]

#: How long a bounded wait on a state may take, in seconds. Only a test that fails takes that long.
PATIENCE = 10.0


def deposited(amount: int = 10, *, recorded_at: datetime | None = None, **more: Any) -> NewEvent:
    return NewEvent("Deposited", {"amount": amount, **more}, recorded_at=recorded_at)


def deposits(count: int, first: int = 1) -> list[NewEvent]:
    """Events whose amounts are ``first``, ``first`` + 1 and so on."""
    return [deposited(amount) for amount in range(first, first + count)]


def withdrew(amount: int = 5) -> NewEvent:
    return NewEvent("Withdrew", {"amount": amount})


def closed() -> NewEvent:
    return NewEvent("Closed")


def noted() -> NewEvent:
    """An event that no projection of this module has a handler for."""
    return NewEvent("Noted", {"text": "nobody listens"})


def balances(name: str = "balances", *, on_event: Callable[[RecordedEvent], object] = lambda event: None) -> Projection:
    """A row an account: its balance and the numbers of the events in it. ``on_event`` runs inside each handler."""
    projection = Projection[Any](name, category="account", initial=lambda: {"balance": 0, "numbers": []})

    @projection.when("Deposited", "Withdrew")
    def moved(state: Any, event: RecordedEvent) -> None:
        state["numbers"].append(event.number)
        on_event(event)
        state["balance"] += event.data["amount"] if event.type == "Deposited" else -event.data["amount"]

    @projection.when("Closed")
    def gone(state: Any, event: RecordedEvent) -> Delete:
        on_event(event)
        return DELETE

    return projection


def plain_fold(events: Iterable[RecordedEvent]) -> dict[str, Any]:
    """What `balances` must come to, in plain Python: no pages, no cache, no packing."""
    rows: dict[str, Any] = {}
    for event in events:
        if event.category != "account":
            continue
        if event.type == "Closed":
            rows.pop(event.stream, None)
        elif event.type in ("Deposited", "Withdrew"):
            row = rows.setdefault(event.stream, {"balance": 0, "numbers": []})
            row["numbers"].append(event.number)
            row["balance"] += event.data["amount"] if event.type == "Deposited" else -event.data["amount"]
    return rows


def rows_of(store: EventStore, name: str = "balances") -> dict[str, Any]:
    """All rows of a view."""
    return dict(View(store, name).items())


def failing_at(position: int, name: str = "balances") -> Projection:
    """`balances` whose handler changes its row and then raises, at one position."""

    def fail(event: RecordedEvent) -> None:
        if event.position == position:
            raise ZeroDivisionError("no handler is perfect")

    return balances(name, on_event=fail)


def reopened(store: EventStore, url: str, settings: Settings = SMALL) -> EventStore:
    """The same store as another process would open it."""
    return EventStore.open(url, name=store.info.name, settings=settings)


def checkpoint_of(store: EventStore, name: str = "balances") -> Checkpoint:
    """Where the projection's first build stands."""
    keys = store.info.keys[0]
    [(position, event_id)] = store.driver.execute([("HMGET", keys.build(name, "1"), "position", "id")])
    return Checkpoint(int(position or 0), event_id or b"")


def append_history(store: EventStore) -> None:
    """Nine events over four streams: rows that are made, changed, deleted and made again, and events nobody wants."""
    store.append("account-1", [deposited(100), withdrew(30)])
    store.append("account-2", [deposited(7), closed()])
    store.append("order-1", noted())
    store.append("account-2", deposited(8))
    store.append("account-3", [noted(), deposited(1)])
    store.append("account-1", deposited(5))


def counting_all(name: str = "all") -> Projection:
    """One row with the count of events of each type: a row that every event changes."""
    projection = Projection(name, key=lambda event: "total")

    @projection.when
    def seen(state: Any, event: RecordedEvent) -> None:
        state[event.type] = state.get(event.type, 0) + 1

    return projection


def unsettled(cache_rows: int) -> Settings:
    """Pages of two and a small cache, so that a short run loads, folds, commits and evicts many times.

    The lease is short, because a run that was killed keeps it.
    """
    return replace(SMALL, cache_rows=cache_rows, lease=0.05)


def reached(condition: Callable[[], bool], patience: float = PATIENCE) -> bool:
    """Wait until a state is reached, for a bounded time; False when it was not."""
    deadline = time.monotonic() + patience
    pulse = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            return False
        pulse.wait(0.005)
    return True


@contextmanager
def in_thread(work: Callable[[], Any]) -> Iterator[threading.Thread]:
    """Run ``work`` beside the block, and see that it has ended after it. On a busy machine much work takes a while."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield thread
    thread.join(6 * PATIENCE)
    assert not thread.is_alive()
