"""The messages that the workflow builder makes."""

import json
from datetime import timedelta
from typing import Any

import pytest

from stepwave import Blob, FailureReason, Fallback, Retry, Workflow, action
from stepwave.v1 import payload_pb2, run_pb2
from stepwave.v1 import workflow_pb2 as pb


@action("summarise.short")
async def summarise(facts: list[str], city: str) -> str:
    return f"{city}: {facts}"


@action
class Search:
    def invoke(self) -> None: ...


def unmarked() -> None: ...


def only_step(flow: Workflow) -> pb.Step:
    (step,) = flow.to_proto().steps
    return step


def test_a_workflow_keeps_all_its_options() -> None:
    flow = Workflow(
        "briefing",
        scheduling="wave",
        failure_policy="continue",
        max_parallelism=3,
        timeout=1.5,
        labels={"team": "a"},
        outputs=["brief"],
    )
    said = flow.to_proto()
    assert (said.name, said.max_parallelism, dict(said.labels)) == ("briefing", 3, {"team": "a"})
    assert (said.scheduling, said.failure_policy) == (pb.SCHEDULING_WAVE, pb.FAILURE_POLICY_CONTINUE)
    assert said.timeout.ToTimedelta() == timedelta(seconds=1.5)
    assert list(said.outputs) == ["brief"]


def test_an_action_is_named_by_its_mark_or_by_its_name() -> None:
    flow = Workflow("w")
    flow.step("a", summarise)
    flow.step("b", Search)
    flow.step("c", "core.echo")
    assert [step.action for step in flow.to_proto().steps] == ["summarise.short", "Search", "core.echo"]


def test_an_unmarked_function_is_refused_with_the_way_to_mark_it() -> None:
    with pytest.raises(TypeError, match=r"mark it with @stepwave\.action"):
        Workflow("w").step("a", unmarked)


def test_references_become_bindings_and_leave_null() -> None:
    flow = Workflow("briefing")
    search, weather = flow.step("search", "search"), flow.step("weather", "weather")
    flow.step(
        "brief", "brief", {"facts": [search.output, weather.output["summary"]], "city": flow.input["city"], "n": 1}
    )
    brief = flow.to_proto().steps[2]
    assert brief.input.json == '{"facts":[null,null],"city":null,"n":1}'
    assert list(brief.bindings) == [
        pb.Binding(target="/facts/0", step=pb.StepOutput(id="search")),
        pb.Binding(target="/facts/1", step=pb.StepOutput(id="weather", path="/summary")),
        pb.Binding(target="/city", input="/city"),
    ]


def test_a_bare_reference_leaves_no_fixed_input() -> None:
    flow = Workflow("w")
    flow.step("b", "core.echo", flow.step("a", "core.echo").output["x"])
    step = flow.to_proto().steps[1]
    assert not step.HasField("input")
    assert list(step.bindings) == [pb.Binding(target="", step=pb.StepOutput(id="a", path="/x"))]


def test_no_input_is_not_null() -> None:
    flow = Workflow("w")
    flow.step("without", "core.echo")
    flow.step("null", "core.echo", None)
    without, null = flow.to_proto().steps
    assert not without.HasField("input")
    assert null.input == payload_pb2.Payload(json="null")


def test_a_blob_is_an_input() -> None:
    flow = Workflow("w")
    flow.step("a", "core.echo", Blob(b"\0", "image/png"))
    assert only_step(flow).input.blob == payload_pb2.Blob(content_type="image/png", data=b"\0")


def test_an_input_that_json_cannot_hold_is_refused_by_step() -> None:
    with pytest.raises(ValueError, match="JSON cannot hold the value"):
        Workflow("w").step("a", "core.echo", {"at": {1, 2}})  # type: ignore[dict-item]  # what is tested


def test_dependencies_are_handles_or_ids() -> None:
    flow = Workflow("w")
    first = flow.step("first", "core.echo")
    flow.step("last", "core.echo", depends_on=[first, "second"])
    assert list(flow.to_proto().steps[1].depends_on) == ["first", "second"]


def test_an_interrupted_attempt_is_followed_by_another_unless_it_is_to_fail() -> None:
    flow = Workflow("w")
    flow.step("a", "core.echo")
    flow.step("b", "core.echo", on_interrupt="fail")
    assert [step.on_interrupt for step in flow.to_proto().steps] == [pb.ON_INTERRUPT_RETRY, pb.ON_INTERRUPT_FAIL]


