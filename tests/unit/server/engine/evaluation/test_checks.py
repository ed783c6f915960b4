"""Checks of the expressions of a submission: each problem at its place."""

import pytest

from stepwave_server.core.model import (
    WORKFLOW_ACTION,
    Binding,
    FallbackAction,
    ForEach,
    FromExpression,
    FromInput,
    FromItem,
    FromStep,
    Step,
    Workflow,
)
from stepwave_server.engine.evaluation.checks import MAX_TEXT, NO_ITEM, expression_violations


def _problems(*steps: Step, item: bool = False) -> list[tuple[str, str]]:
    return [(found.field, found.description) for found in expression_violations(steps, item=item)]


def _bound(source: FromExpression | FromItem | FromStep) -> tuple[Binding, ...]:
    return (Binding("/x", source),)


def _runs(step_id: str, *steps: Step, over: ForEach | None = None) -> Step:
    return Step(step_id, WORKFLOW_ACTION, for_each=over, workflow=Workflow(name="inner", steps=steps))


def test_sound_expressions_have_no_problem() -> None:
    expression = FromExpression('deps["a"].output + deps.b.output + input.n')
    steps = (
        Step("a", "noop"),
        Step("b", "noop"),
        Step("c", "noop", ("a",), when='deps["a"].state == "SUCCEEDED"'),
        Step("d", "noop", ("a",), bindings=(*_bound(expression), Binding("/y", FromStep("b")))),
        Step("e", "noop", ("a",), for_each=ForEach(FromExpression("deps.a.output")), bindings=_bound(FromItem("/x"))),
        _runs("f", Step("g", "noop", when="item > 1", bindings=_bound(FromItem())), over=ForEach("[1]")),
    )
    assert _problems(*steps) == []


def test_a_dependency_of_a_list_or_a_fallback_can_be_named() -> None:
    of_list = Step("b", "noop", for_each=ForEach(FromStep("a")), when="size(deps.a.output) > 0")
    fallback = FallbackAction("noop", None, _bound(FromStep("a")))
    assert (
        _problems(of_list, Step("c", "noop", fallback=fallback, bindings=_bound(FromExpression("deps.a.output")))) == []
    )


def test_a_step_that_is_no_dependency_is_named() -> None:
    step = Step("c", "noop", ("fetch",), when='deps["fetsh"].output == deps.x.state')
    assert _problems(step) == [
        ("steps[0].when", '"fetsh" is no dependency of the step; did you mean "fetch"?'),
        ("steps[0].when", '"x" is no dependency of the step: name it in `depends_on`'),
    ]


def test_every_problem_has_its_place() -> None:
    bad = FromExpression("1 +")
    fallback = FallbackAction("noop", None, _bound(bad))
    step = Step("a", "noop", when="1 +", bindings=_bound(bad), for_each=ForEach(bad), fallback=fallback)
    nested = _runs("b", Step("c", "noop"), _runs("d", Step("e", "noop", when="1 +")))
    assert [field for field, _ in _problems(step, nested)] == [
        "steps[0].when",
        "steps[0].for_each.expression",
        "steps[0].bindings[0].expression",
        "steps[0].fallback.action.bindings[0].expression",
        "steps[1].workflow.steps[1].workflow.steps[0].when",
    ]


def test_without_an_item_none_can_be_read() -> None:
    steps = (
        Step("a", "noop", when="item == 1"),
        Step("b", "noop", bindings=_bound(FromItem())),
        Step("c", "noop", bindings=_bound(FromExpression("item"))),
        _runs("d", Step("e", "noop", bindings=_bound(FromItem()))),
    )
    assert _problems(*steps) == [
        ("steps[0].when", NO_ITEM),
        ("steps[1].bindings[0].item", NO_ITEM),
        ("steps[2].bindings[0].expression", NO_ITEM),
        ("steps[3].workflow.steps[0].bindings[0].item", NO_ITEM),
    ]


def test_the_condition_and_the_list_of_a_step_come_before_its_items() -> None:
    step = Step("a", "noop", when="item == 1", for_each=ForEach(FromExpression("item")), bindings=_bound(FromItem()))
    assert _problems(step) == [("steps[0].when", NO_ITEM), ("steps[0].for_each.expression", NO_ITEM)]
    assert _problems(step, item=True) == []


def test_a_workflow_within_a_workflow_of_a_list_has_no_item() -> None:
    inner = _runs("b", Step("c", "noop", when="item == 1"))
    assert _problems(_runs("a", inner, over=ForEach(FromInput()))) == [
        ("steps[0].workflow.steps[0].workflow.steps[0].when", NO_ITEM)
    ]


@pytest.mark.parametrize(
    "text", ["1", '"true"', "null", "[]", "{}", "size(input)", "input + 1", "-input", "true ? 1 : 2", "input.map(x, x)"]
)
def test_a_condition_that_is_plainly_no_bool_is_refused(text: str) -> None:
    assert _problems(Step("a", "noop", when=text)) == [
        ("steps[0].when", "its value is no bool, and a condition must be one")
    ]


@pytest.mark.parametrize("text", ["true", "input", "input.x", "true ? 1 : input", "!input", "input == 1", "input[0]"])
def test_a_condition_that_may_be_a_bool_is_accepted(text: str) -> None:
    assert _problems(Step("a", "noop", when=text)) == []


def test_expressions_are_bounded_in_all() -> None:
    count = MAX_TEXT // 4_000 + 1
    texts = [f"{index}".rjust(4_000) for index in range(count)]
    steps = [Step(f"s{index}", "noop", bindings=_bound(FromExpression(text))) for index, text in enumerate(texts)]
    assert _problems(*steps) == [("steps", "expressions of more than 500,000 characters in all")]
    same = [Step(f"s{index}", "noop", bindings=_bound(FromExpression(texts[0]))) for index in range(count)]
    assert _problems(*same) == []


def test_what_the_conversion_of_a_message_reports_is_not_reported_again() -> None:
    assert _problems(Step("a", "noop", when=" "), Step("b", "noop", when="1" * 5_000)) == []
