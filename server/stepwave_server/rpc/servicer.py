"""`OrchestratorService`: each method parses, calls the engine, and converts."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import TypeAlias, TypeVar

from google.protobuf.message import Message
from grpc.aio import ServicerContext

from stepwave.v1 import orchestrator_pb2 as pb
from stepwave_server.core.info import RunKey
from stepwave_server.core.model import State
from stepwave_server.core.validate import Violation
from stepwave_server.engine.base import Engine
from stepwave_server.journal import Listing
from stepwave_server.rpc.errors import InvalidCall, NotServed
from stepwave_server.rpc.holds import Holds
from stepwave_server.rpc.requests import Preparer, from_token, namespace_of, page_size, run_key, to_token
from stepwave_server.telemetry import TraceParent
from stepwave_server.wire.events import Kind, decode, to_step_results
from stepwave_server.wire.plan import to_plan
from stepwave_server.wire.results import to_run
from stepwave_server.wire.values import from_duration

__all__ = ["Orchestrator"]

T = TypeVar("T")
Context: TypeAlias = ServicerContext[Message, Message]

MOST_WINDOW = 3600
MOST_REASON = 1_024


class Orchestrator:
    """The service's methods. Streams yield bytes: the messages were made when their events were.

    Args:
        engine: What drives runs.
        preparer: What makes requests into runs.
        holds: Who holds which run.
        info: What this server is, but for whether it drains.
        actions: The actions it has, by name.
    """

    def __init__(
        self, engine: Engine, preparer: Preparer, holds: Holds, info: pb.ServerInfo, actions: Sequence[pb.Action]
    ) -> None:
        self._engine = engine
        self._preparer = preparer
        self._holds = holds
        self._info = info
        self._actions = actions

    async def ExecuteWorkflow(  # noqa: N802 - the contract's name, as below
        self, request: pb.ExecuteWorkflowRequest, context: Context
    ) -> AsyncGenerator[bytes, None]:
        """Start a run, hold it, and stream its events."""
        kinds = _kinds(request.kinds)
        window = _window(request)
        submission = await self._preparer.submission(request, _parent(context))
        if self._engine.start(submission):
            self._holds.begin(submission.key, window)
        async with aclosing(self._held(submission.key, 0, kinds, context)) as stream:
            async for data in stream:
                yield data

    async def StartRun(self, request: pb.StartRunRequest, context: Context) -> pb.StartRunResponse:  # noqa: N802
        """Start a run that nobody holds."""
        submission = await self._preparer.submission(request, _parent(context))
        if not self._engine.start(submission):
            self._holds.detach(submission.key)
        return pb.StartRunResponse(run=to_run(await self._engine.info(submission.key)))

    async def WatchRun(self, request: pb.WatchRunRequest, context: Context) -> AsyncGenerator[bytes, None]:  # noqa: N802
        """Stream a run's events after a number."""
        key = run_key(request.namespace, request.run_id)
        kinds = _kinds(request.kinds)
        if request.attach:
            watch = self._held(key, request.after_sequence, kinds, context)
        else:
            watch = self._plain(key, request.after_sequence, kinds)
        async with aclosing(watch) as stream:
            async for data in stream:
                yield data

    async def _plain(self, key: RunKey, after: int, kinds: Sequence[Kind]) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._engine.watch(key, after, kinds)) as batches:
            async for batch in batches:
                yield batch.data

    async def _held(
        self, key: RunKey, after: int, kinds: Sequence[Kind], context: Context
    ) -> AsyncGenerator[bytes, None]:
        with self._holds.hold(key, context.time_remaining) as hold:
            async with aclosing(self._engine.watch(key, after, kinds)) as batches:
                async for batch in batches:
                    hold.ended = batch.last
                    yield batch.data

    async def AddSteps(self, request: pb.AddStepsRequest, context: Context) -> pb.AddStepsResponse:  # noqa: N802
        """Refuse: no run is open yet."""
        raise NotServed([Violation("AddSteps", "this server does not support it yet")])

    async def CompleteStep(  # noqa: N802
        self,
        request: pb.CompleteStepRequest,
        context: Context,
    ) -> pb.CompleteStepResponse:
        """Refuse: no step waits for an answer from outside yet."""
        raise NotServed([Violation("CompleteStep", "this server does not support it yet")])

    async def GetRun(self, request: pb.GetRunRequest, context: Context) -> pb.GetRunResponse:  # noqa: N802
        """Return a run as it stands."""
        key = run_key(request.namespace, request.run_id)
        return pb.GetRunResponse(run=to_run(await self._engine.info(key)))

    async def GetResult(self, request: pb.GetResultRequest, context: Context) -> pb.GetResultResponse:  # noqa: N802
        """Return what a run came to."""
        record = await self._engine.result(run_key(request.namespace, request.run_id))
        return pb.GetResultResponse(result=decode(record).run_finished.result)

    async def ListStepResults(  # noqa: N802
        self,
        request: pb.ListStepResultsRequest,
        context: Context,
    ) -> pb.ListStepResultsResponse:
        """Return a page of a run's steps."""
        key = run_key(request.namespace, request.run_id)
        token = from_token(request.page_token, int)
        page = await self._engine.steps(key, int(token[0]) if token else 0, page_size(request.page_size, 1_000, 10_000))
        following = to_token(page.next_index) if page.next_index else ""
        return pb.ListStepResultsResponse(step_results=to_step_results(page.steps), next_page_token=following)

    async def ListRuns(self, request: pb.ListRunsRequest, context: Context) -> pb.ListRunsResponse:  # noqa: N802
        """Return a page of runs, the newest first."""
        token = from_token(request.page_token, int, str)
        listing = Listing(
            namespace_of(request.namespace), _states(request.states), request.workflow_name, request.run_id_prefix
        )
        before = (int(token[0]), str(token[1])) if token else None
        page = await self._engine.list_runs(listing, before, page_size(request.page_size, 100, 1_000))
        last = page.runs[-1] if page.more else None
        following = to_token(last.create_time, last.key.run_id) if last else ""
        return pb.ListRunsResponse(runs=map(to_run, page.runs), next_page_token=following)

    async def CancelRun(self, request: pb.CancelRunRequest, context: Context) -> pb.CancelRunResponse:  # noqa: N802
        """Ask a run to end."""
        key = run_key(request.namespace, request.run_id)
        if len(request.reason) > MOST_REASON:
            raise InvalidCall([Violation("reason", f"must have at most {MOST_REASON:,} characters")])
        self._engine.cancel(key, request.reason)
        return pb.CancelRunResponse(run=to_run(await self._engine.info(key)))

    async def DeleteRun(self, request: pb.DeleteRunRequest, context: Context) -> pb.DeleteRunResponse:  # noqa: N802
        """Forget a run that has ended."""
        await self._engine.delete(run_key(request.namespace, request.run_id))
        return pb.DeleteRunResponse()

    async def PlanWorkflow(self, request: pb.PlanWorkflowRequest, context: Context) -> pb.PlanWorkflowResponse:  # noqa: N802
        """Explain how a workflow would run."""
        namespace_of(request.namespace)
        token = from_token(request.page_token, int)
        workflow = await self._preparer.workflow(request)
        plan, following = to_plan(workflow, int(token[0]) if token else 0, page_size(request.page_size, 1_000, 10_000))
        return pb.PlanWorkflowResponse(plan=plan, next_page_token=to_token(following) if following else "")

    async def ListActions(self, request: pb.ListActionsRequest, context: Context) -> pb.ListActionsResponse:  # noqa: N802
        """Return a page of the actions."""
        namespace_of(request.namespace)
        page, following = _page(self._actions, lambda action: action.name, request.page_size, request.page_token)
        return pb.ListActionsResponse(actions=page, next_page_token=following)

    async def ListWorkflows(  # noqa: N802
        self,
        request: pb.ListWorkflowsRequest,
        context: Context,
    ) -> pb.ListWorkflowsResponse:
        """Return a page of the named workflows."""
        namespace_of(request.namespace)
        known = [
            pb.NamedWorkflow(name=workflow.name, step_count=len(workflow.steps), labels=workflow.labels)
            for workflow in self._preparer.workflows
        ]
        page, following = _page(known, lambda workflow: workflow.name, request.page_size, request.page_token)
        return pb.ListWorkflowsResponse(workflows=page, next_page_token=following)

    async def GetServerInfo(  # noqa: N802
        self,
        request: pb.GetServerInfoRequest,
        context: Context,
    ) -> pb.GetServerInfoResponse:
        """Say who is there."""
        namespace_of(request.namespace)
        response = pb.GetServerInfoResponse(server_info=self._info)
        response.server_info.draining = self._engine.draining
        return response


