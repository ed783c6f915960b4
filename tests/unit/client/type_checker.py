"""What mypy says about the code of a user of the SDK."""

import os
import subprocess
import sys
from pathlib import Path

import stepwave

__all__ = ["mypy"]


def mypy(code: str, folder: Path) -> str:
    """Return what mypy says about a module of a user of the SDK. The next call reuses what it learned of the SDK."""
    (folder / "module.py").write_text(code)
    client = Path(stepwave.__file__).parents[1]
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir=../mypy-cache", "module.py"],
        cwd=folder,
        env={**os.environ, "MYPYPATH": os.fspath(client)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return ran.stdout + ran.stderr
