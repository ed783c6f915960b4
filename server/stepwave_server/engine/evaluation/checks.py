"""Checks of the expressions of steps before a run has them."""

from collections.abc import Iterator, Sequence

from stepwave_server.core.model import Binding, FallbackAction, FromExpression, FromItem, Step
from stepwave_server.core.validate import Violation, did_you_mean
from stepwave_server.wire.workflows.parsing import MAX_EXPRESSION

from .expressions import Expression, SyntaxProblem, compile_expression

__all__ = ["expression_violations"]

NO_ITEM = "there is no item here: only the steps that a `for_each` runs have one"


MAX_TEXT = 500_000
"""Characters of all expressions that differ. To compile them takes up to five seconds."""


def expression_violations(steps: Sequence[Step], path: str = "steps", *, item: bool = False) -> list[Violation]:
    """Return every problem of the expressions of steps, and of their bindings to the item, at every depth.

    Args:
        steps: The steps of a workflow, or steps that are added to a run.
        path: Their place in problems.
        item: Whether a `for_each` runs their workflow, so that they have an item.
    """
    if sum(map(len, {text for step in steps for text in _texts(step)})) > MAX_TEXT:
        return [Violation(path, f"expressions of more than {MAX_TEXT:,} characters in all")]
    return [*_violations_of(steps, path, item=item)]


def _texts(step: Step) -> Iterator[str]:
    """Yield the expressions of a step, and those of the workflow that it runs."""
    if step.when:
        yield step.when
    for binding in step.all_bindings:
        if isinstance(binding.source, FromExpression):
            yield binding.source.text
    if step.for_each is not None and isinstance(step.for_each.source, FromExpression):
        yield step.for_each.source.text
    if step.workflow is not None:
        for nested in step.workflow.steps:
            yield from _texts(nested)


def _violations_of(steps: Sequence[Step], path: str, *, item: bool) -> Iterator[Violation]:
    for index, step in enumerate(steps):
        plain = step.for_each is None and step.workflow is None and step.fallback is None
        if step.when or step.bindings or not plain:
            yield from _step_violations(step, f"{path}[{index}]", item=item)


def _step_violations(step: Step, path: str, *, item: bool) -> Iterator[Violation]:
    """Yield the problems of one step. Its condition and its list are evaluated before it has an item of its own."""
    deps = step.dependencies()
    if step.when:
        yield from _violations(step.when, f"{path}.when", deps, item=item, condition=True)
    if step.for_each is not None and isinstance(step.for_each.source, FromExpression):
        yield from _violations(step.for_each.source.text, f"{path}.for_each.expression", deps, item=item)
    of_list = step.for_each is not None
    yield from _binding_violations(step.bindings, path, deps, item=item or of_list)
    if isinstance(step.fallback, FallbackAction):
        yield from _binding_violations(step.fallback.bindings, f"{path}.fallback.action", deps, item=item or of_list)
    if step.workflow is not None:
        yield from _violations_of(step.workflow.steps, f"{path}.workflow.steps", item=of_list)


def _binding_violations(
    bindings: Sequence[Binding], path: str, deps: Sequence[str], *, item: bool
) -> Iterator[Violation]:
    for binding in bindings:
        place = f"{path}.bindings[{binding.position}]"
        if isinstance(binding.source, FromExpression):
            yield from _violations(binding.source.text, f"{place}.expression", deps, item=item)
        elif isinstance(binding.source, FromItem) and not item:
            yield Violation(f"{place}.item", NO_ITEM)


def _violations(
    text: str, path: str, deps: Sequence[str], *, item: bool, condition: bool = False
) -> Iterator[Violation]:
    if not text.strip() or len(text) > MAX_EXPRESSION:  # the conversion of the message reports these
        return
    try:
        expression = compile_expression(text)
    except SyntaxProblem as problem:
        yield Violation(path, str(problem))
    else:
        for description in _problems(expression, deps, item=item, condition=condition):
            yield Violation(path, description)


def _problems(expression: Expression, deps: Sequence[str], *, item: bool, condition: bool) -> Iterator[str]:
    for step_id in expression.steps:
        if step_id not in deps:
            hint = did_you_mean(step_id, deps) or ": name it in `depends_on`"
            yield f'"{step_id}" is no dependency of the step{hint}'
    if expression.uses_item and not item:
        yield NO_ITEM
    if condition and expression.never_bool:
        yield "its value is no bool, and a condition must be one"
