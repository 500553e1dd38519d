"""A server with TLS, and an authority of the test's own that signed its certificate."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from servers import Server, free_port, server

#: The names of the server's certificate.
NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1"


@dataclass
class TlsServer:
    """A server with a port for TLS. ``authority`` is the file with the certificate that its own was signed with."""

    server: Server
    port: int
    authority: Path

    @property
    def url(self) -> str:
        return f"rediss://127.0.0.1:{self.port}/0"

    @property
    def trusted_url(self) -> str:
        return f"{self.url}?ssl_ca_certs={self.authority}"


@contextmanager
def tls_server(*options: str) -> Iterator[TlsServer]:
    """A server on a free port for TLS, and on another one without."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl on this machine")
    with tempfile.TemporaryDirectory(prefix="runner-tls-") as place:
        directory, port = Path(place), free_port()
        _certify(directory)
        with server(
            *("--tls-port", str(port), "--tls-auth-clients", "no"),
            *("--tls-cert-file", str(directory / "server.pem"), "--tls-key-file", str(directory / "server.key")),
            *("--tls-ca-cert-file", str(directory / "authority.pem")),
            *options,
        ) as started:
            yield TlsServer(started, port, directory / "authority.pem")


def _certify(directory: Path) -> None:
    """Make an authority, and have it sign the certificate of a server."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    _openssl(directory, "req", "-x509", *key, "-keyout", "authority.key", "-out", "authority.pem", "-subj", "/CN=Test")
    _openssl(directory, "req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    (directory / "names").write_text(NAMES)
    signed_by = ["-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial"]
    _openssl(directory, "x509", "-req", "-in", "server.csr", *signed_by, "-extfile", "names", "-out", "server.pem")


def _openssl(directory: Path, *args: str) -> None:
    subprocess.run(["openssl", *args], cwd=directory, check=True, capture_output=True)
