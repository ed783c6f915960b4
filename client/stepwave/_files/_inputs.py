"""Values in a file: plain data, and inputs in which `$from` and other references become bindings."""

from collections.abc import Callable
from difflib import get_close_matches
from typing import NamedTuple

from stepwave._values.json import number_problem, parse_json_text, pointer
from stepwave._values.payload import dump_json
from stepwave.v1 import payload_pb2, workflow_pb2

from ._contract import REFERENCES
from ._tree import Entry, Kind, ListNode, MapNode, Node, Place, Scalar, describe, to_json

__all__ = ["PlacedBinding", "data_json", "object_json", "read_input", "read_list"]

_LITERAL = "$literal"
_DEFAULT = "default"

ReportProblem = Callable[[Place, str], None]
"""Reports a problem with a value."""


class PlacedBinding(NamedTuple):
    """A binding, and the place of its reference."""

    binding: workflow_pb2.Binding
    place: Place


def read_input(node: Node, report: ReportProblem) -> tuple[str | None, list[PlacedBinding]]:
    """Read a value that may contain references.

    Returns:
        The JSON text, with `null` in place of references, and the bindings. The text is `None` if the whole value is
        one reference.
    """
    reader = _InputReader(report)
    text = reader.read(node, "")
    whole = len(reader.bindings) == 1 and not reader.bindings[0].binding.target
    return None if whole else text, reader.bindings


def data_json(node: Node, report: ReportProblem) -> str:
    """Read a value without references. Only `$literal` has a meaning in it."""
    reader = _InputReader(report)
    text = reader.read(node, "")
    for found in reader.bindings:
        report(found.place, "references are not allowed here; put $literal around what is data")
    return text


def read_list(node: Node, report: ReportProblem) -> workflow_pb2.ForEach:
    """Read the list of a `for_each`: a reference, or the list itself. Without a list, the message has no source."""
    found = workflow_pb2.ForEach()
    problems: list[tuple[Place, str]] = []
    reader = _InputReader(lambda place, text: problems.append((place, text)))
    text = reader.read(node, "")
    if reader.bindings and not reader.bindings[0].binding.target:
        _set_list_source(found, *reader.bindings[0], reader.report)
    elif reader.bindings and isinstance(node, ListNode):
        example = '{$cel: "[deps.a.output, input.x]"}'
        reader.report(reader.bindings[0].place, f"a fixed list has no references; write it in CEL, such as {example}")
    elif text.startswith("["):
        found.items.json = text
    elif not problems:
        reader.report(node.place, f"expected a list, or a reference such as {{$from: step}}, got {describe(node)}")
    for place, problem in problems:
        report(place, problem)
    return found


def _set_list_source(
    found: workflow_pb2.ForEach, binding: workflow_pb2.Binding, place: Place, report: ReportProblem
) -> None:
    if binding.HasField("default"):
        report(place, f'a list has no "{_DEFAULT}"')
    match binding.WhichOneof("source"):
        case "step":
            found.step.CopyFrom(binding.step)
        case "input":
            found.input = binding.input
        case "expression":
            found.expression = binding.expression
        case other:
            report(place, f'a list cannot come from ${other}; write {{$cel: "…"}}')


def object_json(node: Node, report: ReportProblem) -> str | None:
    """Return the JSON text of a node that is a mapping, or such a text. No key has a meaning in it."""
    reader = _InputReader(report)
    match node:
        case MapNode():
            return reader.read_literal(node)
        case Scalar(kind=Kind.STRING, text=text):
            if isinstance(_parsed(node, report), dict):
                return text
            return None
    report(node.place, f"expected a mapping, or its JSON text, got {describe(node)}")
    return None


def _parsed(node: Scalar, report: ReportProblem) -> object:
    try:
        value = parse_json_text(node.text)
    except ValueError as error:
        report(node.place, f"the text is {error}")
        return None
    if not isinstance(value, dict):
        report(node.place, "the text is JSON, but no object")
    return value


class _InputReader:
    """Reads one value and collects its bindings."""

    def __init__(self, report: ReportProblem) -> None:
        self.bindings: list[PlacedBinding] = []
        self.report = report

    def read(self, node: Node, here: str) -> str:
        """Return the node's JSON text; `here` is the JSON Pointer to it."""
        match node:
            case Scalar():
                self._check_number(node)
                return to_json(node)
            case ListNode(items=items):
                return "[" + ",".join(self.read(item, f"{here}/{index}") for index, item in enumerate(items)) + "]"
            case MapNode():
                return self._read_map(node, here)

    def read_literal(self, node: Node) -> str:
        """Return the JSON text of a node in which no key has a meaning."""
        self._check_numbers(node)
        return to_json(node)

    def _read_map(self, node: MapNode, here: str) -> str:
        special = next((entry for entry in node if entry.key in REFERENCES or entry.key == _LITERAL), None)
        if special is None:
            self._check_misspelt(node)
            parts = (f"{dump_json(key)}:{self.read(value, here + pointer((key,)))}" for _, key, value in node)
            return "{" + ",".join(parts) + "}"
        allowed = {special.key} if special.key == _LITERAL else {special.key, _DEFAULT}
        for entry in node:
            if entry.key not in allowed:
                self.report(entry.place, _not_beside(entry.key, special.key))
        if special.key == _LITERAL:
            return self.read_literal(special.value)
        self._bind(special, node, here)
        return "null"

    def _check_misspelt(self, node: MapNode) -> None:
        """Report a key that is almost the name of a reference. In data, `$literal` around the value allows it."""
        for entry in node:
            if entry.key.startswith("$") and (near := get_close_matches(entry.key, [*REFERENCES, _LITERAL], 1)):
                self.report(entry.place, f'did you mean {near[0]}? For "{entry.key}" as data, put $literal around it')

    def _check_numbers(self, node: Node) -> None:
        match node:
            case Scalar():
                self._check_number(node)
            case ListNode(items=items):
                for item in items:
                    self._check_numbers(item)
            case MapNode():
                for entry in node:
                    self._check_numbers(entry.value)

    def _check_number(self, node: Scalar) -> None:
        if node.kind is Kind.NUMBER and (problem := number_problem(node.text)):
            self.report(node.place, f"holds {problem}")

    def _bind(self, special: Entry, node: MapNode, here: str) -> None:
        if not (isinstance(special.value, Scalar) and special.value.kind is Kind.STRING):
            self.report(special.value.place, f"{special.key}: expected a string, got {describe(special.value)}")
            return
        binding = workflow_pb2.Binding(target=here)
        self._set_source(binding, special.key, special.value)
        default = next((entry.value for entry in node if entry.key == _DEFAULT), None)
        if default is not None:
            binding.default.CopyFrom(payload_pb2.Payload(json=data_json(default, self.report)))
        self.bindings.append(PlacedBinding(binding, special.value.place))

    def _set_source(self, binding: workflow_pb2.Binding, key: str, value: Scalar) -> None:
        if key != "$from":
            setattr(binding, REFERENCES[key], value.text)
            return
        step_id, slash, path = value.text.partition("/")
        if not step_id:
            self.report(value.place, '$from: names no step; write "step" or "step/pointer"')
        binding.step.id, binding.step.path = step_id, slash + path


def _not_beside(key: str, special: str) -> str:
    can = "nothing can" if special == _LITERAL else f'only "{_DEFAULT}" can'
    return f'"{key}" cannot be beside {special} ({can}); put $literal around what is data'
