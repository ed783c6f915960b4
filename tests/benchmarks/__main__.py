"""Measures the speed of Stepwave and of its upper limits together: `python -m tests.benchmarks --help`.

The servers are separate processes, and this process is their client over loopback. The time of a run is from the
building of its definition to its last event; every event is received. The report shows missed goals; they fail nothing,
because machines differ.
"""

import argparse
import asyncio
import os
import platform
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc.aio

from stepwave import AsyncClient
from stepwave.v1 import orchestrator_pb2_grpc

from .contenders import (
    DURABLE,
    PROTOTYPE,
    RAW_STUB,
    BareCommits,
    BareStream,
    Contender,
    RawStub,
    Sdk,
)
from .durable import EVENT_COUNT, describe_kept_events, describe_recovery, temporary_folder
from .evaluation import describe_evaluation
from .loads import Load, all_loads
from .processes import running_server
from .report import Report, markdown, plain
from .rounds import Measurement, measure_all

STEPWAVE = (str(Path(sys.executable).with_name("stepwave")), "serve", "--listen", "127.0.0.1:0")
SERVE = (*STEPWAVE, "--actions", "tests.benchmarks.actions", "--log-level", "warning", "--journal")
SERVE_BARE = (sys.executable, "-m", "tests.benchmarks.bare_stream")
SERVE_PROTOTYPE = (sys.executable, "-m", "tests.benchmarks.prototype")

RECOVERED_STEPS = 20_000
"""The number of steps of the run that is recovered after a kill."""

GOALS = {
    RAW_STUB: {"wide": 0.72, "long": 0.50, "layered": 0.70, "many": 0.71},
    DURABLE: {"wide": 0.64, "long": 0.06, "layered": 0.58, "many": 0.49},
}
"""The minimum shares of the prototype's speed, by contender and load."""


def serve(journal: str) -> tuple[str, ...]:
    """Return the command that starts a server with a journal."""
    return (*SERVE, journal)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: measure, and print the report."""
    options = _parser().parse_args(arguments)
    loads = [load for load in all_loads(quick=options.quick) if not options.only or load.name in options.only]
    rounds = options.rounds or (1 if options.quick else 5)
    divisor = 10 if options.quick else 1
    text = asyncio.run(_measure(loads, rounds, divisor, as_markdown=options.markdown))
    sys.stdout.write(text)


def _parser() -> argparse.ArgumentParser:
    names = [load.name for load in all_loads()]
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description="Measure speed, next to upper limits."
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="the number of rounds (default: 5; with --quick: 1)")
    parser.add_argument("--quick", action="store_true", help="run loads of a tenth of the size, as a check")
    parser.add_argument("--only", action="append", choices=names, help="run only this load (repeatable)")
    parser.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    return parser


async def _measure(loads: Sequence[Load], rounds: int, divisor: int, *, as_markdown: bool) -> str:
    """Measure all contenders, and return the report."""
    async with _contenders(loads) as contenders:
        names = [contender.name for contender in contenders]
        measurements = [each async for each in _log_progress(measure_all(contenders, loads, rounds=rounds), rounds)]
    report = Report(measurements, baseline=PROTOTYPE, goals=GOALS)
    rows = report.rows(names, [load.name for load in loads])
    facts = [_machine(rounds), *[fact for load in loads if load.name == "wide" for fact in await _facts(load, divisor)]]
    return "\n".join(["", markdown(rows) if as_markdown else plain(rows), "", *facts, ""])


@asynccontextmanager
async def _contenders(loads: Iterable[Load]) -> AsyncIterator[Sequence[Contender]]:
    """Start all servers, and return the contenders. The baseline is the first."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_server(*serve("memory")))
        disk = await stack.enter_async_context(temporary_folder())
        durable = await stack.enter_async_context(running_server(*serve(f"sqlite:{disk / 'journal.db'}")))
        bare = await stack.enter_async_context(running_server(*SERVE_BARE))
        baseline = await stack.enter_async_context(running_server(*SERVE_PROTOTYPE))
        prototype = RawStub((await _connect(stack, baseline.address)).stub, PROTOTYPE)
        raw = await _connect(stack, server.address)
        on_disk = RawStub((await _connect(stack, durable.address)).stub, DURABLE)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(bare.address))
        recordings = {load.name: await raw.record(load) for load in loads}
        streams = [BareStream(channel, recordings, batched=batched) for batched in (False, True)]
        client = await stack.enter_async_context(AsyncClient(server.address))
        limits: list[Contender] = [prototype, *streams, BareCommits(disk, recordings)]
        yield [*limits, raw, Sdk(client), Sdk(client, "wave"), on_disk]


async def _connect(stack: AsyncExitStack, address: str) -> RawStub:
    channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
    return RawStub(orchestrator_pb2_grpc.OrchestratorServiceStub(channel))


async def _facts(load: Load, divisor: int) -> list[str]:
    """Measure memory, disk and recovery on separate servers, and return them as text."""
    return [
        await _memory(load),
        *await describe_kept_events(serve, load, _connect, EVENT_COUNT // divisor),
        await describe_recovery(serve, RECOVERED_STEPS // divisor),
        describe_evaluation(load.steps),
    ]


async def _memory(load: Load) -> str:
    """Run a load once on a separate server, and return the memory that it took, as text."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_server(*serve("memory")))
        raw, idle = await _connect(stack, server.address), server.memory("VmRSS")
        await raw.run(load)
        return f"Server memory: {idle} MiB idle, {server.memory('VmHWM')} MiB at most while it ran {load.title}."


def _machine(rounds: int) -> str:
    versions = f"Python {platform.python_version()}, grpcio {grpc.__version__}"
    return f"{os.cpu_count()} cores, {versions}; median [lowest..highest] of the rounds ({rounds}), in one go."


async def _log_progress(measurements: AsyncIterator[Measurement], rounds: int) -> AsyncIterator[Measurement]:
    """Yield the measurements, and print the progress to standard error."""
    async for each in measurements:
        line = f"round {each.round + 1} of {rounds}: {each.load.name}: {each.contender}: {each.sample.seconds:.3f} s\n"
        sys.stderr.write(line)
        yield each


if __name__ == "__main__":
    main()
