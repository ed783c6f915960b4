"""Requests to what the engine takes: namespaces, run ids, pages, and prepared submissions."""

import asyncio
import base64
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from stepwave._values.ids import new_run_id
from stepwave.v1 import orchestrator_pb2, workflow_pb2
from stepwave_server.core.evolve import new_run
from stepwave_server.core.info import RunKey, seed_of
from stepwave_server.core.messages import StepFinished
from stepwave_server.core.model import Payload, Workflow
from stepwave_server.core.result import reusable
from stepwave_server.core.state import RunOptions
from stepwave_server.engine.base import Engine, EngineOptions, Submission
from stepwave_server.engine.errors import RunNotFound
from stepwave_server.journal import Header
from stepwave_server.rpc.statuses import InvalidCall, NotServed, WorkflowNotFound
from stepwave_server.rpc.workflows import Workflows
from stepwave_server.telemetry import TraceParent
from stepwave_server.wire.workflows.content import same_content
from stepwave_server.wire.workflows.workflow import Parsed, parse_payload, parse_workflow

__all__ = [
    "Preparer",
    "checked",
    "page_size",
    "parse_key",
    "parse_namespace",
    "parse_token",
    "run_key",
    "to_token",
]

DEFAULT_NAMESPACE = "default"
RUN_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,127}")
UNNAMED = "_"
LARGE = 1_000
"""Workflows of more steps than this are prepared on a thread, so that the loop goes on meanwhile."""

Start = orchestrator_pb2.ExecuteWorkflowRequest | orchestrator_pb2.StartRunRequest
Definition = Start | orchestrator_pb2.PlanWorkflowRequest


@contextmanager
def checked() -> Iterator[Parsed]:
    """Note what is wrong with a request while inside, and refuse it at the end with all of it.

    Raises:
        InvalidCall, NotServed: Something is wrong.
    """
    parsed = Parsed()
    yield parsed
    refuse(parsed)


def refuse(parsed: Parsed) -> None:
    """Refuse a request with all that was found wrong with it, if anything was.

    Raises:
        InvalidCall, NotServed: Something was.
    """
    if parsed.invalid:
        raise InvalidCall([*parsed.invalid, *parsed.unsupported])
    if parsed.unsupported:
        raise NotServed(parsed.unsupported)


def parse_namespace(namespace: str, parsed: Parsed) -> str:
    """Return the namespace of a request: this server has one."""
    if namespace not in {"", DEFAULT_NAMESPACE}:
        parsed.refuse("namespace", f'this server has the namespace "{DEFAULT_NAMESPACE}" only')
    return DEFAULT_NAMESPACE


def parse_key(namespace: str, run_id: str, parsed: Parsed, path: str = "run_id") -> RunKey:
    """Return the run that a request names; `path` is the field that does."""
    if not RUN_ID.fullmatch(run_id):
        problem = f'malformed run id "{run_id}": want {RUN_ID.pattern}' if run_id else "must not be empty"
        parsed.blame(path, problem)
    return RunKey(parse_namespace(namespace, parsed), run_id)


def run_key(namespace: str, run_id: str) -> RunKey:
    """Return the run that a request names.

    Raises:
        InvalidCall, NotServed: It names none.
    """
    with checked() as parsed:
        return parse_key(namespace, run_id, parsed)


def page_size(asked: int, default: int, most: int) -> int:
    """Return how many items a page has."""
    return min(asked or default, most)


def to_token(*values: int | str) -> str:
    """Return an opaque page token."""
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode()


def parse_token(token: str, parsed: Parsed, *types: type) -> tuple[int | str, ...] | None:
    """Return what a page token says, values of these types; `None` for an empty one."""
    if not token:
        return None
    try:
        values = tuple(json.loads(base64.urlsafe_b64decode(token.encode())))
    except (ValueError, TypeError, RecursionError):
        values = ()
    if tuple(map(type, values)) != types or any(isinstance(value, int) and value < 0 for value in values):
        parsed.blame("page_token", "this server did not make it")
        return None
    return values


@dataclass(frozen=True, slots=True)
class _Earlier:
    """A run to run again: what it was given, and how its steps ended, as far as their outputs may be taken over."""

    run_id: str
    workflow: workflow_pb2.Workflow
    input: Payload
    finished: Sequence[StepFinished]


@dataclass(frozen=True, slots=True)
class _Draft:
    """A run to start whose workflow is still to be checked; `found`: what an earlier run of its id was given."""

    key: RunKey
    workflow: workflow_pb2.Workflow
    parent: TraceParent | None
    window: float | None
    earlier: _Earlier | None
    found: Header | None


