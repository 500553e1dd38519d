"""Waiting until a view shows an append: woken by whichever process keeps the view, and nobody polls."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from accounts import balances, deposited, in_thread, plain_fold, reached, rows_of
from faces import FACES
from servers import server
from trouble import Trap, three_accounts, trapped
from workbench import Workbench, status_of

from runner import AsyncEventStore, AsyncView, EventStore, Projection, StoreTrouble, View, WaitTimeout, catch_up, follow
from runner.errors import InvalidInput
from runner.operations.rebuild import rebuild
from runner.progress.builds import rollback
from runner.progress.checkpoint import Claim
from runner.progress.lease import ClaimRequest, RunnerIdentity, acquire, report_command
from runner.projections.policies import Stop
from runner.sync.session import Session
from runner.testing import TEST_SETTINGS, all_events
from runner.views.reading import LOOK_ANYWAY


def listeners(store: EventStore, name: str = "balances") -> int:
    """How many wait for the view."""
    channel = store.info.keys[0].applied(name)
    [found] = store.driver.execute([("PUBSUB", "NUMSUB", channel)])
    return int(found[1])


def test_waiting_ends_as_soon_as_the_view_shows_the_append(store: EventStore) -> None:
    """Who waits is woken by the commit, long before it would look by itself; the row is there then."""
    # given
    three_accounts(store)
    with follow(store, balances()) as following:
        following.wait_live(10)
        view = View(store, "balances")
        for amount in range(5):
            # when
            result = store.append("account-1", deposited(amount))
            began = time.monotonic()
            view.wait_for(result, timeout=10)

            # then
            assert time.monotonic() - began < LOOK_ANYWAY / 2
            assert view["account-1"]["numbers"][-1] == result.version


def test_what_is_shown_already_is_not_waited_for(store: EventStore) -> None:
    """Without a runner anywhere, and with no time at all."""
    result = store.append("account-1", deposited())
    catch_up(store, balances())
    View(store, "balances").wait_for(result, timeout=0)


def test_a_commit_of_another_process_wakes_who_waits(store: EventStore, url: str) -> None:
    """The one who waits and the one who commits share nothing but the server."""
    # given
    result = store.append("account-1", deposited())
    done: list[float] = []

    def wait() -> None:
        with EventStore.open(url, name=store.info.name, settings=TEST_SETTINGS) as mine:
            View(mine, "balances").wait_for(result, timeout=10)
            done.append(time.monotonic())

    # when
    with in_thread(wait):
        assert reached(lambda: listeners(store) == 1)
        assert done == []
        began = time.monotonic()
        catch_up(store, balances())

    # then
    assert done[0] - began < LOOK_ANYWAY / 2


def test_a_timeout_says_how_far_behind_the_view_is_and_why(store: EventStore) -> None:
    """WaitTimeout names lag, state and error."""
    # given
    three_accounts(store)
    result = store.append("account-1", deposited())
    view = View(store, "balances")

    # when
    Workbench(store, trapped(Trap(4), Stop())).run()
    with pytest.raises(WaitTimeout) as stopped:
        view.wait_for(result, timeout=0.05)

    # then
    assert (stopped.value.lag, stopped.value.state) == (4, "stopped")
    assert "no luck with 4" in str(stopped.value)


@pytest.mark.parametrize(("lease", "doing"), [(60.0, "catching up"), (0.0, "no runner holds it")], ids=["held", "left"])
def test_a_timeout_says_what_the_runner_does_or_that_there_is_none(store: EventStore, lease: float, doing: str) -> None:
    """A runner's state counts as long as its lease lasts."""
    # given: a runner that has claimed the projection and said what it does
    result = store.append("account-1", deposited())
    keys, runner = store.info.keys[0], RunnerIdentity("a", store.info, 60.0)
    held = store.run(acquire(runner, ClaimRequest(keys, "balances", "1")))
    assert isinstance(held, Claim)
    runner = replace(runner, lease=lease)
    store.driver.execute([report_command(runner, keys, "balances", held, "catching up")])

    # when
    with pytest.raises(WaitTimeout) as raised:
        View(store, "balances").wait_for(result, timeout=0.05)

    # then
    assert raised.value.state == doing


