"""`http.request` against a real HTTP service: requests, answers, failures and bounds."""

import asyncio
import gzip
import json
from contextlib import suppress
from pathlib import Path

import pytest

from integration.server.build import end_of, finished, flow, reason_of, retry, state_of, step, value_of
from integration.server.fixture_types import Connect, Serve
from integration.server.http_calls import failure, output, request
from integration.server.http_service import Exchange, HttpService, answer, as_json, http_service
from integration.server.raw_client import RawClient
from stepwave.v1 import orchestrator_pb2 as pb

LOCAL = "127.0.0.0/8"

pytestmark = pytest.mark.parametrize("serve", ["memory"], indirect=True)


@pytest.fixture
async def client(serve: Serve, connect: Connect) -> RawClient:
    return connect(await serve(http_allow=LOCAL))


# Requests and answers.


async def test_parameters_are_added_to_the_query_of_the_url(client: RawClient, service: HttpService) -> None:
    service.handlers["/a"] = as_json("here")
    await output(client, service.url("/a?a=1&flag&b=x%20y%2F"), query={"a": 2, "c": "d e"})
    assert service.requests[0].target == "/a?a=1&flag&b=x%20y%2F&a=2&c=d+e"


async def test_a_status_whose_body_breaks_off_is_still_that_status(client: RawClient, service: HttpService) -> None:
    async def break_off(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 100\r\n\r\nno")
        exchange.writer.close()

    service.handlers["/a"] = break_off
    found = await failure(client, service.url("/a"))
    assert (reason_of(found), found.retryable) == ("unauthorized", False)


async def test_an_answer_has_the_status_the_headers_and_the_json_of_the_body(
    client: RawClient, service: HttpService
) -> None:
    service.handlers["/a"] = answer(
        201,
        b'{"big": 9007199254740993, "price": 1.50}',
        {"Content-Type": "application/json", "ETag": '"1"', "Set-Cookie": "a=b", "Connection": "keep-alive"},
    )
    result = await request(client, service.url("/a"))
    headers = {"content-length": "40", "content-type": "application/json", "etag": '"1"'}
    assert value_of(result.output) == {
        "status": 201,
        "headers": headers,
        "body": {"big": 9007199254740993, "price": 1.5},
    }
    assert "9007199254740993" in result.output.json
    assert "1.50" in result.output.json, "numbers keep their digits"


@pytest.mark.parametrize(
    ("content_type", "data", "body"),
    [
        ("text/plain; charset=utf-8", "fjörd".encode(), "fjörd"),
        ("text/html; charset=iso-8859-1", "fjörd".encode("latin-1"), "fjörd"),
        ("application/problem+json", b'{"a": 1}', {"a": 1}),
        ("application/xml", b"<a/>", "<a/>"),
        ("text/plain", b"", None),
    ],
)
async def test_a_body_is_read_as_its_content_type_says(
    client: RawClient, service: HttpService, content_type: str, data: bytes, body: object
) -> None:
    service.handlers["/a"] = answer(200, data, {"Content-Type": content_type})
    assert (await output(client, service.url("/a")))["body"] == body


@pytest.mark.parametrize("content_type", ["image/png", "application/octet-stream", "text/plain"])
async def test_a_body_of_bytes_is_the_whole_output(client: RawClient, service: HttpService, content_type: str) -> None:
    service.handlers["/a"] = answer(200, b"\x89PNG\xff\x00", {"Content-Type": content_type})
    result = await request(client, service.url("/a"))
    assert (result.output.blob.content_type, result.output.blob.data) == (content_type, b"\x89PNG\xff\x00")


async def test_a_request_has_its_method_query_headers_and_json(client: RawClient, service: HttpService) -> None:
    service.handlers["/a"] = as_json("done")
    given = {"query": {"q": "a b", "n": [1, 2]}, "headers": {"X-Team": "red"}, "json": {"n": 1}}
    await output(client, service.url("/a?first=1"), method="PATCH", **given)
    (sent,) = service.requests
    assert (sent.method, sent.target) == ("PATCH", "/a?first=1&q=a+b&n=1&n=2")
    assert (sent.headers["x-team"], sent.headers["content-type"]) == ("red", "application/json")
    assert json.loads(sent.body) == {"n": 1}


async def test_a_request_may_have_a_body_of_text(client: RawClient, service: HttpService) -> None:
    service.handlers["/a"] = as_json("done")
    await output(client, service.url("/a"), method="PUT", body="<a/>", headers={"Content-Type": "text/xml"})
    (sent,) = service.requests
    assert (sent.body, sent.headers["content-type"]) == (b"<a/>", "text/xml")


async def test_all_attempts_of_a_post_send_the_same_idempotency_key(client: RawClient, service: HttpService) -> None:
    service.handlers["/a"] = answer(503)
    post = step("s", "http.request", given={"url": service.url("/a"), "method": "POST"}, retry=retry(2))
    await client.run(flow(post), run_id="run")
    assert [sent.headers["idempotency-key"] for sent in service.requests] == ["default/run/s"] * 2


async def test_a_key_that_is_given_is_sent(client: RawClient, service: HttpService) -> None:
    service.handlers["/a"] = as_json("done")
    await output(client, service.url("/a"), method="POST", headers={"idempotency-KEY": "mine"})
    assert service.requests[0].headers["idempotency-key"] == "mine"


async def test_an_idempotent_method_sends_no_key(client: RawClient, service: HttpService) -> None:
    service.handlers["/a"] = as_json("done")
    await output(client, service.url("/a"), method="DELETE")
    assert "idempotency-key" not in service.requests[0].headers


async def test_requests_share_connections(client: RawClient, service: HttpService) -> None:
    service.handlers["/a"] = as_json("done")
    for _ in range(3):
        await output(client, service.url("/a"))
    assert (len(service.requests), service.connections) == (3, 1)


async def test_cookies_of_one_answer_are_not_sent_with_another_request(client: RawClient, service: HttpService) -> None:
    service.handlers["/a"] = as_json("done", headers={"Set-Cookie": "session=abc"})
    for _ in range(2):
        await output(client, service.url("/a"))
    assert "cookie" not in service.requests[1].headers


async def test_a_compressed_body_is_unpacked(client: RawClient, service: HttpService) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    service.handlers["/a"] = answer(200, gzip.compress(b'{"a": 1}'), headers)
    assert (await output(client, service.url("/a")))["body"] == {"a": 1}


async def test_proxies_and_credentials_of_the_environment_are_ignored(
    client: RawClient, service: HttpService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login user password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    service.handlers["/a"] = as_json("done")
    await output(client, service.url("/a"))
    assert "authorization" not in service.requests[0].headers


# Failures.


@pytest.mark.parametrize(
    ("status", "reason", "retryable"),
    [
        (400, "invalid_input", False),
        (401, "unauthorized", False),
        (404, "not_found", False),
        (429, "rate_limited", True),
        (500, "unavailable", True),
        (501, "action_error", False),
        (503, "unavailable", True),
        (504, "timeout", True),
    ],
)
async def test_a_status_that_is_no_answer_is_a_failure(
    client: RawClient, service: HttpService, status: int, reason: str, retryable: bool
) -> None:
    service.handlers["/a"] = answer(status, b'{"error":\n "so it is"}')
    found = await failure(client, service.url("/a"))
    assert (reason_of(found), found.retryable) == (reason, retryable)
    assert found.message.startswith(f"http://127.0.0.1:{service.port} answered {status} ")
    assert found.message.endswith(': {"error": "so it is"}')


@pytest.mark.parametrize("status", [429, 503])
async def test_the_wait_that_a_service_asks_for_is_in_the_failure(
    client: RawClient, service: HttpService, status: int
) -> None:
    service.handlers["/a"] = answer(status, headers={"Retry-After": "7"})
    found = await failure(client, service.url("/a"))
    assert (found.retryable, found.retry_after.seconds) == (True, 7)


async def test_a_status_can_be_declared_an_answer(client: RawClient, service: HttpService) -> None:
    service.handlers["/a"] = as_json({"error": "none"}, 404)
    found = await output(client, service.url("/a"), accept_status=[404, 410])
    assert (found["status"], found["body"]) == (404, {"error": "none"})


async def test_malformed_json_is_a_failure(client: RawClient, service: HttpService) -> None:
    service.handlers["/a"] = answer(200, b"<html>", {"Content-Type": "application/json"})
    found = await failure(client, service.url("/a"))
    assert (reason_of(found), found.retryable) == ("action_error", True)
    assert found.message.endswith("answered malformed JSON")


async def test_an_endpoint_where_nothing_listens_is_unavailable(client: RawClient) -> None:
    async with http_service() as gone:
        url = gone.url()
    found = await failure(client, url)
    assert (reason_of(found), found.retryable) == ("unavailable", True)
    assert "cannot be reached" in found.message


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", b"what is this?\r\n\r\n"])
async def test_a_connection_that_dies_is_unavailable(client: RawClient, service: HttpService, head: bytes) -> None:
    async def die(exchange: Exchange) -> None:
        await exchange.send(head)
        raise ConnectionResetError

    service.handlers["/a"] = die
    found = await failure(client, service.url("/a"))
    assert (reason_of(found), found.retryable) == ("unavailable", True)


async def test_an_unknown_host_is_unavailable(client: RawClient) -> None:
    found = await failure(client, "http://nowhere.invalid/")
    assert (reason_of(found), found.retryable) == ("unavailable", True)
    assert found.message.startswith("nowhere.invalid has no address")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"url": "file:///etc/passwd"}, "a URL begins with http://"),
        ({"url": "gopher://127.0.0.1/"}, "a URL begins with http://"),
        ({"url": "/etc/passwd"}, "a URL begins with http://"),
        ({"url": "http:///path"}, "the URL has no host"),
        ({"url": "http://127.0.0.1:65536/"}, "the URL is malformed"),
        ({"url": "http://[::1"}, "the URL is malformed"),
        ({"url": "http://user:pa55word@127.0.0.1/"}, "put credentials into headers"),
        ({"url": "http://127.0.0.1/", "headers": {"Host": "internal"}}, "headers: host cannot be set"),
        ({"url": "http://127.0.0.1/", "headers": {"A b": "x"}}, "headers: malformed"),
        ({"url": "http://127.0.0.1/", "headers": {"A": "x\r\nB: y"}}, "headers: the value of a has line breaks"),
        ({"url": "http://127.0.0.1/", "json": 1, "body": "x"}, "give json or body, not both"),
    ],
)
async def test_a_malformed_request_is_invalid_input(client: RawClient, given: dict[str, object], message: str) -> None:
    found = await failure(client, **given)  # type: ignore[arg-type]  # the URL by name
    assert (reason_of(found), found.retryable) == ("invalid_input", False)
    assert message in found.message
    assert "pa55word" not in found.message


