"""A user's application: it is checked with ``mypy --strict``, and run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, assert_type
from uuid import UUID

from users_plugin import Account, accounts, totals

from runner import (
    ALL,
    NO_STREAM,
    AppendResult,
    Category,
    EventStore,
    Following,
    NewEvent,
    RecordedEvent,
    Replicated,
    RunnerError,
    Settings,
    Subscription,
    View,
    WaitTimeout,
    WrongExpectedVersion,
    catch_up,
    follow,
    state_at,
)


def open_store(url: str, name: str) -> EventStore:
    return EventStore.open(url, name=name, partitions=1, settings=Settings(page_size=100))


def open_replicated(url: str) -> EventStore:
    return EventStore.open(url, durability=Replicated(1, within=0.5), insecure_tls=True)


def deposit(store: EventStore, account: str, amount: int, version: int) -> int | None:
    """The new version, or None where another writer was first."""
    try:
        result = store.append(account, NewEvent("Deposited", {"amount": amount}), version)
    except WrongExpectedVersion as conflict:
        assert_type(conflict.actual, int)
        return None
    assert_type(result, AppendResult)
    return result.version


def show(view: View[Account], account: str) -> int:
    row = view.get(account)
    return 0 if row is None else row["balance"]


def wait(following: Following, view: View, result: AppendResult) -> str:
    try:
        following.wait_live()
        following.wait_for(result, timeout=10)
        view.wait_for(result, timeout=None)
    except WaitTimeout as late:
        return f"{late.state} {late.lag}"
    return ""


def first(subscription: Subscription) -> RecordedEvent | None:
    for event in subscription:
        assert_type(event, RecordedEvent)
        if subscription.caught_up:
            subscription.unsubscribe()
    return subscription.poll(timeout=0.1)


def main(url: str, name: str) -> None:
    with open_store(url, name) as store:
        opened = store.append("account-1", [NewEvent("Opened", {"owner": "Ada"})], NO_STREAM)
        assert deposit(store, "account-1", 5, opened.version) == 2
        assert deposit(store, "account-1", 5, opened.version) is None
        results = store.append_many([("account-2", [NewEvent("Opened", {"owner": "Bo"})], 0)], bookmark=("name", 1))
        assert_type(results, list[AppendResult])
        assert_type(store.append_each([("account-2", [], 1)]), list[AppendResult | RunnerError])
        assert store.bookmark("name") == 1

        assert_type(store.read_stream("account-1", backwards=True, limit=1), Iterator[RecordedEvent])
        event = next(store.read_all(backwards=True))
        assert_type((event.id, event.recorded_at, event.number), tuple[UUID, datetime, int])
        assert [each.number for each in store.read_category("account", after=2)] == [1]
        assert (store.version("account-1"), store.last_position(partition=0), store.info.partitions) == (2, 3, 1)

        assert catch_up(store, accounts, totals) == 6
        view = View(store, accounts)
        assert_type(view, View[Account])
        assert_type(View(store, "accounts"), View[Any])
        assert_type(view.get("account-1", 0), Account | int)
        assert_type(view["account-1"], Account)
        assert_type(dict(view.items()), dict[str, Account])
        assert (show(view, "account-1"), view.count(), len(view), "account-2" in view) == (5, 2, 2, True)
        assert sorted(view) == ["account-1", "account-2"]

        assert_type(state_at(store, accounts, time=event.recorded_at), dict[str, Account])
        then = state_at(store, accounts, position=1, key="account-1")
        assert_type(then, Account | None)
        assert then == {"owner": "Ada", "balance": 0}

        with follow(store, accounts) as following:
            result = store.append("account-1", NewEvent("Withdrawn", {"amount": 2}))
            assert wait(following, view, result) == ""
        with store.subscribe(Category("account"), after=1) as by_category:
            assert first(by_category) is None
        with store.subscribe(ALL, resubscribe=True) as subscription:
            assert first(subscription) is None
