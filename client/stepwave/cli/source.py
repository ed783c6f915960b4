"""The workflow that a command names: a file, or a workflow that the server has; and its errors, placed in the file."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stepwave._files import LoadedWorkflow, WorkflowFileError, load_workflow
from stepwave.exceptions import InvalidWorkflow, Unsupported
from stepwave.v1 import workflow_pb2

from .exit_codes import CommandError

__all__ = ["Source", "find_workflow"]

_BUILT_IN = "core."
_SUFFIXES = frozenset({".yaml", ".yml", ".json"})


@dataclass(frozen=True, slots=True)
class Source:
    """A workflow to run.

    Attributes:
        definition: The workflow itself, or the name of one that the server has.
        loaded: The file it was read from, if it was.
    """

    definition: workflow_pb2.Workflow | str
    loaded: LoadedWorkflow | None = None

    @property
    def actions(self) -> dict[str, str]:
        """The steps' actions by step id, as far as they are known here."""
        return {} if isinstance(self.definition, str) else {step.id: step.action for step in self.definition.steps}

    def without_server(self, command: str) -> str:
        """Return how a command runs this workflow in its own process; empty: only the server has it."""
        if self.loaded is None:
            return ""
        built_in = all(action.startswith(_BUILT_IN) for action in self.actions.values())
        return f"stepwave {command} {self.loaded.source} {'--local' if built_in else '--actions MODULE'}"

    @contextmanager
    def located(self) -> Iterator[None]:
        """Give what a server blames in the body its place in the file.

        Raises:
            CommandError: The server refused the workflow.
        """
        try:
            yield
        except (InvalidWorkflow, Unsupported) as error:
            if self.loaded is None or not error.violations:
                raise
            raise CommandError(_placed(self.loaded, error)) from error


def find_workflow(name: str) -> Source:
    """Read a workflow file, or take the name of a workflow that the server has.

    Raises:
        CommandError: The file is not a workflow, cannot be read, or is not there though only a file can be meant.
    """
    path = Path(name)
    if not path.is_file() and path.suffix not in _SUFFIXES and path.name == name:
        return Source(name)
    try:
        loaded = load_workflow(name)
    except OSError as error:
        raise CommandError(f"cannot read {name}: {error.strerror}") from error
    except WorkflowFileError as error:
        which = "this is" if len(error.problems) == 1 else "these are"
        raise CommandError(f"{error}\nits actions and dependencies are checked once {which} mended") from error
    return Source(loaded.message, loaded)


def _placed(loaded: LoadedWorkflow, error: InvalidWorkflow | Unsupported) -> str:
    fields = workflow_pb2.Workflow.DESCRIPTOR.fields_by_name
    inside = [violation for violation in error.violations if _root(violation.field) in fields]
    lines = [str(loaded.locate(inside))] if inside else []
    return "\n".join([*lines, *(str(violation) for violation in error.violations if violation not in inside)])


def _root(field: str) -> str:
    return re.split(r"[.\[]", field.removeprefix("workflow."), maxsplit=1)[0]
