"""Scripts: the entries for attempts of replaced actions, and missing ones."""

import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from unittest.mock import AsyncMock, Mock

import pytest

from stepwave import (
    ActionError,
    Answer,
    Blob,
    Context,
    FailureReason,
    InvalidWorkflow,
    RunFailed,
    State,
    StepChunk,
    Workflow,
    action,
)
from stepwave.testing import Always, ByStep, Hangs, ScriptExhausted, Takes, run_scripted
from unit.client.scripted.weather import RETRY, one, weather


def test_every_attempt_takes_the_next_entry() -> None:
    run = run_scripted(one(RETRY), {"weather": [ConnectionError(), TimeoutError("slow"), {"summary": "sun"}]})
    assert run.outputs["only"] == {"summary": "sun"}
    reasons = [attempt.failure and attempt.failure.reason for attempt in run.attempts_of("only")]
    assert reasons == [FailureReason.UNAVAILABLE, FailureReason.TIMEOUT, None]


def test_steps_of_one_action_share_its_script_in_the_order_of_their_attempts() -> None:
    flow = Workflow("two")
    flow.step("first", "weather")
    flow.step("second", "weather")
    assert run_scripted(flow, {"weather": ["sun", "rain"]}).outputs == {"first": "sun", "second": "rain"}


@pytest.mark.parametrize("answer", ["sun", None, 0, [], {"a": [1, 2.5, None]}, 2**53 + 1, Blob(b"\x00", "image/png")])
def test_any_other_entry_is_the_answer(answer: object) -> None:
    assert run_scripted(one(), {"weather": [answer]}).outputs["only"] == answer


@pytest.mark.parametrize("entry", [ValueError("no"), ValueError])
def test_an_exception_is_raised_and_so_is_its_class(entry: object) -> None:
    run = run_scripted(one(), {"weather": [entry]}, check=False)
    (failure,) = run.result.failures
    assert (failure.reason, failure.details["exception"]) == (FailureReason.ACTION_ERROR, "ValueError")


def test_a_failure_of_an_action_names_the_actions_own_line_and_one_of_the_script_names_none() -> None:
    def fails() -> None:
        raise ValueError("no")

    def details(entry: object) -> Mapping[str, str]:
        return run_scripted(one(), {"weather": entry}, check=False).result.failures[0].details

    assert (details(fails)["file"], details(fails)["function"].rpartition(".")[2]) == (__file__, "fails")
    assert "file" not in details(ValueError("no"))


def test_an_exception_may_say_more_of_the_failure() -> None:
    gone = ActionError("no such city", reason="not_found")
    run = run_scripted(one(RETRY), {"weather": [gone]}, check=False)
    assert run.result.failures[0].reason is FailureReason.NOT_FOUND
    assert run.attempts("only") == 1


def test_a_callable_is_called_with_what_it_names_of_the_input() -> None:
    assert run_scripted(one(), {"weather": [lambda city: f"sun in {city}"]}).outputs["only"] == "sun in Oslo"


def test_an_action_gets_the_name_of_a_secret_in_place_of_its_value() -> None:
    flow = one().to_proto()
    flow.steps[0].bindings.add(target="/city", secret="CITY")
    run = run_scripted(flow, {"weather": [lambda city: f"sun in {city}"]})
    assert run.outputs["only"] == "sun in [secret CITY]"


def test_a_callable_may_be_async_and_ask_for_the_context() -> None:
    async def where(context: Context) -> str:
        return f"{context.step_id}, attempt {context.attempt}"

    assert run_scripted(one(RETRY), {"weather": [OSError(), where]}).outputs["only"] == "only, attempt 2"


