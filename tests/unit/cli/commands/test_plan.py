"""The text of a plan: retries, timeouts and fallbacks of its steps."""

from dataclasses import replace
from datetime import timedelta

import pytest

from stepwave import FailureReason, InputRule, Plan, PlannedBinding, PlannedFallback, PlannedRetry, PlannedStep
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
