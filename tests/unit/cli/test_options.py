"""Parsing of option values, and exit codes of errors."""

import io
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from stepwave._model.results import State
from stepwave.cli import app as cli_app
from stepwave.cli.exit_codes import CommandError, ExitCode, code_of_error, code_of_run
from stepwave.cli.options import parse_input, parse_labels, parse_seconds, parse_time
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
def test_an_input_is_decoded_by_its_byte_order_mark(
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
        ('{"n": [-1e999]}', 'holds the number -1e999, which is beyond the range of a double, at "/n/0"'),
        ('{"n": [{"a": 1, "a": 2}]}', 'holds the key "a" twice, in the object at "/n/0"'),
        ("9" * 5_000, "holds a number of 5,000 characters, and 4,300 are allowed"),
        ("[" * 975 + "]" * 975, "nested too deeply: at most 100 lists and objects within each other"),
    ],
    ids=lambda text: text[:10],
)
def test_an_input_beyond_the_limits_of_json_is_refused(text: str, problem: str) -> None:
    with pytest.raises(CommandError) as refused:
        parse_input(text)
    assert (str(refused.value), refused.value.code) == (f"--input: {problem}", ExitCode.USAGE)


def test_a_file_name_without_an_at_sign_gets_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "input.json"
    path.touch()
    with pytest.raises(CommandError, match=rf"for the file's contents write @{path}$"):
        parse_input(str(path))


def test_a_missing_input_file_is_named() -> None:
    with pytest.raises(CommandError, match=r"^--input: cannot read gone\.json: No such file or directory$"):
        parse_input("@gone.json")


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90.0), ("2m", 120.0), ("300ms", 0.3), ("5", 5.0), ("0.5", 0.5)])
def test_a_duration_may_lack_its_unit(text: str, seconds: float) -> None:
    assert parse_seconds("--timeout", text) == seconds


@pytest.mark.parametrize("text", ["soon", "-5", "5 s", "", "1e3"])
def test_an_invalid_duration_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match=r"^--timeout: "):
        parse_seconds("--timeout", text)


@pytest.mark.parametrize("name", ["gone.yaml", "flows/gone", "."])
def test_a_file_that_cannot_be_read_is_named(name: str) -> None:
    with pytest.raises(CommandError, match=rf"^cannot read {name}: "):
        find_workflow(name)


def test_a_malformed_file_is_refused_before_its_actions_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text("name: a\nstep: []\n")
    with pytest.raises(CommandError) as caught:
        find_workflow(str(path))
    first, last = str(caught.value).splitlines()
    assert first == f'{path}:2:1: unknown key "step"; did you mean "steps"?'
    assert last == "actions and dependencies are checked once this problem is fixed"


def test_a_name_that_is_not_a_file_is_a_workflow_of_the_server() -> None:
    source = find_workflow("briefing")
    assert (source.definition, source.loaded, source.actions) == ("briefing", None, {})


def test_violations_in_the_workflow_get_their_place_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text("name: a\nsteps:\n- {id: b, action: c}\n")
    source = find_workflow(str(path))
    violations = [Violation("workflow.steps[0].action", 'unknown action "c"'), Violation("input", "too large")]
    with pytest.raises(CommandError) as caught, source.locate_errors():
        raise InvalidWorkflow("", violations)
    assert str(caught.value) == f'{path}:3:19: steps[0].action: unknown action "c"\ninput: too large'
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("state", "code"), [(State.SUCCEEDED, 0), (State.FAILED, 1), (State.CANCELLED, 130), (State.UNKNOWN, 1)]
)
def test_the_state_of_a_run_decides_the_exit_code(state: State, code: int) -> None:
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
def test_the_type_of_an_error_decides_the_exit_code(error: StepwaveError, code: int) -> None:
    assert code_of_error(error) == code


NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
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
def test_a_time_is_a_duration_ago_or_an_iso_time(text: str, expected: datetime) -> None:
    assert parse_time("--since", text, NOON) == expected.astimezone()


def test_no_time_is_none() -> None:
    assert parse_time("--since", None, NOON) is None


@pytest.mark.parametrize("text", ["", "soon", "2", "-2h", "9999999d", "2026-13-01", "0001-01-01T00:00+23:00"])
def test_an_invalid_time_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match=r"^--since: "):
        parse_time("--since", text, NOON)


def test_labels_are_pairs() -> None:
    assert parse_labels("--label", ["team=a=b", "tier="]) == {"team": "a=b", "tier": ""}


@pytest.mark.parametrize("text", ["team", "=a", ""])
def test_an_invalid_label_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match=r"^--label: "):
        parse_labels("--label", [text])


@pytest.mark.parametrize("command", ["['serve']", "['backup', 'copy.db']", "['run', 'flow', '--actions', 'tools']"])
def test_a_missing_server_extra_is_named_in_the_error(command: str) -> None:
    script = f"import sys; sys.modules['pydantic_settings'] = None; sys.argv[1:] = {command}; "
    script += "from stepwave.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "running a server needs the server extra: pip install 'stepwave[server]'\n"


def test_a_missing_mcp_extra_is_named_in_the_error() -> None:
    script = "import sys; sys.modules['mcp'] = None; sys.argv[1:] = ['mcp', '--workflows', 'flows']; "
    script += "from stepwave.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "the Model Context Protocol needs the mcp extra: pip install 'stepwave[cli,mcp]'\n"


def test_an_unexpected_error_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli_app, "app", lambda: 1 // 0)
    monkeypatch.delenv("STEPWAVE_DEBUG", raising=False)
    with pytest.raises(SystemExit) as caught:
        cli_app.run_app()
    assert caught.value.code == 1
    assert capsys.readouterr().err.startswith("unexpected ZeroDivisionError: ")


def test_an_unexpected_error_has_a_traceback_in_debug_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_app, "app", lambda: 1 // 0)
    monkeypatch.setenv("STEPWAVE_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        cli_app.run_app()


@pytest.mark.parametrize("module", ["typer", "rich", "yaml"])
def test_a_missing_cli_extra_is_named_in_the_error(module: str) -> None:
    script = f"import sys; sys.modules[{module!r}] = None; from stepwave.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "the command line needs the cli extra: pip install 'stepwave[cli]'\n"
