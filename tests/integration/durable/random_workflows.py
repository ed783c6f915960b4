"""Random workflows of mixed shapes for the crash tests: every feature there is, drawn from a seed."""

import json
from collections.abc import Sequence
from random import Random
from typing import Literal

from google.protobuf import json_format

from integration.server.build import fallback_to, items, payload, retry, step
from integration.server.build import flow as workflow_of
from stepwave import Fallback, Retry, StepHandle, Workflow
from stepwave.v1 import workflow_pb2

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


def draw_workflow(draw: Random, pauses: Sequence[float] = PAUSES) -> workflow_pb2.Workflow:
    """Draw a workflow that ends by itself. `pauses`: durations of steps, in seconds. Its input is `{"seconds": …}`."""
    name = draw.choice(["chain", "fan", "layers", "mixed", "bound", "hasty", "growing", "growing"])
    flow = Workflow(
        name,
        scheduling=draw.choice(["eager", "eager", "wave"]),
        failure_policy=draw.choice(["fail_fast", "continue", "continue"]),
        max_parallelism=draw.choice([0, 0, 2, 5]),
        timeout=draw.choice([0.3, 1, 3]) if name == "hasty" else draw.choice([None, None, 60]),
        labels={"drawn": "yes", "size": draw.choice(["small", "large"])},
    )
    if name == "growing":
        return _growing(flow.to_proto(), draw, pauses)
    shape = {"chain": _chain, "fan": _fan, "layers": _layers, "mixed": _mixed, "bound": _bound, "hasty": _layers}
    shape[name](flow, draw, pauses)
    return flow.to_proto()


def _growing(workflow: workflow_pb2.Workflow, draw: Random, pauses: Sequence[float]) -> workflow_pb2.Workflow:
    """Add steps with conditions, lists, nested workflows, and steps that a client completes."""
    kinds = [_decided, _list, _list, _nested, _list_of_workflows, _approval, _approvals, _chosen]
    steps: list[str] = []
    for place in range(draw.randint(2, 6)):
        one = draw.choice(kinds)(f"s{place}", draw, pauses)
        one.depends_on.extend(draw.sample(steps, min(len(steps), draw.randint(0, 2))))
        one.join = draw.choice([workflow_pb2.JOIN_ALL, workflow_pb2.JOIN_ALL_DONE, workflow_pb2.JOIN_ALL_DONE])
        one.allow_failure = draw.random() < 0.6
        steps.append(one.id)
        workflow.steps.append(one)
    workflow.steps.append(step("last", "echoes", after=steps, join=workflow_pb2.JOIN_ALL_DONE))
    return workflow


def _items(draw: Random, pauses: Sequence[float]) -> workflow_pb2.ForEach:
    pairs = [{"seconds": draw.choice(pauses)} for _ in range(draw.randint(0, 6))]
    return items(*pairs, at_once=draw.choice([0, 1, 3]))


def _decided(step_id: str, draw: Random, pauses: Sequence[float]) -> workflow_pb2.Step:
    when = draw.choice(["input.seconds > 0.1", "input.seconds <= 0.1", "input.nowhere"])
    return step(step_id, "waits", given={"seconds": draw.choice(pauses)}, when=when)


def _list(step_id: str, draw: Random, pauses: Sequence[float]) -> workflow_pb2.Step:
    return step(
        step_id,
        draw.choice(["waits", "waits", "blocks", "breaks", "streams"]),
        over=_items(draw, pauses),
        retry=draw.choice([None, retry(2, 0.02)]),
        fallback=draw.choice([None, fallback_to("waits", {"seconds": 0})]),
        total_timeout=draw.choice([None, None, None, 0.3]),
    )


def _body(draw: Random, pauses: Sequence[float]) -> workflow_pb2.Workflow:
    """Draw a workflow to be nested."""
    first = step("first", draw.choice(["waits", "echoes"]), given={"seconds": draw.choice(pauses)})
    second = draw.choice([_list, _approval, _decided])("second", draw, pauses)
    second.when = ""
    last = step("last", "waits", given={"seconds": draw.choice(pauses)}, after=["first", "second"])
    return workflow_of(
        first,
        second,
        last,
        name="body",
        failure_policy=draw.choice([workflow_pb2.FAILURE_POLICY_CONTINUE, workflow_pb2.FAILURE_POLICY_FAIL_FAST]),
        scheduling=draw.choice([workflow_pb2.SCHEDULING_EAGER, workflow_pb2.SCHEDULING_WAVE]),
        max_parallelism=draw.choice([0, 1, 2]),
        timeout=draw.choice([None, None, 0.3]),
    )


def _nested(step_id: str, draw: Random, pauses: Sequence[float]) -> workflow_pb2.Step:
    fallback = draw.choice([None, workflow_pb2.Fallback(value=payload("kept"))])
    return step(step_id, body=_body(draw, pauses), fallback=fallback)


def _list_of_workflows(step_id: str, draw: Random, pauses: Sequence[float]) -> workflow_pb2.Step:
    return step(step_id, body=_body(draw, pauses), over=_items(draw, pauses))


def _approval(step_id: str, draw: Random, pauses: Sequence[float]) -> workflow_pb2.Step:
    return step(step_id, "core.wait", timeout=draw.choice([None, None, 0.01, draw.choice(pauses) + 0.01]))


def _approvals(step_id: str, draw: Random, pauses: Sequence[float]) -> workflow_pb2.Step:
    return step(step_id, "core.wait", over=_items(draw, pauses))


def _chosen(step_id: str, draw: Random, pauses: Sequence[float]) -> workflow_pb2.Step:
    given = {"workflow": json.loads(json_format.MessageToJson(_body(draw, pauses))), "input": {"seconds": 0}}
    return step(step_id, "core.workflow", given=given)


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
