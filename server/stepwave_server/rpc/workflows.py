"""The named workflows of a server, read from a folder at start."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stepwave._files import LoadedWorkflow
from stepwave._files.folder import load_folder
from stepwave.exceptions import Violation as FileViolation
from stepwave.v1 import workflow_pb2
from stepwave_server.core.model import WORKFLOW_ACTION
from stepwave_server.core.validate import Violation, did_you_mean
from stepwave_server.wire.workflows.content import digest

__all__ = ["NamedWorkflow", "Workflows", "WorkflowsError"]


class WorkflowsError(ValueError):
    """Raised when named workflows cannot be served.

    Attributes:
        problems: The problems of all files, each with its file.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class NamedWorkflow:
    """A workflow of a file.

    Attributes:
        message: The workflow.
        file: Its file, with the places of its fields.
        digest: Its digest.
    """

    message: workflow_pb2.Workflow
    file: LoadedWorkflow
    digest: str

    @classmethod
    def of(cls, loaded: LoadedWorkflow) -> "NamedWorkflow":
        """Return the workflow of a file."""
        try:
            found = digest(loaded.message.SerializeToString(deterministic=True))
        except ValueError:  # its input schema is not JSON, which the check of the workflow reports
            found = ""
        return cls(loaded.message, loaded, found)

    def locate(self, violations: Sequence[Violation]) -> str:
        """Return a line for each problem of the workflow, with its place in the file."""
        located = [FileViolation(each.field, each.description, each.reason) for each in violations]
        return str(self.file.locate(located))


class Workflows:
    """The named workflows, sorted by name.

    Attributes:
        problems: The problems of files that were not read. Each begins with the name of its file.
    """

    def __init__(self, workflows: Mapping[str, NamedWorkflow] | None = None, problems: Iterable[str] = ()) -> None:
        self._workflows = dict(sorted((workflows or {}).items()))
        self.problems = tuple(problems)

    @classmethod
    def load(cls, folder: Path) -> "Workflows":
        """Read every workflow file of a folder. Problems of the files are collected, not raised.

        Raises:
            ValueError: The folder does not exist.
        """
        loaded, problems = load_folder(folder)
        return cls({workflow.message.name: NamedWorkflow.of(workflow) for workflow in loaded}, problems)

    def __iter__(self) -> Iterator[NamedWorkflow]:
        """Iterate over the workflows, by name."""
        return iter(self._workflows.values())

    def get(self, name: str) -> workflow_pb2.Workflow | None:
        """Return the workflow of a name; `None` if there is none."""
        found = self._workflows.get(name)
        return None if found is None else found.message

    def unknown(self, name: str) -> str:
        """Return the error message for an unknown name, with a similar name if there is one."""
        return f'no workflow "{name}" on this server{did_you_mean(name, self._workflows.keys())}'

    def call_problems(self) -> dict[str, list[Violation]]:
        """Return the problems of steps that run a workflow by its name, by the name of the step's workflow.

        A name that the server lacks is a problem, and a workflow that runs itself, directly or through others. Only
        names that the files give count: a name that a run computes is checked when its step starts.
        """
        calls = {name: list(_calls(workflow.message.steps)) for name, workflow in self._workflows.items()}
        found: dict[str, list[Violation]] = {}
        for name, called in calls.items():
            for place, other in called:
                if other not in calls and not self.problems:  # it may be in a file that was not read
                    found.setdefault(name, []).append(Violation(place, self.unknown(other)))
                elif other in calls and (path := _path(calls, other, name)) and name == min(path):
                    cycle = " → ".join([name, *path])
                    found.setdefault(name, []).append(Violation(place, f"the workflow runs itself: {cycle}"))
        return found


def _calls(steps: Iterable[workflow_pb2.Step], place: str = "") -> Iterator[tuple[str, str]]:
    """Yield the workflows that steps and their nested workflows run by name, each with the place of the name."""
    for index, step in enumerate(steps):
        at = f"{place}steps[{index}]"
        fallback = step.fallback.action
        for field, call, action in ((at, step, step.action), (f"{at}.fallback.action", fallback, fallback.action)):
            if action == WORKFLOW_ACTION and (name := _called(call)):
                yield f"{field}.input", name
        yield from _calls(step.workflow.steps, f"{at}.workflow.")


def _called(call: workflow_pb2.Step | workflow_pb2.FallbackAction) -> str:
    """Return the name of the workflow in a call's input; empty: the input has none, or a binding replaces it."""
    if not call.input.HasField("json") or any(binding.target in {"", "/name"} for binding in call.bindings):
        return ""
    try:
        value = json.loads(call.input.json)
    except ValueError:  # the check of the workflow reports it
        return ""
    name = value.get("name") if isinstance(value, dict) else None
    return name if isinstance(name, str) else ""


def _path(calls: Mapping[str, Sequence[tuple[str, str]]], first: str, last: str) -> list[str]:
    """Return the shortest chain of calls from one workflow to another, with both; empty: there is none."""
    before: dict[str, str] = {first: ""}
    queue = [first]
    for name in queue:
        if name == last:
            path = []
            while name:
                path.append(name)
                name = before[name]
            return path[::-1]
        for _, other in calls[name]:
            if other in calls and other not in before:
                before[other] = name
                queue.append(other)
    return []
