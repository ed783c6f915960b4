"""A module of actions that starts a process and then naps while it is imported."""

import os
import sys
import time

from unruly import start_command  # type: ignore[import-not-found]  # it is in the working directory

start_command(os.environ["NAPS_FIFO"])
sys.stderr.write("importing\n")
sys.stderr.flush()
time.sleep(float(os.environ.get("NAPS_SECONDS", "600")))
