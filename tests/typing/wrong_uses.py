"""Wrong uses, each with the error that ``mypy --strict`` has to find on its line. Never run."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypedDict

from runner import (
    AsyncEventStore,
    AsyncView,
    EventStore,
    NewEvent,
    Projection,
    Reactor,
    RecordedEvent,
    Retry,
    Stop,
    View,
    catch_up,
    follow,
    state_at,
)


class Account(TypedDict):
    balance: int


def new_account() -> Account:
    return {"balance": 0}


accounts = Projection("accounts", initial=new_account)
mails = Reactor("mails")

# -- projections and reactors

Projection(1)  # expect: arg-type
Projection("a", initial={"balance": 0})  # expect: arg-type
Projection("a", key=lambda event: event.number)  # expect: arg-type return-value
Projection("a", on_error="stop")  # expect: arg-type
Retry(then=Retry())  # expect: arg-type
Reactor("a", on_error=Stop(), at_a_time="many")  # expect: arg-type
empty = Projection("empty", initial=lambda: {"names": []})  # expect: var-annotated


@accounts.when("A")  # expect: arg-type
def of_another_state(state: str, event: RecordedEvent) -> None: ...


@accounts.when("B")  # expect: arg-type
def returns_something_else(state: Account, event: RecordedEvent) -> str:
    return ""


@accounts.when("C")  # expect: arg-type
async def awaits_something_else(state: Account, event: RecordedEvent) -> int:
    return 1


@accounts.when("D")  # expect: arg-type
def takes_no_event(state: Account) -> None: ...


@accounts.when(1)  # expect: call-overload untyped-decorator
def has_no_type(state: Account, event: RecordedEvent) -> None: ...


def of_a_number(state: int, event: RecordedEvent) -> int:
    return state


accounts.when("E", "F", of_a_number)  # expect: arg-type


@mails.when("A")  # expect: type-var
def is_for_a_projection(state: dict[str, Any], event: RecordedEvent) -> None: ...


@mails.when("B")  # expect: type-var
def takes_no_key(event: RecordedEvent) -> None: ...


# -- stores, views, and what runs projections


def synchronous(store: EventStore, other: AsyncEventStore) -> None:
    store.append("account-1", {"amount": 1})  # expect: dict-item
    store.append("account-1", NewEvent("A"), expected_version="1")  # expect: arg-type
    store.read_all(since="yesterday")  # expect: arg-type
    store.read_all_backwards()  # expect: attr-defined
    store.state_at(accounts)  # expect: attr-defined
    store.info()  # expect: operator
    View(store, mails)  # expect: arg-type
    View(other, accounts)  # expect: arg-type
    View(store, accounts).get("account-1")["balance"]  # expect: index
    View(store, accounts)["account-1"]["amount"]  # expect: typeddict-item
    catch_up(store, "accounts")  # expect: call-overload
    state_at(store, mails)  # expect: call-overload
    state_at(store, accounts, position=datetime.now())  # expect: call-overload
    state_at(store, accounts)["account-1"]["amount"]  # expect: typeddict-item
    with follow(other, accounts):  # expect: attr-defined attr-defined
        pass


async def asynchronous(store: AsyncEventStore) -> None:
    view = AsyncView(store, accounts)
    view.get("account-1")  # expect: unused-coroutine
    (await view.get("account-1"))["balance"]  # expect: index
    for _ in view.items():  # expect: attr-defined
        pass
    len(view)  # expect: arg-type
    print(store.info.partitions)  # expect: attr-defined
