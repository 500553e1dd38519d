"""The page about access lists shows the rights of the code, and what it says that users can do is so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from access_lists import ONE_PARTITION, become, is_refused
from accounts import balances, deposits
from command_line import run
from servers import Server

from runner import DataError, EventStore, RecordedEvent, catch_up
from runner.errors import LogCorrupt
from runner.operations.rights import ADAPTERS, KINDS, Right, rules_of
from runner.testing import all_events

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "access-lists.md").read_text()
LOG = "{es.0}:log"
HIGHEST = "18446744073709551615-1"


# -- what the pages show --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_shows_the_rules_of_each_kind(kind: str) -> None:
    """Its block is the list of the code, and its table has the commands, the keys and what they are for."""
    section = PAGE.partition(f"## The {kind}\n")[2].partition("\n## ")[0]
    [block] = re.findall(r"^```text\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    rules = rules_of(KINDS[kind], ONE_PARTITION)
    assert block.split() == ["user", kind, "on", ">PASSWORD", *" ".join(rules).split()]
    assert re.findall(r"^\| `.*$", section, re.MULTILINE) == [row_of(right) for right in KINDS[kind]]


def row_of(right: Right) -> str:
    commands, keys = (", ".join(f"`{word}`" for word in words.split()) for words in (right.commands, right.keys))
    return f"| {commands.replace('|', chr(92) + '|')} | {keys or 'none'} | {right.purpose} |"


@pytest.mark.parametrize("name", [name for name, rights in ADAPTERS.items() if rights])
def test_the_page_of_an_adapter_shows_its_rules(name: str) -> None:
    """They are those that `runner acl --adapter` adds."""
    blocks = re.findall(r"^```text\n(.*?)^```", (DOCS / f"{name}.md").read_text(), re.MULTILINE | re.DOTALL)
    added = [rule for rule in rules_of(ADAPTERS[name], ONE_PARTITION) if rule not in ("resetchannels", "-@all")]
    assert " ".join(added).split() in [block.split() for block in blocks]


# -- what the page says that users can and cannot do ----------------------------------------------


@pytest.fixture
def at(shared_server: Server) -> Iterator[Server]:
    """A server with three events in one stream, and a user of each kind."""
    shared_server.do("FLUSHALL")
    with EventStore.open(shared_server.url) as store:
        store.append("account-1", deposits(3), 0)
    for kind in KINDS:
        become(shared_server, kind)
    yield shared_server
    for kind in KINDS:
        shared_server.do("ACL", "DELUSER", kind)


EVERYBODY = [
    ["FLUSHALL"], ["DEL", LOG], ["UNLINK", LOG], ["XDEL", LOG, "1-1"],
    ["XSETID", LOG, "9-9"], ["EXPIRE", LOG, "1"], ["RENAME", LOG, "gone"], ["COPY", "{es.0}:new", LOG, "REPLACE"],
    ["DEL", "{es.0}:meta"], ["SET", LOG, "x"], ["GET", "else"],
    ["CONFIG", "SET", "appendonly", "no"], ["ACL", "LIST"], ["SCRIPT", "FLUSH"],
    ["KEYS", "*"], ["SHUTDOWN"], ["REPLICAOF", "NO", "ONE"], ["PUBLISH", "else", "x"], ["SELECT", "1"],
    ["SUBSCRIBE", "else"], ["SUBSCRIBE", "{es.audit.0}:applied:balances"],
]  # fmt: skip
NOT_FOR_PROGRAMS = [
    ["XTRIM", LOG, "MAXLEN", "0"], ["HSET", "{es.0}:meta", "epoch", "another"], ["CONFIG", "GET", "requirepass"],
]  # fmt: skip
FORBIDDEN = {
    "appender": [
        ["HSET", "{es.0}:projection:balances", "position", "9"], ["HGET", "{es.0}:view:balances:1", "account-1"],
        ["XRANGE", "{es.audit.0}:log", "-", "+"], ["XADD", "{es.audit.0}:log", "1-1", "e", "x"],
        ["XADD", "{es.0}:meta", "1-1", "e", "x"],
    ],
    "reader": [
        ["XADD", LOG, "*", "e", "x"], ["HSET", "{es.0}:view:balances:1", "account-1", "x"],
        ["HGET", "{es.audit.0}:view:balances:1", "account-1"], ["EVAL", "return 1", "0"],
        ["PUBLISH", "{es.0}:applied:x", "y"], ["SCRIPT", "LOAD", "return 1"],
    ],
    "runner": [
        ["XADD", LOG, "*", "e", "x"], ["XADD", "{es.0}:stream:account-1", "*", "", ""],
        ["HSET", "{es.audit.0}:build:balances:1", "position", "9"], ["DEL", "{es.0}:view:balances:1"],
        ["UNLINK", "{es.0}:stream:x}:skipped:y"],
    ],
    "operator": [
        ["XADD", LOG, "*", "e", "x"], ["UNLINK", "{es.0}:stream:account-1"], ["DEL", "{es.0}:view:balances:1"],
        ["XTRIM", "{es.audit.0}:log", "MAXLEN", "0"], ["HSET", "{es.audit.0}:meta", "floor", "9"],
        ["SCRIPT", "KILL"], ["SET", "{es.0}:run:x", "y"],
    ],
}  # fmt: skip


@pytest.mark.real
@pytest.mark.parametrize("kind", KINDS)
def test_no_user_can_do_what_it_is_not_for(at: Server, kind: str) -> None:
    """By hand, past the product, each of these commands is refused; the log is as it was."""
    forbidden = EVERYBODY + FORBIDDEN[kind] + ([] if kind == "operator" else NOT_FOR_PROGRAMS)
    assert [command for command in forbidden if not is_refused(at, kind, *command)] == []
    assert len(events(at)) == 3


def events(at: Server) -> list[RecordedEvent]:
    with EventStore.open(at.url) as store:
        return all_events(store)


@pytest.mark.real
@pytest.mark.parametrize("option", ["MAXLEN 0", "MINID 1000000"])
def test_an_appender_can_remove_every_event_as_the_page_says(at: Server, option: str) -> None:
    """The page names the very command. The next append says that the log is damaged."""
    command = f"XADD {LOG} {option} * e x"
    assert f"\n{command}\n" in PAGE
    assert not is_refused(at, "appender", *command.split())
    assert at.do("XLEN", LOG) <= 1
    with EventStore.open(at.url) as store, pytest.raises(LogCorrupt):
        store.append("account-1", deposits(1), 3)


@pytest.mark.real
def test_an_appender_can_end_all_appending_and_the_page_says_the_way_out(at: Server) -> None:
    """After an entry at the highest position no append is possible until the entries are copied, as the page says."""
    # given
    true = [f"{event.position}-{event.number}" for event in events(at)]
    assert f"`XADD {LOG} {HIGHEST} e x`" in PAGE
    assert not is_refused(at, "appender", "XADD", LOG, HIGHEST, "e", "x")
    with EventStore.open(at.url) as store, pytest.raises(LogCorrupt, match="no position is left") as raised:
        store.append("account-1", deposits(1), 3)
    assert HIGHEST in raised.value.hint
    assert "RENAME {es.0}:copy {es.0}:log" in raised.value.hint

    # when
    copy_by_hand(at, true)

    # then
    with EventStore.open(at.url) as store:
        assert store.append("account-1", deposits(1), 3).position == 4
    assert run("verify", store=at.url).exit_code == 0


def copy_by_hand(at: Server, ids: list[str]) -> None:
    """The way out that both servers have."""
    assert "`RENAME {es.0}:copy {es.0}:log`" in PAGE
    copy = "local e = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]\n"
    copy += "return redis.call('XADD', KEYS[2], ARGV[1], 'e', e[2][2])"
    for entry_id in ids:
        at.do("EVAL", copy, 2, LOG, "{es.0}:copy", entry_id)
    at.do("RENAME", "{es.0}:copy", LOG)


@pytest.mark.real
def test_the_databases_of_a_server_are_no_walls_as_the_page_says(at: Server) -> None:
    """An appender copies an index into another database."""
    assert "`COPY … DB 1`" in PAGE
    index = "{es.0}:stream:account-1"
    assert not is_refused(at, "appender", "COPY", index, index, "DB", "1", "REPLACE")


@pytest.mark.real
@pytest.mark.parametrize("entry_id", ["4-9", "99-1"])
def test_what_an_appender_puts_into_the_log_by_hand_stops_a_projection(at: Server, entry_id: str) -> None:
    """What the page says that an appender can still damage: it can, and the runner says so."""
    assert not is_refused(at, "appender", "XADD", LOG, entry_id, "e", "junk")
    with EventStore.open(at.url) as store, pytest.raises(DataError, match="position 4"):
        catch_up(store, balances())


@pytest.mark.real
def test_an_appender_that_deletes_an_index_is_found_by_verify(at: Server) -> None:
    """The stream counts as new; `runner verify` says that its events have no index."""
    assert not is_refused(at, "appender", "DEL", "{es.0}:stream:account-1")
    result = run("verify", store=at.url)
    assert result.exit_code == 1
    assert "no index" in result.output
