"""Builds that are kept for a rollback: damage in them harms nothing else, and a rollback to it is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from accounts import balances, deposited, rows_of
from command_line import run
from faces import FACES

from runner import AsyncEventStore, EventStore, catch_up, operations
from runner.errors import DataError, RunnerError
from runner.format.keys import PartitionKeys
from runner.progress.builds import read_builds
from runner.testing import TEST_SETTINGS

#: How the build 1 is damaged, and what is said of it.
DAMAGES: dict[str, tuple[Callable[[PartitionKeys], tuple[Any, ...]], str]] = {
    "a row": (lambda keys: ("HSET", keys.view("balances", "1"), "account-1", b"\xc1junk!"), "row 'account-1' of .* is"),
    "a row less": (lambda keys: ("HDEL", keys.view("balances", "1"), "account-1"), "should have 2 rows and has 1"),
    "the checkpoint": (lambda keys: ("HSET", keys.build("balances", "1"), "id", b"x" * 16), "the event there is"),
}

damages = pytest.mark.parametrize(("damage", "said"), DAMAGES.values(), ids=list(DAMAGES))


@pytest.fixture
def rebuilt(store: EventStore) -> EventStore:
    """Two accounts; the build 1.2 of their balances is live, and the build 1 is kept."""
    for number in (1, 2):
        store.append(f"account-{number}", deposited(number))
    catch_up(store, balances())
    operations.rebuild(store, balances())
    return store


@damages
def test_verify_tells_of_a_kept_build_and_takes_it_for_no_fault(
    rebuilt: EventStore, damage: Callable[[PartitionKeys], tuple[Any, ...]], said: str
) -> None:
    """The finding says what the build is kept for; the store is sound. In the live build the same is a fault."""
    keys = rebuilt.info.keys[0]
    rebuilt.driver.execute([damage(keys)])

    result = operations.verify(rebuilt)

    [finding] = result.findings
    assert result.sound
    assert finding.only_kept
    with pytest.raises(DataError, match=rf"{said}.*; this build is kept only for a rollback"):
        raise DataError(finding.what)

    rebuilt.driver.execute([("HSET", keys.projection("balances"), "build", "1", "previous", "1.2")])
    result = operations.verify(rebuilt)
    assert not result.sound
    assert not result.findings[0].only_kept


@pytest.mark.parametrize("face", FACES)
@damages
def test_a_rollback_to_a_damaged_build_is_refused(
    url: str, fresh_name: str, damage: Callable[[PartitionKeys], tuple[Any, ...]], said: str, face: str
) -> None:
    """Nothing is changed; the error names the damage and the way out. A rebuild makes a build that is whole."""
    # given
    with EventStore.open(url, name=fresh_name, settings=TEST_SETTINGS) as store:
        store.append("account-1", deposited(1))
        store.append("account-2", deposited(2))
        catch_up(store, balances())
        operations.rebuild(store, balances())
        store.driver.execute([damage(store.info.keys[0])])

        def roll_back() -> Any:
            if face == "sync":
                return operations.rollback(store, "balances")

            async def on_loop() -> Any:
                async with AsyncEventStore.open(url, name=fresh_name, settings=TEST_SETTINGS) as other:
                    return await operations.rollback(other, "balances")

            return asyncio.run(on_loop())

        # when
        refused = rf"build '1' of .* is damaged, and nothing was rolled back: .*{said}"
        with pytest.raises(RunnerError, match=refused) as no:
            roll_back()

        # then
        assert "runner rebuild balances" in no.value.hint
        assert store.run(read_builds(store.info.keys[0], "balances")).live == "1.2"
        operations.rebuild(store, balances())
        [result] = operations.rollback(store, "balances")
        assert (result.live, result.before) == ("1.2", "1.3")
        assert set(rows_of(store)) == {"account-1", "account-2"}


#: What one partition of two lacks for a rollback, and what is said of it.
LACKS: dict[str, tuple[Callable[[PartitionKeys], list[tuple[Any, ...]]], str, str]] = {
    "rows": (
        lambda keys: [("DEL", keys.view("balances", "1"))],
        r"build '1' of projection 'balances' \(partition 1\) is damaged",
        "runner rebuild balances",
    ),
    "the build": (
        lambda keys: [("HDEL", keys.projection("balances"), "previous")],
        r"projection 'balances' \(partition 1\) has no build before '1.2'",
        "Rebuild the view with the older code",
    ),
    "the switch": (
        lambda keys: [
            ("HSET", keys.projection("balances"), "build", "1", "candidate", "1.2"),
            ("HDEL", keys.projection("balances"), "previous"),
        ],
        r"projection 'balances' \(partition 1\) has no build before '1'",
        "runner rollback balances --to 1",
    ),
    "events": (lambda keys: [("HSET", keys.meta, "floor", "9")], "trimmed up to position 9", "Keep the existing view"),
}


@pytest.mark.parametrize(("lack", "said", "way_out"), LACKS.values(), ids=list(LACKS))
def test_a_rollback_that_is_refused_in_one_partition_is_made_in_none(
    fresh_name: str, lack: Callable[[PartitionKeys], list[tuple[Any, ...]]], said: str, way_out: str
) -> None:
    """All partitions are looked at before the first step."""
    with EventStore.open(f"memory:{fresh_name}", partitions=2, settings=TEST_SETTINGS) as store:
        for number in range(8):
            store.append(f"account-{number}", deposited(1))
        catch_up(store, balances())
        operations.rebuild(store, balances())
        keys = store.info.keys[1]
        store.driver.execute(lack(keys))
        before = [store.run(read_builds(keys, "balances")).live for keys in store.info.keys]

        with pytest.raises(RunnerError, match=said) as refused:
            operations.rollback(store, "balances")

        assert way_out in refused.value.hint
        assert [store.run(read_builds(keys, "balances")).live for keys in store.info.keys] == before


def test_the_commands_say_it(fresh_name: str) -> None:
    """`verify` ends with 0, `rollback` with 1 and a hint."""
    url = f"memory:{fresh_name}"
    with EventStore.open(url, settings=TEST_SETTINGS) as store:
        store.append("account-1", deposited(1))
        catch_up(store, balances())
        operations.rebuild(store, balances())
        store.driver.execute([("HSET", store.info.keys[0].view("balances", "1"), "account-1", b"\xc1junk!")])

        verified, back = run("verify", store=url), run("rollback", "balances", store=url)

    assert verified.exit_code == 0
    assert "1 event, nothing wrong, but 1 finding in builds that are kept only for a rollback" in verified.output
    assert back.exit_code == 1
    assert "is damaged, and nothing was rolled back" in back.stderr
    assert "Hint: Make the view again" in back.stderr
