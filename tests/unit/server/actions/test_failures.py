"""Exceptions of actions to failures."""

import json
import traceback
from datetime import timedelta
from typing import Any

import pytest

from stepwave import ActionError
from stepwave_server.actions.failures import ActionFailed, cut, failure_of
from stepwave_server.core.model import Failure, Reason


class MapMissing(Exception):
    pass


class Unprintable(Exception):
    """An exception whose text raises another exception."""

    def __str__(self) -> str:
        raise self.args[0]


def _inner() -> None:
    raise MapMissing("no map")


def _failure(error: BaseException, *, tracebacks: bool = True) -> Failure:
    return failure_of(error, "step", 2, tracebacks=tracebacks)


def _raised() -> MapMissing:
    try:
        _inner()
    except MapMissing as error:
        return error
    raise AssertionError


def test_a_failure_has_the_exception_the_step_and_the_attempt() -> None:
    failure = _failure(_raised())
    assert (failure.reason, failure.message) == (Reason.ACTION_ERROR, "MapMissing: no map")
    assert (failure.step_id, failure.attempt, failure.retryable) == ("step", 2, True)


def test_details_have_the_location() -> None:
    details = dict(_failure(_raised()).details)
    assert details["exception"] == "MapMissing"
    assert details["file"] == __file__
    assert details["function"] == "_inner"
    assert int(details["line"]) > 0
    assert details["traceback"].endswith("MapMissing: no map\n")


def test_details_have_the_actions_own_line_rather_than_a_librarys() -> None:
    with pytest.raises(ValueError, match="Expecting") as raised:
        json.loads("{")
    details = dict(_failure(raised.value).details)
    assert (details["file"], details["function"]) == (
        __file__,
        "test_details_have_the_actions_own_line_rather_than_a_librarys",
    )
    assert "json/decoder.py" in details["traceback"]


def test_tracebacks_can_be_left_out() -> None:
    assert _failure(_raised(), tracebacks=False).details == (("exception", "MapMissing"),)


def test_a_traceback_has_the_cause() -> None:
    error = MapMissing("twice")
    error.__cause__ = _raised()
    assert "direct cause" in dict(_failure(error).details)["traceback"]


def test_an_action_failed_keeps_its_reason() -> None:
    failure = _failure(ActionFailed(Reason.RATE_LIMITED, "slow down", retryable=True))
    assert (failure.reason, failure.message, failure.retryable) == (Reason.RATE_LIMITED, "slow down", True)
    assert failure.details == ()


def test_an_action_error_has_a_reason() -> None:
    error = ActionError("no such city", reason="not_found", retryable=False)
    failure = _failure(error, tracebacks=False)
    assert (failure.reason, failure.message, failure.retryable) == (Reason.NOT_FOUND, "no such city", False)
    assert (failure.retry_after, failure.details) == (None, (("exception", "ActionError"),))


@pytest.mark.parametrize("wait", [1.5, timedelta(seconds=1.5)])
def test_an_action_error_has_a_wait(wait: float | timedelta) -> None:
    failure = _failure(ActionError("slow down", reason="rate_limited", retry_after=wait))
    assert (failure.retryable, failure.retry_after) == (True, 1_500_000_000)


def test_an_action_error_needs_only_a_message() -> None:
    assert _failure(ActionError("")).message == ""
    assert _failure(ActionError("no")).reason is Reason.ACTION_ERROR


@pytest.mark.parametrize("invalid", [{"reason": "bad luck"}, {"reason": "unknown"}, {"retry_after": -1}])
def test_an_invalid_action_error_is_rejected(invalid: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"bad luck|needs a reason|not be negative"):
        ActionError("no", **invalid)


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()], ids=lambda e: type(e).__name__)
def test_a_base_exception_is_not_retryable(error: BaseException) -> None:
    assert not _failure(error).retryable


def test_an_exception_without_text_has_its_class_as_message() -> None:
    assert _failure(MapMissing()).message == "MapMissing"


@pytest.mark.parametrize("raised", [RuntimeError, SystemExit, KeyboardInterrupt])
def test_an_exception_whose_text_raises_is_reported(raised: type[BaseException]) -> None:
    assert _failure(Unprintable(raised)).message == f"Unprintable: (its text cannot be read: {raised.__name__})"


def test_a_long_message_is_cut() -> None:
    message = _failure(MapMissing("x" * 10_000)).message
    assert len(message) == 2_048
    assert message.endswith("…")


def test_a_long_traceback_is_cut_to_its_end() -> None:
    def recurse(depth: int) -> None:
        if not depth:
            raise MapMissing("☃" * 3_000)
        recurse(depth - 1)

    with pytest.raises(MapMissing) as raised:
        recurse(100)
    found = dict(_failure(raised.value).details)["traceback"]
    assert len(found.encode()) <= 8_192 + 3
    assert found.endswith("☃\n")


def test_text_that_utf_8_cannot_hold_is_replaced() -> None:
    failure = _failure(MapMissing("\ud800"))
    assert failure.message == "MapMissing: ?"
    dict(failure.details)["traceback"].encode()


def test_a_traceback_has_all_exceptions_of_a_group() -> None:
    group = ExceptionGroup("two", [MapMissing("one"), ValueError("other")])
    found = dict(_failure(group).details)["traceback"]
    assert "MapMissing: one" in found
    assert "ValueError: other" in found


def test_a_short_text_is_not_cut() -> None:
    assert cut("abc", 3) == "abc"
    assert cut("abcd", 3) == "ab…"


def test_the_servers_own_frames_are_left_out_of_the_location() -> None:
    with pytest.raises(TypeError) as raised:
        cut(None, 1)  # type: ignore[arg-type]  # breaks inside the server
    assert "failures.py" in "".join(traceback.format_exception(raised.value))
    assert dict(_failure(raised.value).details)["file"] == __file__
