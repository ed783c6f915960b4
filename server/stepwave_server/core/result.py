"""What a run came to, put together from its state, within the size of one message."""

from collections.abc import Iterator

from .messages import RunFinished
from .model import Failure, Payload, Reason, State, payload_size
from .state import RunState

__all__ = ["end_state", "run_finished"]

MOST_BYTES = 1 << 20
MOST_OMITTED = 1_000


def run_finished(run: RunState, now: int) -> RunFinished:
    """Return the terminal event of a run whose steps have all ended."""
    kept: list[tuple[str, Payload]] = []
    omitted: list[str] = []
    omitted_count = size = 0
    for step_id, output in _outputs(run):
        size += payload_size(output) + len(step_id)
        if size <= MOST_BYTES:
            kept.append((step_id, output))
            continue
        size -= payload_size(output) + len(step_id)
        omitted_count += 1
        if omitted_count <= MOST_OMITTED:
            omitted.append(step_id)
    return RunFinished(
        now,
        end_state(run),
        run.start_time,
        tuple(kept),
        tuple(omitted),
        omitted_count,
        tuple(_within(run.failures)),
        run.failure_count,
        tuple(run.counts),
    )


def end_state(run: RunState) -> State:
    """Return what a run comes to by its failures."""
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
        if size > MOST_BYTES:
            return
        yield failure
