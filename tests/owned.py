"""Processes that end with the process that started them, also if that is killed."""

import sys
from collections.abc import Sequence

__all__ = ["owned"]

_PROGRAM = """\
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
os.execv(sys.argv[1], sys.argv[1:])
"""


def owned(command: Sequence[str]) -> list[str]:
    """Return a command that the kernel kills when the thread that started it ends. Linux alone can do so.

    A `preexec_fn` would need a fork of this process. The copy of a process with the threads of gRPC may crash or hang.

    Args:
        command: The path of a program, and its arguments.
    """
    if sys.platform != "linux":
        return [*command]
    return [sys.executable, "-I", "-S", "-c", _PROGRAM, *command]
