"""The workflow files of a folder."""

from pathlib import Path

from stepwave.exceptions import Violation

from . import LoadedWorkflow, WorkflowFileError, load_workflow

__all__ = ["check_folder", "load_folder"]

_SUFFIXES = frozenset({".yaml", ".yml", ".json"})


def check_folder(folder: Path) -> None:
    """Check that a folder exists.

    Raises:
        ValueError: There is none.
    """
    if not folder.is_dir():
        raise ValueError(f"not a folder: {folder}")


def load_folder(folder: Path) -> tuple[list[LoadedWorkflow], list[str]]:
    """Read every workflow file of a folder.

    Returns:
        The workflows, in the order of their files, and the problems of files that are no workflows or have the name of
        another one. Each problem begins with the name of its file.

    Raises:
        ValueError: The folder does not exist.
    """
    check_folder(folder)
    found: dict[str, LoadedWorkflow] = {}
    problems = []
    for path in sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES):
        try:
            workflow = load_workflow(path)
        except WorkflowFileError as error:
            problems.append(str(error))
            continue
        except OSError as error:
            problems.append(f"{path}: cannot be read: {error.strerror}")
            continue
        name = workflow.message.name
        first = found.setdefault(name, workflow)
        if first is not workflow:
            message = f'the workflow "{name}" is in {first.source}, too'
            problems.append(str(workflow.locate([Violation("name", message)])))
    return list(found.values()), problems
