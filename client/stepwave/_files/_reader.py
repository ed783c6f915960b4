"""Converts a tree to the contract's `Workflow` by its descriptors, and collects all problems and places."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from math import isfinite
from typing import Any, TypeVar, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from stepwave.v1 import payload_pb2, workflow_pb2

from ._contract import (
    DURATION_EXAMPLES,
    EXTENSION,
    INTEGER_BOUNDS,
    OVER,
    SHORT_FORMS,
    enum_names,
    holds_references,
    is_json_text,
    is_map,
    keys,
    map_value,
    parse_duration,
    parse_seconds,
    rivals,
)
from ._inputs import data_json, object_json, read_input, read_list
from ._tree import Entry, FileProblem, Kind, ListNode, MapNode, Node, Place, Scalar, describe

__all__ = ["Reader", "read_duration"]

_PLURALS = {
    FieldDescriptor.CPPTYPE_STRING: "strings",
    FieldDescriptor.CPPTYPE_MESSAGE: "mappings",
    FieldDescriptor.CPPTYPE_ENUM: "names",
}

AnyMessage = TypeVar("AnyMessage", bound=Message)


class Reader:
    """Reads one file.

    Attributes:
        problems: The problems, in no particular order.
        where: The place of every field in the file, by its path in the contract.
    """

    def __init__(self) -> None:
        self.problems: list[FileProblem] = []
        self.where: dict[str, Place] = {}

    def read(self, root: Node) -> workflow_pb2.Workflow:
        """Convert a tree to a workflow. If there are problems, the workflow is incomplete."""
        self.where[""] = root.place
        if isinstance(root, MapNode):
            root = MapNode(root.place, tuple(entry for entry in root if not entry.key.startswith(EXTENSION)))
        return self._message(workflow_pb2.Workflow(), root, "")

    def read_step(self, root: Node) -> workflow_pb2.Step:
        """Convert a tree to a step. If there are problems, the step is incomplete."""
        self.where[""] = root.place
        return self._message(workflow_pb2.Step(), root, "")

    def _message(self, message: AnyMessage, node: Node, path: str) -> AnyMessage:
        descriptor = cast("Descriptor", message.DESCRIPTOR)  # the stubs have two classes for it
        if descriptor.name in SHORT_FORMS and isinstance(node, Scalar) and node.kind is Kind.STRING:
            node = MapNode(node.place, (Entry(node.place, SHORT_FORMS[descriptor.name], node),))
        if not isinstance(node, MapNode):
            self._mismatch(node, path, "a mapping")
            return message
        fields = descriptor.fields_by_name
        known = [entry for entry in node if self._is_known(entry, keys(descriptor))]
        # By number, not in the file's order: bindings in `input` come before those in `bindings`.
        for key_place, key, value in sorted(
            known, key=lambda entry: fields[entry.key].number if entry.key in fields else 0
        ):
            at = f"{path}.{key}" if path else key
            self.where[at] = value.place if isinstance(value, Scalar) else key_place
            if key == OVER:
                self._over(message, value, path)
            else:
                self._field(message, fields[key], value, at)
        self._check_choices(descriptor, known)
        return message

    def _is_known(self, entry: Entry, fields: Iterable[str]) -> bool:
        if entry.key in fields:
            return True
        self.problems.append(FileProblem(entry.place, f'unknown key "{entry.key}"; {_suggest(entry.key, fields)}'))
        return False

    def _check_choices(self, descriptor: Descriptor, given: list[Entry]) -> None:
        for names in rivals(descriptor):
            found = [entry for entry in given if entry.key in names]
            for entry in found[1:]:
                message = f'"{entry.key}" and "{found[0].key}" exclude each other'
                self.problems.append(FileProblem(entry.place, message))

    def _field(self, message: Message, field: FieldDescriptor, node: Node, path: str) -> None:
        is_message = field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE
        if holds_references(field):
            self._input(message, node, path)
        elif is_json_text(field):
            setattr(message, field.name, object_json(node, self._reporter(path)) or "")
        elif is_map(field):
            self._map(getattr(message, field.name), field, node, path)
        elif field.is_repeated:
            self._list(getattr(message, field.name), field, node, path)
        elif is_message:
            getattr(message, field.name).SetInParent()
            self._submessage(getattr(message, field.name), node, path)
        elif (value := self._scalar(field, node, path)) is not None:
            setattr(message, field.name, value)

    # Containers and their messages are typed only by descriptors, hence `Any`.

    def _list(self, container: Any, field: FieldDescriptor, node: Node, path: str) -> None:
        if not isinstance(node, ListNode):
            self._mismatch(node, path, f"a list of {_PLURALS.get(field.cpp_type, 'values')}")
            return
        start = len(container)
        for index, item in enumerate(node.items, start):
            at = f"{path}[{index}]"
            self.where[at] = item.place
            if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
                self._submessage(container.add(), item, at)
            elif (value := self._scalar(field, item, at)) is not None:
                container.append(value)

    def _map(self, container: Any, field: FieldDescriptor, node: Node, path: str) -> None:
        if not isinstance(node, MapNode):
            self._mismatch(node, path, "a mapping")
            return
        for _, key, item in node:
            at = f"{path}.{key}"
            self.where[at] = item.place
            value = self._scalar(map_value(field), item, at)
            if value is not None:
                container[key] = value

    def _submessage(self, message: Message, node: Node, path: str) -> None:
        match message:
            case Duration():
                self._duration(message, node, path)
            case payload_pb2.Payload():
                message.json = data_json(node, self._reporter(path))
            case _:
                self._message(message, node, path)

    def _input(self, message: Any, node: Node, path: str) -> None:
        text, bindings = read_input(node, self._reporter(path))
        if text is not None:
            message.input.json = text
        for index, (binding, place) in enumerate(bindings):
            self.where[f"{path.removesuffix('input')}bindings[{index}]"] = place
            message.bindings.append(binding)

    def _over(self, message: Any, node: Node, path: str) -> None:
        found = read_list(node, self._reporter(f"{path}.{OVER}"))
        if source := found.WhichOneof("source"):
            self.where[f"{path}.{source}"] = node.place
        message.MergeFrom(found)

    def _duration(self, message: Duration, node: Node, path: str) -> None:
        try:
            message.CopyFrom(read_duration(node))
        except ValueError as error:
            self.problems.append(FileProblem(node.place, str(error), path))

    def _scalar(self, field: FieldDescriptor, node: Node, path: str) -> str | bool | int | float | None:
        match field.cpp_type, node:
            case FieldDescriptor.CPPTYPE_STRING, Scalar(kind=Kind.STRING, text=text):
                return self._text(node.place, text, path)
            case FieldDescriptor.CPPTYPE_BOOL, Scalar(kind=Kind.BOOLEAN, text=text):
                return text == "true"
            case FieldDescriptor.CPPTYPE_ENUM, Scalar(kind=Kind.STRING, text=text):
                return self._choice(field, node.place, text, path)
            case kind, Scalar(kind=Kind.NUMBER, text=text) if (number := _number(kind, text)) is not None:
                return number
        self._mismatch(node, path, _expected(field))
        return None

    def _text(self, place: Place, text: str, path: str) -> str | None:
        if not any("\ud800" <= character <= "\udfff" for character in text):
            return text
        self.problems.append(FileProblem(place, "half of a surrogate pair is not text", path))
        return None

    def _choice(self, field: FieldDescriptor, place: Place, text: str, path: str) -> int | None:
        names = enum_names(field.enum_type)
        if text not in names:
            self.problems.append(FileProblem(place, f'unknown value "{text}"; {_suggest(text, names)}', path))
        return names.get(text)

    def _reporter(self, path: str) -> Callable[[Place, str], None]:
        """Return a function that reports problems of the field at a path."""
        return lambda place, text: self.problems.append(FileProblem(place, text, path))

    def _mismatch(self, node: Node, path: str, expected: str) -> None:
        self.problems.append(FileProblem(node.place, f"expected {expected}, got {describe(node)}", path))


def read_duration(node: Node) -> Duration:
    """Return the duration of a node.

    Raises:
        ValueError: The node is not a duration.
    """
    match node:
        case Scalar(kind=Kind.STRING, text=text):
            return parse_duration(text)
        case Scalar(kind=Kind.NUMBER, text=text):
            return parse_seconds(text)
    raise ValueError(f"expected a duration such as {DURATION_EXAMPLES}, got {describe(node)}")


def _expected(field: FieldDescriptor) -> str:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return "a string"
        case FieldDescriptor.CPPTYPE_BOOL:
            return "true or false"
        case FieldDescriptor.CPPTYPE_ENUM:
            return "one of " + ", ".join(enum_names(field.enum_type))
        case kind if kind in INTEGER_BOUNDS:
            return "a whole number from {} to {}".format(*INTEGER_BOUNDS[kind])
        case _:
            return "a number"


def _suggest(word: str, known: Iterable[str]) -> str:
    near = get_close_matches(word.lower(), known, n=1)
    return f'did you mean "{near[0]}"?' if near else "known: " + ", ".join(known)


def _number(kind: int, text: str) -> int | float | None:
    """Return the number for a field of this kind; `None`: the field cannot hold it."""
    if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return float(text) if isfinite(float(text)) else None
    low, high = INTEGER_BOUNDS.get(kind, (0, -1))
    fits = text.lstrip("-").isdecimal() and len(text) <= 20 and low <= int(text) <= high
    return int(text) if fits else None
