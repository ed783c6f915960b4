"""MCP servers over streamable HTTP, good ones and bad ones. Each call ends with an answer, or fails with its reason."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from integration.mcp.conftest import Connect, answer, begun, calling, failure_of
from integration.mcp.endpoints import EVENTS, events, result, served_tools, speak, text
from integration.server.http_service import Exchange, Handler, HttpService, http_service
from integration.server.http_service import answer as responding
from integration.server.raw_client import GUARD
from stepwave import Blob, FailureReason, StepProgress

VALUE = "Bearer sk-live-0123456789abcdef"
DONE = {"content": [{"type": "text", "text": "done"}]}


@pytest.fixture
async def service() -> AsyncIterator[HttpService]:
    async with http_service() as service:
        yield service


def context_of(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


async def test_tools_of_the_library_are_called_and_report_progress(connect: Connect) -> None:
    async with served_tools() as url:
        client = await connect(url=url)
        assert await answer(client, "add", {"left": 2, "right": 3}) == {"sum": 5}
        assert await answer(client, "picture") == Blob(b"\x89PNG", "image/png")
        assert (await failure_of(client, "refuse")).reason is FailureReason.ACTION_ERROR
        async with client.run(calling("stepped")) as run:
            found = [event.fraction async for event in run if isinstance(event, StepProgress)]
        assert found[0] == 0.5


async def test_headers_are_sent_and_a_secret_is_in_no_failure(
    connect: Connect, service: HttpService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPWAVE_SECRET_KEY", VALUE)

    async def show(exchange: Exchange, number: Any) -> None:
        await responding(400, f"{'x' * 1_930} {exchange.request.headers['authorization']}".encode())(exchange)

    client = await connect(url=speak(service, show), headers={"Authorization": {"secret": "KEY"}, "Tenant": "one"})
    failure = await failure_of(client, "any")
    assert "it answered 400 Said: xxx" in failure.message
    assert not any(VALUE[:length] in failure.message for length in range(8, len(VALUE)))
    assert {request.headers["tenant"] for request in service.requests} == {"one"}
    assert {request.headers["authorization"] for request in service.requests} == {VALUE}


async def test_a_secret_that_no_header_can_have_fails_the_call(
    connect: Connect, service: HttpService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPWAVE_SECRET_KEY", f"{VALUE}\n{VALUE}")
    failure = await failure_of(await connect(url=service.url("/mcp"), headers={"A": {"secret": "KEY"}}), "any")
    assert failure.reason is FailureReason.INVALID_INPUT
    assert "the value of the secret KEY has characters that a header field cannot have" in failure.message


async def test_a_session_that_the_server_has_forgotten_is_opened_again(connect: Connect, service: HttpService) -> None:
    forgotten = [True]

    async def forget(exchange: Exchange, number: Any) -> None:
        await (responding(404) if forgotten.pop() else text(number, "here"))(exchange)

    client = await connect(url=speak(service, forget))
    forgotten.insert(0, False)
    assert await answer(client, "any") == "here"
    methods = [json.loads(request.body)["method"] for request in service.requests if request.body]
    assert methods.count("initialize") == 2


@pytest.mark.parametrize(
    ("handler", "reason", "retryable", "text"),
    [
        (responding(401), FailureReason.UNAUTHORIZED, False, "it answered 401"),
        (responding(403, b"no"), FailureReason.UNAUTHORIZED, False, "it answered 403 Said: no"),
        (responding(500), FailureReason.UNAVAILABLE, True, "it answered 500"),
        (
            responding(200, b"<html>", {"Content-Type": "text/html"}),
            FailureReason.ACTION_ERROR,
            False,
            "it answered 200 with text/html, and not JSON or events",
        ),
        (
            responding(200, b"{", {"Content-Type": "application/json"}),
            FailureReason.ACTION_ERROR,
            False,
            "it answered JSON that is no answer of the protocol",
        ),
        (
            responding(200, b"{}", {"Content-Type": "application/json", "Content-Encoding": "gzip"}),
            FailureReason.ACTION_ERROR,
            False,
            "it answered 200 with gzip",
        ),
        (
            result(77, DONE),
            FailureReason.ACTION_ERROR,
            False,
            "it answered another request",
        ),
        (
            responding(200, events({"id": 1}), EVENTS),
            FailureReason.ACTION_ERROR,
            False,
            "it answered with an event that is no message of the protocol",
        ),
        (responding(200, b"", EVENTS), FailureReason.UNAVAILABLE, True, "SSE stream ended without a response"),
        (responding(202), FailureReason.ACTION_ERROR, False, "it answered 202"),
        (
            responding(307, b"", {"Location": "http://192.0.2.1/mcp"}),
            FailureReason.ACTION_ERROR,
            False,
            "Redirect to http://192.0.2.1/mcp not followed",
        ),
        (responding(307, b"", {"Location": "/mcp"}), FailureReason.ACTION_ERROR, False, "Redirect to "),
        (
            responding(307, b"", {"Location": "http://a:b/"}),
            FailureReason.ACTION_ERROR,
            False,
            "it redirected to a malformed URL",
        ),
    ],
)
async def test_a_bad_answer_is_a_failure_and_the_session_lives_on(
    connect: Connect, service: HttpService, handler: Handler, reason: FailureReason, retryable: bool, text: str
) -> None:
    bad = [handler]

    async def respond(exchange: Exchange, number: Any) -> None:
        await (bad[0] if bad else result(number, DONE))(exchange)

    client = await connect(url=speak(service, respond))
    failure = await failure_of(client, "any")
    assert (failure.reason, failure.retryable) == (reason, retryable), failure.message
    assert text in failure.message
    bad.clear()
    assert await answer(client, "any") == "done"


CUT = rb'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"a\ud83d \ud83d\ude00 \\ud800 \udc00"}]}}'
"""An answer with halves of an emoji, a whole one, and a backslash."""


async def test_half_of_an_emoji_in_json_has_a_mark_in_its_place(connect: Connect, service: HttpService) -> None:
    async def cut(exchange: Exchange, number: Any) -> None:
        await responding(200, CUT % number, {"Content-Type": "application/json"})(exchange)

    assert await answer(await connect(url=speak(service, cut)), "any") == "a\ufffd \N{GRINNING FACE} \\ud800 \ufffd"


async def test_half_of_an_emoji_in_an_event_has_a_mark_in_its_place_wherever_it_is_split(
    connect: Connect, service: HttpService
) -> None:
    async def cut(exchange: Exchange, number: Any) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        for byte in b"event: message\ndata: %b\n\n" % (CUT % number):
            await exchange.send(bytes([byte]))

    assert await answer(await connect(url=speak(service, cut)), "any") == "a\ufffd \N{GRINNING FACE} \\ud800 \ufffd"


async def test_a_service_says_when_to_call_again(connect: Connect, service: HttpService) -> None:
    async def limit(exchange: Exchange, number: Any) -> None:
        await responding(429, b"", {"Retry-After": "7"})(exchange)

    failure = await failure_of(await connect(url=speak(service, limit)), "any")
    assert (failure.reason, failure.retryable) == (FailureReason.RATE_LIMITED, True)
    assert failure.retry_after is not None
    assert failure.retry_after.total_seconds() == 7


@pytest.mark.parametrize(
    ("kind", "body"), [("application/json", b" " * 65_536), ("text/event-stream", b"data: " + b"x" * 65_536)]
)
async def test_an_answer_without_end_is_cut_off(connect: Connect, service: HttpService, kind: str, body: bytes) -> None:
    async def flood(exchange: Exchange, number: Any) -> None:
        await exchange.send(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n\r\n".encode())
        while True:
            await exchange.send(body)

    failure = await failure_of(await connect(url=speak(service, flood)), "any")
    assert (failure.reason, failure.retryable) == (FailureReason.RESOURCE_EXHAUSTED, False)
    assert "8,388,608" in failure.message or "8388608" in failure.message
    assert failure.details["outcome"] == "unknown"


async def test_a_cancelled_call_leaves_its_connection_and_is_told(connect: Connect, service: HttpService) -> None:
    async def hang(exchange: Exchange, number: Any) -> None:
        progress = {"progressToken": number, "progress": 0, "total": 1}
        started = {"jsonrpc": "2.0", "method": "notifications/progress", "params": progress}
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + events(started))
        service.closed.clear()
        await asyncio.Event().wait()

    client = await connect(url=speak(service, hang))
    async with client.run(calling("any")) as run:
        await begun(run)
        await run.cancel()
    async with asyncio.timeout(GUARD):
        while not any(b"notifications/cancelled" in request.body for request in service.requests):
            await service.closed.wait()
            service.closed.clear()


async def test_a_session_in_which_no_ping_is_answered_is_opened_again(
    connect: Connect, service: HttpService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepwave_server.actions.mcp.session.PING_SECONDS", 0.2)
    called = asyncio.Event()

    async def hang_first(exchange: Exchange, number: Any) -> None:
        if called.is_set():
            await result(number, DONE)(exchange)
        called.set()
        await asyncio.Event().wait()

    url = speak(service, hang_first)
    handle = service.handlers["/mcp"]

    async def no_ping(exchange: Exchange) -> None:
        if b'"ping"' in exchange.request.body:
            await asyncio.Event().wait()
        await handle(exchange)

    service.handlers["/mcp"] = no_ping
    client = await connect(url=url)
    async with client.run(calling("any")) as run:
        async with asyncio.timeout(GUARD):
            await called.wait()
        await run.cancel()
    assert await answer(client, "any") == "done"
    methods = [json.loads(request.body)["method"] for request in service.requests if request.body]
    assert (methods.count("ping"), methods.count("initialize")) == (1, 2)


async def test_a_server_that_hangs_is_waited_for_no_longer_than_said(connect: Connect, service: HttpService) -> None:
    async def hang(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    service.handlers["/mcp"] = hang
    failure = await failure_of(await connect(url=service.url("/mcp"), connect_timeout=0.2), "any")
    assert (failure.reason, failure.retryable) == (FailureReason.UNAVAILABLE, True)
    assert failure.message == 'MCP server "tools": no session within 0.2 s'


@pytest.mark.parametrize(
    ("handler", "reason", "retryable", "text"),
    [
        (responding(404), FailureReason.UNAVAILABLE, True, "no session can be opened: it answered 404 Said"),
        (
            responding(405),
            FailureReason.UNAVAILABLE,
            True,
            "no session can be opened: it answered 405 Said; the URL must be one of streamable HTTP",
        ),
        (responding(500), FailureReason.UNAVAILABLE, True, "it answered 500 Said"),
        (
            responding(200, b"<html>", {"Content-Type": "text/html"}),
            FailureReason.UNAVAILABLE,
            True,
            "no session can be opened: it answered 200 with text/html",
        ),
        (
            responding(200, b" " * (9 << 20), {"Content-Type": "application/json"}),
            FailureReason.UNAVAILABLE,
            True,
            "no session can be opened: it answered more than",
        ),
        (responding(401), FailureReason.UNAUTHORIZED, False, "it answered 401"),
        (responding(429), FailureReason.RATE_LIMITED, True, "it answered 429"),
    ],
)
async def test_a_handshake_that_fails_is_unavailable_and_no_tool_has_run(
    connect: Connect, service: HttpService, handler: Handler, reason: FailureReason, retryable: bool, text: str
) -> None:
    service.handlers["/mcp"] = handler
    failure = await failure_of(await connect(url=service.url("/mcp")), "any")
    assert (failure.reason, failure.retryable) == (reason, retryable)
    assert failure.message.startswith(f'MCP server "tools": {text}')
    assert "not known" not in failure.message
    assert failure.details == {"mcp_server": "tools"}


async def test_a_connection_that_breaks_in_the_handshake_leaves_nothing_unknown(
    connect: Connect, service: HttpService
) -> None:
    async def hang_up(exchange: Exchange) -> None:
        exchange.writer.close()

    service.handlers["/mcp"] = hang_up
    failure = await failure_of(await connect(url=service.url("/mcp")), "any")
    assert (failure.reason, failure.retryable) == (FailureReason.UNAVAILABLE, True)
    assert "the connection broke off" in failure.message
    assert failure.details == {"mcp_server": "tools"}


async def test_a_dead_endpoint_is_unavailable(connect: Connect) -> None:
    async with http_service() as gone:
        url = gone.url("/mcp")
    failure = await failure_of(await connect(url=url), "any")
    assert (failure.reason, failure.retryable) == (FailureReason.UNAVAILABLE, True)
    assert "it cannot be reached" in failure.message


async def test_a_certificate_counts_only_if_its_authority_is_trusted(connect: Connect, tmp_path: Path) -> None:
    trusted = trustme.CA()
    trusted.cert_pem.write_to_path(tmp_path / "ca.pem")

    async def done(exchange: Exchange, number: Any) -> None:
        await text(number, "here")(exchange)

    async with http_service(context=context_of(trusted)) as service:
        speak(service, done)
        client = await connect(url=f"https://localhost:{service.port}/mcp", ca="ca.pem")
        assert await answer(client, "any") == "here"
    async with http_service(context=context_of(trustme.CA())) as service:
        speak(service, done)
        client = await connect(url=f"https://localhost:{service.port}/mcp", ca="ca.pem")
        failure = await failure_of(client, "any")
    assert (failure.reason, failure.retryable) == (FailureReason.UNAUTHORIZED, False)
    assert "its certificate is not trusted: " in failure.message


async def test_proxies_of_the_environment_are_not_used(
    connect: Connect, service: HttpService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://192.0.2.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://192.0.2.1:9")

    async def done(exchange: Exchange, number: Any) -> None:
        await text(number, "here")(exchange)

    assert await answer(await connect(url=speak(service, done)), "any") == "here"


async def test_requests_of_a_server_are_refused_one_after_another(connect: Connect, service: HttpService) -> None:
    asked = [{"jsonrpc": "2.0", "id": f"mine-{n}", "method": "roots/list"} for n in range(3)]

    async def ask(exchange: Exchange, number: Any) -> None:
        body = events(*asked, {"jsonrpc": "2.0", "id": number, "result": DONE})
        await responding(200, body, EVENTS)(exchange)

    url = speak(service, ask)
    handle = service.handlers["/mcp"]

    async def handle_all(exchange: Exchange) -> None:
        is_answer = exchange.request.body and "method" not in json.loads(exchange.request.body)
        await (responding(202) if is_answer else handle)(exchange)

    service.handlers["/mcp"] = handle_all
    assert await answer(await connect(url=url), "any") == "done"
    refused = [message for request in service.requests if "error" in (message := json.loads(request.body or b"{}"))]
    assert [message["id"] for message in refused] == ["mine-0", "mine-1", "mine-2"]
    assert refused[0]["error"]["message"] == "this client does not serve roots/list"
