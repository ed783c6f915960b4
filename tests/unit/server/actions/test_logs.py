"""Tests of the capture of log records: which are taken, by which attempt, and what is kept of them."""

import asyncio
import contextvars
import logging
import os
import weakref
from collections.abc import Callable, Iterator

import pytest

from stepwave import Context
from stepwave_server.actions.logs import MAX_MESSAGE, LogSink, capture_logs, is_captured
from stepwave_server.actions.threads import run_in_thread
from stepwave_server.wire.events.encode import LogEntry, LogLevel

logger = logging.getLogger("tools")


class Attempt:
    """An attempt that keeps what it logs.

    Attributes:
        entries: What it has kept.
        sink: Its sink.
        context: Its context.
    """

    def __init__(self, *, tracebacks: bool = True) -> None:
        self.entries: list[LogEntry] = []
        self.sink = LogSink(self.entries.append, tracebacks=tracebacks)
        self.context = Context(run_id="r", step_id="s", log=self.sink.take)

    def run(self, log: Callable[[str], None], message: str) -> None:
        """Log a message in the context of the attempt."""

        def enter_and_log() -> None:
            self.sink.enter()
            log(message)

        contextvars.copy_context().run(enter_and_log)

    @property
    def messages(self) -> list[str]:
        return [entry.message for entry in self.entries]


@pytest.fixture
def attempt() -> Attempt:
    return Attempt()


@pytest.fixture
def captured() -> Iterator[None]:
    with capture_logs():
        yield


# The logger of the context.


def test_info_is_kept_though_the_process_logs_warnings_only(attempt: Attempt) -> None:
    assert not logging.getLogger("stepwave.action").isEnabledFor(logging.INFO)
    attempt.context.logger.info("found %d of %s", 3, "all")
    assert attempt.entries == [LogEntry(LogLevel.INFO, "stepwave.action", "found 3 of all")]


def test_debug_is_kept_only_if_the_process_logs_it(attempt: Attempt, caplog: pytest.LogCaptureFixture) -> None:
    attempt.context.logger.debug("one")
    with caplog.at_level(logging.DEBUG, "stepwave.action"):
        attempt.context.logger.debug("two")
    assert attempt.messages == ["two"]


def test_the_process_still_logs_the_messages_of_its_level_with_the_ids(
    attempt: Attempt, caplog: pytest.LogCaptureFixture
) -> None:
    attempt.context.logger.info("info")
    attempt.context.logger.warning("warning", extra={"more": 1})
    (record,) = caplog.records
    assert (record.getMessage(), record.__dict__["step_id"], record.__dict__["more"]) == ("warning", "s", 1)
    assert (record.funcName, record.filename) == (
        "test_the_process_still_logs_the_messages_of_its_level_with_the_ids",
        "test_logs.py",
    )


