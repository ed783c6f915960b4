"""The output of `stepwave why`."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from stepwave import CodeLine, Counts, Run, RunExplanation, State, StepExplanation, WaitCause
from stepwave.cli.commands.why import _lines
from unit.cli.script import RUN_ID, START

NOW = START + timedelta(seconds=12)
RUN = Run(
    run_id=RUN_ID,
    namespace="default",
    workflow_name="briefing",
    state=State.RUNNING,
    labels={},
    create_time=START,
    start_time=START,
    end_time=None,
    counts=Counts(1, 1, 2, 0, 0, 0),
    last_sequence=9,
    open=False,
    stopping=False,
)
WAITS = StepExplanation("brief", "summarise", State.PENDING, 0, None, None, (), 0, None, "", None)
RUNS = replace(WAITS, step_id="weather", state=State.RUNNING, attempt=1, since=START)
WHERE = CodeLine("Forecast.fetch", str(Path.cwd() / "tools.py"), 14, "await client.get(...)")


def lines_for(*steps: StepExplanation, run: Run = RUN, count: int | None = None) -> list[str]:
    """Return the lines for a run with these unfinished steps."""
    explanation = RunExplanation(run, NOW, steps, len(steps) if count is None else count)
    return [line.plain for line in _lines(explanation)]


def step_text(step: StepExplanation) -> str:
    """Return the text for a step, without its name."""
    return lines_for(step)[-1].removeprefix(step.step_id).strip()


def test_a_run_is_explained_step_by_step() -> None:
    waits = replace(WAITS, waits_for=("weather",), waits_for_count=1)
    assert lines_for(replace(RUNS, where=WHERE), waits) == [
        f"{RUN_ID}  briefing  running 12.0 s",
        "not ended: 2 of 4 steps",
        "",
        "weather  running 12.0 s, attempt 1  tools.py:14 in fetch: await client.get(...)",
        "brief    waits for weather (running 12.0 s)",
    ]


def test_a_line_without_its_text_has_its_place() -> None:
    where = replace(WHERE, file="/srv/tools.py", text="")
    assert step_text(replace(RUNS, where=where)) == "running 12.0 s, attempt 1  /srv/tools.py:14 in fetch"


def test_an_attempt_that_is_interrupted_is_marked() -> None:
    step = replace(RUNS, message="it is being interrupted")
    assert step_text(step) == "running 12.0 s, attempt 1: it is being interrupted"


@pytest.mark.parametrize(
    ("cause", "text"),
    [
        (WaitCause.CONCURRENCY, "waits 12.0 s for a place: the message of the limit"),
        (WaitCause.RATE, "waits 12.0 s for a rate limit: the message of the limit"),
        (WaitCause.ACTION_MISSING, "waits 12.0 s for a server with the action summarise"),
        (
            WaitCause.EXTERNAL,
            f"waits 12.0 s for an answer: stepwave approve {RUN_ID} brief; its input: the message of the limit",
        ),
        (WaitCause.UNKNOWN, "waits 12.0 s for unknown: the message of the limit"),
    ],
)
def test_a_waiting_step_has_its_cause_and_its_time(cause: WaitCause, text: str) -> None:
    assert step_text(replace(WAITS, cause=cause, since=START, message="the message of the limit")) == text


@pytest.mark.parametrize(
    ("left", "text"),
    [(2.5, "pauses for another 2.50 s, attempt 2 failed"), (-1, "pauses, attempt 2 failed")],
)
def test_a_backoff_has_its_remaining_time(left: float, text: str) -> None:
    until = NOW + timedelta(seconds=left)
    assert step_text(replace(RUNS, attempt=2, since=None, until=until, cause=WaitCause.BACKOFF)) == text


def test_many_dependencies_are_cut_short_and_counted() -> None:
    step = replace(WAITS, waits_for=tuple("abcdefghij"), waits_for_count=40, message="any one of them")
    assert step_text(step) == "waits for a, b, c, 37 more: any one of them"


def test_dependencies_are_shown_with_what_they_do() -> None:
    queued = replace(WAITS, step_id="a", cause=WaitCause.CONCURRENCY)
    backing_off = replace(RUNS, step_id="b", since=None, cause=WaitCause.BACKOFF)
    lines = lines_for(queued, backing_off, replace(WAITS, waits_for=("a", "b"), waits_for_count=2))
    assert lines[-1] == "brief  waits for a (waits for a place), b (pauses)"


def test_many_steps_are_cut_short_and_counted() -> None:
    lines = lines_for(*[WAITS] * 100, count=5_000)
    assert lines[-1] == "and 4,960 more steps"
    assert len(lines) == 3 + 40 + 1


@pytest.mark.parametrize(
    ("run", "note"),
    [
        (replace(RUN, paused=True), "paused: its server does not continue it"),
        (replace(RUN, stopping=True), "stopping: no more steps start"),
        (replace(RUN, missing_actions=("search",)), "waits for a server with the action search"),
    ],
)
def test_reasons_for_the_whole_run_come_first(run: Run, note: str) -> None:
    assert lines_for(WAITS, run=run)[2].startswith(note)


def test_an_ended_run_points_to_its_report() -> None:
    run = replace(RUN, state=State.SUCCEEDED, end_time=NOW)
    assert lines_for(run=run) == [
        f"{RUN_ID} has ended: succeeded after 12.0 s; where its time went: stepwave report {RUN_ID}"
    ]


def test_a_failed_run_points_to_its_failures_too() -> None:
    run = replace(RUN, state=State.FAILED, end_time=NOW)
    assert f"; why: stepwave result {RUN_ID};" in lines_for(run=run)[0]


def test_control_characters_from_the_server_are_removed() -> None:
    where = CodeLine("f\x1b[2J", "/srv/a.py", 1, "x = '\x1b[2J'")
    assert "\x1b" not in step_text(replace(RUNS, where=where))


def test_an_expanded_step_says_how_much_of_it_has_ended() -> None:
    step = replace(RUNS, attempt=0, message="412 of its 1,000 items have ended")
    assert step_text(step) == "412 of its 1,000 items have ended, running 12.0 s"


def test_children_of_a_list_that_wait_for_the_same_share_a_row() -> None:
    waits = replace(WAITS, cause=WaitCause.CONCURRENCY, since=START, message="its limit is 2")
    children = [replace(waits, step_id=f"pages[{index}]") for index in range(400)]
    rows = lines_for(*children)[3:]
    assert rows == ["pages[0], 399 more  waits 12.0 s for a place: its limit is 2"]


def test_the_first_running_children_of_a_list_have_a_row_each() -> None:
    children = [replace(RUNS, step_id=f"pages[{index}]") for index in range(20)]
    rows = lines_for(*children)[3:]
    assert [row.split("  ")[0] for row in rows] == [*(f"pages[{index}]" for index in range(5)), "pages[5], 14 more"]


def test_steps_of_the_workflows_of_items_that_wait_for_the_same_step_share_a_row() -> None:
    children = [
        replace(WAITS, step_id=f"pages[{index}]/parse", waits_for=(f"pages[{index}]/fetch",), waits_for_count=1)
        for index in range(9)
    ]
    assert lines_for(*children)[3:] == ["pages[0]/parse, 8 more  waits for pages[0]/fetch"]


def test_children_that_wait_for_someone_have_a_row_each() -> None:
    waits = replace(WAITS, state=State.RUNNING, attempt=1, cause=WaitCause.EXTERNAL, since=START)
    rows = lines_for(replace(waits, step_id="pages[0]"), replace(waits, step_id="pages[1]"))[3:]
    assert [row.rpartition(": ")[2] for row in rows] == [
        f"stepwave approve {RUN_ID} 'pages[0]'",
        f"stepwave approve {RUN_ID} 'pages[1]'",
    ]
