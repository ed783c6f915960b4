"""A server for the programs in other languages, and what builds them."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import google.rpc
import pytest

HERE = Path(__file__).parent
PROTO = HERE.parents[1] / "proto"
CONTRACT = sorted(PROTO.glob("stepwave/v1/*.proto"))
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def require(*needs: str | Path) -> None:
    """Skip the test if a command or a file is missing; in CI, fail."""
    missing = [
        str(need) for need in needs if not (need.exists() if isinstance(need, Path) else shutil.which(need, path=PATH))
    ]
    if missing and os.environ.get("CI"):
        pytest.fail(f"not installed: {', '.join(missing)}")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}; see tests/polyglot/README.md")


def _finish(*command: str | Path, folder: Path, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run a command in a folder; it must exit with 0."""
    variables = {**os.environ, "PATH": PATH, **environment}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done


def run(*command: str | Path, folder: Path, **environment: str) -> str:
    """Run a command, and return its standard output."""
    return _finish(*command, folder=folder, environment=environment).stdout


def run_silent(*command: str | Path, folder: Path, **environment: str) -> None:
    """Run a build command; a warning, or any other output, fails the test."""
    done = _finish(*command, folder=folder, environment=environment)
    assert done.stdout + done.stderr == "", " ".join(map(str, command))


def once(folder: Path, build: Callable[[Path], list[str | Path]]) -> list[str]:
    """Build a program in a folder, unless another process of this test run did, and return the command that runs it."""
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = folder / "command.json"
        if not command.exists():
            command.write_text(json.dumps([str(part) for part in build(folder)]))
        built: list[str] = json.loads(command.read_text())
        return built


def googleapis() -> Path:
    """Return the folder with the `.proto` files of `google.rpc`, which `googleapis-common-protos` carries."""
    return Path(next(iter(google.rpc.__path__))).parents[1]


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a temporary folder that all processes of this test run share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Run a server, and return its address."""
    options = ["--listen", "127.0.0.1:0", "--journal", "memory", "--workflows", str(HERE / "workflows")]
    command = [sys.executable, "-m", "stepwave", "serve", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
