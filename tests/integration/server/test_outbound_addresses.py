"""Addresses that are not public are closed to built-in actions, in whatever form they come, until they are allowed."""

import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from integration.server.build import finished, flow, reason_of, state_of, step, value_of
from integration.server.fixture_types import Connect, Serve
from integration.server.http_service import HttpService, answer, as_json, http_service
from integration.server.raw_client import RawClient
from stepwave.v1 import run_pb2

pytestmark = pytest.mark.parametrize("serve", ["memory"], indirect=True)


@pytest.fixture
async def service() -> AsyncIterator[HttpService]:
    async with http_service() as service:
        service.handlers["/a"] = as_json("inside")
        yield service


@pytest.fixture
async def client(serve: Serve, connect: Connect) -> RawClient:
    return connect(await serve())


Names = dict[str, list[list[str]]]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """The answers of the resolver by name, one list of addresses for each time that it is asked."""
    known: Names = {}
    real: Callable[..., Any] = socket.getaddrinfo

    def getaddrinfo(host: object, port: object, *args: object, **kwargs: object) -> object:
        if host not in known:
            return real(host, port, *args, **kwargs)
        assert isinstance(host, str)
        return [found for address in known[host].pop(0) for found in real(address, port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


async def get(client: RawClient, url: str) -> run_pb2.StepResult:
    events = await client.run(flow(step("s", "http.request", given={"url": url})))
    return finished(events)["s"]


async def refusal(client: RawClient, url: str) -> str:
    """Return the message with which a request is refused."""
    found = (await get(client, url)).failure
    assert (reason_of(found), found.retryable, dict(found.details)) == ("unauthorized", False, {}), found
    assert "http_allow" in found.message
    return found.message


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "017700000001",
        "localhost",
        "LOCALHOST",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "127。0。0。1",
    ],
)
async def test_loopback_is_closed_in_every_form(client: RawClient, service: HttpService, host: str) -> None:
    assert "a loopback address" in await refusal(client, service.url("/a", host))
    assert service.connections == 0


async def test_a_malformed_address_is_refused(client: RawClient, service: HttpService) -> None:
    found = (await get(client, service.url("/a", "0177.0.0.1"))).failure
    assert (reason_of(found), found.retryable, found.message) == ("invalid_input", False, "the URL is malformed")


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("0.0.0.0", "an unspecified"),
        ("[::]", "an unspecified"),
        ("10.1.2.3", "a private"),
        ("172.16.0.1", "a private"),
        ("192.168.1.1", "a private"),
        ("[fd00:ec2::254]", "a private"),
        ("[fec0::1]", "a private"),
        ("169.254.169.254", "a link-local"),
        ("[fe80::1]", "a link-local"),
        ("[2002:a9fe:a9fe::1]", "a link-local"),
        ("168.63.129.16", "a metadata"),
        ("100.100.100.200", "a reserved"),
        ("224.0.0.1", "a multicast"),
        ("[ff02::1]", "a multicast"),
        ("240.0.0.1", "a reserved"),
        ("255.255.255.255", "a reserved"),
    ],
)
async def test_addresses_that_are_not_public_are_closed(client: RawClient, host: str, kind: str) -> None:
    assert f"it is {kind} address" in await refusal(client, f"http://{host}/")


async def test_a_name_of_loopback_is_closed(client: RawClient, service: HttpService, names: Names) -> None:
    names["rebound.example"] = [["127.0.0.1"]]
    assert "it has a loopback address" in await refusal(client, service.url("/a", "rebound.example"))
    assert service.connections == 0


async def test_a_name_is_closed_if_any_of_its_addresses_is(
    client: RawClient, service: HttpService, names: Names
) -> None:
    names["rebound.example"] = [["192.0.2.1", "127.0.0.1"]]
    await refusal(client, service.url("/a", "rebound.example"))
    assert service.connections == 0


async def test_the_address_that_was_checked_is_the_one_connected_to(
    serve: Serve, connect: Connect, service: HttpService, names: Names
) -> None:
    client = connect(await serve(http_allow="127.0.0.2"))
    async with http_service("127.0.0.2", service.port) as other:
        other.handlers["/a"] = as_json("outside")
        names["rebound.example"] = [["127.0.0.2"], ["127.0.0.1"]]
        found = await get(client, service.url("/a", "rebound.example"))
        (sent,) = other.requests
    answered = value_of(found.output)
    assert isinstance(answered, dict)
    assert (answered["body"], service.connections) == ("outside", 0)
    assert names["rebound.example"] == [["127.0.0.1"]], "it is resolved once"
    assert sent.headers["host"] == f"rebound.example:{service.port}"


async def test_another_address_is_tried_if_the_first_one_does_not_answer(
    serve: Serve, connect: Connect, service: HttpService, names: Names
) -> None:
    client = connect(await serve(http_allow="127.0.0.0/8"))
    names["two.example"] = [["127.0.0.3", "127.0.0.1"]]
    assert state_of((await get(client, service.url("/a", "two.example"))).state) == "succeeded"


@pytest.mark.parametrize("target", ["http://127.0.0.1:{port}/a", "http://[::ffff:127.0.0.1]:{port}/a", "//0x7f.1/a"])
async def test_a_redirect_to_loopback_is_closed(
    serve: Serve, connect: Connect, service: HttpService, target: str
) -> None:
    client = connect(await serve(http_allow="127.0.0.2"))
    async with http_service("127.0.0.2") as other:
        other.handlers["/a"] = answer(302, headers={"Location": target.format(port=service.port)})
        await refusal(client, other.url("/a", "127.0.0.2"))
    assert service.connections == 0


@pytest.mark.parametrize("target", ["file:///etc/passwd", "http://user:pw@127.0.0.1/", "http://[", "gopher://x/"])
async def test_a_redirect_to_what_is_no_plain_url_fails(
    serve: Serve, connect: Connect, service: HttpService, target: str
) -> None:
    client = connect(await serve(http_allow="127.0.0.1"))
    service.handlers["/a"] = answer(302, headers={"Location": target})
    found = (await get(client, service.url("/a"))).failure
    assert (found.retryable, dict(found.details)) == (False, {})
    assert reason_of(found) in {"action_error", "invalid_input"}


@pytest.mark.parametrize(
    ("allowed", "host"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.0/8", "127.0.0.1"),
        ("127.0.0.1:{port}", "127.0.0.1"),
        ("127.0.0.1", "0x7f.1"),
        ("127.0.0.1", "[::ffff:127.0.0.1]"),
        ("localhost:{port}", "localhost"),
        ("10.0.0.0/8, LocalHost.", "localhost"),
    ],
)
async def test_an_allowed_address_is_open(
    serve: Serve, connect: Connect, service: HttpService, names: Names, allowed: str, host: str
) -> None:
    names["localhost"] = [["127.0.0.1"]]
    client = connect(await serve(http_allow=allowed.format(port=service.port)))
    assert state_of((await get(client, service.url("/a", host))).state) == "succeeded"


@pytest.mark.parametrize(
    ("allowed", "host"),
    [
        ("127.0.0.1:1", "127.0.0.1"),
        ("localhost:1", "localhost"),
        ("localhost", "127.0.0.1"),
        ("127.0.0.2", "127.0.0.1"),
        ("10.0.0.0/8", "127.0.0.1"),
        ("otherlocalhost", "localhost"),
    ],
)
async def test_an_allowed_address_opens_no_other(
    serve: Serve, connect: Connect, service: HttpService, allowed: str, host: str
) -> None:
    client = connect(await serve(http_allow=allowed))
    await refusal(client, service.url("/a", host))
    assert service.connections == 0
