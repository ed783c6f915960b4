"""Parses JSON text (RFC 8259) to a tree with the place of every value, unlike the standard library's parser."""

import json
import re

from ._tree import MAX_DEPTH, Entry, FileProblem, Kind, ListNode, MapNode, Node, Place, Scalar, SyntaxProblem

__all__ = ["parse_json"]

_SPACE = re.compile(r"[ \t\n\r]*")
_LITERAL = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null", re.ASCII)
_STRING = re.compile(r'"[^"\\\x00-\x1f]*(?:\\.[^"\\\x00-\x1f]*)*"', re.DOTALL)
_KINDS = {"true": Kind.BOOLEAN, "false": Kind.BOOLEAN, "null": Kind.NOTHING}
_WORD = re.compile(r"[^\s,:\[\]{}]+|.", re.DOTALL)


def parse_json(text: str) -> tuple[Node | None, list[FileProblem]]:
    """Read one JSON text.

    Returns:
        The tree, `None` if the text is empty, and a problem for each duplicate key.

    Raises:
        SyntaxProblem: The text is not JSON, or nested too deeply.
    """
    parser = _Parser(text)
    if parser.at_end():
        return None, []
    root = parser.value(0)
    if not parser.at_end():
        raise parser.error("expected the end of the file")
    return root, parser.problems


class _Parser:
    """A recursive-descent parser; `_at` is the index of the next character."""

    def __init__(self, text: str) -> None:
        self.problems: list[FileProblem] = []
        self._text = text
        self._at = 0
        self._line = 1
        self._line_start = 0
        self._counted = 0

    def at_end(self) -> bool:
        self._skip_space()
        return self._at == len(self._text)

    def error(self, expected: str) -> SyntaxProblem:
        found = _WORD.match(self._text, self._at)
        return SyntaxProblem(
            self._place(), f"{expected}, got {found[0]!r}" if found else f"{expected}, got the end of the file"
        )

    def value(self, depth: int) -> Node:
        self._skip_space()
        match self._text[self._at : self._at + 1]:
            case "{":
                return self._map(self._deeper(depth))
            case "[":
                return self._list(self._deeper(depth))
            case '"':
                return Scalar(self._place(), Kind.STRING, self._string())
            case _:
                return self._literal()

    def _deeper(self, depth: int) -> int:
        if depth >= MAX_DEPTH:
            raise SyntaxProblem(self._place(), f"nested more than {MAX_DEPTH} levels deep")
        return depth + 1

    def _list(self, depth: int) -> ListNode:
        place, items = self._place(), list[Node]()
        self._at += 1
        if not self._accept("]"):
            items.append(self.value(depth))
            while self._accept(","):
                items.append(self.value(depth))
            self._expect("]", 'expected "," or "]"')
        return ListNode(place, tuple(items))

    def _map(self, depth: int) -> MapNode:
        place, entries = self._place(), dict[str, Entry]()
        self._at += 1
        if not self._accept("}"):
            self._entry(entries, depth)
            while self._accept(","):
                self._entry(entries, depth)
            self._expect("}", 'expected "," or "}"')
        return MapNode(place, tuple(entries.values()))

    def _entry(self, entries: dict[str, Entry], depth: int) -> None:
        self._skip_space()
        if not self._text.startswith('"', self._at):
            raise self.error("expected a key in double quotes")
        place, key = self._place(), self._string()
        self._expect(":", 'expected ":"')
        value = self.value(depth)
        if key in entries:
            self.problems.append(FileProblem(place, f'duplicate key "{key}", first on line {entries[key].place.line}'))
        else:
            entries[key] = Entry(place, key, value)

    def _string(self) -> str:
        found = _STRING.match(self._text, self._at)
        if found is None:
            raise SyntaxProblem(self._place(), "unterminated string")
        try:
            text: str = json.loads(found[0])
        except json.JSONDecodeError as error:
            raise SyntaxProblem(self._place(), f"malformed string: {error.msg}") from error
        self._at = found.end()
        return text

    def _literal(self) -> Scalar:
        found = _LITERAL.match(self._text, self._at)
        if found is None:
            raise self.error("expected a value")
        place = self._place()
        self._at = found.end()
        return Scalar(place, _KINDS.get(found[0], Kind.NUMBER), found[0])

    def _skip_space(self) -> None:
        space = _SPACE.match(self._text, self._at)
        self._at = space.end() if space else self._at

    def _accept(self, character: str) -> bool:
        self._skip_space()
        found = self._text.startswith(character, self._at)
        self._at += found
        return found

    def _expect(self, character: str, expected: str) -> None:
        if not self._accept(character):
            raise self.error(expected)

    def _place(self) -> Place:
        """Return the current place. Lines are counted from the place returned last."""
        lines = self._text.count("\n", self._counted, self._at)
        if lines:
            self._line += lines
            self._line_start = self._text.rfind("\n", self._counted, self._at) + 1
        self._counted = self._at
        return Place(self._line, self._at - self._line_start + 1)
