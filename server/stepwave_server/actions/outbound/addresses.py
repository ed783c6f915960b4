"""The addresses that built-in actions may connect to: public ones, and those that the operator allows."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Self, TypeAlias

__all__ = ["Address", "AllowList", "kind_of", "to_address"]

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

NAT64 = IPv6Network("64:ff9b::/96")
"""IPv6 addresses that stand for IPv4 addresses, which are in their last 32 bits (RFC 6052)."""

METADATA = frozenset({IPv4Address("168.63.129.16"), IPv4Address("192.0.0.192")})
"""Addresses of metadata services that are not link-local or private: of Azure and Oracle Cloud."""

RESERVED: tuple[Network, ...] = (
    IPv4Network("192.0.0.0/24"),  # protocol assignments
    IPv4Network("192.88.99.0/24"),  # relays of 6to4
    IPv6Network("64:ff9b:1::/48"),  # translation to IPv4 within a site
    IPv6Network("100::/64"),  # discarded
    IPv6Network("3fff::/20"),  # documentation
    IPv6Network("5f00::/16"),  # segment routing
)
"""Networks of IANA's registries of special-purpose addresses that some versions of Python take for public."""

_KINDS = (
    ("is_loopback", "a loopback"),
    ("is_link_local", "a link-local"),
    ("is_multicast", "a multicast"),
    ("is_unspecified", "an unspecified"),
    ("is_reserved", "a reserved"),
    ("is_site_local", "a private"),
    ("is_private", "a private"),
)
_ENTRY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]{1,253})(?::(?P<port>[0-9]{1,5}))?")
_MAX_PORT = 65_535


def to_address(text: str) -> Address | None:
    """Return the address that a text is; `None`: it is a name, or an unusual form that only the resolver reads."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def kind_of(address: Address) -> str:
    """Return why an address is closed, such as `a loopback`; empty: it is public and open."""
    address = _embedded(address)
    if address in METADATA:
        return "a metadata"
    kind = next((text for name, text in _KINDS if getattr(address, name, False)), "")
    reserved = not address.is_global or any(address in network for network in RESERVED)
    return kind or ("a reserved" if reserved else "")


def _embedded(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address stands for, or the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in NAT64 else address


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry of the list: what it allows.

    Attributes:
        network: The addresses; `None`: it allows a host.
        host: The host in lower case; empty: it allows addresses.
        port: The port; `None`: any.
    """

    network: Network | None = None
    host: str = ""
    port: int | None = None

    def covers(self, host: str, port: int, address: Address) -> bool:
        if self.port not in {None, port}:
            return False
        if self.network is None:
            return host.lower().rstrip(".") == self.host
        return address in self.network or _embedded(address) in self.network


@dataclass(frozen=True, slots=True)
class AllowList:
    """The closed addresses that an operator has opened. By default there are none."""

    _entries: tuple[_Entry, ...] = ()

    @classmethod
    def of(cls, entries: Iterable[str]) -> Self:
        """Read entries: a host, an address or a network (CIDR); the first two may have a port.

        Raises:
            ValueError: Entries are malformed. All of them are listed.
        """
        read = {text: _read(text) for text in entries}
        malformed = [repr(text) for text, entry in read.items() if entry is None]
        if malformed:
            raise ValueError(f"{', '.join(malformed)}: want HOST, HOST:PORT, or a network such as 10.0.0.0/8")
        return cls(tuple(entry for entry in read.values() if entry is not None))

    def problem(self, host: str, port: int, address: Address) -> str:
        """Return why a connection is refused; empty: it is allowed.

        Args:
            host: The host of the URL.
            port: The port.
            address: An address that the host has.
        """
        kind = kind_of(address)
        if not kind or any(entry.covers(host, port, address) for entry in self._entries):
            return ""
        return f"it has {kind} address" if to_address(host) is None else f"it is {kind} address"


def _read(text: str) -> _Entry | None:
    """Return an entry of the list; `None`: it is malformed."""
    try:
        return _Entry(network=ip_network(text))
    except ValueError:
        match = _ENTRY.fullmatch(text)
    if match is None or "/" in text or int(match["port"] or 0) > _MAX_PORT:
        return None
    host, port = match["host"], int(match["port"]) if match["port"] else None
    address = to_address(host.strip("[]"))
    if address is not None:
        return _Entry(network=ip_network(address), port=port)
    if host.startswith("[") or not any(it.isalpha() for it in host.rstrip(".").rpartition(".")[2]):
        return None  # such as 10.0.0.0.0 or 127.1: no name, and no address in its usual form
    return _Entry(host=host.lower().rstrip("."), port=port)
