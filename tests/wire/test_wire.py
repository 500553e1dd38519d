"""From URLs and clients to servers, and back from what servers and sockets say to this package's errors."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fakeredis
import fakeredis.aioredis
import pytest
import redis
import redis.asyncio
from accounts import PATIENCE
from looks import do

from runner import (
    ALL,
    AppendResult,
    AsyncEventStore,
    EventStore,
    InvalidInput,
    NewEvent,
    RunnerError,
    Settings,
    StoreTrouble,
)
from runner.effects.backoff import Backoff
from runner.errors import LogCorrupt, RecordDamaged, StoreRefused, StoreUnavailable
from runner.testing import TEST_SETTINGS
from runner.wire import address
from runner.wire.clock import SYSTEM_CLOCK

HASTY = replace(TEST_SETTINGS, retry_for=0, socket_timeout=1.0)

#: Never to be seen in any text.
SECRET = "hunter2"


def everything_said(error: BaseException) -> str:
    """All that a log might show of an error: text, repr, hint, notes and the whole chain of causes."""
    return "".join(traceback.format_exception(error)) + repr(error) + getattr(error, "hint", "")


@pytest.fixture
def own_server() -> Iterator[EventStore]:
    """A store on a server of its own, whose configuration a test may turn."""
    with (
        tempfile.TemporaryDirectory(prefix="runner-own-") as directory,
        EventStore.open(f"embedded:{directory}", settings=TEST_SETTINGS) as store,
    ):
        yield store


def socket_of(store: EventStore) -> Path:
    server = store.driver.address.server
    assert server is not None
    return server.socket


@pytest.fixture
def free_port() -> int:
    """A port of the loopback interface at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# -- URLs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("", "no scheme"),
        ("localhost", "'localhost' has no scheme"),
        ("http://localhost:6379", "scheme 'http'"),
        ("localhost:6379", "scheme 'localhost'"),
        ("redis://localhost:port/0", "localhost:***"),
        ("redis://localhost?colour=red", "unknown option 'colour'"),
        ("redis://localhost?decode_responses=true", "unknown option 'decode_responses'"),
        ("redis://localhost?protocol=3", "unknown option 'protocol'"),
        ("redis://localhost?retry_on_timeout=true", "unknown option 'retry_on_timeout'"),
        ("unix:///tmp/nobody?db=first", "/tmp/nobody"),
        ("redis://h\udcff:1/0", "cannot be read"),
        ("redis://:\udcff@localhost", "cannot be read"),
        ("redis://" + 70 * "h", "cannot be read"),
        ("redis+sentinel:main", "lacks '//'"),
        ("redis+sentinel://first,second:26380", "names no service"),
    ],
)
def test_a_url_that_cannot_be_right_is_refused(url: str, named: str) -> None:
    """The error names what is wrong with it; no connection is tried."""
    with pytest.raises(InvalidInput) as caught:
        EventStore.open(url)

    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("redis://localhost?pasword_file=/run/secret", "Did you mean 'password_file'?"),
        ("rediss://localhost?ssl_ca_cert=ca.pem", "Did you mean 'ssl_ca_certs'?"),
        ("redis://localhost?colour=red", ""),
    ],
)
def test_a_mistyped_option_of_a_url_has_a_hint(url: str, meant: str) -> None:
    """The option that was probably meant, if one is like it."""
    with pytest.raises(InvalidInput) as caught:
        EventStore.open(url)

    assert caught.value.hint == meant


def test_a_sentinel_without_a_host_is_on_this_machine() -> None:
    """As a server without one is."""
    found = address.parse("redis+sentinel://:26380,/main")
    assert found.sentinels is not None
    assert found.sentinels.places == (("localhost", 26380), ("localhost", 26379))


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost?ssl_certfile=mine.pem",
        "redis://localhost?path=/tmp/socket",
        "unix:///tmp/nobody?ssl_ca_certs=ca.pem",
        "rediss://localhost?ssl_cert_reqs=perhaps",
    ],
)
def test_an_option_that_its_scheme_does_not_know_is_refused(url: str) -> None:
    """No error of the client library comes through, and no TypeError."""
    with pytest.raises(InvalidInput):
        EventStore.open(url, settings=HASTY)


