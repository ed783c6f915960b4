"""`OrchestratorService`: each method parses its request, calls the engine, and converts the result."""

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from enum import IntEnum
from typing import TypeAlias, TypeVar

from google.protobuf.message import Message
from grpc.aio import ServicerContext

from stepwave.v1 import orchestrator_pb2 as pb
from stepwave_server.access.roles import CALL
from stepwave_server.core.info import DEFAULT_NAMESPACE, Load, RunKey
from stepwave_server.core.model import MAX_MESSAGE_CONTENT, SECOND, State
from stepwave_server.engine.base import Engine
from stepwave_server.journal import Listing
from stepwave_server.rpc.attachments import Attachments
from stepwave_server.rpc.completions import parse_completion
from stepwave_server.rpc.pages import page_size, parse_token, to_token
from stepwave_server.rpc.requests import (
    Preparer,
    checked,
    parse_key,
    parse_namespace,
    run_key,
)
from stepwave_server.rpc.shared_attachments import SharedAttachments
from stepwave_server.telemetry import TraceParent
from stepwave_server.wire.events.encode import Kind, decode, decode_all, to_step_results
from stepwave_server.wire.responses.explain_run import to_explanation
from stepwave_server.wire.responses.plan_workflow import to_plan
from stepwave_server.wire.responses.results import to_run
from stepwave_server.wire.responses.server_info import to_action, to_limit, to_stats, to_waiting
from stepwave_server.wire.values import from_duration, from_time
from stepwave_server.wire.workflows.definition import parts_of_definition, to_definition
from stepwave_server.wire.workflows.workflow import Parsed

__all__ = ["Orchestrator"]

M = TypeVar("M", bound=Message)
Context: TypeAlias = ServicerContext[Message, Message]

RUN_ID_HEADER = "stepwave-run-id"
MAX_WINDOW = 3600
MAX_REASON = 1_024


