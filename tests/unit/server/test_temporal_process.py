"""A process that serves on Temporal."""

import subprocess
import sys

LATE_CANCEL = """
from types import SimpleNamespace
from temporalio.worker._activity import _ActivityWorker
from stepwave_server.temporal import prepare_process

prepare_process()
_ActivityWorker._handle_cancel_activity_task(SimpleNamespace(_running_activities={}), b"token", None)
"""
"""Gives Temporal's client the cancel of an attempt that has ended."""


def test_a_cancel_that_comes_after_its_attempt_ends_no_worker_and_says_nothing() -> None:
    for warnings in ("default", "error"):
        command = [sys.executable, "-W", f"{warnings}::UserWarning", "-c", LATE_CANCEL]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
