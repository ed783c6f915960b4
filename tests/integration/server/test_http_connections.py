"""The connections of `http.request`: they are used again, and no request gets the response to another one."""

import asyncio
from contextlib import suppress

import pytest

from integration.server.fixture_types import Connect, Serve
from integration.server.http_calls import output, request
from integration.server.http_service import Exchange, HttpService, answer, as_json
from integration.server.raw_client import RawClient

pytestmark = pytest.mark.parametrize("serve", ["memory"], indirect=True)


@pytest.fixture
async def client(serve: Serve, connect: Connect) -> RawClient:
    return connect(await serve(http_allow="127.0.0.0/8"))


async def test_a_connection_is_used_again(client: RawClient, service: HttpService) -> None:
    service.handlers["/a"] = as_json("a")
    for _ in range(3):
        await output(client, service.url("/a"), method="POST", json={"n": 1})
        await output(client, service.url("/a"))
    assert service.connections == 1


@pytest.mark.parametrize(
    ("method", "response"),
    [
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmineHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\nPOISON"),
    ],
    ids=["two responses", "a body after HEAD", "a body after 304"],
)
async def test_what_comes_after_a_response_is_the_answer_to_no_other_request(
    client: RawClient, service: HttpService, method: str, response: bytes
) -> None:
    async def answer_too_much(exchange: Exchange) -> None:
        await exchange.send(response)

    service.handlers |= {"/first": answer_too_much, "/second": as_json("second")}
    await request(client, service.url("/first"), method=method)
    assert (await output(client, service.url("/second")))["body"] == "second"
    assert service.connections == 2


async def test_a_body_that_a_service_takes_for_a_request_is_no_request_on_a_connection_of_others(
    client: RawClient, service: HttpService
) -> None:
    """The service answers it late, when the connection would serve another request."""
    other_came = asyncio.Event()

    async def answer_twice(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst")
        with suppress(TimeoutError):  # on this connection, the other request could not come to its handler
            await asyncio.wait_for(other_came.wait(), 2)
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON")

    async def come(exchange: Exchange) -> None:
        other_came.set()
        await as_json("second")(exchange)

    service.handlers |= {"/first": answer_twice, "/second": come}
    await output(client, service.url("/first"), body="GET /evil HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await output(client, service.url("/second")))["body"] == "second"


async def test_a_connection_whose_service_answers_errors_is_used_again(client: RawClient, service: HttpService) -> None:
    service.handlers["/a"] = answer(404, b"no such thing")
    for _ in range(2):
        await output(client, service.url("/a"), accept_status=[404])
    assert service.connections == 1
