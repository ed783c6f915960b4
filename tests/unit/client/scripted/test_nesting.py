"""Scripts for lists, nested workflows, conditions, and steps that wait to be completed."""

from datetime import timedelta
from pathlib import Path

import pytest

from stepwave import JSON, ActionError, Retry, RunFailed, State, Workflow
from stepwave.testing import ByStep, Hangs, RunStuck, ScriptExhausted, Takes, run_scripted

URLS: list[JSON] = ["a", "b", "c"]


def pages(*, retry: Retry | None = None) -> Workflow:
    """Return a workflow with a list of fetches, three items of it."""
    flow = Workflow("pages")
    flow.for_each("pages", over=URLS, action="fetch", input={"url": flow.item}, retry=retry)
    return flow


def nested() -> Workflow:
    """Return a workflow with a list of workflows that fetch and parse."""
    inner = Workflow("page")
    fetched = inner.step("fetch", "fetch", {"url": inner.input})
    inner.step("parse", "parse", {"page": fetched.output})
    flow = Workflow("nested")
    flow.for_each("pages", over=URLS, workflow=inner, input=flow.item)
    return flow


def approval(*, timeout: float | None = None, retry: Retry | None = None) -> Workflow:
    """Return a workflow that publishes after an approval."""
    flow = Workflow("approval")
    answer = flow.step("approval", "core.wait", {"question": "publish?"}, timeout=timeout, retry=retry)
    flow.step("publish", "core.echo", answer.output)
    return flow


def test_the_children_of_a_list_use_the_entries_of_their_action_in_turn() -> None:
    run = run_scripted(pages(), {"fetch": [1, 2, 3]})
    assert run["pages"] == [1, 2, 3]
    assert run.attempts_of("pages[1]")[0].input == {"url": "b"}


def test_an_entry_for_the_step_applies_to_all_items() -> None:
    assert run_scripted(pages(), {"pages": "text"})["pages"] == ["text"] * 3


def test_each_item_uses_the_list_of_its_step_from_the_beginning() -> None:
    policy = Retry(max_attempts=2, initial_backoff=timedelta(seconds=1))
    run = run_scripted(pages(retry=policy), {"pages": [ConnectionError(), "text"]})
    assert run["pages"] == ["text"] * 3
    assert [run.attempts(f"pages[{index}]") for index in range(3)] == [2, 2, 2]


def test_an_entry_for_one_item_goes_before_that_for_all() -> None:
    assert run_scripted(pages(), {"pages": "text", "pages[1]": "other"})["pages"] == ["text", "other", "text"]


def test_an_entry_for_a_step_goes_before_those_of_its_action() -> None:
    assert run_scripted(pages(), {"fetch": "text", "pages[2]": "other"})["pages"] == ["text", "text", "other"]


def test_steps_of_a_nested_workflow_are_named_by_the_path_to_them() -> None:
    script = {"pages/fetch": "text", "pages[1]/fetch": "other", "parse": lambda page: f"<{page}>"}
    assert run_scripted(nested(), script)["pages"] == [{"parse": "<text>"}, {"parse": "<other>"}, {"parse": "<text>"}]


def test_by_step_takes_paths_too() -> None:
    script = {"fetch": ByStep({"pages/fetch": ["text"], "pages[0]/fetch": ["first"]}), "parse": lambda page: page}
    assert run_scripted(nested(), script)["pages"] == [{"parse": text} for text in ("first", "text", "text")]


def test_the_last_index_that_fits_counts_in_lists_within_lists() -> None:
    inner = Workflow("inner")
    inner.for_each("links", over=[1, 2], action="follow", input=inner.item)
    flow = Workflow("outer")
    flow.for_each("pages", over=["a", "b"], workflow=inner)
    script = {"pages/links": 0, "pages[1]/links": 1, "pages[1]/links[0]": 2}
    assert run_scripted(flow, script)["pages"] == [{"links": [0, 0]}, {"links": [2, 1]}]


def test_the_other_steps_of_an_action_run_it() -> None:
    flow = Workflow("flow")
    flow.step("one", "core.echo", 1)
    flow.step("two", "core.echo", 2)
    run = run_scripted(flow, {"two": "replaced"})
    assert (run["one"], run["two"]) == (1, "replaced")


def test_a_step_without_entries_of_its_action_that_does_not_exist_fails_the_test() -> None:
    with pytest.raises(ScriptExhausted, match=r"step 'pages\[0\]', attempt 1.*no entry"):
        run_scripted(pages(), {"pages[1]": "text"})


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ({"pagess": 1}, "did you mean 'pages'"),
        ({"pages/fetsh": 1}, "did you mean 'pages/fetch'"),
        ({"pages": 1}, "runs a workflow: name steps of that"),
        ({"pages/fetch[1]": 1}, "'pages/fetch' runs over no list"),
        ({"pages/fetch": ByStep({})}, "`ByStep` is for actions"),
        ({"fetch": ByStep({"pages/parse": 1})}, "does not have this action"),
    ],
)
def test_a_key_that_fits_no_step_is_an_error(script: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_scripted(nested(), {"fetch": 1, "parse": 1, **script})


def test_a_workflow_that_is_chosen_in_the_run_takes_entries_by_path() -> None:
    flow = Workflow("flow")
    chosen: JSON = {"workflow": {"name": "chosen", "steps": [{"id": "one", "action": "core.echo"}]}, "input": 1}
    flow.step("sub", "core.workflow", chosen)
    assert run_scripted(flow, {"sub/one": "replaced"})["sub"] == {"one": "replaced"}


def test_a_named_workflow_is_one_of_the_folder_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "page.yaml").write_text("name: page\nsteps: [{id: fetch, action: fetch, input: {url: {$input: ''}}}]\n")
    flow = Workflow("flow")
    flow.step("sub", "core.workflow", {"name": "page", "input": "a"})
    run = run_scripted(flow, {"fetch": lambda url: f"<{url}>"}, workflows=tmp_path)
    assert run["sub"] == {"fetch": "<a>"}