@pytest.mark.parametrize("url", ["redis://localhost?port=abc", "redis://localhost:99999"])
def test_a_port_that_is_none_is_told_in_this_packages_errors(url: str) -> None:
    """No error of the socket module comes through."""
    with pytest.raises(RunnerError):
        EventStore.open(url, settings=HASTY)


@pytest.mark.parametrize(
    "option",
    ["ssl_cert_reqs=none", "ssl_cert_reqs=NONE", "ssl_cert_reqs=None", "ssl_cert_reqs=optional", "ssl_cert_reqs=0"],
)
def test_switching_certificates_off_is_refused(option: str) -> None:
    """A URL alone cannot make TLS worthless; the error says how it can be done on purpose."""
    with pytest.raises(InvalidInput) as caught:
        EventStore.open(f"rediss://:{SECRET}@localhost?{option}", settings=HASTY)

    assert "insecure_tls=True" in caught.value.hint
    assert SECRET not in everything_said(caught.value)


def test_certificates_can_be_switched_off_on_purpose() -> None:
    """With ``insecure_tls=True`` the option of the URL holds."""
    found = address.parse("rediss://localhost?ssl_cert_reqs=none", insecure_tls=True)

    assert found.options["ssl_cert_reqs"] == "none"


def test_switching_the_check_of_host_names_off_is_refused_too() -> None:
    """A certificate of anyone's is as good as none."""
    with pytest.raises(InvalidInput):
        address.parse("rediss://localhost?ssl_check_hostname=false")
    assert address.parse("rediss://localhost?ssl_check_hostname=false", insecure_tls=True)
    assert address.parse("rediss://localhost?ssl_check_hostname=true")


@pytest.mark.parametrize(
    ("url", "label"),
    [
        ("redis://localhost", "redis://localhost"),
        ("redis://me:hunter2@redis.example:6380/3", "redis://redis.example:6380/3"),
        ("rediss://:hunter2@[::1]:6380/3?client_name=me", "rediss://[::1]:6380/3"),
        ("unix://me:hunter2@/tmp/nobody?db=3", "unix:///tmp/nobody"),
        ("redis://localhost?username=me&password=hunter2", "redis://localhost"),
        (f"redis://:{quote('hunter2/@:#?', safe='')}@localhost:6380/0", "redis://localhost:6380/0"),
    ],
)
def test_a_label_says_where_and_holds_no_secret(url: str, label: str) -> None:
    """It has scheme, host, port and database, and neither user, password nor options."""
    found = address.parse(url)

    assert found.label == label
    assert SECRET not in repr(found)
    assert found.options["password"].startswith(SECRET) if SECRET in url else "password" not in found.options


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2/0",
        "redis://me:hunter2",
        "rediss://[::1]:hunter2/0",
        "redis://:123456/0",
    ],
)
def test_a_url_without_its_at_sign_shows_no_password(url: str) -> None:
    """What stands in the place of the port is shown only if it can be one."""
    with pytest.raises(InvalidInput) as caught:
        address.parse(url)
    assert "hunter2" not in str(caught.value)
    assert "123456" not in str(caught.value)
    assert address.parse("unix://:hunter2/tmp/nobody").label == "unix://:***"


@pytest.mark.parametrize(
    "url",
    [
        "redis://:{}@localhost:port/0",
        "redis://:{}@localhost/0?colour=red",
        "redis://:{}@localhost?password={}&db=first",
        "rediss://:{}@localhost?ssl_cert_reqs=perhaps",
        "http://:{}@localhost",
        "unix://:{}@/tmp/nobody-is-here.sock",
        "redis://:{}@127.0.0.1:1/0",
        "redis://:{}@[::1/0",
        "redis://:{}/more@localhost:6379/0",
        "redis://:{}#more@localhost:6379/0",
        "redis://:{}?more@localhost:6379/0",
        "redis://:more/{}@localhost:6379/0",
        "redis://:12?{}=x@localhost/0",
        "rediss://?u:{}@localhost",
        "rediss://localhost?ssl_cert_reqs={}@x",
        "redis+sentinel://:more/{}@127.0.0.1:1/main",
        "redis+sentinel://:12/{}@127.0.0.1:1",
        "redis+sentinel://:12?{}@127.0.0.1:1/main",
        "redis+sentinel://:12#{}@127.0.0.1:1/main",
    ],
)
def test_a_password_is_in_no_error(url: str) -> None:
    """Whatever is wrong with the URL or the server, also where the password was not percent-encoded."""
    with pytest.raises(RunnerError) as caught:
        EventStore.open(url.replace("{}", SECRET), settings=HASTY)

    assert SECRET not in everything_said(caught.value)


