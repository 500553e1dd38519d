"""A store behind Sentinel: it goes to the primary, and follows it through a failover."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import redis
from accounts import PATIENCE, deposited, in_thread, reached
from clients import Writer, following
from lab import DEBIAN, PATIENT, Lab, Server
from redis.sentinel import Sentinel as TheirSentinel
from sentinel import GROUP, Sentinel

from runner import AsyncEventStore, DataError, EventStore, InvalidInput, Replicated
from runner.errors import StoreRefused, StoreUnavailable
from runner.testing import TEST_SETTINGS
from runner.wire.address import parse
from runner.wire.sentinel import PATIENCE as SENTINEL_PATIENCE

pytestmark = pytest.mark.real


class Watched:
    """A primary and its replica, and the Sentinel that watches them."""

    def __init__(self, lab: Lab, sentinel: Sentinel, primary: Server, replica: Server) -> None:
        self.lab, self.sentinel, self.primary, self.replica = lab, sentinel, primary, replica

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/{GROUP}"

    def is_over(self) -> bool:
        """Whether the failover is: until the old primary is told, it takes what the new one will never hear of."""
        try:
            return bool(self.primary.info("replication")["role"] == "slave")
        except redis.ConnectionError:  # Sentinel ends its connections with that
            return False


@pytest.fixture
def watched(lab: Lab) -> Iterator[Watched]:
    primary, replica = lab.pair(whose=DEBIAN)
    with Sentinel(lab.directory / "sentinel", primary) as sentinel:
        yield Watched(lab, sentinel, primary, replica)


def test_a_store_goes_to_the_primary(watched: Watched) -> None:
    store = watched.lab.store(watched.url)
    store.append("account-1", deposited())
    assert watched.primary.do("XLEN", "{es.0}:log") == 1
    assert store.driver.address.label == watched.url


def test_row_14_idle_connections_to_a_primary_that_was_replaced_are_not_tried_one_by_one(watched: Watched) -> None:
    """C1 of many libraries: nothing breaks, and each pooled connection would answer READONLY in its turn."""
    # given: connections that rest
    store = watched.lab.store(watched.url, settings=PATIENT)
    at_once = threading.Barrier(5)

    def append(stream: str) -> None:
        at_once.wait(PATIENCE)
        store.append(stream, deposited())

    threads = [threading.Thread(target=append, args=(f"account-{n}",)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)

    # when
    watched.sentinel.replace_primary()
    assert reached(watched.is_over)
    results = [store.append(f"account-{n}", deposited(), 1) for n in range(5)]

    # then
    assert [result.version for result in results] == [2] * 5
    assert watched.replica.do("XLEN", "{es.0}:log") == 10


def test_row_14_a_planned_failover_is_followed_under_load(watched: Watched) -> None:
    """Writer and runner go on with the new primary by themselves, and nothing that was confirmed is lost."""
    writer = Writer(watched.lab.store(watched.url, durability=Replicated(1, within=0.1)))
    end = threading.Event()
    with following(writer.store) as follower, in_thread(lambda: writer.run(end)):
        assert reached(lambda: writer.acknowledged > 50)
        watched.sentinel.replace_primary()
        assert reached(watched.is_over)
        before = writer.acknowledged
        went_on = reached(lambda: writer.told is not None or writer.acknowledged > before + 50)
        end.set()
        assert went_on
        failure = follower.end()  # it may have applied what was never confirmed
        assert failure is None or isinstance(failure, DataError)
    assert writer.told is None
    with following(writer.store) as follower:
        assert follower.is_right()
    assert writer.findings(views=True) == []


@pytest.mark.asyncio
async def test_an_asynchronous_store_follows_the_primary(watched: Watched) -> None:
    async with AsyncEventStore.open(watched.url, settings=PATIENT) as store:
        await asyncio.gather(*(store.append(f"account-{n}", deposited()) for n in range(5)))
        await asyncio.to_thread(watched.sentinel.replace_primary)
        assert await asyncio.to_thread(reached, watched.is_over)
        results = [await store.append(f"account-{n}", deposited(), 1) for n in range(5)]
        assert [result.version for result in results] == [2] * 5
    assert watched.replica.do("XLEN", "{es.0}:log") == 10


def test_row_52_a_sentinel_that_has_not_heard_is_not_believed(watched: Watched) -> None:
    """It stands first in the URL and names the old primary; the one with the higher epoch is right."""
    # given
    late_of = watched.primary
    watched.sentinel.replace_primary()
    assert reached(watched.is_over)
    late_of.kill()
    with Sentinel(watched.lab.directory / "late", late_of) as late:
        url = f"redis+sentinel://127.0.0.1:{late.port},127.0.0.1:{watched.sentinel.port}/{GROUP}"

        # when
        watched.lab.store(url).append("account-1", deposited())

    # then
    assert watched.replica.do("XLEN", "{es.0}:log") == 1


def test_row_52_a_server_that_says_it_is_a_replica_is_not_written_to(watched: Watched) -> None:
    """The only Sentinel that answers names it: that is an outage, until one says better."""
    watched.sentinel.kill()
    with (
        Sentinel(watched.lab.directory / "wrong", watched.replica, looks=False) as wrong,
        pytest.raises(StoreUnavailable, match="is not the primary of 'lab'"),
    ):
        watched.lab.store(f"redis+sentinel://127.0.0.1:{wrong.port}/{GROUP}")


def test_a_sentinel_that_is_silent_is_not_waited_for_when_a_majority_has_answered(watched: Watched) -> None:
    """It takes connections and says nothing, as on a host that hangs together with the primary."""
    at = f"127.0.0.1:{watched.sentinel.port}"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        places = f"127.0.0.1:{silent.getsockname()[1]},{at},{at}"
        address = parse(f"redis+sentinel://{places}/{GROUP}")
        assert address.sentinels is not None
        began = time.monotonic()
        located = address.sentinels.locate(), asyncio.run(address.sentinels.async_locate())
        took = time.monotonic() - began
    assert located == (("127.0.0.1", watched.primary.port),) * 2
    assert took < SENTINEL_PATIENCE


def test_sentinels_that_are_away_are_an_outage_and_come_back(watched: Watched) -> None:
    store = watched.lab.store(f"redis+sentinel://localhost:1,127.0.0.1:{watched.sentinel.port}/{GROUP}")
    store.append("account-1", deposited())
    watched.sentinel.kill()
    store.append("account-1", deposited())  # by the connection that is there
    with pytest.raises(StoreUnavailable, match="no Sentinel answers"):
        EventStore.open(watched.url, settings=TEST_SETTINGS)


def test_a_service_that_no_sentinel_knows_is_named(watched: Watched) -> None:
    with pytest.raises(StoreRefused, match="primary of 'nothing' answers: No such master"):
        watched.lab.store(f"redis+sentinel://127.0.0.1:{watched.sentinel.port}/nothing")


def test_a_client_of_a_sentinel_object_is_taken(watched: Watched) -> None:
    """Its pool knows the Sentinels and the service; the object alone does not know the service."""
    theirs = TheirSentinel([("127.0.0.1", watched.sentinel.port)])
    with EventStore(theirs.master_for(GROUP), settings=TEST_SETTINGS) as store:
        store.append("account-1", deposited())
    assert watched.primary.do("XLEN", "{es.0}:log") == 1
    with pytest.raises(InvalidInput, match="which service") as refused:
        EventStore(theirs)
    assert "master_for" in refused.value.hint


def test_passwords_of_sentinels_and_servers_are_their_own(watched: Watched) -> None:
    """User and password are the server's; those of the Sentinels are options, and no error shows either."""
    for server in (watched.primary, watched.replica):
        server.config(requirepass="of-the-server", masterauth="of-the-server")
    watched.sentinel.tell(auth_pass="of-the-server")
    watched.sentinel.require("of-the-sentinel")
    at = f"127.0.0.1:{watched.sentinel.port}/{GROUP}"

    with EventStore.open(f"redis+sentinel://:of-the-server@{at}?sentinel_password=of-the-sentinel") as store:
        store.append("account-1", deposited())
    for url, named in [
        (f"redis+sentinel://:of-the-server@{at}?sentinel_password=wrong-one", "sentinel_password"),
        (f"redis+sentinel://:of-the-server@{at}", "sentinel_password"),
        (f"redis+sentinel://:wrong-one@{at}?sentinel_password=of-the-sentinel", "password"),
    ]:
        with pytest.raises(StoreRefused) as refused:
            EventStore.open(url)
        text = f"{refused.value} {refused.value.hint}"
        assert named in text
        assert not any(secret in text for secret in ("of-the", "wrong-one"))
