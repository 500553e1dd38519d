"""The bus of the library ``messagebus``: what it publishes, and what its units of work keep, as events in a store.

::

    AsyncEventstreamTransport(store)        messages that are published, an append each
    AsyncMessageStoreRepository(store)      all messages of a unit of work, an append for each commit

A message becomes an event through the library's own serializer, so it reads the same whichever way it came::

    id            the message's id: a message that is sent again is a duplicate, not a second event
    type          name and schema version, as ``book_proposed_v1``
    data          what its payload holds, decoded: a map that JSON can hold
    recorded_at   when the message was created
    metadata      the message's metadata, which a message store always knows, and a transport only if the serializer
                  puts them under ``metadata``, which the library's does not; and all else that the serializer adds

All messages go to the stream ``messages``, unless their metadata name a ``stream``; see `stream_of`. For a stream of
each thing give a name, or a function that takes the event and returns one; where it returns None the message is left
out.

**Commit.** The library tells a message store of each message before the commit, and of the end of a transaction that
was committed; not of the commit itself, and not of a rollback. So `commit` and `rollback` are for the unit of work to
call, as it does with a session; what no `commit` has appended is appended when the transaction ends. What is held is
one append, all or nothing, and stays held until the store has confirmed it: once it was sent it does not grow, so that
its repetition is recognized. What could never be appended is refused by ``add``, when the application can still roll
back. docs/messagebus.md says what a crash between an application's two commits leaves.

Nothing is kept in Redis but the events.

The asynchronous classes take an `AsyncEventStore`, which belongs to one event loop, or an `EventStore`, which may be
used from any number of them: its appends run in threads.
"""

from __future__ import annotations

try:
    import messagebus  # noqa: F401 - so that its lack is told in one place
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
