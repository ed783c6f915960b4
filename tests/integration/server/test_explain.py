"""Explanations of a run: what its steps do or wait for, and the line that each action is at."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import pytest

from integration.server.build import end_of, flow, state_of, step
from integration.server.controlled_actions import ControlledActions
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import GUARD, RawClient, refusal
from stepwave import action
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import workflow_pb2
from stepwave.v1.event_pb2 import WaitCause

HERE = Path(__file__)

Explanations: TypeAlias = Mapping[str, pb.StepExplanation]


async def explain(client: RawClient, run_id: str = "r") -> pb.ExplainRunResponse:
    return await client.stub.ExplainRun(pb.ExplainRunRequest(run_id=run_id))


async def steps_of(client: RawClient, run_id: str = "r") -> Explanations:
    """Return the explanation of each step."""
    return {step.step_id: step for step in (await explain(client, run_id)).steps}


async def steps_when(client: RawClient, condition: Callable[[Explanations], bool]) -> Explanations:
    """Return the explanation of each step once a condition holds."""
    async with asyncio.timeout(GUARD):
        while not condition(explained := await steps_of(client)):
            pass
    return explained


def number_of(text: str) -> int:
    """Return the number of the only line of this file with this text."""
    (number,) = (
        number for number, line in enumerate(HERE.read_text().splitlines(), 1) if line.endswith(f"{text}  # here")
    )
    return number


async def line_of(client: RawClient, text: str) -> pb.CodeLine:
    """Wait until the step `a` is at a line, and return the line."""
    return (await steps_when(client, lambda explained: explained["a"].where.text == f"{text}  # here"))["a"].where


class WaitingActions:
    """Actions that wait at known lines until the test ends."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.block = threading.Event()

    async def inner(self) -> None:
        await self.released.wait()  # here

    def blocked(self) -> None:
        self.block.wait()  # here

    def actions(self) -> "Iterator[object]":
        @action
        async def awaits() -> None:
            await self.inner()

        @action
        async def gathers() -> None:
            await asyncio.gather(self.released.wait(), self.released.wait())  # here

        @action
        async def streams() -> AsyncIterator[str]:
            async for item in self.items():
                yield item

        @action
        def blocks() -> None:
            self.blocked()

        @action
        def generates() -> Iterator[str]:
            yield "first"
            self.blocked()

        yield from (awaits, gathers, streams, blocks, generates)

    async def items(self) -> AsyncIterator[str]:
        yield "first"
        await asyncio.wait_for(self.released.wait(), GUARD)  # here


@pytest.fixture
def waiting_actions() -> Iterator[WaitingActions]:
    waiting_actions = WaitingActions()
    yield waiting_actions
    waiting_actions.block.set()


@pytest.fixture
async def client_of_waiting_actions(
    serve: Serve, connect: Connect, waiting_actions: WaitingActions
) -> AsyncIterator[RawClient]:
    """Return a client of a server with the waiting actions."""
    yield connect(await serve(*waiting_actions.actions()))  # type: ignore[arg-type]  # marked functions
    waiting_actions.released.set()
    waiting_actions.block.set()


LINES = {
    "awaits": ("await self.released.wait()", "WaitingActions.inner"),
    "gathers": (
        "await asyncio.gather(self.released.wait(), self.released.wait())",
        "WaitingActions.actions.<locals>.gathers",
    ),
    "streams": ("await asyncio.wait_for(self.released.wait(), GUARD)", "WaitingActions.items"),
    "blocks": ("self.block.wait()", "WaitingActions.blocked"),
    "generates": ("self.block.wait()", "WaitingActions.blocked"),
}


@pytest.mark.parametrize("name", LINES)
async def test_a_running_action_is_found_at_its_line(client_of_waiting_actions: RawClient, name: str) -> None:
    await client_of_waiting_actions.start(flow(step("a", name)), run_id="r")
    text, function = LINES[name]
    where = await line_of(client_of_waiting_actions, text)
    assert (where.file, where.line, where.function) == (str(HERE), number_of(text), function)


