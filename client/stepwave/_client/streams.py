"""Handles of runs that a client follows: async ones to iterate over or await, and their blocking counterparts."""

from collections import deque
from collections.abc import AsyncIterator, Generator, Iterator
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar

from stepwave._building.references import StepHandle
from stepwave._model.events import AnyEvent, StepFinished
from stepwave._model.results import Run, RunResult, StepResult
from stepwave._transport.aio import LoopAffinity
from stepwave._transport.blocking import drive, drive_each

from .runs import AttachedRun, WatchedRun
from .text import TEXT_KINDS, StepText, TextChunk, read_text

__all__ = ["EventStream", "RunHandle", "SyncEventStream", "SyncRunHandle"]

Followed = TypeVar("Followed", bound=WatchedRun)


class _NotEntered(RuntimeError):
    """Raised when the context manager of a stream was not entered.

    Args:
        usage: The lines that enter it.
    """

    def __init__(self, usage: str) -> None:
        super().__init__(f"enter the context manager before iterating; its exit frees the stream: {usage}")


class _AsyncEvents(Generic[Followed]):
    """An async context manager that iterates over the events of a run."""

    _USAGE: ClassVar[str]

    def __init__(self, run: Followed, affinity: LoopAffinity) -> None:
        self._run = run
        self._affinity = affinity
        self._check = True
        self._entered = False
        self._ready: deque[AnyEvent] = deque()

    async def __aenter__(self) -> Self:
        self._affinity.check()
        self._run.open()
        self._entered = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._affinity.check()
        self._entered = False
        await self._run.leave()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AnyEvent:
        self._affinity.check()
        if not self._ready:
            if not self._entered:
                raise _NotEntered(self._USAGE)
            self._ready.extend(await self._run.events())
            if not self._ready:
                raise StopAsyncIteration
        return self._ready.popleft()

    def text(self, step: StepHandle | str) -> AsyncIterator[TextChunk]:
        """Iterate over the text of one step, chunk by chunk, until the step ends.

            async with client.run(flow) as run:
                async for text in run.text("summary"):
                    print(text, end="", flush=True)
                result = await run

        - A chunk is a string. Chunks that are no strings come as their JSON, blobs as in `to_dict`.
        - A new attempt, or a fallback, makes the earlier chunks void. The next chunk then has `restarts`, even if it is
          empty.
        - A step that answers without chunks gives its output as one chunk, unless it is empty. So does a step that has
          ended, or that a rerun takes over.
        - If the reader missed chunks (it is slow, or began late), the rest comes as one chunk at the step's end.
        - If the step fails, is cancelled or is skipped, the run is read to its end. If that was no success either, the
          exception is the run's, unless the run has `check=False`; otherwise the text ends.

        Other events that are read meanwhile are dropped. Leaving the loop does not leave the run: its events can still
        be read, or another step's text. Read two steps at the same time with a `watch` for one of them.

        Args:
            step: The step, or its id.

        Raises:
            ValueError: The run has no such step. Raised at once if the plan is known, else once it is. Or the stream
                is a `watch` of other kinds of events.
            RunFailed, RunCancelled: The step did not succeed, and the run ended so. After this handle's `cancel`, the
                text of a cancelled run ends instead.
            RuntimeError: The context manager was not entered.
        """
        step_id = step if isinstance(step, str) else step.id
        self._run.check_step(step_id)
        self._run.check_kinds(TEXT_KINDS)
        return self._text(StepText(step_id))

    async def _text(self, text: StepText) -> AsyncIterator[TextChunk]:
        result = self._finished_step(text.step_id)
        async for chunk in read_text(text, self, self._run, result=result, check=self._check):
            yield chunk

    def _finished_step(self, step_id: str) -> StepResult | None:
        """Return the result of a step whose end was read; `None`: its end is still to be read."""
        for event in self._ready:
            if isinstance(event, StepFinished) and event.result.step_id == step_id:
                return None
        return self._run.step(step_id)


