"""The command line, `stepwave`: this module is its entry point, and says what to install when something is missing."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line with the process's arguments, and exit."""
    try:
        from .app import run_app
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("stepwave"):
            raise
        sys.stderr.write("the command line needs more: pip install 'stepwave[cli]'\n")
        raise SystemExit(2) from None
    run_app()
