"""The store on a real server behind a network that fails: against a model, and fault by fault.

Every request may be repeated by the driver, so whatever the network loses, the log and the results are those of a
network that loses nothing. Only the ``duplicate`` flag may tell the difference, as the driver cannot.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from accounts import PATIENCE, deposits
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from log_model import Group, Model, info_of, outcome_of
from looks import amounts
from proxy import Proxy

from runner import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    AppendResult,
    AsyncEventStore,
    EventStore,
    NewEvent,
    RunnerError,
    Settings,
    WrongExpectedVersion,
)
from runner.errors import BookmarkConflict, StoreUnavailable
from runner.log.append_plan import EACH_RUN
from runner.testing import TEST_SETTINGS

pytestmark = pytest.mark.real

#: A swallowed reply is not waited for long. A busy server may be late as often, so requests are repeated for long.
IMPATIENT = replace(TEST_SETTINGS, socket_timeout=0.2, retry_for=PATIENCE)

#: What may happen to a request. The first three lose the reply of one that was executed.
LOSSES = ("lose_reply", "cut_reply", "swallow_reply")
FAULTS = (*LOSSES, "cut_request")


@pytest.fixture
def store(proxy: Proxy, fresh_name: str) -> Iterator[EventStore]:
    """The store of `real_store`, seen through the proxy, and with its scripts known to the server."""
    with EventStore.open(proxy.url, name=fresh_name, settings=IMPATIENT) as opened:
        opened.append_many([], bookmark=("warm", 1))
        yield opened


# -- the model ----------------------------------------------------------------------------------

STREAMS = ("a-1", "a-2", "b")


class StoreMachine(RuleBasedStateMachine):
    """Appends and reads through the proxy; after each, the log as the server has it equals the model's."""

    proxy: ClassVar[Proxy]
    direct_url: ClassVar[str]
    names = itertools.count(1)

    def __init__(self) -> None:
        super().__init__()
        name = f"model-{os.getpid()}-{next(self.names)}"
        self.direct = EventStore.open(self.direct_url, name=name, settings=TEST_SETTINGS)
        self.store = EventStore.open(self.proxy.url, name=name, settings=replace(IMPATIENT, page_size=3))
        self.model = Model()
        self.appended: list[tuple[list[Group], tuple[str, int] | None]] = []

    def teardown(self) -> None:
        self.store.close()
        self.direct.close()

    def arm(self, fault: str | None) -> None:
        if fault == "flush":
            self.proxy.before("SCRIPT", "FLUSH")
        elif fault == "lose twice":
            self.proxy.lose_reply()
            self.proxy.lose_reply()
        elif fault is not None:
            getattr(self.proxy, fault)()

    def compare(self, fault: str | None, ours: Callable[..., Any], models: Callable[..., Any], *args: Any) -> None:
        self.arm(fault)
        result = outcome_of(ours, *args)
        self.proxy.forget()
        expected = outcome_of(models, *args)
        exact = fault in (None, "flush", "cut_request")
        assert info_of(result, with_duplicate=exact) == info_of(expected, with_duplicate=exact)

    def group(self, stream: str, count: int, expectation: Any) -> Group:
        version = self.model.version(stream)
        expected = {"right": version, "low": max(0, version - 1), "high": version + 1}.get(expectation, expectation)
        return stream, deposits(count), expected

    faults = st.sampled_from([None, None, None, "lose_reply", "cut_reply", "cut_request", "flush", "lose twice"])
    streams = st.sampled_from(STREAMS)
    counts = st.integers(0, 3)
    expectations = st.sampled_from(["right", "right", "low", "high", ANY, STREAM_EXISTS, NO_STREAM])
    groups = st.dictionaries(streams, st.tuples(counts, st.sampled_from(["right"] * 6 + ["low", ANY])), max_size=3)

    @rule(stream=streams, count=counts, expectation=expectations, fault=faults)
    def append(self, stream: str, count: int, expectation: Any, fault: str | None) -> None:
        group = self.group(stream, count, expectation)
        self.appended.append(([group], None))
        self.compare(fault, lambda g: [self.store.append(*g)], lambda g: self.model.append_all([g]), group)

    @rule(groups=groups, move=st.none() | st.integers(-1, 3), fault=faults)
    def append_many(self, groups: dict[str, Any], move: int | None, fault: str | None) -> None:
        given = [self.group(stream, *how) for stream, how in groups.items()]
        stands = self.model.bookmarks.get("manager", 0)
        bookmark = None if move is None else ("manager", max(1, stands + move))
        self.appended.append((given, bookmark))
        self.compare(fault, lambda g, b: self.store.append_many(g, bookmark=b), self.model.append_all, given, bookmark)

    @rule(groups=groups, fault=faults)
    def append_each(self, groups: dict[str, Any], fault: str | None) -> None:
        given = [self.group(stream, *how) for stream, how in groups.items()]
        self.appended += [([group], None) for group in given]
        self.compare(fault, self.store.append_each, self.model.append_each, given)

    @precondition(lambda self: self.appended)
    @rule(data=st.data(), fault=faults)
    def repeat(self, data: st.DataObject, fault: str | None) -> None:
        given, bookmark = data.draw(st.sampled_from(self.appended))
        self.compare(fault, lambda g, b: self.store.append_many(g, bookmark=b), self.model.append_all, given, bookmark)

    @precondition(lambda self: any(groups for groups, _ in self.appended))
    @rule(data=st.data(), expected=st.sampled_from([ANY, STREAM_EXISTS]), fault=faults)
    def mix(self, data: st.DataObject, expected: Any, fault: str | None) -> None:
        """Append events that were given before, of one stream, and new ones, in any order."""
        groups = [group for given, _ in self.appended for group in given]
        stream = data.draw(st.sampled_from([stream for stream, _, _ in groups]))
        pool = {event.id: event for name, events, _ in groups if name == stream for event in events}
        events = data.draw(st.lists(st.sampled_from([*pool.values(), *deposits(1)]), unique_by=lambda one: one.id))
        group = stream, events, expected
        self.appended.append(([group], None))
        self.compare(fault, lambda g: [self.store.append(*g)], lambda g: self.model.append_all([g]), group)

    @rule(
        stream=streams, after=st.integers(0, 6), to=st.none() | st.integers(0, 8),
        backwards=st.booleans(), limit=st.none() | st.integers(0, 5), fault=faults,
    )  # fmt: skip
    def read_stream(
        self, stream: str, after: int, to: int | None, backwards: bool, limit: int | None, fault: str | None
    ) -> None:
        self.arm(fault)
        read = list(self.store.read_stream(stream, after, to, backwards, limit))
        self.proxy.forget()
        expected = [
            (number, place)
            for number, place in enumerate(self.model.places(stream), 1)
            if after < number <= (number if to is None else to)
        ]
        assert [(event.number, event.position) for event in read] == expected[:: -1 if backwards else 1][:limit]

    @rule(after=st.integers(0, 20), fault=st.sampled_from([None, "lose_reply", "cut_reply", "cut_request"]))
    def read_log(self, after: int, fault: str | None) -> None:
        if fault is not None:
            getattr(self.proxy, fault)(b"XRANGE")
        read = [(event.stream, event.id) for event in self.store.read_all(after)]
        self.proxy.forget()
        assert read == self.model.log[after:]
        assert [event.position for event in self.store.read_all(backwards=True)] == list(
            range(len(self.model.log), 0, -1)
        )
        assert [event.id for event in self.store.read_category("a", after)] == [
            event_id for stream, event_id in self.model.log[after:] if stream != "b"
        ]

    @invariant()
    def the_log_equals_the_model(self) -> None:
        read = list(self.direct.read_all())
        assert [(event.stream, event.id) for event in read] == self.model.log
        assert [event.position for event in read] == list(range(1, len(read) + 1))
        assert self.direct.last_position() == len(read)
        for stream in STREAMS:
            places = self.model.places(stream)
            assert [(event.number, event.position) for event in self.direct.read_stream(stream)] == list(
                enumerate(places, 1)
            )
            assert self.direct.version(stream) == len(places)
        assert self.direct.bookmark("manager") == self.model.bookmarks.get("manager", 0)


