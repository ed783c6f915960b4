"""The report of a scripted run: its result, events and attempts, in virtual time."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Self, TypeVar, overload

from stepwave._model.events import AnyEvent, StepExpanded, StepFinished, StepRetrying, StepStarted
from stepwave._model.results import Failure, RunResult, State, StepResult, TypedStep
from stepwave._values.payload import Output

__all__ = ["AttemptCount", "ScriptedAttempt", "ScriptedRun", "describe_attempts", "report"]


T = TypeVar("T")

_NEWLINE = "\n"
_WAIT_ACTION = "core.wait"
_MAX_WITHIN_LISTS = 20  # steps in a text of the whole run, beside those that failed


class AttemptCount(int):
    """The number of attempts of a step, with their history for the message of a failed assertion."""

    history: str

    def __new__(cls, count: int, history: str) -> Self:
        """Return the number with its history."""
        self = super().__new__(cls, count)
        self.history = history
        return self


@dataclass(frozen=True, slots=True)
class ScriptedAttempt:
    """One attempt of a step.

    Attributes:
        step_id: The step.
        number: The attempt, from 1.
        action: The step's action, or its fallback's.
        input: The action's input.
        start: The time of its start, from the run's start.
        end: The time of its end, from the run's start.
        failure: Why it failed or was interrupted; `None`: it answered.
        next: The earliest start of the next attempt, from the run's start; `None`: there is none.
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
        """The time from start to end."""
        return self.end - self.start

    def __str__(self) -> str:
        outcome = "answered"
        if self.failure is not None:
            outcome = f"{self.failure.reason}: {self.failure.message.partition(_NEWLINE)[0]}"
        again = "" if self.next is None else f"; again from {self.next} on"
        return f"attempt {self.number}, {self.action}, {self.start} to {self.end}: {outcome}{again}"


@dataclass(frozen=True, slots=True, repr=False)
class ScriptedRun:
    """A scripted run that has ended. Times are virtual. `str(run)` describes every step and attempt.

    Attributes:
        result: The run's result.
        events: All events in order, with chunks and progress.
        history: All attempts, in the order of their starts.
        unused: The number of script entries that no attempt has used, by action; without actions that have none.
    """

    result: RunResult
    events: tuple[AnyEvent, ...]
    history: tuple[ScriptedAttempt, ...]
    unused: Mapping[str, int] = field(default_factory=dict)

    # Without these, `__getitem__` would be asked for steps 0, 1, 2 …
    __iter__ = None
    __contains__ = None

    @overload
    def __getitem__(self, step: str) -> Output: ...

    @overload
    def __getitem__(self, step: TypedStep[T]) -> T: ...

    def __getitem__(self, step: TypedStep[T] | str) -> T | Output:
        """Return the output of a step that succeeded. As `RunResult.__getitem__`."""
        return self.result[step]

    @property
    def state(self) -> State:
        """The run's state."""
        return self.result.state

    @property
    def outputs(self) -> Mapping[str, Output]:
        """The run's outputs, by step id."""
        return self.result.outputs

    @property
    def elapsed(self) -> timedelta:
        """The time from start to end."""
        return self.result.duration

    @property
    def order(self) -> tuple[str, ...]:
        """The steps that started or became several, in the order of that."""
        started = (event.step_id for event in self.events if isinstance(event, StepStarted | StepExpanded))
        return tuple(dict.fromkeys(started))

    @property
    def most_at_once(self) -> int:
        """The largest number of attempts in flight at once. Steps that wait to be completed do not count."""
        most, running = 0, set[str]()
        for event in self.events:
            match event:
                case StepStarted():
                    if event.action != _WAIT_ACTION:
                        running.add(event.step_id)
                case StepRetrying() | StepExpanded():
                    running.discard(event.step_id)
                case StepFinished():
                    running.discard(event.result.step_id)
            most = max(most, len(running))
        return most

    def attempts(self, step_id: str) -> int:
        """Return the number of attempts of a step. The attempt of a fallback's action counts too.

        With pytest, a failed `assert run.attempts("weather") == 2` describes each attempt.

        Raises:
            ValueError: The workflow has no such step.
        """
        return AttemptCount(len(self.attempts_of(step_id)), self.story(step_id))

    def attempts_of(self, step_id: str) -> tuple[ScriptedAttempt, ...]:
        """Return the attempts of a step, in order. Those of steps within it are theirs.

        Raises:
            ValueError: The workflow has no such step.
        """
        self._check(step_id)
        return tuple(attempt for attempt in self.history if attempt.step_id == step_id)

    def started_before(self, first: str, second: str) -> bool:
        """Return whether a step's first attempt started before another step's. Both must have started.

        Raises:
            ValueError: The workflow has no such step.
        """
        self._check(first, second)
        order = self.order
        return first in order and second in order and order.index(first) < order.index(second)

    def ended_before(self, first: str, second: str) -> bool:
        """Return whether a step had ended when another step's first attempt started. Both must have started.

        Raises:
            ValueError: The workflow has no such step.
        """
        self._check(first, second)
        if not {first, second} <= {*self.order}:
            return False
        for event in self.events:
            if isinstance(event, StepFinished) and event.result.step_id == first:
                return True
            if isinstance(event, StepStarted | StepExpanded) and event.step_id == second:
                return False
        return False

    def assert_attempts(self, step_id: str, count: int) -> None:
        """Assert the number of attempts of a step. The error describes each attempt.

        Raises:
            AssertionError: The step had another number of attempts.
            ValueError: The workflow has no such step.
        """
        __tracebackhide__ = True  # pytest then shows the line of the test
        had = len(self.attempts_of(step_id))
        if had != count:
            raise AssertionError(
                f"expected {_attempts_text(count)} of step {step_id!r}, got {had}\n{self.story(step_id)}"
            )

    def assert_order(self, *step_ids: str) -> None:
        """Assert that these steps started in this order. Other steps may start between them.

        Raises:
            AssertionError: They did not. The error describes the whole run.
            ValueError: The workflow has no such step.
        """
        __tracebackhide__ = True
        self._check(*step_ids)
        got = tuple(step_id for step_id in self.order if step_id in step_ids)
        if got != step_ids:
            raise AssertionError(f"expected the order {', '.join(step_ids)}; got {', '.join(got) or 'none'}\n{self}")

    def story(self, step_id: str) -> str:
        """Describe a step and each of its attempts, one per line.

        Raises:
            ValueError: The workflow has no such step.
        """
        attempts = self.attempts_of(step_id)
        step = self.result.steps[step_id]
        skipped = step.skip_reason
        why = f" ({skipped.cause}: {skipped.step_id})" if skipped is not None else ""
        by = " by its fallback" if step.by_fallback else ""
        expanded = next((e for e in self.events if isinstance(e, StepExpanded) and e.step_id == step_id), None)
        did = _attempts_text(len(attempts)) if attempts or expanded is None else ""
        head = f"step {step_id!r}: {step.state}{by}{why}, " + " and ".join(filter(None, (did, _expansion(expanded))))
        return "\n".join([head, *(f"  {attempt}" for attempt in attempts)])

    def _check(self, *step_ids: str) -> None:
        for step_id in step_ids:
            if step_id not in self.result.steps:
                raise ValueError(f"no step {step_id!r}; there are {_names(self.result.steps)}")

    def __str__(self) -> str:
        steps = self.result.steps
        within = [step_id for step_id in steps if "[" in step_id]
        left_out = {step_id for step_id in within if steps[step_id].state is not State.FAILED}
        left_out -= {*within[:_MAX_WITHIN_LISTS]}
        lines = [repr(self), *(self.story(step_id) for step_id in steps if step_id not in left_out)]
        return "\n".join([*lines, f"{len(left_out):,} more steps within lists"] if left_out else lines)

    def __repr__(self) -> str:
        return f"<scripted run of {self.result.workflow_name!r}: {self.state} after {self.elapsed}>"


