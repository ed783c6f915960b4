"""Actions in another language without Temporal: a program made from `runnable.proto` alone serves steps."""

import asyncio
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from integration.runnables.hosts import entry_text, failure_of, one
from integration.server.raw_client import GUARD
from polyglot.conftest import PROTO
from polyglot.test_polyglot import build
from stepwave import AsyncClient, FailureReason, Retry, RunHandle, StepChunk, StepLog, StepProgress, Workflow
from stepwave.v1 import runnable_pb2, runnable_pb2_grpc
from stepwave_server.app import Server
from stepwave_server.config import Settings
from stepwave_server.telemetry import Telemetry

pytestmark = pytest.mark.timeout(300)  # the first test of each program builds it

ACTIONS = ["greet", "count", "fail", "slow", "twice"]


@asynccontextmanager
async def hosting(
    program: list[str], listen: str = "127.0.0.1:0", folder: Path | None = None
) -> AsyncIterator[tuple[str, Process]]:
    """Run a program that hosts actions, and yield its address and its process."""
    variables = {**os.environ, "PROTO": str(PROTO)}
    process = await asyncio.create_subprocess_exec(*program, listen, stdout=PIPE, cwd=folder, env=variables)
    try:
        yield f"{listen.rpartition(':')[0]}:{await line_of(process)}", process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line_of(process: Process) -> str:
    """Return the next line that a program prints."""
    assert process.stdout is not None
    async with asyncio.timeout(GUARD):
        return (await process.stdout.readline()).decode().strip()


@asynccontextmanager
async def serving(entry: str, folder: Path, *, telemetry: Telemetry | None = None) -> AsyncIterator[AsyncClient]:
    """Run a server with a file of runnables that has an entry, and yield a client of the server."""
    file = folder / "runnables.toml"
    file.write_text(entry)
    settings = Settings(listen="127.0.0.1:0", entry_points=False, journal="memory", runnables=file)
    async with Server(settings, telemetry=telemetry) as server, AsyncClient(server.address) as client:
        yield client


def entry_of(address: str) -> str:
    """Return the entry of the program in a file of runnables."""
    return entry_text("tools", {"address": address, "actions": ACTIONS})


@pytest.fixture(scope="module", params=["node", "go"])
def program(request: pytest.FixtureRequest, shared_folder: Path) -> list[str]:
    """Return the command that runs the host in a language."""
    *command, client = build(request.param, shared_folder)
    return [*command, str(Path(client).with_name("host.js" if command else "host"))]


@pytest.fixture
async def host(program: list[str]) -> AsyncIterator[tuple[str, Process]]:
    async with hosting(program) as started:
        yield started


@pytest.fixture
async def client(host: tuple[str, Process], tmp_path: Path) -> AsyncIterator[AsyncClient]:
    async with serving(entry_of(host[0]), tmp_path) as client:
        yield client


async def begun(run: RunHandle) -> None:
    """Read the events of a run up to the first chunk."""
    async with asyncio.timeout(GUARD):
        async for event in run:
            if isinstance(event, StepChunk):
                return


async def test_a_workflow_calls_actions_of_a_program_by_name_and_by_grpc_invoke(client: AsyncClient) -> None:
    flow = Workflow("greetings")
    first = flow.step("first", "greet", {"name": "Ada"})
    flow.step(
        "second", "grpc.invoke", {"runnable": "tools", "action": "greet", "input": {"name": first.output["text"]}}
    )
    outputs = (await client.run(flow, run_id="greetings")).outputs
    assert outputs["second"]["text"] == "Hello, Hello, Ada"
    assert outputs["second"]["key"] == "default/greetings/second"


async def refusal_of_nothing(address: str) -> grpc.StatusCode:
    """Send a request without an attempt, and return the code of its refusal."""
    async with grpc.aio.insecure_channel(address) as channel:
        call = runnable_pb2_grpc.RunnableServiceStub(channel).Stream(runnable_pb2.StreamRequest(), timeout=GUARD)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await anext(aiter(call))
    return refused.value.code()


async def test_a_program_refuses_a_request_without_an_attempt_and_serves_on(
    client: AsyncClient, host: tuple[str, Process]
) -> None:
    assert await refusal_of_nothing(host[0]) is grpc.StatusCode.INVALID_ARGUMENT
    assert (await client.run(one("greet", {"name": "Ada"}))).outputs["only"]["text"] == "Hello, Ada"


async def test_chunks_progress_and_logs_of_a_program_reach_the_watcher(client: AsyncClient) -> None:
    async with client.run(one("count", {"most": 3})) as run:
        events = [event async for event in run]
        result = await run
    assert [event.value for event in events if isinstance(event, StepChunk)] == ["1 ", "2 ", "3 "]
    shown = [(event.fraction, event.message) for event in events if isinstance(event, StepProgress)]
    assert shown[-1] == (1, "counted to 3")
    assert [event.message for event in events if isinstance(event, StepLog)] == ["counting to 3"]
    assert result.outputs == {"only": "1 2 3 "}


