"""Attempts of steps whose runs are elsewhere: callers ask for them one by one, and get what each one shows."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from stepwave_server.actions import Action
from stepwave_server.core.info import RunKey
from stepwave_server.core.messages import (
    AttemptFailed,
    AttemptInterrupted,
    AttemptSucceeded,
    Input,
    Invoke,
    StepStarted,
)
from stepwave_server.core.model import SECOND, Failure, Payload, Reason, payload_size
from stepwave_server.engine.admission.base import Permit
from stepwave_server.engine.attempts.attempt import Attempt
from stepwave_server.engine.attempts.nested import NestedWorkflows
from stepwave_server.engine.base import EngineOptions
from stepwave_server.engine.errors import HostStopping, NoFreeSlot
from stepwave_server.telemetry import Measures
from stepwave_server.telemetry.parent import variables_of
from stepwave_server.wire.events.encode import LogEntry
from stepwave_server.wire.runnables import ShownLog, ShownProgress, encode_log

__all__ = ["AttemptHost", "HostedAttempt", "HostedStep", "Shown"]

NO_TIMEOUT = 36_525 * 24 * 3600.0
"""Seconds of an attempt without a timeout: a hundred years. A longer timeout is as long."""

MAX_WAITING_BYTES = 4 << 20
"""Bytes of chunks and logs that wait for a caller. A slow caller misses some beyond them, as a slow watcher does."""

SHOWN_BYTES = 64
"""Bytes that a chunk or a logged message counts for beside those of its content."""

LEFT = Failure(Reason.UNAVAILABLE, "the host stopped while the attempt ran", retryable=True)
GONE = Failure(Reason.CANCELLED, "the caller has ended the call")
LATE = Failure(Reason.TIMEOUT, "the attempt timed out", retryable=True)

_PERMIT = Permit()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedStep:
    """An attempt to run.

    Attributes:
        key: The key of its run.
        step_id: Its step.
        attempt: Its number, from 1.
        input: The input of the action.
        timeout: Its timeout in seconds; `None`: none.
        ends_with_call: Whether its call ends at its timeout, and interrupts it. The host needs no timer then.
        fallback: Whether it is one of the step's fallback, which has an idempotency key of its own.
        headers: The caller's trace context, as headers.
    """

    key: RunKey
    step_id: str
    attempt: int
    input: Payload
    timeout: float | None = None
    ends_with_call: bool = False
    fallback: bool = False
    headers: Mapping[str, str]


Shown: TypeAlias = Payload | ShownProgress | ShownLog
"""A report of an attempt under way: a chunk, its progress, or what it logged."""


class AttemptHost:
    """Runs attempts for callers.

    Args:
        actions: The actions.
        slots: Attempts of one action at once.
        options: Options of attempts.
        measures: The numbers that metrics are made of; `None`: nothing is measured.
    """

    def __init__(
        self, actions: Iterable[Action], *, slots: int, options: EngineOptions, measures: Measures | None = None
    ) -> None:
        self._actions = {action.name: action for action in actions}
        self._slots = slots
        self._options = options
        self._measures = measures
        self._running: set[HostedAttempt] = set()
        self._counts: Counter[str] = Counter()
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False

    @property
    def actions(self) -> list[Action]:
        """The actions."""
        return list(self._actions.values())

    @property
    def max_payload_bytes(self) -> int:
        """Maximum size of an input and of an answer in bytes."""
        return self._options.max_payload_bytes

    @property
    def attempts(self) -> Mapping[str, int]:
        """Number of attempts that run here, by action. It may be read on any thread."""
        return Counter(attempt.action.name for attempt in list(self._running))

    def begin(self, action: Action, step: HostedStep) -> "HostedAttempt":
        """Start an attempt.

        Raises:
            HostStopping: The host stops.
            NoFreeSlot: As many attempts of the action run as may.
        """
        if self._draining:
            raise HostStopping
        if self._counts[action.name] >= self._slots:
            raise NoFreeSlot(action.name, self._slots)
        attempt = HostedAttempt(self, action, step)
        self._running.add(attempt)
        self._counts[action.name] += 1
        self._idle.clear()
        attempt.start(self._options)
        return attempt

    def ended(self, attempt: "HostedAttempt", failure: Failure | None, duration: int) -> None:
        """Note that an attempt has ended.

        Args:
            attempt: The attempt.
            failure: Why it failed; `None`: it did not.
            duration: Its duration in nanoseconds.
        """
        self._running.discard(attempt)
        self._counts[attempt.action.name] -= 1
        if not self._running:
            self._idle.set()
        if self._measures is not None:
            self._measures.action(attempt.action.name).attempt_ended(failure, duration)

    async def drain(self, seconds: float) -> None:
        """Start no more attempts, let those under way end within so many seconds, and interrupt the rest."""
        self._draining = True
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            self.interrupt()
            await self._idle.wait()

    def interrupt(self) -> None:
        """Interrupt all attempts now, and start no more. Their callers are told that the host stopped."""
        self._draining = True
        for attempt in list(self._running):
            attempt.interrupt(LEFT)


class HostedAttempt:
    """One attempt for a caller: the owner of an `Attempt`, as a run is on a server.

    Attributes:
        key: The key of its run.
        action: Its action.
        reports: What it shows.
    """

    def __init__(self, host: AttemptHost, action: Action, step: HostedStep) -> None:
        self._host = host
        self._step = step
        self.key = step.key
        self.action = action
        self.log = _Log()
        self.reports = _Reports()
        self._outcome: asyncio.Future[Input] = asyncio.get_running_loop().create_future()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def nested(self) -> NestedWorkflows:
        """The workflows that it may choose: none, as hosts have no built-in actions."""
        raise AssertionError("a host serves no built-in action")

    def start(self, options: EngineOptions) -> None:
        """Run the action as a task of the running loop."""
        step, now = self._step, time.time_ns()
        timeout = NO_TIMEOUT if step.timeout is None else min(max(0.0, step.timeout), NO_TIMEOUT)
        self._grace = options.cancel_grace
        invoke = Invoke(step.step_id, step.attempt, self.action.name, step.input, step.fallback)
        deadline = now + round(timeout * SECOND)
        event = StepStarted(now, step.step_id, self.action.name, 0, step.attempt, deadline, now)
        self._attempt = Attempt(self, invoke, self.action)
        self._attempt.admit(_PERMIT)
        variables = variables_of(step.headers)
        # Whether the step's input was written is not known here: unknown keys are the server's to refuse.
        self._attempt.start(event, step.input, secrets=(), strict=False, options=options, variables=variables)
        if step.timeout is not None and not step.ends_with_call:
            self._timer = asyncio.get_running_loop().call_later(timeout, self._attempt.time_out)

    def interrupt(self, failure: Failure = GONE) -> None:
        """Interrupt it, unless it has ended."""
        if not self._outcome.done():
            self._attempt.interrupt(failure, self._grace)

    async def next_shown(self) -> list[Shown]:
        """Wait, and return what it has shown since the last call; nothing: it has ended."""
        while not self.reports.waiting_items and not self._outcome.done():
            self.reports.changed.clear()
            await self.reports.changed.wait()
        return self.reports.take()

    async def answer(self) -> Payload | Failure:
        """Wait for its end, and return its answer or its failure."""
        outcome = await asyncio.shield(self._outcome)
        match outcome:
            case AttemptSucceeded(_, _, output):
                return output
            case AttemptFailed(_, _, failure) | AttemptInterrupted(_, _, failure):
                return failure
        raise AssertionError("a hosted attempt has no other outcomes")

    def attempt_admitted(self, attempt: Attempt) -> None:
        """Do nothing: the server has admitted it."""

    def attempt_timed_out(self, attempt: Attempt) -> None:
        """Interrupt it: its timeout has passed."""
        attempt.interrupt(LATE, self._grace)

    def attempt_ended(self, attempt: Attempt, permit: Permit, outcome: Input) -> None:
        """Note the outcome."""
        if self._timer is not None:
            self._timer.cancel()
        self._outcome.set_result(outcome)
        self.reports.changed.set()
        failure = outcome.failure if isinstance(outcome, (AttemptFailed, AttemptInterrupted)) else None
        self._host.ended(self, failure, max(0, time.time_ns() - attempt.since))

    async def add_steps(self, steps: object, *, seal: bool) -> NoReturn:
        """Refuse steps: a caller takes none.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError("an action on this host cannot add steps: hosts on Temporal and servers can")


