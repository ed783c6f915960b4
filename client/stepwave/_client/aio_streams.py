"""Runs as the asynchronous face gives them: to be iterated over, and to be awaited."""

from collections import deque
from collections.abc import Generator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from stepwave._model.events import Event
from stepwave._model.results import Run, RunResult
from stepwave._transport.aio import LoopAffinity

from .live import LiveRun, Watch, checked

__all__ = ["EventStream", "RunHandle"]

Followed = TypeVar("Followed", bound=Watch)


class _AsyncEvents(Generic[Followed]):
    """An async context manager that iterates over the events of a run."""

    def __init__(self, live: Followed, affinity: LoopAffinity) -> None:
        self._live = live
        self._affinity = affinity
        self._entered = False
        self._ready: deque[Event] = deque()

    async def __aenter__(self) -> Self:
        self._affinity.check()
        self._live.open()
        self._entered = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._affinity.check()
        self._entered = False
        await self._live.leave()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        self._affinity.check()
        if not self._ready:
            if not self._entered:
                raise RuntimeError("iterate inside `async with`: leaving it is what frees the stream")
            self._ready.extend(await self._live.events())
            if not self._ready:
                raise StopAsyncIteration
        return self._ready.popleft()


class EventStream(_AsyncEvents[Watch]):
    """The events of a run that is watched.

        async with client.watch(run_id) as events:
            async for event in events: ...

    Each comes once and in order, however often the connection is lost. A slow reader slows nobody down: events are
    asked for as they are read.
    """


class RunHandle(_AsyncEvents[LiveRun]):
    """A run, to be awaited or entered.

    result = await client.run(flow)

    async with client.run(flow) as run:
        async for event in run: ...
    print(run.result.outputs)
    """

    def __init__(self, live: LiveRun, affinity: LoopAffinity, *, check: bool) -> None:
        super().__init__(live, affinity)
        self._check = check

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._live.run_id

    @property
    def result(self) -> RunResult:
        """What the run came to, whatever that is.

        Raises:
            RuntimeError: Its last event was not read yet.
        """
        if self._live.result is None:
            raise RuntimeError(f"run {self.run_id!r} has not ended, as far as its events were read")
        return self._live.result

    async def cancel(self, reason: str = "") -> Run:
        """Cancel the run, and return it as it stands now. Its events go on to the last one."""
        return await self._live.cancel(reason)

    def __await__(self) -> Generator[Any, None, RunResult]:
        """Wait for the run's end; inside `async with`, passing over the events that were not read.

        Raises:
            RunFailed, RunCancelled: It ended so, and `check` is true.
            DeadlineExceeded: The timeout passed; the run is cancelled.
            StepwaveError: The server refused the run, or was lost.
        """
        result = self._live.result or (yield from self._live.complete().__await__())
        return checked(result) if self._check else result
