"""Replay: the core decides a recorded run again, and its decisions are compared with the recorded events.

Events do not name the inputs that led to them, but the inputs can be found. A decision begins with the event of its
input, and everything else in it follows. So the first event that is not yet explained gives the next input. `decide`
takes that input, and must return the recorded events.

Inputs that led to nothing leave no trace. A step that fails, or goes on to its fallback, as the first event of a
decision and without a running attempt, has passed its total timeout.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from operator import itemgetter
from reprlib import Repr
from typing import assert_never

from .decide import Decision, Refused, decide
from .early_causes import FIRST_WITH_CAUSES, with_causes
from .failures import NOT_RETRIED
from .inputs import Evaluator
from .messages import (
    AddSteps,
    AttemptExpanded,
    AttemptFailed,
    AttemptInterrupted,
    AttemptLost,
    AttemptStarted,
    AttemptSucceeded,
    CancelRequested,
    Event,
    Input,
    RunFinished,
    RunStarted,
    RunStopping,
    Started,
    StepCompleted,
    StepExpanded,
    StepFinished,
    StepReady,
    StepRetrying,
    StepsAdded,
    StepsReused,
    StepStarted,
    StepStopping,
    StopRequested,
    Timer,
    TimerFired,
    WaveFinished,
    WaveStarted,
)
from .model import Failure, FailureCause, Payload, State, Step
from .planning import addition_events, parts_of
from .state import RunState

__all__ = ["ReplayDiverged", "replay"]

_short = Repr()
_short.maxother = _short.maxstring = 200


class ReplayDiverged(Exception):
    """Raised when the core decides something else than what is recorded.

    Attributes:
        sequence: The number of the first event that differs.
        expected: That event, as recorded.
        got: What the core gives in its stead; `None`: nothing.
    """

    def __init__(self, sequence: int, expected: Event, got: Event | None) -> None:
        super().__init__(f"event {sequence}: {_difference(expected, got)}")
        self.sequence = sequence
        self.expected = expected
        self.got = got


class _Recorded:
    """Recorded events. The next ones can be read without taking them."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._events = iter(events)
        self._seen: deque[Event] = deque()

    def take(self) -> Event | None:
        """Return the next event; `None`: there is none."""
        return self._seen.popleft() if self._seen else next(self._events, None)

    def ahead(self) -> Iterator[Event]:
        """Yield the next events without taking them."""
        yield from self._seen
        for event in self._events:
            self._seen.append(event)
            yield event


def replay(run: RunState, events: Iterable[Event], evaluator: Evaluator) -> RunState:
    """Decide a run again, and compare the decisions with its recorded events.

    The events may end anywhere. If they end within a decision, the rest of that decision is applied and not compared:
    the `sequence` of the run is then greater than the number of events.

    Args:
        run: The run before its first event; changed.
        events: Its recorded events.
        evaluator: Puts inputs together.

    Returns:
        The run.

    Raises:
        ReplayDiverged: The core decides something else.
    """
    has_causes = run.options.version >= FIRST_WITH_CAUSES
    recorded = _Recorded(events if has_causes else map(with_causes, events))
    while (event := next(recorded.ahead(), None)) is not None:
        first = run.sequence + 1
        for sequence, got in enumerate(_decide(run, event, recorded, evaluator), start=first):
            expected = recorded.take()
            if expected is None:
                break
            if not _agree(expected, got):
                raise ReplayDiverged(sequence, expected, got)
    return run


def _decide(run: RunState, event: Event, recorded: _Recorded, evaluator: Evaluator) -> list[Event]:
    """Return the events that the core decides for the input that led to an event; at least one."""
    sequence = run.sequence + 1
    following = recorded.ahead()
    next(following)
    given = _cause(run, event, following)
    try:
        decision = Decision() if given is None else decide(run, given, event.time, evaluator)
    except Refused as refused:
        raise ReplayDiverged(sequence, event, None) from refused
    if not decision.events:
        raise ReplayDiverged(sequence, event, None)
    return decision.events


def _cause(run: RunState, event: Event, following: Iterator[Event]) -> Input | None:
    """Return the input of the decision that begins with an event; `None`: no decision begins with it."""
    match event:  # the most frequent first
        case StepFinished():
            return _cause_of_end(run, event)
        case StepStarted():
            return AttemptStarted(event.step_id, event.attempt)
        case WaveStarted():
            return _cause_of_wave(run, event, following)
        case StepRetrying():
            return _cause_of_retry(run, event)
        case StepReady():
            return TimerFired(Timer("backoff", event.step_id, event.attempt - 1))
        case StepsAdded():
            return _cause_of_addition(run, event, following)
        case RunStopping():
            return _cause_of_stop(run, event)
        case RunStarted():
            return _cause_of_start(run, event, following)
        case StepExpanded():
            return _cause_of_expansion(run, event)
        case StepStopping():
            return _cause_of_own_stop(run, event)
        case WaveFinished() | RunFinished() | StepsReused():
            return None
        case _:
            assert_never(event)


