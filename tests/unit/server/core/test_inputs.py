"""The inputs of actions, and which inputs a request carries."""

from stepwave_server.core.decide import decide
from stepwave_server.core.evolve import new_run
from stepwave_server.core.inputs import MAX_CARRIED, EvaluationFailed, Values, input_of
from stepwave_server.core.messages import Started, StepFinished
from stepwave_server.core.model import Blob, ForEach, Join, Payload, Reason, Step
from stepwave_server.core.state import RunOptions
from unit.server.core.build import flow, step
from unit.server.core.driver import EVALUATOR, NOON, Drive

LARGE = '"' + "9" * MAX_CARRIED + '"'


def test_a_step_without_dependencies_gets_the_runs_input() -> None:
    drive = Drive(flow(step("a"), step("b", payload='"own"')), run_input='{"city": "Ghent"}')
    drive.begin()
    assert drive.invoked() == {"a": '{"city": "Ghent"}', "b": '"own"'}


def test_a_step_with_dependencies_gets_an_object_of_their_outputs_by_id() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c", "b", "a")))
    drive.succeed("a", '"from a"')
    drive.succeed("b", '"from b"')
    assert drive.invoked()["c"] == '{"b":"from b","a":"from a"}'


def test_a_small_input_is_carried_by_its_request() -> None:
    drive = Drive.begun(flow(step("a", payload="9" * MAX_CARRIED)))
    assert drive.invoked() == {"a": "9" * MAX_CARRIED}


def test_a_large_input_or_a_blob_is_put_together_again_when_the_attempt_starts() -> None:
    blob = Blob("image/png", b"9")
    drive = Drive.begun(flow(step("a", payload=LARGE), step("b", payload=blob)))
    assert drive.invoked() == {"a": None, "b": None}
    drive.start("a", "b")
    again = {step_id: input_of(drive.run, drive.run.steps[step_id], EVALUATOR) for step_id in "ab"}
    assert again == {"a": LARGE, "b": blob}


def test_the_runs_own_input_is_carried_at_any_size() -> None:
    drive = Drive(flow(step("a")), run_input=LARGE)
    drive.begin()
    assert drive.invoked() == {"a": LARGE}


def test_an_input_put_together_again_is_what_it_was_when_the_step_became_ready() -> None:
    steps = (step("a"), step("b"), step("c", "a", "b", join=Join.ANY), step("d", "b"))
    drive = Drive.begun(flow(*steps))
    drive.start("b")
    drive.succeed("a", LARGE)
    drive.succeed("b")
    assert drive.invoked()["c"] is None
    assert input_of(drive.run, drive.run.steps["c"], EVALUATOR) == f'{{"a":{LARGE},"b":null}}'


class Strict:
    """An evaluator for which every input is too large."""

    def input_of(self, step: Step, values: Values, max_bytes: int | None = None) -> Payload:
        raise EvaluationFailed("the input is too large", Reason.RESOURCE_EXHAUSTED)

    def check_input(self, schema: str, payload: Payload) -> None:
        raise AssertionError("no workflow has a schema")

    def condition(self, expression: str, values: Values) -> bool:
        raise AssertionError("no step has a condition")

    def items(self, for_each: ForEach, values: Values) -> list[Payload]:
        raise AssertionError("no step has a list")


class Bounded:
    """An evaluator that gives every step the maximum size as its input."""

    def input_of(self, step: Step, values: Values, max_bytes: int | None = None) -> Payload:
        return str(max_bytes)

    def check_input(self, schema: str, payload: Payload) -> None:
        raise AssertionError("no workflow has a schema")

    def condition(self, expression: str, values: Values) -> bool:
        raise AssertionError("no step has a condition")

    def items(self, for_each: ForEach, values: Values) -> list[Payload]:
        raise AssertionError("no step has a list")


def test_an_input_is_put_together_within_the_bound_that_the_run_records() -> None:
    run = new_run(flow(step("a", payload="1")), options=RunOptions(max_payload_bytes=7))
    (request,) = decide(run, Started(), NOON, Bounded()).requests
    assert request.carried == "7"


def test_the_failure_of_an_input_that_cannot_be_put_together_has_its_reason() -> None:
    run = Drive(flow(step("a", payload="1"))).run
    decision = decide(run, Started(), NOON, Strict())
    (failure,) = [event.failure for event in decision.events if isinstance(event, StepFinished)]
    assert failure is not None
    assert (failure.reason, failure.message) == (Reason.RESOURCE_EXHAUSTED, "the input is too large")
    assert not decision.requests
