"""The progress of a run: how many of its steps have ended."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from stepwave._convert.paths import declared_id
from stepwave._model.events import AnyEvent, RunStarted, StepExpanded, StepFinished
from stepwave.v1 import workflow_pb2

__all__ = ["Progress"]


@dataclass(slots=True)
class Progress:
    """The steps of a run that have ended, and those that are known.

    Attributes:
        workflow: The run's workflow.
        ended: The number of steps that have ended.
        known: The number of steps that are known so far. A list or a nested workflow adds its own when it begins.
    """

    workflow: workflow_pb2.Workflow
    ended: int = 0
    known: int = 0
    _nested: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._nested = dict(_nested_counts(self.workflow, ""))

    def count(self, event: AnyEvent) -> str:
        """Count an event. Return a message for people if a step has ended, else an empty text."""
        match event:
            case RunStarted():
                self.known = event.step_count
            case StepExpanded():
                self.known += self._added(event)
            case StepFinished():
                self.ended += 1
                return f"{event.result.step_id}: {event.result.state}"
        return ""

    def _added(self, event: StepExpanded) -> int:
        if event.item_count is not None:
            return event.item_count
        return len(event.nested_step_ids) or self._nested.get(declared_id(event.step_id), 0)


def _nested_counts(workflow: workflow_pb2.Workflow, before: str) -> Iterator[tuple[str, int]]:
    """Yield the paths of steps that run a workflow of their own, with the numbers of its steps."""
    for step in workflow.steps:
        if step.HasField("workflow"):
            yield before + step.id, len(step.workflow.steps)
            yield from _nested_counts(step.workflow, f"{before}{step.id}/")
