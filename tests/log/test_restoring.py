"""The script that puts events into their places: what it refuses by itself, whoever has looked before."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pytest

from runner import ANY, EventStore, InvalidInput, NewEvent
from runner.effects import StoreOperation
from runner.errors import StoreReplaced
from runner.format.events import pack_event
from runner.log.extent import Trimmed
from runner.log.restoring import OutOfPlace, Placed, Restoring
from runner.operations import verify


def placed(position: int, number: int, stream: str = "account-1") -> Placed:
    event = NewEvent("Deposited", position, id=UUID(int=position))
    return Placed(position, number, stream, pack_event(stream, event, 1))


def begun(store: EventStore, floor: int = 0, restore_id: str = "a") -> Restoring:
    restoring = Restoring(store.info, store.info.keys[0], restore_id)
    store.run(restoring.begin(floor))
    return restoring


def test_events_come_into_their_places_and_steps_may_be_repeated(store: EventStore) -> None:
    """Above a floor, beside a stream that has lost all its events; what is there already is passed over."""
    # given
    restoring = begun(store, 5)
    events = [placed(6, 3), placed(7, 1, "account-2"), placed(8, 4)]

    # when
    for _ in range(2):
        store.run(restoring.put_trimmed_streams([Trimmed("account-3", 3, 5)]))
        store.run(restoring.put_bookmarks({"feed": "7 abc"}))
        store.run(restoring.put_events(events[:2]))
    store.run(restoring.put_events(events))
    for _ in range(2):
        store.run(restoring.end(8, None))

    # then
    assert restoring.done
    assert [store.version(f"account-{number}") for number in (1, 2, 3)] == [4, 1, 3]
    assert [(event.position, event.number) for event in store.read_all(after=5)] == [(6, 3), (7, 1), (8, 4)]
    assert store.bookmark("feed") == 7
    assert verify(store).findings == ()
    assert store.append("account-3", NewEvent("Deposited"), 3).position == 9


def test_a_recent_id_of_a_trimmed_event_is_recognised_unless_later_events_are_there(store: EventStore) -> None:
    """Ids come before events: afterwards their turn among the recent ones might be over."""
    # given
    restoring = begun(store, 2)
    late = UUID(int=77)

    # when
    store.run(restoring.put_trimmed_recent([("account-1", UUID(int=1).bytes, "1-1")]))
    store.run(restoring.put_events([placed(3, 3)]))
    store.run(restoring.put_trimmed_recent([("account-1", late.bytes, "2-2")]))
    store.run(restoring.end(3, None))

    # then
    assert store.append("account-1", NewEvent("Deposited", id=UUID(int=1)), ANY).duplicate
    assert not store.append("account-1", NewEvent("Deposited", id=late), ANY).duplicate


REFUSED: dict[str, tuple[Callable[[EventStore], StoreOperation[None]], str]] = {
    "a step before the first": (
        lambda store: Restoring(store.info, store.info.keys[0], "b").put_events([placed(1, 1)]),
        "is not empty",
    ),
    "an end that is too early": (lambda store: begun(store).end(1, None), "ends at position 0, and should end at 1"),
    "an end that is too late": (lambda store: begun(store, 4).end(3, None), "ends at position 4, and should end at 3"),
    "another restore": (
        lambda store: (begun(store), Restoring(store.info, store.info.keys[0], "b"))[1].begin(0),
        "holds a part of another restore",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_step_out_of_order_is_refused(store: EventStore, what: str) -> None:
    """And changes nothing."""
    make, text = REFUSED[what]
    with pytest.raises(InvalidInput, match=text):
        store.run(make(store))
    assert store.last_position() in (0, 4)


@pytest.mark.parametrize("use", ["an event", "a bookmark"])
def test_a_partition_that_was_used_meanwhile_is_refused(store: EventStore, use: str) -> None:
    """Between the look at the store and the first step; the other writer goes on."""
    # given
    restoring = Restoring(store.info, store.info.keys[0], "a")
    if use == "an event":
        store.append("account-1", NewEvent("Deposited"))
    else:
        store.append_many([], bookmark=("feed", 1))

    # when
    with pytest.raises(InvalidInput, match="is not empty"):
        store.run(restoring.begin(0))

    # then
    assert store.append("account-9", NewEvent("Deposited")).version == 1


@pytest.mark.parametrize(
    ("events", "which", "text"),
    [
        ([placed(2, 1)], 0, "position 2 follows position 0"),
        ([placed(1, 1), placed(3, 2)], 1, "position 3 follows position 1"),
        ([placed(1, 1), placed(2, 3)], 1, "event 3 of stream 'account-1' follows its event 1"),
        ([placed(1, 1), placed(2, 1)], 1, "event 1 of stream 'account-1' follows its event 1"),
        ([placed(1, 1), placed(2, 2, "account-2")], 1, "stream 'account-2' begins with event 2, and fewer were"),
    ],
)
def test_an_event_that_is_not_the_next_one_is_named_and_nothing_is_written(
    store: EventStore, events: list[Placed], which: int, text: str
) -> None:
    """The whole run of the script is checked before its first write."""
    restoring = begun(store)
    with pytest.raises(OutOfPlace, match=text) as refused:
        store.run(restoring.put_events(events))
    assert refused.value.event == which
    assert store.last_position() == 0


def test_a_store_that_was_replaced_meanwhile_is_not_filled(store: EventStore) -> None:
    """Its epoch is another one."""
    restoring = begun(store)
    keys = store.info.keys[0]
    store.driver.execute([("HSET", keys.meta, "epoch", "f" * 16)])
    with pytest.raises(StoreReplaced):
        store.run(restoring.put_events([placed(1, 1)]))
    assert store.last_position() == 0
