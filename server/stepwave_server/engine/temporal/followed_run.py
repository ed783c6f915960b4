"""A run as this server shows it: its events, derived from the history of its Temporal workflow."""

import asyncio
from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace

from temporalio.api.history.v1 import HistoryEvent

from stepwave_server.core.explanation import AttemptExplanation, Waiting
from stepwave_server.core.info import RunInfo, RunKey
from stepwave_server.core.inputs import input_of
from stepwave_server.core.messages import Event, RunFinished, StepFinished, StepRetrying, StepStarted
from stepwave_server.core.model import WAIT_ACTION, Failure, FailureCause, Payload, Reason
from stepwave_server.core.state import RunState, StepState
from stepwave_server.engine.admission.base import EXTERNAL, Obstacle
from stepwave_server.engine.admission.controller import MAX_GROUPS
from stepwave_server.engine.errors import EngineError
from stepwave_server.engine.runs.commit_watermark import CommitWatermark
from stepwave_server.engine.runs.forced_end import forced_end
from stepwave_server.engine.runs.waits import BEING_INTERRUPTED, MAX_MISSING, grouped, waits_of
from stepwave_server.engine.streams.subscribers import Subscribers
from stepwave_server.engine.temporal.driver import RunDriver
from stepwave_server.engine.temporal.history import Batch, HistoryReader
from stepwave_server.engine.temporal.hosted_reports import HostedReports
from stepwave_server.engine.temporal.visibility import run_info
from stepwave_server.engine.temporal.workflow import driver_of
from stepwave_server.journal import Ended, Header, MemoryJournal
from stepwave_server.wire.events.encode import Encoder, Record

__all__ = ["FollowedRun"]


