"""The calls of a client that only read: of runs, of their steps, and of what a server has."""

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime

from stepwave._building.requests import Definition, RunFilter, Startable, set_workflow
from stepwave._building.workflow import Workflow
from stepwave._convert.collect import assemble_result
from stepwave._convert.events import log_from_proto
from stepwave._convert.paths import in_order, outermost
from stepwave._convert.results import explanation_from_proto, plan_from_proto, run_from_proto, step_from_proto
from stepwave._convert.servers import (
    action_from_proto,
    server_info_from_proto,
    server_stats_from_proto,
    workflow_from_proto,
)
from stepwave._model.catalog import ActionInfo, NamedWorkflow, Plan, ServerInfo, ServerStats
from stepwave._model.events import StepLog
from stepwave._model.explanation import RunExplanation
from stepwave._model.report import RunReport
from stepwave._model.results import Run, RunResult, State, StepResult
from stepwave._reports.export import RunExport
from stepwave._transport.base import (
    ACTIONS,
    EXPLAIN,
    EXPORT,
    GET,
    INFO,
    LOGS,
    PLAN,
    RESULT,
    RUNS,
    STEPS,
    WORKFLOWS,
)
from stepwave._transport.link import Link
from stepwave.exceptions import ServerError, Unsupported
from stepwave.v1 import orchestrator_pb2 as pb

from .functions import Register, UnknownActionHint

__all__ = ["Queries"]

_STEPS_PER_PAGE = 10_000
_RUNS_PER_PAGE = 1_000
_LOGS_PER_PAGE = 1_000


