"""A host of actions. It runs the attempts that Temporal gives to the task queues of its actions."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.worker import PollerBehaviorAutoscaling, Worker

from stepwave.v1 import workflow_pb2
from stepwave_server.actions import Action
from stepwave_server.actions.code_location import current_line, with_text
from stepwave_server.core.info import RunKey
from stepwave_server.core.messages import (
    AttemptExpanded,
    AttemptFailed,
    AttemptInterrupted,
    AttemptSucceeded,
    Input,
    Invoke,
    StepStarted,
)
from stepwave_server.core.model import SECOND, Failure, Payload, Reason, SecretPlace, Workflow
from stepwave_server.engine.admission.base import Permit
from stepwave_server.engine.attempts.attempt import Attempt
from stepwave_server.engine.attempts.nested import NestedWorkflows
from stepwave_server.engine.base import EngineOptions
from stepwave_server.engine.temporal.catalog import Catalog
from stepwave_server.engine.temporal.codec import (
    decode_value,
    encode_value,
    error_of_failure,
    expansion,
    lost,
    stopped,
    task_queue_of,
)
from stepwave_server.engine.temporal.connection import Connection
from stepwave_server.engine.temporal.driver_messages import AttemptStopped
from stepwave_server.engine.temporal.progress import Progress, answer_with, error_with
from stepwave_server.engine.temporal.transients import NO_TRANSIENTS, RunStreams, Source, TransientSink
from stepwave_server.telemetry import Measures
from stepwave_server.telemetry.parent import variables_of
from stepwave_server.wire.events.encode import LogEntry
from stepwave_server.wire.workflows.workflow import fill_workflow

__all__ = ["Host"]

logger = logging.getLogger(__name__)

MIN_HEARTBEAT = 1.0
"""Seconds between the heartbeats of an attempt. A cancel reaches it, and its progress is seen, with the next one."""

HEARTBEATS_PER_SECOND = 100
"""Heartbeats of all attempts of a host in a second. With more attempts, each has fewer."""

MAX_ANSWER_BYTES = 2_000_000
"""Bytes of an answer. Temporal bounds a payload to 2 MB."""

POLLED_SECONDS = 0.05
"""Seconds between two questions whether Temporal knows this host."""

POLLED_TIMEOUT = timedelta(seconds=5)

INTERRUPTED = Failure(Reason.CANCELLED, "interrupted")

_PERMIT = Permit()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostServices:
    """The parts of a host that its attempts share.

    Attributes:
        options: Options of the engine.
        nested: The workflows that attempts may choose.
        add_steps: Adds steps that an action gives to a run, and seals it if the last argument is true.
        sink: Takes chunks and logs.
        measures: The numbers that metrics are made of; `None`: nothing is measured.
    """

    options: EngineOptions
    nested: NestedWorkflows
    add_steps: Callable[[RunKey, object, bool], Coroutine[Any, Any, None]]
    sink: TransientSink = NO_TRANSIENTS
    measures: Measures | None = None


class Host:
    """Runs attempts of actions, each action on a task queue of its own.

    Attributes:
        leaving: Whether attempts are interrupted: the host stops at once.

    Args:
        client: The client of Temporal.
        task_queue: The prefix of the task queues.
        slots: Attempts of one action that this host runs at once.
        services: What attempts share.
        catalog: The actions of the cluster, to which this host announces its own.
        connection: Knows whether Temporal answers.
        rates: Starts in a second by action, over all hosts; other actions have no bound.
    """

    def __init__(
        self,
        client: Client,
        *,
        task_queue: str,
        slots: int,
        services: HostServices,
        catalog: Catalog,
        connection: Connection,
        rates: Callable[[str], float | None] = lambda action: None,
    ) -> None:
        self._client = client
        self._task_queue = task_queue
        self._slots = slots
        self._services = services
        self._catalog = catalog
        self._connection = connection
        self._announcer: asyncio.Task[None] | None = None
        self._rates = rates
        self._actions: dict[str, Action] = {}
        self._workers: dict[str, Worker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._attempts: set[_HostedAttempt] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._shutdown: asyncio.Task[None] | None = None
        self._end: asyncio.Task[None] | None = None
        self.leaving = False

    @property
    def in_flight(self) -> int:
        """Number of attempts that run here."""
        return len(self._attempts)

    @property
    def attempts(self) -> Mapping[str, int]:
        """Number of attempts that run here, by action. It may be read on any thread."""
        return Counter(attempt.action_name for attempt in list(self._attempts))

    def serve(self, actions: Iterable[Action], drain_timeout: float) -> None:
        """Serve actions that are not served yet. Return at once.

        Args:
            actions: The actions.
            drain_timeout: Seconds that attempts under way get when the host stops.
        """
        fresh = [action for action in actions if action.name not in self._actions]
        for action in fresh:
            self._actions[action.name] = action
            worker = self._workers[action.name] = Worker(
                self._client,
                task_queue=task_queue_of(self._task_queue, action.name),
                activities=[self._activity(action)],
                max_concurrent_activities=self._slots,
                activity_task_poller_behavior=PollerBehaviorAutoscaling(minimum=1, maximum=10, initial=2),
                max_task_queue_activities_per_second=self._rates(action.name),
                max_heartbeat_throttle_interval=timedelta(seconds=MIN_HEARTBEAT),
                default_heartbeat_throttle_interval=timedelta(seconds=MIN_HEARTBEAT),
                graceful_shutdown_timeout=timedelta(seconds=drain_timeout),
            )
            self._tasks[action.name] = asyncio.create_task(worker.run(), name=f"host of {action.name}")
        if self._announcer is not None:
            self._announcer.cancel()
        announcing = self._catalog.keep_announced(list(self._actions.values()))
        self._announcer = asyncio.create_task(announcing, name="announcement of actions")

    async def wait_until_known(self) -> None:
        """Wait until Temporal gives attempts of all actions to this host. Servers know the actions then."""
        await asyncio.gather(*map(self._wait_until_polled, self._actions))

    async def _wait_until_polled(self, action: str) -> None:
        request = DescribeTaskQueueRequest(
            namespace=self._client.namespace,
            task_queue=TaskQueue(name=task_queue_of(self._task_queue, action)),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        )
        while True:
            with suppress(RPCError):  # the connection is lost
                found = await self._client.workflow_service.describe_task_queue(request, timeout=POLLED_TIMEOUT)
                if any(poller.identity == self._client.identity for poller in found.pollers):
                    return
            await asyncio.sleep(POLLED_SECONDS)

    async def stop(self) -> None:
        """Stop accepting attempts, let those under way end within the time that they get, and interrupt the rest.

        If Temporal does not answer, their outcomes are soon given up. They count as lost, and run again.
        """
        if self._end is None:
            self._end = asyncio.create_task(self._stop(), name="stop of the host")
        await asyncio.shield(self._end)

    async def _stop(self) -> None:
        if self._announcer is not None:
            self._announcer.cancel()
            await asyncio.gather(self._announcer, return_exceptions=True)
        shutdown = self._begin_shutdown()
        idle = asyncio.create_task(self._idle.wait())
        await asyncio.wait({shutdown, idle}, return_when=asyncio.FIRST_COMPLETED)
        idle.cancel()
        if await self._connection.ends(shutdown):
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self._services.sink.close()

    def _begin_shutdown(self) -> "asyncio.Task[None]":
        """Stop accepting attempts, and return a task that ends when Temporal knows the outcomes of those under way."""
        if self._shutdown is None:
            self._shutdown = asyncio.create_task(self._shut_down(), name="end of the host")
        return self._shutdown

    def interrupt(self) -> None:
        """Interrupt all attempts now, and take no more. They count as lost, so that another host runs them again.

        `stop` waits for their clean-up.
        """
        self.leaving = True
        self._begin_shutdown()
        for attempt in list(self._attempts):
            attempt.leave()

    async def _shut_down(self) -> None:
        await asyncio.gather(*(worker.shutdown() for worker in self._workers.values()), return_exceptions=True)

    def _activity(self, action: Action) -> Callable[[RawValue, dict[str, Any]], Coroutine[Any, Any, RawValue]]:
        """Return the activity of an action."""

        async def perform(input: RawValue, step: dict[str, Any]) -> RawValue:
            attempt = _HostedAttempt(self, self._services, action, step)
            self._attempts.add(attempt)
            self._idle.clear()
            try:
                return await attempt.perform(input)
            finally:
                self._attempts.discard(attempt)
                if not self._attempts:
                    self._idle.set()

        return activity.defn(name=action.name)(perform)


class _HostedAttempt:
    """One attempt on this host: the owner of an `Attempt`, as a run is on one server.

    Args:
        host: The host.
        services: What attempts share.
        action: The action.
        step: What the run tells of the attempt, beside its input.
    """

    def __init__(self, host: Host, services: HostServices, action: Action, step: dict[str, Any]) -> None:
        self._host = host
        self._services = services
        self._action = action
        self._step = step
        self._info = activity.info()
        self.key = RunKey(step["namespace"], step["run_id"])
        assert self._info.workflow_run_id is not None, "the activities are those of workflows"
        streams = RunStreams(self.key, self._info.workflow_run_id)
        self.log = _Log(streams, services.sink)
        self.reports = _Reports(streams, services.sink)
        self.nested = services.nested
        self.action_name = action.name
        self._timed_out = False
        self._leaving = False
        self._outcome: asyncio.Future[Input] = asyncio.get_running_loop().create_future()

    async def perform(self, input: RawValue) -> RawValue:
        """Run the attempt, and return its answer.

        Raises:
            ApplicationError: It has no answer.
        """
        step, now = self._step, time.time_ns()
        payload = decode_value(input.payload)
        invoke = Invoke(step["step_id"], step["attempt"], self._action.name, payload, step["fallback"])
        deadline = now + round(step["timeout"] * SECOND)
        event = StepStarted(now, invoke.step_id, invoke.action, step["wave"], invoke.attempt, deadline, now)
        attempt = self._attempt = Attempt(self, invoke, self._action)
        self._measure_wait()
        attempt.admit(_PERMIT)
        variables = variables_of(step.get("trace", {}))
        attempt.start(
            event,
            payload,
            secrets=[SecretPlace(target, name) for target, name in step.get("secrets", ())],
            strict=step["strict"],
            options=self._services.options,
            variables=variables,
        )
        if self._host.leaving:  # Temporal gave it away before it knew
            self.leave()
        timer = asyncio.get_running_loop().call_later(step["timeout"], attempt.time_out)
        beat = asyncio.create_task(self._beat())
        try:
            return answer_with(await self._answer(), self.reports.last)
        except ApplicationError as error:
            raise error_with(error, self.reports.last) from None
        finally:
            timer.cancel()
            beat.cancel()

    async def _answer(self) -> RawValue:
        """Wait for the outcome, and return the answer in it. If Temporal cancels the activity, interrupt the attempt.

        Raises:
            ApplicationError: There is no answer.
        """
        while not self._outcome.done():
            try:
                await asyncio.shield(self._outcome)
            except asyncio.CancelledError:
                details = activity.cancellation_details()
                self._leaving = details is not None and details.worker_shutdown and not details.cancel_requested
                self._attempt.interrupt(INTERRUPTED, self._services.options.cancel_grace)
        await self.reports.flush()
        outcome = self._outcome.result()
        match outcome:
            case AttemptSucceeded(_, _, output):
                return encode_value(output)
            case AttemptExpanded(_, _, workflow, given):
                return _expansion(workflow, given)
            case AttemptFailed(_, _, failure):
                raise error_of_failure(failure) from None
            case AttemptInterrupted() if self._leaving and not self._timed_out:
                raise lost("the host stopped while the attempt ran")
            case AttemptInterrupted(step_id, number, failure, abandoned):
                did = dict(failure.details).get("when_interrupted", "")
                raise stopped(AttemptStopped(step_id, number, self._timed_out, abandoned, did)) from None
        raise AssertionError("an attempt has no other outcomes")

    def leave(self) -> None:
        """Interrupt the attempt: the host stops at once."""
        if not self._attempt.interrupted:
            self._leaving = True
            self._attempt.interrupt(INTERRUPTED, self._services.options.cancel_grace)

    async def _beat(self) -> None:
        """Tell Temporal that the attempt runs, and its progress. Temporal answers whether it is to be cancelled."""
        most = (self._info.heartbeat_timeout or timedelta(seconds=2 * MIN_HEARTBEAT)).total_seconds() / 2
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            pause = min(most, max(MIN_HEARTBEAT, self._host.in_flight / HEARTBEATS_PER_SECOND))
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self.reports.changed.wait()
            await asyncio.sleep(max(0, due - loop.time()))
            due = loop.time() + pause
            self.reports.changed.clear()
            with suppress(RuntimeError):  # the activity has ended
                activity.heartbeat(*(self.reports.last or (None, None)), self._line())

    def _line(self) -> list[str | int] | None:
        """Return the line of code that the action is at, for explanations; `None`: it is not to be shown."""
        task = self._attempt.task
        line = current_line(task) if task is not None and self._services.options.tracebacks else None
        if line is None:
            return None
        line = with_text(line)  # not on a thread: actions may occupy all, and the heartbeat must not wait for them
        return [line.function, line.file, line.line, line.text]

    # Reports of the attempt.

    def attempt_admitted(self, attempt: Attempt) -> None:
        """Do nothing: Temporal has started it."""

    def attempt_timed_out(self, attempt: Attempt) -> None:
        """Interrupt the attempt: its timeout has passed."""
        if not attempt.interrupted:
            self._timed_out = True
            attempt.interrupt(INTERRUPTED, self._services.options.cancel_grace)

    def attempt_ended(self, attempt: Attempt, permit: Permit, outcome: Input) -> None:
        """Take the outcome."""
        if not self._outcome.done():
            self._outcome.set_result(outcome)
            self._measure(attempt, outcome)

    def _measure_wait(self) -> None:
        """Measure how long Temporal had the attempt before this host got it, by Temporal's clock."""
        if self._services.measures is not None:
            waited = self._info.started_time - self._info.current_attempt_scheduled_time
            action = self._services.measures.action(self.action_name)
            action.waits(max(0, round(waited.total_seconds() * SECOND)))

    def _measure(self, attempt: Attempt, outcome: Input) -> None:
        """Count the attempt. Its time is from when it started here."""
        if self._services.measures is not None:
            failure = outcome.failure if isinstance(outcome, (AttemptFailed, AttemptInterrupted)) else None
            action = self._services.measures.action(self.action_name)
            action.attempt_ended(failure, max(0, time.time_ns() - attempt.since))

    def add_steps(self, steps: object, *, seal: bool) -> Coroutine[Any, Any, None]:
        """Add steps that the action gives to the run."""
        return self._services.add_steps(self.key, steps, seal)


