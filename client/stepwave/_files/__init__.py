"""Workflow files: the contract's `Workflow` in YAML or JSON, read with the place of every value.

YAML is read by the core schema of YAML 1.2: only `true` and `false` are booleans, only decimal numbers are numbers, and
everything else is a string, such as dates and `yes`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Protocol

from stepwave._values.payload import dump_json
from stepwave.exceptions import InvalidWorkflow, Violation
from stepwave.v1 import workflow_pb2

from ._json import parse_json
from ._reader import Reader
from ._tree import FileProblem, Node, Place, SyntaxProblem

__all__ = [
    "FileProblem",
    "LoadedStep",
    "LoadedWorkflow",
    "Place",
    "WorkflowFileError",
    "load_workflow",
    "parse_step",
    "parse_workflow",
    "steps_of",
]

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


@dataclass(frozen=True, slots=True)
class LoadedStep:
    """A step read from one line of a stream.

    Attributes:
        message: The step.
        source: The name of the stream.
        line: The number of the line, from 1.
    """

    message: workflow_pb2.Step
    source: str
    line: int

    def locate(self, violations: Sequence[Violation], hint: str = "") -> WorkflowFileError:
        """Return an error with the line of a step that a server refused, and the hint of its error."""
        place = Place(self.line, 1)
        problems = [FileProblem(place, it.description, it.field, it.reason) for it in violations]
        return WorkflowFileError(self.source, problems, hint=hint)


def parse_step(text: str, source: str, line: int = 1) -> LoadedStep:
    """Read one line of a stream: a step as JSON, in the form that it has in a workflow file.

    Raises:
        WorkflowFileError: The line is not a step. Facts of a run, such as its other steps, are not checked.
    """
    reader, message = Reader(), workflow_pb2.Step()
    try:
        root, problems = parse_json(text)
        if root is not None:
            message = reader.read_step(root)
    except SyntaxProblem as error:
        problems = [error.problem]
    found = [replace(it, place=Place(line, it.place.column)) for it in (*problems, *reader.problems)]
    if found:
        raise WorkflowFileError(source, found)
    return LoadedStep(message, source, line)


class _HasSteps(Protocol):
    """A workflow under construction."""

    def to_proto(self) -> workflow_pb2.Workflow: ...


def steps_of(given: _HasSteps | Iterable[Mapping[str, object] | workflow_pb2.Step]) -> list[workflow_pb2.Step]:
    """Return the steps of a workflow under construction, or steps as mappings of the form that a file has.

    Raises:
        WorkflowFileError: A mapping is not a step. The line is its number, from 1.
        TypeError: The steps are neither.
        ValueError: JSON cannot hold a mapping, or the workflow has options of its own.
    """
    if isinstance(given, Iterable):
        return [_step_of(step, number) for number, step in enumerate(given, start=1)]
    if not callable(getattr(given, "to_proto", None)):
        raise TypeError(f"steps must be a Workflow or a list of mappings, got {given!r}")
    workflow = given.to_proto()
    _check_no_options(workflow)
    return list(workflow.steps)


def _check_no_options(workflow: workflow_pb2.Workflow) -> None:
    """Check that a workflow has nothing but steps: the run that they are added to has options already."""
    plain = workflow_pb2.Workflow(
        name=workflow.name,
        steps=workflow.steps,
        scheduling=workflow_pb2.SCHEDULING_EAGER,
        failure_policy=workflow_pb2.FAILURE_POLICY_FAIL_FAST,
    )
    if workflow != plain:
        raise ValueError(f"only steps can be added to a run: leave out the options of the workflow {workflow.name!r}")


def _step_of(given: object, number: int) -> workflow_pb2.Step:
    if isinstance(given, workflow_pb2.Step):
        return given
    if not isinstance(given, Mapping):
        raise TypeError(f'a step must be a mapping such as {{"id": "a", "action": "echo"}}, got {given!r}')
    return parse_step(dump_json(given), "steps", number).message


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


def _parse_yaml(text: str) -> tuple[Node | None, list[FileProblem]]:
    from ._yaml import parse_yaml  # the SDK itself, which reads JSON alone, does not need the package for YAML

    return parse_yaml(text)


def parse_workflow(text: str, source: str) -> LoadedWorkflow:
    """Read the text of a workflow file: JSON if the name `source` ends in `.json`, else YAML.

    Raises:
        WorkflowFileError: The text is not a valid workflow. Facts of a server, such as its actions, are not checked.
    """
    try:
        root, problems = parse_json(text) if source.endswith(".json") else _parse_yaml(text)
    except SyntaxProblem as error:
        raise WorkflowFileError(source, [error.problem]) from error
    if root is None:
        raise WorkflowFileError(source, [FileProblem(Place(1, 1), "empty: a workflow has a name and steps")])
    reader = Reader()
    message = reader.read(root)
    if problems or reader.problems:
        raise WorkflowFileError(source, [*problems, *reader.problems])
    return LoadedWorkflow(message, source, reader.where)
