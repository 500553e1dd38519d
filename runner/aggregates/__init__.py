"""Aggregates, the writing side: objects that check their rules, record events, and are loaded from their events.

::

    class Account(Aggregate):
        balance = 0

        def withdraw(self, amount):             a command: it checks its rules, then records
            if amount > self.balance:
                raise ValueError("not enough")
            self.record("Withdrawn", {"amount": amount})

        @handles("Withdrawn")                   a handler: only handlers change the state; they refuse nothing
        def _withdrawn(self, event):
            self.balance -= event.data["amount"]

    accounts = Repository(store, Account, category="account")

A recorded event is applied at once, by the same handler and with the same data as when `Repository.load` reads the
event later. `Repository.save` appends with the version that was loaded, so of two loaded copies one is saved.

One caller at a time may use an aggregate. Several may share a repository.
"""

from .aggregate import Aggregate, Happened, handles
from .repository import AsyncRepository, Repository

__all__ = ["Aggregate", "AsyncRepository", "Happened", "Repository", "handles"]
