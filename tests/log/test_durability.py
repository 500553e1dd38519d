"""Durability levels, on real servers: what is declared is checked, refused or confirmed, and never only claimed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import uuid4

import pytest
import redis
from accounts import deposited
from servers import Server, server

from runner import (
    NO_STREAM,
    AppendResult,
    AsyncEventStore,
    EventStore,
    InvalidInput,
    NewEvent,
    NotConfirmed,
    Replicated,
    Settings,
    StoreTrouble,
    WrongExpectedVersion,
    operations,
)
from runner.embedded.server import find_binary
from runner.errors import StoreRefused
from runner.log.append_plan import EACH_RUN
from runner.log.durability import Durability

#: A replica that was stopped is given this long, in seconds: what is waited for is that it does not answer.
SHORT = 0.1
#: A replica that runs is given so much that a busy machine is not taken for a stopped one.
LONG = 4.0

pytestmark = pytest.mark.real


@contextmanager
def replicated(binary: str) -> Iterator[tuple[Server, Server]]:
    """A primary and its replica."""
    with server(binary=binary) as primary, server(replica_of=primary, binary=binary) as replica:
        yield primary, replica


@pytest.fixture(scope="module", params=["redis-server", "embedded binary"])
def binary(request: pytest.FixtureRequest) -> str:
    """Both servers: they disagree about what WAIT waits for."""
    return find_binary() if request.param == "embedded binary" else "redis-server"


@pytest.fixture(scope="module")
def module_pair(binary: str) -> Iterator[tuple[Server, Server]]:
    with replicated(binary) as both:
        yield both


@pytest.fixture
def pair(module_pair: tuple[Server, Server]) -> Iterator[tuple[Server, Server]]:
    """A primary and its replica, which runs again after the test."""
    yield module_pair
    module_pair[1].thaw()


@pytest.fixture(scope="module")
def plain(binary: str) -> Iterator[Server]:
    """A server of which each test sets what it needs."""
    with server("--appendonly", "yes", binary=binary) as alone:
        yield alone


def opened(at: Server, name: str, level: Any, **more: Any) -> EventStore:
    return EventStore.open(at.url, name=name, durability=level, **more)


def configure(at: Server, settings: str) -> None:
    """Set what decides about durability, beginning from the servers' defaults with the file switched on."""
    at.do("CONFIG", "SET", "appendonly", "yes", "appendfsync", "everysec", "no-appendfsync-on-rewrite", "no")
    at.do("CONFIG", "SET", *settings.split())


# -- levels that the server's settings give ------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "levels"),
    [
        ("appendonly no", [None, "memory"]),
        ("appendfsync no", [None, "memory"]),
        ("appendfsync everysec", [None, "memory", "everysec"]),
        ("appendfsync always", [None, "memory", "everysec", "always"]),
    ],
)
def test_a_level_that_the_server_gives_is_accepted_and_stands_in_each_result(
    plain: Server, fresh_name: str, settings: str, levels: list[Any]
) -> None:
    """A server that gives more than was declared is fine; the result names what was declared."""
    # given
    configure(plain, settings)

    for version, level in enumerate(levels):
        with opened(plain, fresh_name, level) as store:
            # when
            result = store.append("account-1", deposited(), version)
            [each] = store.append_each([("account-2", [deposited()], version)])

            # then
            assert (result.durability, result.version) == (level, version + 1)
            assert isinstance(each, AppendResult)
            assert each.durability == level


