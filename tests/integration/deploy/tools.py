"""The tools of the tests of the installation, which `install.sh` puts into an environment of their own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import pytest

__all__ = ["CHART", "DEPLOY", "Object", "answers", "checkov", "system_tool", "tool"]

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
DEPLOY = ROOT / "server" / "deploy"
CHART = DEPLOY / "helm" / "stepwave"
ENVIRONMENT = ROOT / ".venv-deploy"

Object: TypeAlias = dict[str, Any]
"""An object of JSON: what Helm renders has no types."""


def tool(name: str) -> str:
    """Return the path of a tool of `tools.txt`. Without these tools, or with others, skip the test; in CI, fail."""
    installed, wanted = ENVIRONMENT / ".installed", HERE / "tools.txt"
    if not installed.exists() or installed.read_text() != wanted.read_text():
        _without("the tools of tools.txt")
    return str(ENVIRONMENT / "bin" / name)


def system_tool(name: str) -> str:
    """Return the path of a tool of the system or of the development extra. Without it, skip the test; in CI, fail."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return shutil.which(name, path=path) or _without(name)


def _without(what: str) -> NoReturn:
    message = f"not installed: {what}; see tests/integration/deploy/install.sh"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def answers(cases: dict[str, Object]) -> Object:
    """Render the chart with the values of each case. See `charts.py`."""
    command = [tool("python"), str(HERE / "charts.py"), str(CHART)]
    done = subprocess.run(command, input=json.dumps(cases), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answered: Object = json.loads(done.stdout)
    return answered


def checkov(folder: Path) -> list[Object]:
    """Return the checks of checkov that the objects in a folder fail."""
    options = [
        "--framework",
        "kubernetes",
        "--quiet",
        "--compact",
        "--skip-download",
        "--output",
        "json",
        "--soft-fail",
    ]
    command = [tool("checkov"), "--directory", str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["summary"]["passed"] > 0
    failed: list[Object] = report["results"]["failed_checks"]
    return failed
