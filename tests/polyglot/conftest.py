"""A server for the programs in other languages, and what builds them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import google.rpc
import pytest

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]


def require(*tools: str) -> None:
    """Skip the test if a tool is missing; in CI, fail."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing and os.environ.get("CI"):
        pytest.fail(f"not installed: {', '.join(missing)}")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}; run tests/polyglot/install.sh")


def run(*command: str | Path, folder: Path, **environment: str) -> str:
    """Run a command, and return its standard output."""
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


def googleapis() -> Path:
    """Return the folder with the `.proto` files of `google.rpc`, which `googleapis-common-protos` carries."""
    return Path(next(iter(google.rpc.__path__))).parents[1]


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Run a server, and return its address."""
    command = [sys.executable, "-m", "stepwave", "serve", "--listen", "127.0.0.1:0", "--journal", "memory"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
