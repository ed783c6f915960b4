"""Actions in a module that write to standard output in every way, while it is imported and when they are called."""

import json
import os
import subprocess
from pathlib import Path

from stepwave import action


def write(where: str) -> None:
    print(f"printed {where}")  # noqa: T201 - that is the point
    os.write(1, f"written {where}\n".encode())
    subprocess.run(["echo", f"echoed {where}"], check=True)


write("at import")


@action
def chat() -> int:
    """Write to standard output in every way."""
    write("in the action")
    return 1


@action
def look(file: str) -> None:
    """Write down which of the standard streams are the null device."""
    nothing = os.stat(os.devnull)
    Path(file).write_text(json.dumps([os.path.samestat(os.fstat(number), nothing) for number in range(3)]))
