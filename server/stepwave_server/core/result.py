"""The result of a run, within the size of one message, and what a rerun takes over from it."""

from collections.abc import Iterable, Iterator, Mapping

from .messages import RunFinished, StepFinished
from .model import MAX_MESSAGE_CONTENT, Failure, Payload, Reason, State, Step, Workflow, payload_size
from .state import RunState, Scope, StepState

__all__ = [
    "end_state",
    "outputs_of",
    "reusable",
    "run_finished",
]

MAX_OMITTED = 1_000


def run_finished(run: RunState, now: int) -> RunFinished:
    """Return the last event of a run whose steps have all ended."""
    kept: list[tuple[str, Payload]] = []
    omitted: list[str] = []
    omitted_count = size = 0
    for step in outputs_of(run, run.root):
        step_id, output = step.id, step.output
        assert output is not None, "it has one"
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
    return State.FAILED if run.root.failed_by else State.SUCCEEDED


def outputs_of(run: RunState, scope: Scope) -> Iterator[StepState]:
    """Yield the steps whose outputs are those of a workflow: the named ones, or those that no step depends on."""
    named = scope.workflow.outputs
    steps = [run.steps[scope.prefix + it] for it in named if scope.prefix + it in run.steps] if named else scope.steps
    for step in steps:
        if step.state is State.SUCCEEDED and step.output is not None and (named or not step.dependents):
            yield step


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
    may change when its dependencies run again. Of a step that became several and did not succeed, the steps that it
    became are taken over, if its dependencies are. They are known only where the workflow has their definitions.

    Args:
        workflow: The workflow of both runs.
        finished: The ends of the earlier run's steps, in their order.
    """
    paths = _Paths(workflow)
    taken: dict[str, Payload] = {}
    for event in finished:
        if event.state is not State.SUCCEEDED or event.output is None:
            continue
        path = paths.of(event.step_id)
        if path and all(dep in taken for prefix, spec in path for dep in _prefixed(prefix, spec)):
            taken[event.step_id] = event.output
    return tuple((step_id, output) for step_id, output in taken.items() if not _is_within(step_id, taken))


def _prefixed(prefix: str, spec: Step) -> Iterator[str]:
    return (prefix + dep for dep in spec.dependencies())


def _is_within(step_id: str, taken: Mapping[str, Payload]) -> bool:
    """Say whether a step belongs to one that is taken over as a whole."""
    return any(step_id[:place] in taken for place, letter in enumerate(step_id) if letter in "/[")


class _Paths:
    """The definitions of steps by id: of a step of a nested workflow, also those of the steps around it."""

    def __init__(self, workflow: Workflow) -> None:
        self._workflow = workflow
        self._specs: dict[int, dict[str, Step]] = {}  # by the identity of their workflow

    def of(self, step_id: str) -> list[tuple[str, Step]]:
        """Return the definitions, the outermost first, each with the prefix of its ids; empty: one is not known."""
        path: list[tuple[str, Step]] = []
        workflow: Workflow | None = self._workflow
        prefix = ""
        for segment in step_id.split("/"):
            spec = None if workflow is None else self._of(workflow).get(segment.partition("[")[0])
            if spec is None:
                return []
            path.append((prefix, spec))
            prefix += f"{segment}/"
            workflow = spec.workflow
        return path

    def _of(self, workflow: Workflow) -> dict[str, Step]:
        return self._specs.setdefault(id(workflow), {step.id: step for step in workflow.steps})
