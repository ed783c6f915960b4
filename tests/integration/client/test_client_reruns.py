"""Reruns and lists of runs, through both clients and a real server."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest

from stepwave import (
    AsyncClient,
    Client,
    FailedPrecondition,
    NotFound,
    Rerun,
    RunFailed,
    State,
    StepFinished,
    Workflow,
    action,
)


class Flaky:
    """An action that fails until it is fixed, and counts its calls."""

    def __init__(self) -> None:
        self.fixed = False
        self.calls = 0

    def __call__(self, input: object) -> object:
        self.calls += 1
        if not self.fixed:
            raise LookupError("not yet")
        return input


@pytest.fixture
def flaky() -> Flaky:
    return Flaky()


@pytest.fixture
def stepwave_actions(flaky: Flaky) -> Iterable[object]:
    @action("flaky")
    def call(input: object) -> object:
        return flaky(input)

    return [call]


@pytest.fixture
def failed(stepwave_client: Client) -> str:
    """Return the id of a run whose second step failed."""
    flow = Workflow("pair", labels={"team": "a"})
    first = flow.step("first", "core.echo", {"city": flow.input["city"]})
    flow.step("second", "flaky", first.output["city"])
    with pytest.raises(RunFailed):
        stepwave_client.run(flow, {"city": "Oslo"}, run_id="pair-1")
    return "pair-1"


def test_a_rerun_runs_all_steps_again_on_the_same_input(stepwave_client: Client, flaky: Flaky, failed: str) -> None:
    flaky.fixed = True
    result = stepwave_client.rerun(failed)
    assert result.outputs == {"second": "Oslo"}
    assert [step.reused_from for step in result.steps.values()] == ["", ""]
    assert stepwave_client.get(result.run_id).rerun_of == failed


def test_a_rerun_from_failed_reuses_successful_steps(stepwave_client: Client, flaky: Flaky, failed: str) -> None:
    flaky.fixed = True
    with stepwave_client.stream(Rerun(failed, from_failed=True)) as run:
        ends = {event.result.step_id: event.result for event in run if isinstance(event, StepFinished)}
    assert [(step.attempts, step.reused_from) for step in ends.values()] == [(0, failed), (1, "")]
    assert run.result.outputs == {"second": "Oslo"}


def test_a_rerun_can_be_started_under_a_given_id(stepwave_client: Client, flaky: Flaky, failed: str) -> None:
    flaky.fixed = True
    started = stepwave_client.start(Rerun(failed), run_id="again")
    assert (started.run_id, started.rerun_of) == ("again", failed)
    assert stepwave_client.wait("again").succeeded


def test_a_rerun_that_fails_raises_unless_check_is_false(stepwave_client: Client, failed: str) -> None:
    with pytest.raises(RunFailed):
        stepwave_client.rerun(failed)
    assert stepwave_client.rerun(failed, check=False).state is State.FAILED


def test_the_same_rerun_twice_under_one_id_runs_once(stepwave_client: Client, flaky: Flaky, failed: str) -> None:
    flaky.fixed = True
    first = stepwave_client.rerun(failed, new_run_id="once")
    calls = flaky.calls
    assert stepwave_client.rerun(failed, new_run_id="once") == first
    assert flaky.calls == calls


@pytest.mark.stepwave
async def test_the_async_client_awaits_and_iterates_over_a_rerun(
    stepwave_server: str, flaky: Flaky, failed: str
) -> None:
    flaky.fixed = True
    async with AsyncClient(stepwave_server) as client:
        assert (await client.rerun(failed)).succeeded
        async with client.rerun(failed, from_failed=True, new_run_id="iterated") as run:
            numbers = [event.sequence async for event in run]
    assert run.run_id == "iterated"
    assert numbers == list(range(1, len(numbers) + 1))


def test_an_unknown_run_cannot_be_run_again(stepwave_client: Client) -> None:
    with pytest.raises(NotFound):
        stepwave_client.rerun("nowhere")


def test_a_run_under_way_cannot_be_run_again(stepwave_client: Client) -> None:
    flow = Workflow("blocked")
    flow.step("a", "core.sleep", {"seconds": 600})
    run_id = stepwave_client.start(flow).run_id
    with pytest.raises(FailedPrecondition):
        stepwave_client.rerun(run_id)


def test_runs_are_found_by_their_labels(stepwave_client: Client, failed: str) -> None:
    assert [run.run_id for run in stepwave_client.runs(labels={"team": "a"})] == [failed]
    assert list(stepwave_client.runs(labels={"team": "b"})) == []


def test_runs_are_found_by_when_they_were_accepted(stepwave_client: Client, failed: str) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    assert [run.run_id for run in stepwave_client.runs(since=later - timedelta(hours=2), until=later)] == [failed]
    assert list(stepwave_client.runs(since=later)) == []
    accepted = stepwave_client.get(failed).create_time
    assert list(stepwave_client.runs(until=accepted - timedelta(seconds=1))) == []
