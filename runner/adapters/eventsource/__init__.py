"""Redis under the ports of eventsource-py. Needs the extra ``eventsource``.

::

    store = RedisEventStore.open("redis://localhost:6379/0")     an EventAppender, StreamReader, EventLookup,
                                                                 GlobalEventFeed and CategoryQuery
    checkpoints = RedisCheckpointRepository(store)               a CheckpointRepository
    dead_letters = RedisDLQRepository(store)                     a DLQRepository

Their keys in Redis, beside the log::

    {es.0}:ids                      hash  every event id and its place; see `runner.log.id_index`
    {es.0}:eventsource:checkpoints  hash  by projection or subscription: a record, see `checkpoints`
    {es.0}:eventsource:dlq          hash  by "<event id>:<projection>": a record, see `dead_letters`

Any event loop and any thread may use them, also several at a time. Blocking calls run in threads of the store (see
`threads`), over the connections of its `runner.EventStore`.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("eventsource") is None:
    raise ImportError(
        "eventsource-py is not installed; install the extra: pip install 'redis-streams-runner[eventsource]'"
    )

from .checkpoints import RedisCheckpointRepository
from .dead_letters import RedisDLQRepository
from .store import RedisEventStore
from .threads import RedisUnavailableError

__all__ = ["RedisCheckpointRepository", "RedisDLQRepository", "RedisEventStore", "RedisUnavailableError"]
