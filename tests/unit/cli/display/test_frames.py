"""The frames of the live view: what they show, and that they fit the terminal."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwave._model.events import WaitCause
from stepwave._model.results import State
from stepwave.cli.display.frames import frame
from stepwave.cli.display.run_view import RunView
from unit.cli.script import Script, failure

IDS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,60}", fullmatch=True)


def draw(
    script: Script, *, width: int = 100, height: int = 40, now: datetime | None = None, view: RunView | None = None
) -> list[str]:
    """Return the lines of the frame after a script."""
    view = view or RunView()
    for event in script.events:
        view.apply(event)
    lines = frame(view, width=width, height=height, now=now or script.now)
    assert all(line.cell_len <= width for line in lines)
    return [line.plain.rstrip() for line in lines]


def test_waves_list_their_steps_in_declaration_order() -> None:
    lines = draw(Script(("search", "weather"), ("brief",)))
    assert [line.split()[:2] for line in lines[2:]] == [
        ["wave", "0"],
        ["·", "search"],
        ["·", "weather"],
        ["wave", "1"],
        ["·", "brief"],
    ]


def test_the_header_shows_the_runs_id_state_time_and_counts() -> None:
    script = Script(("search", "weather")).started("search", "weather").succeeded("search")
    title, counts, *_ = draw(script)
    assert title.split() == ["briefing-7k3f9q2m", "running", "400", "ms"]
    assert counts.endswith("1/2 steps  1 running, 1 succeeded")


def test_the_header_names_the_workflow_if_the_runs_id_does_not() -> None:
    assert "  report  running" in draw(Script(("a",), name="report"))[0]


def test_the_header_shows_whether_steps_may_be_added() -> None:
    script = Script(("a",), is_open=True)
    assert draw(script)[0].split()[1:3] == ["running,", "open"]
    script.added("b").added("c", sealed=True)
    title, counts, *_ = draw(script)
    assert "open" not in title
    assert "0/3 steps" in counts


def test_the_time_of_a_running_step_counts_up() -> None:
    script = Script(("search",)).started("search")
    (line,) = [line for line in draw(script, now=script.now + timedelta(seconds=3)) if "search" in line]
    assert "tools.search" in line
    assert "3.10 s" in line


def test_progress_is_shown_as_a_bar_a_percentage_and_a_message() -> None:
    lines = draw(Script(("search",)).started("search").progress("search", 0.4, "reading\npages"))
    assert lines[-1].endswith("━━━━╌╌╌╌╌╌  40% reading pages")


def test_the_end_of_a_stream_is_shown() -> None:
    script = (
        Script(("search",)).started("search").chunk("search", "The quick brown fox " * 20).chunk("search", "jumps.")
    )
    line = draw(script)[-1]
    assert line.endswith("quick brown fox jumps.")
    assert "…" in line


def test_a_new_attempt_clears_the_stream_of_the_attempt_before() -> None:
    script = Script(("search",)).started("search").chunk("search", "first").started("search", attempt=2)
    assert "first" not in draw(script)[-1]
    assert draw(script)[-1].endswith("attempt 2")


def test_a_step_that_is_retried_shows_its_failure() -> None:
    line = draw(Script(("search",)).started("search").retrying("search", failure("too busy")))[-1]
    assert "↻ search" in line
    assert line.endswith("next try in 1 s: too busy")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "next try in 12 s: too busy"),
        (1, "next try in 11 s: too busy"),
        (11.5, "next try in 1 s: too busy"),
        (13, "tries again: too busy"),
    ],
)
def test_the_time_until_the_next_attempt_counts_down_without_events(seconds: float, text: str) -> None:
    script = Script(("search",)).started("search").retrying("search", failure("too busy"), pause=12)
    now = script.now + timedelta(seconds=seconds)
    assert draw(script, now=now)[-1].endswith(text)


def test_a_long_time_until_the_next_attempt_is_in_minutes() -> None:
    script = Script(("search",)).started("search").retrying("search", failure("too busy"), pause=125)
    assert draw(script)[-1].endswith("next try in 2m 05s: too busy")


def test_the_time_until_a_fallback_counts_down() -> None:
    script = Script(("search",)).started("search").retrying("search", failure("too busy"), pause=3, fallback=True)
    assert draw(script)[-1].endswith("fallback in 3 s: too busy")


@pytest.mark.parametrize("width", [60, 100])
def test_a_step_that_backs_off_is_not_counted_as_running(width: int) -> None:
    steps = tuple(f"s{index}" for index in range(22))
    script = Script(steps).started(*steps[:20]).retrying("s0", failure()).retrying("s1", failure())
    assert draw(script.started("s20", "s21"), width=width)[1].endswith("0/22 steps  20 running, 2 backing off")


def test_after_its_backoff_a_step_is_ready() -> None:
    script = Script(("search",)).started("search").retrying("search", failure("too busy")).ready("search", 2)
    lines = draw(script)
    assert lines[1].endswith("0/1 step  1 ready")
    assert lines[-1].startswith("  ▹ search")
    assert lines[-1].endswith("tries again: too busy")


def test_a_step_that_is_retried_without_backoff_is_ready_at_once() -> None:
    script = Script(("search",)).started("search").retrying("search", failure("the server stopped"), pause=0)
    assert draw(script)[1].endswith("0/1 step  1 ready")


def test_a_step_with_a_new_attempt_is_running() -> None:
    script = Script(("search",)).started("search").retrying("search", failure()).ready("search", 2)
    assert draw(script.started("search", attempt=2))[1].endswith("0/1 step  1 running")


def test_a_step_that_ends_while_it_backs_off_is_counted_once() -> None:
    script = Script(("search", "weather")).started("search").retrying("search", failure()).failed("search", failure())
    assert draw(script)[1].endswith("1/2 steps  1 pending, 1 failed")


def test_a_step_that_waits_for_its_fallback_shows_it() -> None:
    script = Script(("search",)).retrying("search", failure("no route"), attempt=0, fallback=True, pause=0)
    assert draw(script)[-1].endswith("its fallback follows: no route")


def test_a_running_fallback_is_named_with_its_attempt() -> None:
    script = Script(("search",)).started("search").retrying("search", failure("no route"), fallback=True, pause=0)
    assert draw(script.started("search", attempt=2))[-1].endswith("attempt 2, the fallback")


def test_a_waiting_step_shows_its_cause() -> None:
    lines = draw(Script(("search",)).waiting("search"))
    assert lines[1].endswith("0/1 step  1 waiting")
    assert lines[-1].startswith("  ◌ search")
    assert lines[-1].endswith("waiting: a place")


def test_a_waiting_step_shows_its_limit_at_sixty_columns() -> None:
    script = Script(("search",)).waiting("search", 'all 3 places of the limit "search" are taken', limit="search")
    assert draw(script, width=60)[-1].endswith("waiting: limit search")


def test_a_retried_step_that_waits_is_counted_as_waiting() -> None:
    script = Script(("search",)).started("search").retrying("search", failure()).ready("search", 2).waiting("search")
    lines = draw(script)
    assert lines[1].endswith("0/1 step  1 waiting")
    assert lines[-1].endswith("waiting: a place")


def test_a_step_that_has_waited_runs() -> None:
    lines = draw(Script(("search",)).waiting("search").started("search"))
    assert lines[1].endswith("0/1 step  1 running")
    assert "waiting" not in lines[-1]


def test_a_running_step_does_not_wait_whatever_a_late_event_reports() -> None:
    assert "waiting" not in draw(Script(("search",)).started("search").waiting("search"))[-1]


def test_a_started_step_whose_action_no_host_has_is_shown_waiting_until_it_shows_progress() -> None:
    script = Script(("search",)).started("search").waiting("search", cause=WaitCause.ACTION_MISSING)
    lines = draw(script)
    assert lines[1].endswith("0/1 step  1 waiting")
    assert any(line.endswith("waits for a server with the action tools.search") for line in lines)
    lines = draw(script.progress("search", None, ""))
    assert lines[1].endswith("0/1 step  1 running")
    assert not any("waits" in line for line in lines)


def test_waiting_steps_are_shown_while_more_steps_run_than_fit() -> None:
    steps = tuple(f"s{index}" for index in range(500))
    script = Script(steps).started(*steps[:100]).retrying("s0", failure("too busy"), pause=12)
    lines = draw(script.waiting("s400", limit="search"), height=24)
    assert any(line.startswith("  ↻ s0") and line.endswith("next try in 12 s: too busy") for line in lines)
    assert any(line.startswith("  ◌ s400") and line.endswith("waiting: limit search") for line in lines)


def test_a_step_whose_action_is_missing_waits_for_a_server_that_has_it() -> None:
    script = Script(("search", "weather")).waiting("search", cause=WaitCause.ACTION_MISSING)
    lines = draw(script, view=RunView({"search": "tools.search"}))
    assert "waits for a server with the action tools.search" in lines[0]
    assert lines[3].startswith("  ◌ search")
    assert lines[3].endswith("waits for a server with the action tools.search")


def test_for_an_unknown_missing_action_the_servers_message_is_shown() -> None:
    script = Script(("search",)).waiting("search", 'this server has no action "x"', WaitCause.ACTION_MISSING)
    lines = draw(script)
    assert "waits for a server with the action of search" in lines[0]
    assert lines[-1].endswith('waits for a server with its action: this server has no action "x"')


def test_while_a_step_runs_the_header_does_not_show_missing_actions() -> None:
    script = Script(("search", "weather")).started("weather").waiting("search", cause=WaitCause.ACTION_MISSING)
    assert draw(script)[0].split()[1] == "running"


def test_an_interrupted_step_whose_action_is_missing_is_shown_waiting() -> None:
    script = Script(("search",)).started("search").retrying("search", failure("the server stopped"))
    lines = draw(script.waiting("search", cause=WaitCause.ACTION_MISSING))
    assert "waits for a server with the action tools.search" in lines[0]
    assert lines[-1].startswith("  ◌ search")


def test_a_step_runs_once_its_action_is_available() -> None:
    script = Script(("search",)).waiting("search", cause=WaitCause.ACTION_MISSING).started("search")
    lines = draw(script)
    assert lines[0].split()[1] == "running"
    assert "◌" not in lines[-1]


def test_steps_that_wait_for_their_action_are_selected() -> None:
    steps = tuple(f"s{index}" for index in range(500))
    script = Script(steps).started("s1", "s2", "s3", "s4").waiting("s400", cause=WaitCause.ACTION_MISSING)
    assert any(line.startswith("  ◌ s400") for line in draw(script, height=8))


def test_a_paused_run_is_shown_as_paused_until_it_continues() -> None:
    script = Script(("search",)).started("search")
    assert "paused: its server does not continue it" in draw(script, view=RunView(paused_at=3))[0]
    assert draw(script.retrying("search", failure()), view=RunView(paused_at=3))[0].split()[1] == "running"


@pytest.mark.parametrize("width", [60, 100])
def test_while_the_server_is_gone_the_header_shows_it_and_for_how_long(width: int) -> None:
    script = Script(("search",), name="report").started("search")
    view = RunView(rerun_of="briefing-1")
    view.lost_time = script.now
    lines = draw(script, width=width, view=view, now=script.now + timedelta(seconds=11.5))
    assert lines[0] == "briefing-7k3f9q2m  server gone for 12 s, reconnecting"


def test_while_the_server_is_gone_the_clocks_of_steps_stop() -> None:
    script = Script(("search", "weather")).started("search", "weather").retrying("search", failure(), pause=30)
    view = RunView()
    view.lost_time = script.now
    lines = draw(script, view=view)
    later = draw(script, view=view, now=script.now + timedelta(seconds=12))
    assert later[1:] == lines[1:]


def test_the_last_frame_of_an_ended_run_does_not_show_a_lost_server() -> None:
    script = Script(("search",)).started("search").succeeded("search").finished(State.SUCCEEDED)
    view = RunView()
    view.lost_time = script.now
    assert draw(script, view=view)[0].split()[1:] == ["succeeded", "300", "ms"]


def test_the_header_of_a_rerun_names_the_earlier_run() -> None:
    assert "rerun of briefing-1  running" in draw(Script(("search",)), view=RunView(rerun_of="briefing-1"))[0]


def test_a_reused_step_names_the_earlier_run() -> None:
    assert draw(Script(("search",)).reused("search", "briefing-1"))[-1].endswith("taken over from briefing-1")


def test_a_failed_step_shows_its_place_in_the_code() -> None:
    error = failure("no route to host", file="/app/tools.py", line="14")
    line = draw(Script(("search",)).started("search").failed("search", error))[-1]
    assert line.startswith("  ✗ search")
    assert line.endswith("no route to host (/app/tools.py:14)")


def test_a_failures_message_survives_sixty_columns() -> None:
    error = failure("no route to host", file="/app/services/travel/flights/quotes.py", line="14")
    line = draw(Script(("search",)).started("search").failed("search", error), width=60)[-1]
    assert "no route to host (" in line
    assert line.endswith("…")


@pytest.mark.parametrize("width", [60, 100])
def test_a_step_whose_fallback_answered_shows_why_it_fell_back(width: int) -> None:
    error = failure("no route to host", file="/app/services/travel/flights/quotes.py", line="14")
    line = draw(Script(("search",)).started("search").fell_back("search", error), width=width)[-1]
    assert line.startswith("  ✓ search")
    assert "fell back: no route to host" in line


def test_a_skipped_step_names_the_step_that_caused_it() -> None:
    script = Script(("search",), ("brief",)).started("search").failed("search", failure()).skipped("brief", "search")
    assert draw(script)[-1].endswith("skipped: needs search")


def test_a_stopping_run_shows_the_reason() -> None:
    assert "stopping: enough" in draw(Script(("search",)).started("search").stopping("enough"))[0]


def test_escape_sequences_from_an_action_are_removed() -> None:
    script = Script(("search",)).started("search").chunk("search", "\x1b[2J\x1b]0;title\x07gone")
    assert all(line.isprintable() for line in draw(script))


def test_sixty_columns_show_the_failures_place_and_the_counts() -> None:
    error = failure("no route to host", file="/app/tools.py", line="14")
    script = Script(("search", "weather")).started("search", "weather").failed("search", error)
    lines = draw(script, width=60)
    assert lines[3].startswith("  ✗ search")
    assert "/app/tools.py:14" in lines[3]
    assert lines[1].endswith("1/2 steps  1 running, 1 failed")


def test_counts_are_symbols_if_the_words_do_not_fit() -> None:
    script = Script(("a", "b", "c", "d", "e")).started("a", "b", "c").succeeded("a").failed("b", failure())
    script.skipped("d", "b")
    assert draw(script, width=60)[1].endswith("3/5 steps  · 1  ▸ 1  ✓ 1  ✗ 1  - 1")


def test_a_large_run_fits_the_height_of_the_terminal() -> None:
    script = Script(tuple(f"s{index}" for index in range(5_000)))
    script.started(*(f"s{index}" for index in range(200))).succeeded(*(f"s{index}" for index in range(100)))
    lines = draw(script, height=24)
    assert len(lines) == 24
    assert lines[-1] == "… 4,980 more"


@pytest.mark.parametrize("height", [8, 24, 50])
@pytest.mark.parametrize("started", [0, 3, 40])
def test_the_space_is_used_while_rows_are_left_out(started: int, height: int) -> None:
    waves = [tuple(f"s{wave}-{index}" for index in range(20)) for wave in range(9)]
    steps = [step for wave in waves for step in wave]
    lines = draw(Script(*waves).started(*steps[:started]).succeeded(*steps[: started // 2]), height=height)
    assert len(lines) == height
    rows = sum(line.startswith("  ") for line in lines[2:])
    assert lines[-1] == f"… {180 - rows} more"


def test_nothing_is_counted_as_left_out_if_all_steps_are_shown() -> None:
    lines = draw(Script(tuple(f"s{index}" for index in range(21))), height=24)
    assert len(lines) == 24
    assert "more" not in lines[-1]


@pytest.mark.parametrize("width", [60, 100])
def test_the_bars_width_is_the_same_in_every_frame(width: int) -> None:
    script = Script(tuple(f"s{index}" for index in range(12)))
    lines = [draw(script, width=width)[1]]
    for index in range(12):
        lines.append(draw(script.started(f"s{index}"), width=width)[1])
        lines.append(draw(script.succeeded(f"s{index}"), width=width)[1])
    assert {len(line) - len(line.lstrip("━╌")) for line in lines} == {width // 5}
    assert len({line.index("/12 steps") for line in lines}) == 1


def test_failed_steps_are_selected_first_then_running_ones() -> None:
    script = Script(tuple(f"s{index}" for index in range(500))).started("s7", "s8", "s9").succeeded("s7")
    lines = draw(script.failed("s8", failure()), height=10)
    assert lines[2] == "wave 0  497 pending, 1 running, 1 succeeded, 1 failed"
    assert [line.split()[1] for line in lines[3:]] == ["s0", "s1", "s2", "s7", "s8", "s9", "494"]


def test_running_steps_are_selected_before_steps_that_back_off() -> None:
    steps = tuple(f"s{index}" for index in range(500))
    script = Script(steps).started(*steps[:20])
    for step in steps[:10]:
        script.retrying(step, failure())
    lines = draw(script, height=10)
    assert [line.split()[1] for line in lines[3:]] == ["s0", "s10", "s11", "s12", "s13", "s14", "494"]


def test_neighbouring_waves_without_selected_steps_share_a_line() -> None:
    script = Script(*((f"s{index}",) for index in range(200)))
    for index in range(100):
        script.started(f"s{index}").succeeded(f"s{index}")
    lines = draw(script.started("s100"), height=10)
    assert lines[2] == "waves 0-98  99 succeeded"
    assert lines[-2:] == ["waves 101-199  99 pending", "… 198 more"]


def test_the_last_frame_shows_all_steps_of_a_small_run() -> None:
    steps = tuple(f"s{index}" for index in range(60))
    script = Script(steps).started(*steps).succeeded(*steps).finished(State.SUCCEEDED)
    lines = draw(script, height=24)
    assert sum("✓" in line for line in lines) == 60
    assert lines[0].split()[1] == "succeeded"


def test_the_last_frame_of_a_large_run_shows_counts_and_failures() -> None:
    steps = tuple(f"s{index}" for index in range(5_000))
    script = Script(steps).started(*steps).failed("s7", failure()).succeeded(*steps[10:]).finished(State.FAILED)
    lines = draw(script, height=24)
    assert len(lines) < 50
    assert any("✗ s7" in line for line in lines)


@settings(max_examples=60)
@given(
    st.lists(st.lists(IDS, min_size=1, max_size=12), min_size=1, max_size=6),
    st.text(max_size=200),
    st.integers(min_value=20, max_value=200),
    st.integers(min_value=5, max_value=60),
    st.data(),
)
def test_every_line_of_every_frame_fits(
    names: list[list[str]], message: str, width: int, height: int, data: st.DataObject
) -> None:
    waves = [
        tuple(f"{step}{index}-{position}" for position, step in enumerate(wave)) for index, wave in enumerate(names)
    ]
    script = Script(*waves)
    for step in (step for wave in waves for step in wave):
        outcome = data.draw(st.integers(min_value=0, max_value=6))
        if outcome:
            script.started(step).progress(step, data.draw(st.none() | st.floats(0, 1)), message).chunk(step, message)
        if outcome == 2:
            script.succeeded(step)
        if outcome == 3:
            script.failed(step, failure(message, file="/app/tools.py", line="1"))
        if outcome == 4:
            script.retrying(step, failure(message))
        if outcome == 5:
            script.skipped(step, step)
    lines = draw(script, width=width, height=height)
    assert all(line.isprintable() for line in lines)
    assert len(lines) <= max(height, 7)


@pytest.mark.parametrize("width", [60, 100])
def test_a_frame_before_the_first_event_fits(width: int) -> None:
    assert frame(RunView(), width=width, height=24, now=Script(("a",)).now)


def test_long_ids_that_differ_at_their_ends_stay_apart() -> None:
    steps = tuple(f"fetch-customer-record-of-the-tenant-{number}" for number in (11, 12))
    lines = draw(Script(steps).started(*steps), width=60)
    assert [line.split()[1] for line in lines[-2:]] == ["fetch-custom…e-tenant-11", "fetch-custom…e-tenant-12"]
