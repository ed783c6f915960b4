"""The allow-list: which entries it takes, and what they open."""

from ipaddress import ip_address

import pytest
from pydantic import ValidationError

from stepwave_server.actions.outbound.addresses import AllowList, kind_of
from stepwave_server.config import Settings


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:4700::1111", "64:ff9b::5db8:d70e", "2002:5db8:d70e::1"])
def test_public_addresses_are_open(address: str) -> None:
    assert kind_of(ip_address(address)) == ""


@pytest.mark.parametrize(
    "address",
    ["192.0.0.192", "::ffff:192.0.0.192", "192.0.0.8", "192.88.99.1", "64:ff9b:1::1", "100::1", "3fff::1", "5f00::1"],
)
def test_addresses_that_some_versions_of_python_take_for_public_are_closed(address: str) -> None:
    assert kind_of(ip_address(address)) in {"a metadata", "a reserved", "a private"}


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "http://host",
        "host/path",
        "host:",
        "host:70000",
        "10.0.0.0/33",
        "10.0.0.1/8",
        "127.1",
        "[::1",
        "[host]",
        "*",
    ],
)
def test_a_malformed_entry_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="want HOST, HOST:PORT, or a network"):
        AllowList.of([entry])


def test_all_malformed_entries_of_the_setting_are_named() -> None:
    with pytest.raises(ValidationError, match=r"'a/b', 'c:d'"):
        Settings.model_validate({"http_allow": "a/b, localhost, c:d"})


@pytest.mark.parametrize("entry", ["::1", "[::1]", "[::1]:80", "::/64", "printer.local:80", "PRINTER.local"])
def test_an_entry_is_a_host_an_address_or_a_network(entry: str) -> None:
    host = "::1" if ":" in entry.removesuffix(":80") else "printer.local"
    assert AllowList.of([entry]).problem(host, 80, ip_address("::1")) == ""
