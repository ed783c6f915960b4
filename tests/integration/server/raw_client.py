"""A client of the bare contract: generated stubs without the SDK, as a client in any language would have."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Iterable, Sequence
from types import TracebackType
from typing import Self, TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc.aio import AioRpcError, UnaryStreamCall
from grpc_health.v1 import health_pb2, health_pb2_grpc

from integration.server.build import kind_of, payload, seconds
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import orchestrator_pb2_grpc, run_pb2, workflow_pb2
from stepwave.v1.event_pb2 import EventKind, RunEvent

__all__ = ["GUARD", "MAX_BYTES", "RawClient", "Refusal", "Stream", "refusal", "workflow_refusal"]

GUARD = 30.0
"""Seconds after which a wait without progress fails the test. No test depends on its length."""

MAX_BYTES = 3 << 20
"""The longest message, in bytes, that the server sends and clients accept."""

M = TypeVar("M", bound=Message)
Call: TypeAlias = (
    UnaryStreamCall[pb.ExecuteWorkflowRequest, pb.ExecuteWorkflowResponse]
    | UnaryStreamCall[pb.WatchRunRequest, pb.WatchRunResponse]
)


class Stream:
    """The events of one streaming call. Leaving the context cancels the call, as the end of a client's process does.

    Attributes:
        seen: The events read so far.
        messages: The number of messages read so far.
        position: The `last_sequence` of the last message.
    """

    def __init__(self, call: Call) -> None:
        self.call = call
        self.seen: list[RunEvent] = []
        self.messages = 0
        self.position = 0
        self._read: deque[RunEvent] = deque()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.call.cancel()

    async def message(self) -> Sequence[RunEvent] | None:
        """Read the next message and return its events; `None` at the end of the stream."""
        async with asyncio.timeout(GUARD):
            response = await self.call.read()
        if not isinstance(response, pb.ExecuteWorkflowResponse | pb.WatchRunResponse):
            return None
        assert response.ByteSize() <= MAX_BYTES
        self.messages += 1
        self.position = response.last_sequence
        self.seen += response.events
        return response.events

    async def next(self) -> RunEvent | None:
        """Return the next event; `None` at the end of the stream."""
        if not self._read:
            self._read.extend(await self._events() or ())
        return self._read.popleft() if self._read else None

    async def until(self, kind: str, step_id: str = "") -> RunEvent:
        """Return the next event of a kind, and of a step if one is named."""
        while (event := await self.next()) is not None:
            if kind_of(event) == kind and step_id in {"", _step_of(event)}:
                return event
        raise AssertionError(f"the stream ended before {kind} {step_id}")

    async def rest(self) -> list[RunEvent]:
        """Read to the end of the stream, and return all its events.

        The guard bounds the time without an event: a long stream may take longer, as may one on a busy machine.
        """
        while await self._events() is not None:
            pass
        return self.seen

    async def _events(self) -> Sequence[RunEvent] | None:
        """Read messages up to the next one with events; `None` at the end of the stream. Heartbeats are no progress."""
        async with asyncio.timeout(GUARD):
            while (events := await self.message()) is not None:
                if events:
                    return events
        return None


def _step_of(event: RunEvent) -> str:
    body = getattr(event, kind_of(event))
    step_id: str = body.result.step_id if event.HasField("step_finished") else getattr(body, "step_id", "")
    return step_id


class RawClient:
    """A channel to a server, and short forms of the calls."""

    def __init__(self, address: str) -> None:
        options = [
            ("grpc.max_receive_message_length", MAX_BYTES),
            ("grpc.use_local_subchannel_pool", 1),
            # gRPC otherwise enlarges the window to what the connection can take: a client that reads nothing could then
            # be sent all of a large run.
            ("grpc.http2.bdp_probe", 0),
        ]
        self.channel = grpc.aio.insecure_channel(address, options=options)
        self.stub: orchestrator_pb2_grpc.OrchestratorServiceAsyncStub
        self.stub = orchestrator_pb2_grpc.OrchestratorServiceStub(self.channel)

    def execute(
        self,
        workflow: workflow_pb2.Workflow,
        *,
        given: object = None,
        run_id: str = "",
        window: float = 0.0,
        kinds: Iterable[EventKind.ValueType] = (),
        timeout: float | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> Stream:
        """Start a run and stay attached to it; `window` is its reconnect window in seconds."""
        request = pb.ExecuteWorkflowRequest(
            workflow=workflow,
            input=None if given is None else payload(given),
            run_id=run_id,
            reconnect_window=seconds(window),
            kinds=kinds,
        )
        return Stream(self.stub.ExecuteWorkflow(request, timeout=timeout, metadata=tuple(metadata)))

    async def open(
        self,
        *steps: workflow_pb2.Step,
        given: object = None,
        run_id: str = "open",
        idle: float | None = None,
        workflow: workflow_pb2.Workflow | None = None,
    ) -> run_pb2.Run:
        """Start a detached open run; `idle` is its idle timeout in seconds."""
        request = pb.StartRunRequest(
            workflow=workflow or workflow_pb2.Workflow(name="test", steps=steps),
            input=None if given is None else payload(given),
            run_id=run_id,
            open=True,
            idle_timeout=None if idle is None else seconds(idle),
        )
        return (await self.stub.StartRun(request)).run

    async def add(self, *steps: workflow_pb2.Step, seal: bool = False, run_id: str = "open") -> run_pb2.Run:
        """Add steps to an open run."""
        request = pb.AddStepsRequest(run_id=run_id, steps=steps, seal=seal)
        return (await self.stub.AddSteps(request)).run

    async def run(self, workflow: workflow_pb2.Workflow, *, given: object = None, run_id: str = "") -> list[RunEvent]:
        """Run a workflow to its end, and return its events."""
        return await self.execute(workflow, given=given, run_id=run_id).rest()

    async def start(self, workflow: workflow_pb2.Workflow, *, given: object = None, run_id: str = "") -> run_pb2.Run:
        """Start a detached run."""
        request = pb.StartRunRequest(workflow=workflow, input=None if given is None else payload(given), run_id=run_id)
        return (await self.stub.StartRun(request)).run

    def watch(
        self,
        run_id: str,
        *,
        after: int = 0,
        attach: bool = False,
        kinds: Iterable[EventKind.ValueType] = (),
        timeout: float | None = None,
    ) -> Stream:
        """Stream the events of a run after a sequence number."""
        request = pb.WatchRunRequest(run_id=run_id, after_sequence=after, attach=attach, kinds=kinds)
        return Stream(self.stub.WatchRun(request, timeout=timeout))

    async def events(self, run_id: str) -> list[RunEvent]:
        """Watch a run to its end."""
        return await self.watch(run_id).rest()

    async def get(self, run_id: str) -> run_pb2.Run:
        return (await self.stub.GetRun(pb.GetRunRequest(run_id=run_id))).run

    async def cancel(self, run_id: str, reason: str = "") -> run_pb2.Run:
        return (await self.stub.CancelRun(pb.CancelRunRequest(run_id=run_id, reason=reason))).run

    async def result(self, run_id: str) -> run_pb2.Result:
        return (await self.stub.GetResult(pb.GetResultRequest(run_id=run_id))).result

    async def begins_to_drain(self) -> None:
        """Wait until the health service reports that the server drains."""
        request = health_pb2.HealthCheckRequest(service="stepwave.v1.OrchestratorService")
        watch = health_pb2_grpc.HealthStub(self.channel).Watch(request)
        async with asyncio.timeout(GUARD):
            while (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING:
                pass
        watch.cancel()

    async def delete(self, run_id: str) -> None:
        await self.stub.DeleteRun(pb.DeleteRunRequest(run_id=run_id))

    async def close(self) -> None:
        await self.channel.close()


class Refusal:
    """The status of a refused call: its code, its stable reason, and the invalid fields."""

    def __init__(self, error: AioRpcError) -> None:
        self.code = error.code()
        self.message = error.details() or ""
        status = _status(error)
        info = _unpacked(status, error_details_pb2.ErrorInfo())
        self.domain, self.reason = info.domain, info.reason
        invalid = _unpacked(status, error_details_pb2.BadRequest())
        self.violations = [(violation.field, violation.description) for violation in invalid.field_violations]

    @property
    def fields(self) -> list[str]:
        """The invalid fields, in order."""
        return [field for field, _ in self.violations]

    def description(self, field: str) -> str:
        """Return the problems of a field."""
        return "; ".join(description for invalid, description in self.violations if invalid == field)


async def refusal(call: Awaitable[object]) -> Refusal:
    """Return the status of a call that must be refused.

    Raises:
        AssertionError: Raised when the call is accepted.
    """
    try:
        async with asyncio.timeout(GUARD):
            await call
    except AioRpcError as error:
        return Refusal(error)
    raise AssertionError("the call was accepted")


async def workflow_refusal(client: RawClient, workflow: workflow_pb2.Workflow, **given: object) -> Refusal:
    """Send a workflow by every call that takes one, and return the status, which is the same for all.

    Args:
        client: The client.
        workflow: The workflow.
        given: Other fields of the requests that start runs.
    """
    execute = pb.ExecuteWorkflowRequest(workflow=workflow, **given)  # type: ignore[arg-type]  # fields by name
    start = pb.StartRunRequest(workflow=workflow, **given)  # type: ignore[arg-type]
    refusals = [
        await refusal(client.stub.ExecuteWorkflow(execute).read()),
        await refusal(client.stub.StartRun(start)),
    ]
    if not given:
        refusals.append(await refusal(client.stub.PlanWorkflow(pb.PlanWorkflowRequest(workflow=workflow))))
    first = refusals[0]
    for other in refusals:
        assert (other.code, other.reason, other.violations) == (first.code, first.reason, first.violations)
        assert other.domain == "stepwave"
    return first


def _status(error: AioRpcError) -> status_pb2.Status:
    trailers = error.trailing_metadata() or ()
    for key, value in trailers:
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            return status_pb2.Status.FromString(value)
    return status_pb2.Status()


def _unpacked(status: status_pb2.Status, message: M) -> M:
    """Return the detail of the message's type; the empty message if there is none."""
    any(detail.Unpack(message) for detail in status.details)
    return message
