"""Requests to the engine's types: namespaces, run ids and prepared submissions."""

import asyncio
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from stepwave._actions.action import UNKNOWN_ACTION
from stepwave._values.ids import new_run_id
from stepwave.v1 import orchestrator_pb2, workflow_pb2
from stepwave_server.access.roles import CALL
from stepwave_server.core.evolve import new_run
from stepwave_server.core.info import DEFAULT_NAMESPACE, RunKey, seed_of
from stepwave_server.core.messages import AddSteps, StepFinished
from stepwave_server.core.model import Payload, Step, Workflow
from stepwave_server.core.result import reusable
from stepwave_server.core.state import RunOptions
from stepwave_server.core.validate import Violation
from stepwave_server.engine.base import Engine, EngineOptions, Submission, not_allowed
from stepwave_server.engine.errors import RunNotFound
from stepwave_server.engine.evaluation.checks import expression_violations
from stepwave_server.journal import Header
from stepwave_server.rpc.statuses import InvalidCall, NotServed, WorkflowNotFound
from stepwave_server.rpc.workflows import Workflows, WorkflowsError
from stepwave_server.telemetry import TraceParent
from stepwave_server.wire.workflows.content import called_actions, same_content
from stepwave_server.wire.workflows.input_schema import input_problems
from stepwave_server.wire.workflows.parsing import parse_duration
from stepwave_server.wire.workflows.submitted import parse_submitted
from stepwave_server.wire.workflows.workflow import Parsed, parse_payload, parse_step, parse_workflow

__all__ = [
    "Preparer",
    "checked",
    "parse_key",
    "parse_namespace",
    "run_key",
]

RUN_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,127}")
UNNAMED = "_"
LARGE = 1_000
"""Steps above which a workflow is prepared on a thread, so that it does not block the event loop."""
CHARACTERS = 5
"""Characters of an expression that take about as long as a step."""

Start = orchestrator_pb2.ExecuteWorkflowRequest | orchestrator_pb2.StartRunRequest
Definition = Start | orchestrator_pb2.PlanWorkflowRequest


@contextmanager
def checked(parsed: Parsed | None = None) -> Iterator[Parsed]:
    """Collect the problems of a request while inside. Reject the request at the end if there are any.

    Args:
        parsed: An empty collection of problems, with the bounds of the server; `None`: a new one.

    Raises:
        InvalidCall, NotServed: The request has problems; all are listed.
    """
    parsed = parsed or Parsed()
    yield parsed
    reject(parsed)


def reject(parsed: Parsed) -> None:
    """Reject a request if problems were found.

    Raises:
        InvalidCall, NotServed: The request has problems; all are listed.
    """
    if parsed.invalid:
        raise InvalidCall([*parsed.invalid, *parsed.unsupported])
    if parsed.unsupported:
        raise NotServed(parsed.unsupported)


def parse_namespace(namespace: str, parsed: Parsed) -> str:
    """Return the namespace of a request."""
    name, served = namespace or DEFAULT_NAMESPACE, CALL.get().namespaces
    if name not in served:
        only = f'this server has the namespace "{DEFAULT_NAMESPACE}" only'
        parsed.refuse("namespace", only if list(served) == [DEFAULT_NAMESPACE] else "this server does not have it")
    return name


def parse_key(namespace: str, run_id: str, parsed: Parsed, path: str = "run_id") -> RunKey:
    """Return the key of the run that a request names in the field `path`."""
    if not RUN_ID.fullmatch(run_id):
        problem = f'malformed run id "{run_id}": want {RUN_ID.pattern}' if run_id else "must not be empty"
        parsed.blame(path, problem)
    return RunKey(parse_namespace(namespace, parsed), run_id)


def run_key(namespace: str, run_id: str) -> RunKey:
    """Return the key of the run that a request names.

    Raises:
        InvalidCall, NotServed: The run id or the namespace is malformed or not served.
    """
    with checked() as parsed:
        return parse_key(namespace, run_id, parsed)


@dataclass(frozen=True, slots=True)
class _EarlierRun:
    """A run to run again.

    Attributes:
        run_id: Its id.
        workflow: Its workflow.
        input: Its input.
        finished: Its finished steps, if their outputs may be reused; else empty.
    """

    run_id: str
    workflow: workflow_pb2.Workflow
    input: Payload
    finished: Sequence[StepFinished]


