"""`stepwave host --listen` serves `RunnableService`: the contract, by its generated stubs alone."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from integration.cli.shell import Shell
from integration.runnables.hosts import FOLDER, attempt, hosting
from integration.server.raw_client import GUARD
from stepwave.v1 import run_pb2, runnable_pb2, runnable_pb2_grpc

Stub: TypeAlias = "runnable_pb2_grpc.RunnableServiceAsyncStub"
Attempt = runnable_pb2.Attempt
Call: TypeAlias = "grpc.aio.UnaryStreamCall[runnable_pb2.StreamRequest, runnable_pb2.StreamResponse]"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Return the address of a host in another process."""
    with hosting("--slots", "3") as (address, _):
        yield address


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Stub]:
    """Connect to a host."""
    async with grpc.aio.insecure_channel(address) as channel:
        yield runnable_pb2_grpc.RunnableServiceStub(channel)


@pytest.fixture
async def host(address: str) -> AsyncIterator[Stub]:
    async with connected(address) as stub:
        yield stub


async def invoke(host: Stub, given: Attempt, seconds: float = GUARD) -> runnable_pb2.InvokeResponse:
    return await host.Invoke(runnable_pb2.InvokeRequest(attempt=given), timeout=seconds)


def stream(host: Stub, given: Attempt) -> "Call":
    return host.Stream(runnable_pb2.StreamRequest(attempt=given))


async def next_of(call: "Call") -> runnable_pb2.StreamResponse:
    """Read the next message of a stream."""
    message = await call.read()
    assert isinstance(message, runnable_pb2.StreamResponse)
    return message


async def test_invoke_answers(host: Stub) -> None:
    assert (await invoke(host, attempt("add", '{"left": 2, "right": 3}'))).output.json == "5"


async def test_numbers_keep_their_digits(host: Stub) -> None:
    text = '{"large":9007199254740993,"small":1.50}'
    assert (await invoke(host, attempt("same", text))).output.json == text


async def test_an_answer_may_be_a_blob(host: Stub) -> None:
    blob = (await invoke(host, attempt("bytes_of", '{"text": "hello"}'))).output.blob
    assert (blob.content_type, blob.data) == ("text/plain", b"hello")


async def test_invoke_answers_with_the_chunks_of_an_action_that_streams(host: Stub) -> None:
    assert (await invoke(host, attempt("count", '{"most": 3}'))).output.json == '"1 2 3 "'


async def test_stream_has_chunks_and_progress_and_then_the_answer(host: Stub) -> None:
    seen = [message async for message in stream(host, attempt("count", '{"most": 3}'))]
    assert [message.chunk.json for message in seen if message.HasField("chunk")] == ['"1 "', '"2 "', '"3 "']
    assert [message.progress.fraction for message in seen if message.HasField("progress")][-1] == 1
    assert seen[-1].output.json == '"1 2 3 "'


async def test_a_failure_of_the_action_is_data(host: Stub) -> None:
    failure = (await invoke(host, attempt("refuse"))).failure
    assert (failure.reason, failure.message) == (run_pb2.FAILURE_REASON_RATE_LIMITED, "no more tickets")
    assert not failure.retryable
    (last,) = [message async for message in stream(host, attempt("refuse", '{"retryable": true}'))]
    assert last.failure.retryable


async def test_an_input_that_does_not_match_is_a_failure(host: Stub) -> None:
    failure = (await invoke(host, attempt("add", '{"left": "two"}'))).failure
    assert failure.reason == run_pb2.FAILURE_REASON_INVALID_INPUT
    assert "right: field required" in failure.message


async def test_an_action_is_told_of_its_attempt(host: Stub) -> None:
    given = attempt("told", run="run-7", namespace="research", attempt=4)
    answer = await invoke(host, given)
    assert '"key":"research/run-7/step"' in answer.output.json
    assert '"attempt":4' in answer.output.json


async def test_an_action_cannot_add_steps(host: Stub) -> None:
    failure = (await invoke(host, attempt("add_more"))).failure
    assert "an action on this host cannot add steps" in failure.message


