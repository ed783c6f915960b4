"""TLS: who trusts whom, and certificates that are replaced."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from integration.access.conftest import Serve, access_text, encrypted_client, write_certificate
from stepwave import AsyncClient, Client, Workflow
from stepwave.exceptions import AccessDenied, ServerUnavailable
from stepwave_server.app import Server
from stepwave_server.config import Settings
from stepwave_server.rpc.listening import ListenError
from stepwave_server.rpc.tls import TlsError

WORKER = "worker.example.org"

PLAIN = {"listen": "127.0.0.1:0", "entry_points": False}

Certificate = Mapping[str, Any]


@pytest.fixture
def open_access(access: Path) -> None:
    """Let a client certificate in, beside the tokens."""
    access.write_text(access_text(extra=f'[[certificates]]\nname = "{WORKER}"\nroles = {{default = "runner"}}'))


@pytest.fixture
def client_files(tmp_path: Path) -> Callable[..., Mapping[str, Path]]:
    """Write a client's certificate, and return the arguments of a client with it."""

    def write(authority: trustme.CA, name: str = WORKER, expired: bool = False) -> Mapping[str, Path]:
        until = datetime.now(UTC) - timedelta(days=1) if expired else None
        issued = authority.issue_cert(name, not_after=until)
        paths = {"client_cert": tmp_path / "client.pem", "client_key": tmp_path / "client.key"}
        issued.cert_chain_pems[0].write_to_path(paths["client_cert"])
        issued.private_key_pem.write_to_path(paths["client_key"])
        return paths

    return write


async def test_calls_and_tokens_go_encrypted(serve: Serve, certificate: Certificate, tmp_path: Path) -> None:
    server = await serve(**certificate)
    async with encrypted_client(server, tmp_path, token="viewer-default") as client:
        assert [run async for run in client.runs()] == []


def test_the_blocking_client_encrypts_too(certificate: Certificate, tmp_path: Path) -> None:
    client = Client("192.0.2.1:50051", tls_ca=tmp_path / "ca.pem", token="t")
    client.close()


async def test_a_client_of_plain_text_is_not_served(serve: Serve, certificate: Certificate) -> None:
    server = await serve(**certificate)
    async with AsyncClient(server.address, token="viewer-default", connect_timeout=0.2) as client:
        with pytest.raises(ServerUnavailable, match="as a server that encrypts does"):
            await client.server_info()


async def test_a_client_that_encrypts_is_told_that_the_server_does_not(
    serve: Serve, certificate: Certificate, tmp_path: Path
) -> None:
    server = await serve()
    async with encrypted_client(server, tmp_path, token="viewer-default") as client:
        with pytest.raises(ServerUnavailable, match="it does not encrypt"):
            await client.server_info()


async def test_a_server_of_another_authority_is_not_trusted(
    serve: Serve, certificate: Certificate, tmp_path: Path
) -> None:
    server = await serve(**certificate)
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    async with encrypted_client(server, tmp_path, token="viewer-default") as client:
        with pytest.raises(ServerUnavailable, match="its certificate is not trusted"):
            await client.server_info()


async def test_a_client_certificate_is_a_credential(
    serve: Serve,
    open_access: None,
    authority: trustme.CA,
    certificate: Certificate,
    client_files: Callable[..., Mapping[str, Path]],
    tmp_path: Path,
) -> None:
    server = await serve(**certificate, tls_client_ca=tmp_path / "ca.pem")
    async with encrypted_client(server, tmp_path, **client_files(authority)) as client:
        run = await client.start(_echo(), run_id="mine")
    assert run.created_by == f"certificate:{WORKER}"


async def test_a_certificate_without_a_role_opens_nothing(
    serve: Serve,
    open_access: None,
    authority: trustme.CA,
    certificate: Certificate,
    client_files: Callable[..., Mapping[str, Path]],
    tmp_path: Path,
) -> None:
    server = await serve(**certificate, tls_client_ca=tmp_path / "ca.pem")
    async with encrypted_client(server, tmp_path, **client_files(authority, "other.example.org")) as client:
        with pytest.raises(AccessDenied, match="certificate is unknown"):
            await client.server_info()


@pytest.mark.parametrize("kind", ["none", "another authority", "expired"])
async def test_a_client_without_a_valid_certificate_is_not_served(
    serve: Serve,
    authority: trustme.CA,
    certificate: Certificate,
    client_files: Callable[..., Mapping[str, Path]],
    tmp_path: Path,
    kind: str,
) -> None:
    server = await serve(**certificate, tls_client_ca=tmp_path / "ca.pem")
    signer = trustme.CA() if kind == "another authority" else authority
    files = {} if kind == "none" else client_files(signer, expired=kind == "expired")
    async with encrypted_client(server, tmp_path, token="viewer-default", **files) as client:
        with pytest.raises(ServerUnavailable):
            await client.server_info()


async def test_a_replaced_certificate_holds_for_new_connections_and_drops_no_stream(
    serve: Serve, authority: trustme.CA, certificate: Certificate, tmp_path: Path
) -> None:
    server = await serve(**certificate)
    flow = Workflow("waits")
    flow.step("wait", "core.wait")
    async with encrypted_client(server, tmp_path, token="runner-default") as before:
        run = await before.start(flow)
        async with before.watch(run.run_id) as events:
            seen = [await anext(events)]
            newer = trustme.CA()
            write_certificate(newer, tmp_path)
            async with encrypted_client(server, tmp_path, token="runner-default") as after:
                await after.complete_step(run.run_id, "wait", 1)
            seen += [event async for event in events]
    assert [event.sequence for event in seen if event.sequence] == list(range(1, seen[-1].sequence + 1))


async def test_a_certificate_that_became_malformed_changes_nothing(
    serve: Serve, certificate: Certificate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(**certificate)
    certificate["tls_cert"].write_text("no certificate")
    async with encrypted_client(server, tmp_path, token="viewer-default") as client:
        assert [run async for run in client.runs()] == []
    assert "the old certificate stays" in caplog.text


async def test_a_key_of_another_certificate_is_refused_at_the_start(
    authority: trustme.CA, certificate: Certificate
) -> None:
    authority.issue_cert("localhost").private_key_pem.write_to_path(certificate["tls_key"])
    with pytest.raises(TlsError, match="no certificate and its key"):
        async with Server(Settings.model_validate({**PLAIN, **certificate})):
            pass


async def test_plain_text_beyond_loopback_needs_to_be_allowed() -> None:
    with pytest.raises(ListenError, match="--tls-cert"):
        async with Server(Settings(listen="0.0.0.0:0", entry_points=False)):
            pass


async def test_encrypted_text_beyond_loopback_does_not(certificate: Certificate) -> None:
    async with Server(Settings.model_validate({**PLAIN, "listen": "0.0.0.0:0", **certificate})) as server:
        assert server.address.startswith("0.0.0.0:")


def _echo() -> Workflow:
    flow = Workflow("echo")
    flow.step("echo", "core.echo")
    return flow
