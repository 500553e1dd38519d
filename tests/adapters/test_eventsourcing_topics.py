"""Topics in the data of eventsourcing: whoever appends events does not choose what an application imports."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import JSONTranscoder, Mapper, StoredEvent
from eventsourcing.utils import TopicError, clear_topic_cache, get_topic, register_topic

from runner import EventStore, NewEvent

TIME = {"_type_": "datetime_iso", "_data_": "2026-01-31T12:00:00+00:00"}


class Dog(Aggregate):
    """An aggregate whose events are forged here."""

    class Named(Aggregate.Event):
        name: str

    @event(Named)
    def name_it(self, name: str) -> None:
        self.name = name


class PlainEvent:
    """An event of a class that has nothing of the library's, as its mappers allow."""

    originator_id: UUID
    originator_version: int
    timestamp: datetime


class Kennel(Application[UUID]):
    """An application that reads what was forged."""

    is_snapshotting_enabled = True


class Store:
    """An application, and somebody who appends to its store with another client."""

    def __init__(self, url: str, name: str) -> None:
        self.env = {"PERSISTENCE_MODULE": "runner.adapters.eventsourcing", "RUNNER_STORE": url, "RUNNER_NAME": name}
        self.log = EventStore.open(url, name=name)
        self.name = name
        self.kennel = Kennel(env=self.env)

    def forge(self, topic: str, **state: object) -> UUID:
        """An originator with one event."""
        originator = uuid4()
        text = json.dumps({"timestamp": TIME, **state}).encode()
        self.log.append(f"{self.name.replace('-', '_')}-{originator}", NewEvent(topic, text))
        return originator

    def read(self, originator: UUID) -> object:
        return self.kennel.repository.get(originator)

    def restarted(self, topics: str) -> None:
        """The application starts anew with the setting."""
        clear_topic_cache()
        self.kennel = Kennel(env={**self.env, "RUNNER_TOPICS": topics})


@pytest.fixture
def store(url: str, fresh_name: str) -> Iterator[Store]:
    """What was registered in other tests is forgotten, as in a new process."""
    clear_topic_cache()
    made = Store(url, fresh_name)
    yield made
    made.kennel.close()
    made.log.close()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module that could be imported, and was not."""
    (tmp_path / "kennel_probe.py").write_text(
        "from eventsourcing.domain import Aggregate\nclass Cat(Aggregate):\n    class Purred(Aggregate.Event): pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "kennel_probe"
    sys.modules.pop("kennel_probe", None)


@pytest.mark.parametrize("topic", ["kennel_probe:Cat.Purred", "kennel_probe", "kennel_probe:"])
def test_no_event_makes_an_application_import_a_module(store: Store, module: str, topic: str) -> None:
    """The module is not imported, and the error names the topic and the setting."""
    # given
    originator = store.forge(topic)

    # when
    with pytest.raises(TopicError) as caught:
        store.read(originator)

    # then
    assert module not in sys.modules
    assert repr(topic) in str(caught.value)
    assert "RUNNER_TOPICS" in str(caught.value)


@pytest.mark.parametrize(
    "topic",
    ["subprocess:Popen", "os:system", "tempfile:_TemporaryFileCloser", "builtins:dict", "sys", ":", "no\x1bdot"],
)
def test_no_event_makes_an_object_of_a_class_that_is_none_of_events(store: Store, topic: str) -> None:
    """Modules that are imported hold much more than events; objects of some classes do harm when they are forgotten."""
    if "\x1b" in topic:
        mapper = store.kennel.mapper
        with pytest.raises(TopicError, match=r"no\\\\x1bdot"):
            mapper.to_domain_event(StoredEvent(uuid4(), 1, topic, b"{}"))
        return
    with pytest.raises(TopicError, match="is not resolved"):
        store.read(store.forge(topic))


@pytest.mark.parametrize("topic", ["kennel_probe:Cat", "subprocess:Popen", 7, None, f"{__name__}:Dog.Named"])
def test_no_event_that_begins_an_aggregate_names_another_class(store: Store, module: str, topic: object) -> None:
    """The class of the aggregate stands in the event's state."""
    # given
    originator = store.forge(get_topic(Dog.Created), originator_topic=topic)

    # when
    with pytest.raises(TopicError):
        store.read(originator)

    # then
    assert module not in sys.modules


