"""The troubleshooting in `server/README.md`: its messages are in the code, and it explains each refusal."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from google.rpc import code_pb2

import stepwave
import stepwave_server
from stepwave.v1.error_pb2 import ErrorReason
from stepwave_server.rpc.statuses import CODES

GUIDE = (Path(stepwave_server.__file__).parents[1] / "README.md").read_text("utf-8")
SECTION = re.search(r"^## Troubleshooting$(.*?)^## ", GUIDE, re.MULTILINE | re.DOTALL)
assert SECTION is not None
TEXT = re.sub(r"\n +", " ", SECTION[1])
MESSAGES = re.findall(r"\*\*`([^`]+)`\*\*", TEXT)
PACKAGES = (Path(stepwave.__file__).parent, Path(stepwave_server.__file__).parent)

HOLE = "\0"
"""What a template has where a message differs."""

FILLED = re.compile(r"%(?:\(\w+\))?[\d.]*[a-z]")
"""A place that `logging` fills in."""

PLACEHOLDER = re.compile(r"\b[A-Z]+\b")


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))


def _text(node: ast.AST) -> str | None:
    """Return the text of a string in the code, with holes; `None`: it is no string."""
    match node:
        case ast.Constant(value=str(text)):
            return FILLED.sub(HOLE, text)
        case ast.JoinedStr():
            return "".join(HOLE if isinstance(it, ast.FormattedValue) else _text(it) or "" for it in node.values)
    return None


def _texts() -> Iterator[str]:
    """Yield all texts of both packages, without the generated code."""
    for package in PACKAGES:
        for file in package.rglob("*.py"):
            if not file.name.endswith(("_pb2.py", "_pb2_grpc.py")):
                yield from filter(None, map(_text, ast.walk(ast.parse(file.read_text("utf-8")))))


@cache
def templates() -> list[tuple[re.Pattern[str], int]]:
    """Return all texts of the code as patterns, with the number of their own letters."""
    found = {text for text in _texts() if " " in text and "\n" not in text}
    return [(re.compile(".*".join(map(re.escape, text.split(HOLE)))), _letters(text)) for text in found]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_quoted_message_is_in_the_code(message: str) -> None:
    """More than half of its letters, without the placeholders, are those of one text of the code."""
    needed = _letters(PLACEHOLDER.sub("", message)) / 2
    assert any(letters > needed and pattern.fullmatch(message) for pattern, letters in templates())


def test_there_are_messages() -> None:
    assert len(MESSAGES) > 40


def test_every_reason_of_a_refusal_is_explained_with_its_code() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| `([A-Z_]+)` \| .+ \|$", TEXT, re.MULTILINE)
    names = {ErrorReason.Name(reason).removeprefix("ERROR_REASON_"): code for reason, code in CODES.items()}
    assert dict(rows) == {name: code_pb2.Code.Name(code) for name, code in names.items()}
