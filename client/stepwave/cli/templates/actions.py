"""The actions of the workflow in flows/research.yaml. Put your tool calls and model calls in place of the pauses."""

import asyncio
import time
from collections.abc import AsyncIterator

from stepwave import action


@action
async def search(topic: str) -> list[str]:
    """Search for passages about a topic."""
    await asyncio.sleep(0.5)  # a search service works
    return [f"{topic} are deep", f"{topic} are cold"]


@action
def recall(topic: str) -> str:
    """Recall what an earlier conversation said about a topic. A plain function runs on a thread."""
    time.sleep(0.5)  # a database works
    return f"You asked about {topic} before."


@action
async def write(passages: list[str], memory: str) -> AsyncIterator[str]:
    """Write an answer. A generator streams its chunks; its output is the whole text."""
    for word in f"{memory} In short: {', and '.join(passages)}.".split():
        await asyncio.sleep(0.05)  # a model works
        yield word + " "
