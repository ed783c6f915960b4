"""The tools of the tests of the installation, which `install.sh` puts into an environment of their own."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, TypeAlias

import pytest

__all__ = ["CHART", "DEPLOY", "Object", "answers", "checkov", "tool"]

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
DEPLOY = ROOT / "server" / "deploy"
CHART = DEPLOY / "helm" / "stepwave"
ENVIRONMENT = ROOT / ".venv-deploy"

Object: TypeAlias = dict[str, Any]
"""An object of JSON: what Helm renders has no types."""


def tool(name: str) -> str:
    """Return the path of a tool. Without the tools, or with others, skip the test; in CI, fail."""
    installed, wanted = ENVIRONMENT / ".installed", HERE / "tools.txt"
    if not installed.exists() or installed.read_text() != wanted.read_text():
        message = "the tools of tools.txt are not installed: tests/integration/deploy/install.sh"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return str(ENVIRONMENT / "bin" / name)


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
