"""What the server or the connection said, in this package's errors, and whether trying again is right.

No password ever reaches a text: messages are built from the address's label, which holds none.
"""

from __future__ import annotations

import re

import redis.exceptions as theirs

from ..errors import LogCorrupt, RunnerError, StoreRefused, StoreUnavailable

FAULTS = (theirs.RedisError, OSError)

#: First words of error replies that pass by themselves: loading, failing over, resharding.
PASSING = frozenset({"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "UNBLOCKED"})

_PASSING = (
    theirs.BusyLoadingError, theirs.ReadOnlyError, theirs.MasterDownError,
    theirs.ClusterDownError, theirs.TryAgainError,
)  # fmt: skip

_HINTS = {
    "OOM": "The server is at its maxmemory: raise it, or make room; nothing was written.",
    "MISCONF": "The server cannot write to its disk: see its log.",
    "NOAUTH": "Give the password in the URL: redis://:PASSWORD@HOST.",
    "WRONGPASS": "Check user name and password in the URL.",
    "NOPERM": "The server's access list does not allow this to the user; the documentation lists what is needed.",
    "MOVED": "Redis Cluster is not supported yet: use a server that is not in cluster mode.",
    "NOREPLICAS": "The server demands more replicas than are connected.",
}

#: What the server answered instead of a result.
ErrorReply = theirs.ResponseError

_SECRET = re.compile(r"//[^/@\s]*@")


def is_noscript(error: object) -> bool:
    """The script is not in the server's cache: it was restarted, failed over, or flushed."""
    return isinstance(error, theirs.NoScriptError)


def translate(error: BaseException, address: str) -> RunnerError:
    """The package's error for one of the client's."""
    if isinstance(error.__cause__ or error.__context__, theirs.AuthenticationError):
        error = error.__cause__ or error.__context__  # type: ignore[assignment]  # asyncio's connect() wraps it
    text = _SECRET.sub("//***@", str(error))
    # Before ConnectionError: several of the client's answer errors derive from it.
    if isinstance(error, (theirs.AuthenticationError, theirs.AuthorizationError)):
        wrong = "WRONGPASS" in text or "invalid" in text.lower()
        return _refused("WRONGPASS" if wrong else "NOAUTH", text, address)
    if isinstance(error, (theirs.MovedError, theirs.AskError)):
        return _refused("MOVED", f"this is a node of a cluster, and the key is on another ({text})", address)
    if is_noscript(error):
        return StoreUnavailable(f"the server at {address} keeps forgetting its scripts", hint="Who flushes them?")
    if isinstance(error, _PASSING):
        return StoreUnavailable(f"the server at {address} is not ready: {text}", hint="It should be soon; try again.")
    if isinstance(error, (theirs.ConnectionError, theirs.TimeoutError, OSError)):
        return StoreUnavailable(
            f"no answer from the server at {address}: {text}",
            hint="Is it running, and is the address right? `runner doctor` tells more.",
        )
    if isinstance(error, theirs.OutOfMemoryError):
        return _refused("OOM", text, address)
    if isinstance(error, theirs.NoPermissionError):
        return _refused("NOPERM", text, address)
    if text.startswith(
        ("ACL failure", "The user executing the script can't")
    ):  # as Redis 7.2 and 7.0 say it in scripts
        return _refused("NOPERM", text, address)
    code = text.partition(" ")[0]
    if code in PASSING:
        return StoreUnavailable(f"the server at {address} is not ready: {text}", hint="It should be soon; try again.")
    if code == "WRONGTYPE":
        return LogCorrupt(f"a key of the store holds another type than it should (server at {address}: {text})")
    return _refused(code if code.isupper() else "ERR", text, address)


def _refused(code: str, text: str, address: str) -> StoreRefused:
    return StoreRefused(f"the server at {address} refused: {text}", code=code, hint=_HINTS.get(code, ""))
