"""What a new run of the same workflow can take over from an earlier one."""

from collections.abc import Iterable

from .messages import StepFinished
from .model import Payload, State, Workflow

__all__ = ["reusable"]


def reusable(workflow: Workflow, finished: Iterable[StepFinished]) -> tuple[tuple[str, Payload], ...]:
    """Return the outputs that can be taken over, by step id, after those of their dependencies.

    They are those of the steps that succeeded and whose dependencies are all taken over themselves: the input of any
    other may be another one when its dependencies have run again.

    Args:
        workflow: What both runs execute.
        finished: How the earlier run's steps ended, in that order.
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
