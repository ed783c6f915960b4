"""`core.workflow`: a step that runs a workflow within its run. `engine/attempts/nested.py` chooses it."""

from typing_extensions import TypedDict

from stepwave._actions.action import action

__all__ = ["WorkflowCall", "workflow"]


class WorkflowCall(TypedDict, total=False):
    """The input of `core.workflow`: either `name` or `workflow`."""

    name: str
    workflow: dict[str, object]
    input: object


@action("core.workflow")
async def workflow(input: WorkflowCall) -> object:
    """Run a workflow of the server by its name, or one in the JSON form of the contract's `Workflow`."""
    raise AssertionError("the engine runs this action itself")
