"""Whatever a host does, its step fails with a reason, and never hangs."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from google.protobuf import duration_pb2

from integration.durable.server_process import free_address
from integration.runnables.conftest import Connect
from integration.runnables.fake_host import (
    FakeHost,
    Said,
    chunk,
    failure,
    log,
    output,
    progress,
    serving_fake,
)
from integration.runnables.hosts import failure_of, hosting, one
from integration.server.raw_client import GUARD
from stepwave import AsyncClient, FailureReason
from stepwave.v1 import payload_pb2, run_pb2, runnable_pb2
from stepwave_server.actions.runnables import connection

ERROR = FailureReason.ACTION_ERROR


@pytest.fixture
async def fake() -> AsyncIterator[FakeHost]:
    async with serving_fake() as host:
        yield host


@pytest.fixture
async def client(connect: Connect, fake: FakeHost) -> AsyncClient:
    return await connect(fake.address)


@pytest.mark.parametrize(
    ("says", "reason", "message"),
    [
        ([output("1"), output("2")], ERROR, "it answered twice"),
        ([output("1"), failure(7, "no")], ERROR, "it answered twice"),
        ([failure(7, "no"), output("1")], ERROR, "it answered twice"),
        ([output("1"), chunk("2")], ERROR, "it went on after its answer"),
        ([output("1"), progress(1)], ERROR, "it went on after its answer"),
        ([output("1"), log(2, "late")], ERROR, "it went on after its answer"),
        ([], ERROR, "it ended without an answer"),
        ([progress(0.5)], ERROR, "it ended without an answer"),
        ([log(2, "about to answer")], ERROR, "it ended without an answer"),
        ([runnable_pb2.StreamResponse()], ERROR, "it sent a message of no kind that this server knows"),
        ([b"\x12\x05"], ERROR, "it sent a message of another contract"),
        ([output("{1")], ERROR, "its answer is not JSON"),
        ([output("NaN")], ERROR, "its answer is not JSON"),
        ([chunk("{")], ERROR, "its chunk is not JSON"),
        ([runnable_pb2.StreamResponse(output=payload_pb2.Payload())], ERROR, "its answer has neither JSON nor a blob"),
        ([progress(2)], ERROR, "its progress is 2.0, and must be between 0 and 1"),
        ([output(f'"{"x" * (2 << 20)}"')], FailureReason.RESOURCE_EXHAUSTED, "a message is too large"),
        ([chunk(f'"{"x" * (1 << 19)}"')] * 3, FailureReason.RESOURCE_EXHAUSTED, "its chunks exceed"),
    ],
)
async def test_a_host_that_breaks_the_contract_fails_the_step_for_good(
    client: AsyncClient, fake: FakeHost, says: list[Said], reason: FailureReason, message: str
) -> None:
    fake.says = says
    found = await failure_of(client, one("add"))
    assert (found.reason, found.retryable) == (reason, False)
    assert message in found.message


async def test_logs_of_a_host_are_bounded_and_unknown_severities_are_info(client: AsyncClient, fake: FakeHost) -> None:
    fake.says = [log(99, "x" * 100_000), log(0, "second"), output("1")]
    await client.run(one("add"), run_id="logging")
    first, second = [it async for it in client.logs("logging")]
    assert (first.level, len(first.message.encode())) == ("info", 8_192)
    assert (second.level, second.logger, second.message) == ("info", "stepwave.action", "second")


async def test_an_error_in_mid_stream_leaves_the_outcome_unknown(client: AsyncClient, fake: FakeHost) -> None:
    fake.says = [chunk("1"), RuntimeError("defect")]
    found = await failure_of(client, one("add"))
    assert (found.reason, found.retryable, found.details["outcome"]) == (ERROR, True, "unknown")


async def test_chunks_without_an_answer_are_the_answer(client: AsyncClient, fake: FakeHost) -> None:
    fake.says = [chunk("1"), chunk('"two"')]
    assert (await client.run(one("add"))).outputs == {"only": [1, "two"]}
    fake.says = [chunk('"one "'), chunk('"two"')]
    assert (await client.run(one("add"))).outputs == {"only": "one two"}


async def test_a_failure_of_a_reason_that_is_not_known_is_one_of_the_action(
    client: AsyncClient, fake: FakeHost
) -> None:
    fake.says = [failure(77, "new")]
    found = await failure_of(client, one("add"))
    assert (found.reason, found.message) == (ERROR, "new")


async def test_a_failure_without_a_message_gets_one(client: AsyncClient, fake: FakeHost) -> None:
    fake.says = [failure(7, "")]
    assert (await failure_of(client, one("add"))).message.endswith(": it failed without a message")


async def test_a_wait_that_is_negative_is_none(client: AsyncClient, fake: FakeHost) -> None:
    wait = duration_pb2.Duration(seconds=-5)
    reason = run_pb2.FAILURE_REASON_RATE_LIMITED
    refused = run_pb2.Failure(reason=reason, message="no", retryable=True, retry_after=wait)
    fake.says = [runnable_pb2.StreamResponse(failure=refused)]
    assert (await failure_of(client, one("add"))).retry_after is None


async def test_an_answer_counts_although_the_stream_stays_open(
    client: AsyncClient, fake: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "END_SECONDS", 0.05)
    fake.says, fake.stays = [output("1")], True
    assert (await client.run(one("add"))).outputs == {"only": 1}
    async with asyncio.timeout(GUARD):
        await fake.left.wait()


async def test_a_silent_host_is_left_at_the_timeout_of_the_step(client: AsyncClient, fake: FakeHost) -> None:
    fake.stays = True
    assert (await failure_of(client, one("add", timeout=0.2))).reason is FailureReason.TIMEOUT
    async with asyncio.timeout(GUARD):
        await fake.left.wait()


async def test_no_host_at_the_address_fails_the_step_which_did_not_run(connect: Connect) -> None:
    found = await failure_of(await connect(free_address()), one("add"))
    assert (found.reason, found.retryable) == (FailureReason.UNAVAILABLE, True)
    assert found.message.startswith('"tools" at 127.0.0.1:')
    assert "outcome" not in found.details


async def test_an_address_that_never_answers_fails_the_step(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connections are made, and nobody reads
        port = silent.getsockname()[1]
        found = await failure_of(await connect(f"127.0.0.1:{port}"), one("add"))
        assert (found.reason, found.retryable) == (FailureReason.UNAVAILABLE, True)
        assert "no answer within 0.2 s" in found.message


async def test_a_host_that_is_not_healthy_gets_no_attempts(connect: Connect) -> None:
    async with serving_fake(prepare=lambda host: host.health.set_serving(serving=False)) as sick:
        found = await failure_of(await connect(sick.address), one("add"))
        assert (found.reason, found.retryable, sick.asked) == (FailureReason.UNAVAILABLE, True, [])


async def test_a_host_without_a_health_service_gets_attempts(connect: Connect) -> None:
    async with serving_fake(health=False) as plain:
        plain.says = [output("1")]
        assert (await (await connect(plain.address)).run(one("add"))).outputs == {"only": 1}


async def test_all_addresses_of_a_name_take_turns(connect: Connect) -> None:
    async with serving_fake("127.0.0.1:0") as first:
        port = first.address.rpartition(":")[2]
        async with serving_fake(f"[::1]:{port}") as second:
            first.says = second.says = [output("1")]
            client = await connect(f"localhost:{port}")
            for _ in range(20):
                await client.run(one("add"))
            assert min(len(first.asked), len(second.asked)) > 5


async def test_the_failure_of_an_unknown_action_has_near_names(connect: Connect) -> None:
    with hosting() as (address, _):
        client = await connect(address)
        found = await failure_of(client, one("grpc.invoke", {"runnable": "tools", "action": "ad"}))
        assert (found.reason, found.retryable) == (FailureReason.NOT_FOUND, False)
        assert 'unknown action "ad"; did you mean "add"?' in found.message
        found = await failure_of(client, one("grpc.invoke", {"runnable": "tolls", "action": "add"}))
        assert found.message == 'unknown runnable "tolls"; did you mean "tools"?'


async def test_a_host_without_invoke_is_told_apart(connect: Connect, fake: FakeHost) -> None:
    found = await failure_of(await connect(fake.address, stream=False), one("add"))
    assert (found.reason, found.retryable) == (FailureReason.INVALID_INPUT, False)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Write a host's certificate, a server's, and the authority of both."""
    authority = trustme.CA()
    for name in ("127.0.0.1", "server.example"):
        issued = authority.issue_cert(name)
        issued.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
        issued.private_key_pem.write_to_path(tmp_path / f"{name}.key")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    return {path.name: str(path) for path in tmp_path.iterdir()}


async def test_tls_with_certificates_of_both_sides(connect: Connect, files: dict[str, str]) -> None:
    served = ("--tls-cert", files["127.0.0.1.pem"], "--tls-key", files["127.0.0.1.key"])
    with hosting(*served, "--tls-client-ca", files["ca.pem"]) as (address, _):
        flow = one("add", {"left": 1, "right": 2})
        shown: dict[str, Any] = {"cert": files["server.example.pem"], "key": files["server.example.key"]}
        trusted: dict[str, Any] = {"tls": True, "ca": files["ca.pem"]}
        client = await connect(address, **trusted, **shown)
        assert (await client.run(flow)).outputs == {"only": 3}
        for wrong in ({"ca": files["other.pem"]}, {"server_name": "other"}):
            found = await failure_of(await connect(address, **{**trusted, **shown, **wrong}), flow)
            assert (found.reason, found.retryable) == (FailureReason.UNAUTHORIZED, False), found.message
        for less in (trusted, {}):
            found = await failure_of(await connect(address, **less), flow)
            assert found.reason is FailureReason.UNAVAILABLE, found.message