async def test_a_method_that_does_not_exist_is_found_before_the_run(client: RawClient) -> None:
    given = {"url": "http://127.0.0.1/", "method": "FETCH"}
    plan = pb.PlanWorkflowRequest(workflow=flow(step("s", "http.request", given=given)))
    with pytest.raises(Exception, match="method"):
        await client.stub.PlanWorkflow(plan)


# Bounds.


async def test_a_body_beyond_the_bound_is_not_read(client: RawClient, service: HttpService) -> None:
    sent = 0

    async def pour(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(10_000):
            await exchange.send_chunk(b"x" * 1_000_000)
            sent += 1

    service.handlers["/a"] = pour
    found = await failure(client, service.url("/a"))
    assert (reason_of(found), found.retryable) == ("resource_exhausted", False)
    assert "more than the 1,048,576 bytes allowed" in found.message
    assert sent < 100


async def test_a_body_that_is_announced_beyond_the_bound_is_not_read(client: RawClient, service: HttpService) -> None:
    service.handlers["/a"] = answer(200, headers={"Content-Length": "10000000000"})
    found = await failure(client, service.url("/a"))
    assert reason_of(found) == "resource_exhausted"


async def test_a_body_that_grows_when_it_is_unpacked_is_bounded(client: RawClient, service: HttpService) -> None:
    packed = gzip.compress(bytes(50_000_000))
    service.handlers["/a"] = answer(200, packed, {"Content-Encoding": "gzip"})
    assert reason_of(await failure(client, service.url("/a"))) == "resource_exhausted"


async def test_nothing_is_read_after_the_end_of_a_compressed_body(client: RawClient, service: HttpService) -> None:
    async def add_junk(exchange: Exchange) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
        await exchange.send(head)
        await exchange.send_chunk(gzip.compress(b"all"))
        with suppress(ConnectionError):
            while True:
                await exchange.send_chunk(bytes(64 * 1024))

    service.handlers["/a"] = add_junk
    assert (await output(client, service.url("/a")))["body"] == "all"


async def test_a_compressed_body_that_stands_for_nothing_and_never_ends_is_bounded(
    client: RawClient, service: HttpService
) -> None:
    async def send_empty_blocks(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n")
        await exchange.send_chunk(gzip.compress(b"")[:10])
        with suppress(ConnectionError):
            while True:
                await exchange.send_chunk(b"\x00\x00\x00\xff\xff" * 10_000)

    service.handlers["/a"] = send_empty_blocks
    assert reason_of(await failure(client, service.url("/a"))) == "resource_exhausted"


async def test_a_body_of_several_gzip_members_is_read_whole(client: RawClient, service: HttpService) -> None:
    packed = gzip.compress(b"first, ") + gzip.compress(b"second")

    async def send_in_pieces(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n")
        for byte in packed:
            await exchange.send_chunk(bytes([byte]))
        await exchange.send_chunk(b"")

    service.handlers["/a"] = send_in_pieces
    assert (await output(client, service.url("/a")))["body"] == "first, second"


async def test_an_answer_to_head_has_no_body_however_long_it_says_it_is(
    client: RawClient, service: HttpService
) -> None:
    service.handlers["/a"] = answer(200, headers={"Content-Length": "10000000000"})
    found = await output(client, service.url("/a"), method="HEAD")
    assert (found["status"], found["body"]) == (200, None)


async def test_the_timeout_of_the_attempt_closes_the_connection(client: RawClient, service: HttpService) -> None:
    async def await_end(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")

    service.handlers |= {"/a": await_end, "/first": as_json("the library is imported now")}
    await output(client, service.url("/first"))
    events = await client.run(flow(step("s", "http.request", given={"url": service.url("/a")}, timeout=1.5)))
    assert reason_of(finished(events)["s"].failure) == "timeout"
    await asyncio.wait_for(service.closed.wait(), 10)


async def test_a_cancel_closes_the_connection(client: RawClient, service: HttpService) -> None:
    arrived = asyncio.Event()

    async def arrive(exchange: Exchange) -> None:
        arrived.set()

    service.handlers["/a"] = arrive
    running = flow(step("s", "http.request", given={"url": service.url("/a")}))
    async with client.execute(running, run_id="run") as stream:
        await asyncio.wait_for(arrived.wait(), 10)
        await client.stub.CancelRun(pb.CancelRunRequest(run_id="run"))
        events = await stream.rest()
    assert state_of(end_of(events).state) == "cancelled"
    await asyncio.wait_for(service.closed.wait(), 10)


# Redirects.


async def test_redirects_are_followed(client: RawClient, service: HttpService) -> None:
    service.handlers["/a"] = answer(302, headers={"Location": "/b"})
    service.handlers["/b"] = answer(307, headers={"Location": service.url("/c")})
    service.handlers["/c"] = as_json("here")
    assert (await output(client, service.url("/a")))["body"] == "here"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("ftp://127.0.0.1/", 'redirected where no request can go: a URL begins with http:// or https://, not "ftp"'),
        ("http://127.0.0.1:70000/", "redirected where no request can go: the URL is malformed"),
        ("http://user:pa55word@127.0.0.1/", "redirected where no request can go: the URL has a user name"),
    ],
)
async def test_a_redirect_that_cannot_be_followed_is_a_fault_of_the_service(
    client: RawClient, service: HttpService, target: str, message: str
) -> None:
    service.handlers["/a"] = answer(302, headers={"Location": target})
    found = await failure(client, service.url("/a"))
    assert (reason_of(found), found.retryable) == ("action_error", False)
    assert message in found.message
    assert "pa55word" not in found.message


async def test_a_post_that_is_redirected_with_303_becomes_a_get(client: RawClient, service: HttpService) -> None:
    service.handlers["/a"] = answer(303, headers={"Location": "/b"})
    service.handlers["/b"] = as_json("here")
    await output(client, service.url("/a"), method="POST", json={"n": 1})
    assert [(sent.method, sent.body) for sent in service.requests] == [("POST", b'{"n":1}'), ("GET", b"")]


async def test_a_post_that_is_redirected_with_308_keeps_its_body(client: RawClient, service: HttpService) -> None:
    service.handlers["/a"] = answer(308, headers={"Location": "/b"})
    service.handlers["/b"] = as_json("here")
    await output(client, service.url("/a"), method="POST", json={"n": 1})
    assert [(sent.method, sent.body) for sent in service.requests] == [("POST", b'{"n":1}')] * 2


async def test_redirects_are_bounded(client: RawClient, service: HttpService) -> None:
    service.handlers["/a"] = answer(302, headers={"Location": "/a"})
    found = await failure(client, service.url("/a"))
    assert (reason_of(found), found.retryable) == ("action_error", False)
    assert len(service.requests) == 6


async def test_without_redirects_a_redirect_is_the_answer(client: RawClient, service: HttpService) -> None:
    service.handlers["/a"] = answer(302, headers={"Location": "/b"})
    found = await output(client, service.url("/a"), max_redirects=0)
    assert (found["status"], found["headers"]) == (302, {"content-length": "0", "location": "/b"})


async def test_a_redirect_to_another_origin_gets_no_credentials(client: RawClient, service: HttpService) -> None:
    async with http_service() as other:
        other.handlers["/b"] = as_json("here")
        service.handlers["/a"] = answer(302, headers={"Location": other.url("/b")})
        headers = {"X-Api-Key": "key", "Accept": "application/json", "Cookie": "a=b"}
        await output(client, service.url("/a"), headers=headers, bearer="token")
        (sent,) = other.requests
    assert service.requests[0].headers["authorization"] == "Bearer token"
    assert sent.headers["accept"] == "application/json"
    assert {"authorization", "x-api-key", "cookie"}.isdisjoint(sent.headers)
