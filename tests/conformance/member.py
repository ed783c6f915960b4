"""A member of a cluster on Temporal that tests kill: `python -m conformance.member --help`, in the tests' folder.

It prints its address once calls succeed. SIGTERM drains it.
"""

import argparse
import asyncio
import os
import signal

from integration.durable.crash_server import ACTIONS, report
from stepwave_server.app import Server
from stepwave_server.config import Settings


async def serve(settings: Settings, *, hosts: bool) -> None:
    """Serve until SIGTERM, then drain."""
    server = Server(settings, actions=ACTIONS if hosts else ())
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    report(server.address)
    await stop.wait()
    await server.drain()


def main() -> None:
    """Serve with the options of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--hosts", action="store_true", help="host the actions of the tests")
    parser.add_argument("--set", action="append", default=[], metavar="SETTING=VALUE")
    options = parser.parse_args()
    given = dict(setting.split("=", 1) for setting in options.set)
    usual = {"engine": "temporal", "entry_points": False, "max_attempts": 60, "drain_timeout": 0.0}
    settings = Settings.model_validate({"listen": options.listen, **usual, **given})
    asyncio.run(serve(settings, hosts=options.hosts))
    os._exit(0)  # a process that ran a worker of Temporal may abort at the interpreter's exit


if __name__ == "__main__":
    main()
