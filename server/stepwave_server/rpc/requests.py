"""Requests to what the engine takes: namespaces, run ids, pages, and prepared submissions."""

import asyncio
import base64
import json
import re
import secrets
from dataclasses import dataclass

from stepwave.v1 import orchestrator_pb2, workflow_pb2
from stepwave_server.core.evolve import new_run
from stepwave_server.core.info import RunKey
from stepwave_server.core.model import Payload, Workflow
from stepwave_server.core.validate import Violation
from stepwave_server.engine.base import Engine, EngineOptions, Submission
from stepwave_server.rpc.errors import InvalidCall, NotServed, WorkflowNotFound
from stepwave_server.rpc.workflows import Workflows
from stepwave_server.telemetry import TraceParent
from stepwave_server.wire.workflow import Parsed, parse_payload, parse_workflow

__all__ = ["Preparer", "from_token", "namespace_of", "page_size", "run_key", "to_token"]

DEFAULT_NAMESPACE = "default"
RUN_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,127}")
ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"  # no look-alikes
LARGE = 1_000
"""Workflows of more steps than this are prepared on a thread, so that the loop goes on meanwhile."""

Definition = (
    orchestrator_pb2.ExecuteWorkflowRequest | orchestrator_pb2.StartRunRequest | orchestrator_pb2.PlanWorkflowRequest
)


def namespace_of(namespace: str) -> str:
    """Return the namespace of a request.

    Raises:
        NotServed: It is another than `default`.
    """
    if namespace not in {"", DEFAULT_NAMESPACE}:
        raise NotServed([Violation("namespace", f'this server has the namespace "{DEFAULT_NAMESPACE}" only')])
    return DEFAULT_NAMESPACE


def run_key(namespace: str, run_id: str) -> RunKey:
    """Return the run that a request names.

    Raises:
        InvalidCall: The id is missing or malformed.
    """
    if not RUN_ID.fullmatch(run_id):
        problem = f'malformed run id "{run_id}": want {RUN_ID.pattern}' if run_id else "must not be empty"
        raise InvalidCall([Violation("run_id", problem)])
    return RunKey(namespace_of(namespace), run_id)


def new_run_id(workflow_name: str) -> str:
    """Make a short, readable run id, as `briefing-7k3f9q2m`."""
    slug = re.sub(r"[^a-z0-9]+", "-", workflow_name.lower()).strip("-")[:40] or "run"
    return f"{slug}-{''.join(secrets.choice(ALPHABET) for _ in range(8))}"


def page_size(asked: int, default: int, most: int) -> int:
    """Return how many items a page has."""
    return min(asked or default, most)


def to_token(*values: int | str) -> str:
    """Return an opaque page token."""
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode()


def from_token(token: str, *types: type) -> tuple[int | str, ...] | None:
    """Return what a page token says; `None` for an empty one.

    Raises:
        InvalidCall: This server did not make it.
    """
    if not token:
        return None
    try:
        values = tuple(json.loads(base64.urlsafe_b64decode(token.encode())))
    except (ValueError, TypeError):
        values = ()
    if tuple(map(type, values)) != types:
        raise InvalidCall([Violation("page_token", "this server did not make it")])
    return values


@dataclass(frozen=True, slots=True)
class Preparer:
    """Turns definitions into what can be started, or names everything that is wrong with them."""

    engine: Engine
    workflows: Workflows
    options: EngineOptions

    async def workflow(self, request: Definition) -> Workflow:
        """Return the workflow of a request.

        Raises:
            InvalidCall, NotServed, WorkflowNotFound: It cannot run here.
        """
        message = self._definition(request)
        if len(message.steps) > LARGE:
            return await asyncio.to_thread(self._checked, message)
        return self._checked(message)

    async def submission(
        self,
        request: orchestrator_pb2.ExecuteWorkflowRequest | orchestrator_pb2.StartRunRequest,
        parent: TraceParent | None,
    ) -> Submission:
        """Return a run, ready to start.

        Raises:
            InvalidCall, NotServed, WorkflowNotFound: It cannot be; nothing has been invoked.
        """
        message = self._definition(request)
        key = run_key(request.namespace, request.run_id or new_run_id(message.name))
        if len(message.steps) > LARGE:
            return await asyncio.to_thread(self._submission, request, message, key, parent)
        return self._submission(request, message, key, parent)

    def _submission(
        self,
        request: orchestrator_pb2.ExecuteWorkflowRequest | orchestrator_pb2.StartRunRequest,
        message: workflow_pb2.Workflow,
        key: RunKey,
        parent: TraceParent | None,
    ) -> Submission:
        parsed = Parsed(self.options.max_payload_bytes)
        if request.open:
            parsed.refuse("open")
        given: Payload = parse_payload(request.input, "input", parsed) if request.HasField("input") else "null"
        workflow = self._checked(message, parsed)
        definition = message.SerializeToString(deterministic=True)
        return Submission(key, new_run(workflow, given, self.options.run), definition, parent)

    def _definition(self, request: Definition) -> workflow_pb2.Workflow:
        match request.WhichOneof("definition"):
            case "workflow":
                return request.workflow
            case "workflow_name":
                found = self.workflows.get(request.workflow_name)
                if found is None:
                    raise WorkflowNotFound(self.workflows.unknown(request.workflow_name))
                return found
            case _:
                raise InvalidCall([Violation("workflow", "is required: set `workflow` or `workflow_name`")])

    def _checked(self, message: workflow_pb2.Workflow, parsed: Parsed | None = None) -> Workflow:
        parsed = parsed or Parsed(self.options.max_payload_bytes)
        workflow = parse_workflow(message, parsed)
        invalid = [*parsed.invalid, *self.engine.check(workflow, open_run=False)]
        if invalid:
            raise InvalidCall([*invalid, *parsed.unsupported])
        if parsed.unsupported:
            raise NotServed(parsed.unsupported)
        return workflow
