"""A slow, obvious scheduler, written from DESIGN §4: it looks at everything again after whatever happens.

It says what must have become of every step. It makes no events, keeps no counts, and knows nothing of the core's
insides.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from math import inf

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
    FailurePolicy,
    FallbackAction,
    Join,
    OnInterrupt,
    Reason,
    Scheduling,
    Skip,
    SkipCause,
    State,
    Step,
    Workflow,
)
from unit.server.core.build import NOWHERE

__all__ = ["Model"]


class Model:
    """What a run must have come to.

    Attributes:
        state: What has become of every step.
        places: The steps that were invoked and have not ended, running or not, in order.
        running: The steps with a running attempt.
        backing: The steps that pause before another attempt.
        fell_back: The steps whose fallback stands in, or answered.
        skips: For every skipped step, the reasons that may be given; more than one where DESIGN leaves the choice.
    """

    def __init__(self, workflow: Workflow, *, is_open: bool = False) -> None:
        self.workflow = workflow
        self.open = is_open
        self.steps = {step.id: step for step in workflow.steps}
        self.state = dict.fromkeys(self.steps, State.PENDING)
        self.skips: dict[str, set[tuple[SkipCause, str]]] = {}
        self.began: set[str] = set()
        self.ready: list[str] = []
        self.places: list[str] = []
        self.running: set[str] = set()
        self.backing: set[str] = set()
        self.fell_back: set[str] = set()
        self.losses: Counter[str] = Counter()
        self.tries: Counter[str] = Counter()
        self.ready_at: dict[str, int] = {}
        self.now = 0
        self.let_go: dict[str, set[str]] = {}
        self.unneeded: dict[str, set[str]] = {}
        self.culprits: set[str] = set()
        self.started = False
        self.stopping: SkipCause | None = None

    def take(self, given: Input, now: int) -> None:
        """Go on after an input, in nanoseconds since the epoch."""
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
                self._lose(given.step_id)
            case TimerFired():
                self._ring(given.timer)
            case CancelRequested():
                self._stop(SkipCause.CANCELLED)
            case AddSteps():
                self._add(given)
        self._go_on()

    @property
    def run_state(self) -> State | None:
        """What the run came to; `None` while it lasts."""
        if not self.started or self.open or any(not self._ended(step_id) for step_id in self.steps):
            return None
        if self.stopping is not None:
            return State.CANCELLED if self.stopping is SkipCause.CANCELLED else State.FAILED
        return State.FAILED if self.culprits else State.SUCCEEDED

    @property
    def interrupted(self) -> set[str]:
        """The running steps that may not go on."""
        return {step_id for step_id in self.running if not self._may_run(self.steps[step_id])}

    def _ring(self, timer: Timer) -> None:
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

    def _time_left(self, step_id: str) -> float:
        total = self.steps[step_id].total_timeout
        if total is None or step_id in self.fell_back:
            return inf
        return self.ready_at[step_id] + total - self.now

    def _run_out(self, step_id: str) -> None:
        """Fail a step for its total timeout, which bounds its own action alone."""
        if step_id in self.ready_at and step_id not in self.fell_back and not self._ended(step_id):
            self._give_up(step_id)

    def _fail(self, step_id: str, failure: Failure, *, by_cancel: bool) -> None:
        """Take the end of an attempt: another may follow."""
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

    def _pause(self, step_id: str, failure: Failure) -> int | None:
        """Return how long to wait before another attempt; `None`: none is made. Policies draw nothing here."""
        policy = self.steps[step_id].retry or self.workflow.retry
        tries = self.tries[step_id]
        if policy is None or step_id in self.fell_back or tries >= policy.max_attempts:
            return None
        if not failure.retryable or failure.reason not in policy.retryable_reasons:
            return None
        grown = policy.initial_backoff * policy.backoff_multiplier ** (tries - 1)
        return max(round(min(grown, policy.max_backoff)), failure.retry_after or 0)

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
        """Let a step that pauses wait for a place, after all that wait already."""
        if step_id in self.backing:
            self.backing.remove(step_id)
            self.ready.remove(step_id)
            self.ready.append(step_id)

    def _lose(self, step_id: str) -> None:
        """Take an attempt that a restart ended for interrupted, and the step for one to start again, three times."""
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

    def _go_on(self) -> None:
        """Look at everything until nothing changes."""
        while self.started:
            self._look_around()
            doomed = next((step for step in self.steps.values() if self._must_be_skipped(step)), None)
            stranded = [step for step in self.steps.values() if self._must_be_cancelled(step)]
            unfit = [step for step in self.steps.values() if step.id in self.places and self._is_unfit(step)]
            if doomed is not None:
                self._skip(doomed)
            elif stranded:
                self._end(stranded[0].id, State.CANCELLED)
            elif unfit:
                self._fail_unfit(unfit)
            else:
                return

    def _look_around(self) -> None:
        self._notice_failures()
        if self.stopping is not None or self._failing:
            self.open = False
        self._notice_joins()
        self._give_places()

    def _fail_unfit(self, steps: Iterable[Step]) -> None:
        """Fail those whose input cannot be put together; the first one may spare the others."""
        for step in steps:
            if self._may_run(step):
                self._give_up(step.id)
                self._look_around()

    def _is_unfit(self, step: Step) -> bool:
        """Say whether the input of the step's next attempt cannot be put together."""
        fallback = step.fallback
        if step.id not in self.fell_back or not isinstance(fallback, FallbackAction):
            return NOWHERE in step.bindings
        own = fallback.input is not None or fallback.bindings
        return NOWHERE in (fallback.bindings if own else step.bindings)

    # A step's dependencies, and what they came to.

    def _ended(self, step_id: str) -> bool:
        return step_id in self.state and self.state[step_id] not in {State.PENDING, State.RUNNING}

    def _dependents(self, step_id: str) -> Iterator[Step]:
        return (step for step in self.steps.values() if step_id in step.dependencies())

    def _all_ended(self, step: Step) -> bool:
        """Say whether every dependency has ended; one still to come does when the run closes without it."""
        return all(self._ended(dep) or (dep not in self.steps and not self.open) for dep in step.dependencies())

    def _answered(self, step: Step) -> set[str]:
        return {dep for dep in step.dependencies() if self.state.get(dep) is State.SUCCEEDED}

    def _allowed(self, dep: str) -> bool:
        return self.state.get(dep) is State.FAILED and self.steps[dep].allow_failure

    def _met(self, step: Step) -> bool:
        deps = step.dependencies()
        if step.join is Join.ANY and deps:
            return bool(self._answered(step))
        if step.join is Join.ALL_DONE:
            return self._all_ended(step)
        return all(dep in self._answered(step) or self._allowed(dep) for dep in deps)

    def _wave(self, step_id: str) -> int | None:
        """Return a step's wave; `None` while an ancestor is still to come."""
        if step_id not in self.steps:
            return None
        waves = [self._wave(dep) for dep in self.steps[step_id].dependencies()]
        return None if None in waves else max((wave + 1 for wave in waves if wave is not None), default=0)

    def _turn_has_come(self, step: Step) -> bool:
        wave = self._wave(step.id)
        if wave is None:
            return not self.open
        if self.workflow.scheduling is Scheduling.EAGER:
            return True
        waves = {step_id: self._wave(step_id) for step_id in self.steps}
        return all(self._ended(step_id) for step_id, other in waves.items() if other is not None and other < wave)

    # What may run, and what does.

    @property
    def _failing(self) -> bool:
        return bool(self.culprits) and self.workflow.failure_policy is FailurePolicy.FAIL_FAST

    def _may_run(self, step: Step) -> bool:
        if self.stopping is not None or step.id in self.unneeded:
            return False
        return not self._failing or step.join is Join.ALL_DONE

    def _notice_joins(self) -> None:
        """Let begin what may: a join that is met stays met, and lets its losers go."""
        for step in self.steps.values():
            if step.id not in self.began and self.state[step.id] is State.PENDING:
                placed = not self.open or self._wave(step.id) is not None
                if self._may_run(step) and self._met(step) and placed:
                    self.began.add(step.id)
                    self._let_losers_go(step)

    def _let_losers_go(self, winner: Step) -> None:
        if winner.join is not Join.ANY or self.open:
            return
        self.let_go[winner.id] = self._answered(winner)
        for loser in winner.dependencies():
            needed = any(step.id not in self.let_go for step in self._dependents(loser))
            if not needed and not self._ended(loser) and loser not in self.workflow.outputs:
                self.unneeded[loser] = self._answered(winner)

    def _give_places(self) -> None:
        """Serve first who was ready first; of those ready together, who was declared first."""
        for step in self.steps.values():
            if step.id in self.began and step.id not in self.ready and self._turn_has_come(step):
                self.ready.append(step.id)
                self.ready_at[step.id] = self.now
        for step_id in self.ready:
            waits = not self._ended(step_id) and step_id not in self.backing and step_id not in self.places
            full = 0 < self.workflow.max_parallelism <= len(self.places)
            if waits and not full and self._may_run(self.steps[step_id]):
                self.places.append(step_id)

    # What fails, and what is skipped for it.

    def _notice_failures(self) -> None:
        """Find failures that nobody handles. The first ones found are to blame from then on."""
        if not self.culprits:
            self.culprits = {step.id for step in self.steps.values() if self._is_unhandled(step)}

    def _is_unhandled(self, step: Step) -> bool:
        if self.state[step.id] is not State.FAILED or step.allow_failure:
            return False
        dependents = list(self._dependents(step.id))
        return not dependents or any(self._is_lost_without(dependent) for dependent in dependents)

    def _is_lost_without(self, step: Step) -> bool:
        if step.join is Join.ALL_DONE or step.id in self.unneeded:
            return False
        if step.join is Join.ALL:
            return True
        return step.id not in self.began and self._all_ended(step) and not self._answered(step)

    def _must_be_skipped(self, step: Step) -> bool:
        if self.state[step.id] is not State.PENDING:
            return False
        if step.id in self.began:
            return not self._may_run(step)
        return self._all_ended(step) and (not self._met(step) or not self._may_run(step))

    def _must_be_cancelled(self, step: Step) -> bool:
        """Say whether a step stands between two attempts and may not start the second."""
        between = self.state[step.id] is State.RUNNING and step.id not in self.running
        return between and not self._may_run(step)

    def _skip(self, step: Step) -> None:
        if step.id in self.unneeded:
            reasons = {(SkipCause.NOT_NEEDED, winner) for winner in self.unneeded[step.id]}
        else:
            reasons = {(SkipCause.DEPENDENCY, culprit) for culprit in self._to_blame(step)}
        if not self._may_run(step) and step.id not in self.unneeded:
            if self.stopping is not None:
                reasons.add((self.stopping, ""))
            if self._failing:
                reasons |= {(SkipCause.FAIL_FAST, culprit) for culprit in self.culprits}
        self.skips[step.id] = reasons
        self.state[step.id] = State.SKIPPED
        if step.id in self.places:
            self.places.remove(step.id)

    def _to_blame(self, step: Step) -> set[str]:
        """Return the steps whose failure keeps a join from being met, directly or through skipped ones."""
        if self._met(step) or step.id in self.began:
            return set()
        culprits = set()
        for dep in step.dependencies():
            if self.state.get(dep) is State.FAILED and not (step.join is Join.ALL and self._allowed(dep)):
                culprits.add(dep)
            elif self.state.get(dep) is State.SKIPPED:
                culprits |= {culprit for cause, culprit in self.skips[dep] if cause is SkipCause.DEPENDENCY}
        return culprits

    def agrees(self, step_id: str, skip: Skip | None) -> bool:
        """Say whether a step may have been skipped for this reason."""
        return skip is not None and (skip.cause, skip.step_id) in self.skips[step_id]