class FollowedRun:
    """A run whose history this server reads.

    Attributes:
        key: Its key.
        execution: Temporal's id of its workflow's execution.
        header: Its definition.
        state: Its state.
        driver: Derives its events.
        watermark: The number of its newest event.
        subscribers: Its subscribers.
        watched: Set once a stream of this server shows it.
        reports: Shows watchers what its attempts show.
        chunk_position: Where to read its chunks from; empty: from the first.
        paused: Whether its server does not continue it: never.
        broken: Why this server cannot show it; `None`: it can.
        users: The calls and streams that need it now.
        last_used: The loop's time at which the last of them left; at first, that at which it was found.

    Args:
        reader: Reads its history, and has read its start.
        execution: Temporal's id of its workflow's execution.
        journal: Keeps its events while this server shows it.
        clock: Returns the time in nanoseconds since the epoch.
    """

    def __init__(self, reader: HistoryReader, execution: str, journal: MemoryJournal, clock: Callable[[], int]) -> None:
        assert reader.start is not None, "the start is the first event of a history"
        header = reader.start.header
        self.key: RunKey = header.key
        self.execution = execution
        self.header: Header = header
        self.driver: RunDriver = driver_of(reader.start)
        self.state: RunState = self.driver.state
        self.watermark = CommitWatermark(0)
        self.subscribers = Subscribers(header.key.run_id, clock)
        self.watched = asyncio.Event()
        run_id, state, driver = header.key.run_id, self.state, self.driver
        self.reports = HostedReports(run_id, state, driver, self.watermark, self.subscribers)
        self.chunk_position = b""
        self.paused = False
        self.broken: EngineError | None = None
        self.users = 0
        self.last_used = 0.0
        self._reader = reader
        self._journal = journal
        self._encoder = Encoder(header.key.run_id, self.state.workflow.name, header.create_time)
        self._waiting_for: list[tuple[int, asyncio.Future[None]]] = []
        self._records: list[Record] = []
        journal.create(header)

    # The history.

    def add(self, event: HistoryEvent) -> None:
        """Add the next event of the history."""
        batch = self._reader.add(event)
        if self._reader.last_progress is not None:
            self.reports.show_last(*self._reader.last_progress)
        if batch is not None:
            self._take(batch)
        if self._reader.closed and self.state.finished is None:
            self._end_by_force()
        self._end_waits()

    def _take(self, batch: Batch) -> None:
        self.driver.take(batch.inputs, batch.time)
        self.driver.take_effects()
        self._commit(self.driver.take_events())

    def _commit(self, events: Sequence[Event]) -> None:
        if not events:
            return
        first = self.watermark.committed + 1
        encode = self._encoder.encode
        records = [encode(sequence, event) for sequence, event in enumerate(events, start=first)]
        ended = self._summary(events[-1])
        self._append(records, ended)
        for event in events:
            if isinstance(event, StepStarted) and event.action == WAIT_ACTION:
                self.subscribers.show_waiting(event.step_id, self.state.sequence, EXTERNAL)
            elif isinstance(
                event, StepFinished | StepRetrying | StepStarted
            ):  # a new attempt voids the old one's chunks
                self.subscribers.forget(event.step_id)
        self.reports.committed()
        self.subscribers.wake()

    def _append(self, records: Sequence[Record], ended: Ended | None) -> None:
        self._records += records
        self._journal.append(self.key, records, lambda: self.watermark.advance(len(records)), ended)

    def _summary(self, last: Event) -> Ended | None:
        if not isinstance(last, RunFinished):
            return None
        steps = self.state.steps
        return Ended(
            info=self.info(),
            finishes=array("I", (step.finish for step in self.state.by_index)),
            outputs=array("I", (steps[step_id].finish for step_id, _ in last.outputs)),
        )

    def _end_by_force(self) -> None:
        """End a run whose workflow was ended from outside, such as by an operator."""
        message = f"the workflow of the run was {self._reader.closed} in Temporal"
        if self._reader.close_reason:
            message += f": {self._reader.close_reason}"
        failure = Failure(Reason.INTERRUPTED, message, cause=FailureCause.SERVER_STOPPED)
        end = forced_end(self.header, self._records, self._reader.close_time, failure)
        self._append(end.records, end.ended)
        self.subscribers.wake()

    async def reach(self, event_id: int) -> None:
        """Wait until an event of the history was added."""
        if self._reader.last_event < event_id and self.broken is None:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting_for.append((event_id, waiter))
            await waiter

    async def answered(self, token: str) -> bool:
        """Wait until the run has decided on a request of a caller, or has ended.

        Returns:
            Whether it has accepted it; `False`: it ended before that.

        Raises:
            Refused: It was refused.
        """
        while token not in self.driver.answers and not self._reader.closed and self.broken is None:
            await self.reach(self._reader.last_event + 1)
        refused = self.driver.answers.get(token)
        if refused is not None:
            raise refused
        if self.broken is not None:
            raise self.broken
        return token in self.driver.answers

    async def begun(self) -> None:
        """Wait until the run has its first events, or has ended: a client may act before a server has begun it."""
        while not self.committed and not self._reader.closed and self.broken is None:
            await self.reach(self._reader.last_event + 1)
        if self.broken is not None:
            raise self.broken

    def _end_waits(self) -> None:
        ready = [waiter for target, waiter in self._waiting_for if target <= self._reader.last_event]
        self._waiting_for = [entry for entry in self._waiting_for if entry[0] > self._reader.last_event]
        for waiter in ready:
            if not waiter.done():
                waiter.set_result(None)

    def fail(self, error: EngineError) -> None:
        """End all waits and streams: this server cannot show the run any more."""
        self.broken = error
        self.subscribers.fail(error)
        self.watermark.refuse(error)
        for _, waiter in self._waiting_for:
            if not waiter.done():
                waiter.set_result(None)

    # Queries.

    @property
    def closed(self) -> bool:
        """Whether the workflow has ended."""
        return bool(self._reader.closed)

    @property
    def last_event(self) -> int:
        """The id of the last event of the history."""
        return self._reader.last_event

    @property
    def committed(self) -> int:
        """The sequence number of its newest event."""
        return self.watermark.committed

    def committing(self) -> bool:
        """Return whether it has events that are not committed yet: never."""
        return False

    def info(self) -> RunInfo:
        """Return its information."""
        missing = self.reports.missing[:MAX_MISSING]
        return replace(run_info(self.header, self.state), missing=missing)

    def input_of(self, step: StepState) -> Payload:
        """Return the input of a step's next attempt, or of the one that waits to be completed.

        Raises:
            EvaluationFailed: It has no input.
        """
        return input_of(self.state, step, self.driver.evaluator)

    def waiting(self) -> list[Waiting]:
        """Return why ready steps have not started, and what started attempts wait for, grouped by that."""
        groups = waits_of(self.state)
        for step_id in [*self.driver.queued, *self.driver.in_flight]:
            if (obstacle := self.obstacle(step_id)) is not None:
                groups.setdefault(obstacle, []).append(step_id)
        return sorted(grouped(groups), key=lambda group: -group.step_count)[:MAX_GROUPS]

    def obstacle(self, step_id: str) -> Obstacle | None:
        """Return what a step waits for before a host runs it; `None`: for nothing that this server knows."""
        return self.reports.obstacle(step_id)

    def waiting_since(self, step_id: str) -> int | None:
        """Return when a step that was attempted before began to wait: unknown."""
        return None

    def explain_attempt(self, step_id: str) -> AttemptExplanation | None:
        """Explain the attempt of a step; `None`: Temporal did not know it yet."""
        found = self.reports.pending_of(step_id)
        if found is None:
            return None
        if found.start_time is None:
            obstacle = self.reports.obstacle(step_id)
            assert obstacle is not None, "no host has it"
            return AttemptExplanation(since=found.scheduled_time, cause=obstacle.cause, message=obstacle.message)
        message = BEING_INTERRUPTED if self.driver.is_interrupted(step_id) else f"on the host {found.host}"
        return AttemptExplanation(since=found.start_time, message=message, where=found.where)
