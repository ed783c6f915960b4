"""One attempt of a step, from admission to its end."""

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from stepwave._actions.context import Context
from stepwave_server.actions import Action
from stepwave_server.actions.failures import ActionFailed, cut, failure_of, traceback_of
from stepwave_server.actions.threads import waits_for_thread
from stepwave_server.actions.values import dump
from stepwave_server.core.info import RunKey
from stepwave_server.core.messages import (
    AttemptFailed,
    AttemptInterrupted,
    AttemptSucceeded,
    Input,
    Invoke,
    StepStarted,
)
from stepwave_server.core.model import Failure, Payload
from stepwave_server.engine.admission.base import Held, Obstacle
from stepwave_server.engine.admission.limiter import Limiter
from stepwave_server.engine.base import EngineOptions

__all__ = ["Attempt", "AttemptOwner"]

MOST_SHOWING = 1_000
"""Chunks and signs of progress of one attempt that may wait for the loop."""

MOST_MESSAGE = 2_048
"""Characters of a message about progress."""

_SHOWING = threading.Lock()


class AttemptOwner(Protocol):
    """The run that an attempt belongs to.

    Attributes:
        key: What names it.
        told: How many of its attempts its watchers were told of that they wait.
    """

    key: RunKey
    told: int

    def tell(self, given: Input) -> None:
        """Note what happened, for the run's next turn."""
        ...

    def expired(self, attempt: "Attempt") -> None:
        """Take that an attempt has taken longer than it may."""
        ...

    def attempt_ended(self, attempt: "Attempt", outcome: Input) -> None:
        """Take what an attempt came to. Called once for every attempt that was started."""
        ...

    def show_waiting(self, attempt: "Attempt", obstacle: Obstacle) -> None:
        """Show the run's watchers what an attempt waits for."""
        ...

    def show_chunk(self, attempt: "Attempt", chunk: Payload) -> None:
        """Show the run's watchers a chunk."""
        ...

    def show_progress(self, attempt: "Attempt", fraction: float | None, message: str) -> None:
        """Show the run's watchers how far the attempt got."""
        ...


