"""Limits of sizes, threads and attempts, and the effect of defects on other runs."""

import functools
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import pytest

from integration.server.build import bind, end_of, finished, flow, step
from integration.server.controlled_actions import ControlledActions
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import refusal
from stepwave import action
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1.run_pb2 import FAILURE_REASON_RESOURCE_EXHAUSTED, STATE_FAILED, STATE_SUCCEEDED
from stepwave_server.actions import threads
from stepwave_server.app import Server
from stepwave_server.config import Settings
from stepwave_server.engine import local

MIB = 1 << 20


@action
async def large(size: int) -> str:
    """Answer with this many letters."""
    return "x" * size


@action
async def measure(input: object = None) -> int:
    """Answer with the length of the input."""
    return len(str(input))


async def test_an_input_put_together_beyond_the_bound_fails_its_step(serve: Serve, connect: Connect) -> None:
    client = connect(await serve(large))
    sources = [step(f"s{i}", "large", given={"size": MIB // 2}) for i in range(3)]
    events = await client.run(flow(*sources, step("joined", after=["s0", "s1", "s2"])))
    joined = finished(events)["joined"]
    assert joined.failure.reason == FAILURE_REASON_RESOURCE_EXHAUSTED
    assert "1,048,576 are allowed" in joined.failure.message


async def test_large_inputs_reach_their_actions_complete(serve: Serve, connect: Connect) -> None:
    client = connect(await serve(large, measure, max_attempts=1))
    takers = [step(f"t{i}", "measure", bindings=[bind("", "source")]) for i in range(3)]
    events = await client.run(flow(step("source", "large", given={"size": MIB // 2}), *takers))
    assert {finished(events)[f"t{i}"].output.json for i in range(3)} == {str(MIB // 2)}


async def test_threads_of_abandoned_attempts_are_bounded(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()

    @action
    def blocks() -> None:
        release.wait(20)

    monkeypatch.setattr(threads, "MAX_ABANDONED", 2)
    client = connect(await serve(blocks))
    try:
        await client.run(flow(*(step(f"s{i}", "blocks", timeout=0.05) for i in range(2))))
        refused = finished(await client.run(flow(step("late", "blocks", timeout=5))))["late"]
        assert refused.failure.reason == FAILURE_REASON_RESOURCE_EXHAUSTED
    finally:
        release.set()


@pytest.mark.one_server("its max_attempts bounds all its runs")
async def test_abandoned_attempts_over_the_limit_keep_their_places(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "MAX_ABANDONED", 0)
    server = await serve(max_attempts=1, cancel_grace=0.01)
    client = connect(server)
    stubborn = end_of(await client.run(flow(step("a", "stubborn", timeout=0.05))))
    assert stubborn.state == STATE_FAILED
    assert server.engine.attempts_in_flight == 1


@pytest.mark.one_server("its max_attempts bounds all its runs")
async def test_the_place_of_an_abandoned_attempt_is_free_once_it_ends(
    serve: Serve, connect: Connect, controlled: ControlledActions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "MAX_ABANDONED", 0)
    client = connect(await serve(max_attempts=1, cancel_grace=0.01))
    await client.run(flow(step("a", "stubborn", timeout=0.05)))
    waiting = client.execute(flow(step("b")))
    await waiting.until("run_started")
    controlled.release("a")
    assert end_of(await waiting.rest()).state == STATE_SUCCEEDED


async def test_an_async_action_behind_a_decorator_runs_on_the_loop(serve: Serve, connect: Connect) -> None:
    def traced(function: Callable[[], Awaitable[str]]) -> Callable[[], Awaitable[str]]:
        @functools.wraps(function)
        def wrapper() -> Awaitable[str]:
            return function()

        return wrapper

    @action("wrapped")
    @traced
    async def wrapped() -> str:
        return threading.current_thread().name

    events = await connect(await serve(wrapped)).run(flow(step("a", "wrapped")))
    assert finished(events)["a"].output.json == f'"{threading.current_thread().name}"'


async def test_an_unexpected_error_ends_its_call_as_internal_without_details(
    server: Server, connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("a secret of the server")

    monkeypatch.setattr(server.engine, "info", broken)
    refused = await refusal(connect(server).get("any"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "secret" not in refused.message
    assert "a secret of the server" in caplog.text


async def test_a_detached_run_is_not_cancelled_by_the_attachment_of_an_earlier_run(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    server = await serve()
    client = connect(server)
    async with client.execute(flow(step("a", "controlled")), run_id="same", window=0.2) as attached:
        await attached.until("step_started")
    controlled.release("a")
    await client.events("same")
    await client.delete("same")
    await client.start(flow(step("b", "controlled")), run_id="same")
    async with client.execute(flow(step("c", "controlled")), run_id="other", window=0.3) as other:
        await other.until("step_started")
    assert (
        end_of(await client.events("other")).counts.cancelled == 1
    )  # by now, the earlier attachment would have ended too
    assert (await client.get("same")).stopping is False


async def test_an_unknown_field_of_a_request_is_refused_by_name(server: Server, connect: Connect) -> None:
    client = connect(server)
    request = pb.StartRunRequest.FromString(
        pb.StartRunRequest(workflow=flow(step("a"))).SerializeToString() + b"\xf8\x06\x01"
    )
    refused = await refusal(client.stub.StartRun(request))
    assert refused.code == grpc.StatusCode.UNIMPLEMENTED
    assert "field 111 of stepwave.v1.StartRunRequest" in refused.description("request")


async def test_a_server_does_not_start_with_a_named_workflow_that_cannot_run(tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text("name: morning\nsteps: [{id: a, action: nope}]\n")
    server = Server(Settings(listen="127.0.0.1:0", workflows=tmp_path))
    with pytest.raises(ValueError, match=r'flow.yaml:2:25: steps\[0\].action: unknown action "nope"'):
        await server.start()


@pytest.mark.parametrize("token", ["Wy0xXQ==", "Ww" * 50_000])
async def test_a_page_token_of_another_origin_is_refused(server: Server, connect: Connect, token: str) -> None:
    client = connect(server)
    await client.run(flow(step("a")), run_id="past")
    ask = pb.ListStepResultsRequest(run_id="past", page_token=token)
    refused = await refusal(client.stub.ListStepResults(ask))
    assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["page_token"])
