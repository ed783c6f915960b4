"""Steps of a workflow on a real server, whose actions are on a host in another process."""

import asyncio
import signal
from datetime import timedelta
from typing import Any

import grpc.aio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from integration.runnables.conftest import Connect
from integration.runnables.hosts import failure_of, hosting, one
from integration.server.raw_client import GUARD
from stepwave import (
    AsyncClient,
    Blob,
    FailureReason,
    InvalidWorkflow,
    Retry,
    RunHandle,
    StepChunk,
    StepLog,
    StepProgress,
    Workflow,
)
from stepwave_server.actions.runnables.entry import Runnable
from stepwave_server.actions.runnables.errors import failed_call
from stepwave_server.telemetry import Telemetry

SCHEMA = "actions.plus.input_schema"
INTEGERS = '{"type": "object", "required": ["left", "right"], "properties": {"left": {"type": "integer"}}}'


async def begun(run: RunHandle) -> None:
    """Read the events of a run up to the first chunk."""
    async with asyncio.timeout(GUARD):
        async for event in run:
            if isinstance(event, StepChunk):
                return


async def answer(client: AsyncClient, flow: Workflow, run_id: str | None = None) -> Any:
    """Run a workflow of one step, and return its answer."""
    return (await client.run(flow, run_id=run_id)).outputs["only"]


async def test_a_step_is_answered_by_a_host_in_another_process(client: AsyncClient) -> None:
    flow = Workflow("sums")
    first = flow.step("first", "add", {"left": 1, "right": 2})
    flow.step("second", "add", {"left": first.output, "right": 4})
    assert (await client.run(flow)).outputs == {"second": 7}


async def test_a_host_runs_an_agents_tool_and_checks_its_input(client: AsyncClient) -> None:
    assert await answer(client, one("negate", {"number": 5})) == -5
    failure = await failure_of(client, one("negate", {"number": "5"}))
    assert (failure.reason, failure.message) == (FailureReason.INVALID_INPUT, "number: '5' is not of type 'integer'")


async def test_grpc_invoke_reaches_an_action_that_has_no_name_here(connect: Connect, host: str) -> None:
    client = await connect(host, actions=[])
    flow = one("grpc.invoke", {"runnable": "tools", "action": "add", "input": {"left": 2, "right": 3}})
    assert await answer(client, flow) == 5


@pytest.mark.parametrize("stream", [True, False])
async def test_numbers_keep_their_digits_and_blobs_their_bytes(connect: Connect, host: str, stream: bool) -> None:
    client = await connect(host, stream=stream)
    large = {"large": 2**53 + 1}
    assert await answer(client, one("same", large)) == large
    named = one("grpc.invoke", {"runnable": "tools", "action": "same", "input": large})
    assert await answer(client, named) == large
    assert await answer(client, one("bytes_of", {"text": "hi"})) == Blob(b"hi", "text/plain")


async def test_chunks_and_progress_pass_through(client: AsyncClient) -> None:
    async with client.run(one("count", {"most": 3})) as run:
        events = [event async for event in run]
        result = await run
    assert [event.value for event in events if isinstance(event, StepChunk)] == ["1 ", "2 ", "3 "]
    assert [event.fraction for event in events if isinstance(event, StepProgress)][-1] == 1
    assert result.outputs == {"only": "1 2 3 "}


async def test_what_an_action_logs_there_is_in_the_logs_of_the_run(client: AsyncClient) -> None:
    async with client.run(one("talk"), run_id="talking") as run:
        shown = [event async for event in run if isinstance(event, StepLog)]
    kept = [log async for log in client.logs("talking")]
    for logs in (shown, kept):
        assert [(log.level, log.logger, log.message.partition("\n")[0]) for log in logs] == [
            ("info", "stepwave.action", "looking for lakes"),
            ("warning", "library", "few lakes are left"),
            ("error", "stepwave.action", "the search failed"),
        ]
        assert "LookupError: no lake" in logs[-1].message


async def test_an_explicit_answer_replaces_the_chunks(client: AsyncClient) -> None:
    assert await answer(client, one("summed", {"most": 4})) == {"sum": 10}


@pytest.mark.parametrize("stream", [True, False])
async def test_a_failure_of_the_action_is_that_of_the_step(connect: Connect, host: str, stream: bool) -> None:
    failure = await failure_of(await connect(host, stream=stream), one("refuse"))
    assert (failure.reason, failure.message) == (FailureReason.RATE_LIMITED, "no more tickets")
    assert not failure.retryable
    assert (failure.details["runnable"], failure.details["function"]) == ("tools", "refuse")


async def test_the_steps_policy_retries_what_the_host_calls_retryable(client: AsyncClient) -> None:
    flow = one("refuse", {"retryable": True}, retry=Retry(max_attempts=3, initial_backoff=0.01))
    assert (await failure_of(client, flow)).attempt == 3


async def test_an_attempt_is_told_who_it_is(client: AsyncClient) -> None:
    told = await answer(client, one("told", timeout=20), run_id="run-told")
    assert (told["run"], told["step"], told["attempt"]) == ("run-told", "only", 1)
    assert told["key"] == "default/run-told/only"
    assert 15 < told["left"] <= 20