@pytest.mark.parametrize("on_thread", [False, True])
def test_a_callable_gets_keys_of_the_input_or_the_whole_input_and_the_context(on_thread: bool) -> None:
    calls: list[object] = []

    def keys(city: str, context: Context, country: str = "Norway") -> None:
        calls.append((city, country, context.step_id, context.attempt))
        raise ConnectionError

    def whole(input: object, context: Context) -> None:
        calls.append((input, context.attempt))
        raise ConnectionError

    def nothing() -> str:
        return "sun"

    async def keys_async(city: str, context: Context, country: str = "Norway") -> None:
        keys(city, context, country)

    async def whole_async(input: object, context: Context) -> None:
        whole(input, context)

    async def nothing_async() -> str:
        return nothing()

    script = [keys, whole, nothing] if on_thread else [keys_async, whole_async, nothing_async]
    flow = Workflow("one", retry=RETRY)
    flow.step("only", "weather")
    run = run_scripted(flow, {"weather": script}, {"city": "Oslo", "days": 3})
    assert run.outputs["only"] == "sun"
    assert calls == [("Oslo", "Norway", "only", 1), ({"city": "Oslo", "days": 3}, 2)]


def test_a_parameter_of_a_callable_that_the_input_lacks_fails_the_attempt() -> None:
    run = run_scripted(one(), {"weather": lambda town: town}, check=False)
    assert run.result.failures[0].reason is FailureReason.INVALID_INPUT


def test_a_callable_may_be_the_action_itself() -> None:
    script = {"weather": [ConnectionError(), weather]}
    assert run_scripted(one(RETRY), script, actions=[weather]).outputs["only"] == "rain in Oslo"


@pytest.mark.parametrize("method", ["invoke", "stream"])
def test_a_callable_may_be_the_class_of_an_action(method: str) -> None:
    async def stream(self: object, city: str) -> AsyncIterator[str]:
        yield "rain in "
        yield city

    def invoke(self: object, city: str) -> str:
        return f"rain in {city}"

    almanac = action("weather")(type("Almanac", (), {method: stream if method == "stream" else invoke}))
    assert run_scripted(one(RETRY), {"weather": [OSError(), almanac]}).outputs["only"] == "rain in Oslo"


def test_the_parameters_of_a_callable_are_checked_against_their_hints() -> None:
    def days(city: int) -> int:
        return city

    run = run_scripted(one(), {"weather": days}, check=False)
    assert run.result.failures[0].message == (
        "city: input should be a valid integer, unable to parse string as an integer"
    )


def test_a_callable_gets_an_input_that_is_no_object_as_a_whole() -> None:
    flow = Workflow("one")
    flow.step("only", "weather")
    assert run_scripted(flow, {"weather": lambda input: input}, "Oslo").outputs["only"] == "Oslo"
    assert run_scripted(flow, {"weather": lambda city: city}, "Oslo", check=False).state is State.FAILED


@pytest.mark.parametrize("kind", [Mock, AsyncMock])
def test_a_callable_may_be_a_mock(kind: type[Mock]) -> None:
    mock = kind(side_effect=[OSError(), "sun"])
    assert run_scripted(one(RETRY), {"weather": mock}).outputs["only"] == "sun"
    mock.assert_called_with(city="Oslo")


def test_a_callable_may_be_an_object() -> None:
    class Plain:
        def __call__(self, city: str) -> str:
            return city

    class Asynchronous:
        async def __call__(self, city: str) -> str:
            return city

    def function(more: str, city: str) -> str:
        return city + more

    for entry in (Plain(), Asynchronous(), Plain().__call__, partial(function, "")):
        assert run_scripted(one(), {"weather": entry}).outputs["only"] == "Oslo"


def test_a_generator_answers_in_chunks() -> None:
    def plain() -> Iterator[str]:
        yield "su"
        yield "n"

    async def asynchronous() -> AsyncIterator[object]:
        yield "…"
        yield Answer("rain")

    flow = Workflow("two")
    flow.step("first", "weather")
    flow.step("second", "weather")
    run = run_scripted(flow, {"weather": [plain, asynchronous]})
    assert run.outputs == {"first": "sun", "second": "rain"}
    chunks = [(event.step_id, event.value) for event in run.events if isinstance(event, StepChunk)]
    assert sorted(chunks) == [("first", "n"), ("first", "su"), ("second", "…")]


