"""The workflows that `core.workflow` runs: by name, or given in its input."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

import simplejson

from stepwave._actions.action import UNKNOWN_ACTION
from stepwave.v1 import workflow_pb2
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.core.model import Blob, Payload, Reason, Workflow
from stepwave_server.core.validate import Violation
from stepwave_server.wire.workflows.content import called_actions
from stepwave_server.wire.workflows.input_schema import input_problems
from stepwave_server.wire.workflows.workflow import Parsed, parse_workflow, workflow_of_json

__all__ = ["NestedWorkflows"]

LARGE = 16_384
"""Characters of an input above which it is read on a thread. So is every one with a schema, whose check takes long."""

SCHEMA = re.compile(r"input_?schema|\\u", re.IGNORECASE)
"""What is in every input with a schema: the key, or an escaped letter of it."""

MAX_EXPANDED = 2_500_000
"""Bytes of a workflow and its input together: one event holds both, and no message is larger than 3 MiB."""

KEYS = frozenset({"name", "workflow", "input"})

MAX_SHOWN = 5
"""Problems of a workflow that are shown in the failure of the step."""


class _UnknownActions(Exception):
    """Raised when a workflow cannot run, and one of the problems is an unknown action.

    Attributes:
        names: All actions of the workflow.
    """

    def __init__(self, message: str, names: Collection[str]) -> None:
        super().__init__(message)
        self.names = names


class NestedWorkflows:
    """Finds the workflow that an attempt of `core.workflow` runs.

    Args:
        named: Returns the workflow of a name.
        check: Returns every reason why a workflow cannot run here, in a namespace.
        max_bytes: Maximum size of a payload in bytes.
        find_actions: Finds out which actions exist, before a workflow is checked again that named unknown ones;
            `None`: all actions are known.
    """

    def __init__(
        self,
        named: Callable[[str], workflow_pb2.Workflow],
        check: Callable[[Workflow, str], list[Violation]],
        max_bytes: int,
        find_actions: Callable[[Collection[str]], Awaitable[None]] | None = None,
    ) -> None:
        self._named = named
        self._check = check
        self._max_bytes = max_bytes
        self._find_actions = find_actions
        # Named workflows by namespace and name, with their sizes: they never change.
        self._known: dict[tuple[str, str], tuple[Workflow, int]] = {}

    async def choose(self, given: Payload, namespace: str) -> tuple[Workflow, Payload]:
        """Return the workflow that the input of an attempt asks for, and its input.

        Args:
            given: The input of the attempt.
            namespace: The namespace of its run.

        Raises:
            ActionFailed: There is no such workflow, it cannot run here, or its schema refuses the input.
        """
        for find in (self._find_actions, None):
            try:
                if self._takes_long(given, namespace):
                    return await asyncio.to_thread(self._choose, given, namespace)
                return self._choose(given, namespace)
            except _UnknownActions as unknown:
                if find is None:
                    raise _invalid(str(unknown)) from None
                await find(unknown.names)
        raise AssertionError("the last pass returns or raises")

    def _takes_long(self, given: Payload, namespace: str) -> bool:
        """Say whether the choice may block the event loop for long."""
        if isinstance(given, Blob):
            return False
        if len(given) > LARGE or SCHEMA.search(given):
            return True
        name = _members(given).get("name")
        if name is None:
            return False
        known = self._known.get((namespace, _text(name)))
        return known is None or bool(known[0].input_schema)

    def _choose(self, given: Payload, namespace: str) -> tuple[Workflow, Payload]:
        members = _members(given)
        workflow, size = self._workflow(members, namespace)
        nested_input = members.get("input", "null")
        size += len(nested_input.encode())
        if size > MAX_EXPANDED:
            message = f"the workflow and its input have {size:,} bytes, and {MAX_EXPANDED:,} are allowed"
            raise ActionFailed(Reason.RESOURCE_EXHAUSTED, message)
        if problems := input_problems(workflow.input_schema, nested_input):
            raise _invalid(f"the workflow refuses its input: {'; '.join(problems[:MAX_SHOWN])}")
        return workflow, nested_input

    def _workflow(self, members: Mapping[str, str], namespace: str) -> tuple[Workflow, int]:
        """Return the workflow, and its size in bytes. A named one is checked once for each namespace."""
        if ("name" in members) == ("workflow" in members):
            raise _invalid("the input needs either `name` or `workflow`")
        if "workflow" in members:
            try:
                message = workflow_of_json(members["workflow"])
            except ValueError as error:
                raise _invalid(f"workflow: {error}") from error
            return self._checked(message, namespace)
        name = _text(members["name"])
        key = namespace, name
        if key not in self._known:
            try:
                self._known[key] = self._checked(self._named(name), namespace)
            except LookupError as error:
                raise ActionFailed(Reason.NOT_FOUND, str(error.args[0])) from error
        return self._known[key]

    def _checked(self, message: workflow_pb2.Workflow, namespace: str) -> tuple[Workflow, int]:
        parsed = Parsed(self._max_bytes)
        workflow = parse_workflow(message, parsed)
        problems = [*parsed.invalid, *parsed.unsupported] or self._check(workflow, namespace)
        if problems:
            text = f"the workflow cannot run: {_summary(problems)}"
            if any(problem.reason == UNKNOWN_ACTION for problem in problems):
                raise _UnknownActions(text, called_actions(message.steps))
            raise _invalid(text)
        return workflow, message.ByteSize()


def _members(given: Payload) -> dict[str, str]:
    """Return the members of an input, each as JSON text. Numbers keep their digits."""
    value = None if isinstance(given, Blob) else _load(given)
    if not isinstance(value, dict):
        raise _invalid("the input must be an object with `name` or `workflow`, and perhaps `input`")
    if unknown := sorted(value.keys() - KEYS):
        raise _invalid(f"unknown key of the input: {', '.join(map(repr, unknown))}; it has {', '.join(sorted(KEYS))}")
    return {key: _dump(member) for key, member in value.items()}


def _dump(value: object) -> str:
    text: str = simplejson.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate has no UTF-8 form: escape it
        text = simplejson.dumps(value)
    return text


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
