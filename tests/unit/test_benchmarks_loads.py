"""The benchmarks' loads are the graphs they claim to be, and the bare loop runs them in order."""

import pytest

from benchmarks.bare_loop import run_graph
from benchmarks.loads import Load, all_loads, chain, fan_in, layered, ragged, waves, wide

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
async def test_the_bare_loop_runs_every_step_once_and_after_its_dependencies(
    graph: tuple[tuple[int, ...], ...],
) -> None:
    order: list[int] = []

    async def invoke(index: int) -> None:
        order.append(index)

    await run_graph(graph, invoke)
    assert sorted(order) == list(range(len(graph)))
    assert all(order.index(other) < order.index(index) for index, others in enumerate(graph) for other in others)
