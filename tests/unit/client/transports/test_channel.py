"""The address of the server, and the limit on plain text."""

import re

import pytest

from stepwave import AsyncClient, Client
from stepwave._transport.channel import channel_options, is_local, resolve_address


def test_the_address_is_the_one_given_then_the_environments_then_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STEPWAVE_SERVER", raising=False)
    assert resolve_address(None) == "127.0.0.1:50051"
    monkeypatch.setenv("STEPWAVE_SERVER", "localhost:7")
    assert resolve_address(None) == "localhost:7"
    assert resolve_address("127.0.0.1:8") == "127.0.0.1:8"


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1:", "localhost:http"])
def test_an_address_needs_a_port(address: str) -> None:
    with pytest.raises(ValueError, match="an address is HOST:PORT or unix:PATH"):
        resolve_address(address)


@pytest.mark.parametrize(
    ("address", "right"),
    [
        ("http://127.0.0.1:50051", "127.0.0.1:50051"),
        ("https://example.org:443/path", "example.org:443"),
        ("grpc://[::1]:7", "[::1]:7"),
        ("GRPCS://example.org", "example.org:50051"),
        ("http://", "HOST:50051"),
    ],
)
def test_a_url_is_refused_with_the_address_to_write(address: str, right: str) -> None:
    with pytest.raises(ValueError, match=f"without {address.partition(':')[0]}://; write '{re.escape(right)}'"):
        Client(address)


@pytest.mark.parametrize(
    "address",
    [
        "localhost:1",
        "127.0.0.1:1",
        "127.8.9.1:1",
        "[::1]:1",
        "unix:/run/s",
        "unix-abstract:s",
        "ipv4:127.0.0.1:1",
        "ipv4:127.0.0.1:1,127.0.0.1:2",
        "ipv6:[::1]:1,[::1]:2",
    ],
)
def test_this_machine_is_known(address: str) -> None:
    assert is_local(address)


@pytest.mark.parametrize(
    "address",
    [
        "example.org:1",
        "10.0.0.1:1",
        "0.0.0.0:1",
        "127.0.0.1.example.org:1",
        "[2001:db8::1]:1",
        "dns:///a:1",
        "ipv4:127.0.0.1:1,10.0.0.1:2",
    ],
)
def test_other_machines_are_known(address: str) -> None:
    assert not is_local(address)


@pytest.mark.parametrize("client", [AsyncClient, Client])
def test_plain_text_leaves_this_machine_only_if_insecure_is_true(client: type[AsyncClient] | type[Client]) -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.1:1 is another machine.*insecure=True"):
        client("10.0.0.1:1")
    assert client("10.0.0.1:1", insecure=True).address == "10.0.0.1:1"


def test_a_proxy_is_never_between_a_client_and_its_own_machine() -> None:
    assert dict(channel_options("127.0.0.1:1"))["grpc.enable_http_proxy"] == 0
    assert dict(channel_options("example.org:1"))["grpc.enable_http_proxy"] == 1