def test_takes_puts_time_before_any_entry() -> None:
    script = {"weather": [Takes(60, ConnectionError()), Takes(timedelta(minutes=2), Takes(1, lambda city: city))]}
    run = run_scripted(one(RETRY), script)
    assert [attempt.duration.total_seconds() for attempt in run.history] == [60, 121]
    assert run.outputs["only"] == "Oslo"


@pytest.mark.parametrize("entry", [Hangs, Hangs(), Takes(1, Hangs())])
def test_hangs_waits_for_its_interruption(entry: object) -> None:
    flow = Workflow("one")
    flow.step("only", "weather", timeout=30)
    run = run_scripted(flow, {"weather": [entry]}, check=False)
    assert run.result.failures[0].reason is FailureReason.TIMEOUT
    assert run.elapsed == timedelta(seconds=30)


def test_always_goes_for_every_further_attempt() -> None:
    run = run_scripted(one(RETRY), {"weather": [TimeoutError(), Always(ConnectionError())]}, check=False)
    reasons = [attempt.failure and attempt.failure.reason for attempt in run.history]
    assert reasons == [FailureReason.TIMEOUT, *[FailureReason.UNAVAILABLE] * 4]


@pytest.mark.parametrize("entry", ["sun", Always("sun"), lambda: "sun"])
def test_an_entry_in_the_place_of_the_list_goes_for_all_attempts(entry: object) -> None:
    flow = Workflow("two")
    flow.step("first", "weather")
    flow.step("second", "weather")
    assert run_scripted(flow, {"weather": entry}).outputs == {"first": "sun", "second": "sun"}


def essay() -> Workflow:
    """Return a workflow in which several steps have the same action."""
    flow = Workflow("essay", retry=RETRY)
    flow.step("plan", "model", {})
    flow.step("write", "model", {})
    flow.step("judge", "model", {}, depends_on=["write"])
    return flow


def test_steps_of_one_action_can_have_scripts_of_their_own() -> None:
    script = {"model": ByStep({"plan": ["a plan"], "write": [TimeoutError(), "a text"], "judge": lambda: "good"})}
    run = run_scripted(essay(), script)
    assert {step_id: step.output for step_id, step in run.result.steps.items()} == {
        "plan": "a plan",
        "write": "a text",
        "judge": "good",
    }
    assert run.attempts("write") == 2


def test_unused_entries_of_steps_are_counted_by_action() -> None:
    script = {"model": ByStep({"plan": ["a", "b"], "write": ["c", "d"], "judge": "e"})}
    assert run_scripted(essay(), script).unused == {"model": 2}


def test_a_step_missing_in_by_step_must_not_be_attempted() -> None:
    script = {"model": ByStep({"plan": "a plan", "write": "a text"})}
    with pytest.raises(ScriptExhausted, match=r"step 'judge', attempt 1: .* it has no entry for it"):
        run_scripted(essay(), script)


@pytest.mark.parametrize(
    ("step_id", "hint"), [("jugde", "did you mean 'judge'"), ("x", "there are judge, plan, write")]
)
def test_an_unknown_step_of_a_script_is_refused(step_id: str, hint: str) -> None:
    with pytest.raises(ValueError, match=f"the script of 'model' has the step '{step_id}', .*; {hint}"):
        run_scripted(essay(), {"model": ByStep({step_id: "good"})})


def test_always_is_the_last_entry_or_none() -> None:
    for misplaced in ([Always("sun"), "rain"], [Takes(1, Always("sun"))], Takes(1, Always("sun"))):
        with pytest.raises(ValueError, match="the script of 'weather': `Always` can only be its last entry"):
            run_scripted(one(), {"weather": misplaced})


def test_an_exhausted_script_fails_the_test_and_names_the_place() -> None:
    with pytest.raises(ScriptExhausted) as caught:
        run_scripted(one(RETRY), {"weather": [ConnectionError("gone"), ConnectionError("gone")]})
    error = caught.value
    assert (error.action, error.step_id, error.attempt, error.entries) == ("weather", "only", 3, 2)
    assert "step 'only', attempt 3: the script of action 'weather' has run out, it has 2 entries for it" in str(error)
    assert isinstance(error, AssertionError)