def test_memory_urls_with_a_name_share_a_store(fresh_name: str) -> None:
    """``memory:NAME`` is the same for all who name it, ``memory:`` is a new one each time."""
    with EventStore.open(f"memory:{fresh_name}") as store:
        store.append("account-1", NewEvent("Opened"))

        assert EventStore.open(f"memory:{fresh_name}").version("account-1") == 1
        assert EventStore.open("memory:").version("account-1") == 0


def test_an_embedded_store_that_cannot_be_made_is_refused() -> None:
    """A path below a file is no directory: the error names it, and the reason."""
    with tempfile.NamedTemporaryFile() as file, pytest.raises(InvalidInput, match=file.name):
        EventStore.open(f"embedded:{file.name}/below")


# -- clients ------------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"decode_responses": True},
        {"decode_responses": True, "encoding": "latin-1"},
        {"protocol": 3},
        {"socket_timeout": 0.000001},
        {"health_check_interval": 1, "client_name": "me"},
        {"db": 3},
    ],
    ids=str,
)
def test_a_store_on_a_client_does_not_depend_on_its_options(
    real_store: EventStore, fresh_name: str, options: dict[str, Any]
) -> None:
    """Decoding, protocol, encoding and timeouts are the store's own; the database is the client's."""
    client = redis.Redis(unix_socket_path=str(socket_of(real_store)), **options)
    with EventStore(client, name=fresh_name, settings=TEST_SETTINGS) as store:
        result = store.append("account-1", NewEvent("Grüße", {"text": "🎉", "raw": b"\xff"}), 0)

        [event] = store.read_stream("account-1")
        assert result == AppendResult("account-1", 1, 1, 1, 0, duplicate=False)
        assert (event.type, event.data) == ("Grüße", {"text": "🎉", "raw": b"\xff"})
        assert real_store.version("account-1") == (0 if options.get("db") else 1)
        assert str(socket_of(real_store)) in repr(store)
    client.close()


@pytest.mark.parametrize("option", ["maint_notifications_config", "orig_host_address", "oss_cluster_maint_handler"])
def test_what_the_client_library_keeps_among_the_options_of_a_client_is_not_passed_on(option: str) -> None:
    """Its own bookkeeping belongs to the connections of its pool; a connection of the store is made without it."""
    client = fakeredis.FakeRedis()
    client.connection_pool.connection_kwargs[option] = object()
    found = address.from_client(client)
    assert option not in found.options
    found.connection(TEST_SETTINGS)


@pytest.mark.real
def test_closing_a_store_leaves_its_client_open(real_store: EventStore, fresh_name: str) -> None:
    """The client's connections are its own, and its settings too."""
    client = redis.Redis(unix_socket_path=str(socket_of(real_store)), decode_responses=True)
    with EventStore(client, name=fresh_name) as store:
        store.append("account-1", NewEvent("Opened"))

    assert client.get("nothing") is None
    assert client.echo("text") == "text"
    client.close()


@pytest.mark.parametrize("options", [{}, {"decode_responses": True}, {"protocol": 2}], ids=str)
def test_a_store_on_a_fake_client_works_without_a_server(options: dict[str, Any]) -> None:
    """``fakeredis.FakeRedis`` is a client like any other, and what it holds is shared with the store."""
    client = fakeredis.FakeRedis(**options)
    with EventStore(client, settings=TEST_SETTINGS) as store:
        store.append("account-1", NewEvent("Opened", b"\xff"))

        assert [event.data for event in store.read_all()] == [b"\xff"]
        with store.subscribe(ALL) as subscription:
            assert subscription.poll(5) is not None
        assert client.exists("{es.0}:log") == 1
    assert EventStore(client).version("account-1") == 1
    client.close()


@pytest.mark.real
@pytest.mark.parametrize("decode", [False, True])
def test_an_asynchronous_store_works_on_an_asynchronous_client(
    real_store: EventStore, fresh_name: str, decode: bool
) -> None:
    """``redis.asyncio.Redis`` for AsyncEventStore, whatever it decodes."""

    async def scenario() -> None:
        client = redis.asyncio.Redis(unix_socket_path=str(socket_of(real_store)), decode_responses=decode)
        async with AsyncEventStore(client, name=fresh_name, settings=TEST_SETTINGS) as store:
            await store.append("account-1", NewEvent("Opened"))
        await client.aclose()

    asyncio.run(scenario())

    assert real_store.version("account-1") == 1


