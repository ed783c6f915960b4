"""The result of a run, within the size of one message, and what a rerun takes over from it."""

from collections.abc import Iterable, Iterator

from .messages import RunFinished, StepFinished
from .model import MAX_MESSAGE_CONTENT, Failure, Payload, Reason, State, Workflow, payload_size
from .state import RunState

__all__ = [
    "end_state",
    "reusable",
    "run_finished",
]

MAX_OMITTED = 1_000


def run_finished(run: RunState, now: int) -> RunFinished:
    """Return the last event of a run whose steps have all ended."""
    kept: list[tuple[str, Payload]] = []
    omitted: list[str] = []
    omitted_count = size = 0
    for step_id, output in _outputs(run):
        size += payload_size(output) + len(step_id)
        if size <= MAX_MESSAGE_CONTENT:
            kept.append((step_id, output))
            continue
        size -= payload_size(output) + len(step_id)
        omitted_count += 1
        if omitted_count <= MAX_OMITTED:
            omitted.append(step_id)
    return RunFinished(
        time=now,
        state=end_state(run),
        start_time=run.start_time,
        outputs=tuple(kept),
        omitted=tuple(omitted),
        omitted_count=omitted_count,
        failures=tuple(_within(run.failures)),
        failure_count=run.failure_count,
        counts=tuple(run.counts),
    )


def end_state(run: RunState) -> State:
    """Return the end state of a run."""
    if run.stopping is not None:
        return State.CANCELLED if run.stopping.reason is Reason.CANCELLED else State.FAILED
    return State.FAILED if run.failed_by else State.SUCCEEDED


def _outputs(run: RunState) -> Iterator[tuple[str, Payload]]:
    named = run.workflow.outputs
    steps = [run.steps[step_id] for step_id in named if step_id in run.steps] if named else run.by_index
    for step in steps:
        if step.state is State.SUCCEEDED and step.output is not None and (named or not step.dependents):
            yield step.spec.id, step.output


def _within(failures: list[Failure]) -> Iterator[Failure]:
    size = 0
    for failure in failures:
        details = sum(payload_size(key) + payload_size(value) for key, value in failure.details)
        size += payload_size(failure.message) + details
        if size > MAX_MESSAGE_CONTENT:
            return
        yield failure


def reusable(workflow: Workflow, finished: Iterable[StepFinished]) -> tuple[tuple[str, Payload], ...]:
    """Return the outputs that a rerun can take over, by step id, each after those of its dependencies.

    These are the outputs of steps that succeeded and whose dependencies are all taken over. The input of any other step
    may change when its dependencies run again.

    Args:
        workflow: The workflow of both runs.
        finished: The ends of the earlier run's steps, in their order.
    """
    specs = {step.id: step for step in workflow.steps}
    taken: dict[str, Payload] = {}
    for event in finished:
        spec = specs.get(event.step_id)
        if spec is None or event.state is not State.SUCCEEDED or event.output is None:
            continue
        if all(dep in taken for dep in spec.dependencies()):
            taken[event.step_id] = event.output
    return tuple(taken.items())
