"""How the words of options become values, and how errors become exit codes."""

import io
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from stepwave._model.results import State
from stepwave.cli import app as boundary
from stepwave.cli.exit_codes import CommandError, ExitCode, code_of_error, code_of_run
from stepwave.cli.options import parse_input, parse_labels, parse_moment, parse_seconds
from stepwave.cli.source import find_workflow
from stepwave.exceptions import (
    DeadlineExceeded,
    InvalidWorkflow,
    NotFound,
    RunLost,
    ServerUnavailable,
    StepwaveError,
    Violation,
)


def test_an_input_is_json() -> None:
    assert parse_input('{"big": 9007199254740993}') == {"big": 9007199254740993}


def test_no_input_is_null() -> None:
    assert parse_input(None) is None


def test_an_input_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "input.json").write_text('["é"]', encoding="utf-8")
    assert parse_input(f"@{tmp_path / 'input.json'}") == ["é"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-le"])
def test_a_byte_order_mark_says_how_an_input_is_written(
    encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = '{"city": "Zürich"}'.encode(encoding)
    (tmp_path / "input.json").write_bytes(data)
    assert parse_input(f"@{tmp_path / 'input.json'}") == {"city": "Zürich"}
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert parse_input("@-") == {"city": "Zürich"}


def test_an_input_is_read_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("[1]"))
    assert parse_input("@-") == [1]


@pytest.mark.parametrize("text", ["{", "NaN", "", "Oslo", "x" * 10_000])
def test_an_input_that_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match=r"^--input: not JSON: "):
        parse_input(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1e400", "holds the number 1e400, which is beyond the range of a double"),
        ('{"n": [-1e999]}', "holds the number -1e999, which is beyond the range of a double"),
        ("9" * 5_000, "holds a number of 5,000 characters, and 4,300 are allowed"),
        ("[" * 975 + "]" * 975, "nested too deeply: at most 100 lists and objects within each other"),
    ],
    ids=lambda text: text[:10],
)
def test_an_input_that_not_every_reader_takes_is_refused_by_its_option(text: str, problem: str) -> None:
    with pytest.raises(CommandError) as refused:
        parse_input(text)
    assert (str(refused.value), refused.value.code) == (f"--input: {problem}", ExitCode.USAGE)


def test_a_file_given_without_the_sign_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "input.json"
    path.touch()
    with pytest.raises(CommandError, match=rf"for the file's contents write @{path}$"):
        parse_input(str(path))


def test_an_input_file_that_is_not_there_is_named() -> None:
    with pytest.raises(CommandError, match=r"^--input: cannot read gone\.json: No such file or directory$"):
        parse_input("@gone.json")


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90.0), ("2m", 120.0), ("300ms", 0.3), ("5", 5.0), ("0.5", 0.5)])
def test_a_duration_may_lack_its_unit(text: str, seconds: float) -> None:
    assert parse_seconds("--timeout", text) == seconds


@pytest.mark.parametrize("text", ["soon", "-5", "5 s", "", "1e3"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match=r"^--timeout: "):
        parse_seconds("--timeout", text)


@pytest.mark.parametrize("name", ["gone.yaml", "flows/gone", "."])
def test_a_file_that_cannot_be_read_is_named(name: str) -> None:
    with pytest.raises(CommandError, match=rf"^cannot read {name}: "):
        find_workflow(name)


def test_a_malformed_file_is_refused_with_what_was_not_looked_at_yet(tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text("name: a\nstep: []\n")
    with pytest.raises(CommandError) as caught:
        find_workflow(str(path))
    first, last = str(caught.value).splitlines()
    assert first == f'{path}:2:1: unknown key "step"; did you mean "steps"?'
    assert last == "its actions and dependencies are checked once this is mended"


def test_what_is_no_file_is_a_name() -> None:
    source = find_workflow("briefing")
    assert (source.definition, source.loaded, source.actions) == ("briefing", None, {})


def test_a_servers_blame_is_placed_in_the_file_and_the_rest_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text("name: a\nsteps:\n- {id: b, action: c}\n")
    source = find_workflow(str(path))
    violations = [Violation("steps[0].action", 'unknown action "c"'), Violation("input", "too large")]
    with pytest.raises(CommandError) as caught, source.located():
        raise InvalidWorkflow("", violations)
    assert str(caught.value) == f'{path}:3:19: steps[0].action: unknown action "c"\ninput: too large'
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("state", "code"), [(State.SUCCEEDED, 0), (State.FAILED, 1), (State.CANCELLED, 130), (State.UNKNOWN, 1)]
)
def test_a_runs_end_is_the_exit_code(state: State, code: int) -> None:
    assert code_of_run(state) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ServerUnavailable(""), 3),
        (DeadlineExceeded(""), 3),
        (RunLost(""), 3),
        (NotFound(""), 2),
        (InvalidWorkflow(""), 2),
    ],
)
def test_an_errors_kind_is_the_exit_code(error: StepwaveError, code: int) -> None:
    assert code_of_error(error) == code


NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2h", NOON - timedelta(hours=2)),
        ("90s", NOON - timedelta(seconds=90)),
        ("7d", NOON - timedelta(days=7)),
        ("1.5d", NOON - timedelta(hours=36)),
        ("2026-01-02T09:00Z", datetime(2026, 1, 2, 9, tzinfo=UTC)),
        ("2026-01-02T09:00:00+02:00", datetime(2026, 1, 2, 9, tzinfo=timezone(timedelta(hours=2)))),
        ("2026-01-02", datetime(2026, 1, 2)),
    ],
)
def test_a_point_in_time_is_a_while_ago_or_a_time(text: str, moment: datetime) -> None:
    assert parse_moment("--since", text, NOON) == moment.astimezone()


def test_no_point_in_time_is_none() -> None:
    assert parse_moment("--since", None, NOON) is None


@pytest.mark.parametrize("text", ["", "soon", "2", "-2h", "9999999d", "2026-13-01", "0001-01-01T00:00+23:00"])
def test_what_is_no_point_in_time_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match=r"^--since: "):
        parse_moment("--since", text, NOON)


def test_labels_are_pairs() -> None:
    assert parse_labels("--label", ["team=a=b", "tier="]) == {"team": "a=b", "tier": ""}


@pytest.mark.parametrize("text", ["team", "=a", ""])
def test_what_is_no_label_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match=r"^--label: "):
        parse_labels("--label", [text])


@pytest.mark.parametrize("command", ["['serve']", "['backup', 'copy.db']", "['run', 'flow', '--actions', 'tools']"])
def test_a_missing_server_is_answered_with_the_line_that_brings_it(command: str) -> None:
    script = f"import sys; sys.modules['pydantic_settings'] = None; sys.argv[1:] = {command}; "
    script += "from stepwave.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "running a server needs more: pip install 'stepwave[server]'\n"


def test_a_defect_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(boundary, "app", lambda: 1 // 0)
    monkeypatch.delenv("STEPWAVE_DEBUG", raising=False)
    with pytest.raises(SystemExit) as caught:
        boundary.run_app()
    assert caught.value.code == 1
    assert capsys.readouterr().err.startswith("unexpected ZeroDivisionError: ")


def test_a_defect_shows_where_it_is_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boundary, "app", lambda: 1 // 0)
    monkeypatch.setenv("STEPWAVE_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        boundary.run_app()


@pytest.mark.parametrize("module", ["typer", "rich", "yaml"])
def test_a_missing_extra_is_answered_with_the_line_that_brings_it(module: str) -> None:
    script = f"import sys; sys.modules[{module!r}] = None; from stepwave.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "the command line needs more: pip install 'stepwave[cli]'\n"
