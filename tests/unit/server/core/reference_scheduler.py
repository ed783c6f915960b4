"""A slow, obvious scheduler, written from DESIGN §4, to compare the core with.

It gives the expected state of every step. After each input it looks at everything again. It makes no events, keeps no
counts, and knows no internals of the core.
"""

from collections.abc import Iterable

from stepwave_server.core.messages import (
    AddSteps,
    AttemptFailed,
    AttemptInterrupted,
    AttemptLost,
    AttemptStarted,
    AttemptSucceeded,
    CancelRequested,
    Input,
    Started,
    Timer,
    TimerFired,
)
from stepwave_server.core.model import (
    Failure,
    FallbackAction,
    Join,
    OnInterrupt,
    Reason,
    SkipCause,
    State,
    Step,
)
from unit.server.core.reference_state import ReferenceState

__all__ = ["ReferenceScheduler"]


class ReferenceScheduler(ReferenceState):
    """Brings the expected state of a run up to date with its inputs."""

    def take(self, given: Input, now: int) -> None:
        """Take an input; `now`: nanoseconds since the epoch."""
        if self.run_state is not None:
            return
        self.now = now
        match given:
            case Started():
                self.started = True
            case AttemptStarted():
                self._start(given.step_id)
            case AttemptSucceeded():
                self._end(given.step_id, State.SUCCEEDED)
            case AttemptFailed() | AttemptInterrupted():
                self._fail(given.step_id, given.failure, by_cancel=isinstance(given, AttemptInterrupted))
            case AttemptLost():
                self._interrupt_by_restart(given.step_id)
            case TimerFired():
                self._fire(given.timer)
            case CancelRequested():
                self._stop(SkipCause.CANCELLED)
            case AddSteps():
                self._add(given)
        self._update_all()

    def _fire(self, timer: Timer) -> None:
        if timer.kind == "backoff":
            self._queue_again(timer.step_id)
        elif timer.kind == "total" and timer.step_id not in self.running:
            self._run_out(timer.step_id)
        elif timer.kind in {"run", "cleanup"}:
            self._stop(SkipCause.TIMEOUT)

    def _start(self, step_id: str) -> None:
        if step_id not in self.places:
            return
        if self._time_left(step_id) <= 0:
            self._run_out(step_id)
            return
        self.running.add(step_id)
        self.tries[step_id] += 1
        self.state[step_id] = State.RUNNING

    def _run_out(self, step_id: str) -> None:
        """Fail a step for its total timeout, which bounds its own action alone."""
        if step_id in self.ready_at and step_id not in self.fell_back and not self._ended(step_id):
            self._give_up(step_id)

    def _fail(self, step_id: str, failure: Failure, *, by_cancel: bool) -> None:
        """Take the end of an attempt. Another attempt may follow."""
        if step_id not in self.running:
            return
        if by_cancel and failure.reason is Reason.CANCELLED:
            self._end(step_id, State.CANCELLED)
            return
        pause = self._pause(step_id, failure)
        if pause is None or pause >= self._time_left(step_id) or not self._may_run(self.steps[step_id]):
            self._give_up(step_id)
            return
        self.running.remove(step_id)
        if pause:
            self.places.remove(step_id)
            self.backing.add(step_id)

    def _give_up(self, step_id: str) -> None:
        """Let the fallback answer, or else fail the step."""
        step = self.steps[step_id]
        if step.fallback is None or step_id in self.fell_back or not self._may_run(step):
            self._end(step_id, State.FAILED)
            return
        self.fell_back.add(step_id)
        if not isinstance(step.fallback, FallbackAction):
            self._end(step_id, State.SUCCEEDED)
            return
        self.losses[step_id] = 0
        self.running.discard(step_id)
        self._queue_again(step_id)

    def _queue_again(self, step_id: str) -> None:
        """Queue a step in a backoff for a place, behind all others."""
        if step_id in self.backing:
            self.backing.remove(step_id)
            self.ready.remove(step_id)
            self.ready.append(step_id)

    def _interrupt_by_restart(self, step_id: str) -> None:
        """Take an attempt that a restart interrupted. It starts again up to three times."""
        step = self.steps[step_id]
        if step_id not in self.running:
            return
        if not self._may_run(step):
            self._end(step_id, State.CANCELLED)
        elif step.on_interrupt is OnInterrupt.FAIL or self.losses[step_id] == 3:
            self._give_up(step_id)
        else:
            self.losses[step_id] += 1
            self.tries[step_id] -= 1
            self.running.remove(step_id)

    def _add(self, given: AddSteps) -> None:
        if not self.open:
            return
        for step in given.steps:
            if step.id not in self.steps:
                self.steps[step.id] = step
                self.state[step.id] = State.PENDING
        self.open = not given.seal

    def _stop(self, cause: SkipCause) -> None:
        self.stopping = self.stopping or cause

    def _end(self, step_id: str, state: State) -> None:
        if step_id in self.places:
            self.places.remove(step_id)
        self.running.discard(step_id)
        self.backing.discard(step_id)
        self.state[step_id] = state

    def _update_all(self) -> None:
        """Look at all steps until nothing changes."""
        while self.started:
            self._update()
            skipped = next((step for step in self.steps.values() if self._must_be_skipped(step)), None)
            cancelled = [step for step in self.steps.values() if self._must_be_cancelled(step)]
            without_input = [step for step in self.steps.values() if step.id in self.places and self._lacks_input(step)]
            if skipped is not None:
                self._skip(skipped)
            elif cancelled:
                self._end(cancelled[0].id, State.CANCELLED)
            elif without_input:
                self._fail_without_input(without_input)
            else:
                return

    def _update(self) -> None:
        self._find_failures()
        if self.stopping is not None or self._failing:
            self.open = False
        self._meet_joins()
        self._invoke_ready()

    def _fail_without_input(self, steps: Iterable[Step]) -> None:
        """Fail steps whose input cannot be put together. The first failure may stop the others."""
        for step in steps:
            if self._may_run(step):
                self._give_up(step.id)
                self._update()

    # What may run, and what does.

    def _meet_joins(self) -> None:
        """Mark steps whose join is met. A join that is met stays met, and its losers may be cancelled."""
        for step in self.steps.values():
            if step.id not in self.began and self.state[step.id] is State.PENDING:
                placed = not self.open or self._wave(step.id) is not None
                if self._may_run(step) and self._met(step) and placed:
                    self.began.add(step.id)
                    self._release_losers(step)

    def _release_losers(self, winner: Step) -> None:
        if winner.join is not Join.ANY or self.open:
            return
        self.released[winner.id] = self._answered(winner)
        for loser in winner.dependencies():
            needed = any(step.id not in self.released for step in self._dependents(loser))
            if not needed and not self._ended(loser) and loser not in self.workflow.outputs:
                self.unneeded[loser] = self._answered(winner)

    def _invoke_ready(self) -> None:
        """Invoke steps in the order in which they became ready; at equal times in declaration order."""
        for step in self.steps.values():
            if step.id in self.began and step.id not in self.ready and self._is_scheduled(step):
                self.ready.append(step.id)
                self.ready_at[step.id] = self.now
        for step_id in self.ready:
            waits = not self._ended(step_id) and step_id not in self.backing and step_id not in self.places
            full = 0 < self.workflow.max_parallelism <= len(self.places)
            if waits and not full and self._may_run(self.steps[step_id]):
                self.places.append(step_id)

    # What fails, and what is skipped for it.

    def _find_failures(self) -> None:
        """Find unhandled failures. The first ones found are the culprits from then on."""
        if not self.culprits:
            self.culprits = {step.id for step in self.steps.values() if self._is_unhandled(step)}

    def _skip(self, step: Step) -> None:
        if step.id in self.unneeded:
            reasons = {(SkipCause.NOT_NEEDED, winner) for winner in self.unneeded[step.id]}
        else:
            reasons = {(SkipCause.DEPENDENCY, culprit) for culprit in self._blamed_steps(step)}
        if not self._may_run(step) and step.id not in self.unneeded:
            if self.stopping is not None:
                reasons.add((self.stopping, ""))
            if self._failing:
                reasons |= {(SkipCause.FAIL_FAST, culprit) for culprit in self.culprits}
        self.skips[step.id] = reasons
        self.state[step.id] = State.SKIPPED
        if step.id in self.places:
            self.places.remove(step.id)
