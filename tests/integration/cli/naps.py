"""A module of actions that starts a process and then hangs while it is imported."""

import os
import subprocess
import sys
import time

subprocess.Popen(["sh", "-c", 'exec 3>"$1"; echo $$ >&3; sleep 600; true', "sh", os.environ["NAPS_FIFO"]])
sys.stderr.write("importing\n")
sys.stderr.flush()
time.sleep(600)
