"""A planner that writes a plan as a model does: in pieces, a step in 200 ms. As a script it writes to its output."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

PLAN = Path(__file__).with_name("plan.jsonl")
SECONDS_PER_STEP = 0.2


async def write_plan() -> AsyncIterator[str]:
    """Yield the plan in pieces. A piece may end anywhere in a step."""
    for line in PLAN.read_text("utf-8").splitlines(keepends=True):
        middle = len(line) // 2
        for piece in line[:middle], line[middle:]:
            await asyncio.sleep(SECONDS_PER_STEP / 2)
            yield piece


async def main() -> None:
    async for piece in write_plan():
        sys.stdout.write(piece)
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