@dataclass(frozen=True, slots=True)
class _Draft:
    """A run to start, before its workflow is checked.

    Attributes:
        key: Its key.
        workflow: Its workflow.
        parent: The caller's span.
        window: Its reconnect window in seconds; `None`: the run is detached.
        earlier: The run that it runs again; `None`: it is not a rerun.
        existing: The header of a run of the same id, if there is one.
        idle_timeout: The time that it may be idle, in nanoseconds; `None`: it is not open.
    """

    key: RunKey
    workflow: workflow_pb2.Workflow
    parent: TraceParent | None
    window: float | None
    earlier: _EarlierRun | None
    existing: Header | None
    idle_timeout: int | None


@dataclass(frozen=True, slots=True)
class Preparer:
    """Turns requests into workflows and submissions. All problems of a request are reported together.

    Attributes:
        engine: Checks workflows and knows earlier runs.
        workflows: The named workflows.
        options: The engine's options.
    """

    engine: Engine
    workflows: Workflows
    options: EngineOptions

    async def check_named(self, *, unknown_actions: bool = True) -> None:
        """Check the named workflows, also against each other and against the actions of this server.

        Args:
            unknown_actions: Whether an action that does not exist is a problem.

        Raises:
            WorkflowsError: There are problems. All problems of all files are listed, each with its place.
        """
        if problems := await self.named_problems(unknown_actions=unknown_actions):
            raise WorkflowsError(problems)

    async def named_problems(self, *, unknown_actions: bool = True) -> list[str]:
        """Return the problems of the named workflows, each with its place, file by file.

        Args:
            unknown_actions: Whether an action that the server does not have is a problem.
        """
        problems = list(self.workflows.problems)
        calls = self.workflows.call_problems()
        for workflow in self.workflows:
            violations = [*await self._violations(workflow.message), *calls.get(workflow.message.name, ())]
            found = [each for each in violations if unknown_actions or each.reason != UNKNOWN_ACTION]
            if found:
                problems.append(workflow.locate(found))
        return sorted(problems)  # by file

    async def _violations(self, message: workflow_pb2.Workflow) -> Sequence[Violation]:
        """Return why a workflow cannot run here; empty: it can."""
        try:
            request = orchestrator_pb2.PlanWorkflowRequest(workflow=message)
            await self.workflow(request, DEFAULT_NAMESPACE, self.parsed())
        except (InvalidCall, NotServed) as error:
            return error.violations
        return ()

    def parsed(self) -> Parsed:
        """Return an empty collection of problems for a request."""
        return Parsed(self.options.max_payload_bytes)

    async def workflow(self, request: Definition, namespace: str, parsed: Parsed) -> Workflow:
        """Return the workflow of a request.

        Args:
            request: The request.
            namespace: The namespace in which it would run.
            parsed: The problems of its other fields, which are already parsed.

        Raises:
            InvalidCall, NotServed, WorkflowNotFound: The workflow cannot run here.
        """
        message = self._definition(request, parsed)
        self._check_allowed(request.namespace, message.steps, "workflow.steps", parsed)
        await self.engine.find_actions(called_actions(message.steps))
        if _takes_long(message):
            return await asyncio.to_thread(self._checked, message, namespace, parsed)
        return self._checked(message, namespace, parsed)

    async def submission(
        self, request: Start, parent: TraceParent | None, parsed: Parsed, window: float | None = None
    ) -> Submission:
        """Return a run that is ready to start.

        Args:
            request: What to run.
            parent: The caller's span.
            parsed: The problems of its other fields, which are already parsed.
            window: Its reconnect window in seconds; `None`: the run is detached.

        Raises:
            InvalidCall, NotServed, WorkflowNotFound: The run cannot start. No action has been invoked.
            RunNotFound, RunNotEnded: The run to run again does not exist, or has not ended.
        """
        key = parse_key(request.namespace, request.run_id or UNNAMED, parsed)
        earlier = await self._earlier(request, key.namespace, parsed)
        idle_timeout = self._idle_timeout(request, parsed)
        message = self._definition(request, parsed) if earlier is None else earlier.workflow
        if not request.run_id:
            key = RunKey(key.namespace, new_run_id(message.name))
        draft = _Draft(
            key=key,
            workflow=message,
            parent=parent,
            window=window,
            earlier=earlier,
            existing=await self._existing(key) if request.run_id else None,
            idle_timeout=idle_timeout,
        )
        self._check_allowed(key.namespace, message.steps, "workflow.steps", parsed)
        await self.engine.find_actions(called_actions(message.steps))
        if _takes_long(message):
            return await asyncio.to_thread(self._submission, request, draft, parsed)
        return self._submission(request, draft, parsed)

    async def _earlier(self, request: Start, namespace: str, parsed: Parsed) -> _EarlierRun | None:
        """Return the run to run again; `None` if the request is not a rerun."""
        if request.WhichOneof("definition") != "rerun":
            return None
        key = parse_key(namespace, request.rerun.run_id, parsed, "rerun.run_id")
        if request.HasField("input"):
            parsed.blame("input", "must not be set with `rerun`: it is the earlier run's")
        if request.open:
            parsed.blame("open", "must not be set with `rerun`: it takes all steps of the earlier run")
        reject(parsed)
        header = await self.engine.header(key)
        finished = await self.engine.finished_steps(key)
        message = workflow_pb2.Workflow.FromString(header.workflow)
        if header.options.open:
            message.steps.extend(await self.engine.added_steps(key))
        return _EarlierRun(
            run_id=key.run_id,
            workflow=message,
            input=header.input,
            finished=finished if request.rerun.from_failed else (),
        )

    async def _existing(self, key: RunKey) -> Header | None:
        """Return the header of the run of a key; `None` if there is no such run."""
        try:
            return await self.engine.header(key)
        except RunNotFound:
            return None

    def _submission(self, request: Start, draft: _Draft, parsed: Parsed) -> Submission:
        earlier = draft.earlier
        if earlier is not None:
            run_input: Payload = earlier.input
        else:
            run_input = parse_payload(request.input, "input", parsed) if request.HasField("input") else "null"
        submitted = parse_submitted(draft.workflow, self.options.max_payload_bytes)
        workflow, definition = submitted.workflow, submitted.definition
        invalid, unsupported = [*submitted.invalid], submitted.unsupported
        any_problem = invalid or unsupported or parsed.invalid or parsed.unsupported
        if any_problem or not _is_repeat(draft.existing, definition, run_input):
            invalid += self.engine.check(workflow, draft.key.namespace, open_run=request.open)
        parsed.add_workflow(invalid, unsupported)
        if not (parsed.invalid or parsed.unsupported):
            for problem in input_problems(workflow.input_schema, run_input):
                parsed.blame("input", problem)
        reject(parsed)
        return Submission(
            key=draft.key,
            state=new_run(workflow, run_input, self._run_options(draft)),
            definition=definition,
            parent=draft.parent,
            window=draft.window,
            rerun_of=earlier.run_id if earlier is not None else "",
            reused=reusable(workflow, earlier.finished) if earlier is not None else (),
            workflow_digest=submitted.digest,
            created_by=CALL.get().caller.name,
        )

    def _run_options(self, draft: _Draft) -> RunOptions:
        return replace(
            self.options.run,
            open=draft.idle_timeout is not None,
            idle_timeout=draft.idle_timeout,
            seed=seed_of(draft.key),
            max_payload_bytes=self.options.max_payload_bytes,
        )

    def _idle_timeout(self, request: Start, parsed: Parsed) -> int | None:
        """Return the time that a run may be idle, in nanoseconds; `None`: it is not open."""
        if request.HasField("idle_timeout"):
            if not request.open:
                parsed.blame("idle_timeout", "needs `open`: only an open run waits for steps")
            return parse_duration(request.idle_timeout, "idle_timeout", parsed)
        return self.options.idle_timeout if request.open else None

    async def addition(self, request: orchestrator_pb2.AddStepsRequest) -> tuple[RunKey, AddSteps]:
        """Return the steps of a request and the key of their run.

        Raises:
            InvalidCall, NotServed: The request has problems; all are listed.
        """
        parsed = self.parsed()
        key = parse_key(request.namespace, request.run_id, parsed)
        if _takes_long(request):
            steps = await asyncio.to_thread(_parse_steps, request, parsed)
        else:
            steps = _parse_steps(request, parsed)
        addition = AddSteps(steps, request.seal)
        self._check_allowed(key.namespace, request.steps, "steps", parsed)
        if parsed.invalid or parsed.unsupported:
            await self.engine.find_actions(called_actions(request.steps))
            parsed.invalid += self.engine.check_steps(key, addition)
        reject(parsed)
        return key, addition

    def _check_allowed(self, namespace: str, steps: Iterable[workflow_pb2.Step], path: str, parsed: Parsed) -> None:
        """Report the actions that the steps of a namespace may not call."""
        for index, step in enumerate(steps):
            if step.HasField("workflow"):
                self._check_allowed(namespace, step.workflow.steps, f"{path}[{index}].workflow.steps", parsed)
            for name, place in _calls(step):
                if not self.options.may_call(namespace or DEFAULT_NAMESPACE, name):
                    parsed.blame(f"{path}[{index}].{place}", not_allowed(namespace or DEFAULT_NAMESPACE, name))

    def _definition(self, request: Definition, parsed: Parsed) -> workflow_pb2.Workflow:
        match request.WhichOneof("definition"):
            case "workflow":
                return request.workflow
            case "workflow_name":
                found = self.workflows.get(request.workflow_name)
                if found is None:
                    raise WorkflowNotFound(request.workflow_name, self.workflows.unknown(request.workflow_name))
                return found
            case _:
                parsed.blame("workflow", f"is required: set {_choices(request)}")
                raise InvalidCall([*parsed.invalid, *parsed.unsupported])

    def _checked(self, message: workflow_pb2.Workflow, namespace: str, parsed: Parsed) -> Workflow:
        found = self.parsed()
        workflow = parse_workflow(message, found)
        found.invalid += self.engine.check(workflow, namespace, open_run=False)
        parsed.add_workflow(found.invalid, found.unsupported)
        reject(parsed)
        return workflow


