"""A member of a cluster on Temporal that tests kill: `python -m conformance.member --help`, in the tests' folder.

A server prints its address once calls succeed, a host prints the same line once it takes attempts. SIGTERM drains it.
"""

import argparse
import asyncio
import os
import signal

from integration.durable import crash_server
from integration.durable.crash_server import report
from stepwave_server.app import Server
from stepwave_server.config import Settings
from stepwave_server.hosting import run_host
from stepwave_server.temporal_hosting import TemporalHost


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM, then drain."""
    server = Server(settings)
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
    parser.add_argument("--hosts", action="store_true", help="be a host of the actions of the tests")
    parser.add_argument("--set", action="append", default=[], metavar="SETTING=VALUE")
    options = parser.parse_args()
    given = dict(setting.split("=", 1) for setting in options.set)
    usual = {"engine": "temporal", "entry_points": False, "max_attempts": 60, "drain_timeout": 0.0}
    settings = Settings.model_validate({"listen": options.listen, **usual, **given})
    if options.hosts:
        hosted = settings.model_copy(update={"actions": (crash_server.__name__,)})
        asyncio.run(run_host(TemporalHost, hosted, lambda _: report(options.listen)))
    else:
        asyncio.run(serve(settings))
    os._exit(0)  # a process that ran a worker of Temporal may abort at the interpreter's exit


if __name__ == "__main__":
    main()