def _names(step_ids: Iterable[str]) -> str:
    """Return the ids of steps, without those within lists."""
    return ", ".join(step_id for step_id in step_ids if "[" not in step_id)


def _expansion(event: StepExpanded | None) -> str:
    if event is None:
        return ""
    return (
        "a workflow"
        if event.item_count is None
        else "1 item"
        if event.item_count == 1
        else f"{event.item_count:,} items"
    )


def report(
    events: Sequence[AnyEvent], result: RunResult, inputs: Mapping[tuple[str, int], object], unused: Mapping[str, int]
) -> ScriptedRun:
    """Return the report of a run. `inputs` are those of its attempts, by step id and attempt."""
    ended = (attempt for attempt in _attempts(events, inputs) if isinstance(attempt, ScriptedAttempt))
    return ScriptedRun(result, tuple(events), tuple(ended), unused)


def describe_attempts(events: Sequence[AnyEvent], location: Callable[[str, int], str]) -> list[str]:
    """Describe every attempt of a run that has not ended, one per line.

    Args:
        events: The events so far.
        location: Returns the code location of a running attempt, by step id and attempt.
    """
    lines = []
    for attempt in _attempts(events, {}):
        text = str(attempt)
        if isinstance(attempt, StepStarted):
            text = f"attempt {attempt.attempt}, {attempt.action}, {attempt.time - events[0].time}: under way"
            text += location(attempt.step_id, attempt.attempt)
            if attempt.action == _WAIT_ACTION:
                text += ", waits to be completed: give its step an entry in the script, or a timeout"
        lines.append(f"step {attempt.step_id!r}, {text}")
    return lines


def _attempts(
    events: Sequence[AnyEvent], inputs: Mapping[tuple[str, int], object]
) -> list[ScriptedAttempt | StepStarted]:
    """Return the attempts in the order of their starts. One without a later event of its step is under way."""
    attempts: list[ScriptedAttempt | StepStarted] = []
    running: dict[str, int] = {}
    for event in events:
        if isinstance(event, StepStarted):
            running[event.step_id] = len(attempts)
            attempts.append(event)
        elif isinstance(event, StepRetrying | StepFinished | StepExpanded):
            step_id = event.result.step_id if isinstance(event, StepFinished) else event.step_id
            index = running.pop(step_id, None)
            start = None if index is None else attempts[index]
            if index is not None and isinstance(start, StepStarted):
                attempts[index] = _attempt(start, event, events[0].time, inputs.get((step_id, start.attempt)))
    return attempts


def _attempt(
    start: StepStarted, end: StepRetrying | StepFinished | StepExpanded, origin: datetime, input: object
) -> ScriptedAttempt:
    """Return an attempt. One of `core.workflow` ends when its step becomes the workflow."""
    failure = None
    if isinstance(end, StepRetrying):
        failure = end.failure
    elif isinstance(end, StepFinished):
        failure = _last_failure(end.result, start.attempt)
    following = end.next_time if isinstance(end, StepRetrying) else None
    return ScriptedAttempt(
        step_id=start.step_id,
        number=start.attempt,
        action=start.action,
        input=input,
        start=start.time - origin,
        end=end.time - origin,
        failure=failure,
        next=None if following is None else following - origin,
    )


def _last_failure(step: StepResult, attempt: int) -> Failure | None:
    """Return the failure of a step's last attempt, if any. With a fixed fallback value, it is the original failure."""
    original = step.original_failure
    return original if original is not None and original.attempt == attempt else step.failure


def _attempts_text(count: int) -> str:
    return f"{count} attempt" if count == 1 else f"{count} attempts"
