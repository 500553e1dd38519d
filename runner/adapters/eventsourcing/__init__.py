"""A persistence module for the library ``eventsourcing`` (9.5): an application on it gets Redis by two variables.

::

    PERSISTENCE_MODULE=runner.adapters.eventsourcing
    RUNNER_STORE=redis://localhost:6379/0          or rediss://, unix://, embedded:DIRECTORY, memory:NAME

Each application has a store of its own, named as the application, or as ``RUNNER_NAME`` says. As with all settings of
the library, ``BANKACCOUNTS_RUNNER_STORE`` goes before ``RUNNER_STORE`` for the application ``BankAccounts``. What is
there, for the store ``BankAccounts``::

    {BankAccounts.0}:log, …                                     events; see runner.format.keys
    {BankAccounts.0}:stream:BankAccounts-<originator id>        number = version; of those that begin at version 0, in
    {BankAccounts.0}:stream:BankAccounts-~<originator id>         streams of another name, number = version + 1
    {BankAccounts.0}:bookmarks                        hash      tracking:BankAccounts:<application>: how far it has come
                                                                  with another application
    {BankAccounts.0}:eventsourcing:snapshots:<id>     zset      by version: records of [topic, state]
    {BankAccounts.0}:eventsourcing:tracking:…         channel   rung when tracking was recorded, for those who wait

A notification id is a position in the log; an event's type is its topic, its data the state, in bytes.
"""

try:
    import eventsourcing  # noqa: F401 - so that its lack is told in one place
except ModuleNotFoundError as missing:
    raise ImportError(f"{missing}; install the extra: pip install 'redis-streams-runner[eventsourcing]'") from missing

from .factory import RunnerFactory
from .naming import notification_of
from .process import RunnerProcessRecorder
from .recorders import RunnerAggregateRecorder, RunnerApplicationRecorder
from .snapshots import RunnerSnapshotRecorder
from .tracking import RunnerTrackingRecorder

#: The library looks for exactly one infrastructure factory here; by this name people find it.
Factory = RunnerFactory

__all__ = [
    "Factory",
    "RunnerAggregateRecorder",
    "RunnerApplicationRecorder",
    "RunnerFactory",
    "RunnerProcessRecorder",
    "RunnerSnapshotRecorder",
    "RunnerTrackingRecorder",
    "notification_of",
]
