"""The index of event ids: appends whose ids must be new in the whole store, and what keeps the index right."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from accounts import PATIENCE, deposited, in_thread, noted
from hypothesis import given
from hypothesis import strategies as st
from proxy import Proxy
from servers import Server, server

import runner.log.id_index
from runner import ANY, NO_STREAM, STREAM_EXISTS, AppendResult, EventStore, NewEvent, WrongExpectedVersion
from runner.effects import Execute
from runner.errors import AppendTooLarge, EventIdReused, LogCorrupt, StoreRefused, StoreReplaced
from runner.log.append_new import append_new
from runner.log.durability import Replicated
from runner.log.id_index import index_command, position_of
from runner.operations.trim import Trim
from runner.settings import MAX_APPEND_EVENTS
from runner.testing import TEST_SETTINGS, clear, memory_store
from runner.wire.clock import now_in_microseconds


def new(store: EventStore, stream: str, *events: NewEvent, expected: Any = ANY) -> AppendResult:
    """Append events whose ids must be new."""
    now = now_in_microseconds()
    return store.run(append_new(store.info, stream, events, expected, now, store.durability))


def place(store: EventStore, event: NewEvent | UUID) -> int:
    """Where an id is, by the index."""
    event_id = event if isinstance(event, UUID) else event.id
    return store.run(position_of(store.info, store.info.keys[0], event_id))


def index(store: EventStore) -> dict[bytes, bytes]:
    """The index as it lies in Redis."""
    [flat] = store.driver.execute([("HGETALL", store.info.keys[0].ids)])
    return dict(zip(flat[::2], flat[1::2], strict=True))


def indexed(store: EventStore) -> dict[UUID, int]:
    """The ids in the index and their positions; it must be of this store and of nothing but these."""
    found = index(store)
    assert found.pop(b"epoch", store.info.epoch.encode()) == store.info.epoch.encode()
    found.pop(b"upto", None)
    return {UUID(bytes=event_id): int(value.partition(b"-")[0]) for event_id, value in found.items()}


def trim(store: EventStore, before: int) -> None:
    store.run(Trim(store.info, 0, before).run(10))


def ids_in_log(store: EventStore) -> list[UUID]:
    return [event.id for event in store.read_all()]


@pytest.fixture
def small_portions(monkeypatch: pytest.MonkeyPatch) -> int:
    """One script run indexes three events."""
    monkeypatch.setattr(runner.log.id_index, "INDEX_RUN", 3)
    return 3


# -- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("expected", [ANY, STREAM_EXISTS, 1])
def test_an_id_that_another_stream_has_is_refused_by_its_name_and_place(store: EventStore, expected: Any) -> None:
    """With the index an id is known in the whole store, whatever version is expected, and nothing is written."""
    first, known, own = noted(), noted(), noted()
    new(store, "account-1", first, known)
    new(store, "account-2", own)
    with pytest.raises(EventIdReused, match=f"the id {known.id} is in the store already, at position 2"):
        new(store, "account-2", noted(), known, expected=expected)
    assert ids_in_log(store) == [first.id, known.id, own.id]
    assert indexed(store) == {first.id: 1, known.id: 2, own.id: 3}


@pytest.mark.parametrize(
    ("expected", "error"),
    [(NO_STREAM, WrongExpectedVersion), (ANY, EventIdReused), (STREAM_EXISTS, EventIdReused), (2, EventIdReused)],
)
def test_a_repetition_by_the_caller_is_refused(store: EventStore, expected: Any, error: type[Exception]) -> None:
    """Whoever appends the same events again is told that they are there, or that the version has moved on."""
    events = [noted(), noted()]
    assert new(store, "account-1", *events, expected=NO_STREAM).version == 2
    with pytest.raises(error):
        new(store, "account-1", *events, expected=expected)
    assert ids_in_log(store) == [event.id for event in events]


def test_the_version_is_compared_before_the_ids(store: EventStore) -> None:
    """A writer that is late is told so, even with events that are there; it reads again and finds them."""
    event = noted()
    new(store, "account-1", event, expected=NO_STREAM)
    with pytest.raises(WrongExpectedVersion) as conflict:
        new(store, "account-2", event, expected=5)
    assert conflict.value.actual == 0
    with pytest.raises(WrongExpectedVersion):
        new(store, "account-2", noted(), expected=STREAM_EXISTS)


def test_an_append_without_the_index_knows_what_was_appended_with_it(store: EventStore) -> None:
    """A repetition is recognised whichever way its events were appended."""
    both = [noted(), noted()]
    new(store, "account-1", *both, expected=NO_STREAM)
    assert store.append("account-1", both, ANY).duplicate
    with pytest.raises(EventIdReused):
        store.append("account-1", [both[1], noted()], ANY)


def test_an_id_twice_in_one_append_is_refused(store: EventStore) -> None:
    """The caller's own batch is looked at before anything is sent."""
    event = noted()
    with pytest.raises(EventIdReused):
        new(store, "account-1", event, event)
    assert store.last_position() == 0
    assert index(store) == {}


