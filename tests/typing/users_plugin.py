"""A user's plug-in: projections, a reactor, policies, a forwarder. It is checked with ``mypy --strict``, and run."""

from __future__ import annotations

from typing import Any, TypedDict, assert_type

from runner import (
    DELETE,
    AsyncEventStore,
    Delete,
    EventStore,
    NewEvent,
    ParkStream,
    Projection,
    Reactor,
    RecordedEvent,
    Retry,
    Skip,
    Stop,
)
from runner.forwarding import Forwarder, Message


class Account(TypedDict):
    owner: str
    balance: int


def new_account() -> Account:
    return {"owner": "", "balance": 0}


# -- the type of a state comes from `initial`, or is given ---------------------------------------------------

plain = Projection("plain")
assert_type(plain, Projection[Any])

without_initial = Projection[Account]("without-initial")
assert_type(without_initial, Projection[Account])

totals = Projection("totals", category="account", key=lambda event: "all", initial=lambda: {"events": 0})
assert_type(totals, Projection[dict[str, int]])

accounts = Projection("accounts", category="account", initial=new_account, on_error=Retry(3, then=ParkStream(limit=10)))
assert_type(accounts, Projection[Account])

nested = Projection[dict[str, Any]]("nested", initial=lambda: {"now": {}, "names": []}, build="2", on_error=Skip())
assert_type(nested, Projection[dict[str, Any]])

numbers = Projection("numbers", initial=lambda: 0, on_error=Stop())
assert_type(numbers, Projection[int])


# -- handlers: in place, by what they return, removing the row, async ------------------------------------------


@accounts.when("Opened")
def opened(state: Account, event: RecordedEvent) -> None:
    state["owner"] = event.data["owner"]


@accounts.when("Deposited", "Refunded")
def deposited(state: Account, event: RecordedEvent) -> Account:
    return {"owner": state["owner"], "balance": state["balance"] + event.data["amount"]}


@accounts.when("Closed")
def closed(state: Account, event: RecordedEvent) -> Account | Delete:
    return DELETE if state["balance"] == 0 else state


@accounts.when("Withdrawn")
async def withdrawn(state: Account, event: RecordedEvent) -> None:
    state["balance"] -= event.data["amount"]


@totals.when()
def count(state: dict[str, int], event: RecordedEvent) -> None:
    state["events"] += 1


@plain.when("Opened")
def owner(state: dict[str, Any], event: RecordedEvent) -> dict[str, Any]:
    return state | {"owner": event.data["owner"]}


nested.when("Opened", lambda state, event: state["names"].append(event.data["owner"]))
nested.when("Deposited", "Withdrawn", lambda state, event: state | {"now": event.data})
without_initial.when("Opened", "Closed", lambda state, event: {"owner": "", "balance": 0})
nested.when("Closed", lambda state, event: DELETE)
numbers.when(lambda state, event: state + 1)

# A handler is still what it was: it can be called in a test.
started = new_account()
assert_type(deposited(started, RecordedEvent.__new__(RecordedEvent)) if started["balance"] else started, Account)


# -- a reactor and a forwarder ------------------------------------------------------------------------------

mails = Reactor("mails", category="account", on_error=Retry(times=5, then=ParkStream()), at_a_time=4, start="end")
sent: list[str] = []


@mails.when("Opened")
def welcome(event: RecordedEvent, key: str) -> None:
    sent.append(f"{event.data['owner']} {key}")


@mails.when("Closed", "Refunded")
async def goodbye(event: RecordedEvent, key: str) -> str:
    return key


def with_handlers_that_ask_for_the_store(reactor: Reactor) -> None:
    @reactor.when("Asked")
    def answer(event: RecordedEvent, key: str, store: EventStore) -> None:
        store.append(f"answer-{event.stream}", NewEvent("Answered"))

    @reactor.when("Called")
    async def call_back(event: RecordedEvent, key: str, store: AsyncEventStore) -> None:
        await store.append(f"answer-{event.stream}", NewEvent("Answered"))


mails.when("Deposited", lambda event, key: print(event.stream, key))


class Queue:
    """A transport of the user's own."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def send(self, message: Message) -> None:
        self.messages.append(message)


queue = Queue()
to_queue = Forwarder("to-queue", category="account", transport=queue, on_error=Retry(then=Skip()))
