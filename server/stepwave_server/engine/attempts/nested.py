"""The workflows that `core.workflow` runs: by name, or given in its input."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import simplejson

from stepwave.v1 import workflow_pb2
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.core.model import Blob, Payload, Reason, Workflow
from stepwave_server.core.validate import Violation
from stepwave_server.wire.workflows.workflow import Parsed, parse_workflow, workflow_of_json

__all__ = ["NestedWorkflows"]

LARGE = 65_536
"""Characters of an input above which it is read on a thread."""

KEYS = frozenset({"name", "workflow", "input"})

MAX_SHOWN = 5
"""Problems of a workflow that are shown in the failure of the step."""


class NestedWorkflows:
    """Finds the workflow that an attempt of `core.workflow` runs.

    Args:
        named: Returns the workflow of a name.
        check: Returns every reason why a workflow cannot run here.
        max_bytes: Maximum size of a payload in bytes.
    """

    def __init__(
        self,
        named: Callable[[str], workflow_pb2.Workflow],
        check: Callable[[Workflow], list[Violation]],
        max_bytes: int,
    ) -> None:
        self._named = named
        self._check = check
        self._max_bytes = max_bytes

    async def choose(self, given: Payload) -> tuple[Workflow, Payload]:
        """Return the workflow that the input of an attempt asks for, and its input.

        Raises:
            ActionFailed: There is no such workflow, or it cannot run here.
        """
        if isinstance(given, str) and len(given) > LARGE:
            return await asyncio.to_thread(self._choose, given)
        return self._choose(given)

    def _choose(self, given: Payload) -> tuple[Workflow, Payload]:
        members = _members(given)
        parsed = Parsed(self._max_bytes)
        workflow = parse_workflow(self._message(members), parsed)
        problems = [*parsed.invalid, *parsed.unsupported] or self._check(workflow)
        if problems:
            raise _invalid(f"the workflow cannot run: {_summary(problems)}")
        return workflow, members.get("input", "null")

    def _message(self, members: Mapping[str, str]) -> workflow_pb2.Workflow:
        if ("name" in members) == ("workflow" in members):
            raise _invalid("the input needs either `name` or `workflow`")
        try:
            if "workflow" in members:
                return workflow_of_json(members["workflow"])
            return self._named(_text(members["name"]))
        except LookupError as error:
            raise ActionFailed(Reason.NOT_FOUND, str(error.args[0])) from error
        except ValueError as error:
            raise _invalid(f"workflow: {error}") from error


def _members(given: Payload) -> dict[str, str]:
    """Return the members of an input, each as JSON text. Numbers keep their digits."""
    value = None if isinstance(given, Blob) else _load(given)
    if not isinstance(value, dict):
        raise _invalid("the input must be an object with `name` or `workflow`, and perhaps `input`")
    if unknown := sorted(value.keys() - KEYS):
        raise _invalid(f"unknown key of the input: {', '.join(map(repr, unknown))}; it has {', '.join(sorted(KEYS))}")
    return {key: simplejson.dumps(member, ensure_ascii=False) for key, member in value.items()}


def _load(text: str) -> object:
    return simplejson.loads(text, parse_float=simplejson.RawJSON, parse_int=simplejson.RawJSON)


def _text(member: str) -> str:
    name = _load(member)
    if not isinstance(name, str):
        raise _invalid("`name` must be a string")
    return name


def _invalid(message: str) -> ActionFailed:
    return ActionFailed(Reason.INVALID_INPUT, message)


def _summary(problems: Sequence[Violation]) -> str:
    listed = [f"{problem.field}: {problem.description}" for problem in problems[:MAX_SHOWN]]
    more = len(problems) - len(listed)
    return "; ".join(listed) + (f"; and {more:,} more" if more else "")
