"""What a scripted run came to: its events, its steps' attempts and their order, by virtual time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Self

from stepwave._model.events import Event, StepFinished, StepRetrying, StepStarted
from stepwave._model.results import Failure, RunResult, State, StepResult
from stepwave._values.payload import Output

__all__ = ["AttemptCount", "ScriptedAttempt", "ScriptedRun", "report", "told_so_far"]


_NEWLINE = "\n"


class AttemptCount(int):
    """How many attempts a step had; where a test expects another number, it is shown what became of each."""

    history: str

    def __new__(cls, count: int, history: str) -> Self:
        """Make one of the number, and of what is to be shown."""
        made = super().__new__(cls, count)
        made.history = history
        return made


@dataclass(frozen=True, slots=True)
class ScriptedAttempt:
    """One attempt of a step, as it went.

    Attributes:
        step_id: The step.
        number: The attempt, from 1.
        action: What it did: the step's own action, or its fallback's.
        input: What the action was given.
        start: When it started, counted from the run's start.
        end: When it ended, counted alike.
        failure: Why it failed or was interrupted; `None`: it answered.
        next: When the attempt after it may start, if there is one, counted alike.
    """

    step_id: str
    number: int
    action: str
    input: Output
    start: timedelta
    end: timedelta
    failure: Failure | None = None
    next: timedelta | None = None

    @property
    def duration(self) -> timedelta:
        """How long it took."""
        return self.end - self.start

    def __str__(self) -> str:
        went = "answered"
        if self.failure is not None:
            went = f"{self.failure.reason}: {self.failure.message.partition(_NEWLINE)[0]}"
        again = "" if self.next is None else f"; again from {self.next} on"
        return f"attempt {self.number}, {self.action}, {self.start} to {self.end}: {went}{again}"


@dataclass(frozen=True, slots=True, repr=False)
class ScriptedRun:
    """A run by a script, at its end. Times are virtual; `str(run)` tells what became of every step and attempt.

    Attributes:
        result: What the run came to.
        events: All its events in order, chunks and progress too.
        history: Every attempt, in the order in which they started.
        unused: How many entries of the script no attempt has taken, by action, where there are any.
    """

    result: RunResult
    events: tuple[Event, ...]
    history: tuple[ScriptedAttempt, ...]
    unused: Mapping[str, int] = field(default_factory=dict)

    @property
    def state(self) -> State:
        """What became of the run."""
        return self.result.state

    @property
    def outputs(self) -> Mapping[str, Output]:
        """Its outputs, by step id."""
        return self.result.outputs

    @property
    def elapsed(self) -> timedelta:
        """How long it took."""
        return self.result.duration

    @property
    def order(self) -> tuple[str, ...]:
        """The steps that started, in the order in which their first attempts did."""
        return tuple(dict.fromkeys(attempt.step_id for attempt in self.history))

    @property
    def most_at_once(self) -> int:
        """How many attempts were in flight at once, at most."""
        most, running = 0, set[str]()
        for event in self.events:
            match event:
                case StepStarted():
                    running.add(event.step_id)
                case StepRetrying():
                    running.discard(event.step_id)
                case StepFinished():
                    running.discard(event.result.step_id)
            most = max(most, len(running))
        return most

    def attempts(self, step_id: str) -> int:
        """Return how many attempts a step had, that of a fallback's action included.

        With pytest, `assert run.attempts("weather") == 2` shows what became of each where it does not hold.

        Raises:
            ValueError: The workflow has no such step.
        """
        return AttemptCount(len(self.attempts_of(step_id)), self.story(step_id))

    def attempts_of(self, step_id: str) -> tuple[ScriptedAttempt, ...]:
        """Return the attempts of a step, in order.

        Raises:
            ValueError: The workflow has no such step.
        """
        self._check(step_id)
        return tuple(attempt for attempt in self.history if attempt.step_id == step_id)

    def started_before(self, first: str, second: str) -> bool:
        """Say whether a step's first attempt started before another's; both must have started.

        Raises:
            ValueError: The workflow has no such step.
        """
        self._check(first, second)
        order = self.order
        return first in order and second in order and order.index(first) < order.index(second)

    def ended_before(self, first: str, second: str) -> bool:
        """Say whether a step had ended when another's first attempt started; both must have started.

        Raises:
            ValueError: The workflow has no such step.
        """
        if not (self.attempts_of(first) and self.attempts_of(second)):
            return False
        for event in self.events:
            if isinstance(event, StepFinished) and event.result.step_id == first:
                return True
            if isinstance(event, StepStarted) and event.step_id == second:
                return False
        return False

    def assert_attempts(self, step_id: str, count: int) -> None:
        """Fail, and show what became of each, unless a step had so many attempts.

        Raises:
            AssertionError: It had more, or fewer.
            ValueError: The workflow has no such step.
        """
        __tracebackhide__ = True  # pytest then shows the line of the test
        had = len(self.attempts_of(step_id))
        if had != count:
            raise AssertionError(f"expected {_counted(count)} of step {step_id!r}, got {had}\n{self.story(step_id)}")

    def assert_order(self, *step_ids: str) -> None:
        """Fail, and show the whole run, unless these steps started, in this order; others may have between them.

        Raises:
            AssertionError: They did not.
            ValueError: The workflow has no such step.
        """
        __tracebackhide__ = True
        self._check(*step_ids)
        got = tuple(step_id for step_id in self.order if step_id in step_ids)
        if got != step_ids:
            raise AssertionError(f"expected the order {', '.join(step_ids)}; got {', '.join(got) or 'none'}\n{self}")

    def story(self, step_id: str) -> str:
        """Return what became of a step and each of its attempts, a line for each, for a person to read.

        Raises:
            ValueError: The workflow has no such step.
        """
        attempts = self.attempts_of(step_id)
        step = self.result.steps[step_id]
        skipped = step.skip_reason
        why = f" ({skipped.cause}: {skipped.step_id})" if skipped is not None else ""
        by = " by its fallback" if step.by_fallback else ""
        head = f"step {step_id!r}: {step.state}{by}{why}, {_counted(len(attempts))}"
        return "\n".join([head, *(f"  {attempt}" for attempt in attempts)])

    def _check(self, *step_ids: str) -> None:
        for step_id in step_ids:
            if step_id not in self.result.steps:
                raise ValueError(f"no step {step_id!r}; there are {', '.join(self.result.steps)}")

    def __str__(self) -> str:
        return "\n".join([repr(self), *map(self.story, self.result.steps)])

    def __repr__(self) -> str:
        return f"<scripted run of {self.result.workflow_name!r}: {self.state} after {self.elapsed}>"


def report(
    events: Sequence[Event], result: RunResult, inputs: Mapping[tuple[str, int], object], unused: Mapping[str, int]
) -> ScriptedRun:
    """Put together what a run came to; `inputs` are those of its attempts, by step id and number."""
    ended = (attempt for attempt in _attempts(events, inputs) if isinstance(attempt, ScriptedAttempt))
    return ScriptedRun(result, tuple(events), tuple(ended), unused)


def told_so_far(events: Sequence[Event], where: Callable[[str, int], str]) -> list[str]:
    """Tell of every attempt in a run that has not ended, a line for each.

    Args:
        events: What has happened.
        where: Says where an attempt stands that is under way, by its step id and number.
    """
    lines = []
    for attempt in _attempts(events, {}):
        told = str(attempt)
        if isinstance(attempt, StepStarted):
            told = f"attempt {attempt.attempt}, {attempt.action}, {attempt.time - events[0].time}: under way"
            told += where(attempt.step_id, attempt.attempt)
        lines.append(f"step {attempt.step_id!r}, {told}")
    return lines


def _attempts(events: Sequence[Event], inputs: Mapping[tuple[str, int], object]) -> list[ScriptedAttempt | StepStarted]:
    """Return the attempts in the order of their starts; one ends with the next event of its step, or is under way."""
    made: list[ScriptedAttempt | StepStarted] = []
    running: dict[str, int] = {}
    for event in events:
        if isinstance(event, StepStarted):
            running[event.step_id] = len(made)
            made.append(event)
        elif isinstance(event, StepRetrying | StepFinished):
            step_id = event.step_id if isinstance(event, StepRetrying) else event.result.step_id
            place = running.pop(step_id, None)
            start = None if place is None else made[place]
            if place is not None and isinstance(start, StepStarted):
                made[place] = _attempt(start, event, events[0].time, inputs.get((step_id, start.attempt)))
    return made


def _attempt(start: StepStarted, end: StepRetrying | StepFinished, zero: datetime, given: object) -> ScriptedAttempt:
    failure = end.failure if isinstance(end, StepRetrying) else _last_failure(end.result, start.attempt)
    following = end.next_time if isinstance(end, StepRetrying) else None
    return ScriptedAttempt(
        step_id=start.step_id,
        number=start.attempt,
        action=start.action,
        input=given,
        start=start.time - zero,
        end=end.time - zero,
        failure=failure,
        next=None if following is None else following - zero,
    )


def _last_failure(step: StepResult, attempt: int) -> Failure | None:
    """Return why a step's last attempt failed, if it did; where a value answered in its place, that is kept apart."""
    original = step.original_failure
    return original if original is not None and original.attempt == attempt else step.failure


def _counted(count: int) -> str:
    return f"{count} attempt" if count == 1 else f"{count} attempts"
