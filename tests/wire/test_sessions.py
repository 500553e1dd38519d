"""Sessions: what is left on a connection when a call is interrupted in the middle of its replies, or of its sending."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from runner import AsyncEventStore, EventStore, NewEvent
from runner.effects import Command
from runner.testing import TEST_SETTINGS

#: Three commands whose replies can be told apart, and one that comes after them.
THREE: list[Command] = [("ECHO", "one"), ("ECHO", "two"), ("ECHO", "three")]
NEXT: list[Command] = [("ECHO", "next")]


class Interrupted:
    """Calls a method, and raises at one of the calls: before the call's work or after it."""

    def __init__(self, real: Any, at: int, error: type[BaseException], *, after: bool = False) -> None:
        self._real, self._left, self._error, self._after = real, at, error, after

    def __call__(self, *args: Any, **options: Any) -> Any:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise self._error
        answer = self._real(*args, **options)
        if self._left == 0:
            raise self._error
        return answer


@pytest.mark.real
def test_a_forked_process_leaves_the_connections_of_its_parent_alone(
    real_store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes on one connection would read each other's replies: the child makes connections of its own."""
    # given
    real_store.append("account-1", NewEvent("Opened"))
    parents = list(real_store.driver._pool._idle)
    assert parents

    # when: this is the child, by the number of its process
    with monkeypatch.context() as child:
        child.setattr(os, "getpid", lambda: 1)
        assert real_store.version("account-1") == 1
        childs = list(real_store.driver._pool._idle)

    # then: and the parent's connections were neither used nor closed
    assert not set(parents) & set(childs)
    assert [session.call(NEXT) for session in parents] == [[b"next"]] * len(parents)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_an_interrupted_read_leaves_no_reply_to_the_next_call(store: EventStore, at: int) -> None:
    """Ctrl-C in the middle of the replies: the connection goes with the replies that were not read."""
    # given
    session = store.driver.session()
    session.call(NEXT)
    session._connection.read_response = Interrupted(session._connection.read_response, at, KeyboardInterrupt)

    # when
    with pytest.raises(KeyboardInterrupt):
        session.call(THREE)

    # then
    assert session.at_rest
    assert session.call(NEXT) == [b"next"]
    session.close()


def test_an_interrupted_send_leaves_no_reply_to_the_next_call(store: EventStore) -> None:
    """Ctrl-C right after the commands were sent: nobody will ask for their replies."""
    # given
    session = store.driver.session()
    session.call(NEXT)
    connection = session._connection
    connection.send_packed_command = Interrupted(connection.send_packed_command, 1, KeyboardInterrupt, after=True)

    # when
    with pytest.raises(KeyboardInterrupt):
        session.call(THREE)

    # then
    assert session.call(NEXT) == [b"next"]
    session.close()


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_read_that_is_cancelled_leaves_no_reply_to_the_next_call(store: EventStore, url: str, at: int) -> None:
    """The task is cancelled in the middle of the replies."""

    async def scenario() -> None:
        # given
        async with AsyncEventStore.open(url, name=store.info.name, settings=TEST_SETTINGS) as other:
            session = other.driver.session()
            await session.call(NEXT)
            connection = session._connection
            connection.read_response = Interrupted(connection.read_response, at, asyncio.CancelledError)

            # when
            with pytest.raises(asyncio.CancelledError):
                await session.call(THREE)

            # then
            assert session.at_rest
            assert await session.call(NEXT) == [b"next"]
            await session.close()

    asyncio.run(scenario())


def test_a_send_that_is_cancelled_leaves_no_reply_to_the_next_call(store: EventStore, url: str) -> None:
    """The task is cancelled right after the commands were sent."""

    async def scenario() -> None:
        # given
        async with AsyncEventStore.open(url, name=store.info.name, settings=TEST_SETTINGS) as other:
            session = other.driver.session()
            await session.call(NEXT)
            connection, real = session._connection, session._connection.send_packed_command

            async def send(packed: Any) -> None:
                connection.send_packed_command = real
                await real(packed)
                raise asyncio.CancelledError

            connection.send_packed_command = send

            # when
            with pytest.raises(asyncio.CancelledError):
                await session.call(THREE)

            # then
            assert await session.call(NEXT) == [b"next"]
            await session.close()

    asyncio.run(scenario())
