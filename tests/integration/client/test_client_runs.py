"""The async client and a real server, in one process."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from integration.client.fake import GUARD
from stepwave import (
    JSON,
    ActionError,
    AsyncClient,
    Blob,
    Context,
    DeadlineExceeded,
    FailedPrecondition,
    FailureReason,
    Fallback,
    InvalidWorkflow,
    NotFound,
    ParallelFailed,
    Retry,
    RunCancelled,
    RunFailed,
    RunFinished,
    State,
    StepChunk,
    StepFinished,
    StepProgress,
    StepRetrying,
    StepStarted,
    Unsupported,
    Workflow,
    action,
)
from stepwave.exceptions import AlreadyExists, OutOfRange


class Latch:
    """Blocks actions until a test opens it.

    Attributes:
        reached: Set when an action waits for the latch.
        open: Set by a test to release all actions.
        left: Set when an action no longer waits, released or interrupted.
    """

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()
        self.left = asyncio.Event()

    async def wait(self) -> None:
        self.reached.set()
        try:
            await self.open.wait()
        finally:
            self.left.set()


@pytest.fixture
def latch() -> Latch:
    return Latch()


@action
async def boom(input: object) -> None:
    raise LookupError("nothing there")


@action
async def talk(context: Context) -> AsyncIterator[str]:
    context.progress(0.5, "half")
    yield "to"
    yield "gether"


@pytest.fixture
async def client(latch: Latch) -> AsyncIterator[AsyncClient]:
    @action
    async def latched(input: object) -> object:
        await latch.wait()
        return input

    async with AsyncClient.local([latched, boom, talk], entry_points=False) as client:
        yield client


def diamond() -> Workflow:
    flow = Workflow("diamond")
    top = flow.step("top", "core.echo", {"n": flow.input["n"], "list": [1, {"deep/key": "x"}]})
    left = flow.step("left", "core.echo", {"got": top.output["n"]})
    right = flow.step("right", "core.echo", {"got": top.output["list"][1]["deep/key"]})
    flow.step("bottom", "core.echo", {"both": [left.output["got"], right.output["got"]], "all": top.output})
    return flow


def one(name: str, what: str = "latched") -> Workflow:
    flow = Workflow(name)
    flow.step("a", what)
    return flow


async def wait_for(event: asyncio.Event) -> None:
    async with asyncio.timeout(GUARD):
        await event.wait()


async def test_a_workflow_runs_and_answers(client: AsyncClient) -> None:
    result = await client.run(diamond(), {"n": 2**53 + 1})
    whole = {"n": 2**53 + 1, "list": [1, {"deep/key": "x"}]}
    assert result.outputs == {"bottom": {"both": [2**53 + 1, "x"], "all": whole}}
    assert list(result.steps) == ["top", "left", "right", "bottom"]
    assert [step.wave for step in result.steps.values()] == [0, 1, 1, 2]
    assert result.counts.succeeded == result.counts.total == 4


async def test_the_result_of_a_run_can_be_read_again(client: AsyncClient) -> None:
    result = await client.run(diamond(), {"n": 1})
    assert await client.result(result.run_id) == result
    assert await client.wait(result.run_id) == result


async def test_events_come_in_order_and_the_last_one_has_the_result(client: AsyncClient) -> None:
    async with client.run(diamond(), {"n": 1}) as run:
        events = [event async for event in run]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert isinstance(events[-1], RunFinished)
    assert events[-1].result == run.result == await client.result(run.run_id)


async def test_watching_from_any_event_gives_the_rest(client: AsyncClient) -> None:
    run_id = (await client.run(diamond(), {"n": 1})).run_id
    async with client.watch(run_id) as watch:
        events = [event async for event in watch]
    for after in range(len(events)):
        async with client.watch(run_id, after=after) as watch:
            assert [event.sequence async for event in watch] == [event.sequence for event in events[after:]]


async def test_a_watch_can_be_limited_to_kinds(client: AsyncClient) -> None:
    run_id = (await client.run(diamond(), {"n": 1})).run_id
    async with client.watch(run_id, kinds=["step_finished"]) as watch:
        kinds = [event.kind async for event in watch]
    assert kinds == ["step_finished"] * 4 + ["run_finished"]


async def test_watching_beyond_the_end_is_out_of_range(client: AsyncClient) -> None:
    run_id = (await client.run(diamond(), {"n": 1})).run_id
    async with client.watch(run_id, after=1_000) as watch:
        with pytest.raises(OutOfRange):
            await anext(watch)


async def test_a_failed_run_is_an_error_that_carries_the_result(client: AsyncClient) -> None:
    with pytest.raises(RunFailed, match="step 'a' failed: LookupError: nothing there") as caught:
        await client.run(one("failing", "boom"))
    failure = caught.value.failure
    assert failure is not None
    assert (failure.reason, failure.step_id) == (FailureReason.ACTION_ERROR, "a")
    assert "traceback" in failure.details
    assert caught.value.result.steps["a"].state is State.FAILED


async def test_a_failed_run_is_a_result_if_check_is_false(client: AsyncClient) -> None:
    result = await client.run(one("failing", "boom"), check=False)
    assert result.state is State.FAILED
    assert await client.wait(result.run_id, check=False) == result


async def test_leaving_early_interrupts_what_runs(client: AsyncClient, latch: Latch) -> None:
    async with client.run(one("blocked")) as run:
        async for event in run:
            if isinstance(event, StepStarted):
                break
        await wait_for(latch.reached)
    await wait_for(latch.left)
    result = await client.wait(run.run_id, check=False)
    assert result.state is State.CANCELLED
    assert "its caller left before the end" in result.failures[0].message


async def test_a_run_can_be_cancelled_and_followed_to_its_end(client: AsyncClient, latch: Latch) -> None:
    async with client.run(one("blocked")) as run:
        async for event in run:
            if isinstance(event, StepStarted):
                await run.cancel("no longer wanted")
    assert run.result.state is State.CANCELLED
    assert "no longer wanted" in run.result.failures[0].message


async def test_a_cancelled_run_raises_run_cancelled(client: AsyncClient, latch: Latch) -> None:
    waiting = asyncio.ensure_future(client.run(one("blocked"), run_id="blocked-1"))
    await wait_for(latch.reached)
    assert (await client.cancel("blocked-1", "enough")).run_id == "blocked-1"
    with pytest.raises(RunCancelled):
        await waiting


async def test_who_cancels_a_run_by_its_handle_gets_the_result(client: AsyncClient, latch: Latch) -> None:
    async with client.run(one("blocked")) as run:
        await wait_for(latch.reached)
        assert (await run.cancel("enough")).run_id == run.run_id
        result = await run
    assert (result.state, result.failures[0].message) == (State.CANCELLED, "cancelled: enough")


async def test_who_cancels_an_awaited_run_by_its_handle_gets_the_result(client: AsyncClient, latch: Latch) -> None:
    run = client.run(one("blocked"))
    waiting = asyncio.ensure_future(run)
    await wait_for(latch.reached)
    await run.cancel()
    assert (await waiting).state is State.CANCELLED


async def test_the_text_of_a_step_ends_when_its_run_is_cancelled_by_the_handle(
    client: AsyncClient, latch: Latch
) -> None:
    async with client.run(one("blocked")) as run:
        await wait_for(latch.reached)
        await run.cancel()
        assert [text async for text in run.text("a")] == []
        assert (await run).state is State.CANCELLED


async def test_a_run_that_another_call_cancels_raises_run_cancelled_inside_its_block(
    client: AsyncClient, latch: Latch
) -> None:
    async with client.run(one("blocked")) as run:
        await wait_for(latch.reached)
        await client.cancel(run.run_id)
        with pytest.raises(RunCancelled) as caught:
            await run
    assert caught.value.result is run.result


async def test_a_run_that_fails_before_its_cancel_raises_run_failed(client: AsyncClient) -> None:
    async with client.run(one("failing", "boom")) as run:
        async for event in run:
            if isinstance(event, RunFinished):
                await run.cancel()
        with pytest.raises(RunFailed, match="nothing there"):
            await run


async def test_a_cancel_that_is_refused_changes_nothing(client: AsyncClient, latch: Latch) -> None:
    run = client.run(one("blocked"), run_id="not-yet")
    with pytest.raises(NotFound):
        await run.cancel()
    waiting = asyncio.ensure_future(run)
    await wait_for(latch.reached)
    await client.cancel("not-yet")
    with pytest.raises(RunCancelled):
        await waiting


async def test_a_second_cancel_that_is_refused_does_not_take_back_the_first(client: AsyncClient, latch: Latch) -> None:
    async with client.run(one("blocked")) as run:
        await wait_for(latch.reached)
        await run.cancel("enough")
        async for _ in run:
            pass
        await client.delete(run.run_id)
        with pytest.raises(NotFound):
            await run.cancel()
        assert (await run).state is State.CANCELLED


async def test_a_run_that_was_left_early_names_the_call_for_its_result(client: AsyncClient, latch: Latch) -> None:
    async with client.run(one("blocked")) as run:
        await wait_for(latch.reached)
    with pytest.raises(RuntimeError, match=r"`client\.wait\(run_id, check=False\)` returns its result"):
        await run
    assert (await client.wait(run.run_id, check=False)).state is State.CANCELLED


async def test_a_timeout_interrupts_what_runs(client: AsyncClient, latch: Latch) -> None:
    with pytest.raises(DeadlineExceeded, match="did not end within"):
        await client.run(one("blocked"), timeout=0.3)
    await wait_for(latch.left)


async def test_a_detached_run_continues_without_watchers(client: AsyncClient, latch: Latch) -> None:
    started = await client.start(one("blocked"), "kept")
    assert (started.state.ended, started.workflow_name) == (False, "blocked")
    async with client.watch(started.run_id) as watch:
        await anext(watch)
    await wait_for(latch.reached)
    latch.open.set()
    assert (await client.wait(started.run_id)).outputs == {"a": "kept"}
    assert (await client.get(started.run_id)).state is State.SUCCEEDED


async def test_chunks_and_progress_are_seen_while_a_step_runs(client: AsyncClient) -> None:
    async with client.run(one("talking", "talk")) as run:
        events = [event async for event in run]
    assert [event.value for event in events if isinstance(event, StepChunk)] == ["to", "gether"]
    assert [(event.fraction, event.message) for event in events if isinstance(event, StepProgress)] == [(0.5, "half")]
    assert run.result.outputs == {"a": "together"}


async def test_a_fast_step_is_seen_while_a_slow_one_runs(client: AsyncClient, latch: Latch) -> None:
    flow = one("race")
    flow.step("b", "core.echo")
    async with client.run(flow) as run:
        async for event in run:
            if isinstance(event, StepFinished) and event.result.step_id == "b":
                assert not latch.open.is_set()
                latch.open.set()
    assert run.result.succeeded


async def test_submitting_twice_joins_and_other_content_is_refused(client: AsyncClient) -> None:
    first = await client.run(diamond(), {"n": 1}, run_id="once")
    assert await client.run(diamond(), {"n": 1}, run_id="once") == first
    with pytest.raises(AlreadyExists):
        await client.run(diamond(), {"n": 2}, run_id="once")


async def test_other_content_under_a_taken_id_does_not_affect_the_run(client: AsyncClient, latch: Latch) -> None:
    mine = asyncio.ensure_future(client.run(one("blocked"), run_id="taken"))
    await wait_for(latch.reached)
    with pytest.raises(AlreadyExists):
        await client.run(diamond(), run_id="taken")
    latch.open.set()
    assert (await mine).succeeded


async def test_every_problem_of_a_workflow_is_listed(client: AsyncClient) -> None:
    flow = Workflow("broken")
    flow.step("a", "core.echoo", depends_on=["nobody"])
    message = flow.to_proto()
    message.steps.add(id="a", action="core.echo")
    with pytest.raises(InvalidWorkflow) as caught:
        await client.run(message)
    blamed = [violation.field for violation in caught.value.violations]
    assert {"workflow.steps[0].action", "workflow.steps[0].depends_on[0]", "workflow.steps[1].id"} <= set(blamed)
    assert await anext(client.runs(), None) is None


async def test_an_unsupported_field_is_named(client: AsyncClient) -> None:
    flow = Workflow("choosy").to_proto()
    flow.steps.add(id="a", action="core.echo", join=99)
    with pytest.raises(Unsupported) as caught:
        await client.run(flow)
    assert [violation.field for violation in caught.value.violations] == ["workflow.steps[0].join"]


async def test_failures_are_handled_by_the_workflow(client: AsyncClient) -> None:
    flow = Workflow("patient", retry=Retry(max_attempts=2, initial_backoff=0))
    given: dict[str, JSON] = {"message": "down", "retryable": True}
    first = flow.step("first", "core.fail", given, fallback=Fallback(value={"hits": [1]}))
    flow.step("second", "core.fail", given, fallback=Fallback("core.echo", first.output["hits"]), total_timeout=60)
    result = await client.run(flow, run_id="patient")
    async with client.watch("patient", kinds=["step_retrying", "step_ready"]) as events:
        retries = [(one.step_id, one.attempt, one.fallback) async for one in events if isinstance(one, StepRetrying)]
    assert retries == [("first", 1, False), ("second", 1, False), ("second", 2, True)]
    assert (result.succeeded, result.outputs) == (True, {"second": [1]})
    assert [step.by_fallback for step in result.steps.values()] == [True, True]
    assert [step.attempts for step in result.steps.values()] == [2, 3], "a fixed value has no attempt, an action has"


async def test_an_action_marks_a_failure_as_permanent() -> None:
    tries: list[int] = []

    @action
    async def lookup(context: Context, permanent: bool) -> None:
        tries.append(context.attempt)
        raise ActionError("no such city", reason="action_error", retryable=not permanent)

    flow = Workflow("lookup", failure_policy="continue", retry=Retry(max_attempts=2, initial_backoff=0))
    flow.step("gone", lookup, {"permanent": True})
    flow.step("busy", lookup, {"permanent": False}, depends_on=["gone"], join="all_done")
    async with AsyncClient.local(actions=[lookup]) as client:
        result = await client.run(flow, check=False)
    assert [step.attempts for step in result.steps.values()] == [1, 2]
    assert tries == [1, 1, 2]


async def test_an_unknown_run_is_not_found(client: AsyncClient) -> None:
    for call in (client.get("nobody"), client.result("nobody"), client.wait("nobody"), client.cancel("nobody")):
        with pytest.raises(NotFound):
            await call


async def test_the_result_of_a_run_under_way_is_not_there_yet(client: AsyncClient, latch: Latch) -> None:
    run_id = (await client.start(one("blocked"))).run_id
    with pytest.raises(FailedPrecondition):
        await client.result(run_id)
    with pytest.raises(FailedPrecondition):
        await client.delete(run_id)


async def test_the_steps_of_a_run_under_way_have_their_results_so_far(client: AsyncClient, latch: Latch) -> None:
    flow = Workflow("held")
    done = flow.step("done", "core.echo", {"n": 1})
    held = flow.step("held", "latched", done.output)
    flow.step("later", "core.echo", held.output)
    run_id = (await client.start(flow)).run_id
    await wait_for(latch.reached)
    first, second, third = [step async for step in client.steps(run_id)]
    assert (first.step_id, first.state, first.attempts, first.output) == ("done", State.SUCCEEDED, 1, {"n": 1})
    assert (second.step_id, second.state, second.attempts, second.output) == ("held", State.RUNNING, 1, None)
    assert (second.start_time is not None, second.end_time) == (True, None)
    assert (third.step_id, third.state, third.attempts, third.start_time) == ("later", State.PENDING, 0, None)
    latch.open.set()
    await client.wait(run_id)
    assert [step.output async for step in client.steps(run_id)] == [{"n": 1}] * 3


async def test_runs_are_listed_newest_first_and_found_by_what_they_are(client: AsyncClient) -> None:
    for run_id in ("x-1", "y-2", "y-3"):
        await client.run(one("w", "boom" if run_id == "y-2" else "core.echo"), run_id=run_id, check=False)
    assert [run.run_id async for run in client.runs()] == ["y-3", "y-2", "x-1"]
    assert [run.run_id async for run in client.runs(prefix="y", limit=1)] == ["y-3"]
    assert [run.run_id async for run in client.runs(states=[State.FAILED])] == ["y-2"]
    assert [run.run_id async for run in client.runs(workflow="other")] == []


async def test_a_deleted_run_is_not_found(client: AsyncClient) -> None:
    run_id = (await client.run(one("w", "core.echo"))).run_id
    await client.delete(run_id)
    with pytest.raises(NotFound):
        await client.get(run_id)


async def test_parallel_answers_in_the_order_of_its_arguments(client: AsyncClient, latch: Latch) -> None:
    latch.open.set()
    assert await client.parallel(["latched", "core.echo"], {"n": 1}) == [{"n": 1}, {"n": 1}]
    assert await client.parallel(["core.echo"]) == [None]
    assert await client.parallel([]) == []


async def test_parallel_names_the_lowest_index_that_failed_and_keeps_the_answers(client: AsyncClient) -> None:
    with pytest.raises(ParallelFailed, match="action 1: LookupError: nothing there") as caught:
        await client.parallel(["core.echo", boom, "core.echo", boom], "x")
    assert caught.value.partial == ("x", None, "x", None)


async def test_a_blob_is_returned_unchanged(client: AsyncClient) -> None:
    blob = Blob(bytes(range(256)), "image/png")
    assert await client.parallel(["core.echo"], blob) == [blob]


async def test_a_plan_explains_without_running_anything(client: AsyncClient) -> None:
    plan = await client.plan(diamond())
    assert (plan.step_count, plan.edge_count, plan.wave_sizes, plan.width) == (4, 5, (1, 2, 1), 2)
    assert plan.outputs == ("bottom",)
    assert [step.step_id for step in plan.steps] == ["top", "left", "right", "bottom"]
    assert await anext(client.runs(), None) is None


async def test_the_server_lists_its_actions_and_capabilities(client: AsyncClient) -> None:
    actions = {info.name: info for info in await client.actions()}
    assert {"boom", "core.echo", "core.sleep", "latched", "talk"} <= set(actions)
    assert actions["talk"].streaming
    assert not actions["boom"].streaming
    assert await client.workflows() == []
    assert (await client.server_info()).engine == "local"


async def test_outputs_too_large_for_one_message_are_all_in_the_result(client: AsyncClient) -> None:
    flow, text = Workflow("large"), "x" * 1_000
    for number in range(2_500):
        flow.step(f"s{number}", "core.echo", [number, text])
    result = await client.run(flow)
    assert list(result.outputs) == [f"s{number}" for number in range(2_500)]
    assert result.outputs["s2499"] == [2_499, text]
    assert result.omitted_output_count == 0


async def test_concurrent_runs_are_independent(client: AsyncClient) -> None:
    results = await asyncio.gather(*(client.run(diamond(), {"n": number}) for number in range(50)))
    seen = [result.steps["left"].output for result in results]
    assert seen == [{"got": number} for number in range(50)]
