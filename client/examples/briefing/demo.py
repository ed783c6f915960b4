"""The demo: starts the services of the briefing, runs it with the live view, and compares parallel and sequential time.

It works from any folder and uses no network beyond this machine: `python client/examples/briefing/demo.py`.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile
from typing import IO, NoReturn

from briefing import briefing, input_for, text_of
from services import services

from stepwave import Client

HERE = Path(__file__).parent
STEPWAVE = str(Path(sys.executable).with_name("stepwave"))
STOP_SECONDS = 20


@contextmanager
def stepwave_server(services: str) -> Iterator[str]:
    """Run a Stepwave server with the briefing's actions, which may call the services. Yield its address."""
    options = ["--listen", "127.0.0.1:0", "--journal", "memory", "--actions", "tools", "--http-allow", services]
    with TemporaryFile("w+") as log:
        process = subprocess.Popen(  # noqa: S603 - the command is ours
            [STEPWAVE, "serve", *options], cwd=HERE, stdout=subprocess.PIPE, stderr=log, text=True, process_group=0
        )
        with process:
            try:
                yield _address(process) or _give_up(log)
            finally:
                _end(process)


def _address(process: subprocess.Popen[str]) -> str:
    """Read the address, which the server prints first, once it accepts calls. Empty: the server has ended."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _give_up(log: IO[str]) -> NoReturn:
    log.seek(0)
    raise SystemExit(f"the server did not start:\n{log.read()}")


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def run_with_live_view(address: str, given: str) -> None:
    """Run the workflow file from the command line: a live view on a terminal, a line for each event elsewhere.

    Both go to standard error. The answer goes to standard output; it is read from the server later.

    Args:
        address: The address of the server.
        given: A file with the run's input.
    """
    command = ["run", "briefing.yaml", "--server", address, "--input", f"@{given}"]
    print("$ stepwave", *command, ">/dev/null", flush=True)
    done = subprocess.run([STEPWAVE, *command], cwd=HERE, stdout=subprocess.DEVNULL, check=False)  # noqa: S603 - ours
    if done.returncode:
        raise SystemExit(done.returncode)


def compare(parallel: timedelta, sequential: timedelta) -> str:
    """Return a table of two durations."""
    times = {"parallel": f"{parallel.total_seconds():.2f} s", "sequential": f"{sequential.total_seconds():.2f} s"}
    times["speed-up"] = f"{sequential / parallel:.1f} ×"
    return "\n".join(f"{name:<12}{value:>8}" for name, value in times.items())


def main() -> None:
    with services() as opened, stepwave_server(opened) as address, Client(address) as client:
        given = input_for(f"http://{opened}")
        with NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(given, file)
            file.flush()
            run_with_live_view(address, file.name)
        run = next(iter(client.runs(workflow="briefing")))
        parallel = client.result(run.run_id)
        print(f"\n{text_of(parallel)}\n\nThe same workflow, one step at a time (max_parallelism=1) …\n", flush=True)
        sequential = client.run(briefing(max_parallelism=1), given)
    print(compare(parallel.duration, sequential.duration))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
