"""Measures what it costs to know callers: `python -m tests.benchmarks.access`.

The same calls go to an open server, to one that knows callers by tokens, and to one that knows them by JSON Web Tokens.
The servers take turns in each round. The figures are medians of the rounds: the time of the server's processor for a
call, and calls in a second.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import grpc.aio
import jwt
import psutil
from cryptography.hazmat.primitives.asymmetric import ec

from stepwave import Workflow
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import orchestrator_pb2_grpc, workflow_pb2
from stepwave_server.access.tokens import hash_of

from .durable import temporary_folder
from .processes import Server, running_server

__all__ = ["main"]

SERVE = (
    *(str(Path(sys.executable).with_name("stepwave")), "serve", "--listen", "127.0.0.1:0", "--log-level", "warning"),
    *("--actions", "tests.benchmarks.actions", "--journal", "memory"),
)
TOKEN = "benchmark"
AT_ONCE = 50
"""Calls at once."""

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Measured:
    """A server that is measured.

    Attributes:
        name: How its callers are known.
        server: The server.
        stub: Calls it.
        metadata: What shows who calls.
    """

    name: str
    server: Server
    stub: "orchestrator_pb2_grpc.OrchestratorServiceAsyncStub"
    metadata: Metadata

    async def get_run(self, number: int) -> None:
        """Make a call that does little."""
        await self.stub.GetRun(pb.GetRunRequest(run_id="kept"), metadata=self.metadata)

    async def run_one_step(self, number: int) -> None:
        """Run a workflow of one step to its end."""
        call = self.stub.ExecuteWorkflow(pb.ExecuteWorkflowRequest(workflow=_one_step()), metadata=self.metadata)
        async for _ in call:
            pass

    async def measure(self, work: Callable[[int], Awaitable[None]], count: int) -> tuple[float, float]:
        """Return the microseconds of the server's processor for each piece of work, and how many ended in a second."""
        process = psutil.Process(self.server.pid)
        before, began = _used(process), perf_counter()
        numbers = iter(range(count))

        async def caller() -> None:
            for number in numbers:
                await work(number)

        await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
        return (_used(process) - before) / count * 1e6, count / (perf_counter() - began)


def _used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _one_step() -> workflow_pb2.Workflow:
    flow = Workflow("one")
    flow.step("only", "noop")
    return flow.to_proto()


def _access_file(folder: Path, key: ec.EllipticCurvePrivateKey) -> Path:
    """Write an access file that knows the token, and tokens that the key has signed."""
    public = jwt.get_algorithm_by_name("ES256").to_jwk(key.public_key())
    keys = folder / "jwks.json"
    keys.write_text(json.dumps({"keys": [{**json.loads(public), "kid": "k", "use": "sig", "alg": "ES256"}]}))
    path = folder / "access.toml"
    path.write_text(
        "[namespaces.default]\n"
        f'[[tokens]]\nname = "benchmark"\nsha256 = "{hash_of(TOKEN)}"\nroles = {{ default = "runner" }}\n'
        f'[jwt]\njwks = "{keys}"\nissuer = "https://id.example"\naudience = "stepwave"\n'
    )
    return path


def _signed(key: ec.EllipticCurvePrivateKey) -> str:
    claims = {
        "iss": "https://id.example",
        "aud": "stepwave",
        "sub": "benchmark",
        "exp": time.time() + 3600,
        "stepwave_roles": {"default": "runner"},
    }
    return jwt.encode(claims, key, algorithm="ES256", headers={"kid": "k"})


@asynccontextmanager
async def _servers() -> AsyncIterator[list[Measured]]:
    """Start the servers, and keep a run on each."""
    key = ec.generate_private_key(ec.SECP256R1())
    async with AsyncExitStack() as stack:
        access = ("--access", str(_access_file(await stack.enter_async_context(temporary_folder()), key)))
        kinds = {"open": ((), ""), "token": (access, TOKEN), "JWT": (access, _signed(key))}
        found = []
        for name, (options, token) in kinds.items():
            server = await stack.enter_async_context(running_server(*SERVE, *options))
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.address))
            metadata = (("authorization", f"Bearer {token}"),) if token else ()
            measured = Measured(name, server, orchestrator_pb2_grpc.OrchestratorServiceStub(channel), metadata)
            request = pb.StartRunRequest(workflow=_one_step(), run_id="kept")
            await measured.stub.StartRun(request, metadata=metadata)
            found.append(measured)
        yield found


async def _report(rounds: int, calls: int, runs: int) -> None:
    works = {"GetRun": (Measured.get_run, calls), "a run of one step": (Measured.run_one_step, runs)}
    async with _servers() as servers:
        _print("| callers | work | processor time | per second | share of open |\n| --- | --- | --- | --- | --- |")
        for title, (work, count) in works.items():
            results: dict[str, list[tuple[float, float]]] = {it.name: [] for it in servers}
            for number in range(rounds + 1):  # the first one warms up
                for it in servers:
                    figures = await it.measure(work.__get__(it), count)
                    if number:
                        results[it.name].append(figures)
            medians = {name: [median(part) for part in zip(*found, strict=True)] for name, found in results.items()}
            for name, (processor, rate) in medians.items():
                share = processor / medians["open"][0]
                _print(f"| {name} | {title} | {processor:.0f} µs | {rate:,.0f} | {share:.2f} |")


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.access", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each server has its turn (default: 5)")
    parser.add_argument("--calls", type=int, default=5_000, help="calls in a turn (default: 5,000)")
    parser.add_argument("--runs", type=int, default=1_000, help="runs in a turn (default: 1,000)")
    given = parser.parse_args(arguments)
    asyncio.run(_report(given.rounds, given.calls, given.runs))


if __name__ == "__main__":
    main()