def test_the_store_equals_its_model_whatever_the_network_loses(proxy: Proxy, real_url: str) -> None:
    """B1 to B15. Any sequence of appends, repetitions, bookmarks and reads, with replies lost at random."""

    class Machine(StoreMachine):
        pass

    Machine.proxy, Machine.direct_url = proxy, real_url
    run_state_machine_as_test(Machine, settings=settings(max_examples=20, stateful_step_count=20))


# -- fault by fault -----------------------------------------------------------------------------


@pytest.mark.parametrize("expected", [NO_STREAM, ANY])
@pytest.mark.parametrize("fault", FAULTS)
def test_an_append_whose_answer_is_lost_is_stored_once(
    store: EventStore, proxy: Proxy, fault: str, expected: Any
) -> None:
    """B13. The driver repeats it and gets the same numbers, whether or not it had been executed."""
    getattr(proxy, fault)()

    result = store.append("account-1", deposits(3), expected)

    assert (result.version, result.first_position, result.position) == (3, 1, 3)
    assert result.duplicate == (fault in LOSSES)
    assert proxy.armed == 0
    assert amounts(store.read_all()) == [1, 2, 3]


@pytest.mark.parametrize("fault", FAULTS)
def test_an_append_with_a_bookmark_whose_answer_is_lost_is_stored_once(
    store: EventStore, proxy: Proxy, fault: str
) -> None:
    """B12. Its repetition is not taken for someone else who was there first."""
    getattr(proxy, fault)()

    results = store.append_many(
        [("account-1", deposits(2), NO_STREAM), ("account-2", deposits(1), ANY)], bookmark=("manager", 5)
    )

    assert [(r.version, r.first_position, r.position) for r in results] == [(2, 1, 2), (1, 3, 3)]
    assert store.bookmark("manager") == 5
    assert amounts(store.read_all()) == [1, 2, 1]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bookmark_without_events_whose_answer_is_lost_moves_once(store: EventStore, proxy: Proxy, fault: str) -> None:
    """B12. The call that set it is known by its token, so its repetition is no conflict; another call is one."""
    getattr(proxy, fault)()

    assert store.append_many([], bookmark=("manager", 5)) == []

    with pytest.raises(BookmarkConflict):
        store.append_many([], bookmark=("manager", 5))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_refused_append_whose_answer_is_lost_is_refused_the_same(store: EventStore, proxy: Proxy, fault: str) -> None:
    """B5. The conflict is found again, with the same version."""
    store.append("account-1", deposits(2))
    getattr(proxy, fault)()

    with pytest.raises(WrongExpectedVersion) as caught:
        store.append("account-1", deposits(1), 1)

    assert caught.value.actual == 2
    assert store.version("account-1") == 2


