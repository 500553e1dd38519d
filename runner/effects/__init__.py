"""Effects: what the core asks a driver to do, as data.

Code that needs the server, user code or time is written as an operation: a generator that yields an effect and is sent
the effect's outcome::

    def version(self, stream):
        [reply] = yield Execute([("XREVRANGE", ...)])
        return ...

The drivers of the two faces (`runner.sync` and `runner.aio`) run such operations, so the faces hold no logic. Each kind
of effect has a module of its own, and a driver says by its type which kinds it performs.
"""

from .feed import FeedEffect, Join, Leave, Take
from .operation import DriverOperation, Effect, Operation, StoreOperation, UserCodeOperation, drive, drive_async
from .scheduling import Begin, Finish, Pause, SchedulingEffect
from .store import Command, Execute, Hear, Listen, Pending, Receive, Send, StoreEffect
from .user_code import Await, CannotWait, Invoke, UserCodeEffect, UserCodeRaised, invoke

__all__ = [
    "Await", "Begin", "CannotWait", "Command", "DriverOperation", "Effect", "Execute", "FeedEffect", "Finish", "Hear",
    "Invoke", "Join", "Leave", "Listen", "Operation", "Pause", "Pending", "Receive", "SchedulingEffect", "Send",
    "StoreEffect", "StoreOperation", "Take", "UserCodeEffect", "UserCodeOperation", "UserCodeRaised", "drive",
    "drive_async", "invoke",
]  # fmt: skip
