"""The example of research: a decision, a list of pages, a nested workflow, and an approval."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "client" / "examples" / "research" / "research.py"


def _research(folder: Path, *arguments: str, answer: str = "") -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(EXAMPLE), *arguments]
    return subprocess.run(command, cwd=folder, input=answer, check=False, capture_output=True, text=True, timeout=60)


def test_the_report_is_published_when_it_is_approved(tmp_path: Path) -> None:
    done = _research(tmp_path, answer="y\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("published: report.md\n")
    report = (tmp_path / "report.md").read_text()
    assert report.startswith("# Which modules compress data?\n")
    assert "- `lzma.compress`: Compress a block of data.\n" in report
    assert report in done.stdout


def test_the_report_is_not_published_when_it_is_rejected(tmp_path: Path) -> None:
    done = _research(tmp_path, answer="n\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("not published\n")
    assert not (tmp_path / "report.md").exists()


@pytest.mark.parametrize(("question", "is_wider"), [("compress data", False), ("archives encryption unicorns", True)])
def test_a_question_with_few_answers_is_searched_again(tmp_path: Path, question: str, *, is_wider: bool) -> None:
    done = _research(tmp_path, question, "--yes")
    assert done.returncode == 0, done.stderr
    (row, *_) = [line for line in done.stderr.splitlines() if "widen" in line]
    assert row.endswith("skipped") is not is_wider
