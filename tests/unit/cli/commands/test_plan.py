"""The text of a plan: retries, timeouts and fallbacks of its steps."""

from dataclasses import replace
from datetime import timedelta

import pytest

from stepwave import (
    FailureReason,
    InputRule,
    Plan,
    PlannedBinding,
    PlannedFallback,
    PlannedList,
    PlannedRetry,
    PlannedStep,
)
from stepwave.cli.commands.plan import _lines

ONCE = PlannedRetry(1, timedelta(seconds=0.5), 2.0, timedelta(seconds=30), 0.2, (FailureReason.TIMEOUT,))
PLAIN = PlannedStep(
    step_id="s",
    action="search",
    wave=0,
    depends_on=(),
    input_rule=InputRule.OWN,
    input={"x": 1},
    bindings=(),
)


def limit_lines(step: PlannedStep) -> list[str]:
    """Return the lines for the only step of a plan that follow its input."""
    plan = Plan("w", 1, 0, (1,), 1, ("s",), (step,))
    lines = [line.strip() for line in _lines(plan)]
    return lines[lines.index('gets {"x": 1}') + 1 : -1]


@pytest.mark.parametrize(
    ("step", "lines"),
    [
        (PLAIN, []),
        (replace(PLAIN, retry=ONCE), []),
        (replace(PLAIN, retry=ONCE, timeout=timedelta(seconds=5)), ["within 5.00 s"]),
        (
            replace(
                PLAIN,
                retry=replace(ONCE, max_attempts=3),
                timeout=timedelta(seconds=5),
                total_timeout=timedelta(minutes=2),
            ),
            ["at most 3 attempts, 500 ms to 30.0 s apart, each within 5.00 s, all within 2m 00s"],
        ),
        (replace(PLAIN, retry=replace(ONCE, max_attempts=2)), ["at most 2 attempts, 500 ms apart"]),
        (replace(PLAIN, fallback=PlannedFallback("", {"hits": []}, ())), ['falls back on {"hits": []}']),
        (replace(PLAIN, fallback=PlannedFallback("cached", None, ())), ["falls back on cached"]),
        (
            replace(PLAIN, fallback=PlannedFallback("cached", {"q": None}, (PlannedBinding("/q", "input", "", "/a"),))),
            ['falls back on cached, which gets {"q": {"$input": "/a"}}'],
        ),
    ],
    ids=["nothing", "one attempt", "a timeout", "all", "two attempts", "a value", "an action", "an action with input"],
)
def test_a_step_is_shown_with_its_retries_timeouts_and_fallback(step: PlannedStep, lines: list[str]) -> None:
    assert limit_lines(step) == lines


def step_lines(step: PlannedStep) -> list[str]:
    """Return the lines of the only step of a plan, after its name."""
    plan = Plan("w", 1, 0, (1,), 1, ("s",), (step,))
    return [line.strip() for line in _lines(plan)][3:-1]


AFTER = replace(PLAIN, depends_on=("a", "b"))


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (AFTER, "after a, b"),
        (replace(AFTER, join="any"), "after the first that succeeds of a, b"),
        (replace(AFTER, join="all_done"), "after a, b, whatever became of them"),
        (replace(AFTER, depends_on=("a",), join="any"), "after a"),
        (replace(AFTER, depends_on=("a",), join="all_done"), "after a, whatever became of it"),
    ],
)
def test_a_step_is_shown_with_its_join(step: PlannedStep, line: str) -> None:
    assert step_lines(step) == [line, 'gets {"x": 1}']


def test_a_step_is_shown_with_its_condition_on_one_line() -> None:
    when = 'deps["a"].output > 3\n&& input.deep'
    assert step_lines(replace(PLAIN, when=when)) == ['when deps["a"].output > 3 && input.deep', 'gets {"x": 1}']


@pytest.mark.parametrize(
    ("items", "line"),
    [
        (PlannedList("step", "a", "/urls", None, 8), 'for each of {"$from": "a/urls"}, at most 8 at once'),
        (PlannedList("input", "", "/urls", None, 0), 'for each of {"$input": "/urls"}'),
        (PlannedList("expression", "", "input.a", None, 1), 'for each of {"$cel": "input.a"}, at most 1 at once'),
        (PlannedList("items", "", "", ["x", 1], 0), 'for each of ["x", 1]'),
    ],
)
def test_a_step_is_shown_with_its_list(items: PlannedList, line: str) -> None:
    assert step_lines(replace(PLAIN, for_each=items, input_rule=InputRule.ITEM)) == [line, "gets the item"]


def test_a_step_is_shown_with_the_workflow_that_it_runs() -> None:
    step = replace(PLAIN, action="core.workflow", workflow_name="page", workflow_steps=("fetch", "clean"))
    assert step_lines(step) == ["runs the workflow page: fetch, clean", 'gets {"x": 1}']


def test_expressions_items_and_defaults_are_shown_as_in_workflow_files() -> None:
    bindings = (
        PlannedBinding("/n", "expression", "", 'deps["a"].output + 1'),
        PlannedBinding("/u", "item", "", "/url"),
        PlannedBinding("/f", "step", "a", "/b", has_default=True, default=0),
    )
    assert step_lines(replace(PLAIN, input={"n": None, "u": None, "f": None}, bindings=bindings)) == [
        r'gets {"n": {"$cel": "deps[\"a\"].output + 1"}, "u": {"$item": "/url"}, "f": {"$from": "a/b", "default": 0}}'
    ]
