"""Tests of the logs of runs: their order, their bounds, and their deletion."""

import threading
from itertools import count

from stepwave.v1.event_pb2 import RunEvent
from stepwave_server.core.info import RunKey
from stepwave_server.engine.streams.logs import MAX_RECORDS, MAX_RUN_BYTES, RECORD_OVERHEAD, LogStore, RunLog
from stepwave_server.wire.events.encode import LogEntry, LogLevel, decode_all

FIRST, SECOND, THIRD = (RunKey("default", name) for name in ("run-1", "run-2", "run-3"))


def add(log: RunLog, message: str, step_id: str = "s") -> None:
    log.add(step_id, 1, LogEntry(LogLevel.INFO, "tools", message))


def events_of(store: LogStore, key: RunKey, step_id: str = "") -> list[RunEvent]:
    return list(decode_all(store.page(key, step_id, 0, 10_000).events))


def messages_of(store: LogStore, key: RunKey, step_id: str = "") -> list[str]:
    return [event.step_log.message for event in events_of(store, key, step_id)]


def store_for(count: int, size: int) -> LogStore:
    """Return a store that holds this number of records whose messages have this size."""
    probe = LogStore(lambda: 0)
    add(probe.open(FIRST), "x" * size)
    return LogStore(lambda: 0, max_bytes=count * probe.size)


def test_a_run_that_has_logged_nothing_has_no_messages() -> None:
    store = LogStore(lambda: 0)
    store.open(FIRST)
    assert store.page(FIRST, "", 0, 10) == ([], 0, 0)


def test_messages_are_kept_in_order_with_their_times_and_numbers() -> None:
    store = LogStore(count(5).__next__)
    log = store.open(FIRST)
    for message in ("a", "b"):
        add(log, message)
    events = events_of(store, FIRST)
    assert [(event.time.nanos, event.step_log.index, event.step_log.message) for event in events] == [
        (5, 1, "a"),
        (6, 2, "b"),
    ]
    assert {event.run_id for event in events} == {"run-1"}


def test_times_never_decrease_when_the_clock_is_set_back() -> None:
    store = LogStore(iter([7, 3]).__next__)
    log = store.open(FIRST)
    add(log, "a")
    add(log, "b")
    assert [event.time.nanos for event in events_of(store, FIRST)] == [7, 7]


def test_the_messages_of_one_step_are_found() -> None:
    store = LogStore(lambda: 0)
    log = store.open(FIRST)
    for step_id in ("a", "b", "a"):
        add(log, f"of {step_id}", step_id)
    assert messages_of(store, FIRST, "a") == ["of a", "of a"]
    assert messages_of(store, FIRST, "c") == []


def test_pages_continue_after_the_last_message_of_the_one_before() -> None:
    store = LogStore(lambda: 0)
    log = store.open(FIRST)
    for number in range(5):
        add(log, str(number), "a" if number % 2 == 0 else "b")
    first = store.page(FIRST, "a", 0, 2)
    assert ([event.step_log.index for event in decode_all(first.events)], first.next_after) == ([1, 3], 3)
    last = store.page(FIRST, "a", first.next_after, 2)
    assert ([event.step_log.index for event in decode_all(last.events)], last.next_after) == ([5], 0)


def test_beyond_the_number_of_records_of_a_run_the_oldest_are_dropped_and_counted() -> None:
    store = LogStore(lambda: 0)
    log = store.open(FIRST)
    for number in range(MAX_RECORDS + 3):
        add(log, str(number))
    assert messages_of(store, FIRST) == [str(number) for number in range(3, MAX_RECORDS + 3)]
    assert store.page(FIRST, "", 0, 1).dropped == 3