def test_an_asynchronous_store_works_on_a_fake_asynchronous_client() -> None:
    """``fakeredis.aioredis.FakeRedis`` too."""

    async def scenario() -> int:
        client = fakeredis.aioredis.FakeRedis()
        async with AsyncEventStore(client, settings=TEST_SETTINGS) as store:
            result = await store.append("account-1", NewEvent("Opened"))
        await client.aclose()
        return result.version

    assert asyncio.run(scenario()) == 1


@pytest.mark.parametrize("client", [None, "redis://localhost", b"redis://localhost", 7], ids=repr)
def test_what_is_no_client_is_refused_by_name(client: Any) -> None:
    """The error says what is wanted and what was given."""
    for kind in (EventStore, AsyncEventStore):
        with pytest.raises(InvalidInput, match=type(client).__name__):
            kind(client)


# -- servers that are not there -----------------------------------------------------------------


def test_a_port_at_which_nobody_listens_is_unavailable(free_port: int) -> None:
    """The error carries the address and what to look at."""
    with pytest.raises(StoreUnavailable, match=f"redis://127.0.0.1:{free_port}") as caught:
        EventStore.open(f"redis://:{SECRET}@127.0.0.1:{free_port}", settings=HASTY)

    assert caught.value.hint
    assert SECRET not in everything_said(caught.value)


