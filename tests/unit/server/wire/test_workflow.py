"""Workflows and steps as messages and back."""

from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from stepwave.v1 import payload_pb2, run_pb2, workflow_pb2
from stepwave_server.core.model import (
    Binding,
    Blob,
    FailurePolicy,
    FromInput,
    FromStep,
    Join,
    Payload,
    Retry,
    Scheduling,
    Step,
)
from stepwave_server.wire.workflows.workflow import Parsed, fill_step, parse_payload, parse_step, parse_workflow

ids = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
payloads: st.SearchStrategy[Payload] = st.sampled_from(["null", "1.10", '{"a": [1]}', Blob("image/png", b"\x00")])
bindings = st.lists(
    st.tuples(
        st.sampled_from(["", "/a", "/a/0"]),
        st.one_of(st.builds(FromStep, ids, st.sampled_from(["", "/x"])), st.builds(FromInput, st.just("/y"))),
        st.none() | payloads,
    ),
    max_size=3,
)
steps = st.builds(
    lambda step_id, action, deps, own, bound, timeout, join, allow, key: Step(
        step_id,
        action,
        tuple(deps),
        own,
        tuple(Binding(target, source, default, index) for index, (target, source, default) in enumerate(bound)),
        timeout,
        join,
        allow,
        concurrency_key=key,
    ),
    ids,
    ids,
    st.lists(ids, max_size=3),
    st.none() | payloads,
    bindings,
    st.none() | st.integers(1, 10**15),
    st.sampled_from(Join),
    st.booleans(),
    st.none() | st.sampled_from(["", "/tenant"]),
)


@given(steps)
def test_a_decoded_step_equals_the_encoded_one(step: Step) -> None:
    message = workflow_pb2.Step()
    fill_step(message, step)
    parsed = Parsed()
    assert parse_step(workflow_pb2.Step.FromString(message.SerializeToString()), "steps[0]", parsed) == step
    assert parsed == Parsed()


def test_every_field_of_a_workflow_is_read() -> None:
    message = workflow_pb2.Workflow(
        name="flow",
        steps=[workflow_pb2.Step(id="a", action="noop"), workflow_pb2.Step(id="b", action="noop", depends_on=["a"])],
        scheduling=workflow_pb2.SCHEDULING_WAVE,
        failure_policy=workflow_pb2.FAILURE_POLICY_CONTINUE,
        max_parallelism=3,
        labels={"team": "red"},
        outputs=["a"],
    )
    message.timeout.FromMilliseconds(1_500)
    parsed = Parsed()
    workflow = parse_workflow(message, parsed)
    assert parsed == Parsed()
    assert (workflow.name, workflow.max_parallelism, workflow.timeout) == ("flow", 3, 1_500_000_000)
    assert (workflow.scheduling, workflow.failure_policy) == (Scheduling.WAVE, FailurePolicy.CONTINUE)
    assert (workflow.labels, workflow.outputs) == ({"team": "red"}, ("a",))
    assert workflow.steps == (Step("a", "noop"), Step("b", "noop", ("a",)))


def test_a_field_that_is_not_set_has_its_default() -> None:
    message = workflow_pb2.Workflow(name="flow", steps=[workflow_pb2.Step(id="a", action="noop")])
    workflow = parse_workflow(message, Parsed())
    assert (workflow.scheduling, workflow.failure_policy) == (Scheduling.EAGER, FailurePolicy.FAIL_FAST)
    assert (workflow.max_parallelism, workflow.timeout, workflow.outputs) == (0, None, ())
    assert workflow.steps[0] == Step("a", "noop", join=Join.ALL)


def _parsed(step: workflow_pb2.Step) -> tuple[Step, Parsed]:
    parsed = Parsed()
    step.id, step.action = "a", "noop"
    return parse_step(step, "steps[0]", parsed), parsed


def test_a_field_of_a_policy_that_is_not_set_has_the_default_of_the_contract() -> None:
    step, parsed = _parsed(workflow_pb2.Step(retry=workflow_pb2.Retry()))
    assert step.retry == Retry(1, 500_000_000, 2.0, 30_000_000_000, 0.2)
    assert parsed == Parsed()


def test_zero_is_not_replaced_by_the_default_where_it_has_a_meaning() -> None:
    message = workflow_pb2.Retry(initial_backoff=Duration(), max_backoff=Duration(), jitter=0.0)
    step, _ = _parsed(workflow_pb2.Step(retry=message))
    assert step.retry == Retry(1, 0, 2.0, 0, 0.0)