class Orchestrator:
    """The service's methods. Streams yield bytes, because events are encoded once, when they are made.

    Args:
        engine: Drives the runs.
        preparer: Turns requests into runs.
        attachments: The attached runs and their streams.
        info: The server's description; `draining` is set per call.
        load: Returns what the server does now.
    """

    def __init__(
        self,
        engine: Engine,
        preparer: Preparer,
        attachments: Attachments | SharedAttachments,
        info: pb.ServerInfo,
        load: Callable[[], Load],
    ) -> None:
        self._engine = engine
        self._preparer = preparer
        self._attachments = attachments
        self._info = info
        self._load = load

    @property
    def engine_name(self) -> str:
        """The name of the engine."""
        return self._info.engine

    async def ExecuteWorkflow(  # noqa: N802 - the contract's name, as below
        self, request: pb.ExecuteWorkflowRequest, context: Context
    ) -> AsyncGenerator[bytes, None]:
        """Start an attached run and stream its events."""
        parsed = self._preparer.parsed()
        kinds = _kinds(request.kinds, parsed)
        window = _window(request, parsed)
        submission = await self._preparer.submission(request, _parent(context), parsed, window)
        if await self._engine.start(submission):
            self._attachments.add(submission.key, window)
        CALL.get().note_start(submission.key.run_id)
        async with aclosing(self._watch_attached(submission.key, 0, kinds, context, announced=True)) as stream:
            async for data in stream:
                yield data

    async def StartRun(self, request: pb.StartRunRequest, context: Context) -> pb.StartRunResponse:  # noqa: N802
        """Start a detached run."""
        submission = await self._preparer.submission(request, _parent(context), self._preparer.parsed())
        if not await self._engine.start(submission):
            self._attachments.detach(submission.key)
            await self._engine.detach(submission.key)
        CALL.get().note_start(submission.key.run_id)
        return pb.StartRunResponse(run=to_run(await self._engine.info(submission.key)))

    async def WatchRun(self, request: pb.WatchRunRequest, context: Context) -> AsyncGenerator[bytes, None]:  # noqa: N802
        """Stream a run's events after a number."""
        with checked() as parsed:
            key = parse_key(request.namespace, request.run_id, parsed)
            kinds = _kinds(request.kinds, parsed)
        if request.attach:
            watch = self._watch_attached(key, request.after_sequence, kinds, context)
        else:
            watch = self._watch(key, request.after_sequence, kinds)
        async with aclosing(watch) as stream:
            async for data in stream:
                yield data

    async def _watch(self, key: RunKey, after: int, kinds: Sequence[Kind]) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._engine.watch(key, after, kinds)) as batches:
            async for batch in batches:
                yield batch.data

    async def _watch_attached(
        self, key: RunKey, after: int, kinds: Sequence[Kind], context: Context, *, announced: bool = False
    ) -> AsyncGenerator[bytes, None]:
        """Attach the stream to a run, and stream its events. Send the run's id before them if it is to be announced."""
        first = pb.ExecuteWorkflowResponse(run_id=key.run_id).SerializeToString() if announced else b""
        with self._attachments.attach(key) as attachment:
            async with aclosing(self._engine.watch(key, after, kinds, first)) as batches:
                async for batch in batches:
                    if announced:
                        await context.send_initial_metadata(((RUN_ID_HEADER, key.run_id),))
                        announced = False
                    attachment.ended = batch.last
                    yield batch.data

    async def AddSteps(self, request: pb.AddStepsRequest, context: Context) -> pb.AddStepsResponse:  # noqa: N802
        """Add steps to an open run."""
        key, addition = await self._preparer.addition(request)
        await self._engine.add_steps(key, addition)
        return pb.AddStepsResponse(run=to_run(await self._engine.info(key)))

    async def CompleteStep(  # noqa: N802
        self,
        request: pb.CompleteStepRequest,
        context: Context,
    ) -> pb.CompleteStepResponse:
        """Complete a step that waits."""
        with checked(self._preparer.parsed()) as parsed:
            key = parse_key(request.namespace, request.run_id, parsed)
            completion = parse_completion(request, parsed)
        await self._engine.complete(key, completion)
        return pb.CompleteStepResponse(run=to_run(await self._engine.info(key)))

    async def GetRun(self, request: pb.GetRunRequest, context: Context) -> pb.GetRunResponse:  # noqa: N802
        """Return the current state of a run."""
        key = run_key(request.namespace, request.run_id)
        info = await self._engine.info(key)
        return pb.GetRunResponse(run=to_run(info), waiting=map(to_waiting, self._engine.waiting(key)))

    async def GetResult(self, request: pb.GetResultRequest, context: Context) -> pb.GetResultResponse:  # noqa: N802
        """Return the result of a run that has ended."""
        record = await self._engine.result(run_key(request.namespace, request.run_id))
        return pb.GetResultResponse(result=decode(record).run_finished.result)

    async def ListStepResults(  # noqa: N802
        self,
        request: pb.ListStepResultsRequest,
        context: Context,
    ) -> pb.ListStepResultsResponse:
        """Return a page of the results of a run's steps."""
        with checked() as parsed:
            key = parse_key(request.namespace, request.run_id, parsed)
            token = parse_token(request, parsed, int)
        page = await self._engine.steps(key, int(token[0]) if token else 0, page_size(request.page_size, 1_000, 10_000))
        following = to_token(request, page.next_index) if page.next_index else ""
        return pb.ListStepResultsResponse(step_results=to_step_results(page.steps), next_page_token=following)

    async def ListRunLogs(self, request: pb.ListRunLogsRequest, context: Context) -> pb.ListRunLogsResponse:  # noqa: N802
        """Return a page of what the actions of a run have logged."""
        with checked() as parsed:
            key = parse_key(request.namespace, request.run_id, parsed)
            token = parse_token(request, parsed, int)
        after = int(token[0]) if token else 0
        page = await self._engine.logs(key, request.step_id, after, page_size(request.page_size, 1_000, 10_000))
        following = to_token(request, page.next_after) if page.next_after else ""
        return pb.ListRunLogsResponse(
            events=decode_all(page.events), next_page_token=following, dropped_count=page.dropped
        )

    async def ListRuns(self, request: pb.ListRunsRequest, context: Context) -> pb.ListRunsResponse:  # noqa: N802
        """Return a page of runs, the newest first."""
        with checked() as parsed:
            namespace = parse_namespace(request.namespace, parsed)
            states = _states(request.states, parsed)
            token = parse_token(request, parsed, int, str)
        listing = Listing(
            namespace=namespace,
            states=states,
            workflow_name=request.workflow_name,
            prefix=request.run_id_prefix,
            labels=dict(request.labels),
            since=from_time(request.create_time_from) if request.HasField("create_time_from") else None,
            until=from_time(request.create_time_before) if request.HasField("create_time_before") else None,
        )
        before = (int(token[0]), str(token[1])) if token else None
        page = await self._engine.list_runs(listing, before, page_size(request.page_size, 100, 1_000))
        runs = _fitting([to_run(info) for info in page.runs])
        last = page.runs[len(runs) - 1] if page.more or len(runs) < len(page.runs) else None
        following = to_token(request, last.create_time, last.key.run_id) if last else ""
        return pb.ListRunsResponse(runs=runs, next_page_token=following)

    async def CancelRun(self, request: pb.CancelRunRequest, context: Context) -> pb.CancelRunResponse:  # noqa: N802
        """Cancel a run."""
        with checked() as parsed:
            key = parse_key(request.namespace, request.run_id, parsed)
            if len(request.reason) > MAX_REASON:
                parsed.blame("reason", f"must have at most {MAX_REASON:,} characters")
        await self._engine.cancel(key, request.reason, CALL.get().caller.name)
        return pb.CancelRunResponse(run=to_run(await self._engine.info(key)))

    async def DeleteRun(self, request: pb.DeleteRunRequest, context: Context) -> pb.DeleteRunResponse:  # noqa: N802
        """Forget a run that has ended."""
        await self._engine.delete(run_key(request.namespace, request.run_id))
        return pb.DeleteRunResponse()

    async def ExportRun(self, request: pb.ExportRunRequest, context: Context) -> AsyncGenerator[bytes, None]:  # noqa: N802
        """Stream a run's definition and all its events."""
        key = run_key(request.namespace, request.run_id)
        header = await self._engine.header(key)
        definition = to_definition(
            key=header.key,
            workflow=header.workflow,
            input=header.input,
            options=header.options,
            create_time=header.create_time,
            rerun_of=header.rerun_of,
        )
        for part in parts_of_definition(definition):
            yield pb.ExportRunResponse(definition=part).SerializeToString()
        async with aclosing(self._engine.export(key)) as parts:
            async for data in parts:
                yield data

    async def ExplainRun(self, request: pb.ExplainRunRequest, context: Context) -> pb.ExplainRunResponse:  # noqa: N802
        """Explain what a run waits for."""
        return to_explanation(await self._engine.explain(run_key(request.namespace, request.run_id)))

    async def PlanWorkflow(self, request: pb.PlanWorkflowRequest, context: Context) -> pb.PlanWorkflowResponse:  # noqa: N802
        """Explain how a workflow would run."""
        parsed = self._preparer.parsed()
        namespace = parse_namespace(request.namespace, parsed)
        token = parse_token(request, parsed, int)
        workflow = await self._preparer.workflow(request, namespace, parsed)
        plan, following = to_plan(workflow, int(token[0]) if token else 0, page_size(request.page_size, 1_000, 10_000))
        return pb.PlanWorkflowResponse(plan=plan, next_page_token=to_token(request, following) if following else "")

    async def ListActions(self, request: pb.ListActionsRequest, context: Context) -> pb.ListActionsResponse:  # noqa: N802
        """Return a page of the server's actions."""
        actions = [
            to_action(
                name=action.name,
                description=action.description,
                input_schema=action.input_schema,
                output_schema=action.output_schema,
                streaming=action.streaming,
                idempotent=action.idempotent,
                source=action.source,
            )
            for action in await self._engine.list_actions()
            if self._engine.options.may_call(request.namespace or DEFAULT_NAMESPACE, action.name)
        ]
        page, following = _page(request, actions, lambda action: action.name)
        return pb.ListActionsResponse(actions=map(self._limited, page), next_page_token=following)

    def _limited(self, action: pb.Action) -> pb.Action:
        """Return an action with the current state of its limits."""
        limits = self._engine.limits(action.name)
        if not limits:
            return action
        limited = pb.Action(limits=map(to_limit, limits))
        limited.MergeFrom(action)
        return limited

    async def ListWorkflows(  # noqa: N802
        self,
        request: pb.ListWorkflowsRequest,
        context: Context,
    ) -> pb.ListWorkflowsResponse:
        """Return a page of the named workflows."""
        named = [
            pb.NamedWorkflow(
                name=workflow.message.name,
                step_count=len(workflow.message.steps),
                labels=workflow.message.labels,
                digest=workflow.digest,
                input_schema=workflow.message.input_schema,
            )
            for workflow in self._preparer.workflows
        ]
        page, following = _page(request, named, lambda workflow: workflow.name)
        return pb.ListWorkflowsResponse(workflows=page, next_page_token=following)

    async def GetServerInfo(  # noqa: N802
        self,
        request: pb.GetServerInfoRequest,
        context: Context,
    ) -> pb.GetServerInfoResponse:
        """Return server info."""
        with checked() as parsed:
            parse_namespace(request.namespace, parsed)
        response = pb.GetServerInfoResponse(server_info=self._info)
        response.server_info.draining = self._engine.draining
        if request.stats:
            response.stats.CopyFrom(to_stats(self._load(), time.time_ns()))
        return response


