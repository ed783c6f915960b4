"""The workflow of a command, from a file or from the server, and the places of errors in the file."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import stepwave._files._yaml  # noqa: F401 - now, so that the start of a command names the missing package
from stepwave._files import LoadedWorkflow, WorkflowFileError, load_workflow, parse_workflow
from stepwave.exceptions import InvalidWorkflow, Unsupported
from stepwave.v1 import workflow_pb2

from .exit_codes import CommandError
from .process.standard_streams import read_stdin

__all__ = ["Source", "find_workflow"]

_BUILT_IN_PREFIX = "core."
_BUILT_IN = frozenset({"chat.complete", "http.request"})  # beside those with the prefix
_NESTED = "core.workflow"  # the action of a step that runs a workflow
_STANDARD_INPUT = "-"
_SUFFIXES = frozenset({".yaml", ".yml", ".json"})


@dataclass(frozen=True, slots=True)
class Source:
    """A workflow to run.

    Attributes:
        definition: The workflow, or the name of a workflow of the server.
        loaded: The workflow file; `None`: the server has the workflow.
    """

    definition: workflow_pb2.Workflow | str
    loaded: LoadedWorkflow | None = None

    @property
    def actions(self) -> dict[str, str]:
        """The steps' actions by step id; empty for a workflow of the server.

        Steps within others have the path to them as their id, without the indexes of items: `pages/fetch`.
        """
        return {} if isinstance(self.definition, str) else dict(_actions_by_id(self.definition, ""))

    def local_command(self, command: str) -> str:
        """Return the command line that runs this workflow in its own process; empty: the server has the workflow."""
        if self.loaded is None:
            return ""
        built_in = all(_is_built_in(action) for action in _all_actions(self.loaded.message))
        return f"stepwave {command} {self.loaded.source} {'--local' if built_in else '--actions MODULE'}"

    def change(self, labels: Mapping[str, str] | None, max_parallelism: int | None) -> None:
        """Change the workflow for one run: add labels, which replace those of the same key, and set its parallelism.

        Raises:
            CommandError: There is something to change, and the server has the workflow.
        """
        if not labels and max_parallelism is None:
            return
        if isinstance(self.definition, str):
            option = "--label" if labels else "--max-parallelism"
            raise CommandError(f"{option} changes a workflow file; {self.definition} is a workflow of the server")
        self.definition.labels.update(labels or {})
        if max_parallelism is not None:
            self.definition.max_parallelism = max_parallelism

    @contextmanager
    def locate_errors(self) -> Iterator[None]:
        """Add the place in the file to the violations of an error that the server returns in the body.

        Raises:
            CommandError: The server refused the workflow.
        """
        try:
            yield
        except (InvalidWorkflow, Unsupported) as error:
            if self.loaded is None or not error.violations:
                raise
            raise CommandError(_located_violations(self.loaded, error)) from error


def _actions_by_id(workflow: workflow_pb2.Workflow, before: str) -> Iterator[tuple[str, str]]:
    for step in workflow.steps:
        yield before + step.id, step.action or _NESTED
        if step.HasField("workflow"):
            yield from _actions_by_id(step.workflow, f"{before}{step.id}/")


def _all_actions(workflow: workflow_pb2.Workflow) -> Iterator[str]:
    """Yield the actions of a workflow's steps, and of those of workflows within them."""
    for step in workflow.steps:
        if step.HasField("workflow"):
            yield from _all_actions(step.workflow)
        else:
            yield step.action


def _is_built_in(action: str) -> bool:
    return action.startswith(_BUILT_IN_PREFIX) or action in _BUILT_IN


def find_workflow(name: str) -> Source:
    """Read a workflow file, or standard input (`-`), or take the name of a workflow of the server.

    A name with a folder, or one that ends in `.yaml`, `.yml` or `.json`, is a file.

    Raises:
        CommandError: The file cannot be read, or is not a workflow.
    """
    if name == _STANDARD_INPUT:
        return _read(lambda: parse_workflow(_standard_input(), _STANDARD_INPUT))
    path = Path(name)
    if path.suffix == ".py":
        importable = path.is_file() and not path.is_absolute() and ".." not in path.parts
        module = ".".join(path.with_suffix("").parts) if importable else "MODULE"
        command = f"stepwave run FILE.yaml --actions {module}"
        raise CommandError(f"{name} is a Python file, not a workflow file; run a workflow with its actions: {command}")
    if not path.is_file() and path.suffix not in _SUFFIXES and path.name == name:
        return Source(name)
    try:
        return _read(lambda: load_workflow(name))
    except OSError as error:
        raise CommandError(f"cannot read {name}: {error.strerror}") from error


def _standard_input() -> str:
    data = read_stdin()
    try:
        return data.decode(json.detect_encoding(data))
    except UnicodeDecodeError as error:
        raise CommandError("standard input is not UTF-8") from error


def _read(load: Callable[[], LoadedWorkflow]) -> Source:
    try:
        loaded = load()
    except WorkflowFileError as error:
        problems = "this problem is" if len(error.problems) == 1 else "these problems are"
        raise CommandError(f"{error}\nactions and dependencies are checked once {problems} fixed") from error
    return Source(loaded.message, loaded)


def _located_violations(loaded: LoadedWorkflow, error: InvalidWorkflow | Unsupported) -> str:
    in_workflow = [violation for violation in error.violations if _is_in_workflow(violation.field)]
    lines = [str(loaded.locate(in_workflow))] if in_workflow else []
    lines += [str(violation) for violation in error.violations if violation not in in_workflow]
    hint = error.hint if isinstance(error, InvalidWorkflow) else ""
    return "\n".join([*lines, hint] if hint else lines)


def _is_in_workflow(field: str) -> bool:
    """Return whether the path of a field in a request leads into its workflow."""
    return field == "workflow" or field.startswith("workflow.")
