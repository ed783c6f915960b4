"""Measures well-behaved callers beside hostile ones: `python -m tests.benchmarks.hostile --help`.

The server, the callers and each attack are processes of their own. The callers run a workflow of one step at a steady
rate, first alone, then during each attack. The goal is a p99 of at most three times what it was alone, and no call that
fails. The table is a measurement, not a test: on a busy machine a p99 says more about its neighbours.
"""

import argparse
import asyncio
import random
import statistics
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import grpc.aio

from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import orchestrator_pb2_grpc, payload_pb2, workflow_pb2

from .processes import Server, running_server

sys.path.insert(0, str(Path(__file__).parents[1]))

from integration.hostile import attacks
from integration.hostile.mutations import METHODS, mutations, samples

SERVE = ("env", "STEPWAVE_KEEP_RUNS=1000000", sys.executable, *attacks.SERVE)
"""The command that starts a server. It keeps the watched run, whatever the callers start."""

WATCHED = "watched"
STEPS = 5_000
STREAMS = 1_000
CONNECTIONS = 10_000
SETTLE = 3.0
"""Seconds after which the server has accepted the connections. Until then, it spends a processor on that."""

SLOW_STREAMS = 100
RESETS = 20_000
"""Streams that are begun and reset in a second. A faster attacker would take the processor of the server, too."""

RESETS_AT_ONCE = 100

CALLERS = 4
PAUSE = 0.02
"""Seconds between two calls of a caller."""

MOST_TIMES = 3.0
"""The goal: the p99 during an attack, in terms of the p99 alone."""

HEADER = f"{'attack':42}{'calls':>7}{'failed':>8}{'p50':>9}{'p99':>9}{'of p99 alone':>14}{'memory':>10}"


@dataclass(frozen=True, slots=True)
class Figures:
    """What the callers met.

    Attributes:
        seconds: The time of each call.
        failed: The number of calls that failed, by code.
        memory: The resident memory of the server at the end, in MiB.
    """

    seconds: Sequence[float]
    failed: Counter[str]
    memory: int

    @property
    def p99(self) -> float:
        """The time that 99 of 100 calls did not pass."""
        return sorted(self.seconds)[int(0.99 * len(self.seconds))]


@asynccontextmanager
async def _stalled(address: str) -> AsyncIterator[None]:
    async with attacks.stalled_watchers(address, WATCHED, STREAMS):
        yield


@asynccontextmanager
async def _slow(address: str) -> AsyncIterator[None]:
    async with attacks.slow_streams(address, WATCHED, SLOW_STREAMS):
        yield


@asynccontextmanager
async def _silent(address: str) -> AsyncIterator[None]:
    with attacks.open_connections(address, attacks.allow_connections(CONNECTIONS), preface=False):
        await asyncio.sleep(SETTLE)
        yield


@asynccontextmanager
async def _idle(address: str) -> AsyncIterator[None]:
    with attacks.open_connections(address, attacks.allow_connections(CONNECTIONS), preface=True):
        await asyncio.sleep(SETTLE)
        yield


@asynccontextmanager
async def _repeated(attack: Callable[[str], Awaitable[None]], address: str) -> AsyncIterator[None]:
    async def repeat() -> None:
        while True:
            await attack(address)

    task = asyncio.create_task(repeat())
    yield
    task.cancel()


async def _reset(address: str) -> None:
    pause = RESETS_AT_ONCE / RESETS
    await attacks.reset_streams(address, WATCHED, 100 * RESETS, at_once=RESETS_AT_ONCE, pause=pause)


async def _mutate(address: str) -> None:
    """Send mutated requests of every unary call, one after the other."""
    draw = random.Random(1)
    service = pb.DESCRIPTOR.services_by_name["OrchestratorService"]
    unary = [name for name in METHODS if not service.methods_by_name[name].server_streaming]
    requests = {name: mutations(samples(name, WATCHED).SerializeToString(), draw) for name in unary}
    async with grpc.aio.insecure_channel(address) as channel:
        while True:
            for name, changed in requests.items():
                call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
                call = channel.unary_unary(f"/{service.full_name}/{name}")
                await asyncio.gather(call(next(changed), timeout=2), return_exceptions=True)


