"""Open runs: a client adds steps while the run lasts.

A task sends the steps in their order, those that wait together in one call. The call is idempotent, so it is sent again
after the loss of a server. If a call with several steps is refused, each is sent alone: the others are added, whatever
was sent together. Another task reads the run's stream, which keeps the run attached.
"""

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self, Unpack

from stepwave._building.action_types import OpenRunOptions
from stepwave._building.references import Reference
from stepwave._building.workflow import Workflow
from stepwave._files import LoadedStep
from stepwave._model.events import AnyEvent, RunFinished
from stepwave._model.results import Run, RunResult
from stepwave._transport.aio import LoopAffinity
from stepwave._transport.base import ADD_STEPS
from stepwave._transport.link import Link
from stepwave.exceptions import FailedPrecondition, InvalidWorkflow, StepwaveError, Unsupported, Violation
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import workflow_pb2

from .functions import Register, UnknownActionHint
from .runs import AttachedRun
from .step_lines import StepLines
from .streams import EventStream

__all__ = ["OpenRun", "PlanBuilder"]

_BATCH_BYTES = 1 << 20
_NOT_OPEN = "RUN_NOT_OPEN"
_INDEX = re.compile(r"^steps\[\d+\]\.?")


class PlanBuilder(Workflow):
    """The workflow of an open run: each step that is added to it is sent.

    Args:
        name: The workflow's name.
        options: Options of the workflow.
    """

    def __init__(self, name: str, **options: Unpack[OpenRunOptions]) -> None:
        super().__init__(name, **options)
        self.send: Callable[[int, workflow_pb2.Step, LoadedStep | None], None] | None = None

    def add_loaded(self, loaded: LoadedStep) -> None:
        """Add a step that was read from a stream."""
        self._send(loaded.message, loaded)
        super()._add(loaded.message)

    def _add(self, step: workflow_pb2.Step) -> None:
        self._send(step, None)
        super()._add(step)

    def _send(self, step: workflow_pb2.Step, loaded: LoadedStep | None) -> None:
        if self.send is None:
            raise RuntimeError("enter the context manager before adding steps: `async with client.compose(…) as plan:`")
        self.send(len(self._steps), step, loaded)


@dataclass(frozen=True, slots=True)
class _Added:
    """A step that was added here.

    Attributes:
        index: Its number among them, from 0.
        message: The step.
        loaded: Where it was read; `None`: it was built.
    """

    index: int
    message: workflow_pb2.Step
    loaded: LoadedStep | None


