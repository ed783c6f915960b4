"""The Temporal workflow of a run. It feeds the driver, and turns its effects into activities and timers.

It runs outside Temporal's sandbox: the core and the evaluator are deterministic by themselves, and the sandbox would
load them again for every run.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cached_property, partial
from typing import Any

from temporalio import workflow
from temporalio.common import RawValue, RetryPolicy
from temporalio.worker import (
    ExecuteWorkflowInput,
    Interceptor,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

from stepwave.v1 import workflow_pb2
from stepwave_server.core.evolve import new_run
from stepwave_server.core.info import RunKey
from stepwave_server.core.messages import CancelRequested, Event, StepStarted
from stepwave_server.core.state import CORE_VERSION
from stepwave_server.engine.evaluation.json_evaluator import JsonEvaluator
from stepwave_server.engine.temporal.codec import (
    NO_VALUE,
    SIGNAL,
    WORKFLOW_TYPE,
    StartInput,
    activity_id,
    decode_start,
    encode_value,
    from_signal,
    max_bytes,
    outcome_of_answer,
    outcome_of_error,
    task_queue_of,
)
from stepwave_server.engine.temporal.driver import RunDriver
from stepwave_server.engine.temporal.driver_messages import (
    CancelAttempt,
    CancelTimer,
    Effect,
    End,
    HistorySize,
    SetTimer,
    StartAttempt,
    TimerDue,
)
from stepwave_server.engine.temporal.history import Inbox
from stepwave_server.engine.temporal.holds import HOLDERS_MEMO, Holds
from stepwave_server.engine.temporal.visibility import INFO_MEMO, STATE, run_info, to_memo
from stepwave_server.telemetry import Measures, ProcessTelemetry, RunMeasures, RunTelemetry, Telemetry, TraceParent
from stepwave_server.telemetry.parent import headers_of
from stepwave_server.wire.workflows.workflow import Parsed, parse_workflow

__all__ = ["RunHooks", "RunWorkflow", "UnsupportedVersion", "driver_of"]

BACKSTOP = 5.0
"""Seconds after an attempt's timeout and its grace after which Temporal ends its activity. The host does so before."""

_ONCE = RetryPolicy(maximum_attempts=1)


class UnsupportedVersion(Exception):
    """Raised when a later version of the core began a run. Its workflow waits for a server of that version."""

    def __init__(self, version: int) -> None:
        super().__init__(f"version {version} of the scheduler began it; this server has version {CORE_VERSION}")


def driver_of(start: StartInput) -> RunDriver:
    """Return the driver of a run before its first input.

    Raises:
        UnsupportedVersion: A later version of the core began it.
    """
    header = start.header
    if header.options.version > CORE_VERSION:
        raise UnsupportedVersion(header.options.version)
    definition = workflow_pb2.Workflow.FromString(header.workflow)
    parsed = parse_workflow(definition, Parsed(accepted=True))
    state = new_run(parsed, header.input, header.options)
    return RunDriver(state, JsonEvaluator(max_bytes(start)), Holds(header.window, start.holder))


