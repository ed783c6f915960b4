"""TLS and the API key for Temporal: their files, and the words for what fails. Temporal's client is not imported."""

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

from stepwave_server.config import Settings

__all__ = ["TemporalCredentials", "TemporalTlsError", "command_options", "load_credentials", "reason_of"]


class TemporalTlsError(ValueError):
    """Raised when the files for the connection to Temporal cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporalCredentials:
    """The credentials of a client of Temporal.

    Attributes:
        encrypted: Whether the connection has TLS.
        authority: The authority of Temporal's certificate, in PEM; `None`: those that the system trusts.
        certificate: The certificate of the client, in PEM; `None`: it has none.
        key: The private key of that certificate, in PEM.
        api_key: The key that each request carries; `None`: requests carry none.
    """

    encrypted: bool
    authority: bytes | None
    certificate: bytes | None
    key: bytes | None = field(repr=False)
    api_key: str | None = field(repr=False)


def load_credentials(settings: Settings) -> TemporalCredentials:
    """Read the files that the settings name, and check them.

    Raises:
        TemporalTlsError: A file cannot be read or is malformed, or the certificate and the key do not belong together.
    """
    certificate, key = settings.temporal_tls_cert, settings.temporal_tls_key
    credentials = TemporalCredentials(
        encrypted=settings.temporal_tls,
        authority=_read(settings.temporal_tls_ca),
        certificate=_read(certificate),
        key=_read(key),
        api_key=_read_api_key(settings.temporal_api_key_file),
    )
    if settings.temporal_tls_ca is not None:
        _check_authority(settings.temporal_tls_ca)
    if certificate is not None and key is not None:
        _check_pair(certificate, key)
    return credentials


def _read(path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise TemporalTlsError(f"{path}: cannot be read: {error.strerror}") from None


def _read_api_key(path: Path | None) -> str | None:
    """Return the key in a file. Spaces and line breaks around it are no part of it. The error does not show it."""
    content = _read(path)
    if content is None:
        return None
    key = content.decode("ascii", "replace").strip()
    if not key or re.search(r"[^!-~]", key):
        raise TemporalTlsError(f"{path} has no API key: expected one line of ASCII without spaces")
    return key


def _check_authority(path: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as error:  # an SSLError is an OSError
        raise TemporalTlsError(f"{path} has no certificates of an authority: {error}") from error


def _check_pair(certificate: Path, key: Path) -> None:
    try:  # without a password, OpenSSL would ask for that of an encrypted key
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password="")
    except OSError as error:
        raise TemporalTlsError(f"{certificate} and {key} are no certificate and its key: {error}") from error


def command_options(settings: Settings) -> str:
    """Return the options for the program `temporal` to connect as the settings say. A key stays in its file."""
    paths = {
        "--tls-ca-path": settings.temporal_tls_ca,
        "--tls-cert-path": settings.temporal_tls_cert,
        "--tls-key-path": settings.temporal_tls_key,
    }
    key_file = settings.temporal_api_key_file
    options = [f"--address {settings.temporal_address}"]
    if settings.temporal_tls:
        options.append("--tls")
    elif key_file is not None:  # with a key, the program encrypts by itself
        options.append("--tls=false")
    options += [f"{option} {quote(str(path))}" for option, path in paths.items() if path is not None]
    if key_file is not None:
        options.append(f'--api-key "$(cat {quote(str(key_file))})"')
    return " ".join(options)


_CLOSED = re.compile(r"BrokenPipe|UnexpectedEof|ConnectionReset|ConnectionAborted|Canceled, \"connection closed\"")
"""Errors of a connection that the other side has closed. Which of them comes depends on the moment."""

_ALERT = re.compile(r"(?:received fatal alert: |AlertReceived\()(\w+)")
_CERTIFICATE_ALERTS = {
    "AccessDenied",
    "BadCertificate",
    "CertificateExpired",
    "CertificateRequired",
    "CertificateRevoked",
    "CertificateUnknown",
    "DecryptError",
    "HandshakeFailure",
    "UnknownCA",
    "UnsupportedCertificate",
}
"""Alerts of TLS about the certificate of the client, or its lack."""

_INVALID_CERTIFICATE = re.compile(r"InvalidCertificate\((\w+)")
_MESSAGE = re.compile(r"(?:message|error): \"([^\"]+)\"")
_VAGUE = ("transport error", "operation was canceled")
"""Messages that say nothing. The next one in the text is the cause."""

_CERTIFICATE_PROBLEMS = {
    "NotValidForName": "its certificate is for another name than that of --temporal-address",
    "NotValidForNameContext": "its certificate is for another name than that of --temporal-address",
    "Expired": "its certificate has expired",
    "ExpiredContext": "its certificate has expired",
    "NotValidYet": "its certificate is not valid yet",
    "NotValidYetContext": "its certificate is not valid yet",
    "CaUsedAsEndEntity": "its certificate is that of an authority, and not of a server",
}

_NO_TLS = "it does not encrypt: leave out --temporal-tls"
_NEEDS_TLS = "it closed the connection, as a server that encrypts does: set --temporal-tls"
_NEEDS_CERTIFICATE = (
    "it closed the connection, as a server that wants a client certificate does: "
    "set --temporal-tls-cert and --temporal-tls-key"
)
_REFUSES_CERTIFICATE = (
    "it closed the connection, as a server that does not trust the client certificate does: check --temporal-tls-cert"
)


def reason_of(error: Exception, settings: Settings) -> str:
    """Return the cause of an error of the connection, in one line, with the option to look at.

    Args:
        error: The error of Temporal's client, which puts the names of its own types first.
        settings: The settings of the connection.
    """
    text = " ".join(str(error).split())
    if found := _INVALID_CERTIFICATE.search(text):
        return _certificate_problem(found[1], settings)
    if "InvalidContentType" in text:
        return _NO_TLS
    alert = _ALERT.search(text)
    if alert and alert[1] not in _CERTIFICATE_ALERTS:
        return f"it refuses to encrypt: {alert[1]}"
    if alert or _CLOSED.search(text):
        return _closed(settings)
    messages: list[str] = _MESSAGE.findall(text)
    return next((message for message in messages if message not in _VAGUE), text)


def _certificate_problem(problem: str, settings: Settings) -> str:
    if problem != "UnknownIssuer":
        return _CERTIFICATE_PROBLEMS.get(problem, f"its certificate is not accepted: {problem}")
    if settings.temporal_tls_ca is None:
        return "its certificate is of an authority that this machine does not trust: name it with --temporal-tls-ca"
    return f"its certificate is of another authority than that of --temporal-tls-ca, {settings.temporal_tls_ca}"


def _closed(settings: Settings) -> str:
    if not settings.temporal_tls:
        return _NEEDS_TLS
    return _NEEDS_CERTIFICATE if settings.temporal_tls_cert is None else _REFUSES_CERTIFICATE
