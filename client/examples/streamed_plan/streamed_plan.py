"""Runs the plan of a planner twice: after it is written, and while it is written. It prints by how much that is faster.

It works from any folder and uses no network: `python client/examples/streamed_plan/streamed_plan.py`.
"""

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator

import lakes
from planner import write_plan

from stepwave import AsyncClient


async def whole_plan() -> AsyncIterator[str]:
    """Yield the plan as one text, once it is complete."""
    yield "".join([piece async for piece in write_plan()])


async def timed(client: AsyncClient, plan: AsyncIterable[str]) -> tuple[float, str]:
    """Run a plan, and return the seconds from the first word of the planner to the answer, and the answer."""
    started = time.monotonic()
    async with client.compose("lakes") as run:
        await run.feed(plan)
    return time.monotonic() - started, str(run.result.outputs["answer"])


async def main() -> None:
    async with AsyncClient.local([lakes]) as client:
        afterwards, answer = await timed(client, whole_plan())
        meanwhile, same_answer = await timed(client, write_plan())
    assert answer == same_answer
    print(answer, end="\n\n")
    print(f"plan, then run   {afterwards:6.2f} s")
    print(f"compose          {meanwhile:6.2f} s")
    print(f"earlier by       {afterwards - meanwhile:6.2f} s")


if __name__ == "__main__":
    asyncio.run(main())
