"""Runs console scripts in forks of one process, which has imported their modules: `python fork_server.py SOCKET`.

Each request on the socket has a command in JSON, and the three standard streams as descriptors. The answer is the
process id of the command. The command is a grandchild of this process whose parent has ended, so the process that
asked adopts it, and can wait for it like for any child.
"""

import gc
import json
import os
import runpy
import signal
import socket
import sys
from importlib import import_module
from pathlib import Path

MODULES = ("stepwave.cli.app", "stepwave_server.app")
MAX_REQUEST = 1 << 20  # bytes


def serve(requests: socket.socket) -> tuple[list[str], str, dict[str, str]]:
    """Answer requests until the socket is closed.

    Returns:
        In the process of a command: its arguments, folder and environment.
    """
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, MAX_REQUEST, 3)
        if not message:
            sys.exit()
        parent = os.fork()
        if not parent:
            if command := os.fork():
                requests.send(str(command).encode())
                os._exit(0)
            requests.close()
            take_streams(descriptors)
            arguments, folder, environment = json.loads(message)
            return arguments, folder, environment
        os.waitpid(parent, 0)
        requests.send(b"adopted")
        for descriptor in descriptors:
            os.close(descriptor)


def take_streams(descriptors: list[int]) -> None:
    """Make descriptors the standard streams, opened as the interpreter opens them at its start."""
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
        os.close(descriptor)
    sys.stdin, sys.stdout, sys.stderr = (
        open(0, encoding="utf-8", newline="\n", closefd=False),  # noqa: SIM115 - open until the process ends
        open(1, "w", encoding="utf-8", newline="\n", closefd=False),  # noqa: SIM115 - as above
        open(2, "w", 1, "utf-8", "backslashreplace", "\n", closefd=False),  # noqa: SIM115 - as above
    )
    for name in ("stdin", "stdout", "stderr"):
        setattr(sys, f"__{name}__", getattr(sys, name))


def main() -> None:
    """Import the modules, then serve; in a fork, run the command."""
    os.environ |= {"GRPC_ENABLE_FORK_SUPPORT": "0", "GRPC_VERBOSITY": "NONE"}  # as a command says before its imports
    for module in MODULES:
        import_module(module)
    gc.freeze()  # a collection in a fork would copy the pages of all these modules
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    arguments, folder, environment = serve(socket.socket(fileno=int(sys.argv[1])))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = arguments
    sys.orig_argv = [sys.executable, *arguments]
    sys.path[0] = str(Path(arguments[0]).parent)
    runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main()