class _Reports:
    """The reports of an attempt, until its caller reads them.

    Attributes:
        changed: Set when there is more of it.
        waiting_items: What waits for the caller.
    """

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.waiting_items: list[Shown] = []
        self._bytes = 0

    def take(self) -> list[Shown]:
        """Return what waits, and keep it no longer."""
        taken, self.waiting_items, self._bytes = self.waiting_items, [], 0
        return taken

    def chunk(self, attempt: Attempt, index: int, chunk: Payload) -> None:
        """Keep a chunk, unless too much waits."""
        self._add_bounded(chunk, payload_size(chunk))

    def log(self, data: bytes) -> None:
        """Keep what the action logged, unless too much waits."""
        self._add_bounded(ShownLog(data), len(data))

    def progress(self, attempt: Attempt, fraction: float | None, message: str) -> None:
        """Keep the progress. Of several in a row, the newest counts."""
        if self.waiting_items and isinstance(self.waiting_items[-1], ShownProgress):
            self.waiting_items.pop()
        self._add(ShownProgress(fraction, message))

    def _add_bounded(self, shown: Shown, size: int) -> None:
        size += SHOWN_BYTES
        if self._bytes + size <= MAX_WAITING_BYTES:
            self._bytes += size
            self._add(shown)

    def _add(self, shown: Shown) -> None:
        self.waiting_items.append(shown)
        self.changed.set()

    def waiting(self, attempt: Attempt) -> None:
        """Do nothing: an attempt here has started."""

    def still_waiting(self, attempt: Attempt) -> None:
        """Do nothing: an attempt here has started."""


class _Log:
    """The log of an attempt, which its caller keeps."""

    def add(self, step_id: str, attempt: int, entry: LogEntry) -> bytes:
        """Return what the caller gets."""
        return encode_log(entry)
