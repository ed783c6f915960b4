"""One attempt of a step, from the request for a place to its end."""

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Protocol

from stepwave._actions.context import Context
from stepwave_server.actions import Action
from stepwave_server.actions.failures import ActionFailed, cut, failure_of, traceback_of
from stepwave_server.actions.logs import LogSink
from stepwave_server.actions.redaction import NOTHING_SECRET
from stepwave_server.actions.threads import waits_for_thread
from stepwave_server.actions.values import bounded, dump
from stepwave_server.core.info import RunKey
from stepwave_server.core.messages import (
    AttemptExpanded,
    AttemptFailed,
    AttemptInterrupted,
    AttemptSucceeded,
    Input,
    Invoke,
    StepStarted,
)
from stepwave_server.core.model import WORKFLOW_ACTION, Failure, Payload, Reason, SecretPlace
from stepwave_server.engine.admission.base import Permit
from stepwave_server.engine.admission.limiter import Limiter
from stepwave_server.engine.attempts.nested import NestedWorkflows
from stepwave_server.engine.attempts.secrets import check_no_secrets, fill_secrets
from stepwave_server.engine.base import EngineOptions, not_allowed
from stepwave_server.wire.events.encode import LogEntry

__all__ = ["Attempt", "AttemptLog", "AttemptOwner", "AttemptReports", "AttemptState"]

MAX_SHOWING = 1_000
"""Chunks and progress reports of one attempt that may wait for the event loop."""

MAX_SHOWING_LOGS = 500
"""Those of them up to which log messages are added, so that a thread that logs a lot leaves room for chunks."""

MAX_MESSAGE = 2_048
"""Maximum length of a progress message in characters."""

_SHOWING = threading.Lock()


class AttemptReports(Protocol):
    """The reports of attempts to watchers."""

    def waiting(self, attempt: "Attempt") -> None:
        """Show what an attempt waits for."""
        ...

    def still_waiting(self, attempt: "Attempt") -> None:
        """Show again what an attempt waits for, if it was shown before."""
        ...

    def chunk(self, attempt: "Attempt", index: int, chunk: Payload) -> None:
        """Show a chunk; `index` counts from 0."""
        ...

    def progress(self, attempt: "Attempt", fraction: float | None, message: str) -> None:
        """Show the progress of an attempt."""
        ...

    def log(self, data: bytes) -> None:
        """Show what an attempt logged, an encoded `step_log` event."""
        ...


class AttemptLog(Protocol):
    """Takes what attempts log."""

    def add(self, step_id: str, attempt: int, entry: LogEntry) -> bytes | None:
        """Add what an attempt logged, and return it as an encoded `step_log` event; `None`: it is not to be shown."""
        ...


class AttemptOwner(Protocol):
    """The run of an attempt. The attempt reports its states to it.

    Attributes:
        key: The run's key.
    """

    key: RunKey

    @property
    def log(self) -> AttemptLog:
        """The log of its attempts."""
        ...

    def add_steps(self, steps: object, *, seal: bool) -> Coroutine[Any, Any, None]:
        """Add steps that an attempt's action gives to the run."""
        ...

    @property
    def nested(self) -> NestedWorkflows:
        """The workflows that its attempts may choose."""
        ...

    @property
    def reports(self) -> AttemptReports:
        """The reports to the run's watchers."""
        ...

    def attempt_admitted(self, attempt: "Attempt") -> None:
        """Take the report that an attempt has a permit. The run decides whether it still starts."""
        ...

    def attempt_timed_out(self, attempt: "Attempt") -> None:
        """Take the report that the deadline of a running attempt has passed."""
        ...

    def attempt_ended(self, attempt: "Attempt", permit: Permit, outcome: Input) -> None:
        """Take the outcome of an attempt, and its permit. Called once for every attempt that was started."""
        ...


class AttemptState(Enum):
    """The state of an attempt. States follow in this order, and every state may be followed by the end."""

    WAITING = "waiting"
    """It waits for admission."""

    ADMITTED = "admitted"
    """It has a permit. Its start is not committed yet."""

    RUNNING = "running"
    """Its action runs."""

    ENDED = "ended"
    """It reported its outcome, or was withdrawn before its start."""


