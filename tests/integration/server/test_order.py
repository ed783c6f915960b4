"""The order of steps and events: overlap, waves and barriers."""

import pytest

from integration.server.build import check_sequences, end_of, finished, flow, kind_of, kinds_of, state_of, states, step
from integration.server.controlled_actions import ControlledActions
from integration.server.raw_client import RawClient
from stepwave.v1 import workflow_pb2
from stepwave.v1.event_pb2 import RunEvent

DIAMOND = flow(step("a"), step("b", after=["a"]), step("c", after=["a"]), step("d", after=["b", "c"]))


def _place(events: list[RunEvent], kind: str, step_id: str) -> int:
    """Return the index of an event of a step."""
    for place, event in enumerate(events):
        if kind_of(event) != kind:
            continue
        body = event.step_finished.result if kind == "step_finished" else event.step_started
        if body.step_id == step_id:
            return place
    raise AssertionError(f"no {kind} of {step_id}")


async def test_independent_steps_overlap(client: RawClient) -> None:
    events = await client.run(flow(step("a", "meets"), step("b", "meets")))
    assert states(events) == {"a": "succeeded", "b": "succeeded"}


async def test_sync_actions_run_on_threads_and_overlap(client: RawClient) -> None:
    results = finished(await client.run(flow(step("a", "meets_on_thread"), step("b", "meets_on_thread"))))
    threads = {result.output.json for result in results.values()}
    assert threads == {'"stepwave-action"'}


async def test_a_diamond_has_three_waves(client: RawClient) -> None:
    plan, *_ = await client.run(DIAMOND)
    waves = [(wave.index, list(wave.step_ids)) for wave in plan.run_started.waves]
    assert waves == [(0, ["a"]), (1, ["b", "c"]), (2, ["d"])]


async def test_the_events_of_a_diamond_come_in_this_order(client: RawClient) -> None:
    assert kinds_of(await client.run(DIAMOND)) == [
        "run_started",
        *("wave_started", "step_started", "step_finished", "wave_finished"),
        *("wave_started", "step_started", "step_started", "step_finished", "step_finished", "wave_finished"),
        *("wave_started", "step_started", "step_finished", "wave_finished"),
        "run_finished",
    ]


async def test_the_middle_of_a_diamond_overlaps(client: RawClient) -> None:
    diamond = flow(
        step("a"), step("b", "meets", after=["a"]), step("c", "meets", after=["a"]), step("d", after=["b", "c"])
    )
    assert state_of(end_of(await client.run(diamond)).state) == "succeeded"


async def test_a_fast_completion_is_seen_while_a_slow_sibling_runs(
    client: RawClient, controlled: ControlledActions
) -> None:
    async with client.execute(flow(step("slow", "controlled"), step("fast", "controlled"))) as run:
        await controlled.wait_started("slow", "fast")
        controlled.release("fast")
        await run.until("step_finished", "fast")
        assert "slow" not in finished(run.seen)
        controlled.release("slow")
        assert list(finished(await run.rest())) == ["fast", "slow"]


async def test_a_step_begins_once_its_own_dependencies_have_ended(
    client: RawClient, controlled: ControlledActions
) -> None:
    ragged = flow(step("slow", "controlled"), step("fast"), step("next", "controlled", after=["fast"]))
    async with client.execute(ragged) as run:
        await controlled.wait_started("slow", "next")
        controlled.release("slow", "next")
        await run.rest()


async def test_under_wave_a_step_waits_for_the_whole_wave_before(
    client: RawClient, controlled: ControlledActions
) -> None:
    ragged = flow(
        step("slow", "controlled"), step("fast"), step("next", after=["fast"]), scheduling=workflow_pb2.SCHEDULING_WAVE
    )
    async with client.execute(ragged) as run:
        await controlled.wait_started("slow")
        await run.until("step_finished", "fast")
        controlled.release("slow")
        events = await run.rest()
    assert _place(events, "step_finished", "slow") < _place(events, "step_started", "next")


async def test_a_step_starts_after_its_dependencies_have_finished(client: RawClient) -> None:
    layers = [step(f"s{i}", after=[f"s{j}" for j in range(max(0, i - 3), i)]) for i in range(12)]
    events = await client.run(flow(*layers))
    for spec in layers:
        begun = _place(events, "step_started", spec.id)
        assert all(_place(events, "step_finished", dep) < begun for dep in spec.depends_on)


async def test_max_parallelism_bounds_a_run(client: RawClient, controlled: ControlledActions) -> None:
    async with client.execute(flow(*(step(f"s{i}", "controlled") for i in range(5)), max_parallelism=2)) as run:
        await controlled.wait_started("s0", "s1")
        assert sorted(controlled.invoked) == ["s0", "s1"]  # hosts invoke them in any order
        controlled.release("s1")
        await controlled.wait_started("s2")
        assert sorted(controlled.invoked) == ["s0", "s1", "s2"]
        controlled.release_all()
        events = await run.rest()
    begun = [event.step_started.step_id for event in events if event.HasField("step_started")]
    assert begun == [f"s{i}" for i in range(5)]
    assert len(finished(events)) == 5


@pytest.mark.parametrize("fails", [False, True])
async def test_exactly_one_event_is_terminal_and_it_is_the_last(
    client: RawClient, controlled: ControlledActions, fails: bool
) -> None:
    controlled.release_all()
    kinds = kinds_of(await client.run(flow(step("a"), step("b", "fails" if fails else "noop"), step("c", after=["b"]))))
    assert kinds.count("run_finished") == 1
    assert kinds[-1] == "run_finished"


async def test_sequences_count_without_gaps_from_1(client: RawClient) -> None:
    events = await client.run(DIAMOND)
    check_sequences(events)


async def test_times_never_go_back(client: RawClient) -> None:
    times = [event.time.ToNanoseconds() for event in await client.run(DIAMOND)]
    assert times == sorted(times)


async def test_every_event_names_its_run(client: RawClient) -> None:
    assert {event.run_id for event in await client.run(DIAMOND, run_id="mine")} == {"mine"}


async def test_an_unnamed_run_gets_a_short_readable_id(client: RawClient) -> None:
    run = await client.start(flow(step("a"), name="Morning.Briefing"))
    slug, _, tail = run.run_id.rpartition("-")
    assert slug == "morning-briefing"
    assert len(tail) == 8
