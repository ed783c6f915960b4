"""Runs the command line: `python -m stepwave`."""

from stepwave.cli import main

if __name__ == "__main__":
    main()
