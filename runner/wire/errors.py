"""Errors of the client library, translated into this package's errors, which say whether trying again is right.

No password gets into a text: messages are built from the address's label, which holds none.
"""

from __future__ import annotations

import re

import redis.exceptions as theirs

from ..effects import Command
from ..errors import RecordDamaged, RunnerError, StoreRefused, StoreUnavailable
from .commands import is_loading, keys_of
from .tls import fault_of

FAULTS = (theirs.RedisError, OSError)

#: First words of error replies that pass by themselves: loading, failing over, resharding.
PASSING = frozenset({"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "UNBLOCKED"})

_PASSING = (
    theirs.BusyLoadingError, theirs.ReadOnlyError, theirs.MasterDownError,
    theirs.ClusterDownError, theirs.TryAgainError,
)  # fmt: skip

_HINTS = {
    "OOM": "Raise the server's maxmemory, or make room; nothing was written.",
    "MISCONF": "See the server's log: the server cannot write to its disk.",
    "NOAUTH": "Give the password in the URL, or a file with it: ?password_file=FILE there, or RUNNER_PASSWORD_FILE.",
    "WRONGPASS": "Check user name and password in the URL, or in the password file.",
    "NOPERM": "Be another user, or change the access list of the server: `runner acl` prints the rights of each kind.",
    "MOVED": "Use a server that is not in cluster mode: Redis Cluster is not supported yet.",
    "NOREPLICAS": "Connect more replicas: the server demands them for each write.",
}

#: An error that the server answered in place of a result.
ErrorReply = theirs.ResponseError

#: What a script says about a field that it cannot use; see `number` in ``lua/prelude.lua``.
_DAMAGED = re.compile(r"DAMAGED (.*?, which is no number)", re.DOTALL)

#: How many keys an error names.
_KEYS_SHOWN = 8

_SECRET = re.compile(r"//[^/@\s]*@")


def is_noscript(error: object) -> bool:
    """The script is not in the server's cache: the server was restarted, failed over, or its scripts were flushed."""
    return isinstance(error, theirs.NoScriptError)


def translate_reply(error: BaseException, address: str, command: Command) -> RunnerError:
    """The package's error for one that the server answered to a command: the data that it names may be the cause."""
    text, keys = str(error), keys_of(command)
    if is_loading(command) and isinstance(error, theirs.NoPermissionError):
        return StoreRefused(
            f"the server at {address} does not have the scripts of this version, and this user may not load them",
            code="NOSCRIPT",
            hint="Run `runner scripts` as an operator. A server forgets its scripts when it starts anew.",
        )
    damaged = _DAMAGED.search(text)
    if damaged is not None:
        return RecordDamaged(damaged[1], *keys)
    if "WRONGTYPE" in text:
        which = ", ".join(keys[:_KEYS_SHOWN])
        subject = which if len(keys) == 1 else f"one of the keys {which}{', …' if len(keys) > _KEYS_SHOWN else ''}"
        return RecordDamaged(f"{subject} holds another type than it should", *keys)
    return translate(error, address)


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
        hint = "Find the client that runs SCRIPT FLUSH on this server, and stop it."
        return StoreUnavailable(f"the server at {address} keeps losing its scripts", hint=hint)
    if isinstance(error, _PASSING):
        return StoreUnavailable(f"the server at {address} is not ready: {text}", hint="Try again soon.")
    if isinstance(error, (theirs.ConnectionError, theirs.TimeoutError, OSError)):
        if tls := fault_of(error, address):
            return StoreUnavailable(tls[0], hint=tls[1])
        hint = "See that the server runs and that the address is right."
        return StoreUnavailable(f"no answer from the server at {address}: {text}", hint=hint)
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
        return StoreUnavailable(f"the server at {address} is not ready: {text}", hint="Try again soon.")
    return _refused(code if code.isupper() else "ERR", text, address)


def _refused(code: str, text: str, address: str) -> StoreRefused:
    return StoreRefused(f"the server at {address} refused: {text}", code=code, hint=_HINTS.get(code, ""))
