"""The library: an MCP server whose tools search and read the documentation of the Python that runs it.

`stepwave` starts it, as mcp_servers.toml says. It speaks the Model Context Protocol on its standard input and output.
"""

import ast
import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import Literal

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from typing_extensions import TypedDict
from words import count, words_of

MAX_HITS = 12

library = MCPServer("library")


class Hit(TypedDict):
    """A page that a search found: a module, and how many of the words are in its documentation."""

    module: str
    words: int


class Page(TypedDict):
    """A page: the documentation of a module and of its public functions and classes, by their names."""

    module: str
    texts: dict[str, str]


@library.tool()
def search(question: str, match: Literal["all", "any"] = "all") -> list[Hit]:
    """Find modules whose documentation has all words of a question, or any of them. The best come first."""
    words = words_of(question)
    if not words:
        raise ToolError("the question has no words to search for")
    found = [Hit(module=name, words=count(words, text)) for name, text in _index().items()]
    least = len(words) if match == "all" else 1
    hits = sorted((hit for hit in found if hit["words"] >= least), key=lambda hit: (-hit["words"], hit["module"]))
    return hits[:MAX_HITS]


@library.tool()
def read(module: str) -> Page:
    """Read a page."""
    tree = _tree(module)
    if tree is None:
        raise ToolError(f"no module {module!r} that is written in Python")
    texts = {"": ast.get_docstring(tree) or ""}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            texts[node.name] = ast.get_docstring(node) or ""
    return Page(module=module, texts={name: text for name, text in texts.items() if text})


@cache
def _index() -> dict[str, str]:
    """Return the documentation of every module of the standard library that is written in Python."""
    names = (name for name in sorted(sys.stdlib_module_names) if not name.startswith("_"))
    pages = ((name, _module_text(name)) for name in names)
    return {name: text for name, text in pages if text}


def _module_text(module: str) -> str:
    tree = _tree(module)
    return "" if tree is None else ast.get_docstring(tree) or ""


def _tree(module: str) -> ast.Module | None:
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        return None
    return ast.parse(Path(found.origin).read_bytes())


if __name__ == "__main__":
    library.run()
