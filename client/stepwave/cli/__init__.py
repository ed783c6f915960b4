"""The entry point of the command line, `stepwave`. It names the extra to install when a package is missing."""

import gc
import os
import sys

from .process.standard_streams import prepare_streams

__all__ = ["main"]


def main() -> None:
    """Run the command line with the arguments of the process, and exit."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC would log to standard error what the exceptions already say
    # With fork support, gRPC restarts its threads in a child that an action forks. They use this process's connections,
    # and the child crashes.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    prepare_streams()
    gc.set_threshold(200_000)  # imports leave no garbage: looking for it takes a tenth of the start of a server
    try:
        from .app import run_app
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("stepwave"):
            raise
        sys.stderr.write("the command line needs the cli extra: pip install 'stepwave[cli]'\n")
        raise SystemExit(2) from None
    run_app()