@pytest.mark.parametrize("losses", [1, 2, 5])
def test_an_answer_may_be_lost_again_and_again(store: EventStore, proxy: Proxy, losses: int) -> None:
    """The driver repeats for as long as ``retry_for`` says."""
    for _ in range(losses):
        proxy.lose_reply()

    assert store.append("account-1", deposits(2), NO_STREAM).version == 2

    assert proxy.armed == 0
    assert store.last_position() == 2


def test_a_late_answer_is_never_taken_for_that_of_another_request(store: EventStore, proxy: Proxy) -> None:
    """A connection whose answer did not come in time is not used again."""
    proxy.swallow_reply(b"XRANGE")
    store.append("account-1", deposits(1))
    assert amounts(store.read_all()) == [1]

    results = [store.append(f"account-{n}", deposits(n)).version for n in range(2, 6)]

    assert results == [2, 3, 4, 5]


@pytest.mark.parametrize("fault", ["lose_reply", "cut_reply", "cut_request"])
@pytest.mark.parametrize("hit", [0, 1, 2])
def test_independent_appends_whose_answers_are_lost_keep_their_order(
    store: EventStore, proxy: Proxy, fault: str, hit: int
) -> None:
    """Every run of the script may be lost; each append builds on the one before, is stored once, and in order."""
    total = 3 * EACH_RUN
    for _ in range(hit):
        proxy.before("PING")  # that request is let through
    getattr(proxy, fault)()

    outcomes = store.append_each(
        [("account-1", [NewEvent("Deposited", {"amount": number})], number) for number in range(total)]
    )

    assert proxy.armed == 0
    assert [getattr(outcome, "version", outcome) for outcome in outcomes] == list(range(1, total + 1))
    assert amounts(store.read_stream("account-1")) == list(range(total))