@pytest.mark.parametrize("topic", ["kennel_probe:Cat", "subprocess:Popen"])
def test_no_snapshot_names_another_class(store: Store, module: str, topic: str) -> None:
    """The class of the aggregate stands in the snapshot's state."""
    # given
    dog = Dog()
    store.kennel.save(dog)
    assert store.kennel.snapshots is not None
    snapshot = Aggregate.Snapshot.take(dog)
    forged = store.kennel.mapper.to_stored_event(snapshot)
    state = {**json.loads(forged.state), "topic": topic}
    store.kennel.snapshots.recorder.insert_events(
        [StoredEvent(dog.id, 1, forged.topic, json.dumps(state).encode())]
    )  # fmt: skip

    # when
    with pytest.raises(TopicError):
        store.read(dog.id)

    # then
    assert module not in sys.modules


def test_events_of_modules_that_are_imported_are_read(store: Store) -> None:
    """Without a setting, also in a process that recorded none of them; and those of classes of their own."""
    # given
    dog = Dog()
    dog.name_it("Fido")
    store.kennel.save(dog)
    store.kennel.take_snapshot(dog.id)
    clear_topic_cache()

    # when
    store.kennel = Kennel(env=store.env)
    found = store.read(dog.id)

    # then
    assert isinstance(found, Dog)
    assert found.name == "Fido"
    plain = store.kennel.mapper.to_domain_event(StoredEvent(uuid4(), 1, get_topic(PlainEvent), b"{}"))
    assert isinstance(plain, PlainEvent)


def test_the_setting_names_what_may_be_imported(store: Store, module: str) -> None:
    """Its modules are imported when an event names them; all others are refused, those that are imported too."""
    # given
    dog = Dog()
    store.kennel.save(dog)
    store.restarted(f"elsewhere {module}")
    mapper = store.kennel.mapper

    # when
    found = mapper.to_domain_event(StoredEvent(uuid4(), 2, f"{module}:Cat.Purred", b"{}"))

    # then
    assert type(found).__qualname__ == "Cat.Purred"
    with pytest.raises(TopicError, match="none of RUNNER_TOPICS"):
        store.read(dog.id)
    with pytest.raises(TopicError, match="none of RUNNER_TOPICS"):
        mapper.to_domain_event(StoredEvent(uuid4(), 2, f"{module}s:Cat.Purred", b"{}"))


def test_what_the_application_registered_is_allowed(store: Store) -> None:
    """A class that was renamed keeps its old topic, of a module that is gone."""
    # given
    store.restarted("elsewhere")
    register_topic("old_kennel:Hound", Dog)
    register_topic("old_kennel:Hound.Named", Dog.Named)

    # when
    found = store.kennel.mapper.to_domain_event(StoredEvent(uuid4(), 2, "old_kennel:Hound.Named", b"{}"))

    # then
    assert isinstance(found, Dog.Named)


def test_a_mapper_of_the_applications_own_is_checked_as_well(store: Store, module: str) -> None:
    """It is asked after the topic was found to be allowed."""

    class OwnMapper(Mapper[UUID]):
        asked = 0

        def to_domain_event(self, stored_event: StoredEvent) -> object:  # type: ignore[override]
            OwnMapper.asked += 1
            return super().to_domain_event(stored_event)

    mapper = store.kennel.factory.mapper(JSONTranscoder(), OwnMapper)
    with pytest.raises(TopicError):
        mapper.to_domain_event(StoredEvent(uuid4(), 2, f"{module}:Cat.Purred", b"{}"))
    assert OwnMapper.asked == 0
    mapper.to_domain_event(StoredEvent(uuid4(), 2, get_topic(Dog.Named), b"{}"))
    assert OwnMapper.asked == 1