def _calls(step: workflow_pb2.Step) -> Iterator[tuple[str, str]]:
    """Yield the names of the actions that a step calls itself, each with its field."""
    if step.action:
        yield step.action, "action"
    if step.HasField("fallback") and (name := step.fallback.action.action):
        yield name, "fallback.action.action"


def _parse_steps(request: orchestrator_pb2.AddStepsRequest, parsed: Parsed) -> tuple[Step, ...]:
    steps = tuple(parse_step(step, f"steps[{index}]", parsed) for index, step in enumerate(request.steps))
    expression_violations(steps)  # compiles them here: the check on the event loop then finds them compiled
    return steps


def _takes_long(message: workflow_pb2.Workflow | orchestrator_pb2.AddStepsRequest) -> bool:
    """Return whether the checks of steps, of their expressions and of schemas may block the event loop for long."""
    work = 0
    for part in _work(message):
        work += part
        if work > LARGE:
            return True
    return False


def _work(message: workflow_pb2.Workflow | orchestrator_pb2.AddStepsRequest) -> Iterator[int]:
    """Yield the work for each step at every depth, in plain steps. The check of a schema is long in any case."""
    if isinstance(message, workflow_pb2.Workflow) and message.input_schema:
        yield LARGE + 1
    for step in message.steps:
        yield 1 + sum(map(len, _expressions(step))) // CHARACTERS
        if step.HasField("workflow"):
            yield from _work(step.workflow)


def _expressions(step: workflow_pb2.Step) -> Iterator[str]:
    """Yield the expressions of a step."""
    yield step.when
    if step.HasField("for_each"):
        yield step.for_each.expression
    for binding in step.bindings:
        yield binding.expression
    if step.HasField("fallback"):
        for binding in step.fallback.action.bindings:
            yield binding.expression


def _is_repeat(existing: Header | None, definition: bytes, run_input: Payload) -> bool:
    """Return whether the same run was accepted before. It is then not checked against this server's actions again."""
    return existing is not None and same_content(definition, run_input, existing.workflow, existing.input)


def _choices(request: Definition) -> str:
    """Return the names of the fields of which one must be set, for an error message."""
    *first, last = (f"`{field.name}`" for field in request.DESCRIPTOR.oneofs_by_name["definition"].fields)
    return f"{', '.join(first)} or {last}"
