"""What starts when: overlap, waves, barriers, and the order of events."""

import pytest

from integration.server.build import end_of, finished, flow, kind_of, kinds_of, sequences, state_of, states, step
from integration.server.caller import Caller
from integration.server.stage import Stage
from stepwave.v1 import workflow_pb2
from stepwave.v1.event_pb2 import RunEvent

DIAMOND = flow(step("a"), step("b", after=["a"]), step("c", after=["a"]), step("d", after=["b", "c"]))


def _place(events: list[RunEvent], kind: str, step_id: str) -> int:
    """Return where a step's event stands."""
    for place, event in enumerate(events):
        if kind_of(event) != kind:
            continue
        body = event.step_finished.result if kind == "step_finished" else event.step_started
        if body.step_id == step_id:
            return place
    raise AssertionError(f"no {kind} of {step_id}")


async def test_independent_steps_overlap(caller: Caller) -> None:
    events = await caller.run(flow(step("a", "meets"), step("b", "meets")))
    assert states(events) == {"a": "succeeded", "b": "succeeded"}


async def test_sync_actions_run_on_threads_and_overlap(caller: Caller) -> None:
    results = finished(await caller.run(flow(step("a", "meets_on_thread"), step("b", "meets_on_thread"))))
    threads = {result.output.json for result in results.values()}
    assert threads == {'"stepwave-action"'}


async def test_a_diamond_has_three_waves(caller: Caller) -> None:
    plan, *_ = await caller.run(DIAMOND)
    waves = [(wave.index, list(wave.step_ids)) for wave in plan.run_started.waves]
    assert waves == [(0, ["a"]), (1, ["b", "c"]), (2, ["d"])]


async def test_the_events_of_a_diamond_come_in_this_order(caller: Caller) -> None:
    assert kinds_of(await caller.run(DIAMOND)) == [
        "run_started",
        *("wave_started", "step_started", "step_finished", "wave_finished"),
        *("wave_started", "step_started", "step_started", "step_finished", "step_finished", "wave_finished"),
        *("wave_started", "step_started", "step_finished", "wave_finished"),
        "run_finished",
    ]


async def test_the_middle_of_a_diamond_overlaps(caller: Caller) -> None:
    diamond = flow(
        step("a"), step("b", "meets", after=["a"]), step("c", "meets", after=["a"]), step("d", after=["b", "c"])
    )
    assert state_of(end_of(await caller.run(diamond)).state) == "succeeded"


async def test_a_fast_completion_is_seen_while_a_slow_sibling_is_held(caller: Caller, stage: Stage) -> None:
    async with caller.execute(flow(step("slow", "gated"), step("fast", "gated"))) as run:
        await stage.here("slow", "fast")
        stage.let("fast")
        await run.until("step_finished", "fast")
        assert "slow" not in finished(run.seen)
        stage.let("slow")
        assert list(finished(await run.rest())) == ["fast", "slow"]


async def test_a_step_begins_once_its_own_dependencies_have_ended(caller: Caller, stage: Stage) -> None:
    ragged = flow(step("slow", "gated"), step("fast"), step("next", "gated", after=["fast"]))
    async with caller.execute(ragged) as run:
        await stage.here("slow", "next")
        stage.let("slow", "next")
        await run.rest()


async def test_under_wave_a_step_awaits_the_whole_wave_before(caller: Caller, stage: Stage) -> None:
    ragged = flow(
        step("slow", "gated"), step("fast"), step("next", after=["fast"]), scheduling=workflow_pb2.SCHEDULING_WAVE
    )
    async with caller.execute(ragged) as run:
        await stage.here("slow")
        await run.until("step_finished", "fast")
        stage.let("slow")
        events = await run.rest()
    assert _place(events, "step_finished", "slow") < _place(events, "step_started", "next")


async def test_a_step_starts_after_its_dependencies_have_finished(caller: Caller) -> None:
    layers = [step(f"s{i}", after=[f"s{j}" for j in range(max(0, i - 3), i)]) for i in range(12)]
    events = await caller.run(flow(*layers))
    for spec in layers:
        begun = _place(events, "step_started", spec.id)
        assert all(_place(events, "step_finished", dep) < begun for dep in spec.depends_on)


async def test_max_parallelism_bounds_a_run(caller: Caller, stage: Stage) -> None:
    async with caller.execute(flow(*(step(f"s{i}", "gated") for i in range(5)), max_parallelism=2)) as run:
        await stage.here("s0", "s1")
        assert stage.invoked == ["s0", "s1"]
        stage.let("s1")
        await stage.here("s2")
        assert stage.invoked == ["s0", "s1", "s2"]
        stage.let_all()
        assert len(finished(await run.rest())) == 5


@pytest.mark.parametrize("fails", [False, True])
async def test_exactly_one_event_is_terminal_and_it_is_the_last(caller: Caller, stage: Stage, fails: bool) -> None:
    stage.let_all()
    kinds = kinds_of(await caller.run(flow(step("a"), step("b", "fails" if fails else "noop"), step("c", after=["b"]))))
    assert kinds.count("run_finished") == 1
    assert kinds[-1] == "run_finished"


async def test_sequences_count_without_gaps_from_1(caller: Caller) -> None:
    events = await caller.run(DIAMOND)
    assert sequences(events) == list(range(1, len(events) + 1))


async def test_times_never_go_back(caller: Caller) -> None:
    times = [event.time.ToNanoseconds() for event in await caller.run(DIAMOND)]
    assert times == sorted(times)


async def test_every_event_names_its_run(caller: Caller) -> None:
    assert {event.run_id for event in await caller.run(DIAMOND, run_id="mine")} == {"mine"}


async def test_an_unnamed_run_gets_a_short_readable_id(caller: Caller) -> None:
    run = await caller.start(flow(step("a"), name="Morning.Briefing"))
    slug, _, tail = run.run_id.rpartition("-")
    assert slug == "morning-briefing"
    assert len(tail) == 8
