"""The sample configuration names every setting with its default, and sets none."""

import os
import re
from pathlib import Path

import pytest

import stepwave_server
from stepwave_server.config import Settings
from stepwave_server.config_loading import load_settings

SAMPLE = Path(stepwave_server.__file__).parents[1] / "deploy" / "stepwave.toml"
TEXT = SAMPLE.read_text("utf-8")
RETENTION = {"keep_runs", "keep_age", "keep_bytes"}
"""Settings whose default depends on the journal."""

DEFAULTS = {"journal": "sqlite"}
"""The defaults of `stepwave serve` that differ from those of `Settings`."""


ENCRYPTED = {"temporal_tls": True}
"""The setting that files of the sample need. Its default is off."""


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.startswith("STEPWAVE_")]:
        monkeypatch.delenv(variable)


@pytest.fixture
def complete(tmp_path: Path) -> Path:
    """Return the sample with all of its keys set."""
    file = tmp_path / "stepwave.toml"
    file.write_text(re.sub(r"^#(?=[a-z_]+ = )", "", TEXT, flags=re.MULTILINE))
    return file


def test_the_sample_sets_nothing() -> None:
    assert load_settings({}, file=SAMPLE).origins == {}


def test_the_sample_names_every_setting(complete: Path) -> None:
    file = load_settings(ENCRYPTED, file=complete).file
    assert file is not None
    assert set(file.values) == set(Settings.model_fields)


def test_the_sample_has_the_default_of_every_setting(complete: Path) -> None:
    sample, defaults = load_settings(ENCRYPTED, file=complete), load_settings({}, defaults=DEFAULTS).settings
    assert sample.file is not None
    lines = TEXT.splitlines()
    without = {name for name, line in sample.file.lines.items() if lines[line - 1].endswith("# no default")}
    unset = {name for name, value in defaults.model_dump().items() if value is None}
    values = sample.settings.model_dump(exclude=unset) | {name: sample.file.values[name] for name in ENCRYPTED}
    assert values == defaults.model_dump(exclude=unset)
    assert without == unset - RETENTION
    assert sample.settings.retention() == defaults.retention()


def test_the_sample_has_the_retention_of_a_journal_in_memory() -> None:
    retention = Settings(journal="memory").retention()
    in_memory = dict(re.findall(r'^#(\w+) = .*# in memory: "?(\w+)"?$', TEXT, re.MULTILINE))
    assert Settings.model_validate({"journal": "memory", **in_memory}).retention() == retention
    assert set(in_memory) == RETENTION