@pytest.mark.parametrize(
    ("settings", "verdict", "finding", "advice"),
    [
        ("appendonly no", "bad", "the append-only file is off: a crash loses events", "Set appendonly yes."),
        ("appendfsync no", "warning", "appendfsync no: a power loss loses", "Set everysec or always."),
        ("appendfsync everysec", "good", "everysec: a killed server loses nothing, a power loss up to one second", ""),
        ("appendfsync always", "good", "always: every acknowledged event is on the disk", ""),
    ],
)
def test_the_doctor_says_what_the_settings_give(
    plain: Server, fresh_name: str, settings: str, verdict: str, finding: str, advice: str
) -> None:
    """To a store that declares nothing, too."""
    configure(plain, settings)
    with opened(plain, fresh_name, None) as store:
        [check] = [check for check in operations.doctor(store).checks if check.name == "durability"]
    assert (check.verdict, check.advice) == (verdict, advice)
    assert finding in check.finding


def test_the_doctor_says_that_a_server_gives_less_than_was_declared(plain: Server, fresh_name: str) -> None:
    """The settings were changed after the store was opened."""
    configure(plain, "appendfsync always")
    with opened(plain, fresh_name, "always") as store:
        configure(plain, "appendfsync everysec")
        [check] = [check for check in operations.doctor(store).checks if check.name == "durability"]
    assert check.verdict == "bad"
    assert "durability always needs" in check.finding
    assert check.advice


@pytest.mark.parametrize(
    ("settings", "level", "found", "most"),
    [
        ("appendonly no", "everysec", "appendonly no", "memory"),
        ("appendonly no", "always", "appendonly no", "memory"),
        ("appendfsync no", "everysec", "appendfsync no", "memory"),
        ("appendfsync everysec", "always", "appendfsync everysec", "everysec"),
        ("appendfsync always no-appendfsync-on-rewrite yes", "always", "no-appendfsync-on-rewrite yes", "memory"),
        ("no-appendfsync-on-rewrite yes", "everysec", "no-appendfsync-on-rewrite yes", "memory"),
    ],
)
def test_a_server_that_gives_less_is_refused_before_anything_is_written(
    plain: Server, fresh_name: str, settings: str, level: Any, found: str, most: str
) -> None:
    """The text names the level, what it needs and what was found; the hint names the most that can be declared."""
    # given
    configure(plain, settings)

    # when
    with pytest.raises(StoreRefused) as caught:
        opened(plain, fresh_name, level)

    # then
    assert f"durability {level} needs appendonly yes and appendfsync" in str(caught.value)
    assert f"but the server has {found}" in str(caught.value)
    assert f"durability={most!r}" in caught.value.hint
    assert not caught.value.passing
    assert plain.do("KEYS", f"{{{fresh_name}.*") == []


def test_the_embedded_server_gives_always(real_url: str, fresh_name: str) -> None:
    """An embedded store syncs every append; it has no replicas."""
    with EventStore.open(real_url, name=fresh_name, durability="always") as store:
        assert store.append("account-1", deposited()).durability == "always"
    with pytest.raises(StoreRefused, match=r"durability replicated\(1\) needs 1 connected replicas, .* has 0"):
        EventStore.open(real_url, name=fresh_name, durability=Replicated(1))


def test_a_client_that_is_there_already_is_checked_too(plain: Server, fresh_name: str) -> None:
    """`EventStore(client, durability=…)` asks as `open` does."""
    configure(plain, "appendfsync everysec")
    with redis.Redis(port=plain.port) as client:
        with EventStore(client, name=fresh_name, durability="everysec") as store:
            assert store.append("account-1", deposited()).durability == "everysec"
        with pytest.raises(StoreRefused, match="durability always needs"):
            EventStore(client, name=fresh_name, durability="always")


