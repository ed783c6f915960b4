"""What running attempts said so far, within bounds."""

from stepwave_server.engine.streams.transients import MAX_CHUNK_BYTES, Transient, TransientEvents
from stepwave_server.wire.events.encode import Kind


def _chunk(after: int, size: int = 10) -> Transient:
    return Transient(after, Kind.STEP_CHUNK, b"x" * size)


def _progress(after: int) -> Transient:
    return Transient(after, Kind.STEP_PROGRESS, b"p")


def test_nothing_was_said_at_first() -> None:
    assert TransientEvents().all() == []


def test_chunks_are_remembered_in_order() -> None:
    live = TransientEvents()
    said = [_chunk(1, size) for size in (1, 2, 3)]
    for chunk in said:
        live.add("a", chunk)
    assert live.all() == said


def test_of_progress_the_newest_is_remembered() -> None:
    live = TransientEvents()
    live.add("a", _progress(1))
    live.add("a", _chunk(2))
    live.add("a", _progress(3))
    assert live.all() == [_chunk(2), _progress(3)]


def test_steps_are_shown_by_when_they_spoke() -> None:
    live = TransientEvents()
    live.add("b", _chunk(5))
    live.add("a", _chunk(2))
    live.add("b", _chunk(6))
    assert [transient.after for transient in live.all()] == [2, 5, 6]


def test_the_oldest_chunks_of_a_step_make_room() -> None:
    live = TransientEvents()
    for number in range(100):
        live.add("a", _chunk(number, MAX_CHUNK_BYTES // 10))
    kept = [transient.after for transient in live.all()]
    assert kept == list(range(90, 100))


def test_a_step_that_says_much_takes_no_room_of_others() -> None:
    live = TransientEvents()
    live.add("b", _chunk(0))
    for number in range(100):
        live.add("a", _chunk(number, MAX_CHUNK_BYTES))
    assert [len(transient.data) for transient in live.all()] == [10, MAX_CHUNK_BYTES]


def test_a_chunk_that_passes_the_bound_alone_is_remembered() -> None:
    live = TransientEvents()
    live.add("a", _chunk(1, MAX_CHUNK_BYTES * 5))
    assert len(live.all()) == 1


def test_what_a_step_said_is_forgotten_when_it_ends() -> None:
    live = TransientEvents()
    live.add("a", _chunk(1))
    live.add("a", _progress(1))
    live.add("b", _chunk(2))
    live.forget("a")
    live.forget("c")
    assert live.all() == [_chunk(2)]
