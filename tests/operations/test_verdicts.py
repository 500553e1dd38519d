"""Verdicts: an operation that calls a script again and again ends with an error where it does not know the reply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from accounts import balances
from disturbing import misunderstood
from trouble import Trap, three_accounts, trapped
from workbench import Workbench, pool_of

from runner import EventStore, catch_up
from runner.effects import StoreOperation
from runner.log.records import NOTHING, Place, record_of, update
from runner.log.restoring import Restoring
from runner.operations.retry_parked import drop_row, retry_row
from runner.operations.trim import Trim
from runner.progress.builds import reset, rollback, switch
from runner.progress.checkpoint import Claim
from runner.progress.lease import ClaimRequest, RunnerIdentity, acquire, claim_again
from runner.projections.policies import ParkStream
from runner.views.redis_rows import was_committed
from runner.workers.lease_keeper import LeaseKeeper

#: What makes an operation that calls a script, on a store whose projection has a parked event and a previous build.
Make = Callable[[EventStore], StoreOperation[Any]]

NAME = "balances"


def request(store: EventStore, code: str = "2") -> ClaimRequest:
    return ClaimRequest(store.info.keys[0], NAME, code)


def identity(store: EventStore) -> RunnerIdentity:
    return RunnerIdentity("a", store.info, 60.0)


def held(store: EventStore, code: str = "2") -> Claim:
    found = store.run(acquire(identity(store), request(store, code)))
    assert isinstance(found, Claim)
    return found


def heartbeat(store: EventStore) -> StoreOperation[Any]:
    projection = balances()
    projection.build = "2"
    pool = pool_of(store, [projection])
    store.run(pool.coordinator.first_round())
    return LeaseKeeper(store.info.keys[0], pool.context).renew(pool.assignments)


def write_a_record(store: EventStore) -> StoreOperation[Any]:
    def decide(stored: Any) -> StoreOperation[bytes]:
        return record_of([1], "it")
        yield

    keys = store.info.keys[0]
    return update(store.info, keys, Place(f"{keys.tag}:record"), decide, NOTHING)


OPERATIONS: dict[str, tuple[str, Make]] = {
    "rollback": ("progress/rollback", lambda store: rollback(store.info.keys[0], NAME)),
    "reset": ("progress/reset", lambda store: reset(store.info.keys[0], NAME)),
    "claim": ("progress/claim", lambda store: acquire(identity(store), request(store))),
    "claim again": ("progress/claim", lambda store: claim_again(identity(store), request(store), held(store))),
    "propose": ("progress/propose", lambda store: acquire(identity(store), request(store, "3"))),
    "switch": ("progress/switch", lambda store: switch(store.info.keys[0], NAME, held(store, "3"))),
    "heartbeat": ("progress/report", heartbeat),
    "trim": ("log/trim", lambda store: Trim(store.info, 0, 3).run()),
    "record": ("log/replace_records", write_a_record),
    "restore": ("log/restore", lambda store: Restoring(store.info, store.info.keys[0], "a").begin(0)),
}


@pytest.mark.parametrize("what", OPERATIONS)
def test_a_verdict_that_is_not_known_ends_the_operation(store: EventStore, what: str) -> None:
    """The error names the script and the verdict; nobody asks again for ever, or takes it for a success."""
    # given
    script, make = OPERATIONS[what]
    three_accounts(store)
    for build in ("1", "2"):
        projection = balances()
        projection.build = build
        catch_up(store, projection)

    # when, then
    with pytest.raises(AssertionError, match=f"b'strange' of script {script}"):
        store.work(misunderstood(make(store), script))


def test_a_verdict_on_a_commit_that_is_not_known_is_no_refusal() -> None:
    """A refused commit is folded again under another claim, which would not help here."""
    with pytest.raises(AssertionError, match="b'strange' of script progress/commit"):
        was_committed([b"strange"])


@pytest.mark.parametrize("what", ["retry", "drop"])
def test_a_verdict_on_parked_events_that_is_not_known_ends_their_retry(store: EventStore, what: str) -> None:
    """Else the row would be read and tried without end."""
    # given
    three_accounts(store)
    Workbench(store, trapped(Trap(2), ParkStream())).run()
    keys, row = store.info.keys[0], "account-2"

    # when, then
    with pytest.raises(AssertionError, match="b'strange' of script progress/unpark"):
        if what == "retry":
            store.work(
                misunderstood(retry_row(keys, balances(), row, store.driver.clock, dry_run=False), "progress/unpark")
            )
        else:
            store.work(misunderstood(drop_row(keys, NAME, row), "progress/unpark"))
