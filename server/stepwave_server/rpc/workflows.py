"""The named workflows of a server, read from a folder at start."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from stepwave._files import load_workflow
from stepwave.v1 import workflow_pb2
from stepwave_server.core.validate import did_you_mean

__all__ = ["Workflows", "check_folder"]

SUFFIXES = frozenset({".yaml", ".yml", ".json"})


class Workflows:
    """The named workflows, sorted by name."""

    def __init__(self, workflows: Mapping[str, workflow_pb2.Workflow] | None = None) -> None:
        self._workflows = dict(sorted((workflows or {}).items()))

    @classmethod
    def load(cls, folder: Path) -> "Workflows":
        """Read every workflow file of a folder.

        Raises:
            WorkflowFileError: A file is malformed.
            ValueError: The folder does not exist, or two files define the same name.
        """
        check_folder(folder)
        found: dict[str, workflow_pb2.Workflow] = {}
        for path in sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES):
            message = load_workflow(path).message
            if message.name in found:
                raise ValueError(f'{path}: another file has a workflow "{message.name}" already')
            found[message.name] = message
        return cls(found)

    def __iter__(self) -> Iterator[workflow_pb2.Workflow]:
        """Iterate over the workflows, by name."""
        return iter(self._workflows.values())

    def get(self, name: str) -> workflow_pb2.Workflow | None:
        """Return the workflow of a name; `None` if there is none."""
        return self._workflows.get(name)

    def unknown(self, name: str) -> str:
        """Return the error message for an unknown name, with a similar name if there is one."""
        return f'no workflow "{name}" on this server{did_you_mean(name, self._workflows.keys())}'


def check_folder(folder: Path) -> None:
    """Check that a folder exists.

    Raises:
        ValueError: There is none.
    """
    if not folder.is_dir():
        raise ValueError(f"not a folder: {folder}")