async def test_a_failure_that_a_program_reports_is_that_of_the_step(client: AsyncClient) -> None:
    failure = await failure_of(client, one("fail", {"retryable": False}))
    assert (failure.reason, failure.message) == (FailureReason.RATE_LIMITED, "too many reservations")
    assert (failure.retryable, failure.details["shop"]) == (False, "north")
    flow = one("fail", {"retryable": True}, retry=Retry(max_attempts=3, initial_backoff=0.01))
    assert (await failure_of(client, flow)).attempt == 3


async def test_a_program_that_throws_or_does_not_know_the_action_fails_the_step(client: AsyncClient) -> None:
    thrown = await failure_of(client, one("greet", {}))
    assert (thrown.reason, thrown.retryable) == (FailureReason.ACTION_ERROR, True)
    assert "name" in thrown.message
    unknown = await failure_of(client, one("grpc.invoke", {"runnable": "tools", "action": "toString"}))
    assert (unknown.reason, unknown.retryable) == (FailureReason.NOT_FOUND, False)


async def test_a_cancel_and_a_timeout_reach_a_program(client: AsyncClient, host: tuple[str, Process]) -> None:
    async with client.run(one("slow"), run_id="cancelled", check=False) as run:
        await begun(run)
        await run.cancel()
        assert await line_of(host[1]) == "interrupted cancelled"
    late = await client.run(one("slow", timeout=1), run_id="late", check=False)
    assert late.failures[0].reason is FailureReason.TIMEOUT
    assert await line_of(host[1]) == "interrupted late"


async def test_a_program_knows_how_long_the_attempt_may_take(client: AsyncClient) -> None:
    outputs = (await client.run(one("greet", {"name": "Ada"}, timeout=20))).outputs
    assert 10 < outputs["only"]["left"] <= 20.1  # gRPC rounds it up


async def test_a_program_gets_the_trace_of_the_attempt(host: tuple[str, Process], tmp_path: Path) -> None:
    exporter = InMemorySpanExporter()
    async with serving(entry_of(host[0]), tmp_path, telemetry=Telemetry(SimpleSpanProcessor(exporter))) as client:
        outputs = (await client.run(one("greet", {"name": "Ada"}))).outputs
    (attempt,) = [span for span in exporter.get_finished_spans() if span.name == "stepwave.attempt"]
    context = attempt.get_span_context()
    assert context is not None
    _, trace_id, span_id, _ = outputs["only"]["traceparent"][0].split("-")
    assert (trace_id, span_id) == (trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id))


async def test_a_program_that_answers_twice_fails_the_step_for_good(client: AsyncClient) -> None:
    failure = await failure_of(client, one("twice", retry=Retry(max_attempts=3)))
    assert (failure.reason, failure.retryable, failure.attempt) == (FailureReason.ACTION_ERROR, False, 1)
    assert "it answered twice" in failure.message


async def test_a_program_that_is_killed_in_mid_stream_fails_the_step(
    client: AsyncClient, host: tuple[str, Process]
) -> None:
    async with client.run(one("slow"), check=False) as run:
        await begun(run)
        host[1].kill()
        (failure,) = (await run).failures
    assert (failure.reason, failure.retryable) == (FailureReason.UNAVAILABLE, True)
    assert failure.details == {"runnable": "tools", "outcome": "unknown"}


async def test_the_retry_succeeds_when_a_killed_program_is_started_again(
    client: AsyncClient, host: tuple[str, Process], program: list[str]
) -> None:
    retry = Retry(max_attempts=100, initial_backoff=0.1, backoff_multiplier=1)
    async with client.run(one("slow", retry=retry)) as run:
        await begun(run)
        host[1].kill()
        await host[1].wait()
        async with hosting(program, listen=host[0]):
            outputs = (await run).outputs
    assert outputs["only"]["attempt"] > 1


async def test_a_program_that_stops_gets_no_more_attempts_and_ends_those_under_way(
    client: AsyncClient, host: tuple[str, Process]
) -> None:
    async with client.run(one("slow"), run_id="last", check=False) as run:
        await begun(run)
        host[1].send_signal(signal.SIGTERM)
        assert await line_of(host[1]) == "draining"
        failure = await failure_of(client, one("greet", {"name": "Ada"}))
        await run.cancel()
        assert (await run).state == "cancelled"
    assert (failure.reason, failure.retryable) == (FailureReason.UNAVAILABLE, True)
    async with asyncio.timeout(GUARD):
        assert await host[1].wait() == 0


async def test_two_programs_take_turns(program: list[str], tmp_path: Path) -> None:
    async with hosting(program) as (address, _):
        port = address.rpartition(":")[2]
        async with hosting(program, f"[::1]:{port}"), serving(entry_of(f"localhost:{port}"), tmp_path) as client:
            served: set[object] = set()
            async with asyncio.timeout(GUARD):
                while len(served) < 2:
                    outputs = (await client.run(one("greet", {"name": "Ada"}))).outputs
                    served.add(outputs["only"]["pid"])
