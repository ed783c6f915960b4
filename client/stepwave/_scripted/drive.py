"""Runs a workflow by its script: the server's own checks, core and engine on a loop in virtual time, and no socket."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from stepwave._building.requests import order
from stepwave._client.drive import drive
from stepwave._convert.collect import Collector
from stepwave._model.events import Event
from stepwave._values.payload import JSON, Blob
from stepwave.exceptions import InvalidWorkflow, ServerError, Unsupported, Violation
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import workflow_pb2
from stepwave_server.config import Settings
from stepwave_server.engine.base import Submission
from stepwave_server.engine.errors import EngineError
from stepwave_server.engine.local import LocalEngine
from stepwave_server.journal import MemoryJournal
from stepwave_server.rpc.requests import Preparer
from stepwave_server.rpc.statuses import InvalidCall, NotServed
from stepwave_server.rpc.workflows import Workflows

from .actions import Stage, StagedActions
from .entries import Part, unused_of
from .loop import VirtualLoop
from .report import ScriptedRun, report, told_so_far
from .script_errors import RunStuck, ScriptExhausted

__all__ = ["Order", "perform"]

_NEVER = 100 * 366 * 24 * 3600.0
"""Seconds; a stream of a scripted run needs no signs of life."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to run.

    Attributes:
        workflow: The workflow.
        input: Its input.
        run_id: Its id, of which the draws of its pauses depend.
        script: What replaces its actions.
        actions: Where the real ones come from.
        settings: Settings of the server.
        start: The wall clock at its start, in nanoseconds since the epoch.
        cancel_after: When to cancel it, in seconds from its start; `None`: not at all.
        patience: How many seconds of real time threads and connections may take.
    """

    workflow: workflow_pb2.Workflow
    input: JSON | Blob
    run_id: str
    script: Mapping[str, Part]
    actions: Iterable[object]
    settings: Mapping[str, object]
    start: int
    cancel_after: float | None
    patience: float


def perform(order: Order) -> ScriptedRun:
    """Run a workflow to its end, on a loop of its own.

    Raises:
        InvalidWorkflow, Unsupported: It cannot run.
        ScriptExhausted, RunStuck: The run did not come to an end.
        ServerError: A defect of the server.
    """
    loop = VirtualLoop(order.start, order.patience)
    performance = _Performance(order, loop)
    try:
        return drive(loop, performance.run(), strays=(SystemExit,))
    except (RunStuck, ScriptExhausted) as error:
        for line in performance.told():
            error.add_note(line)
        raise
    finally:
        loop.leave()


class _Settings(Settings):
    """Settings as they are given: what the environment tells servers is not meant for tests."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: object, **__: object
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Name where settings come from."""
        return (init_settings,)


class _Performance:
    """One run by its script."""

    def __init__(self, order: Order, loop: VirtualLoop) -> None:
        self._order = order
        self._loop = loop
        self._stage = Stage(loop)
        self._collector = Collector(order.workflow)
        self._events: list[Event] = []

    def told(self) -> list[str]:
        """Tell of what has happened so far."""
        return told_so_far(self._events, self._stage.where)

    async def run(self) -> ScriptedRun:
        """Run it to its end."""
        async with self._engine() as engine:
            submission = await self._submission(engine)
            try:
                await self._follow(engine, submission)
            except EngineError as error:
                raise ServerError(str(error)) from error
        result = self._collector.result
        assert result is not None, "a stream ends with the run's last event"
        unused = {name: count for name, part in self._order.script.items() if (count := unused_of(part))}
        return report(self._events, result, self._stage.inputs, unused)

    @asynccontextmanager
    async def _engine(self) -> AsyncIterator[LocalEngine]:
        settings = _Settings.model_validate(dict(self._order.settings))
        entry_points = settings.entry_points
        actions = StagedActions(self._order.actions, self._order.script, self._stage, entry_points=entry_points)
        options = replace(settings.engine_options(), heartbeat=_NEVER)
        clock = self._loop.nanos
        engine = LocalEngine(journal=MemoryJournal(clock), actions=actions, clock=clock, options=options)
        try:
            yield engine
        finally:
            await engine.close()

    async def _submission(self, engine: LocalEngine) -> Submission:
        request = pb.StartRunRequest()
        order(request, self._order.workflow, self._order.input, self._order.run_id)
        preparer = Preparer(engine, Workflows(), engine.options)
        try:
            return await preparer.submission(request, None, preparer.parsed())
        except (InvalidCall, NotServed) as error:
            violations = [Violation(problem.field, problem.description) for problem in error.violations]
            kind = InvalidWorkflow if isinstance(error, InvalidCall) else Unsupported
            raise kind(str(error), violations) from None

    async def _follow(self, engine: LocalEngine, submission: Submission) -> None:
        """Take the run to its end, or until the script has run out."""
        following = self._loop.create_task(self._take(engine, submission))
        self._stage.broken.add_done_callback(lambda _: following.cancel())
        await asyncio.wait({following})
        if self._stage.broken.done():
            raise self._stage.broken.result()
        await following

    async def _take(self, engine: LocalEngine, submission: Submission) -> None:
        """Start the run, and take its events from before its first step has done anything."""
        await engine.start(submission)
        if self._order.cancel_after is not None:
            self._loop.call_later(self._order.cancel_after, engine.cancel, submission.key, "the test cancelled the run")
        async with aclosing(engine.watch(submission.key, 0, ())) as batches:
            async for batch in batches:
                messages = pb.WatchRunResponse.FromString(batch.data).events
                self._events += self._collector.events(messages)
