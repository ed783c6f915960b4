"""The formats of log records on standard error."""

import logging

import pytest

from stepwave.cli.process.log_formats import start_logging


def test_the_text_log_shows_control_characters_and_keeps_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging.root, "level", logging.WARNING)
    start_logging("info")
    logging.getLogger("tool").info("red \x1b[31mtext\x00\x9b\r\n\tmore", extra={"run_id": "r"})
    shown = capsys.readouterr().err
    assert shown.endswith("INFO tool: red \\x1b[31mtext\\x00\\x9b\\x0d\n\tmore run_id=r\n")
