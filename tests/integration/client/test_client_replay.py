"""Replays of runs exported from a real server."""

import pickle
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from stepwave import (
    AsyncClient,
    Client,
    InvalidExport,
    NotFound,
    ReplayDiverged,
    Rerun,
    RunExport,
    StepFinished,
    StepStarted,
    Unsupported,
    Workflow,
    action,
)
from stepwave.testing import replay


@action
def boom(input: object) -> None:
    raise LookupError("nothing there")


@pytest.fixture
def stepwave_actions() -> Iterable[object]:
    return [boom]


def mixed(scheduling: str = "eager") -> Workflow:
    """Return a workflow whose steps succeed, fail, are skipped, and get inputs of every kind."""
    flow = Workflow("mixed", scheduling="wave" if scheduling == "wave" else "eager", failure_policy="continue")
    top = flow.step("top", "core.echo", {"n": flow.input["n"], "list": [1]})
    flow.step("left", "core.echo", {"got": top.output["list"][0]})
    bad = flow.step("bad", boom, top.output)
    flow.step("after", "core.echo", depends_on=[bad])
    flow.step("nowhere", "core.echo", top.output["such"])
    flow.step("last", "core.echo", depends_on=["left", "bad"], join="all_done")
    return flow


@pytest.fixture
def export(stepwave_client: Client) -> RunExport:
    run_id = stepwave_client.run(mixed(), {"n": 2**53 + 1}, check=False).run_id
    return stepwave_client.export(run_id)


def place_of(export: RunExport, kind: str) -> int:
    """Return the index of the first event of a kind."""
    return next(place for place, event in enumerate(export.events) if event.WhichOneof("kind") == kind)


@pytest.mark.parametrize("scheduling", ["eager", "wave"])
def test_a_run_is_replayed_without_a_difference(stepwave_client: Client, scheduling: str) -> None:
    run_id = stepwave_client.run(mixed(scheduling), {"n": 1}, check=False).run_id
    replay(stepwave_client.export(run_id))


def test_a_run_is_replayed_from_its_file(export: RunExport, tmp_path: Path) -> None:
    export.save(tmp_path / "run.json")
    replay(tmp_path / "run.json")


def test_a_rerun_with_reused_outputs_is_replayed(stepwave_client: Client, export: RunExport) -> None:
    again = stepwave_client.run(Rerun(export.run_id, from_failed=True), check=False).run_id
    replay(stepwave_client.export(again))


@pytest.mark.stepwave(max_payload_bytes=1_024)
def test_a_run_whose_input_was_too_large_for_its_server_is_decided_as_it_was(stepwave_client: Client) -> None:
    flow = Workflow("large")
    parts = [flow.step(name, "core.echo", "x" * 600) for name in ("left", "right")]
    flow.step("both", "core.echo", depends_on=parts)
    result = stepwave_client.run(flow, check=False)
    failure = result.steps["both"].failure
    assert failure is not None
    assert (failure.reason, result.steps["both"].attempts) == ("resource_exhausted", 0)
    export = stepwave_client.export(result.run_id)
    assert export.definition.max_payload_bytes == 1_024
    replay(export)


def test_a_run_that_has_not_ended_is_replayed_up_to_its_last_event(stepwave_client: Client) -> None:
    flow = mixed()
    flow.step("held", "core.sleep", {"seconds": 600})
    with stepwave_client.stream(flow, {"n": 1}) as run:
        next(event for event in run if isinstance(event, StepFinished))
        replay(stepwave_client.export(run.run_id))


@pytest.mark.stepwave
async def test_the_async_client_exports_too(stepwave_server: str, export: RunExport) -> None:
    async with AsyncClient(stepwave_server) as client:
        assert await client.export(export.run_id) == export


def test_an_export_has_the_events_that_a_watch_shows(stepwave_client: Client, export: RunExport) -> None:
    with stepwave_client.watch(export.run_id) as events:
        seen = [event.sequence for event in events if event.sequence]
    assert [event.sequence for event in export.events] == seen


def test_a_diverged_replay_names_the_first_difference(export: RunExport) -> None:
    place = place_of(export, "step_started")
    export.events[place].step_started.wave = 7
    with pytest.raises(ReplayDiverged) as caught:
        replay(export)
    diverged = caught.value
    assert (diverged.run_id, diverged.sequence) == (export.run_id, place + 1)
    assert isinstance(diverged.expected, StepStarted)
    assert diverged.expected.wave == 7
    assert f"event {place + 1}: " in str(diverged)


def test_a_divergence_has_both_events(export: RunExport) -> None:
    place = place_of(export, "step_started")
    export.events[place].step_started.wave = 7
    with pytest.raises(ReplayDiverged) as caught:
        replay(export)
    assert isinstance(caught.value.got, StepStarted)
    assert caught.value.got.wave == 0


def test_a_divergence_can_be_pickled(export: RunExport) -> None:
    export.events[place_of(export, "step_started")].step_started.wave = 7
    with pytest.raises(ReplayDiverged) as caught:
        replay(export)
    assert pickle.loads(pickle.dumps(caught.value)).sequence == caught.value.sequence


def test_an_edited_and_invalid_workflow_is_refused(export: RunExport) -> None:
    export.definition.workflow.steps[1].depends_on.append("serach")
    with pytest.raises(InvalidExport, match='unknown step "serach"'):
        replay(export)


def test_a_run_of_a_newer_scheduler_is_refused(export: RunExport) -> None:
    export.definition.scheduler_version = 1_000
    with pytest.raises(Unsupported, match="version 1000 of the scheduler"):
        replay(export)


def test_a_workflow_of_a_newer_server_is_refused(export: RunExport) -> None:
    export.definition.workflow.steps[0].join = 99  # type: ignore[assignment]  # a value of a later version
    with pytest.raises(Unsupported) as caught:
        replay(export)
    assert [violation.field for violation in caught.value.violations] == ["steps[0].join"]


def test_an_unknown_run_cannot_be_exported(stepwave_client: Client) -> None:
    with pytest.raises(NotFound):
        stepwave_client.export("nowhere")


def test_without_the_server_a_replay_names_the_extra_to_install(
    export: RunExport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "stepwave._reports.replay", raising=False)
    monkeypatch.setitem(sys.modules, "simplejson", None)
    monkeypatch.delitem(sys.modules, "stepwave_server.engine.evaluation.json_evaluator")
    with pytest.raises(ModuleNotFoundError, match=r"a replay needs simplejson: pip install 'stepwave\[server\]'"):
        replay(export)
