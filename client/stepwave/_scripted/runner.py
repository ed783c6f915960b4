"""Runs a workflow by its script, with the server's checks, core and engine, in virtual time and without a socket."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from stepwave._actions.action import UNKNOWN_ACTION
from stepwave._actions.context import Context
from stepwave._building.requests import set_run
from stepwave._client.drive import drive
from stepwave._convert.collect import Collector
from stepwave._model.events import AnyEvent, StepStarted
from stepwave._values.payload import JSON, Blob
from stepwave.exceptions import InvalidWorkflow, ServerError, Unsupported, Violation
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import workflow_pb2
from stepwave_server.actions.failures import failure_of
from stepwave_server.actions.values import load
from stepwave_server.config import Settings
from stepwave_server.core.info import RunKey
from stepwave_server.core.messages import StepCompleted
from stepwave_server.core.model import WAIT_ACTION, Payload
from stepwave_server.engine.base import EngineOptions, Submission
from stepwave_server.engine.errors import EngineError
from stepwave_server.engine.local import LocalEngine
from stepwave_server.engine.secrets.store import PlaceholderSecrets
from stepwave_server.journal import Journal, MemoryJournal
from stepwave_server.rpc.requests import Preparer
from stepwave_server.rpc.statuses import InvalidCall, NotServed
from stepwave_server.rpc.workflows import Workflows, WorkflowsError

from .actions import AttemptTracker, ScriptedActions
from .loop import VirtualLoop
from .report import ScriptedRun, describe_attempts, report
from .script import ActionScript, RunStuck, ScriptExhausted, unused_entries

__all__ = ["RunSpec", "execute"]

_UNKNOWN_HINT = "add unknown actions to `actions`, or replace them in the script"

_FAR = datetime(9999, 1, 1, tzinfo=UTC)

_NEVER = 100 * 366 * 24 * 3600.0
"""Seconds between keep-alives of a stream: a scripted run needs none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """The specification of a scripted run.

    Attributes:
        workflow: The workflow.
        input: The run's input.
        run_id: The run's id, which also determines the jitter of pauses.
        script: The scripts as given, by the name of an action or the id of a step.
        replaced: The scripts of the replaced actions, by name.
        actions: The real actions, as for a server.
        settings: Settings of the server.
        start: The wall clock at the run's start, in nanoseconds since the epoch.
        cancel_after: When to cancel the run, in virtual seconds from its start; `None`: never.
        patience: The longest that a thread or connection may block the run, in real seconds.
    """

    workflow: workflow_pb2.Workflow
    input: JSON | Blob
    run_id: str
    script: Mapping[str, ActionScript]
    replaced: Mapping[str, ActionScript]
    actions: Iterable[object]
    settings: Mapping[str, object]
    start: int
    cancel_after: float | None
    patience: float


def execute(spec: RunSpec) -> ScriptedRun:
    """Run a workflow to its end, on a loop of its own.

    Raises:
        InvalidWorkflow, Unsupported: The workflow cannot run.
        ScriptExhausted, RunStuck: The run did not end.
        ServerError: A defect of the server.
    """
    loop = VirtualLoop(spec.start, spec.patience)
    runner = _Runner(spec, loop)
    try:
        return drive(loop, runner.run(), strays=(SystemExit,))
    except (RunStuck, ScriptExhausted) as error:
        for note in runner.attempts_so_far():
            error.add_note(note)
        raise
    finally:
        loop.shut_down()


class _Settings(Settings):
    """Settings that ignore the environment, which is meant for servers and not for tests."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: object, **__: object
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources of settings: the arguments alone."""
        return (init_settings,)


class _Engine(LocalEngine):
    """The engine, with named workflows, and access to the inputs of steps that wait to be completed."""

    def __init__(
        self,
        *,
        actions: ScriptedActions,
        journal: Journal,
        clock: Callable[[], int],
        options: EngineOptions,
        workflows: Workflows,
    ) -> None:
        super().__init__(journal=journal, actions=actions, clock=clock, options=options, named=self._named)
        self.scripted = actions
        self.workflows = workflows

    def _named(self, name: str) -> workflow_pb2.Workflow:
        workflow = self.workflows.get(name)
        if workflow is None:
            raise LookupError(self.workflows.unknown(name))
        return workflow

    def input_of(self, key: RunKey, step_id: str) -> Payload | None:
        """Return the input of a step that waits to be completed; `None`: it has ended."""
        run = self._runs.get(key)
        step = None if run is None else run.state.steps.get(step_id)
        return None if run is None or step is None or step.ended else run.input_of(step)


