"""What a client does, once for both faces: every call of the contract, as results of the SDK.

It is written as coroutines over a transport. The asynchronous face awaits them; the synchronous one has a transport
that blocks instead of suspending, and drives each to its end in one step.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from stepwave._building.requests import Definition, RunFilter, Startable, define, order
from stepwave._building.workflow import ActionLike, Workflow
from stepwave._convert.collect import Collector, put_together
from stepwave._convert.results import (
    action_from_proto,
    explanation_from_proto,
    plan_from_proto,
    run_from_proto,
    server_info_from_proto,
    step_from_proto,
    workflow_from_proto,
)
from stepwave._model.catalog import ActionInfo, NamedWorkflow, Plan, ServerInfo
from stepwave._model.explanation import RunExplanation
from stepwave._model.report import RunReport
from stepwave._model.results import Run, RunResult, State, StepResult
from stepwave._reports.export import RunExport
from stepwave._transport.base import (
    ACTIONS,
    CANCEL,
    DELETE,
    EXPLAIN,
    EXPORT,
    GET,
    INFO,
    PLAN,
    RESULT,
    RUNS,
    START,
    STEPS,
    WORKFLOWS,
    Transport,
    Unary,
)
from stepwave._transport.channel import check_plain_text, resolve_address
from stepwave._transport.link import Link, LinkSettings
from stepwave._values.payload import JSON, Blob, Output
from stepwave._values.time import Seconds, to_duration, to_seconds
from stepwave.exceptions import ParallelFailed, ServerError
from stepwave.v1 import event_pb2
from stepwave.v1 import orchestrator_pb2 as pb

from .follow import Follower
from .live import LiveRun, Watch, checked

__all__ = ["Session", "connect"]

_STEPS_A_PAGE = 10_000
_RUNS_A_PAGE = 1_000


class _PageRequest(Protocol):
    page_token: str


class _Page(Protocol):
    @property
    def next_page_token(self) -> str: ...


Paged = TypeVar("Paged", bound=_PageRequest)
APage = TypeVar("APage", bound=_Page)


def connect(
    transport: Callable[[str], Transport],
    address: str | None,
    *,
    timeout: Seconds,
    connect_timeout: Seconds,
    reconnect_window: Seconds,
    namespace: str,
    insecure: bool,
) -> "Session":
    """Return a session by the settings of a client; nothing is sent yet.

    Raises:
        ValueError: The address is malformed, or is another machine's and `insecure` was not said.
    """
    resolved = resolve_address(address)
    check_plain_text(resolved, insecure=insecure)
    settings = LinkSettings(
        namespace=namespace,
        timeout=to_seconds(timeout),
        connect_timeout=to_seconds(connect_timeout),
        reconnect_window=to_seconds(reconnect_window),
    )
    return Session(Link(transport(resolved), settings))


class Session:
    """A client without a face.

    Args:
        link: The way to the server.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._namespace = link.settings.namespace

    @property
    def address(self) -> str:
        """Where the server is looked for."""
        return self._link.transport.address

    def run(self, workflow: Startable, input: JSON | Blob, *, run_id: str | None, timeout: Seconds | None) -> LiveRun:
        """Prepare a run that starts when it is opened or completed."""
        request = pb.ExecuteWorkflowRequest(namespace=self._namespace)
        order(request, workflow, input, run_id)
        request.reconnect_window.CopyFrom(to_duration(self._link.settings.reconnect_window))
        return LiveRun(self._link, request, timeout=None if timeout is None else to_seconds(timeout))

    async def start(self, workflow: Startable, input: JSON | Blob, *, run_id: str | None) -> Run:
        """Start a run that nobody holds."""
        request = pb.StartRunRequest(namespace=self._namespace)
        order(request, workflow, input, run_id)
        return run_from_proto((await self._link.call(START, request)).run)

    def watch(self, run_id: str, *, after: int, kinds: Iterable[str], attach: bool) -> Watch:
        """Prepare to watch a run."""
        return Watch(self._follower(run_id, after=after, kinds=kinds, attach=attach), Collector())

    async def get(self, run_id: str) -> Run:
        """Return a run as it stands now."""
        request = pb.GetRunRequest(namespace=self._namespace, run_id=run_id)
        response = await self._link.call(GET, request)
        return run_from_proto(response.run, response.waiting)

    async def result(self, run_id: str) -> RunResult:
        """Return what a run came to."""
        request = pb.GetResultRequest(namespace=self._namespace, run_id=run_id)
        message = (await self._link.call(RESULT, request)).result
        return put_together(message, {step.step_id: step async for step in self.steps(run_id)})

    async def wait(self, run_id: str, *, check: bool, within: Seconds | None) -> RunResult:
        """Wait for a run's end, and return what it came to."""
        timeout = None if within is None else to_seconds(within)
        deadline = None if timeout is None else self._link.transport.now() + timeout
        follower = self._follower(run_id, kinds=("run_finished",), timeout=timeout)
        try:
            while await follower.read():
                pass
        finally:
            await follower.close()
        # The server may be restarted just now: that is borne here as it was by the stream.
        result = await Session(self._link.lasting(deadline)).result(run_id)
        return checked(result) if check else result

    async def steps(self, run_id: str) -> AsyncIterator[StepResult]:
        """Yield what a run's steps came to so far."""
        request = pb.ListStepResultsRequest(namespace=self._namespace, run_id=run_id, page_size=_STEPS_A_PAGE)
        async for page in self._pages(STEPS, request):
            for message in page.step_results:
                yield step_from_proto(message)

    async def runs(self, wanted: RunFilter, *, limit: int | None) -> AsyncIterator[Run]:
        """Yield runs, the newest first."""
        left = limit if limit is not None else -1
        request = wanted.to_proto(self._namespace)
        request.page_size = min(_RUNS_A_PAGE, limit) if limit else _RUNS_A_PAGE
        if left == 0:
            return
        async for page in self._pages(RUNS, request):
            for message in page.runs:
                yield run_from_proto(message)
                left -= 1
                if left == 0:
                    return

    async def cancel(self, run_id: str, reason: str) -> Run:
        """Cancel a run."""
        request = pb.CancelRunRequest(namespace=self._namespace, run_id=run_id, reason=reason)
        return run_from_proto((await self._link.call(CANCEL, request)).run)

    async def delete(self, run_id: str) -> None:
        """Forget a run that has ended."""
        await self._link.call(DELETE, pb.DeleteRunRequest(namespace=self._namespace, run_id=run_id))

    async def export(self, run_id: str) -> RunExport:
        """Return all that is kept of a run."""
        request = pb.ExportRunRequest(namespace=self._namespace, run_id=run_id)
        parts = await self._link.read_all(EXPORT, request)
        if not parts:
            raise ServerError(f"run {run_id!r}: an export without anything in it")
        return RunExport(parts[0].definition, tuple(event for part in parts for event in part.events))

    async def report(self, run_id: str) -> RunReport:
        """Return where a run's time went; of one under way, up to now by its server's clock."""
        export = await self.export(run_id)
        ended = export.events and export.events[-1].HasField("run_finished")
        until = None if ended else (await self.explain(run_id)).time
        return await self._link.transport.computed(lambda: export.report(until))

    async def explain(self, run_id: str) -> RunExplanation:
        """Return what a run waits for."""
        request = pb.ExplainRunRequest(namespace=self._namespace, run_id=run_id)
        return explanation_from_proto(await self._link.call(EXPLAIN, request))

    async def plan(self, workflow: Definition) -> Plan:
        """Validate a workflow and explain how it would run."""
        request = pb.PlanWorkflowRequest(namespace=self._namespace, page_size=_STEPS_A_PAGE)
        define(request, workflow)
        pages = [page async for page in self._pages(PLAN, request)]
        return plan_from_proto(pages[0].plan, [step for page in pages for step in page.plan.steps])

    async def actions(self) -> list[ActionInfo]:
        """Return the actions of the server."""
        request = pb.ListActionsRequest(namespace=self._namespace)
        return [action_from_proto(item) async for page in self._pages(ACTIONS, request) for item in page.actions]

    async def workflows(self) -> list[NamedWorkflow]:
        """Return the named workflows of the server."""
        request = pb.ListWorkflowsRequest(namespace=self._namespace)
        return [workflow_from_proto(item) async for page in self._pages(WORKFLOWS, request) for item in page.workflows]

    async def server_info(self) -> ServerInfo:
        """Return what the server is and can do."""
        request = pb.GetServerInfoRequest(namespace=self._namespace)
        return server_info_from_proto((await self._link.call(INFO, request)).server_info)

    async def parallel(
        self, actions: Sequence[ActionLike], input: JSON | Blob, *, within: Seconds | None
    ) -> list[Output]:
        """Run actions side by side on the same input, and return their answers in the order of the arguments."""
        if not actions:
            return []
        # `continue`: which index is the lowest to fail must not depend on which fails first.
        workflow = Workflow("parallel", failure_policy="continue")
        for index, action in enumerate(actions):
            workflow.step(f"p{index}", action)
        return _answers(await self.run(workflow, input, run_id=None, timeout=within).complete(), len(actions))

    async def close(self) -> None:
        """Free the connection. Idempotent."""
        await self._link.transport.close()

    def _follower(
        self,
        run_id: str,
        *,
        after: int = 0,
        kinds: Iterable[str] = (),
        attach: bool = False,
        timeout: float | None = None,
    ) -> Follower:
        request = pb.WatchRunRequest(
            namespace=self._namespace,
            run_id=run_id,
            after_sequence=after,
            attach=attach,
            kinds=[_kind_number(kind) for kind in kinds],
        )
        return Follower(self._link, request, timeout=timeout)

    async def _pages(self, method: Unary[Paged, APage], request: Paged) -> AsyncIterator[APage]:
        while True:
            page = await self._link.call(method, request)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token


def _answers(result: RunResult, count: int) -> list[Output]:
    if result.state is State.CANCELLED:
        checked(result)
    steps = [result.steps[f"p{index}"] for index in range(count)]
    answered = [step.state is State.SUCCEEDED for step in steps]
    answers = [step.output for step in steps]
    if not all(answered):
        raise ParallelFailed(result, answered.index(False), answers, answered)
    return answers


def _kind_number(kind: str) -> event_pb2.EventKind.ValueType:
    try:
        return event_pb2.EventKind.Value(f"EVENT_KIND_{kind.upper()}")
    except ValueError:
        known = ", ".join(name.removeprefix("EVENT_KIND_").lower() for name in event_pb2.EventKind.keys()[1:])
        raise ValueError(f"unknown kind of event {kind!r}; there are {known}") from None
