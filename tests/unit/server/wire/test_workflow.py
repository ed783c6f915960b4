"""Workflows and steps as messages and back."""

from dataclasses import replace

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from stepwave.v1 import payload_pb2, run_pb2, workflow_pb2
from stepwave_server.core.model import (
    MAX_ITEMS,
    MAX_NESTING,
    WORKFLOW_ACTION,
    Binding,
    Blob,
    FailurePolicy,
    ForEach,
    FromExpression,
    FromInput,
    FromItem,
    FromSecret,
    FromStep,
    Join,
    Payload,
    Retry,
    Scheduling,
    Step,
    Workflow,
)
from stepwave_server.wire.workflows.workflow import Parsed, fill_step, parse_payload, parse_step, parse_workflow

ids = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
payloads: st.SearchStrategy[Payload] = st.sampled_from(["null", "1.10", '{"a": [1]}', Blob("image/png", b"\x00")])
pointers = st.sampled_from(["", "/x", "/x/0"])
expressions = st.sampled_from(["input.x", 'deps["a"].output > 1', " true "])
bindings = st.lists(
    st.tuples(
        st.sampled_from(["", "/a", "/a/0"]),
        st.one_of(
            st.builds(FromStep, ids, pointers),
            st.builds(FromInput, pointers),
            st.builds(FromItem, pointers),
            st.builds(FromExpression, expressions),
            st.builds(FromSecret, ids),
        ),
        st.none() | payloads,
    ),
    max_size=3,
)
lists = st.builds(
    ForEach,
    st.one_of(
        st.builds(FromStep, ids, pointers),
        st.builds(FromInput, pointers),
        st.builds(FromExpression, expressions),
        st.sampled_from(["[]", "[1.10, null]"]),
    ),
    st.integers(0, 2**32 - 1),
)


def _step(
    step_id: str, action: str, deps: list[str], bound: list[tuple[str, FromStep, Payload | None]], **fields: object
) -> Step:
    every = tuple(Binding(target, source, default, index) for index, (target, source, default) in enumerate(bound))
    return Step(step_id, action, tuple(deps), bindings=every, **fields)  # type: ignore[arg-type]  # fields by name


def _runs(workflow: Workflow | None, step: Step) -> Step:
    """Return the step, which runs a workflow in place of its action, if there is one."""
    return step if workflow is None else replace(step, action=WORKFLOW_ACTION, workflow=workflow, retry=None)


plain_steps = st.builds(
    _step,
    ids,
    ids,
    st.lists(ids, max_size=3),
    bindings,
    input=st.none() | payloads,
    timeout=st.none() | st.integers(1, 10**15),
    join=st.sampled_from(Join),
    allow_failure=st.booleans(),
    retry=st.none() | st.builds(Retry, st.integers(1, 9)),
    concurrency_key=st.none() | st.sampled_from(["", "/tenant"]),
    when=st.just("") | expressions,
    for_each=st.none() | lists,
)
workflows = st.recursive(
    st.none(),
    lambda nested: st.builds(
        Workflow,
        name=ids,
        steps=st.lists(st.builds(_runs, nested, plain_steps), max_size=2).map(tuple),
        scheduling=st.sampled_from(Scheduling),
        failure_policy=st.sampled_from(FailurePolicy),
        max_parallelism=st.integers(0, 9),
        timeout=st.none() | st.integers(1, 10**15),
        labels=st.dictionaries(ids, ids, max_size=1),
        outputs=st.lists(ids, max_size=2).map(tuple),
        retry=st.none() | st.builds(Retry, st.integers(1, 9)),
        input_schema=st.sampled_from(["", '{"type":"object"}']),
    ),
    max_leaves=4,
)
steps = st.builds(_runs, workflows, plain_steps)


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


def _nested(message: workflow_pb2.Workflow, depth: int) -> workflow_pb2.Workflow:
    """Return a workflow in `depth` others, each a step of the next one."""
    for _ in range(depth):
        message = workflow_pb2.Workflow(name="around", steps=[workflow_pb2.Step(id="s", workflow=message)])
    return message


def _problems(message: workflow_pb2.Workflow) -> list[tuple[str, str]]:
    parsed = Parsed()
    parse_workflow(message, parsed)
    return [(problem.field, problem.description) for problem in (*parsed.unsupported, *parsed.invalid)]


def test_a_step_with_a_workflow_has_the_action_that_runs_workflows() -> None:
    message = _nested(workflow_pb2.Workflow(name="inner", steps=[workflow_pb2.Step(id="a", action="noop")]), 1)
    (step,) = parse_workflow(message, Parsed()).steps
    assert step.action == WORKFLOW_ACTION
    assert step.workflow is not None
    assert step.workflow.steps == (Step("a", "noop"),)


