"""The progress of a run: how many of its steps have ended, and what those under way report."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from stepwave._convert.paths import declared_id
from stepwave._model.events import AnyEvent, RunStarted, StepExpanded, StepFinished, StepProgress
from stepwave.v1 import workflow_pb2

__all__ = ["Progress"]

_MOST = 0.99  # of a step under way
_LITTLE = 0.001  # of what is left up to the end of a step, for a report that tells no more


@dataclass(slots=True)
class Progress:
    """The steps of a run that have ended, and those that are known.

    Attributes:
        workflow: The run's workflow.
        ended: The number of steps that have ended.
        known: The number of steps that are known so far. A list or a nested workflow adds its own when it begins.
        value: The progress for a client, which always increases: the number of steps that have ended, and a part of one
            for the reports since then.
    """

    workflow: workflow_pb2.Workflow
    ended: int = 0
    known: int = 0
    value: float = 0
    _nested: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._nested = dict(_nested_counts(self.workflow, ""))

    def count(self, event: AnyEvent) -> str:
        """Count an event. Return a message for people if the value has increased, else an empty text."""
        match event:
            case RunStarted():
                self.known = event.step_count
            case StepExpanded():
                self.known += self._added(event)
            case StepFinished():
                self.ended += 1
                self.value = self.ended
                return f"{event.result.step_id}: {event.result.state}"
            case StepProgress() if self._advance(event.fraction or 0):
                return f"{event.step_id}: {_text_of(event)}"
        return ""

    def _advance(self, fraction: float) -> bool:
        """Raise the value for a step of which a part is done, and return whether it is higher."""
        before, wanted = self.value, self.ended + fraction * _MOST
        self.value = wanted if wanted > before else before + (self.ended + 1 - before) * _LITTLE
        return before < self.value < self.ended + 1

    def _added(self, event: StepExpanded) -> int:
        if event.item_count is not None:
            return event.item_count
        return len(event.nested_step_ids) or self._nested.get(declared_id(event.step_id), 0)


def _text_of(event: StepProgress) -> str:
    share = "" if event.fraction is None else f"{event.fraction:.0%}"
    return event.message or share or "running"


def _nested_counts(workflow: workflow_pb2.Workflow, before: str) -> Iterator[tuple[str, int]]:
    """Yield the paths of steps that run a workflow of their own, with the numbers of its steps."""
    for step in workflow.steps:
        if step.HasField("workflow"):
            yield before + step.id, len(step.workflow.steps)
            yield from _nested_counts(step.workflow, f"{before}{step.id}/")