def test_a_server_that_does_not_answer_is_unavailable_after_the_timeout() -> None:
    """It accepts the connection and stays silent: the socket timeout ends the wait."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"

        with pytest.raises(StoreUnavailable):
            EventStore.open(url, settings=Settings(retry_for=0, socket_timeout=0.1))


def test_a_silent_server_is_unavailable_to_an_asynchronous_store_too() -> None:
    """The same timeout ends the wait of a task."""

    async def scenario(url: str) -> None:
        store = AsyncEventStore.open(url, settings=Settings(retry_for=0, socket_timeout=0.1))
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(StoreUnavailable):
                await store.version("account-1")
        await store.close()

    with socket.create_server(("127.0.0.1", 0)) as silent:
        asyncio.run(scenario(f"redis://127.0.0.1:{silent.getsockname()[1]}"))


def test_an_asynchronous_store_without_a_server_is_unavailable_on_first_use(free_port: int) -> None:
    """Making it connects to nothing; the first call does."""

    async def scenario() -> None:
        store = AsyncEventStore.open(f"redis://:{SECRET}@127.0.0.1:{free_port}", settings=HASTY)
        with pytest.raises(StoreUnavailable, match=f"redis://127.0.0.1:{free_port}") as caught:
            await store.version("account-1")
        assert SECRET not in everything_said(caught.value) + repr(store)
        await store.close()

    asyncio.run(scenario())


# -- servers that refuse ------------------------------------------------------------------------


@pytest.mark.real
def test_a_server_that_demands_a_password_refuses_without_and_with_a_wrong_one(own_server: EventStore) -> None:
    """NOAUTH and WRONGPASS are for a person, so they are not repeated; no text shows either password."""
    path = socket_of(own_server)
    right = "the-right-one"
    do(own_server, "CONFIG", "SET", "requirepass", right)
    try:
        with pytest.raises(StoreRefused) as without:
            EventStore.open(f"unix://{path}")
        with pytest.raises(StoreRefused) as wrong:
            EventStore.open(f"unix://:{SECRET}@{path}")
        with pytest.raises(StoreRefused) as stranger:
            EventStore.open(f"unix://me:{SECRET}@{path}")
        with EventStore.open(f"unix://:{right}@{path}", settings=TEST_SETTINGS) as store:
            store.append("account-1", NewEvent("Opened"))
            said = [repr(store), store.label, repr(store.driver.address)]
    finally:
        do(own_server, "CONFIG", "SET", "requirepass", "")

    assert [caught.value.code for caught in (without, wrong, stranger)] == ["NOAUTH", "WRONGPASS", "WRONGPASS"]
    said += [everything_said(caught.value) for caught in (without, wrong, stranger)]
    assert not any(SECRET in text or right in text for text in said)
    assert all(caught.value.hint for caught in (without, wrong, stranger))


@pytest.mark.real
def test_an_asynchronous_store_shows_no_password_either(own_server: EventStore) -> None:
    """The same translation serves both drivers."""

    async def scenario() -> None:
        store = AsyncEventStore.open(f"unix://:{SECRET}@{socket_of(own_server)}", settings=HASTY)
        with pytest.raises(StoreRefused) as caught:
            await store.version("account-1")
        await store.close()
        assert caught.value.code == "WRONGPASS"
        assert SECRET not in everything_said(caught.value) + repr(store)

    do(own_server, "CONFIG", "SET", "requirepass", "the-right-one")
    try:
        asyncio.run(scenario())
    finally:
        do(own_server, "CONFIG", "SET", "requirepass", "")


def opened_as(own_server: EventStore, *rules: str) -> EventStore:
    """The store as a user sees it who may do only what the rules say."""
    do(own_server, "ACL", "SETUSER", "clerk", "reset", "on", f">{SECRET}", *rules)
    return EventStore.open(f"unix://clerk:{SECRET}@{socket_of(own_server)}", settings=TEST_SETTINGS)


@pytest.mark.real
def test_a_user_who_may_only_read_cannot_append(own_server: EventStore) -> None:
    """NOPERM: the error says whose fault it is, and nothing is written."""
    own_server.append("account-1", NewEvent("Opened"))

    with opened_as(own_server, "~*", "+@read", "+@connection") as store:
        assert len(list(store.read_all())) == 1
        with pytest.raises(StoreRefused) as caught:
            store.append("account-1", NewEvent("Closed"), 1)

    assert caught.value.code == "NOPERM"
    assert "access list" in caught.value.hint
    assert SECRET not in everything_said(caught.value)
    assert own_server.last_position() == own_server.version("account-1") == 1


@pytest.mark.real
def test_a_user_without_the_keys_of_a_store_cannot_open_it(own_server: EventStore) -> None:
    """NOPERM, as for any other command."""
    with pytest.raises(StoreRefused) as caught:
        opened_as(own_server, "~other*", "+@all")

    assert caught.value.code == "NOPERM"


@pytest.mark.real
def test_a_user_who_lacks_a_command_of_the_script_is_told_so(own_server: EventStore) -> None:
    """Servers say it in other words where a script is concerned; it is NOPERM all the same, with its hint."""
    with opened_as(own_server, "~*", "+@all", "-xadd") as store, pytest.raises(StoreRefused) as caught:
        store.append("account-2", NewEvent("Opened"))

    assert caught.value.code == "NOPERM"
    assert "access list" in caught.value.hint


@pytest.mark.real
@pytest.mark.parametrize("lacking", ["xadd", "copy", "hset"])
def test_a_user_who_lacks_a_command_of_the_script_writes_nothing(own_server: EventStore, lacking: str) -> None:
    """Scripts do not roll back, so what a script may not do must show before it has written anything."""
    own_server.append("account-1", NewEvent("Opened"))

    with opened_as(own_server, "~*", "+@all", f"-{lacking}") as store, pytest.raises(StoreRefused):
        store.append("account-2", NewEvent("Opened"))

    assert own_server.last_position() == 1
    assert own_server.append("account-3", NewEvent("Opened"), 0).position == 2
    assert [event.stream for event in own_server.read_stream("account-3")] == ["account-3"]


@pytest.mark.real
def test_an_append_of_no_events_needs_no_right_to_write(own_server: EventStore) -> None:
    """It only compares the version, also of a stream that is not there."""
    with opened_as(own_server, "~*", "+@all", "-copy", "-del") as store:
        result = store.append("account-2", [], 0)

    assert (result.version, result.duplicate) == (0, False)
    assert own_server.last_position() == 0


@pytest.fixture
def full_server(own_server: EventStore) -> Iterator[EventStore]:
    """A server that holds one event and takes no more."""
    own_server.append("account-1", NewEvent("Opened"), 0)
    do(own_server, "CONFIG", "SET", "maxmemory", "1")
    yield own_server
    do(own_server, "CONFIG", "SET", "maxmemory", "0")


@pytest.mark.real
@pytest.mark.parametrize("stream", ["account-1", "account-2"])
def test_a_server_out_of_memory_refuses_appends_whole(full_server: EventStore, stream: str) -> None:
    """OOM: nothing is written, the hint says what to do, and when there is room again appends go on."""
    batch = [NewEvent("Noted", "x" * 1000) for _ in range(50)]

    for attempt in (full_server.append_many, full_server.append_each):
        with pytest.raises(StoreRefused) as caught:
            attempt([(stream, batch, 1 if stream == "account-1" else 0)])
        assert caught.value.code == "OOM"
        assert "maxmemory" in caught.value.hint

    assert [event.type for event in full_server.read_all()] == ["Opened"]
    do(full_server, "CONFIG", "SET", "maxmemory", "0")
    assert full_server.append(stream, batch).position == 51


@pytest.mark.real
def test_a_server_out_of_memory_can_still_be_read(full_server: EventStore) -> None:
    """Reading needs no memory: the log, the stream, its version, a subscription."""
    assert full_server.version("account-1") == 1
    assert len(list(full_server.read_all())) == 1
    with full_server.subscribe(ALL) as subscription:
        assert subscription.poll(5) is not None
    assert len(list(full_server.read_stream("account-1"))) == 1


# -- keys that are not what they should be ------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        lambda store: list(store.read_all()),
        lambda store: list(store.read_stream("account-1")),
        lambda store: store.last_position(),
        lambda store: store.append("account-1", NewEvent("Closed"), 1),
        lambda store: store.append_each([("account-2", [NewEvent("Opened")], 0)]),
    ],
    ids=["read_all", "read_stream", "last_position", "append", "append_each"],
)
def test_a_key_of_another_type_is_a_corrupt_log(store: EventStore, use: Callable[[EventStore], object]) -> None:
    """WRONGTYPE: someone else wrote under the store's name; nothing is written over it."""
    log = store.info.keys[0].log
    store.append("account-1", NewEvent("Opened"), 0)
    store.driver.execute([("DEL", log), ("SET", log, "mine")])

    with pytest.raises(RecordDamaged, match="holds another type"):
        use(store)

    assert do(store, "GET", log) == b"mine"


