"""The lines of the text display: one for each event."""

from dataclasses import replace

import pytest

from stepwave._model.events import Event, LogLevel, UnknownEvent, WaitCause
from stepwave._model.results import State
from stepwave.cli.display.lines import EventLines
from unit.cli.script import RUN_ID, START, Script, failure


def lines(script: Script) -> list[str]:
    """Return a script's lines, without the times."""
    formatter = EventLines()
    found = [formatter.line(event) for event in script.events]
    return [line.split(" s  ", 1)[1] for line in found if line is not None]


def test_each_kind_of_event_has_a_line() -> None:
    error = failure("no route\nto host", file="/app/tools.py", line="14")
    script = Script(("search", "weather"), ("brief",)).wave_started(0).started("search", "weather")
    script.chunk("search", {"n": 1}).progress("search", 0.5, "halfway").waiting("brief").retrying("weather", error)
    script.succeeded("search").failed("weather", error).skipped("brief", "weather").stopping("enough")
    script.finished(State.FAILED)
    assert lines(script) == [
        "run      started    briefing-7k3f9q2m: briefing, 3 steps in 2 waves",
        "wave 0   started",
        "search   started    tools.search",
        "weather  started    tools.search",
        'search   chunk      {"n": 1}',
        "search   progress   50% halfway",
        "brief    waiting    for concurrency",
        "weather  retrying   attempt 1 failed: no route to host (/app/tools.py:14)",
        "search   succeeded  600 ms",
        "weather  failed     600 ms: no route to host (/app/tools.py:14)",
        "brief    skipped    needs weather",
        "run      stopping   enough",
        "run      failed     1.20 s, 1 succeeded, 1 failed, 1 skipped",
    ]


def test_a_log_message_has_its_level_and_keeps_its_lines() -> None:
    script = Script(("search",)).log("search", "three\thits\n  first\x1b[31m\r\n", LogLevel.WARNING)
    assert lines(script)[1] == "search  warning    three   hits\n      first [31m"


def test_retries_and_fallbacks_have_a_line_each() -> None:
    error = failure("no route")
    script = Script(("step-a", "step-b")).started("step-a").retrying("step-a", error).ready("step-a", 2)
    script.retrying("step-a", error, attempt=2, fallback=True).fell_back("step-a", error)
    script.retrying("step-b", error, attempt=0, fallback=True)
    assert lines(script)[2:] == [
        "step-a  retrying   attempt 1 failed: no route",
        "step-a  ready      attempt 2",
        "step-a  retrying   attempt 2 failed: no route; its fallback follows",
        "step-a  succeeded  400 ms, by its fallback: no route",
        "step-b  retrying   failed before its first attempt: no route; its fallback follows",
    ]


def test_the_attempt_of_a_fallback_is_one_of_the_attempts() -> None:
    error = failure("no route")
    script = Script(("a",)).started("a").retrying("a", error, fallback=True).started("a", attempt=2)
    assert lines(script.fell_back("a", error, attempts=2))[-2:] == [
        "a       started    tools.search, attempt 2, the fallback",
        "a       succeeded  300 ms in 2 attempts, the last by its fallback: no route",
    ]


def test_a_fallbacks_fixed_value_is_none_of_the_attempts() -> None:
    error = replace(failure("no route"), attempt=2)
    script = Script(("a",)).started("a").started("a", attempt=2).fell_back("a", error, attempts=2)
    assert lines(script)[-1] == "a       succeeded  200 ms in 2 attempts, by its fallback: no route"


def test_a_step_whose_action_is_missing_waits_for_a_server_that_has_it() -> None:
    script = Script(("search",)).started("search").waiting("search", cause=WaitCause.ACTION_MISSING)
    assert lines(script)[-1] == "search  waiting    for a server with the action tools.search"


def test_for_an_unknown_missing_action_the_servers_message_is_shown() -> None:
    script = Script(("search",)).waiting("search", 'this server has no action "x"', WaitCause.ACTION_MISSING)
    assert lines(script)[-1].endswith('for a server with its action: this server has no action "x"')


def test_a_reused_step_names_the_earlier_run() -> None:
    script = Script(("search",)).reused("search", "briefing-1")
    assert lines(script)[-1] == "search  succeeded  taken over from briefing-1"


def test_times_are_relative_to_the_runs_start() -> None:
    formatter = EventLines()
    written = [formatter.line(event) or "" for event in Script(("a",)).started("a").events]
    assert [line[:11] for line in written] == ["    0.000 s", "    0.100 s"]


@pytest.mark.parametrize("event", [UnknownEvent(RUN_ID, 3, START)])
def test_an_unknown_event_has_a_line(event: Event) -> None:
    assert (EventLines().line(event) or "").endswith("run     unknown")


def test_events_with_control_characters_have_one_line_each() -> None:
    script = (
        Script(("a",)).started("a").chunk("a", "x\ny\x1b[2J").progress("a", None, "p\r\nq").failed("a", failure("\n"))
    )
    assert all(line.isprintable() for line in lines(script))