class OpenRun:
    """A run to which steps are added while it lasts. What is ready, runs at once.

        async with client.compose("plan", {"city": "Oslo"}) as plan:
            search = plan.step("search", "web.search", {"query": plan.input["city"]})
            plan.step("read", "fetch", {"url": search.output["urls"][0]})
        print(plan.result.outputs)

    Steps are sent in the background, in their order. A step may depend on one that is added later, by its id. Leaving
    the block seals the run and waits for its end. An exception in the block cancels the run. So does the loss of this
    process: the run ends when the reconnect window has passed.

    If the server refuses a step, the next call raises `InvalidWorkflow` for it, or leaving the block does. Steps after
    it are sent all the same. If the run ends early, for example because a step failed, the next call raises
    `FailedPrecondition`. If that leaves the block, the block raises how the run ended.

    Attributes:
        step: Adds a step. As `Workflow.step`.
        schedule: Calls `enqueue` on the event loop.
    """

    def __init__(
        self,
        link: Link,
        affinity: LoopAffinity,
        request: pb.ExecuteWorkflowRequest,
        builder: PlanBuilder,
        *,
        check: bool,
        register: Register | None,
        watch: Callable[[str], EventStream],
    ) -> None:
        self.step = builder.step
        self._builder = builder
        self._link = link.patient(None)
        self._affinity = affinity
        self._request = request
        self._check = check
        self._register = register
        self._watch = watch
        self._hint = UnknownActionHint(builder, in_process=register is not None)
        self._run = AttachedRun(link, request, timeout=None, hint=self._hint)
        self._streams: list[EventStream] = []
        self._pending: deque[_Added] = deque()
        self._wake, self._sent = asyncio.Event(), asyncio.Event()
        self._sent.set()
        self._refused: list[StepwaveError] = []
        self._failed: StepwaveError | None = None
        self._ended_early: FailedPrecondition | None = None
        self._sealed = self._has_ended = False
        self._sender: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[RunResult] | None = None
        self._result: RunResult | None = None
        self.schedule: Callable[[_Added], None] = self.enqueue

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._run.run_id

    @property
    def input(self) -> Reference:
        """A reference to the run's input, for the inputs of steps."""
        return self._builder.input

    @property
    def result(self) -> RunResult:
        """The run's result, whatever its state.

        Raises:
            RuntimeError: The block was not left, or the run's end was not seen.
        """
        if self._result is None:
            raise RuntimeError(f"run {self.run_id!r} has not ended; its result is there when the block was left")
        return self._result

    async def __aenter__(self) -> Self:
        """Start the run.

        Raises:
            StepwaveError: The server refused the run, or does not answer.
        """
        self._affinity.check()
        try:
            self._run.open()
            await self._run.events()
        except BaseException:
            await self._run.leave()
            raise
        self._reader = asyncio.create_task(self._run.complete(), name=f"{self.run_id}/reader")
        self._sender = asyncio.create_task(self._send_added(), name=f"{self.run_id}/sender")
        self._builder.send = self._take
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Seal the run and wait for its end; after an exception, cancel the run.

        Raises:
            RunFailed, RunCancelled: The run ended so, and `check` is true.
            InvalidWorkflow: The server refused steps, or a step depends on one that was never added. The run is
                cancelled.
            StepwaveError: The server was lost.
        """
        self._affinity.check()
        try:
            if error is not None and error is not self._ended_early:
                return False
            await self._finish()
        finally:
            await self._release()
        return error is not None

    async def flush(self) -> None:
        """Wait until the server has all steps so far.

        Raises:
            InvalidWorkflow, Unsupported: The server refused steps.
            FailedPrecondition: The run takes no more steps: it was cancelled, has failed or was idle for too long.
            StepwaveError: The server was lost.
        """
        await self.sent()
        self._raise_problems()

    async def seal(self) -> None:
        """Seal the run: no more steps can be added. Leaving the block does it, too.

        Raises:
            InvalidWorkflow: A step depends on one that was never added, or the server refused steps. The run is not
                sealed.
            FailedPrecondition: As for `flush`.
        """
        if self._sealed:
            return
        await self.flush()
        request = pb.AddStepsRequest(namespace=self._request.namespace, run_id=self.run_id, seal=True)
        try:
            await self._link.call(ADD_STEPS, request)
        except FailedPrecondition as error:
            if error.reason != _NOT_OPEN:
                raise
            self._ended_early = error
            raise
        self._sealed = True

    async def cancel(self, reason: str = "") -> Run:
        """Cancel the run, and return its current state. It takes no more steps.

        The block then ends without `RunCancelled`.
        """
        return await self._run.cancel(reason)

    async def feed(self, texts: AsyncIterable[str], source: str = "feed") -> None:
        """Add the steps of a stream of JSON Lines, as a model writes them: each as soon as its line is complete.

            await plan.feed(model.stream(prompt))

        A line has one step in the form of a workflow file: `{"id": "b", "action": "fetch", "input": {"url":
        {"$from": "a/url"}}}`. The texts may be cut anywhere. Blank lines, and fences such as ```` ```json ````, are
        skipped. The last line needs no line break.

        Args:
            texts: The stream.
            source: Its name in error messages.

        Raises:
            InvalidWorkflow: A line is not a step, or the server refused it. The message has the number of the line.
                Steps of earlier lines were added.
            FailedPrecondition: As for `flush`.
        """
        lines = StepLines(source)
        try:
            async for text in texts:
                self.add_loaded(lines.push(text))
            self.add_loaded(lines.end())
        except InvalidWorkflow:
            await self.sent()
            raise
        await self.flush()

    async def events(self) -> AsyncIterator[AnyEvent]:
        """Iterate over the events of the run, from the first one to its end, for example in a task of its own.

        To add steps by what happens, add them in the loop, and `seal` when there are no more.
        """
        self._affinity.check()
        stream = self._watch(self.run_id)
        self._streams.append(stream)
        async with stream:
            async for event in stream:
                self.note(event)
                yield event

    async def sent(self) -> None:
        """Wait until all steps so far were sent. Unlike `flush`, it raises nothing."""
        await self._sent.wait()

    def note(self, event: AnyEvent) -> None:
        """Note that the run has ended, if an event says so. The stream of the tasks here may say so later."""
        self._has_ended = self._has_ended or isinstance(event, RunFinished)

    def add_loaded(self, steps: Iterable[LoadedStep]) -> None:
        """Add steps that were read from a stream. Raises what `flush` raises, and does not wait."""
        for step in steps:
            self._builder.add_loaded(step)

    # Sending.

    def _take(self, index: int, step: workflow_pb2.Step, loaded: LoadedStep | None) -> None:
        """Send an added step in the background. Raise the refusal of an earlier step, if there is one."""
        self._raise_problems()
        if self._register is not None:
            self._register(self._builder.actions)
        self.schedule(_Added(index, step, loaded))

    def enqueue(self, added: _Added) -> None:
        """Let a step be sent. Called on the event loop."""
        self._pending.append(added)
        self._sent.clear()
        self._wake.set()

    def _raise_problems(self) -> None:
        """Raise the problems of earlier steps, once.

        Raises:
            StepwaveError: Steps were refused, the run takes no more, or the server was lost.
            RuntimeError: The run is sealed.
        """
        if self._refused:
            refused, self._refused = self._refused, []
            raise _joined(refused)
        if self._failed is not None:
            raise self._failed
        if self._sealed:
            raise RuntimeError("the run is sealed: it takes no more steps")
        if self._ended_early is None and (self._has_ended or (self._reader is not None and self._reader.done())):
            self._ended_early = FailedPrecondition(f"run {self.run_id!r} has ended", reason=_NOT_OPEN)
        if self._ended_early is not None:
            raise self._ended_early

    @property
    def _takes_steps(self) -> bool:
        return self._failed is None and self._ended_early is None

    async def _send_added(self) -> None:
        """Send the steps that were added, until the run takes no more."""
        try:
            while self._takes_steps:
                await self._wake.wait()
                self._wake.clear()
                while self._pending and self._takes_steps:
                    await self._send(list(self._batch()))
                self._sent.set()
        finally:
            self._sent.set()

    def _batch(self) -> Iterator[_Added]:
        """Remove the next steps from the queue, and yield them: at least one, and at most `_BATCH_BYTES` of several."""
        size = 0
        while self._pending and (not size or size + self._pending[0].message.ByteSize() <= _BATCH_BYTES):
            added = self._pending.popleft()
            size += added.message.ByteSize()
            yield added

    async def _send(self, batch: Sequence[_Added]) -> None:
        request = pb.AddStepsRequest(
            namespace=self._request.namespace, run_id=self.run_id, steps=[added.message for added in batch]
        )
        try:
            await self._link.call(ADD_STEPS, request)
        except (InvalidWorkflow, Unsupported) as error:
            if len(batch) == 1:
                self._refused.append(self._located(error, batch[0]))
                return
            for added in batch:
                await self._send([added])
        except FailedPrecondition as error:
            self._ended_early = error
        except StepwaveError as error:
            self._failed = error

    def _located(self, error: InvalidWorkflow | Unsupported, added: _Added) -> StepwaveError:
        """Return the error of a step with its line, or with its number among the steps of the plan."""
        own = [Violation(_INDEX.sub("", it.field), it.description, it.reason) for it in error.violations]
        if added.loaded is not None:
            return added.loaded.locate(own)
        where = f"steps[{added.index}]"
        violations = [Violation(f"{where}.{it.field}" if it.field else where, it.description, it.reason) for it in own]
        try:
            with self._hint:
                raise type(error)(f"step {added.message.id!r}: {error}", violations, reason=error.reason)
        except (InvalidWorkflow, Unsupported) as located:
            return located

    # The end.

    async def _finish(self) -> None:
        assert self._reader is not None, "the block was entered"
        try:
            if self._ended_early is None:
                await self.seal()
        except FailedPrecondition as error:
            if error is not self._ended_early:
                raise
        self._result = await self._reader
        if self._check:
            self._run.checked(self._result)

    async def _release(self) -> None:
        """End the tasks and streams, and cancel the run if it is still under way."""
        tasks = [task for task in (self._sender, self._reader) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._reader is not None and not self._reader.cancelled():
            self._reader.exception()  # raised where it was awaited, or beside the exception of the block
        await self._run.leave()  # a reader that was cancelled before it began did not
        for stream in self._streams:
            await stream.__aexit__(None, None, None)


def _joined(refused: Sequence[StepwaveError]) -> StepwaveError:
    """Return one error for several."""
    if len(refused) == 1:
        return refused[0]
    engine = next((one.engine for one in refused if isinstance(one, InvalidWorkflow) and one.engine), "")
    error = InvalidWorkflow("\n".join(map(str, refused)), reason=refused[0].reason, engine=engine)
    error.violations = tuple(
        it for one in refused if isinstance(one, InvalidWorkflow | Unsupported) for it in one.violations
    )
    return error