def test_waiting_follows_the_view_over_a_switch(store: EventStore) -> None:
    """While the live build stands still, the one made beside it shows the append at the switch, and wakes."""
    # given: the live build stops before the append
    three_accounts(store)
    Workbench(store, trapped(Trap(4), Stop())).run()
    result = store.append("account-1", deposited())
    done: list[int] = []

    def wait() -> None:
        View(store, "balances").wait_for(result, timeout=10)
        done.append(status_of(store).position)

    # when
    began = time.monotonic()
    with in_thread(wait):
        assert reached(lambda: listeners(store) == 1)
        for _ in rebuild(store, balances()):
            pass

    # then
    assert done == [7]
    assert time.monotonic() - began < LOOK_ANYWAY / 2 + 1
    assert rows_of(store) == plain_fold(all_events(store))


@pytest.fixture
def url_of_own() -> Iterator[Any]:
    """A server of the test's own."""
    with server("--appendonly", "no") as own:
        yield own


@pytest.mark.real
def test_who_waits_sends_nothing(url_of_own: Any) -> None:
    """Between the subscription and the wake-up no command reaches the server but those of the one who measures."""
    # given
    with EventStore.open(url_of_own.url, settings=TEST_SETTINGS) as store:
        result = store.append("account-1", deposited())
        view = View(store, "balances")
        with in_thread(lambda: view.wait_for(result, timeout=10)):
            assert reached(lambda: listeners(store) == 1)
            assert reached(lambda: calls(url_of_own, "hget") >= 1)

            # when
            url_of_own.do("CONFIG", "RESETSTAT")
            ended = time.monotonic() + 0.5
            assert not reached(lambda: time.monotonic() > ended, patience=0.4)

            # then
            stats = {name for name in url_of_own.do("INFO", "commandstats") if "config" not in name}
            assert stats <= {"cmdstat_info", "cmdstat_client|setinfo", "cmdstat_client"}
            catch_up(store, balances())


def calls(own: Any, command: str) -> int:
    return int(own.do("INFO", "commandstats").get(f"cmdstat_{command}", {}).get("calls", 0))


@pytest.mark.real
def test_waiting_survives_a_killed_connection(url_of_own: Any) -> None:
    """The connection that wakes is cut: it listens again, and sees what was committed meanwhile."""
    with EventStore.open(url_of_own.url, settings=TEST_SETTINGS) as store:
        # given
        result = store.append("account-1", deposited())
        view = View(store, "balances")
        began = time.monotonic()
        with in_thread(lambda: view.wait_for(result, timeout=10)):
            for _ in range(3):
                assert reached(lambda: listeners(store) == 1)

                # when
                assert url_of_own.do("CLIENT", "KILL", "TYPE", "pubsub") == 1
            assert reached(lambda: listeners(store) == 1)
            catch_up(store, balances())

        # then
        assert time.monotonic() - began < LOOK_ANYWAY


