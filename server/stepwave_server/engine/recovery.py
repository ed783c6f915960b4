"""Runs that an earlier engine left under way, put together again from what the journal has of them."""

from typing import NamedTuple

from stepwave.v1 import workflow_pb2
from stepwave_server.core.evolve import fold, new_run
from stepwave_server.core.messages import Event
from stepwave_server.core.model import Failure, Reason
from stepwave_server.core.state import CORE_VERSION, RunState
from stepwave_server.journal import Unfinished
from stepwave_server.wire.decode import to_event
from stepwave_server.wire.workflow import Parsed, parse_workflow

__all__ = ["FAILED_BY_RESTART", "Revived", "Unreadable", "revive"]

FAILED_BY_RESTART = Failure(Reason.INTERRUPTED, "the server stopped while the run was under way")


class Unreadable(Exception):
    """Raised when this version cannot go on with a run. The message says why."""


class Revived(NamedTuple):
    """A run as it stood when its engine ended, and the events that say so."""

    state: RunState
    events: list[Event]


def revive(unfinished: Unfinished) -> Revived:
    """Fold a run from its events.

    Raises:
        Unreadable: It cannot be folded here.
    """
    header = unfinished.header
    if header.options.version > CORE_VERSION:
        raise Unreadable(f"version {header.options.version} of the scheduler began it; this one has {CORE_VERSION}")
    parsed = Parsed()
    workflow = parse_workflow(workflow_pb2.Workflow.FromString(header.workflow), parsed)
    if parsed.unsupported:
        raise Unreadable("; ".join(f"{problem.field}: {problem.description}" for problem in parsed.unsupported))
    try:
        events = [to_event(record) for record in unfinished.records]
        return Revived(fold(new_run(workflow, header.input, header.options), events), events)
    except Exception as error:
        raise Unreadable(f"its events do not fit its workflow: {type(error).__name__}: {error}") from error
