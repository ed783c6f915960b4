"""Actions that run in the process of `stepwave mcp`, and use its standard streams."""

import asyncio
import os
import subprocess
import sys

from stepwave import action


@action
def print_everywhere() -> str:
    """Write to standard output in each way."""
    print("printed", flush=True)  # noqa: T201 - the test is about printing
    os.write(1, b"written\n")
    subprocess.run(["echo", "echoed"], check=True)
    return "done"


@action
def read_input() -> list[str]:
    """Read standard input, in this process and in another one."""
    return [sys.stdin.read(), subprocess.run(["cat"], check=True, capture_output=True, text=True).stdout]


@action
async def stubborn() -> None:
    """Do not end, in spite of a cancellation."""
    print("stubborn begins", flush=True)  # noqa: T201 - goes to standard error, where the test reads it
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            print("stubborn goes on", flush=True)  # noqa: T201 - as above