def test_a_problem_of_a_nested_workflow_is_reported_at_its_place() -> None:
    inner = workflow_pb2.Workflow(steps=[workflow_pb2.Step(id="a"), workflow_pb2.Step(id="b", action="x", join=99)])  # type: ignore[arg-type]
    inner.steps[1].on_interrupt = 99  # type: ignore[assignment]  # a value of a later version
    inner.labels[""] = ""
    inner.timeout.SetInParent()
    assert [field for field, _ in _problems(_nested(inner, 2))] == [
        f"steps[0].workflow.steps[0].workflow.{field}"
        for field in ("steps[1].join", "steps[1].on_interrupt", "labels['']", "steps[0].action", "timeout")
    ]


def test_workflows_are_nested_to_a_bound() -> None:
    inner = workflow_pb2.Workflow(name="inner", steps=[workflow_pb2.Step(id="a", action="noop")])
    assert _problems(_nested(inner, MAX_NESTING)) == []
    field = ".".join(["steps[0].workflow"] * (MAX_NESTING + 1))
    assert _problems(_nested(inner, MAX_NESTING + 1)) == [(field, "more than 8 workflows are nested")]


def test_a_step_with_a_workflow_has_neither_an_action_nor_a_policy_of_its_own() -> None:
    message = _nested(workflow_pb2.Workflow(name="inner"), 1)
    message.steps[0].action = "noop"
    message.steps[0].retry.max_attempts = 2
    assert [field for field, _ in _problems(message)] == ["steps[0].action", "steps[0].retry"]


@pytest.mark.parametrize(
    ("step", "field", "problem"),
    [
        (workflow_pb2.Step(for_each=workflow_pb2.ForEach()), "for_each", "has no source"),
        (workflow_pb2.Step(for_each=workflow_pb2.ForEach(expression=" ")), "for_each.expression", "must not be empty"),
        (workflow_pb2.Step(bindings=[workflow_pb2.Binding(expression="")]), "bindings[0].expression", "must not be"),
        (workflow_pb2.Step(when="x" * 4_097), "when", "4,097 characters are more than the 4,096 allowed"),
    ],
)
def test_a_malformed_expression_or_list_is_reported(step: workflow_pb2.Step, field: str, problem: str) -> None:
    _, parsed = _parsed(step)
    (found,) = parsed.invalid
    assert found.field == f"steps[0].{field}"
    assert problem in found.description


@pytest.mark.parametrize(
    ("items", "problem"),
    [
        (payload_pb2.Payload(json="{}"), "must be a JSON array"),
        (payload_pb2.Payload(blob=payload_pb2.Blob(data=b"[]")), "must be a JSON array"),
        (payload_pb2.Payload(json="[" + "1," * MAX_ITEMS + "1]"), "100,001 items are more than the 100,000 allowed"),
    ],
)
def test_a_fixed_list_is_an_array_of_bounded_length(items: payload_pb2.Payload, problem: str) -> None:
    _, parsed = _parsed(workflow_pb2.Step(for_each=workflow_pb2.ForEach(items=items)))
    assert [(found.field, found.description) for found in parsed.invalid] == [("steps[0].for_each.items", problem)]


def test_a_fixed_list_at_the_bound_is_accepted() -> None:
    items = payload_pb2.Payload(json="[" + "1," * (MAX_ITEMS - 1) + "1]")
    _, parsed = _parsed(workflow_pb2.Step(for_each=workflow_pb2.ForEach(items=items)))
    assert parsed == Parsed()


def test_a_schema_that_is_none_is_reported() -> None:
    assert _problems(workflow_pb2.Workflow(name="flow", input_schema='{"type":"text"}')) == [
        ("input_schema", "is no JSON Schema: /type: 'text' is not valid under any of the given schemas")
    ]


def test_the_schemas_of_an_accepted_workflow_are_not_checked_again() -> None:
    parsed = Parsed(accepted=True)
    parse_workflow(workflow_pb2.Workflow(name="flow", input_schema='{"type":"text"}'), parsed)
    assert not parsed.invalid


def test_the_time_for_the_checks_of_all_schemas_of_a_request_is_bounded() -> None:
    parsed = Parsed(schema_time=1e-9)
    for problems in (0, 1):  # the first check uses the time up
        parse_workflow(workflow_pb2.Workflow(name="flow", input_schema=f'{{"title":"{problems}"}}'), parsed)
        assert len(parsed.invalid) == problems
    assert parsed.invalid[0].description == "the checks of all schemas take longer than 10 s"


def test_an_unknown_field_of_a_nested_workflow_is_reported_at_its_place() -> None:
    step = workflow_pb2.Step.FromString(b"\x0a\x01a\x12\x04noop\xf8\x3f\x01")  # field 1023, a varint
    message = _nested(workflow_pb2.Workflow(name="inner", steps=[step]), 2)
    assert _problems(message) == [
        (
            "steps[0].workflow.steps[0].workflow.steps[0]",
            "this server does not know field 1023 of stepwave.v1.Step",
        )
    ]