def test_a_refused_append_leaves_the_index_as_it_was(store: EventStore) -> None:
    """The ids of an append that is refused stay free."""
    free, known = noted(), noted()
    new(store, "account-1", known)
    before = index(store)
    with pytest.raises(EventIdReused):
        new(store, "account-2", free, known)
    with pytest.raises(WrongExpectedVersion):
        new(store, "account-1", free, expected=7)
    assert index(store) == before
    assert new(store, "account-2", free).position == 2


@pytest.mark.real
def test_the_largest_append_fits(real_store: EventStore) -> None:
    """As many events as one append may hold are looked up and indexed in one script run."""
    events = [NewEvent("E") for _ in range(MAX_APPEND_EVENTS)]
    assert new(real_store, "account-1", *events, expected=NO_STREAM).position == MAX_APPEND_EVENTS
    assert place(real_store, events[-1]) == MAX_APPEND_EVENTS
    with pytest.raises(EventIdReused, match=f"at position {MAX_APPEND_EVENTS}"):
        new(real_store, "account-2", events[-1])
    with pytest.raises(AppendTooLarge):
        new(real_store, "account-2", *(NewEvent("E") for _ in range(MAX_APPEND_EVENTS + 1)))


def test_without_the_option_there_is_no_index(store: EventStore) -> None:
    """Appends that do not ask for new ids write no index, and may use an id in two streams."""
    event = noted()
    store.append("account-1", event, NO_STREAM)
    store.append("account-2", event)
    store.append_each([("account-3", [event], ANY)])
    assert index(store) == {}
    assert store.append("account-1", event, NO_STREAM).duplicate


# -- what is sent again -------------------------------------------------------------------------


@pytest.fixture
def distant(proxy: Proxy, real_store: EventStore) -> Iterator[EventStore]:
    """The store of `real_store`, seen through the proxy; its scripts are known to the server."""
    settings = replace(TEST_SETTINGS, socket_timeout=0.2, retry_for=PATIENCE)  # on a busy machine it is given up often
    with EventStore.open(proxy.url, name=real_store.info.name, settings=settings) as opened:
        new(opened, "warm-1", noted())
        opened.append("warm-1", noted())
        new(opened, "warm-1", noted())
        yield opened


@pytest.mark.real
@pytest.mark.parametrize("loss", ["lose_reply", "swallow_reply", "cut_reply"])
@pytest.mark.parametrize("expected", [NO_STREAM, ANY])
def test_a_lost_reply_is_answered_as_it_was(proxy: Proxy, distant: EventStore, loss: str, expected: Any) -> None:
    """The request that the driver sends again finds its own token, and is no duplicate."""
    events = [noted(), noted()]
    getattr(proxy, loss)()
    result = new(distant, "account-1", *events, expected=expected)
    assert (result.version, result.first_position, result.position) == (2, 4, 5)
    assert ids_in_log(distant)[3:] == [event.id for event in events]
    assert proxy.armed == 0


