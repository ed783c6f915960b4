"""Workflows as they are submitted: small ones without problems are parsed once."""

from stepwave.v1 import workflow_pb2
from stepwave_server.wire.workflows.content import digest
from stepwave_server.wire.workflows.submitted import MAX_DIGEST_STEPS, MAX_REMEMBERED_BYTES, parse_submitted

MAX = 1_000


def _flow(name: str, steps: int = 1, own: str = "null") -> workflow_pb2.Workflow:
    flow = workflow_pb2.Workflow(name=name)
    for number in range(steps):
        flow.steps.add(id=f"s{number}", action="noop").input.json = own
    return flow


def test_a_workflow_that_is_submitted_again_is_not_parsed_again() -> None:
    assert parse_submitted(_flow("same"), MAX) is parse_submitted(_flow("same"), MAX)


def test_a_workflow_has_its_definition_and_digest() -> None:
    found = parse_submitted(_flow("one"), MAX)
    assert found.definition == _flow("one").SerializeToString(deterministic=True)
    assert found.digest == digest(found.definition)
    assert [step.id for step in found.workflow.steps] == ["s0"]


def test_a_large_workflow_is_not_remembered() -> None:
    large = _flow("large", steps=MAX_REMEMBERED_BYTES // 10)
    one, other = parse_submitted(large, MAX), parse_submitted(large, MAX)
    assert one == other
    assert one is not other


def test_the_digest_of_a_very_large_workflow_is_left_for_later() -> None:
    assert parse_submitted(_flow("largest", steps=MAX_DIGEST_STEPS + 1), MAX).digest == ""


def test_a_workflow_with_problems_is_checked_every_time() -> None:
    one, other = (parse_submitted(_flow("broken", own="{"), MAX) for _ in range(2))
    assert [problem.field for problem in one.invalid] == ["steps[0].input.json"]
    assert one == other
    assert one is not other
    assert one.digest == ""


def test_a_payload_is_checked_against_the_bound_of_each_call() -> None:
    flow = _flow("long", own=f'"{"x" * 50}"')
    assert [parse_submitted(flow, bound).invalid != () for bound in (MAX, 20, MAX)] == [False, True, False]
