"""Conditions, and expressions in inputs, in the messages that the workflow builder makes."""

from typing import Any, cast

import pytest

from stepwave import Cel, Fallback, Workflow, action
from stepwave.v1 import workflow_pb2 as pb


@action
async def research(query: str, n: int = 0) -> str:
    return query


def last(flow: Workflow) -> pb.Step:
    return flow.to_proto().steps[-1]


def two() -> tuple[Workflow, Any, Any]:
    flow = Workflow("w")
    return flow, flow.step("search", "search"), flow.step("weather", "weather")


def test_a_condition_is_its_text_and_makes_its_steps_dependencies() -> None:
    flow, search, weather = two()
    flow.step("deep", research, {"query": "x"}, when=(search.output["hits"] > 3) | (weather.state == "failed"))
    step = last(flow)
    assert step.when == 'deps["search"].output["hits"] > 3 || deps["weather"].state == "FAILED"'
    assert list(step.depends_on) == ["search", "weather"]


def test_a_dependency_is_added_once_and_not_if_a_binding_implies_it() -> None:
    flow, search, weather = two()
    when = (search.output > 3) & (weather.output > 3) & (weather.output < 9)
    flow.step("deep", "x", {"q": search.output}, when=when, depends_on=[weather])
    assert list(last(flow).depends_on) == ["weather"]


def test_a_cel_text_is_a_condition_as_it_is() -> None:
    flow, _, _ = two()
    flow.step("deep", "x", when='deps["search"].output > 3', depends_on=["search"])
    flow.step("deeper", "x", when=Cel("input.deep"))
    *_, deep, deeper = flow.to_proto().steps
    assert (deep.when, list(deep.depends_on)) == ('deps["search"].output > 3', ["search"])
    assert (deeper.when, list(deeper.depends_on)) == ("input.deep", [])


def test_an_expression_in_an_input_becomes_a_binding_and_makes_its_steps_dependencies() -> None:
    flow, search, weather = two()
    value = {"n": search.output["n"] + 1, "all": [Cel("input.x"), weather.output, 1]}
    flow.step("deep", "x", value)
    step = last(flow)
    assert step.input.json == '{"n":null,"all":[null,null,1]}'
    assert list(step.bindings) == [
        pb.Binding(target="/n", expression='deps["search"].output["n"] + 1'),
        pb.Binding(target="/all/0", expression="input.x"),
        pb.Binding(target="/all/1", step=pb.StepOutput(id="weather")),
    ]
    assert list(step.depends_on) == ["search"]


def test_an_expression_may_be_the_whole_input() -> None:
    flow, search, _ = two()
    flow.step("deep", "x", search.output["n"] * 2)
    step = last(flow)
    assert not step.HasField("input")
    assert [(it.target, it.expression) for it in step.bindings] == [("", 'deps["search"].output["n"] * 2')]


def test_a_default_in_an_input_is_in_its_binding() -> None:
    flow, search, weather = two()
    flow.step("deep", "x", {"a": search.output["n"].default(0), "b": (weather.output["n"] + 1).default(None)})
    step = last(flow)
    assert [(it.step.id, it.expression, it.default.json) for it in step.bindings] == [
        ("search", "", "0"),
        ("", 'deps["weather"].output["n"] + 1', "null"),
    ]
    assert (step.input.json, list(step.depends_on)) == ('{"a":null,"b":null}', ["weather"])
    flow.step("whole", "x", search.output.default([]))
    assert not last(flow).HasField("input")


def test_a_default_is_no_condition_and_no_list() -> None:
    flow, search, _ = two()
    with pytest.raises(TypeError, match="when is an expression"):
        flow.step("a", "x", when=cast("Any", search.output.default(True)))
    with pytest.raises(TypeError, match=r"search\.output\.default\(…\) is for the input"):
        flow.for_each("a", over=cast("Any", search.output.default([])), action="x")


def test_a_state_in_an_input_is_an_expression() -> None:
    flow, search, _ = two()
    flow.step("deep", "x", {"state": search.state}, join="all_done")
    assert last(flow).bindings[0].expression == 'deps["search"].state'


def test_an_expression_in_the_input_of_a_fallback_makes_its_step_a_dependency() -> None:
    flow, search, _ = two()
    flow.step("deep", "x", {"a": 1}, fallback=Fallback("y", {"n": search.output["n"] + 1}))
    assert last(flow).fallback.action.bindings[0].expression == 'deps["search"].output["n"] + 1'
    assert list(last(flow).depends_on) == ["search"]


def test_the_keys_of_an_input_with_expressions_are_checked() -> None:
    flow, search, _ = two()
    with pytest.raises(TypeError, match="does not know the key 'm'"):
        flow.step("deep", research, {"query": "x", "m": search.output["n"] + 1})
    with pytest.raises(TypeError, match=r"gets the outputs of its dependencies by id: search; .* the key 'query'"):
        flow.step("deep", research, when=search.output > 3)


@pytest.mark.parametrize("wrong", [True, 3, ["x"]])
def test_a_condition_that_is_none_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"step 'a': when is an expression such as .*, or a CEL text"):
        Workflow("w").step("a", "x", when=cast("Any", wrong))


def test_an_empty_condition_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        Workflow("w").step("a", "x", when="")


def test_a_condition_uses_its_own_workflow_alone() -> None:
    flow, other = Workflow("w"), Workflow("other")
    search = other.step("search", "search")
    for strange in (search.output > 3, search.state == "failed", other.input["x"] == 1, flow.input.in_([other.item])):
        with pytest.raises(ValueError, match=r"belongs to another workflow, .* pass it as the body's input"):
            flow.step("a", "x", when=strange)
        with pytest.raises(ValueError, match="belongs to another workflow"):
            flow.step("a", "x", [strange])
    assert not flow.to_proto().steps
