"""Mistakes with TLS, called by their names: files of a URL that cannot be used, and what a handshake failed for."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..errors import InvalidInput

#: Faults of a certificate, as OpenSSL numbers them.
EXPIRED, NOT_YET_VALID = 10, 9
UNKNOWN_ISSUER = frozenset({2, 18, 19, 20, 21})
OTHER_NAME = frozenset({62, 64})

#: How a certificate is trusted that no public authority has signed.
WHOM_TO_TRUST = (
    "Name the certificate of the authority that signed it, or itself if it is self-signed: ?ssl_ca_certs=FILE in the "
    "URL, or RUNNER_SSL_CA_CERTS for the commands."
)

_HINTS = {
    EXPIRED: "Renew the server's certificate.",
    NOT_YET_VALID: "Synchronise the clocks of this machine and of the server.",
    **dict.fromkeys(UNKNOWN_ISSUER, WHOM_TO_TRUST),
    **dict.fromkeys(OTHER_NAME, "Use a name of the server that its certificate has."),
}

#: The packages in whose code the errors of a connection are caught on their way.
_LIBRARIES = frozenset({"redis", "asyncio", "ssl", "socket"})

_PLACE_IN_SOURCE = re.compile(r" \(_ssl\.c:\d+\)")

CLIENT_CERTIFICATE = "Name a certificate and its key: ?ssl_certfile=FILE&ssl_keyfile=FILE."


def check_files(options: Mapping[str, Any], label: str, shown: Callable[[str], str]) -> None:
    """Raise InvalidInput, naming the option, for a file of a URL that cannot be read or holds what it should not.

    ``shown``: a file's name as an error may show it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authorities, certificate, key = (options.get(name) for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"))
    for name, file in (("ssl_ca_certs", authorities), ("ssl_certfile", certificate), ("ssl_keyfile", key)):
        if file:
            _check_readable(label, name, file, shown)
    if authorities:
        try:
            context.load_verify_locations(authorities)
        except ssl.SSLError:
            raise _useless(label, "ssl_ca_certs", shown(authorities), "which holds no certificate") from None
    if certificate:
        try:
            context.load_cert_chain(certificate, key, password="")
        except ssl.SSLError as fault:
            what = (
                "whose key is another" if fault.reason == "KEY_VALUES_MISMATCH" else "which cannot be used with its key"
            )
            raise _useless(label, "ssl_certfile", shown(certificate), what) from None


def _check_readable(label: str, option: str, file: str, shown: Callable[[str], str]) -> None:
    try:
        with open(file, "rb") as opened:
            opened.read(1)
    except (OSError, ValueError) as fault:
        why = getattr(fault, "strerror", None) or str(fault)
        raise _useless(label, option, shown(file), f"which cannot be read: {why}") from None


def _useless(label: str, option: str, file: str, why: str) -> InvalidInput:
    return InvalidInput(
        f"store URL {label}: {option} names {file}, {why}",
        hint="Name a file in the PEM format, seen from the working directory.",
    )


def fault_of(error: BaseException, address: str) -> tuple[str, str] | None:
    """What failed and what to do, if TLS is the cause or may be; None for every other error of a connection."""
    over_tls = address.startswith("rediss")
    for cause in _chain(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            what = f"the certificate of the server at {address} is not accepted: {cause.verify_message.rstrip('.')}"
            return what, _HINTS.get(cause.verify_code, "Give the server another certificate.")
        if isinstance(cause, ssl.SSLError) and "CERTIFICATE" in (cause.reason or ""):
            return f"the server at {address} asks for a certificate of the client's", CLIENT_CERTIFICATE
        if isinstance(cause, ssl.SSLError) and over_tls:
            why = _PLACE_IN_SOURCE.sub("", cause.reason or cause.strerror or str(cause))
            what = f"the server at {address} ended the TLS connection: {why}"
            return what, f"See that it runs. If it asks for a certificate of the client's: {CLIENT_CERTIFICATE}"
        if isinstance(cause, TimeoutError) and over_tls and "connecting" in str(error):
            what = f"the server at {address} did not finish the TLS handshake in time"
            return what, "See whether it speaks TLS at this port; without TLS the URL begins with redis://."
        if isinstance(cause, ConnectionResetError) and address.startswith("redis:"):
            what = f"the server at {address} ended the connection"
            return what, "See that it runs. If it speaks TLS at this port, the URL begins with rediss://."
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error of the client library, and what it came from; not the error that a caller may be handling meanwhile."""
    yield error
    while (cause := error.__cause__ or error.__context__) is not None and _is_of_library(cause):
        yield cause
        error = cause


def _is_of_library(error: BaseException) -> bool:
    """Whether the client library, or what it stands on, has caught an error: its traceback begins where that was."""
    trace = error.__traceback__
    return trace is None or str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] in _LIBRARIES
