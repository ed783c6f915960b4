"""Random workflows of mixed shapes for the crash tests: every feature there is, drawn from a seed."""

from collections.abc import Sequence
from random import Random
from typing import Literal

from stepwave import Fallback, Retry, StepHandle, Workflow

__all__ = ["PAUSES", "draw_workflow"]

Join = Literal["all", "any", "all_done"]

PAUSES = [0.0, 0.0, 0.005, 0.02, 0.05, 0.15, 0.4]
ACTIONS = ["waits", "waits", "blocks", "streams", "streams_on_thread"]
POLICIES = [
    None,
    None,
    Retry(max_attempts=3, initial_backoff=0.05, max_backoff=0.2),
    Retry(max_attempts=2, initial_backoff=0),
]
SIZES = [0, 0, 0, 2_000, 20_000, 200_000]


def draw_workflow(draw: Random, pauses: Sequence[float] = PAUSES) -> Workflow:
    """Draw a workflow that ends by itself. `pauses`: durations of steps, in seconds. Its input is `{"seconds": …}`."""
    name = draw.choice(["chain", "fan", "layers", "mixed", "bound", "hasty"])
    flow = Workflow(
        name,
        scheduling=draw.choice(["eager", "eager", "wave"]),
        failure_policy=draw.choice(["fail_fast", "continue", "continue"]),
        max_parallelism=draw.choice([0, 0, 2, 5]),
        timeout=draw.choice([0.3, 1, 3]) if name == "hasty" else draw.choice([None, None, 60]),
        labels={"drawn": "yes", "size": draw.choice(["small", "large"])},
    )
    shape = {"chain": _chain, "fan": _fan, "layers": _layers, "mixed": _mixed, "bound": _bound, "hasty": _layers}
    shape[name](flow, draw, pauses)
    return flow


def _chain(flow: Workflow, draw: Random, pauses: Sequence[float]) -> None:
    last: list[str] = []
    for place in range(draw.randint(4, 14)):
        flow.step(f"s{place}", draw.choice(ACTIONS), {"seconds": draw.choice(pauses)}, depends_on=last)
        last = [f"s{place}"]


def _fan(flow: Workflow, draw: Random, pauses: Sequence[float]) -> None:
    ids = [f"s{place}" for place in range(draw.randint(3, 20))]
    for step_id in ids:
        flow.step(step_id, "waits", {"seconds": draw.choice(pauses), "size": draw.choice(SIZES[:5])})
    flow.step("join", "echoes", depends_on=ids)


def _layers(flow: Workflow, draw: Random, pauses: Sequence[float]) -> None:
    before: list[str] = []
    for layer in range(draw.randint(2, 5)):
        ids = [f"l{layer}_{place}" for place in range(draw.randint(1, 5))]
        for step_id in ids:
            after = draw.sample(before, min(len(before), draw.randint(1, 3)))
            flow.step(step_id, draw.choice(ACTIONS), {"seconds": draw.choice(pauses)}, depends_on=after)
        before = ids


def _bound(flow: Workflow, draw: Random, pauses: Sequence[float]) -> None:
    """Add steps whose inputs have bindings to outputs, to parts of outputs and to the run's input."""
    steps = [flow.step("first", "waits", {"seconds": flow.input["seconds"], "size": draw.choice(SIZES)})]
    for place in range(draw.randint(3, 10)):
        other = draw.choice(steps)
        given = {"from": other.output if other.id == "first" else other.output["from"], "run": flow.input}
        steps.append(flow.step(f"s{place}", "echoes", given))
    flow.step("last", "echoes", [steps[-1].output["run"]["seconds"], steps[1].output])


def _mixed(flow: Workflow, draw: Random, pauses: Sequence[float]) -> None:
    """Add steps with all kinds of joins, failures, retries, fallbacks and timeouts, and some that run at most once."""
    steps: list[StepHandle] = []
    joins: list[Join] = ["all", "all", "any", "all_done"]
    for place in range(draw.randint(5, 14)):
        action = draw.choice(["waits", "waits", "waits", "streams", "streams_on_thread", "breaks", "hangs", "echoes"])
        after = draw.sample(steps, min(len(steps), draw.randint(0, 3)))
        steps.append(
            flow.step(
                f"s{place}",
                action,
                _given(action, draw, pauses),
                depends_on=after,
                join=draw.choice(joins) if after else "all",
                allow_failure=draw.random() < 0.6,
                timeout=draw.choice([0.1, 0.3]) if action == "hangs" else None,
                total_timeout=draw.choice([None, None, None, 0.5]),
                retry=draw.choice(POLICIES),
                fallback=_fallback(draw, pauses),
                on_interrupt=draw.choice(["retry", "retry", "retry", "fail"]),
            )
        )


def _fallback(draw: Random, pauses: Sequence[float]) -> Fallback | None:
    return draw.choice([None, None, Fallback(value="kept"), Fallback("waits", {"seconds": draw.choice(pauses)})])


def _given(action: str, draw: Random, pauses: Sequence[float]) -> dict[str, float]:
    match action:
        case "hangs":
            return {}
        case "breaks":  # the second attempt, after an interruption, may succeed
            return {"seconds": draw.choice(pauses), "until": draw.choice([2, 1_000])}
        case _:
            return {"seconds": draw.choice(pauses)}
