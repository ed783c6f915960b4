"""The client's requests and its use of responses, over a scripted transport."""

import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from typing import TypeVar

import pytest

from stepwave import JSON, Blob, ParallelFailed, Rerun, RunCancelled, RunFailed, State, Workflow
from stepwave._building.requests import RunFilter, Startable
from stepwave._transport.blocking import drive, drive_each
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import run_pb2, workflow_pb2
from unit.client.clients.transport import ScriptedTransport, batch, finished, run_finished, session

Item = TypeVar("Item")


def everything(source: AsyncIterator[Item]) -> list[Item]:
    return list(drive_each(source))


def steps(*ids: str) -> list[run_pb2.StepResult]:
    return [run_pb2.StepResult(step_id=step_id, state=run_pb2.STATE_SUCCEEDED) for step_id in ids]


def execute(transport: ScriptedTransport) -> pb.ExecuteWorkflowRequest:
    request = transport.sent[0][1]
    assert isinstance(request, pb.ExecuteWorkflowRequest)
    return request


def run_to_end(transport: ScriptedTransport, workflow: Startable, input: JSON | Blob = None) -> None:
    transport.stream_answers(batch(run_finished(1)))
    drive(session(transport, namespace="n").run(workflow, input))


def test_a_workflow_is_sent_as_it_is_built() -> None:
    flow, transport = Workflow("briefing"), ScriptedTransport()
    flow.step("a", "core.echo")
    run_to_end(transport, flow, {"city": "Oslo"})
    request = execute(transport)
    assert request.workflow == flow.to_proto()
    assert request.input.json == '{"city":"Oslo"}'
    assert request.namespace == "n"
    assert request.reconnect_window.seconds == 30


def test_a_message_of_the_contract_is_a_workflow() -> None:
    transport, message = ScriptedTransport(), workflow_pb2.Workflow(name="w")
    run_to_end(transport, message)
    assert execute(transport).workflow == message


def test_a_name_is_sent_as_the_name_of_a_workflow() -> None:
    transport = ScriptedTransport()
    run_to_end(transport, "nightly.report")
    assert execute(transport).workflow_name == "nightly.report"
    assert not execute(transport).HasField("input")


def test_a_blob_is_an_input() -> None:
    transport = ScriptedTransport()
    run_to_end(transport, "w", Blob(b"\0"))
    assert execute(transport).input.blob.data == b"\0"


@pytest.mark.parametrize(
    ("name", "slug"),
    [("briefing", "briefing"), ("Nightly.Report_2", "nightly-report-2"), ("___", "run"), ("a" * 128, "a" * 40)],
)
def test_a_run_id_is_short_and_readable(name: str, slug: str) -> None:
    transport = ScriptedTransport()
    run_to_end(transport, name)
    assert re.fullmatch(re.escape(slug) + "-[2-9a-hjkmnp-z]{8}", execute(transport).run_id)


def test_every_run_has_its_own_id_unless_it_is_given_one() -> None:
    runs = [session(ScriptedTransport()).run("w").run_id for _ in range(100)]
    assert len(set(runs)) == 100
    assert session(ScriptedTransport()).run("w", run_id="mine").run_id == "mine"


def test_an_input_that_json_cannot_hold_is_refused_before_anything_is_sent() -> None:
    transport = ScriptedTransport()
    with pytest.raises(ValueError, match="JSON cannot hold"):
        session(transport).run("w", {"n": float("nan")})
    assert transport.sent == []


def test_steps_are_read_page_by_page() -> None:
    transport = ScriptedTransport()
    transport.answers("ListStepResults", pb.ListStepResultsResponse(step_results=steps("a", "b"), next_page_token="2"))
    transport.answers("ListStepResults", pb.ListStepResultsResponse(step_results=steps("c")))
    assert [step.step_id for step in everything(session(transport).steps("r"))] == ["a", "b", "c"]
    assert [getattr(request, "page_token", None) for _, request in transport.sent] == ["", "2"]