ATTACKS = {
    "stalled": (f"{STREAMS:,} watchers that never read", _stalled),
    "slow": (f"{SLOW_STREAMS} watchers that read a message a second", _slow),
    "silent": (f"{CONNECTIONS:,} connections that never speak", _silent),
    "idle": (f"{CONNECTIONS:,} connections without calls", _idle),
    "resets": (f"{RESETS:,} streams a second that are reset", lambda address: _repeated(_reset, address)),
    "mutations": ("a flood of mutated requests", lambda address: _repeated(_mutate, address)),
}


async def attack(name: str, address: str) -> None:
    """Attack a server until this process is ended. The first line that it prints says that the attack is under way."""
    async with ATTACKS[name][1](address):
        sys.stdout.write("attacking\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def echo(count: int) -> workflow_pb2.Workflow:
    """Return a workflow of so many steps that depend on nothing."""
    given = payload_pb2.Payload(json=f'"{"x" * 200}"')
    steps = [workflow_pb2.Step(id=f"s{number}", action="core.echo", input=given) for number in range(count)]
    return workflow_pb2.Workflow(name="echo", steps=steps)


async def call(server: Server, seconds: float) -> Figures:
    """Call a server at a steady rate, and return what the callers met."""
    times: list[float] = []
    failed: Counter[str] = Counter()
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = orchestrator_pb2_grpc.OrchestratorServiceStub(channel)

        async def caller() -> None:
            end = perf_counter() + seconds
            while (begin := perf_counter()) < end:
                try:
                    async for _ in stub.ExecuteWorkflow(pb.ExecuteWorkflowRequest(workflow=echo(1)), timeout=30):
                        pass
                except grpc.aio.AioRpcError as error:
                    failed[error.code().name] += 1
                times.append(perf_counter() - begin)
                await asyncio.sleep(PAUSE)

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return Figures(times, failed, server.memory("VmRSS"))


async def measure(name: str, seconds: float) -> tuple[Figures, Figures]:
    """Return what callers met alone and then during an attack, on a new server."""
    async with running_server(*SERVE) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = orchestrator_pb2_grpc.OrchestratorServiceStub(channel)
            async for _ in stub.ExecuteWorkflow(pb.ExecuteWorkflowRequest(workflow=echo(STEPS), run_id=WATCHED)):
                pass
        await call(server, 1.0)
        alone = await call(server, seconds)
        attacker = (sys.executable, "-m", "tests.benchmarks.hostile", "--attack", name, "--server", server.address)
        async with running_server(*attacker):
            return alone, await call(server, seconds)


def line(name: str, figures: Figures, alone: Figures | None = None) -> str:
    """Return a line of the table."""
    failed = ", ".join(figures.failed) or "0"
    times = "" if alone is None else f"{figures.p99 / alone.p99:.1f} ×"
    missed = " missed" if alone is not None and figures.p99 > MOST_TIMES * alone.p99 else ""
    p50, p99 = (f"{1e3 * value:.1f} ms" for value in (statistics.median(figures.seconds), figures.p99))
    return f"{name:42}{len(figures.seconds):>7,}{failed:>8}{p50:>9}{p99:>9}{times:>14}{figures.memory:>6} MiB{missed}"


async def report(names: Sequence[str], seconds: float, rounds: int) -> None:
    """Measure, and print the table as it grows. Of the rounds, it has the one with the median of the shares."""
    sys.stdout.write(f"{HEADER}\n")
    for name in names:
        measured = [await measure(name, seconds) for _ in range(rounds)]
        alone, during = sorted(measured, key=lambda pair: pair[1].p99 / pair[0].p99)[rounds // 2]
        sys.stdout.write(f"{line('  alone', alone)}\n{line(ATTACKS[name][0], during, alone)}\n")
        sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.hostile", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="the time of each measurement (default: 5)")
    parser.add_argument("--rounds", type=int, default=3, help="the number of measurements of each (default: 3)")
    parser.add_argument("--only", action="append", choices=ATTACKS, help="measure only this attack (repeatable)")
    parser.add_argument("--attack", choices=ATTACKS, help="attack the server of --server, until the process is ended")
    parser.add_argument("--server", help="the address of the server to attack")
    options = parser.parse_args(arguments)
    if options.attack:
        asyncio.run(attack(options.attack, options.server))
    else:
        asyncio.run(report(options.only or list(ATTACKS), options.seconds, options.rounds))


if __name__ == "__main__":
    main()
