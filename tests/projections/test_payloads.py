"""Payloads: each call of user code gets the event as it is stored, whatever an earlier call did to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from accounts import PATIENCE, noted, rows_of
from faces import FACES, catch_up_on

from runner import (
    ALL,
    EventStore,
    NewEvent,
    ParkStream,
    Projection,
    Reactor,
    RecordedEvent,
    Retry,
    catch_up,
    follow,
    state_at,
)
from runner.aggregates import Aggregate, handles
from runner.format import codec
from runner.forwarding import Forwarder
from runner.operations import retry_parked
from runner.projections.fold import Router
from runner.testing import AggregateScenario, Scenario, memory_store

#: Three attempts at each event, without a pause.
THRICE = Retry(2, 0)


class Spoiler:
    """Notes a part of an event, changes it, and fails the first ``times`` times."""

    def __init__(self, part: str, times: int = 2) -> None:
        self.part, self.left = part, times
        self.seen: list[Any] = []

    def __call__(self, event: RecordedEvent) -> None:
        content = getattr(event, self.part)
        self.seen.append(dict(content))
        content["t"] *= 2
        content["more"] = True
        if self.left:
            self.left -= 1
            raise ZeroDivisionError


def happened(store: EventStore, *streams: str) -> None:
    """An event a stream, whose data and metadata are 100."""
    for stream in streams:
        store.append(stream, NewEvent("Happened", {"t": 100}, {"t": 100}))


def reacting(spoiler: Spoiler, policy: Any = THRICE, *, later: bool = False, name: str = "effects") -> Reactor:
    """A reactor whose handler is plain, or ``later`` an ``async def``."""
    reactor = Reactor(name, on_error=policy)

    async def react_later(event: RecordedEvent, key: str) -> None:
        spoiler(event)

    reactor.when(react_later if later else lambda event, key: spoiler(event))
    return reactor


def reading(key: str) -> Callable[[RecordedEvent], str]:
    """A key function that takes the key out of the data."""
    return lambda event: str(event.data.pop(key))


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("part", ["data", "metadata"])
def test_each_attempt_of_a_reactor_gets_the_event_as_it_is_stored(
    url: str, fresh_name: str, store: EventStore, face: str, part: str, later: bool
) -> None:
    """C7. What a failed attempt changed in the payload does not show in the next attempt."""
    # given
    happened(store, "a-1")
    spoiler = Spoiler(part)

    # when
    applied = catch_up_on(face, url, fresh_name, reacting(spoiler, later=later))

    # then
    assert applied == 1
    assert spoiler.seen == [{"t": 100}] * 3


@pytest.mark.parametrize("face", FACES)
def test_reactors_and_projections_of_a_process_do_not_see_what_others_did_to_an_event(
    url: str, fresh_name: str, store: EventStore, face: str
) -> None:
    """C7. Each of them gets the event as it is stored, in history."""
    # given
    happened(store, "a-1", "a-2")
    spoilers = [Spoiler("data", times=0) for _ in range(3)]
    projection = Projection("rows")
    projection.when(lambda state, event: spoilers[2](event))

    # when
    catch_up_on(face, url, fresh_name, reacting(spoilers[0]), reacting(spoilers[1], name="others"), projection)

    # then
    assert [spoiler.seen for spoiler in spoilers] == [[{"t": 100}] * 2] * 3


def test_what_shares_the_live_feed_does_not_see_what_others_did_to_an_event(store: EventStore) -> None:
    """C7. Reactors, projections and subscriptions get live events with payloads of their own."""
    # given
    spoilers = [Spoiler("data", times=0) for _ in range(3)]
    projection = Projection("rows")
    projection.when(lambda state, event: spoilers[2](event))
    with (
        store.subscribe(ALL) as subscription,
        follow(store, reacting(spoilers[0]), reacting(spoilers[1], name="others"), projection) as following,
    ):
        following.wait_live(PATIENCE)
        assert subscription.poll() is None

        # when
        store.append("a-1", NewEvent("Happened", {"t": 100}))
        last = store.append("a-1", NewEvent("Happened", {"t": 100}))
        following.wait_for(last, PATIENCE)
        read = [next(subscription).data for _ in range(2)]

    # then
    assert [spoiler.seen for spoiler in spoilers] == [[{"t": 100}] * 2] * 3
    assert read == [{"t": 100}] * 2


@pytest.mark.parametrize("face", FACES)
def test_each_attempt_of_a_forwarder_sends_the_event_as_it_is_stored(
    url: str, fresh_name: str, store: EventStore, face: str
) -> None:
    """C7. A transport may change the message that it is given, also what is nested in it, and fail."""
    # given
    store.append("a-1", NewEvent("Happened", {"items": [1, {"t": 100}]}))
    sent: list[Any] = []

    class Transport:
        def send(self, message: Any) -> None:
            sent.append(repr(message["data"]))
            message["data"]["items"][1].clear()
            message["data"]["items"].pop(0)
            if len(sent) < 3:
                raise ZeroDivisionError

    # when
    catch_up_on(face, url, fresh_name, Forwarder("out", transport=Transport(), on_error=THRICE))

    # then
    assert sent == [repr({"items": [1, {"t": 100}]})] * 3


@pytest.mark.parametrize("kind", ["reactor", "projection"])
def test_parked_events_are_tried_again_as_they_are_stored(store: EventStore, kind: str) -> None:
    """C7. The handler that failed had changed the payload; so had each retry that failed."""
    # given
    happened(store, "a-1")
    spoiler = Spoiler("data", times=3)
    policy = Retry(1, 0, then=ParkStream())
    one = reacting(spoiler, policy) if kind == "reactor" else Projection[Any]("effects", on_error=policy)
    if isinstance(one, Projection):
        one.when(lambda state, event: spoiler(event))

    # when
    catch_up(store, one)
    outcomes = [retry_parked(store, one)[0].left, retry_parked(store, one)[0].left]

    # then
    assert outcomes == [1, 0]
    assert spoiler.seen == [{"t": 100}] * 4


def test_key_functions_get_the_event_as_it_is_stored(store: EventStore) -> None:
    """C7. What the key function of one projection takes out of the data, that of another one finds."""
    # given
    keyed = [Projection[Any](f"keyed-{count}", key=reading("t"), initial=lambda: {"seen": []}) for count in range(3)]
    for projection in keyed:
        projection.when(lambda state, event: state["seen"].append(event.data.pop("t")))
    happened(store, "a-1", "a-2")

    # when
    catch_up(store, *keyed)

    # then
    assert [rows_of(store, one.name) for one in keyed] == [{"100": {"seen": [100, 100]}}] * 3
    assert state_at(store, keyed[0]) == {"100": {"seen": [100, 100]}}


def test_key_functions_get_the_event_as_it_is_stored_when_a_batch_is_planned_again() -> None:
    """C7. A batch that ran out of time is planned again, after handlers have changed its events."""
    # given
    projection = Projection("keyed", key=reading("t"))
    projection.when(lambda state, event: None)
    with memory_store() as store:
        happened(store, "a-1")
        events = list(store.read_all())

    # then
    for _ in range(2):
        [[(key, _, event)]] = Router([projection]).plan(events)
        assert key == "100"
        event.data.clear()


def test_scenarios_fold_events_as_they_are_stored() -> None:
    """D3. A scenario folds its events several times; neither handlers nor key functions see the time before."""
    # given
    taking = Projection[Any]("taking", key=reading("t"), initial=lambda: {"more": []})
    taking.when(lambda state, event: state["more"].append(event.data.pop("more")))
    with memory_store() as store:
        store.append("a-1", NewEvent("Happened", {"t": 1, "more": 2}))
        events = list(store.read_all())

    class Taker(Aggregate):
        taken = 0

        @handles("Happened")
        def happened(self, event: Any) -> None:
            self.taken += event.data.pop("more")

        def look(self) -> None:
            self.record("Happened", {"more": self.taken})

    # then
    Scenario(taking).given(*events).when(NewEvent("Happened", {"t": 1, "more": 3})).then({"more": [2, 3]}).then(
        {"more": [2, 3]}
    ).replay_twice()
    story = AggregateScenario(Taker).given(*events).when(lambda taker: taker.look())
    story.then_state({"taken": 4}).replay_twice()
    story.when(lambda taker: taker.look()).then_state({"taken": 8})


@pytest.mark.parametrize("looks", [0, 1, 5])
def test_a_payload_is_unpacked_once_for_each_attempt_that_looks(monkeypatch: pytest.MonkeyPatch, looks: int) -> None:
    """A handler that does not look at the data costs no decode; one that looks often costs one an attempt."""
    # given
    unpacked: list[Any] = []
    unpack = codec.unpack
    attempts = 0
    projection, reactor = Projection("rows"), Reactor("effects", on_error=THRICE)
    projection.when("Happened", lambda state, event: [event.data for _ in range(looks)] and None)

    @reactor.when("Happened")
    def react(event: RecordedEvent, key: str) -> None:
        nonlocal attempts
        attempts += 1
        for _ in range(looks):
            assert event.data == {"t": 100}
        if attempts < 3:
            raise ZeroDivisionError

    with memory_store() as store:
        happened(store, "a-1")
        store.append("a-1", noted())

        # when
        with monkeypatch.context() as patched:
            patched.setattr(codec, "unpack", lambda packed: unpacked.append(packed) or unpack(packed))
            catch_up(store, projection, reactor)

    # then
    assert attempts == 3
    assert len(unpacked) == (4 if looks else 0)
