"""The picture of a server at work, at every width."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.cells import cell_len

from stepwave import ActionLimit, ActionStats, CommitStats, ServerInfo, ServerLimits, ServerStats
from stepwave.cli.display.server_frames import server_frame

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
MS = timedelta(milliseconds=1)

INFO = ServerInfo(
    version="1",
    engine="local",
    journal="sqlite",
    limits=ServerLimits(
        max_steps=1,
        max_edges=1,
        max_payload_bytes=1,
        max_message_bytes=1,
        max_runs=10_000,
        max_attempts_in_flight=1_000,
        default_step_timeout=timedelta(minutes=10),
    ),
    capabilities=(),
    start_time=NOON - timedelta(hours=2),
    draining=False,
)
STATS = ServerStats(
    time=NOON,
    runs_in_flight=12,
    attempts_in_flight=40,
    attempts_queued=160,
    actions=(ActionStats("search", 30, 150), ActionStats("llm.complete", 10, 10)),
    streams_open=3,
    stream_lag=7,
    limits=(ActionLimit("search", per_key=False, max_concurrency=30, rate=None, adaptive=None, in_flight=30),),
    commits=CommitStats(100, 2_000, 2 * MS, 9 * MS),
)
LATER = replace(STATS, time=NOON + timedelta(seconds=2), commits=CommitStats(150, 3_000, 2 * MS, 9 * MS))


def _lines(
    stats: ServerStats = STATS,
    before: ServerStats | None = None,
    *,
    info: ServerInfo = INFO,
    width: int = 100,
    height: int | None = None,
) -> list[str]:
    frame = server_frame(info, stats, before, address="127.0.0.1:50051", width=width, height=height)
    return [line.plain.rstrip() for line in frame]


def test_a_wide_picture_has_a_bar_for_each_action() -> None:
    assert _lines() == [
        "127.0.0.1:50051  local, sqlite" + " " * 61 + "up 2h 00m",
        "12 runs  40 attempts of 1,000 in flight  160 queued  3 streams, the slowest 7 events behind",
        "100 commits: median 2 ms, longest 9 ms",
        "",
        "ACTION       in flight  queued",
        "search              30     150  " + "━" * 20,
        "llm.complete        10      10  ━━",
        "",
        "LIMITS",
        "search: 30 of 30 at once",
    ]


def test_a_narrow_picture_has_no_bars_and_two_lines_of_totals() -> None:
    lines = _lines(width=60)
    assert lines[1:3] == [
        "12 runs  40 attempts of 1,000 in flight  160 queued",
        "3 streams, the slowest 7 events behind",
    ]
    assert "search              30     150" in lines


@pytest.mark.parametrize("width", [20, 40, 60, 79, 80, 100, 200])
def test_every_line_fits(width: int) -> None:
    long = replace(STATS, actions=(ActionStats("a.very.long.name." * 10, 1, 100_000),))
    assert max(map(cell_len, _lines(long, width=width))) <= width


@pytest.mark.parametrize("height", [8, 12, 24])
def test_a_picture_of_many_actions_fits_the_terminal(height: int) -> None:
    many = replace(STATS, actions=tuple(ActionStats(f"action-{number}", 1, 0) for number in range(50)))
    lines = _lines(many, height=height)
    assert len(lines) <= height
    assert any("more actions" in line for line in lines) == (height > 8)


def test_two_pictures_give_the_rates_of_commits() -> None:
    assert _lines(LATER, STATS)[2] == "25 commits/s, 500 events/s: median 2 ms, longest 9 ms"


def test_a_server_without_work_and_without_a_journal_on_disk_says_so() -> None:
    idle = replace(
        STATS, runs_in_flight=0, attempts_in_flight=0, attempts_queued=0, actions=(), limits=(), commits=None
    )
    quiet = replace(idle, streams_open=0, stream_lag=0)
    assert _lines(quiet)[1:] == ["0 runs  0 attempts of 1,000 in flight  0 queued  0 streams", "", "no attempts"]


def test_a_draining_server_says_so() -> None:
    assert "draining" in _lines(info=replace(INFO, draining=True))[0]
