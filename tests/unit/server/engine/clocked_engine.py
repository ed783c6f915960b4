"""An engine on a loop whose clock the test moves, with actions that the test controls."""

import asyncio
from collections import defaultdict

from integration.server.slow_journal import SlowJournal
from stepwave import Context, action
from stepwave.v1 import run_pb2
from stepwave.v1.event_pb2 import RunEvent
from stepwave_server.actions import Registry
from stepwave_server.core.evolve import new_run
from stepwave_server.core.info import RunKey
from stepwave_server.core.model import FailurePolicy, Step, Workflow
from stepwave_server.core.state import RunOptions
from stepwave_server.engine.admission.limits import Limit
from stepwave_server.engine.base import Batch, EngineOptions, Submission
from stepwave_server.engine.local import LocalEngine
from stepwave_server.wire.events.encode import Kind
from unit.server.clocked import ClockedLoop

__all__ = ["KEY", "SECOND", "EngineHarness"]

KEY = RunKey("default", "run")


SECOND = 1_000_000_000


OPTIONS = RunOptions(step_timeout=600 * SECOND)


class EngineHarness:
    """An engine on a clocked loop.

    Attributes:
        log: What its actions did, in order.
        releases: The events that end the actions, by step id.
    """

    def __init__(self, loop: ClockedLoop, *, places: int = 1_000, limits: tuple[Limit, ...] = ()) -> None:
        self.loop = loop
        self.places = places
        self.limits = limits
        self.log: list[str] = []
        self.releases: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.journal = SlowJournal()
        self.engine = loop.run(self._make())

    async def _make(self) -> LocalEngine:
        @action
        async def waits(context: Context) -> None:
            self.log.append(f"{context.step_id} began" + (" again" if context.attempt > 1 else ""))
            try:
                await self.releases[context.step_id].wait()
            except asyncio.CancelledError:
                self.log.append(f"{context.step_id} interrupted")
                raise

        @action
        async def stubborn(context: Context) -> None:
            while not self.releases[context.step_id].is_set():
                try:
                    await self.releases[context.step_id].wait()
                except asyncio.CancelledError:
                    self.log.append(f"{context.step_id} goes on")

        @action
        async def fails(context: Context) -> None:
            await self.releases[context.step_id].wait()
            raise ValueError

        @action
        async def blocks(seconds: float) -> str:
            self.loop.block(seconds)
            return "answer"

        registry = Registry([waits, stubborn, fails, blocks], entry_points=False)
        options = EngineOptions(
            cancel_grace=10,
            heartbeat=15,
            max_attempts_in_flight=self.places,
            limits=self.limits,
            run=OPTIONS,
        )
        return LocalEngine(journal=self.journal, actions=registry, clock=self.loop.nanos, options=options)

    def start(self, *steps: Step, timeout: float | None = None, prompt: bool = True) -> None:
        """Start a run. If `prompt`, its events are committed soon after they are appended."""
        nanos = None if timeout is None else round(timeout * SECOND)
        workflow = Workflow(name="flow", steps=steps, timeout=nanos, failure_policy=FailurePolicy.FAIL_FAST)

        async def submit() -> None:
            if prompt:
                self.journal.commit_promptly()
            await self.engine.start(Submission(KEY, new_run(workflow, "null", OPTIONS), b""))

        self.loop.run(submit())
        self.loop.turn()

    def commit(self) -> None:
        """Commit all appended events, on the loop."""
        self.loop.call_soon(self.journal.commit)
        self.loop.turn()

    def cancel(self) -> None:
        self.loop.run(self.engine.cancel(KEY, "enough"))
        self.loop.turn()

    def release(self, step_id: str) -> None:
        self.releases[step_id].set()
        self.loop.turn()

    def watch(self, *kinds: Kind, after: int = 0) -> tuple[list[Batch], "asyncio.Task[None]"]:
        """Watch the run. Return the list of its batches, and the task that ends with the stream."""
        got: list[Batch] = []

        async def follow() -> None:
            async for batch in self.engine.watch(KEY, after, kinds):
                got.append(batch)  # noqa: PERF401 - tests read the list while it grows

        return got, self.loop.create_task(follow())

    def kinds(self) -> list[str]:
        """Return the kinds of the committed events."""
        return [str(event.WhichOneof("kind")) for event in self.journal.committed]

    def finished(self) -> run_pb2.StepResult:
        """Return the result of the only finished step."""
        (result,) = [event.step_finished.result for event in self.journal.committed if event.HasField("step_finished")]
        return result

    def last(self) -> RunEvent:
        return self.journal.committed[-1]
