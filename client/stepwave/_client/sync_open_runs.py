"""The blocking counterpart of `OpenRun`. It drives one on an event loop of its own thread."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from stepwave._building.references import Reference
from stepwave._model.events import AnyEvent
from stepwave._model.results import Run, RunResult
from stepwave.exceptions import InvalidWorkflow

from .open_runs import OpenRun
from .step_lines import StepLines
from .streams import SyncEventStream

__all__ = ["SyncOpenRun"]

_STOP_WITHIN = 10.0
"""Seconds in which a call that was interrupted must end. It cancels the run."""

Result = TypeVar("Result")


class SyncOpenRun:
    """A run to which steps are added while it lasts. As `OpenRun`, without `await`.

        with client.compose("plan", {"city": "Oslo"}) as plan:
            search = plan.step("search", "web.search", {"query": plan.input["city"]})
            plan.step("read", "fetch", {"url": search.output["urls"][0]})
        print(plan.result.outputs)

    Attributes:
        step: Adds a step. As `Workflow.step`.
    """

    def __init__(self, run: OpenRun, watch: Callable[[str], SyncEventStream], close: Callable[[], Any]) -> None:
        self.step = run.step
        self._run = run
        self._watch = watch
        self._close = close
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._run.run_id

    @property
    def input(self) -> Reference:
        """A reference to the run's input, for the inputs of steps."""
        return self._run.input

    @property
    def result(self) -> RunResult:
        """The run's result, whatever its state. As `OpenRun.result`."""
        return self._run.result

    def __enter__(self) -> Self:
        """Start the run. As `OpenRun`."""
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="stepwave-open-run", daemon=True)
        self._thread.start()
        try:
            self._call(self._run.__aenter__())
        except BaseException:
            self._stop()
            raise
        self._run.schedule = lambda added: _schedule(loop, self._run.enqueue, added)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Seal the run and wait for its end; after an exception, cancel the run. As `OpenRun`."""
        try:
            return self._call(self._run.__aexit__(kind, error, trace))
        finally:
            self._stop()

    def flush(self) -> None:
        """Wait until the server has all steps so far. As `OpenRun.flush`."""
        self._call(self._run.flush())

    def seal(self) -> None:
        """Seal the run: no more steps can be added. As `OpenRun.seal`."""
        self._call(self._run.seal())

    def cancel(self, reason: str = "") -> Run:
        """Cancel the run, and return its current state. As `OpenRun.cancel`."""
        return self._call(self._run.cancel(reason))

    def feed(self, texts: Iterable[str], source: str = "feed") -> None:
        """Add the steps of a stream of JSON Lines, as a model writes them. As `OpenRun.feed`."""
        lines = StepLines(source)
        try:
            for text in texts:
                self._run.add_loaded(lines.push(text))
            self._run.add_loaded(lines.end())
        except InvalidWorkflow:
            self._call(self._run.sent())
            raise
        self.flush()

    def events(self) -> Iterator[AnyEvent]:
        """Iterate over the events of the run, from the first one to its end. As `OpenRun.events`."""
        with self._watch(self.run_id) as events:
            for event in events:
                self._run.note(event)
                yield event

    def _call(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine on the loop's thread, and wait for its end. An interrupt cancels it."""
        if self._loop is None:
            work.close()
            raise RuntimeError("enter the context manager first: `with client.compose(…) as plan:`")
        ended = threading.Event()

        async def run() -> Result:
            try:
                return await work
            finally:
                ended.set()

        future = asyncio.run_coroutine_threadsafe(run(), self._loop)
        try:
            return future.result()
        except BaseException:
            if future.cancel():
                ended.wait(_STOP_WITHIN)
            raise

    def _stop(self) -> None:
        """Free the connection, and end the thread."""
        if self._loop is None or self._thread is None:
            return
        loop, self._loop = self._loop, None
        asyncio.run_coroutine_threadsafe(self._close(), loop).result(_STOP_WITHIN)
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join(_STOP_WITHIN)
        if not self._thread.is_alive():
            loop.close()


def _schedule(loop: asyncio.AbstractEventLoop, take: Callable[[Any], None], added: object) -> None:
    loop.call_soon_threadsafe(take, added)
