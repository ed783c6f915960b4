"""The tree of a YAML or JSON file, with the place of every value.

Lists and mappings nest at most `MAX_DEPTH` deep, so functions may recurse over a tree.
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
    """A line and column in a file, from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class FileProblem:
    """A problem in a file.

    Attributes:
        place: The place of the problem.
        message: The problem.
        field: The path of the invalid field in the contract, such as `steps[0].depends_on`; empty: none.
        reason: The reason of the server's violation; empty: none.
    """

    place: Place
    message: str
    field: str = ""
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.place.line}:{self.place.column}: " + (f"{self.field}: " if self.field else "") + self.message


class SyntaxProblem(Exception):
    """Raised when a text is not valid YAML or JSON; `problem` has the place and the reason."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.problem = FileProblem(place, message)


class Kind(StrEnum):
    """The kinds of JSON scalars."""

    NOTHING = "nothing"
    BOOLEAN = "a boolean"
    NUMBER = "a number"
    STRING = "a string"


@dataclass(frozen=True, slots=True, eq=False)
class Scalar:
    """A scalar. Its text is the string itself, or the JSON text of any other value, so numbers keep their digits."""

    place: Place
    kind: Kind
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class ListNode:
    """A list. With aliases, one node may be in several lists."""

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
    """Describe a node for error messages: `a list`, `the number 5`."""
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