def _parent(context: Context) -> TraceParent | None:
    metadata = context.invocation_metadata() or ()
    return TraceParent.parse({key: value for key, value in metadata if isinstance(value, str)})


def _window(request: pb.ExecuteWorkflowRequest) -> float:
    seconds = from_duration(request.reconnect_window) / 1e9
    if not 0 <= seconds <= MOST_WINDOW:
        raise InvalidCall([Violation("reconnect_window", f"must be between 0 and {MOST_WINDOW} s, got {seconds:g} s")])
    return seconds


def _kinds(values: Sequence[int]) -> list[Kind]:
    known = {kind.value for kind in Kind}
    unknown = [value for value in values if value not in known]
    if unknown:
        raise NotServed([Violation("kinds", f"this server does not know the value {unknown[0]}")])
    return [Kind(value) for value in values]


def _states(values: Sequence[int]) -> frozenset[State]:
    known = {state.value for state in State}
    unknown = [value for value in values if value not in known]
    if unknown:
        raise NotServed([Violation("states", f"this server does not know the value {unknown[0]}")])
    return frozenset(State(value) for value in values)


def _page(items: Sequence[T], name: Callable[[T], str], size: int, token: str) -> tuple[Sequence[T], str]:
    """Return a page of items sorted by name, and the token for the next one."""
    after = from_token(token, str)
    rest = [item for item in items if after is None or name(item) > str(after[0])]
    page = rest[: page_size(size, 100, 1_000)]
    return page, to_token(name(page[-1])) if len(rest) > len(page) else ""