def test_a_store_of_another_format_is_refused(store: EventStore, url: str, fresh_name: str) -> None:
    """A later layout is never guessed at; the error names both formats."""
    do(store, "HSET", store.info.keys[0].meta, "format", 3)

    with pytest.raises(LogCorrupt, match=r"format '3'.*formats 1 and 2") as caught:
        EventStore.open(url, name=fresh_name)

    assert caught.value.hint


def test_an_error_of_the_server_that_nobody_knows_is_passed_on(store: EventStore) -> None:
    """Its text is kept, and it is not taken for something that passes."""
    with pytest.raises(StoreRefused, match=r"(?i)unknown command"):
        do(store, "NOSUCHCOMMAND")
    assert issubclass(StoreRefused, StoreTrouble)
    assert store.last_position() == 0


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("page_size", 0), ("page_size", 10_001), ("block", 0), ("retry_for", -1), ("socket_timeout", 0),
        ("buffer_size", "many"), ("heartbeat", True), ("page_size", 1.5), ("cache_rows", 10.0), ("buffer_size", 2**63),
        ("lease", 1e15), ("lease", float("nan")), ("heartbeat", float("inf")), ("socket_timeout", 1e300),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused_by_name(setting: str, value: Any) -> None:
    """The error names the setting and the value."""
    with pytest.raises(InvalidInput, match=setting):
        Settings(**{setting: value})


def test_a_store_may_retry_without_end() -> None:
    """``retry_for`` alone may be infinite: then a request ends when the server is back."""
    settings = Settings(retry_for=float("inf"))
    backoff = Backoff(settings.retry_for, replace(SYSTEM_CLOCK, monotonic=lambda: 1e9))
    assert 0 < backoff.after(StoreUnavailable("away")) < PATIENCE
    with pytest.raises(InvalidInput, match="setting lease must be at most"):
        Settings(lease=float("inf"))


def test_the_client_library_is_given_text_and_bytes_only() -> None:
    """A number makes hiredis call back into Python, where a signal in that moment ends the process."""
    from runner.format.scripts import load
    from runner.wire.commands import encode

    commands = encode(
        [("XRANGE", "log", 1, "+", "COUNT", 500), load("progress/commit").call(["a", "b"], 1, b"x", 2.5)], False
    )

    assert all(isinstance(part, (str, bytes)) for command in commands for part in command)
    assert commands[0] == ("XRANGE", "log", "1", "+", "COUNT", "500")
