"""Decoding of events: the decoded event is equal, folds to the same run, and is encoded to the same bytes."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwave.v1 import event_pb2
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave_server.core.decide import Decision, decide
from stepwave_server.core.evolve import fold, new_run
from stepwave_server.core.messages import (
    AddSteps,
    AttemptExpanded,
    AttemptFailed,
    AttemptInterrupted,
    AttemptLost,
    AttemptStarted,
    AttemptSucceeded,
    CancelRequested,
    Event,
    Input,
    RunFinished,
    RunStarted,
    RunStopping,
    Started,
    StepExpanded,
    StepFinished,
    StepReady,
    StepRetrying,
    StepsAdded,
    StepsReused,
    StepStarted,
    StepStopping,
    Timer,
    TimerFired,
    Wave,
    WaveFinished,
    WaveStarted,
)
from stepwave_server.core.model import (
    SECOND,
    Binding,
    Blob,
    Failure,
    FailureCause,
    FailurePolicy,
    FallbackAction,
    FromInput,
    FromStep,
    Join,
    OnInterrupt,
    Payload,
    Reason,
    Retry,
    Scheduling,
    Skip,
    SkipCause,
    State,
    Step,
    Workflow,
)
from stepwave_server.core.replay import replay
from stepwave_server.core.state import RunOptions
from stepwave_server.wire.events.decode import from_message, to_event, to_events
from stepwave_server.wire.events.encode import Encoder, Kind, Record, decode
from unit.server.core.build import flow, retry, step
from unit.server.core.driver import EVALUATOR, NOON
from unit.server.core.snapshot import snapshot

ENCODER = Encoder("the-run", "the-flow", 5_000_000_001)

ids = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,127}", fullmatch=True)
times = st.integers(0, 4_000_000_000_000_000_000)
counts = st.integers(0, (1 << 32) - 1)
payloads: st.SearchStrategy[Payload] = st.one_of(
    st.just("null"),
    st.text(max_size=300),
    st.builds(Blob, st.sampled_from(["image/png", ""]), st.binary(max_size=300)),
)
details = st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3)
failures = st.builds(
    Failure,
    st.sampled_from(Reason),
    st.text(max_size=50),
    st.booleans(),
    st.none() | st.integers(0, 10**15),
    st.just("") | ids,
    counts,
    details.map(lambda found: tuple(sorted(found.items()))),
    st.sampled_from(FailureCause),
)
waves = st.lists(st.builds(Wave, counts, st.lists(ids, max_size=3).map(tuple)), max_size=3).map(tuple)
bindings = st.builds(
    Binding,
    st.sampled_from(["", "/a", "/a/0"]),
    st.one_of(st.builds(FromStep, ids, st.sampled_from(["", "/x"])), st.builds(FromInput, st.sampled_from(["", "/y"]))),
    st.none() | st.sampled_from(["null", '{"a": 1.10}', Blob("image/png", b"\x00")]),
)
retries = st.builds(
    Retry,
    st.integers(1, 1_000),
    st.integers(0, 10**15),
    st.floats(1, 1e9),
    st.integers(0, 10**15),
    st.floats(0, 1),
    st.lists(st.sampled_from(Reason), min_size=1, max_size=3).map(tuple),
)
fallbacks = st.builds(
    FallbackAction,
    st.sampled_from(["echo", "an.action"]),
    st.none() | st.sampled_from(["null", "[1.10]"]),
    st.lists(bindings, max_size=2).map(
        lambda found: tuple(replace(binding, position=index) for index, binding in enumerate(found))
    ),
)
steps = st.builds(
    Step,
    ids,
    st.sampled_from(["echo", "an.action"]),
    st.lists(ids, max_size=3).map(tuple),
    st.none() | st.sampled_from(["null", "[9007199254740993]", Blob("image/png", b"\x00")]),
    st.lists(bindings, max_size=3).map(
        lambda found: tuple(replace(binding, position=index) for index, binding in enumerate(found))
    ),
    st.none() | st.integers(1, 10**15),
    st.sampled_from(Join),
    st.booleans(),
    st.sampled_from(OnInterrupt),
    st.none() | retries,
    st.none() | st.integers(1, 10**15),
    st.none() | st.sampled_from(["null", Blob("image/png", b"\x00")]) | fallbacks,
)
nested = st.builds(
    Workflow,
    name=ids,
    steps=st.lists(steps, max_size=3).map(tuple),
    scheduling=st.sampled_from(Scheduling),
    failure_policy=st.sampled_from(FailurePolicy),
    max_parallelism=counts,
    timeout=st.none() | st.integers(1, 10**15),
    labels=st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3),
    outputs=st.lists(ids, max_size=3).map(tuple),
    retry=st.none() | retries,
)
ends = st.builds(
    StepFinished,
    times,
    ids,
    st.sampled_from(["echo", "an.action"]),
    st.sampled_from(State),
    counts,
    counts,
    st.none() | payloads,
    st.none() | failures,
    st.none() | st.builds(Skip, st.sampled_from(SkipCause), st.just("") | ids),
    st.none() | times,
    st.none() | times,
    st.booleans(),
    st.just("") | ids,
    st.none() | failures,
)
results = st.builds(
    RunFinished,
    times,
    st.sampled_from(State),
    times,
    st.dictionaries(ids, payloads, max_size=3).map(lambda found: tuple(sorted(found.items()))),
    st.lists(ids, max_size=3).map(tuple),
    counts,
    st.lists(failures, max_size=3).map(tuple),
    counts,
    st.tuples(*[counts] * len(State)),
)


def _stopping(time: int, step_id: str, failure: Failure) -> StepStopping:
    """Return the event. The contract has the id of the step in the failure alone."""
    return StepStopping(time, step_id, replace(failure, step_id=step_id))


def _in_order(outputs: list[tuple[str, Payload]]) -> tuple[tuple[str, Payload], ...]:
    """Return outputs as they are decoded: a map has no order."""
    return tuple(sorted(outputs, key=lambda output: output[0]))


events: dict[str, st.SearchStrategy[Event]] = {
    "run started": st.builds(RunStarted, times, waves, st.booleans(), counts, st.none() | times, st.booleans()),
    "wave started": st.builds(WaveStarted, times, counts),
    "step started": st.builds(StepStarted, times, ids, ids, counts, counts, times, times),
    "step retrying": st.builds(StepRetrying, times, ids, counts, failures, times, st.booleans(), st.booleans()),
    "step ready": st.builds(StepReady, times, ids, counts),
    "step finished": ends,
    "wave finished": st.builds(WaveFinished, times, counts),
    "steps added": st.builds(StepsAdded, times, st.lists(steps, max_size=3).map(tuple), waves, st.booleans()),
    "step expanded": st.builds(
        StepExpanded,
        times,
        ids,
        counts,
        st.sampled_from(["echo", "core.workflow"]),
        times,
        st.none() | counts,
    ),
    "step expanded to a workflow": st.builds(
        StepExpanded,
        times,
        ids,
        counts,
        st.just("core.workflow"),
        times,
        st.none(),
        nested,
        st.none() | payloads,
    ),
    "step stopping": st.builds(_stopping, times, ids, failures),
    "steps reused": st.builds(
        StepsReused,
        times,
        ids,
        st.lists(st.tuples(ids, payloads), max_size=3, unique_by=lambda it: it[0]).map(_in_order),
    ),
    "run stopping": st.builds(RunStopping, times, failures, st.text(max_size=50)),
    "run finished": results,
}


@pytest.mark.parametrize("kind", events)
@given(st.data())
def test_a_decoded_event_equals_the_encoded_one(kind: str, data: st.DataObject) -> None:
    event = data.draw(events[kind])
    assert to_event(ENCODER.encode(7, event)) == event


@given(times, st.permutations([("b", "1"), ("a", "2"), ("é", "3")]))
def test_details_and_outputs_in_any_order_give_the_same_bytes_again(now: int, pairs: list[tuple[str, str]]) -> None:
    failure = Failure(Reason.INTERNAL, "broke", details=tuple(pairs))
    ended = StepFinished(now, "s", "echo", State.FAILED, 0, 1, failure=failure)
    result = RunFinished(now, State.FAILED, now, tuple(pairs), (), 0, (failure,), 1, (0, 0, 0, 1, 0, 0))
    for event in (ended, RunStopping(now, failure), StepRetrying(now, "s", 1, failure, now), result):
        record = ENCODER.encode(7, event)
        assert ENCODER.encode(7, to_event(record)) == record


def test_every_kind_that_is_stored_can_be_decoded() -> None:
    transient = {Kind.STEP_CHUNK, Kind.STEP_PROGRESS, Kind.STEP_WAITING, Kind.STEP_LOG}
    assert {kind.name.lower().replace("_", " ") for kind in set(Kind) - transient} <= set(events)


# Whole runs.


def events_of(inputs: Sequence[Input], workflow: Workflow, *, is_open: bool = False) -> list[Event]:
    """Return the events of a run, with a second between two inputs."""
    run, decision = new_run(workflow, "null", RunOptions(open=is_open)), Decision()
    for index, each in enumerate(inputs):
        decide(run, each, NOON + index * SECOND, EVALUATOR, decision)
    assert run.finished is not None
    return decision.events


def attempted(step_id: str, output: Payload = "1", attempt: int = 1) -> list[Input]:
    return [AttemptStarted(step_id, attempt), AttemptSucceeded(step_id, attempt, output)]


def busy() -> tuple[Workflow, list[Event]]:
    """Return an open run with events of every kind. Its outputs are not declared in the order of their ids."""
    broke = Failure(
        Reason.ACTION_ERROR, "broke", retry_after=5, step_id="f", attempt=1, details=(("z", "1"), ("a", "2"))
    )
    workflow = flow(
        step("z"),
        step("b"),
        step("c", "b"),
        step("f", allow_failure=True),
        step("x", timeout=9, retry=retry(2, pause=1), fallback=FallbackAction("other")),
        step("w", action="core.workflow", timeout=4),
        step("l", over="[1,2]", body=flow(step("y", payload="5")), when="true"),
        go_on=True,
        timeout=3600,
    )
    inputs: list[Input] = [
        Started((("z", '"kept"'), ("w/y", "2")), "the-first"),
        AttemptStarted("b", 1),
        AttemptLost("b", 1),
        *attempted("b", Blob("image/png", b"\x00"), attempt=2),
        AddSteps((step("a", "late"), step("d", "f", join=Join.ANY))),
        AddSteps((step("late", payload="[1]"),), seal=True),
        *attempted("late"),
        *attempted("a"),
        AttemptStarted("f", 1),
        AttemptFailed("f", 1, broke),
        AttemptStarted("x", 1),
        AttemptFailed("x", 1, Failure(Reason.UNAVAILABLE, "gone", retryable=True, step_id="x", attempt=1)),
        TimerFired(Timer("backoff", "x", 1)),
        AttemptStarted("x", 2),
        AttemptFailed("x", 2, Failure(Reason.UNAVAILABLE, "gone", retryable=True, step_id="x", attempt=2)),
        AttemptStarted("x", 3),
        *attempted("l[1]/y"),
        *attempted("l[0]/y"),
        AttemptStarted("w", 1),
        AttemptExpanded("w", 1, flow(step("x"), step("y"), retry=retry(2), by_waves=True, outputs=("y",)), "7"),
        AttemptStarted("w/x", 1),
        TimerFired(Timer("own", "w", 1)),
        CancelRequested("enough"),
        AttemptLost("x", 3),
        AttemptInterrupted("w/x", 1, Failure(Reason.CANCELLED, "enough", step_id="w/x", attempt=1)),
    ]
    return workflow, events_of(inputs, workflow, is_open=True)


def test_a_run_of_decoded_events_is_the_same_run_after_every_event() -> None:
    workflow, happened = busy()
    assert {type(event) for event in happened} == set(Event.__args__)
    original, restored = (new_run(workflow, options=RunOptions(open=True)) for _ in range(2))
    for number, event in enumerate(happened, start=1):
        record = ENCODER.encode(number, event)
        decoded = to_event(record)
        fold(original, [event])
        fold(restored, [decoded])
        assert ENCODER.encode(number, decoded) == record
        assert _sorted(snapshot(original)) == _sorted(snapshot(restored))


def _sorted(taken: dict[str, object]) -> dict[str, object]:
    """Sort the details of failures. In the contract they are a map, which has no order."""
    return {name: _sorted_failure(value) for name, value in taken.items()}


def _sorted_failure(value: object) -> object:
    if isinstance(value, dict):
        return {name: _sorted_failure(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_sorted_failure(item) for item in value]
    return replace(value, details=tuple(sorted(value.details))) if isinstance(value, Failure) else value


def test_a_run_of_decoded_events_replays() -> None:
    workflow, happened = busy()
    result = happened[-1]
    assert isinstance(result, RunFinished)
    assert [step_id for step_id, _ in result.outputs] != sorted(step_id for step_id, _ in result.outputs)
    records = [ENCODER.encode(number, event) for number, event in enumerate(happened, start=1)]
    run = replay(new_run(workflow, options=RunOptions(open=True)), to_events(records), EVALUATOR)
    assert (run.finished, run.sequence) == (State.CANCELLED, len(records))


def test_a_message_gives_the_event_that_its_record_does() -> None:
    _, happened = busy()
    records = [ENCODER.encode(number, event) for number, event in enumerate(happened, start=1)]
    assert [from_message(decode(record)) for record in records] == [to_event(record) for record in records]


# What cannot be decoded.


@pytest.mark.parametrize(
    "record",
    [
        Record(Kind.STEP_CHUNK, ENCODER.encode(1, WaveStarted(0, 0)).data),
        Record(Kind.WAVE_STARTED, b"\xff"),
        Record(Kind.WAVE_STARTED, b""),
        Record(Kind.STEP_FINISHED, ENCODER.encode(1, WaveStarted(0, 0)).data),
    ],
    ids=["transient", "no protobuf", "nothing", "of another kind"],
)
def test_a_record_without_a_known_event_is_refused(record: Record) -> None:
    with pytest.raises(ValueError, match=f"kind <Kind.{record.kind.name}"):
        to_event(record)


@pytest.mark.parametrize("message", [event_pb2.RunEvent(), event_pb2.RunEvent(step_chunk=event_pb2.StepChunk())])
def test_a_message_without_an_event_that_is_stored_is_refused(message: event_pb2.RunEvent) -> None:
    with pytest.raises(ValueError, match="no event that this server knows and stores"):
        from_message(message)


def test_an_added_step_with_an_unsupported_field_is_refused() -> None:
    record = ENCODER.encode(1, StepsAdded(0, (Step("a", "echo"),), (), sealed=False))
    response = pb.WatchRunResponse.FromString(record.data)
    response.events[0].steps_added.steps[0].join = 99  # type: ignore[assignment]  # a value of a later version
    with pytest.raises(ValueError, match=r'step "a"\.join: this server does not know the value 99'):
        to_event(Record(Kind.STEPS_ADDED, response.SerializeToString()))