@pytest.mark.real
@pytest.mark.parametrize("expected", [STREAM_EXISTS, ANY])
def test_a_lost_reply_is_answered_as_it_was_after_others_went_on(
    proxy: Proxy, distant: EventStore, real_store: EventStore, expected: Any
) -> None:
    """Neither later events of the stream, nor writers without the index, nor a trim change the answer."""
    new(distant, "account-1", noted(), noted())
    events = [noted(), noted()]

    def meanwhile() -> None:
        real_store.append("account-1", noted())
        new(real_store, "account-1", noted())
        real_store.append("account-2", noted())
        trim(real_store, 9)

    proxy.meanwhile(lambda: (meanwhile(), proxy.hang_up()), executed=True)
    result = new(distant, "account-1", *events, expected=expected)
    assert (result.version, result.first_position, result.position) == (4, 6, 7)
    assert result.duplicate
    assert real_store.last_position() == 10
    assert proxy.armed == 0


@pytest.mark.real
def test_a_lost_reply_while_the_index_is_made_is_answered_as_it_was(
    proxy: Proxy, distant: EventStore, real_store: EventStore, small_portions: int
) -> None:
    """The step that brings the index up to date and the append behind it may be sent again together."""
    for _ in range(2 * small_portions):
        real_store.append("account-9", noted())
    event = noted()
    proxy.meanwhile(lambda: None)  # "unindexed"
    proxy.lose_reply(requests=2)
    proxy.lose_reply(requests=2)
    assert new(distant, "account-1", event, expected=NO_STREAM).version == 1
    assert ids_in_log(distant).count(event.id) == 1
    assert place(distant, event) == 3 + 2 * small_portions + 1
    assert proxy.armed == 0


@pytest.mark.real
def test_a_request_that_arrives_late_is_refused(proxy: Proxy, distant: EventStore, real_store: EventStore) -> None:
    """The caller gave up and appended again himself; what was still on its way then changes nothing."""
    event = noted()
    held = proxy.hold()
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(new, distant, "account-1", event)
        assert held.taken(PATIENCE)
        assert new(real_store, "account-1", event).version == 1
        assert b"known" in (held.deliver() or b"")
        with pytest.raises(EventIdReused):
            first.result(PATIENCE)
    assert ids_in_log(real_store).count(event.id) == 1


@pytest.mark.real
def test_a_copy_of_a_request_that_arrives_much_later_is_the_same_call(
    proxy: Proxy, distant: EventStore, real_store: EventStore
) -> None:
    """The network may deliver a request twice: it is written once."""
    copy = proxy.copy()
    first = new(distant, "account-1", noted(), noted())
    new(real_store, "account-1", noted())
    assert b"duplicate" in copy.deliver()
    assert real_store.last_position() == first.position + 1


# -- an index that is behind --------------------------------------------------------------------


def test_a_store_that_was_there_before_is_indexed_in_portions(store: EventStore, small_portions: int) -> None:
    """The first append that asks for new ids makes the index of all that was appended without it."""
    known = [noted() for _ in range(3 * small_portions + 1)]
    store.append("account-1", known)
    with pytest.raises(EventIdReused, match="at position 2;"):
        new(store, "account-2", known[1])
    with pytest.raises(EventIdReused, match="at position 10;"):
        new(store, "account-2", known[9])
    assert new(store, "account-2", noted()).position == 11


