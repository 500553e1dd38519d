"""Addresses: from a URL or a client to connections. All connections are made here, with the same pinned options.

The options are pinned because the client library's defaults differ by version: protocol 2 (replies of XREAD have three
shapes), bytes in and out, a socket timeout, and no retries by the library (it would run scripts again blindly).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import redis
import redis.asyncio
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.asyncio.sentinel import SentinelConnectionPool as AsyncSentinelConnectionPool
from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from .. import embedded
from ..errors import InvalidInput, StoreNotFound
from ..settings import DEFAULTS, LARGEST_COUNTS, Settings
from ..text import HIDDEN, is_port, nearest
from .errors import translate
from .passwords import PasswordFile
from .sentinel import PORT, Sentinels, following, sentinels_of
from .tls import WHOM_TO_TRUST, check_files

#: The options that a URL may have. Every other option is refused, not ignored.
_URL_OPTIONS = frozenset(
    (
        "username",
        "password",
        "host",
        "port",
        "db",
        "path",
        "client_name",
        "socket_connect_timeout",
        "socket_keepalive",
        "ssl_cert_reqs",
        "ssl_ca_certs",
        "ssl_certfile",
        "ssl_keyfile",
        "ssl_check_hostname",
        "max_connections",
        "password_file",
    )
)

_ASYNC_CLASSES: dict[type[Any], type[Any]] = {
    Connection: redis.asyncio.Connection,
    SSLConnection: redis.asyncio.SSLConnection,
    UnixDomainSocketConnection: redis.asyncio.UnixDomainSocketConnection,
}


_SYNC_CLASSES = {ours: theirs for theirs, ours in _ASYNC_CLASSES.items()}

#: Options that the client library adds for its own bookkeeping.
_NOT_OURS = ("maint_", "orig_", "retry", "himport_", "event_dispatcher", "oss_cluster")


@dataclass(eq=False)
class Address:
    """Where a store is, and how to connect there. ``label`` is for people and holds no secret."""

    label: str
    connection_class: type[Any]
    options: dict[str, Any] = field(repr=False)
    fake: bool = False
    #: The embedded server, if there is one. Its last user stops it.
    server: embedded.Server | None = None
    #: The number of connections that the URL allows; None leaves it to the settings.
    max_connections: int | None = None
    #: Who says where the server is, each time that a connection is made; None if the options do.
    sentinels: Sentinels | None = None

    def connection(self, settings: Settings, timeout: float | None = None) -> Any:
        """A new connection, not open yet. ``timeout`` is for reads that block, in seconds."""
        options = {**self.options, "socket_timeout": timeout or settings.socket_timeout}
        options["retry"] = Retry(NoBackoff(), 0)
        return self._made(self.connection_class, options)

    def async_connection(self, settings: Settings, timeout: float | None = None) -> Any:
        """The same for asyncio."""
        from redis.asyncio.retry import Retry as AsyncRetry

        kind = _ASYNC_CLASSES.get(self.connection_class, self.connection_class)
        if self.fake:
            from fakeredis.aioredis import FakeAsyncRedisConnection

            kind = FakeAsyncRedisConnection
        options = {**self.options, "socket_timeout": timeout or settings.socket_timeout}
        options["retry"] = AsyncRetry(NoBackoff(), 0)
        return self._made(kind, options)

    def _made(self, kind: type[Any], options: dict[str, Any]) -> Any:
        try:
            return (kind if self.sentinels is None else following(kind, self.sentinels))(**options)
        except OSError as fault:  # the client library opens files, and there may be too many open files
            raise translate(fault, self.label) from fault

    def revive(self) -> None:
        """Start an embedded server again if it was killed. Does nothing for another server."""
        if self.server is not None:
            self.server.ensure_running()

    def close(self) -> None:
        """Leave an embedded server; its last user stops it."""
        if self.server is not None:
            self.server.close()
            self.server = None


def parse(url: str, *, create: bool = True, insecure_tls: bool = False) -> Address:
    """The address a URL names: redis, rediss, redis+sentinel, rediss+sentinel, unix, embedded or memory.

    Raises InvalidInput; StoreNotFound if ``create`` is False and the directory of an embedded server is not there.
    """
    scheme, separator, rest = url.partition(":")
    if not separator:
        raise InvalidInput(
            f"store URL {_unless_secret(url)} has no scheme",
            hint="Use redis://HOST[:PORT][/DB], unix://PATH, embedded:PATH or memory:",
        )
    if scheme == "memory":
        return _memory(rest)
    if scheme == "embedded":
        if not create and not embedded.has_store(rest or ".runner"):
            raise StoreNotFound("", f"embedded:{rest}")
        server = embedded.Server.join(rest or ".runner")
        options = {"path": str(server.socket), "db": 0}
        return Address(f"embedded:{rest}", UnixDomainSocketConnection, _pinned(options), server=server)
    behind_sentinels = scheme in ("redis+sentinel", "rediss+sentinel")
    if scheme not in ("redis", "rediss", "unix") and not behind_sentinels:
        raise InvalidInput(
            f"store URL scheme {_unless_secret(scheme, url)} is not known",
            hint="Use redis://HOST[:PORT][/DB], rediss://…, redis+sentinel://HOST:PORT,…/SERVICE, unix://PATH, "
            "embedded:PATH or memory:",
        )
    if not rest.startswith("//"):
        raise InvalidInput(f"store URL of scheme {scheme!r} lacks '//' after the scheme", hint=f"Use {scheme}://…")
    if behind_sentinels:
        return _behind_sentinels(url, insecure_tls)
    return _of_server(url, scheme, insecure_tls)


def _of_server(url: str, scheme: str, insecure_tls: bool) -> Address:
    """The address of a URL that names a server. Raises InvalidInput."""
    label = _label(url)
    options = _options_of(url, scheme, label)
    kind: Any = options.pop("connection_class", Connection)
    connections: Any = options.pop("max_connections", None)
    if connections is not None and not 1 <= connections <= LARGEST_COUNTS["max_connections"]:
        most = LARGEST_COUNTS["max_connections"]
        raise InvalidInput(f"store URL {label} has max_connections={connections}, which must be from 1 to {most}")
    _check_options(options, label, insecure_tls)
    _take_password_file(options, label)
    found = Address(label, kind, _pinned(options), max_connections=connections)
    try:
        found.connection(DEFAULTS)  # opens nothing; refuses options that are not for this scheme
    except (TypeError, ValueError, redis.RedisError) as fault:
        reason = _unless_hidden(label, str(fault))
        raise InvalidInput(f"store URL {label} has an option that its scheme does not take: {reason}") from None
    if kind is SSLConnection:
        check_files(options, label, lambda file: _unless_hidden(label, repr(file)))
    return found


def _options_of(url: str, scheme: str, label: str) -> dict[str, Any]:
    """What a URL says, as the client library reads it. Raises InvalidInput."""
    try:
        if scheme != "unix" and not re.fullmatch(r"/?\d*", urlsplit(url).path):
            raise InvalidInput(f"store URL {label} has a path that is not the number of a database")
        options = dict(parse_url(url))  # type: ignore[no-untyped-call]
        options["port"] = int(str(options.get("port", 6379)))
        if scheme == "unix":
            del options["port"]
        str(options.get("host", "")).encode("idna")
        for name, value in options.items():
            if name != "path":  # a path may have any bytes
                str(value).encode()
        return options
    except InvalidInput:
        raise
    except (ValueError, TypeError):  # their text may hold a piece of the password
        raise InvalidInput(
            f"store URL {label} cannot be read",
            hint="Percent-encode '/', '?', '#', '@', ':' and bytes that are no UTF-8 in user name and password; "
            "port, db and max_connections are numbers.",
        ) from None


def _check_options(options: dict[str, Any], label: str, insecure_tls: bool) -> None:
    """Raise InvalidInput for an option that is not known, and for one that weakens TLS."""
    unknown = sorted(set(options) - _URL_OPTIONS)
    if unknown:
        meant = "" if HIDDEN in label else nearest(unknown[0], _URL_OPTIONS - options.keys())
        raise InvalidInput(
            f"store URL {label} has an unknown option {_unless_hidden(label, repr(unknown[0]))}",
            hint=f"Did you mean {meant!r}?" if meant else "",
        )
    if str(options.get("ssl_cert_reqs", "")).lower() in ("none", "optional", "0") and not insecure_tls:
        raise InvalidInput(
            f"store URL {label} switches the check of certificates off",
            hint=f"{WHOM_TO_TRUST} Only a program can do without: EventStore.open(…, insecure_tls=True).",
        )
    if options.get("ssl_check_hostname", True) is False and not insecure_tls:
        raise InvalidInput(
            f"store URL {label} switches the check of the server's name off",
            hint="Leave the option out, and use a name that stands in the server's certificate. "
            "Only a program can do without: EventStore.open(…, insecure_tls=True).",
        )


def _take_password_file(options: dict[str, Any], label: str) -> None:
    """Let the password be read from a file for each connection, if the options name one."""
    path = options.pop("password_file", None)
    if path is None:
        return
    if options.pop("password", None) is not None:
        raise InvalidInput(f"store URL {label} has a password and a password_file", hint="Give one of the two.")
    options["credential_provider"] = PasswordFile(Path(path), options.pop("username", None) or "")


def _behind_sentinels(url: str, insecure_tls: bool) -> Address:
    """The address of a service: the URL has the Sentinels in the place of the server, and the service before the db."""
    scheme, _, rest = url.partition("://")
    place, _, query = rest.partition("#")[0].partition("?")
    authority, _, path = place.partition("/")
    if "@" in path:
        raise InvalidInput(f"store URL {_label(url)} cannot be read", hint="Percent-encode '/' in a password.")
    user, at, hosts = authority.rpartition("@")
    service, _, db = path.partition("/")
    options = dict(parse_qsl(query, keep_blank_values=True))
    own = {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    plain = f"{scheme.removesuffix('+sentinel')}://{user}{at}"
    servers = [
        parse(f"{plain}{_with_port(host)}/{db}?{urlencode(options)}", insecure_tls=insecure_tls)
        for host in hosts.split(",")
    ]
    if not service:
        raise InvalidInput(
            f"store URL {_label(url)} names no service", hint=f"Use {scheme}://HOST:PORT,HOST:PORT/SERVICE."
        )
    found = servers[0]
    found.label = f"{scheme}://{hosts}/{service}"
    places = [(one.options.get("host", "localhost"), one.options["port"]) for one in servers]
    found.sentinels = sentinels_of(
        unquote(service), places, found.connection_class, {**found.options, **own, "credential_provider": None}
    )
    return found


def _with_port(host: str) -> str:
    """A host of a URL with its port, which is that of Sentinels unless it is given."""
    return host if ":" in host.rpartition("]")[2] else f"{host or 'localhost'}:{PORT}"


def from_client(client: Any) -> Address:
    """The address of a client that the application has already; its own connections are not touched."""
    pool = getattr(client, "connection_pool", None)
    if isinstance(client, (Sentinel, AsyncSentinel)):
        raise InvalidInput(
            "a Sentinel object does not say which service it is asked for", hint="Pass sentinel.master_for(SERVICE)."
        )
    if not isinstance(pool, (ConnectionPool, redis.asyncio.ConnectionPool)):
        raise InvalidInput(f"a store needs a URL or a redis.Redis client, not {type(client).__name__}")
    options = {name: value for name, value in pool.connection_kwargs.items() if not name.startswith(_NOT_OURS)}
    if isinstance(pool, (SentinelConnectionPool, AsyncSentinelConnectionPool)):
        return _of_sentinel_pool(pool, options)
    kind: type[Any] = _SYNC_CLASSES.get(pool.connection_class, pool.connection_class)
    where = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    fake = "server_type" in options
    return Address("memory:" if fake else str(where), kind, _pinned(options), fake=fake)


def _of_sentinel_pool(pool: Any, options: dict[str, Any]) -> Address:
    """The address of the service that a pool of the client library follows."""
    if not pool.is_master:
        raise InvalidInput("a store needs a client of the primary", hint="Pass sentinel.master_for(SERVICE).")
    del options["connection_pool"]
    secure = issubclass(pool.connection_class, (SSLConnection, redis.asyncio.SSLConnection))
    kind = SSLConnection if secure else Connection
    known = [one.connection_pool.connection_kwargs for one in pool.sentinel_manager.sentinels]
    places = [(one["host"], one["port"]) for one in known]
    label = ",".join(f"{host}:{port}" for host, port in places)
    sentinels = sentinels_of(pool.service_name, places, kind, _pinned(known[0]))
    return Address(f"redis+sentinel://{label}/{pool.service_name}", kind, _pinned(options), sentinels=sentinels)


def _pinned(options: dict[str, Any]) -> dict[str, Any]:
    return {
        **options,
        "protocol": 2,
        "decode_responses": False,
        "encoding": "utf-8",
        "health_check_interval": 0,
    }


def _label(url: str) -> str:
    """The URL without user, password and options; only the scheme if these cannot be told apart."""
    scheme, _, rest = url.partition("://")
    end = next((place for place, letter in enumerate(rest) if letter in "/?#"), len(rest))
    authority, path = rest[:end], rest[end:].partition("?")[0].partition("#")[0]
    if "@" in rest[end:]:
        return f"{scheme}://{HIDDEN}"
    server = authority.rpartition("@")[2]
    port = server.rpartition("]")[2].partition(":")[2]  # after the brackets of an IPv6 address
    if not is_port(port):  # a password, when the "@" and the server were left out
        return f"{scheme}://{server.removesuffix(port)}{HIDDEN}"
    return f"{scheme}://{server}{path}"


def _unless_hidden(label: str, text: str) -> str:
    """A piece of a URL; where its label is hidden, the piece may be one of the password."""
    return "(not shown)" if label.endswith(HIDDEN) else text


def _unless_secret(text: str, url: str = "") -> str:
    return "(not shown)" if "@" in (url or text) else repr(text)


_memories: dict[str, Any] = {}


def _memory(name: str) -> Address:
    """A store in this process: ``memory:`` is a new store, ``memory:NAME`` is the same store each time."""
    try:
        import fakeredis
    except ImportError:
        raise InvalidInput(
            "a memory: store needs fakeredis", hint="Install it with: pip install 'redis-streams-runner[memory]'"
        ) from None
    server = _memories.setdefault(name, fakeredis.FakeServer()) if name else fakeredis.FakeServer()
    address = from_client(fakeredis.FakeRedis(server=server))
    address.label = f"memory:{name}"
    return address
