"""Requests of the contract: the workflow to run, and the runs to list."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from stepwave._model.results import State
from stepwave._values.ids import new_run_id, rerun_id
from stepwave._values.payload import JSON, Blob, to_payload
from stepwave._values.time import to_timestamp
from stepwave.v1 import event_pb2, run_pb2, workflow_pb2
from stepwave.v1 import orchestrator_pb2 as pb

from .workflow import Workflow

__all__ = ["Definition", "Rerun", "RunFilter", "Startable", "kind_number", "set_run", "set_workflow"]


@dataclass(frozen=True, slots=True)
class Rerun:
    """An earlier run to run again, with its workflow and its input. It is given in place of a workflow.

    Attributes:
        run_id: The earlier run, which must have ended.
        from_failed: Whether to reuse the outputs of steps that succeeded, if those of all their dependencies are
            reused too, instead of running these steps again.
    """

    run_id: str
    from_failed: bool = False


# A workflow under construction, a message of the contract, or the name of a workflow of the server.
Definition: TypeAlias = Workflow | workflow_pb2.Workflow | str
Startable: TypeAlias = Definition | Rerun


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """A filter for runs. An empty field or `None` does not filter.

    Attributes:
        states: Only runs in one of these states.
        workflow: Only runs of the workflow with this name.
        prefix: Only runs whose id begins with this.
        labels: Only runs whose workflow has all these labels.
        since: Only runs accepted at this time or later.
        until: Only runs accepted before this time.
    """

    states: Iterable[State | str] = ()
    workflow: str | None = None
    prefix: str = ""
    labels: Mapping[str, str] | None = None
    since: datetime | None = None
    until: datetime | None = None

    def to_proto(self, namespace: str) -> pb.ListRunsRequest:
        """Return a request for the first page.

        Raises:
            ValueError: There is no such state, or no such time.
        """
        return pb.ListRunsRequest(
            namespace=namespace,
            states=[run_pb2.State.Value(f"STATE_{State(state).name}") for state in self.states],
            workflow_name=self.workflow or "",
            run_id_prefix=self.prefix,
            labels=self.labels,
            create_time_from=None if self.since is None else to_timestamp(self.since),
            create_time_before=None if self.until is None else to_timestamp(self.until),
        )


def set_run(
    request: pb.ExecuteWorkflowRequest | pb.StartRunRequest, workflow: Startable, input: JSON | Blob, run_id: str | None
) -> None:
    """Set what to run, and its run id. The id makes the request idempotent, so it can be sent again.

    Raises:
        ValueError: JSON cannot hold the input, or there is one for a rerun.
    """
    if isinstance(workflow, Rerun):
        if input is not None:
            raise ValueError("a rerun takes no input of its own: it uses the earlier run's")
        request.rerun.run_id, request.rerun.from_failed = workflow.run_id, workflow.from_failed
        request.run_id = run_id or rerun_id(workflow.run_id)
        return
    set_workflow(request, workflow)
    if input is not None:
        request.input.CopyFrom(to_payload(input))
    request.run_id = run_id or new_run_id(request.workflow_name or request.workflow.name)


def set_workflow(
    request: pb.ExecuteWorkflowRequest | pb.StartRunRequest | pb.PlanWorkflowRequest, workflow: Definition
) -> None:
    """Set the workflow of a request."""
    if isinstance(workflow, str):
        request.workflow_name = workflow
    else:
        request.workflow.CopyFrom(workflow.to_proto() if isinstance(workflow, Workflow) else workflow)


def kind_number(kind: str) -> event_pb2.EventKind.ValueType:
    """Return the number of a kind of event, such as `step_finished`.

    Raises:
        ValueError: There is no such kind.
    """
    try:
        return event_pb2.EventKind.Value(f"EVENT_KIND_{kind.upper()}")
    except ValueError:
        known = ", ".join(name.removeprefix("EVENT_KIND_").lower() for name in event_pb2.EventKind.keys()[1:])
        raise ValueError(f"unknown kind of event {kind!r}; there are {known}") from None