def test_a_store_in_memory_takes_only_what_it_can_give() -> None:
    """`memory:` ends with its process: None and "memory" are all it promises."""
    levels: list[Durability | None] = [None, "memory"]
    for level in levels:
        with EventStore.open("memory:", durability=level) as store:
            assert store.append("account-1", deposited()).durability == level
    beyond: list[Durability] = ["everysec", "always", Replicated(1)]
    for level in beyond:
        with pytest.raises(InvalidInput, match="is not possible in a memory: store"):
            EventStore.open("memory:", durability=level)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: EventStore.open("memory:", durability="fsync"),  # type: ignore[arg-type]
        lambda: EventStore.open("memory:", durability=2),  # type: ignore[arg-type]
        lambda: Replicated(0),
        lambda: Replicated(True),
        lambda: Replicated(1.5),  # type: ignore[arg-type]
        lambda: Replicated(1, within=0),
        lambda: Replicated(1, within=float("inf")),
        lambda: Replicated(1, within="1"),  # type: ignore[arg-type]
    ],
)
def test_a_level_that_cannot_be_is_the_callers_mistake(wrong: Callable[[], object]) -> None:
    """A level is one of the words or `Replicated` with a number of replicas and a finite time, which is not 0."""
    with pytest.raises(InvalidInput):
        wrong()


def test_waiting_for_replicas_must_end_before_the_socket_times_out(real_url: str, fresh_name: str) -> None:
    """Else the answer that too few replicas confirmed could never arrive."""
    with pytest.raises(InvalidInput, match="waits 2 s, but socket_timeout gives up after 2"):
        EventStore.open(
            real_url, name=fresh_name, durability=Replicated(1, within=2), settings=Settings(socket_timeout=2)
        )


# -- rights --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("forbidden", "settings", "level", "text", "advice"),
    [
        ("-config", "", "always", "the append-only file is on, but CONFIG GET is not allowed", "+config|get"),
        ("-config -info", "", "everysec", "cannot be checked: CONFIG GET is not allowed", "+config|get"),
        (
            "-config",
            "appendonly no",
            "everysec",
            "needs appendonly yes .* has appendonly no",
            "'memory'",
        ),
        ("-info", "", Replicated(1), "cannot be checked: INFO is not allowed", "+info"),
        ("-wait", "", Replicated(1), "cannot be checked: WAIT is not allowed", "+wait"),
    ],
)
def test_what_may_not_be_asked_is_not_believed(
    plain: Server, fresh_name: str, forbidden: str, settings: str, level: Any, text: str, advice: str
) -> None:
    """A user without the right to ask is refused and told which right is missing; or what INFO says all the same."""
    # given
    configure(plain, settings or "appendfsync always")
    plain.do("ACL", "SETUSER", "asker", "reset", "on", "nopass", "~*", "&*", "+@all", *forbidden.split())
    url = plain.url.replace("//", "//asker:any@")

    # when
    with pytest.raises(StoreRefused, match=text) as caught:
        EventStore.open(url, name=fresh_name, durability=level)

    # then
    assert advice in caught.value.hint
    assert plain.do("KEYS", f"{{{fresh_name}.*") == []
    with EventStore.open(url, name=fresh_name) as store:
        assert store.append("account-1", deposited()).durability is None


def test_a_wrong_password_is_told_as_such(plain: Server, fresh_name: str) -> None:
    """Not every refusal is about the right to ask."""
    plain.do("ACL", "SETUSER", "other", "reset", "on", ">secret", "~*", "&*", "+@all")
    levels: list[Durability] = ["always", Replicated(1)]
    for level in levels:
        with pytest.raises(StoreRefused) as caught:
            EventStore.open(plain.url.replace("//", "//other:wrong@"), name=fresh_name, durability=level)
        assert caught.value.code == "WRONGPASS"


# -- replicated ----------------------------------------------------------------------------------


def test_what_replicas_have_confirmed_is_on_them(pair: tuple[Server, Server], fresh_name: str) -> None:
    """Each kind of append is confirmed, in the same round trip, and what was confirmed can be read from the replica."""
    primary, replica = pair
    with opened(primary, fresh_name, Replicated(1, within=LONG)) as store:
        # when
        one = store.append("account-1", deposited(), NO_STREAM)
        many = store.append_many([("account-1", [deposited()], 1), ("account-2", [deposited()], 0)])
        only_a_bookmark = store.append_many([], bookmark=("transfers", 1))
        each = store.append_each([("account-3", [deposited()], 0), ("account-3", [deposited()], 7)])
        nothing = store.append("account-1", [])

        # then
        assert replica.do("XLEN", store.info.keys[0].log) == 4
        assert {result.durability for result in [one, *many, each[0], nothing]} == {"replicated(1)"}  # type: ignore[union-attr]
        assert only_a_bookmark == []
        assert isinstance(each[1], WrongExpectedVersion)


