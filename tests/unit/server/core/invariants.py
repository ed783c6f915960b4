"""Invariants of every run, checked event by event from the events alone."""

from collections import Counter
from dataclasses import replace

from stepwave_server.core.messages import (
    Event,
    RunFinished,
    RunStarted,
    RunStopping,
    StepExpanded,
    StepFinished,
    StepReady,
    StepRetrying,
    StepsAdded,
    StepStarted,
    Wave,
    WaveFinished,
    WaveStarted,
)
from stepwave_server.core.model import (
    WAIT_ACTION,
    FailurePolicy,
    FallbackAction,
    Join,
    Reason,
    Scheduling,
    State,
    Step,
    Workflow,
)

__all__ = ["Invariants"]

SUCCESS = State.SUCCEEDED


class Invariants:
    """Checks the events of a run one by one.

    Steps whose ancestors were never added have no announced wave: only their own events name it.
    """

    def __init__(self, workflow: Workflow) -> None:
        self.workflow = workflow
        self.steps: dict[str, Step] = {step.id: step for step in workflow.steps}
        self.announced: dict[str, int] = {}
        self.states: dict[str, State] = {}
        self.running: set[str] = set()
        self.between: set[str] = set()
        self.pausing: dict[str, int] = {}
        self.due: dict[str, int] = {}
        self.began: set[str] = set()
        self.children: dict[str, list[str]] = {}  # by id of a step that became several
        self.fell_back: set[str] = set()
        self.failed_tries: Counter[str] = Counter()
        self.waves_open: set[int] = set()
        self.waves_done: set[int] = set()
        self.open = False
        self.planned = False
        self.stopping = False
        self.finished = False
        self.time = 0

    def check(self, event: Event) -> None:
        """Check one event."""
        assert not self.finished, "the terminal event is the last"
        assert event.time >= self.time, "time never goes back"
        self.time = event.time
        match event:
            case RunStarted():
                self._run_started(event)
            case StepsAdded():
                self._steps_added(event)
            case WaveStarted():
                assert event.wave not in self.waves_open | self.waves_done, "a wave starts once"
                self.waves_open.add(event.wave)
            case StepStarted():
                self._step_started(event)
            case StepExpanded():
                self._step_expanded(event)
            case StepRetrying():
                self._step_retrying(event)
            case StepReady():
                self.pausing.pop(event.step_id)
            case StepFinished():
                self._step_finished(event)
            case WaveFinished():
                self._wave_finished(event)
            case RunStopping():
                assert not self.stopping, "a run stops once"
                self.stopping = True
                self.open = False
            case RunFinished():
                self._run_finished(event)

    def _run_started(self, event: RunStarted) -> None:
        assert not self.planned, "a run starts once"
        self.planned = not event.more
        self.open = event.open
        assert event.step_count == len(self.steps)
        self._announce(event.waves)

    def _steps_added(self, event: StepsAdded) -> None:
        assert self.open, "only an open run takes steps"
        for step in event.steps:
            assert step.id not in self.steps, "a step is added once"
            self.steps[step.id] = step
        self._announce(event.waves)
        self.open = not event.sealed

    def _announce(self, waves: tuple[Wave, ...]) -> None:
        for wave in waves:
            for step_id in wave.step_ids:
                assert step_id not in self.announced, "a step's wave is announced once"
                self.announced[step_id] = wave.index
        for wave in waves:
            for step_id in wave.step_ids:
                deps = self.steps[step_id].dependencies()
                assert wave.index == max((self.announced[dep] + 1 for dep in deps), default=0)

    def _step_started(self, event: StepStarted) -> None:
        assert self.planned, "the plan comes first"
        assert not self.stopping, "nothing starts in a run that stops"
        assert event.step_id not in self.states
        assert event.wave == self.announced.get(event.step_id, event.wave), "a step starts in its announced wave"
        assert event.wave in self.waves_open, "a wave starts before its steps"
        assert self._join_met(self.steps[event.step_id]), "a step starts when its join is met"
        assert event.ready_time <= event.time
        assert event.deadline is None or event.time < event.deadline
        assert event.step_id not in self.running | self.pausing.keys(), "one attempt at a time"
        assert event.time >= self.due.get(event.step_id, 0), "an attempt starts when it is due"
        self._check_action(event)
        self.began.add(event.step_id)
        self.running.add(event.step_id)
        self.between.discard(event.step_id)
        most = self.workflow.max_parallelism
        attempts = [one for one in self.running | self.between if self.steps[one].action != WAIT_ACTION]
        assert not most or len(attempts) <= most, "never more in flight than max_parallelism"
        if self.workflow.scheduling is Scheduling.WAVE:
            earlier = [step_id for step_id, wave in self.announced.items() if wave < event.wave]
            assert all(step_id in self.states for step_id in earlier), "a wave waits for all earlier ones"

    def _step_expanded(self, event: StepExpanded) -> None:
        assert not self.stopping, "nothing becomes several in a run that stops"
        assert event.step_id not in self.states | self.children, "a step becomes several once"
        assert event.wave == self.announced[event.step_id]
        assert event.wave in self.waves_open
        step = self.steps[event.step_id]
        self.running.discard(event.step_id)
        self.between.discard(event.step_id)
        if event.item_count is not None:
            assert self._join_met(step)
            fresh = [_child(step, item) for item in range(event.item_count)]
        else:
            workflow = event.workflow or step.workflow
            assert workflow is not None
            fresh = [_nested(spec, f"{step.id}/", workflow) for spec in workflow.steps]
        self.children[step.id] = [child.id for child in fresh]
        self.steps.update((child.id, child) for child in fresh)
        self.announced.update((child.id, event.wave) for child in fresh)

    def _check_action(self, event: StepStarted) -> None:
        step = self.steps[event.step_id]
        fallback = step.fallback
        stands_in = event.step_id in self.fell_back and isinstance(fallback, FallbackAction)
        assert event.action == (fallback.action if isinstance(fallback, FallbackAction) and stands_in else step.action)
        if step.total_timeout is not None and not stands_in:
            assert event.deadline is not None
            assert event.deadline <= event.ready_time + step.total_timeout, "no attempt outlasts the total timeout"

    def _step_retrying(self, event: StepRetrying) -> None:
        assert not self.stopping, "no attempt follows in a run that stops"
        step_id = event.step_id
        assert step_id in self.running or event.fallback, "without a running attempt, only the fallback follows"
        policy = self.steps[step_id].retry or self.workflow.retry
        if event.fallback:
            assert event.next_time == event.time, "a fallback does not wait"
            self.fell_back.add(step_id)
        elif event.failure.reason is not Reason.INTERRUPTED:
            self.failed_tries[step_id] += 1
            assert policy is not None, "only a policy asks for another try"
            assert self.failed_tries[step_id] < policy.max_attempts, "never more tries than the policy allows"
        if step_id in self.running:
            self.running.remove(step_id)
            if event.next_time == event.time:
                self.between.add(step_id)
        self.pausing.pop(step_id, None)
        self.due[step_id] = event.next_time
        if event.next_time > event.time:
            self.pausing[step_id] = event.next_time

    def _join_met(self, step: Step) -> bool:
        deps = {dep: self.states.get(dep) for dep in step.dependencies()}
        match step.join:
            case Join.ANY:
                return SUCCESS in deps.values() or not deps
            case Join.ALL:
                return all(
                    state is SUCCESS or (state is State.FAILED and self.steps[dep].allow_failure)
                    for dep, state in deps.items()
                )
            case Join.ALL_DONE:
                return all(state is not None or dep not in self.steps for dep, state in deps.items())

    def _step_finished(self, event: StepFinished) -> None:
        assert event.step_id not in self.states, "a step finishes once"
        step = self.steps[event.step_id]
        ended = [self.states.get(dep) for dep in step.dependencies() if dep in self.steps]
        assert None not in ended or (step.join is Join.ANY and SUCCESS in ended), (
            "a step finishes after its dependencies"
        )
        was_several = event.step_id in self.children
        assert all(child in self.states for child in self.children.get(event.step_id, ())), "it ends after its steps"
        was_running = event.step_id in self.began or was_several
        assert was_several or was_running == (event.attempts > 0)
        assert was_running == (event.start_time is not None)
        answered = event.state in {SUCCESS, State.FAILED, State.CANCELLED}
        by_other = bool(event.reused_from) or event.original is not None
        assert answered if was_running else event.state is not SUCCESS or by_other
        assert event.step_id not in self.fell_back or event.original is not None, "the original failure is kept"
        assert (event.output is not None) == (event.state is SUCCESS)
        assert (event.failure is not None) == (event.state in {State.FAILED, State.CANCELLED})
        assert (event.skip is not None) == (event.state is State.SKIPPED)
        assert event.wave == self.announced.get(event.step_id, event.wave)
        self.running.discard(event.step_id)
        self.between.discard(event.step_id)
        self.pausing.pop(event.step_id, None)
        self.states[event.step_id] = event.state

    def _wave_finished(self, event: WaveFinished) -> None:
        assert event.wave in self.waves_open, "a wave finishes once, after it started"
        may_fail_fast = self.workflow.failure_policy is FailurePolicy.FAIL_FAST and State.FAILED in self.states.values()
        assert not self.open or may_fail_fast, "more steps may join a wave of an open run"
        steps = [step_id for step_id, wave in self.announced.items() if wave == event.wave]
        assert all(step_id in self.states for step_id in steps), "a wave finishes after its steps"
        self.waves_open.remove(event.wave)
        self.waves_done.add(event.wave)

    def _run_finished(self, event: RunFinished) -> None:
        assert self.states.keys() == self.steps.keys(), "a run finishes after its steps"
        assert not self.waves_open, "a run finishes after its waves"
        states = list(self.states.values())
        assert event.counts == tuple(states.count(state) for state in State)
        self.finished = True


def _child(step: Step, item: int) -> Step:
    return replace(
        step, id=f"{step.id}[{item}]", depends_on=(), bindings=(), for_each=None, when="", total_timeout=None
    )


def _nested(step: Step, prefix: str, workflow: Workflow) -> Step:
    deps = tuple(prefix + dep for dep in step.dependencies())
    retry = step.retry or workflow.retry
    return replace(step, id=prefix + step.id, depends_on=deps, bindings=(), retry=retry)