def test_independent_appends_lost_together_are_stored_once(store: EventStore, proxy: Proxy) -> None:
    """Two runs were under way and both were executed: repeating them gives the same places."""
    proxy.lose_reply(requests=2)

    outcomes = store.append_each([(f"account-{number % 5}", deposits(1), ANY) for number in range(2 * EACH_RUN)])

    assert [o.position for o in outcomes if isinstance(o, AppendResult)] == list(range(1, 2 * EACH_RUN + 1))
    assert store.last_position() == 2 * EACH_RUN


def test_a_refused_append_stays_refused_when_its_run_is_repeated(store: EventStore, proxy: Proxy) -> None:
    """An append that was refused is not written by the repetition of its run, which comes after later appends."""
    appends = [("account-1", deposits(1), 1), ("account-1", deposits(1), NO_STREAM)]
    proxy.lose_reply()

    refused, done = store.append_each(appends)

    assert isinstance(refused, WrongExpectedVersion)
    assert isinstance(done, AppendResult)
    assert store.version("account-1") == 1


@pytest.mark.parametrize("fault", FAULTS)
def test_the_asynchronous_store_repeats_in_the_same_way(
    store: EventStore, proxy: Proxy, fresh_name: str, fault: str
) -> None:
    """B13. Lost answers are asked for again, and nothing is stored twice."""

    async def scenario() -> list[AppendResult]:
        async with AsyncEventStore.open(proxy.url, name=fresh_name, settings=IMPATIENT) as opened:
            getattr(proxy, fault)()
            return await opened.append_many([("account-1", deposits(2), NO_STREAM)], bookmark=("manager", 5))

    [result] = asyncio.run(scenario())

    assert (result.version, result.position) == (2, 2)
    assert amounts(store.read_all()) == [1, 2]


def test_independent_asynchronous_appends_keep_their_order(store: EventStore, proxy: Proxy, fresh_name: str) -> None:
    """The asynchronous driver repeats lost runs in order too."""
    total = 3 * EACH_RUN

    async def scenario() -> list[AppendResult | RunnerError]:
        async with AsyncEventStore.open(proxy.url, name=fresh_name, settings=TEST_SETTINGS) as opened:
            proxy.lose_reply()
            return await opened.append_each([("account-1", deposits(1), number) for number in range(total)])

    outcomes = asyncio.run(scenario())

    assert [getattr(outcome, "version", outcome) for outcome in outcomes] == list(range(1, total + 1))


# -- scripts that the server forgot ---------------------------------------------------------------


def test_scripts_are_loaded_again_after_a_flush_between_calls(store: EventStore) -> None:
    """SCRIPT FLUSH, as after a restart: the next call loads what it needs, and nobody notices."""
    for number in range(3):
        store.driver.execute([("SCRIPT", "FLUSH")])
        assert store.append("account-1", deposits(1), number).version == number + 1
        store.driver.execute([("SCRIPT", "FLUSH")])
        assert len(list(store.read_stream("account-1"))) == number + 1


