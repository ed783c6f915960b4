"""The functions of a workflow: registered with a server in this process, or named when a server lacks their actions."""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TypeAlias

from stepwave._actions.action import NEEDS_MCP_SERVERS, UNKNOWN_ACTION, name_of
from stepwave._building.requests import Startable
from stepwave._building.workflow import Workflow
from stepwave.exceptions import InvalidWorkflow, Violation
from stepwave.v1 import workflow_pb2

__all__ = ["Register", "UnknownActionHint"]

# Adds functions and classes to the actions of a server in this process, before the workflow that has them runs there.
Register: TypeAlias = Callable[[Iterable[object]], None]

_PLACEHOLDER = "MODULE"
_TEMPORAL = "temporal"
_ACTION_FIELD = re.compile(r"(?:workflow\.)?(steps\[\d+\](?:\.workflow\.steps\[\d+\])*)\.(fallback\.)?")
_INDEX = re.compile(r"\d+")


class UnknownActionHint(AbstractContextManager[None]):
    """Adds a hint to an `InvalidWorkflow` of the body: how to provide the actions that the server lacks. Reusable.

    Args:
        workflow: The workflow of the request.
        in_process: Whether the server runs in this process.
    """

    def __init__(self, workflow: Startable, *, in_process: bool) -> None:
        self._workflow = workflow
        self._in_process = in_process

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, InvalidWorkflow):
            unknown = [it for it in error.violations if it.reason == UNKNOWN_ACTION and not _says_how(it)]
            if unknown:
                error.hint = self._hint(unknown, error.engine)

    def _hint(self, unknown: Sequence[Violation], engine: str) -> str:
        them = "it" if len({violation.description for violation in unknown}) == 1 else "them"
        if self._in_process:
            return f"add {them} to the `actions` of the server in this process"
        modules = dict.fromkeys(self._modules(unknown))
        serve = f"stepwave serve {' '.join(f'--actions {name}' for name in modules)}"
        if engine == _TEMPORAL:
            return f"start a server or a host that has {them}: {serve}, or stepwave host {' '.join(modules)}"
        return f"start a server that has {them}: {serve}"

    def _modules(self, unknown: Sequence[Violation]) -> Iterator[str]:
        """Yield the module of each unknown action, or a placeholder if the workflow has its name alone."""
        if not isinstance(self._workflow, Workflow):
            yield _PLACEHOLDER
            return
        workflow = self._workflow.to_proto()
        modules = {name_of(target): _module_of(target) for target in self._workflow.actions}
        for violation in unknown:
            place = _ACTION_FIELD.match(violation.field)
            if place is None:
                yield _PLACEHOLDER
                continue
            step = _step_at(workflow, place[1])
            yield modules.get(step.fallback.action.action if place[2] else step.action, _PLACEHOLDER)


def _says_how(violation: Violation) -> bool:
    """Return whether a violation says itself how to provide its action."""
    return NEEDS_MCP_SERVERS in violation.description


def _step_at(workflow: workflow_pb2.Workflow, path: str) -> workflow_pb2.Step:
    """Return the step at a path of the contract, such as `steps[0].workflow.steps[2]`."""
    outer, *inner = (int(index) for index in _INDEX.findall(path))
    step = workflow.steps[outer]
    for index in inner:
        step = step.workflow.steps[index]
    return step


def _module_of(target: object) -> str:
    """Return the module that has a target as an attribute, for another process to import; else a placeholder."""
    module, name = getattr(target, "__module__", None), getattr(target, "__qualname__", "")
    importable = (inspect.isroutine(target) or inspect.isclass(target)) and "." not in name
    return module if importable and isinstance(module, str) and module != "__main__" else _PLACEHOLDER
