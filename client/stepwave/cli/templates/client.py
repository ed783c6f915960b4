"""Runs the workflow, and prints the text of the step `write` as it is written.

python client.py                                     # in this process
stepwave serve --actions actions --workflows flows   # or start a server, and run it there:
python client.py --server 127.0.0.1:50051
"""

import argparse
import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from stepwave import AsyncClient

FLOWS = Path(__file__).parent / "flows"


def connect(server: str | None) -> AbstractAsyncContextManager[AsyncClient]:
    """Return a client of a server; `None`: of a new server in this process."""
    return AsyncClient(server) if server else AsyncClient.local(["actions"], workflows=FLOWS)


async def main() -> None:
    """Run the workflow on the server of the command line, or in this process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", metavar="HOST:PORT", help="a running server; default: none, run in this process")
    parser.add_argument("--topic", default="fjords", help="default: fjords")
    options = parser.parse_args()
    async with connect(options.server) as client, client.run("research", {"topic": options.topic}) as run:
        async for text in run.text("write"):
            print(text, end="", flush=True)
        result = await run
    print(f"\n{result.state} after {result.duration.total_seconds():.1f} s")


if __name__ == "__main__":
    asyncio.run(main())
