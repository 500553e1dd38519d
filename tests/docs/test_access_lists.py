"""The access lists of the documentation: with them each user can do its work, needs every right, and can do no more."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from access_lists import DOCUMENT, RULES
from accounts import PATIENCE, balances, closed, deposited, rows_of
from click.testing import CliRunner
from servers import Server, server
from trouble import divide_by_zero

from runner import (
    ALL,
    ANY,
    STREAM_EXISTS,
    AppendResult,
    DataError,
    EventStore,
    Projection,
    RecordedEvent,
    RunnerError,
    View,
    WrongExpectedVersion,
    catch_up,
    follow,
)
from runner.aggregates import Aggregate, Happened, Repository, handles
from runner.cli.main import main
from runner.embedded.server import find_binary
from runner.errors import StoreRefused
from runner.projections.policies import Skip
from runner.testing import TEST_SETTINGS, all_events

pytestmark = pytest.mark.real

LOG = "{es.0}:log"


def rights(user: str) -> list[str]:
    """The commands that the user may run."""
    return sorted({word.strip("()")[1:] for word in RULES[user] if word.strip("()").startswith("+")})


@pytest.fixture(scope="module", params=["redis-server", "embedded binary"])
def shared_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    binary = find_binary() if request.param == "embedded binary" else "redis-server"
    with server("--appendonly", "yes", binary=binary) as started:
        yield started


@pytest.fixture
def at(shared_server: Server) -> Iterator[Server]:
    """A server with an empty store, which its administrator has made."""
    shared_server.do("FLUSHALL")
    shared_server.do("SCRIPT", "FLUSH")
    [make_it] = re.findall(r"^```sh\nrunner (.*) --store redis://:ADMINISTRATOR@\S+\n```", DOCUMENT, re.MULTILINE)
    CliRunner().invoke(main, [make_it, "--store", shared_server.url])
    yield shared_server
    for user in RULES:
        shared_server.do("ACL", "DELUSER", user)


def url_of(at: Server, user: str, *, without: str = "") -> str:
    """The URL of a user who has the rights of the document, but for one."""
    rules = []
    for rule in re.findall(r"\([^)]*\)|\S+", " ".join(RULES[user])):
        words = [word for word in rule.strip("()").split() if word != f"+{without}"]
        if any(word.startswith("+") for word in words):
            rules.append(f"({' '.join(words)})" if rule.startswith("(") else rule)
        elif not rule.startswith(("(", "+")):
            rules.append(rule)
    at.do("ACL", "SETUSER", user, "reset", *rules)
    return at.url.replace("//", f"//{user}:PASSWORD@")


def opened(at: Server, user: str, *, without: str = "") -> EventStore:
    return EventStore.open(url_of(at, user, without=without), settings=TEST_SETTINGS)


class Purse(Aggregate):
    """An aggregate that says whether it was loaded from a snapshot."""

    fillings = 0
    loaded_from_snapshot = False

    def fill(self) -> None:
        self.record("Filled")

    @handles("Filled")
    def _filled(self, event: Happened) -> None:
        self.fillings += 1

    def restore(self, state: Any) -> None:
        super().restore(state)
        self.loaded_from_snapshot = True


# -- what each user does ------------------------------------------------------------------------


def work_as_appender(at: Server, without: str = "") -> None:
    """Everything that appends and reads events."""
    with opened(at, "appender", without=without) as store:
        first = [deposited(), deposited()]
        assert store.version("account-1") == store.last_position() == 0
        assert store.append("account-1", first, 0).position == 2
        assert store.append("account-1", first, 0).duplicate
        event = deposited()
        assert store.append("account-2", event, ANY).position == 3
        assert store.append("account-2", event, ANY).duplicate
        store.append("account-2", deposited(), STREAM_EXISTS)
        with pytest.raises(WrongExpectedVersion):
            store.append("account-1", deposited(), 7)
        store.append_many([("account-1", [deposited()], 2), ("account-3", [deposited()], 0)], bookmark=("bridge", 5))
        assert store.bookmark("bridge") == 5
        [taken, refused] = store.append_each([("account-3", [deposited()], 1), ("account-3", [deposited()], 1)])
        assert not isinstance(taken, RunnerError)
        assert isinstance(refused, WrongExpectedVersion)
        assert len(all_events(store)) == store.last_position() == 7
        assert [event.number for event in store.read_stream("account-1", after=1)] == [2, 3]
        assert next(store.read_all(backwards=True)).position == 7
        purses = Repository(store, Purse, category="purse", snapshot_every=1)
        purses.change("1", Purse.fill)
        assert purses.load("1").fillings == 1
        assert purses.load("1").loaded_from_snapshot


def work_as_reader(at: Server, without: str = "") -> None:
    """Everything that reads events and views."""
    appended = fill(at)
    project(at)
    with opened(at, "reader", without=without) as store:
        assert (store.version("account-1"), store.version("nobody"), store.bookmark("bridge")) == (3, 0, 0)
        assert len(list(store.read_stream("account-1"))) == 3
        assert list(store.read_stream("account-1", after=3)) == []
        assert len(all_events(store)) == store.last_position() == 5
        with store.subscribe(ALL) as subscription:
            assert [subscription.poll(PATIENCE) is not None for _ in range(5)] == [True] * 5
            assert subscription.poll(0.2) is None
        view = View(store, "balances")
        assert (view["account-1"]["balance"], len(view), len(dict(view.items()))) == (30, 2, 2)
        view.wait_for(appended, PATIENCE)
    run(["status", "--store", url_of(at, "reader", without=without)])
    run(["parked", "--store", url_of(at, "reader", without=without)])


def work_as_runner(at: Server, without: str = "") -> None:
    """Catching up, following, and the process; with a log that is empty, is there, and was trimmed."""
    with opened(at, "runner", without=without) as store, follow(store, balances()) as following:
        following.wait_live(PATIENCE)
        following.wait_for(fill(at), PATIENCE)
        with EventStore.open(at.url) as administrator:
            following.wait_for(administrator.append("account-2", closed()), PATIENCE)
    assert at.do("ZCARD", "{es.0}:runners") == 0
    with EventStore.open(at.url) as administrator:
        assert rows_of(administrator) == {"account-1": {"balance": 30, "numbers": [1, 2, 3]}}
    with opened(at, "runner", without=without) as store:
        assert catch_up(store, balances("later")) == 6
        assert catch_up(store, skipping()) == 5
        for build in ("2", "3"):  # the second one throws the first of all away
            again = balances("later")
            again.build = build
            assert catch_up(store, again) == 6
    run(["run", "--once", "--store", url_of(at, "runner", without=without)])
    at.do("XTRIM", LOG, "MAXLEN", 0)
    at.do("HSET", "{es.0}:meta", "floor", 6)
    with opened(at, "runner", without=without) as store:
        assert store.last_position() == 6


def skipping() -> Projection:
    """A projection that cannot handle an account that was closed, and goes on without."""
    projection = Projection("skipping", on_error=Skip())
    projection.when("Deposited", lambda state, event: None)
    projection.when("Closed", divide_by_zero)
    return projection


def fill(at: Server) -> AppendResult:
    """Five events in two streams; by the administrator."""
    with EventStore.open(at.url) as store:
        store.append("account-1", [deposited(), deposited(), deposited()])
        return store.append("account-2", [deposited(), deposited()])


def project(at: Server) -> None:
    """A view of all that is there."""
    with EventStore.open(at.url) as store:
        catch_up(store, balances())


def run(arguments: list[str]) -> None:
    """A command of the command line; what it fails with is raised."""
    result = CliRunner().invoke(main, arguments)
    if result.exit_code:
        raise StoreRefused(result.output, code="NOPERM")


WORK: dict[str, Callable[..., None]] = {
    "appender": work_as_appender,
    "reader": work_as_reader,
    "runner": work_as_runner,
}


def test_the_document_has_a_list_for_each_user() -> None:
    """The rules are found in the document, and the tests below are about them."""
    assert RULES.keys() == WORK.keys()


@pytest.mark.parametrize("user", WORK)
def test_each_user_can_do_its_work(at: Server, user: str) -> None:
    """Under exactly the documented rules everything runs that the user is for."""
    WORK[user](at)


@pytest.mark.parametrize(
    ("user", "right"),
    [(user, right) for user in RULES for right in rights(user)],
)
def test_each_right_is_needed(at: Server, user: str, right: str) -> None:
    """With one right less something is refused, or does not come about: none is there for nothing."""
    with pytest.raises((RunnerError, AssertionError)):
        WORK[user](at, without=right)


def test_an_appender_that_goes_on_past_the_window_of_ids_drops_the_oldest(at: Server) -> None:
    """Every 10,000 positions the ids of unversioned appends are dropped, which the appender may do."""
    with opened(at, "appender") as store:
        for place in range(3):
            store.append("account-1", [deposited() for _ in range(10_000)], 10_000 * place)
        assert store.append("account-1", deposited(), ANY).position == 30_001


# -- what each user cannot do -------------------------------------------------------------------

EVERYBODY = [
    ["FLUSHALL"], ["DEL", LOG], ["UNLINK", LOG], ["XTRIM", LOG, "MAXLEN", "0"], ["XDEL", LOG, "1-1"],
    ["XSETID", LOG, "9-9"], ["EXPIRE", LOG, "1"], ["RENAME", LOG, "gone"], ["COPY", "{es.0}:new", LOG, "REPLACE"],
    ["HSET", "{es.0}:meta", "epoch", "another"], ["DEL", "{es.0}:meta"], ["SET", LOG, "x"], ["GET", "else"],
    ["CONFIG", "SET", "appendonly", "no"], ["CONFIG", "GET", "requirepass"], ["ACL", "LIST"], ["SCRIPT", "FLUSH"],
    ["KEYS", "*"], ["SHUTDOWN"], ["REPLICAOF", "NO", "ONE"], ["PUBLISH", "else", "x"],
]  # fmt: skip
FORBIDDEN = {
    "appender": [
        ["HSET", "{es.0}:projection:balances", "position", "9"], ["HGET", "{es.0}:view:balances:1", "account-1"],
        ["XRANGE", "{other.0}:log", "-", "+"], ["XADD", "{other.0}:log", "1-1", "e", "x"],
    ],
    "reader": [
        ["XADD", LOG, "*", "e", "x"], ["HSET", "{es.0}:view:balances:1", "account-1", "x"],
        ["HGET", "{other.0}:view:balances:1", "account-1"], ["EVAL", "return 1", "0"], ["PUBLISH", "{es.0}:x", "y"],
        ["SUBSCRIBE", "else"],
    ],
    "runner": [
        ["XADD", LOG, "*", "e", "x"], ["XADD", "{es.0}:stream:account-1", "*", "", ""],
        ["HSET", "{other.0}:projection:balances", "position", "9"], ["DEL", "{es.0}:view:balances:1"],
        ["SUBSCRIBE", "else"],
    ],
}  # fmt: skip


@pytest.mark.parametrize("user", WORK)
def test_no_user_can_do_what_it_is_not_for(at: Server, user: str) -> None:
    """By hand, past the product, each of these commands is refused; the log is as it was."""
    fill(at)
    url_of(at, user)
    before = events(at)
    allowed = [command for command in EVERYBODY + FORBIDDEN[user] if not is_refused(at, user, command)]
    assert allowed == []
    assert events(at) == before


def events(at: Server) -> list[RecordedEvent]:
    with EventStore.open(at.url) as store:
        return all_events(store)


def is_refused(at: Server, user: str, command: list[str]) -> bool:
    with redis.Redis(port=at.port, username=user, password="PASSWORD", protocol=2) as client:
        try:
            client.execute_command(*command)
        except redis.exceptions.NoPermissionError:
            return True
        return False


@pytest.mark.parametrize("command", [
    ["XADD", LOG, "6-9", "e", "junk"], ["XADD", LOG, "99-1", "e", "junk"],
])  # fmt: skip
def test_what_an_appender_puts_into_the_log_by_hand_stops_a_projection(at: Server, command: list[str]) -> None:
    """What the document says that an appender can still damage: it can, and the runner says so."""
    fill(at)
    url_of(at, "appender")
    assert not is_refused(at, "appender", command)
    with EventStore.open(at.url) as store, pytest.raises(DataError, match="position 6"):
        catch_up(store, balances())


def test_an_appender_that_deletes_an_index_is_found_by_verify(at: Server) -> None:
    """The stream counts as new; `runner verify` says that its events have no index."""
    fill(at)
    url_of(at, "appender")
    assert not is_refused(at, "appender", ["DEL", "{es.0}:stream:account-1"])
    result = CliRunner().invoke(main, ["verify", "--store", at.url])
    assert result.exit_code == 1
    assert "no index" in result.output


@pytest.mark.parametrize("user", ["reader"])
def test_who_waits_for_views_hears_of_its_own_store_alone(at: Server, user: str) -> None:
    """The channels of the store are open to it, and no others."""
    url_of(at, user)
    assert not is_refused(at, user, ["SUBSCRIBE", "{es.0}:balances"])
    assert is_refused(at, user, ["SUBSCRIBE", "{other.0}:balances"])
