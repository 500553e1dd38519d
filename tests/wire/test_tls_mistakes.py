"""TLS on real servers: what is wrong is called by its name, with a way out, on both faces."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from command_line import run
from faces import FACES
from servers import Server, free_port, server

from runner import AsyncEventStore, EventStore, InvalidInput
from runner.errors import StoreUnavailable
from runner.testing import TEST_SETTINGS

pytestmark = pytest.mark.real

#: Long enough for a handshake, short enough to wait for one that does not come.
SETTINGS = replace(TEST_SETTINGS, retry_for=0.1, socket_timeout=1.0)


@dataclass(frozen=True)
class Certificates:
    """Files: a certificate for `localhost` and its key, those of another server, and one that holds nothing."""

    folder: Path

    @property
    def own(self) -> str:
        return f"{self.folder}/own.pem"

    @property
    def own_key(self) -> str:
        return f"{self.folder}/own_key.pem"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    found = Certificates(tmp_path_factory.mktemp("certificates"))
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl on this machine")
    for name, host, days in (("own", "localhost", 2), ("other", "other.example", 2)):
        make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", str(days), "-subj", f"/CN={host}"]
        to = ["-addext", f"subjectAltName=DNS:{host}", "-keyout", f"{found.folder}/{name}_key.pem"]
        subprocess.run([*make, *to, "-out", f"{found.folder}/{name}.pem"], check=True, capture_output=True)
    (found.folder / "garbage.pem").write_text("nothing")
    return found


@contextmanager
def speaking_tls(files: Certificates, name: str = "own", *more: str) -> Iterator[tuple[Server, int]]:
    """A server that also speaks TLS, at the port that is given back."""
    port = free_port()
    certificate = ["--tls-cert-file", f"{files.folder}/{name}.pem", "--tls-key-file", f"{files.folder}/{name}_key.pem"]
    options = ["--tls-port", str(port), *certificate, "--tls-ca-cert-file", f"{files.folder}/own.pem"]
    with server(*options, *(more or ("--tls-auth-clients", "no"))) as started:
        yield started, port


def open_on(face: str, url: str) -> None:
    if face == "sync":
        EventStore.open(url, settings=SETTINGS).close()
        return

    async def work() -> None:
        async with AsyncEventStore.open(url, settings=SETTINGS) as store:
            await store.info()

    asyncio.run(work())


@pytest.mark.parametrize("face", FACES)
def test_a_server_is_reached_with_its_certificate(files: Certificates, face: str) -> None:
    """A self-signed one is its own authority."""
    with speaking_tls(files) as (_, port):
        open_on(face, f"rediss://localhost:{port}?ssl_ca_certs={files.own}")


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(
    ("name", "host", "authority", "text", "way_out"),
    [
        ("own", "localhost", "", "is not accepted: self-signed certificate", "?ssl_ca_certs=FILE"),
        ("own", "localhost", "other", "is not accepted: self-signed certificate", "?ssl_ca_certs=FILE"),
        ("other", "localhost", "other", "certificate is not valid for 'localhost'", "a name of the server"),
        ("own", "127.0.0.1", "own", "certificate is not valid for '127.0.0.1'", "a name of the server"),
    ],
)
def test_a_certificate_that_is_not_accepted_is_called_so(
    files: Certificates, face: str, name: str, host: str, authority: str, text: str, way_out: str
) -> None:
    """With the reason, and what to do about it."""
    with speaking_tls(files, name) as (_, port):
        given = f"?ssl_ca_certs={files.folder}/{authority}.pem" if authority else ""
        with pytest.raises(StoreUnavailable, match="certificate of the server") as failed:
            open_on(face, f"rediss://{host}:{port}{given}")
    assert text in str(failed.value)
    assert way_out in failed.value.hint


@pytest.mark.parametrize("face", FACES)
def test_an_error_that_the_caller_handles_is_not_taken_for_the_stores(files: Certificates, face: str) -> None:
    """As where a program turns to another store because the certificate of the first one is not accepted."""
    with speaking_tls(files) as (_, port):
        try:
            open_on(face, f"rediss://localhost:{port}")
        except StoreUnavailable:
            with pytest.raises(StoreUnavailable, match="no answer from the server at redis:"):
                open_on(face, "redis://127.0.0.1:1")


@pytest.mark.parametrize("face", FACES)
def test_a_port_that_speaks_no_tls_is_called_so(files: Certificates, face: str) -> None:
    """And one that speaks TLS to who does not."""
    with speaking_tls(files) as (started, port):
        with pytest.raises(StoreUnavailable, match="did not finish the TLS handshake") as failed:
            open_on(face, f"rediss://localhost:{started.port}?ssl_ca_certs={files.own}")
        assert "redis://" in failed.value.hint
        with pytest.raises(StoreUnavailable) as failed:
            open_on(face, f"redis://localhost:{port}")
        assert "rediss://" in failed.value.hint


@pytest.mark.parametrize("face", FACES)
def test_a_server_that_asks_for_a_certificate_of_the_clients_is_called_so(files: Certificates, face: str) -> None:
    """The hint names the options; with them it is reached."""
    with speaking_tls(files, "own", "--tls-auth-clients", "yes") as (_, port):
        url = f"rediss://localhost:{port}?ssl_ca_certs={files.own}"
        with pytest.raises(StoreUnavailable) as failed:
            open_on(face, url)
        assert "?ssl_certfile=FILE&ssl_keyfile=FILE" in failed.value.hint
        open_on(face, f"{url}&ssl_certfile={files.own}&ssl_keyfile={files.own_key}")


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("ssl_ca_certs={folder}/nope", "ssl_ca_certs names '{folder}/nope', which cannot be read: No such file"),
        ("ssl_ca_certs={folder}", "ssl_ca_certs names '{folder}', which cannot be read: Is a directory"),
        ("ssl_ca_certs={folder}/garbage.pem", "ssl_ca_certs names '{folder}/garbage.pem', which holds no certificate"),
        ("ssl_certfile={folder}/nope", "ssl_certfile names '{folder}/nope', which cannot be read: No such file"),
        ("ssl_certfile={folder}/own.pem&ssl_keyfile={folder}/nope", "ssl_keyfile names '{folder}/nope'"),
        ("ssl_certfile={folder}/own.pem&ssl_keyfile={folder}/other_key.pem", "own.pem', whose key is another"),
        ("ssl_certfile={folder}/garbage.pem", "garbage.pem', which cannot be used with its key"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_before_anything_is_sent(
    files: Certificates, face: str, options: str, text: str
) -> None:
    """With its option; there need not be a server."""
    with pytest.raises(InvalidInput) as failed:
        open_on(face, f"rediss://127.0.0.1:1?{options.format(folder=files.folder)}")
    assert text.format(folder=files.folder) in str(failed.value)


def test_a_file_that_may_be_a_piece_of_a_password_is_not_shown() -> None:
    """Where an @ stands behind the options, nobody knows where the password ends."""
    with pytest.raises(InvalidInput) as failed:
        EventStore.open("rediss://user:a?ssl_ca_certs=S3CR3T@localhost:1/0")
    assert "S3CR3T" not in failed.value.with_hint


def test_the_doctor_calls_a_mistake_with_tls_by_its_name(files: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    """As all commands do; and sends nobody back to itself."""
    with speaking_tls(files) as (_, port):
        failed = run("doctor", store=f"rediss://localhost:{port}")
        assert failed.exit_code == 3
        assert "self-signed certificate" in failed.stderr
        assert "?ssl_ca_certs=FILE" in failed.stderr
        assert "runner doctor" not in failed.stderr
        made = f"rediss://localhost:{port}?ssl_ca_certs={files.own}"
        EventStore.open(made).close()
        assert run("doctor", "--json", store=made).exit_code in (0, 3)
