"""A file can have every field of the contract, and an invalid one is reported with what was expected."""

from pathlib import Path

import pytest
from google.protobuf.descriptor import FieldDescriptor

from stepwave._files import WorkflowFileError, load_workflow, parse_workflow
from stepwave._files._contract import enum_names, is_duration, is_map, is_payload, parse_duration, reachable
from stepwave.exceptions import InvalidWorkflow
from stepwave.v1 import run_pb2, workflow_pb2

FULL = """\
name: briefing
scheduling: wave
failure_policy: continue
max_parallelism: 4
timeout: 2m
labels: {team: weather, "1": one}
outputs: [brief]
retry: {max_attempts: 3, backoff_multiplier: 2, jitter: 0, retryable_reasons: [timeout, rate_limited]}
steps:
- id: search
  action: tools.search
  timeout: 1.5s
  total_timeout: 1h
  on_interrupt: fail
  fallback: {value: {hits: [1]}}
- id: brief
  action: summarise
  depends_on: [search]
  when: input.city != ''
  join: all_done
  allow_failure: true
  concurrency_key: /city
  for_each: {step: {id: search, path: /hits}, max_parallelism: 2}
  fallback: {action: {action: other, input: {city: {$input: /city}}}}
"""
KEYS = "name, steps, scheduling, failure_policy, max_parallelism, timeout, labels, outputs, retry, input_schema"


def complaint(text: str) -> str:
    """Return the only problem of a step or workflow, without its place."""
    with pytest.raises(WorkflowFileError) as caught:
        parse_workflow(text, "f")
    (line,) = str(caught.value).splitlines()
    return line.split(": ", 1)[1]


def test_every_kind_of_field_is_read() -> None:
    flow = parse_workflow(FULL, "flow.yaml").message
    search, brief = flow.steps
    assert (flow.name, flow.max_parallelism, flow.timeout.seconds, list(flow.outputs)) == (
        "briefing",
        4,
        120,
        ["brief"],
    )
    assert flow.scheduling == workflow_pb2.SCHEDULING_WAVE
    assert flow.failure_policy == workflow_pb2.FAILURE_POLICY_CONTINUE
    assert dict(flow.labels) == {"team": "weather", "1": "one"}
    assert (flow.retry.max_attempts, flow.retry.backoff_multiplier, flow.retry.HasField("jitter")) == (3, 2.0, True)
    assert list(flow.retry.retryable_reasons) == [run_pb2.FAILURE_REASON_TIMEOUT, run_pb2.FAILURE_REASON_RATE_LIMITED]
    assert (search.timeout.seconds, search.timeout.nanos) == (1, 500_000_000)
    assert search.fallback.value.json == '{"hits":[1]}'
    assert search.on_interrupt == workflow_pb2.ON_INTERRUPT_FAIL
    assert (list(brief.depends_on), brief.allow_failure, brief.concurrency_key) == (["search"], True, "/city")
    assert brief.join == workflow_pb2.JOIN_ALL_DONE
    assert (brief.for_each.step.id, brief.for_each.step.path, brief.for_each.max_parallelism) == ("search", "/hits", 2)
    assert brief.fallback.action.bindings[0].input == "/city"


def test_no_reachable_field_is_of_a_kind_that_files_lack() -> None:
    readable = {
        FieldDescriptor.CPPTYPE_STRING,
        FieldDescriptor.CPPTYPE_BOOL,
        FieldDescriptor.CPPTYPE_ENUM,
        FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_DOUBLE,
        FieldDescriptor.CPPTYPE_MESSAGE,
    }
    fields = [field for descriptor in reachable() for field in descriptor.fields]
    assert {field.cpp_type for field in fields} <= readable
    assert not [field.full_name for field in fields if field.type == FieldDescriptor.TYPE_BYTES]
    foreign = {field.message_type.file.package for field in fields if field.message_type and not is_map(field)}
    assert foreign == {"stepwave.v1", "google.protobuf"}
    assert all(is_duration(field) or is_payload(field) for field in fields if _is_foreign(field))


