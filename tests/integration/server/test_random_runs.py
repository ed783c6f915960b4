"""Random runs, all at once, that fail, stream, time out and are cancelled, with watchers that come and go."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator

import pytest

from integration.server.build import check_sequences, end_of, finished, flow, kind_of, state_of, step
from integration.server.fixture_types import Connect, Serve, eventually
from integration.server.raw_client import GUARD, RawClient
from integration.server.slow_journal import SlowJournal
from stepwave import Context, action
from stepwave.v1 import workflow_pb2
from stepwave.v1.event_pb2 import RunEvent
from stepwave_server.journal import Journal

pytestmark = pytest.mark.one_server("it loads one server; tests/conformance has random runs for Temporal")

RUNS = 60


@action
async def turns(count: int) -> int:
    """Yield to the event loop `count` times."""
    for _ in range(count):
        await asyncio.sleep(0)
    return count


@action
async def breaks(count: int) -> None:
    """Yield to the event loop `count` times, then raise."""
    for _ in range(count):
        await asyncio.sleep(0)
    raise ValueError(count)


@action
async def emits(context: Context, count: int) -> AsyncIterator[int]:
    """Emit a chunk and progress in every turn of the event loop."""
    for number in range(count):
        context.progress(number / count)
        yield number
        await asyncio.sleep(0)


@action
def emits_on_thread(count: int) -> Iterator[int]:
    """Emit chunks from a thread."""
    yield from range(count)


@action
async def hangs(count: int) -> None:
    """Never end."""
    await asyncio.Event().wait()


def _draw_workflow(draw: random.Random) -> workflow_pb2.Workflow:
    """Return a random workflow."""
    actions = ["turns"] * 10 + ["emits", "emits_on_thread", "breaks", "hangs"]
    steps = []
    for number in range(draw.randint(1, 25)):
        name = draw.choice(actions)
        steps.append(
            step(
                f"s{number}",
                name,
                after={f"s{draw.randrange(number)}" for _ in range(draw.randint(0, 3))} if number else [],
                given={"count": draw.randint(1, 8)},
                timeout=0.02 if name == "hangs" else None,
                join=draw.choice([workflow_pb2.JOIN_ALL] * 3 + [workflow_pb2.JOIN_ANY, workflow_pb2.JOIN_ALL_DONE]),
                allow_failure=draw.random() < 0.2,
            )
        )
    return flow(
        *steps,
        scheduling=draw.choice([workflow_pb2.SCHEDULING_EAGER, workflow_pb2.SCHEDULING_WAVE]),
        failure_policy=draw.choice([workflow_pb2.FAILURE_POLICY_FAIL_FAST, workflow_pb2.FAILURE_POLICY_CONTINUE]),
        max_parallelism=draw.choice([0, 0, 1, 3]),
    )


async def _follow(client: RawClient, run_id: str, draw: random.Random) -> list[RunEvent]:
    """Watch a run to its end, with random disconnects; return its numbered events."""
    seen: list[RunEvent] = []
    while not seen or kind_of(seen[-1]) != "run_finished":
        async with client.watch(run_id, after=len(seen), attach=draw.random() < 0.5) as watch:
            for _ in range(draw.randint(1, 4)):
                events = await watch.message()
                if events is None:
                    break
                seen += [event for event in events if event.sequence]
    return seen


async def _run_randomly(
    client: RawClient, number: int, draw: random.Random
) -> tuple[workflow_pb2.Workflow, list[RunEvent]]:
    """Run a random workflow with random disturbances, and return its events."""
    run_id, workflow = f"run{number}", _draw_workflow(draw)
    if draw.random() < 0.5:
        await client.start(workflow, run_id=run_id)
    else:
        async with client.execute(workflow, run_id=run_id, window=draw.choice([0, 600])) as run:
            await run.message()
    if draw.random() < 0.2:
        await client.cancel(run_id)
    watchers = [_follow(client, run_id, random.Random(draw.random())) for _ in range(2)]
    events, others = await asyncio.gather(*watchers)
    assert events == others
    return workflow, events


def _check_guarantees(workflow: workflow_pb2.Workflow, events: list[RunEvent]) -> None:
    """Check all guarantees about the events of a run."""
    check_sequences(events)
    assert [kind_of(event) for event in events].count("run_finished") == 1
    ends = finished(events)
    assert set(ends) == {spec.id for spec in workflow.steps}
    order = list(ends)
    for spec in workflow.steps:
        if spec.join != workflow_pb2.JOIN_ANY:
            assert all(order.index(dep) < order.index(spec.id) for dep in spec.depends_on)
    result = end_of(events)
    counts = result.counts
    assert counts.succeeded + counts.failed + counts.cancelled + counts.skipped == len(workflow.steps)
    assert counts.succeeded == sum(state_of(end.state) == "succeeded" for end in ends.values())
    for place, event in enumerate(events):
        if event.HasField("step_started"):
            assert place < events.index(next(e for e in events[place:] if _ends(e, event.step_started.step_id)))


def _ends(event: RunEvent, step_id: str) -> bool:
    return event.HasField("step_finished") and event.step_finished.result.step_id == step_id


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("slow", [False, True], ids=["prompt commits", "late commits"])
async def test_all_guarantees_hold_for_random_runs(serve: Serve, connect: Connect, seed: int, slow: bool) -> None:
    journal: Journal | None = None
    if slow:
        journal = SlowJournal()
        journal.commit_promptly()
    server = await serve(
        turns, breaks, emits, emits_on_thread, hangs, journal=journal, max_attempts=7, cancel_grace=0.5
    )
    client = connect(server)
    draw = random.Random(seed)
    async with asyncio.timeout(GUARD):
        runs = [_run_randomly(client, number, random.Random(draw.random())) for number in range(RUNS)]
        for workflow, events in await asyncio.gather(*runs):
            _check_guarantees(workflow, events)
    assert server.engine.attempts_in_flight == 0
    await eventually(lambda: server.engine.watchers == 0)
