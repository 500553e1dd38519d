"""The balance of every account of the demo's bank: one row an account.

Events: ``Opened {owner}``, ``Deposited {amount}``, ``Withdrawn {amount}``, ``Closed``. Amounts are whole cents.
"""

from typing import TypedDict

from runner import DELETE, Projection, RecordedEvent


class Account(TypedDict):
    owner: str
    balance: int
    movements: int


balances = Projection("balances", category="account", initial=lambda: Account(owner="", balance=0, movements=0))


@balances.when("Opened")
def opened(state: Account, event: RecordedEvent) -> None:
    state["owner"] = event.data["owner"]


@balances.when("Deposited")
def deposited(state: Account, event: RecordedEvent) -> None:
    state["balance"] += event.data["amount"]
    state["movements"] += 1


@balances.when("Withdrawn")
def withdrawn(state: Account, event: RecordedEvent) -> None:
    state["balance"] -= event.data["amount"]
    state["movements"] += 1


balances.when("Closed", lambda state, event: DELETE)