def _is_foreign(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.file.package == "google.protobuf"


def test_enum_values_lose_their_prefix() -> None:
    assert list(enum_names(workflow_pb2.FailurePolicy.DESCRIPTOR)) == ["fail_fast", "continue"]
    assert list(enum_names(workflow_pb2.OnInterrupt.DESCRIPTOR)) == ["retry", "fail"]
    assert "rate_limited" in enum_names(run_pb2.FailureReason.DESCRIPTOR)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("depend_on: [a]", 'unknown key "depend_on"; did you mean "depends_on"?'),
        ("dependsOn: [a]", 'unknown key "dependsOn"; did you mean "depends_on"?'),
        ("depends_on: a", 'steps[0].depends_on: expected a list of strings, got the string "a"'),
        ("depends_on:", "steps[0].depends_on: expected a list of strings, got nothing"),
        ("depends_on: [a, 5]", "steps[0].depends_on[1]: expected a string, got the number 5"),
        ("action: {x: 1}", "steps[0].action: expected a string, got a mapping"),
        ("when: true", "steps[0].when: expected a string, got true"),
        ("allow_failure: yes", 'steps[0].allow_failure: expected true or false, got the string "yes"'),
        ("join: al", 'steps[0].join: unknown value "al"; did you mean "all"?'),
        ("join: 1", "steps[0].join: expected one of all, any, all_done, got the number 1"),
        ("on_interrupt: explode", 'steps[0].on_interrupt: unknown value "explode"; known: retry, fail'),
        ("timeout: true", "steps[0].timeout: expected a duration such as 300ms, 5s, 1m30s or 90, got true"),
        ("timeout: -5s", 'steps[0].timeout: "-5s" is not a duration such as 300ms, 5s, 1m30s or 90'),
        ("timeout: -5", 'steps[0].timeout: "-5" is not a duration such as 300ms, 5s, 1m30s or 90'),
        ("timeout: 1e-999999999", 'steps[0].timeout: "1e-999999999" is finer than a nanosecond'),
        ("timeout: 1e999999999", 'steps[0].timeout: "1e999999999" is longer than 10,000 years'),
        ("retry: fast", 'steps[0].retry: expected a mapping, got the string "fast"'),
        ("retry: {jitter: a}", 'steps[0].retry.jitter: expected a number, got the string "a"'),
        ("retry: {jitter: 1e999}", "steps[0].retry.jitter: expected a number, got the number 1e999"),
        (
            "retry: {max_attempts: -1}",
            "steps[0].retry.max_attempts: expected a whole number from 0 to 4294967295, got the number -1",
        ),
        (
            "retry: {max_attempts: 1.5}",
            "steps[0].retry.max_attempts: expected a whole number from 0 to 4294967295, got the number 1.5",
        ),
        ("for_each: {input: /a, expression: b}", '"expression" and "input" exclude each other'),
    ],
)
def test_a_wrong_field_of_a_step_is_named_with_what_was_expected(step: str, message: str) -> None:
    assert complaint(f"steps:\n- {step}\n") == message


def test_half_a_surrogate_pair_is_no_text() -> None:
    with pytest.raises(WorkflowFileError, match=r"^f.json:1:10: name: half of a surrogate pair is not text$"):
        parse_workflow('{"name": "\\ud800"}', "f.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labels: {version: 1}", "labels.version: expected a string, got the number 1"),
        ("labels: [a]", "labels: expected a mapping, got a list"),
        ("steps: {a: {action: x}}", "steps: expected a list of mappings, got a mapping"),
        ("steps: [a]", 'steps[0]: expected a mapping, got the string "a"'),
        ("scheduling: soon", 'scheduling: unknown value "soon"; known: eager, wave'),
        ("colour: red", f'unknown key "colour"; known: {KEYS}'),
    ],
)
def test_a_wrong_field_of_the_workflow_is_named_with_what_was_expected(text: str, message: str) -> None:
    assert complaint(text) == message


@pytest.mark.parametrize(
    ("text", "seconds", "nanos"),
    [
        ("300ms", 0, 300_000_000),
        ("5s", 5, 0),
        ("2m", 120, 0),
        ("1h", 3600, 0),
        ("1.5s", 1, 500_000_000),
        ("0s", 0, 0),
        ("1m30s", 90, 0),
        ("1h2m3.5s", 3723, 500_000_000),
        ("1.5h", 5400, 0),
        ("7us", 0, 7_000),
        ("7µs1ns", 0, 7_001),
    ],
)
def test_durations_are_numbers_and_units(text: str, seconds: int, nanos: int) -> None:
    duration = parse_duration(text)
    assert (duration.seconds, duration.nanos) == (seconds, nanos)


@pytest.mark.parametrize(
    "text", ["", "5", "s", "5 s", "5S", "-5s", "1h30", "1h 30m", "٣s", "0.0000000001s", "99999999999999h"]
)
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|finer|longer"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "seconds", "nanos"), [("90", 90, 0), ("0.25", 0, 250_000_000), ("1e3", 1000, 0), ("0", 0, 0)]
)
def test_a_number_alone_is_seconds(text: str, seconds: int, nanos: int) -> None:
    (step,) = parse_workflow(f"steps: [{{id: s, action: x, timeout: {text}}}]", "f.yaml").message.steps
    assert (step.timeout.seconds, step.timeout.nanos) == (seconds, nanos)


def test_a_fallback_may_be_the_name_of_an_action_alone() -> None:
    loaded = parse_workflow("steps: [{id: s, action: x, fallback: {action: search}}]", "f.yaml")
    assert loaded.message.steps[0].fallback.action.action == "search"
    assert loaded.place_of("steps[0].fallback.action.action") == (1, 47)


def test_a_file_is_read_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    path.write_bytes("\ufeffname: briefing\n".encode())
    loaded = load_workflow(path)
    assert (loaded.message.name, loaded.source) == ("briefing", str(path))


def test_a_file_that_is_not_utf8_is_placed(tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    path.write_bytes(b"name: a\nlabels: {x: \xff}\n")
    with pytest.raises(WorkflowFileError, match=r":2:13: not UTF-8$"):
        load_workflow(path)


def test_the_error_is_an_invalid_workflow_with_every_violation() -> None:
    with pytest.raises(InvalidWorkflow) as caught:
        parse_workflow("name: 5\ntimeout: yes", "f")
    assert [violation.field for violation in caught.value.violations] == ["name", "timeout"]
