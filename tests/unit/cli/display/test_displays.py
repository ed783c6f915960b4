"""What each display writes, and where."""

import asyncio
import io
import json

import pytest
from rich.console import Console

from stepwave._model.results import State
from stepwave.cli.display.displays import JsonDisplay, LiveDisplay, OutputMode, QuietDisplay, TextDisplay, make_display
from stepwave.cli.display.run_view import RunView
from unit.cli.script import Script


def terminal() -> tuple[Console, io.StringIO]:
    """Return a console that believes to be a terminal of 80 by 24, and what it wrote."""
    written = io.StringIO()
    return Console(file=written, force_terminal=True, width=80, height=24, color_system=None), written


async def test_the_live_display_leaves_its_last_picture() -> None:
    console, written = terminal()
    display = LiveDisplay(RunView(), console)
    script = Script(("search",)).started("search").succeeded("search").finished(State.SUCCEEDED)
    for event in script.events:
        display.show(event)
    display.close()
    last = written.getvalue().rpartition("briefing-7k3f9q2m")[2]
    assert last.splitlines()[0].split() == ["succeeded", "300", "ms"]
    assert "✓ search" in last


async def test_a_burst_of_events_costs_one_picture() -> None:
    console, written = terminal()
    display = LiveDisplay(RunView(), console)
    for event in Script(tuple(f"s{index}" for index in range(1_000))).started(*(f"s{n}" for n in range(1_000))).events:
        display.show(event)
    await asyncio.sleep(0)
    display.close()
    assert written.getvalue().count("briefing-7k3f9q2m") <= 4


async def test_messages_stand_above_the_picture() -> None:
    console, written = terminal()
    display = LiveDisplay(RunView(), console)
    display.show(Script(("search",)).events[0])
    display.say("cancelling briefing-7k3f9q2m")
    display.close()
    assert written.getvalue().index("cancelling") < written.getvalue().rindex("· search")


async def test_closing_again_changes_nothing() -> None:
    console, written = terminal()
    display = LiveDisplay(RunView(), console)
    display.show(Script(("search",)).events[0])
    display.close()
    before = written.getvalue()
    display.close()
    assert written.getvalue() == before


def test_a_live_display_that_saw_no_event_writes_nothing() -> None:
    console, written = terminal()
    LiveDisplay(RunView(), console).close()
    assert written.getvalue() == ""


def test_the_text_display_writes_a_line_for_each_event_however_long() -> None:
    console, written = terminal()
    script = Script(("search",)).started("search").progress("search", None, "word " * 100)
    display = TextDisplay(console)
    for event in script.events:
        display.show(event)
    assert len(written.getvalue().splitlines()) == len(script.events)


def test_the_json_display_writes_events_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    script = Script(("search",)).started("search").chunk("search", {"é": 1})
    display = JsonDisplay()
    for event in script.events:
        display.show(event)
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [event.to_dict() for event in script.events]


def test_as_text_a_rerun_and_a_paused_run_say_so_first(capsys: pytest.CaptureFixture[str]) -> None:
    make_display(OutputMode.TEXT, rerun_of="briefing-1", paused_at=3)
    assert capsys.readouterr().err == "rerun of briefing-1\npaused: its server leaves it alone\n"


def test_without_a_terminal_the_default_is_text() -> None:
    assert isinstance(make_display(None), TextDisplay)


def test_the_quiet_display_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    QuietDisplay().show(Script(("search",)).events[0])
    assert capsys.readouterr() == ("", "")
