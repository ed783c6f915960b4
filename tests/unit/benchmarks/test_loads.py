"""The loads of the benchmarks have the expected graphs, and the prototype runs them in order."""

import pytest

from benchmarks.contenders import as_message
from benchmarks.loads import Load, all_loads, chain, fan_in, layered, ragged, waves, wide
from benchmarks.prototype import Run

LOADS = all_loads()


@pytest.mark.parametrize("load", LOADS, ids=[load.name for load in LOADS])
def test_every_step_depends_on_earlier_ones_only(load: Load) -> None:
    assert all(other < index for index, others in enumerate(load.dependencies) for other in others)


def test_layers_depend_on_three_steps_of_the_layer_before() -> None:
    graph = layered(4, 10)
    assert {len(others) for others in graph[10:]} == {3}
    assert waves(graph) == [layer for layer in range(4) for _ in range(10)]


def test_paths_of_a_ragged_graph_tell_a_barrier_from_none() -> None:
    dependencies, seconds = ragged(200)
    load = Load("ragged", "", dependencies, seconds)
    assert max(seconds) < load.critical_path < load.wave_path < sum(seconds)


def test_critical_path_is_the_longest_chain_of_sleeps() -> None:
    assert Load("small", "", fan_in(3), (1.0, 3.0, 2.0, 0.5)).critical_path == pytest.approx(3.5)


@pytest.mark.parametrize(
    "graph", [wide(20), chain(20), layered(4, 10), fan_in(5)], ids=["wide", "chain", "layered", "fan"]
)
async def test_the_prototype_runs_every_step_once_and_after_its_dependencies(
    graph: tuple[tuple[int, ...], ...],
) -> None:
    steps = as_message(Load("graph", "", graph)).steps
    events = [event async for batch in Run(steps).batches() for event in batch.events]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    ended = [event.step_finished.result.step_id for event in events if event.HasField("step_finished")]
    assert sorted(ended) == sorted(step.id for step in steps)
    started = {event.step_started.step_id: event.sequence for event in events if event.HasField("step_started")}
    finished = {
        event.step_finished.result.step_id: event.sequence for event in events if event.HasField("step_finished")
    }
    assert all(finished[other] < started[step.id] for step in steps for other in step.depends_on)
    assert events[-1].HasField("run_finished")
