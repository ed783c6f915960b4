"""The command line, `stepwave`: this module is its entry point, and says what to install when something is missing."""

import os
import sys

from .process.standard_streams import prepare_streams

__all__ = ["main"]


def main() -> None:
    """Run the command line with the process's arguments, and exit."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it writes to standard error what the exceptions say better
    # It would start its threads again in a child that an action forks, on this process's connections, and crash it.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    prepare_streams()
    try:
        from .app import run_app
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("stepwave"):
            raise
        sys.stderr.write("the command line needs more: pip install 'stepwave[cli]'\n")
        raise SystemExit(2) from None
    run_app()
