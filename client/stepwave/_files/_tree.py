"""The tree of a workflow file. Both YAML and JSON are read into it, and every value keeps its place in the file.

Lists and mappings nest at most `MAX_DEPTH` deep, so what walks a tree may recurse.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from stepwave._values.json import MAX_DEPTH
from stepwave._values.payload import dump_json

__all__ = [
    "MAX_DEPTH",
    "Entry",
    "FileProblem",
    "Kind",
    "ListNode",
    "MapNode",
    "Node",
    "Place",
    "Scalar",
    "SyntaxProblem",
    "describe",
    "to_json",
]


class Place(NamedTuple):
    """Where something stands in a file, counted from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class FileProblem:
    """One thing that is wrong with a file.

    Attributes:
        place: Where it stands.
        message: What is wrong.
        field: The contract's path of the field to blame, for example `steps[0].depends_on`; empty where no field is.
    """

    place: Place
    message: str
    field: str = ""

    def __str__(self) -> str:
        return f"{self.place.line}:{self.place.column}: " + (f"{self.field}: " if self.field else "") + self.message


class SyntaxProblem(Exception):
    """Raised when a text is not YAML or JSON at all, so that there is no tree; `problem` says where and why."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.problem = FileProblem(place, message)


class Kind(StrEnum):
    """The kinds of scalars that JSON knows."""

    NOTHING = "nothing"
    BOOLEAN = "a boolean"
    NUMBER = "a number"
    STRING = "a string"


@dataclass(frozen=True, slots=True, eq=False)
class Scalar:
    """A single value. Its text is the string itself, or the JSON text of anything else: numbers keep their digits."""

    place: Place
    kind: Kind
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class ListNode:
    """A list. An alias makes one node stand in several lists."""

    place: Place
    items: "tuple[Node, ...]"


class Entry(NamedTuple):
    """A key of a mapping and its value."""

    place: Place
    key: str
    value: "Node"


@dataclass(frozen=True, slots=True, eq=False)
class MapNode:
    """A mapping with distinct keys, in the file's order."""

    place: Place
    entries: tuple[Entry, ...]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)


Node: TypeAlias = Scalar | ListNode | MapNode


def describe(node: Node) -> str:
    """Name what a node is, for messages: `a list`, `the number 5`."""
    match node:
        case Scalar(kind=Kind.NOTHING):
            return "nothing"
        case Scalar(kind=Kind.STRING, text=text):
            return f'the string "{text}"' if len(text) <= 40 and text.isprintable() else "a string"
        case Scalar(kind=Kind.NUMBER, text=text):
            return f"the number {text}" if len(text) <= 40 else "a number"
        case Scalar(text=text):
            return text
        case ListNode():
            return "a list"
        case MapNode():
            return "a mapping"


def to_json(node: Node) -> str:
    """Write a node as one JSON text, keys in the file's order."""
    match node:
        case Scalar(kind=Kind.STRING, text=text):
            return dump_json(text)
        case Scalar(text=text):
            return text
        case ListNode(items=items):
            return "[" + ",".join(map(to_json, items)) + "]"
        case MapNode(entries=entries):
            return "{" + ",".join(f"{dump_json(key)}:{to_json(value)}" for _, key, value in entries) + "}"
