"""Builds the events of a run, for tests of the command line's output."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from stepwave import JSON
from stepwave._actions.failure import FailureReason
from stepwave._convert.paths import outermost
from stepwave._model.events import (
    Event,
    LogLevel,
    RunFinished,
    RunStarted,
    RunStopping,
    StepChunk,
    StepExpanded,
    StepFinished,
    StepLog,
    StepProgress,
    StepReady,
    StepRetrying,
    StepsAdded,
    StepStarted,
    StepWaiting,
    WaitCause,
    Wave,
    WaveStarted,
)
from stepwave._model.results import Counts, Failure, RunResult, SkipCause, SkipReason, State, StepResult

__all__ = ["RUN_ID", "START", "Script", "failure"]

RUN_ID = "briefing-7k3f9q2m"
START = datetime(2026, 1, 1, tzinfo=UTC)


def failure(message: str = "no route to host", step_id: str = "weather", **details: str) -> Failure:
    """Make a failure of an action."""
    return _failure(FailureReason.ACTION_ERROR, message, step_id=step_id, attempt=1, details=details)


def _failure(reason: FailureReason, message: str, *, step_id: str, attempt: int, details: Mapping[str, str]) -> Failure:
    return Failure(
        reason=reason,
        message=message,
        retryable=False,
        retry_after=None,
        step_id=step_id,
        attempt=attempt,
        details=details,
    )


class Script:
    """Builds the events of one run, each a tenth of a second after the one before.

    Attributes:
        events: The events so far.
        now: The time of the next event.
    """

    def __init__(self, *waves: tuple[str, ...], name: str = "briefing", is_open: bool = False) -> None:
        self.now = START
        self.events: list[Event] = []
        self._waves = {step_id: index for index, wave in enumerate(waves) for step_id in wave}
        self._starts: dict[str, datetime] = {}
        self._results: dict[str, StepResult] = {}
        plan = tuple(Wave(index, wave) for index, wave in enumerate(waves))
        self.add(
            RunStarted(
                run_id=RUN_ID,
                sequence=1,
                time=self.now,
                workflow_name=name,
                waves=plan,
                more=False,
                step_count=len(self._waves),
                deadline=None,
                open=is_open,
            )
        )

    @property
    def ended(self) -> set[str]:
        """The steps that have ended."""
        return {*self._results}

    def add(self, event: Event) -> "Script":
        """Add an event, and advance the time."""
        self.events.append(event)
        self.now += timedelta(seconds=0.1)
        return self

    def wave_started(self, wave: int) -> "Script":
        return self.add(WaveStarted(RUN_ID, 2, self.now, wave))

    def started(self, *step_ids: str, attempt: int = 1, action: str = "tools.search") -> "Script":
        for step_id in step_ids:
            self._starts.setdefault(step_id, self.now)
            self.add(
                StepStarted(
                    run_id=RUN_ID,
                    sequence=3,
                    time=self.now,
                    step_id=step_id,
                    action=action,
                    wave=self._waves[outermost(step_id)],
                    attempt=attempt,
                    deadline=None,
                    ready_time=self.now,
                )
            )
        return self

    def added(self, step_id: str, *, wave: int = 0, sealed: bool = False) -> "Script":
        self._waves[step_id] = wave
        return self.add(StepsAdded(RUN_ID, 3, self.now, (step_id,), (Wave(wave, (step_id,)),), sealed))

    def expanded(self, step_id: str, item_count: int | None = None, *, name: str = "", names: str = "") -> "Script":
        """Let a step become several: the children of a list, or the steps of a workflow."""
        return self.add(StepExpanded(RUN_ID, 3, self.now, step_id, item_count, name, tuple(names.split()), None))

    def chunk(self, step_id: str, value: JSON) -> "Script":
        return self.add(StepChunk(RUN_ID, 0, self.now, step_id, 1, 0, value))

    def progress(self, step_id: str, fraction: float | None, message: str) -> "Script":
        return self.add(StepProgress(RUN_ID, 0, self.now, step_id, 1, fraction, message))

    def log(self, step_id: str, message: str, level: LogLevel = LogLevel.INFO, *, attempt: int = 1) -> "Script":
        return self.add(StepLog(RUN_ID, 0, self.now, 1, step_id, attempt, level, "tools", message))

    def waiting(
        self, step_id: str, message: str = "", cause: WaitCause = WaitCause.CONCURRENCY, *, limit: str = ""
    ) -> "Script":
        return self.add(StepWaiting(RUN_ID, 0, self.now, step_id, cause, message, limit))

    def retrying(
        self, step_id: str, error: Failure, *, attempt: int = 1, fallback: bool = False, pause: float = 1
    ) -> "Script":
        next_time = self.now + timedelta(seconds=pause)
        return self.add(StepRetrying(RUN_ID, 4, self.now, step_id, attempt, error, next_time, fallback))

    def ready(self, step_id: str, attempt: int) -> "Script":
        return self.add(StepReady(RUN_ID, 4, self.now, step_id, attempt))

    def stopping(self, message: str) -> "Script":
        reason = _failure(FailureReason.CANCELLED, message, step_id="", attempt=0, details={})
        return self.add(RunStopping(RUN_ID, 5, self.now, reason))

    def succeeded(self, *step_ids: str) -> "Script":
        for step_id in step_ids:
            self._finish(step_id, State.SUCCEEDED)
        return self

    def reused(self, step_id: str, earlier: str) -> "Script":
        return self._finish(step_id, State.SUCCEEDED, reused_from=earlier)

    def fell_back(self, step_id: str, error: Failure, *, attempts: int | None = None) -> "Script":
        return self._finish(step_id, State.SUCCEEDED, original_error=error, attempts=attempts)

    def failed(self, step_id: str, error: Failure) -> "Script":
        return self._finish(step_id, State.FAILED, error=error)

    def skipped(self, step_id: str, culprit: str) -> "Script":
        return self._finish(step_id, State.SKIPPED, skip_reason=SkipReason(SkipCause.DEPENDENCY, culprit))

    def finished(self, state: State, outputs: Mapping[str, JSON] | None = None) -> "Script":
        return self.add(RunFinished(RUN_ID, 9, self.now, self.result(state, outputs)))

    def result(self, state: State, outputs: Mapping[str, JSON] | None = None) -> RunResult:
        """Make the result of the run so far."""
        failures = tuple(step.failure for step in self._results.values() if step.failure)
        counts = dict.fromkeys(("pending", "running", "succeeded", "failed", "cancelled", "skipped"), 0)
        for step in self._results.values():
            counts[step.state] += 1
        return RunResult(
            run_id=RUN_ID,
            workflow_name="briefing",
            state=state,
            outputs=outputs or {},
            steps=self._results,
            failures=failures,
            failure_count=len(failures),
            create_time=START,
            start_time=START,
            end_time=self.now,
            counts=Counts(**counts),
        )

    def _finish(
        self,
        step_id: str,
        state: State,
        *,
        error: Failure | None = None,
        skip_reason: SkipReason | None = None,
        reused_from: str = "",
        original_error: Failure | None = None,
        attempts: int | None = None,
    ) -> "Script":
        wave, start = self._waves[outermost(step_id)], self._starts.get(step_id)
        result = StepResult(
            step_id=step_id,
            action="tools.search",
            state=state,
            wave=wave,
            attempts=attempts if attempts is not None else int(start is not None),
            output=None,
            failure=error,
            skip_reason=skip_reason,
            ready_time=start,
            start_time=start,
            end_time=self.now,
            abandoned=False,
            reused_from=reused_from,
            original_failure=original_error,
        )
        self._results[step_id] = result
        return self.add(StepFinished(RUN_ID, 6, self.now, result))
