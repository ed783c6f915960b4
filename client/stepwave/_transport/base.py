"""The interface of transports: calls, streams and time. Each client has a transport of its own."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from stepwave.v1 import orchestrator_pb2 as pb

__all__ = [
    "ACTIONS",
    "ADD_STEPS",
    "CANCEL",
    "COMPLETE",
    "DELETE",
    "EXECUTE",
    "EXPLAIN",
    "EXPORT",
    "FINISH_WITHIN",
    "GET",
    "INFO",
    "LOGS",
    "PLAN",
    "RESULT",
    "RUNS",
    "START",
    "STEPS",
    "WATCH",
    "WORKFLOWS",
    "MessageStream",
    "Stream",
    "Transport",
    "Unary",
]

FINISH_WITHIN = 1.0
"""Seconds in which a call may end by itself after its last message."""

Request_contra = TypeVar("Request_contra", contravariant=True)
Response_co = TypeVar("Response_co", covariant=True)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Unary(Generic[Request_contra, Response_co]):
    """A call of the contract with one response, by its name and types."""

    name: str


@dataclass(frozen=True, slots=True)
class Stream(Generic[Request_contra, Response_co]):
    """A call of the contract with a stream of responses, by its name and types."""

    name: str


EXECUTE: Stream[pb.ExecuteWorkflowRequest, pb.ExecuteWorkflowResponse] = Stream("ExecuteWorkflow")
EXPORT: Stream[pb.ExportRunRequest, pb.ExportRunResponse] = Stream("ExportRun")
WATCH: Stream[pb.WatchRunRequest, pb.WatchRunResponse] = Stream("WatchRun")

START: Unary[pb.StartRunRequest, pb.StartRunResponse] = Unary("StartRun")
ADD_STEPS: Unary[pb.AddStepsRequest, pb.AddStepsResponse] = Unary("AddSteps")
GET: Unary[pb.GetRunRequest, pb.GetRunResponse] = Unary("GetRun")
RESULT: Unary[pb.GetResultRequest, pb.GetResultResponse] = Unary("GetResult")
STEPS: Unary[pb.ListStepResultsRequest, pb.ListStepResultsResponse] = Unary("ListStepResults")
LOGS: Unary[pb.ListRunLogsRequest, pb.ListRunLogsResponse] = Unary("ListRunLogs")
RUNS: Unary[pb.ListRunsRequest, pb.ListRunsResponse] = Unary("ListRuns")
CANCEL: Unary[pb.CancelRunRequest, pb.CancelRunResponse] = Unary("CancelRun")
COMPLETE: Unary[pb.CompleteStepRequest, pb.CompleteStepResponse] = Unary("CompleteStep")
DELETE: Unary[pb.DeleteRunRequest, pb.DeleteRunResponse] = Unary("DeleteRun")
EXPLAIN: Unary[pb.ExplainRunRequest, pb.ExplainRunResponse] = Unary("ExplainRun")
PLAN: Unary[pb.PlanWorkflowRequest, pb.PlanWorkflowResponse] = Unary("PlanWorkflow")
ACTIONS: Unary[pb.ListActionsRequest, pb.ListActionsResponse] = Unary("ListActions")
WORKFLOWS: Unary[pb.ListWorkflowsRequest, pb.ListWorkflowsResponse] = Unary("ListWorkflows")
INFO: Unary[pb.GetServerInfoRequest, pb.GetServerInfoResponse] = Unary("GetServerInfo")


class MessageStream(Protocol[Response_co]):
    """The responses of one streaming call."""

    async def read(self) -> Response_co | None:
        """Return the next message; `None` at the end. Nothing is read ahead of the caller.

        Raises:
            StepwaveError: The call failed.
        """

    async def finish(self) -> None:
        """Free a call whose last message was read.

        The call gets `FINISH_WITHIN` to end by itself. If it is cancelled earlier, the server counts a failure.
        """

    def cancel(self) -> None:
        """Cancel the call. Idempotent; no effect on one that has ended."""


class Transport(Protocol):
    """Calls, streams and time.

    A blocking transport never suspends its coroutines, so a coroutine that awaits nothing else ends in one step.
    """

    address: str

    async def unary(
        self, method: Unary[Request_contra, Response_co], request: Request_contra, within: float
    ) -> Response_co:
        """Make a call, and wait at most `within` seconds for its response.

        Raises:
            StepwaveError: The call failed.
        """

    def stream(
        self, method: Stream[Request_contra, Response_co], request: Request_contra, within: float | None
    ) -> MessageStream[Response_co]:
        """Begin a streaming call that may last `within` seconds; `None`: no limit."""

    async def sleep(self, seconds: float) -> None:
        """Sleep."""

    def now(self) -> float:
        """Return the time of a monotonic clock, in seconds."""

    async def shielded(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine to its end, even if the caller is cancelled meanwhile, and then raise that cancellation.

        If the caller was cancelled before, another cancellation ends the coroutine.
        """

    async def computed(self, work: Callable[[], Result]) -> Result:
        """Run a CPU-bound function without blocking the caller's event loop, if there is one."""

    async def close(self) -> None:
        """Free the connection. Calls under way end. Idempotent."""
