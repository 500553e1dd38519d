"""TLS at the command line: whom to trust, by the URL or by the environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import run
from tls import TlsServer, tls_server

from runner.wire import address


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
