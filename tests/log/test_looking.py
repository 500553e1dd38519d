"""Opening a store that is not there, without making it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from faces import FACES

from runner import AsyncEventStore, EventStore
from runner.effects import Execute, StoreOperation
from runner.errors import InvalidInput, LogCorrupt, StoreNotFound
from runner.format.keys import PartitionKeys


def command(*words: object) -> StoreOperation[object]:
    """The answer to one command."""
    [answer] = yield Execute([words])
    return answer


def look(face: str, url: str, name: str, partitions: int | None = None) -> int:
    """The number of partitions of a store that must exist."""
    if face == "sync":
        with EventStore.open(url, name=name, partitions=partitions, create=False) as store:
            return store.info.partitions

    async def opened() -> int:
        async with AsyncEventStore.open(url, name=name, partitions=partitions, create=False) as store:
            return (await store.info()).partitions

    return asyncio.run(opened())


@pytest.mark.parametrize("face", FACES)
def test_looking_makes_no_store(url: str, store: EventStore, face: str) -> None:
    """The error names the store, those that are there, and the one that was probably meant; no key was made."""
    # given
    EventStore.open(url, name="tickets").close()

    # when
    with pytest.raises(StoreNotFound) as caught:
        look(face, url, "tikets")

    # then
    error = caught.value
    assert (error.name, error.others[0]) == ("tikets", "tickets")
    assert store.info.name in error.others
    assert str(error).startswith(f"there is no store 'tikets' at {store.label}; there are: tickets")
    assert error.hint == "Did you mean 'tickets'? `runner init` makes a store."
    assert store.run(command("KEYS", "{tikets*")) == []


@pytest.mark.parametrize("face", FACES)
def test_a_store_that_is_there_is_opened(url: str, fresh_name: str, face: str) -> None:
    """With all its partitions."""
    with EventStore.open(url, name=fresh_name, partitions=3):
        assert look(face, url, fresh_name) == 3
        with pytest.raises(InvalidInput, match="has 3 partitions, not 2"):
            look(face, url, fresh_name, 2)


@pytest.mark.parametrize("face", FACES)
def test_a_directory_without_a_store_is_left_alone(tmp_path: Path, face: str) -> None:
    """No directory is made, and no server started; also where the directory holds something else."""
    # given
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "notes.txt").touch()

    # when
    for directory in ("project", "nowhere"):
        with pytest.raises(StoreNotFound, match=f"there is no store at embedded:.*{directory}"):
            look(face, f"embedded:{tmp_path / directory}", "es")

    # then
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["notes.txt", "project"]


def test_a_store_that_was_made_in_part_is_named(store: EventStore, url: str) -> None:
    """Its maker ended between two partitions. Opening it with create=True makes the rest."""
    # given
    with EventStore.open(url, name="halved", partitions=2) as other:
        store.run(command("DEL", other.info.keys[1].meta))

    # then
    with pytest.raises(InvalidInput, match="made in part only: its partition 1 is missing"):
        look("sync", url, "halved")
    EventStore.open(url, name="halved").close()
    assert look("sync", url, "halved") == 2


def test_a_log_without_its_info_is_damage(store: EventStore, url: str) -> None:
    """Not a store that is not there."""
    store.run(command("XADD", PartitionKeys("orphan", 0).log, "1-1", "d", ""))
    with pytest.raises(LogCorrupt, match="is gone"):
        look("sync", url, "orphan")
