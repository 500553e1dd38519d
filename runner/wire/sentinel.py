"""Sentinel: which server is the primary of a service, asked anew for each connection.

A Sentinel may be late: one that was cut off names the old primary still, and the old primary, cut off with it, says
that it is one. So all Sentinels are asked at once, and of those that answer the one with the highest configuration
epoch is believed: each failover raises that number
(https://redis.io/docs/latest/develop/reference/sentinel-clients/). The server has to say that it is the primary, too.
The addresses of the Sentinels are those that were given, and are looked up by name each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, NamedTuple

import redis.asyncio
from redis.asyncio.connection import AbstractConnection as AsyncConnection
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection as SyncConnection
from redis.connection import Connection, SSLConnection
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as NotConnected
from redis.retry import Retry

from .closing import drop

#: How long Sentinels are waited for, in seconds, and how long the others when a majority has answered.
PATIENCE, STRAGGLERS = 2.0, 0.1

#: The port of a Sentinel whose place has none.
PORT = 26379

#: Host and port.
Place = tuple[str, int]


class Answer(NamedTuple):
    """What one Sentinel says about the primary of a service."""

    primary: Place
    epoch: int


@dataclass(eq=False)
class Sentinels:
    """The Sentinels of a service: where they are, and how connections to them are made."""

    service: str
    places: tuple[Place, ...]
    connection_class: type[Any]
    async_class: type[Any]
    options: dict[str, Any] = field(repr=False)

    def locate(self) -> Place:
        """Where the primary is. Raises redis' ConnectionError if no Sentinel can tell."""
        pool = ThreadPoolExecutor(len(self.places), thread_name_prefix="runner-sentinel")
        try:
            asked = [pool.submit(self._ask, place) for place in self.places]
            done, left, until = set[Future[Answer]](), set(asked), monotonic() + PATIENCE
            while left and (rest := until - monotonic()) > 0:
                more, left = wait(left, rest, FIRST_COMPLETED)
                done |= more
                until = self._end_of_wait(done, until)
            return self._choose(one.exception() or one.result() for one in done)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    async def async_locate(self) -> Place:
        """The same for asyncio."""
        asked = [asyncio.create_task(self._async_ask(place)) for place in self.places]
        try:
            done, left, until = set[asyncio.Task[Answer]](), set(asked), monotonic() + PATIENCE
            while left and (rest := until - monotonic()) > 0:
                more, left = await asyncio.wait(left, timeout=rest, return_when=asyncio.FIRST_COMPLETED)
                done |= more
                until = self._end_of_wait(done, until)
            return self._choose(one.exception() or one.result() for one in done)
        finally:
            for one in asked:
                one.cancel()

    def _end_of_wait(self, done: Iterable[Future[Answer] | asyncio.Task[Answer]], until: float) -> float:
        """Until when to wait for further answers: a majority knows of each failover, so others get a moment only."""
        answers = sum(one.exception() is None for one in done)
        return min(until, monotonic() + STRAGGLERS) if answers > len(self.places) // 2 else until

    def _ask(self, place: Place) -> Answer:
        connection = self.connection_class(host=place[0], port=place[1], retry=Retry(NoBackoff(), 0), **self.options)
        try:
            connection.send_command("SENTINEL", "MASTER", self.service)
            return answer_of(connection.read_response())
        finally:
            connection.disconnect()

    async def _async_ask(self, place: Place) -> Answer:
        connection = self.async_class(host=place[0], port=place[1], retry=AsyncRetry(NoBackoff(), 0), **self.options)
        try:
            await connection.send_command("SENTINEL", "MASTER", self.service)
            return answer_of(await connection.read_response())
        finally:
            await drop(connection)

    def _choose(self, answers: Iterable[Answer | BaseException]) -> Place:
        """The primary that the Sentinel with the highest epoch names."""
        found, faults = list[Answer](), list[BaseException]()
        for one in answers:
            (found if isinstance(one, Answer) else faults).append(one)  # type: ignore[arg-type]
        if found:
            return max(found, key=lambda one: one.epoch).primary
        for fault in faults:
            if isinstance(fault, AuthenticationError):
                raise AuthenticationError(
                    f"a Sentinel refuses its user, which sentinel_username and sentinel_password name: {fault}"
                ) from None
            if isinstance(fault, ResponseError):  # it does not know the service, or the user may not ask
                raise ResponseError(f"a Sentinel asked for the primary of {self.service!r} answers: {fault}") from fault
            if not isinstance(fault, RedisError | OSError):
                raise fault
        raise NotConnected(f"no Sentinel answers: {faults[0] if faults else 'each took too long'}")


#: What of the options of a connection is of use for one to a Sentinel. Databases and names of clients are not.
_SHARED = (
    "username",
    "password",
    "ssl_",
    "socket_",
    "protocol",
    "encoding",
    "decode_responses",
    "health_check_interval",
)


def sentinels_of(service: str, places: Iterable[Place], kind: type[Any], options: dict[str, Any]) -> Sentinels:
    """The Sentinels at these places. ``options``: of a connection of the kind, with the Sentinels' own user."""
    own = {name: value for name, value in options.items() if name.startswith(_SHARED)}
    own.update(socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE)
    secure = issubclass(kind, SSLConnection)
    return Sentinels(
        service,
        tuple(places),
        SSLConnection if secure else Connection,
        redis.asyncio.SSLConnection if secure else redis.asyncio.Connection,
        own,
    )


def answer_of(reply: list[bytes]) -> Answer:
    """What a reply to SENTINEL MASTER says."""
    fields = dict(zip(reply[::2], reply[1::2], strict=True))
    place = fields[b"ip"].decode(), int(fields[b"port"])
    return Answer(place, int(fields[b"config-epoch"]))


def check_role(role: list[Any], place: Place, service: str) -> None:
    """Raise redis' ConnectionError unless a reply to ROLE is that of a primary."""
    if role[0] != b"master":
        raise NotConnected(f"{place[0]}:{place[1]} is not the primary of {service!r} (its role: {role[0].decode()})")


class _Follows(SyncConnection):
    """A connection that goes to the present primary each time that it is made."""

    sentinels: Sentinels

    def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        if self._sock:
            return
        self.host, self.port = place = self.sentinels.locate()
        super().connect_check_health(check_health, retry_socket_connect)
        try:
            self.send_command("ROLE", check_health=False)  # type: ignore[no-untyped-call]
            check_role(self.read_response(), place, self.sentinels.service)
        except BaseException:
            self.disconnect()  # type: ignore[no-untyped-call]
            raise


class _AsyncFollows(AsyncConnection):
    """The same for asyncio."""

    sentinels: Sentinels

    async def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        if self.is_connected:
            return
        self.host, self.port = place = await self.sentinels.async_locate()
        await super().connect_check_health(check_health, retry_socket_connect)
        try:
            await self.send_command("ROLE", check_health=False)
            check_role(await self.read_response(), place, self.sentinels.service)
        except BaseException:
            await drop(self)
            raise


def following(kind: type[Any], sentinels: Sentinels) -> type[Any]:
    """A class of connections of a kind that follow the primary."""
    base = _AsyncFollows if issubclass(kind, AsyncConnection) else _Follows
    return type(f"Following{kind.__name__}", (base, kind), {"sentinels": sentinels})