class EventStream(_AsyncEvents[WatchedRun]):
    """The events of a watched run.

        async with client.watch(run_id) as events:
            async for event in events: ...

    Each event comes once and in order, even if the connection is lost. A slow reader does not delay the run: events
    are requested as they are read.
    """

    _USAGE = "`async with client.watch(…) as events:`"


class RunHandle(_AsyncEvents[AttachedRun]):
    """A run to await or to enter.

    result = await client.run(flow)

    async with client.run(flow) as run:
        async for event in run: ...
    print(run.result.outputs)
    """

    _USAGE = "`async with client.run(…) as run:`"

    def __init__(self, run: AttachedRun, affinity: LoopAffinity, *, check: bool) -> None:
        super().__init__(run, affinity)
        self._check = check

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._run.run_id

    @property
    def result(self) -> RunResult:
        """The run's result, whatever its state.

        Raises:
            RuntimeError: Its last event has not been read yet.
        """
        if self._run.result is None:
            raise RuntimeError(f"run {self.run_id!r} has not ended, as far as its events were read")
        return self._run.result

    async def cancel(self, reason: str = "") -> Run:
        """Cancel the run, and return its current state. Its events continue to the last one.

        Awaiting the handle afterwards returns the result, with the state `cancelled`: only a run that was cancelled in
        another way raises `RunCancelled`. If the run ends otherwise first, awaiting is as always.

        Raises:
            NotFound: The run has not started: it was neither entered nor awaited.
        """
        return await self._run.cancel(reason)

    def __await__(self) -> Generator[Any, None, RunResult]:
        """Wait for the run's end. Inside `async with`, events that were not read are skipped.

        Raises:
            RunFailed, RunCancelled: The run ended so, and `check` is true. After `cancel`, not `RunCancelled`.
            DeadlineExceeded: The timeout passed; the run is cancelled.
            StepwaveError: The server refused the run, or was lost.
            RuntimeError: The `async with` block was left before the run's end. That cancelled the run, and
                `client.wait(run_id, check=False)` returns its result.
        """
        result = self._run.result or (yield from self._run.complete().__await__())
        return self._run.checked(result) if self._check else result


AsyncStream = TypeVar("AsyncStream", bound=_AsyncEvents[Any])


class _SyncEvents(Generic[AsyncStream]):
    """A context manager that iterates over the events of a run, by driving its async counterpart."""

    _USAGE: ClassVar[str]

    def __init__(self, stream: AsyncStream) -> None:
        self._stream = stream

    def __enter__(self) -> Self:
        drive(self._stream.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        drive(self._stream.__aexit__(kind, error, trace))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> AnyEvent:
        try:
            event: AnyEvent = drive(self._stream.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None
        except _NotEntered:
            raise _NotEntered(self._USAGE) from None
        return event

    def text(self, step: StepHandle | str) -> Iterator[TextChunk]:
        """Iterate over the text of one step, chunk by chunk, until the step ends. As `RunHandle.text`.

        with client.stream(flow) as run:
            for text in run.text("summary"):
                print(text, end="", flush=True)
            for event in run: ...
        """
        return self._text(self._stream.text(step))

    def _text(self, chunks: AsyncIterator[TextChunk]) -> Iterator[TextChunk]:
        try:
            yield from drive_each(chunks)
        except _NotEntered:
            raise _NotEntered(self._USAGE) from None


class SyncEventStream(_SyncEvents[EventStream]):
    """The events of a watched run. As `EventStream`."""

    _USAGE = "`with client.watch(…) as events:`"


class SyncRunHandle(_SyncEvents[RunHandle]):
    """A run to enter for its events.

    with client.stream(flow) as run:
        for event in run: ...
    print(run.result.outputs)
    """

    _USAGE = "`with client.stream(…) as run:`"

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._stream.run_id

    @property
    def result(self) -> RunResult:
        """The run's result, whatever its state.

        Raises:
            RuntimeError: Its last event has not been read yet.
        """
        return self._stream.result

    def cancel(self, reason: str = "") -> Run:
        """Cancel the run, and return its current state. Its events continue to the last one. As `RunHandle.cancel`."""
        return drive(self._stream.cancel(reason))
