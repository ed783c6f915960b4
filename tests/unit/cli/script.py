"""Writes scripts of events for tests of what the command line shows."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from stepwave import JSON
from stepwave._actions.failure import FailureReason
from stepwave._model.events import (
    Event,
    RunFinished,
    RunStarted,
    RunStopping,
    StepChunk,
    StepFinished,
    StepProgress,
    StepReady,
    StepRetrying,
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
    return Failure(FailureReason.ACTION_ERROR, message, False, None, step_id, 1, details)


class Script:
    """Builds the events of one run, each a tenth of a second after the one before.

    Attributes:
        events: What was written so far.
        now: The time of the next event.
    """

    def __init__(self, *waves: tuple[str, ...], name: str = "briefing") -> None:
        self.now = START
        self.events: list[Event] = []
        self._waves = {step_id: index for index, wave in enumerate(waves) for step_id in wave}
        self._starts: dict[str, datetime] = {}
        self._results: dict[str, StepResult] = {}
        plan = tuple(Wave(index, wave) for index, wave in enumerate(waves))
        self.add(RunStarted(RUN_ID, 1, self.now, name, plan, False, len(self._waves), None, False))

    def add(self, event: Event) -> "Script":
        """Write any event, and let time go on."""
        self.events.append(event)
        self.now += timedelta(seconds=0.1)
        return self

    def wave_started(self, wave: int) -> "Script":
        return self.add(WaveStarted(RUN_ID, 2, self.now, wave))

    def started(self, *step_ids: str, attempt: int = 1) -> "Script":
        for step_id in step_ids:
            self._starts.setdefault(step_id, self.now)
            wave = self._waves[step_id]
            self.add(StepStarted(RUN_ID, 3, self.now, step_id, "tools.search", wave, attempt, None, self.now))
        return self

    def chunk(self, step_id: str, value: JSON) -> "Script":
        return self.add(StepChunk(RUN_ID, 0, self.now, step_id, 1, 0, value))

    def progress(self, step_id: str, fraction: float | None, message: str) -> "Script":
        return self.add(StepProgress(RUN_ID, 0, self.now, step_id, 1, fraction, message))

    def waiting(self, step_id: str, message: str = "", cause: WaitCause = WaitCause.CONCURRENCY) -> "Script":
        return self.add(StepWaiting(RUN_ID, 0, self.now, step_id, cause, message))

    def retrying(
        self, step_id: str, why: Failure, *, attempt: int = 1, fallback: bool = False, pause: float = 1
    ) -> "Script":
        next_time = self.now + timedelta(seconds=pause)
        return self.add(StepRetrying(RUN_ID, 4, self.now, step_id, attempt, why, next_time, fallback))

    def ready(self, step_id: str, attempt: int) -> "Script":
        return self.add(StepReady(RUN_ID, 4, self.now, step_id, attempt))

    def stopping(self, message: str) -> "Script":
        why = Failure(FailureReason.CANCELLED, message, False, None, "", 0, {})
        return self.add(RunStopping(RUN_ID, 5, self.now, why))

    def succeeded(self, *step_ids: str) -> "Script":
        for step_id in step_ids:
            self._finish(step_id, State.SUCCEEDED)
        return self

    def reused(self, step_id: str, earlier: str) -> "Script":
        return self._finish(step_id, State.SUCCEEDED, reused_from=earlier)

    def fell_back(self, step_id: str, why: Failure) -> "Script":
        return self._finish(step_id, State.SUCCEEDED, original=why)

    def failed(self, step_id: str, why: Failure) -> "Script":
        return self._finish(step_id, State.FAILED, why=why)

    def skipped(self, step_id: str, culprit: str) -> "Script":
        return self._finish(step_id, State.SKIPPED, skip=SkipReason(SkipCause.DEPENDENCY, culprit))

    def finished(self, state: State, outputs: Mapping[str, JSON] | None = None) -> "Script":
        return self.add(RunFinished(RUN_ID, 9, self.now, self.result(state, outputs)))

    def result(self, state: State, outputs: Mapping[str, JSON] | None = None) -> RunResult:
        """Make the result of what was written so far."""
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
        why: Failure | None = None,
        skip: SkipReason | None = None,
        reused_from: str = "",
        original: Failure | None = None,
    ) -> "Script":
        wave, start = self._waves[step_id], self._starts.get(step_id)
        result = StepResult(
            step_id,
            "tools.search",
            state,
            wave,
            1 if start else 0,
            None,
            why,
            skip,
            start,
            start,
            self.now,
            False,
            reused_from,
            original,
        )
        self._results[step_id] = result
        return self.add(StepFinished(RUN_ID, 6, self.now, result))