@workflow.defn(name=WORKFLOW_TYPE, sandboxed=False)
class RunWorkflow:
    """Drives one run.

    Args:
        definition: The definition of the run, an encoded `RunDefinition`.
        options: What the engine needs beside it; see `encode_start`.
    """

    @workflow.init
    def __init__(self, definition: bytes, options: dict[str, Any]) -> None:
        started = round(workflow.info().workflow_start_time.timestamp() * 1e6) * 1_000
        self._start = decode_start(definition, options, started)
        self._holders = [] if self._start.header.window is None else [self._start.holder]
        self._inbox = Inbox()
        self._activities: dict[tuple[str, int], workflow.ActivityHandle[RawValue]] = {}
        self._timers: dict[str, asyncio.Task[None]] = {}
        self._ended = False
        self._telemetry: RunTelemetry | None = None
        self._decided: Callable[[RunKey], None] = lambda key: None

    @cached_property
    def _driver(self) -> RunDriver:
        """The driver. It is made when the run begins: an error in the constructor leaves a coroutine behind."""
        return driver_of(self._start)

    def connect(self, hooks: "RunHooks") -> None:
        """Connect the run with its server. It is traced from now on: spans that ended before are not exported again."""
        header, state = self._start.header, self._driver.state
        self._decided = hooks.decided
        measures, tracer = None, None
        if hooks.measures is not None:
            measures = RunMeasures(header.key, state, hooks.measures, attempts=False)
        if hooks.telemetry is not None:
            tracer = hooks.telemetry.run(
                namespace=header.key.namespace,
                run_id=header.key.run_id,
                workflow_name=state.workflow.name,
                parent=TraceParent(header.traceparent, header.tracestate) if header.traceparent else None,
                create_time=header.create_time,
            )
        self._telemetry = RunTelemetry(header.key, tracer, measures)

    @workflow.run
    async def run(self, definition: bytes, options: dict[str, Any]) -> None:
        """Drive the run to its end."""
        self._inbox.start.append(self._start.started)
        while not self._ended:
            await self._wait_for_inputs()
            info = workflow.info()
            size = HistorySize(info.get_current_history_length(), info.get_current_history_size())
            self._driver.take([size, *self._inbox.take()], workflow.time_ns())
            self._observe(self._driver.take_events())
            for effect in self._driver.take_effects():
                self._carry_out(effect)
            self._show_holders()
            if not workflow.unsafe.is_replaying():
                self._decided(self._start.header.key)
        self._show_end()

    def _show_holders(self) -> None:
        """Show which servers hold the run, for those that look for the runs of a server that is lost."""
        holders = sorted(self._driver.holds.holders)
        if holders != self._holders:
            self._holders = holders
            workflow.upsert_memo({HOLDERS_MEMO: holders})

    def _show_end(self) -> None:
        """Show the final state in lists of runs. This adds the last commands of the workflow."""
        info = run_info(self._start.header, self._driver.state)
        workflow.upsert_search_attributes([STATE.value_set(info.state.name.lower())])
        workflow.upsert_memo({INFO_MEMO: to_memo(info)})

    def _observe(self, events: Sequence[Event]) -> None:
        if self._telemetry is not None:
            (self._telemetry.replay if workflow.unsafe.is_replaying() else self._telemetry.add)(events)

    async def _wait_for_inputs(self) -> None:
        """Wait until there are inputs. All inputs of a workflow task are there then.

        The wait for the condition ends when nothing else of the task is left to do. A cancel of the workflow ends it
        before that.
        """
        complete = False
        while not complete:
            try:
                await workflow.wait_condition(lambda: bool(self._inbox))
                complete = True
            except asyncio.CancelledError:
                self._inbox.timers.append(CancelRequested("the workflow was cancelled in Temporal"))

    @workflow.signal(name=SIGNAL)
    def request(self, message: dict[str, Any]) -> None:
        """Take a request of a caller."""
        self._inbox.requests.append(from_signal(message))

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case StartAttempt():
                self._start_attempt(effect)
            case CancelAttempt(step_id, attempt):
                self._cancel_attempt(step_id, attempt)
            case SetTimer(name, delay):
                self._set_timer(name, delay)
            case CancelTimer(name):
                if (timer := self._timers.pop(name, None)) is not None:
                    timer.cancel()
            case End():
                self._ended = True

    def _start_attempt(self, start: StartAttempt) -> None:
        invoke, event = start.invoke, start.event
        assert event.deadline is not None, "every attempt of an action has one"
        seconds = (event.deadline - event.time) / 1e9
        step: dict[str, Any] = {
            "namespace": self._start.header.key.namespace,
            "run_id": self._start.header.key.run_id,
            "step_id": invoke.step_id,
            "attempt": invoke.attempt,
            "timeout": seconds,
            "fallback": invoke.fallback,
            "strict": start.strict,
            "wave": event.wave,
            "trace": self._trace_of(event),
        }
        if start.secrets:  # otherwise as in older histories
            step["secrets"] = [[place.target, place.name] for place in start.secrets]
        handle = workflow.start_activity(
            event.action,
            args=[encode_value(start.input), encode_value(json.dumps(step))],
            activity_id=activity_id(invoke.step_id, invoke.attempt),
            task_queue=task_queue_of(self._start.task_queue, event.action),
            result_type=RawValue,
            retry_policy=_ONCE,
            start_to_close_timeout=timedelta(seconds=seconds + self._start.cancel_grace + BACKSTOP),
            heartbeat_timeout=timedelta(seconds=self._start.heartbeat_timeout),
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
        self._activities[invoke.step_id, invoke.attempt] = handle
        handle.add_done_callback(partial(self._ended_attempt, invoke.step_id, invoke.attempt, event.action))

    def _trace_of(self, event: StepStarted) -> dict[str, str]:
        """Return the W3C trace context of an attempt; empty: the run is not traced."""
        tracer = self._telemetry.tracer if self._telemetry is not None else None
        if tracer is None:
            return {}
        return headers_of(tracer.attempt_context(event.step_id, event.wave, event.attempt))

    def _ended_attempt(self, step_id: str, attempt: int, action: str, handle: asyncio.Task[RawValue]) -> None:
        del self._activities[step_id, attempt]
        if handle.cancelled() or (error := handle.exception()) is not None:
            error = None if handle.cancelled() else error
            outcome = outcome_of_error(step_id, attempt, error)
        else:
            answer: RawValue | None = handle.result()
            value = NO_VALUE if answer is None else answer.payload
            outcome = outcome_of_answer(step_id, attempt, action, value, max_bytes(self._start))
        self._inbox.outcomes.append(outcome)

    def _cancel_attempt(self, step_id: str, attempt: int) -> None:
        """Cancel an activity, unless it has ended: then its outcome is among the inputs of this task."""
        handle = self._activities.get((step_id, attempt))
        if handle is not None:
            handle.cancel()

    def _set_timer(self, name: str, delay: int) -> None:
        timer = asyncio.create_task(self._sleep(name, delay / 1e9))
        self._timers[name] = timer

    async def _sleep(self, name: str, seconds: float) -> None:
        await workflow.sleep(seconds, summary=name)
        self._timers.pop(name, None)
        self._inbox.timers.append(TimerDue(name))


class RunHooks(Interceptor):
    """Connects the runs that a server drives with the rest of the server.

    Args:
        decided: Called on the event loop with the key of a run that has decided on inputs, before Temporal knows it.
        telemetry: The telemetry of the server; `None`: runs are not traced.
        measures: The numbers that metrics are made of; `None`: nothing is measured.
    """

    def __init__(
        self,
        decided: Callable[[RunKey], None],
        telemetry: Telemetry | ProcessTelemetry | None = None,
        measures: Measures | None = None,
    ) -> None:
        self.decided = decided
        self.telemetry = telemetry
        self.measures = measures

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        """Return what connects a workflow."""
        hooks = self

        class Connects(WorkflowInboundInterceptor):
            async def execute_workflow(self, input: ExecuteWorkflowInput) -> object:
                running = workflow.instance()
                if isinstance(running, RunWorkflow):
                    running.connect(hooks)
                return await super().execute_workflow(input)

        return Connects
