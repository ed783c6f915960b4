"""Exceptions of actions to failures."""

import json
import traceback
from datetime import timedelta
from typing import Any

import pytest

from stepwave import ActionError
from stepwave_server.actions.failures import ActionFailed, cut, failure_of
from stepwave_server.core.model import Failure, Reason


class Lost(Exception):
    pass


class Mute(Exception):
    """Raises another when it shall say what it is about."""

    def __str__(self) -> str:
        raise self.args[0]


def _inner() -> None:
    raise Lost("no map")


def _failure(error: BaseException, *, tracebacks: bool = True) -> Failure:
    return failure_of(error, "step", 2, tracebacks=tracebacks)


def _raised() -> Lost:
    try:
        _inner()
    except Lost as error:
        return error
    raise AssertionError


def test_a_failure_names_the_exception_the_step_and_the_attempt() -> None:
    failure = _failure(_raised())
    assert (failure.reason, failure.message) == (Reason.ACTION_ERROR, "Lost: no map")
    assert (failure.step_id, failure.attempt, failure.retryable) == ("step", 2, True)


def test_details_say_where_it_was_raised() -> None:
    details = dict(_failure(_raised()).details)
    assert details["exception"] == "Lost"
    assert details["file"] == __file__
    assert details["function"] == "_inner"
    assert int(details["line"]) > 0
    assert details["traceback"].endswith("Lost: no map\n")


def test_details_name_the_actions_own_line_and_not_the_librarys_below_it() -> None:
    with pytest.raises(ValueError, match="Expecting") as raised:
        json.loads("{")
    details = dict(_failure(raised.value).details)
    assert (details["file"], details["function"]) == (
        __file__,
        "test_details_name_the_actions_own_line_and_not_the_librarys_below_it",
    )
    assert "json/decoder.py" in details["traceback"]


def test_tracebacks_can_be_left_out() -> None:
    assert _failure(_raised(), tracebacks=False).details == (("exception", "Lost"),)


def test_a_cause_is_told() -> None:
    error = Lost("twice")
    error.__cause__ = _raised()
    assert "direct cause" in dict(_failure(error).details)["traceback"]


def test_what_is_known_by_its_kind_keeps_it() -> None:
    failure = _failure(ActionFailed(Reason.RATE_LIMITED, "slow down", retryable=True))
    assert (failure.reason, failure.message, failure.retryable) == (Reason.RATE_LIMITED, "slow down", True)
    assert failure.details == ()


def test_an_action_says_of_what_kind_its_failure_is() -> None:
    told = ActionError("no such city", reason="not_found", retryable=False)
    failure = _failure(told, tracebacks=False)
    assert (failure.reason, failure.message, failure.retryable) == (Reason.NOT_FOUND, "no such city", False)
    assert (failure.retry_after, failure.details) == (None, (("exception", "ActionError"),))


@pytest.mark.parametrize("wait", [1.5, timedelta(seconds=1.5)])
def test_an_action_says_when_to_come_back(wait: float | timedelta) -> None:
    failure = _failure(ActionError("slow down", reason="rate_limited", retry_after=wait))
    assert (failure.retryable, failure.retry_after) == (True, 1_500_000_000)


def test_an_action_need_not_say_more_than_what_went_wrong() -> None:
    assert _failure(ActionError("")).message == ""
    assert _failure(ActionError("no")).reason is Reason.ACTION_ERROR


@pytest.mark.parametrize("wrong", [{"reason": "bad luck"}, {"reason": "unknown"}, {"retry_after": -1}])
def test_an_action_cannot_say_nonsense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"bad luck|has a reason|not be negative"):
        ActionError("no", **wrong)


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()], ids=lambda e: type(e).__name__)
def test_what_is_no_exception_proper_is_not_worth_another_attempt(error: BaseException) -> None:
    assert not _failure(error).retryable


def test_an_exception_without_words_is_named() -> None:
    assert _failure(Lost()).message == "Lost"


@pytest.mark.parametrize("raised", [RuntimeError, SystemExit, KeyboardInterrupt])
def test_an_exception_whose_text_cannot_be_had_is_told(raised: type[BaseException]) -> None:
    assert _failure(Mute(raised)).message == f"Mute: (its text cannot be had: {raised.__name__})"


def test_a_long_message_is_cut() -> None:
    message = _failure(Lost("x" * 10_000)).message
    assert len(message) == 2_048
    assert message.endswith("…")


def test_a_long_traceback_keeps_its_end_and_the_bound() -> None:
    def sink(depth: int) -> None:
        if not depth:
            raise Lost("☃" * 3_000)
        sink(depth - 1)

    with pytest.raises(Lost) as raised:
        sink(100)
    found = dict(_failure(raised.value).details)["traceback"]
    assert len(found.encode()) <= 8_192 + 3
    assert found.endswith("☃\n")


def test_text_that_utf_8_cannot_hold_is_replaced() -> None:
    failure = _failure(Lost("\ud800"))
    assert failure.message == "Lost: ?"
    dict(failure.details)["traceback"].encode()


def test_a_group_of_exceptions_is_told_whole() -> None:
    group = ExceptionGroup("two", [Lost("one"), ValueError("other")])
    found = dict(_failure(group).details)["traceback"]
    assert "Lost: one" in found
    assert "ValueError: other" in found


def test_cutting_keeps_what_is_short_enough() -> None:
    assert cut("abc", 3) == "abc"
    assert cut("abcd", 3) == "ab…"


def test_the_servers_own_frames_are_left_out() -> None:
    with pytest.raises(TypeError) as raised:
        cut(None, 1)  # type: ignore[arg-type]  # breaks inside the server
    assert "failures.py" in "".join(traceback.format_exception(raised.value))
    assert dict(_failure(raised.value).details)["file"] == __file__
