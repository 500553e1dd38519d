"""Error replies of servers in this package's terms: what passes by itself, what needs a person, and what to do."""

from __future__ import annotations

import pytest
import redis.exceptions as theirs
from redis._parsers.base import BaseParser

from runner.errors import RecordDamaged, StoreRefused, StoreUnavailable
from runner.format.scripts import load
from runner.wire.errors import translate, translate_reply

ADDRESS = "redis://db:6379"


def reply(text: str) -> Exception:
    """What the client library makes of an error reply."""
    made = BaseParser.parse_error(text)
    assert isinstance(made, Exception)
    return made


@pytest.mark.parametrize(
    "text",
    [
        "LOADING Redis is loading the dataset in memory",
        "READONLY You can't write against a read only replica.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "CLUSTERDOWN The cluster is down",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
    ],
    ids=lambda text: text.partition(" ")[0],
)
def test_a_reply_that_passes_by_itself_is_an_outage(text: str) -> None:
    """The server is loading, fails over or is busy: a request is repeated."""
    error = translate(reply(text), ADDRESS)
    assert isinstance(error, StoreUnavailable)
    assert f"the server at {ADDRESS} is not ready" in str(error)


@pytest.mark.parametrize(
    ("text", "code", "said", "hint", "passing"),
    [
        ("MOVED 3999 127.0.0.1:6381", "MOVED", "this is a node of a cluster", "not in cluster mode", False),
        ("ASK 3999 127.0.0.1:6381", "MOVED", "this is a node of a cluster", "not in cluster mode", False),
        ("NOAUTH Authentication required.", "NOAUTH", "Authentication required", "Give the password", True),
        ("WRONGPASS invalid username-password pair or user is disabled.", "WRONGPASS", "invalid", "Check user", True),
        ("NOPERM this user has no permissions to run the 'xadd' command", "NOPERM", "'xadd'", "`runner acl`", False),
        ("ERR ACL failure in script: no permissions to run 'set'", "NOPERM", "'set'", "access list", False),
        ("ERR The user executing the script can't run this command", "NOPERM", "can't run", "access list", False),
        ("OOM command not allowed when used memory > 'maxmemory'.", "OOM", "maxmemory", "make room", True),
        ("MISCONF Errors writing to the AOF file: No space left", "MISCONF", "No space", "write to its disk", True),
        ("NOREPLICAS Not enough good replicas to write.", "NOREPLICAS", "good replicas", "Connect more", True),
        ("ERR unknown command 'XYZ'", "ERR", "unknown command 'XYZ'", "", False),
        ("NEWCODE nobody knows this", "NEWCODE", "nobody knows", "", False),
        ("something else", "ERR", "something else", "", False),
    ],
    ids=lambda value: value.partition(" ")[0] if isinstance(value, str) else str(value),
)  # fmt: skip
def test_a_refusal_has_a_code_and_says_what_to_do(text: str, code: str, said: str, hint: str, passing: bool) -> None:
    """Whatever class the client library gives it."""
    error = translate(reply(text), ADDRESS)
    assert isinstance(error, StoreRefused)
    assert (error.code, error.passing) == (code, passing)
    assert said in str(error)
    assert str(error).startswith(f"the server at {ADDRESS} refused: ")
    assert hint in error.hint


def test_scripts_that_are_lost_all_the_time_are_an_outage_with_a_cause() -> None:
    """Another client flushes them."""
    error = translate(reply("NOSCRIPT No matching script."), ADDRESS)
    assert isinstance(error, StoreUnavailable)
    assert "SCRIPT FLUSH" in error.hint


@pytest.mark.parametrize("fault", [theirs.ConnectionError("gone"), theirs.TimeoutError("late"), OSError("no route")])
def test_a_connection_that_fails_is_an_outage(fault: Exception) -> None:
    """The address is named, and what to look at."""
    error = translate(fault, ADDRESS)
    assert isinstance(error, StoreUnavailable)
    assert f"no answer from the server at {ADDRESS}: {fault}" == str(error)
    assert error.hint


def test_no_password_of_another_url_gets_into_a_text() -> None:
    """A text of the client library may hold a whole URL."""
    error = translate(theirs.ConnectionError("cannot reach redis://me:secret@db:6379"), ADDRESS)
    assert "secret" not in str(error)


@pytest.mark.parametrize(("count", "shown"), [(1, "k0 holds"), (2, "one of the keys k0, k1 holds"), (9, "k7, … holds")])
def test_a_key_of_another_type_is_named(count: int, shown: str) -> None:
    """Of many keys the first ones."""
    keys = [f"k{number}" for number in range(count)]
    command = load("log/trim").call(keys) if count > 1 else ("GET", *keys)
    error = translate_reply(reply("WRONGTYPE Operation against a key"), ADDRESS, command)
    assert isinstance(error, RecordDamaged)
    assert f"{shown} another type than it should" in str(error)
