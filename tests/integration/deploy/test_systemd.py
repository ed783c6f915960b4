"""The systemd unit: it is valid and hardened, and outlasts the drain of its server."""

import configparser
import subprocess
from pathlib import Path

import pytest

from integration.cli.shell import Shell
from integration.deploy.tools import DEPLOY, system_tool
from stepwave_server import app
from stepwave_server.config import Settings

UNIT = DEPLOY / "stepwave.service"
PROGRAM = "/opt/stepwave/bin/stepwave"
MOST_EXPOSED = "20"  # of 100, in the measure of systemd


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """Return the unit with a program that exists here: systemd looks for it."""
    text = UNIT.read_text()
    assert f"ExecStart={PROGRAM} serve\n" in text
    found = tmp_path / UNIT.name
    found.write_text(text.replace(f"ExecStart={PROGRAM}", f"ExecStart={system_tool('stepwave')}"))
    return found


def _service() -> configparser.SectionProxy:
    unit = configparser.RawConfigParser(strict=False)
    unit.read(UNIT)
    return unit["Service"]


def _analyze(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [system_tool("systemd-analyze"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_systemd_accepts_the_unit(unit: Path) -> None:
    done = _analyze("verify", str(unit))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_exposes_little(unit: Path) -> None:
    done = _analyze("security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED}", str(unit))
    assert done.returncode == 0, done.stdout


def test_the_service_ends_by_itself_before_it_is_killed() -> None:
    settings = Settings()
    own = settings.drain_timeout + settings.cancel_grace + app.STREAM_GRACE
    assert float(_service()["TimeoutStopSec"]) >= own + 10


def test_the_journal_is_in_the_folder_that_systemd_makes(tmp_path: Path) -> None:
    service = _service()
    home = dict(each.split("=", 1) for each in service["Environment"].split())["XDG_DATA_HOME"]
    home = home.replace("%S", str(tmp_path))  # /var/lib
    with Shell(folder=tmp_path).start(
        "serve", "--listen", "127.0.0.1:0", STEPWAVE_JOURNAL="", XDG_DATA_HOME=home
    ) as server:
        server.wait_for_output(":")
    assert [each.name for each in tmp_path.iterdir()] == [service["StateDirectory"]]
    assert (tmp_path / service["StateDirectory"] / "journal.db").exists()
