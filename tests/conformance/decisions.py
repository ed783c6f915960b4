"""Decisions of workflows, and those that servers derive from their histories: both must be the same."""

import time
from collections.abc import Sequence

import pytest
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHistory
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from stepwave_server.core.messages import Event
from stepwave_server.engine.temporal.followed_run import FollowedRun
from stepwave_server.engine.temporal.history import HistoryReader
from stepwave_server.engine.temporal.workflow import RunWorkflow
from stepwave_server.journal import MemoryJournal
from stepwave_server.wire.events.encode import Encoder

__all__ = ["Decisions", "check_history", "derived", "history_of"]


class Decisions:
    """The events that workflows decide on in this process.

    Args:
        monkeypatch: Connects it with all workflows.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._events: dict[str, tuple[RunWorkflow, list[Event]]] = {}
        observe = RunWorkflow._observe

        def note(run: RunWorkflow, events: Sequence[Event]) -> None:
            key = run._start.header.key.run_id
            if self._events.get(key, (None, []))[0] is not run:  # a replay decides on everything again
                self._events[key] = (run, [])
            self._events[key][1].extend(events)
            observe(run, events)

        monkeypatch.setattr(RunWorkflow, "_observe", note)

    async def replay(self, history: WorkflowHistory) -> None:
        """Let the workflow decide again on a history.

        Raises:
            WorkflowNondeterminismError: It gives other commands than the history has.
        """
        replayer = Replayer(workflows=[RunWorkflow], workflow_runner=UnsandboxedWorkflowRunner(), debug_mode=True)
        await replayer.replay_workflow(history)

    def of(self, run_id: str) -> list[bytes]:
        """Return the events of the last workflow that drove a run, as servers encode them."""
        run, events = self._events[run_id]
        header = run._start.header
        encoder = Encoder(run_id, run._driver.state.workflow.name, header.create_time)
        return [encoder.encode(sequence, event).data for sequence, event in enumerate(events, start=1)]


async def history_of(client: Client, run_id: str) -> WorkflowHistory:
    """Return the history of a run up to now."""
    return await client.get_workflow_handle(run_id).fetch_history()


def derived(events: Sequence[HistoryEvent]) -> list[bytes]:
    """Return the events of a run that a server derives from a history."""
    reader = HistoryReader()
    reader.add(events[0])
    run = FollowedRun(reader, "execution", MemoryJournal(time.time_ns), time.time_ns)
    for event in events[1:]:
        run.add(event)
    return [record.data for record in run._records]


async def check_history(decisions: Decisions, history: WorkflowHistory) -> list[bytes]:
    """Check that the workflow and servers have the same events, and that a replay of the workflow has them, too.

    Returns the events.
    """
    found = derived(list(history.events))
    assert found == decisions.of(history.workflow_id), "the workflow decided otherwise than a server derives"
    await decisions.replay(history)
    assert found == decisions.of(history.workflow_id), "the workflow decided otherwise in its replay"
    return found
