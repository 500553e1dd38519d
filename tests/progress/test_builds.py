"""Builds: who changes them finds them as it has read them, or changes nothing and reads them again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from accounts import balances
from disturbing import command_of, disturbed
from trouble import three_accounts

from runner import CommitRefused, EventStore, catch_up
from runner.effects import StoreOperation
from runner.errors import BuildReplaced, LogTrimmed, StoreReplaced
from runner.operations import rebuild, trim
from runner.progress.builds import Builds, Lags, RollbackResult, propose, read_builds, reset, rollback, switch
from runner.progress.checkpoint import Claim
from runner.progress.lease import ClaimRequest, HeldByOther, RunnerIdentity, acquire, claim_again

NAME = "balances"


def builds_of(store: EventStore) -> Builds:
    return store.run(read_builds(store.info.keys[0], NAME))


def catch_up_as(store: EventStore, build: str) -> None:
    """Catch up with code of a version; it becomes the live one."""
    projection = balances()
    projection.build = build
    catch_up(store, projection)


def claim_as(store: EventStore, build: str, *, owner: str = "a") -> StoreOperation[Any]:
    """Claim the build that code of a version drives, with a lease that no test waits out."""
    return acquire(RunnerIdentity(owner, store.info, 60.0), ClaimRequest(store.info.keys[0], NAME, build))


def held_as(store: EventStore, build: str) -> Claim:
    """A claim that is expected to be granted."""
    held = store.run(claim_as(store, build))
    assert isinstance(held, Claim)
    return held


def everything(store: EventStore) -> dict[bytes, Any]:
    """What every hash of the store holds."""
    keys = sorted(key for key in store.driver.execute([("KEYS", "*")])[0] if store.info.name.encode() in key)
    kinds = store.driver.execute([("TYPE", key) for key in keys])
    hashes = [key for key, kind in zip(keys, kinds, strict=True) if kind == b"hash"]
    return dict(zip(hashes, store.driver.execute([("HGETALL", key) for key in hashes]), strict=True))


# -- two who change builds at once ----------------------------------------------------------------


def test_of_two_rollbacks_at_once_one_exchanges_the_builds(store: EventStore) -> None:
    """The one that was overtaken reads the builds again, and finds the rollback done."""
    # given
    three_accounts(store)
    catch_up_as(store, "1")
    catch_up_as(store, "2")
    keys, others = store.info.keys[0], list[RollbackResult]()

    # when
    own = store.work(
        disturbed(rollback(keys, NAME), "progress/rollback", lambda: others.append(store.run(rollback(keys, NAME))))
    )

    # then
    assert [(each.before, each.live) for each in (*others, own)] == [("2", "1"), (None, "1")]
    assert (builds_of(store).live, builds_of(store).previous) == ("1", "2")


def test_a_rollback_that_a_switch_overtook_goes_back_to_the_build_before_that(store: EventStore) -> None:
    """The build that it had read as the previous one is gone by then, and does not become live."""
    # given
    three_accounts(store)
    catch_up_as(store, "1")
    catch_up_as(store, "2")

    # when
    own = store.work(
        disturbed(rollback(store.info.keys[0], NAME), "progress/rollback", lambda: catch_up_as(store, "3"))
    )

    # then
    assert (own.before, own.live, own.position) == ("3", "2", 6)
    assert builds_of(store).previous == "3"


def test_a_rollback_whose_previous_build_alone_is_still_that_one_goes_back_from_the_live_one(store: EventStore) -> None:
    """The build that it had read as the live one is gone, and does not become the previous one."""
    # given
    three_accounts(store)
    catch_up_as(store, "1")
    catch_up_as(store, "2")
    keys, again = store.info.keys[0], balances()
    again.build = "2"

    def roll_back_and_rebuild() -> None:
        store.run(rollback(keys, NAME))
        rebuild(store, again)

    # when
    own = store.work(disturbed(rollback(keys, NAME), "progress/rollback", roll_back_and_rebuild))

    # then
    assert (own.before, own.live) == ("2.3", "1")
    assert (builds_of(store).live, builds_of(store).previous) == ("1", "2.3")


def test_a_rollback_whose_live_build_alone_is_still_that_one_does_nothing(store: EventStore) -> None:
    """Newer code came and was rolled back: the build that it had read as the previous one is gone."""
    # given
    three_accounts(store)
    catch_up_as(store, "1")
    catch_up_as(store, "2")
    keys = store.info.keys[0]

    def switch_and_roll_back() -> None:
        catch_up_as(store, "3")
        store.run(rollback(keys, NAME))

    # when
    own = store.work(disturbed(rollback(keys, NAME), "progress/rollback", switch_and_roll_back))

    # then
    assert (own.before, own.live) == (None, "2")
    assert (builds_of(store).live, builds_of(store).previous) == ("2", "3")


def test_a_rollback_marks_the_code_that_it_replaces_and_no_other(store: EventStore) -> None:
    """The code that is live again has no mark: a runner of it may claim the build."""
    # given
    three_accounts(store)
    catch_up_as(store, "1")
    catch_up_as(store, "2")
    assert builds_of(store).gone == {"1"}

    # when
    store.run(rollback(store.info.keys[0], NAME))

    # then
    assert builds_of(store).gone == {"2"}


# -- outdated names -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "operation"),
    [
        ("progress/rollback", lambda store: rollback(store.info.keys[0], NAME)),
        ("progress/reset", lambda store: reset(store.info.keys[0], NAME)),
        ("progress/propose", lambda store: propose(store.info.keys[0], NAME, builds_of(store), "9")),
        ("progress/switch", lambda store: switch(store.info.keys[0], NAME, held_as(store, "9"))),
    ],
)
def test_a_script_that_is_called_with_outdated_builds_changes_nothing(
    store: EventStore, script: str, operation: Callable[[EventStore], StoreOperation[Any]]
) -> None:
    """Other code has become live since the builds were read: the reply says so, and every key is as it was."""
    # given
    three_accounts(store)
    catch_up_as(store, "1")
    catch_up_as(store, "2")
    command = command_of(store, operation(store), script)
    catch_up_as(store, "3")
    before = everything(store)

    # when
    reply = store.driver.execute([command])

    # then
    assert reply == [[b"changed"]]
    assert everything(store) == before


# -- a switch that meets another ------------------------------------------------------------------


def test_a_switch_to_a_candidate_that_was_replaced_is_refused(store: EventStore) -> None:
    """Another version of the code has begun a candidate of its own: the first candidate is gone, and says so."""
    # given
    three_accounts(store)
    catch_up_as(store, "1")
    keys, held = store.info.keys[0], held_as(store, "9")

    # when
    with pytest.raises(CommitRefused, match="'9' is not the candidate any more"):
        store.work(
            disturbed(
                switch(keys, NAME, held),
                "progress/switch",
                lambda: store.run(propose(keys, NAME, builds_of(store), "8")),
            )
        )

    # then
    assert (builds_of(store).live, builds_of(store).candidate) == ("1", "8")


def test_a_switch_that_a_rollback_overtook_is_made_from_the_builds_of_now(store: EventStore) -> None:
    """The candidate is compared with the build that is live by then, and that build is kept for a rollback."""
    # given: a candidate that has applied nothing
    three_accounts(store)
    catch_up_as(store, "1")
    catch_up_as(store, "2")
    keys, held = store.info.keys[0], held_as(store, "9")

    # when
    answer = store.work(disturbed(switch(keys, NAME, held), "progress/switch", lambda: store.run(rollback(keys, NAME))))

    # then
    assert answer == Lags(0, 6)
    assert (builds_of(store).live, builds_of(store).previous, builds_of(store).candidate) == ("1", "2", "9")


def test_a_switch_that_is_made_already_is_made(store: EventStore) -> None:
    """The reply to the switch was lost: the next try finds the candidate live."""
    # given: a candidate of an empty log, which does not lag
    catch_up_as(store, "1")
    keys, held = store.info.keys[0], held_as(store, "9")
    command = command_of(store, switch(keys, NAME, held), "progress/switch")
    assert store.driver.execute([command]) == [[b"ok"]]

    # when
    repeated, again = store.driver.execute([command]), store.run(switch(keys, NAME, held))

    # then
    assert (repeated, again) == ([[b"ok"]], None)
    assert (builds_of(store).live, builds_of(store).previous) == ("9", "1")


# -- a claim that meets another -------------------------------------------------------------------


def test_a_claim_that_a_switch_overtook_is_one_of_replaced_code(store: EventStore) -> None:
    """Newer code became live after the builds were read: the older code is told so, and claims nothing."""
    # given
    three_accounts(store)
    catch_up_as(store, "1")

    # when, then
    with pytest.raises(BuildReplaced):
        store.work(disturbed(claim_as(store, "1"), "progress/claim", lambda: catch_up_as(store, "2")))


def test_a_first_claim_that_another_version_overtook_is_one_of_a_candidate(store: EventStore) -> None:
    """Two versions are started on a store that knows neither: the second one makes a build beside the first."""
    # given
    three_accounts(store)

    # when
    held = store.work(disturbed(claim_as(store, "2"), "progress/claim", lambda: catch_up_as(store, "1")))

    # then
    assert (held.build, held.candidate) == ("2", True)
    assert (builds_of(store).live, builds_of(store).candidate) == ("1", "2")


def test_a_candidate_that_another_one_overtook_is_proposed_again(store: EventStore) -> None:
    """Two new versions begin at the same moment: the builds are read again, and the later one has the candidate."""
    # given
    three_accounts(store)
    catch_up_as(store, "1")

    # when
    held = store.work(
        disturbed(claim_as(store, "9"), "progress/propose", lambda: store.run(claim_as(store, "8", owner="b")))
    )

    # then
    assert (held.build, held.candidate) == ("9", True)
    assert (builds_of(store).candidate, builds_of(store).gone) == ("9", frozenset({"8"}))


def test_a_claim_in_a_store_that_was_replaced_is_refused(store: EventStore) -> None:
    """The store has another epoch than the one that was opened: neither a first claim nor a repeated one is granted."""
    # given
    keys, runner = store.info.keys[0], RunnerIdentity("a", store.info, 60.0)
    held = held_as(store, "1")

    # when
    store.driver.execute([("HSET", keys.meta, "epoch", "another")])

    # then
    with pytest.raises(StoreReplaced):
        store.run(acquire(runner, ClaimRequest(keys, NAME, "1")))
    with pytest.raises(StoreReplaced):
        store.run(claim_again(runner, ClaimRequest(keys, NAME, "1"), held))


def test_a_claim_is_not_repeated_for_a_build_that_was_replaced(store: EventStore) -> None:
    """Its owner is told that no runner has it, because the build is no longer the one to drive."""
    # given
    catch_up_as(store, "1")
    held = held_as(store, "1")
    catch_up_as(store, "2")

    # when
    answer = store.run(
        claim_again(RunnerIdentity("a", store.info, 60.0), ClaimRequest(store.info.keys[0], NAME, "1"), held)
    )

    # then
    assert answer == HeldByOther("", "", 0.0)


# -- a trimmed log --------------------------------------------------------------------------------


def test_a_candidate_of_a_trimmed_log_is_refused_from_the_first_event_on(store: EventStore) -> None:
    """A view is made from position 0, so the error names that position and the floor."""
    # given
    three_accounts(store)
    catch_up_as(store, "1")
    trim(store, before=4)

    # when
    with pytest.raises(LogTrimmed, match="events after 0 were asked for") as raised:
        store.run(propose(store.info.keys[0], NAME, builds_of(store), "2"))

    # then
    assert raised.value.floor == 3
    assert builds_of(store).candidate is None
