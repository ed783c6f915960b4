"""Tests of the transient events that are kept for watchers that join."""

from stepwave_server.engine.streams.transients import MAX_CHUNK_BYTES, Transient, TransientEvents
from stepwave_server.wire.events.encode import Kind


def _chunk(after: int, size: int = 10) -> Transient:
    return Transient(after, Kind.STEP_CHUNK, b"x" * size)


def _progress(after: int) -> Transient:
    return Transient(after, Kind.STEP_PROGRESS, b"p")


def test_there_are_no_transient_events_at_first() -> None:
    assert TransientEvents().all() == []


def test_chunks_are_kept_in_order() -> None:
    transients = TransientEvents()
    chunks = [_chunk(1, size) for size in (1, 2, 3)]
    for chunk in chunks:
        transients.add("a", chunk)
    assert transients.all() == chunks


def test_only_the_newest_progress_of_a_step_is_kept() -> None:
    transients = TransientEvents()
    transients.add("a", _progress(1))
    transients.add("a", _chunk(2))
    transients.add("a", _progress(3))
    assert transients.all() == [_chunk(2), _progress(3)]


def test_events_of_several_steps_are_in_order_of_time() -> None:
    transients = TransientEvents()
    transients.add("b", _chunk(5))
    transients.add("a", _chunk(2))
    transients.add("b", _chunk(6))
    assert [transient.after for transient in transients.all()] == [2, 5, 6]


def test_the_oldest_chunks_of_a_step_are_dropped() -> None:
    transients = TransientEvents()
    for number in range(100):
        transients.add("a", _chunk(number, MAX_CHUNK_BYTES // 10))
    kept = [transient.after for transient in transients.all()]
    assert kept == list(range(90, 100))


def test_many_chunks_of_one_step_drop_none_of_another() -> None:
    transients = TransientEvents()
    transients.add("b", _chunk(0))
    for number in range(100):
        transients.add("a", _chunk(number, MAX_CHUNK_BYTES))
    assert [len(transient.data) for transient in transients.all()] == [10, MAX_CHUNK_BYTES]


def test_a_single_chunk_beyond_the_bound_is_kept() -> None:
    transients = TransientEvents()
    transients.add("a", _chunk(1, MAX_CHUNK_BYTES * 5))
    assert len(transients.all()) == 1


def test_the_events_of_a_step_are_forgotten_when_it_ends() -> None:
    transients = TransientEvents()
    transients.add("a", _chunk(1))
    transients.add("a", _progress(1))
    transients.add("b", _chunk(2))
    transients.forget("a")
    transients.forget("c")
    assert transients.all() == [_chunk(2)]