@pytest.mark.parametrize("fresh_connection", [True, False])
def test_a_frozen_replica_confirms_nothing_and_the_repetition_is_confirmed_when_it_runs_again(
    pair: tuple[Server, Server], fresh_name: str, fresh_connection: bool
) -> None:
    """Matrix 15. A repetition writes nothing itself, and yet is confirmed only by who has what it repeats."""
    primary, replica = pair
    events = [deposited(), deposited()]
    with ExitStack() as stack:
        store = stack.enter_context(opened(primary, fresh_name, Replicated(1, within=SHORT)))
        replica.freeze()

        # when
        with pytest.raises(NotConfirmed) as first:
            store.append("account-1", events, NO_STREAM)
        if fresh_connection:
            store = stack.enter_context(opened(primary, fresh_name, Replicated(1, within=SHORT)))
        with pytest.raises(NotConfirmed) as again:
            store.append("account-1", events, NO_STREAM)
        replica.thaw()
        store = stack.enter_context(opened(primary, fresh_name, Replicated(1, within=LONG)))
        at_last = store.append("account-1", events, NO_STREAM)

        # then
        assert first.value.result == AppendResult("account-1", 2, 1, 2, 0, duplicate=False)
        assert again.value.result == AppendResult("account-1", 2, 1, 2, 0, duplicate=True)
        assert at_last == AppendResult("account-1", 2, 1, 2, 0, duplicate=True, durability="replicated(1)")
        assert replica.do("XLEN", store.info.keys[0].log) == 2


def test_an_import_ends_at_what_was_not_confirmed_and_is_confirmed_when_it_is_repeated(
    pair: tuple[Server, Server], fresh_name: str
) -> None:
    """The events are written, and no import says so before they are on the replica: also one that finds them all."""
    primary, replica = pair
    lines = [b'{"id": "%s", "stream": "account-1", "type": "Noted"}' % str(uuid4()).encode() for _ in range(3)]
    with opened(primary, fresh_name, Replicated(1, within=SHORT)) as store:
        replica.freeze()

        # when
        with pytest.raises(NotConfirmed):
            operations.import_lines(store, lines)
        with pytest.raises(NotConfirmed):
            operations.import_lines(store, lines)
        replica.thaw()
    with opened(primary, fresh_name, Replicated(1, within=LONG)) as store:
        result = operations.import_lines(store, lines)

        # then
        assert (result.lines, result.appended, result.known) == (3, 0, 3)
        assert replica.do("XLEN", store.info.keys[0].log) == 3


#: Appends that write no event the second time: a repetition of each kind, and one that has no events.
NO_NEWS: dict[str, Callable[[EventStore, NewEvent], Any]] = {
    "append": lambda store, event: store.append("account-1", event, 0),
    "append_many": lambda store, event: store.append_many([("account-1", [event], 0)], bookmark=("transfers", 1)),
    "append_each": lambda store, event: store.append_each([("account-1", [event], 0)])[0],
    "without events": lambda store, event: store.append("account-1", []),
}


@pytest.mark.parametrize("kind", NO_NEWS)
def test_what_writes_nothing_is_not_confirmed_by_who_has_nothing(
    pair: tuple[Server, Server], fresh_name: str, kind: str
) -> None:
    """On a new connection, which has nothing to wait for, the answer still depends on the replicas."""
    # given
    primary, replica = pair
    event = deposited()
    replica.freeze()
    with opened(primary, fresh_name, None) as store:
        NO_NEWS[kind](store, event)

    # when
    with opened(primary, fresh_name, Replicated(1, within=SHORT)) as store:
        try:
            outcome = NO_NEWS[kind](store, event)
        except NotConfirmed as trouble:
            outcome = trouble

    # then
    assert isinstance(outcome, NotConfirmed)
    assert outcome.confirmed == 0


