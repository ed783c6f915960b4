"""Definitions of runs as messages and back."""

from hypothesis import given
from hypothesis import strategies as st

from stepwave.v1 import orchestrator_pb2, workflow_pb2
from stepwave_server.core.info import RunKey, seed_of
from stepwave_server.core.model import Blob, Payload
from stepwave_server.core.state import RunOptions
from stepwave_server.core.validate import Limits
from stepwave_server.wire.workflows.definition import Definition, from_definition, to_definition

KEY = RunKey("default", "r")
counts = st.integers(0, (1 << 32) - 1)
payloads: st.SearchStrategy[Payload] = st.one_of(
    st.just("null"), st.just('{"n":9007199254740993}'), st.builds(Blob, st.just("image/png"), st.binary(max_size=9))
)
options = st.builds(
    RunOptions,
    open=st.booleans(),
    step_timeout=st.integers(1, 10**18),
    limits=st.builds(Limits, max_steps=counts, max_edges=counts),
    seed=st.just(seed_of(KEY)),  # made of the key
    version=counts,
    max_payload_bytes=st.none() | st.integers(1, (1 << 32) - 1),
)
definitions = st.builds(
    Definition,
    st.just(KEY),
    st.just(workflow_pb2.Workflow(name="w", labels={"b": "1", "a": "2"}).SerializeToString(deterministic=True)),
    payloads,
    options,
    st.integers(0, 4_000_000_000_000_000_000),
    st.sampled_from(["", "earlier"]),
)


@given(definitions)
def test_a_decoded_definition_equals_the_encoded_one(definition: Definition) -> None:
    message = to_definition(**definition._asdict())
    sent = orchestrator_pb2.RunDefinition.FromString(message.SerializeToString())
    assert from_definition(sent) == definition
