"""Calls and fields that this server does not support: each is refused by name, and nothing is invoked."""

from collections.abc import AsyncIterator
from typing import TypeVar

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from integration.server.build import bind, end_of, flow, payload, state_of, step
from integration.server.controlled_actions import ControlledActions
from integration.server.raw_client import RawClient, refusal, workflow_refusal
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import payload_pb2, workflow_pb2

pytestmark = pytest.mark.no_engine("requests are checked before an engine takes them")

INVALID = grpc.StatusCode.INVALID_ARGUMENT


UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED


@pytest.fixture(autouse=True)
async def nothing_is_invoked(controlled: ControlledActions) -> AsyncIterator[None]:
    yield
    assert controlled.invoked == []


@pytest.mark.parametrize(
    "name",
    ["GetServerInfo", "ListActions", "ListWorkflows", "ListRuns"],
)
async def test_another_namespace_is_not_supported(client: RawClient, name: str) -> None:
    call = getattr(client.stub, name)(getattr(pb, f"{name}Request")(namespace="other"))
    refused = await refusal(call)
    assert (refused.code, refused.reason, refused.fields) == (UNIMPLEMENTED, "NOT_SUPPORTED", ["namespace"])


async def test_the_default_namespace_may_be_named(client: RawClient, controlled: ControlledActions) -> None:
    request = pb.StartRunRequest(workflow=flow(step("a", "core.echo")), namespace="default", run_id="mine")
    assert (await client.stub.StartRun(request)).run.namespace == "default"
    assert state_of(end_of(await client.events("mine")).state) == "succeeded"


def _with_step(**fields: object) -> workflow_pb2.Workflow:
    full = flow(step("a"))
    full.steps[0].MergeFrom(workflow_pb2.Step(**fields))  # type: ignore[arg-type]  # fields by name
    return full


@pytest.mark.parametrize(
    ("field", "workflow"),
    [
        ("workflow.steps[0].retry.retryable_reasons[0]", _with_step(retry=workflow_pb2.Retry(retryable_reasons=[99]))),  # type: ignore[list-item]
        ("workflow.steps[0].on_interrupt", _with_step(on_interrupt=99)),
        ("workflow.steps[0].join", _with_step(join=99)),
        ("workflow.scheduling", workflow_pb2.Workflow(name="test", steps=[step("a")], scheduling=99)),  # type: ignore[arg-type]
        ("workflow.failure_policy", workflow_pb2.Workflow(name="test", steps=[step("a")], failure_policy=99)),  # type: ignore[arg-type]
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_features_of_later_versions_are_refused_by_name(
    client: RawClient, field: str, workflow: workflow_pb2.Workflow
) -> None:
    refused = await workflow_refusal(client, workflow)
    assert (refused.code, refused.reason, refused.fields) == (UNIMPLEMENTED, "NOT_SUPPORTED", [field])


M = TypeVar("M", bound=Message)


def _newer(message: M) -> M:
    """Return a message as a later version of the contract may send it: with field 1023, a number."""
    return type(message).FromString(message.SerializeToString() + b"\xf8\x3f\x01")


@pytest.mark.parametrize(
    ("where", "names", "newer"),
    [
        ("workflow", "Workflow", _newer(flow(step("a")))),
        ("workflow.steps[1]", "Step", flow(step("a"), _newer(step("b")))),
        ("workflow.steps[0].bindings[0]", "Binding", flow(step("a", bindings=[_newer(bind("", "input"))]))),
        ("workflow.steps[0].input", "Payload", flow(step("a", given=_newer(payload(1))))),
        ("workflow.steps[0].input", "Payload", flow(step("a", given=_newer(payload_pb2.Payload())))),
        (
            "workflow.steps[0].bindings[0]",
            "Binding",
            flow(step("a", bindings=[_newer(workflow_pb2.Binding(target="/x"))])),
        ),
        (
            "workflow.steps[0].bindings[0].default",
            "Payload",
            flow(step("a", bindings=[bind("", "input", default=_newer(payload_pb2.Payload()))])),
        ),
        (
            "workflow.timeout",
            "Duration",
            workflow_pb2.Workflow(name="t", steps=[step("a")], timeout=_newer(Duration(seconds=1))),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_field_that_the_server_does_not_know_is_refused_by_name(
    client: RawClient, where: str, names: str, newer: workflow_pb2.Workflow
) -> None:
    refused = await workflow_refusal(client, newer)
    assert (refused.code, refused.reason) == (UNIMPLEMENTED, "NOT_SUPPORTED")
    (field, problem), *others = refused.violations
    assert (field, others) == (where, [])
    assert problem.startswith("this server does not know field 1023 of ")
    assert problem.endswith(f".{names}")


METHODS = [method.name for method in pb.DESCRIPTOR.services_by_name["OrchestratorService"].methods]
CHANGING = ["AddSteps", "CancelRun", "CompleteStep", "DeleteRun", "ExecuteWorkflow", "PlanWorkflow", "StartRun"]


@pytest.mark.parametrize("name", CHANGING)
async def test_a_field_that_might_change_what_runs_is_refused_if_the_server_does_not_know_it(
    client: RawClient, name: str
) -> None:
    call = getattr(client.stub, name)(_newer(getattr(pb, f"{name}Request")()))
    refused = await refusal(call.read() if hasattr(call, "read") else call)
    assert (refused.code, refused.reason) == (UNIMPLEMENTED, "NOT_SUPPORTED")
    assert refused.violations == [("request", f"this server does not know field 1023 of stepwave.v1.{name}Request")]


@pytest.mark.parametrize("name", sorted({*METHODS} - {*CHANGING}))
async def test_a_read_of_a_newer_client_is_served(client: RawClient, name: str) -> None:
    request = getattr(pb, f"{name}Request")()
    if "run_id" in request.DESCRIPTOR.fields_by_name:
        await client.run(flow(step("a", "core.echo")), run_id="ended")
        request.run_id = "ended"
    call = getattr(client.stub, name)(_newer(request))
    await (call.read() if hasattr(call, "read") else call)


async def test_a_newer_filter_of_a_list_is_ignored(client: RawClient) -> None:
    await client.stub.ListRuns(pb.ListRunsRequest(create_time_from=_newer(Timestamp())))


@pytest.mark.parametrize(
    ("where", "request_"),
    [
        ("rerun", pb.StartRunRequest(rerun=_newer(pb.Rerun(run_id="r")))),
        ("input", pb.StartRunRequest(workflow=flow(step("a")), input=_newer(payload(1)))),
        ("input", pb.StartRunRequest(workflow=flow(step("a")), input=_newer(payload_pb2.Payload()))),
    ],
    ids=["a rerun", "an input", "an input of a kind to come"],
)
async def test_a_field_within_a_request_that_the_server_does_not_know_is_refused_by_name(
    client: RawClient, where: str, request_: Message
) -> None:
    name = request_.DESCRIPTOR.name.removesuffix("Request")
    refused = await refusal(getattr(client.stub, name)(request_))
    assert (refused.code, refused.fields) == (UNIMPLEMENTED, [where])


async def test_invalid_and_unsupported_fields_are_reported_together(client: RawClient) -> None:
    bad = _with_step(join=99, depends_on=["x"])
    refused = await workflow_refusal(client, bad)
    assert refused.code is INVALID
    assert refused.fields == ["workflow.steps[0].depends_on[0]", "workflow.steps[0].join"]