def test_a_workflows_policy_is_read() -> None:
    message = workflow_pb2.Workflow(name="flow", retry=workflow_pb2.Retry(max_attempts=3))
    assert parse_workflow(message, Parsed()).retry == Retry(3)


def test_all_problems_of_durations_reasons_and_fallbacks_are_reported_at_once() -> None:
    message = workflow_pb2.Step(
        total_timeout=Duration(),
        retry=workflow_pb2.Retry(
            initial_backoff=Duration(seconds=-1),
            max_backoff=Duration(seconds=4_000_000_000),
            retryable_reasons=[run_pb2.FAILURE_REASON_TIMEOUT, 0, 99],  # type: ignore[list-item]  # of a later version
        ),
        fallback=workflow_pb2.Fallback(),
    )
    _, parsed = _parsed(message)
    assert [(problem.field, problem.description) for problem in parsed.invalid] == [
        ("steps[0].retry.initial_backoff", "must not be negative, got -1 s"),
        ("steps[0].retry.max_backoff", "must be at most 3,155,760,000 s (a hundred years), got 4e+09 s"),
        ("steps[0].total_timeout", "must be positive, got 0 s"),
        ("steps[0].fallback", "has no answer: set `action` or `value`"),
    ]
    assert [problem.field for problem in parsed.unsupported] == [
        "steps[0].retry.retryable_reasons[1]",
        "steps[0].retry.retryable_reasons[2]",
    ]


def test_a_fallback_needs_an_action_and_values_that_are_json() -> None:
    action = workflow_pb2.FallbackAction(input=payload_pb2.Payload(json="{"))
    action.bindings.add(target="/x")
    _, parsed = _parsed(workflow_pb2.Step(fallback=workflow_pb2.Fallback(action=action)))
    assert [problem.field for problem in parsed.invalid] == [
        "steps[0].fallback.action.action",
        "steps[0].fallback.action.input.json",
        "steps[0].fallback.action.bindings[0]",
    ]


def test_json_text_is_kept_as_it_is_written() -> None:
    message = payload_pb2.Payload(json=' {"n" : 1.10}\n')
    assert parse_payload(message, "input", Parsed()) == ' {"n" : 1.10}\n'


def test_a_blob_without_a_type_is_bytes() -> None:
    message = payload_pb2.Payload(blob=payload_pb2.Blob(data=b"x"))
    assert parse_payload(message, "input", Parsed()) == Blob("application/octet-stream", b"x")


def test_a_payload_at_the_bound_is_accepted_and_one_above_is_not() -> None:
    parsed = Parsed(max_payload_bytes=100)
    fits = payload_pb2.Payload(json='"' + "x" * 96 + '"')
    assert fits.ByteSize() == 100
    parse_payload(fits, "input", parsed)
    assert parsed.invalid == []
    parse_payload(payload_pb2.Payload(json='"' + "x" * 97 + '"'), "input", parsed)
    assert [violation.description for violation in parsed.invalid] == ["101 bytes are more than the 100 allowed"]


def test_unknown_fields_at_every_depth_are_reported_at_once() -> None:
    unknown = b"\xf8\x3f\x01"  # field 1023, a varint
    source = b"\x0a\x01b" + unknown
    binding = b"\x12" + bytes([len(source)]) + source + unknown
    step = b"\x0a\x01a\x12\x04noop\x2a" + bytes([len(binding)]) + binding + unknown
    message = workflow_pb2.Workflow.FromString(b"\x0a\x01t\x12" + bytes([len(step)]) + step + unknown)
    parsed = Parsed()
    parse_workflow(message, parsed)
    assert [(violation.field, violation.description.rpartition(" ")[2]) for violation in parsed.unsupported] == [
        ("workflow", "stepwave.v1.Workflow"),
        ("steps[0]", "stepwave.v1.Step"),
        ("steps[0].bindings[0]", "stepwave.v1.Binding"),
        ("steps[0].bindings[0].step", "stepwave.v1.StepOutput"),
    ]


def test_a_label_with_unknown_fields_is_refused() -> None:
    """Protobuf takes such an entry for an unknown field as a whole."""
    entry = b"\x0a\x01k\x12\x01v\xf8\x3f\x01"
    step = b"\x12\x09\x0a\x01a\x12\x04noop"
    parsed = Parsed()
    parse_workflow(workflow_pb2.Workflow.FromString(step + b"\x3a" + bytes([len(entry)]) + entry), parsed)
    assert [violation.field for violation in parsed.unsupported] == ["workflow"]
