"""Handles of runs that a client follows: async ones to iterate over or await, and their blocking counterparts."""

from collections import deque
from collections.abc import Generator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from stepwave._model.events import Event
from stepwave._model.results import Run, RunResult
from stepwave._transport.aio import LoopAffinity
from stepwave._transport.blocking import drive

from .runs import AttachedRun, WatchedRun, checked

__all__ = ["EventStream", "RunHandle", "SyncEventStream", "SyncRunHandle"]

Followed = TypeVar("Followed", bound=WatchedRun)


class _AsyncEvents(Generic[Followed]):
    """An async context manager that iterates over the events of a run."""

    def __init__(self, run: Followed, affinity: LoopAffinity) -> None:
        self._run = run
        self._affinity = affinity
        self._entered = False
        self._ready: deque[Event] = deque()

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

    async def __anext__(self) -> Event:
        self._affinity.check()
        if not self._ready:
            if not self._entered:
                raise RuntimeError("enter the context manager before iterating; its exit frees the stream")
            self._ready.extend(await self._run.events())
            if not self._ready:
                raise StopAsyncIteration
        return self._ready.popleft()


class EventStream(_AsyncEvents[WatchedRun]):
    """The events of a watched run.

        async with client.watch(run_id) as events:
            async for event in events: ...

    Each event comes once and in order, even if the connection is lost. A slow reader does not delay the run: events
    are requested as they are read.
    """


class RunHandle(_AsyncEvents[AttachedRun]):
    """A run to await or to enter.

    result = await client.run(flow)

    async with client.run(flow) as run:
        async for event in run: ...
    print(run.result.outputs)
    """

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
        """Cancel the run, and return its current state. Its events continue to the last one."""
        return await self._run.cancel(reason)

    def __await__(self) -> Generator[Any, None, RunResult]:
        """Wait for the run's end. Inside `async with`, events that were not read are skipped.

        Raises:
            RunFailed, RunCancelled: The run ended so, and `check` is true.
            DeadlineExceeded: The timeout passed; the run is cancelled.
            StepwaveError: The server refused the run, or was lost.
        """
        result = self._run.result or (yield from self._run.complete().__await__())
        return checked(result) if self._check else result


AsyncStream = TypeVar("AsyncStream", bound=_AsyncEvents[Any])


class _SyncEvents(Generic[AsyncStream]):
    """A context manager that iterates over the events of a run, by driving its async counterpart."""

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

    def __next__(self) -> Event:
        try:
            event: Event = drive(self._stream.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None
        return event


class SyncEventStream(_SyncEvents[EventStream]):
    """The events of a watched run. As `EventStream`."""


class SyncRunHandle(_SyncEvents[RunHandle]):
    """A run to enter for its events.

    with client.stream(flow) as run:
        for event in run: ...
    print(run.result.outputs)
    """

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
        """Cancel the run, and return its current state. Its events continue to the last one."""
        return drive(self._stream.cancel(reason))
