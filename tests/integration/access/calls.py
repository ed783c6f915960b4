"""Calls of the contract by their names, and how they end."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from grpc.aio import AioRpcError

from integration.server.raw_client import Refusal
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import orchestrator_pb2_grpc
from stepwave.v1.payload_pb2 import Payload
from stepwave.v1.workflow_pb2 import Step, Workflow

__all__ = ["METHODS", "NO_WORKFLOW", "Answer", "answer_of", "fields_of"]

_SERVICE = pb.DESCRIPTOR.services_by_name["OrchestratorService"]

METHODS = tuple(method.name for method in _SERVICE.methods)
"""The names of all calls."""

NO_WORKFLOW = Workflow(name="w", steps=[Step(id="a", action="core.echo")])


class Answer(NamedTuple):
    """How a call ended.

    Attributes:
        reason: The reason of its `ErrorInfo`; empty: it succeeded.
        code: The name of its code.
        message: Its message.
        response: The last response; `None`: there is none.
    """

    reason: str
    code: str
    message: str
    response: Any = None


def fields_of(method: str, *, run_id: str) -> dict[str, Any]:
    """Return fields with which a call about a run, or one that starts a run, is complete."""
    fields = _SERVICE.methods_by_name[method].input_type.fields_by_name
    given: dict[str, Any] = {}
    if "run_id" in fields:
        given["run_id"] = run_id
    if "workflow" in fields:
        given["workflow"] = NO_WORKFLOW
    if method == "CompleteStep":
        given |= {"step_id": "a", "output": Payload(json="1")}
    return given


async def answer_of(
    stub: "orchestrator_pb2_grpc.OrchestratorServiceAsyncStub", method: str, token: str, fields: Mapping[str, object]
) -> Answer:
    """Make a call, and return how it ended."""
    request = getattr(pb, f"{method}Request")(**fields)
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    made = getattr(stub, method)(request, metadata=metadata)
    response = None
    try:
        if _SERVICE.methods_by_name[method].server_streaming:
            async for message in made:
                response = message
        else:
            response = await made
    except AioRpcError as error:
        return Answer(Refusal(error).reason, error.code().name, error.details() or "")
    return Answer("", "OK", "", response)
