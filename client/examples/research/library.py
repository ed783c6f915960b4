"""The actions: they search and read the documentation of the Python that is installed on this machine."""

import ast
import asyncio
import importlib.util
import re
import sys
from functools import cache
from pathlib import Path
from typing import TypedDict

from stepwave import ActionError, Context, action

__all__ = ["Finding", "Hit", "Page", "note", "publish", "read", "search", "write"]

MAX_HITS = 12
MAX_FINDINGS = 3

COMMON = frozenset(["does", "from", "have", "modules", "that", "there", "what", "when", "where", "which", "with"])
"""Words of questions that are in nearly every page."""


class Hit(TypedDict):
    """A page that a search found: a module, and how many of the words are in its documentation."""

    module: str
    words: int


class Page(TypedDict):
    """A page: the documentation of a module and of its public functions and classes, by their names."""

    module: str
    texts: dict[str, str]


class Finding(TypedDict):
    """A sentence that answers the question, and its place."""

    place: str
    sentence: str


@action
def search(question: str, match: str = "all") -> list[Hit]:
    """Find modules whose documentation has all words of a question, or any of them. The best come first."""
    words = _words(question)
    if not words:
        raise ActionError("the question has no words to search for", reason="invalid_input")
    found = [Hit(module=name, words=_count(words, text)) for name, text in _index().items()]
    least = len(words) if match == "all" else 1
    hits = sorted((hit for hit in found if hit["words"] >= least), key=lambda hit: (-hit["words"], hit["module"]))
    return hits[:MAX_HITS]


@action
async def read(module: str) -> Page:
    """Read a page."""
    return Page(module=module, texts=await asyncio.to_thread(_texts, module))


@action
async def note(page: Page, question: str, context: Context) -> list[Finding]:
    """Note the sentences of a page that have the most words of the question."""
    words = _words(question)
    ranked = sorted(
        (-_count(words, sentence), f"{page['module']}.{name}" if name else page["module"], sentence)
        for name, text in page["texts"].items()
        for sentence in _sentences(text)
    )
    best = [Finding(place=place, sentence=sentence) for count, place, sentence in ranked if count][:MAX_FINDINGS]
    context.logger.info("%d notes on %s", len(best), page["module"])
    return best


@action
async def write(question: str, pages: list[dict[str, list[Finding]]]) -> str:
    """Write a report in Markdown."""
    findings = [f"- `{finding['place']}`: {finding['sentence']}\n" for page in pages for finding in page["note"]]
    return f"# {question}\n\n{''.join(findings)}"


@action
async def publish(report: str, path: str) -> str:
    """Write a report to a file, and return its path."""
    await asyncio.to_thread(Path(path).write_text, report, encoding="utf-8")
    return path


@cache
def _index() -> dict[str, str]:
    """Return the documentation of every module of the standard library that is written in Python."""
    names = (name for name in sorted(sys.stdlib_module_names) if not name.startswith("_"))
    pages = ((name, _module_text(name)) for name in names)
    return {name: text for name, text in pages if text}


def _module_text(module: str) -> str:
    tree = _tree(module)
    return "" if tree is None else ast.get_docstring(tree) or ""


def _texts(module: str) -> dict[str, str]:
    tree = _tree(module)
    if tree is None:
        raise ActionError(f"no module {module!r} that is written in Python", reason="not_found")
    texts = {"": ast.get_docstring(tree) or ""}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            texts[node.name] = ast.get_docstring(node) or ""
    return {name: text for name, text in texts.items() if text}


def _tree(module: str) -> ast.Module | None:
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        return None
    return ast.parse(Path(found.origin).read_bytes())


def _words(question: str) -> list[str]:
    """Return the words of a question, without endings: `compressing` also finds `compress` and `compressed`."""
    words = re.findall(r"[a-z]{4,}", question.lower())
    return [re.sub(r"(ing|ed|es|s)$", "", word) for word in words if word not in COMMON]


def _count(words: list[str], text: str) -> int:
    lower = text.lower()
    return sum(word in lower for word in words)


def _sentences(text: str) -> list[str]:
    flat = re.sub(r"\s+", " ", text)
    return [sentence.strip() for sentence in re.split(r"(?<=[.!?]) ", flat) if 20 < len(sentence) < 300]
