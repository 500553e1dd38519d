"""Forwarding: each event of a category reaches a transport, at least once and in order within its stream."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from accounts import reached
from trouble import Trouble, envelope, rogue
from workbench import Workbench, parked_of, status_of

from runner import EventStore, HandlerFailed, InvalidInput, NewEvent, catch_up, follow
from runner.errors import InvalidName
from runner.format.json_lines import from_json
from runner.forwarding import CeleryTransport, Forwarder, Message
from runner.operations.retry_parked import retry_row
from runner.projections.plugins import load
from runner.projections.policies import ParkStream, Policy, Retry, Stop
from runner.testing import FakeTransport, memory_store

#: The policy where none is given.
STOP = Stop()


class Unsure(FakeTransport):
    """Fails for some positions, so many times each; ``after`` the message went out, or before."""

    def __init__(self, *bad: int, times: int = 10**9, after: bool = False) -> None:
        super().__init__()
        self.bad, self.times, self.after = set(bad), times, after
        self.calls: Counter[int] = Counter()

    def send(self, message: Message) -> None:
        position = message["position"]
        self.calls[position] += 1
        fails = position in self.bad and self.calls[position] <= self.times
        if not fails or self.after:
            super().send(message)
        if fails:
            raise Trouble(f"no luck with {position}")


def forwarder(transport: Any, policy: Policy = STOP, **more: Any) -> Forwarder:
    return Forwarder("out", **({"category": "book"} | more), transport=transport, on_error=policy)


def append(store: EventStore, *streams: str) -> None:
    for stream in streams:
        store.append(stream, NewEvent("Lent", {"reader": "Ada"}))


def numbers(transport: FakeTransport) -> dict[str, list[int]]:
    """The event numbers that were sent, by stream, in the order of sending."""
    found: dict[str, list[int]] = {}
    for message in transport.sent:
        found.setdefault(message["stream"], []).append(message["number"])
    return found


# -- what is sent -------------------------------------------------------------------------------


def test_a_message_says_what_happened_and_where(store: EventStore) -> None:
    """All of the event, in a form that JSON holds, and the key of its repetitions."""
    # given
    when = datetime(2026, 1, 31, 12, tzinfo=UTC)
    event = NewEvent("Lent", {"reader": "Ada"}, {"by": "desk"}, UUID(int=7), when)
    store.append("book-1", event)
    transport = FakeTransport()

    # when
    catch_up(store, forwarder(transport))

    # then
    assert transport.sent == [
        {
            "id": "00000000-0000-0000-0000-000000000007",
            "stream": "book-1",
            "number": 1,
            "position": 1,
            "partition": 0,
            "type": "Lent",
            "data": {"reader": "Ada"},
            "metadata": {"by": "desk"},
            "recorded_at": "2026-01-31T12:00:00+00:00",
            "idempotency_key": "out:book-1:00000000-0000-0000-0000-000000000007",
        }
    ]


def test_data_that_json_lacks_comes_back_equal(store: EventStore) -> None:
    """Whoever receives it reads it with from_json."""
    data = {"price": Decimal("1.50"), "due": date(2026, 2, 1), "tags": ("a", b"\xff"), 5: None, "copy": UUID(int=1)}
    store.append("book-1", NewEvent("Lent", data, (1, 2)))
    transport = FakeTransport()
    catch_up(store, forwarder(transport))
    [message] = transport.sent
    assert (from_json(message["data"]), from_json(message["metadata"])) == (data, (1, 2))


def test_every_type_of_the_category_is_sent_and_nothing_else(store: EventStore) -> None:
    """Other categories pass by; without a category everything is sent; the next run sends only what is new."""
    # given
    append(store, "book-1", "reader-1", "book", "bookshop-1")
    store.append("book-2", NewEvent("Returned"))
    some, everything = FakeTransport(), FakeTransport()

    # when
    for _ in range(2):
        catch_up(store, forwarder(some), Forwarder("all", transport=everything))

    # then
    assert numbers(some) == {"book-1": [1], "book": [1], "book-2": [1]}
    assert sorted(message["position"] for message in everything.sent) == [1, 2, 3, 4, 5]
    append(store, "book-1")
    catch_up(store, forwarder(some))
    assert numbers(some)["book-1"] == [1, 2]


def test_from_the_end_only_what_is_appended_later_is_sent(store: EventStore) -> None:
    """A forwarder that is added to an old store need not flood the other system."""
    append(store, "book-1", "book-2")
    transport = FakeTransport()
    catch_up(store, forwarder(transport, start="end"))
    append(store, "book-1")
    catch_up(store, forwarder(transport, start="end"))
    assert numbers(transport) == {"book-1": [2]}


# -- at least once, in order ----------------------------------------------------------------------


def test_each_stream_is_sent_in_order_however_many_at_a_time(store: EventStore) -> None:
    """Streams go side by side; within one, every number follows the one before it."""
    append(store, *(f"book-{place}" for _ in range(20) for place in range(10)))
    transport = FakeTransport()
    catch_up(store, forwarder(transport, at_a_time=8))
    assert numbers(transport) == {f"book-{place}": list(range(1, 21)) for place in range(10)}


def test_what_is_appended_is_sent_while_it_is_followed(store: EventStore) -> None:
    """No further call is needed."""
    transport = FakeTransport()
    with follow(store, forwarder(transport)) as following:
        append(store, "book-1")
        following.wait_for(store.append("book-1", NewEvent("Returned")), 10)
    assert numbers(transport) == {"book-1": [1, 2]}


def test_a_message_that_may_have_gone_out_is_sent_again_under_the_same_key(store: EventStore) -> None:
    """The transport took it and then failed: nobody knows, so it comes twice, and can be told from another event."""
    # given
    append(store, "book-1", "book-1")
    transport = Unsure(1, times=1, after=True)

    # when
    Workbench(store, forwarder(transport, Retry(times=1))).run()

    # then
    assert numbers(transport) == {"book-1": [1, 1, 2]}
    first, again, other = transport.sent
    assert first == again
    assert other["idempotency_key"] != first["idempotency_key"]


def test_the_checkpoint_stays_before_what_could_not_be_sent(store: EventStore) -> None:
    """It stops there, and a forwarder with a better transport goes on with that event."""
    # given
    append(store, "book-1", "book-1", "book-1")

    # when
    with pytest.raises(HandlerFailed, match="no luck with 2"):
        catch_up(store, forwarder(Unsure(2)))

    # then
    assert status_of(store, "out").position == 1
    transport = FakeTransport()
    catch_up(store, forwarder(transport))
    assert numbers(transport) == {"book-1": [2, 3]}


def test_a_stream_is_parked_in_order_and_sent_later(store: EventStore) -> None:
    """The failing event and those behind it wait; other streams go on; a retry sends them in order."""
    # given
    append(store, "book-1", "book-2", "book-1", "book-2")
    transport = Unsure(1)

    # when
    Workbench(store, forwarder(transport, Retry(times=2, then=ParkStream()))).run()

    # then
    assert transport.calls[1] == 3
    assert numbers(transport) == {"book-2": [1, 2]}
    assert [aside.position for aside in parked_of(store, "out")] == [1, 3]
    better = FakeTransport()
    outcome = store.run(retry_row(store.info.keys[0], forwarder(better), "book-1", store.driver.clock, dry_run=False))
    assert (outcome.freed, numbers(better)) == (2, {"book-1": [1, 2]})


def test_an_event_that_cannot_be_decoded_is_an_event_that_failed(store: EventStore) -> None:
    """It is met by the policy, and never sent in part."""
    append(store, "book-1")
    rogue(store, 2, envelope("book-2", "Lent"))
    transport = FakeTransport()
    Workbench(store, forwarder(transport, ParkStream())).run()
    assert numbers(transport) == {"book-1": [1]}
    assert [aside.position for aside in parked_of(store, "out")] == [2]


def test_a_transport_may_be_asynchronous(store: EventStore) -> None:
    """What `send` returned is waited for before the next event of the stream, and before the checkpoint."""

    class Slow(FakeTransport):
        async def send(self, message: Message) -> None:  # type: ignore[override]
            await asyncio.sleep(0)
            super().send(message)

    append(store, "book-1", "book-1", "book-1")
    transport = Slow()
    catch_up(store, forwarder(transport))
    assert numbers(transport) == {"book-1": [1, 2, 3]}


# -- how it is made -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Forwarder("out", transport=object()), InvalidInput),  # type: ignore[arg-type]
        (lambda: Forwarder("out", transport=FakeTransport), InvalidInput),  # type: ignore[arg-type]
        (lambda: Forwarder("out", category="a-b", transport=FakeTransport()), InvalidName),
        (lambda: Forwarder("o u t", transport=FakeTransport()), InvalidName),
        (lambda: Forwarder("out", transport=FakeTransport(), at_a_time=0), InvalidInput),
        (lambda: CeleryTransport(object(), task="a"), InvalidInput),
        (lambda: CeleryTransport({}, task=""), InvalidInput),
        (lambda: CeleryTransport({}, task=print), InvalidInput),  # type: ignore[arg-type]
    ],
)
def test_a_forwarder_that_is_not_well_made_is_refused(make: Any, error: type[Exception]) -> None:
    """The mistake is told when it is made."""
    with pytest.raises(error):
        make()


def test_a_file_with_a_forwarder_is_a_plug_in(tmp_path: Path) -> None:
    """`runner run` takes it as any other reactor."""
    file = tmp_path / "out.py"
    file.write_text(
        "from runner.forwarding import Forwarder\nfrom runner.testing import FakeTransport\n"
        "out = Forwarder('out', category='book', transport=FakeTransport())\n"
    )
    [plugin] = load([str(file)], with_entry_points=False)
    assert (plugin.projection.name, plugin.projection.types, plugin.projection.kind) == ("out", ("*",), "reactor")


# -- Celery -------------------------------------------------------------------------------------


class FakeApp:
    """What of a Celery app is used."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def send_task(self, name: str, **options: Any) -> None:
        self.calls.append((name, options))