def test_a_page_is_asked_for_only_when_it_is_wanted() -> None:
    transport = ScriptedTransport()
    transport.answers("ListStepResults", pb.ListStepResultsResponse(step_results=steps("a"), next_page_token="2"))
    assert next(drive_each(session(transport).steps("r"))).step_id == "a"
    assert len(transport.sent) == 1


def test_a_result_is_assembled_from_all_pages_of_steps() -> None:
    transport = ScriptedTransport()
    message = run_pb2.Result(run_id="r", state=run_pb2.STATE_SUCCEEDED, omitted_outputs=["b"], omitted_output_count=1)
    transport.answers("GetResult", pb.GetResultResponse(result=message))
    transport.answers("ListStepResults", pb.ListStepResultsResponse(step_results=steps("a"), next_page_token="1"))
    transport.answers("ListStepResults", pb.ListStepResultsResponse(step_results=steps("b")))
    result = drive(session(transport).result("r"))
    assert list(result.steps) == ["a", "b"]
    assert result.outputs == {"b": None}


def test_runs_are_filtered_and_limited() -> None:
    transport = ScriptedTransport()
    runs = [run_pb2.Run(run_id=str(number)) for number in range(3)]
    transport.answers("ListRuns", pb.ListRunsResponse(runs=runs[:2], next_page_token="2"))
    transport.answers("ListRuns", pb.ListRunsResponse(runs=runs, next_page_token="5"))
    found = session(transport).runs(
        states=["failed", State.CANCELLED], workflow="w", prefix="br", labels={"team": "a"}, limit=3
    )
    assert [run.run_id for run in everything(found)] == ["0", "1", "0"]
    assert transport.sent[0][1] == pb.ListRunsRequest(
        states=[run_pb2.STATE_FAILED, run_pb2.STATE_CANCELLED],
        workflow_name="w",
        run_id_prefix="br",
        labels={"team": "a"},
        page_size=3,
    )


def test_runs_are_found_by_time_in_whatever_zone_it_is_given() -> None:
    noon = datetime(2026, 1, 2, 12, 0, 0, 123_457, tzinfo=timezone(timedelta(hours=2)))
    local = datetime(2026, 1, 3)
    request = RunFilter(since=noon, until=local).to_proto("")
    assert request.create_time_from.ToJsonString() == "2026-01-02T10:00:00.123457Z"
    assert request.create_time_before.ToSeconds() == local.timestamp()


def test_a_rerun_names_the_earlier_run_and_its_id_begins_alike() -> None:
    transport = ScriptedTransport()
    run_to_end(transport, Rerun("briefing-7k3f9q2m", from_failed=True))
    request = execute(transport)
    assert request.rerun == pb.Rerun(run_id="briefing-7k3f9q2m", from_failed=True)
    assert re.fullmatch("briefing-[2-9a-hjkmnp-z]{8}", request.run_id)
    assert not request.HasField("input")


def test_the_id_of_a_rerun_begins_with_a_given_id() -> None:
    assert session(ScriptedTransport()).run(Rerun("nightly")).run_id.startswith("nightly-")


def test_a_rerun_takes_no_input() -> None:
    with pytest.raises(ValueError, match="takes no input of its own"):
        session(ScriptedTransport()).run(Rerun("r"), {"city": "Oslo"})


def test_a_rerun_can_be_started_and_left() -> None:
    transport = ScriptedTransport()
    transport.answers("StartRun", pb.StartRunResponse(run=run_pb2.Run(run_id="again", rerun_of="r")))
    assert drive(session(transport).start(Rerun("r"), run_id="again")).rerun_of == "r"
    assert transport.sent[0][1] == pb.StartRunRequest(rerun=pb.Rerun(run_id="r"), run_id="again")


def test_no_runs_are_asked_for_when_none_are_wanted() -> None:
    transport = ScriptedTransport()
    assert everything(session(transport).runs(limit=0)) == []
    assert transport.sent == []


