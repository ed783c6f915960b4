"""The syntax of expressions: CEL (the Common Expression Language, https://cel.dev) as a tree.

It is the language without its types `bytes` and `uint`, and without message literals. Every text is bounded in its
nesting before the tree is made, so that no text exhausts the stack.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

__all__ = [
    "MACROS",
    "Call",
    "Choice",
    "Has",
    "Index",
    "ListOf",
    "Literal",
    "Logic",
    "Macro",
    "MapOf",
    "Name",
    "Node",
    "Operation",
    "Select",
    "SyntaxProblem",
    "parse",
]

MAX_NESTED = 32
"""Brackets and conditions within each other."""

MACROS = {"all": (2, 2), "exists": (2, 2), "exists_one": (2, 2), "filter": (2, 2), "map": (2, 3)}
"""The methods that evaluate an expression for every item of a list, with their numbers of arguments."""

RESERVED = frozenset(
    {"as", "break", "const", "continue", "else", "for", "function", "if", "import", "in", "let", "loop", "namespace"}
    | {"package", "return", "var", "void", "while"}
)
LARGEST = 2**63


class SyntaxProblem(Exception):
    """Raised for a text that is no expression. The message says why, and where."""


class Literal(NamedTuple):
    """A constant."""

    value: object


class Name(NamedTuple):
    """A variable."""

    name: str


class Select(NamedTuple):
    """A field of a map: `operand.field`."""

    operand: "Node"
    field: str


class Index(NamedTuple):
    """An item of a list, or a value of a map: `operand[at]`."""

    operand: "Node"
    at: "Node"


class Has(NamedTuple):
    """Whether a map has a field: `has(operand.field)`."""

    operand: "Node"
    field: str


class ListOf(NamedTuple):
    """A list: `[a, b]`."""

    items: "tuple[Node, ...]"


class MapOf(NamedTuple):
    """A map: `{"a": b}`."""

    entries: "tuple[tuple[Node, Node], ...]"


class Operation(NamedTuple):
    """An operator with one operand or two. `-` with one is `neg`."""

    operator: str
    operands: "tuple[Node, ...]"


class Logic(NamedTuple):
    """Two or more parts with `&&` or `||` between them."""

    operator: str
    parts: "tuple[Node, ...]"


class Choice(NamedTuple):
    """`condition ? then : otherwise`."""

    condition: "Node"
    then: "Node"
    otherwise: "Node"


class Call(NamedTuple):
    """A function; `target.function(arguments)` has its target as the first argument."""

    function: str
    method: bool
    arguments: "tuple[Node, ...]"


class Macro(NamedTuple):
    """An expression for every item of a list: `range.name(variable, arguments)`."""

    name: str
    range: "Node"
    variable: str
    arguments: "tuple[Node, ...]"


Node: TypeAlias = Literal | Name | Select | Index | Has | ListOf | MapOf | Operation | Logic | Choice | Call | Macro

_TEXT = r"""\"{3}(?:[^\\]|\\.)*?\"{3}|'{3}(?:[^\\]|\\.)*?'{3}|"(?:[^"\\\n\r]|\\.)*"|'(?:[^'\\\n\r]|\\.)*'"""
_RAW = r"""\"{3}.*?\"{3}|'{3}.*?'{3}|"[^"\n\r]*"|'[^'\n\r]*'"""
_TOKEN = re.compile(
    rf"""(?P<space>[ \t\n\f\r]+|//[^\n]*)
    |(?P<raw>[rR](?:{_RAW}))
    |(?P<text>{_TEXT})
    |(?P<double>[0-9]*\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+)
    |(?P<int>0[xX][0-9a-fA-F]+|[0-9]+)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<sign>&&|\|\||[=!<>]=|[-+*/%!<>?:,.()\[\]{{}}])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.))", re.DOTALL)
_ESCAPED = {
    **{letter: letter for letter in "\\?\"'`"},
    **dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True)),
}
_LEVELS = {
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">=", "in"), 1),
    **dict.fromkeys(("+", "-"), 2),
    **dict.fromkeys(("*", "/", "%"), 3),
}
_CONSTANTS: dict[str, object] = {"true": True, "false": False, "null": None}


@dataclass(slots=True)
class _Token:
    kind: str
    text: str
    place: int


def parse(text: str) -> Node:
    """Return the tree of an expression.

    Raises:
        SyntaxProblem: The text is no expression, or it is nested too deeply.
    """
    parser = _Parser(_tokens(text))
    node = parser.expression()
    parser.expect("")
    return node


def _tokens(text: str) -> list[_Token]:
    found = []
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise SyntaxProblem(f"{text[place]!r} at character {place + 1} is not expected")
        kind = match.lastgroup or ""
        if kind != "space":
            found.append(_Token(kind, match[0], place))
        place = match.end()
    found.append(_Token("end", "", len(text)))
    return found


class _Parser:
    """A recursive descent over the tokens. `depth` is how many brackets and conditions are open."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    @property
    def token(self) -> _Token:
        return self._tokens[self._at]

    def expect(self, sign: str) -> None:
        """Consume a sign; empty: the end."""
        if not self.take(sign):
            raise self.unexpected()

    def take(self, *signs: str) -> str:
        """Consume one of the signs, if it is next. Return it; empty: none of them is next, or the end is."""
        token = self.token
        if token.kind not in ("sign", "name", "end") or token.text not in signs:
            return ""
        self._at += 1
        return token.text or "end"

    def unexpected(self) -> SyntaxProblem:
        """Return the problem that the next token is none that may be here."""
        token = self.token
        what = "the end" if token.kind == "end" else f"{token.text[:40]!r}"
        return SyntaxProblem(f"{what} at character {token.place + 1} is not expected")

    def expression(self) -> Node:
        """Parse an expression: a condition with its alternatives, or one without."""
        self._depth += 1
        if self._depth > MAX_NESTED:
            raise SyntaxProblem(f"it is nested too deeply: more than {MAX_NESTED} brackets and conditions")
        node = self._or()
        if self.take("?"):
            then = self._or()
            self.expect(":")
            node = Choice(node, then, self.expression())
        self._depth -= 1
        return node

    def _or(self) -> Node:
        return self._logic("||", self._and)

    def _and(self) -> Node:
        return self._logic("&&", lambda: self._binary(1))

    def _logic(self, operator: str, part: Callable[[], Node]) -> Node:
        parts = [part()]
        while self.take(operator):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Logic(operator, tuple(parts))

    def _binary(self, level: int) -> Node:
        """Parse operators of a level, and of those that bind more tightly."""
        node = self._unary()
        while (found := _LEVELS.get(self.token.text, 0)) >= level:
            operator = self.take(self.token.text)
            node = Operation(operator, (node, self._binary(found + 1)))
        return node

    def _unary(self) -> Node:
        sign = self.take("!", "-")
        if not sign:
            return self._member(self._primary())
        count = 1
        while self.take(sign):
            count += 1
        if sign == "-" and count % 2 and self.token.kind in ("int", "double"):
            return self._member(Literal(self._number("-")))
        node = self._member(self._primary())
        operator = "!" if sign == "!" else "neg"
        for _ in range(2 - count % 2):  # two have no effect, but for the type of the operand
            node = Operation(operator, (node,))
        return node

    def _member(self, node: Node) -> Node:
        while sign := self.take(".", "["):
            if sign == "[":
                node = Index(node, self.expression())
                self.expect("]")
                continue
            field = self._identifier()
            node = self._method(node, field) if self.take("(") else Select(node, field)
        return node

    def _method(self, node: Node, name: str) -> Node:
        place = self.token.place
        arguments = self._list(")")
        if name not in MACROS:
            return Call(name, True, (node, *arguments))
        fewest, most = MACROS[name]
        if not fewest <= len(arguments) <= most or not isinstance(arguments[0], Name):
            raise SyntaxProblem(f"{name}() at character {place + 1} needs a variable and an expression")
        return Macro(name, node, arguments[0].name, arguments[1:])

    def _primary(self) -> Node:
        token = self.token
        if token.kind in ("int", "double"):
            return Literal(self._number(""))
        if token.kind in ("text", "raw"):
            self._at += 1
            return Literal(_text_of(token))
        if token.kind == "name" and token.text in _CONSTANTS:
            self._at += 1
            return Literal(_CONSTANTS[token.text])
        if token.kind == "name" or self.take("."):
            return self._named(self._identifier())
        return self._bracketed()

    def _named(self, name: str) -> Node:
        if not self.take("("):
            return Name(name)
        arguments = self._list(")")
        if name != "has":
            return Call(name, False, arguments)
        if len(arguments) != 1 or not isinstance(arguments[0], Select):
            raise SyntaxProblem("has() needs one field, as in has(input.name)")
        return Has(*arguments[0])

    def _bracketed(self) -> Node:
        match self.take("(", "[", "{"):
            case "(":
                node = self.expression()
                self.expect(")")
                return node
            case "[":
                return ListOf(self._list("]"))
            case "{":
                return MapOf(self._entries())
        raise self.unexpected()

    def _list(self, end: str) -> tuple[Node, ...]:
        """Parse expressions with commas between them, up to a bracket. A list may have a comma at its end."""
        found: list[Node] = []
        while not self.take(end):
            if found:
                self.expect(",")
                if end == "]" and self.take(end):
                    break
            found.append(self.expression())
        return tuple(found)

    def _entries(self) -> tuple[tuple[Node, Node], ...]:
        found: list[tuple[Node, Node]] = []
        while not self.take("}"):
            if found:
                self.expect(",")
                if self.take("}"):
                    break
            key = self.expression()
            self.expect(":")
            found.append((key, self.expression()))
        return tuple(found)

    def _identifier(self) -> str:
        token = self.token
        if token.kind != "name" or token.text in RESERVED or token.text in _CONSTANTS:
            raise self.unexpected()
        self._at += 1
        return token.text

    def _number(self, sign: str) -> int | float:
        token = self.token
        self._at += 1
        if self.token.kind == "name" and self.token.place == token.place + len(token.text):
            raise SyntaxProblem(f"the number {token.text[:40]}{self.token.text[:40]} is not supported")
        if token.kind == "double":
            return float(sign + token.text)
        number = int(sign + token.text, 16 if token.text[:2] in ("0x", "0X") else 10)
        if not -LARGEST <= number < LARGEST:
            raise SyntaxProblem(f"the integer {sign}{token.text[:40]} has more than 64 bits")
        return number


def _text_of(token: _Token) -> str:
    text = token.text[1:] if token.kind == "raw" else token.text
    width = 3 if text[:3] in ('"""', "'''") and len(text) >= 6 else 1
    inner = text[width:-width]
    if token.kind == "raw" or "\\" not in inner:
        return inner
    return _ESCAPE.sub(_unescape, inner)


def _unescape(match: re.Match[str]) -> str:
    two, four, eight, octal, letter = match.groups()
    if letter is not None:
        if letter not in _ESCAPED:
            raise SyntaxProblem(f"the escape sequence {match[0]!r} is unknown")
        return _ESCAPED[letter]
    code = int(octal, 8) if octal is not None else int(two or four or eight, 16)
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise SyntaxProblem(f"the escape sequence {match[0]} is no character")
    return chr(code)
