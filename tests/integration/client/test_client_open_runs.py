"""Open runs by the SDK: steps that are added while the run lasts, and what becomes of refused ones."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from integration.client.fake import GUARD
from integration.client.plan_actions import boom, hold, line, shout
from stepwave import (
    AsyncClient,
    FailedPrecondition,
    FailureCause,
    InvalidWorkflow,
    OpenRun,
    RunCancelled,
    RunFailed,
    State,
    StepFinished,
    StepsAdded,
    StepStarted,
    Workflow,
)
from stepwave.testing import replay


@pytest.fixture
async def client() -> AsyncIterator[AsyncClient]:
    async with asyncio.timeout(GUARD), AsyncClient.local([shout, boom, hold]) as client:
        yield client


async def texts(*parts: str) -> AsyncIterator[str]:
    for part in parts:
        yield part


async def started(plan: OpenRun, step_id: str) -> None:
    """Wait until a step has started."""
    async for event in plan.events():
        if isinstance(event, StepStarted) and event.step_id == step_id:
            return


# Steps.


async def test_steps_run_while_others_are_still_to_be_added(client: AsyncClient) -> None:
    async with client.compose("plan", {"text": "a"}) as plan:
        first = plan.step("first", shout, {"text": plan.input["text"]})
        async for event in plan.events():
            if isinstance(event, StepFinished):
                break
        plan.step("second", shout, {"text": first.output}, depends_on=[first])
    assert plan.result.outputs == {"second": "A"}
    assert list(plan.result.steps) == ["first", "second"]
    assert await client.result(plan.run_id) == plan.result


async def test_a_step_may_depend_on_one_that_is_added_later(client: AsyncClient) -> None:
    async with client.compose("plan") as plan:
        plan.step("after", shout, {"text": "x"}, depends_on=["before"])
        await plan.flush()
        plan.step("before", shout, {"text": "y"})
    assert list(plan.result.outputs) == ["after"]


async def test_a_run_without_steps_succeeds(client: AsyncClient) -> None:
    async with client.compose("plan") as plan:
        pass
    assert plan.result.succeeded


async def test_steps_that_wait_are_sent_together_and_in_order(client: AsyncClient) -> None:
    async with client.compose("plan") as plan:
        for number in range(50):
            plan.step(f"s{number}", shout, {"text": "x"})
    async with client.watch(plan.run_id, kinds=["steps_added"]) as events:
        added = [event for event in events_of(await collect(events)) if event.step_ids]
    assert len(added) < 50
    assert [step_id for event in added for step_id in event.step_ids] == [f"s{number}" for number in range(50)]


async def collect(events: AsyncIterator[object]) -> list[object]:
    return [event async for event in events]


def events_of(events: Iterable[object]) -> list[StepsAdded]:
    return [event for event in events if isinstance(event, StepsAdded)]


async def test_the_events_tell_what_to_add_and_when_to_seal(client: AsyncClient) -> None:
    async with client.compose("loop") as plan:
        plan.step("round-1", shout, {"text": "x"})
        async for event in plan.events():
            if isinstance(event, StepFinished):
                done = len(plan_rounds(event))
                if done == 3:
                    await plan.seal()
                else:
                    plan.step(f"round-{done + 1}", shout, {"text": "x"})
        assert plan_ended(plan)
    assert list(plan.result.steps) == ["round-1", "round-2", "round-3"]


def plan_rounds(event: StepFinished) -> range:
    return range(int(event.result.step_id.removeprefix("round-")))


def plan_ended(plan: OpenRun) -> bool:
    with pytest.raises(RuntimeError, match="the run is sealed"):
        plan.step("late", shout, {"text": "x"})
    return True


async def test_options_are_those_of_a_workflow(client: AsyncClient) -> None:
    async with client.compose(
        "plan", failure_policy="continue", labels={"team": "a"}, outputs=["kept"], check=False, run_id="mine"
    ) as plan:
        plan.step("broken", boom)
        plan.step("kept", shout, {"text": "x"})
        plan.step("other", shout, {"text": "x"})
    assert (plan.result.state, plan.result.outputs, plan.run_id) == (State.FAILED, {"kept": "X"}, "mine")
    assert [run.run_id async for run in client.runs(labels={"team": "a"})] == ["mine"]


async def test_steps_need_the_block(client: AsyncClient) -> None:
    plan = client.compose("plan")
    with pytest.raises(RuntimeError, match="enter the context manager"):
        plan.step("a", shout, {"text": "x"})
    with pytest.raises(RuntimeError, match="has not ended"):
        _ = plan.result


# Problems.


async def test_a_refused_step_raises_at_the_next_call_and_its_block_cancels_the_run(client: AsyncClient) -> None:
    with pytest.raises(InvalidWorkflow) as caught:
        async with client.compose("plan") as plan:
            plan.step("good", shout, {"text": "x"})
            plan.step("bad", "shuot", {"text": "x"})
            await plan.flush()
    assert [violation.field for violation in caught.value.violations] == ["steps[1].action"]
    result = await client.wait(plan.run_id, check=False)
    assert (result.state, list(result.steps)) == (State.CANCELLED, ["good"])


async def test_a_run_goes_on_after_a_refused_step_if_its_error_is_handled(client: AsyncClient) -> None:
    async with client.compose("plan") as plan:
        plan.step("bad", "shuot")
        plan.step("good", shout, {"text": "x"})
        with pytest.raises(InvalidWorkflow, match='did you mean "shout"'):
            await plan.flush()
        plan.step("better", shout, {"text": "y"})
    assert plan.result.outputs == {"good": "X", "better": "Y"}


async def test_a_cycle_that_a_later_step_closes_is_refused_whatever_was_sent_together(client: AsyncClient) -> None:
    async with client.compose("plan") as plan:
        plan.step("a", shout, {"text": "x"}, depends_on=["b"])
        plan.step("b", shout, {"text": "x"}, depends_on=["a"])
        plan.step("c", shout, {"text": "x"})
        with pytest.raises(InvalidWorkflow) as caught:
            await plan.flush()
        assert [violation.field for violation in caught.value.violations] == ["steps[1].depends_on"]
        await client.add_steps(plan.run_id, [{"id": "b", "action": "shout", "input": {"text": "y"}}])
    assert plan.result.outputs == {"a": "X", "c": "X"}


async def test_all_refused_steps_are_reported_when_the_block_ends(client: AsyncClient) -> None:
    with pytest.raises(InvalidWorkflow) as caught:
        async with client.compose("plan") as plan:
            plan.step("a", "unknown")
            plan.step("b", shout, {"text": "x"})
            plan.step("c", "unknown")
    assert [violation.field for violation in caught.value.violations] == ["steps[0].action", "steps[2].action"]
    assert "add it to the `actions`" in str(caught.value)


async def test_a_reference_that_is_never_fulfilled_is_reported_at_the_seal(client: AsyncClient) -> None:
    with pytest.raises(InvalidWorkflow, match='step "a" depends on "never", which was never added'):
        async with client.compose("plan") as plan:
            plan.step("a", shout, {"text": "x"}, depends_on=["never"])
    assert (await client.wait(plan.run_id, check=False)).state is State.CANCELLED


async def test_an_exception_in_the_block_cancels_the_run(client: AsyncClient) -> None:
    with pytest.raises(LookupError):
        async with client.compose("plan") as plan:
            plan.step("held", hold)
            await started(plan, "held")
            raise LookupError
    result = await client.wait(plan.run_id, check=False)
    assert (result.state, result.steps["held"].state) == (State.CANCELLED, State.CANCELLED)


async def test_a_block_that_is_left_at_once_cancels_the_run(client: AsyncClient) -> None:
    with pytest.raises(LookupError):
        async with client.compose("plan") as plan:
            raise LookupError
    assert (await client.wait(plan.run_id, check=False)).state is State.CANCELLED


async def test_a_cancelled_task_cancels_its_run(client: AsyncClient) -> None:
    entered: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def write() -> None:
        async with client.compose("plan") as plan:
            plan.step("held", hold)
            await started(plan, "held")
            entered.set_result(plan.run_id)

    task = asyncio.create_task(write())
    run_id = await entered
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert (await client.wait(run_id, check=False)).state is State.CANCELLED


async def test_a_failed_step_ends_the_planner_at_its_next_call(client: AsyncClient) -> None:
    with pytest.raises(RunFailed) as caught:
        async with client.compose("plan") as plan:
            plan.step("broken", boom)
            async for _ in plan.events():
                pass
            plan.step("late", shout, {"text": "x"})
            raise AssertionError("the run takes no more steps")
    assert caught.value.result is plan.result
    assert list(plan.result.steps) == ["broken"]


async def test_without_check_a_block_that_its_run_ended_raises_nothing(client: AsyncClient) -> None:
    async with client.compose("plan", check=False) as plan:
        plan.step("broken", boom)
        async for _ in plan.events():
            pass
        await plan.flush()
        raise AssertionError("the run takes no more steps")
    assert plan.result.state is State.FAILED


async def test_a_run_that_another_caller_cancels_ends_the_block(client: AsyncClient) -> None:
    with pytest.raises(RunCancelled):
        async with client.compose("plan") as plan:
            plan.step("held", hold)
            await started(plan, "held")
            await client.cancel(plan.run_id)
    assert plan.result.state is State.CANCELLED


async def test_a_run_that_the_block_cancels_ends_without_an_exception(client: AsyncClient) -> None:
    async with client.compose("plan") as plan:
        plan.step("held", hold)
        await started(plan, "held")
        await plan.cancel("enough")
    assert plan.result.state is State.CANCELLED


async def test_a_plan_that_is_idle_for_too_long_fails(client: AsyncClient) -> None:
    with pytest.raises(RunFailed) as caught:
        async with client.compose("plan", idle_timeout=0.05) as plan:
            async for _ in plan.events():
                pass
    assert caught.value.failure is not None
    assert caught.value.failure.cause is FailureCause.PLAN_IDLE


async def test_a_refused_run_raises_when_the_block_is_entered(client: AsyncClient) -> None:
    with pytest.raises(InvalidWorkflow, match=r"workflow\.name"):
        async with client.compose("no name"):
            raise AssertionError("the block is not entered")


# JSON Lines.


async def test_a_stream_of_lines_may_be_cut_anywhere(client: AsyncClient) -> None:
    plan_text = f"```json\n{line('a', chr(34) + 'é' + chr(34))}\n  \n" + line("b", '{"$from": "a"}').strip() + "\n```"
    for size in (1, 2, 7, 1_000):
        async with client.compose("plan") as plan:
            await plan.feed(texts(*(plan_text[at : at + size] for at in range(0, len(plan_text), size))))
        assert plan.result.outputs == {"b": "É"}


async def test_the_last_line_needs_no_line_break(client: AsyncClient) -> None:
    async with client.compose("plan") as plan:
        await plan.feed(texts(line("a", '"x"'), line("b", '"y"').strip()))
    assert plan.result.outputs == {"a": "X", "b": "Y"}


async def test_a_step_runs_as_soon_as_its_line_is_complete(client: AsyncClient) -> None:
    async with client.compose("plan") as plan:

        async def written() -> AsyncIterator[str]:
            yield line("a", '"x"')
            async for event in plan.events():
                if isinstance(event, StepFinished):
                    break
            yield line("b", '"y"')

        await plan.feed(written())
    assert plan.result.outputs == {"a": "X", "b": "Y"}


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ("Here is the plan:\n", "model:3:1: expected a value, got 'Here'"),
        ('{"id": "b", "acti', "model:3:13: unterminated string"),
        ('{"id": "b", "acton": "shout"}\n', 'model:3:13: unknown key "acton"; did you mean "action"?'),
        ("[]\n", "model:3:1: expected a mapping, got a list"),
        ('{"id": "b"}\n', "model:3:1: action: must not be empty"),
        ('{"id": "b", "action": "shuot"}\n', 'model:3:1: action: unknown action "shuot"; did you mean "shout"?'),
        (line("a", '"other"'), 'model:3:1: id: the run has another step "a" already'),
        ('{"id": "b", "action": "shout", "depends_on": ["b"]}', 'model:3:1: depends_on[0]: step "b" depends on itself'),
    ],
)
async def test_a_bad_line_is_reported_with_its_number_and_cancels_the_run(
    client: AsyncClient, bad: str, problem: str
) -> None:
    with pytest.raises(InvalidWorkflow) as caught:
        async with client.compose("plan") as plan:
            await plan.feed(texts(line("a", '"x"'), "\n", bad), "model")
    assert str(caught.value) == problem
    result = await client.wait(plan.run_id, check=False)
    assert (result.state, list(result.steps)) == (State.CANCELLED, ["a"])


async def test_a_line_without_end_is_refused(client: AsyncClient) -> None:
    with pytest.raises(InvalidWorkflow, match="feed:1:1: a line of more than 3,145,728 characters"):
        async with client.compose("plan") as plan:
            await plan.feed(texts(*["x" * 1_000_000] * 4))


# Other ways to add steps.


async def test_another_client_adds_steps_by_the_id_of_the_run(client: AsyncClient) -> None:
    flow = Workflow("shared")
    flow.step("first", shout, {"text": "x"})
    run = await client.start(flow, open=True)
    more = Workflow("more")
    more.step("second", shout, {"text": "y"}, depends_on=["first"])
    for _ in range(2):
        assert (await client.add_steps(run.run_id, more)).open
    assert not (await client.add_steps(run.run_id, (), seal=True)).open
    assert (await client.wait(run.run_id)).outputs == {"second": "Y"}
    with pytest.raises(FailedPrecondition, match="it has ended"):
        await client.add_steps(run.run_id, [{"id": "third", "action": "shout"}])
    with pytest.raises(ValueError, match="leave out the options of the workflow 'more'"):
        await client.add_steps(run.run_id, Workflow("more", max_parallelism=2))


async def test_a_second_planner_with_the_id_of_the_run_goes_on_with_it(client: AsyncClient) -> None:
    await client.start(Workflow("plan"), run_id="mine", open=True)
    await client.add_steps("mine", [{"id": "a", "action": "shout", "input": {"text": "x"}}])
    async with client.compose("plan", run_id="mine") as plan:
        plan.step("a", shout, {"text": "x"})
        plan.step("b", shout, {"text": "y"})
    assert plan.result.outputs == {"a": "X", "b": "Y"}


async def test_an_exported_open_run_replays(client: AsyncClient, tmp_path: Path) -> None:
    async with client.compose("plan", check=False, failure_policy="continue") as plan:
        plan.step("c", shout, {"text": "x"}, depends_on=["b"])
        await plan.flush()
        plan.step("b", boom)
        plan.step("a", shout, {"text": "x"})
    (await client.export(plan.run_id)).save(tmp_path / "run.json")
    replay(tmp_path / "run.json")


async def test_a_rerun_of_a_composed_run_runs_all_its_steps(client: AsyncClient) -> None:
    async with client.compose("plan") as plan:
        plan.step("a", shout, {"text": "x"})
        plan.step("b", shout, {"text": "y"}, depends_on=["a"])
    assert (await client.rerun(plan.run_id)).outputs == {"b": "Y"}
    assert [step.id for step in (await client.export(plan.run_id)).workflow.steps] == ["a", "b"]
    assert sorted((await client.report(plan.run_id)).steps) == ["a", "b"]
