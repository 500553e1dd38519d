"""Scripts under access lists: who loads them, what the others are told, and what a script of a user's own can do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from access_lists import become, is_refused
from accounts import deposits, reached
from command_line import run
from servers import Server, server

from runner import AsyncEventStore, EventStore, operations
from runner.embedded.server import find_binary
from runner.errors import StoreRefused
from runner.format.scripts import every
from runner.operations.rights import KINDS, LOADING, Right
from runner.testing import TEST_SETTINGS, all_events

pytestmark = pytest.mark.real

LOG = "{es.0}:log"


def without_loading(kind: str) -> list[Right]:
    """The rights of a kind of user, but for that to load scripts."""
    return [right for right in KINDS[kind] if right.commands != LOADING]


@pytest.fixture
def at(shared_server: Server) -> Iterator[Server]:
    """A server with a store of three events that has no scripts."""
    shared_server.do("FLUSHALL")
    with EventStore.open(shared_server.url) as store:
        store.append("account-1", deposits(3), 0)
    shared_server.do("SCRIPT", "FLUSH")
    yield shared_server
    for kind in KINDS:
        shared_server.do("ACL", "DELUSER", kind)


def read(face: str, url: str) -> int:
    """The number of events in a stream, which a script reads."""
    if face == "sync":
        with EventStore.open(url, settings=TEST_SETTINGS) as store:
            return len(list(store.read_stream("account-1")))

    async def count() -> int:
        async with AsyncEventStore.open(url, settings=TEST_SETTINGS) as store:
            return len([event async for event in store.read_stream("account-1")])

    return asyncio.run(count())


@pytest.mark.parametrize("kind", ["reader", "appender"])
@pytest.mark.parametrize("face", ["sync", "async"])
def test_who_may_not_load_scripts_is_told_the_way_out(at: Server, face: str, kind: str) -> None:
    """Once, and not asked again and again; the way out works."""
    # given
    url = become(at, kind, without_loading(kind))
    at.do("CONFIG", "RESETSTAT")

    # when
    with pytest.raises(StoreRefused, match="may not load them") as refused:
        read(face, url)

    # then
    assert (refused.value.code, refused.value.passing) == ("NOSCRIPT", False)
    assert "`runner scripts`" in refused.value.hint
    assert at.do("INFO", "commandstats")["cmdstat_script|load"]["rejected_calls"] == len(every())
    assert run("scripts", store=at.url).exit_code == 0
    assert read(face, url) == 3


def test_an_append_by_who_may_not_load_scripts_writes_nothing_until_they_are_there(at: Server) -> None:
    """`runner acl appender --no-scripts` makes such a user."""
    line = run("acl", "appender", "--no-scripts", store=at.url).stdout.replace("#SHA-256-OF-THE-PASSWORD", ">PASSWORD")
    at.do(*line.split())
    with EventStore.open(at.url.replace("//", "//appender:PASSWORD@"), settings=TEST_SETTINGS) as store:
        with pytest.raises(StoreRefused, match="may not load them"):
            store.append("account-1", deposits(1), 3)
        with EventStore.open(at.url) as administrator:
            assert len(all_events(administrator)) == 3
            assert operations.load_scripts(administrator) == len(every())
        assert store.append("account-1", deposits(1), 3).version == 4


def test_whoever_may_load_scripts_loads_those_of_all_users(at: Server) -> None:
    """After an append, a reader finds the script that it needs."""
    appender, reader = become(at, "appender"), become(at, "reader")
    with EventStore.open(appender, settings=TEST_SETTINGS) as store:
        store.append("account-2", deposits(1), 0)
    assert read("sync", reader) == 3
    assert at.do("SCRIPT", "EXISTS", *(script.sha for script in every())) == [True] * len(every())


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_can_run_no_script_of_its_own(at: Server, kind: str) -> None:
    """A reader cannot."""
    become(at, kind)
    assert is_refused(at, kind, "SCRIPT", "LOAD", "return 1") == (kind == "reader")


# -- what a script of a user's own can do, as the page says ----------------------------------------


@pytest.fixture(params=["redis-server", "embedded binary"])
def harmed(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that a test may have to kill, with an appender."""
    binary = find_binary() if request.param == "embedded binary" else "redis-server"
    with server("--appendonly", "yes", "--busy-reply-threshold", "50", binary=binary) as started:
        EventStore.open(started.url).close()
        become(started, "appender")
        yield started


def in_background(at: Server, *command: Any) -> threading.Thread:
    """Run a command as the appender in a thread, which ends when the server answers or ends."""

    def work() -> None:
        with redis.Redis(port=at.port, username="appender", password="PASSWORD", protocol=2) as client:
            try:
                client.execute_command(*command)
            except redis.RedisError:
                pass

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def answers_busy(at: Server) -> bool:
    try:
        at.do("PING")
    except redis.ResponseError as answer:
        return str(answer).startswith("BUSY")
    return False


def load_as_appender(at: Server, source: str) -> str:
    with redis.Redis(port=at.port, username="appender", password="PASSWORD", protocol=2) as client:
        return str(client.script_load(source))


def test_an_endless_script_makes_the_server_busy_until_it_is_killed(harmed: Server) -> None:
    """Everybody gets BUSY; `SCRIPT KILL` ends a script that has not written."""
    sha = load_as_appender(harmed, "while true do end")
    thread = in_background(harmed, "EVALSHA", sha, 0)
    assert reached(lambda: answers_busy(harmed))

    assert harmed.do("SCRIPT", "KILL") in (True, "OK")

    thread.join(10)
    assert harmed.do("PING")


def test_an_endless_script_that_has_written_cannot_be_killed(harmed: Server) -> None:
    """The server says UNKILLABLE, and goes on being busy; ending the process helps."""
    sha = load_as_appender(harmed, "redis.call('SET', KEYS[1], 'x') while true do end")
    thread = in_background(harmed, "EVALSHA", sha, 1, "{es.0}:run:x")
    assert reached(lambda: answers_busy(harmed))

    with pytest.raises(redis.ResponseError, match="UNKILLABLE"):
        harmed.do("SCRIPT", "KILL")

    assert answers_busy(harmed)
    harmed.kill()
    thread.join(10)
    assert not thread.is_alive()


def test_loaded_scripts_fill_the_memory_until_they_are_flushed(harmed: Server) -> None:
    """Then appends are refused with OOM."""
    # given
    used = int(harmed.do("INFO", "memory")["used_memory"])
    harmed.do("CONFIG", "SET", "maxmemory", used + 4_000_000)
    with redis.Redis(port=harmed.port, username="appender", password="PASSWORD", protocol=2) as client:
        for number in range(60):
            client.script_load(f"local text = '{str(number).zfill(100_000)}' return text")

    # when, then
    with EventStore.open(harmed.url, settings=TEST_SETTINGS) as store:
        with pytest.raises(StoreRefused) as refused:
            store.append("account-1", deposits(1), 0)
        assert refused.value.code == "OOM"
        harmed.do("SCRIPT", "FLUSH", "SYNC")
        assert store.append("account-1", deposits(1), 0).version == 1


def test_an_appender_can_keep_what_never_expires(harmed: Server) -> None:
    """What the product writes there expires; what is written by hand need not."""
    assert not is_refused(harmed, "appender", "SET", "{es.0}:run:x", "y" * 100_000)
    assert harmed.do("TTL", "{es.0}:run:x") == -1
