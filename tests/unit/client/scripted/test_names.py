"""The names in a script are those of the workflow: its actions, and its steps at any depth."""

import pytest

from stepwave import Fallback, Workflow
from stepwave._scripted.prepare import by_action
from stepwave._scripted.script import read_script
from stepwave.testing import ByStep


def pages() -> Workflow:
    inner, flow = Workflow("page"), Workflow("flow")
    inner.step("fetch", "fetch", fallback=Fallback("cached"))
    flow.step("fetch", "fetch")
    flow.for_each("pages", over=[1, 2], workflow=inner)
    flow.for_each("titles", over=[1, 2], action="summarise")
    return flow


def check(script: dict[str, object]) -> None:
    by_action(read_script(script), pages().to_proto())


@pytest.mark.parametrize("step_id", ["fetch", "pages/fetch", "pages[1]/fetch"])
def test_a_script_may_name_steps_within_others(step_id: str) -> None:
    check({"fetch": ByStep({step_id: "x"}), "cached": "y"})


def test_a_script_may_name_all_children_or_one() -> None:
    check({"summarise": ByStep({"titles": "x", "titles[1]": "y"})})


@pytest.mark.parametrize("step_id", ["pages", "pages/clean", "titles/fetch"])
def test_a_step_without_the_action_is_refused(step_id: str) -> None:
    with pytest.raises(ValueError, match=f"has the step '{step_id}', which does not have this action"):
        check({"fetch": ByStep({step_id: "x"})})
