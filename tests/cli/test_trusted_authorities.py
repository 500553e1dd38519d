"""TLS at the command line: whom to trust, by the URL or by the environment."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis.exceptions as theirs
from command_line import run
from tls import TlsServer, tls_server

from runner.wire import address
from runner.wire.errors import translate


@pytest.fixture(scope="module")
def secured() -> Iterator[TlsServer]:
    with tls_server("--appendonly", "no") as started:
        yield started


@pytest.mark.real
def test_the_authority_of_a_server_is_named_in_the_url_or_in_the_environment(
    secured: TlsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the command says how; with it, it works."""
    # when
    refused = run("init", store=secured.url)

    # then
    assert refused.exit_code == 3
    assert "ssl_ca_certs=FILE" in refused.stderr
    assert "RUNNER_SSL_CA_CERTS" in refused.stderr

    # when / then
    assert run("init", store=secured.trusted_url).exit_code == 0
    monkeypatch.setenv("RUNNER_SSL_CA_CERTS", str(secured.authority))
    assert run("status", store=secured.url).exit_code == 0
    assert run("status", store=secured.server.url).exit_code == 0  # a URL without TLS needs none


@pytest.mark.real
def test_a_port_with_TLS_that_is_asked_without_it_has_a_hint(secured: TlsServer) -> None:
    """The server says nothing, as one that is not there."""
    refused = run("status", store=f"redis://127.0.0.1:{secured.port}")
    assert refused.exit_code == 3
    assert "the URL begins with rediss://" in refused.stderr


@pytest.mark.parametrize(
    ("code", "message", "hint"),
    [
        (18, "self-signed certificate", "ssl_ca_certs=FILE"),
        (62, "Hostname mismatch", "a name of the server that its certificate has"),
        (10, "certificate has expired", "Renew"),
        (9, "certificate is not yet valid", "clocks"),
        (23, "certificate revoked", "another certificate"),
    ],
)
def test_each_mistake_with_a_certificate_has_a_hint_of_its_own(code: int, message: str, hint: str) -> None:
    """Who reads it can do what it says."""
    cause = ssl.SSLCertVerificationError(1, message)
    cause.verify_code, cause.verify_message = code, message
    failed = theirs.ConnectionError("Error 1 connecting")
    failed.__cause__ = cause
    error = translate(failed, "rediss://redis")
    assert message in str(error)
    assert hint in error.hint


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, option: str) -> None:
    """Before anything is connected: else it would look like a server that is not there."""
    refused = run("status", store=f"rediss://localhost?{option}={tmp_path}/none.pem")
    assert refused.exit_code == 2
    assert f"{option} names" in refused.stderr


@pytest.mark.parametrize("option", ["ssl_cert_reqs=none", "ssl_check_hostname=false"])
def test_what_only_a_program_can_do_is_said_to_be_so(option: str) -> None:
    """A person at the command line reads what that person can do first."""
    with pytest.raises(Exception, match="switches the check") as refused:
        address.parse(f"rediss://localhost?{option}")
    assert "Only a program" in refused.value.hint  # type: ignore[attr-defined]
