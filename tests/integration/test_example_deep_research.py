"""The example of deep research: each source is read as soon as its own search has ended."""

import sys
from datetime import timedelta
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from stepwave.testing import ScriptedRun, run_scripted

EXAMPLE = Path(__file__).parents[2] / "client" / "examples" / "deep_research"
SOURCES = ("web", "papers", "news", "code")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> ScriptedRun:
    spec = spec_from_file_location("tools", EXAMPLE / "tools.py")
    assert spec is not None
    assert spec.loader is not None
    tools = module_from_spec(spec)
    spec.loader.exec_module(tools)
    monkeypatch.setitem(sys.modules, "tools", tools)  # until the test's end: other examples have a module of this name
    return run_scripted(EXAMPLE / "research.yaml", input={"question": "why?"}, actions=["tools"])


def test_it_reports_on_all_sources(run: ScriptedRun) -> None:
    assert "12 notes from 4 sources agree" in str(run.outputs["write"])


def test_no_source_waits_for_the_search_of_another(run: ScriptedRun) -> None:
    steps = run.result.steps
    for source in SOURCES:
        assert steps[f"read-{source}"].start_time == steps[f"search-{source}"].end_time


def test_it_takes_as_long_as_its_slowest_source(run: ScriptedRun) -> None:
    words = len(str(run.outputs["write"]).split())
    assert run.elapsed == timedelta(seconds=1.0 + 2.4 + 3 * 0.8 + 1.2 + words * 0.1)
