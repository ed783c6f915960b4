"""Restores runs that an earlier engine left under way, from the journal's header and events."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from stepwave.v1 import workflow_pb2
from stepwave_server.core.evolve import fold, new_run
from stepwave_server.core.messages import Event
from stepwave_server.core.model import Failure, FailureCause, Reason, Workflow
from stepwave_server.core.state import CORE_VERSION, RunState
from stepwave_server.journal import Unfinished
from stepwave_server.wire.events.decode import to_event
from stepwave_server.wire.events.encode import Record
from stepwave_server.wire.workflows.workflow import Parsed, parse_workflow

__all__ = [
    "FAILED_BY_DEFECT",
    "FAILED_BY_RESTART",
    "CorruptRun",
    "RestoredRun",
    "UnsupportedRun",
    "decodable_events",
    "placeholder",
    "restore",
]

FAILED_BY_RESTART = Failure(
    Reason.INTERRUPTED, "the server stopped while the run was under way", cause=FailureCause.SERVER_STOPPED
)
FAILED_BY_DEFECT = Failure(
    Reason.INTERNAL,
    "the server met a defect of its own in this run; its log says more",
    cause=FailureCause.SERVER_STOPPED,
)


class UnsupportedRun(Exception):
    """Raised when this version cannot continue a run, but another version can. The message says why."""


class CorruptRun(Exception):
    """Raised when a run's events cannot be decoded, or do not match its workflow. No version can continue it."""


class RestoredRun(NamedTuple):
    """A run restored from the journal.

    Attributes:
        state: Its state after its committed events.
        events: These events.
    """

    state: RunState
    events: list[Event]


def restore(unfinished: Unfinished) -> RestoredRun:
    """Restore a run by folding its events.

    Raises:
        UnsupportedRun: A later version started the run, or wrote some of its events.
        CorruptRun: The events cannot be folded.
    """
    version = unfinished.header.options.version
    if version > CORE_VERSION:
        raise UnsupportedRun(f"version {version} of the scheduler began it; this server has version {CORE_VERSION}")
    if unfinished.unreadable:
        raise UnsupportedRun(unfinished.unreadable)
    try:
        return _fold(unfinished)
    except UnsupportedRun:
        raise
    except Exception as error:
        raise CorruptRun(f"its events do not match its workflow: {type(error).__name__}: {error}") from error


def _fold(unfinished: Unfinished) -> RestoredRun:
    header, parsed = unfinished.header, Parsed(accepted=True)
    workflow = parse_workflow(workflow_pb2.Workflow.FromString(header.workflow), parsed)
    if parsed.unsupported:
        raise UnsupportedRun("; ".join(f"{problem.field}: {problem.description}" for problem in parsed.unsupported))
    events = [to_event(record) for record in unfinished.records]
    return RestoredRun(fold(new_run(workflow, header.input, header.options), events), events)


def placeholder(unfinished: Unfinished) -> RestoredRun:
    """Return a placeholder for a corrupt run. It has no steps, and only the events that can be decoded."""
    header = unfinished.header
    state = replace(new_run(Workflow(name=""), header.input, header.options), sequence=len(unfinished.records))
    return RestoredRun(state, [event for _, event in decodable_events(unfinished.records)])


def decodable_events(records: Iterable[Record]) -> Iterator[tuple[int, Event]]:
    """Yield the events that can be decoded, with their sequence numbers."""
    for sequence, record in enumerate(records, start=1):
        try:
            event = to_event(record)
        except Exception:  # noqa: S112 - the defect was logged when it broke the run
            continue
        yield sequence, event
