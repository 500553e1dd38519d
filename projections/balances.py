"""The balance of every account of the demo's bank: one row an account.

Events: ``Opened {owner}``, ``Deposited {amount}``, ``Withdrawn {amount}``, ``Closed``. Amounts are whole cents.
"""

from runner import DELETE, Projection

balances = Projection("balances", category="account", initial=lambda: {"owner": "", "balance": 0, "movements": 0})


@balances.when("Opened")
def opened(state, event):
    state["owner"] = event.data["owner"]


@balances.when("Deposited")
def deposited(state, event):
    state["balance"] += event.data["amount"]
    state["movements"] += 1


@balances.when("Withdrawn")
def withdrawn(state, event):
    state["balance"] -= event.data["amount"]
    state["movements"] += 1


balances.when("Closed", lambda state, event: DELETE)
