"""What actions in this process log is shown once: by the display of the run, and not by handlers as well."""

import contextvars
import io
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from rich.console import Console
from rich.logging import RichHandler

from stepwave.cli.server import capture_action_logs
from stepwave_server.actions.logs import LogSink
from stepwave_server.wire.events.encode import LogEntry

logger = logging.getLogger("tools")


@contextmanager
def new_process(*handlers: logging.Handler) -> Iterator[logging.Logger]:
    """Yield the root logger with these handlers only. Pytest has handlers of its own."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers[:] = handlers
    root.setLevel(logging.WARNING)
    try:
        yield root
    finally:
        root.handlers[:] = before
        root.setLevel(level)


def log_in_attempt(log: Callable[[str], None]) -> list[LogEntry]:
    """Log a message as an attempt does, and return what is taken."""
    entries: list[LogEntry] = []

    def enter_and_log() -> None:
        LogSink(entries.append, tracebacks=True).enter()
        log("by an action")

    contextvars.copy_context().run(enter_and_log)
    return entries


def test_without_configuration_info_is_taken_and_other_code_logs_as_by_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with new_process() as root:
        with capture_action_logs():
            taken = [*log_in_attempt(logger.info), *log_in_attempt(logger.warning), *log_in_attempt(logger.debug)]
            logger.info("not shown")
            logger.warning("by other code")
        assert (root.handlers, root.level) == ([], logging.WARNING)
    assert [entry.level.name for entry in taken] == ["INFO", "WARNING"]
    assert capsys.readouterr().err == "by other code\n"


HANDLERS: list[Callable[[], logging.Handler]] = [
    logging.StreamHandler,
    lambda: logging.StreamHandler(sys.stdout),
    lambda: RichHandler(console=Console(stderr=True), show_time=False, show_path=False),
]


@pytest.mark.parametrize("of_root", [True, False])
@pytest.mark.parametrize("make", HANDLERS)
def test_a_handler_that_writes_to_a_standard_stream_leaves_out_what_is_taken(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[], logging.Handler],
    of_root: bool,
) -> None:
    handlers = [make()]
    monkeypatch.setattr(logger, "handlers", [] if of_root else handlers)
    with new_process(*(handlers if of_root else [])):
        with capture_action_logs():
            assert len(log_in_attempt(logger.warning)) == 1
            logger.warning("by other code")
        log_in_attempt(lambda _: logger.warning("afterwards"))
    shown = "".join(capsys.readouterr())
    assert [shown.count(text) for text in ("by an action", "by other code", "afterwards")] == [0, 1, 1]


def test_a_handler_that_writes_elsewhere_gets_everything() -> None:
    found = io.StringIO()
    with new_process(logging.StreamHandler(found)), capture_action_logs():
        log_in_attempt(logger.warning)
    assert found.getvalue() == "by an action\n"


def test_a_level_that_a_module_has_set_is_kept() -> None:
    with new_process() as root:
        root.setLevel(logging.ERROR)
        with capture_action_logs():
            assert log_in_attempt(logger.warning) == []
