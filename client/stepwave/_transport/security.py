"""The protection of a connection, and the sources of its server, namespace and credentials.

Each comes from the argument, else from the environment, else from the profile:

| argument | environment | key of a profile |
|---|---|---|
| `address` | `STEPWAVE_SERVER` | `server` |
| `namespace` | `STEPWAVE_NAMESPACE` | `namespace` |
| `token` | `STEPWAVE_TOKEN`, or `STEPWAVE_TOKEN_FILE`: a file with it | `token`, `token_file` |
| `tls` | `STEPWAVE_TLS`: 1 or 0 | `tls` |
| `tls_ca` | `STEPWAVE_TLS_CA` | `tls_ca` |
| `client_cert` | `STEPWAVE_CLIENT_CERT` | `client_cert` |
| `client_key` | `STEPWAVE_CLIENT_KEY` | `client_key` |
| `profile` | `STEPWAVE_PROFILE` | |

Profiles are the tables of `$STEPWAVE_PROFILES`, else of `~/.config/stepwave/profiles.toml`.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import grpc

from stepwave._values.toml import TOMLDecodeError, parse_toml

from .channel import channel_options, is_local, resolve_address
from .tokens import TokenFile, check_token

__all__ = ["PLAIN", "Connection", "PathLike", "Security", "open_channel", "resolve_connection"]

PathLike: TypeAlias = str | os.PathLike[str]

_PROFILES = "~/.config/stepwave/profiles.toml"
_KEYS = ("server", "namespace", "token", "token_file", "tls", "tls_ca", "client_cert", "client_key")
_FILES = frozenset({"token_file", "tls_ca", "client_cert", "client_key"})
_SWITCH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """The protection of a connection.

    Attributes:
        tls: Whether it is encrypted.
        authority: The certificates of the authorities to trust, in PEM; `None`: those of the system.
        certificate: The client's certificate with its chain, in PEM; `None`: it has none.
        key: The certificate's private key, in PEM.
        token: The bearer token of all calls; empty: there is none.
        token_file: The file with the token, which may change; `None`: it is `token`.
    """

    tls: bool = False
    authority: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    token: str = field(default="", repr=False)
    token_file: TokenFile | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Return the credentials of an encrypted channel."""
        return grpc.ssl_channel_credentials(self.authority, self.key, self.certificate)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the metadata of every call."""
        token = self.token if self.token_file is None else self.token_file.token
        return (("authorization", f"Bearer {token}"),) if token else ()


PLAIN = Security()


def open_channel(address: str, security: Security, options: Sequence[tuple[str, int]] = ()) -> grpc.Channel:
    """Return a blocking channel to an address; `options` beside those of every channel."""
    chosen = [*channel_options(address), *options]
    if security.tls:
        return grpc.secure_channel(address, security.credentials(), options=chosen)
    return grpc.insecure_channel(address, options=chosen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where a client connects to, and how.

    Attributes:
        address: The server's address.
        namespace: The namespace of all calls; empty: the server's default.
        security: The protection.
    """

    address: str
    namespace: str = ""
    security: Security = PLAIN


def resolve_connection(
    address: str | None,
    *,
    namespace: str = "",
    token: str | None = None,
    tls: bool | None = None,
    tls_ca: PathLike | None = None,
    client_cert: PathLike | None = None,
    client_key: PathLike | None = None,
    profile: str | None = None,
    insecure: bool = False,
) -> Connection:
    """Return the connection that arguments, the environment and a profile name.

    Raises:
        ValueError: The address, a file or the profile is malformed or missing, or what is sent would be readable on the
            way: plain text to another machine needs `insecure`, and a token never goes that way.
    """
    given: dict[str, object] = {
        "server": address,
        "namespace": namespace,
        "token": token,
        "tls": tls,
        "tls_ca": tls_ca,
        "client_cert": client_cert,
        "client_key": client_key,
    }
    chosen = _profile(profile or os.environ.get("STEPWAVE_PROFILE"))
    chosen |= {key: value for key in _KEYS if (value := os.environ.get(f"STEPWAVE_{key.upper()}"))}
    if any(os.environ.get(name) for name in ("STEPWAVE_TOKEN", "STEPWAVE_TOKEN_FILE")):
        other = "token_file" if os.environ.get("STEPWAVE_TOKEN") else "token"
        chosen.pop(other, None)  # of the profile
    chosen |= {key: value for key, value in given.items() if value not in (None, "")}
    security = _security(chosen)
    resolved = resolve_address(str(chosen["server"]) if "server" in chosen else None)
    _check_protection(resolved, security, insecure=insecure)
    return Connection(address=resolved, namespace=str(chosen.get("namespace", "")), security=security)


def _security(chosen: Mapping[str, object]) -> Security:
    authority, certificate, key = (_read(chosen, name) for name in ("tls_ca", "client_cert", "client_key"))
    if (certificate is None) != (key is None):
        raise ValueError("client_cert and client_key belong together: give both")
    path = None if chosen.get("token") else chosen.get("token_file")
    token_file = TokenFile(Path(str(path)).expanduser()) if path else None
    token = check_token(str(chosen.get("token") or "")) if token_file is None else token_file.token
    wanted = _switch(chosen.get("tls"))
    if wanted is None:
        wanted = authority is not None or certificate is not None
    return Security(
        tls=wanted, authority=authority, certificate=certificate, key=key, token=token, token_file=token_file
    )


def _switch(value: object) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    found = _SWITCH.get(str(value).lower())
    if found is None:
        raise ValueError(f"tls is 1 or 0, got {value!r}")
    return found


def _read(chosen: Mapping[str, object], name: str) -> bytes | None:
    path = chosen.get(name)
    if path is None:
        return None
    try:
        return Path(str(path)).expanduser().read_bytes()
    except OSError as error:
        raise ValueError(f"{name}: {path} cannot be read: {error.strerror}") from error


def _profile(name: str | None) -> dict[str, object]:
    """Return the values of a profile. Its paths are relative to the file of profiles."""
    if not name:
        return {}
    path = Path(os.environ.get("STEPWAVE_PROFILES") or _PROFILES).expanduser()
    try:
        profiles = parse_toml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"the profile {name!r} needs the file {path}: {error.strerror}") from error
    except (TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from error
    profile = profiles.get(name)
    if not isinstance(profile, dict):
        known = ", ".join(sorted(key for key, value in profiles.items() if isinstance(value, dict))) or "none"
        raise ValueError(f"{path} has no profile {name!r}; it has {known}")  # noqa: TRY004 - the file is wrong, not a type
    unknown = sorted(set(profile) - set(_KEYS))
    if unknown:
        raise ValueError(f"{path}: [{name}] has the unknown key {unknown[0]!r}; known: {', '.join(_KEYS)}")
    return {
        key: str(path.parent / Path(value).expanduser()) if key in _FILES and isinstance(value, str) else value
        for key, value in profile.items()
    }


def _check_protection(address: str, security: Security, *, insecure: bool) -> None:
    """Check that nothing leaves this machine readable, unless that is allowed.

    Raises:
        ValueError: It would.
    """
    if security.tls or is_local(address):
        return
    if security.token:
        raise ValueError(
            f"{address} is another machine, and a token never goes there as plain text: encrypt with tls=True or tls_ca"
        )
    if not insecure:
        raise ValueError(
            f"{address} is another machine, and the connection is not encrypted: encrypt with tls=True or tls_ca, or "
            "pass insecure=True to allow plain text"
        )
