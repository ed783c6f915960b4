"""The outputs of a run, which are stored once: they are removed, and restored."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from stepwave_server.core.messages import RunFinished, StepFinished
from stepwave_server.core.model import Blob, Payload, State
from stepwave_server.wire.events.encode import Encoder, decode
from stepwave_server.wire.events.outputs import with_outputs, without_outputs

ENCODER = Encoder("the-run", "the-flow", 5)

payloads: st.SearchStrategy[Payload] = st.one_of(
    st.sampled_from(["null", '{"n": 1.10}']), st.text(), st.builds(Blob, st.just("image/png"), st.binary())
)
outputs = st.dictionaries(st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True), payloads, min_size=1)


def _finished(outputs: dict[str, Payload]) -> RunFinished:
    return RunFinished(
        time=9,
        state=State.SUCCEEDED,
        start_time=7,
        outputs=tuple(outputs.items()),
        omitted=("large",),
        omitted_count=1,
        failures=(),
        failure_count=0,
        counts=(0, 0, len(outputs), 0, 0, 0),
    )


@given(outputs)
def test_outputs_are_restored_byte_for_byte(outputs: dict[str, Payload]) -> None:
    steps = [
        ENCODER.encode(number, StepFinished(8, step_id, "echo", State.SUCCEEDED, 0, 1, output=output))
        for number, (step_id, output) in enumerate(outputs.items(), start=1)
    ]
    record = ENCODER.encode(len(steps) + 1, _finished(outputs))
    assert with_outputs(without_outputs(record), steps) == record


@given(outputs)
def test_nothing_but_the_outputs_is_removed(outputs: dict[str, Payload]) -> None:
    stored = without_outputs(ENCODER.encode(3, _finished(outputs)))
    assert stored == ENCODER.encode(3, replace(_finished(outputs), outputs=()))
    assert not decode(stored).run_finished.result.outputs