async def test_what_an_action_does_there_is_in_the_trace_of_the_run(connect: Connect, host: str) -> None:
    exporter = InMemorySpanExporter()
    client = await connect(host, telemetry=Telemetry(SimpleSpanProcessor(exporter)))
    told = await answer(client, one("told"))
    (attempt,) = [span for span in exporter.get_finished_spans() if span.name == "stepwave.attempt"]
    context = attempt.get_span_context()
    assert context is not None
    assert told["trace"] == trace.format_trace_id(context.trace_id)
    assert told["span"] == trace.format_span_id(context.span_id)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_cancel_reaches_the_host(connect: Connect, host: str, stream: bool) -> None:
    client, name = await connect(host, stream=stream), f"run-cancelled-{stream}"
    await client.start(one("hold"), run_id=name)
    await client.run(one("begin_of", {"run": name}))
    await client.cancel(name)
    assert await answer(client, one("end_of", {"run": name})) == "interrupted"


async def test_a_host_without_a_free_slot_says_when_to_try_again(connect: Connect) -> None:
    with hosting("--slots", "1") as (address, _):
        client = await connect(address)
        await client.start(one("hold"), run_id="holding")
        await client.run(one("begin_of", {"run": "holding"}))
        failure = await failure_of(client, one("hold"))
        await client.cancel("holding")
    assert (failure.reason, failure.retryable) == (FailureReason.RATE_LIMITED, True)
    assert failure.retry_after == timedelta(seconds=1)
    assert "as many as it has slots for" in failure.message


async def test_the_timeout_of_a_step_reaches_the_host(client: AsyncClient) -> None:
    async with client.run(one("hold", timeout=0.3), run_id="run-late", check=False) as run:
        result = await run
    assert result.failures[0].reason is FailureReason.TIMEOUT
    assert await answer(client, one("end_of", {"run": "run-late"})) == "interrupted"


async def test_actions_elsewhere_are_listed_and_checked_when_a_workflow_is_submitted(
    connect: Connect, host: str
) -> None:
    client = await connect(host)
    listed = {action.name: action for action in await client.actions()}
    assert listed["add"].source == "runnable tools"
    assert listed["grpc.invoke"].streaming
    with pytest.raises(InvalidWorkflow, match='unknown action "ad"; did you mean "add"'):
        await client.run(one("ad"))


async def test_a_schema_in_the_file_is_checked_when_a_workflow_is_submitted(connect: Connect, host: str) -> None:
    entry: dict[str, Any] = {"actions.plus.action": "add", "actions.plus.description": "Adds.", SCHEMA: INTEGERS}
    client = await connect(host, **entry)
    (plus,) = [action for action in await client.actions() if action.name == "plus"]
    assert (plus.description, plus.input_schema["required"]) == ("Adds.", ["left", "right"])
    with pytest.raises(InvalidWorkflow, match=r"right: field required"):
        await client.run(one("plus", {"left": 1}))
    assert await answer(client, one("plus", {"left": 1, "right": 2})) == 3


async def test_an_answer_that_is_too_large_is_a_failure_that_no_retry_helps(client: AsyncClient) -> None:
    failure = await failure_of(client, one("large", {"size": 2 << 20}))
    assert (failure.reason, failure.retryable) == (FailureReason.RESOURCE_EXHAUSTED, False)
    assert "more than the 1,048,576 allowed" in failure.message


async def test_a_host_that_is_killed_in_mid_stream_fails_the_step_and_the_outcome_is_not_known(
    connect: Connect,
) -> None:
    with hosting() as (address, process):
        client = await connect(address)
        async with client.run(one("hold"), check=False) as run:
            await begun(run)
            process.process.kill()
            (failure,) = (await run).failures
    assert (failure.reason, failure.retryable) == (FailureReason.UNAVAILABLE, True)
    assert failure.message.endswith("whether the attempt has run is not known")
    assert failure.details == {"runnable": "tools", "outcome": "unknown"}


async def test_the_next_attempt_finds_a_host_that_was_started_again(connect: Connect) -> None:
    with hosting() as (address, _):
        client = await connect(address)
        assert await answer(client, one("add", {"left": 1, "right": 1})) == 2
    with hosting(listen=address):
        flow = one("add", {"left": 1, "right": 2}, retry=Retry(max_attempts=50, initial_backoff=0.1))
        assert await answer(client, flow) == 3


async def test_a_host_that_stops_says_that_it_refused_the_attempt(connect: Connect) -> None:
    with hosting() as (address, process):
        client = await connect(address)
        async with client.run(one("hold"), run_id="holding", check=False) as run:
            await begun(run)
            process.process.send_signal(signal.SIGTERM)
            process.wait_for_error("draining")
            failure = await failure_of(client, one("add", {"left": 1, "right": 1}))
            await run.cancel()
            await run
    assert (failure.reason, failure.retryable) == (FailureReason.UNAVAILABLE, True)
    assert "not known" not in failure.message


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("connections to all backends failing; last error: UNAVAILABLE: backend unhealthy", True),
        ("failed to connect to all addresses; last error: UNKNOWN: Connection refused", True),
        ("Socket closed", False),
    ],
)
def test_an_attempt_that_was_never_sent_has_not_run(text: str, known: bool) -> None:
    none = grpc.aio.Metadata()
    error = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, none, none, details=text)
    failure = failed_call(Runnable(name="tools", address="127.0.0.1:1"), error, connected=True, begun=False)
    assert ("not known" in str(failure)) is not known
