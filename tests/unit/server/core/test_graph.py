"""Waves and cycles of graphs."""

from stepwave_server.core.graph import cycles, waves


def test_a_wave_is_one_above_the_highest_dependency() -> None:
    assert waves({"d": ["b", "c"], "b": ["a"], "c": ["b"], "a": []}) == {"a": 0, "b": 1, "c": 2, "d": 3}


def test_steps_on_a_cycle_or_behind_one_have_no_wave() -> None:
    assert waves({"a": ["b"], "b": ["a"], "c": ["b"], "d": []}) == {"d": 0}


def test_steps_behind_an_unknown_one_have_no_wave() -> None:
    assert waves({"a": ["x"], "b": ["a"], "c": []}) == {"c": 0}


def test_waves_go_on_from_those_that_are_known() -> None:
    assert waves({"b": ["a", "c"], "c": []}, {"a": 4}) == {"c": 0, "b": 5}


def test_a_graph_without_a_cycle_yields_none() -> None:
    assert list(cycles({"a": [], "b": ["a"], "c": ["a", "b"]})) == []


def test_a_dependency_outside_of_the_graph_is_on_no_cycle() -> None:
    assert list(cycles({"a": ["x", "b"], "b": ["x"]})) == []


def test_cycles_are_disjoint() -> None:
    edges = {"a": ["b"], "b": ["a", "c"], "c": ["b"], "d": ["d"]}
    found = list(cycles(edges))
    assert found == [("a", "b", "a"), ("d", "d")]


def test_at_most_ten_cycles_are_named() -> None:
    edges = {f"{side}{n}": [f"{other}{n}"] for n in range(50) for side, other in ("ab", "ba")}
    assert len(list(cycles(edges))) == 10
