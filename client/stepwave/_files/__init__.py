"""Workflow files: the contract's `Workflow` in YAML or JSON, read with the place of every value.

YAML is read by the core schema of YAML 1.2: only `true` and `false` are booleans, only decimal numbers are numbers, and
everything else is a string, such as dates and `yes`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from stepwave.exceptions import InvalidWorkflow, Violation
from stepwave.v1 import workflow_pb2

from ._json import parse_json
from ._reader import Reader
from ._tree import FileProblem, Place, SyntaxProblem
from ._yaml import parse_yaml

__all__ = ["FileProblem", "LoadedWorkflow", "Place", "WorkflowFileError", "load_workflow", "parse_workflow"]

_LAST_SEGMENT = re.compile(r"(?:\.[^.\[\]]*|\[[^\]]*\]|^[^.\[\]]+)$")


class WorkflowFileError(InvalidWorkflow):
    """Raised when a file is not a valid workflow. Every problem is listed, in the file's order.

    Attributes:
        source: The name of the file.
        problems: The problems and their places.
    """

    def __init__(self, source: str, problems: Sequence[FileProblem], *, hint: str = "") -> None:
        in_order = tuple(sorted(problems, key=lambda problem: problem.place))
        super().__init__("\n".join(f"{source}:{problem}" for problem in in_order), hint=hint)
        self.source = source
        self.problems = in_order
        self.violations = tuple(Violation(problem.field, problem.message, problem.reason) for problem in in_order)


@dataclass(frozen=True, slots=True)
class LoadedWorkflow:
    """A workflow read from a file.

    Attributes:
        message: The workflow.
        source: The name of the file.
        where: The place of every field in the file, by its path in the contract, such as `steps[1].depends_on[0]`.
    """

    message: workflow_pb2.Workflow
    source: str
    where: Mapping[str, Place]

    def place_of(self, field: str) -> Place:
        """Return the place of a field, or of its nearest parent in the file."""
        path = field.removeprefix("workflow.")
        while path not in self.where and path:
            path = _LAST_SEGMENT.sub("", path, count=1) if _LAST_SEGMENT.search(path) else ""
        return self.where.get(path, Place(1, 1))

    def locate(self, violations: Sequence[Violation], hint: str = "") -> WorkflowFileError:
        """Return an error with the places of the fields that a server refused, and the hint of its error."""
        problems = [
            FileProblem(self.place_of(it.field), it.description, it.field.removeprefix("workflow."), it.reason)
            for it in violations
        ]
        return WorkflowFileError(self.source, problems, hint=hint)


def load_workflow(path: str | PathLike[str]) -> LoadedWorkflow:
    """Read a workflow file: JSON if its name ends in `.json`, else YAML.

    Raises:
        WorkflowFileError: The file is not a valid workflow. Facts of a server, such as its actions, are not checked.
        OSError: The file cannot be read.
    """
    source = str(path)
    data = Path(path).read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise WorkflowFileError(source, [FileProblem(Place(line, column), "not UTF-8")]) from error
    return parse_workflow(text, source)


def parse_workflow(text: str, source: str) -> LoadedWorkflow:
    """Read the text of a workflow file: JSON if the name `source` ends in `.json`, else YAML.

    Raises:
        WorkflowFileError: The text is not a valid workflow. Facts of a server, such as its actions, are not checked.
    """
    parse = parse_json if source.endswith(".json") else parse_yaml
    try:
        root, problems = parse(text)
    except SyntaxProblem as error:
        raise WorkflowFileError(source, [error.problem]) from error
    if root is None:
        raise WorkflowFileError(source, [FileProblem(Place(1, 1), "empty: a workflow has a name and steps")])
    reader = Reader()
    message = reader.read(root)
    if problems or reader.problems:
        raise WorkflowFileError(source, [*problems, *reader.problems])
    return LoadedWorkflow(message, source, reader.where)
