"""References to outputs and inputs, and their extraction from a step's input."""

import re
from typing import cast

import pytest

from stepwave import Fallback, Reference, Secret, Workflow
from stepwave._building.references import Input, StepHandle, extract
from stepwave._values.json import pointer
from stepwave.v1 import payload_pb2
from stepwave.v1 import workflow_pb2 as pb

FLOW = Workflow("briefing")
SEARCH = FLOW.step("search", "search")


def places(value: Input) -> dict[str, str]:
    return {place: repr(reference) for place, reference in extract(value)[1]}


def test_a_reference_is_found_at_any_depth() -> None:
    city, first = FLOW.input["city"], SEARCH.output["summary"][0]
    value: Input = {"a": {"b": [1, (city, {"c": first})]}}
    assert extract(value)[0] == {"a": {"b": [1, [None, {"c": None}]]}}
    assert places(value) == {"/a/b/1/0": "input['city']", "/a/b/1/1/c": "search.output['summary'][0]"}


def test_a_bare_reference_is_the_whole_input() -> None:
    assert places(SEARCH.output) == {"": "search.output"}


def test_keys_are_escaped_in_targets_and_paths() -> None:
    assert list(places({"a/b": {"c~d": SEARCH.output}})) == ["/a~1b/c~0d"]
    assert pointer(["a/b", 0, "c~d", ""]) == "/a~1b/0/c~0d/"


def test_a_reference_may_be_in_several_places() -> None:
    assert places([SEARCH.output, SEARCH.output]) == {"/0": "search.output", "/1": "search.output"}


def test_references_can_be_keys_each_of_its_own() -> None:
    first, second = SEARCH.output["a"], SEARCH.output["a"]
    assert {first: 1, second: 2}[first] == 1
    assert len({first, second}) == 2


def test_a_reference_reads_as_it_is_written() -> None:
    assert repr(SEARCH.output["summary"][0]) == "search.output['summary'][0]"
    assert repr(FLOW.input["city"]) == "input['city']"


def test_iterating_over_a_reference_is_an_error_and_no_endless_loop() -> None:
    with pytest.raises(TypeError, match="not iterable"):
        list(SEARCH.output)  # type: ignore[call-overload]  # what is tested
    with pytest.raises(TypeError, match="write has"):
        assert "a" in SEARCH.output  # type: ignore[operator]  # what is tested


def test_a_reference_is_neither_true_nor_false() -> None:
    with pytest.raises(TypeError, match="no value before the run"):
        bool(SEARCH.output)


def test_a_reference_in_text_is_refused() -> None:
    with pytest.raises(
        TypeError, match=re.escape("search.output has no value before the run: it cannot be part of a text")
    ):
        f"about {SEARCH.output}"


@pytest.mark.parametrize("key", [True, None, 1.5, slice(0, 1)])
def test_a_part_is_named_by_a_string_or_an_index(key: object) -> None:
    with pytest.raises(TypeError, match="named by a string or an index"):
        SEARCH.output[cast("str", key)]


def test_an_index_counts_from_the_front() -> None:
    with pytest.raises(ValueError, match="counts from the front"):
        SEARCH.output[-1]


def test_a_step_is_not_its_output() -> None:
    with pytest.raises(TypeError, match=re.escape("/facts/0: <step 'search'> is a step")):
        extract({"facts": [cast("Reference", SEARCH)]})


def test_keys_must_be_strings() -> None:
    with pytest.raises(TypeError, match="/a: keys must be strings, got 1"):
        extract({"a": cast("Input", {1: "one"})})


def test_an_input_that_contains_itself_is_refused() -> None:
    circle: list[Input] = []
    circle.append(circle)
    with pytest.raises(ValueError, match="contains itself"):
        extract(circle)


def test_a_default_is_in_the_binding_of_its_reference() -> None:
    bound = SEARCH.output["hits"].default([]).to_binding("/hits")
    assert bound == pb.Binding(
        target="/hits", step=pb.StepOutput(id="search", path="/hits"), default=payload_pb2.Payload(json="[]")
    )
    assert FLOW.input.default(None).to_binding("").default.json == "null"


def test_a_default_may_be_that_of_an_expression() -> None:
    bound = (SEARCH.output["n"] + 1).default(0).to_binding("/n")
    assert (bound.expression, bound.default.json) == ('deps["search"].output["n"] + 1', "0")


def test_a_default_that_json_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON cannot hold"):
        SEARCH.output.default({1, 2})  # type: ignore[arg-type]  # what is tested


def test_an_item_is_bound_by_its_own_source() -> None:
    assert FLOW.item["url"].to_binding("/u") == pb.Binding(target="/u", item="/url")


def test_steps_are_equal_if_they_are_the_same_step_of_one_workflow() -> None:
    assert StepHandle(FLOW, "search") == SEARCH
    assert Workflow("briefing").step("search", "search") != SEARCH
    assert len({StepHandle(FLOW, "search"), SEARCH}) == 1


def test_a_handle_reads_as_a_step() -> None:
    assert repr(StepHandle(FLOW, "search")) == "<step 'search'>"


def test_a_secret_is_a_binding_at_its_place() -> None:
    flow = Workflow("flow")
    flow.step("a", "search", {"query": "fjords", "keys": [Secret("KEY")]})
    (step,) = flow.to_proto().steps
    assert [(it.target, it.secret) for it in step.bindings] == [("/keys/0", "KEY")]
    assert step.input.json == '{"query":"fjords","keys":[null]}'


def test_a_secret_may_be_the_whole_input_and_in_that_of_a_fallback() -> None:
    flow = Workflow("flow")
    flow.step("a", "search", Secret("KEY"), fallback=Fallback("cached", {"key": Secret("OTHER")}))
    (step,) = flow.to_proto().steps
    assert not step.HasField("input")
    assert [(it.target, it.secret) for it in step.bindings] == [("", "KEY")]
    assert [(it.target, it.secret) for it in step.fallback.action.bindings] == [("/key", "OTHER")]


def test_a_secret_is_no_part_of_an_expression_and_no_list() -> None:
    flow = Workflow("flow")
    with pytest.raises(TypeError, match=r"Secret\('KEY'\) is put in by the server"):
        _ = SEARCH.output == Secret("KEY")
    with pytest.raises(TypeError, match=r"Secret\('KEY'\) is put in by the server"):
        flow.for_each("a", action="search", over=cast("Reference", Secret("KEY")))


@pytest.mark.parametrize("name", ["", None, 7])
def test_a_secret_without_a_name_is_refused(name: object) -> None:
    with pytest.raises(TypeError, match="a secret has a name"):
        Secret(cast("str", name))
