"""The actions of the research. Each pauses where a real one would wait for a model or a service."""

import asyncio
from collections.abc import AsyncIterator

from stepwave import Context, action

SECONDS = {"web": 1.6, "papers": 2.4, "news": 1.2, "code": 2.0}  # how long a search of each source takes


@action
async def plan(question: str) -> dict[str, str]:
    """Turn a question into a query for each source."""
    await asyncio.sleep(1.0)
    return {source: f"{question} ({source})" for source in SECONDS}


@action
async def search(source: str, query: str, context: Context) -> list[str]:
    """Search one source; return the titles of three pages."""
    context.logger.info("searching for %r", query)
    await asyncio.sleep(SECONDS[source])
    return [f"{source}, page {number}" for number in (1, 2, 3)]


@action
async def read(pages: list[str], context: Context) -> list[str]:
    """Read pages one after another, and report progress; return a note for each."""
    for number, page in enumerate(pages, 1):
        await asyncio.sleep(0.8)
        context.progress(number / len(pages), page)
    return [f"a note on {page}" for page in pages]


@action
async def compare(notes: list[list[str]]) -> str:
    """Compare the notes from all sources."""
    await asyncio.sleep(1.2)
    return f"{sum(map(len, notes))} notes from {len(notes)} sources agree"


@action
async def write(question: str, finding: str) -> AsyncIterator[str]:
    """Write the report. Its words are streamed as the model writes them."""
    text = f"On the question {question!r}, {finding}. All sources were searched and read at the same time."
    for word in text.split():
        await asyncio.sleep(0.1)
        yield f"{word} "
