"""A module of actions that starts a process and then sleeps while it is imported."""

import os
import sys
import time

from process_actions import start_command  # type: ignore[import-not-found]  # it is in the working directory

start_command(os.environ["IMPORT_FIFO"])
sys.stderr.write("importing\n")
sys.stderr.flush()
end = time.monotonic() + float(os.environ.get("IMPORT_SECONDS", "600"))
while time.monotonic() < end:  # in short waits: a signal just before a long one would be handled only after it
    time.sleep(0.01)