WAITING, ADMITTED, RUNNING, ENDED = AttemptState


class Attempt:
    """An attempt: it waits for admission, runs as an asyncio task, and reports its outcome to its run exactly once.

    Its state changes by its own methods alone: `admit`, `withdraw`, `start`, and the end of its action.

    Attributes:
        run_key: The key of its run. Runs take turns at admission.
        step_id: The step.
        number: The number of the attempt, from 1.
        invoke: The request that it serves.
        action: Its action.
        limiters: The limiters under which it needs a place.
        state: Its state.
        since: The time of its start, in nanoseconds since the epoch; 0: not started.
        timeout: Its timeout in seconds; 0: not started.
        task: The task of its action; `None`: not started.
        has_shown: Whether it has shown chunks or progress.
    """

    __slots__ = (
        "_begun",
        "_chunks",
        "_deadline",
        "_due",
        "_failure",
        "_grace",
        "_late",
        "_logs",
        "_loop",
        "_options",
        "_owner",
        "_permit",
        "_redactor",
        "_showing",
        "action",
        "has_shown",
        "invoke",
        "limiters",
        "number",
        "run_key",
        "since",
        "state",
        "step_id",
        "task",
        "timeout",
    )

    def __init__(self, owner: AttemptOwner, invoke: Invoke, action: Action, limiters: tuple[Limiter, ...] = ()) -> None:
        self._owner = owner
        self.run_key = owner.key
        self.step_id = invoke.step_id
        self.number = invoke.attempt
        self.invoke = invoke
        self.action = action
        self.limiters = limiters
        self.state = WAITING
        self.since = 0
        self.timeout = 0.0
        self.task: asyncio.Task[None] | None = None
        self.has_shown = False
        self._chunks = 0
        self._permit: Permit | None = None
        self._redactor = NOTHING_SECRET
        self._begun = self._late = False
        self._showing: deque[Callable[[], None]] | None = None
        self._failure: Failure | None = None
        self._grace: asyncio.TimerHandle | None = None

    # Its states.

    @property
    def namespace(self) -> str:
        """The namespace of its run."""
        return self.run_key.namespace

    @property
    def waiting(self) -> bool:
        """Whether it waits for admission."""
        return self.state is WAITING

    @property
    def interrupted(self) -> bool:
        """Whether it was interrupted."""
        return self._failure is not None

    def admit(self, permit: Permit) -> None:
        """Take a permit, and report that to the run."""
        assert self.state is WAITING, "only a waiting attempt is admitted"
        self.state = ADMITTED
        self._permit = permit
        self._owner.attempt_admitted(self)

    def withdraw(self) -> Permit | None:
        """End before the start. Return the permit, if it has one, to be released or handed on."""
        assert self.state is not RUNNING, "a running attempt is interrupted"
        self.state = ENDED
        permit, self._permit = self._permit, None
        return permit

    def start(
        self,
        event: StepStarted,
        input: Payload,
        *,
        secrets: Sequence[SecretPlace],
        strict: bool,
        options: EngineOptions,
        variables: contextvars.Context | None,
    ) -> None:
        """Run the action as a task of the running loop, now that the start is committed.

        Args:
            event: The start.
            input: The input of the action, with placeholders for secrets.
            secrets: The places of the secrets.
            strict: Whether unknown keys of the input are refused.
            options: Options of the engine.
            variables: The context variables of the task; `None`: the caller's.
        """
        assert self.state is ADMITTED, "only an admitted attempt starts"
        self.state = RUNNING
        self._loop = asyncio.get_running_loop()
        assert event.deadline is not None, "every attempt of an action has one"
        self._deadline = event.deadline
        self._options = options
        self._logs = LogSink(self._log, tracebacks=options.tracebacks, ids=self._ids)
        self.since = event.time
        self.timeout = (event.deadline - event.time) / 1e9
        self._due = self._loop.time() + self.timeout
        name = f"{self.run_key.run_id}/{self.step_id}"
        self.task = self._loop.create_task(self._perform(input, secrets, strict=strict), name=name, context=variables)

    def interrupt(self, failure: Failure, grace: float) -> None:
        """Cancel the action and wait `grace` seconds for its clean-up, then abandon it. The first failure counts."""
        if self._failure is not None or self.state is not RUNNING or self.task is None:
            return
        self._failure = failure
        if self._late:  # the action has ended
            self._end(AttemptInterrupted(self.step_id, self.number, failure))
            return
        self.task.cancel()
        if not self._begun:  # the coroutine never runs, so it cannot report
            self._end(AttemptInterrupted(self.step_id, self.number, failure))
        elif waits_for_thread(self.task):  # nothing can interrupt a thread
            self._abandon()
        else:
            self._grace = self._loop.call_later(grace, self._abandon)

    def time_out(self) -> None:
        """Report that its deadline has passed. The run decides on that, and interrupts it."""
        self._owner.attempt_timed_out(self)

    def report_waiting(self) -> None:
        """Report to watchers that it waits."""
        self._owner.reports.waiting(self)

    def report_still_waiting(self) -> None:
        """Report that again, if it was reported before."""
        self._owner.reports.still_waiting(self)

    # Its action.

    async def _perform(self, input: Payload, secrets: Sequence[SecretPlace], *, strict: bool) -> None:
        self._begun = True
        self._logs.enter()
        self._redactor.enter()  # the context may come from another attempt
        try:
            self._check_allowed()
            if self.action.name == WORKFLOW_ACTION:
                chosen = await self._owner.nested.choose(input, self.run_key.namespace)
                outcome: Input = AttemptExpanded(self.step_id, self.number, *chosen)
            else:
                if secrets:
                    input = await self._fill(input, secrets)
                outcome = AttemptSucceeded(self.step_id, self.number, await self._run(input, strict=strict))
        except BaseException as error:  # an action that raises anything never stops the server
            self._end(self._outcome_of(error))
        else:
            self._answer(outcome)

    def _check_allowed(self) -> None:
        """Check that the steps of its namespace may call its action: a step may have chosen its workflow itself.

        Raises:
            ActionFailed: They may not.
        """
        namespace, name = self.run_key.namespace, self.action.name
        if not self._options.may_call(namespace, name):
            raise ActionFailed(Reason.UNAUTHORIZED, not_allowed(namespace, name))

    async def _fill(self, input: Payload, places: Sequence[SecretPlace]) -> Payload:
        """Return the input with its secrets. From now on, their values are kept out of what the attempt gives out."""
        filled, self._redactor = await fill_secrets(
            input,
            places,
            self._options.secrets,
            action=self.action.name,
            namespace=self.run_key.namespace,
            max_bytes=self._options.max_payload_bytes,
        )
        self._redactor.enter()
        self._logs.redact = self._redactor.text
        return filled

    async def _run(self, input: Payload, *, strict: bool) -> Payload:
        """Run the action, and return its output."""
        max_bytes = self._options.max_payload_bytes
        output = await self.action.run(input, self._context, self._show_chunk, max_bytes, strict=strict)
        return bounded(self._redactor.payload(output), max_bytes) if self._redactor else output

    def _answer(self, outcome: Input) -> None:
        """Take an answer, unless the deadline has passed. An action that blocks the loop delays the timer, too."""
        if self._loop.time() <= self._due:
            self._end(outcome)
        elif self._failure is not None:
            self._end(self._interrupted(self._failure, "it answered all the same, too late"))
        else:
            self._late = True
            self.time_out()

    def _outcome_of(self, error: BaseException) -> Input:
        is_cancel = issubclass(type(error), asyncio.CancelledError)
        if self._failure is not None and is_cancel:
            return AttemptInterrupted(self.step_id, self.number, self._failure)
        if is_cancel and self.task is not None and self.task.cancelling():
            error = RuntimeError("the action cancelled itself").with_traceback(traceback_of(error))
        redactor, tracebacks = self._redactor, self._options.tracebacks
        failure = failure_of(error, self.step_id, self.number, tracebacks=tracebacks, redact=redactor.text)
        failure = redactor.failure(failure)
        if self._failure is not None:
            return self._interrupted(self._failure, f"it failed: {failure.message}")
        return AttemptFailed(self.step_id, self.number, failure)

    def _abandon(self) -> None:
        assert self._failure is not None
        goes_on = self.task is not None and waits_for_thread(self.task)
        did = "its thread cannot be interrupted, and goes on" if goes_on else "it did not end within its grace"
        self._end(replace(self._interrupted(self._failure, did), abandoned=True))

    def _interrupted(self, failure: Failure, did: str) -> AttemptInterrupted:
        """Return the outcome of an interrupted attempt, with a detail for what the action did instead of ending."""
        details = tuple(sorted({**dict(failure.details), "when_interrupted": did}.items()))
        return AttemptInterrupted(self.step_id, self.number, replace(failure, details=details))

    def _end(self, outcome: Input) -> None:
        if self.state is ENDED:
            return
        self.state = ENDED
        NOTHING_SECRET.enter()  # what follows in this context is the run's
        self._logs.close()
        if self._grace is not None:
            self._grace.cancel()
        permit, self._permit = self._permit, None
        assert permit is not None, "a running attempt has a permit"
        self._owner.attempt_ended(self, permit, outcome)

    # The context of its action, and what the action shows.

    def _context(self) -> Context:
        namespace, run_id = self.run_key
        key = f"{namespace}/{run_id}/{self.step_id}"
        return Context(
            run_id=run_id,
            step_id=self.step_id,
            attempt=self.number,
            idempotency_key=f"{key}/fallback" if self.invoke.fallback else key,
            deadline=datetime.fromtimestamp(self._deadline / 1e9, UTC),
            emit=self._emit,
            progress=self._show_progress,
            log=self._logs.take,
            add_steps=self._add_steps,
        )

    async def _add_steps(self, steps: object, seal: bool) -> None:
        """Add steps to the run, from any event loop."""
        if self.state is ENDED:
            raise RuntimeError("the attempt has ended: it adds no more steps")
        if self._redactor:
            steps = check_no_secrets(steps, self._redactor)
        adding = self._owner.add_steps(steps, seal=seal)
        if _on(self._loop):
            await adding
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(adding, self._loop))

    def _ids(self) -> dict[str, str | int]:
        """Return its ids, for the log of the server."""
        return {"run_id": self.run_key.run_id, "step_id": self.step_id, "attempt": self.number}

    def _emit(self, chunk: object) -> None:
        try:
            self._show_chunk(dump(chunk, self._options.max_payload_bytes))
        except ActionFailed as error:
            raise ValueError(str(error)) from None

    def _show_chunk(self, chunk: Payload) -> None:
        redacted = self._redactor.payload(chunk)
        self._on_loop(lambda: self._show_chunk_now(redacted))

    def _show_chunk_now(self, chunk: Payload) -> None:
        index, self._chunks = self._chunks, self._chunks + 1
        self.has_shown = True
        self._owner.reports.chunk(self, index, chunk)

    def _show_progress(self, fraction: float | None, message: str) -> None:
        short = cut(self._redactor.text(message), MAX_MESSAGE)
        self._on_loop(lambda: self._show_progress_now(fraction, short))

    def _show_progress_now(self, fraction: float | None, message: str) -> None:
        self.has_shown = True
        self._owner.reports.progress(self, fraction, message)

    def _log(self, entry: LogEntry) -> None:
        """Keep what the action logs, and show it. It may be called from any thread."""
        data = self._owner.log.add(self.step_id, self.number, entry)
        if data is not None:
            self._on_loop(lambda: self._owner.reports.log(data), MAX_SHOWING_LOGS)

    def _on_loop(self, call: Callable[[], None], most: int = MAX_SHOWING) -> None:
        """Show something on the loop, unless the attempt has ended. An abandoned action may go on showing.

        A thread may show faster than the loop takes it. Then some of it is dropped, as for a slow watcher.
        """
        if self.state is ENDED:
            return
        if _on(self._loop):
            call()
        else:
            self._show_soon(call, most)

    def _show_soon(self, call: Callable[[], None], most: int) -> None:
        with _SHOWING:
            if self._showing is None:
                self._showing = deque()
        if len(self._showing) < most:
            self._showing.append(call)
            self._loop.call_soon_threadsafe(self._show_next)

    def _show_next(self) -> None:
        assert self._showing, "each call has an entry"
        call = self._showing.popleft()
        if self.state is not ENDED:
            call()


def _on(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether this thread runs the loop."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