def test_a_failed_confirmation_says_what_is_known(pair: tuple[Server, Server], fresh_name: str) -> None:
    """It is trouble that passes; the text says that the events may exist and that repeating is safe."""
    primary, replica = pair
    with opened(primary, fresh_name, Replicated(1, within=SHORT)) as store:
        replica.freeze()
        with pytest.raises(NotConfirmed) as caught:
            store.append_many([("account-1", [deposited()], 0), ("account-2", [deposited()], 0)])
        trouble = caught.value
        assert isinstance(trouble, StoreTrouble)
        assert trouble.passing
        assert (trouble.wanted, trouble.confirmed) == (1, 0)
        assert [(result.stream, result.version) for result in trouble.results] == [("account-1", 1), ("account-2", 1)]
        assert "may exist, and repeating the same append is safe" in str(trouble)
        with pytest.raises(NotConfirmed) as caught:
            store.append_many([], bookmark=("transfers", 1))
        assert caught.value.result is None


def test_a_promotion_takes_away_nothing_that_was_confirmed(binary: str, fresh_name: str) -> None:
    """Matrix 14. What the promoted replica lacks was answered with NotConfirmed, and is appended there by repeating."""
    # given
    first, second = deposited(), deposited()
    with replicated(binary) as (primary, replica):
        with opened(primary, fresh_name, Replicated(1, within=LONG)) as store:
            store.append("account-1", first, 0)
        with opened(primary, fresh_name, Replicated(1, within=SHORT)) as store:
            replica.do("REPLICAOF", "NO", "ONE")
            with pytest.raises(NotConfirmed) as caught:
                store.append("account-1", second, 1)
        primary.kill()

        # when
        with opened(replica, fresh_name, None) as store:
            kept = [event.id for event in store.read_stream("account-1")]
            repeated = store.append("account-1", second, 1)

    # then
    assert kept == [first.id]
    assert repeated == caught.value.result


def test_append_each_gives_every_result_of_an_unconfirmed_run_as_not_confirmed(
    pair: tuple[Server, Server], fresh_name: str
) -> None:
    """Refusals stay what they are; a later call confirms all of it, and its runs are confirmed one by one."""
    primary, replica = pair
    appends = [(f"account-{number}", [deposited()], 0) for number in range(EACH_RUN + 1)]
    appends[1] = ("account-1", [deposited()], 9)
    with opened(primary, fresh_name, Replicated(1, within=SHORT)) as store:
        replica.freeze()
        first = store.append_each(appends)
    with opened(primary, fresh_name, Replicated(1, within=SHORT)) as store:
        again = store.append_each(appends)
        replica.thaw()
    with opened(primary, fresh_name, Replicated(1, within=LONG)) as store:
        at_last = store.append_each(appends)

    for outcomes, duplicate in ((first, False), (again, True)):
        refused = outcomes.pop(1)
        assert isinstance(refused, WrongExpectedVersion)
        assert all(isinstance(outcome, NotConfirmed) for outcome in outcomes)
        assert [outcome.result.position for outcome in outcomes] == list(range(1, EACH_RUN + 1))  # type: ignore[union-attr]
        assert {outcome.result.duplicate for outcome in outcomes} == {duplicate}  # type: ignore[union-attr]
    assert isinstance(at_last.pop(1), WrongExpectedVersion)
    assert {outcome.durability for outcome in at_last} == {"replicated(1)"}  # type: ignore[union-attr]


