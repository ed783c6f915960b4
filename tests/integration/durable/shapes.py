"""Workflows of mixed shape for the crash test: every feature there is, drawn by a seed."""

from random import Random

from stepwave import Workflow

__all__ = ["draw_flow"]


def draw_flow(draw: Random) -> Workflow:
    """Draw a workflow that ends by itself."""
    flow = Workflow(
        draw.choice(["chain", "fan", "layers", "mixed"]),
        scheduling=draw.choice(["eager", "eager", "wave"]),
        failure_policy=draw.choice(["fail_fast", "continue", "continue"]),
        max_parallelism=draw.choice([0, 0, 2, 5]),
        timeout=draw.choice([None, None, None, 60]),
        labels={"drawn": "yes"},
    )
    shape = {"chain": _chain, "fan": _fan, "layers": _layers, "mixed": _mixed}[flow.name]
    shape(flow, draw)
    return flow


def _pause(draw: Random) -> float:
    return draw.choice([0.0, 0.005, 0.02, 0.05, 0.15])


def _chain(flow: Workflow, draw: Random) -> None:
    last: list[str] = []
    for place in range(draw.randint(4, 14)):
        flow.step(f"s{place}", draw.choice(["waits", "waits", "blocks"]), {"seconds": _pause(draw)}, depends_on=last)
        last = [f"s{place}"]


def _fan(flow: Workflow, draw: Random) -> None:
    ids = [f"s{place}" for place in range(draw.randint(3, 20))]
    for step_id in ids:
        flow.step(step_id, "waits", {"seconds": _pause(draw), "size": draw.choice([0, 0, 20_000])})
    flow.step("join", "waits", {"seconds": 0.0}, depends_on=ids)


def _layers(flow: Workflow, draw: Random) -> None:
    before: list[str] = []
    for layer in range(draw.randint(2, 5)):
        ids = [f"l{layer}_{place}" for place in range(draw.randint(1, 5))]
        for step_id in ids:
            after = draw.sample(before, min(len(before), draw.randint(1, 3)))
            flow.step(step_id, draw.choice(["waits", "says", "blocks"]), {"seconds": _pause(draw)}, depends_on=after)
        before = ids


def _mixed(flow: Workflow, draw: Random) -> None:
    """Joins of all kinds, failures allowed and not, timeouts, and steps that want no second attempt."""
    ids: list[str] = []
    for place in range(draw.randint(5, 14)):
        action = draw.choice(["waits", "waits", "waits", "says", "breaks", "hangs"])
        after = draw.sample(ids, min(len(ids), draw.randint(0, 3)))
        flow.step(
            f"s{place}",
            action,
            None if action == "hangs" else {"seconds": _pause(draw)},
            depends_on=after,
            join=draw.choice(["all", "all", "any", "all_done"]) if after else "all",
            allow_failure=draw.random() < 0.6,
            timeout=0.2 if action == "hangs" else None,
            on_interrupt=draw.choice(["retry", "retry", "retry", "fail"]),
        )
        ids.append(f"s{place}")
