"""Plans of workflows, as messages."""

from collections import Counter

from stepwave.v1 import orchestrator_pb2, workflow_pb2
from stepwave_server.core.graph import waves
from stepwave_server.core.model import MAX_MESSAGE_CONTENT, Retry, Step, Workflow
from stepwave_server.wire.values import fill_duration, fill_payload
from stepwave_server.wire.workflows.failure_policies import fill_fallback, fill_retry
from stepwave_server.wire.workflows.parsing import fill_for_each
from stepwave_server.wire.workflows.workflow import fill_binding, fill_workflow

__all__ = ["to_plan"]

MAX_OUTPUTS = 1_000


def to_plan(workflow: Workflow, start: int, most: int) -> tuple[orchestrator_pb2.Plan, int]:
    """Return the plan of a valid workflow, with a page of its steps, and the index of the next page.

    Args:
        workflow: The workflow.
        start: The index of the first step of the page, in the order of waves.
        most: How many steps the page has at most.

    Returns:
        The plan, and the index of the first step of the next page; 0: there is none.
    """
    level = waves({step.id: step.dependencies() for step in workflow.steps})
    sizes = Counter(level.values())
    plan = orchestrator_pb2.Plan(
        workflow_name=workflow.name,
        step_count=len(workflow.steps),
        edge_count=sum(len(step.dependencies()) for step in workflow.steps),
        wave_sizes=[sizes[wave] for wave in range(len(sizes))],
        width=max(sizes.values(), default=0),
        outputs=_outputs(workflow)[:MAX_OUTPUTS],
    )
    ordered = sorted(workflow.steps, key=lambda step: level[step.id])
    index, size = start, 0
    while index < min(start + most, len(ordered)):
        message = _planned(ordered[index], level[ordered[index].id], workflow.retry)
        size += message.ByteSize()
        if size > MAX_MESSAGE_CONTENT and index > start:
            break
        plan.steps.append(message)
        index += 1
    return plan, index if index < len(ordered) else 0


def _planned(step: Step, wave: int, retry: Retry | None) -> orchestrator_pb2.PlannedStep:
    """Return the plan of a step. `retry` is the policy of steps without one of their own."""
    message = orchestrator_pb2.PlannedStep()
    _fill_step(message, step, wave)
    _fill_decisions(message, step)
    _fill_policies(message, step, None if step.workflow is not None else step.retry or retry)
    return message


def _fill_step(message: orchestrator_pb2.PlannedStep, step: Step, wave: int) -> None:
    message.step_id = step.id
    message.action = step.action
    message.wave = wave
    message.depends_on.extend(step.dependencies())
    message.input_rule = _rule(step)
    if step.input is not None:
        fill_payload(message.input, step.input)
    for binding in step.bindings:
        fill_binding(message.bindings.add(), binding)


def _fill_decisions(message: orchestrator_pb2.PlannedStep, step: Step) -> None:
    """Set the join, the condition, the list and the nested workflow of a step."""
    message.join = workflow_pb2.Join.ValueType(step.join.value)
    message.when = step.when
    if step.for_each is not None:
        fill_for_each(message.for_each, step.for_each)
    if step.workflow is not None:
        fill_workflow(message.workflow, step.workflow)


def _fill_policies(message: orchestrator_pb2.PlannedStep, step: Step, retry: Retry | None) -> None:
    """Set the timeouts, the retry policy and the fallback of a step."""
    if step.timeout is not None:
        fill_duration(message.timeout, step.timeout)
    if step.total_timeout is not None:
        fill_duration(message.total_timeout, step.total_timeout)
    if retry is not None:
        fill_retry(message.retry, retry)
    if step.fallback is not None:
        fill_fallback(message.fallback, step.fallback)


def _rule(step: Step) -> orchestrator_pb2.InputRule.ValueType:
    if step.input is not None or step.bindings:
        return orchestrator_pb2.INPUT_RULE_OWN
    if step.for_each is not None:
        return orchestrator_pb2.INPUT_RULE_ITEM
    return orchestrator_pb2.INPUT_RULE_DEPENDENCIES if step.depends_on else orchestrator_pb2.INPUT_RULE_RUN


def _outputs(workflow: Workflow) -> list[str]:
    if workflow.outputs:
        return list(workflow.outputs)
    needed = {dep for step in workflow.steps for dep in step.dependencies()}
    return [step.id for step in workflow.steps if step.id not in needed]