def test_a_malformed_named_workflow_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "page.yaml").write_text("name: page\nstepz: []\n")
    with pytest.raises(ValueError, match=r"page.yaml.*stepz"):
        run_scripted(pages(), {"fetch": 1}, workflows=tmp_path)


def test_a_condition_is_evaluated_as_on_a_server() -> None:
    flow = Workflow("flow")
    hits = flow.step("search", "search")
    flow.step("few", "core.echo", 1, when=hits.output["n"] < 3)
    flow.step("many", "core.echo", 1, when=hits.output["n"] > 3)
    run = run_scripted(flow, {"search": {"n": 5}})
    assert (run.result.steps["few"].state, run.result.steps["many"].state) == (State.SKIPPED, State.SUCCEEDED)


def test_the_script_completes_a_step_that_waits() -> None:
    run = run_scripted(approval(), {"approval": "yes"})
    assert run["publish"] == "yes"
    assert run.elapsed == timedelta(0)
    (attempt,) = run.attempts_of("approval")
    assert attempt.input == {"question": "publish?"}


def test_the_completion_takes_virtual_time() -> None:
    run = run_scripted(approval(), {"approval": Takes(timedelta(days=2), "yes")})
    assert run["publish"] == "yes"
    assert run.elapsed == timedelta(days=2)


def test_an_exception_rejects_the_step() -> None:
    with pytest.raises(RunFailed, match="not like this") as raised:
        run_scripted(approval(), {"approval": ActionError("not like this", reason="not_found")})
    (failure,) = raised.value.result.failures
    assert (failure.reason, failure.step_id) == ("not_found", "approval")


def test_a_callable_answers_by_the_question() -> None:
    run = run_scripted(approval(), {"approval": lambda question: f"to {question}: yes"})
    assert run["publish"] == "to publish?: yes"


def test_a_step_that_waits_has_an_entry_for_each_attempt() -> None:
    policy = Retry(max_attempts=2, initial_backoff=timedelta(seconds=1))
    run = run_scripted(approval(retry=policy, timeout=60), {"core.wait": [Hangs(), "yes"]})
    assert (run["publish"], run.attempts("approval")) == ("yes", 2)


@pytest.mark.parametrize("script", [{}, {"approval": Hangs()}])
def test_a_step_that_nobody_completes_times_out(script: dict[str, object]) -> None:
    with pytest.raises(RunFailed) as raised:
        run_scripted(approval(timeout=60), script)
    assert raised.value.failure is not None
    assert raised.value.failure.reason == "timeout"
    assert raised.value.result.duration == timedelta(seconds=60)


def test_a_run_that_nobody_continues_says_which_step_waits() -> None:
    with pytest.raises(RunStuck) as raised:
        run_scripted(approval())
    assert "step 'approval', attempt 1" in raised.value.__notes__[0]
    assert "give its step an entry in the script" in raised.value.__notes__[0]


def test_lists_and_workflows_have_an_order_and_a_story() -> None:
    flow = nested()
    flow.step("end", "core.echo", 1, depends_on=["pages"])
    run = run_scripted(flow, {"fetch": "text", "parse": Takes(5, "parsed")})
    run.assert_order("pages", "pages[0]/fetch", "pages[0]/parse", "end")
    assert run.ended_before("pages", "end")
    assert run.story("pages") == "step 'pages': succeeded, 3 items"
    assert run.most_at_once == 3


def test_waiting_for_someone_is_not_an_attempt_in_flight() -> None:
    assert run_scripted(approval(), {"approval": Takes(5, "yes")}).most_at_once == 1


def test_the_text_of_a_long_list_is_short_and_has_the_children_that_failed() -> None:
    flow = Workflow("long")
    flow.for_each("pages", over=list(range(500)), action="fetch", input={"url": flow.item}, allow_failure=True)
    lines = str(run_scripted(flow, {"fetch": 1, "pages[400]": ValueError("gone")})).splitlines()
    assert len(lines) < 50
    assert any("pages[400]" in line and "failed" in line for line in lines)
    assert lines[-1] == "479 more steps within lists"


def test_entries_of_steps_that_nothing_used_are_counted() -> None:
    run = run_scripted(pages(), {"fetch": 1, "pages[2]": [2, 3, 4]})
    assert run.unused == {"pages[2]": 2}