def _cause_of_end(run: RunState, event: StepFinished) -> Input | None:
    """Return the input that ended a running attempt, or a step whose total timeout passed.

    Other ends have no input of their own: skips, and steps whose input cannot be put together.
    """
    step_id, attempt, failure = event.step_id, event.attempts, event.failure
    step = run.steps.get(step_id)
    if event.original is not None and step is not None and step.original is None:  # a fixed value is the answer
        failure = event.original
    if step_id not in run.running:
        return _cause_of_idle_end(step_id, failure)
    if run.running[step_id].waits and event.state is not State.CANCELLED:
        return _cause_of_completion(step_id, attempt, event.output, failure, event.completed_by)
    if failure is None:
        return None if event.output is None else AttemptSucceeded(step_id, attempt, event.output)
    if event.state is State.CANCELLED:
        return AttemptInterrupted(step_id, attempt, failure, event.abandoned)
    return _cause_of_failure(
        step_id, attempt, failure, abandoned=event.abandoned and not run.running[step_id].abandoned
    )


def _cause_of_retry(run: RunState, event: StepRetrying) -> Input | None:
    if event.step_id not in run.running:
        return _cause_of_idle_end(event.step_id, event.failure)
    if run.running[event.step_id].waits:
        return _cause_of_completion(event.step_id, event.attempt, None, event.failure)
    return _cause_of_failure(event.step_id, event.attempt, event.failure, abandoned=event.abandoned)


def _cause_of_completion(
    step_id: str, attempt: int, output: Payload | None, failure: Failure | None, caller: str = ""
) -> Input:
    """Return the input that ended an attempt that waited to be completed."""
    match None if failure is None else failure.cause:
        case FailureCause.ATTEMPT_TIMEOUT:
            return TimerFired(Timer("own", step_id, attempt))
        case FailureCause.TOTAL_TIMEOUT:
            return TimerFired(Timer("total", step_id))
        case FailureCause.ATTEMPT_LOST | FailureCause.DRAINED as cause:
            return AttemptLost(step_id, attempt, drained=cause is FailureCause.DRAINED)
        case _:
            return StepCompleted(step_id, None if failure is not None else output, failure, caller)


def _cause_of_expansion(run: RunState, event: StepExpanded) -> Input | None:
    """Return the input that let a step become a workflow; `None`: it did so within a decision."""
    step = run.running.get(event.step_id)
    if step is None or event.workflow is None or event.input is None:
        return None
    return AttemptExpanded(event.step_id, step.attempt, event.workflow, event.input)


def _cause_of_own_stop(run: RunState, event: StepStopping) -> Input:
    match event.failure.cause:
        case FailureCause.TOTAL_TIMEOUT:
            return TimerFired(Timer("total", event.step_id))
        case FailureCause.CLEANUP_TIMEOUT:
            return TimerFired(Timer("cleanup", event.step_id))
        case _:
            return TimerFired(Timer("own", event.step_id, run.steps[event.step_id].attempt))


def _cause_of_idle_end(step_id: str, failure: Failure | None) -> Input | None:
    is_timeout = failure is not None and failure.cause is FailureCause.TOTAL_TIMEOUT
    return TimerFired(Timer("total", step_id)) if is_timeout else None


def _cause_of_failure(step_id: str, attempt: int, failure: Failure, *, abandoned: bool) -> Input:
    if abandoned or failure.cause in (FailureCause.ATTEMPT_TIMEOUT, FailureCause.TOTAL_TIMEOUT):
        return AttemptInterrupted(step_id, attempt, failure, abandoned)
    if failure.cause in (FailureCause.ATTEMPT_LOST, FailureCause.DRAINED):
        return AttemptLost(step_id, attempt, drained=failure.cause is FailureCause.DRAINED)
    return AttemptFailed(step_id, attempt, failure)


def _cause_of_wave(run: RunState, event: WaveStarted, following: Iterator[Event]) -> Input | None:
    """Return the input that started the first attempt of a wave. Without the event of its start, take any attempt."""
    started = next(following, None)
    if isinstance(started, StepStarted):
        return AttemptStarted(started.step_id, started.attempt)
    waiting = (step for step in run.dispatched.values() if step.id not in run.running)
    return next((AttemptStarted(step.id, step.attempt + 1) for step in waiting if step.wave == event.wave), None)


