"""Steps that are completed from outside: `core.wait` and `CompleteStep`."""

import grpc
import pytest

from integration.server.build import end_of, finished, flow, payload, retry, state_of, states, step, value_of
from integration.server.controlled_actions import ControlledActions
from integration.server.raw_client import RawClient, refusal
from stepwave.v1 import event_pb2, run_pb2
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave_server.app import Server

APPROVAL = flow(step("ok", "core.wait", given={"question": "publish?"}), step("end", "core.echo", after=["ok"]))
REJECTED = run_pb2.Failure(reason=run_pb2.FAILURE_REASON_ACTION_ERROR, message="not like this")


async def _complete(client: RawClient, step_id: str = "ok", value: object = "yes") -> run_pb2.Run:
    request = pb.CompleteStepRequest(run_id="run", step_id=step_id, output=payload(value))
    return (await client.stub.CompleteStep(request)).run


async def _fail(client: RawClient, failure: run_pb2.Failure = REJECTED) -> run_pb2.Run:
    return (await client.stub.CompleteStep(pb.CompleteStepRequest(run_id="run", step_id="ok", failure=failure))).run


async def test_a_step_waits_until_it_is_completed_and_answers_what_it_was_given(client: RawClient) -> None:
    async with client.execute(APPROVAL, run_id="run") as stream:
        started = await stream.until("step_started", "ok")
        assert not started.step_started.HasField("deadline")
        run = await _complete(client)
        assert run.counts.succeeded >= 1
        events = await stream.rest()
    assert value_of(finished(events)["ok"].output) == "yes"
    assert value_of(finished(events)["end"].output) == {"ok": "yes"}


async def test_watchers_see_that_the_step_waits_for_someone(client: RawClient) -> None:
    async with client.execute(APPROVAL, run_id="run") as stream:
        waiting = await stream.until("step_waiting", "ok")
        assert waiting.step_waiting.cause == event_pb2.WAIT_CAUSE_EXTERNAL
        (group,) = (await client.stub.GetRun(pb.GetRunRequest(run_id="run"))).waiting
        assert (group.cause, list(group.step_ids)) == (event_pb2.WAIT_CAUSE_EXTERNAL, ["ok"])
        (explained, _) = (await client.stub.ExplainRun(pb.ExplainRunRequest(run_id="run"))).steps
        assert (explained.step_id, explained.cause) == ("ok", event_pb2.WAIT_CAUSE_EXTERNAL)
        await _complete(client)


async def test_a_rejected_step_fails_with_the_given_failure(client: RawClient) -> None:
    await client.start(APPROVAL, run_id="run")
    await _fail(client)
    events = await client.events("run")
    failure = finished(events)["ok"].failure
    assert (failure.reason, failure.message, failure.attempt) == (REJECTED.reason, "not like this", 1)
    assert states(events) == {"ok": "failed", "end": "skipped"}


async def test_the_same_completion_again_changes_nothing(client: RawClient) -> None:
    await client.start(flow(step("ok", "core.wait"), step("more", "core.wait")), run_id="run")
    await _complete(client)
    await _complete(client)
    await _complete(client, "more")
    await client.events("run")
    await _complete(client)
    assert state_of((await _complete(client, "more")).state) == "succeeded"


async def test_the_same_rejection_again_changes_nothing(client: RawClient) -> None:
    await client.start(APPROVAL, run_id="run")
    await _fail(client)
    await client.events("run")
    assert state_of((await _fail(client)).state) == "failed"


async def test_another_outcome_of_a_completed_step_is_refused(client: RawClient) -> None:
    await client.start(APPROVAL, run_id="run")
    await _complete(client)
    for call in (_complete(client, value="no"), _fail(client)):
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "STEP_COMPLETED")


@pytest.mark.parametrize(
    ("step_id", "code", "reason", "message"),
    [
        ("other", "FAILED_PRECONDITION", "STEP_NOT_WAITING", 'has the action "controlled"'),
        ("later", "FAILED_PRECONDITION", "STEP_NOT_WAITING", "does not wait yet: it has not started"),
        ("nowhere", "NOT_FOUND", "STEP_NOT_FOUND", "does not exist"),
    ],
)
async def test_a_step_that_does_not_wait_cannot_be_completed(
    client: RawClient, controlled: ControlledActions, step_id: str, code: str, reason: str, message: str
) -> None:
    workflow = flow(step("other", "controlled"), step("later", "core.wait", after=["other"]))
    await client.start(workflow, run_id="run")
    await controlled.wait_started("other")
    refused = await refusal(_complete(client, step_id))
    assert (refused.code.name, refused.reason) == (code, reason)
    assert message in refused.message
    controlled.release("other")
    await _until_waiting(client, "later")
    await _complete(client, "later")
    assert state_of(end_of(await client.events("run")).state) == "succeeded"


async def _until_waiting(client: RawClient, step_id: str) -> None:
    async with client.watch("run") as stream:
        await stream.until("step_started", step_id)


async def test_a_step_of_an_unknown_run_cannot_be_completed(client: RawClient) -> None:
    refused = await refusal(_complete(client))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")


async def test_a_step_that_was_cancelled_cannot_be_completed(client: RawClient) -> None:
    await client.start(APPROVAL, run_id="run")
    await client.cancel("run")
    await client.events("run")
    refused = await refusal(_complete(client))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "STEP_NOT_WAITING")


@pytest.mark.parametrize(
    ("request_", "fields"),
    [
        (pb.CompleteStepRequest(run_id="run"), ["step_id", "output"]),
        (pb.CompleteStepRequest(run_id="run", step_id="ok", output=payload(None), namespace="n"), ["namespace"]),
        (pb.CompleteStepRequest(run_id="run", step_id="ok", failure=run_pb2.Failure()), ["failure.reason"]),
        (
            pb.CompleteStepRequest(
                run_id="run", step_id="ok", failure=run_pb2.Failure(reason=run_pb2.FAILURE_REASON_CANCELLED)
            ),
            ["failure.reason"],
        ),
    ],
)
async def test_a_malformed_completion_is_refused(
    client: RawClient, request_: pb.CompleteStepRequest, fields: list[str]
) -> None:
    assert (await refusal(client.stub.CompleteStep(request_))).fields == fields


async def test_a_wait_fails_at_its_timeout(client: RawClient) -> None:
    events = await client.run(flow(step("ok", "core.wait", timeout=0.01)))
    assert finished(events)["ok"].failure.cause == run_pb2.FAILURE_CAUSE_ATTEMPT_TIMEOUT


async def test_a_step_between_two_attempts_does_not_wait_now(client: RawClient) -> None:
    await client.start(flow(step("ok", "core.wait", retry=retry(2, 20))), run_id="run")
    await _fail(client, run_pb2.Failure(reason=run_pb2.FAILURE_REASON_ACTION_ERROR, retryable=True))
    refused = await refusal(_complete(client, "ok"))
    assert refused.reason == "STEP_NOT_WAITING"
    assert refused.message == 'step "ok" of run "run" does not wait now: attempt 1 has ended, and another follows'


async def test_an_outcome_is_refused_once_the_server_closes(server: Server, client: RawClient) -> None:
    await client.start(flow(step("ok", "core.wait")), run_id="run")
    await server.engine.close()
    assert (await refusal(_complete(client, "ok"))).code == grpc.StatusCode.UNAVAILABLE