def test_one_run_of_the_script_indexes_no_more_than_its_portion(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is busy with one portion at a time: each answer says how far the index is, and where the log ends."""
    monkeypatch.setattr(runner.log.id_index, "INDEX_RUN", 2)
    store.append("account-1", [noted() for _ in range(5)])
    command = index_command(store.info, store.info.keys[0])
    assert [store.driver.execute([command])[0] for _ in range(4)] == [
        [b"ok", 2, 5], [b"ok", 4, 5], [b"ok", 5, 5], [b"ok", 5, 5],
    ]  # fmt: skip


def test_what_others_append_without_the_index_is_known(store: EventStore) -> None:
    """The index says how far it goes; what came since is indexed before the next append is judged."""
    mine, theirs = noted(), noted()
    new(store, "account-1", mine)
    store.append("account-1", theirs)
    with pytest.raises(EventIdReused, match="at position 2"):
        new(store, "account-2", theirs)
    assert place(store, theirs) == 2
    assert index(store)[b"upto"] == b"2"


def test_an_id_in_two_streams_is_known_by_its_first_place(store: EventStore) -> None:
    """Writers without the index may use an id twice; it is where it was first."""
    twice = noted()
    store.append("account-1", noted())
    store.append("account-1", twice, 1)
    store.append("account-2", twice, NO_STREAM)
    assert place(store, twice) == 2


def test_looking_up_needs_no_append(store: EventStore, small_portions: int) -> None:
    """Whoever asks for an id in a store that was never indexed gets the right answer, known or not."""
    events = [noted() for _ in range(3 * small_portions)]
    assert place(store, events[0]) == 0
    store.append("account-1", events)
    assert place(store, events[-1]) == len(events)
    assert place(store, uuid4()) == 0


def test_looking_up_only_reads_when_the_index_is_complete(store: EventStore) -> None:
    """A known id costs one round trip, an unknown one two; a reader's rights are enough."""
    known = noted()
    new(store, "account-1", known)

    def requests(event_id: UUID) -> list[str]:
        operation, found = position_of(store.info, store.info.keys[0], event_id), []
        try:
            effect = next(operation)
            while True:
                assert isinstance(effect, Execute)
                found += [str(command[0]) for command in effect.commands]
                effect = operation.send(store.driver.execute(effect.commands))
        except StopIteration:
            return found

    assert requests(known.id) == ["HMGET"]
    assert requests(uuid4()) == ["HMGET", "XREVRANGE"]


def test_an_event_between_the_two_questions_is_not_passed_over(store: EventStore) -> None:
    """An id that is appended while it is asked for is found, or was not there when the question came: no error."""
    known, later = noted(), noted()
    new(store, "account-1", known)
    operation = position_of(store.info, store.info.keys[0], later.id)
    effect = next(operation)
    assert isinstance(effect, Execute)
    reply = store.driver.execute(effect.commands)
    store.append("account-1", later)
    effect = operation.send(reply)
    with pytest.raises(StopIteration) as end:
        while True:
            assert isinstance(effect, Execute)
            effect = operation.send(store.driver.execute(effect.commands))
    assert end.value.value == 2


# -- trims, and logs that are not what they were ------------------------------------------------


def test_the_ids_of_trimmed_events_stay_known(store: EventStore) -> None:
    """An id that the store ever had is refused, and found, after its event is gone."""
    events = [noted() for _ in range(5)]
    new(store, "account-1", *events)
    trim(store, 4)
    with pytest.raises(EventIdReused, match="at position 1;"):
        new(store, "account-2", events[0])
    assert [place(store, event) for event in events] == [1, 2, 3, 4, 5]


def test_what_was_trimmed_before_it_was_indexed_is_not_known(store: EventStore, small_portions: int) -> None:
    """The index begins with the first event that is left, and is complete from there."""
    events = [noted() for _ in range(2 * small_portions + 2)]
    store.append("account-1", events)
    trim(store, 3)
    new(store, "account-2", noted())
    assert [place(store, event) for event in events] == [0, 0, *range(3, len(events) + 1)]


def test_what_is_trimmed_while_the_index_is_behind_is_passed_over(store: EventStore) -> None:
    """A gap between the index and the first event that is left does not stop it."""
    known, gone, left = noted(), noted(), [noted(), noted()]
    new(store, "account-1", known)
    store.append("account-1", [gone, *left])
    trim(store, 3)
    new(store, "account-1", noted())
    assert [place(store, event) for event in (known, gone, *left)] == [1, 0, 3, 4]


def test_a_store_that_was_cleared_starts_again(store: EventStore) -> None:
    """`runner.testing.clear` forgets the ids with the events."""
    event = noted()
    new(store, "account-1", event)
    clear(store)
    assert place(store, event) == 0
    assert new(store, "account-1", event, expected=NO_STREAM).position == 1
    assert place(store, event) == 1


def test_a_store_that_was_replaced_is_noticed(url: str, fresh_name: str) -> None:
    """After a flush neither an append nor a question is answered from the new store."""
    with EventStore.open(url, name=fresh_name, settings=TEST_SETTINGS) as store:
        new(store, "account-1", noted())
        keys = store.info.keys[0]
        store.driver.execute([("DEL", keys.log, keys.meta, keys.ids, keys.stream("account-1"))])
        with EventStore.open(url, name=fresh_name, settings=TEST_SETTINGS) as other:
            new(other, "account-1", noted())
            with pytest.raises(StoreReplaced):
                new(store, "account-1", noted())
            with pytest.raises(StoreReplaced):
                place(store, noted())
            assert other.last_position() == 1


@pytest.mark.parametrize("look_first", [True, False])
@pytest.mark.parametrize("events", [0, 2])
def test_the_index_of_another_store_is_thrown_away(url: str, fresh_name: str, events: int, look_first: bool) -> None:
    """An index that was left behind when its store was removed says nothing about the next one of that name."""
    old = noted()
    with EventStore.open(url, name=fresh_name, settings=TEST_SETTINGS) as store:
        new(store, "account-1", old)
        new(store, "account-1", noted())
        keys = store.info.keys[0]
        store.driver.execute([("DEL", keys.log, keys.meta, keys.stream("account-1"))])
    with EventStore.open(url, name=fresh_name, settings=TEST_SETTINGS) as store:
        store.append("account-2", [noted() for _ in range(events)])
        if look_first:
            assert place(store, old) == 0
        assert new(store, "account-1", old).position == events + 1
        assert sorted(indexed(store).values()) == list(range(1, events + 2))


def test_an_index_that_goes_beyond_the_log_is_made_again(store: EventStore) -> None:
    """A log that was put back to an earlier state, but not its index: the next append gives up what is not in it."""
    kept, lost = noted(), noted()
    new(store, "account-1", kept)
    new(store, "account-2", lost)
    keys = store.info.keys[0]
    [[entry]] = store.driver.execute([("XRANGE", keys.log, "-", "+", "COUNT", 1)])
    store.driver.execute([("DEL", keys.log, keys.stream("account-2")), ("XADD", keys.log, entry[0], *entry[1])])
    assert new(store, "account-2", lost).position == 2
    assert indexed(store) == {kept.id: 1, lost.id: 2}


def test_a_damaged_log_is_refused_and_an_odd_entry_is_passed_over(store: EventStore) -> None:
    """The index takes what looks like an event, and ends with the log; the append behind it refuses one with gaps."""
    new(store, "account-1", noted())
    keys = store.info.keys[0]
    store.driver.execute([("XADD", keys.log, "2-1", "e", "short")])
    known, lost = noted(), noted()
    store.append("account-1", known)
    assert place(store, known) == 3
    assert sorted(indexed(store).values()) == [1, 3]
    store.append("account-1", lost)
    store.driver.execute([("XDEL", keys.log, "4-3")])
    assert place(store, lost) == 0
    store.driver.execute([("DEL", keys.ids)])
    assert (place(store, lost), place(store, known)) == (0, 3)
    with pytest.raises(LogCorrupt):
        new(store, "account-1", noted())


# -- together with others -----------------------------------------------------------------------


@pytest.mark.real
def test_of_many_who_append_the_same_ids_each_id_has_one(real_store: EventStore) -> None:
    """Threads that append the same events to streams of their own, beside a writer without the index."""
    shared = [noted() for _ in range(40)]
    outcomes: list[UUID] = []
    done = threading.Event()

    def plain() -> None:
        while not done.is_set():
            real_store.append("plain-1", deposited(1))

    def work(who: int) -> None:
        for event in shared:
            try:
                new(real_store, f"account-{who}", event)
            except EventIdReused:
                continue
            outcomes.append(event.id)

    with in_thread(plain):
        try:
            with ThreadPoolExecutor(6) as threads:
                for each in [threads.submit(work, who) for who in range(6)]:
                    each.result(60)
        finally:
            done.set()
    assert sorted(outcomes) == sorted(event.id for event in shared)
    log = {event.id: event.position for event in real_store.read_all()}
    assert len(log) == real_store.last_position()
    place(real_store, uuid4())
    assert indexed(real_store) == log


@pytest.fixture(scope="module")
def primary() -> Iterator[Server]:
    with server("--appendonly", "no") as started:
        yield started


@pytest.mark.real
def test_a_user_that_may_not_write_the_index_writes_nothing_at_all(primary: Server) -> None:
    """Scripts do not roll back: the missing right shows before the first write."""
    with EventStore.open(primary.url, name="rights", settings=TEST_SETTINGS) as store:
        new(store, "account-1", noted())
        key = store.info.keys[0].ids
        primary.do("ACL", "SETUSER", "half", "on", ">secret", "~*", "+@all", "-hset", "(+hset", "~{rights.0}:stream*)")
        url = primary.url.replace("//", "//half:secret@")
        with (
            EventStore.open(url, name="rights", settings=TEST_SETTINGS) as half,
            pytest.raises(StoreRefused, match="hset"),
        ):
            new(half, "account-2", noted())
        assert store.last_position() == 1
        assert store.version("account-2") == 0
        assert primary.do("HGET", key, "upto") == "1"


@pytest.mark.real
def test_a_lost_reply_is_confirmed_by_replicas_too(primary: Server) -> None:
    """What is recognised as sent again wrote nothing this time; it is confirmed by a mark, as in other appends."""
    with (
        server(replica_of=primary),
        tempfile.TemporaryDirectory(prefix="runner-proxy-"),
        Proxy(("127.0.0.1", primary.port)) as proxy,
        EventStore.open(
            proxy.url, name="replicated", settings=TEST_SETTINGS, durability=Replicated(1, within=2)
        ) as store,
    ):
        new(store, "account-1", noted())
        proxy.lose_reply()
        result = new(store, "account-1", noted(), expected=1)
        assert (result.version, result.duplicate, result.durability) == (2, True, "replicated(1)")
        assert proxy.armed == 0


# -- the model ----------------------------------------------------------------------------------


@dataclass
class Model:
    """What the index must come to: ids by their first place, but for those that were trimmed before it came to them."""

    log: list[UUID] = field(default_factory=list)
    floor: int = 0
    upto: int = 0
    known: dict[UUID, int] = field(default_factory=dict)

    def catch_up(self) -> None:
        for position in range(max(self.upto, self.floor) + 1, len(self.log) + 1):
            self.known.setdefault(self.log[position - 1], position)
        self.upto = len(self.log)


POOL = [UUID(int=number) for number in range(1, 9)]
IDS = st.lists(st.sampled_from(POOL), min_size=1, max_size=3, unique=True)
STEPS = st.one_of(
    st.tuples(st.just("new"), st.sampled_from("ab"), IDS),
    st.tuples(st.just("plain"), st.sampled_from("ab"), st.integers(1, 3)),
    st.tuples(st.just("plain id"), st.just("c"), st.sampled_from(POOL)),
    st.tuples(st.just("trim"), st.integers(1, 20)),
    st.tuples(st.just("forget")),
    st.tuples(st.just("look"), st.sampled_from(POOL)),
)


@given(st.lists(STEPS, max_size=20))
def test_the_index_agrees_with_a_model(steps: list[tuple[Any, ...]]) -> None:
    """Whatever happens to the store, an id is refused and found exactly where the model says that it is."""
    with memory_store() as store:
        model = Model()
        for step, *rest in steps:
            take(store, model, step, *rest)
        model.catch_up()
        for event_id in POOL:
            assert place(store, event_id) == model.known.get(event_id, 0)


def take(store: EventStore, model: Model, step: str, *rest: Any) -> None:
    if step == "new":
        stream, ids = rest
        model.catch_up()
        free = not any(event_id in model.known for event_id in ids)
        events = [NewEvent("E", id=event_id) for event_id in ids]
        if free:
            new(store, stream, *events)
            model.log += ids
            model.catch_up()
        else:
            with pytest.raises(EventIdReused):
                new(store, stream, *events)
    elif step == "plain":
        stream, count = rest
        events = [noted() for _ in range(count)]
        store.append(stream, events)
        model.log += [event.id for event in events]
    elif step == "plain id":
        stream, event_id = rest
        if not store.append(stream, NewEvent("E", id=event_id)).duplicate:
            model.log.append(event_id)
    elif step == "trim":
        [before] = rest
        trim(store, before)
        model.floor = max(model.floor, min(before - 1, len(model.log) - 1))
    elif step == "forget":
        store.driver.execute([("DEL", store.info.keys[0].ids)])
        model.upto, model.known = 0, {}
    else:
        [event_id] = rest
        expected = model.known.get(event_id)
        if expected is None:
            model.catch_up()
            expected = model.known.get(event_id, 0)
        assert place(store, event_id) == expected
