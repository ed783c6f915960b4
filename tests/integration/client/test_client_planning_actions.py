"""Actions that add steps to their own run."""

import asyncio

import pytest

from integration.client.plan_actions import shout
from stepwave import (
    AsyncClient,
    Context,
    InvalidWorkflow,
    Workflow,
    action,
)
from stepwave.testing import replay


@action
async def planner(context: Context) -> str:
    """Add two steps, one of which depends on this one, and seal the run."""
    await context.add_steps([{"id": "a", "action": "shout", "input": {"text": {"$from": context.step_id}}}])
    more = Workflow("more")
    more.step("b", shout, {"text": "y"}, depends_on=["a"])
    await context.add_steps(more, seal=True)
    return "x"


@action
def planner_on_thread(context: Context) -> str:
    asyncio.run(context.add_steps([{"id": "a", "action": "shout", "input": {"text": {"$from": "plan"}}}], seal=True))
    return "x"


@action
async def sloppy_planner(context: Context) -> list[str]:
    """Add steps that cannot be added, and answer with the errors."""
    errors = []
    for steps in [{"id": "a", "action": "shuot"}], [{"id": "plan", "action": "shout"}], [{"acton": "x"}], "a", 5:
        try:
            await context.add_steps(steps)  # type: ignore[arg-type]  # the test is about that
        except (InvalidWorkflow, TypeError) as error:
            errors.append(str(error))
    await context.add_steps([], seal=True)
    return errors


async def test_an_action_adds_steps_to_its_own_run() -> None:
    flow = Workflow("agent")
    flow.step("plan", planner)
    async with AsyncClient.local([shout]) as client:
        result = await client.run(flow, open=True)
        replayed = await client.export(result.run_id)
    assert (list(result.steps), result.outputs) == (["plan", "a", "b"], {"b": "Y"})
    assert result.steps["a"].output == "X"
    replay(replayed)


async def test_an_action_on_a_thread_adds_steps_to_its_own_run() -> None:
    flow = Workflow("agent")
    flow.step("plan", planner_on_thread)
    async with AsyncClient.local([shout]) as client:
        assert (await client.run(flow, open=True)).outputs == {"a": "X"}


async def test_an_action_learns_why_its_steps_are_refused() -> None:
    flow = Workflow("agent")
    flow.step("plan", sloppy_planner)
    async with AsyncClient.local([shout]) as client:
        result = await client.run(flow, open=True)
    assert result.outputs["plan"] == [
        'steps[0].action: unknown action "shuot"; did you mean "shout"?',
        'steps[0].id: the run has another step "plan" already',
        'steps:1:2: unknown key "acton"; did you mean "action"?',
        'a step must be a mapping such as {"id": "a", "action": "echo"}, got \'a\'',
        "steps must be a Workflow or a list of mappings, got 5",
    ]


async def test_an_action_cannot_add_steps_to_a_run_that_is_not_open() -> None:
    flow = Workflow("agent")
    flow.step("plan", planner)
    async with AsyncClient.local([shout]) as client:
        result = await client.run(flow, check=False)
    (failure,) = result.failures
    assert "takes no more steps: it was started without `open`" in failure.message


async def test_a_context_without_a_run_takes_no_steps() -> None:
    with pytest.raises(RuntimeError, match="belongs to no run"):
        await Context(run_id="r", step_id="s").add_steps([])
