"""How a plan reads at a terminal: what each step does about failures and time."""

from dataclasses import replace
from datetime import timedelta

import pytest

from stepwave import FailureReason, InputRule, Plan, PlannedBinding, PlannedFallback, PlannedRetry, PlannedStep
from stepwave.cli.commands.plan import _lines

ONCE = PlannedRetry(1, timedelta(seconds=0.5), 2.0, timedelta(seconds=30), 0.2, (FailureReason.TIMEOUT,))
PLAIN = PlannedStep("s", "search", 0, (), InputRule.OWN, {"x": 1}, ())


def told(step: PlannedStep) -> list[str]:
    """Return what a plan says of its only step, after what it gets."""
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
def test_a_step_says_what_it_does_about_failures_and_time(step: PlannedStep, lines: list[str]) -> None:
    assert told(step) == lines
