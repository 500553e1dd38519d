"""The library ``messagebus``: its published messages, and the messages of its units of work, as events in a store.

::

    AsyncEventstreamTransport(store)        messages that are published, an append each
    AsyncMessageStoreRepository(store)      all messages of a unit of work, an append for each commit

A message becomes an event through the library's own serializer, so both ways give events of one form::

    id            the message's id: a message that is sent again is a duplicate, not a second event
    type          name and schema version, as ``book_proposed_v1``
    data          the decoded payload: a map that JSON can hold
    recorded_at   when the message was created
    metadata      the message's metadata, and all other fields that the serializer adds; from a transport only if the
                  serializer puts the metadata under ``metadata``, which the library's serializer does not

All messages go to the stream ``messages``, unless their metadata name a ``stream``; see `stream_of`. For other
streams give a name, or a function that takes the event and returns a name. If the function returns None, the message
is left out.

**Commit.** The library tells a message store of each message before the commit, and of the end of a committed
transaction. It does not tell of the commit itself, or of a rollback. So the unit of work calls `commit` and `rollback`,
as with a database session. Messages that no `commit` has appended are appended when the transaction ends. The held
messages are one append, all or nothing, and stay held until the store has confirmed it. An append that was sent once
does not grow, so that its repetition is recognised. ``add`` refuses a message that could never be appended, while the
application can still roll back. docs/messagebus.md says what a crash between an application's two commits leaves.

Only the events are kept in Redis.

The asynchronous classes take an `AsyncEventStore`, which belongs to one event loop, or an `EventStore`, which may be
used from any number of them: its appends run in threads.
"""

from __future__ import annotations

try:
    import messagebus  # noqa: F401 - so that a missing library is reported here
except ModuleNotFoundError as missing:
    raise ImportError(f"{missing}; install the extra: pip install 'redis-streams-runner[messagebus]'") from missing

from .aio import AsyncEventstreamTransport, AsyncMessageStoreRepository
from .events import event_of, stream_of
from .sync import SyncEventstreamTransport, SyncMessageStoreRepository

__all__ = [
    "AsyncEventstreamTransport",
    "AsyncMessageStoreRepository",
    "SyncEventstreamTransport",
    "SyncMessageStoreRepository",
    "event_of",
    "stream_of",
]
