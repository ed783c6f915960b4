"""A hand-written Temporal workflow of the same graphs: a process with its worker. `bare_temporal ADDRESS`."""

import asyncio
import os
import signal
import sys
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

__all__ = ["TASK_QUEUE", "BareGraph"]

TASK_QUEUE = "bare"


@activity.defn(name="bare.noop")
async def noop(given: dict[str, Any]) -> None:
    """Do nothing."""


@activity.defn(name="bare.sleep")
async def sleep(given: dict[str, Any]) -> None:
    """Sleep."""
    await asyncio.sleep(given["seconds"])


@workflow.defn(name="bare.graph")
class BareGraph:
    """Runs every step when its dependencies have ended. That is all that it can."""

    @workflow.run
    async def run(self, dependencies: list[list[int]], seconds: list[float]) -> int:
        """Run a graph; arguments as in `Load`."""
        steps: list[asyncio.Task[Any]] = []

        async def step(index: int) -> Any:
            outputs = {f"s{other}": await steps[other] for other in dependencies[index]}
            return await workflow.execute_activity(
                "bare.sleep" if seconds else "bare.noop",
                {"seconds": seconds[index]} if seconds else outputs,
                start_to_close_timeout=timedelta(seconds=60),
                heartbeat_timeout=timedelta(seconds=10),
                retry_policy=RetryPolicy(maximum_attempts=1),
            )

        steps += [asyncio.create_task(step(index)) for index in range(len(dependencies))]
        await asyncio.gather(*steps)
        return len(steps)


async def main(address: str) -> None:
    """Serve until SIGTERM."""
    client = await Client.connect(address)
    worker = Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=[BareGraph],
        activities=[noop, sleep],
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_concurrent_activities=1_000,
        disable_eager_activity_execution=True,
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with worker:
        sys.stdout.write(f"{address}\n")
        sys.stdout.flush()
        await stop.wait()
    os._exit(0)  # the interpreter may abort at its exit after a worker ran


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
