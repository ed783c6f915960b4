"""`http.request` with secrets, and with services that have certificates."""

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path

import pytest
import trustme

from integration.server.build import finished, flow, payload, reason_of
from integration.server.fixture_types import Connect, Serve
from integration.server.http_calls import failure, output
from integration.server.http_service import HttpService, answer, as_json, http_service
from integration.server.raw_client import RawClient
from stepwave.v1 import workflow_pb2

VALUE = "Bearer sk-live-0123456789abcdef"
LOCAL = "127.0.0.0/8"

pytestmark = pytest.mark.parametrize("serve", ["memory"], indirect=True)


@pytest.fixture
async def client(serve: Serve, connect: Connect) -> RawClient:
    return connect(await serve(http_allow=LOCAL))


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEPWAVE_SECRET_KEY", VALUE)
    path = tmp_path / "secrets.toml"
    path.write_text('[secrets.KEY]\nactions = ["http.request"]\n')
    return path


def with_secret(url: str) -> workflow_pb2.Workflow:
    binding = workflow_pb2.Binding(target="/headers/Authorization", secret="KEY")
    return flow(
        workflow_pb2.Step(id="s", action="http.request", input=payload({"url": url, "headers": {}}), bindings=[binding])
    )


async def test_a_secret_fills_a_header_and_no_failure_shows_it(
    serve: Serve, connect: Connect, service: HttpService, secrets: Path
) -> None:
    service.handlers["/a"] = answer(400, f"{'x' * 490} {VALUE} is bad".encode())
    client = connect(await serve(http_allow=LOCAL, secrets=secrets))
    events = await client.run(with_secret(service.url("/a")))
    assert service.requests[0].headers["authorization"] == VALUE
    found = finished(events)["s"].failure
    assert "400" in found.message
    assert not any(VALUE[:length] in found.message for length in range(8, len(VALUE)))


def redirected(url: str, target: str) -> workflow_pb2.Workflow:
    """Return a request with a secret at one place of its input."""
    binding = workflow_pb2.Binding(target=target, secret="KEY")
    given = {"url": url, "method": "POST", "headers": {}, "json": {}}
    return flow(workflow_pb2.Step(id="s", action="http.request", input=payload(given), bindings=[binding]))


async def test_a_secret_in_any_header_stays_with_its_origin(
    serve: Serve, connect: Connect, service: HttpService, secrets: Path
) -> None:
    client = connect(await serve(http_allow=LOCAL, secrets=secrets))
    async with http_service() as other:
        other.handlers["/b"] = as_json("here")
        service.handlers["/a"] = answer(307, headers={"Location": other.url("/b")})
        await client.run(redirected(service.url("/a"), "/headers/User-Agent"))
        (sent,) = other.requests
    assert service.requests[0].headers["user-agent"] == VALUE
    assert sent.headers["user-agent"].startswith("stepwave/")
    assert sent.body == b"{}"


async def test_a_secret_in_a_body_is_not_sent_to_another_origin(
    serve: Serve, connect: Connect, service: HttpService, secrets: Path
) -> None:
    client = connect(await serve(http_allow=LOCAL, secrets=secrets))
    async with http_service() as other:
        service.handlers["/a"] = answer(307, headers={"Location": other.url("/b")})
        events = await client.run(redirected(service.url("/a"), "/json/key"))
        assert other.connections == 0
    found = finished(events)["s"].failure
    assert (reason_of(found), found.retryable) == ("unauthorized", False)
    assert "may not get the secret in the body" in found.message


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return authority


def _context(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


async def test_a_certificate_is_checked_against_the_name_of_the_url(client: RawClient, authority: trustme.CA) -> None:
    async with http_service(context=_context(authority, "localhost")) as service:
        service.handlers["/a"] = as_json("safe")
        url = service.url("/a", "localhost").replace("http:", "https:")
        assert (await output(client, url))["body"] == "safe"
        found = await failure(client, url.replace("localhost", "127.0.0.1"))
    assert (reason_of(found), found.retryable) == ("unavailable", False)
    assert "the certificate of https://127.0.0.1" in found.message


async def test_a_certificate_of_an_unknown_authority_is_refused(client: RawClient) -> None:
    async with http_service(context=_context(trustme.CA(), "localhost")) as service:
        found = await failure(client, service.url("/a", "localhost").replace("http:", "https:"))
    assert (reason_of(found), found.retryable) == ("unavailable", False)


async def test_a_service_that_speaks_no_tls_is_unavailable(client: RawClient) -> None:
    closed = asyncio.Event()

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with suppress(ConnectionError):
            await reader.read()
            writer.close()
            await writer.wait_closed()
        closed.set()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as plain:
        port = plain.sockets[0].getsockname()[1]
        found = await failure(client, f"https://127.0.0.1:{port}/")
        await closed.wait()
    assert (reason_of(found), found.retryable) == ("unavailable", True)


async def test_the_certificates_of_authorities_may_be_missing(
    client: RawClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    found = await failure(client, "https://127.0.0.1:1/")
    assert (reason_of(found), found.retryable) == ("internal", False)
    assert "SSL_CERT_FILE" in found.message
