"""`stepwave report`: the chart, the table and the totals, from an export file."""

import json
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from stepwave import RunExport
from stepwave._model.report import report_lines as lines_of_report
from stepwave.cli.app import app
from stepwave.cli.commands.report import _styled
from stepwave.cli.display.output import print_text
from stepwave.cli.exit_codes import CommandError
from stepwave_server.core.model import SECOND, Workflow
from unit.client.reports.runs import export_of, report_on
from unit.server.core.build import flow, step
from unit.server.core.driver import Drive

WIDTHS = [60, 100]


def report_lines(export: RunExport, folder: Path, *, width: int = 60) -> list[str]:
    """Return the lines that the command prints for an export, without a terminal."""
    export.save(folder / "run.json")
    ran = CliRunner().invoke(app, ["report", str(folder / "run.json")], env={"COLUMNS": str(width)})
    assert ran.exit_code == 0, ran.output
    return ran.stdout.splitlines()


def chart_lines(drive: Drive, width: int = 60) -> list[str]:
    """Return the lines of the chart alone."""
    lines = ["".join(span.text for span in line).rstrip() for line in lines_of_report(report_on(drive), width)]
    return lines[2 : lines.index("", 2)]


def run_workflow(workflow: Workflow, *ends: tuple[str, float]) -> Drive:
    """Run a workflow. The named steps end in this order, each some seconds after the one before."""
    drive = Drive.begun(workflow, checked=False)
    for step_id, pause in ends:
        drive.start(*drive.waiting())
        drive.now += round(pause * SECOND)
        drive.succeed(step_id)
    return drive


def limited_run() -> Drive:
    """Return a run whose second step waits for the parallelism limit, and whose third step waits for both."""
    steps = (step("fetch"), step("search"), step("brief", "fetch", "search"))
    return run_workflow(flow(*steps, max_parallelism=1), ("fetch", 1), ("search", 3), ("brief", 1))


def test_the_whole_report(tmp_path: Path) -> None:
    assert report_lines(export_of(limited_run()), tmp_path) == [
        "report-1  flow  succeeded  5.00 s",
        "",
        "  STEP    0                       5.00 s     TIME  SLACK",
        "  fetch   ██████                           1.00 s  3.00 s",
        "● search  ░░░░░░██████████████████         4.00 s",
        "● brief                           ██████   1.00 s",
        "  ● critical path  █ work  ░ waiting",
        "",
        "PATH      TIME    WORK  WAITING",
        "search  4.00 s  3.00 s   1.00 s",
        "brief   1.00 s  1.00 s",
        "total   5.00 s  4.00 s   1.00 s",
        "",
        "makespan: 5.00 s = 4.00 s work + 1.00 s waiting",
        "speed-up: 1.00 over one step at a time (5.00 s); at most 1",
        "  attempt at once",
        "without waiting: 4.00 s, 1.00 s shorter; max_parallelism is",
        "  1, and was reached",
    ]


def test_a_barrier_has_its_own_glyph_and_total(tmp_path: Path) -> None:
    steps = (step("a"), step("b"), step("c", "a"))
    drive = run_workflow(flow(*steps, by_waves=True), ("a", 1), ("b", 3), ("c", 2))
    lines = report_lines(export_of(drive), tmp_path)
    assert any("▒▒▒" in line and "███" in line for line in lines)
    assert lines[-1] == "without barriers too: 4.00 s, 2.00 s shorter"


def test_short_work_is_visible() -> None:
    drive = run_workflow(flow(step("a"), step("b")), ("a", 0.001), ("b", 100))
    assert "█" in next(line for line in chart_lines(drive) if line.startswith("  a "))


def test_a_step_that_did_not_succeed_has_its_state() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a")))
    drive.start("a")
    drive.now += SECOND
    drive.fail("a")
    lines = chart_lines(drive)
    assert [line.split()[-1] for line in lines[1:3]] == ["failed", "skipped"]


def test_an_unfinished_run_is_reported_so_far(tmp_path: Path) -> None:
    drive = Drive.begun(flow(step("a"), step("b")))
    drive.start("a")
    assert report_lines(export_of(drive), tmp_path)[0] == "report-1  flow  running so far  0 ms"


@pytest.mark.parametrize("width", WIDTHS)
def test_every_line_fits(width: int, tmp_path: Path) -> None:
    names = [f"a_step_with_a_name_that_goes_on_and_on_number_{number}" for number in range(60)]
    steps = [step(name, *names[max(0, index - 2) : index]) for index, name in enumerate(names)]
    drive = run_workflow(flow(*steps, max_parallelism=1), *((name, 0.5) for name in names))
    lines = report_lines(export_of(drive), tmp_path, width=width)
    assert max(map(cell_len, lines)) <= width
    assert max(map(cell_len, lines)) > width - 10


def test_of_many_steps_the_path_and_the_longest_are_shown_and_the_others_counted() -> None:
    chain = [step(f"link{index}", *([f"link{index - 1}"] if index else [])) for index in range(50)]
    side = [step(f"side{index}") for index in range(1_000)]
    ends = [(f"link{index}", 1.0 + index / 100) for index in range(50)]
    drive = run_workflow(flow(*side, *chain), *((one.id, 0.0) for one in side[1:]), *ends[:-1], ("side0", 0), ends[-1])
    lines = chart_lines(drive)
    shown = [line for line in lines if "link" in line or "side" in line]
    assert len(shown) == 36
    assert lines[-2] == "  1,014 shorter steps left out, 26 of them on the path"
    assert any("side0 " in line for line in shown)
    assert any("link49 " in line for line in shown)


def test_the_table_has_the_total_of_hidden_steps_of_the_path(tmp_path: Path) -> None:
    chain = [step(f"link{index}", *([f"link{index - 1}"] if index else [])) for index in range(50)]
    drive = run_workflow(flow(*chain), *((one.id, 1) for one in chain))
    lines = report_lines(export_of(drive), tmp_path)
    assert "26 more  26.0 s  26.0 s" in lines
    assert "total    50.0 s  50.0 s" in lines


def test_only_a_terminal_gets_colours(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    lines = map(_styled, lines_of_report(report_on(limited_run()), 60))
    line = next(line for line in lines if "search" in line.plain)
    print_text(line)
    assert capsys.readouterr().out == f"{line.plain.rstrip()}\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_text(line)
    out = capsys.readouterr().out
    assert "\x1b[32m█" in out
    assert "\x1b[33m░" in out


def test_as_json_the_whole_report_is_printed(tmp_path: Path) -> None:
    export_of(limited_run()).save(tmp_path / "run.json")
    ran = CliRunner().invoke(app, ["report", str(tmp_path / "run.json"), "--output", "json"])
    assert json.loads(ran.stdout) == json.loads(json.dumps(report_on(limited_run()).to_dict()))
    assert json.loads(ran.stdout)["steps"]["search"]["parts"]["waiting"] == 1.0


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["report", str(tmp_path / "no.json")])
    assert isinstance(ran.exception, CommandError)
    assert str(ran.exception) == f"cannot read {tmp_path / 'no.json'}: No such file or directory"


def test_a_file_that_is_not_an_export_is_refused(tmp_path: Path) -> None:
    (tmp_path / "flow.json").write_text("{}")
    ran = CliRunner().invoke(app, ["report", str(tmp_path / "flow.json")])
    assert isinstance(ran.exception, CommandError)
    assert "not an export of a run" in str(ran.exception)
