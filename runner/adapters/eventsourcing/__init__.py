"""A persistence module for the library ``eventsourcing`` (9.5): two variables bring its applications to Redis.

::

    PERSISTENCE_MODULE=runner.adapters.eventsourcing
    RUNNER_STORE=redis://localhost:6379/0          or rediss://, unix://, embedded:DIRECTORY, memory:NAME

Each application has a store of its own, named as the application, or as ``RUNNER_NAME`` says. As with all settings of
the library, ``BANKACCOUNTS_RUNNER_STORE`` takes precedence over ``RUNNER_STORE`` for the application ``BankAccounts``.
The keys of the store ``BankAccounts``::

    {BankAccounts.0}:log, …                                     events; see runner.format.keys
    {BankAccounts.0}:stream:BankAccounts-<originator id>        number = version
    {BankAccounts.0}:stream:BankAccounts-~<originator id>       number = version + 1, if the versions begin at 0
    {BankAccounts.0}:bookmarks                        hash      tracking:BankAccounts:<application>: how far the other
                                                                  application was processed
    {BankAccounts.0}:eventsourcing:snapshots:<id>     zset      by version: records of [topic, state]
    {BankAccounts.0}:eventsourcing:tracking:…         channel   an empty message when tracking was recorded, which
                                                                  wakes waiting processes

A notification id is a position in the log; an event's type is its topic, its data the state, in bytes.
"""

try:
    import eventsourcing  # noqa: F401 - so that a missing library is reported here
except ModuleNotFoundError as missing:
    raise ImportError(f"{missing}; install the extra: pip install 'redis-streams-runner[eventsourcing]'") from missing

from .factory import RunnerFactory
from .naming import notification_of
from .process import RunnerProcessRecorder
from .recorders import RunnerAggregateRecorder, RunnerApplicationRecorder
from .snapshots import RunnerSnapshotRecorder
from .tracking import RunnerTrackingRecorder

#: The library needs exactly one infrastructure factory in this module; this name is for people.
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
