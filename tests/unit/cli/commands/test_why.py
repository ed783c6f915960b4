"""What `stepwave why` says of a run."""

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


def said(*steps: StepExplanation, run: Run = RUN, count: int | None = None) -> list[str]:
    """Return what is said of a run with steps that have not ended."""
    explanation = RunExplanation(run, NOW, steps, len(steps) if count is None else count)
    return [line.plain for line in _lines(explanation)]


def said_of(step: StepExplanation) -> str:
    """Return what is said of a step, without its name."""
    return said(step)[-1].removeprefix(step.step_id).strip()


def test_a_run_is_explained_step_by_step() -> None:
    waits = replace(WAITS, waits_for=("weather",), waits_for_count=1)
    assert said(replace(RUNS, where=WHERE), waits) == [
        f"{RUN_ID}  briefing  running 12.0 s",
        "not ended: 2 of 4 steps",
        "",
        "weather  running 12.0 s, attempt 1  tools.py:14 in fetch: await client.get(...)",
        "brief    waits for weather (running 12.0 s)",
    ]


def test_a_line_that_cannot_be_read_still_has_its_place() -> None:
    where = replace(WHERE, file="/srv/tools.py", text="")
    assert said_of(replace(RUNS, where=where)) == "running 12.0 s, attempt 1  /srv/tools.py:14 in fetch"


def test_an_attempt_that_is_interrupted_says_so() -> None:
    step = replace(RUNS, message="it is being interrupted")
    assert said_of(step) == "running 12.0 s, attempt 1: it is being interrupted"


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (WaitCause.CONCURRENCY, "waits 12.0 s for a place: says the limit"),
        (WaitCause.RATE, "waits 12.0 s for a rate limit: says the limit"),
        (WaitCause.ACTION_MISSING, "waits 12.0 s for a server with the action summarise"),
        (WaitCause.EXTERNAL, "waits 12.0 s for an answer from outside: says the limit"),
        (WaitCause.UNKNOWN, "waits 12.0 s for unknown: says the limit"),
    ],
)
def test_what_a_step_waits_for_is_said_and_since_when(cause: WaitCause, words: str) -> None:
    assert said_of(replace(WAITS, cause=cause, since=START, message="says the limit")) == words


@pytest.mark.parametrize(
    ("left", "words"),
    [(2.5, "pauses for another 2.50 s, attempt 2 failed"), (-1, "pauses, attempt 2 failed")],
)
def test_a_pause_says_how_long_it_lasts(left: float, words: str) -> None:
    until = NOW + timedelta(seconds=left)
    assert said_of(replace(RUNS, attempt=2, since=None, until=until, cause=WaitCause.BACKOFF)) == words


def test_very_many_steps_to_wait_for_are_counted() -> None:
    step = replace(WAITS, waits_for=tuple("abcdefghij"), waits_for_count=40, message="any one of them")
    assert said_of(step) == "waits for a, b, c, 37 more: any one of them"


def test_what_the_awaited_steps_do_is_said_beside_them() -> None:
    placeless = replace(WAITS, step_id="a", cause=WaitCause.CONCURRENCY)
    pausing = replace(RUNS, step_id="b", since=None, cause=WaitCause.BACKOFF)
    lines = said(placeless, pausing, replace(WAITS, waits_for=("a", "b"), waits_for_count=2))
    assert lines[-1] == "brief  waits for a (waits for a place), b (pauses)"


def test_very_many_steps_are_cut_short_and_counted() -> None:
    lines = said(*[WAITS] * 100, count=5_000)
    assert lines[-1] == "and 4,960 more steps"
    assert len(lines) == 3 + 40 + 1


@pytest.mark.parametrize(
    ("run", "note"),
    [
        (replace(RUN, paused=True), "paused: its server leaves it alone"),
        (replace(RUN, stopping=True), "stopping: nothing more starts"),
        (replace(RUN, missing_actions=("search",)), "waits for a server with the action search"),
    ],
)
def test_what_keeps_the_whole_run_from_moving_comes_first(run: Run, note: str) -> None:
    assert said(WAITS, run=run)[2].startswith(note)


def test_a_run_that_ended_is_referred_to_its_report() -> None:
    run = replace(RUN, state=State.SUCCEEDED, end_time=NOW)
    assert said(run=run) == [
        f"{RUN_ID} has ended: succeeded after 12.0 s; where its time went: stepwave report {RUN_ID}"
    ]


def test_a_run_that_failed_is_referred_to_its_failures_too() -> None:
    run = replace(RUN, state=State.FAILED, end_time=NOW)
    assert f"; why: stepwave result {RUN_ID};" in said(run=run)[0]


def test_words_of_a_server_cannot_steer_the_terminal() -> None:
    where = CodeLine("f\x1b[2J", "/srv/a.py", 1, "x = '\x1b[2J'")
    assert "\x1b" not in said_of(replace(RUNS, where=where))
