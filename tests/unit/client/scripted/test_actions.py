"""The actions of scripted runs: replaced ones, real ones, and the functions of the workflow."""

import pytest

from stepwave import (
    FailureReason,
    Fallback,
    InvalidWorkflow,
    Workflow,
    action,
)
from stepwave.testing import run_scripted
from stepwave_server.actions import ActionsError
from unit.client.scripted.weather import one, weather


def test_actions_that_are_not_replaced_run() -> None:
    flow = one()
    flow.step("echo", "core.echo", {"city": "Oslo"})
    run = run_scripted(flow, actions=[weather])
    assert run.outputs == {"only": "rain in Oslo", "echo": {"city": "Oslo"}}


def test_actions_are_given_by_the_name_of_their_module_too() -> None:
    assert run_scripted(one(), actions=[weather.__module__]).outputs == {"only": "rain in Oslo"}


def test_the_functions_of_a_workflow_are_brought_along() -> None:
    @action
    class Almanac:
        def invoke(self, city: str) -> str:
            return f"sun in {city}, mostly"

    flow = Workflow("flow")
    flow.step("own", weather)
    flow.step("other", "core.fail", {"message": "no"}, fallback=Fallback(Almanac, {"city": "Bergen"}))
    for actions in ([], [weather, Almanac]):
        run = run_scripted(flow, input={"city": "Oslo"}, actions=actions)
        assert run.outputs == {"own": "rain in Oslo", "other": "sun in Bergen, mostly"}
        assert run.attempts("other") == run.result.steps["other"].attempts == 2


def test_another_action_with_the_name_of_a_function_of_the_workflow_is_refused() -> None:
    @action("weather")
    async def other(city: str) -> str:
        return "snow"

    flow = Workflow("flow")
    flow.step("own", weather)
    with pytest.raises(ActionsError, match=r"two actions are named 'weather': .*other and .*:weather"):
        run_scripted(flow, input={"city": "Oslo"}, actions=[other])


def test_a_replaced_function_of_the_workflow_has_its_input_checked() -> None:
    flow = Workflow("flow")
    town = flow.step("town", "core.echo", ["Oslo"])
    flow.step("own", weather, {"city": town.output})
    run = run_scripted(flow, {"weather": ["sun"]}, check=False)
    assert run.result.failures[0].reason is FailureReason.INVALID_INPUT
    assert run.unused == {"weather": 1}


def test_a_replaced_class_of_the_workflow_is_not_instantiated() -> None:
    @action
    class Model:
        def __init__(self) -> None:
            raise ConnectionError("no service in tests")

        def invoke(self, city: str) -> str:
            return city

    flow = Workflow("flow")
    flow.step("own", Model)
    assert run_scripted(flow, {"Model": ["sun"]}, {"city": "Oslo"}).outputs == {"own": "sun"}


def test_the_action_of_a_fallback_can_be_replaced() -> None:
    flow = Workflow("one")
    flow.step("only", "weather", fallback=Fallback("almanac"))
    run = run_scripted(flow, {"weather": [ConnectionError()], "almanac": ["sun, mostly"]})
    assert run.outputs["only"] == "sun, mostly"
    assert [attempt.action for attempt in run.history] == ["weather", "almanac"]
    assert run.result.steps["only"].by_fallback


def test_a_replaced_action_that_is_known_has_its_input_checked() -> None:
    flow = Workflow("one")
    flow.step("only", "weather", {"town": "Oslo"})
    run = run_scripted(flow, {"weather": ["sun"]}, actions=[weather], check=False)
    assert run.result.failures[0].reason is FailureReason.INVALID_INPUT
    assert run.unused == {"weather": 1}


def test_an_action_that_no_step_has_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(ValueError, match=r"the script has the action 'wether', .* did you mean 'weather'"):
        run_scripted(one(), {"wether": ["sun"]})


def test_an_action_that_is_neither_replaced_nor_known_is_refused_as_by_a_server() -> None:
    with pytest.raises(InvalidWorkflow) as caught:
        run_scripted(one())
    assert str(caught.value).splitlines() == [
        'workflow.steps[0].action: unknown action "weather"',
        "add unknown actions to `actions`, or replace them in the script",
    ]