def test_beyond_the_size_of_a_run_the_oldest_records_are_dropped() -> None:
    store = LogStore(lambda: 0)
    log = store.open(FIRST)
    for _ in range(100):
        add(log, "x" * 8_000)
    kept = len(messages_of(store, FIRST))
    assert kept == MAX_RUN_BYTES // (store.size // kept)
    assert store.size <= MAX_RUN_BYTES
    assert store.page(FIRST, "", 0, 1).dropped == 100 - kept


def test_short_records_count_with_their_overhead() -> None:
    store = LogStore(lambda: 0)
    add(store.open(FIRST), "")
    assert store.size > RECORD_OVERHEAD


def test_beyond_the_size_of_all_runs_the_run_that_ended_first_loses_its_records_first() -> None:
    store = store_for(4, size=100)
    logs = [store.open(key) for key in (FIRST, SECOND, THIRD)]
    for log in logs:
        add(log, "x" * 100)
    logs[1].end()
    logs[0].end()
    for _ in range(3):
        add(logs[2], "y" * 100)
    assert [len(messages_of(store, key)) for key in (FIRST, SECOND, THIRD)] == [0, 0, 4]
    assert [store.page(key, "", 0, 1).dropped for key in (FIRST, SECOND, THIRD)] == [1, 1, 0]


def test_a_run_that_ended_earlier_loses_all_its_records_before_another_loses_one() -> None:
    store = store_for(4, size=100)
    logs = [store.open(key) for key in (FIRST, SECOND, THIRD)]
    for log in (logs[0], logs[1], logs[0]):
        add(log, "x" * 100)
    logs[0].end()
    logs[1].end()
    for _ in range(3):
        add(logs[2], "x" * 100)
    assert [len(messages_of(store, key)) for key in (FIRST, SECOND, THIRD)] == [0, 1, 3]


def test_if_no_run_has_ended_the_one_that_logged_first_loses_records() -> None:
    store = store_for(2, size=100)
    first, second = store.open(FIRST), store.open(SECOND)
    for log in (first, second, second, second):
        add(log, "x" * 100)
    assert [len(messages_of(store, key)) for key in (FIRST, SECOND)] == [0, 2]
    add(first, "x" * 100)
    assert [len(messages_of(store, key)) for key in (FIRST, SECOND)] == [1, 1]


def test_a_run_that_has_ended_takes_no_more_records() -> None:
    store = LogStore(lambda: 0)
    log = store.open(FIRST)
    add(log, "before")
    log.end()
    assert log.add("s", 1, LogEntry(LogLevel.INFO, "tools", "after")) is None
    assert messages_of(store, FIRST) == ["before"]


def test_a_deleted_run_leaves_nothing_behind() -> None:
    store = LogStore(lambda: 0)
    log = store.open(FIRST)
    add(log, "x")
    log.end()
    store.delete(FIRST)
    assert (messages_of(store, FIRST), store.size) == ([], 0)


def test_a_new_run_with_the_id_of_a_deleted_one_begins_anew() -> None:
    store = LogStore(lambda: 0)
    log = store.open(FIRST)
    add(log, "old")
    log.end()
    add(store.open(FIRST), "new")
    assert [(event.step_log.index, event.step_log.message) for event in events_of(store, FIRST)] == [(1, "new")]


def test_the_logs_of_evicted_runs_are_deleted_even_if_their_records_were_dropped() -> None:
    store = store_for(1, size=100)
    for key in (FIRST, SECOND, THIRD):
        log = store.open(key)
        add(log, "x" * 100)
        log.end()
    store.delete_evicted(lambda key: key == SECOND)
    assert [store.page(key, "", 0, 1).dropped for key in (FIRST, SECOND, THIRD)] == [0, 1, 0]
    assert store.size == 0


def test_threads_lose_no_record_and_give_each_a_number_of_its_own() -> None:
    store = LogStore(lambda: 0)
    log = store.open(FIRST)
    start = threading.Barrier(4)

    def write() -> None:
        start.wait()
        for _ in range(200):
            add(log, "x")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [event.step_log.index for event in events_of(store, FIRST)] == list(range(1, 801))
