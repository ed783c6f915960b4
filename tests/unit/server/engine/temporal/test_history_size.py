"""The driver ends a run before its history reaches the bounds of Temporal."""

import pytest

import stepwave_server.engine.temporal.driver as driver_module
from stepwave_server.core.evolve import new_run
from stepwave_server.core.messages import AddSteps, RunFinished, Started
from stepwave_server.core.model import Reason, State, Step, Workflow
from stepwave_server.core.state import RunOptions
from stepwave_server.engine.evaluation.json_evaluator import JsonEvaluator
from stepwave_server.engine.temporal.driver import RunDriver
from stepwave_server.engine.temporal.driver_messages import (
    AttemptStopped,
    CancelAttempt,
    DriverInput,
    End,
    HistorySize,
    Request,
    StartAttempt,
)
from stepwave_server.engine.temporal.holds import Holds


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "MAX_HISTORY_EVENTS", 100)
    monkeypatch.setattr(driver_module, "MAX_HISTORY_BYTES", 1_000)


def driver() -> RunDriver:
    """Return the driver of an open run with one attempt in flight."""
    workflow = Workflow(name="grows", steps=(Step("first", "act"),))
    options = RunOptions(open=True, idle_timeout=10**12)
    made = RunDriver(new_run(workflow, "null", options), JsonEvaluator(1 << 20), Holds(None, ""))
    made.take([HistorySize(3, 100), Started((), "")], 1)
    assert any(isinstance(effect, StartAttempt) for effect in made.take_effects())
    made.take_events()
    return made


def end_of(made: RunDriver, size: HistorySize, *more: DriverInput) -> RunFinished | None:
    """Give the driver a size, then the end of the interrupted attempt, and return the end of the run."""
    made.take([size, *more], 2)
    for effect in made.take_effects():
        if isinstance(effect, CancelAttempt):
            made.take([AttemptStopped(effect.step_id, effect.attempt, timed_out=False)], 3)
    return next((event for event in made.take_events() if isinstance(event, RunFinished)), None)


@pytest.mark.parametrize("size", [HistorySize(101, 100), HistorySize(50, 1_001)])
def test_a_run_whose_history_is_too_large_fails_with_the_bound(size: HistorySize) -> None:
    made = driver()
    end = end_of(made, size)
    assert end is not None
    assert (end.state, end.failures[0].reason) == (State.FAILED, Reason.RESOURCE_EXHAUSTED)
    assert "a run is ended at 100 events or 1,000 bytes" in end.failures[0].message
    assert any(isinstance(effect, End) for effect in made.take_effects())


def test_a_run_at_the_bound_goes_on() -> None:
    assert end_of(driver(), HistorySize(100, 1_000)) is None


def test_no_steps_are_added_to_a_run_whose_history_is_too_large() -> None:
    made = driver()
    request = Request("token", AddSteps((Step("second", "act"),), seal=False))
    assert end_of(made, HistorySize(101, 100), request) is not None
    assert made.answers["token"] is not None
