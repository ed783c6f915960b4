"""The hint for actions that a server lacks."""

from stepwave import InvalidWorkflow, Violation, Workflow, action
from stepwave._client.functions import UnknownActionHint


@action
async def fetch(url: str) -> str:
    return url


def hint(workflow: Workflow, field: str, engine: str = "local") -> str:
    error = InvalidWorkflow("no", engine=engine)
    error.violations = (Violation(field, "unknown action", "UNKNOWN_ACTION"),)
    UnknownActionHint(workflow, in_process=False).__exit__(InvalidWorkflow, error, None)
    return error.hint


def test_the_module_of_a_function_in_a_nested_workflow_is_named() -> None:
    inner, flow = Workflow("inner"), Workflow("flow")
    inner.step("first", "core.echo")
    inner.step("fetch", fetch)
    flow.step("first", "core.echo")
    flow.for_each("pages", over=["a"], workflow=inner)
    found = hint(flow, "workflow.steps[1].workflow.steps[1].action")
    assert found == f"start a server that has it: stepwave serve --actions {__name__}"
    assert hint(flow, "workflow.steps[1].workflow.steps[0].action").endswith("--actions MODULE")


def test_on_temporal_the_hint_names_servers_and_hosts() -> None:
    flow = Workflow("flow")
    flow.step("fetch", fetch)
    found = hint(flow, "workflow.steps[0].action", "temporal")
    serve = f"stepwave serve --actions {__name__}"
    assert found == f"start a server or a host that has it: {serve}, or stepwave host {__name__}"
