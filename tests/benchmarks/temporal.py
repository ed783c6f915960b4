"""Measures Stepwave on Temporal beside a hand-written Temporal workflow of the same graphs.

`python -m tests.benchmarks.temporal`. Both drive the same development server of Temporal, which keeps all in memory.
Each has one process with its workflows and its activities, and each is measured in every round.
"""

import argparse
import asyncio
import statistics
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
from temporalio.client import Client

from stepwave.v1 import orchestrator_pb2_grpc

from .bare_temporal import TASK_QUEUE
from .contenders import Contender, RawStub
from .loads import Load, chain, fan_in, layered, wide
from .processes import running_server
from .rounds import Measurement, measure_all

sys.path.insert(0, str(Path(__file__).parents[1]))

from temporal_server import TemporalServer

STEPWAVE = "Stepwave on Temporal"
BARE = "hand-written workflow"
GOAL = 0.8

LOADS = (
    Load(name="wide", title="500 steps wide", dependencies=wide(500)),
    Load(name="chain", title="a chain of 50", dependencies=chain(50)),
    Load(name="layered", title="20 × 20, three dependencies each", dependencies=layered(20, 20)),
    Load(name="many", title="100 four-step runs, 20 at once", dependencies=fan_in(3), runs=100, concurrency=20),
    Load(
        name="small",
        title="three sleeps of 100 ms and one of 50 ms",
        dependencies=fan_in(3),
        seconds=(0.1, 0.1, 0.1, 0.05),
        runs=5,
    ),
)


@dataclass(frozen=True)
class Bare:
    """The hand-written workflow. Its caller sees the end of a run only."""

    client: Client
    name: str = BARE

    def supports(self, load: Load) -> bool:
        return True

    async def run(self, load: Load) -> None:
        seconds = list(load.seconds)
        identity = f"bare-{id(asyncio.current_task())}-{asyncio.get_running_loop().time()}"
        steps = await self.client.execute_workflow(
            "bare.graph", args=[[*map(list, load.dependencies)], seconds], id=identity, task_queue=TASK_QUEUE
        )
        assert steps == len(load.dependencies)


async def measure(rounds: int, loads: Sequence[Load]) -> list[Measurement]:
    """Measure both with every load, in every round."""
    with TemporalServer() as temporal:
        stepwave = (str(Path(sys.executable).with_name("stepwave")), "serve", "--listen", "127.0.0.1:0")
        options = ("--actions", "tests.benchmarks.actions", "--engine", "temporal", "--temporal-address")
        serve = (*stepwave, "--log-level", "warning", *options, temporal.address)
        bare = (sys.executable, "-m", "tests.benchmarks.bare_temporal", temporal.address)
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(running_server(*serve))
            await stack.enter_async_context(running_server(*bare))
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.address))
            stub = orchestrator_pb2_grpc.OrchestratorServiceStub(channel)
            contenders: list[Contender] = [RawStub(stub, STEPWAVE), Bare(await Client.connect(temporal.address))]
            for contender in contenders:  # the first run of each is slower
                await contender.run(loads[0])
            return [found async for found in measure_all(contenders, loads, rounds=rounds)]


def report(found: Sequence[Measurement]) -> str:
    """Return a table: the median of each contender by load, and the share of the hand-written workflow's speed."""
    lines = [f"{'load':34}{BARE:>24}{STEPWAVE:>24}{'share of its speed':>20}"]
    for load in dict.fromkeys(it.load for it in found):
        medians = {
            name: statistics.median(it.sample.seconds for it in found if (it.load, it.contender) == (load, name))
            for name in (BARE, STEPWAVE)
        }
        share = medians[BARE] / medians[STEPWAVE]
        shown = [f"{load.steps / medians[name]:,.0f} steps/s" for name in (BARE, STEPWAVE)]
        missed = "" if share >= GOAL else f" (goal {GOAL})"
        lines.append(f"{load.title:34.34}{shown[0]:>24}{shown[1]:>24}{share:>12.2f}{missed}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.temporal", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=[load.name for load in LOADS])
    chosen = parser.parse_args(arguments)
    loads = [load for load in LOADS if chosen.only in (None, load.name)]
    sys.stdout.write(f"{report(asyncio.run(measure(chosen.rounds, loads)))}\n")


if __name__ == "__main__":
    main()
