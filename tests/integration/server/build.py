"""Short builders for workflows, and short readers for events."""

import json
from collections.abc import Iterable, Mapping
from types import EllipsisType

from google.protobuf.duration_pb2 import Duration

from stepwave.v1 import payload_pb2, run_pb2, workflow_pb2
from stepwave.v1.event_pb2 import RunEvent
from stepwave.v1.run_pb2 import State

__all__ = [
    "bind",
    "check_sequences",
    "end_of",
    "fallback_to",
    "finished",
    "flow",
    "items",
    "items_of",
    "kind_of",
    "kinds_of",
    "payload",
    "reason_of",
    "retry",
    "seconds",
    "sequences",
    "state_of",
    "states",
    "step",
    "text",
    "value_of",
]


def payload(value: object) -> payload_pb2.Payload:
    """Return a payload for a value. A payload is returned unchanged."""
    return value if isinstance(value, payload_pb2.Payload) else payload_pb2.Payload(json=json.dumps(value))


def text(value: str) -> payload_pb2.Payload:
    """Return a payload with this exact text, which may be invalid JSON."""
    return payload_pb2.Payload(json=value)


def value_of(message: payload_pb2.Payload) -> object:
    value: object = json.loads(message.json)
    return value


def seconds(value: float) -> Duration:
    message = Duration()
    message.FromNanoseconds(round(value * 1_000_000_000))
    return message


def step(
    step_id: str,
    action: str = "noop",
    *,
    after: Iterable[str] = (),
    given: object = None,
    bindings: Iterable[workflow_pb2.Binding] = (),
    timeout: float | None = None,
    join: workflow_pb2.Join.ValueType = workflow_pb2.JOIN_UNSPECIFIED,
    allow_failure: bool = False,
    retry: workflow_pb2.Retry | None = None,
    total_timeout: float | None = None,
    fallback: workflow_pb2.Fallback | None = None,
    when: str = "",
    over: workflow_pb2.ForEach | None = None,
    body: workflow_pb2.Workflow | None = None,
) -> workflow_pb2.Step:
    """Return a step; `given` is its input, `None`: no input of its own. A `body` is run in place of the action."""
    return workflow_pb2.Step(
        id=step_id,
        action=action if body is None else "",
        depends_on=after,
        input=None if given is None else payload(given),
        bindings=bindings,
        timeout=None if timeout is None else seconds(timeout),
        join=join,
        allow_failure=allow_failure,
        retry=retry,
        total_timeout=None if total_timeout is None else seconds(total_timeout),
        fallback=fallback,
        when=when,
        for_each=over,
        workflow=body,
    )


def items(*values: object, at_once: int = 0) -> workflow_pb2.ForEach:
    """Return a literal list to run a step over, so many children at once."""
    return workflow_pb2.ForEach(items=payload(list(values)), max_parallelism=at_once)


def items_of(source: str, path: str = "", *, at_once: int = 0) -> workflow_pb2.ForEach:
    """Return the list that a step gives, or the run's input if the source is `input`."""
    if source == "input":
        return workflow_pb2.ForEach(input=path, max_parallelism=at_once)
    return workflow_pb2.ForEach(step=workflow_pb2.StepOutput(id=source, path=path), max_parallelism=at_once)


def retry(times: int, pause: float = 0.0, *, jitter: float | None = None) -> workflow_pb2.Retry:
    """Return a retry policy; `times` is the number of attempts, `pause` the first backoff in seconds."""
    return workflow_pb2.Retry(max_attempts=times, initial_backoff=seconds(pause), jitter=jitter)


def fallback_to(action: str, given: object = None) -> workflow_pb2.Fallback:
    """Return a fallback to an action; `given` is its input, `None`: the step's input."""
    found = workflow_pb2.Fallback(action=workflow_pb2.FallbackAction(action=action))
    if given is not None:
        found.action.input.CopyFrom(payload(given))
    return found


def bind(target: str, source: str, path: str = "", *, default: object | EllipsisType = ...) -> workflow_pb2.Binding:
    """Return a binding to the output of a step, or to the run's input if the source is `input`."""
    binding = workflow_pb2.Binding(target=target)
    if source == "input":
        binding.input = path
    else:
        binding.step.id, binding.step.path = source, path
    if default is not ...:
        binding.default.CopyFrom(payload(default))
    return binding


def flow(
    *steps: workflow_pb2.Step,
    name: str = "test",
    scheduling: workflow_pb2.Scheduling.ValueType = workflow_pb2.SCHEDULING_UNSPECIFIED,
    failure_policy: workflow_pb2.FailurePolicy.ValueType = workflow_pb2.FAILURE_POLICY_UNSPECIFIED,
    max_parallelism: int = 0,
    timeout: float | None = None,
    labels: Mapping[str, str] | None = None,
    outputs: Iterable[str] = (),
) -> workflow_pb2.Workflow:
    return workflow_pb2.Workflow(
        name=name,
        steps=steps,
        scheduling=scheduling,
        failure_policy=failure_policy,
        max_parallelism=max_parallelism,
        timeout=None if timeout is None else seconds(timeout),
        labels=labels,
        outputs=outputs,
    )


def kind_of(event: RunEvent) -> str:
    kind = event.WhichOneof("kind")
    assert kind is not None, "the event has no kind"
    return kind


def kinds_of(events: Iterable[RunEvent]) -> list[str]:
    return [kind_of(event) for event in events]


def sequences(events: Iterable[RunEvent]) -> list[int]:
    """Return the sequence numbers of events. Transient events have none."""
    return [event.sequence for event in events if event.sequence]


def check_sequences(events: Iterable[RunEvent]) -> None:
    """Check that the events of a whole run are numbered 1, 2, 3, … up to the last; transient events have no number."""
    numbers = [event.sequence for event in events]
    numbered = [number for number in numbers if number]
    assert numbered == list(range(1, len(numbered) + 1)), "the numbered events have gaps or repeats"
    assert numbers[-1] == len(numbered), "the last event is not numbered"


def finished(events: Iterable[RunEvent]) -> dict[str, run_pb2.StepResult]:
    """Return the result of every step, in the order in which the steps ended."""
    results = [event.step_finished.result for event in events if event.HasField("step_finished")]
    by_id = {result.step_id: result for result in results}
    assert len(by_id) == len(results), "a step finished twice"
    return by_id


def states(events: Iterable[RunEvent]) -> dict[str, str]:
    """Return the final state of every step, such as `succeeded`."""
    return {step_id: state_of(result.state) for step_id, result in finished(events).items()}


def state_of(state: State.ValueType) -> str:
    return State.Name(state).removeprefix("STATE_").lower()


def reason_of(failure: run_pb2.Failure) -> str:
    return run_pb2.FailureReason.Name(failure.reason).removeprefix("FAILURE_REASON_").lower()


def end_of(events: Iterable[RunEvent]) -> run_pb2.Result:
    """Return the run's result, from its terminal event."""
    *_, last = events
    assert last.HasField("run_finished"), "the last event is not terminal"
    return last.run_finished.result