def _cause_of_stop(run: RunState, event: RunStopping) -> Input:
    match event.failure.cause:
        case FailureCause.CANCEL_REQUESTED:
            return CancelRequested(event.cancel_reason, event.cancelled_by)
        case FailureCause.RUN_TIMEOUT:
            return TimerFired(Timer("run"))
        case FailureCause.CLEANUP_TIMEOUT:
            return TimerFired(Timer("cleanup"))
        case FailureCause.PLAN_IDLE:
            return TimerFired(Timer("idle", attempt=run.sequence))
        case _:
            return StopRequested(event.failure)


def _cause_of_start(run: RunState, event: RunStarted, following: Iterator[Event]) -> Started:
    """Return the input that began the run, with the outputs that it took over. Their events follow its plan."""
    while event.more:
        part = next(following, None)
        if not isinstance(part, RunStarted):
            return Started()
        event = part
    reused: dict[str, Payload] = {}
    reused_from = ""
    for end in following:
        if isinstance(end, StepsReused):
            reused.update(end.outputs)
            reused_from = end.run_id
            continue
        if not isinstance(end, StepFinished) or not end.reused_from or end.output is None:
            break
        if end.step_id not in run.steps:
            break
        reused.setdefault(end.step_id, end.output)
        reused_from = reused_from or end.reused_from
    return Started(tuple(reused.items()), reused_from)


def _cause_of_addition(run: RunState, event: StepsAdded, following: Iterator[Event]) -> AddSteps:
    """Return the input that added steps, with all its parts.

    If the first of two additions fills its last part, both look like one. That is enough: other events that the first
    addition led to would stand between them.
    """
    steps, part, batch = list(event.steps), event, event.steps
    for later in following:
        if not isinstance(later, StepsAdded) or not _goes_on(run, part, batch, later):
            break
        steps += later.steps
        part, batch = later, later.steps or batch
    return AddSteps(tuple(steps), part.sealed)


def _goes_on(run: RunState, part: StepsAdded, batch: tuple[Step, ...], later: StepsAdded) -> bool:
    """Return whether an addition continues after a part: the part is full of steps, or of waves."""
    if later.time != part.time:
        return False
    if later.steps:
        first = next(addition_events(run, (*batch, later.steps[0]), part.time, sealed=False))
        return first.steps == batch
    return len(list(parts_of(part.waves))) > 1


def _agree(expected: Event, got: Event) -> bool:
    """Say whether two events are the same, but for the wording of the scheduler's own messages."""
    return expected == got or _without_wording(expected) == _without_wording(got)


def _without_wording(event: Event) -> Event:
    """Return an event without the messages that the scheduler writes.

    The outputs of a run are sorted: a journal keeps them as a map, which has no order.
    """
    match event:
        case StepFinished():
            failure = None if event.failure is None else _wordless(event.failure)
            original = None if event.original is None else _wordless(event.original)
            return replace(event, failure=failure, original=original)
        case StepRetrying() | RunStopping() | StepStopping():
            return replace(event, failure=_wordless(event.failure))
        case RunFinished():
            failures = tuple(map(_wordless, event.failures))
            return replace(event, failures=failures, outputs=tuple(sorted(event.outputs, key=itemgetter(0))))
        case _:
            return event


def _wordless(failure: Failure) -> Failure:
    details = tuple((key, "" if key == NOT_RETRIED else value) for key, value in failure.details)
    message = failure.message if failure.cause is FailureCause.UNSPECIFIED else ""
    return replace(failure, message=message, details=details)


def _difference(expected: Event, got: Event | None) -> str:
    if got is None:
        return f"recorded is {_name(expected)}, the core decides nothing of the kind"
    if type(expected) is not type(got) or _name(expected) != _name(got):
        return f"recorded is {_name(expected)}, the core decides {_name(got)}"
    pairs = [(field.name, getattr(expected, field.name), getattr(got, field.name)) for field in fields(expected)]
    differences = [f"{name} is {_short.repr(ours)}, was {_short.repr(was)}" for name, was, ours in pairs if was != ours]
    return f"{_name(expected)}: {', '.join(differences)}"


def _name(event: Event) -> str:
    """Return the kind of an event and its subject, as `StepStarted of step "a"`."""
    kind = type(event).__name__
    if isinstance(event, StepStarted | StepRetrying | StepReady | StepFinished):
        return f'{kind} of step "{event.step_id}"'
    if isinstance(event, WaveStarted | WaveFinished):
        return f"{kind} of wave {event.wave}"
    return kind
