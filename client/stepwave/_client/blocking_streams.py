"""Runs as the synchronous face gives them: to be iterated over."""

from collections import deque
from types import TracebackType
from typing import Generic, Self, TypeVar

from stepwave._model.events import Event
from stepwave._model.results import Run, RunResult
from stepwave._transport.blocking import drive

from .live import LiveRun, Watch

__all__ = ["SyncEventStream", "SyncRunHandle"]

Followed = TypeVar("Followed", bound=Watch)


class _SyncEvents(Generic[Followed]):
    """A context manager that iterates over the events of a run."""

    def __init__(self, live: Followed) -> None:
        self._live = live
        self._entered = False
        self._ready: deque[Event] = deque()

    def __enter__(self) -> Self:
        self._live.open()
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered = False
        drive(self._live.leave())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        if not self._ready:
            if not self._entered:
                raise RuntimeError("iterate inside `with`: leaving it is what frees the stream")
            self._ready.extend(drive(self._live.events()))
            if not self._ready:
                raise StopIteration
        return self._ready.popleft()


class SyncEventStream(_SyncEvents[Watch]):
    """The events of a run that is watched. As `EventStream`."""


class SyncRunHandle(_SyncEvents[LiveRun]):
    """A run, to be entered for its events.

    with client.stream(flow) as run:
        for event in run: ...
    print(run.result.outputs)
    """

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

    def cancel(self, reason: str = "") -> Run:
        """Cancel the run, and return it as it stands now. Its events go on to the last one."""
        return drive(self._live.cancel(reason))
