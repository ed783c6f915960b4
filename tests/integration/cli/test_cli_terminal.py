"""On a terminal, `stepwave run` and `watch` draw the run in place."""

import json

import pytest
from rich.cells import cell_len

from integration.cli.shell import Shell, line_of_code, on_terminal

GREETING = ("run", "greeting", "--input", '{"name": "ann"}', "--run-id")


@pytest.mark.parametrize("columns", [60, 100])
def test_the_last_frame_is_complete_and_fits(shell: Shell, columns: int) -> None:
    code, out, lines = on_terminal(shell, *GREETING, f"drawn-{columns}", columns=columns)
    assert (code, json.loads(out)) == (0, {"twice": ["ANN", "ANN"]})
    assert max(map(cell_len, lines)) <= columns
    last = lines[max(index for index, line in enumerate(lines) if line.startswith(f"drawn-{columns}")) :]
    assert last[0].split()[:3] == [f"drawn-{columns}", "greeting", "succeeded"]
    assert [line.split()[:2] for line in last[2:6]] == [["wave", "0"], ["✓", "hello"], ["wave", "1"], ["✓", "twice"]]


def test_a_failure_shows_its_line_of_code(shell: Shell) -> None:
    code, _, lines = on_terminal(shell, "run", "failing", columns=100)
    assert code == 1
    message = f"LookupError: no such thing (tools.py:{line_of_code('raise LookupError')})"
    assert any("✗ broken" in line and message in line for line in lines)


def test_a_terminal_shows_text_with_output_text(shell: Shell) -> None:
    _, _, lines = on_terminal(shell, *GREETING, "plain", "--output", "text", columns=100)
    assert lines[0].endswith("run     started    plain: greeting, 2 steps in 2 waves")


def test_no_frame_is_drawn_for_a_refused_run(shell: Shell) -> None:
    code, _, lines = on_terminal(shell, "run", "nothing-such", columns=100)
    assert code == 2
    assert [line for line in lines if line] == ['no workflow "nothing-such" on this server']


def test_a_terminal_without_a_cursor_shows_text(shell: Shell) -> None:
    _, _, lines = on_terminal(shell, *GREETING, "dumb", columns=100, terminal="dumb")
    assert "run     started    dumb: greeting" in lines[0]
