"""Bearer tokens, and changes of the access file."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeAlias

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from integration.access.calls import fields_of
from integration.access.conftest import TOKENS, Call, Serve, access_text
from stepwave import AsyncClient, Client, State, Workflow
from stepwave.exceptions import AccessDenied
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import orchestrator_pb2_grpc
from stepwave_server.access.access_file import load_access
from stepwave_server.access.roles import AccessError
from stepwave_server.app import Server
from waiting import until

Listing: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]"


@pytest.mark.parametrize("token", ["wrong", "Operator", "a.b.c", "x" * 100_000])
async def test_an_unknown_token_is_refused(server: Server, token: str) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        call: Listing = channel.unary_unary("/stepwave.v1.OrchestratorService/ListRuns")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"", metadata=(("authorization", f"Bearer {token}"),))
    code = caught.value.code()
    assert code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED), code


async def test_another_scheme_is_refused(server: Server) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        call: Listing = channel.unary_unary("/stepwave.v1.OrchestratorService/ListRuns")
        with pytest.raises(grpc.aio.AioRpcError, match="no bearer token"):
            await call(b"", metadata=(("authorization", "Basic b3BlcmF0b3I6"),))


async def test_the_sdk_sends_its_token(server: Server) -> None:
    async with AsyncClient(server.address, token="runner-default") as client:
        result = await client.run(_echo(), {"a": 1})
    assert result.outputs == {"echo": {"a": 1}}


async def test_the_token_may_come_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWAVE_TOKEN", "viewer-default")
    async with AsyncClient(server.address) as client:
        assert [run async for run in client.runs()] == []


@pytest.fixture
def token_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a token, at which every call of a client looks."""
    monkeypatch.setattr("stepwave._transport.tokens.CHECK_SECONDS", 0.0)
    path = tmp_path / "token"
    path.write_text("nobody\n")
    monkeypatch.setenv("STEPWAVE_TOKEN_FILE", str(path))
    return path


async def test_a_client_sends_the_token_that_its_file_has_now(server: Server, token_file: Path) -> None:
    async with AsyncClient(server.address) as client:
        assert await _is_refused(client)
        token_file.write_text("operator\n")
        assert not await _is_refused(client)


@pytest.mark.parametrize("malformed", [b"", b"two words", b"\xff"])
async def test_the_token_from_before_is_used_while_its_file_is_malformed(
    server: Server, token_file: Path, caplog: pytest.LogCaptureFixture, malformed: bytes
) -> None:
    token_file.write_text("operator")
    async with AsyncClient(server.address) as client:
        token_file.write_bytes(malformed)
        assert not await _is_refused(client)
    assert caplog.text.count("the token from before is used") == 1


async def test_a_file_without_a_token_is_refused_at_once(token_file: Path) -> None:
    token_file.write_text("\n")
    with pytest.raises(ValueError, match="has no token"):
        AsyncClient("127.0.0.1:1")


async def test_a_missing_token_is_an_exception_of_the_sdk(server: Server) -> None:
    async with AsyncClient(server.address) as client:
        with pytest.raises(AccessDenied, match="credentials"):
            await client.server_info()


async def test_health_is_open_to_all(server: Server) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(("token", "served"), [("", False), ("nobody", True)])
async def test_reflection_is_for_known_callers(server: Server, token: str, served: bool) -> None:
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")]), metadata=metadata
        )
        if served:
            answers = [answer async for answer in call]
            assert answers[0].list_services_response.service
        else:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_a_change_of_the_file_holds_without_a_restart(call: Call, access: Path) -> None:
    assert (await call("ListRuns", token="late")).reason == "UNAUTHENTICATED"
    access.write_text(access_text({**TOKENS, "late": {"default": "viewer"}}))
    await until(lambda: _served(call, "late"))
    access.write_text(access_text({"late": {"default": "viewer"}}))
    await until(lambda: _refused(call, "operator"))


async def test_a_file_that_became_malformed_changes_nothing(
    call: Call, access: Path, caplog: pytest.LogCaptureFixture
) -> None:
    access.write_text("[namespaces.default]\n[[tokens]]\nname = 1\n")

    async def logged() -> bool:
        return "the old rules stay" in caplog.text

    await until(logged)
    assert not (await call("ListRuns", token="viewer-default")).reason


def test_every_problem_of_a_file_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "access.toml"
    text = '[namespaces.Bad_]\n[[tokens]]\nname = "a"\nsha256 = "secret-by-mistake"\nroles = {x = "king"}\nother = 1\n'
    path.write_text(text)
    with pytest.raises(AccessError) as caught:
        load_access(path)
    message = str(caught.value)
    for part in ("namespaces.Bad_", "tokens[0].sha256", "tokens[0].roles.x: unknown role 'king'", "unknown key"):
        assert part in message
    assert "secret-by-mistake" not in message


def test_roles_in_a_namespace_that_is_not_there_are_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "access.toml"
    path.write_text(access_text({"a": {"reserch": "viewer"}}))
    with pytest.raises(AccessError, match=r"there is no \[namespaces.reserch\]"):
        load_access(path)


