"""The actions: they take notes of pages, and write and publish the report."""

import asyncio
import re
from pathlib import Path
from typing import TypedDict

from words import count, words_of

from stepwave import Context, action

__all__ = ["Finding", "Page", "note", "publish", "write"]

MAX_FINDINGS = 3


class Page(TypedDict):
    """A page of the library: the documentation of a module and of its public functions and classes, by their names."""

    module: str
    texts: dict[str, str]


class Finding(TypedDict):
    """A sentence that answers the question, and its place."""

    place: str
    sentence: str


@action
async def note(page: Page, question: str, context: Context) -> list[Finding]:
    """Note the sentences of a page that have the most words of the question."""
    words = words_of(question)
    ranked = sorted(
        (-count(words, sentence), f"{page['module']}.{name}" if name else page["module"], sentence)
        for name, text in page["texts"].items()
        for sentence in _sentences(text)
    )
    best = [Finding(place=place, sentence=sentence) for found, place, sentence in ranked if found][:MAX_FINDINGS]
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


def _sentences(text: str) -> list[str]:
    flat = re.sub(r"\s+", " ", text)
    return [sentence.strip() for sentence in re.split(r"(?<=[.!?]) ", flat) if 20 < len(sentence) < 300]