@dataclass(frozen=True, slots=True)
class Preparer:
    """Turns definitions into what can be started, or names everything that is wrong with them."""

    engine: Engine
    workflows: Workflows
    options: EngineOptions

    async def check_named(self) -> None:
        """Check the named workflows, now that the actions are known.

        Raises:
            ValueError: One cannot run here; the message names it and all that is wrong.
        """
        for message in self.workflows:
            try:
                await self.workflow(orchestrator_pb2.PlanWorkflowRequest(workflow=message), self.parsed())
            except (InvalidCall, NotServed) as error:
                problems = "; ".join(f"{problem.field}: {problem.description}" for problem in error.violations)
                raise ValueError(f'workflow "{message.name}" cannot run here: {problems}') from error

    def parsed(self) -> Parsed:
        """Return what takes note of all that is wrong with a request."""
        return Parsed(self.options.max_payload_bytes)

    async def workflow(self, request: Definition, parsed: Parsed) -> Workflow:
        """Return the workflow of a request, other fields of which have been `parsed`.

        Raises:
            InvalidCall, NotServed, WorkflowNotFound: It cannot run here.
        """
        message = self._definition(request, parsed)
        if len(message.steps) > LARGE:
            return await asyncio.to_thread(self._checked, message, parsed)
        return self._checked(message, parsed)

    async def submission(
        self, request: Start, parent: TraceParent | None, parsed: Parsed, window: float | None = None
    ) -> Submission:
        """Return a run, ready to start; other fields of the request have been `parsed`.

        Args:
            request: What to run.
            parent: The caller's span.
            parsed: What is wrong with the request so far.
            window: How many seconds the run outlives the last stream that held it; `None`: nobody holds it.

        Raises:
            InvalidCall, NotServed, WorkflowNotFound: It cannot be; nothing has been invoked.
            RunNotFound, RunNotEnded: The run to run again is not there, or not to its end.
        """
        if request.open:
            parsed.refuse("open")
        key = parse_key(request.namespace, request.run_id or UNNAMED, parsed)
        earlier = await self._earlier(request, key.namespace, parsed)
        message = self._definition(request, parsed) if earlier is None else earlier.workflow
        if not request.run_id:
            key = RunKey(key.namespace, new_run_id(message.name))
        draft = _Draft(key, message, parent, window, earlier, await self._found(key) if request.run_id else None)
        if len(message.steps) > LARGE:
            return await asyncio.to_thread(self._submission, request, draft, parsed)
        return self._submission(request, draft, parsed)

    async def _earlier(self, request: Start, namespace: str, parsed: Parsed) -> "_Earlier | None":
        """Return the run that is to be run again, if one is."""
        if request.WhichOneof("definition") != "rerun":
            return None
        key = parse_key(namespace, request.rerun.run_id, parsed, "rerun.run_id")
        if request.HasField("input"):
            parsed.blame("input", "must not be set with `rerun`: it is the earlier run's")
        refuse(parsed)
        header = await self.engine.header(key)
        finished = await self.engine.finished_steps(key)
        message = workflow_pb2.Workflow.FromString(header.workflow)
        return _Earlier(key.run_id, message, header.input, finished if request.rerun.from_failed else ())

    async def _found(self, key: RunKey) -> Header | None:
        """Return what the run of a key was given, if there is one."""
        try:
            return await self.engine.header(key)
        except RunNotFound:
            return None

    def _submission(self, request: Start, draft: "_Draft", parsed: Parsed) -> Submission:
        earlier = draft.earlier
        if earlier is not None:
            given: Payload = earlier.input
        else:
            given = parse_payload(request.input, "input", parsed) if request.HasField("input") else "null"
        workflow = parse_workflow(draft.workflow, parsed)
        definition = draft.workflow.SerializeToString(deterministic=True)
        if parsed.invalid or parsed.unsupported or not _accepted(draft.found, definition, given):
            parsed.invalid += self.engine.check(workflow, open_run=False)
        refuse(parsed)
        return Submission(
            draft.key,
            new_run(workflow, given, self._run_options(draft.key)),
            definition,
            draft.parent,
            draft.window,
            earlier.run_id if earlier is not None else "",
            reusable(workflow, earlier.finished) if earlier is not None else (),
        )

    def _run_options(self, key: RunKey) -> RunOptions:
        return replace(self.options.run, seed=seed_of(key), max_payload_bytes=self.options.max_payload_bytes)

    def _definition(self, request: Definition, parsed: Parsed) -> workflow_pb2.Workflow:
        match request.WhichOneof("definition"):
            case "workflow":
                return request.workflow
            case "workflow_name":
                found = self.workflows.get(request.workflow_name)
                if found is None:
                    raise WorkflowNotFound(self.workflows.unknown(request.workflow_name))
                return found
            case _:
                parsed.blame("workflow", f"is required: set {_choices(request)}")
                raise InvalidCall([*parsed.invalid, *parsed.unsupported])

    def _checked(self, message: workflow_pb2.Workflow, parsed: Parsed) -> Workflow:
        workflow = parse_workflow(message, parsed)
        parsed.invalid += self.engine.check(workflow, open_run=False)
        refuse(parsed)
        return workflow


def _accepted(found: Header | None, definition: bytes, given: Payload) -> bool:
    """Say whether a run of the same content was accepted once, whatever this server lacks."""
    return found is not None and same_content(definition, given, found.workflow, found.input)


def _choices(request: Definition) -> str:
    """Name the ways to say what is meant."""
    *first, last = (f"`{field.name}`" for field in request.DESCRIPTOR.oneofs_by_name["definition"].fields)
    return f"{', '.join(first)} or {last}"
