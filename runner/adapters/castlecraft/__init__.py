"""The stores of castlecraft-engineer in Redis: events, snapshots, and the progress of projections.

::

    from runner import AsyncEventStore
    from runner.adapters.castlecraft import RedisEventStore, RedisProjectionStore, RedisSnapshotStore

    store = AsyncEventStore.open("redis://…")
    events = RedisEventStore(store, category="account", events=[Opened, Deposited])
    snapshots = RedisSnapshotStore(store, category="account", states=[AccountState])
    projections = RedisProjectionStore(store)

What maps to what:

=========================  =====================================================================
there                      here
=========================  =====================================================================
an aggregate's id          the stream ``<category>-<id>``
version -1, 0, 1 …         version 0, 1, 2 …: one more
an event's class           the event type, by the name it was given under
``event_id``               the event id
``occurred_on``            metadata ``occurred_on``; our ``recorded_at`` is the time of the append
its other fields           the data, a map
=========================  =====================================================================

Events are ordinary events of the log. These keys are kept beside them in the stream's partition (written as in
`runner.format.keys`)::

    {es.0}:castlecraft:snapshot:<stream>      string  the newest snapshot of an aggregate
    {es.0}:castlecraft:projection:<id>        string  the state of a projection

Each is a record (see `runner.log.records`): ``[version, event id, class or nil, state]`` of a snapshot (the id is empty
if there was no event, nil if the event was trimmed), ``[position, event id, event timestamp, last updated]`` of a
projection.
"""

from __future__ import annotations

try:
    import castlecraft_engineer.abstractions.event_store  # noqa: F401 - so that a missing library is reported here
except ImportError as missing:
    raise ImportError(
        f"castlecraft-engineer cannot be imported ({missing}); "
        "install the extra: pip install 'redis-streams-runner[castlecraft]'"
    ) from missing

from .events import RedisEventStore
from .projections import RedisProjectionStore
from .snapshots import RedisSnapshotStore

__all__ = ["RedisEventStore", "RedisProjectionStore", "RedisSnapshotStore"]
