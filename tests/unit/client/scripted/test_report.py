"""The report of a scripted run, and its failing assertions."""

from datetime import timedelta

import pytest

from stepwave import Fallback, Retry, State, StepFinished, Workflow
from stepwave.testing import Hangs, ScriptedRun, Takes, run_scripted

RETRY = Retry(max_attempts=3, initial_backoff=10, jitter=0)


def briefing() -> Workflow:
    """Return a workflow with a retried step, a fallback, and a skipped step."""
    flow = Workflow("briefing", failure_policy="continue")
    sky = flow.step("weather", "weather", {"city": flow.input["city"]}, retry=RETRY)
    flow.step("news", "news", {}, fallback=Fallback(value=[]))
    flow.step("brief", "core.echo", {"sky": sky.output})
    flow.step("mail", "mail", {}, timeout=60)
    flow.step("log", "core.echo", depends_on=["mail"])
    return flow


@pytest.fixture(scope="module")
def run() -> ScriptedRun:
    script = {"weather": [ConnectionError("gone"), Takes(5, "sun")], "news": [ValueError("no\nnews")], "mail": Hangs}
    return run_scripted(briefing(), script, {"city": "Oslo"}, check=False)


def test_every_attempt_is_reported_with_its_input_and_times(run: ScriptedRun) -> None:
    first, second = run.attempts_of("weather")
    assert (first.number, first.action, first.input) == (1, "weather", {"city": "Oslo"})
    assert (first.start, first.end, first.next) == (timedelta(0), timedelta(0), timedelta(seconds=10))
    assert (second.start, second.end, second.next) == (timedelta(seconds=10), timedelta(seconds=15), None)
    assert second.failure is None


def test_a_scripted_run_has_its_result(run: ScriptedRun) -> None:
    assert run.state is State.FAILED
    assert run.outputs == {"news": [], "brief": {"sky": "sun"}}
    assert run.elapsed == timedelta(seconds=60)
    assert isinstance(run.events[-2], StepFinished) or run.events[-1].kind == "run_finished"


def test_steps_are_in_the_order_of_their_first_attempts(run: ScriptedRun) -> None:
    assert run.order == ("weather", "news", "mail", "brief")


def test_one_step_started_before_another_or_had_ended_before_it(run: ScriptedRun) -> None:
    assert run.started_before("weather", "mail")
    assert not run.started_before("mail", "weather")
    assert run.ended_before("weather", "brief")
    assert not run.ended_before("weather", "mail")


@pytest.mark.parametrize("claim", [ScriptedRun.started_before, ScriptedRun.ended_before])
def test_a_step_that_never_started_is_neither_before_nor_after_another(run: ScriptedRun, claim: object) -> None:
    assert callable(claim)
    assert not claim(run, "log", "brief")
    assert not claim(run, "brief", "log")


@pytest.mark.parametrize("ask", [ScriptedRun.attempts, ScriptedRun.attempts_of, ScriptedRun.story])
def test_an_unknown_step_is_an_error(run: ScriptedRun, ask: object) -> None:
    assert callable(ask)
    with pytest.raises(ValueError, match="no step 'wether'; there are weather, news, brief, mail, log"):
        ask(run, "wether")


def test_an_unknown_step_is_an_error_in_comparisons(run: ScriptedRun) -> None:
    for compare in (run.started_before, run.ended_before, run.assert_order):
        with pytest.raises(ValueError, match="no step 'wether'"):
            compare("weather", "wether")


def test_a_wrong_number_of_attempts_describes_each(run: ScriptedRun) -> None:
    run.assert_attempts("weather", 2)
    with pytest.raises(AssertionError) as caught:
        run.assert_attempts("weather", 3)
    assert str(caught.value).splitlines() == [
        "expected 3 attempts of step 'weather', got 2",
        "step 'weather': succeeded, 2 attempts",
        "  attempt 1, weather, 0:00:00 to 0:00:00: unavailable: ConnectionError: gone; again from 0:00:10 on",
        "  attempt 2, weather, 0:00:10 to 0:00:15: answered",
    ]


def test_a_wrong_order_shows_the_whole_run(run: ScriptedRun) -> None:
    run.assert_order("weather", "brief")
    with pytest.raises(AssertionError) as caught:
        run.assert_order("brief", "weather")
    assert str(caught.value).splitlines() == [
        "expected the order brief, weather; got weather, brief",
        *str(run).splitlines(),
    ]


def test_a_step_of_an_order_that_never_started_fails_it(run: ScriptedRun) -> None:
    with pytest.raises(AssertionError, match="expected the order mail, log; got mail"):
        run.assert_order("mail", "log")


def test_a_run_is_described_step_by_step(run: ScriptedRun) -> None:
    assert str(run).splitlines() == [
        "<scripted run of 'briefing': failed after 0:01:00>",
        "step 'weather': succeeded, 2 attempts",
        "  attempt 1, weather, 0:00:00 to 0:00:00: unavailable: ConnectionError: gone; again from 0:00:10 on",
        "  attempt 2, weather, 0:00:10 to 0:00:15: answered",
        "step 'news': succeeded by its fallback, 1 attempt",
        "  attempt 1, news, 0:00:00 to 0:00:00: action_error: ValueError: no",
        "step 'brief': succeeded, 1 attempt",
        "  attempt 1, core.echo, 0:00:15 to 0:00:15: answered",
        "step 'mail': failed, 1 attempt",
        "  attempt 1, mail, 0:00:00 to 0:01:00: timeout: the attempt took longer than the step's timeout of 60 s",
        "step 'log': skipped (dependency: mail), 0 attempts",
    ]
