"""The graphs of a run: its workflow, the children of a list, and nested workflows."""

from dataclasses import replace

from .messages import StepExpanded
from .model import Join, Step, Workflow
from .state import RunState, Scope, StepState
from .wiring import add_children, add_steps

__all__ = ["child_of", "expand", "nested_timeout", "root_of"]


def root_of(workflow: Workflow) -> Scope:
    """Return the graph of a run's workflow, without its steps."""
    root = Scope(workflow, limit=workflow.max_parallelism)
    root.gates = root.outer_gates = _own_gate(root)
    return root


def expand(run: RunState, step: StepState, event: StepExpanded) -> None:
    """Let a step become the children of its list, or the steps of a workflow."""
    if event.item_count is not None:
        step.inner = scope = _list_of(step)
        add_children(run, scope, step, child_of(step.spec), event.item_count)
        return
    workflow = step.spec.workflow if event.workflow is None else event.workflow
    assert workflow is not None, "the step has a workflow, or its action chose one"
    step.inner = scope = _nested(step, workflow)
    scope.input = event.input
    timeout = nested_timeout(step.spec, workflow)
    step.deadline = 0 if timeout is None else event.time + timeout
    add_steps(run, scope, workflow.steps)


def child_of(spec: Step) -> Step:
    """Return the definition of the children of a step with a list."""
    return replace(spec, for_each=None, when="", total_timeout=None, depends_on=(), join=Join.ALL)


def nested_timeout(spec: Step, workflow: Workflow) -> int | None:
    """Return the longest that a nested workflow may take, in nanoseconds; `None`: as long as it likes."""
    timeouts = [timeout for timeout in (spec.timeout, workflow.timeout) if timeout is not None]
    return min(timeouts, default=None)


def _list_of(step: StepState) -> Scope:
    outer, for_each = step.scope, step.spec.for_each
    assert for_each is not None, "the step has a list"
    scope = Scope(
        _policies(outer.workflow),
        step,
        depth=outer.depth,
        is_list=True,
        limit=for_each.max_parallelism,
        outer_gates=outer.gates,
        order=step.order,
    )
    scope.gates = (*_own_gate(scope), *scope.outer_gates)
    return scope


def _nested(step: StepState, workflow: Workflow) -> Scope:
    outer = step.scope
    scope = Scope(
        workflow,
        step,
        prefix=f"{step.id}/",
        depth=outer.depth + 1,
        limit=workflow.max_parallelism,
        order=step.order,
    )
    scope.gates = scope.outer_gates = (*_own_gate(scope), *outer.outer_gates)
    return scope


def _own_gate(scope: Scope) -> tuple[Scope, ...]:
    return (scope,) if scope.limit else ()


def _policies(workflow: Workflow) -> Workflow:
    """Return the policies that the children of a list have from the workflow around it."""
    return Workflow(name=workflow.name, failure_policy=workflow.failure_policy, retry=workflow.retry)
