"""Access rules: under them each kind of user can do its work, and no word of them is there for nothing."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from access_lists import become, is_refused, with_one_word_less
from accounts import PATIENCE, balances, closed, deposited, reached, rows_of
from command_line import run
from servers import Server
from trouble import divide_by_zero

from runner import (
    ALL,
    ANY,
    DELETE,
    STREAM_EXISTS,
    AppendResult,
    EventStore,
    InvalidInput,
    ParkStream,
    Projection,
    RunnerError,
    Skip,
    View,
    WrongExpectedVersion,
    catch_up,
    follow,
    operations,
)
from runner.aggregates import Aggregate, Happened, Repository, handles
from runner.errors import StoreRefused
from runner.format import keys as drawing
from runner.format.keys import PartitionKeys
from runner.format.scripts import every
from runner.log.id_index import index_command
from runner.operations.access_rules import planned_rules
from runner.operations.check import GOOD
from runner.operations.rights import ADAPTERS, KINDS, Right
from runner.testing import TEST_SETTINGS, all_events

pytestmark = pytest.mark.real

LOG = "{es.0}:log"


@pytest.fixture
def at(shared_server: Server) -> Iterator[Server]:
    """A server with an empty store, which its administrator has made."""
    shared_server.do("FLUSHALL")
    shared_server.do("CONFIG", "SET", "client-output-buffer-limit", "normal 0 0 0")
    EventStore.open(shared_server.url).close()
    shared_server.do("SCRIPT", "FLUSH")
    yield shared_server
    for kind in KINDS:
        shared_server.do("ACL", "DELUSER", kind)


# -- what each kind of user does ------------------------------------------------------------------


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


def work_as_appender(at: Server, url: str) -> None:
    """Everything that appends and reads events; on a server without scripts, and with pages that are too large."""
    with EventStore.open(url, settings=TEST_SETTINGS) as store:
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
        store.append("account-4", [deposited(text="x" * 400_000) for _ in range(4)], 0)
        at.do("CONFIG", "SET", "client-output-buffer-limit", "normal 1000000 0 0")
        assert len(list(store.read_stream("account-4"))) == 4
        store.append("account-5", [deposited() for _ in range(9_990)], 0)  # the turn of the ids is at position 10,000
        assert store.append("account-5", deposited(), ANY).position == 10_003


def work_as_reader(at: Server, url: str) -> None:
    """Everything that reads events and views."""
    appended = fill(at)
    with EventStore.open(at.url) as administrator:
        catch_up(administrator, balances())
        later = administrator.append("account-3", closed())
        catch_up(administrator, skipping())
    with EventStore.open(url, settings=TEST_SETTINGS) as store:
        assert (store.version("account-1"), store.version("nobody"), store.bookmark("bridge")) == (3, 0, 0)
        assert len(list(store.read_stream("account-1"))) == 3
        assert list(store.read_stream("account-1", after=3)) == []
        assert len(all_events(store)) == store.last_position() == 6
        with store.subscribe(ALL) as subscription:
            assert [subscription.poll(PATIENCE) is not None for _ in range(6)] == [True] * 6
            assert subscription.poll(0.2) is None
        view = View(store, "balances")
        assert (view["account-1"]["balance"], len(view), len(dict(view.items()))) == (30, 2, 2)
        view.wait_for(appended, PATIENCE)
        with EventStore.open(at.url) as administrator, ThreadPoolExecutor(1) as threads:
            wait = threads.submit(view.wait_for, later, PATIENCE)
            assert reached(lambda: wait.done() or at.do("PUBSUB", "NUMSUB", "{es.0}:applied:balances")[1])
            catch_up(administrator, balances())
            wait.result()
        assert [one.event.position for one in operations.skipped(store, "skipping")] == [6]
    for verb in (["status"], ["parked"], ["view", "balances"]):
        command(*verb, "--store", url)
    assert {"expiry", "records", "code", "views"} <= seen_by_the_doctor(url)
    with EventStore.open(at.url) as administrator:
        administrator.driver.execute([index_command(administrator.info, administrator.info.keys[0])])
        administrator.driver.execute([("HSET", "{es.0}:ids", b"x" * 16, "6-1")])
    sound_but_for_ids(url, "SCAN is not allowed")


def work_as_runner(at: Server, url: str) -> None:
    """Catching up, following, and the process; with a log that is empty, is there, and was trimmed."""
    with EventStore.open(url, settings=TEST_SETTINGS) as store, follow(store, balances()) as following:
        following.wait_live(PATIENCE)
        following.wait_for(fill(at), PATIENCE)
        with EventStore.open(at.url) as administrator:
            following.wait_for(administrator.append("account-2", closed()), PATIENCE)
    assert at.do("ZCARD", "{es.0}:runners") == 0
    with EventStore.open(at.url) as administrator:
        assert rows_of(administrator) == {"account-1": {"balance": 30, "numbers": [1, 2, 3]}}
        administrator.append("account-1", deposited())
    with EventStore.open(url, settings=TEST_SETTINGS) as store:
        assert catch_up(store, balances()) == 1  # goes on with rows that it has to read
        assert catch_up(store, balances("later")) == 7
        assert catch_up(store, skipping()) == 6
        assert catch_up(store, parking()) == 6
        for build in ("2", "3"):  # the second one throws the first of all away
            again = balances("later")
            again.build = build
            assert catch_up(store, again) == 7
    command("run", "--once", "--store", url)
    assert {"version", "role", "eviction", "memory", "expiry"} <= seen_by_the_doctor(url)
    at.do("XTRIM", LOG, "MAXLEN", 0)
    at.do("HSET", "{es.0}:meta", "floor", 7)
    with EventStore.open(url, settings=TEST_SETTINGS) as store:
        assert store.last_position() == 7


def work_as_operator(at: Server, url: str) -> None:
    """Everything that an operator looks at and mends; code of theirs parks and skips events meanwhile."""
    # given
    fill(at)
    with EventStore.open(at.url) as administrator:
        administrator.append_many([("account-3", [deposited(), closed()], 0)], bookmark=("bridge", 5))
        for projection in (balances(), skipping(), parking()):
            catch_up(administrator, projection)
        administrator.driver.execute([index_command(administrator.info, administrator.info.keys[0])])
        administrator.driver.execute([("HSET", "{es.0}:ids", b"x" * 16, "7-1")])
    at.do("SCRIPT", "FLUSH")

    # when
    with EventStore.open(url, settings=TEST_SETTINGS) as store:
        assert operations.load_scripts(store) == len(every())
        assert {check.name for check in operations.doctor(store).checks} == seen_by_the_doctor(url)
        assert [one.event.position for one in operations.skipped(store)] == [7]
        assert len(operations.parked(store)) == 1
        for projection in (balances(), skipping(), parking()):
            projection.build = "2"
            assert all(each.switched for each in operations.rebuild(store, projection, compare=True))
        operations.rollback(store, "balances")
        again = balances()
        again.build = "3"
        operations.rebuild(store, again)  # throws a build away
        recovering = Projection("parking", category="account", on_error=ParkStream(), build="2")
        recovering.when("Deposited", lambda state, event: None)
        recovering.when("Closed", lambda state, event: DELETE)
        assert [one.freed for one in operations.retry_parked(store, recovering)] == [1]
        operations.reset(store, "skipping")
        operations.unregister(store, "parking")
        assert [one.removed for one in operations.trim(store, 4)] == [3]
        lines = io.BytesIO()
        operations.export_lines(store, lines.write, with_positions=True)
        assert b"$runner:recent" in lines.getvalue()
        assert len(dict(View(store, "balances").items())) == 2
    for verb in (["status"], ["parked"], ["view", "balances"]):
        command(*verb, "--store", url)
    sound_but_for_ids(url)


def seen_by_the_doctor(url: str) -> set[str]:
    """What the doctor finds good; a user with fewer rights is told that it could not be checked."""
    with EventStore.open(url, settings=TEST_SETTINGS) as store:
        return {check.name for check in operations.doctor(store).checks if check.verdict == GOOD}


def sound_but_for_ids(url: str, *unseen: str) -> None:
    """Verify finds what was damaged, and nothing else; and says what it could not see."""
    with EventStore.open(url, settings=TEST_SETTINGS) as store:
        found = operations.verify(store)
    assert [finding.where.partition(" ")[0] for finding in found.findings] == ["{es.0}:ids"]
    assert len(found.unseen) == len(unseen)
    assert all(text in told for text, told in zip(unseen, found.unseen, strict=True))


def skipping() -> Projection:
    """A projection that cannot handle an account that was closed, and goes on without."""
    return _failing(Projection("skipping", on_error=Skip()))


def parking() -> Projection:
    return _failing(Projection("parking", category="account", on_error=ParkStream()))


def _failing(projection: Projection) -> Projection:
    projection.when("Deposited", lambda state, event: {"seen": True})
    projection.when("Closed", divide_by_zero)
    return projection


def fill(at: Server) -> AppendResult:
    """Five events in two streams; by the administrator."""
    with EventStore.open(at.url) as store:
        store.append("account-1", [deposited(), deposited(), deposited()])
        return store.append("account-2", [deposited(), deposited()])


def command(*arguments: str) -> None:
    """A command of the command line; what it fails with is raised."""
    result = run(*arguments)
    if result.exit_code:
        raise StoreRefused(result.output, code="NOPERM")


WORK: dict[str, Callable[[Server, str], None]] = {
    "appender": work_as_appender,
    "reader": work_as_reader,
    "runner": work_as_runner,
    "operator": work_as_operator,
}


def test_each_kind_of_user_has_work_here() -> None:
    """The tests below try every kind that there is."""
    assert WORK.keys() == KINDS.keys()


@pytest.mark.parametrize("kind", WORK)
@pytest.mark.parametrize("number", [1, 2])
def test_each_user_can_do_its_work(at: Server, kind: str, number: int) -> None:
    """Under exactly the rules of its kind everything runs that the user is for, in stores of both formats."""
    if number == 1:
        at.do("DEL", "{es.0}:meta")
        at.do("HSET", "{es.0}:meta", "format", 1, "partitions", 1, "epoch", "0123456789abcdef")
    WORK[kind](at, become(at, kind, keys=[PartitionKeys("es", 0, number)]))


@pytest.mark.parametrize(
    ("kind", "rights"),
    [
        pytest.param(kind, rights, id=f"{kind}-{name}")
        for kind in WORK for name, rights in with_one_word_less(KINDS[kind])
    ],
)  # fmt: skip
def test_each_word_is_needed(at: Server, kind: str, rights: Sequence[Right]) -> None:
    """With one command or one kind of key less something is refused, or does not come about."""
    with pytest.raises((RunnerError, AssertionError)):
        WORK[kind](at, become(at, kind, rights))


# -- the patterns ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2])
def test_a_store_of_several_partitions_is_reached_and_its_neighbours_are_not(at: Server, number: int) -> None:
    """Digits and letters stand for the partitions of `es`; those of `es.audit` and `es.1` have a further dot."""
    # given
    at.do("FLUSHALL")
    if number == 1:
        for partition in range(12):
            meta = f"{{es.{partition}}}:meta"
            at.do("HSET", meta, "format", 1, "partitions", 12, "epoch", "0123456789abcdef")
    with EventStore.open(at.url, partitions=12) as administrator:
        keys = administrator.info.keys
    for name in ("es.audit", "es.1", "es.a"):
        EventStore.open(at.url, name=name, partitions=3).close()

    # when
    url = become(at, "appender", keys=keys)

    # then
    with EventStore.open(url, settings=TEST_SETTINGS) as store:
        appended = [store.append(f"account-{number}", deposited(), 0) for number in range(60)]
    assert {each.partition for each in appended} == set(range(12))
    for name in ("es.audit", "es.1", "es.a"):
        with pytest.raises(StoreRefused):
            EventStore.open(url, name=name, settings=TEST_SETTINGS)
        for key in (f"{{{name}.0}}:log", f"{{{name}.1}}:log", f"{{{name}.1.a}}:log"):
            assert is_refused(at, "appender", "XRANGE", key, "-", "+")
            assert is_refused(at, "appender", "XADD", key, "*", "e", "x")


@pytest.mark.parametrize("kind", ["stream:x}:skipped:y", "stream:x}:view:y", "snapshot:x}:build:y"])
def test_a_name_that_looks_like_another_kind_of_key_gives_no_right(at: Server, kind: str) -> None:
    """The kind of a key follows its tag, whatever braces a name holds."""
    become(at, "runner")
    assert is_refused(at, "runner", "UNLINK", f"{{es.0}}:{kind}")


def test_each_kind_of_key_is_in_the_drawing() -> None:
    """The rights name keys as `runner.format.keys` draws them; keys of adapters have the name of the library."""
    drawn = {re.sub("<.*", "*", found) for found in re.findall(r"^    \{es\.0\}:(\S+)", drawing.__doc__ or "", re.M)}
    for name, rights in {**KINDS, **ADAPTERS}.items():
        for right in rights:
            assert set(right.keys.split()) - drawn <= {f"{name}:*"}, right


# -- the operation and the command ----------------------------------------------------------------


def test_the_rules_of_a_store_are_those_of_its_partitions() -> None:
    """Both faces of the operation take them from the open store; adapters and durability add rights."""
    with EventStore.open("memory:", partitions=2) as store:
        rules = operations.access_rules(store, "reader")
        assert rules == planned_rules(store.info.keys, "reader")
        more = operations.access_rules(store, "appender", adapters=["castlecraft"], durability="replicated")
    assert "(+xread +xlen %R~{es.0}:log %R~{es.[0-9].[a-z]}:log)" in rules
    assert {"+info", "+wait", "(+get +set +unlink ~{es.0}:castlecraft:* ~{es.[0-9].[a-z]}:castlecraft:*)"} <= {*more}


@pytest.mark.parametrize(
    ("kind", "more", "text"),
    [
        ("writer", {}, "'writer' is no kind of user that is known; there are appender, reader, runner, operator"),
        ("appender", {"adapters": ["django"]}, "'django' is no adapter"),
        ("appender", {"durability": "forever"}, "'forever' is no durability"),
        ("reader", {"durability": "always"}, "are for an appender"),
    ],
)
def test_what_is_not_known_is_refused(kind: str, more: dict[str, Any], text: str) -> None:
    """The error names what there is."""
    with pytest.raises(InvalidInput, match=re.escape(text)):
        planned_rules([PartitionKeys("es", 0)], kind, **more)


@pytest.mark.parametrize("way", ["asked for", "from a file"])
def test_the_command_prints_a_line_that_the_server_takes(at: Server, way: str, tmp_path: Path) -> None:
    """With the hash of a password that was asked for, or stands in a file; an adapter adds rights."""
    # given
    file = tmp_path / "password"
    file.write_text("secret\nnot this\n")
    given = ["--ask-password"] if way == "asked for" else ["--password-file", str(file)]

    # when
    result = run(
        "acl", "appender", "--user", "bank", "--adapter", "castlecraft", *given, store=at.url, text="secret\n" * 2
    )
    line = result.stdout.splitlines()[-1]

    # then
    assert "secret" not in result.output
    assert line.startswith(f"ACL SETUSER bank reset on #{hashlib.sha256(b'secret').hexdigest()} resetchannels -@all ")
    assert at.do(*line.split()) == "OK"
    with EventStore.open(at.url.replace("//", "//bank:secret@"), settings=TEST_SETTINGS) as store:
        store.append("account-1", deposited(), 0)
    at.do("ACL", "DELUSER", "bank")


def test_a_line_without_a_password_is_refused_by_the_server(at: Server) -> None:
    """So piping it unchanged makes no user whose password everybody can read; the note says what to do."""
    result = run("acl", "appender", store=at.url)
    assert result.exit_code == 0
    assert "--ask-password" in result.stderr
    with pytest.raises(redis.ResponseError, match="password hash"):
        at.do(*result.stdout.split())
    assert "appender" not in at.do("ACL", "USERS")
    changed = result.stdout.replace("#SHA-256-OF-THE-PASSWORD", ">secret")
    assert at.do(*changed.split()) == "OK"


@pytest.mark.parametrize("name", ["two words", "a\nb", "it's", '"', "\u3000"])
def test_a_user_is_one_word(name: str) -> None:
    """Else the line would say something else than it seems to."""
    result = run("acl", "reader", "--user", name, "--partitions", "1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "one word" in result.stderr


def test_an_empty_password_file_is_refused(tmp_path: Path) -> None:
    """The sentence names the file."""
    (tmp_path / "empty").write_text("\n")
    result = run("acl", "reader", "--password-file", str(tmp_path / "empty"), "--partitions", "1")
    assert result.exit_code == 2
    assert "empty" in result.stderr


def test_the_command_knows_the_rules_of_a_store_that_is_not_made_yet() -> None:
    """With a number of partitions no server is asked."""
    printed = run("acl", "reader", "--partitions", "12", store="redis://127.0.0.1:1").output
    assert {"%R~{es.0}:log", "%R~{es.[0-9].[a-z]}:log", "%R~{es.[0-9][0-9].[a-z]}:log"} <= {*printed.split()}