class Attempt:
    """An attempt: waits for admission, runs as an asyncio task, and reports its end to its run exactly once.

    Attributes:
        run: The run it belongs to.
        run_key: What names that, for its turn at admission.
        step_id: The step.
        number: The attempt, from 1.
        action: What it does.
        fallback: It stands in for the step's own action.
        input: What with; `None`: it is large, and given when the attempt starts.
        strict: Keys of the input that the action does not know are refused.
        gates: The limits that it must pass.
        queued: It waits for admission.
        withdrawn: It waits for admission no more.
        admitted: It has a place among the attempts in flight.
        held: Its places at the gates.
        told: The run's watchers were told that it waits.
        chunks: How many chunks it has shown.
        said: It has shown something, chunks or progress.
        since: When it started, in nanoseconds since the epoch.
        task: What runs it; `None`: it has not started.
        timeout: How long it may take, in seconds.
    """

    __slots__ = (
        "_begun",
        "_deadline",
        "_due",
        "_ended",
        "_failure",
        "_grace",
        "_late",
        "_loop",
        "_options",
        "_showing",
        "action",
        "admitted",
        "chunks",
        "fallback",
        "gates",
        "held",
        "input",
        "number",
        "queued",
        "run",
        "run_key",
        "said",
        "since",
        "step_id",
        "strict",
        "task",
        "timeout",
        "told",
        "withdrawn",
    )

    def __init__(self, run: AttemptOwner, invoke: Invoke, action: Action, gates: tuple[Limiter, ...] = ()) -> None:
        self.run = run
        self.run_key = run.key
        self.step_id = invoke.step_id
        self.number = invoke.attempt
        self.input = invoke.input
        self.strict = False
        self.fallback = invoke.fallback
        self.action = action
        self.gates = gates
        self.queued = self.withdrawn = self.admitted = self.told = False
        self.held: tuple[Held, ...] = ()
        self.chunks = 0
        self.said = False
        self.since = 0
        self.task: asyncio.Task[None] | None = None
        self.timeout = 0.0
        self._begun = self._late = self._ended = False
        self._showing: deque[Callable[[], None]] | None = None
        self._failure: Failure | None = None
        self._grace: asyncio.TimerHandle | None = None

    def start(
        self,
        loop: asyncio.AbstractEventLoop,
        event: StepStarted,
        options: EngineOptions,
        variables: contextvars.Context | None,
    ) -> None:
        """Run the action as a task of the loop, in these context variables, now that its start is committed."""
        self._loop = loop
        self.since = event.time
        self._deadline = event.deadline
        self._options = options
        self.timeout = (event.deadline - event.time) / 1e9
        self._due = loop.time() + self.timeout
        name = f"{self.run.key.run_id}/{self.step_id}"
        self.task = loop.create_task(self._perform(), name=name, context=variables)

    @property
    def interrupted(self) -> bool:
        """Whether it was told to end."""
        return self._failure is not None

    def interrupt(self, failure: Failure, grace: float) -> None:
        """Cancel the action and await its clean-up for `grace` seconds, then abandon it. The first failure counts."""
        if self._failure is not None or self._ended or self.task is None:
            return
        self._failure = failure
        if self._late:  # there is nothing left to cancel
            self._end(AttemptInterrupted(self.step_id, self.number, failure))
            return
        self.task.cancel()
        if not self._begun:  # the coroutine will never run, so it cannot report
            self._end(AttemptInterrupted(self.step_id, self.number, failure))
        elif waits_for_thread(self.task):  # nothing can interrupt a thread
            self._abandon()
        else:
            self._grace = self._loop.call_later(grace, self._abandon)

    async def _perform(self) -> None:
        self._begun = True
        try:
            assert self.input is not None, "it was given before the start"
            output = await self.action.run(
                self.input, self._context, self._show_chunk, self._options.max_payload_bytes, strict=self.strict
            )
        except BaseException as error:  # an action that raises anything never stops the server
            self._end(self._outcome_of(error))
        else:
            self._answer(output)

    def _answer(self, output: Payload) -> None:
        """Take an answer, unless it comes after the deadline: an action that blocks the loop blocks its timer too."""
        if self._loop.time() <= self._due:
            self._end(AttemptSucceeded(self.step_id, self.number, output))
        elif self._failure is not None:
            self._end(self._interrupted(self._failure, "it answered all the same, too late"))
        else:
            self._late = True
            self.run.expired(self)  # who interrupts it then, with what to say

    def _outcome_of(self, error: BaseException) -> Input:
        is_cancel = issubclass(type(error), asyncio.CancelledError)
        if self._failure is not None and is_cancel:
            return AttemptInterrupted(self.step_id, self.number, self._failure)
        if is_cancel and self.task is not None and self.task.cancelling():
            error = RuntimeError("the action cancelled itself").with_traceback(traceback_of(error))
        failure = failure_of(error, self.step_id, self.number, tracebacks=self._options.tracebacks)
        if self._failure is not None:
            return self._interrupted(self._failure, f"it failed: {failure.message}")
        return AttemptFailed(self.step_id, self.number, failure)

    def _abandon(self) -> None:
        assert self._failure is not None
        goes_on = self.task is not None and waits_for_thread(self.task)
        did = "its thread cannot be interrupted, and goes on" if goes_on else "it did not end within its grace"
        self._end(replace(self._interrupted(self._failure, did), abandoned=True))

    def _interrupted(self, failure: Failure, did: str) -> AttemptInterrupted:
        """Return the end of an interrupted attempt whose action did something else than end."""
        details = tuple(sorted({**dict(failure.details), "when_interrupted": did}.items()))
        return AttemptInterrupted(self.step_id, self.number, replace(failure, details=details))

    def _end(self, outcome: Input) -> None:
        if self._ended:
            return
        self._ended = True
        if self._grace is not None:
            self._grace.cancel()
        self.run.attempt_ended(self, outcome)

    def _context(self) -> Context:
        namespace, run_id = self.run.key
        key = f"{namespace}/{run_id}/{self.step_id}"
        return Context(
            run_id=run_id,
            step_id=self.step_id,
            attempt=self.number,
            idempotency_key=f"{key}/fallback" if self.fallback else key,
            deadline=datetime.fromtimestamp(self._deadline / 1e9, UTC),
            emit=self._emit,
            progress=self._show_progress,
        )

    def _emit(self, chunk: object) -> None:
        try:
            payload = dump(chunk, self._options.max_payload_bytes)
        except ActionFailed as error:
            raise ValueError(str(error)) from None
        self._show_chunk(payload)

    def _show_chunk(self, chunk: Payload) -> None:
        self._on_loop(lambda: self.run.show_chunk(self, chunk))

    def _show_progress(self, fraction: float | None, message: str) -> None:
        short = cut(message, MOST_MESSAGE)
        self._on_loop(lambda: self.run.show_progress(self, fraction, short))

    def _on_loop(self, call: Callable[[], None]) -> None:
        """Show something unless the attempt has ended: what an abandoned one still says is ignored.

        A thread may show faster than the loop can take it; then it is left out, as for a slow watcher.
        """
        if self._ended:
            return
        if _on(self._loop):
            call()
        else:
            self._show_soon(call)

    def _show_soon(self, call: Callable[[], None]) -> None:
        with _SHOWING:
            if self._showing is None:
                self._showing = deque()
        if len(self._showing) < MOST_SHOWING:
            self._showing.append(call)
            self._loop.call_soon_threadsafe(self._show_next)

    def _show_next(self) -> None:
        assert self._showing, "one was asked for"
        call = self._showing.popleft()
        if not self._ended:
            call()


def _on(loop: asyncio.AbstractEventLoop) -> bool:
    """Say whether this is the loop's own thread."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