async def refused(call: "asyncio.Future[object] | object") -> tuple[str, str]:
    """Return the code and the message of a call that is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]  # a coroutine or a call
    return caught.value.code().name, caught.value.details() or ""


async def test_an_unknown_action_is_not_found_and_near_names_are_named(host: Stub) -> None:
    assert await refused(invoke(host, attempt("adds"))) == ("NOT_FOUND", 'unknown action "adds"; did you mean "add"?')
    code, message = await refused(stream(host, attempt("core.echo")).read())
    assert (code, message[:47]) == ("NOT_FOUND", 'unknown action "core.echo"; this host has add, ')


async def test_all_problems_of_a_malformed_attempt_are_named(host: Stub) -> None:
    given = attempt("add", '{"left": NaN}', run="", attempt=0, idempotency_key="mine")
    code, message = await refused(invoke(host, given))
    assert code == "INVALID_ARGUMENT"
    assert "attempt.run_id: is required" in message
    assert "attempt.attempt: must be 1 or more" in message
    assert await refused(invoke(host, Attempt()))


async def test_a_cancelled_call_interrupts_the_attempt(host: Stub) -> None:
    call = stream(host, attempt("hold", run="cancelled"))
    assert (await next_of(call)).chunk.json == '"begun"'
    call.cancel()
    assert (await invoke(host, attempt("end_of", '{"run": "cancelled"}'))).output.json == '"interrupted"'


async def test_the_deadline_of_a_call_interrupts_the_attempt(host: Stub) -> None:
    code, _ = await refused(invoke(host, attempt("hold", run="late"), seconds=0.2))
    assert code == "DEADLINE_EXCEEDED"
    assert (await invoke(host, attempt("end_of", '{"run": "late"}'))).output.json == '"interrupted"'


async def test_the_deadline_of_an_attempt_holds_without_one_of_the_call(host: Stub) -> None:
    given = attempt("hold", run="overdue")
    given.deadline.GetCurrentTime()
    (_, last) = [message async for message in stream(host, given)]
    assert (last.failure.reason, last.failure.retryable) == (run_pb2.FAILURE_REASON_TIMEOUT, True)


async def test_a_deadline_may_be_as_far_as_a_timestamp_can_be(host: Stub) -> None:
    given = attempt("told")
    given.deadline.seconds = 253_402_300_799  # the end of the year 9999
    answer = await host.Invoke(runnable_pb2.InvokeRequest(attempt=given))
    assert answer.output.json.startswith("{"), answer.failure


async def test_attempts_of_one_action_are_bounded(host: Stub) -> None:
    calls = [stream(host, attempt("hold", run=f"full-{number}")) for number in range(3)]
    for call in calls:
        await call.read()
    code, message = await refused(invoke(host, attempt("hold")))
    assert (code, message) == (
        "RESOURCE_EXHAUSTED",
        '3 attempts of "hold" run on this host, as many as it has slots for',
    )
    assert (await invoke(host, attempt("add", '{"left": 2, "right": 3}'))).output.json == "5"
    for call in calls:
        call.cancel()


async def test_health_and_reflection_are_served(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "stepwave.v1.RunnableService"):
            state = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert state.status == health_pb2.HealthCheckResponse.SERVING
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        await reflection.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        listed = (await reflection.read()).list_services_response.service
        assert "stepwave.v1.RunnableService" in [service.name for service in listed]
        reflection.cancel()


async def test_a_host_that_drains_refuses_attempts_and_ends_those_under_way() -> None:
    with hosting("--drain-timeout", "0.3s") as (address, process):
        async with connected(address) as host:
            call = stream(host, attempt("hold"))
            await call.read()
            process.process.send_signal(signal.SIGTERM)
            process.wait_for_error("draining")
            code, message = await refused(invoke(host, attempt("add")))
            assert (code, message) == ("UNAVAILABLE", "the host is stopping and starts no attempts")
            last = await next_of(call)
            assert last.failure.message == "the host stopped while the attempt ran"
            assert (last.failure.reason, last.failure.retryable) == (run_pb2.FAILURE_REASON_UNAVAILABLE, True)
        assert await asyncio.to_thread(lambda: process.end()[0]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--listen", "0.0.0.0:0"), "0.0.0.0:0 is not loopback"),
        (("--listen", "nowhere"), "'nowhere' is not an address"),
        (("--listen", ":0", "--engine", "temporal"), "--engine with --listen: the engine is the server's"),
        (("--listen", ":0", "--temporal-address", "a:1"), "--temporal-address with --listen"),
        (("--listen", ":0", "--secrets", "s.toml"), "--secrets with --listen: the server that calls this host fills"),
        (("--tls-cert", "cert.pem"), "--tls-cert is for --listen: on Temporal, a host listens nowhere"),
    ],
)
def test_combinations_without_a_meaning_are_refused(arguments: tuple[str, ...], message: str) -> None:
    done = Shell(folder=FOLDER).run("host", "hosted_tools", *arguments)
    assert (done.returncode, message in done.stderr, done.stdout) == (2, True, ""), done.stderr


def test_a_host_without_actions_is_refused(tmp_path: Path) -> None:
    done = Shell(folder=tmp_path).run("host", "--listen", "127.0.0.1:0")
    assert (done.returncode, done.stderr) == (2, "there are no actions to host: name a module with actions\n")