@pytest.mark.real
def test_waiting_for_a_server_that_is_away_backs_off(url_of_own: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused connections are not tried again as fast as the machine can: a dozen times in the time it is given."""
    with EventStore.open(url_of_own.url, settings=TEST_SETTINGS) as store:
        # given
        result = store.append("account-1", deposited())
        url_of_own.process.send_signal(signal.SIGKILL)
        url_of_own.process.wait()
        tried, real = 0, Session._transmit

        def transmit(session: Session, pending: Any) -> None:
            nonlocal tried
            tried += 1
            real(session, pending)

        monkeypatch.setattr(Session, "_transmit", transmit)

        # when
        with pytest.raises(StoreTrouble):
            View(store, "balances").wait_for(result, timeout=0.5)

        # then
        assert tried < 40


@pytest.mark.real
@pytest.mark.parametrize("face", FACES)
def test_waiting_without_the_password_backs_off(url_of_own: Any, tmp_path: Path, face: str) -> None:
    """Where the password's file is away for a moment, no connection is made, and the open ones are not kept busy."""
    # given
    url_of_own.do("ACL", "SETUSER", "application", "on", ">secret", "allkeys", "allchannels", "allcommands")
    password = tmp_path / "password"
    password.write_text("secret")
    url = f"{url_of_own.url}?password_file={password}".replace("//", "//application@", 1)
    settings = replace(TEST_SETTINGS, max_connections=1)

    async def wait() -> None:
        async with AsyncEventStore.open(url, settings=settings) as store:
            result = await store.append("account-1", deposited())
            password.unlink()
            await AsyncView(store, "balances").wait_for(result, timeout=0.5)

    # when
    with pytest.raises(WaitTimeout):
        if face == "async":
            asyncio.run(wait())
        else:
            with EventStore.open(url, settings=settings) as store:
                result = store.append("account-1", deposited())
                password.unlink()
                View(store, "balances").wait_for(result, timeout=0.5)

    # then
    assert calls(url_of_own, "hget") < 40


def test_waiting_in_an_event_loop(url: str, fresh_name: str) -> None:
    """AsyncView.wait_for does the same: woken by a commit, WaitTimeout after its time, the loop free meanwhile."""

    async def main() -> None:
        async with AsyncEventStore.open(url, name=fresh_name, settings=TEST_SETTINGS) as store:
            # given
            first = await store.append("account-1", deposited())
            view = AsyncView(store, "balances")
            with pytest.raises(WaitTimeout):
                await view.wait_for(first, timeout=0.05)

            # when
            waiting = [asyncio.create_task(view.wait_for(first, timeout=10)) for _ in range(5)]
            await asyncio.sleep(0)
            began = time.monotonic()
            await catch_up(store, balances())
            await asyncio.gather(*waiting)

            # then
            assert time.monotonic() - began < LOOK_ANYWAY / 2
            assert await view.get("account-1") == {"balance": 10, "numbers": [1]}

    asyncio.run(main())


def test_a_wait_in_an_event_loop_can_be_cancelled(url: str, fresh_name: str) -> None:
    """Cancelling leaves no connection behind, and the store is of use."""

    async def main() -> None:
        async with AsyncEventStore.open(url, name=fresh_name, settings=TEST_SETTINGS) as store:
            first = await store.append("account-1", deposited())
            for _ in range(2):  # late enough to be connected: Python 3.11 loses a cancellation while it connects
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(AsyncView(store, "balances").wait_for(first, timeout=10), 0.5)
            assert await catch_up(store, balances()) == 1
            await AsyncView(store, "balances").wait_for(first, timeout=1)

    asyncio.run(main())


def test_a_reader_follows_a_rollback(store: EventStore) -> None:
    """A view that is read before and after a switch, and after the way back, shows the live build each time."""
    # given
    three_accounts(store)
    catch_up(store, balances())
    view = View(store, "balances")
    assert view["account-1"]["balance"] == 30
    doubled = Projection("balances", category="account", initial=lambda: {"balance": 0}, build="2")
    doubled.when("Deposited", lambda state, event: {"balance": state["balance"] + 2 * event.data["amount"]})

    # when / then
    catch_up(store, doubled)
    assert view["account-1"] == {"balance": 60}
    store.run(rollback(store.info.keys[0], "balances"))
    assert view["account-1"]["balance"] == 30


@pytest.mark.parametrize("face", FACES)
def test_a_view_that_never_was_fails_at_once(url: str, store: EventStore, face: str) -> None:
    """Without a limit, too; the error names the projection that was probably meant."""
    # given
    result = store.append("account-1", deposited())
    Workbench(store, balances()).run()

    async def wait() -> None:
        async with AsyncEventStore.open(url, name=store.info.name) as other:
            await AsyncView(other, "balanecs").wait_for(result, timeout=None)

    # when
    with pytest.raises(InvalidInput) as caught:
        if face == "sync":
            View(store, "balanecs").wait_for(result, timeout=None)
        else:
            asyncio.run(wait())

    # then
    assert str(caught.value) == "the store knows no projection 'balanecs'"
    assert caught.value.hint.startswith("Did you mean 'balances'? ")


def test_a_partition_that_its_projection_has_not_reached_is_waited_for(url: str, fresh_name: str) -> None:
    """A runner has claimed another partition already. Nor does a wait end before the first runner has come."""
    with EventStore.open(url, name=fresh_name, partitions=2) as store:
        result = store.append("account-1", deposited())
        with pytest.raises(WaitTimeout, match="never run"):
            View(store, "balances").wait_for(result, timeout=0.02)
        other = store.info.keys[1 - result.partition]
        store.driver.execute([("SADD", other.projections, "balances")])
        with pytest.raises(WaitTimeout, match="never run"):
            View(store, "balances").wait_for(result, timeout=0.02)
