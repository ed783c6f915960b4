"""What each display writes, and to which stream."""

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
    """Return a console for a terminal of 80 by 24, and its output."""
    output = io.StringIO()
    return Console(file=output, force_terminal=True, width=80, height=24, color_system=None), output


async def test_the_live_display_leaves_its_last_frame_on_the_screen() -> None:
    console, output = terminal()
    display = LiveDisplay(RunView(), console)
    script = Script(("search",)).started("search").succeeded("search").finished(State.SUCCEEDED)
    for event in script.events:
        display.show(event)
    display.close()
    last = output.getvalue().rpartition("briefing-7k3f9q2m")[2]
    assert last.splitlines()[0].split() == ["succeeded", "300", "ms"]
    assert "✓ search" in last


async def test_a_burst_of_events_is_drawn_in_one_frame() -> None:
    console, output = terminal()
    display = LiveDisplay(RunView(), console)
    for event in Script(tuple(f"s{index}" for index in range(1_000))).started(*(f"s{n}" for n in range(1_000))).events:
        display.show(event)
    await asyncio.sleep(0)
    display.close()
    assert output.getvalue().count("briefing-7k3f9q2m") <= 4


async def test_messages_are_shown_above_the_frame() -> None:
    console, output = terminal()
    display = LiveDisplay(RunView(), console)
    display.show(Script(("search",)).events[0])
    display.show_message("cancelling briefing-7k3f9q2m")
    display.close()
    assert output.getvalue().index("cancelling") < output.getvalue().rindex("· search")


async def test_log_messages_are_printed_above_the_frame_and_stay() -> None:
    console, output = terminal()
    display = LiveDisplay(RunView(), console)
    script = Script(("search",)).started("search").log("search", "three hits\nof ten").log("search", "done", attempt=2)
    for event in script.events:
        display.show(event)
    await asyncio.sleep(0)
    display.close()
    shown = output.getvalue()
    assert shown.count("info      search  three hits\n") == shown.count("\n    of ten\n") == 1
    assert shown.index("three hits") < shown.index("info      search (attempt 2)  done") < shown.rindex("search  tools")


async def test_log_messages_until_the_end_are_printed() -> None:
    console, output = terminal()
    display = LiveDisplay(RunView(), console)
    for event in Script(("search",)).log("search", "the last words").events:
        display.show(event)
    display.close()
    assert output.getvalue().count("the last words") == 1


async def test_of_many_log_messages_between_two_frames_the_newest_are_printed() -> None:
    console, output = terminal()
    display = LiveDisplay(RunView(), console)
    script = Script(("search",))
    for number in range(1_000):
        script.log("search", f"message {number}.")
    for event in script.events:
        display.show(event)
    display.close()
    shown = output.getvalue()
    assert "800 log messages left out" in shown
    assert "message 799." not in shown
    assert all(f"message {number}." in shown for number in range(800, 1_000))


async def test_a_lost_connection_is_shown_until_it_is_back() -> None:
    console, output = terminal()
    display = LiveDisplay(RunView(), console)
    display.show(Script(("search",)).events[0])
    display.show_connection(lost=True)
    await asyncio.sleep(0)
    assert "server gone for " in output.getvalue()
    before = len(output.getvalue())
    display.show_connection(lost=False)
    display.close()
    assert "server gone" not in output.getvalue()[before:]


class _TerminalFile(io.StringIO):
    """The output to a terminal."""

    def isatty(self) -> bool:
        return True


async def test_each_frame_is_one_synchronised_update_on_a_terminal() -> None:
    output = _TerminalFile()
    display = LiveDisplay(RunView(), Console(file=output, force_terminal=True, width=80, height=24))
    display.show(Script(("search",)).events[0])
    await asyncio.sleep(0)
    display.close()
    before, *updates = output.getvalue().split("\x1b[?2026h")
    assert "search" in output.getvalue()
    assert "search" not in before
    assert all("search" not in update.partition("\x1b[?2026l")[2] for update in updates)


async def test_a_synchronised_update_does_not_shorten_a_line() -> None:
    output = _TerminalFile()
    display = LiveDisplay(RunView(), Console(file=output, force_terminal=True, width=80, height=24, color_system=None))
    script = Script(("search",)).started("search").succeeded("search").finished(State.SUCCEEDED)
    for event in script.events:
        display.show(event)
    display.close()
    last = output.getvalue().rpartition("briefing-7k3f9q2m")[2]
    assert last.splitlines()[0].split() == ["succeeded", "300", "ms"]


async def test_frames_are_not_marked_as_updates_if_there_is_no_terminal() -> None:
    console, output = terminal()
    display = LiveDisplay(RunView(), console)
    display.show(Script(("search",)).events[0])
    display.close()
    assert "?2026" not in output.getvalue()


async def test_a_frame_that_a_narrower_terminal_has_wrapped_is_erased_completely() -> None:
    console, output = terminal()
    display = LiveDisplay(RunView(), console)
    display.show(Script(("search",)).events[0])  # a header of 80 cells, counts of 41, and two short lines
    await asyncio.sleep(0)
    before = len(output.getvalue())
    console.width = 30
    display.close()
    assert output.getvalue()[before:].startswith("\r\x1b[6A\x1b[J")  # 3 + 2 + 1 + 1 rows


async def test_erasing_a_wrapped_frame_ends_at_the_top_of_the_screen() -> None:
    console, output = terminal()
    display = LiveDisplay(RunView(), console)
    display.show(Script(tuple(f"s{index}" * 10 for index in range(100))).events[0])
    await asyncio.sleep(0)
    before = len(output.getvalue())
    console.width = 20
    display.close()
    assert output.getvalue()[before:].startswith("\r\x1b[23A\x1b[J")


async def test_closing_a_display_again_writes_nothing() -> None:
    console, output = terminal()
    display = LiveDisplay(RunView(), console)
    display.show(Script(("search",)).events[0])
    display.close()
    before = output.getvalue()
    display.close()
    assert output.getvalue() == before


def test_a_live_display_without_events_writes_nothing() -> None:
    console, output = terminal()
    LiveDisplay(RunView(), console).close()
    assert output.getvalue() == ""


def test_the_text_display_writes_a_line_for_each_event_however_long() -> None:
    console, output = terminal()
    script = Script(("search",)).started("search").progress("search", None, "word " * 100)
    display = TextDisplay(console)
    for event in script.events:
        display.show(event)
    assert len(output.getvalue().splitlines()) == len(script.events)


def test_the_json_display_writes_events_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    script = Script(("search",)).started("search").chunk("search", {"é": 1})
    display = JsonDisplay()
    for event in script.events:
        display.show(event)
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [event.to_dict() for event in script.events]


def test_the_text_display_starts_with_the_earlier_run_and_the_pause(capsys: pytest.CaptureFixture[str]) -> None:
    make_display(OutputMode.TEXT, rerun_of="briefing-1", paused_at=3)
    assert capsys.readouterr().err == "rerun of briefing-1\npaused: its server does not continue it\n"


def test_without_a_terminal_the_default_is_text() -> None:
    assert isinstance(make_display(None), TextDisplay)


def test_the_quiet_display_writes_no_events(capsys: pytest.CaptureFixture[str]) -> None:
    QuietDisplay().show(Script(("search",)).events[0])
    assert capsys.readouterr() == ("", "")