def test_an_exhausted_script_describes_the_attempts_so_far() -> None:
    with pytest.raises(ScriptExhausted) as caught:
        run_scripted(one(RETRY), {"weather": [ConnectionError("gone")]})
    assert caught.value.__notes__[0].startswith(
        "step 'only', attempt 1, weather, 0:00:00 to 0:00:00: unavailable: ConnectionError: gone; again from "
    )


def test_an_exhausted_script_ends_all_running_attempts() -> None:
    flow = Workflow("two")
    flow.step("slow", "core.sleep", {"seconds": 3_600})
    flow.step("only", "weather")
    with pytest.raises(ScriptExhausted) as caught:
        run_scripted(flow, {"weather": []})
    assert caught.value.__notes__ == [
        "step 'slow', attempt 1, core.sleep, 0:00:00: under way",
        "step 'only', attempt 1, weather, 0:00:00: under way",
    ]


def test_unused_entries_are_counted() -> None:
    run = run_scripted(one(), {"weather": ["sun", "rain", "snow"]})
    assert run.unused == {"weather": 2}
    assert run_scripted(one(), {"weather": ["sun"]}).unused == {}


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        (object(), ValueError, "the script of 'weather', entry 2: it answered what JSON cannot hold"),
        (dict, TypeError, "entry 2: no signature found for builtin type <class 'dict'>: wrap it into a function"),
        (UnicodeDecodeError, TypeError, "entry 2: pass an instance of an exception that needs arguments"),
    ],
)
def test_an_entry_that_is_none_is_refused_before_anything_runs(
    entry: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run_scripted(one(), {"weather": [weather, entry]})


def test_the_length_of_an_attempt_is_not_negative() -> None:
    with pytest.raises(ValueError, match="the length of an attempt must not be negative, got -1"):
        Takes(-1)


def test_a_run_that_fails_raises_with_a_note_of_every_attempt() -> None:
    with pytest.raises(RunFailed) as caught:
        run_scripted(one(), {"weather": [ConnectionError("gone")]})
    assert "attempt 1, weather, 0:00:00 to 0:00:00: unavailable: ConnectionError: gone" in caught.value.__notes__[0]


FILE = """
name: briefing
steps:
  - {id: weather, action: weather, retry: {max_attempts: 2}}
  - {id: brief, action: core.echo, input: {sky: {$from: weather/summary}}}
"""


@pytest.mark.parametrize("kind", [str, Path])
def test_a_workflow_file_runs_by_its_path(tmp_path: Path, kind: type[str] | type[Path]) -> None:
    (tmp_path / "flow.yaml").write_text(FILE)
    run = run_scripted(kind(tmp_path / "flow.yaml"), {"weather": [OSError(), {"summary": "sun"}]})
    assert run.outputs["brief"] == {"sky": "sun"}


def test_problems_of_a_file_are_reported_with_their_places(tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(FILE)
    with pytest.raises(InvalidWorkflow, match=r'flow.yaml:4:27: .*unknown action "weather"'):
        run_scripted(tmp_path / "flow.yaml")


def test_a_workflow_as_a_message_of_the_contract_runs() -> None:
    assert run_scripted(one().to_proto(), {"weather": "sun"}).state is State.SUCCEEDED


async def test_within_a_running_loop_it_works_too() -> None:
    assert run_scripted(one(), {"weather": [Takes(500, "sun")]}).elapsed == timedelta(seconds=500)


def test_without_the_server_the_error_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "stepwave._scripted.runner", raising=False)
    monkeypatch.setitem(sys.modules, "stepwave_server.config", None)
    with pytest.raises(ModuleNotFoundError, match=r"a scripted run needs .*: pip install 'stepwave\[server\]'"):
        run_scripted(one(), {"weather": "sun"})
