"""Aggregates: the writing side. Things that check their rules, record events, and are made again from them.

::

    class Account(Aggregate):
        balance = 0

        def withdraw(self, amount):             a command: it checks its rules, then records
            if amount > self.balance:
                raise ValueError("not enough")
            self.record("Withdrawn", {"amount": amount})

        @handles("Withdrawn")                   a handler: it alone changes the state, and cannot refuse
        def _withdrawn(self, event):
            self.balance -= event.data["amount"]

    accounts = Repository(store, Account, category="account")

A recorded event is applied at once, through the handler that `Repository.load` will use, with the data that it will
read. `Repository.save` appends with the version that was loaded, so of two loaded copies one is saved.

An aggregate is one caller's at a time; a repository can be shared.
"""

from .aggregate import Aggregate, Happened, handles
from .repository import AsyncRepository, Repository

__all__ = ["Aggregate", "AsyncRepository", "Happened", "Repository", "handles"]