def _expansion(workflow: Workflow, given: Payload) -> RawValue:
    """Return the workflow that a step runs, and its input, as an answer.

    Raises:
        ApplicationError: They are larger than Temporal allows.
    """
    message = workflow_pb2.Workflow()
    fill_workflow(message, workflow)
    answer = expansion(message, given)
    if (size := len(answer.payload.data)) > MAX_ANSWER_BYTES:
        text = f"the workflow and its input take {size:,} bytes, and Temporal allows {MAX_ANSWER_BYTES:,}"
        raise error_of_failure(Failure(Reason.RESOURCE_EXHAUSTED, text))
    return answer


class _Reports:
    """The reports of an attempt to watchers.

    Attributes:
        last: Its last progress; `None`: it showed none.
        changed: Whether it showed progress since the last heartbeat.
    """

    def __init__(self, run: RunStreams, sink: TransientSink) -> None:
        self._run = run
        self._sink = sink
        self.last: Progress | None = None
        self.changed = asyncio.Event()

    def chunk(self, attempt: Attempt, index: int, chunk: Payload) -> None:
        """Show a chunk."""
        self._sink.chunk(Source(self._run, attempt.step_id, attempt.number), index, chunk)

    async def flush(self) -> None:
        """Wait a moment until chunks and logs are where servers find them: they are complete before the outcome."""
        await self._sink.flush(self._run)

    def progress(self, attempt: Attempt, fraction: float | None, message: str) -> None:
        """Show the progress of the attempt, with its next heartbeat or its outcome, whatever comes first."""
        self.last = Progress(fraction, message)
        self.changed.set()

    def log(self, data: bytes) -> None:
        """Do nothing: the log has shown it."""

    def waiting(self, attempt: Attempt) -> None:
        """Do nothing: an attempt here has started."""

    def still_waiting(self, attempt: Attempt) -> None:
        """Do nothing: an attempt here has started."""


class _Log:
    """The log of an attempt."""

    def __init__(self, run: RunStreams, sink: TransientSink) -> None:
        self._run = run
        self._sink = sink

    def add(self, step_id: str, attempt: int, entry: LogEntry) -> bytes | None:
        """Give a log message to the servers, which show it."""
        self._sink.log(Source(self._run, step_id, attempt), entry)
        return None
