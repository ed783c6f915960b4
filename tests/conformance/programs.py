"""Random runs whose outcomes are released one at a time, in a drawn order, and random workflows without races."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from google.protobuf import json_format
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from conformance.moves import Program, draw_moves
from integration.server.build import fallback_to, flow, items, payload, retry, seconds, step
from stepwave.v1 import workflow_pb2
from stepwave_server.rpc.workflows import Workflows

__all__ = ["NAMED_FOLDER", "draw_programs", "draw_race_free_workflows"]

T = TypeVar("T")

LONG = workflow_pb2.Retry(max_attempts=3, initial_backoff=seconds(600), max_backoff=seconds(600), jitter=0)
"""Retries with a backoff that is not over before the run ends."""

POLICIES = [None, None, None, retry(2, jitter=0), retry(3, 0.02, jitter=0), LONG]
TIMED_POLICIES = [None, retry(2, jitter=0), retry(3, 0.02, jitter=0), LONG]
JOINS = [workflow_pb2.JOIN_ALL, workflow_pb2.JOIN_ALL, workflow_pb2.JOIN_ANY, workflow_pb2.JOIN_ALL_DONE]
SHAPES = [*["acts"] * 7, "wait", "list", "list of waits", "body", "list of bodies"]
CHOSEN = [*["acts"] * 3, "chosen", "chosen", "list of chosen", "body"]

NEVER = 300.0
"""Seconds of a timeout that does not pass before the run ends."""

TIMEOUTS = [*[None] * 4, 1.0, 1.0, NEVER]
TOTALS = [*[None] * 6, 2.5, 2.5, NEVER]
NESTED_TIMEOUTS = [*[None] * 5, 1.7, NEVER]
RUN_TIMEOUTS = [*[None] * 4, 3.5, NEVER]

NAMED_FOLDER = Path(__file__).parent / "named"
"""The workflows that the servers know by name."""

NAMED = {found.message.name: found.message for found in Workflows.load(NAMED_FOLDER)}


class Features(NamedTuple):
    """What drawn workflows have beside the rest.

    Attributes:
        chosen: Steps of `core.workflow`.
        timed: Timeouts, some of which pass.
    """

    chosen: bool = False
    timed: bool = False


PLAIN = Features()

KINDS = {
    "plain": PLAIN,
    "chosen": Features(chosen=True),
    "timed": Features(timed=True),
    "both": Features(chosen=True, timed=True),
}
"""The kinds of drawn runs."""


@st.composite
def _steps(
    draw: st.DrawFn, most: int, depth: int, prefix: str = "", features: Features = PLAIN
) -> list[workflow_pb2.Step]:
    ids = [f"{prefix}{chr(ord('a') + place)}" for place in range(draw(st.integers(1, most)))]
    found = []
    for place, step_id in enumerate(ids):
        after = draw(st.lists(st.sampled_from(ids[:place]), max_size=3, unique=True)) if place else []
        shape = draw(st.sampled_from(CHOSEN if features.chosen else SHAPES)) if depth else "acts"
        body = draw(_workflows(3, depth - 1, features)) if "bod" in shape else None
        attempted = shape in ("acts", "list") or "chosen" in shape
        found.append(
            step(
                step_id,
                "core.wait" if "wait" in shape else "core.workflow" if "chosen" in shape else "acts",
                after=after,
                given=draw(_calls(depth, features)) if "chosen" in shape else None,
                join=draw(st.sampled_from(JOINS)) if after else workflow_pb2.JOIN_UNSPECIFIED,
                allow_failure=draw(st.integers(0, 3)) == 3,
                retry=draw(_policies(features)) if attempted or (features.timed and shape == "wait") else None,
                fallback=draw(_fallbacks()) if attempted or shape == "body" else None,
                timeout=draw(st.sampled_from(TIMEOUTS)) if features.timed else None,
                total_timeout=draw(st.sampled_from(TOTALS)) if features.timed else None,
                when=draw(_conditions(after)) if depth else "",
                over=items(*range(draw(st.integers(0, 3))), at_once=draw(_places(shape, features)))
                if "list" in shape
                else None,
                body=body,
            )
        )
    return found


def _places(shape: str, features: Features) -> st.SearchStrategy[int]:
    """Draw how many children of a list run at once. What happens by itself happens to one at a time."""
    return st.just(1) if features.timed or "chosen" in shape else st.integers(0, 2)


@st.composite
def _calls(draw: st.DrawFn, depth: int, features: Features) -> dict[str, object]:
    """Draw an input of `core.workflow`."""
    name = draw(st.sampled_from(["", "", "", *NAMED, "nowhere"]))
    if name:
        return {"name": name, "input": {"x": 2}}
    workflow = draw(_workflows(3, depth - 1, features))
    return {"workflow": json_format.MessageToDict(workflow), "input": {"x": 2}}


def _chosen(call: str) -> workflow_pb2.Workflow | None:
    """Return the workflow that an input of `core.workflow` asks for; `None`: there is none."""
    asked = json.loads(call)
    if "name" in asked:
        return NAMED.get(asked["name"])
    return json_format.ParseDict(asked["workflow"], workflow_pb2.Workflow())


def _policies(features: Features) -> st.SearchStrategy[workflow_pb2.Retry | None]:
    return st.sampled_from(TIMED_POLICIES if features.timed else POLICIES)


def _fallbacks() -> st.SearchStrategy[workflow_pb2.Fallback | None]:
    kept = workflow_pb2.Fallback(value=payload("kept"))
    return st.sampled_from([None, None, None, None, kept, fallback_to("other")])


def _conditions(after: Sequence[str]) -> st.SearchStrategy[str]:
    told = [f'deps.{after[0]}.output == "{after[0]}"'] if after else []
    return st.sampled_from([*[""] * 8, "1 < 2", "2 < 1", "input.nowhere", *told])


@st.composite
def _workflows(
    draw: st.DrawFn, most: int, depth: int, features: Features = PLAIN, timeouts: Sequence[float | None] = ()
) -> workflow_pb2.Workflow:
    return flow(
        *draw(_steps(most, depth, features=features)),
        scheduling=draw(st.sampled_from([workflow_pb2.SCHEDULING_EAGER, workflow_pb2.SCHEDULING_WAVE])),
        failure_policy=draw(
            st.sampled_from([workflow_pb2.FAILURE_POLICY_CONTINUE, workflow_pb2.FAILURE_POLICY_FAIL_FAST])
        ),
        max_parallelism=draw(st.sampled_from([0, 0, 1, 2])),
        timeout=draw(st.sampled_from(timeouts or NESTED_TIMEOUTS)) if features.timed else None,
    )


@st.composite
def _programs(draw: st.DrawFn, features: Features) -> Program:
    is_open = draw(st.integers(0, 3)) == 3
    workflow = draw(_workflows(7, 2, features, RUN_TIMEOUTS))
    additions: list[list[workflow_pb2.Step]] = []
    if is_open:
        workflow.scheduling = workflow_pb2.SCHEDULING_EAGER
        additions = [draw(_steps(3, 1, prefix, features)) for prefix in "xy"[: draw(st.integers(0, 2))]]
    program = Program(workflow, is_open)
    draw_moves(draw, program, additions, _chosen)
    assume(len(program.moves) > 3)
    assume(not features.chosen or any("workflow" in fact for fact in program.facts))
    assume(not features.timed or any("timeout" in fact for fact in program.facts))
    return program


def draw_programs(kind: str, count: int) -> list[Program]:
    """Draw random runs of a kind, always the same. `SOAK=20` in the environment: 20 times as many, new ones."""
    return _draw(_programs(KINDS[kind]), count)


def draw_race_free_workflows(count: int) -> list[workflow_pb2.Workflow]:
    """Draw workflows in which the order of outcomes changes nothing but the order of events; see `draw_programs`."""
    return _draw(_workflows(7, 2).map(_without_races), count)


def _without_races(workflow: workflow_pb2.Workflow) -> workflow_pb2.Workflow:
    workflow.failure_policy = workflow_pb2.FAILURE_POLICY_CONTINUE
    for spec in workflow.steps:
        if spec.join == workflow_pb2.JOIN_ANY:
            spec.join = workflow_pb2.JOIN_ALL
        if spec.action == "core.wait":
            spec.action = "acts"
        if spec.retry == LONG:
            spec.retry.CopyFrom(retry(3, 0.02, jitter=0))
        if spec.HasField("workflow"):
            _without_races(spec.workflow)
    return workflow


def _draw(strategy: st.SearchStrategy[T], count: int) -> list[T]:
    factor = int(os.environ.get("SOAK", "0"))
    found: list[T] = []

    @settings(
        max_examples=count * max(1, factor),
        derandomize=not factor,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def draw(one: T) -> None:
        found.append(one)

    draw()
    return found
