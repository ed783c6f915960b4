"""Pages of what the attempts of a run on Temporal have logged."""

from collections.abc import Sequence

from stepwave.v1 import orchestrator_pb2
from stepwave_server.engine.base import LogPage
from stepwave_server.engine.temporal.transients import LogMessage, log_page
from stepwave_server.wire.events.encode import LogEntry, LogLevel


def _message(number: int, step_id: str = "s", time: int = 0) -> LogMessage:
    return LogMessage(number, time, step_id, 1, LogEntry(LogLevel.INFO, "x", f"message {number}"))


def _numbers(page: LogPage) -> list[int]:
    found = [orchestrator_pb2.WatchRunResponse.FromString(data).events[0] for data in page.events]
    return [event.step_log.index for event in found]


def _pages(messages: Sequence[LogMessage], step_id: str = "") -> list[list[int]]:
    """Return the numbers of all pages of two messages."""
    pages, after = [], 0
    while True:
        page = log_page("run", messages, step_id, after, 2)
        pages.append(_numbers(page))
        after = page.next_after
        if not after:
            return pages


def test_pages_have_all_messages_in_order() -> None:
    assert _pages([_message(number) for number in range(1, 6)]) == [[1, 2], [3, 4], [5]]
    assert _pages([_message(number) for number in range(1, 5)]) == [[1, 2], [3, 4]]
    assert _pages([]) == [[]]


def test_pages_of_a_step_have_its_messages_alone() -> None:
    messages = [_message(number, "ab"[number % 2]) for number in range(1, 8)]
    assert _pages(messages, "a") == [[2, 4], [6]]


def test_messages_that_are_no_longer_kept_are_counted() -> None:
    assert log_page("run", [_message(4), _message(5)], "", 0, 10).dropped == 3
    assert log_page("run", [], "", 0, 10).dropped == 0


def test_times_never_go_back_though_the_clocks_of_hosts_differ() -> None:
    page = log_page("run", [_message(1, time=5), _message(2, time=3), _message(3, time=7)], "", 0, 10)
    events = [orchestrator_pb2.WatchRunResponse.FromString(data).events[0] for data in page.events]
    assert [event.time.ToNanoseconds() for event in events] == [5, 5, 7]
