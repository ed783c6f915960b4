"""Runs that an earlier engine left under way, put together again from what the journal has of them."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from stepwave.v1 import workflow_pb2
from stepwave_server.core.evolve import fold, new_run
from stepwave_server.core.messages import Event
from stepwave_server.core.model import Failure, Reason, Workflow
from stepwave_server.core.state import CORE_VERSION, RunState
from stepwave_server.journal import Unfinished
from stepwave_server.wire.events.decode import to_event
from stepwave_server.wire.events.encode import Record
from stepwave_server.wire.workflows.workflow import Parsed, parse_workflow

__all__ = ["FAILED_BY_DEFECT", "FAILED_BY_RESTART", "Revived", "Unfit", "Unreadable", "readable", "revive", "unfolded"]

FAILED_BY_RESTART = Failure(Reason.INTERRUPTED, "the server stopped while the run was under way")
FAILED_BY_DEFECT = Failure(Reason.INTERNAL, "the server met a defect of its own in this run; its log says more")


class Unreadable(Exception):
    """Raised when this version cannot go on with a run, but another one can. The message says why."""


class Unfit(Exception):
    """Raised when a run's events cannot be decoded, or do not fit its workflow: no version can go on with it."""


class Revived(NamedTuple):
    """A run as it stood when its engine ended, and the events that say so."""

    state: RunState
    events: list[Event]


def revive(unfinished: Unfinished) -> Revived:
    """Fold a run from its events.

    Raises:
        Unreadable: A later version began it, or wrote some of it.
        Unfit: It cannot be folded.
    """
    version = unfinished.header.options.version
    if version > CORE_VERSION:
        raise Unreadable(f"version {version} of the scheduler began it; this one has {CORE_VERSION}")
    if unfinished.unreadable:
        raise Unreadable(unfinished.unreadable)
    try:
        return _fold(unfinished)
    except Unreadable:
        raise
    except Exception as error:
        raise Unfit(f"its events do not fit its workflow: {type(error).__name__}: {error}") from error


def _fold(unfinished: Unfinished) -> Revived:
    header, parsed = unfinished.header, Parsed()
    workflow = parse_workflow(workflow_pb2.Workflow.FromString(header.workflow), parsed)
    if parsed.unsupported:
        raise Unreadable("; ".join(f"{problem.field}: {problem.description}" for problem in parsed.unsupported))
    events = [to_event(record) for record in unfinished.records]
    return Revived(fold(new_run(workflow, header.input, header.options), events), events)


def unfolded(unfinished: Unfinished) -> Revived:
    """Return a run that cannot be folded: without steps, and with those of its events that can be decoded."""
    header = unfinished.header
    state = RunState(Workflow(name=""), header.input, header.options, sequence=len(unfinished.records))
    return Revived(state, [event for _, event in readable(unfinished.records)])


def readable(records: Iterable[Record]) -> Iterator[tuple[int, Event]]:
    """Yield those events that can be decoded, with their numbers."""
    for sequence, record in enumerate(records, start=1):
        try:
            event = to_event(record)
        except Exception:  # noqa: S112 - who looks at such a run knows already
            continue
        yield sequence, event