@pytest.mark.parametrize("given", [5, 5.0, timedelta(seconds=5)])
def test_a_timeout_is_seconds_or_a_timedelta(given: float | timedelta) -> None:
    flow = Workflow("w")
    flow.step("a", "core.echo", timeout=given)
    assert only_step(flow).timeout.seconds == 5


def test_a_timeout_keeps_its_microseconds() -> None:
    flow = Workflow("w")
    flow.step("a", "core.echo", timeout=0.000_25)
    assert only_step(flow).timeout.nanos == 250_000


@pytest.mark.parametrize("length", [float("inf"), float("nan"), 1e300])
def test_an_endless_timeout_is_refused(length: float) -> None:
    with pytest.raises(ValueError, match=r"finite|too long"):
        Workflow("w", timeout=length)


def test_joins_and_allowed_failures_are_sent() -> None:
    flow = Workflow("w")
    flow.step("a", "core.echo", join="all_done", allow_failure=True)
    assert (only_step(flow).join, only_step(flow).allow_failure) == (pb.JOIN_ALL_DONE, True)


@pytest.mark.parametrize("choice", [{"scheduling": "waves"}, {"failure_policy": "stop"}])
def test_an_unknown_choice_is_refused_with_those_there_are(choice: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be one of (eager, wave|fail_fast, continue), got"):
        Workflow("w", **choice)


def test_a_retry_policy_is_sent_for_the_workflow_and_for_a_step() -> None:
    policy = Retry(
        max_attempts=3,
        initial_backoff=0.5,
        backoff_multiplier=3,
        max_backoff=timedelta(minutes=1),
        jitter=0,
        retryable_reasons=("timeout", FailureReason.UNAVAILABLE),
    )
    flow = Workflow("w", retry=Retry(max_attempts=2))
    flow.step("a", "core.echo", retry=policy)
    assert flow.to_proto().retry == pb.Retry(max_attempts=2)
    said = only_step(flow).retry
    assert (said.max_attempts, said.backoff_multiplier, said.jitter, said.HasField("jitter")) == (3, 3.0, 0.0, True)
    assert (said.initial_backoff.nanos, said.max_backoff.seconds) == (500_000_000, 60)
    assert list(said.retryable_reasons) == [run_pb2.FAILURE_REASON_TIMEOUT, run_pb2.FAILURE_REASON_UNAVAILABLE]


def test_a_total_timeout_is_sent() -> None:
    flow = Workflow("w")
    flow.step("a", "core.echo", timeout=1, total_timeout=timedelta(minutes=2))
    assert (only_step(flow).timeout.seconds, only_step(flow).total_timeout.seconds) == (1, 120)


@pytest.mark.parametrize("value", [None, {"hits": []}, "kept"])
def test_a_fallback_may_be_a_fixed_value(value: Any) -> None:
    flow = Workflow("w")
    flow.step("a", "core.echo", fallback=Fallback(value=value))
    assert json.loads(only_step(flow).fallback.value.json) == value


def test_a_fallback_may_be_an_action_with_an_input_of_its_own() -> None:
    flow = Workflow("w")
    first = flow.step("first", "core.echo")
    flow.step("a", "core.echo", fallback=Fallback(summarise, {"facts": first.output["facts"], "city": "Oslo"}))
    said = flow.to_proto().steps[1].fallback.action
    assert (said.action, said.input.json) == ("summarise.short", '{"facts":null,"city":"Oslo"}')
    assert list(said.bindings) == [pb.Binding(target="/facts", step=pb.StepOutput(id="first", path="/facts"))]


def test_a_fallback_without_an_input_leaves_it_to_the_step() -> None:
    flow = Workflow("w")
    flow.step("a", "core.echo", {"x": 1}, fallback=Fallback("other"))
    assert only_step(flow).fallback.action == pb.FallbackAction(action="other")


def test_a_fallback_is_an_action_or_a_value() -> None:
    with pytest.raises(ValueError, match="either an action or a value"):
        Fallback()
    with pytest.raises(ValueError, match="either an action or a value"):
        Fallback("other", value=1)
    with pytest.raises(ValueError, match="has no input"):
        Fallback(input={}, value=1)


def test_a_fallback_refers_to_its_own_workflow_alone() -> None:
    with pytest.raises(ValueError, match="another workflow"):
        Workflow("w").step("a", "core.echo", fallback=Fallback("other", [Workflow("other").input]))


def test_references_to_another_workflow_are_refused_at_once() -> None:
    mine, other = Workflow("mine"), Workflow("other")
    stranger = other.step("stranger", "core.echo")
    with pytest.raises(ValueError, match=r"step 'a': stranger\.output belongs to another workflow, <Workflow 'other'"):
        mine.step("a", "core.echo", [stranger.output])
    with pytest.raises(ValueError, match="<step 'stranger'> belongs to another workflow"):
        mine.step("a", "core.echo", depends_on=[stranger])
    mine.outputs = [stranger]
    with pytest.raises(ValueError, match="belongs to another workflow"):
        mine.to_proto()


def test_a_refused_step_is_not_added() -> None:
    flow = Workflow("w")
    with pytest.raises(ValueError, match="another workflow"):
        flow.step("a", "core.echo", Workflow("other").input)
    assert not flow.to_proto().steps


def test_outputs_can_be_named_last() -> None:
    flow = Workflow("w")
    flow.outputs = [flow.step("a", "core.echo"), "b"]
    assert list(flow.to_proto().outputs) == ["a", "b"]


def test_the_graph_is_not_checked_by_the_builder() -> None:
    flow = Workflow("w")
    flow.step("a", "core.echo", depends_on=["a", "nobody"])
    assert list(only_step(flow).depends_on) == ["a", "nobody"]


def test_an_id_is_given_once() -> None:
    flow = Workflow("w")
    flow.step("a", "core.echo")
    with pytest.raises(ValueError, match="the workflow has a step 'a' already"):
        flow.step("a", "core.fail")
    assert only_step(flow).action == "core.echo"


def test_the_id_of_a_refused_step_can_be_given_again() -> None:
    flow = Workflow("w")
    with pytest.raises(TypeError):
        flow.step("a", unmarked)
    flow.step("a", "core.echo")
    assert only_step(flow).id == "a"


def test_a_string_is_no_list_of_steps() -> None:
    flow = Workflow("w")
    with pytest.raises(TypeError, match=r"depends_on must be a list of steps, such as depends_on=\['ab'\], got 'ab'"):
        flow.step("b", "core.echo", depends_on="ab")
    flow.outputs = "ab"
    with pytest.raises(TypeError, match=r"outputs must be a list of steps, such as outputs=\['ab'\], got 'ab'"):
        flow.to_proto()


def test_a_step_is_no_list_of_steps() -> None:
    flow = Workflow("w")
    first = flow.step("first", "core.echo")
    with pytest.raises(TypeError, match=r"depends_on must be a list of steps, such as depends_on=\[first\]"):
        flow.step("b", "core.echo", depends_on=first)  # type: ignore[call-overload]  # what is tested
    with pytest.raises(TypeError, match=r"first\.output is not a step"):
        flow.step("b", "core.echo", depends_on=[first.output])  # type: ignore[list-item]  # what is tested


def test_a_message_does_not_change_with_the_builder() -> None:
    flow = Workflow("w")
    before = flow.to_proto()
    flow.step("a", "core.echo")
    assert not before.steps


def test_a_step_has_a_concurrency_key() -> None:
    flow = Workflow("flow")
    flow.step("a", "core.echo", {"tenant": "x"}, concurrency_key="/tenant")
    flow.step("b", "core.echo", concurrency_key="")
    flow.step("c", "core.echo")
    keys = [step.concurrency_key if step.HasField("concurrency_key") else None for step in flow.to_proto().steps]
    assert keys == ["/tenant", "", None]


def test_a_workflow_has_the_functions_of_its_steps_and_fallbacks_each_once() -> None:
    class Tools:
        @action
        async def look(self) -> None: ...

    tools = Tools()
    flow = Workflow("flow")
    flow.step("a", summarise, fallback=Fallback(Search))
    flow.step("b", "core.echo", fallback=Fallback("cached"))
    flow.step("c", summarise, fallback=Fallback(value=1))
    flow.step("d", tools.look)
    flow.step("e", tools.look)
    assert flow.actions == (summarise, Search, tools.look)


def test_two_functions_of_one_name_are_both_kept() -> None:
    @action("summarise.short")
    async def other() -> None: ...

    flow = Workflow("flow")
    flow.step("a", summarise)
    flow.step("b", other)
    assert flow.actions == (summarise, other)


def test_a_step_that_is_refused_leaves_no_function() -> None:
    flow = Workflow("flow")
    with pytest.raises(TypeError):
        flow.step("a", summarise, {1: "x"})  # type: ignore[dict-item]  # the point of the test
    assert flow.actions == ()