async def test_changes_and_refusals_stand_in_the_audit_log(serve: Serve, tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    server = await serve(audit_log=log)
    async with AsyncClient(server.address, token="admin-default") as client:
        result = await client.run(_echo(), {"secret": "not-for-the-log"}, run_id="mine")
        await client.delete(result.run_id)
    async with AsyncClient(server.address, token="viewer-default") as client:
        with pytest.raises(AccessDenied):
            await client.delete("mine")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(it["call"], it["caller"], it["outcome"]) for it in lines] == [
        ("ExecuteWorkflow", "token:admin-default", "STARTED"),
        ("DeleteRun", "token:admin-default", "OK"),
        ("DeleteRun", "token:viewer-default", "PERMISSION_DENIED"),
    ]
    assert all(it["run_id"] == "mine" and it["peer"] and it["time"].endswith("Z") for it in lines)
    assert "not-for-the-log" not in log.read_text()


async def test_a_start_is_in_the_audit_log_while_its_stream_goes_on(serve: Serve, tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    server = await serve(audit_log=log)
    flow = Workflow("waits")
    flow.step("wait", "core.wait")
    async with AsyncClient(server.address, token="runner-default") as client, client.run(flow) as run:
        await anext(aiter(run))
        (line,) = map(json.loads, log.read_text().splitlines())
        assert (line["outcome"], line["run_id"]) == ("STARTED", run.run_id)


async def test_the_audit_log_has_the_id_that_the_server_chose(serve: Serve, tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    server = await serve(audit_log=log)
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = orchestrator_pb2_grpc.OrchestratorServiceStub(channel)
        metadata = (("authorization", "Bearer runner-default"),)
        request = pb.StartRunRequest(workflow=_echo().to_proto())
        response = await stub.StartRun(request, metadata=metadata)
    (line,) = map(json.loads, log.read_text().splitlines())
    assert line["run_id"] == response.run.run_id


@pytest.mark.parametrize("client", [AsyncClient, Client])
def test_a_token_never_goes_over_plain_text_to_another_machine(client: type[AsyncClient] | type[Client]) -> None:
    with pytest.raises(ValueError, match="never goes there as plain text"):
        client("192.0.2.1:50051", token="t", insecure=True)


async def _served(call: Call, token: str) -> bool:
    return not (await call("ListRuns", token=token)).reason


async def _refused(call: Call, token: str) -> bool:
    return (await call("ListRuns", token=token)).reason == "UNAUTHENTICATED"


def _echo() -> Workflow:
    flow = Workflow("echo")
    flow.step("echo", "core.echo")
    return flow


def test_the_fields_of_calls_are_those_of_the_contract() -> None:
    assert fields_of("ListRuns", run_id="r") == {}


@pytest.mark.parametrize(
    ("left", "reason"),
    [
        ({}, "UNAUTHENTICATED"),
        ({"runner-default": {"default": "viewer"}}, "PERMISSION_DENIED"),
        ({"runner-default": {"research": "runner"}}, "PERMISSION_DENIED"),
    ],
    ids=["the token", "the role", "the namespace"],
)
async def test_a_stream_ends_when_what_it_needs_is_taken_away(
    serve: Serve, access: Path, monkeypatch: pytest.MonkeyPatch, left: Mapping[str, Mapping[str, str]], reason: str
) -> None:
    monkeypatch.setattr("stepwave_server.access.authenticator.CHECK_SECONDS", 0.02)
    server = await serve()
    async with AsyncClient(server.address, token="runner-default") as client:
        with pytest.raises(AccessDenied) as caught:
            await _follow(client, lambda: access.write_text(access_text(left)))
    assert caught.value.reason == reason


async def test_a_stream_goes_on_when_the_rules_of_others_change(
    serve: Serve, access: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepwave_server.access.authenticator.CHECK_SECONDS", 0.02)
    server = await serve()
    flow = Workflow("waits")
    answer = flow.step("answer", "core.wait")
    async with AsyncClient(server.address, token="runner-default") as client, client.run(flow) as run:
        await anext(run)
        access.write_text(access_text({"runner-default": {"default": "runner"}}))
        async with AsyncClient(server.address, token="operator") as other:
            await until(partial(_is_refused, other))
        await client.complete_step(run.run_id, answer, 1)
        assert (await run).outputs == {"answer": 1}


async def test_a_run_is_cancelled_with_the_stream_that_held_it(
    serve: Serve, access: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepwave_server.access.authenticator.CHECK_SECONDS", 0.02)
    server = await serve()
    async with AsyncClient(server.address, token="runner-default", reconnect_window=0) as client:
        with pytest.raises(AccessDenied):
            await _follow(client, lambda: access.write_text(access_text({"operator": {"*": "admin"}})))
    async with AsyncClient(server.address, token="operator") as client:
        assert (await client.wait("held", check=False)).state is State.CANCELLED


async def _follow(client: AsyncClient, change: Callable[[], object]) -> None:
    """Start the run `held`, which waits, make a change while its stream is open, and read to its end."""
    flow = Workflow("waits")
    flow.step("answer", "core.wait")
    async with client.run(flow, run_id="held") as run:
        await anext(run)
        change()
        async for _ in run:
            pass


async def _is_refused(client: AsyncClient) -> bool:
    try:
        await client.actions()
    except AccessDenied:
        return True
    return False