@pytest.mark.one_server("a host starts an attempt after its step_started")
async def test_a_running_step_has_its_start_time_and_attempt(client: RawClient, controlled: ControlledActions) -> None:
    async with client.execute(flow(step("a", "controlled")), run_id="r") as run:
        started = await run.until("step_started", "a")
        await controlled.wait_started("a")
        explained = (await steps_of(client))["a"]
    assert (state_of(explained.state), explained.attempt, explained.since) == ("running", 1, started.time)


async def test_an_action_of_the_server_itself_has_no_line(client: RawClient) -> None:
    await client.start(flow(step("a", "core.sleep", given={"seconds": 60})), run_id="r")
    explained = await steps_when(client, lambda explained: explained["a"].HasField("since"))
    assert not explained["a"].HasField("where")
    await client.cancel("r")


async def test_a_server_without_tracebacks_reports_no_lines(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    client = connect(await serve(tracebacks=False))
    await client.start(flow(step("a", "controlled")), run_id="r")
    await controlled.wait_started("a")
    assert not (await steps_of(client))["a"].HasField("where")


async def test_a_waiting_step_names_its_unfinished_dependencies(
    client: RawClient, controlled: ControlledActions
) -> None:
    await client.start(flow(step("a", "controlled"), step("b"), step("c", after=["a", "b"])), run_id="r")
    await controlled.wait_started("a")
    explained = await steps_when(client, lambda explained: "b" not in explained)
    assert (list(explained["c"].waits_for_step_ids), explained["c"].waits_for_count) == (["a"], 1)
    assert (explained["c"].cause, explained["c"].HasField("since")) == (WaitCause.WAIT_CAUSE_UNSPECIFIED, False)


async def test_very_many_unfinished_dependencies_are_counted(client: RawClient, controlled: ControlledActions) -> None:
    many = [f"s{number}" for number in range(40)]
    await client.start(flow(*(step(name, "controlled") for name in many), step("last", after=many)), run_id="r")
    await controlled.wait_started(*many)
    last = (await steps_of(client))["last"]
    assert (list(last.waits_for_step_ids), last.waits_for_count) == (many[:10], 40)


async def test_a_step_with_join_any_says_that_one_dependency_is_enough(
    client: RawClient, controlled: ControlledActions
) -> None:
    steps = (step("a", "controlled"), step("b", "controlled"), step("c", after=["a", "b"], join=workflow_pb2.JOIN_ANY))
    await client.start(flow(*steps), run_id="r")
    await controlled.wait_started("a", "b")
    assert (await steps_of(client))["c"].message == "any one of them"


async def test_a_step_that_waits_for_max_parallelism_names_it(client: RawClient, controlled: ControlledActions) -> None:
    async with client.execute(
        flow(step("a", "controlled"), step("b", "controlled"), max_parallelism=1), run_id="r"
    ) as run:
        plan = await run.until("run_started")
        await controlled.wait_started("a")
        b = (await steps_of(client))["b"]
    assert (b.cause, b.message) == (WaitCause.WAIT_CAUSE_CONCURRENCY, "the workflow's max_parallelism is 1")
    assert (state_of(b.state), b.since, list(b.waits_for_step_ids)) == ("pending", plan.time, [])


@pytest.mark.one_server("its max_attempts bounds all its runs")
async def test_a_step_that_waits_for_max_attempts_names_it(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    client = connect(await serve(max_attempts=1))
    await client.start(flow(step("a", "controlled")), run_id="other")
    await controlled.wait_started("a")
    await client.start(flow(step("b", "controlled")), run_id="r")
    b = (await steps_of(client))["b"]
    assert b.cause == WaitCause.WAIT_CAUSE_CONCURRENCY
    assert b.message == "the server's max_attempts is 1"


async def test_a_step_in_a_backoff_has_its_end_time(client: RawClient, controlled: ControlledActions) -> None:
    controlled.release("a")
    tried = step("a", "fails")
    tried.retry.max_attempts = 2
    tried.retry.initial_backoff.seconds = tried.retry.max_backoff.seconds = 60
    async with client.execute(flow(tried), run_id="r") as run:
        retrying = (await run.until("step_retrying", "a")).step_retrying
        a = (await steps_of(client))["a"]
    assert (a.cause, a.until, a.attempt) == (WaitCause.WAIT_CAUSE_BACKOFF, retrying.next_time, 1)


async def test_a_step_behind_a_barrier_names_the_steps_before_it(
    client: RawClient, controlled: ControlledActions
) -> None:
    steps = (step("a", "controlled"), step("b", "controlled"), step("c", after=["a"]))
    async with client.execute(flow(*steps, scheduling=workflow_pb2.SCHEDULING_WAVE), run_id="r") as run:
        await controlled.wait_started("a", "b")
        controlled.release("a")
        await run.until("step_finished", "a")
        c = (await steps_of(client))["c"]
    assert (list(c.waits_for_step_ids), c.message) == (["b"], "the barrier: wave 0 has not ended")


async def test_an_attempt_in_clean_up_is_explained(client: RawClient, controlled: ControlledActions) -> None:
    await client.start(flow(step("a", "stubborn")), run_id="r")
    await controlled.wait_started("a")
    await client.cancel("r")
    await controlled.wait_started("a/cancelled")
    response = await explain(client)
    assert response.run.stopping
    assert response.steps[0].message == "it is being interrupted: its clean-up is awaited"


async def test_running_steps_come_first_then_ready_ones(client: RawClient, controlled: ControlledActions) -> None:
    steps = (step("c", after=["a"]), step("a", "controlled"), step("b", "controlled"))
    await client.start(flow(*steps, max_parallelism=1), run_id="r")
    await controlled.wait_started("a")
    assert [explained.step_id for explained in (await explain(client)).steps] == ["a", "b", "c"]


async def test_of_very_many_steps_the_first_are_explained_and_all_counted(
    client: RawClient, controlled: ControlledActions
) -> None:
    many = [step(f"a_step_with_quite_a_long_name_{number}", "controlled") for number in range(2_000)]
    await client.start(flow(step("z", "controlled"), *many, max_parallelism=1), run_id="r")
    await controlled.wait_started("z")
    response = await explain(client)
    assert (len(response.steps), response.step_count) == (500, 2_001)
    assert response.ByteSize() < 1 << 20


async def test_the_explanation_of_an_ended_run_has_its_end_only(client: RawClient) -> None:
    end = end_of(await client.run(flow(step("a")), run_id="r"))
    response = await explain(client)
    assert (state_of(response.run.state), response.run.end_time) == ("succeeded", end.end_time)
    assert (len(response.steps), response.step_count) == (0, 0)
    assert response.time.ToNanoseconds() >= end.end_time.ToNanoseconds()


async def test_an_unknown_run_cannot_be_explained(client: RawClient) -> None:
    assert (await refusal(explain(client, "nosuch"))).reason == "RUN_NOT_FOUND"


async def test_a_step_that_waits_to_be_completed_shows_its_input(client: RawClient) -> None:
    workflow = flow(step("ask", "core.wait", given={"question": "publish?"}), step("bare", "core.wait"))
    await client.start(workflow, run_id="run")
    ask, bare = (await client.stub.ExplainRun(pb.ExplainRunRequest(run_id="run"))).steps
    assert ask.message == '{"question": "publish?"}'
    assert bare.message == "it waits to be completed from outside"


async def test_a_large_input_of_a_step_that_waits_is_cut(client: RawClient) -> None:
    await client.start(flow(step("ask", "core.wait", given="x" * 10_000)), run_id="run")
    (ask,) = (await client.stub.ExplainRun(pb.ExplainRunRequest(run_id="run"))).steps
    assert len(ask.message) == 1_001