def test_without_a_handler_warnings_still_go_to_standard_error(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    attempt.context.logger.warning("careful")
    assert (attempt.messages, capsys.readouterr().err) == (["careful"], "careful\n")


def test_a_filter_of_the_logger_changes_what_is_kept(attempt: Attempt) -> None:
    def hide(record: logging.LogRecord) -> bool:
        record.msg = str(record.msg).replace("secret", "***")
        return "drop" not in record.msg

    logging.getLogger("stepwave.action").addFilter(hide)
    try:
        attempt.context.logger.info("the secret")
        attempt.context.logger.info("drop this")
    finally:
        logging.getLogger("stepwave.action").removeFilter(hide)
    assert attempt.messages == ["the ***"]


def test_the_level_of_the_logger_can_be_set(attempt: Attempt) -> None:
    real = logging.getLogger("stepwave.action")
    attempt.context.logger.setLevel(logging.DEBUG)
    try:
        assert (real.level, attempt.context.logger.getEffectiveLevel()) == (logging.DEBUG, logging.DEBUG)
        attempt.context.logger.debug("detail")
    finally:
        real.setLevel(logging.NOTSET)
    assert attempt.messages == ["detail"]


def test_a_context_outside_of_a_server_logs_as_usual(caplog: pytest.LogCaptureFixture) -> None:
    context = Context(run_id="r", step_id="s")
    context.logger.info("info")
    context.logger.warning("warning")
    assert caplog.messages == ["warning"]


@pytest.mark.usefixtures("captured")
def test_a_message_of_the_context_is_kept_once(attempt: Attempt) -> None:
    attempt.run(attempt.context.logger.error, "once")
    assert attempt.messages == ["once"]


# Other loggers.


@pytest.mark.usefixtures("captured")
async def test_another_logger_is_captured_in_the_context_of_the_attempt_only(attempt: Attempt) -> None:
    async def act() -> None:
        attempt.sink.enter()
        logger.warning("on the loop")
        await run_in_thread(logger.warning, "on a thread")
        await asyncio.to_thread(logger.warning, "on a thread of asyncio")
        await asyncio.create_task(log_later())

    async def log_later() -> None:
        logger.warning("in a task")

    await asyncio.create_task(act())
    logger.warning("elsewhere")
    assert attempt.messages == ["on the loop", "on a thread", "on a thread of asyncio", "in a task"]


def test_without_capturing_no_other_logger_is_captured_and_the_root_logger_is_unchanged(attempt: Attempt) -> None:
    handlers = list(logging.getLogger().handlers)
    attempt.run(logger.error, "not taken")
    assert (attempt.messages, logging.getLogger().handlers) == ([], handlers)


@pytest.mark.usefixtures("captured")
def test_the_log_of_the_server_is_no_log_of_the_action(attempt: Attempt) -> None:
    server = logging.getLogger("stepwave_server.engine.local")
    attempt.run(server.error, "a defect")
    assert attempt.messages == []


@pytest.mark.usefixtures("captured")
def test_a_forked_process_keeps_nothing(attempt: Attempt) -> None:
    child = os.fork()
    if not child:
        attempt.context.logger.error("in the child")
        os._exit(1 if attempt.entries else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.usefixtures("captured")
def test_records_that_are_taken_are_recognised_where_they_are_logged(attempt: Attempt) -> None:
    found: list[bool] = []

    def look(record: logging.LogRecord) -> bool:
        found.append(is_captured(record))
        return True

    def log() -> None:
        attempt.sink.enter()
        logger.warning("other logger")
        attempt.context.logger.warning("context")
        attempt.sink.close()
        logger.warning("late")
        attempt.context.logger.warning("late")

    handler = logging.NullHandler()
    handler.handle = look  # type: ignore[method-assign]  # looks at each record
    logging.getLogger().addHandler(handler)
    try:
        contextvars.copy_context().run(log)
    finally:
        logging.getLogger().removeHandler(handler)
    assert found == [True, True, False, False]


# The end of the attempt, and errors.


@pytest.mark.usefixtures("captured")
def test_nothing_is_taken_after_the_end_of_the_attempt(attempt: Attempt) -> None:
    attempt.sink.close()
    attempt.context.logger.error("late")
    attempt.run(logger.error, "late")
    assert attempt.messages == []


def test_an_ended_attempt_is_not_kept_alive_by_its_logger() -> None:
    class Owner:
        def keep(self, entry: LogEntry) -> None: ...

    owner = Owner()
    sink, found = LogSink(owner.keep, tracebacks=True), weakref.ref(owner)
    del owner
    assert found() is not None
    sink.close()
    assert found() is None


class _Hostile:
    def __str__(self) -> str:
        raise SystemExit("no text")


@pytest.mark.parametrize(
    ("message", "arguments", "kept"),
    [
        (_Hostile(), (), "(its text cannot be read: SystemExit)"),
        ("%d", ("x",), "(its text cannot be read: TypeError)"),
        ("a\ud800b", (), "a?b"),
    ],
)
def test_a_message_that_cannot_be_read_raises_nothing(
    attempt: Attempt, message: object, arguments: tuple[object, ...], kept: str
) -> None:
    attempt.context.logger.info(message, *arguments)
    assert attempt.messages == [kept]


def test_an_error_while_a_record_is_kept_never_reaches_the_action(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: LogEntry) -> None:
        raise RuntimeError

    sink = LogSink(fail, tracebacks=True)
    Context(run_id="r", step_id="s", log=sink.take).logger.info("lost")
    assert caplog.messages == ["a log record of an action was lost"]


# What is kept of a record.


@pytest.mark.parametrize(
    ("number", "level"),
    [
        (logging.INFO, LogLevel.INFO),
        (25, LogLevel.INFO),
        (logging.WARNING, LogLevel.WARNING),
        (logging.ERROR, LogLevel.ERROR),
        (logging.CRITICAL, LogLevel.CRITICAL),
        (99, LogLevel.CRITICAL),
    ],
)
def test_levels_between_the_usual_ones_count_as_the_lower_one(attempt: Attempt, number: int, level: LogLevel) -> None:
    attempt.context.logger.log(number, "x")
    assert [entry.level for entry in attempt.entries] == [level]


@pytest.mark.parametrize("character", ["x", "é", "🙂"])
def test_a_long_message_is_cut_with_an_ellipsis(attempt: Attempt, character: str) -> None:
    attempt.context.logger.info(character * 10_000)
    (message,) = attempt.messages
    assert MAX_MESSAGE - 4 <= len(message.encode()) <= MAX_MESSAGE
    assert message == character * (len(message) - 1) + "…"


def _log_error(attempt: Attempt) -> None:
    try:
        _fail()
    except LookupError:
        attempt.context.logger.exception("failed")


def _fail() -> None:
    raise LookupError("no such thing")


def test_a_logged_exception_has_its_traceback(attempt: Attempt) -> None:
    _log_error(attempt)
    (message,) = attempt.messages
    lines = message.splitlines()
    assert (lines[0], lines[1], lines[-1]) == (
        "failed",
        "Traceback (most recent call last):",
        "LookupError: no such thing",
    )
    assert "in _log_error" in message
    assert "in _fail" in message


def test_without_tracebacks_a_logged_exception_has_none() -> None:
    attempt = Attempt(tracebacks=False)
    _log_error(attempt)
    attempt.context.logger.info("a stack", stack_info=True)
    assert attempt.messages == ["failed", "a stack"]


def test_a_logged_stack_ends_with_the_line_that_logs(attempt: Attempt) -> None:
    attempt.context.logger.info("here", stack_info=True)
    (message,) = attempt.messages
    assert message.startswith("here\n")
    assert 'attempt.context.logger.info("here", stack_info=True)' in message
    assert len(message) < 2 * MAX_MESSAGE
