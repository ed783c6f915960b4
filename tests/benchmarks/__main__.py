"""Measures Stepwave beside its limits, all in one go: `python -m tests.benchmarks --help`.

The servers are processes of their own, and this process is their client, over loopback. A run counts from the making of
its definition to its last event, every event received. A missed goal is said, never a failure: machines differ.
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
from .durable import MANY, folder, tell_kept, tell_recovery
from .loads import Load, all_loads
from .processes import started
from .report import Report, markdown, plain
from .rounds import Measurement, measure_all

STEPWAVE = (str(Path(sys.executable).with_name("stepwave")), "serve", "--listen", "127.0.0.1:0")
SERVE = (*STEPWAVE, "--actions", "tests.benchmarks.actions", "--log-level", "warning", "--journal")
SERVE_BARE = (sys.executable, "-m", "tests.benchmarks.bare_stream")
SERVE_PROTOTYPE = (sys.executable, "-m", "tests.benchmarks.prototype")

RECOVERED_STEPS = 20_000

GOALS = {
    RAW_STUB: {"wide": 0.72, "long": 0.50, "layered": 0.70, "many": 0.71},
    DURABLE: {"wide": 0.64, "long": 0.06, "layered": 0.58, "many": 0.49},
}
"""The least share of the prototype's speed that is wanted, by the load."""


def serve(journal: str) -> tuple[str, ...]:
    """Give the command that serves with a journal."""
    return (*SERVE, journal)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure as the command line says, and print the table."""
    options = _parser().parse_args(arguments)
    loads = [load for load in all_loads(quick=options.quick) if not options.only or load.name in options.only]
    rounds = options.rounds or (1 if options.quick else 5)
    share = 10 if options.quick else 1
    text = asyncio.run(_measure(loads, rounds, share, as_markdown=options.markdown))
    sys.stdout.write(text)


def _parser() -> argparse.ArgumentParser:
    names = [load.name for load in all_loads()]
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Measure speed beside its limits.")
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="how often to measure everything (default: 5; quick: 1)"
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the size, to see that it works")
    parser.add_argument("--only", action="append", choices=names, help="only this load; may be repeated")
    parser.add_argument("--markdown", action="store_true", help="write the table for a README")
    return parser


async def _measure(loads: Sequence[Load], rounds: int, share: int, *, as_markdown: bool) -> str:
    """Measure everything, and write the report."""
    async with _contenders(loads) as contenders:
        names = [contender.name for contender in contenders]
        measurements = [each async for each in _tell(measure_all(contenders, loads, rounds=rounds), rounds)]
    report = Report(measurements, yardstick=PROTOTYPE, goals=GOALS)
    rows = report.rows(names, [load.name for load in loads])
    facts = [_machine(rounds), *[fact for load in loads if load.name == "wide" for fact in await _facts(load, share)]]
    return "\n".join(["", markdown(rows) if as_markdown else plain(rows), "", *facts, ""])


@asynccontextmanager
async def _contenders(loads: Iterable[Load]) -> AsyncIterator[Sequence[Contender]]:
    """Start all servers and give everyone who runs the loads, the yardstick first."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(started(*serve("memory")))
        disk = await stack.enter_async_context(folder())
        durable = await stack.enter_async_context(started(*serve(f"sqlite:{disk / 'journal.db'}")))
        bare = await stack.enter_async_context(started(*SERVE_BARE))
        yardstick = await stack.enter_async_context(started(*SERVE_PROTOTYPE))
        prototype = RawStub((await _raw(stack, yardstick.address)).stub, PROTOTYPE)
        raw = await _raw(stack, server.address)
        on_disk = RawStub((await _raw(stack, durable.address)).stub, DURABLE)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(bare.address))
        recorded = {load.name: await raw.record(load) for load in loads}
        streams = [BareStream(channel, recorded, batched=batched) for batched in (False, True)]
        client = await stack.enter_async_context(AsyncClient(server.address))
        limits: list[Contender] = [prototype, *streams, BareCommits(disk, recorded)]
        yield [*limits, raw, Sdk(client), Sdk(client, "wave"), on_disk]


async def _raw(stack: AsyncExitStack, address: str) -> RawStub:
    channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
    return RawStub(orchestrator_pb2_grpc.OrchestratorServiceStub(channel))


async def _facts(load: Load, share: int) -> list[str]:
    """Tell what else there is to know, measured on servers of their own."""
    return [
        await _memory(load),
        *await tell_kept(serve, load, _raw, MANY // share),
        await tell_recovery(serve, RECOVERED_STEPS // share),
    ]


async def _memory(load: Load) -> str:
    """Run a load once on a server of its own, and tell what memory that took."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(started(*serve("memory")))
        raw, idle = await _raw(stack, server.address), server.memory("VmRSS")
        await raw.run(load)
        return f"Server memory: {idle} MiB idle, {server.memory('VmHWM')} MiB at most while it ran {load.title}."


def _machine(rounds: int) -> str:
    versions = f"Python {platform.python_version()}, grpcio {grpc.__version__}"
    return f"{os.cpu_count()} cores, {versions}; median [lowest..highest] of the rounds ({rounds}), in one go."


async def _tell(measurements: AsyncIterator[Measurement], rounds: int) -> AsyncIterator[Measurement]:
    """Pass measurements on, and say on standard error how far they are."""
    async for each in measurements:
        told = f"round {each.round + 1} of {rounds}: {each.load.name}: {each.contender}: {each.sample.seconds:.3f} s\n"
        sys.stderr.write(told)
        yield each


if __name__ == "__main__":
    main()
