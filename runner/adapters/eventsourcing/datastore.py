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
    """A store with one partition. Garbage collection closes the store of a datastore that was not closed."""

    def __init__(self, url: str, name: str, *, reader: str) -> None:
        #: The application that records tracking here. Several applications may share one store.
        self.reader = reader
        self.store = EventStore.open(url, name=name)
        self._finalizer = weakref.finalize(self, self.store.close)
        self._finalizer.atexit = False  # not at exit, where connections close anyway; and never in a fork
        if self.store.info.partitions != 1:
            partitions = self.store.info.partitions
            self.close()
            raise InvalidInput(
                f"store {name!r} has {partitions} partitions; notification ids need one order, which one partition has",
                hint="Set RUNNER_NAME to the name of another store.",
            )
        self.category = category_of_store(name)

    def run(self, operation: StoreOperation[T]) -> T:
        """Run an operation. Raises errors as the library's errors."""
        with translated():
            return self.store.run(operation)

    def close(self) -> None:
        """End the subscriptions and close the connections."""
        self._finalizer()


class RunnerRecorder:
    """The base class of recorders: it holds the datastore of their factory."""

    def __init__(self, datastore: RunnerDatastore) -> None:
        self.datastore = datastore
