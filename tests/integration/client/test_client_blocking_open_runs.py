"""Open runs with the client that blocks."""

import threading
from collections.abc import Callable, Iterable

import pytest

from integration.client.plan_actions import boom, hold, line, shout
from stepwave import (
    Client,
    InvalidWorkflow,
    OpenRun,
    RunResult,
    State,
    StepFinished,
    SyncOpenRun,
)


@pytest.fixture
def stepwave_actions() -> Iterable[Callable[..., object]]:
    return [shout, boom, hold]


def test_the_blocking_client_composes_too(stepwave_client: Client) -> None:
    with stepwave_client.compose("plan", {"text": "a"}) as plan:
        first = plan.step("first", shout, {"text": plan.input["text"]})
        plan.feed([line("fed", '"f"')[:9], line("fed", '"f"')[9:]])
        plan.step("second", shout, {"text": first.output})
        plan.flush()
        for event in plan.events():
            if isinstance(event, StepFinished) and event.result.step_id == "second":
                plan.seal()
    assert plan.result.outputs == {"fed": "F", "second": "A"}
    assert not [thread for thread in threading.enumerate() if thread.name == "stepwave-open-run"]


def test_a_blocking_plan_raises_what_is_refused(stepwave_client: Client) -> None:
    with pytest.raises(InvalidWorkflow, match="unknown action"), stepwave_client.compose("plan") as plan:
        plan.step("a", "unknown")
    assert stepwave_client.wait(plan.run_id, check=False).state is State.CANCELLED


def test_an_exception_in_a_blocking_block_cancels_the_run(stepwave_client: Client) -> None:
    def write(plan: SyncOpenRun) -> None:
        plan.step("held", hold)
        raise LookupError

    with pytest.raises(LookupError), stepwave_client.compose("plan") as plan:
        write(plan)
    assert stepwave_client.wait(plan.run_id, check=False).state is State.CANCELLED


def test_a_blocking_plan_needs_its_block(stepwave_client: Client) -> None:
    plan = stepwave_client.compose("plan")
    with pytest.raises(RuntimeError, match="enter the context manager first"):
        plan.flush()


def test_functions_of_a_blocking_plan_are_registered_with_a_local_server() -> None:
    with Client.local() as client, client.compose("plan") as plan:
        plan.step("a", shout, {"text": "x"})
    result: RunResult = plan.result
    assert result.outputs == {"a": "X"}


def test_both_kinds_of_plan_have_the_same_methods() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")} - {
            "add_loaded",
            "enqueue",
            "note",
            "schedule",
            "sent",
        }

    assert public(OpenRun) == public(SyncOpenRun)