class _Runner:
    """One scripted run."""

    def __init__(self, spec: RunSpec, loop: VirtualLoop) -> None:
        self._spec = spec
        self._loop = loop
        self._tracker = AttemptTracker(loop)
        self._collector = Collector(spec.workflow)
        self._events: list[AnyEvent] = []

    def attempts_so_far(self) -> list[str]:
        """Describe the attempts so far."""
        return describe_attempts(self._events, self._tracker.location)

    async def run(self) -> ScriptedRun:
        """Run to the end."""
        async with self._engine() as engine:
            submission = await self._submission(engine)
            try:
                await self._follow(engine, submission)
            except EngineError as error:
                raise ServerError(str(error)) from error
        result = self._collector.result
        assert result is not None, "a stream ends with the run's last event"
        unused = {name: count for name, script in self._spec.script.items() if (count := unused_entries(script))}
        return report(self._events, result, self._tracker.inputs, unused)

    @asynccontextmanager
    async def _engine(self) -> "AsyncIterator[_Engine]":
        settings = _Settings.model_validate(dict(self._spec.settings))
        workflows = Workflows.load(settings.workflows) if settings.workflows else Workflows()
        if workflows.problems:
            raise WorkflowsError(workflows.problems)
        entry_points = settings.entry_points
        actions = ScriptedActions(self._spec.actions, self._spec.replaced, self._tracker, entry_points=entry_points)
        options = replace(settings.engine_options(), heartbeat=_NEVER, secrets=PlaceholderSecrets())
        clock = self._loop.nanos
        engine = _Engine(
            journal=MemoryJournal(clock), actions=actions, clock=clock, options=options, workflows=workflows
        )
        try:
            yield engine
        finally:
            await engine.close()

    async def _submission(self, engine: _Engine) -> Submission:
        request = pb.StartRunRequest()
        set_run(request, self._spec.workflow, self._spec.input, self._spec.run_id)
        preparer = Preparer(engine, engine.workflows, engine.options)
        try:
            return await preparer.submission(request, None, preparer.parsed())
        except (InvalidCall, NotServed) as error:
            violations = [Violation(it.field, it.description, it.reason) for it in error.violations]
            if isinstance(error, NotServed):
                raise Unsupported(str(error), violations) from None
            unknown = any(violation.reason == UNKNOWN_ACTION for violation in violations)
            raise InvalidWorkflow(str(error), violations, hint=_UNKNOWN_HINT if unknown else "") from None

    async def _follow(self, engine: _Engine, submission: Submission) -> None:
        """Follow the run to its end, or until the script has run out."""
        collecting = self._loop.create_task(self._collect(engine, submission))
        self._tracker.exhausted.add_done_callback(lambda _: collecting.cancel())
        await asyncio.wait({collecting})
        if self._tracker.exhausted.done():
            raise self._tracker.exhausted.result()
        await collecting

    async def _collect(self, engine: _Engine, submission: Submission) -> None:
        """Start the run, and collect its events from the first one on."""
        await engine.start(submission)
        completing = set[asyncio.Task[None]]()
        if self._spec.cancel_after is not None:
            completing.add(self._loop.create_task(self._cancel(engine, submission.key, self._spec.cancel_after)))
        try:
            async with aclosing(engine.watch(submission.key, 0, ())) as batches:
                async for batch in batches:
                    events = self._collector.events(pb.WatchRunResponse.FromString(batch.data).events)
                    self._events += events
                    for event in events:
                        if isinstance(event, StepStarted) and event.action == WAIT_ACTION:
                            completing.add(self._loop.create_task(self._complete(engine, submission.key, event)))
        finally:
            for task in completing:
                task.cancel()
            await asyncio.gather(*completing, return_exceptions=True)

    async def _cancel(self, engine: _Engine, key: RunKey, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await engine.cancel(key, "the test cancelled the run")

    async def _complete(self, engine: _Engine, key: RunKey, event: StepStarted) -> None:
        """Complete a step that waits, as the script says."""
        payload = engine.input_of(key, event.step_id)
        if payload is None:  # it has ended
            return
        self._tracker.inputs[event.step_id, event.attempt] = load(payload)
        context = Context(
            run_id=key.run_id,
            step_id=event.step_id,
            attempt=event.attempt,
            idempotency_key=f"{key.namespace}/{key.run_id}/{event.step_id}",
            deadline=event.deadline or _FAR,
        )
        output, failure = None, None
        try:
            output = await engine.scripted.complete(payload, context, engine.options.max_payload_bytes)
            if output is None:
                return
        except Exception as error:
            failure = failure_of(error, event.step_id, event.attempt)
        with suppress(EngineError):  # it has timed out, or the run has ended
            await engine.complete(key, StepCompleted(event.step_id, output, failure))