def test_a_plan_is_assembled_from_all_its_pages() -> None:
    transport = ScriptedTransport()
    for step_id, token in (("a", "1"), ("b", "")):
        page = pb.Plan(workflow_name="w", step_count=2, steps=[pb.PlannedStep(step_id=step_id)])
        transport.answers("PlanWorkflow", pb.PlanWorkflowResponse(plan=page, next_page_token=token))
    plan = drive(session(transport).plan("w"))
    assert [step.step_id for step in plan.steps] == ["a", "b"]


def test_waiting_reads_the_first_and_the_last_event_alone_and_then_the_result() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(last=3), batch(run_finished(9)))
    transport.answers("GetResult", pb.GetResultResponse(result=run_pb2.Result(state=run_pb2.STATE_SUCCEEDED)))
    transport.answers("ListStepResults", pb.ListStepResultsResponse(step_results=steps("a")))
    result = drive(session(transport).wait("r"))
    assert list(result.steps) == ["a"]
    assert transport.names == ["WatchRun", "GetResult", "ListStepResults"]
    kinds = ["EVENT_KIND_RUN_STARTED", "EVENT_KIND_RUN_FINISHED"]
    assert transport.sent[0][1] == pb.WatchRunRequest(run_id="r", kinds=kinds)  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize(
    ("state", "kind"), [(run_pb2.STATE_FAILED, RunFailed), (run_pb2.STATE_CANCELLED, RunCancelled)]
)
def test_waiting_raises_for_a_run_without_success_unless_check_is_false(
    state: run_pb2.State.ValueType, kind: type[RunFailed]
) -> None:
    for check in (True, False):
        transport = ScriptedTransport()
        transport.stream_answers(batch(run_finished(9)))
        transport.answers("GetResult", pb.GetResultResponse(result=run_pb2.Result(state=state)))
        transport.answers("ListStepResults", pb.ListStepResultsResponse())
        waiting = session(transport).wait("r", check=check)
        if check:
            with pytest.raises(kind) as caught:
                drive(waiting)
            assert type(caught.value) is kind
        else:
            assert not drive(waiting).succeeded


def test_parallel_asks_for_one_independent_step_for_each_action() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(finished(1, "p1", '"b"'), finished(2, "p0", "null"), run_finished(3)))
    assert drive(session(transport).parallel(["x", "y"], {"n": 1}, timeout=5)) == [None, "b"]
    request = execute(transport)
    assert [(step.id, step.action, step.HasField("input")) for step in request.workflow.steps] == [
        ("p0", "x", False),
        ("p1", "y", False),
    ]
    assert request.workflow.failure_policy == workflow_pb2.FAILURE_POLICY_CONTINUE
    assert request.input.json == '{"n":1}'
    assert transport.limits == [5]


def test_parallel_without_actions_answers_at_once() -> None:
    transport = ScriptedTransport()
    assert drive(session(transport).parallel([])) == []
    assert transport.sent == []


def test_a_failure_of_parallel_names_the_lowest_index_whichever_failed_first() -> None:
    transport = ScriptedTransport()
    failed = run_pb2.STATE_FAILED
    events = [
        finished(1, "p3", state=failed),
        finished(2, "p1", state=failed),
        finished(3, "p2"),
        finished(4, "p0", "null"),
    ]
    transport.stream_answers(batch(*events, run_finished(5, state=failed)))
    with pytest.raises(ParallelFailed) as caught:
        drive(session(transport).parallel(["x"] * 4))
    assert caught.value.index == 1
    assert caught.value.partial == (None, None, 1, None)
    assert caught.value.answered == (True, False, True, False)


def test_a_cancelled_parallel_raises_run_cancelled() -> None:
    transport = ScriptedTransport()
    cancelled = run_pb2.STATE_CANCELLED
    transport.stream_answers(batch(finished(1, "p0", state=cancelled), run_finished(2, state=cancelled)))
    with pytest.raises(RunCancelled):
        drive(session(transport).parallel(["x"]))
