"""Workflow files as tools: their names, descriptions and input schemas."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import mcp_types as types

from stepwave._files import LoadedWorkflow
from stepwave.exceptions import Violation
from stepwave.v1 import workflow_pb2

__all__ = ["WorkflowTool"]

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")  # of MCP
_MAX_STEPS = 10  # in a description
_ANY_INPUT: Mapping[str, Any] = {"type": "object"}


@dataclass(frozen=True, slots=True)
class WorkflowTool:
    """A workflow as a tool.

    Attributes:
        workflow: The workflow.
        tool: The tool, as clients see it.
        only_output: The id of the step whose output is the tool's answer; empty: the answer has several, by id.
    """

    workflow: LoadedWorkflow
    tool: types.Tool
    only_output: str

    @classmethod
    def of(cls, workflow: LoadedWorkflow) -> "WorkflowTool":
        """Return the tool of a workflow.

        Raises:
            WorkflowFileError: It can be no tool: its name is malformed, or its input is no object.
        """
        message = workflow.message
        if not _NAME.fullmatch(message.name):
            raise workflow.locate([Violation("name", f"malformed name {message.name!r}: want {_NAME.pattern}")])
        schema = _input_schema(workflow)
        outputs = list(message.outputs) or _last_steps(message)
        tool = types.Tool(name=message.name, description=_description(message, schema), input_schema=schema)
        return cls(workflow, tool, outputs[0] if len(outputs) == 1 else "")


def _input_schema(workflow: LoadedWorkflow) -> dict[str, Any]:
    """Return the input schema of a workflow, whose type is an object: MCP has no other.

    Raises:
        WorkflowFileError: It has no such type.
    """
    text = workflow.message.input_schema
    try:
        schema = json.loads(text) if text else _ANY_INPUT
    except ValueError as error:
        raise workflow.locate([Violation("input_schema", f"not JSON: {error}")]) from error
    kind = schema.get("type", "object") if isinstance(schema, Mapping) else None
    if kind != "object":
        raise workflow.locate([Violation("input_schema", "the input of a tool is an object: want `type: object`")])
    return {"type": "object", **schema}


def _description(message: workflow_pb2.Workflow, schema: Mapping[str, Any]) -> str:
    """Return the description in a workflow's label `description` or input schema, else one of its steps."""
    given = message.labels.get("description") or schema.get("description")
    if isinstance(given, str) and given:
        return given
    ids = [step.id for step in message.steps]
    more = f" and {len(ids) - _MAX_STEPS} more" if len(ids) > _MAX_STEPS else ""
    return f"Runs the workflow {message.name}, with the steps {', '.join(ids[:_MAX_STEPS])}{more}."


def _last_steps(message: workflow_pb2.Workflow) -> list[str]:
    """Return the ids of the steps that no step depends on: their outputs are the run's."""
    needed = {step_id for step in message.steps for step_id in _dependencies(step)}
    return [step.id for step in message.steps if step.id not in needed]


def _dependencies(step: workflow_pb2.Step) -> Iterator[str]:
    yield from step.depends_on
    yield from (binding.step.id for binding in (*step.bindings, *step.fallback.action.bindings))
    yield step.for_each.step.id
