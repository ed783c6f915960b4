"""Assembles a run's result from its last event and the steps' results before it.

The contract bounds the size of a message, so the last event holds neither the steps' results nor large outputs.
"""

from collections.abc import Iterable, Mapping

from stepwave._model.events import AnyEvent, RunStarted, StepFinished, Wave
from stepwave._model.results import RunResult, State, StepResult
from stepwave._values.payload import Output, from_payload
from stepwave.v1 import event_pb2, run_pb2, workflow_pb2

from .events import event_from_proto
from .paths import in_order
from .results import result_from_proto, step_from_proto

__all__ = ["Collector", "assemble_result"]


class Collector:
    """Collects the events of one run.

    Args:
        workflow: The workflow, for the order of the steps and the run's outputs; `None`: unknown.

    Attributes:
        result: The run's result; `None` until it has ended.
    """

    def __init__(self, workflow: workflow_pb2.Workflow | None = None) -> None:
        self.result: RunResult | None = None
        self._workflow = workflow
        self._planned: list[str] = []
        self._step_count: int | None = None
        self._steps: dict[str, StepResult] = {}

    def events(self, messages: Iterable[event_pb2.RunEvent]) -> list[AnyEvent]:
        """Collect events, and return them as the SDK's."""
        events = []
        for message in messages:
            event = event_from_proto(message, self._finish)
            if type(event) is StepFinished:
                self._steps[event.result.step_id] = event.result
            elif type(event) is RunStarted:
                self._plan(event.waves)
                self._step_count = None if event.open else event.step_count
            events.append(event)
        return events

    def step(self, step_id: str) -> StepResult | None:
        """Return a step's result; `None` until its end was read."""
        return self._steps.get(step_id)

    def planned(self) -> list[str] | None:
        """Return the ids of the run's steps; `None`: not all are known."""
        if self._workflow is not None:
            return [step.id for step in self._workflow.steps]
        return self._planned if len(self._planned) == self._step_count else None

    def absorb(self, messages: Iterable[event_pb2.RunEvent]) -> None:
        """Collect events without converting them, for the result alone."""
        for message in messages:
            match message.WhichOneof("kind"):
                case "step_finished":
                    step = step_from_proto(message.step_finished.result)
                    self._steps[step.step_id] = step
                case "run_started":
                    self._plan(message.run_started.waves)
                case "run_finished":
                    self._finish(message.run_finished.result)

    def _plan(self, waves: Iterable[Wave | event_pb2.Wave]) -> None:
        for wave in waves:
            self._planned.extend(wave.step_ids)

    def _finish(self, message: run_pb2.Result) -> RunResult:
        declared = [step.id for step in self._workflow.steps] if self._workflow else self._planned
        steps = {step_id: self._steps[step_id] for step_id in declared if step_id in self._steps}
        if len(steps) < len(self._steps):  # steps within others, and steps that were added later
            steps = {step_id: self._steps[step_id] for step_id in in_order(self._steps, declared, self._workflow)}
        self.result = assemble_result(message, steps, self._workflow)
        return self.result


def assemble_result(
    message: run_pb2.Result, steps: Mapping[str, StepResult], workflow: workflow_pb2.Workflow | None = None
) -> RunResult:
    """Assemble a result.

    Args:
        message: The server's result of the run.
        steps: The steps' results, in declaration order.
        workflow: The workflow, to find more omitted outputs than the server names; `None`: unknown.
    """
    # The server chooses the outputs. Their values are decoded already, with their steps: to decode those in the message
    # as well takes 10 ms a MiB.
    chosen = {*message.outputs, *_omitted(message, workflow)}
    outputs: dict[str, Output] = {
        step_id: step.output for step_id, step in steps.items() if step_id in chosen and step.state is State.SUCCEEDED
    }
    for step_id, payload in message.outputs.items():  # of steps that ended before a watch began
        if step_id not in outputs:
            outputs[step_id] = from_payload(payload)
    return result_from_proto(message, outputs=outputs, steps=steps)


def _omitted(message: run_pb2.Result, workflow: workflow_pb2.Workflow | None) -> Iterable[str]:
    """Return the ids of steps whose outputs are the run's and were too large for the message, if they succeeded."""
    if message.omitted_output_count > len(message.omitted_outputs) and workflow is not None:
        return _output_ids(workflow)  # the message does not name them all
    return message.omitted_outputs


def _output_ids(workflow: workflow_pb2.Workflow) -> Iterable[str]:
    """Return the ids of the steps whose outputs are the run's: those named, else those that nothing depends on."""
    if workflow.outputs:
        return workflow.outputs
    inner: set[str] = set()
    for step in workflow.steps:
        inner.update(step.depends_on)
        inner.update(binding.step.id for binding in (*step.bindings, *step.fallback.action.bindings))
        inner.add(step.for_each.step.id)
    return (step.id for step in workflow.steps if step.id not in inner)