@pytest.mark.parametrize("times", [1, 2, 3])
def test_scripts_are_loaded_again_after_a_flush_during_a_call(store: EventStore, proxy: Proxy, times: int) -> None:
    """A flush right before the script is run, also between its being loaded and run again."""
    for _ in range(times):
        proxy.before("SCRIPT", "FLUSH")

    result = store.append("account-1", deposits(2), NO_STREAM)

    assert proxy.armed == 0
    assert (result.version, result.duplicate) == (2, False)
    assert store.last_position() == 2


@pytest.mark.parametrize("hit", [0, 1, 2, 3])
def test_independent_appends_keep_their_order_when_scripts_are_flushed(
    store: EventStore, proxy: Proxy, hit: int
) -> None:
    """Runs that the server refused for want of the script go in before those that follow them."""
    total = 4 * EACH_RUN
    for _ in range(hit):
        proxy.before("PING")
    proxy.before("SCRIPT", "FLUSH")

    outcomes = store.append_each([("account-1", deposits(1), number) for number in range(total)])

    assert proxy.armed == 0
    assert [getattr(outcome, "version", outcome) for outcome in outcomes] == list(range(1, total + 1))


def test_a_flush_and_a_lost_answer_together_do_no_harm(store: EventStore, proxy: Proxy) -> None:
    """The repetition of a lost request may find its script gone."""
    proxy.lose_reply()
    proxy.before("SCRIPT", "FLUSH")

    assert store.append("account-1", deposits(2), NO_STREAM).version == 2

    assert proxy.armed == 0
    assert store.last_position() == 2


# -- a server that stays away -------------------------------------------------------------------


def test_a_server_that_stays_away_longer_than_retry_for_is_unavailable(proxy: Proxy, fresh_name: str) -> None:
    """Writing, reading and opening raise StoreUnavailable, with the address and a hint; then all is as before."""
    hasty = replace(TEST_SETTINGS, retry_for=0.05)
    with EventStore.open(proxy.url, name=fresh_name, settings=hasty) as store:
        store.append("account-1", deposits(1))

        with proxy.away():
            for attempt in (
                lambda: store.append("account-1", deposits(1), 1),
                lambda: store.append_each([("account-1", deposits(1), 1)]),
                lambda: list(store.read_all()),
                lambda: store.version("account-1"),
                lambda: EventStore.open(proxy.url, name=fresh_name, settings=hasty),
            ):
                with pytest.raises(StoreUnavailable, match=proxy.url) as caught:
                    attempt()
                assert caught.value.hint

        assert store.append("account-1", deposits(1), 1).version == 2
        assert store.last_position() == 2


def test_connections_that_ended_while_idle_are_replaced(store: EventStore, proxy: Proxy) -> None:
    """A connection that the network dropped between two calls costs a repetition, not an error."""
    store.append("account-1", deposits(1))
    for number in range(1, 4):
        proxy.hang_up()
        assert store.append("account-1", deposits(1), number).version == number + 1
    assert store.last_position() == 4


def test_without_patience_a_lost_answer_is_an_error(proxy: Proxy, fresh_name: str) -> None:
    """``retry_for=0``: the caller decides, and may repeat the append itself without fear."""
    settings: Settings = replace(TEST_SETTINGS, retry_for=0)
    batch = deposits(2)
    with EventStore.open(proxy.url, name=fresh_name, settings=settings) as store:
        store.append_many([], bookmark=("warm", 1))
        proxy.lose_reply()
        with pytest.raises(StoreUnavailable):
            store.append("account-1", batch, NO_STREAM)

        again = store.append("account-1", batch, NO_STREAM)

        assert (again.version, again.position, again.duplicate) == (2, 2, True)