class Queries:
    """The calls that only read.

    Args:
        link: The link to the server.
        register: Adds actions to the server, if it runs in this process; `None`: another process's server.
    """

    def __init__(self, link: Link, register: Register | None = None) -> None:
        self._link = link
        self._namespace = link.settings.namespace
        self._register = register

    async def get(self, run_id: str) -> Run:
        """Return a run's current state."""
        request = pb.GetRunRequest(namespace=self._namespace, run_id=run_id)
        response = await self._link.call(GET, request)
        return run_from_proto(response.run, response.waiting)

    async def result(self, run_id: str) -> RunResult:
        """Return a run's result, whatever its state.

        Raises:
            FailedPrecondition: The run has not ended: see `wait`.
        """
        request = pb.GetResultRequest(namespace=self._namespace, run_id=run_id)
        message = (await self._link.call(RESULT, request)).result
        steps = {step.step_id: step async for step in self.steps(run_id)}
        return assemble_result(message, _in_order(steps))

    async def steps(self, run_id: str) -> AsyncIterator[StepResult]:
        """Iterate over the results of a run's steps so far, in the order of their declaration.

        The run may be under way. All its steps come, those that have not ended as `pending` or `running`: without
        output, failure and `end_time`, and with the number of `attempts` so far. A step is `running` from the start of
        its first attempt to its end, in the pauses between attempts too.

        Raises:
            NotFound: There is no such run.
        """
        request = pb.ListStepResultsRequest(namespace=self._namespace, run_id=run_id, page_size=_STEPS_PER_PAGE)
        async for page in self._link.pages(STEPS, request):
            for message in page.step_results:
                yield step_from_proto(message)

    async def logs(self, run_id: str, step: str | None = None) -> AsyncIterator[StepLog]:
        """Iterate over what the actions of a run have logged so far, in order.

        The server keeps the newest messages in memory: at most 1,000 of a run, and 256 KiB. They do not outlive the
        server. An `index` of the first message above 1 shows that earlier ones were dropped. To see messages as they
        are logged, iterate over the events of the run: those of the kind `step_log`.

        Args:
            run_id: The run.
            step: Only messages of this step; `None`: all.

        Raises:
            NotFound: There is no such run.
        """
        request = pb.ListRunLogsRequest(
            namespace=self._namespace, run_id=run_id, step_id=step or "", page_size=_LOGS_PER_PAGE
        )
        async for page in self._link.pages(LOGS, request):
            for event in page.events:
                yield log_from_proto(event)

    async def runs(
        self,
        *,
        states: Iterable[State | str] = (),
        workflow: str | None = None,
        prefix: str = "",
        labels: Mapping[str, str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[Run]:
        """Iterate over runs, the newest first.

        Args:
            states: Only runs in one of these states; empty: in any.
            workflow: Only runs of the workflow with this name.
            prefix: Only runs whose id begins with this.
            labels: Only runs whose workflow has all these labels.
            since: Only runs accepted at this time or later; a time without a zone is local.
            until: Only runs accepted before this time.
            limit: The largest number of runs; `None`: no limit.
        """
        wanted = RunFilter(states=states, workflow=workflow, prefix=prefix, labels=labels, since=since, until=until)
        request = wanted.to_proto(self._namespace)
        request.page_size = min(_RUNS_PER_PAGE, limit) if limit else _RUNS_PER_PAGE
        left = limit if limit is not None else -1
        if left == 0:
            return
        async for page in self._link.pages(RUNS, request):
            for message in page.runs:
                yield run_from_proto(message)
                left -= 1
                if left == 0:
                    return

    async def export(self, run_id: str) -> RunExport:
        """Return a run's definition and its events so far: for a file, or for `stepwave.testing.replay`.

        (await client.export(run_id)).save("runs/briefing.json")
        """
        request = pb.ExportRunRequest(namespace=self._namespace, run_id=run_id)
        parts = await self._link.read_all(EXPORT, request)
        if not parts:
            raise ServerError(f"run {run_id!r}: the server sent an empty export")
        definition = pb.RunDefinition()
        for part in parts:
            definition.MergeFrom(part.definition)
        return RunExport(definition, tuple(event for part in parts for event in part.events))

    async def report(self, run_id: str) -> RunReport:
        """Return where a run's time went: its critical path, what the time was spent on, and what could be saved.

        A run under way is reported up to now. `RunExport.load(path).report()` does the same without a server.
        """
        export = await self.export(run_id)
        ended = export.events and export.events[-1].HasField("run_finished")
        until = None if ended else (await self.explain(run_id)).time  # now, by the server's clock
        return await self._link.transport.computed(lambda: export.report(until))

    async def explain(self, run_id: str) -> RunExplanation:
        """Return what each unfinished step of a run does or waits for, and since when.

        For a running Python action this includes its current line of code, unless the server withholds tracebacks. A
        run that has ended has no such steps: see `report`.
        """
        request = pb.ExplainRunRequest(namespace=self._namespace, run_id=run_id)
        return explanation_from_proto(await self._link.call(EXPLAIN, request))

    async def plan(self, workflow: Definition) -> Plan:
        """Validate a workflow and explain how it would run. Nothing is invoked.

        Raises:
            InvalidWorkflow: The workflow is malformed; every problem is listed.
        """
        return plan_from_proto(*await self._planned(workflow))

    async def _planned(self, workflow: Definition) -> tuple[pb.Plan, list[pb.PlannedStep]]:
        """Return the plan of a workflow, and its steps, as messages."""
        request = pb.PlanWorkflowRequest(namespace=self._namespace, page_size=_STEPS_PER_PAGE)
        set_workflow(request, workflow)
        with self._register_functions(workflow):
            pages = [page async for page in self._link.pages(PLAN, request)]
        return pages[0].plan, [step for page in pages for step in page.plan.steps]

    async def actions(self) -> list[ActionInfo]:
        """Return the actions of the server, by name."""
        request = pb.ListActionsRequest(namespace=self._namespace)
        return [action_from_proto(item) async for page in self._link.pages(ACTIONS, request) for item in page.actions]

    async def workflows(self) -> list[NamedWorkflow]:
        """Return the named workflows of the server, by name."""
        request = pb.ListWorkflowsRequest(namespace=self._namespace)
        return [
            workflow_from_proto(item) async for page in self._link.pages(WORKFLOWS, request) for item in page.workflows
        ]

    async def server_info(self) -> ServerInfo:
        """Return the server's version, limits and capabilities."""
        request = pb.GetServerInfoRequest(namespace=self._namespace)
        return server_info_from_proto((await self._link.call(INFO, request)).server_info)

    async def server_stats(self) -> ServerStats:
        """Return what the server does now: runs, attempts by action, streams, limits and commits.

        Raises:
            Unsupported: The server is of an earlier version, and does not know it.
        """
        request = pb.GetServerInfoRequest(namespace=self._namespace, stats=True)
        response = await self._link.call(INFO, request)
        if not response.HasField("stats"):
            raise Unsupported("the server does not tell what it does: it is of an earlier version")
        return server_stats_from_proto(response.stats)

    def _register_functions(self, workflow: Startable) -> UnknownActionHint:
        """Add the functions of a workflow to a server in this process, and return the hint for those that it lacks.

        Raises:
            InvalidWorkflow: A function cannot be added.
        """
        if self._register is not None and isinstance(workflow, Workflow):
            self._register(workflow.actions)
        return UnknownActionHint(workflow, in_process=self._register is not None)


def _in_order(steps: dict[str, StepResult]) -> dict[str, StepResult]:
    """Return steps in declaration order, and those within a step after it."""
    declared = [step_id for step_id in steps if outermost(step_id) == step_id]
    if len(declared) == len(steps):
        return steps
    return {step_id: steps[step_id] for step_id in in_order(steps, declared)}
