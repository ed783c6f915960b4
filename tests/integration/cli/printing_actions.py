"""Actions that write to standard output in every way. The module does the same when it is imported."""

import json
import os
import subprocess
from pathlib import Path

from stepwave import action


def write(when: str) -> None:
    print(f"printed {when}")  # noqa: T201 - the test is about printing
    os.write(1, f"written {when}\n".encode())
    subprocess.run(["echo", f"echoed {when}"], check=True)


write("at import")


@action
def write_output() -> int:
    """Write to standard output in every way."""
    write("in the action")
    return 1


@action
def inspect_streams(file: str) -> None:
    """Write to a file which of the standard streams are the null device."""
    null = os.stat(os.devnull)
    Path(file).write_text(json.dumps([os.path.samestat(os.fstat(descriptor), null) for descriptor in range(3)]))