def test_a_conflict_is_a_conflict_whatever_the_replicas_do(pair: tuple[Server, Server], fresh_name: str) -> None:
    """What was refused wrote nothing that could be lost."""
    primary, replica = pair
    with opened(primary, fresh_name, Replicated(1, within=SHORT)) as store:
        replica.freeze()
        with pytest.raises(WrongExpectedVersion):
            store.append("account-1", deposited(), 1)
        [refused] = store.append_each([("account-1", [deposited()], 1)])
        assert isinstance(refused, WrongExpectedVersion)


def test_too_few_replicas_and_replicas_themselves_are_refused(pair: tuple[Server, Server], fresh_name: str) -> None:
    """The text says how many there are; more may come, so the first is passing. A replica is no place to write to."""
    primary, replica = pair
    with pytest.raises(StoreRefused, match=r"durability replicated\(2\) needs 2 connected .* has 1") as caught:
        opened(primary, fresh_name, Replicated(2))
    assert caught.value.passing
    with pytest.raises(StoreRefused, match=r"durability replicated\(1\) needs a primary, but .* is a replica"):
        opened(replica, fresh_name, Replicated(1))
    assert primary.do("KEYS", f"{{{fresh_name}.*") == []


def test_a_server_that_demands_replicas_itself_says_noreplicas(binary: str, fresh_name: str) -> None:
    """`min-replicas-to-write`: nothing is written, so this is not a matter of confirmation."""
    with (
        replicated(binary) as (primary, replica),
        opened(primary, fresh_name, Replicated(1, within=SHORT)) as store,
    ):
        # given
        replica.kill()
        primary.do("CONFIG", "SET", "min-replicas-to-write", "1")

        for attempt in (store.append_many, store.append_each):
            # when
            with pytest.raises(StoreRefused) as caught:
                attempt([("account-1", [deposited()], 0)])

            # then
            assert caught.value.code == "NOREPLICAS"
        assert store.last_position() == 0


def test_a_lost_script_cache_is_no_confirmation(pair: tuple[Server, Server], fresh_name: str) -> None:
    """After SCRIPT FLUSH the first WAIT runs behind nothing; the one that counts is behind the script's second run."""
    primary, replica = pair
    with opened(primary, fresh_name, Replicated(1, within=SHORT)) as store:
        primary.do("SCRIPT", "FLUSH")
        replica.freeze()
        with pytest.raises(NotConfirmed):
            store.append("account-1", deposited(), 0)


# -- asyncio -------------------------------------------------------------------------------------


def test_the_asynchronous_store_checks_and_confirms_alike(pair: tuple[Server, Server], fresh_name: str) -> None:
    """The same operations, run by the other driver: refused, not confirmed, confirmed."""
    primary, replica = pair
    event = NewEvent("Deposited", {"amount": 1})

    async def attempt(level: Any) -> list[Any]:
        async with AsyncEventStore.open(primary.url, name=fresh_name, durability=level) as store:
            one = await store.append("account-1", event, 0)
            return [one, *await store.append_each([("account-2", [event], 0)])]

    async def each() -> list[Any]:
        async with AsyncEventStore.open(primary.url, name=fresh_name, durability=Replicated(1, within=SHORT)) as store:
            return list(await store.append_each([("account-2", [event], 0)]))

    with pytest.raises(StoreRefused, match=r"replicated\(2\) needs 2"):
        asyncio.run(attempt(Replicated(2)))
    with pytest.raises(StoreRefused, match="always needs"):
        asyncio.run(attempt("always"))
    replica.freeze()
    with pytest.raises(NotConfirmed):
        asyncio.run(attempt(Replicated(1, within=SHORT)))
    [unconfirmed] = asyncio.run(each())
    assert isinstance(unconfirmed, NotConfirmed)
    replica.thaw()
    results = asyncio.run(attempt(Replicated(1, within=LONG)))
    assert [(result.durability, result.duplicate) for result in results] == [("replicated(1)", True)] * 2