def test_a_task_is_sent_by_name_with_an_id_that_is_the_same_again() -> None:
    """One argument, the options that were given, no result; the id is short whatever the stream is called."""
    with memory_store() as store:
        # given
        append(store, "book-" + "x" * 500, "book-2")
        app = FakeApp()

        # when: two runs of which the first leaves no checkpoint
        for _ in range(2):
            catch_up(store, forwarder(CeleryTransport(app, task="library.event", queue="books"), at_a_time=1))
            store.driver.execute([("DEL", *store.info.keys[0].of_build("out", "1"))])

        # then
        assert {name for name, _ in app.calls} == {"library.event"}
        first, second, again, _ = [options for _, options in app.calls]
        assert first == again
        assert (first["queue"], first["ignore_result"]) == ("books", True)
        assert first["args"][0]["number"] == 1
        assert json.loads(json.dumps(first["args"])) == first["args"]
        assert first["task_id"] != second["task_id"]
        assert len(first["task_id"]) == 36


def test_without_celery_an_app_is_not_made_and_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else of the module needs it."""
    monkeypatch.setitem(sys.modules, "celery", None)
    with pytest.raises(InvalidInput, match="celery is not installed") as refused:
        CeleryTransport({"broker_url": "memory://"}, task="a")
    assert "redis-streams-runner[celery]" in refused.value.hint
    CeleryTransport(FakeApp(), task="a")


def test_a_celery_worker_handles_what_was_forwarded() -> None:
    """Through a real app, broker and worker: every event once, in order, with its key, by the name of the task."""
    celery = pytest.importorskip("celery", reason="celery is not installed; the extra `test` brings it")
    from celery.contrib.testing.worker import start_worker

    # given: a worker that knows nothing of the forwarder, and a forwarder that knows the broker's address
    worker_app = celery.Celery("library", broker="memory://", set_as_current=False)
    handled, threads = list[tuple[Message, str]](), set[int]()

    @worker_app.task(name="library.event", bind=True, shared=False)
    def event_happened(task: Any, message: Message) -> None:
        threads.add(threading.get_ident())
        handled.append((message, task.request.id))

    transport = CeleryTransport({"broker_url": "memory://"}, task="library.event", queue="books")

    # when
    try:
        with memory_store() as store, start_worker(worker_app, perform_ping_check=False, queues=["books"]):
            append(store, *["book-1", "book-2"] * 5)
            keys = {f"out:{event.stream}:{event.id}" for event in store.read_all()}
            catch_up(store, forwarder(transport))
            assert reached(lambda: len(handled) >= 10)
    finally:
        for app in (worker_app, transport.app):
            app.close()

    # then
    expected: dict[str, list[int]] = {"book-1": [1, 2, 3, 4, 5], "book-2": [1, 2, 3, 4, 5]}
    seen: dict[str, list[int]] = {}
    for message, _ in handled:
        seen.setdefault(message["stream"], []).append(message["number"])
    assert seen == expected
    assert len({task_id for _, task_id in handled}) == 10
    assert {message["idempotency_key"] for message, _ in handled} == keys
    assert threading.get_ident() not in threads
