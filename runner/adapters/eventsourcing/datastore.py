"""The store that the recorders of one factory share."""

from __future__ import annotations

import weakref
from typing import TypeVar

from ...effects import StoreOperation
from ...errors import InvalidInput
from ...sync.store import EventStore
from .errors import translated
from .naming import category_of_store

T = TypeVar("T")


class RunnerDatastore:
    """A store with one partition. One that is forgotten instead of closed is closed when it is collected."""

    def __init__(self, url: str, name: str, *, reader: str) -> None:
        #: Whose tracking is recorded here: several applications may be given one store.
        self.reader = reader
        self.store = EventStore.open(url, name=name)
        self._finalizer = weakref.finalize(self, self.store.close)
        self._finalizer.atexit = False  # a process that ends leaves everything anyway, and a fork's end is not ours
        if self.store.info.partitions != 1:
            partitions = self.store.info.partitions
            self.close()
            raise InvalidInput(
                f"store {name!r} has {partitions} partitions; notification ids need one order, which one partition has",
                hint="Set RUNNER_NAME to the name of another store.",
            )
        self.category = category_of_store(name)

    def run(self, operation: StoreOperation[T]) -> T:
        """Run an operation; what goes wrong is raised as the library's errors."""
        with translated():
            return self.store.run(operation)

    def close(self) -> None:
        """End the subscriptions and close the connections."""
        self._finalizer()


class RunnerRecorder:
    """What all recorders have: the datastore of their factory."""

    def __init__(self, datastore: RunnerDatastore) -> None:
        self.datastore = datastore
