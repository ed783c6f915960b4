"""Parses YAML text to a tree, by the core schema of YAML 1.2: dates, `yes` and `0x10` are strings.

The parser's events are composed with an explicit stack, and depth and aliases are limited on the way.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from ._tree import MAX_DEPTH, Entry, FileProblem, Kind, ListNode, MapNode, Node, Place, Scalar, SyntaxProblem, describe

__all__ = ["parse_yaml"]

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # some builds of PyYAML have no C parser
_MAX_ALIASED = 100_000
_TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": "true", "True": "true", "TRUE": "true", "false": "false", "False": "false", "FALSE": "false"}
_NUMBER = re.compile(r"([+-]?)(\d+)?(?:(\.)(\d*))?([eE][+-]?\d+)?")
_NOT_FINITE = re.compile(r"[+-]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_UNREADABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_STRING_TAGS = frozenset({"!", "tag:yaml.org,2002:str"})
_COLLECTION_TAGS = frozenset({None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})


@dataclass(slots=True)
class _Open:
    """A list or mapping that has not ended yet."""

    place: Place
    anchor: str | None
    is_map: bool
    nodes: list[Node] = field(default_factory=list)
    size: int = 1


def parse_yaml(text: str) -> tuple[Node | None, list[FileProblem]]:
    """Read one YAML document.

    Returns:
        The tree, `None` if the document is empty, and the problems of valid YAML: duplicate keys, unknown tags, numbers
        that JSON does not have.

    Raises:
        SyntaxProblem: The text is not YAML, has several documents, or exceeds the limits on nesting and aliases.
    """
    composer = _Composer()
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            composer.take(event)
    except yaml.MarkedYAMLError as error:
        raise _explain(error) from error
    except yaml.reader.ReaderError as error:
        raise _explain_unreadable(text) from error
    return composer.root, composer.problems


class _Composer:
    """Composes a parser's events to a tree."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self.problems: list[FileProblem] = []
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int] | None] = {}
        self._merges: dict[int, Scalar] = {}
        self._documents = 0
        self._aliased = 0

    def take(self, event: yaml.Event) -> None:
        match event:
            case yaml.DocumentStartEvent():
                self._begin_document(_place(event))
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._begin(event, is_map=isinstance(event, yaml.MappingStartEvent))
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._end()
            case yaml.ScalarEvent():
                self._add(self._scalar(event), 1, event.anchor)
            case yaml.AliasEvent():
                self._alias(event.anchor or "", _place(event))

    def _begin_document(self, place: Place) -> None:
        self._documents += 1
        if self._documents > 1:
            raise SyntaxProblem(place, "a second document begins here; a workflow file has one workflow")

    def _begin(self, event: yaml.CollectionStartEvent, *, is_map: bool) -> None:
        place = _place(event)
        if len(self._open) >= MAX_DEPTH:
            raise SyntaxProblem(place, _TOO_DEEP)
        if event.tag not in _COLLECTION_TAGS:
            self._report(place, _unknown_tag(event.tag))
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        self._open.append(_Open(place, event.anchor, is_map))

    def _end(self) -> None:
        done = self._open.pop()
        node: Node = self._mapping(done) if done.is_map else ListNode(done.place, tuple(done.nodes))
        self._add(node, done.size, done.anchor)

    def _add(self, node: Node, size: int, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = (node, size)
        if self._open:
            self._open[-1].nodes.append(node)
            self._open[-1].size += size
        else:
            self.root = node

    def _alias(self, anchor: str, place: Place) -> None:
        if anchor not in self._anchors:
            raise SyntaxProblem(place, f"unknown alias *{anchor}")
        target = self._anchors[anchor]
        if target is None:
            raise SyntaxProblem(place, f"*{anchor} is inside the value that it repeats")
        self._aliased += target[1]
        if self._aliased > _MAX_ALIASED:
            raise SyntaxProblem(place, f"aliases repeat more than {_MAX_ALIASED:,} values")
        self._add(*target, None)

    def _mapping(self, done: _Open) -> MapNode:
        entries: dict[str, Entry] = {}
        merged: dict[str, Entry] = {}
        for key, value in zip(done.nodes[::2], done.nodes[1::2], strict=True):
            if id(key) in self._merges:
                for entry in self._merged(value):
                    merged.setdefault(entry.key, entry)
            elif not (isinstance(key, Scalar) and key.kind is Kind.STRING):
                self._report(key.place, _bad_key(key))
            elif key.text in entries:
                first = entries[key.text].place
                self._report(key.place, f'duplicate key "{key.text}", first on line {first.line}')
            else:
                entries[key.text] = Entry(key.place, key.text, value)
        return MapNode(done.place, tuple({**merged, **entries}.values()))

    def _merged(self, value: Node) -> Iterator[Entry]:
        """Yield the entries of a merge key (https://yaml.org/type/merge.html). Of equal keys, the first counts."""
        for source in value.items if isinstance(value, ListNode) else (value,):
            if isinstance(source, MapNode):
                yield from source
            else:
                self._report(source.place, f"<< merges a mapping, or a list of mappings, got {describe(source)}")

    def _scalar(self, event: yaml.ScalarEvent) -> Scalar:
        place, text = _place(event), event.value
        plain, quoted = event.implicit
        if plain:
            return self._plain(place, text)
        if not quoted and event.tag not in _STRING_TAGS:
            self._report(place, _unknown_tag(event.tag))
        return Scalar(place, Kind.STRING, text)

    def _plain(self, place: Place, text: str) -> Scalar:
        if text in _NULLS:
            return Scalar(place, Kind.NOTHING, "null")
        if text in _BOOLEANS:
            return Scalar(place, Kind.BOOLEAN, _BOOLEANS[text])
        if _NOT_FINITE.fullmatch(text):
            self._report(place, f"{text} is not a JSON number; put it in quotes if it is text")
        elif (number := _NUMBER.fullmatch(text)) and (number[2] or number[4]):
            return self._number(place, text, number)
        scalar = Scalar(place, Kind.STRING, text)
        if text == "<<" and self._is_key():
            self._merges[id(scalar)] = scalar
        return scalar

    def _is_key(self) -> bool:
        return bool(self._open) and self._open[-1].is_map and len(self._open[-1].nodes) % 2 == 0

    def _number(self, place: Place, text: str, number: re.Match[str]) -> Scalar:
        """Convert a number to its JSON text, with all its digits: `+1.` is `1.0`."""
        sign, whole, point, fraction, exponent = number.groups("")
        if len(whole) > 1 and whole.startswith("0"):
            self._report(place, f"{text} could be octal: drop the leading zero, or put it in quotes if it is text")
            return Scalar(place, Kind.STRING, text)
        digits = (whole or "0") + (point and f".{fraction or '0'}") + exponent
        return Scalar(place, Kind.NUMBER, sign.replace("+", "") + digits)

    def _report(self, place: Place, message: str) -> None:
        self.problems.append(FileProblem(place, message))


def _place(event: yaml.Event) -> Place:
    return _place_of_mark(event.start_mark)


def _place_of_mark(mark: yaml.Mark | yaml._yaml.Mark | None) -> Place:
    return Place(1, 1) if mark is None else Place(mark.line + 1, mark.column + 1)


def _unknown_tag(tag: str | None) -> str:
    shown = (tag or "").replace("tag:yaml.org,2002:", "!!")
    return f"unknown tag {shown}; a workflow file has only the types of JSON"


def _bad_key(key: Node) -> str:
    if isinstance(key, Scalar):
        return f"a key must be a string, got {key.text}; put it in quotes"
    return "a key must be a string, got a list or mapping"


def _explain(error: yaml.MarkedYAMLError) -> SyntaxProblem:
    place = _place_of_mark(error.problem_mark or error.context_mark)
    problem = error.problem or error.context or "not YAML"
    if "maximum nesting depth" in problem:  # the parser's own limit, reached before its first event
        problem = _TOO_DEEP
    elif "cannot start any token" in problem:
        problem = f"{problem}; indent with spaces, and put text that begins with a special character in quotes"
    elif error.context and error.problem:
        problem = f"{problem} ({error.context})"
    return SyntaxProblem(place, problem)


def _explain_unreadable(text: str) -> SyntaxProblem:
    found = _UNREADABLE.search(text)
    if found is None:
        return SyntaxProblem(Place(1, 1), "the file holds a character that YAML does not allow")
    line = text.count("\n", 0, found.start()) + 1
    column = found.start() - text.rfind("\n", 0, found.start())
    return SyntaxProblem(Place(line, column), f"YAML does not allow the character {json.dumps(found[0])}")