def _parent(context: Context) -> TraceParent | None:
    metadata = context.invocation_metadata() or ()
    return TraceParent.parse({key: value for key, value in metadata if isinstance(value, str)})


def _window(request: pb.ExecuteWorkflowRequest, parsed: Parsed) -> float:
    seconds = from_duration(request.reconnect_window) / SECOND
    if not 0 <= seconds <= MAX_WINDOW:
        parsed.blame("reconnect_window", f"must be between 0 and {MAX_WINDOW} s, got {seconds:g} s")
    return seconds


def _kinds(values: Sequence[int], parsed: Parsed) -> list[Kind]:
    if not values:  # the common case
        return []
    return [Kind(value) for value in _known(values, Kind, "kinds", parsed)]


def _states(values: Sequence[int], parsed: Parsed) -> frozenset[State]:
    return frozenset(State(value) for value in _known(values, State, "states", parsed))


def _known(values: Sequence[int], choices: type[IntEnum], path: str, parsed: Parsed) -> Sequence[int]:
    unknown = sorted(set(values) - {choice.value for choice in choices})
    if unknown:
        parsed.refuse(path, f"this server does not know the value {unknown[0]}")
        return ()
    return values


def _page(
    request: pb.ListActionsRequest | pb.ListWorkflowsRequest, items: Sequence[M], name: Callable[[M], str]
) -> tuple[Sequence[M], str]:
    """Return the requested page of items sorted by name, and the token of the next page; empty if there is none."""
    with checked() as parsed:
        parse_namespace(request.namespace, parsed)
        token = parse_token(request, parsed, str)
    after = str(token[0]) if token else ""
    rest = [item for item in items if name(item) > after]
    page = _fitting(rest[: page_size(request.page_size, 100, 1_000)])
    return page, to_token(request, name(page[-1])) if len(rest) > len(page) else ""


def _fitting(messages: Sequence[M]) -> Sequence[M]:
    """Return the messages that fit in a page of `MAX_MESSAGE_CONTENT` bytes, at least one if there are any."""
    size = 0
    for count, message in enumerate(messages):
        size += message.ByteSize()
        if count and size > MAX_MESSAGE_CONTENT:
            return messages[:count]
    return messages
