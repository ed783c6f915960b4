"""TLS and API keys to Temporal: runs go through, keys arrive, and each wrong setting has its line."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import CompletedProcess
from typing import TypeAlias

import grpc
import pytest
import trustme
from temporalio.api.workflowservice.v1 import GetSystemInfoRequest, GetSystemInfoResponse

from conformance.encrypted_temporal import EncryptedTemporal
from conformance.processes import Cluster
from stepwave import AsyncClient, Workflow
from stepwave_server.config import Settings
from stepwave_server.temporal import TemporalNotReady, TemporalUnavailable, check_ready, connect
from temporal_server import TemporalServer

Context: TypeAlias = "grpc.aio.ServicerContext[GetSystemInfoRequest, GetSystemInfoResponse]"

SECRET = "hunter2"

ENCRYPTED = {"temporal_tls": True}


def _settings(address: str, **values: object) -> Settings:
    return Settings.model_validate({"temporal_address": address, **values})


@pytest.fixture
def encrypted(temporal_server: TemporalServer, tmp_path: Path) -> EncryptedTemporal:
    return EncryptedTemporal(temporal_server.address, tmp_path)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "api-key"
    path.write_text(f"{SECRET}\n")
    return path


def _options(settings: Mapping[str, object]) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]


async def test_a_run_goes_through_a_server_and_a_host_with_certificates(
    cluster: Cluster, encrypted: EncryptedTemporal
) -> None:
    flow = Workflow("clock")
    flow.step("only", "now", {"item": 1})
    async with encrypted.serving(clients=True) as address:
        files = _options({**encrypted.trusted(), **encrypted.client()})
        shared = (f"--temporal-address={address}", "--temporal-tls", *files)
        with cluster.start("serve", "--engine=temporal", "--listen=127.0.0.1:0", *shared) as server:
            listening = (await asyncio.to_thread(server.wait_for_output, ":")).strip()
            with cluster.start("host", "tools", *shared) as host:
                hosting = await asyncio.to_thread(host.wait_for_output, "hosting")
                async with AsyncClient(listening) as client:
                    result = await client.run(flow)
    assert hosting == f"hosting 3 actions for Temporal at {address}\n"
    assert list(result.outputs) == ["only"]


async def _reason(address: str, **values: object) -> str:
    """Return why no connection is made."""
    with pytest.raises(TemporalUnavailable) as refused:
        await connect(_settings(address, **values))
    text = str(refused.value)
    assert len(text.splitlines()) == 1
    return text.removeprefix(f"Temporal at {address} did not answer: ")


async def test_an_authority_that_did_not_sign_is_named(encrypted: EncryptedTemporal) -> None:
    async with encrypted.serving() as address:
        other = encrypted.trusted(trustme.CA())
        reason = await _reason(address, **ENCRYPTED, **other)
    path = other["temporal_tls_ca"]
    assert reason == f"its certificate is of another authority than that of --temporal-tls-ca, {path}"


async def test_an_authority_that_the_system_does_not_trust_is_told_apart(encrypted: EncryptedTemporal) -> None:
    async with encrypted.serving() as address:
        reason = await _reason(address, **ENCRYPTED)
    assert reason.endswith("of an authority that this machine does not trust: name it with --temporal-tls-ca")


async def test_a_certificate_for_another_name_is_told_apart(encrypted: EncryptedTemporal) -> None:
    async with encrypted.serving() as address:
        reason = await _reason(address.replace("127.0.0.1", "localhost"), **ENCRYPTED, **encrypted.trusted())
    assert reason == "its certificate is for another name than that of --temporal-address"


async def test_tls_to_a_server_of_plain_text_is_told_apart(
    encrypted: EncryptedTemporal, temporal_server: TemporalServer
) -> None:
    reason = await _reason(temporal_server.address, **ENCRYPTED, **encrypted.trusted())
    assert reason == "it does not encrypt: leave out --temporal-tls"


async def test_plain_text_to_a_server_that_encrypts_is_told_apart(encrypted: EncryptedTemporal) -> None:
    async with encrypted.serving() as address:
        reason = await _reason(address)
    assert reason == "it closed the connection, as a server that encrypts does: set --temporal-tls"


async def test_a_missing_client_certificate_is_told_apart(encrypted: EncryptedTemporal) -> None:
    async with encrypted.serving(clients=True) as address:
        reason = await _reason(address, **ENCRYPTED, **encrypted.trusted())
    assert reason.endswith("a client certificate does: set --temporal-tls-cert and --temporal-tls-key")


async def test_a_client_certificate_of_another_authority_is_told_apart(encrypted: EncryptedTemporal) -> None:
    async with encrypted.serving(clients=True) as address:
        reason = await _reason(address, **ENCRYPTED, **encrypted.trusted(), **encrypted.client(trustme.CA()))
    assert reason.endswith("does not trust the client certificate does: check --temporal-tls-cert")


@pytest.mark.parametrize("command", [("serve", "--engine=temporal"), ("host", "tools")], ids=["serve", "host"])
async def test_a_command_ends_with_the_reason_and_says_it_while_it_waits(
    cluster: Cluster, encrypted: EncryptedTemporal, command: tuple[str, ...]
) -> None:
    async with encrypted.serving() as address:
        options = (f"--temporal-address={address}", "--temporal-wait=0.1s", "--temporal-tls")
        done: CompletedProcess[str] = await asyncio.to_thread(cluster.run, *command, *options)
    assert (done.returncode, done.stdout) == (2, "")
    lines = [line.partition(": its certificate is of an authority ")[0] for line in done.stderr.splitlines()]
    assert lines[0].endswith(f"Temporal at {address} does not answer yet; waiting for it for at most 0.1 s")
    assert lines[1:] == [f"Temporal at {address} did not answer within 0.1 s"]


async def test_the_command_in_an_error_has_the_options_of_the_connection(encrypted: EncryptedTemporal) -> None:
    async with encrypted.serving() as address:
        files = encrypted.trusted()
        settings = _settings(address, **ENCRYPTED, **files, temporal_namespace="nowhere")
        with pytest.raises(TemporalNotReady) as refused:
            await check_ready(await connect(settings), settings)
    connection = f"--address {address} --tls --tls-ca-path {files['temporal_tls_ca']}"
    assert str(refused.value).endswith(f"temporal operator namespace create {connection} --namespace nowhere")


@asynccontextmanager
async def _noting(credentials: grpc.ServerCredentials | None) -> AsyncIterator[tuple[str, list[str]]]:
    """Serve the first request of a client of Temporal. Yield the address, and the authorizations of the requests."""
    noted: list[str] = []

    async def answer(_: GetSystemInfoRequest, context: Context) -> GetSystemInfoResponse:
        noted.append(str(dict(context.invocation_metadata() or ()).get("authorization")))
        return GetSystemInfoResponse()

    method = grpc.unary_unary_rpc_method_handler(
        answer, GetSystemInfoRequest.FromString, GetSystemInfoResponse.SerializeToString
    )
    server = grpc.aio.server()
    service = "temporal.api.workflowservice.v1.WorkflowService"
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {"GetSystemInfo": method})])
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield f"127.0.0.1:{port}", noted
    finally:
        await server.stop(None)


async def test_a_key_arrives_encrypted(tmp_path: Path, key_file: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    pair = (issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes())
    async with _noting(grpc.ssl_server_credentials([pair])) as (address, noted):
        await connect(
            _settings(address, **ENCRYPTED, temporal_tls_ca=tmp_path / "ca.pem", temporal_api_key_file=key_file)
        )
    assert noted == [f"Bearer {SECRET}"]


async def test_a_key_arrives_in_plain_text_on_loopback(key_file: Path) -> None:
    async with _noting(None) as (address, noted):
        await connect(_settings(address, temporal_api_key_file=key_file))
    assert noted == [f"Bearer {SECRET}"]


async def test_without_a_key_none_is_sent() -> None:
    async with _noting(None) as (address, noted):
        await connect(_settings(address))
    assert noted == ["None"]
